//! What was received, as numbers and as a line.
//!
//! A line of an interval:
//!
//! ```text
//! frames=1200 bytes=912000 vnis=16:1200 senders=10.244.1.7:800,10.244.1.9:400 bad_checksums=0 lost=0
//! ```
//!
//! `frames` and `bytes` are of the copies, not of the datagrams around them. VNIs and senders are those of
//! datagrams; on a vxlan device they are not visible and not printed. Faults of datagrams follow where
//! there are any. Memory is bounded: of VNIs and senders the first [`KEYS_MAX`] are counted one by one and
//! the others together.

use core::fmt::{self, Display, Formatter};
use core::net::IpAddr;
use std::collections::BTreeMap;

use crate::decode::{Datagram, Fault};

/// How many different VNIs or senders are counted one by one.
const KEYS_MAX: usize = 16;

/// The numbers of an interval.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    frames: u64,
    bytes: u64,
    vnis: Counts<u32>,
    senders: Counts<IpAddr>,
    bad_checksums: u64,
    lost: u64,
    unreadable: u64,
    faults: [u64; Fault::ALL.len()],
}

impl Tally {
    /// Counts a frame, and whether its checksums are valid.
    pub(crate) fn frame(&mut self, length: usize, checksums_valid: bool) {
        self.frames += 1;
        self.bytes += length as u64;
        self.bad_checksums += u64::from(!checksums_valid);
    }

    /// Counts where a datagram came from.
    pub(crate) fn datagram(&mut self, datagram: &Datagram<'_>) {
        self.vnis.add(datagram.vni, 1);
        self.senders.add(datagram.sender, 1);
    }

    /// Counts a datagram that gave no frame.
    pub(crate) fn fault(&mut self, fault: Fault) {
        for (count, of) in self.faults.iter_mut().zip(Fault::ALL) {
            *count += u64::from(of == fault);
        }
    }

    /// Counts frames that the ring had no room for.
    pub(crate) fn lost(&mut self, frames: u64) {
        self.lost += frames;
    }

    /// Counts frames that the ring described wrongly.
    pub(crate) fn unreadable(&mut self, frames: u64) {
        self.unreadable += frames;
    }

    /// Adds another interval.
    pub(crate) fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.vnis.add_all(&other.vnis);
        self.senders.add_all(&other.senders);
        self.bad_checksums += other.bad_checksums;
        self.lost += other.lost;
        self.unreadable += other.unreadable;
        for (count, more) in self.faults.iter_mut().zip(other.faults) {
            *count += more;
        }
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "frames={} bytes={}", self.frames, self.bytes)?;
        if !self.vnis.is_empty() {
            write!(f, " vnis={} senders={}", self.vnis, self.senders)?;
        }
        write!(
            f,
            " bad_checksums={} lost={}",
            self.bad_checksums, self.lost
        )?;
        let faults = Fault::ALL.map(Fault::name).into_iter().zip(self.faults);
        for (name, count) in faults.chain([("unreadable", self.unreadable)]) {
            if count > 0 {
                write!(f, " {name}={count}")?;
            }
        }
        Ok(())
    }
}

/// Counts by key, of which only the first few are remembered.
#[derive(Debug, Clone)]
struct Counts<K> {
    by_key: BTreeMap<K, u64>,
    others: u64,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self {
            by_key: BTreeMap::new(),
            others: 0,
        }
    }
}

impl<K: Ord + Copy> Counts<K> {
    fn add(&mut self, key: K, count: u64) {
        if let Some(counted) = self.by_key.get_mut(&key) {
            *counted += count;
        } else if self.by_key.len() < KEYS_MAX {
            self.by_key.insert(key, count);
        } else {
            self.others += count;
        }
    }

    fn add_all(&mut self, other: &Self) {
        for (&key, &count) in &other.by_key {
            self.add(key, count);
        }
        self.others += other.others;
    }

    fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

impl<K: Display> Display for Counts<K> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, (key, count)) in self.by_key.iter().enumerate() {
            let separator = if number == 0 { "" } else { "," };
            write!(f, "{separator}{key}:{count}")?;
        }
        if self.others > 0 {
            write!(f, ",others:{}", self.others)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn received(senders: &[u32]) -> Tally {
        let mut tally = Tally::default();
        for &sender in senders {
            tally.datagram(&Datagram {
                sender: Ipv4Addr::from(sender).into(),
                vni: sender & 0xff_ffff,
                inner: &[],
            });
            tally.frame(100, true);
        }
        tally
    }

    #[test]
    fn a_line_has_every_number() {
        let mut tally = received(&[0x0a00_0001, 0x0a00_0001]);
        assert_eq!(
            tally.to_string(),
            "frames=2 bytes=200 vnis=1:2 senders=10.0.0.1:2 bad_checksums=0 lost=0"
        );
        tally.frame(50, false);
        tally.lost(3);
        tally.unreadable(4);
        tally.fault(Fault::Unsplit);
        let line = tally.to_string();
        assert!(
            line.ends_with("bad_checksums=1 lost=3 unsplit=1 unreadable=4"),
            "{line}"
        );
        let mut total = Tally::default();
        total.add(&tally);
        assert_eq!(total.to_string(), line);
    }

    #[test]
    fn on_a_vxlan_device_there_are_no_vnis_and_senders() {
        let mut tally = Tally::default();
        tally.frame(60, true);
        assert_eq!(
            tally.to_string(),
            "frames=1 bytes=60 bad_checksums=0 lost=0"
        );
    }

    proptest! {
        #[test]
        fn any_senders_take_bounded_memory_and_are_all_counted(
            intervals in proptest::collection::vec(proptest::collection::vec(any::<u32>(), 0..100), 1..5),
        ) {
            let mut total = Tally::default();
            let mut count = 0;
            for senders in &intervals {
                total.add(&received(senders));
                count += senders.len() as u64;
            }
            prop_assert!(total.senders.by_key.len() <= KEYS_MAX && total.vnis.by_key.len() <= KEYS_MAX);
            let counted = total.senders.by_key.values().sum::<u64>() + total.senders.others;
            prop_assert_eq!(counted, count);
        }
    }
}
