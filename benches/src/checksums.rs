//! The speed of the Internet checksum, compared with a plain copy of the same bytes.
//!
//! In each round each buffer is summed many times, then copied as often (`copy_from_slice`, the C
//! library's memcpy), and a chain of dependent instructions of one cycle each shows how long a cycle takes
//! at that time. So bytes per cycle need no counter of the processor, which virtual machines rarely have.
//! The table has the medians over the rounds, and the median of the ratios of each round: another
//! program on the processor slows the two alike.
//!
//! The buffers are in a cache: that of the first level, except for the largest. Frames are there or in the
//! next level too, because the kernel has just written them.

use std::hint::black_box;
use std::time::Duration;

use wire::checksum::Sum;

use crate::cycles::{cycle, nanoseconds, timed};
use crate::statistics::{median, median_ratio};
use crate::table::{Align, Table, grouped};

/// Bytes: a small packet, the payload of a full-sized segment, a frame before segmentation.
const SIZES: [usize; 3] = [64, 1460, 64 << 10];
const ROUNDS: usize = 11;
/// Bytes that are summed and copied in a round.
const AMOUNT: usize = 32 << 20;

/// One round with one size.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// In nanoseconds.
    cycle: f64,
    /// In bytes per nanosecond.
    sum: f64,
    /// In bytes per nanosecond.
    copy: f64,
}

/// Measures all sizes.
#[must_use]
pub fn table() -> Table {
    let mut table = Table::new(&[
        ("bytes", Align::Right),
        ("checksum, bytes/cycle", Align::Right),
        ("bytes/ns", Align::Right),
        ("copy, bytes/cycle", Align::Right),
        ("bytes/ns", Align::Right),
        ("checksum / copy", Align::Right),
    ]);
    for size in SIZES {
        let source = bytes(size);
        let mut target = vec![0; size];
        let rounds: Vec<Round> = (0..ROUNDS).map(|_| round(&source, &mut target)).collect();
        table.row(cells(size, &rounds));
    }
    table
}

fn cells(size: usize, rounds: &[Round]) -> [String; 6] {
    let shown = |value: Option<f64>| format!("{:.2}", value.unwrap_or(f64::NAN));
    let of = |value: fn(&Round) -> f64| shown(median(rounds.iter().map(value)));
    let pairs = rounds.iter().map(|round| (round.sum, round.copy));
    [
        grouped(size as u64),
        of(|round| round.sum * round.cycle),
        of(|round| round.sum),
        of(|round| round.copy * round.cycle),
        of(|round| round.copy),
        shown(median_ratio(pairs)),
    ]
}

fn round(source: &[u8], target: &mut [u8]) -> Round {
    let times = (AMOUNT / source.len()).max(1);
    let bytes = u32::try_from(times * source.len()).unwrap_or(u32::MAX);
    let rate = |time: Duration| f64::from(bytes) / nanoseconds(time);
    let cycle = cycle();
    let sum = timed(|| {
        for _ in 0..times {
            black_box(Sum::of(black_box(source)).finish());
        }
    });
    let copy = timed(|| {
        for _ in 0..times {
            target.copy_from_slice(black_box(source));
            black_box(&mut *target);
        }
    });
    Round {
        cycle,
        sum: rate(sum),
        copy: rate(copy),
    }
}

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| at.to_le_bytes()[0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_medians_and_the_median_of_the_ratios() {
        let round = |cycle, sum, copy| Round { cycle, sum, copy };
        // In the second round the processor was twice as slow.
        let rounds = [
            round(0.25, 40.0, 80.0),
            round(0.5, 20.0, 40.0),
            round(0.25, 44.0, 80.0),
        ];
        assert_eq!(
            cells(1460, &rounds),
            ["1,460", "10.00", "40.00", "20.00", "80.00", "0.50"]
        );
    }
}
