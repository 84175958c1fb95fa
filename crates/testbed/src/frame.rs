//! A captured frame, and the sinks that receive captured frames.

use std::time::Duration;

/// The direction and destination of a frame, as the kernel reports them to an `AF_PACKET` socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Received, addressed to this interface.
    #[default]
    Host,
    /// Received, a broadcast.
    Broadcast,
    /// Received, a multicast.
    Multicast,
    /// Received, addressed to another host: a bridge flooded it.
    OtherHost,
    /// Sent.
    Outgoing,
}

/// A frame in the capture's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRef<'a> {
    /// When the kernel saw it, since 1970.
    pub time: Duration,
    /// Its direction and destination.
    pub direction: Direction,
    /// False where the checksum was left to a device that the frame never reached: then the field
    /// holds only the sum of the pseudo header.
    pub checksum_complete: bool,
    /// Length on the wire in bytes, VLAN tag included; above `bytes.len()` where it was truncated.
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
    /// Its direction and destination.
    pub direction: Direction,
    /// False where the checksum was left to a device that the frame never reached.
    pub checksum_complete: bool,
    /// The frame from its Ethernet header on.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// The frame as a reference, as sinks receive it.
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

/// Receives frames one by one, in their order.
///
/// A vector stores them; a pair passes each to both of its sinks; a closure is called for each.
pub trait Sink: Send + 'static {
    /// Receives one frame. If it is too slow, the ring drops frames and counts them.
    fn receive(&mut self, frame: FrameRef<'_>);
}

impl Sink for Vec<Frame> {
    fn receive(&mut self, frame: FrameRef<'_>) {
        self.push(frame.to_frame());
    }
}

impl<A: Sink, B: Sink> Sink for (A, B) {
    fn receive(&mut self, frame: FrameRef<'_>) {
        self.0.receive(frame);
        self.1.receive(frame);
    }
}

impl<F: FnMut(FrameRef<'_>) + Send + 'static> Sink for F {
    fn receive(&mut self, frame: FrameRef<'_>) {
        self(frame);
    }
}
