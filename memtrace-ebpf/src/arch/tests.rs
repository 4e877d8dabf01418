//! The same of each architecture, whichever the tests run on.

macro_rules! tests_of {
    ($arch:ident) => {
        mod $arch {
            use crate::arch::$arch::{self as arch, sample};

            const PAGE: u64 = 0xa_bcde_f000;

            #[test]
            fn a_page_is_present_and_has_its_frame() {
                let entry = PAGE | sample::READ_ONLY | sample::NOISE;
                assert_eq!(entry & arch::FRAME, PAGE);
                assert_eq!(arch::present(entry), 1);
                assert_eq!(arch::writable(entry), 0);
                assert_eq!(arch::dirty(entry), 0);
                assert_eq!(arch::prot_none(entry), 0);
            }

            #[test]
            fn a_page_may_be_written_before_it_is() {
                let clean = PAGE | sample::WRITABLE | sample::NOISE;
                assert_eq!((arch::writable(clean), arch::dirty(clean)), (1, 0));
                let written = clean | sample::DIRTY;
                assert_eq!((arch::writable(written), arch::dirty(written)), (1, 1));
                let protected = PAGE | sample::READ_ONLY | sample::SAVED_DIRTY;
                assert_eq!((arch::writable(protected), arch::dirty(protected)), (0, 1));
            }

            #[test]
            fn a_page_may_be_protected_by_userfaultfd() {
                let page = PAGE | sample::READ_ONLY | sample::DIRTY | sample::NOISE;
                assert_eq!(arch::uffd_wp(page), 0);
                assert_eq!(arch::uffd_wp(page | sample::UFFD_WP), 1);
            }

            #[test]
            fn a_huge_page_is_no_table() {
                let huge = sample::huge(PAGE << 9 | sample::READ_ONLY | sample::HUGE_NOISE);
                assert_eq!((arch::present(huge), arch::huge(huge)), (1, 1));
                let table = PAGE | sample::TABLE;
                assert_eq!((arch::present(table), arch::huge(table)), (1, 0));
                assert_eq!(table & arch::FRAME, PAGE);
            }

            #[test]
            fn a_page_without_access_is_there_and_not_present() {
                let entry = sample::prot_none(PAGE);
                assert_eq!((arch::present(entry), arch::prot_none(entry)), (0, 1));
                assert_eq!(arch::hidden_frame(entry), PAGE);
            }

            #[test]
            fn a_swapped_page_has_no_frame() {
                for file in [0, 5, 22] {
                    let entry = sample::swapped(file);
                    assert_eq!((arch::present(entry), arch::prot_none(entry)), (0, 0));
                    assert_eq!(arch::swap_type(entry), file);
                }
                assert_eq!((arch::present(0), arch::prot_none(0)), (0, 0));
            }

            #[test]
            fn the_kernel_has_the_upper_addresses() {
                assert!(!arch::is_kernel(0) && !arch::is_kernel(0x0000_7fff_ffff_f000));
                assert!(arch::is_kernel(0xffff_8000_0000_0000) && arch::is_kernel(u64::MAX));
            }
        }
    };
}

tests_of!(aarch64);
tests_of!(x86_64);

#[test]
fn an_arm64_processor_marks_a_page_as_dirty_by_letting_writes_through() {
    use super::aarch64::{dirty, sample};
    let clean = sample::WRITABLE;
    assert_eq!(dirty(clean), 0);
    assert_eq!(dirty(clean & !(1 << 7)), 1);
}

#[test]
fn an_arm64_page_without_access_had_a_bit_of_its_own_before_6_11() {
    use super::aarch64::{prot_none, sample};
    assert_eq!(prot_none(sample::prot_none(0x5000) | 1 << 58), 1);
    // A swap entry of then: its type from bit 2 on, its offset from bit 8 on.
    assert_eq!(prot_none(0xffff_ffff << 8 | 3 << 2), 0);
}

#[test]
fn an_arm64_syndrome_tells_the_access() {
    use super::aarch64::access;
    use crate::arch::error_code::{FETCH, USER, WRITE};
    let (data, fetch) = (0x24 << 26, 0x20 << 26);
    assert_eq!(access(data | 0x07), USER);
    assert_eq!(access(data | 1 << 6 | 0x0f), USER | WRITE);
    assert_eq!(access(data | 1 << 6 | 1 << 8), USER, "cache maintenance");
    assert_eq!(access(fetch | 0x04), USER | FETCH);
}

#[test]
fn an_arm64_address_may_have_a_tag() {
    assert!(!super::aarch64::is_kernel(0xff00_7fff_0000_1000));
}
