//! The sockets that podspans send to, and what is read from them.
//!
//! In: an address and the number of threads. Out: a socket for each thread, and batches of datagrams.
//!
//! - podspan sends several datagrams of one length in one message (UDP GSO). On the way to this pod they may stay
//!   together, and with `UDP_GRO` they come out of the socket together: one system call for up to 64 datagrams. The
//!   kernel says their length in a control message.
//! - All sockets have the same port (`SO_REUSEPORT`). A classic BPF program gives each datagram to the thread that
//!   [`tunnel::responder::steer`] says: its result is the number of a socket in the order in which they were bound
//!   (`reuseport_select_sock()` in `net/core/sock_reuseport.c`; the program sees the datagram without headers).
//! - Datagrams that find a full buffer are lost. The kernel counts them, and says the count with the next one that is
//!   read (`SO_RXQ_OVFL`).
//!
//! Invariant: nothing here blocks but [`wait`].

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use libc::{BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_K, BPF_LD, BPF_MOD, BPF_RET, c_int, c_ushort};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, setsockopt, sockopt,
};
use socket2::{Domain, SockAddr, Socket, Type};

/// How many messages one system call reads.
const MESSAGES: usize = 16;
/// A message has at most so many bytes: an IP packet, also with several datagrams in it.
const MESSAGE_MAX: usize = 1 << 16;
/// All memory for messages.
pub(crate) const BATCH_MAX: usize = MESSAGES * MESSAGE_MAX;

/// The receive buffer that is asked for; the kernel allows at most `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 16 << 20;

/// Where the byte is that says the thread.
const STEERING_BYTE: u32 = 5;

/// Opens a socket for each thread.
pub(crate) fn listen(address: SocketAddr, threads: NonZeroU8) -> io::Result<Vec<Socket>> {
    let mut sockets: Vec<Socket> = Vec::new();
    for _ in 0..threads.get() {
        // With port 0 the first one chooses.
        let first = sockets.first().map(Socket::local_addr).transpose()?;
        let address = first.unwrap_or_else(|| SockAddr::from(address));
        sockets.push(bound(&address, threads)?);
    }
    if let Some(first) = sockets.first()
        && threads.get() > 1
    {
        steer(first, threads)?;
    }
    Ok(sockets)
}

fn bound(address: &SockAddr, threads: NonZeroU8) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::from(c_int::from(address.family())),
        Type::DGRAM,
        None,
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    if threads.get() > 1 {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    setsockopt(&socket, sockopt::RxqOvfl, &1)?;
    // Linux 5.0. Without it datagrams come one by one.
    let _ = setsockopt(&socket, sockopt::UdpGroSegment, &true);
    socket.bind(address)?;
    Ok(socket)
}

/// Steers datagrams among the sockets of a port.
fn steer(first: &Socket, threads: NonZeroU8) -> io::Result<()> {
    let step = |code: u32, k: u32| libc::sock_filter {
        code: c_ushort::try_from(code).unwrap_or_default(),
        jt: 0,
        jf: 0,
        k,
    };
    // A shorter datagram ends the program with 0.
    let mut program = [
        step(BPF_LD | BPF_B | BPF_ABS, STEERING_BYTE),
        step(BPF_ALU | BPF_MOD | BPF_K, threads.get().into()),
        step(BPF_RET | BPF_A, 0),
    ];
    let program = libc::sock_fprog {
        len: 3,
        filter: program.as_mut_ptr(),
    };
    setsockopt(first, sockopt::AttachReusePortCbpf, &program)?;
    Ok(())
}

/// Waits until there is something to read, at most so long.
pub(crate) fn wait(socket: &Socket, time: Duration) {
    let mut sources = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    // Rounded up, so that the time is over afterwards.
    let time = PollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
    // After an error the caller reads, which has the error too.
    let _ = poll(&mut sources, time);
}

/// A message: a datagram, or several of one length, of which the last may be shorter.
#[derive(Debug, Clone, Copy)]
struct Message {
    at: usize,
    length: usize,
    segment: usize,
    from: SocketAddr,
}

/// What was read.
pub(crate) struct Received {
    bytes: Vec<u8>,
    messages: Vec<Message>,
    /// The kernel's count of what found a full buffer.
    pub(crate) overflowed: u32,
}

impl Received {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; BATCH_MAX],
            messages: Vec::with_capacity(MESSAGES),
            overflowed: 0,
        }
    }

    /// Reads what is there, as much as fits. Nothing is `EAGAIN`.
    pub(crate) fn read(&mut self, socket: &Socket) -> Result<(), Errno> {
        self.messages.clear();
        // The kernel changes the lengths in the headers, so they are made anew for each call.
        let control = cmsg_space!(c_int, u32);
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(MESSAGES, Some(control));
        let chunks = self.bytes.chunks_mut(MESSAGE_MAX);
        let mut parts: Vec<[IoSliceMut<'_>; 1]> =
            chunks.map(|chunk| [IoSliceMut::new(chunk)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        let results = recvmmsg(
            socket.as_raw_fd(),
            &mut headers,
            parts.iter_mut(),
            flags,
            None,
        )?;
        for (number, result) in results.enumerate() {
            let Some(from) = result.address.as_ref().and_then(address) else {
                continue;
            };
            let mut segment = result.bytes;
            for control in result.cmsgs().into_iter().flatten() {
                match control {
                    ControlMessageOwned::UdpGroSegments(length) => {
                        segment = usize::try_from(length).unwrap_or(segment);
                    }
                    ControlMessageOwned::RxqOvfl(count) => self.overflowed = count,
                    _ => {}
                }
            }
            self.messages.push(Message {
                at: number * MESSAGE_MAX,
                length: result.bytes,
                segment: segment.max(1),
                from,
            });
        }
        Ok(())
    }

    /// The datagrams, in the order in which they arrived.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        self.messages.iter().flat_map(|message| {
            let bytes = self.bytes.get(message.at..message.at + message.length);
            let bytes = bytes.unwrap_or_default();
            // An empty one is one too.
            let empty = bytes.is_empty().then_some(bytes);
            let datagrams = bytes.chunks(message.segment).chain(empty);
            datagrams.map(|datagram| (datagram, message.from))
        })
    }
}

/// An address that is the same however the datagram came: IPv4 is not mapped into IPv6.
fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::from((v4.ip(), v4.port())));
    }
    let v6 = storage.as_sockaddr_in6()?;
    let ip = IpAddr::V6(v6.ip()).to_canonical();
    Some(SocketAddr::new(ip, v6.port()))
}

/// The address for a socket that may be one of IPv6.
pub(crate) fn reachable(to: SocketAddr, socket_is_ipv6: bool) -> SockAddr {
    match to.ip() {
        IpAddr::V4(v4) if socket_is_ipv6 => {
            SockAddr::from(SocketAddr::from((v4.to_ipv6_mapped(), to.port())))
        }
        _ => SockAddr::from(to),
    }
}
