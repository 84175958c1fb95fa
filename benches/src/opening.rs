//! What the sensor's end of a tunnel costs: `podspan-receive` and wireguard-go, each with the same copies in turns.
//!
//! The datagrams are sealed before, and sent with UDP GSO as podspan sends them, on `lo` of one namespace. Not more than
//! a window of them is on its way, so that nothing finds a full buffer, and each end is woken up once a window. What comes
//! out is counted at a UDP socket: the sensor. CPU time is that of the whole process, user and system; it has the way of
//! the datagram to the sensor's socket in it. The time of a cycle is measured before each turn.
//!
//! With several threads the datagrams come from several podspans, because the kernel gives each podspan to one thread
//! (`SO_REUSEPORT`).

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::SockRef;
use testbed::{Namespace, Process, WireguardEnd, build_wireguard};
use tunnel::initiator::{Answer, Established, Identity, Initiator, InitiatorConfig};
use tunnel::protocol::INITIATION_LEN;
use tunnel::sealer::Scratch;
use tunnel::{Inner, PresharedKey, PrivateKey, Sealer};

use crate::cycles::cycle;
use crate::error::{Error, Result};
use crate::statistics::{median, median_ratio};
use crate::table::{Align, Table, grouped};

/// Bytes of the mirrored frames.
const FRAMES: [usize; 2] = [128, 1400];
/// Datagrams that each end takes in a round.
const DATAGRAMS: usize = 20_480;
/// Datagrams that are on their way at a time: as many as fit the default buffers.
const WINDOW: usize = 128;
/// Podspans that send to an end with several threads.
const PODSPANS: usize = 16;
/// A message with several datagrams has at most so many bytes, and at most [`RUN_MAX`] datagrams.
const MESSAGE_MAX: usize = 65_000;
const RUN_MAX: usize = 64;
/// The VXLAN header.
const VXLAN: [u8; 8] = [8, 0, 0, 0, 0, 0, 1, 0];
/// Longer than a handshake or a window takes.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a datagram is waited for before it counts as lost.
const LOST: Duration = Duration::from_millis(500);

/// The keys of all ends.
struct Keys {
    podspan: PrivateKey,
    sensor: PrivateKey,
    preshared: PresharedKey,
}

/// One end with its sensor.
struct End {
    name: &'static str,
    process: Process,
    /// How many podspans send to it.
    podspans: usize,
    /// Where it receives.
    port: u16,
    /// Where the datagrams come out.
    sensor: UdpSocket,
}

/// What one end did in one round.
struct Turn {
    cycle: f64,
    /// Nanoseconds of CPU time for a datagram that arrived.
    datagram: f64,
    lost: usize,
}

/// Measures all sizes. `binary` is `podspan-receive`.
///
/// # Errors
/// When an end cannot be started, or gives no session.
pub fn table(binary: &Path, rounds: usize, mut progress: impl FnMut(usize)) -> Result<Table> {
    let namespace = Namespace::new()?;
    let keys = Keys {
        podspan: PrivateKey::generate(),
        sensor: PrivateKey::generate(),
        preshared: PresharedKey::generate(),
    };
    let folder = tempfile::tempdir().map_err(failed("making a temporary folder"))?;
    let receive = |receiver, threads, port| {
        receive(
            binary,
            &namespace,
            folder.path(),
            &keys,
            (receiver, threads),
            port,
        )
    };
    let ends = [
        receive("socket", 1, 51_820)?,
        receive("socket", 2, 51_821)?,
        receive("sniffer", 1, 51_822)?,
        wireguard(&namespace, &keys, 51_823)?,
    ];
    let mut table = Table::new(&[
        ("frame", Align::Right),
        ("", Align::Left),
        ("ns", Align::Right),
        ("cycles", Align::Right),
        ("datagrams/s of a core", Align::Right),
        ("/ wireguard-go", Align::Right),
        ("lost", Align::Right),
    ]);
    for frame in FRAMES {
        let mut all = Vec::new();
        for number in 1..=rounds {
            progress(number);
            let turns = ends
                .iter()
                .map(|end| turn(end, &namespace, &keys, frame))
                .collect::<Result<Vec<Turn>>>()?;
            all.push(turns);
        }
        for (at, end) in ends.iter().enumerate() {
            table.row(cells(frame, end.name, at, &all));
        }
    }
    Ok(table)
}

fn failed(doing: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { doing, source }
}

