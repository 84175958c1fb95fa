//! The size of a ring and of its blocks, from the CPU quota and the memory.
//!
//! In: what is known about quota and memory. Out: a [`Geometry`], and which [`Bound`] has decided it. No
//! I/O; the table of cases is in the tests.
//!
//! **How long a quota stops a thread.** With a quota q in each period p, a thread can use up q at the start
//! of a period and gets no CPU until its end. The kernel measures at its timer ticks, so a thread can also
//! use up to a tick d more than q, and this is subtracted from the next periods: with a small q, it gets
//! no CPU in ⌊d/q⌋ more periods. Threads of one container share q, so several use it up sooner. So
//! [`longest_throttling`] is p × (1 + ⌊d/q⌋), whole periods. Source: `__account_cfs_rq_runtime`,
//! `do_sched_cfs_period_timer` in `kernel/sched/fair.c`; docs/performance.md has measured times.
//!
//! **What arrives in this time.** 1 Gbit/s of the smallest Ethernet frames. They are the worst case: a
//! frame of 60 bytes takes 84 on the wire and 152 in the ring, so 1 Gbit/s is 226 MB/s in the ring. Frames
//! of 1,514 bytes take 131 MB/s, and 64 KiB of TSO 126 MB/s.
//!
//! **Blocks.** The kernel also closes a block that is not full, after [`RETIRE_AFTER_MS`]. So a ring needs
//! enough blocks for little traffic, too: one for each such time. Two more are the block that podspan
//! reads and the one that the kernel fills. Blocks of 1 MiB hold every frame of Linux, so they are made
//! smaller only if otherwise there were too few of them.
//!
//! **Memory.** The pages of a ring are memory of the node, and the container's limit does not count them.
//! But a small limit means that podspan is to be small, so the rings take at most half of it. They take at
//! most a 128th of the node's memory, because every pod of a node can have podspan (110 is the usual
//! number), and at most a 16th of what is available.

use std::fmt;
use std::time::Duration;

use capture::{BLOCK_LEN, BLOCK_LEN_MIN, DESCRIPTOR_LEN, RETIRE_AFTER_MS, slot_len};

use super::limits::{CpuQuota, NodeMemory};

/// 1 Gbit/s of the smallest frames: 64 bytes with the checksum, and 20 of preamble and gap.
const FRAMES_PER_SECOND: u64 = 1_000_000_000 / (8 * (64 + 20));
/// The smallest frame, without the checksum.
const FRAME_LEN: usize = 60;
/// The longest that a thread runs above its quota: a timer tick of the slowest kernels (`CONFIG_HZ=100`).
const TICK: Duration = Duration::from_millis(10);
/// Threads of podspan. With a quota of as many CPUs, none is ever stopped.
const THREADS: u32 = 3;
/// The shortest time for which a ring is made, also without a quota: a busy node stops a thread, too.
pub(super) const HOLD_MIN: Duration = Duration::from_millis(100);
/// The block that podspan reads, and the one that the kernel fills.
const IN_USE: u64 = 2;
/// The largest ring that is chosen.
const LARGEST: u64 = 256 << 20;
/// The smallest ring that is chosen.
pub(super) const SMALLEST: u64 = 2 << 20;
/// The rings take at most this part of the container's memory limit.
const PART_OF_LIMIT: u64 = 2;
/// The rings take at most this part of the node's memory.
const PART_OF_NODE: u64 = 128;
/// The rings take at most this part of the memory that is available on the node.
const PART_OF_AVAILABLE: u64 = 16;
/// The node's memory, if it is unknown.
const NODE_UNKNOWN: NodeMemory = NodeMemory {
    total: 4 << 30,
    available: None,
};

/// What decides a ring's size; `None` is no limit, or an unknown one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inputs {
    pub(crate) quota: Option<CpuQuota>,
    /// The container's memory limit in bytes.
    pub(crate) memory_limit: Option<u64>,
    pub(crate) node: Option<NodeMemory>,
    /// The number of rings.
    pub(crate) interfaces: usize,
}

