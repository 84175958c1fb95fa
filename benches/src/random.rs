//! Numbers that look random and are the same in each run: Marsaglia's xorshift.

/// A sequence of numbers from 0 to 1.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence from its start.
    pub(crate) const fn new() -> Self {
        Self(0x2545_f491_4f6c_dd1d)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let [high, low, ..] = self.0.to_be_bytes();
        f64::from(u16::from_be_bytes([high, low])) / f64::from(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_a_half() {
        let mut random = Random::new();
        let sum: f64 = (0..10_000).map(|_| random.next()).sum();
        assert!((4500.0..5500.0).contains(&sum), "{sum}");
    }
}
