//! The frames: every kind that a filter tells apart, cut at each place, garbage, and recorded traffic.

use std::fs::File;
use std::path::Path;

use pcap_file::pcapng::{Block, PcapNgReader};

use crate::random::Random;

/// A frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) has_authentication: bool,
}

impl Frame {
    fn new(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        let name = name.into();
        let has_authentication = name.contains("ah") || name.contains("garbage");
        Self {
            name,
            bytes,
            has_authentication,
        }
    }

    /// The frame as the kernel gives it: the first tag taken out.
    pub(crate) fn without_first_tag(&self) -> Option<(Vec<u8>, u16)> {
        let [_, _] = self.bytes.get(14..16)? else {
            return None;
        };
        let ethertype = u16::from_be_bytes([self.bytes[12], self.bytes[13]]);
        if !matches!(ethertype, 0x8100 | 0x88a8) || self.bytes.len() < 18 {
            return None;
        }
        let tag = u16::from_be_bytes([self.bytes[14], self.bytes[15]]);
        Some(([&self.bytes[..12], &self.bytes[16..]].concat(), tag))
    }

    /// An Ethernet frame with an IP packet whose version is that of the EtherType.
    pub(crate) fn is_ip(&self) -> bool {
        let version = self.bytes.get(14).map(|first| first >> 4);
        match self.bytes.get(12..14) {
            Some([0x08, 0x00]) => version == Some(4),
            Some([0x86, 0xdd]) => version == Some(6),
            _ => false,
        }
    }
}

pub(crate) const MACS: [[u8; 6]; 4] = [
    [2, 0, 0, 0, 0, 1],
    [2, 0, 0, 0, 0, 2],
    [0xff; 6],
    [1, 0, 0x5e, 0, 0, 0xfb],
];
const V4: [[u8; 4]; 5] = [
    [10, 0, 0, 1],
    [10, 1, 2, 3],
    [192, 168, 1, 7],
    [224, 0, 0, 251],
    [0, 0, 0, 80],
];
const V6: [[u8; 16]; 4] = [
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5],
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfb],
];
const PORTS: [u16; 6] = [53, 80, 443, 8080, 6005, 40000];

fn ethernet(random: &mut Random, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let (to, from) = (random.one(&MACS), random.one(&MACS));
    [&to[..], &from, &ethertype.to_be_bytes(), payload].concat()
}

/// An IPv4 packet. `fragment` is the half word of flags and offset.
fn v4(random: &mut Random, protocol: u8, options: usize, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let words = u8::try_from(5 + options).unwrap();
    let length = u16::try_from(20 + 4 * options + payload.len()).unwrap();
    let [a, b] = length.to_be_bytes();
    let [c, d] = fragment.to_be_bytes();
    let header = [0x40 | words, 0, a, b, 0, 1, c, d, 64, protocol, 0, 0];
    let (from, to) = (random.one(&V4), random.one(&V4));
    [&header[..], &from, &to, &vec![1; 4 * options], payload].concat()
}

fn v6(random: &mut Random, next: u8, payload: &[u8]) -> Vec<u8> {
    let [a, b] = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let (from, to) = (random.one(&V6), random.one(&V6));
    [&[0x60, 0, 0, 0, a, b, next, 64][..], &from, &to, payload].concat()
}

fn tcp(random: &mut Random) -> Vec<u8> {
    let flags = random.one(&[2, 0x12, 0x10, 0x18, 0x11, 4, 0x14]);
    let rest = [0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0];
    let data = vec![0x61; random.below(30)];
    [&ports(random)[..], &rest, &data].concat()
}

fn ports(random: &mut Random) -> Vec<u8> {
    let (from, to) = (random.one(&PORTS), random.one(&PORTS));
    [from.to_be_bytes(), to.to_be_bytes()].concat()
}

fn udp(random: &mut Random) -> Vec<u8> {
    [&ports(random)[..], &[0, 12, 0, 0], &[7; 4]].concat()
}

/// The protocol's number, its name, and a payload.
fn transport(random: &mut Random, is_v6: bool) -> (u8, &'static str, Vec<u8>) {
    let icmp = [random.one(&[0, 3, 8, 128, 129, 135]), 0, 0, 0, 0, 1, 0, 1];
    let kind = random.below(9);
    match kind {
        0 | 1 => (6, "tcp", tcp(random)),
        2 | 3 => (17, "udp", udp(random)),
        4 => (132, "sctp", [&ports(random)[..], &[0; 12]].concat()),
        5 | 6 => (if is_v6 { 58 } else { 1 }, "icmp", icmp.to_vec()),
        7 => (random.one(&[2, 47, 50, 103, 112, 89]), "other", vec![1; 16]),
        _ => (59, "nothing", Vec::new()),
    }
}

/// Extension headers in front of a payload; the number of the first.
fn extended(random: &mut Random, next: u8, payload: &[u8], with_ah: bool) -> (u8, Vec<u8>) {
    let (mut next, mut payload) = (next, payload.to_vec());
    for _ in 0..=random.below(3) {
        let kind = random.one(&[0, 60, 43, 44]);
        let more = if kind == 44 { 0 } else { random.below(2) };
        let mut header = vec![0; 8 + 8 * more];
        header[..2].copy_from_slice(&[next, u8::try_from(more).unwrap()]);
        payload = [header, payload].concat();
        next = kind;
    }
    if with_ah {
        payload = [&[next, 4][..], &[0; 22], &payload].concat();
        next = 51;
    }
    (next, payload)
}

