//! Gives the copies to the sensor.
//!
//! In: VXLAN datagrams, opened one after the other into one arena. Out: the same datagrams in the same order at the
//! sensor's address, and counts. To a sniffer each datagram is a message of its own, because a capture on the loopback
//! interface would see several as one; with a checksum of zero, because it would see an unfinished one. To a socket or a
//! vxlan device, neighbours of one length are one message, which the kernel divides (UDP GSO).
//!
//! Invariant: every datagram that was pushed is counted once, as forwarded or as dropped.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::AsFd as _;

use mirror::runs::RUN_MAX;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, SockAddr, Socket, Type};
use transmit::{DROP_EVERYTHING, Messages, Run, without_checksums};

use crate::config::Receiver;
use crate::socket::BATCH_MAX;

/// The send buffer that is asked for; the kernel allows at most `net.core.wmem_max`.
const SEND_BUFFER: usize = 16 << 20;
/// A message has at most so many bytes in all of its datagrams.
const MESSAGE_MAX: usize = 65_000;
/// How long a full send buffer is waited for, in milliseconds.
const FULL_WAIT: u8 = 10;

/// What became of opened datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// The kernel took them.
    pub(crate) forwarded: u64,
    /// The send buffer stayed full.
    pub(crate) queue_full: u64,
    /// The kernel refused them for another reason.
    pub(crate) send_error: u64,
}

/// The way to the sensor.
pub(crate) struct Forward {
    socket: Socket,
    to: SockAddr,
    receiver: Receiver,
    arena: Vec<u8>,
    used: usize,
    datagrams: Vec<Range<usize>>,
    messages: Messages,
    /// How many datagrams each message has.
    lengths: Vec<usize>,
    counts: Counts,
}

impl Forward {
    pub(crate) fn open(to: SocketAddr, receiver: Receiver) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_send_buffer_size(SEND_BUFFER)?;
        if receiver == Receiver::Sniffer {
            without_checksums(&socket, to.is_ipv6())?;
        }
        Ok(Self {
            socket,
            to: to.into(),
            receiver,
            arena: vec![0; BATCH_MAX],
            used: 0,
            datagrams: Vec::new(),
            messages: Messages::new(),
            lengths: Vec::new(),
            counts: Counts::default(),
        })
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Where the next datagram is opened. A batch of sealed datagrams is longer than what is in it, so it always fits.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.arena.get_mut(self.used..).unwrap_or_default()
    }

    /// Adds the datagram at this place of the room.
    pub(crate) fn push(&mut self, bytes: &Range<usize>) {
        let datagram = self.used + bytes.start..self.used + bytes.end;
        self.used = datagram.end;
        self.datagrams.push(datagram);
    }

    /// Sends what was pushed.
    pub(crate) fn send(&mut self) {
        let mut rest = self.datagrams.as_slice();
        while !rest.is_empty() {
            let mut run = self.messages.run();
            self.lengths.clear();
            while !rest.is_empty() && !run.is_full() {
                let count = match self.receiver {
                    Receiver::Sniffer => 1,
                    Receiver::Socket => neighbours(rest),
                };
                let (message, others) = rest.split_at(count);
                add(&mut run, &self.to, message, &self.arena);
                self.lengths.push(count);
                rest = others;
            }
            deliver(&mut run, &self.socket, &self.lengths, &mut self.counts);
        }
        self.datagrams.clear();
        self.used = 0;
    }
}

/// How many of the first datagrams are one message: all have one length, and a shorter one ends it. At least one.
fn neighbours(datagrams: &[Range<usize>]) -> usize {
    let segment = datagrams.first().map_or(0, ExactSizeIterator::len);
    let most = (MESSAGE_MAX / segment.max(1)).clamp(1, RUN_MAX as usize);
    let datagrams = datagrams.get(..most).unwrap_or(datagrams);
    let same = datagrams
        .iter()
        .take_while(|datagram| datagram.len() == segment)
        .count();
    let ends = datagrams
        .get(same)
        .is_some_and(|datagram| datagram.len() < segment);
    (same + usize::from(ends)).max(1)
}

