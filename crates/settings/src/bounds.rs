//! Settings that are sizes and times, and their bounds, which errors name.

use std::fmt;
use std::time::Duration;

/// The smallest [`Mtu`](wire::Mtu) that can be set. Every IPv6 path supports it (RFC 8200 section 5), and
/// no network needs a smaller one.
pub const MIN_MTU: u16 = 1280;

/// Memory of one interface's ring, in whole MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RingSize {
    pub(super) mib: u16,
}

impl RingSize {
    /// The smallest: two blocks of 1 MiB, one to fill while the other is read.
    pub const MIN: Self = Self { mib: 2 };
    /// The largest. A larger value is probably a wrong unit.
    pub const MAX: Self = Self { mib: 4096 };

    /// The size in bytes: a multiple of 1 MiB.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        (self.mib as u64) << 20
    }
}

impl fmt::Display for RingSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}MiB", self.mib)
    }
}

/// The size of each ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingSetting {
    /// Computed at the start, see `ring_size`.
    Auto,
    /// As set.
    Fixed(RingSize),
}

/// How long frames wait for the first list of sensors, in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StartWait {
    pub(super) ms: u16,
}

impl StartWait {
    /// The longest. If no list arrives for longer, a longer wait does not help.
    pub const MAX: Self = Self { ms: 60_000 };

    /// The duration; zero is no wait.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.ms as u64)
    }
}

impl fmt::Display for StartWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ms {
            ms if ms.is_multiple_of(1000) => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}
