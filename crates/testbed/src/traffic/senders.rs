//! Sends the same VXLAN datagrams over IPv4 by several kinds of sockets, to compare what they cost.
//!
//! In: where from, where to, and the UDP payloads. Out: a [`Sender`], which has everything prepared and sends
//! all payloads with one system call, again and again. Each datagram has two parts, as podspan's: its
//! headers, and the frame. For sockets that need them, the outer headers are prepared too; a program that
//! sends other payloads each time would have to write their lengths and the checksum.
//!
//! Invariant: what the prepared pointers point to is on the heap and is not changed while the sender lives.
//! Sources: raw(7), packet(7), `Documentation/networking/packet_mmap.rst`.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use etherparse::{IpNumber, Ipv4Header};
use libc::{c_int, c_void, iovec, mmsghdr};
use nix::errno::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::error::{Error, Result};
use crate::host::Host;
use crate::ring::{map, set_option};
use crate::sniffer::{link_address, packet_socket};

const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: usize = 8;
/// The VXLAN header is in the first part of a datagram.
const VXLAN: usize = 8;
/// Larger than any limit of the kernel, which lowers it.
const SEND_BUFFER: usize = 64 << 20;

/// A kind of socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketKind {
    /// A UDP socket; each message has the address.
    Udp,
    /// A connected UDP socket.
    ConnectedUdp,
    /// A raw IP socket: IP and UDP headers are the program's (`IP_HDRINCL`).
    RawIp,
    /// A packet socket: all headers are the program's.
    Packet,
    /// A packet socket with `PACKET_QDISC_BYPASS`.
    PacketBypass,
    /// The same with a ring from which the kernel sends (`PACKET_TX_RING`): one copy by the program.
    PacketRing,
}

impl SocketKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Udp,
        Self::ConnectedUdp,
        Self::RawIp,
        Self::Packet,
        Self::PacketBypass,
        Self::PacketRing,
    ];

    /// How many bytes of the outer headers the program writes.
    const fn headers(self) -> usize {
        match self {
            Self::Udp | Self::ConnectedUdp => 0,
            Self::RawIp => IP + UDP,
            Self::Packet | Self::PacketBypass | Self::PacketRing => ETHERNET + IP + UDP,
        }
    }
}

/// From where to where datagrams are sent.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    /// The sending host.
    pub from: &'a Host,
    /// The receiving host, on the same link.
    pub to: &'a Host,
    /// The UDP source port.
    pub source_port: u16,
    /// The UDP destination port.
    pub port: u16,
    /// `SO_MARK` of the datagrams.
    pub mark: u32,
}

/// Sends prepared datagrams. It belongs to the thread that opened it.
pub struct Sender {
    socket: OwnedFd,
    packets: Vec<Vec<u8>>,
    /// What `headers` points to, in addition to the packets.
    _memory: (Vec<iovec>, Option<Box<SockAddr>>),
    headers: Vec<mmsghdr>,
    ring: Option<TransmitRing>,
}

impl Sender {
    /// Opens a socket and prepares a datagram for each payload. A payload begins with its VXLAN header.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn open(kind: SocketKind, path: Path<'_>, payloads: &[Vec<u8>]) -> Result<Self> {
        let failed = |source| Error::system(format!("opening a sender by {kind:?}"), source);
        let socket = path.from.namespace.run(|| open(kind, path));
        let socket = socket.map_err(failed)?;
        let packets = payloads.iter().map(|payload| packet(kind, path, payload));
        let packets: Vec<Vec<u8>> = packets.collect::<io::Result<_>>().map_err(failed)?;
        let address = (kind == SocketKind::Udp || kind == SocketKind::RawIp).then(|| {
            let port = if kind == SocketKind::Udp {
                path.port
            } else {
                0
            };
            Box::new(SockAddr::from(SocketAddrV4::new(path.to.ipv4, port)))
        });
        if kind == SocketKind::PacketRing {
            let ring = TransmitRing::new(&socket).map_err(failed)?;
            return Ok(Self {
                socket,
                packets,
                _memory: (Vec::new(), None),
                headers: Vec::new(),
                ring: Some(ring),
            });
        }
        let mut parts: Vec<iovec> = packets
            .iter()
            .flat_map(|packet| {
                let (head, body) = packet.split_at(packet.len().min(kind.headers() + VXLAN));
                [part(head), part(body)]
            })
            .collect();
        let headers = parts
            .chunks_exact_mut(2)
            .map(|parts| header(parts, address.as_deref()))
            .collect();
        Ok(Self {
            socket,
            packets,
            _memory: (parts, address),
            headers,
            ring: None,
        })
    }

    /// Sends all datagrams once, and returns how many the kernel accepted: all, or those before the first
    /// that it refused.
    ///
    /// # Errors
    /// What the kernel answered for the first datagram.
    pub fn send(&mut self) -> Result<u64> {
        let sent = match &mut self.ring {
            Some(ring) => ring.send(&self.socket, &self.packets),
            None => self.send_messages(),
        };
        sent.map_err(|errno| Error::system("sending prepared datagrams", errno))
    }

    fn send_messages(&mut self) -> Result<u64, Errno> {
        let count = u32::try_from(self.headers.len()).map_err(|_| Errno::EINVAL)?;
        // SAFETY: there are `count` headers. They point to the address and the parts in `_memory`, and the
        // parts to the packets, none of which changed since `open`. The kernel writes only to `msg_len`.
        let sent =
            unsafe { libc::sendmmsg(self.socket.as_raw_fd(), self.headers.as_mut_ptr(), count, 0) };
        Errno::result(sent).map(|sent| sent.unsigned_abs().into())
    }
}

