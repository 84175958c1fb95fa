//! Counts the datagrams that have arrived at the sensor, from the kernel's own counters.
//!
//! In: the text of `/proc/net/udp` or of `/proc/net/dev` in the sensor's namespace. Out: a number of datagrams. At the
//! receiver's socket it is exact for all loads. Behind a tunnel this counts what the sensor's end has decrypted in
//! time. Where only podspan's part is wanted, the sealed datagrams are counted at the interface: their bytes
//! without the headers of the messages that they came in, divided by the length of one. This is exact for frames of one
//! length.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use testbed::Namespace;

use super::error::{Error, Result};
use super::stand::PORT;

const POLL: Duration = Duration::from_millis(2);
/// Ethernet, IPv4 and UDP headers of a message.
const HEADERS: u64 = 42;

/// Where datagrams are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At the receiver's socket.
    Receiver,
    /// On the sensor's interface, datagrams of so many bytes.
    Interface(u64),
}

/// Counts in the sensor's namespace.
#[derive(Debug, Clone, Copy)]
pub struct Counter<'a> {
    namespace: &'a Namespace,
    place: Place,
}

impl<'a> Counter<'a> {
    /// A counter at this place.
    #[must_use]
    pub const fn new(namespace: &'a Namespace, place: Place) -> Self {
        Self { namespace, place }
    }

    /// How many datagrams have arrived so far.
    ///
    /// # Errors
    /// [`Error::NoCounters`].
    pub fn arrived(self) -> Result<u64> {
        let read = |path: &'static str| {
            let text = self.namespace.run(|| fs::read_to_string(path));
            text.unwrap_or_default()
        };
        let arrived = match self.place {
            Place::Receiver => dropped_at(&read("/proc/thread-self/net/udp"), PORT),
            Place::Interface(length) => {
                let payload = payload_bytes(&read("/proc/thread-self/net/dev"));
                payload.map(|bytes| bytes / length.max(1))
            }
        };
        arrived.ok_or(Error::NoCounters)
    }

    /// Waits until so many datagrams have arrived in all, at most until `end`, and returns how many have.
    ///
    /// # Errors
    /// As [`Counter::arrived`].
    pub fn await_arrivals(self, wanted: u64, end: Instant) -> Result<u64> {
        loop {
            let arrived = self.arrived()?;
            if arrived >= wanted || Instant::now() >= end {
                return Ok(arrived);
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until nothing has arrived for `quiet`, at most for `limit`, and returns what has arrived.
    ///
    /// # Errors
    /// As [`Counter::arrived`].
    pub fn await_quiet(self, quiet: Duration, limit: Duration) -> Result<u64> {
        let end = Instant::now() + limit;
        let mut arrived = self.arrived()?;
        let mut since = Instant::now();
        while since.elapsed() < quiet && Instant::now() < end {
            thread::sleep(POLL);
            let now = self.arrived()?;
            if now != arrived {
                (arrived, since) = (now, Instant::now());
            }
        }
        Ok(arrived)
    }
}

/// Datagrams that found no room in the socket on this port of all addresses, of the text of `/proc/net/udp`.
fn dropped_at(text: &str, port: u16) -> Option<u64> {
    let local = format!("00000000:{port:04X}");
    let of_socket = |line: &&str| line.split_whitespace().nth(1) == Some(&local);
    let line = text.lines().find(of_socket)?;
    line.split_whitespace().last()?.parse().ok()
}

/// Bytes of all UDP payloads that `eth0` has received, of the text of `/proc/net/dev`.
fn payload_bytes(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    let numbers = lines.find_map(|line| line.trim_start().strip_prefix("eth0:"))?;
    let mut numbers = numbers.split_whitespace();
    let bytes: u64 = numbers.next()?.parse().ok()?;
    let messages: u64 = numbers.next()?.parse().ok()?;
    Some(bytes.saturating_sub(HEADERS * messages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drops_of_the_receivers_socket_are_read_and_not_those_of_others() {
        let line = |local: &str, drops: u32| {
            format!(
                "  12: {local} 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 90 2 0 {drops} \n"
            )
        };
        let head = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref \
                    pointer drops\n";
        let others = line("00000000:CA6C", 7) + &line("0100007F:12B5", 8);
        let text = head.to_owned() + &others + &line("00000000:12B5", 44);
        assert_eq!(dropped_at(&text, PORT), Some(44));
        assert_eq!(dropped_at(&(head.to_owned() + &others), PORT), None);
    }

    #[test]
    fn the_bytes_of_messages_of_several_datagrams_are_without_headers() {
        // One message with three datagrams of 196 bytes, one with a single one.
        let bytes = 2 * 42 + 4 * 196;
        let text = format!(
            "Inter-|   Receive                                                |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n    \
             lo: 999 9 0 0 0 0 0 0 999 9\n  eth0: {bytes}       2    0    0    0     0          0         0 77 1\n"
        );
        assert_eq!(payload_bytes(&text), Some(4 * 196));
        assert_eq!(payload_bytes("  lo: 1 1"), None);
    }
}
