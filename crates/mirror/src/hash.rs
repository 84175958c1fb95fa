//! The numbers that select sensor and source port. They are the same in all versions.
//!
//! In: addresses, a protocol, ports. Out: a [`HostsHash`] for two hosts, the same in both directions, and
//! a [`FlowHash`] for one of their conversations. Two podspans must select the same sensor, so seed and
//! mixing are fixed, and `docs/wire-truth.md` publishes test vectors.
//!
//! Mixing is the finaliser of SplitMix64 (Steele, Lea, Flood 2014). The hash does not have to resist an
//! attacker: somebody who can choose addresses can at most put load on one sensor.

use core::net::IpAddr;

/// The seed: "podspan1" in ASCII.
const SEED: u64 = 0x706f_6473_7061_6e31;

/// Bytes of an Ethernet address.
pub(crate) const MAC_LEN: usize = 6;

/// A number for two hosts, the same for all their traffic in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostsHash(pub u64);

/// A number for one conversation of two hosts, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowHash(pub u64);

/// One end of a conversation. The port is zero if the protocol has none.
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

/// Mixes an address into the hash. An IPv4 address is used as its IPv4-mapped IPv6 address.
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
        reason = "the lower half is intended"
    )]
    let halves = ((bits >> 64) as u64, bits as u64);
    halves
}

impl HostsHash {
    /// The hash of two IP addresses of one family, in any order.
    #[must_use]
    pub(crate) fn of_addresses(one: IpAddr, other: IpAddr) -> Self {
        let (low, high) = if one <= other {
            (one, other)
        } else {
            (other, one)
        };
        Self(mix_address(mix_address(SEED, low), high))
    }

    /// The hash of two Ethernet addresses, in any order.
    #[must_use]
    pub(crate) fn of_macs(one: [u8; MAC_LEN], other: [u8; MAC_LEN]) -> Self {
        let [one, other] = [one, other].map(|mac| {
            mac.iter()
                .fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        });
        Self(mix(mix(SEED ^ one.min(other)) ^ one.max(other)))
    }

    /// The hash of a frame that is too short for addresses.
    #[must_use]
    pub(crate) const fn without_addresses() -> Self {
        Self(mix(SEED))
    }

    /// The same number as the hash of a flow: all traffic of two hosts counts as one conversation.
    #[must_use]
    pub(crate) const fn as_flow(self) -> FlowHash {
        FlowHash(self.0)
    }
}

impl FlowHash {
    /// The hash of a conversation between two endpoints, in any order; `hosts` is the hash of their hosts.
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
