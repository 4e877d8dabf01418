//! Sizes, as they are given on the command line.

/// The sizes that a buffer can have.
const MIN: u64 = 256 << 10;
const MAX: u64 = 1 << 30;

/// Reads the size of a buffer: a power of two, as the kernel has it (`ringbuf_map_alloc` in `kernel/bpf/ringbuf.c`).
///
/// # Errors
/// The text is none, or the size is out of bounds.
pub fn of_buffer(text: &str) -> Result<u32, String> {
    let digits = text.trim_end_matches(|last: char| !last.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" => Some(0),
        "K" | "k" => Some(10),
        "M" | "m" => Some(20),
        "G" | "g" => Some(30),
        _ => None,
    };
    let size = unit.and_then(|unit| digits.parse::<u64>().ok()?.checked_mul(1 << unit));
    let Some(size) = size else {
        return Err("a number is wanted, with K, M or G after it where it isn't bytes".to_owned());
    };
    if !(MIN..=MAX).contains(&size) {
        return Err("it must be from 256K to 1G".to_owned());
    }
    Ok(size.next_power_of_two() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_the_next_that_the_kernel_takes() {
        for (text, size) in [
            ("1M", 1 << 20),
            ("3m", 4 << 20),
            ("300000", 512 << 10),
            ("256K", 256 << 10),
            ("1G", 1 << 30),
        ] {
            assert_eq!(of_buffer(text), Ok(size), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "0",
            "255K",
            "1025M",
            "2G",
            "99999999999999999999",
            "18446744073709551615G",
            "",
            "M",
            "1.5M",
            "-1",
            "1MB",
            "1M\u{e9}",
            "ten",
        ] {
            assert!(of_buffer(text).is_err(), "{text}");
        }
    }
}