fn part(bytes: &[u8]) -> iovec {
    iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

fn header(parts: &mut [iovec], to: Option<&SockAddr>) -> mmsghdr {
    // SAFETY: all fields are integers and pointers, for which zero is a value.
    let mut header: mmsghdr = unsafe { std::mem::zeroed() };
    if let Some(to) = to {
        header.msg_hdr.msg_name = to.as_ptr().cast_mut().cast();
        header.msg_hdr.msg_namelen = to.len();
    }
    header.msg_hdr.msg_iov = parts.as_mut_ptr();
    header.msg_hdr.msg_iovlen = 2;
    header
}

/// A socket with the options that podspan's have, as far as its kind has them.
fn open(kind: SocketKind, path: Path<'_>) -> io::Result<OwnedFd> {
    let socket = match kind {
        SocketKind::Udp | SocketKind::ConnectedUdp => udp(kind, path)?,
        SocketKind::RawIp => {
            let raw = Protocol::from(libc::IPPROTO_RAW);
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(raw))?;
            never_fragment(&socket)?;
            socket
        }
        SocketKind::Packet | SocketKind::PacketBypass | SocketKind::PacketRing => {
            let socket = packet_socket()?;
            if kind != SocketKind::Packet {
                set_option(&socket, libc::PACKET_QDISC_BYPASS, &1_i32)?;
            }
            if kind == SocketKind::PacketRing {
                set_option(
                    &socket,
                    libc::PACKET_VERSION,
                    &libc::tpacket_versions::TPACKET_V2,
                )?;
                set_option(&socket, libc::PACKET_TX_RING, &TransmitRing::REQUEST)?;
            }
            bind(&socket, path.from.eth0.index())?;
            socket.into()
        }
    };
    socket.set_mark(path.mark)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    Ok(socket.into())
}

fn udp(kind: SocketKind, path: Path<'_>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    never_fragment(&socket)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1)?;
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, path.source_port);
    socket.bind(&any.into())?;
    if kind == SocketKind::ConnectedUdp {
        socket.connect(&SocketAddrV4::new(path.to.ipv4, path.port).into())?;
    }
    Ok(socket)
}

fn never_fragment(socket: &Socket) -> io::Result<()> {
    set(
        socket,
        libc::IPPROTO_IP,
        libc::IP_MTU_DISCOVER,
        libc::IP_PMTUDISC_DO,
    )
}

fn set(socket: &Socket, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `length` bytes of the value, which is its size.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            length,
        )
    };
    Errno::result(answer)?;
    Ok(())
}

/// Binds a packet socket that only sends: with protocol 0 it receives nothing.
fn bind(socket: &OwnedFd, index: u32) -> io::Result<()> {
    let mut address = link_address(index)?;
    address.sll_protocol = 0;
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `length` bytes of the address, which is its size.
    let answer = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    Errno::result(answer)?;
    Ok(())
}

