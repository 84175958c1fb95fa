//! What the kinds of sockets cost that could send the copies to sensors that capture, and what each of them
//! gets wrong.
//!
//! In the pod, a thread sends the same VXLAN datagrams by each kind of socket ([`testbed::traffic::SocketKind`]), all
//! in turn, by `sendmmsg` and as fast as it can. Beside it are what podspan has beside it: a ring on the
//! pod's `eth0`, whose filter rejects the datagrams by their mark, and the client's load. The rows without
//! a ring show what the ring alone costs a sender. A turn's result is the thread's CPU time over its
//! datagrams; the table has medians over the rounds, and medians of the ratios to a connected UDP socket,
//! which is what podspan uses. All of them prepare their headers only once, which favours those that write
//! more headers.
//!
//! [`changes`] then shows what follows a change of the network.

pub mod changes;

use std::net::UdpSocket;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use capture::{BLOCK_LEN, Ring, RingConfig};
use nix::time::ClockId;
use testbed::Lab;
use testbed::traffic::{Family, Path, Sender, SocketKind, UdpStream, udp_stream};
use wire::InterfaceName;

use crate::agent::cpu_time;
use crate::cpu_per_packet::{FAST, FRAME};
use crate::error::{Error, Result};
use crate::statistics::{median, median_ratio};
use crate::table::{Align, Table};

/// A kind is worth its complexity from this part of the CPU time on that it saves.
pub const WORTH: f64 = 0.2;
const PORT: u16 = 4789;
const SOURCE_PORT: u16 = 61_000;
const MARK: u32 = 0x0070_6f64;
const RING: usize = 4 * BLOCK_LEN;
/// Datagrams of one system call: twenty cycles of the IMIX.
const BURST: usize = 240;
/// After this time the client's load is running.
const STARTED: Duration = Duration::from_millis(100);
/// Ethernet, IPv4 and UDP headers of the load.
const LOAD_HEADERS: usize = 14 + 20 + 8;

/// A kind of socket, with or without a ring on its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Case {
    name: &'static str,
    kind: SocketKind,
    ring: bool,
}

/// The first is what podspan does.
const CASES: [Case; 8] = [
    case("UDP, connected", SocketKind::ConnectedUdp, true),
    case("UDP, an address for each", SocketKind::Udp, true),
    case("raw IP", SocketKind::RawIp, true),
    case("packet socket", SocketKind::Packet, true),
    case(
        "packet socket, qdisc bypass",
        SocketKind::PacketBypass,
        true,
    ),
    case("packet ring, qdisc bypass", SocketKind::PacketRing, true),
    case(
        "UDP, connected, no capture",
        SocketKind::ConnectedUdp,
        false,
    ),
    case(
        "packet, bypass, no capture",
        SocketKind::PacketBypass,
        false,
    ),
];

const fn case(name: &'static str, kind: SocketKind, ring: bool) -> Case {
    Case { name, kind, ring }
}

/// Lengths of the inner frames: seven, four and one of the simple IMIX, without the frame check sequence. The
/// longest fits the tunnel.
const MIXES: [(&str, [usize; 12]); 3] = [
    ("128 bytes", [128; 12]),
    (
        "IMIX",
        [60, 590, 60, 60, 590, 60, 1450, 60, 590, 60, 590, 60],
    ),
    ("1,400 bytes", [1400; 12]),
];

/// CPU time per datagram in seconds: for each mix and each case, one value per round.
type Costs = Vec<Vec<Vec<f64>>>;

/// Measures all kinds with all mixes and returns the table. `packets`: datagrams of each turn. Calls
/// `progress` after each round.
///
/// # Errors
/// [`Error`]: of the lab, of a ring or of a socket.
pub fn table(rounds: u32, packets: u64, mut progress: impl FnMut(u32)) -> Result<Table> {
    let lab = Lab::builder().build()?;
    let _unread = receiver(&lab)?;
    let mut costs: Costs = vec![vec![Vec::new(); CASES.len()]; MIXES.len()];
    for round in 1..=rounds {
        for ((_, lengths), costs) in MIXES.iter().zip(&mut costs) {
            // In another order each time, so that no kind always comes after the same one.
            let first = round as usize % CASES.len();
            for number in (first..CASES.len()).chain(0..first) {
                costs[number].push(under_load(&lab, CASES[number], lengths, packets)?);
            }
        }
        progress(round);
    }
    Ok(shown(&costs))
}

fn shown(costs: &Costs) -> Table {
    let mut columns = vec![("sender", Align::Left)];
    for (mix, _) in MIXES {
        columns.extend([(mix, Align::Right), ("ratio", Align::Right)]);
    }
    columns.push(("saves a fifth", Align::Left));
    let mut table = Table::new(&columns);
    for (number, case) in CASES.iter().enumerate() {
        let mut row = vec![case.name.to_owned()];
        let mut best = f64::INFINITY;
        for costs in costs {
            let micros = median(costs[number].iter().copied()).unwrap_or(f64::NAN) * 1e6;
            let pairs = costs[number].iter().copied().zip(costs[0].iter().copied());
            let ratio = median_ratio(pairs).unwrap_or(f64::NAN);
            best = best.min(ratio);
            row.extend([format!("{micros:.2} us"), format!("{ratio:.2}")]);
        }
        // Without a capture there is nothing to mirror.
        let verdict = match case.ring {
            true if best <= 1.0 - WORTH => "yes",
            true => "no",
            false => "-",
        };
        row.push(verdict.to_owned());
        table.row(row);
    }
    table
}