/// A ring's blocks. There are at least two, and a ring has at most [`LARGEST`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) block_len: usize,
    pub(crate) blocks: usize,
}

/// What has decided a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// The longest throttling at 1 Gbit/s; the ring is not larger than this.
    Throttling,
    /// The container's memory limit.
    MemoryLimit,
    /// The node's memory.
    NodeMemory,
    /// [`LARGEST`].
    Largest,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Throttling => "the longest throttling at 1 Gbit/s fits",
            Self::MemoryLimit => "rings take at most half of the container's memory limit",
            Self::NodeMemory => {
                "rings take at most 1/128 of the node's memory and 1/16 of what is available"
            }
            Self::Largest => "no larger ring is chosen",
        })
    }
}

/// The longest time in which a quota gives a thread no CPU; zero if it never stops podspan.
pub(super) fn longest_throttling(quota: CpuQuota) -> Duration {
    let CpuQuota { quota, period } = quota;
    if quota >= period.saturating_mul(THREADS) {
        return Duration::ZERO;
    }
    let debts = TICK.as_nanos() / quota.as_nanos().max(1);
    let periods = u32::try_from(debts).unwrap_or(u32::MAX).saturating_add(1);
    period.saturating_mul(periods)
}

/// For how long a ring must hold what arrives.
pub(super) fn hold(quota: Option<CpuQuota>) -> Duration {
    quota.map_or(HOLD_MIN, |quota| longest_throttling(quota).max(HOLD_MIN))
}

/// The geometry of each ring.
pub(crate) fn choose(inputs: &Inputs) -> (Geometry, Bound) {
    let hold = hold(inputs.quota);
    let (limit, bound) = limit(inputs);
    let wanted = blocks_for(hold, BLOCK_LEN).saturating_mul(BLOCK_LEN as u64);
    if wanted <= limit {
        (within(wanted, hold), Bound::Throttling)
    } else {
        (within(limit, hold), bound)
    }
}

/// The largest geometry of at most `bytes`, but not below [`SMALLEST`]: the largest blocks of which there
/// are enough for little traffic in the time `hold`.
pub(super) fn within(bytes: u64, hold: Duration) -> Geometry {
    let bytes = bytes.clamp(SMALLEST, LARGEST);
    let enough = blocks_for_time(hold);
    let mut block_len = BLOCK_LEN;
    while block_len > BLOCK_LEN_MIN && bytes / (block_len as u64) < enough {
        block_len /= 2;
    }
    let blocks = bytes / block_len as u64;
    Geometry {
        block_len,
        // At most `LARGEST / BLOCK_LEN_MIN`, which every `usize` holds.
        blocks: usize::try_from(blocks).unwrap_or(usize::MAX),
    }
}

/// How many bytes each ring may have, and why.
fn limit(inputs: &Inputs) -> (u64, Bound) {
    let NodeMemory { total, available } = inputs.node.unwrap_or(NODE_UNKNOWN);
    let node = available
        .map(|available| available / PART_OF_AVAILABLE)
        .into_iter()
        .fold(total / PART_OF_NODE, u64::min);
    let rings = u64::try_from(inputs.interfaces).unwrap_or(u64::MAX).max(1);
    let mut least = (LARGEST, Bound::Largest);
    let limit = inputs.memory_limit.map(|limit| limit / PART_OF_LIMIT);
    for (bytes, bound) in [(limit, Bound::MemoryLimit), (Some(node), Bound::NodeMemory)] {
        if let Some(bytes) = bytes.map(|bytes| bytes / rings)
            && bytes < least.0
        {
            least = (bytes, bound);
        }
    }
    least
}

/// How many blocks hold 1 Gbit/s of the smallest frames for this time, and little traffic.
fn blocks_for(hold: Duration, block_len: usize) -> u64 {
    let frames = hold.as_nanos() * u128::from(FRAMES_PER_SECOND) / 1_000_000_000;
    let frames = u64::try_from(frames).unwrap_or(u64::MAX);
    let fit = (block_len - DESCRIPTOR_LEN) / slot_len(FRAME_LEN);
    (frames.div_ceil(fit as u64) + IN_USE).max(blocks_for_time(hold))
}

