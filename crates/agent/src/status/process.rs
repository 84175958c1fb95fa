//! What this process takes: CPU time and memory.
//!
//! In: the kernel's numbers. Out: a [`Usage`]; what cannot be read is unknown. No file is longer than a page, so this
//! takes some microseconds.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// What the process takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    /// CPU time of all threads.
    pub(crate) cpu: Option<Duration>,
    /// Resident memory in bytes, with the rings and the program's file.
    pub(crate) resident: Option<u64>,
    /// Resident memory of its own: without the rings and the program's file.
    pub(crate) anonymous: Option<u64>,
}

impl Usage {
    /// Asks the kernel.
    pub(crate) fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let used = getrusage(UsageWho::RUSAGE_SELF).ok();
        let cpu =
            used.and_then(|used| Some(duration(used.user_time())? + duration(used.system_time())?));
        Self {
            cpu,
            resident: kibibytes(&status, "VmRSS:"),
            anonymous: kibibytes(&status, "RssAnon:"),
        }
    }
}

fn duration(time: TimeVal) -> Option<Duration> {
    let seconds = u64::try_from(time.tv_sec()).ok()?;
    let micros = u64::try_from(time.tv_usec()).ok()?;
    Some(Duration::from_secs(seconds) + Duration::from_micros(micros))
}

/// A field such as `VmRSS:      5124 kB`, in bytes.
fn kibibytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let number: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let usage = Usage::read();
        assert!(usage.cpu.is_some());
        assert!(usage.resident >= usage.anonymous, "{usage:?}");
        assert!(usage.anonymous > Some(1 << 12), "{usage:?}");
    }

    #[test]
    fn a_field_is_read_and_a_strange_one_is_unknown() {
        let status = "Name:\ta VmRSS: 7 kB\nVmRSS:\t    5124 kB\nRssAnon:\t12\nHuge:\t99999999999999999 kB\n";
        assert_eq!(kibibytes(status, "VmRSS:"), Some(5124 << 10));
        assert_eq!(kibibytes(status, "RssAnon:"), None);
        assert_eq!(kibibytes(status, "Huge:"), None);
        assert_eq!(kibibytes(status, "None:"), None);
    }
}