fn cells(frame: usize, name: &str, at: usize, rounds: &[Vec<Turn>]) -> [String; 7] {
    let turns = || rounds.iter().filter_map(|turns| turns.get(at));
    let nanoseconds = median(turns().map(|turn| turn.datagram)).unwrap_or(f64::NAN);
    let cycles = median(turns().map(|turn| turn.datagram / turn.cycle)).unwrap_or(f64::NAN);
    let pairs = rounds.iter().filter_map(|turns| {
        let wireguard = turns.last()?;
        Some((turns.get(at)?.datagram, wireguard.datagram))
    });
    let ratio = median_ratio(pairs).unwrap_or(f64::NAN);
    let lost: usize = turns().map(|turn| turn.lost).sum();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some million"
    )]
    let per_second = (1e9 / nanoseconds) as u64;
    [
        grouped(frame as u64),
        name.to_owned(),
        format!("{nanoseconds:.0}"),
        format!("{cycles:.0}"),
        grouped(per_second),
        format!("{ratio:.2}"),
        lost.to_string(),
    ]
}

fn receive(
    binary: &Path,
    namespace: &Namespace,
    folder: &Path,
    keys: &Keys,
    (receiver, threads): (&'static str, usize),
    port: u16,
) -> Result<End> {
    let write = |name: &str, text: &str| -> Result<PathBuf> {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(failed("writing a key"))?;
        Ok(path)
    };
    let sensor = bind(namespace, Ipv4Addr::LOCALHOST, 0)?;
    let forward = sensor.local_addr().map_err(failed("reading an address"))?;
    let mut command = namespace.command(binary);
    command
        .env("LISTEN", format!("127.0.0.1:{port}"))
        .env("FORWARD", forward.to_string())
        .env("RECEIVER", receiver)
        .env("THREADS", threads.to_string())
        .env("METRICS", "off")
        .env(
            "PRIVATE_KEY_FILE",
            write("private", &keys.sensor.to_base64())?,
        )
        .env(
            "PRESHARED_KEYS_FILE",
            write("preshared", &keys.preshared.to_base64())?,
        );
    let mut process = Process::spawn(command)?;
    process.wait_for_output("receives", LIMIT)?;
    Ok(End {
        name: match (receiver, threads) {
            ("socket", 1) => "podspan-receive, socket",
            ("socket", _) => "podspan-receive, socket, 2 threads",
            _ => "podspan-receive, sniffer",
        },
        process,
        podspans: if threads == 1 { 1 } else { PODSPANS },
        port,
        sensor,
    })
}

fn wireguard(namespace: &Namespace, keys: &Keys, port: u16) -> Result<End> {
    let Inner::V4 {
        source,
        destination,
    } = Inner::DEFAULT
    else {
        return Err(Error::Tunnel(
            "the addresses in the tunnel are not IPv4".to_owned(),
        ));
    };
    let end = WireguardEnd {
        private: keys.sensor.secret().to_bytes(),
        peer: *keys.podspan.public().as_bytes(),
        preshared: keys.preshared.bytes(),
        port,
        endpoint: None,
        address: destination.into(),
        other: source.into(),
        mtu: WireguardEnd::MTU,
    };
    let program = build_wireguard().map_err(|error| Error::Tunnel(error.to_string()))?;
    let process = end.start(program, namespace, None)?;
    Ok(End {
        name: "wireguard-go",
        process,
        podspans: 1,
        port,
        sensor: bind(namespace, destination, 4789)?,
    })
}

fn bind(namespace: &Namespace, address: Ipv4Addr, port: u16) -> Result<UdpSocket> {
    let socket = namespace
        .run(|| UdpSocket::bind((address, port)))
        .map_err(failed("opening a socket"))?;
    socket
        .set_read_timeout(Some(LOST))
        .map_err(failed("setting a socket's time"))?;
    // As much as the kernel allows.
    SockRef::from(&socket)
        .set_recv_buffer_size(4 << 20)
        .map_err(failed("setting a socket's buffer"))?;
    Ok(socket)
}

/// A podspan: its socket, and what it sends in a round.
struct Podspan {
    socket: UdpSocket,
    datagrams: Vec<u8>,
}

/// One end takes all datagrams of a round.
fn turn(end: &End, namespace: &Namespace, keys: &Keys, frame: usize) -> Result<Turn> {
    let mut length = 0;
    let mut podspans = Vec::new();
    for _ in 0..end.podspans {
        let (podspan, of_datagram) = podspan(end, namespace, keys, frame)?;
        podspans.push(podspan);
        length = of_datagram;
    }
    let message = (MESSAGE_MAX / length).clamp(1, RUN_MAX) * length;
    let part = WINDOW / end.podspans * length;
    let (cycle, before, mut lost) = (cycle(), end.process.cpu_time()?, 0);
    for window in 0..DATAGRAMS / WINDOW {
        for podspan in &podspans {
            let part_of_window = podspan
                .datagrams
                .chunks(part)
                .nth(window)
                .unwrap_or_default();
            for message in part_of_window.chunks(message) {
                podspan.socket.send(message).map_err(failed("sending"))?;
            }
        }
        lost += missing(&end.sensor, WINDOW);
    }
    let time = end.process.cpu_time()?.saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "some thousand")]
    let arrived = (DATAGRAMS - lost) as f64;
    Ok(Turn {
        cycle,
        datagram: time.as_secs_f64() * 1e9 / arrived,
        lost,
    })
}

