//! The system calls of a packet socket that have no safe wrapper.
//!
//! A small safe interface: types check what comes in, plain values come out. Devices are queried with
//! the packet socket itself (`dev_ioctl`), so the results are those of the network namespace in which
//! it was opened, in any thread. Only [`PacketSocket::new`] needs a capability. Sources:
//! `net/packet/af_packet.c`, `net/core/dev_ioctl.c`, packet(7), netdevice(7).

#![allow(
    unsafe_code,
    reason = "setsockopt, getsockopt, bind, getsockname and ioctl with structures of AF_PACKET"
)]

use std::io;
use std::mem;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use libc::{
    IFNAMSIZ, SIOCGIFFLAGS, SIOCGIFINDEX, SIOCGIFNAME, SOL_PACKET, c_int, ifreq, sock_filter,
    sockaddr_ll, socklen_t, tpacket_req3, tpacket_stats_v3,
};
use nix::errno::Errno;
use socket2::{Domain, SockFilter, Socket, Type};

/// A packet socket.
#[derive(Debug)]
pub(crate) struct PacketSocket(Socket);

/// The device that a packet socket is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) index: NonZeroU32,
    /// `ARPHRD_*`.
    pub(crate) hardware: u16,
}

/// A device's name in the format of the kernel: bytes, then zeros.
pub(crate) type DeviceName = [u8; IFNAMSIZ];

impl PacketSocket {
    /// Opens a socket for whole frames that is not bound: with protocol 0 it receives no frame.
    ///
    /// Fails with EPERM without `CAP_NET_RAW`.
    pub(crate) fn new() -> io::Result<Self> {
        Socket::new(Domain::PACKET, Type::RAW, None).map(Self)
    }

    /// Another descriptor of the same socket.
    pub(crate) fn duplicate(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Sets an option of level `SOL_PACKET` that is an integer.
    pub(crate) fn set(&self, option: c_int, value: c_int) -> io::Result<()> {
        self.set_option(option, &value)
    }

    /// Makes the ring (`PACKET_RX_RING`).
    pub(crate) fn set_ring(&self, ring: &tpacket_req3) -> io::Result<()> {
        self.set_option(libc::PACKET_RX_RING, ring)
    }

    fn set_option<T: Copy>(&self, option: c_int, value: &T) -> io::Result<()> {
        let len = len_of::<T>();
        let value = ptr::from_ref(value).cast();
        // SAFETY: `value` points at `len` bytes that live until the call returns; the kernel only reads
        // them.
        let result = unsafe { libc::setsockopt(self.fd(), SOL_PACKET, option, value, len) };
        Errno::result(result).map(drop).map_err(Into::into)
    }

    /// Reads and resets the counters of the ring.
    pub(crate) fn read_and_reset_statistics(&self) -> io::Result<tpacket_stats_v3> {
        let mut stats = tpacket_stats_v3 {
            tp_packets: 0,
            tp_drops: 0,
            tp_freeze_q_cnt: 0,
        };
        let mut len = len_of::<tpacket_stats_v3>();
        let value = ptr::from_mut(&mut stats).cast();
        let option = libc::PACKET_STATISTICS;
        // SAFETY: `value` points at `len` bytes, the kernel writes no more than that, and any bits
        // make three integers.
        let result =
            unsafe { libc::getsockopt(self.fd(), SOL_PACKET, option, value, &raw mut len) };
        Errno::result(result)?;
        Ok(stats)
    }

    /// Attaches a cBPF program, which replaces the attached one.
    pub(crate) fn attach_filter(&self, program: &[sock_filter]) -> io::Result<()> {
        let program: Vec<SockFilter> = program
            .iter()
            .map(|i| SockFilter::new(i.code, i.jt, i.jf, i.k))
            .collect();
        self.0.attach_filter(&program)
    }

    /// Reads and clears the socket's pending error, so that poll(2) no longer reports it.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.take_error()
    }

    /// Binds to a device and a protocol (`ETH_P_*`). When this returns, the socket no longer receives
    /// frames of the device or protocol that it was bound to before.
    ///
    /// Fails with ENODEV if there is no such device. A device that is down is not an error: the kernel
    /// delivers frames when the device is up, and sets ENETDOWN for [`Self::take_error`].
    pub(crate) fn bind(&self, index: NonZeroU32, protocol: c_int) -> io::Result<()> {
        let protocol = u16::try_from(protocol).map_err(|_| Errno::EINVAL)?;
        let address = sockaddr_ll {
            sll_family: FAMILY,
            sll_protocol: protocol.to_be(),
            sll_ifindex: index.get().cast_signed(),
            ..NO_ADDRESS
        };
        let len = len_of::<sockaddr_ll>();
        let address = ptr::from_ref(&address).cast();
        // SAFETY: `address` points at a `sockaddr_ll` of `len` bytes that lives until the call
        // returns; the kernel only reads it.
        let result = unsafe { libc::bind(self.fd(), address, len) };
        Errno::result(result).map(drop).map_err(Into::into)
    }

