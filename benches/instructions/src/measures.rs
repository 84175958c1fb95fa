//! The measured parts. Each takes recorded frames, prepares its input, runs once without being counted,
//! so that nothing is allocated for the first time, and then once inside `counted`.
//!
//! What is counted, for all frames of the recording:
//!
//! | measure | what |
//! |-|-|
//! | locate | [`ip::locate`] |
//! | hash | both hashes of a frame, with `SPREAD=flows` |
//! | checksum | the sum of each packet from its transport header on |
//! | whole | [`Mirror::push`] of the frames that are sent whole |
//! | segment | [`Mirror::push`] of the frames that are split, by `gso_size` or for the tunnel |
//! | plan | [`Plan::make`] of full batches |
//! | runs | dividing full batches into runs ([`Search::divide`]), with trailers |
//! | `runs_equal` | the same for as many datagrams of one length |
//! | `runs_bulk` | the same for as many of bulk TCP: data in frames of 64 KiB, and acknowledgements |
//! | batch | the outcome of each datagram, and [`Batch::count_outcomes`], of full batches |
//! | send | podspan's part of sending full batches to a sensor that captures ([`Transmitter::send`]) |
//!
//! Callgrind counts between the call of `counted` and its return (`--toggle-collect`).

use std::hint::black_box;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use mirror::plan::Plan;
use mirror::runs::{Candidate, Search};
use mirror::spread::Spreader;
use mirror::{
    Batch, Mirror, MirrorConfig, Outcome, Sensor, SensorTable, SourcePorts, Spread, Totals,
    TrailerBound,
};
use transmit::{SocketConfig, Transmitter};
use wire::checksum::Sum;
use wire::ip::{self, Network};
use wire::{Frame, Mtu, Vni};

use crate::recording::Recording;

/// A part that is measured.
pub type Measure = fn(&Recording);

/// All of them, with their names.
pub const MEASURES: [(&str, Measure); 11] = [
    ("locate", locate),
    ("hash", hash),
    ("checksum", checksum),
    ("whole", whole),
    ("segment", segment),
    ("plan", plan),
    ("runs", find_runs),
    ("runs_equal", find_equal_runs),
    ("runs_bulk", find_bulk_runs),
    ("batch", batch),
    ("send", send),
];

/// How many full batches are planned and counted.
const BATCHES: usize = 4;
/// The datagrams of a full batch with one sensor.
const BATCH: usize = 512;

/// Callgrind counts inside this function. Nothing else may have its name.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
}

/// Runs a part twice and has the second time counted.
fn measured(mut work: impl FnMut()) {
    work();
    counted(&mut work);
}

fn locate(recording: &Recording) {
    let frames: Vec<Frame<'_>> = recording.frames().collect();
    measured(|| {
        for frame in &frames {
            black_box(ip::locate(black_box(frame)));
        }
    });
}

fn hash(recording: &Recording) {
    let frames = located(recording);
    let mut spreader = Spreader::new(Spread::Flows);
    measured(|| {
        for (frame, network) in &frames {
            black_box(spreader.hashes(black_box(frame), black_box(network)));
        }
    });
}

fn checksum(recording: &Recording) {
    let frames = located(recording);
    let packets: Vec<&[u8]> = frames
        .iter()
        .filter_map(|(frame, network)| match network {
            Network::Ip(packet) => frame.bytes.get(packet.transport..packet.end),
            _ => None,
        })
        .collect();
    measured(|| {
        for packet in &packets {
            black_box(Sum::of(black_box(packet)).finish());
        }
    });
}

fn whole(recording: &Recording) {
    push(recording, |datagrams| datagrams == 1);
}

fn segment(recording: &Recording) {
    push(recording, |datagrams| datagrams > 1);
}

/// Pushes the frames that become a wanted number of datagrams.
fn push(recording: &Recording, wanted: fn(usize) -> bool) {
    let table = table();
    let frames = recording.frames();
    let frames: Vec<Frame<'_>> = frames
        .filter(|frame| wanted(datagrams(frame, &table)))
        .collect();
    let mut mirror = mirror();
    let (mut batch, mut totals) = (Batch::new(), Totals::default());
    measured(|| {
        for frame in &frames {
            mirror.push(black_box(frame), &table, &mut batch, &mut totals);
            if batch.is_full(&table) {
                batch.count_outcomes(&mut totals);
            }
        }
        batch.count_outcomes(&mut totals);
    });
    black_box(totals);
}

fn plan(recording: &Recording) {
    let (table, batches) = (table(), full_batches(recording));
    let mut plan = Plan::default();
    measured(|| {
        for batch in &batches {
            plan.make(black_box(batch.datagrams()), batch.slots(), &table);
            black_box(plan.groups().count());
        }
    });
}

