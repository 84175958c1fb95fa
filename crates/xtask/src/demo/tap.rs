//! The two places where the demo counts: beside the application, and at the sensors.
//!
//! A gauge counts from the first marker frame that passes to the second, so that both sides count
//! the same frames however much else passes before and after.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use testbed::traffic::RawSocket;
use testbed::verify::{Oracle, Protocol, is_error_about};
use testbed::{CaptureWriter, FrameRef, Lab, Sink};

use super::PORT;
use super::observed::observe;
use crate::failure::Result;

/// EtherType for experiments (IEEE Std 802), and what a marker says.
const MARKER: &[u8] = b"\x88\xb5podspan demo marker";

/// Sends a marker from the client to the pod.
pub(super) fn send_marker(lab: &Lab) -> Result<()> {
    let mut frame = [lab.pod.mac, lab.client.mac].concat();
    frame.extend(MARKER);
    frame.resize(60, 0);
    Ok(RawSocket::open(&lab.client.eth0)?.send(&frame)?)
}

/// Counts of one protocol, in the units of [`observe`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) units: u64,
    pub(super) bytes: u64,
    /// Frames with a wrong checksum or contradicting lengths.
    pub(super) wrong: u64,
}

/// What passed one place.
#[derive(Debug, Clone, Default)]
pub(super) struct Gauge {
    markers: u8,
    /// Frames, those of all protocols together.
    pub(super) frames: u64,
    /// Mirrored copies on their way out, and errors about them.
    pub(super) own: u64,
    pub(super) protocols: BTreeMap<Protocol, Count>,
}

impl Gauge {
    /// Whether the first marker has passed.
    pub(super) fn begun(&self) -> bool {
        self.markers >= 1
    }

    /// Whether the end marker has passed.
    pub(super) fn ended(&self) -> bool {
        self.markers >= 2
    }

    /// Frames with anything wrong.
    pub(super) fn wrong(&self) -> u64 {
        self.protocols.values().map(|count| count.wrong).sum()
    }

    /// Whether a frame is to be counted; a marker is not.
    fn counts(&mut self, frame: &[u8]) -> bool {
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

/// A gauge that a sniffer's thread fills while others read it.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Gauge>>);

impl Shared {
    pub(super) fn read(&self) -> Gauge {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Gauge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts on the pod's eth0 what is not podspan's own.
#[derive(Debug)]
pub(super) struct Crossed {
    gauge: Shared,
    sensors: Vec<SocketAddr>,
}

impl Crossed {
    pub(super) fn new(gauge: Shared, sensors: Vec<SocketAddr>) -> Self {
        Self { gauge, sensors }
    }

    /// A copy on its way to a sensor, or an ICMP error about one: a sniffing sensor has no socket.
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

/// An ICMP error about a copy. podspan mirrors a few of them each second, so none is counted on
/// either side.
fn is_about_a_copy(frame: &[u8]) -> bool {
    is_error_about(frame, PORT)
}

impl Sink for Crossed {
    fn take(&mut self, frame: FrameRef<'_>) {
        let own = self.is_own(frame.bytes);
        let mut gauge = self.gauge.lock();
        if own {
            gauge.own += 1;
        } else if gauge.counts(frame.bytes) {
            gauge.add(frame.bytes, false);
        }
    }
}

/// Counts, judges and writes down what the sensors decoded.
pub(super) struct Arrived {
    gauge: Shared,
    oracle: Oracle,
    /// Gone when it is complete.
    file: Option<CaptureWriter>,
}

impl Arrived {
    pub(super) fn new(gauge: Shared, file: CaptureWriter) -> Self {
        Self {
            gauge,
            oracle: Oracle::new(),
            file: Some(file),
        }
    }

    /// Takes a frame, and says whether it counts.
    pub(super) fn takes(&mut self, frame: FrameRef<'_>) -> bool {
        if is_about_a_copy(frame.bytes) || !self.gauge.lock().counts(frame.bytes) {
            return false;
        }
        let wrong = !self.oracle.judge(frame.bytes).is_right();
        if let Some(file) = &mut self.file {
            file.take(frame);
        }
        self.gauge.lock().add(frame.bytes, wrong);
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

    fn feed(sink: &mut impl Sink, bytes: &[u8]) {
        let frame = Frame {
            bytes: bytes.to_vec(),
            ..Frame::default()
        };
        sink.take(frame.as_ref());
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
    fn only_what_passes_between_the_markers_counts() {
        let shared = Shared::default();
        let mut tap = Crossed::new(shared.clone(), sensors());
        let marker = [&[2; 12][..], MARKER].concat();
        let other = udp([10, 0, 0, 1], 9);
        for frame in [&other, &marker, &other, &other, &marker, &other] {
            feed(&mut tap, frame);
        }
        let gauge = shared.read();
        assert!(gauge.ended());
        assert_eq!(gauge.frames, 2);
        let count = gauge.protocols[&Protocol::Udp];
        assert_eq!((count.units, count.bytes, count.wrong), (2, 14, 0));
    }

    #[test]
    fn own_copies_are_told_apart() {
        let shared = Shared::default();
        let mut tap = Crossed::new(shared.clone(), sensors());
        feed(&mut tap, &[&[2; 12][..], MARKER].concat());
        feed(&mut tap, &udp([10, 0, 0, 3], 4789));
        feed(&mut tap, &udp([10, 0, 0, 4], 4789));
        feed(&mut tap, &udp([10, 0, 0, 1], 4789));
        let gauge = shared.read();
        assert_eq!((gauge.own, gauge.frames), (2, 1));
    }
}