    /// The device that the socket is bound to; `None` before the first bind and after the device was
    /// deleted or moved to another namespace.
    pub(crate) fn bound(&self) -> io::Result<Option<Bound>> {
        let mut address = NO_ADDRESS;
        let mut len = len_of::<sockaddr_ll>();
        let to = ptr::from_mut(&mut address).cast();
        // SAFETY: `to` points at a `sockaddr_ll` of `len` bytes, the kernel writes no more than
        // that, and any bits make its integers.
        let result = unsafe { libc::getsockname(self.fd(), to, &raw mut len) };
        Errno::result(result)?;
        // The index is 0 before the first bind, -1 when the device is gone.
        let index = u32::try_from(address.sll_ifindex).ok();
        Ok(index.and_then(NonZeroU32::new).map(|index| Bound {
            index,
            hardware: address.sll_hatype,
        }))
    }

    /// The index of the device with this name.
    pub(crate) fn index_of(&self, name: &DeviceName) -> io::Result<Option<NonZeroU32>> {
        let result = self.query(SIOCGIFINDEX, Request::about(name))?;
        Ok(result.and_then(|result| NonZeroU32::new(result.integer())))
    }

    /// The name of the device with this index.
    pub(crate) fn name_of(&self, index: NonZeroU32) -> io::Result<Option<DeviceName>> {
        let mut request = Request::about(&[0; IFNAMSIZ]);
        request.value[..4].copy_from_slice(&index.get().to_ne_bytes());
        Ok(self.query(SIOCGIFNAME, request)?.map(|result| result.name))
    }

    /// Whether the device with this name is up.
    pub(crate) fn is_up(&self, name: &DeviceName) -> io::Result<Option<bool>> {
        let up = libc::IFF_UP.cast_unsigned();
        let result = self.query(SIOCGIFFLAGS, Request::about(name))?;
        Ok(result.map(|result| u32::from(result.short()) & up != 0))
    }

    /// Queries a device; `None` if there is none.
    fn query(&self, what: libc::c_ulong, mut request: Request) -> io::Result<Option<Request>> {
        #[allow(
            clippy::useless_conversion,
            reason = "the type of an ioctl's number is glibc's c_ulong or musl's c_int"
        )]
        let what = what.try_into().map_err(|_| Errno::EINVAL)?;
        // SAFETY: `request` has the layout of a `struct ifreq`, which is what these requests read
        // and write, and lives until the call returns.
        let result = unsafe { libc::ioctl(self.fd(), what, &raw mut request) };
        match Errno::result(result) {
            Ok(_) => Ok(Some(request)),
            Err(Errno::ENODEV | Errno::ENXIO) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn fd(&self) -> c_int {
        self.0.as_raw_fd()
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "AF_PACKET is 17")]
const FAMILY: libc::sa_family_t = libc::AF_PACKET as libc::sa_family_t;

const NO_ADDRESS: sockaddr_ll = sockaddr_ll {
    sll_family: 0,
    sll_protocol: 0,
    sll_ifindex: 0,
    sll_hatype: 0,
    sll_pkttype: 0,
    sll_halen: 0,
    sll_addr: [0; 8],
};

#[expect(
    clippy::cast_possible_truncation,
    reason = "the structures of system calls are small"
)]
const fn len_of<T>() -> socklen_t {
    mem::size_of::<T>() as socklen_t
}

/// A `struct ifreq` whose union is bytes, so that reading it is always safe.
#[repr(C)]
struct Request {
    name: DeviceName,
    value: [u8; size_of::<ifreq>() - IFNAMSIZ],
}

const _: () = assert!(size_of::<Request>() == size_of::<ifreq>());

impl Request {
    const fn about(name: &DeviceName) -> Self {
        Self {
            name: *name,
            value: [0; size_of::<ifreq>() - IFNAMSIZ],
        }
    }

    const fn integer(&self) -> u32 {
        let [a, b, c, d, ..] = self.value;
        u32::from_ne_bytes([a, b, c, d])
    }

    const fn short(&self) -> u16 {
        let [a, b, ..] = self.value;
        u16::from_ne_bytes([a, b])
    }
}
