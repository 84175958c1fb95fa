//! The frames of a load, in their order, as bytes that a packet socket sends.
//!
//! Comes in: lengths or a recording. Goes out: a cycle of packets, each with its `virtio_net_hdr`, which
//! [`super::inject`] sends again and again. The destination of every frame is a station that is not the pod:
//! the pod's kernel shows the frame to packet sockets and to tc, and then drops it, so no answer of the pod
//! changes the load. Frames that are made here are UDP over IPv4 and get the addresses and ports of a flow
//! just before they are sent ([`Frames::set_flows`]); recorded ones stay as they are.

use instructions::recording::Recording;
use wire::{ChecksumState, Direction, Frame, Link, Offload, Timestamp};

/// Bytes of a `virtio_net_hdr`.
const HEADER: usize = 10;
const IP: usize = HEADER + 14;
const UDP: usize = IP + 20;
/// Locally administered, and of no host of the lab.
const STATION: [u8; 6] = [2, 0, 0, 9, 9, 9];
/// Frames of one size are sent from buffers of their own, because each has another flow.
const BUFFERS: usize = 64;
/// The sizes of the simple IMIX, 7:4:1, without the frame check sequence. The largest is the largest that
/// fits the tunnel here; with 1,514 bytes each would become two fragments.
const IMIX: [(usize, usize); 3] = [(60, 7), (590, 4), (1464, 1)];
/// So many times the ratio of the IMIX in a cycle.
const IMIX_TIMES: usize = 100;

/// A cycle of packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frames {
    packets: Vec<Vec<u8>>,
    /// `None` for recorded frames.
    flows: Option<u32>,
}

impl Frames {
    /// Frames of one length, of so many flows.
    #[must_use]
    pub fn of_size(length: usize, flows: u32) -> Self {
        Self::of_lengths(&[length; BUFFERS], flows)
    }

    /// Frames of these lengths, at least those of their headers.
    #[must_use]
    pub fn of_lengths(lengths: &[usize], flows: u32) -> Self {
        Self {
            packets: lengths.iter().map(|length| packet(*length)).collect(),
            flows: Some(flows.max(1)),
        }
    }

    /// Frames of a recording.
    #[must_use]
    pub fn recorded(recording: &Recording) -> Self {
        Self::of_packets(recording.with_headers())
    }

    /// Both parts of a recording of the web mix: with the kernel's offloads, and after them without.
    #[must_use]
    pub fn recorded_in_parts(recording: &Recording) -> (Self, Self) {
        let with =
            |frame: &Frame<'_>| matches!(frame.offload.checksum, ChecksumState::Unfinished(_));
        let frames: Vec<bool> = recording.frames().map(|frame| with(&frame)).collect();
        let first = frames
            .iter()
            .rposition(|with| *with)
            .map_or(0, |last| last + 1);
        (
            Self::of_packets(recording.with_headers().take(first)),
            Self::of_packets(recording.with_headers().skip(first)),
        )
    }

    fn of_packets<'a>(packets: impl Iterator<Item = &'a [u8]>) -> Self {
        let packets = packets.map(|packet| {
            let mut packet = packet.to_vec();
            if let Some(station) = packet.get_mut(HEADER..HEADER + 6) {
                station.copy_from_slice(&STATION);
            }
            packet
        });
        Self {
            packets: packets.collect(),
            flows: None,
        }
    }

    /// How many there are in a cycle.
    #[must_use]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The frames of a cycle as a ring has them.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        let packets = self.packets.iter();
        packets.filter_map(|packet| {
            let (header, bytes) = packet.split_first_chunk::<HEADER>()?;
            Some(Frame {
                bytes,
                at: 0,
                headroom: 0,
                wire_len: u32::try_from(bytes.len()).ok()?,
                timestamp: Timestamp::default(),
                direction: Direction::Incoming,
                link: Link::Ethernet,
                vlan: None,
                offload: Offload::parse(header),
            })
        })
    }

    /// Bytes of the frames of a cycle, from their Ethernet headers on.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.packets
            .iter()
            .map(|packet| packet.len() - HEADER)
            .sum()
    }

    /// The packets from this place of the cycle on, at most so many.
    #[must_use]
    pub fn burst(&self, start: usize, most: usize) -> &[Vec<u8>] {
        let rest = self.packets.get(start..).unwrap_or_default();
        rest.get(..most).unwrap_or(rest)
    }

    /// Gives the packets of this burst the flows of the frames from `number` on.
    pub fn set_flows(&mut self, start: usize, most: usize, number: u64) {
        let Some(flows) = self.flows else { return };
        let packets = self.packets.iter_mut().skip(start).take(most);
        for (number, packet) in (number..).zip(packets) {
            set_flow(packet, flow(number, flows));
        }
    }
}