/// The bytes that the program passes to a socket of this kind.
fn packet(kind: SocketKind, path: Path<'_>, payload: &[u8]) -> io::Result<Vec<u8>> {
    let udp_length = u16::try_from(UDP + payload.len()).map_err(io::Error::other)?;
    let (from, to) = (path.from.ipv4.octets(), path.to.ipv4.octets());
    let mut ip =
        Ipv4Header::new(udp_length, 64, IpNumber::UDP, from, to).map_err(io::Error::other)?;
    ip.dont_fragment = true;
    ip.header_checksum = ip.calc_header_checksum();
    let mut packet = [path.to.mac, path.from.mac].concat();
    packet.extend([0x08, 0x00]);
    packet.extend(ip.to_bytes());
    // Without a checksum.
    for field in [path.source_port, path.port, udp_length, 0] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend(payload);
    packet.drain(..packet.len() - payload.len() - kind.headers());
    Ok(packet)
}

/// A ring of frames that the kernel sends: each has a header with its length and an atomic status.
struct TransmitRing {
    memory: NonNull<u8>,
    next: usize,
}

impl TransmitRing {
    const FRAME: usize = 2048;
    const FRAMES: usize = 512;
    const BYTES: usize = Self::FRAME * Self::FRAMES;
    #[expect(clippy::cast_possible_truncation, reason = "small constants")]
    const REQUEST: libc::tpacket_req = libc::tpacket_req {
        tp_block_size: Self::BYTES as u32,
        tp_block_nr: 1,
        tp_frame_size: Self::FRAME as u32,
        tp_frame_nr: Self::FRAMES as u32,
    };
    /// Where the frame starts after its header: `TPACKET2_HDRLEN` without the address.
    const DATA: usize = size_of::<libc::tpacket2_hdr>();

    /// Maps the ring of a socket that was made with [`Self::REQUEST`].
    fn new(socket: &OwnedFd) -> io::Result<Self> {
        let memory = map(socket, Self::BYTES)?;
        Ok(Self { memory, next: 0 })
    }

    /// Copies the packets into free frames and lets the kernel send them.
    fn send(&mut self, socket: &OwnedFd, packets: &[Vec<u8>]) -> Result<u64, Errno> {
        for packet in packets {
            while self.status().load(Ordering::Acquire) != libc::TP_STATUS_AVAILABLE {
                Self::flush(socket)?;
            }
            self.fill(packet)?;
            self.status()
                .store(libc::TP_STATUS_SEND_REQUEST, Ordering::Release);
            self.next = (self.next + 1) % Self::FRAMES;
        }
        Self::flush(socket)?;
        Ok(packets.len() as u64)
    }

    fn fill(&mut self, packet: &[u8]) -> Result<(), Errno> {
        let length = u32::try_from(packet.len()).map_err(|_| Errno::EMSGSIZE)?;
        if packet.len() > Self::FRAME - Self::DATA {
            return Err(Errno::EMSGSIZE);
        }
        let header = self.frame().cast::<libc::tpacket2_hdr>();
        // SAFETY: the frame is inside the mapping and aligned, and its status says that it is the program's.
        unsafe { (*header.as_ptr()).tp_len = length };
        // SAFETY: as above; the data and its length fit the frame.
        let data = unsafe { self.frame().add(Self::DATA) };
        // SAFETY: as above; a packet on the heap does not overlap the mapping.
        unsafe { std::ptr::copy_nonoverlapping(packet.as_ptr(), data.as_ptr(), packet.len()) };
        Ok(())
    }

    fn flush(socket: &OwnedFd) -> Result<(), Errno> {
        let nothing = std::ptr::null::<c_void>();
        // SAFETY: no bytes are read from the pointer; the kernel sends what is in its ring.
        let sent = unsafe { libc::send(socket.as_raw_fd(), nothing, 0, libc::MSG_DONTWAIT) };
        match Errno::result(sent) {
            Err(errno) if errno != Errno::EAGAIN => Err(errno),
            _ => Ok(()),
        }
    }

    fn frame(&self) -> NonNull<u8> {
        // SAFETY: `next` is below the number of frames, so this is inside the mapping.
        unsafe { self.memory.add(self.next * Self::FRAME) }
    }

    fn status(&self) -> &AtomicU32 {
        // SAFETY: the status is the first word of a frame, which is aligned and inside the mapping; the
        // kernel and this code access it only by single aligned reads and writes.
        unsafe { self.frame().cast::<AtomicU32>().as_ref() }
    }
}

impl Drop for TransmitRing {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; no reference into it can outlive `self`.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), Self::BYTES) };
    }
}