fn arp(random: &mut Random) -> Vec<u8> {
    let (from, to) = (random.one(&V4), random.one(&V4));
    [&[0, 1, 8, 0, 6, 4, 0, 1][..], &MACS[0], &from, &[0; 6], &to].concat()
}

fn ip(random: &mut Random) -> (u16, Vec<u8>, &'static str) {
    if random.once_in(2) {
        let (protocol, name, payload) = transport(random, false);
        let options = if random.once_in(4) {
            random.below(4)
        } else {
            0
        };
        let fragment = if random.once_in(6) {
            random.one(&[0x2000, 0x2010, 7])
        } else {
            0x4000
        };
        return (
            0x0800,
            v4(random, protocol, options, fragment, &payload),
            name,
        );
    }
    let (mut next, name, mut payload) = transport(random, true);
    if random.once_in(4) {
        (next, payload) = extended(random, next, &payload, false);
    }
    (0x86dd, v6(random, next, &payload), name)
}

fn tagged(random: &mut Random, ethertype: u16, payload: &[u8]) -> (u16, Vec<u8>) {
    let tag: u16 = random.one(&[5, 100, 200, 0xe064, 0x1000]);
    let tpid = random.one(&[0x8100, 0x8100, 0x88a8, 0x9100]);
    (
        tpid,
        [&tag.to_be_bytes()[..], &ethertype.to_be_bytes(), payload].concat(),
    )
}

fn labelled(random: &mut Random, payload: &[u8], is_last: bool) -> Vec<u8> {
    let label: u32 = random.one(&[5, 1000, 1024]);
    let entry = label << 12 | u32::from(is_last) << 8 | 64;
    [&entry.to_be_bytes()[..], payload].concat()
}

/// All frames; the same in every run.
pub(crate) fn frames() -> Vec<Frame> {
    let mut random = Random::new(7);
    let random = &mut random;
    let mut frames = Vec::new();
    for at in 0..260 {
        let (ethertype, packet, name) = ip(random);
        frames.push(Frame::new(
            format!("{name} {at}"),
            ethernet(random, ethertype, &packet),
        ));
    }
    for at in 0..60 {
        let (mut ethertype, mut payload, name) = ip(random);
        for _ in 0..=random.below(2) {
            (ethertype, payload) = tagged(random, ethertype, &payload);
        }
        frames.push(Frame::new(
            format!("vlan {name} {at}"),
            ethernet(random, ethertype, &payload),
        ));
    }
    for at in 0..40 {
        let (_, packet, name) = ip(random);
        let mut payload = labelled(random, &packet, true);
        if random.once_in(2) {
            payload = labelled(random, &payload, false);
        }
        frames.push(Frame::new(
            format!("mpls {name} {at}"),
            ethernet(random, 0x8847, &payload),
        ));
    }
    for at in 0..20 {
        let ethertype = random.one(&[0x0806, 0x8035]);
        let payload = arp(random);
        frames.push(Frame::new(
            format!("arp {at}"),
            ethernet(random, ethertype, &payload),
        ));
    }
    for ethertype in [0x88cc, 0x9000, 0x0026, 0x8863, 0x8864, 0xffff] {
        frames.push(Frame::new("other", ethernet(random, ethertype, &[3; 40])));
    }
    let inner = tcp(random);
    let ah4 = [&[6, 4][..], &[0; 22], &inner].concat();
    let ah4 = v4(random, 51, 0, 0, &ah4);
    frames.push(Frame::new(
        "ah then tcp in IPv4",
        ethernet(random, 0x0800, &ah4),
    ));
    let (next, ah6) = extended(random, 6, &inner, true);
    let ah6 = v6(random, next, &ah6);
    frames.push(Frame::new(
        "ah then tcp in IPv6",
        ethernet(random, 0x86dd, &ah6),
    ));
    let whole = frames.len();
    for at in (0..whole).step_by(9) {
        let Frame { name, bytes, .. } = frames[at].clone();
        for end in (0..bytes.len().min(70)).step_by(1 + at % 4) {
            frames.push(Frame::new(
                format!("{name} cut at {end}"),
                bytes[..end].to_vec(),
            ));
        }
    }
    for at in 0..80 {
        let length = random.below(90);
        let mut bytes: Vec<u8> = (0..length)
            .map(|_| u8::try_from(random.below(256)).unwrap())
            .collect();
        if let (true, Some(ethertype)) = (random.once_in(2), bytes.get_mut(12..14)) {
            ethertype.copy_from_slice(&random.one(&[[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0]]));
        }
        frames.push(Frame::new(format!("garbage {at}"), bytes));
    }
    frames.extend(recorded());
    frames
}

/// Frames of recorded traffic, from all of the recording. Each has a `virtio_net_hdr` in front.
fn recorded() -> Vec<Frame> {
    const HEADER: usize = 10;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/instructions/web.pcapng");
    let mut reader = PcapNgReader::new(File::open(path).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.unwrap() {
            let name = format!("recorded {}", frames.len());
            frames.push(Frame::new(name, packet.data[HEADER..].to_vec()));
        }
    }
    assert!(frames.iter().all(Frame::is_ip));
    let step = frames.len() / 200;
    frames.into_iter().step_by(step).collect()
}
