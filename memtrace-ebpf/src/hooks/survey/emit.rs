//! The records of a survey: VMAs, and the pages of each table.

use memtrace_ebpf::record::{Detail, Header, Kind, Pages, VmaReason};

use crate::hooks::{file, ring, survey::state::survey, vma};

/// Where the survey has come to, when all of that is sent.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn finish() -> u64 {
    // A VMA of which a part is surveyed.
    let sent = send_vma();
    let Some(done) = survey() else { return 0 };
    if !sent {
        done.from
    } else if done.stop != 0 {
        done.stop
    } else if done.at < done.vma.end {
        done.at
    } else {
        // A table may go on beyond the VMA.
        done.vma.end
    }
}

/// Sends the VMA, if it is to be sent. `false` when that can't be done: then it still is.
#[inline(always)]
pub(crate) fn send_vma() -> bool {
    let Some(done) = survey() else { return false };
    let attach = done.reason == VmaReason::Attach as u32;
    if done.unsent == 0 || !(attach || done.private != 0) {
        return true;
    }
    let Some(outgoing) = vma::outgoing() else {
        return false;
    };
    outgoing.head = Header {
        flags: vma::record_flags(&done.vma, &file::backed(done.vma.file)),
        detail: Detail::reason(done.reason as u8),
        ..ring::head(Kind::Vma, done.tid, done.ts)
    };
    outgoing.mm = done.mm;
    outgoing.found = done.vma;
    outgoing.serial = 0;
    outgoing.exe = done.exe;
    outgoing.fs = done.fs;
    outgoing.pages = [done.resident, done.private];
    if vma::send_outgoing() != 0 {
        return false;
    }
    if let Some(sent) = survey() {
        sent.unsent = 0;
    }
    true
}

/// Sends the pages of a table, if there were any private ones. If that can't be done, the survey ends before them.
#[inline(always)]
pub(crate) fn send_pages(at: u64, before: [u64; 2]) {
    let Some(survey) = survey() else { return };
    if survey.private == before[1] {
        return;
    }
    survey.record.head = Header {
        detail: Detail::reason(survey.reason as u8),
        ..ring::head(Kind::Pages, survey.tid, survey.ts)
    };
    let record: *mut Pages = &raw mut survey.record;
    if !ring::try_send_bytes(record.cast(), size_of::<Pages>() as u64) {
        survey.stop = at;
        [survey.resident, survey.private] = before;
    }
}
