//! The two places where the demo counts frames: on the pod's eth0, and at the sensors.
//!
//! Each side counts from the first marker frame to the second. So both sides count the same frames,
//! whatever else passes before and after.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use testbed::traffic::RawSocket;
use testbed::verify::{Protocol, Verifier, is_error_about};
use testbed::{CaptureWriter, FrameRef, Lab, Sink};

use super::PORT;
use super::observed::observe;
use crate::failure::Result;

/// EtherType for experiments (IEEE Std 802), and the text of a marker.
const MARKER: &[u8] = b"\x88\xb5podspan demo marker";

/// Sends a marker from the client to the pod.
pub(super) fn send_marker(lab: &Lab) -> Result<()> {
    let mut frame = [lab.pod.mac, lab.client.mac].concat();
    frame.extend(MARKER);
    frame.resize(60, 0);
    Ok(RawSocket::open(&lab.client.eth0)?.send(&frame)?)
}

/// What one protocol carried, in the units of [`observe`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ProtocolCount {
    pub(super) units: u64,
    pub(super) bytes: u64,
    /// Frames with a wrong checksum or contradicting lengths.
    pub(super) wrong: u64,
}

/// What passed one place.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    markers: u8,
    /// Frames of all protocols together.
    pub(super) frames: u64,
    /// Mirrored copies that left the pod, and ICMP errors about them.
    pub(super) own: u64,
    pub(super) protocols: BTreeMap<Protocol, ProtocolCount>,
}

impl Counts {
    /// Whether the first marker has passed.
    pub(super) fn begun(&self) -> bool {
        self.markers >= 1
    }

    /// Whether the end marker has passed.
    pub(super) fn ended(&self) -> bool {
        self.markers >= 2
    }

    /// Frames in which anything is wrong.
    pub(super) fn wrong(&self) -> u64 {
        self.protocols.values().map(|count| count.wrong).sum()
    }

    /// Whether a frame is counted. A marker is not: it starts or ends the counting.
    fn is_counted(&mut self, frame: &[u8]) -> bool {
        if frame.get(12..).is_some_and(|rest| rest.starts_with(MARKER)) {
            self.markers = self.markers.saturating_add(1);
            return false;
        }
        self.markers == 1
    }

    fn add(&mut self, frame: &[u8], wrong: bool) {
        let observed = observe(frame);
        let count = self.protocols.entry(observed.protocol).or_default();
        self.frames += 1;
        count.units += observed.units;
        count.bytes += observed.bytes;
        count.wrong += u64::from(wrong);
    }
}

/// Counts that a sniffer's thread updates while other threads read them.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedCounts(Arc<Mutex<Counts>>);

impl SharedCounts {
    pub(super) fn read(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts the frames on the pod's eth0 that podspan did not send.
#[derive(Debug)]
pub(super) struct PodCounter {
    counts: SharedCounts,
    sensors: Vec<SocketAddr>,
}

impl PodCounter {
    pub(super) fn new(counts: SharedCounts, sensors: Vec<SocketAddr>) -> Self {
        Self { counts, sensors }
    }

    /// Whether a frame is a copy to a sensor, or an ICMP error about one: a sensor that sniffs has no
    /// socket, so its host answers with errors.
    fn is_own(&self, frame: &[u8]) -> bool {
        if is_about_a_copy(frame) {
            return true;
        }
        let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
            return false;
        };
        let destination: IpAddr = match &packet.net {
            Some(NetSlice::Ipv4(ip)) => ip.header().destination_addr().into(),
            Some(NetSlice::Ipv6(ip)) => ip.header().destination_addr().into(),
            _ => return false,
        };
        match &packet.transport {
            Some(TransportSlice::Udp(udp)) => self
                .sensors
                .contains(&(destination, udp.destination_port()).into()),
            _ => false,
        }
    }
}

/// Whether a frame is an ICMP error about a copy. podspan mirrors a few of them each second, so
/// neither side counts any.
fn is_about_a_copy(frame: &[u8]) -> bool {
    is_error_about(frame, PORT)
}

impl Sink for PodCounter {
    fn receive(&mut self, frame: FrameRef<'_>) {
        let own = self.is_own(frame.bytes);
        let mut counts = self.counts.lock();
        if own {
            counts.own += 1;
        } else if counts.is_counted(frame.bytes) {
            counts.add(frame.bytes, false);
        }
    }
}

/// Counts the frames that the sensors decoded, verifies them, and writes them to the file.
pub(super) struct SensorCounter {
    counts: SharedCounts,
    verifier: Verifier,
    /// `None` once it is complete.
    file: Option<CaptureWriter>,
}

impl SensorCounter {
    pub(super) fn new(counts: SharedCounts, file: CaptureWriter) -> Self {
        Self {
            counts,
            verifier: Verifier::new(),
            file: Some(file),
        }
    }

    /// Adds a frame, and returns whether it was counted.
    pub(super) fn add(&mut self, frame: FrameRef<'_>) -> bool {
        if is_about_a_copy(frame.bytes) || !self.counts.lock().is_counted(frame.bytes) {
            return false;
        }
        let wrong = !self.verifier.verify(frame.bytes).is_right();
        if let Some(file) = &mut self.file {
            file.receive(frame);
        }
        self.counts.lock().add(frame.bytes, wrong);
        true
    }

    /// Completes the file.
    pub(super) fn finish(&mut self) -> Result<()> {
        if let Some(file) = self.file.take() {
            file.finish()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use testbed::Frame;

    use super::*;

    fn send(sink: &mut impl Sink, bytes: &[u8]) {
        let frame = Frame {
            bytes: bytes.to_vec(),
            ..Frame::default()
        };
        sink.receive(frame.as_ref());
    }

    fn udp(to: [u8; 4], port: u16) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 2], to, 64)
            .udp(50_000, port);
        let mut frame = Vec::new();
        builder.write(&mut frame, b"payload").unwrap();
        frame
    }

    fn sensors() -> Vec<SocketAddr> {
        [3, 4].map(|host| ([10, 0, 0, host], 4789).into()).into()
    }

    #[test]
    fn only_frames_between_the_markers_count() {
        let shared = SharedCounts::default();
        let mut counter = PodCounter::new(shared.clone(), sensors());
        let marker = [&[2; 12][..], MARKER].concat();
        let other = udp([10, 0, 0, 1], 9);
        for frame in [&other, &marker, &other, &other, &marker, &other] {
            send(&mut counter, frame);
        }
        let counts = shared.read();
        assert!(counts.ended());
        assert_eq!(counts.frames, 2);
        let count = counts.protocols[&Protocol::Udp];
        assert_eq!((count.units, count.bytes, count.wrong), (2, 14, 0));
    }

    #[test]
    fn copies_to_the_sensors_are_counted_separately() {
        let shared = SharedCounts::default();
        let mut counter = PodCounter::new(shared.clone(), sensors());
        send(&mut counter, &[&[2; 12][..], MARKER].concat());
        send(&mut counter, &udp([10, 0, 0, 3], 4789));
        send(&mut counter, &udp([10, 0, 0, 4], 4789));
        send(&mut counter, &udp([10, 0, 0, 1], 4789));
        let counts = shared.read();
        assert_eq!((counts.own, counts.frames), (2, 1));
    }
}
