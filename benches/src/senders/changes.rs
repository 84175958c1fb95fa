//! What a kind of socket does after the network has changed.
//!
//! For each kind and each change there is a new lab. A sender is opened there, then the network changes, then
//! the sender sends some datagrams, and the sensor's interface shows how many arrive. A change either moves the
//! way of the datagrams, or forbids them: a kind obeys if they arrive in the first case, and if they do not in
//! the second. Where datagrams are lost, it matters whether the sender gets an error, because podspan counts
//! what it could not send and reacts to it.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use testbed::traffic::{Sender, SocketKind, await_ping};
use testbed::{Direction, Filter, Frame, Lab, Sniffer};

use crate::error::{Error, Result};
use crate::table::{Align, Table};

use super::{PORT, path, payload, receiver};

/// How many datagrams are sent after a change.
const DATAGRAMS: usize = 10;
/// An inner frame that fits the link, but not the narrower path.
const FRAME: usize = 1400;
const NARROW: u32 = 1300;
const LIMIT: Duration = Duration::from_secs(10);

/// A change of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// The sensor's Ethernet address.
    Neighbour,
    /// The route to the sensor is withdrawn.
    Route,
    /// The path's MTU is below the datagrams.
    PathMtu,
    /// A rule of netfilter in the pod drops the datagrams.
    Firewall,
    /// The queueing discipline of the pod's interface drops everything.
    Qdisc,
    /// None: whether a capture in the pod shows the datagrams.
    Capture,
}

const CHANGES: [(&str, Change); 6] = [
    ("neighbour", Change::Neighbour),
    ("route", Change::Route),
    ("path MTU", Change::PathMtu),
    ("firewall", Change::Firewall),
    ("qdisc", Change::Qdisc),
    ("capture", Change::Capture),
];

/// What happened to the datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    refused: bool,
    arrived: usize,
    captured: usize,
}

impl Change {
    fn verdict(self, seen: Seen) -> &'static str {
        match self {
            Self::Neighbour if seen.arrived == DATAGRAMS => "follows",
            Self::Neighbour => "lost",
            Self::Capture if seen.captured == DATAGRAMS => "seen",
            Self::Capture => "hidden",
            _ if seen.arrived > 0 => "ignored",
            _ if seen.refused => "error",
            _ => "dropped",
        }
    }

    fn make(self, lab: &Lab) -> Result<()> {
        let sensor = lab.sensor.ipv4.to_string();
        let pod = |program: &str, words: &str| run(lab.pod.namespace.command(program), words);
        match self {
            Self::Neighbour => {
                lab.sensor.eth0.set_mac([2, 0, 0, 0, 9, 9])?;
                // As if the pod's kernel had learned it, which takes it up to a minute.
                pod("ip", "neigh flush dev eth0")?;
                await_ping(&lab.pod.namespace, IpAddr::from(lab.sensor.ipv4), LIMIT)?;
                Ok(())
            }
            Self::Route => pod("ip", &format!("route add unreachable {sensor}/32")),
            Self::PathMtu => {
                lab.pod
                    .eth0
                    .add_route_with_mtu(lab.sensor.ipv4.into(), NARROW)?;
                Ok(())
            }
            Self::Firewall => {
                pod("nft", "add table ip t")?;
                pod(
                    "nft",
                    "add chain ip t c { type filter hook output priority 0 ; }",
                )?;
                pod("nft", &format!("add rule ip t c udp dport {PORT} drop"))
            }
            Self::Qdisc => pod(
                "tc",
                "qdisc add dev eth0 root handle 1: tbf rate 8bit burst 60 limit 1",
            ),
            Self::Capture => Ok(()),
        }
    }
}

/// Tries every kind with every change.
///
/// # Errors
/// [`Error`]: of the lab, or of a program that changes the network.
pub fn table() -> Result<Table> {
    let mut columns = vec![("sender", Align::Left)];
    columns.extend(CHANGES.map(|(name, _)| (name, Align::Left)));
    let mut table = Table::new(&columns);
    for (name, kind) in [
        ("UDP, connected", SocketKind::ConnectedUdp),
        ("UDP, an address for each", SocketKind::Udp),
        ("raw IP", SocketKind::RawIp),
        ("packet socket", SocketKind::Packet),
        ("packet socket, qdisc bypass", SocketKind::PacketBypass),
        ("packet ring, qdisc bypass", SocketKind::PacketRing),
    ] {
        let mut row = vec![name.to_owned()];
        for (_, change) in CHANGES {
            row.push(change.verdict(observe(kind, change)?).to_owned());
        }
        table.row(row);
    }
    Ok(table)
}

fn observe(kind: SocketKind, change: Change) -> Result<Seen> {
    let lab = Lab::builder().build()?;
    let _unread = receiver(&lab)?;
    let payloads = vec![payload(FRAME); DATAGRAMS];
    let mut sender = Sender::open(kind, path(&lab), &payloads)?;
    change.make(&lab)?;
    let at_sensor = Sniffer::to_memory(&lab.sensor.namespace, "eth0", Filter::Incoming)?;
    let at_pod = Sniffer::to_memory(&lab.pod.namespace, "eth0", Filter::Outgoing)?;
    let refused = sender.send().is_err();
    let ((at_sensor, _), (at_pod, _)) = (at_sensor.stop()?, at_pod.stop()?);
    Ok(Seen {
        refused,
        arrived: count(&at_sensor),
        captured: count(&at_pod),
    })
}

/// The datagrams for this host, or those that it sent.
fn count(frames: &[Frame]) -> usize {
    let is_ours = |frame: &&Frame| {
        matches!(frame.direction, Direction::Host | Direction::Outgoing)
            && frame.bytes.get(12..14) == Some(&[0x08, 0x00])
            && frame.bytes.get(23) == Some(&17)
            && frame.bytes.get(36..38) == Some(&PORT.to_be_bytes())
    };
    frames.iter().filter(is_ours).count()
}

fn run(mut command: Command, words: &str) -> Result<()> {
    let output = command.args(words.split(' ')).output();
    let output = output.map_err(|source| Error::Io {
        doing: "changing the lab's network",
        source,
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Change {
        text: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_says_what_happened_to_the_datagrams() {
        let seen = |refused, arrived, captured| Seen {
            refused,
            arrived,
            captured,
        };
        for (change, seen, verdict) in [
            (Change::Neighbour, seen(false, DATAGRAMS, 0), "follows"),
            (Change::Neighbour, seen(false, 0, 0), "lost"),
            (Change::Capture, seen(false, 0, DATAGRAMS), "seen"),
            (Change::Capture, seen(false, DATAGRAMS, 0), "hidden"),
            (Change::Firewall, seen(false, DATAGRAMS, 0), "ignored"),
            (Change::Firewall, seen(true, 0, 0), "error"),
            (Change::PathMtu, seen(false, 0, 0), "dropped"),
        ] {
            assert_eq!(change.verdict(seen), verdict, "{change:?}");
        }
    }
}