fn add<'a>(run: &mut Run<'a>, to: &'a SockAddr, message: &[Range<usize>], arena: &'a [u8]) {
    let bytes = |datagram: &Range<usize>| arena.get(datagram.clone()).unwrap_or_default();
    match message {
        [only] => run.add_plain(Some(to), &[], bytes(only)),
        [first, ..] => {
            run.start(Some(to), u16::try_from(first.len()).unwrap_or(u16::MAX));
            for datagram in message {
                run.add(bytes(datagram));
            }
        }
        [] => {}
    }
}

/// Sends the messages of a run, and counts their datagrams.
fn deliver(run: &mut Run<'_>, socket: &Socket, lengths: &[usize], counts: &mut Counts) {
    let sum = |lengths: &[usize]| lengths.iter().sum::<usize>() as u64;
    let mut first = 0;
    let mut has_waited = false;
    while let Some(rest) = lengths.get(first..).filter(|rest| !rest.is_empty()) {
        match run.send(socket, first) {
            Ok(sent) => {
                let sent = sent.min(rest.len());
                counts.forwarded += sum(&rest[..sent]);
                first += sent;
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN | Errno::ENOBUFS) if !has_waited => {
                has_waited = true;
                let mut sources = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
                // After an error the next send has it too.
                let _ = poll(&mut sources, PollTimeout::from(FULL_WAIT));
            }
            Err(error) => {
                let lost = sum(&rest[..1]);
                match error {
                    Errno::EAGAIN | Errno::ENOBUFS => counts.queue_full += lost,
                    _ => counts.send_error += lost,
                }
                first += 1;
            }
        }
    }
}

/// Keeps the sensor's port open without a reader: otherwise the kernel would answer each datagram that a sensor
/// captures with an ICMP error. `None` if the port is taken: then the kernel does not answer either.
pub(crate) fn keep_open(address: SocketAddr) -> io::Result<Option<Socket>> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.attach_filter(&DROP_EVERYTHING)?;
    match socket.bind(&address.into()) {
        Ok(()) => Ok(Some(socket)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        // An address of another host: it has no port here.
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;

    fn ranges(lengths: &[usize]) -> Vec<Range<usize>> {
        let mut at = 0;
        lengths
            .iter()
            .map(|length| {
                at += length;
                at - length..at
            })
            .collect()
    }

    #[test]
    fn a_message_has_neighbours_of_one_length_and_ends_with_a_shorter_one() {
        for (lengths, expected) in [
            (&[9][..], 1),
            (&[9, 9, 9], 3),
            (&[9, 9, 4, 9], 3),
            (&[9, 10], 1),
            (&[9, 4, 4], 2),
            (&[40_000, 40_000], 1),
            (&[0, 0], 2),
        ] {
            assert_eq!(neighbours(&ranges(lengths)), expected, "{lengths:?}");
        }
        assert_eq!(neighbours(&ranges(&[9; 200])), RUN_MAX as usize);
        assert_eq!(neighbours(&ranges(&[1400; 200])), 46);
    }

    #[test]
    fn datagrams_arrive_whole_and_in_order_and_are_counted() {
        let sensor = UdpSocket::bind("127.0.0.1:0").unwrap();
        sensor
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        for receiver in [Receiver::Sniffer, Receiver::Socket] {
            let mut forward = Forward::open(sensor.local_addr().unwrap(), receiver).unwrap();
            let lengths = [700, 700, 700, 90, 300, 1400, 1400, 20];
            for (number, length) in (1..).zip(lengths) {
                let room = forward.room();
                // What is in front of and behind a datagram in the room is not sent.
                room[..16 + length + 16].fill(0);
                room[16..16 + length].fill(number);
                forward.push(&(16..16 + length));
            }
            forward.send();
            for (number, length) in (1..).zip(lengths) {
                let mut bytes = [0; 2000];
                let found = sensor.recv(&mut bytes).unwrap();
                assert_eq!(bytes[..found], vec![number; length]);
            }
            assert_eq!(forward.counts().forwarded, lengths.len() as u64);
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_counted() {
        let mut forward = Forward::open("127.0.0.1:9".parse().unwrap(), Receiver::Sniffer).unwrap();
        let room = forward.room();
        room[..3].fill(1);
        forward.push(&(0..3));
        // Longer than any datagram.
        forward.push(&(0..70_000));
        forward.push(&(0..3));
        forward.send();
        let expected = Counts {
            forwarded: 2,
            send_error: 1,
            queue_full: 0,
        };
        assert_eq!(forward.counts(), expected);
    }
}
