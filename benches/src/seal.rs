//! What sealing costs: the AEAD of three libraries, boringtun on top of one of them, and the tunnel's
//! [`Sealer`] and [`Responder`] on top of boringtun.
//!
//! In each round each of them takes the same number of packets of one size, one after the other, so another
//! program on the processor slows all alike. The size is that of the packet that is sealed: IP, UDP and VXLAN
//! header and frame. The three libraries seal in place; boringtun and the `Sealer` also copy the packet, once
//! and twice. Ratios are the medians of the ratios of each round.

#![expect(
    clippy::expect_used,
    reason = "without a library that seals there is nothing to measure"
)]

#[path = "../../crates/tunnel/tests/session/mod.rs"]
#[expect(clippy::unwrap_used, clippy::panic, reason = "it belongs to tests")]
mod session;

use std::hint::black_box;
use std::time::Instant;

use aws_lc_rs::aead as aws;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::StaticSecret;
use chacha20poly1305::aead::AeadInPlace as _;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _};
use ring::aead as ring_aead;
use tunnel::responder::Replies;
use tunnel::sealer::Scratch;

use crate::cycles::{cycle, nanoseconds, timed};
use crate::statistics::{median, median_ratio};
use crate::table::{Align, Table, grouped};
use session::{FROM, session};

/// Bytes of sealed packets.
const SIZES: [usize; 3] = [128, 512, 1424];
const ROUNDS: usize = 21;
/// Packets that each one takes in a round.
const PACKETS: usize = 10_000;
/// Bytes of the inner IPv4 and UDP header.
const INNER: usize = 28;

/// What is done with one packet.
type Take = Box<dyn FnMut(&mut [u8])>;

/// Who is measured: a name, and what it does.
type Contender = (&'static str, Take);

/// One round: the time of a cycle, and of a packet for each contender, in nanoseconds.
struct Round {
    cycle: f64,
    packets: Vec<f64>,
}

/// Measures all sizes.
///
/// # Panics
/// If one of the libraries does not work.
#[must_use]
pub fn table() -> Table {
    let mut table = Table::new(&[
        ("bytes", Align::Right),
        ("", Align::Left),
        ("ns", Align::Right),
        ("bytes/cycle", Align::Right),
        ("/ ring", Align::Right),
        ("/ boringtun", Align::Right),
    ]);
    for size in SIZES {
        let mut contenders = contenders();
        let rounds: Vec<Round> = (0..ROUNDS).map(|_| round(&mut contenders, size)).collect();
        for (at, (name, _)) in contenders.iter().enumerate() {
            table.row(cells(size, name, at, &rounds));
        }
    }
    table
}

/// The places of those that others are compared with.
const RING: usize = 0;
const BORINGTUN: usize = 3;

fn cells(size: usize, name: &str, at: usize, rounds: &[Round]) -> [String; 6] {
    let shown = |value: Option<f64>| format!("{:.2}", value.unwrap_or(f64::NAN));
    let of = |round: &Round, at: usize| round.packets.get(at).copied().unwrap_or(f64::NAN);
    #[expect(clippy::cast_precision_loss, reason = "a few thousand bytes")]
    let bytes = size as f64;
    let speed = |round: &Round| bytes / of(round, at) * round.cycle;
    let ratio = |to| median_ratio(rounds.iter().map(|round| (of(round, at), of(round, to))));
    [
        grouped(size as u64),
        name.to_owned(),
        shown(median(rounds.iter().map(|round| of(round, at)))),
        shown(median(rounds.iter().map(speed))),
        shown(ratio(RING)),
        shown(ratio(BORINGTUN)),
    ]
}

fn round(contenders: &mut [Contender], size: usize) -> Round {
    let mut packet: Vec<u8> = (0..size).map(|at| at.to_le_bytes()[0]).collect();
    // boringtun looks at the version, and compares the length.
    let inner = u16::try_from(size).unwrap_or(u16::MAX).to_be_bytes();
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&inner);
    let cycle = cycle();
    let packets = contenders.iter_mut().map(|(_, take)| {
        let time = timed(|| {
            for _ in 0..PACKETS {
                take(black_box(&mut packet));
            }
        });
        #[expect(clippy::cast_precision_loss, reason = "ten thousand")]
        let packets = PACKETS as f64;
        nanoseconds(time) / packets
    });
    let packets = packets.collect();
    Round { cycle, packets }
}

fn contenders() -> Vec<Contender> {
    vec![
        ("ring", ring()),
        ("aws-lc-rs", aws_lc_rs()),
        ("RustCrypto", rust_crypto()),
        ("boringtun", boringtun(false)),
        ("copy, boringtun", boringtun(true)),
        ("Sealer", sealer()),
        ("Sealer, Responder", sealer_and_responder()),
    ]
}

