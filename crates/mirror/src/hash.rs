//! The numbers from which sensor and source port follow: a contract between versions.
//!
//! In: addresses, a protocol, ports. Out: a [`HostsHash`] for two hosts, whichever of them sends, and
//! a [`FlowHash`] for one conversation of theirs. Two podspans must choose the same sensor, so seed
//! and mixing are fixed and their vectors are published in `docs/wire-truth.md`.
//!
//! Mixing is the finaliser of SplitMix64 (Steele, Lea, Flood 2014). The hash need not resist an
//! adversary: who can choose addresses can at most load one sensor.

use core::net::IpAddr;

/// The seed: "podspan1" in ASCII.
const SEED: u64 = 0x706f_6473_7061_6e31;

/// Bytes of an Ethernet address.
pub(crate) const MAC_LEN: usize = 6;

/// A number that two hosts share, in both directions, and in all that they exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostsHash(pub u64);

/// A number that one conversation of two hosts has, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowHash(pub u64);

/// One end of a conversation. The port is zero where the protocol has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    pub(crate) host: IpAddr,
    pub(crate) port: u16,
}

/// The finaliser of SplitMix64: each bit of the input changes half the bits of the output.
#[must_use]
pub(crate) const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Mixes an address in. An IPv4 address counts as its IPv4-mapped IPv6 one.
#[must_use]
pub(crate) fn mix_address(hash: u64, address: IpAddr) -> u64 {
    let (high, low) = halves(address);
    mix(mix(hash ^ high) ^ low)
}

fn halves(address: IpAddr) -> (u64, u64) {
    let bits = match address {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6),
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the halves are what is wanted"
    )]
    let halves = ((bits >> 64) as u64, bits as u64);
    halves
}

impl HostsHash {
    /// Of two IP addresses, in any order. Both are of one family.
    #[must_use]
    pub(crate) fn of_addresses(one: IpAddr, other: IpAddr) -> Self {
        let (low, high) = if one <= other {
            (one, other)
        } else {
            (other, one)
        };
        Self(mix_address(mix_address(SEED, low), high))
    }

    /// Of two Ethernet addresses, in any order.
    #[must_use]
    pub(crate) fn of_macs(one: [u8; MAC_LEN], other: [u8; MAC_LEN]) -> Self {
        let [one, other] = [one, other].map(|mac| {
            mac.iter()
                .fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        });
        Self(mix(mix(SEED ^ one.min(other)) ^ one.max(other)))
    }

    /// Of a frame that is too short for addresses.
    #[must_use]
    pub(crate) const fn without_addresses() -> Self {
        Self(mix(SEED))
    }

    /// As a flow's: all that two hosts exchange is one conversation then.
    #[must_use]
    pub(crate) const fn as_flow(self) -> FlowHash {
        FlowHash(self.0)
    }
}

impl FlowHash {
    /// Of a conversation between two endpoints, in any order, of the hosts that `hosts` was made of.
    #[must_use]
    pub(crate) fn of(hosts: HostsHash, protocol: u8, one: Endpoint, other: Endpoint) -> Self {
        let (low, high) = if one <= other {
            (one, other)
        } else {
            (other, one)
        };
        let ports = u64::from(low.port) << 16 | u64::from(high.port);
        Self(mix(hosts.0 ^ (u64::from(protocol) << 32 | ports)))
    }
}