fn find_runs(recording: &Recording) {
    let batches = full_batches(recording);
    let candidates = |batch: &Batch| batch.datagrams().iter().map(Candidate::from).collect();
    divide(&batches.iter().map(candidates).collect::<Vec<_>>());
}

fn find_equal_runs(_: &Recording) {
    let batch = vec![candidate(136); BATCH];
    divide(&vec![batch; BATCHES]);
}

fn find_bulk_runs(_: &Recording) {
    let mut data = vec![candidate(1522); 44];
    data.push(candidate(1234));
    // Two frames, and what acknowledges them.
    let all = [data.clone(), data, vec![candidate(74)]].concat();
    let batch = all.into_iter().cycle().take(BATCH).collect();
    divide(&vec![batch; BATCHES]);
}

const fn candidate(length: u32) -> Candidate {
    Candidate {
        length,
        shows_end: true,
    }
}

fn divide(batches: &[Vec<Candidate>]) {
    let mut search = Search::default();
    measured(|| {
        for batch in batches {
            black_box(search.divide(black_box(batch).iter().copied(), TrailerBound::DEFAULT));
        }
    });
}

fn batch(recording: &Recording) {
    let mut totals = Totals::default();
    let mut uncounted = full_batches(recording);
    let mut batches = full_batches(recording);
    let mut work = |batches: &mut [Batch]| {
        for batch in batches {
            for outcome in batch.parts().outcomes {
                *outcome = Outcome::Sent;
            }
            batch.count_outcomes(&mut totals);
        }
    };
    work(&mut uncounted);
    counted(&mut || work(&mut batches));
    black_box(totals);
}

/// Callgrind does not count what the kernel does. musl's sendmmsg is counted: it calls sendmsg for each message,
/// 64 instructions for each, which glibc's does not. The receiver reads nothing: the kernel drops what does not fit
/// its buffer, and the sender's buffer is always free.
fn send(recording: &Recording) {
    let opened = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|receiver| {
        let to = receiver.local_addr()?;
        // Without a mark no capability is needed.
        let transmitter = Transmitter::open(&SocketConfig::new(0)).map_err(io::Error::other)?;
        Ok((receiver, to, transmitter))
    });
    // Without sockets nothing is counted, which is an error of the command.
    let Ok((_receiver, to, mut transmitter)) = opened else {
        return;
    };
    let table = SensorTable::new(vec![Sensor::new(to, Mtu::ETHERNET)]);
    let mut batches = full_batches(recording);
    let mut block = recording.block().to_vec();
    measured(|| {
        for batch in &mut batches {
            black_box(transmitter.send(batch, &mut block[..], &table));
        }
    });
}

fn located(recording: &Recording) -> Vec<(Frame<'_>, Network)> {
    let frames = recording.frames();
    frames.map(|frame| (frame, ip::locate(&frame))).collect()
}

/// Batches of as many datagrams as are sent at once.
fn full_batches(recording: &Recording) -> Vec<Batch> {
    let (table, mut mirror, mut totals) = (table(), mirror(), Totals::default());
    let frames: Vec<Frame<'_>> = recording.frames().collect();
    let mut endless = frames.iter().cycle();
    let mut full = || {
        let mut batch = Batch::new();
        while !batch.is_full(&table) {
            let Some(frame) = endless.next() else { break };
            mirror.push(frame, &table, &mut batch, &mut totals);
        }
        batch
    };
    (0..BATCHES).map(|_| full()).collect()
}

/// What the copies of these frames are to the search for runs, in their order, with one sensor.
#[must_use]
pub fn candidates<'a>(frames: impl Iterator<Item = Frame<'a>>) -> Vec<Candidate> {
    let (table, mut mirror, mut totals) = (table(), mirror(), Totals::default());
    let copies = frames.flat_map(|frame| {
        let mut batch = Batch::new();
        mirror.push(&frame, &table, &mut batch, &mut totals);
        let datagrams = batch.datagrams().iter().map(Candidate::from);
        datagrams.collect::<Vec<_>>()
    });
    copies.collect()
}

/// How many datagrams a frame becomes.
fn datagrams(frame: &Frame<'_>, table: &SensorTable) -> usize {
    let mut batch = Batch::new();
    mirror().push(frame, table, &mut batch, &mut Totals::default());
    batch.datagrams().len()
}

/// One sensor, whose path has the MTU of the pod's interface, as in most clusters.
fn table() -> SensorTable {
    let address = SocketAddr::from((Ipv4Addr::new(10, 77, 0, 3), 4789));
    SensorTable::new(vec![Sensor::new(address, Mtu::ETHERNET)])
}

fn mirror() -> Mirror {
    Mirror::new(MirrorConfig {
        vni: Vni::MAX,
        spread: Spread::Hosts,
        source_ports: SourcePorts::ONE,
        own_ports: vec![40_000],
        tunnel_port: None,
        first_identification: 0,
    })
}
