//! A captured frame, and what takes captured frames.

use std::time::Duration;

/// Whom a frame was for, as the kernel says of an `AF_PACKET` capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Came in, addressed to this interface.
    #[default]
    Host,
    /// Came in, to everybody.
    Broadcast,
    /// Came in, to a group.
    Multicast,
    /// Came in, addressed to another host: a bridge flooded it.
    OtherHost,
    /// Went out.
    Outgoing,
}

/// A frame in the capture's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRef<'a> {
    /// When the kernel saw it, since 1970.
    pub time: Duration,
    /// Whom it was for.
    pub direction: Direction,
    /// False where checksums were left to a device that was never passed: the field holds only
    /// the sum of the pseudo header then.
    pub checksum_complete: bool,
    /// Length on the wire in bytes, VLAN tag included; above `bytes.len()` where it was cut.
    pub wire_len: usize,
    /// The frame from its Ethernet header on, with the VLAN tag where it was on the wire.
    pub bytes: &'a [u8],
}

impl FrameRef<'_> {
    /// A copy that owns its bytes.
    #[must_use]
    pub fn to_frame(&self) -> Frame {
        Frame {
            time: self.time,
            direction: self.direction,
            checksum_complete: self.checksum_complete,
            bytes: self.bytes.to_vec(),
        }
    }
}

/// A frame with its own memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frame {
    /// When the kernel saw it, since 1970.
    pub time: Duration,
    /// Whom it was for.
    pub direction: Direction,
    /// False where checksums were left to a device that was never passed.
    pub checksum_complete: bool,
    /// The frame from its Ethernet header on.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// The frame as a reference, as sinks take it.
    #[must_use]
    pub fn as_ref(&self) -> FrameRef<'_> {
        FrameRef {
            time: self.time,
            direction: self.direction,
            checksum_complete: self.checksum_complete,
            wire_len: self.bytes.len(),
            bytes: &self.bytes,
        }
    }
}

/// Takes frames one by one, in their order.
///
/// A vector keeps them all; a pair hands each to both; a closure sees each.
pub trait Sink: Send + 'static {
    /// Takes one frame. It must keep up: what it is too slow for is lost, and counted.
    fn take(&mut self, frame: FrameRef<'_>);
}

impl Sink for Vec<Frame> {
    fn take(&mut self, frame: FrameRef<'_>) {
        self.push(frame.to_frame());
    }
}

impl<A: Sink, B: Sink> Sink for (A, B) {
    fn take(&mut self, frame: FrameRef<'_>) {
        self.0.take(frame);
        self.1.take(frame);
    }
}

impl<F: FnMut(FrameRef<'_>) + Send + 'static> Sink for F {
    fn take(&mut self, frame: FrameRef<'_>) {
        self(frame);
    }
}
