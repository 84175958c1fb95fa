//! How many initiations are taken: altogether, and from one address.
//!
//! A budget is a rate with a burst. It is kept as one time, the one at which the budget would be whole again
//! (the generic cell rate algorithm, ITU-T I.371 annex A). The memory for addresses is bounded: a budget that
//! is whole again is forgotten, and while there is no room, new addresses are refused.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// A rate and its burst.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    interval: Duration,
    tolerance: Duration,
}

impl Rate {
    /// So many a second, and so many at once. Zero counts as one.
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self {
            interval,
            tolerance: interval * (burst.max(1) - 1),
        }
    }
}

/// What is left of a rate: the time at which all of it is there again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget(Instant);

impl Budget {
    pub(super) const fn whole(now: Instant) -> Self {
        Self(now)
    }

    /// Takes one, if there is one.
    pub(super) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let whole = self.0.max(now);
        let has = whole.saturating_duration_since(now) <= rate.tolerance;
        if has {
            self.0 = whole + rate.interval;
        }
        has
    }

    fn is_whole(self, now: Instant) -> bool {
        self.0 <= now
    }
}

/// Who is held responsible for an initiation: an IPv4 address, or the /64 of an IPv6 address, because one host
/// has all addresses of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Source(IpAddr);

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => {
                let network = u128::from(v6) & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from(network))
            }
        })
    }
}

/// A budget for each address.
#[derive(Debug)]
pub(super) struct Sources {
    rate: Rate,
    budgets: HashMap<Source, Budget>,
}

impl Sources {
    /// So many addresses are remembered: 1 MB.
    pub(super) const MAX: usize = 16_384;

    pub(super) fn new(rate: Rate) -> Self {
        Self {
            rate,
            budgets: HashMap::new(),
        }
    }

    /// Takes one from the budget of an address.
    pub(super) fn take(&mut self, source: Source, now: Instant) -> bool {
        if let Some(budget) = self.budgets.get_mut(&source) {
            return budget.take(self.rate, now);
        }
        if self.budgets.len() >= Self::MAX {
            return false;
        }
        let mut budget = Budget::whole(now);
        let has = budget.take(self.rate, now);
        self.budgets.insert(source, budget);
        has
    }

    /// Forgets whole budgets.
    pub(super) fn tick(&mut self, now: Instant) {
        self.budgets.retain(|_, budget| !budget.is_whole(now));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.budgets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        Source::of(address.parse().unwrap())
    }

    #[test]
    fn a_budget_has_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let rate = Rate::new(10, 3);
        let mut budget = Budget::whole(start);
        let taken = (0..9).filter(|_| budget.take(rate, start)).count();
        assert_eq!(taken, 3);
        // In steps of a millisecond, over ten seconds.
        let steps = (1..=10_000).map(|at| start + Duration::from_millis(at));
        assert_eq!(steps.filter(|now| budget.take(rate, *now)).count(), 100);
    }

    #[test]
    fn a_rate_of_zero_is_one() {
        let now = Instant::now();
        let rate = Rate::new(0, 0);
        let mut budget = Budget::whole(now);
        assert!(budget.take(rate, now));
        assert!(!budget.take(rate, now));
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_a_mapped_address_is_ipv4() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:0:0:2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
        assert_ne!(source("10.0.0.1"), source("10.0.0.2"));
    }

    #[test]
    fn the_memory_for_addresses_is_bounded_and_freed() {
        let now = Instant::now();
        let mut sources = Sources::new(Rate::new(1, 1));
        let address = |at: usize| Source::of(Ipv6Addr::from((at as u128) << 64).into());
        for at in 0..Sources::MAX {
            assert!(sources.take(address(at), now));
        }
        assert!(!sources.take(address(Sources::MAX), now));
        assert_eq!(sources.len(), Sources::MAX);
        sources.tick(now + Duration::from_millis(999));
        assert_eq!(sources.len(), Sources::MAX);
        sources.tick(now + Duration::from_secs(1));
        assert_eq!(sources.len(), 0);
        assert!(sources.take(address(Sources::MAX), now));
    }
}
