//! What podspan's memory is made of.
//!
//! A test build carries code many times the size of the release build's, and its pages count as
//! resident. So tests look at the rest; `cargo xtask test` bounds the size of the static release binary,
//! and both together the resident memory of what is shipped.

use std::fs;

/// 3 MB; with a program of 7 MB at most, 10 MB are resident.
pub(crate) const BOUND_KIB: u64 = 3_000_000 / 1024;

/// Resident memory in KiB, but for the ring, which is the kernel's memory, and for the program itself.
pub(crate) fn working_kib(process: u32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{process}/smaps")).unwrap();
    let mut counts = true;
    let mut kibibytes = 0;
    for line in maps.lines() {
        if let Some(size) = line.strip_prefix("Rss:") {
            let size: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
            kibibytes += if counts { size } else { 0 };
        } else if line
            .split_whitespace()
            .next()
            .is_some_and(|word| word.contains('-'))
        {
            counts = !line.contains("socket:") && !line.ends_with("/podspan");
        }
    }
    kibibytes
}