/// The IMIX in random order, the same in each run.
#[must_use]
pub fn imix() -> Vec<usize> {
    let mut lengths: Vec<usize> = IMIX
        .iter()
        .flat_map(|(length, count)| vec![*length; count * IMIX_TIMES])
        .collect();
    // Fisher and Yates, with Marsaglia's xorshift.
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for last in (1..lengths.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let other = (random >> 33) % (last as u64 + 1);
        lengths.swap(last, usize::try_from(other).unwrap_or_default());
    }
    lengths
}

/// The flow of a frame: neighbours are of different flows, and each flow has as many frames.
fn flow(number: u64, flows: u32) -> u32 {
    let flows = u64::from(flows);
    // A prime that divides no number of flows that is asked for here.
    let mixed = (number % flows) * 2_654_435_761 % flows;
    u32::try_from(mixed).unwrap_or_default()
}

/// An IPv4 packet with UDP and no UDP checksum.
fn packet(length: usize) -> Vec<u8> {
    let length = length.max(UDP + 8 - HEADER);
    let mut packet = vec![0; HEADER + length];
    let ip_length = u16::try_from(length - 14).unwrap_or(u16::MAX);
    let udp_length = ip_length - 20;
    write(&mut packet, HEADER, &STATION);
    write(&mut packet, HEADER + 6, &[2, 0, 0, 9, 9, 8, 0x08, 0x00]);
    write(&mut packet, IP, &[0x45, 0]);
    write(&mut packet, IP + 2, &ip_length.to_be_bytes());
    write(&mut packet, IP + 8, &[64, 17]);
    write(&mut packet, UDP + 4, &udp_length.to_be_bytes());
    set_flow(&mut packet, 0);
    packet
}

/// Both addresses and both ports depend on the flow.
fn set_flow(packet: &mut [u8], flow: u32) {
    let [_, high, middle, low] = flow.to_be_bytes();
    write(packet, IP + 12, &[10, 128 | (high & 0x0f), middle, low]);
    write(packet, IP + 16, &[10, 200, 0, low & 0x3f]);
    write(packet, UDP, &[0x80 | high, low, 0x1f, middle]);
    write(packet, IP + 10, &[0, 0]);
    let header = packet.get(IP..UDP).unwrap_or_default();
    let sum: u32 = header
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !u16::try_from(sum).unwrap_or_default();
    write(packet, IP + 10, &sum.to_be_bytes());
}

fn write(packet: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = packet.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_frame_has_its_length_and_a_valid_header() {
        for length in [64_u16, 128, 1400] {
            let mut frames = Frames::of_size(length.into(), 1000);
            frames.set_flows(0, 64, 12_345);
            let packet = &frames.burst(5, 1)[0];
            assert_eq!(packet.len(), HEADER + usize::from(length));
            let mut sum = 0_u32;
            for pair in packet[IP..UDP].chunks(2) {
                sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
            }
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
            assert_eq!(packet[IP + 2..IP + 4], (length - 14).to_be_bytes());
            assert_eq!(packet[UDP + 4..UDP + 6], (length - 34).to_be_bytes());
        }
    }

    #[test]
    fn there_are_as_many_flows_as_wanted() {
        for flows in [1, 64, 1000, 1_000_000] {
            let mut seen = vec![false; flows as usize];
            (0..flows).for_each(|number| seen[flow(number.into(), flows) as usize] = true);
            assert!(seen.iter().all(|seen| *seen), "{flows}");
        }
        let addresses = |flow| {
            let mut packet = packet(64);
            set_flow(&mut packet, flow);
            packet[IP + 12..UDP + 4].to_vec()
        };
        // Each byte of the number counts.
        let numbers = || (0..1_000_000).step_by(257);
        let different: HashSet<_> = numbers().map(addresses).collect();
        assert_eq!(different.len(), numbers().count());
    }

    #[test]
    fn the_imix_has_its_ratio_and_an_order_that_stays() {
        let lengths = imix();
        for (length, count) in IMIX {
            let found = lengths.iter().filter(|found| **found == length).count();
            assert_eq!(found, count * IMIX_TIMES);
        }
        assert_eq!(lengths, imix());
        assert!(!lengths.is_sorted());
    }

    #[test]
    fn bursts_end_with_the_cycle() {
        let frames = Frames::of_lengths(&[64, 65, 66], 1);
        assert_eq!(frames.burst(1, 64).len(), 2);
        assert_eq!(frames.burst(0, 2).len(), 2);
        assert_eq!(frames.bytes(), 195);
    }
}