/// A podspan with a session, and the length of its datagrams.
fn podspan(
    end: &End,
    namespace: &Namespace,
    keys: &Keys,
    frame: usize,
) -> Result<(Podspan, usize)> {
    let socket = bind(namespace, Ipv4Addr::LOCALHOST, 0)?;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, end.port));
    socket.connect(to).map_err(failed("connecting a socket"))?;
    // wireguard-go has a list of its peers. With one key, several podspans would be one that moves.
    let identity = if end.podspans == 1 {
        Identity::Fixed(keys.podspan.clone())
    } else {
        Identity::Fresh
    };
    let mut sealer = session(&socket, identity, keys)?;
    let body = vec![0x5a; frame];
    let length = sealer.sealed_len(VXLAN.len() + body.len());
    let mut all = vec![0; length * DATAGRAMS / end.podspans];
    let mut scratch = Scratch::new();
    for datagram in all.chunks_mut(length) {
        let no_session = || Error::Tunnel("the session has ended".to_owned());
        let mut sealing = sealer
            .begin(Instant::now(), &mut scratch)
            .map_err(|_| no_session())?;
        sealing
            .seal(50_000, &VXLAN, &body, datagram)
            .map_err(|_| no_session())?;
    }
    let segment = i32::try_from(length).unwrap_or(i32::MAX);
    setsockopt(&socket, sockopt::UdpGsoSegment, &segment).map_err(|source| Error::System {
        doing: "asking for UDP GSO",
        source,
    })?;
    let datagrams = all;
    Ok((Podspan { socket, datagrams }, length))
}

/// Reads so many datagrams; returns how many did not come.
fn missing(sensor: &UdpSocket, count: usize) -> usize {
    let mut bytes = [0; 2048];
    let arrived = (0..count)
        .take_while(|_| sensor.recv(&mut bytes).is_ok())
        .count();
    count - arrived
}

/// A session by a handshake.
fn session(socket: &UdpSocket, identity: Identity, keys: &Keys) -> Result<Sealer> {
    let config = InitiatorConfig {
        identity,
        sensor: keys.sensor.public(),
        preshared: keys.preshared.clone(),
        inner: Inner::DEFAULT,
    };
    let begun = Instant::now();
    let mut initiator = Initiator::new(config, Initiator::random_seed(), begun);
    let mut bytes = [0; 2048];
    while begun.elapsed() < LIMIT {
        let mut initiation = [0; INITIATION_LEN];
        if let Some(initiation) = initiator.poll(Instant::now(), &mut initiation) {
            socket.send(initiation).map_err(failed("sending"))?;
        }
        let Ok(length) = socket.recv(&mut bytes) else {
            continue;
        };
        let answer = bytes.get(..length).unwrap_or_default();
        if let Ok(Answer::Established(Established { sealer, confirm })) =
            initiator.receive(answer, Instant::now())
        {
            socket.send(&confirm).map_err(failed("sending"))?;
            return Ok(sealer);
        }
    }
    Err(Error::Tunnel(format!("no session within {LIMIT:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_the_last_end_in_the_same_round() {
        let turn = |datagram, lost| Turn {
            cycle: 0.5,
            datagram,
            lost,
        };
        let rounds = [
            vec![turn(100.0, 1), turn(400.0, 0)],
            vec![turn(200.0, 2), turn(800.0, 0)],
            vec![turn(300.0, 0), turn(1200.0, 0)],
        ];
        let expected = ["128", "a", "200", "400", "5,000,000", "0.25", "3"];
        assert_eq!(cells(128, "a", 0, &rounds), expected);
        assert_eq!(cells(128, "b", 1, &rounds)[5], "1.00");
    }
}