/// Another nonce for each packet.
fn nonce(counter: &mut u64) -> [u8; 12] {
    *counter += 1;
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

const WORKS: &str = "the library seals";

fn ring() -> Take {
    let key = ring_aead::UnboundKey::new(&ring_aead::CHACHA20_POLY1305, &[7; 32]).expect(WORKS);
    let (key, mut counter) = (ring_aead::LessSafeKey::new(key), 0);
    Box::new(move |packet| {
        let nonce = ring_aead::Nonce::assume_unique_for_key(nonce(&mut counter));
        let tag = key.seal_in_place_separate_tag(nonce, ring_aead::Aad::empty(), packet);
        let _ = black_box(tag.expect(WORKS));
    })
}

fn aws_lc_rs() -> Take {
    let key = aws::UnboundKey::new(&aws::CHACHA20_POLY1305, &[7; 32]).expect(WORKS);
    let (key, mut counter) = (aws::LessSafeKey::new(key), 0);
    Box::new(move |packet| {
        let nonce = aws::Nonce::assume_unique_for_key(nonce(&mut counter));
        let tag = key.seal_in_place_separate_tag(nonce, aws::Aad::empty(), packet);
        let _ = black_box(tag.expect(WORKS));
    })
}

fn rust_crypto() -> Take {
    let (key, mut counter) = (ChaCha20Poly1305::new(&[7; 32].into()), 0);
    Box::new(move |packet| {
        let nonce = nonce(&mut counter);
        let tag = key.encrypt_in_place_detached(&nonce.into(), &[], packet);
        let _ = black_box(tag.expect(WORKS));
    })
}

/// Two ends of boringtun with a session; only one is used. `copies`: also copies the packet before.
fn boringtun(copies: bool) -> Take {
    let [one, two] = [[1; 32], [2; 32]].map(StaticSecret::from);
    let [public_one, public_two] = [(&one).into(), (&two).into()];
    let mut sender = Tunn::new(one, public_two, None, None, 1, None);
    let mut receiver = Tunn::new(two, public_one, None, None, 2, None);
    let (mut initiation, mut response) = ([0; 200], [0; 200]);
    let TunnResult::WriteToNetwork(initiation) =
        sender.format_handshake_initiation(&mut initiation, false)
    else {
        return Box::new(|_| {});
    };
    let TunnResult::WriteToNetwork(response) =
        receiver.decapsulate(None, initiation, &mut response)
    else {
        return Box::new(|_| {});
    };
    sender.decapsulate(None, response, &mut [0; 200]);
    let (mut scratch, mut out) = (vec![0; 2_000], vec![0; 2_000]);
    Box::new(move |packet| {
        let packet = if copies {
            let scratch = &mut scratch[..packet.len()];
            scratch.copy_from_slice(packet);
            scratch
        } else {
            packet
        };
        let sealed = sender.encapsulate(packet, &mut out);
        assert!(matches!(black_box(sealed), TunnResult::WriteToNetwork(_)));
    })
}

/// The inner header is written by the `Sealer`, so the frame is shorter.
fn sealer() -> Take {
    let now = Instant::now();
    let (mut worker, _) = session(now);
    let (mut scratch, mut out) = (Scratch::new(), vec![0; 2_000]);
    Box::new(move |packet| {
        let mut sealing = worker.begin(now, &mut scratch).expect("a new session");
        let sealed = sealing.seal(50_000, &[], &packet[INNER..], &mut out);
        black_box(sealed.expect("it fits"));
    })
}

fn sealer_and_responder() -> Take {
    let now = Instant::now();
    let (mut worker, mut responder) = session(now);
    let (mut scratch, mut out) = (Scratch::new(), vec![0; 2_000]);
    let (mut opened, mut replies) = (vec![0; 2_000], Replies::new());
    Box::new(move |packet| {
        let mut sealing = worker.begin(now, &mut scratch).expect("a new session");
        let length = sealing.seal(50_000, &[], &packet[INNER..], &mut out);
        let datagram = &out[..length.expect("it fits")];
        let received = responder.receive(datagram, FROM, now, &mut opened, &mut replies);
        assert!(black_box(received).is_ok());
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_takes_a_packet() {
        let mut contenders = contenders();
        assert_eq!(contenders[RING].0, "ring");
        assert_eq!(contenders[BORINGTUN].0, "boringtun");
        let round = round(&mut contenders, SIZES[0]);
        assert!(round.packets.iter().all(|time| *time > 0.0));
        assert_eq!(cells(128, "ring", RING, &[round])[4], "1.00");
    }
}
