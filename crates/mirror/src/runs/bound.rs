//! How many bytes of trailers are allowed, and what a message may cost for it.
//!
//! In: a percentage, the setting. Out: whether trailers are within it, and prices for the search
//! ([`runs`](super)). The prices are those of the default bound, in proportion to the percentage.

/// What a message costs with the default bound, in halves of the mean datagram's bytes on the wire.
pub(super) const PRICE: u32 = 6;

/// The same for traffic that exceeds the bound with it.
pub(super) const LOW_PRICE: u32 = 3;

/// No message costs more bytes with the default bound. So an acknowledgement does not join the full-sized data around
/// it: the search for this would cost as much as the few messages that it saves.
pub(super) const PRICE_MAX: u32 = 1200;

/// The most bytes of trailers, as a percentage of the bytes that the datagrams have on the wire without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrailerBound(u8);

impl TrailerBound {
    /// No trailers.
    pub const NONE: Self = Self(0);
    /// A fifth.
    pub const DEFAULT: Self = Self(20);

    /// A bound of so many percent, up to 100.
    #[must_use]
    pub const fn new(percent: u8) -> Option<Self> {
        if percent <= 100 {
            Some(Self(percent))
        } else {
            None
        }
    }

    /// The percentage.
    #[must_use]
    pub const fn percent(self) -> u8 {
        self.0
    }

    /// Whether datagrams with these bytes on the wire can have these bytes of trailers.
    pub(super) const fn allows(self, trailers: u64, on_wire: u64) -> bool {
        trailers * 100 <= on_wire * self.0 as u64
    }

    /// A price for the default bound, in proportion: if the network carries more trailers, a message may cost more.
    pub(super) fn price(self, default: u32) -> u32 {
        default * u32::from(self.0) / u32::from(Self::DEFAULT.0)
    }

    /// The most that a message costs, at least one byte: below one byte there are no trailers.
    pub(super) fn price_max(self) -> u32 {
        self.price(PRICE_MAX).max(1)
    }
}

impl Default for TrailerBound {
    fn default() -> Self {
        Self::DEFAULT
    }
}