/// One turn, while the client sends.
fn under_load(lab: &Lab, case: Case, lengths: &[usize], packets: u64) -> Result<f64> {
    let payloads: Vec<Vec<u8>> = lengths
        .iter()
        .cycle()
        .take(BURST)
        .map(|length| payload(*length))
        .collect();
    let ring = case.ring.then(|| ring(lab)).transpose()?;
    let over = AtomicBool::new(false);
    let cost = thread::scope(|scope| {
        let load = scope.spawn(|| load(lab, &over));
        thread::sleep(STARTED);
        let cost = cost(lab, case.kind, &payloads, packets);
        over.store(true, Ordering::Relaxed);
        load.join().map_err(|_| Error::LoadFailed)??;
        cost
    });
    drop(ring);
    cost
}

/// Sends until `over`, in parts, because a stream has a length.
fn load(lab: &Lab, over: &AtomicBool) -> Result<()> {
    let part = UdpStream {
        size: FRAME - LOAD_HEADERS,
        count: FAST / 5,
        per_second: FAST,
    };
    while !over.load(Ordering::Relaxed) {
        udp_stream(&lab.client, &lab.pod, Family::V4, part)?;
    }
    Ok(())
}

fn cost(lab: &Lab, kind: SocketKind, payloads: &[Vec<u8>], packets: u64) -> Result<f64> {
    let mut sender = Sender::open(kind, path(lab), payloads)?;
    sender.send()?;
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    let (before, mut sent) = (cpu_time(clock)?, 0);
    while sent < packets {
        sent += sender.send()?;
    }
    let used = cpu_time(clock)?.saturating_sub(before).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "some hundred thousand")]
    let each = used / sent as f64;
    Ok(each)
}

fn path(lab: &Lab) -> Path<'_> {
    Path {
        from: &lab.pod,
        to: &lab.sensor,
        source_port: SOURCE_PORT,
        port: PORT,
        mark: MARK,
    }
}

/// Nobody reads from it. Without it, the sensor answers each datagram with an ICMP error.
fn receiver(lab: &Lab) -> Result<UdpSocket> {
    let bind = || UdpSocket::bind((lab.sensor.ipv4, PORT));
    let bound = lab.sensor.namespace.run(bind);
    bound.map_err(|source| Error::Io {
        doing: "opening a UDP socket in the lab",
        source,
    })
}

/// A ring that nobody reads, so that reading it is not measured.
fn ring(lab: &Lab) -> Result<Ring> {
    let interface: InterfaceName = "eth0".parse().map_err(|_| Error::NotBound)?;
    let mark = NonZeroU32::new(MARK).ok_or(Error::NotBound)?;
    let open = || Ring::open(interface, &RingConfig::new(RING, mark));
    let mut ring = lab.pod.namespace.run(open).map_err(Error::Ring)?;
    let bound = ring.refresh().map_err(|source| Error::Io {
        doing: "binding a ring",
        source,
    })?;
    bound.map(|_| ring).ok_or(Error::NotBound)
}

/// A VXLAN header and a frame of this length.
fn payload(length: usize) -> Vec<u8> {
    let mut payload = vec![0x08, 0, 0, 0, 0, 0, 1, 0];
    payload.resize(payload.len() + length, 0x5a);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_to_the_first_case_in_the_same_round() {
        // The machine gets slower; the second kind always needs three quarters of the first's time.
        let of = |part: f64| vec![1e-6 * part, 2e-6 * part, 4e-6 * part];
        let one_mix: Vec<Vec<f64>> = (0..CASES.len())
            .map(|number| of(if number == 1 { 0.75 } else { 1.0 }))
            .collect();
        let table = shown(&vec![one_mix; MIXES.len()]).to_string();
        let row = |number: usize| {
            let line = table.lines().nth(number + 1).unwrap();
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect::<Vec<_>>()
        };
        assert_eq!(row(0)[1..3], ["2.00 us", "1.00"], "{table}");
        assert_eq!(row(1)[1..3], ["1.50 us", "0.75"], "{table}");
        assert_eq!(
            (row(0)[7], row(1)[7], row(7)[7]),
            ("no", "yes", "-"),
            "{table}"
        );
    }

    #[test]
    fn a_burst_has_whole_cycles_of_each_mix() {
        for (_, lengths) in MIXES {
            assert_eq!(BURST % lengths.len(), 0);
            let longest = lengths.iter().max().unwrap();
            assert!(longest + 50 <= 1514, "the copy fits the MTU");
        }
    }
}