/// How many blocks are closed at most in this time if none becomes full, and those in use.
fn blocks_for_time(hold: Duration) -> u64 {
    let closed = hold
        .as_nanos()
        .div_ceil(u128::from(RETIRE_AFTER_MS) * 1_000_000)
        + 1;
    u64::try_from(closed)
        .unwrap_or(u64::MAX)
        .saturating_add(IN_USE)
}

impl Geometry {
    /// The ring's size in bytes.
    pub(crate) const fn bytes(self) -> usize {
        self.block_len * self.blocks
    }

    /// A ring of at most half the size; `None` below [`SMALLEST`].
    pub(crate) fn half(self, hold: Duration) -> Option<Self> {
        let half = self.bytes() as u64 / 2;
        (half >= SMALLEST).then(|| within(half, hold))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;
    const KIB: usize = 1 << 10;

    fn quota(quota_ms: u64, period_ms: u64) -> CpuQuota {
        CpuQuota {
            quota: Duration::from_millis(quota_ms),
            period: Duration::from_millis(period_ms),
        }
    }

    fn node(total_mib: u64, available_mib: u64) -> NodeMemory {
        NodeMemory {
            total: total_mib * MIB,
            available: Some(available_mib * MIB),
        }
    }

    #[test]
    fn a_quota_stops_a_thread_for_whole_periods() {
        for (quota_ms, period_ms, longest_ms) in [
            (25, 100, 100),
            (50, 100, 100),
            // One tick above it costs another period, and more with a smaller quota.
            (10, 100, 200),
            (5, 100, 300),
            (1, 100, 1100),
            (3, 10, 40),
            (250, 1000, 1000),
            // One thread is never stopped here, but three can be.
            (100, 100, 100),
            (299, 100, 100),
            (300, 100, 0),
            (5000, 100, 0),
        ] {
            let longest = longest_throttling(quota(quota_ms, period_ms));
            let expected = Duration::from_millis(longest_ms);
            assert_eq!(longest, expected, "{quota_ms} of {period_ms} ms");
        }
    }

    #[test]
    fn the_ring_follows_from_quota_and_memory() {
        use Bound::{Largest, MemoryLimit, NodeMemory, Throttling};
        // Quota of 100 ms in ms, limit in MiB, node's total and available MiB, rings: blocks of KiB.
        for (quota_ms, limit, total, available, rings, blocks, block_kib, bound) in [
            // The manifests' limits on a usual node.
            (Some(25), Some(256), 16_384, 8192, 1, 24, 1024, Throttling),
            (Some(25), Some(256), 16_384, 8192, 4, 24, 1024, Throttling),
            // No limits at all.
            (None, None, 16_384, 8192, 1, 24, 1024, Throttling),
            (Some(400), None, 16_384, 8192, 1, 24, 1024, Throttling),
            // A small quota is paid back over several periods.
            (Some(10), Some(256), 16_384, 8192, 1, 46, 1024, Throttling),
            (Some(5), Some(256), 65_536, 8192, 1, 67, 1024, Throttling),
            (Some(1), None, 1_048_576, 524_288, 1, 240, 1024, Throttling),
            (Some(1), Some(256), 65_536, 8192, 1, 128, 1024, MemoryLimit),
            // Several interfaces share what is there.
            (Some(25), Some(256), 16_384, 8192, 8, 16, 1024, MemoryLimit),
            (Some(25), Some(256), 4096, 2048, 4, 16, 512, NodeMemory),
            // Short memory: fewer blocks, then smaller ones.
            (Some(25), Some(47), 16_384, 8192, 1, 23, 1024, MemoryLimit),
            (Some(25), Some(22), 16_384, 8192, 1, 11, 1024, MemoryLimit),
            (Some(25), Some(20), 16_384, 8192, 1, 10, 1024, MemoryLimit),
            (Some(25), Some(19), 16_384, 8192, 1, 19, 512, MemoryLimit),
            (Some(25), Some(8), 16_384, 8192, 1, 16, 256, MemoryLimit),
            (Some(25), Some(1), 16_384, 8192, 1, 8, 256, MemoryLimit),
            (Some(25), Some(256), 2048, 1024, 1, 16, 1024, NodeMemory),
            (Some(25), Some(256), 16_384, 100, 1, 12, 512, NodeMemory),
            (Some(25), Some(256), 16_384, 0, 1, 8, 256, NodeMemory),
        ] {
            let inputs = Inputs {
                quota: quota_ms.map(|quota_ms| quota(quota_ms, 100)),
                memory_limit: limit.map(|limit| limit * MIB),
                node: Some(node(total, available)),
                interfaces: rings,
            };
            let geometry = Geometry {
                block_len: block_kib * KIB,
                blocks,
            };
            assert_eq!(choose(&inputs), (geometry, bound), "{inputs:?}");
        }
        // The longest period that the kernel allows, with a small quota and much memory.
        let slow = Inputs {
            quota: Some(quota(5, 1000)),
            memory_limit: None,
            node: Some(node(1 << 20, 1 << 19)),
            interfaces: 1,
        };
        let largest = Geometry {
            block_len: BLOCK_LEN,
            blocks: 256,
        };
        assert_eq!(choose(&slow), (largest, Largest));
    }

    #[test]
    fn without_the_nodes_memory_it_counts_as_a_small_node() {
        let inputs = |interfaces| Inputs {
            quota: None,
            memory_limit: None,
            node: None,
            interfaces,
        };
        assert_eq!(choose(&inputs(1)).0.bytes() as u64, 24 * MIB);
        assert_eq!(choose(&inputs(2)).0.bytes() as u64, 16 * MIB);
    }

    #[test]
    fn a_ring_is_halved_down_to_the_smallest() {
        let mut ring = within(24 * MIB, HOLD_MIN);
        let mut sizes = vec![(ring.blocks, ring.block_len / KIB)];
        while let Some(half) = ring.half(HOLD_MIN) {
            ring = half;
            sizes.push((ring.blocks, ring.block_len / KIB));
        }
        assert_eq!(sizes, [(24, 1024), (12, 1024), (12, 512), (12, 256)]);
    }

    proptest! {
        /// The kernel's rules, the memory, and the promise hold for any numbers.
        #[test]
        fn any_numbers_give_a_valid_ring(
            quota in proptest::option::of((any::<u64>(), any::<u64>())),
            memory_limit in proptest::option::of(any::<u64>()),
            node in proptest::option::of((any::<u64>(), proptest::option::of(any::<u64>()))),
            interfaces in any::<usize>(),
        ) {
            let inputs = Inputs {
                quota: quota.map(|(quota, period)| CpuQuota {
                    quota: Duration::from_micros(quota),
                    period: Duration::from_micros(period),
                }),
                memory_limit,
                node: node.map(|(total, available)| NodeMemory { total, available }),
                interfaces,
            };
            let (ring, bound) = choose(&inputs);
            prop_assert!(ring.block_len.is_power_of_two());
            prop_assert!((BLOCK_LEN_MIN..=BLOCK_LEN).contains(&ring.block_len));
            prop_assert!((SMALLEST..=LARGEST).contains(&(ring.bytes() as u64)));
            let rings = (interfaces as u64).max(1);
            if let Some(limit) = memory_limit && ring.bytes() as u64 > SMALLEST {
                prop_assert!(ring.bytes() as u64 <= limit / 2 / rings);
            }
            if bound == Bound::Throttling {
                let frames = ring.blocks.saturating_sub(2)
                    * ((ring.block_len - DESCRIPTOR_LEN) / slot_len(FRAME_LEN));
                let arriving = hold(inputs.quota).as_nanos() * u128::from(FRAMES_PER_SECOND);
                prop_assert!(frames as u128 * 1_000_000_000 >= arriving);
            }
        }
    }
}
