//! podspan's resident memory.
//!
//! The code of a test build is many times as large as that of a release build, and its pages count as
//! resident. So the tests measure the other memory. `cargo xtask test` bounds the size of the static
//! release binary; both bounds together are the limit for the released podspan.

use std::fs;

/// 2.8 MB; with a program of 7.25 MiB at most, less than 10 MiB are resident.
pub(crate) const BOUND_KIB: u64 = 2_800_000 / 1024;

/// Resident memory in KiB, without the ring, which is the kernel's memory, and without the program.
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
