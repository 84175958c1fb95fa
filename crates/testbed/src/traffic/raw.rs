//! Sends frames of any content on an interface, unchanged.
//!
//! [`samples`] has one frame of each kind that a mirror need not understand: each must arrive byte
//! for byte.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use etherparse::PacketBuilder;
use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::link::{Link, Mac};
use crate::ring::set_option;
use crate::sniffer::{bind, packet_socket};

/// Sends frames on one interface, from their Ethernet header on.
#[derive(Debug)]
pub struct RawSocket {
    socket: OwnedFd,
    interface: String,
}

impl RawSocket {
    /// Opens a socket on `link`.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn open(link: &Link) -> Result<Self> {
        Self::open_with(link, false)
    }

    /// As [`Self::open`], for frames that have a `virtio_net_hdr` before them: large frames that the kernel
    /// splits later, and unfinished checksums.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with_headers(link: &Link) -> Result<Self> {
        Self::open_with(link, true)
    }

    fn open_with(link: &Link, headers: bool) -> Result<Self> {
        let interface = link.name().to_owned();
        let open = || {
            let socket = packet_socket()?;
            if headers {
                set_option(&socket, libc::PACKET_VNET_HDR, &1_i32)?;
            }
            bind(&socket, link.index())?;
            Ok(socket)
        };
        let failed = |source: std::io::Error| {
            Error::system(format!("opening a raw socket on {interface}"), source)
        };
        let socket = link.namespace().run(open).map_err(failed)?;
        Ok(Self { socket, interface })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// [`Error::System`], for example beyond the MTU or with the link down.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: the kernel reads `frame.len()` bytes of the frame and keeps no pointer.
        let sent = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
            )
        };
        Errno::result(sent).map(drop).map_err(|errno| {
            let doing = format!(
                "sending a frame of {} bytes on {}",
                frame.len(),
                self.interface
            );
            Error::system(doing, errno)
        })
    }
}

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A frame of each unusual kind, with its name, from `source` to `destination`.
#[must_use]
pub fn samples(source: Mac, destination: Mac) -> Vec<(&'static str, Vec<u8>)> {
    let ethernet = |kind: u16, payload: &[u8]| {
        let mut frame = [destination, source].concat();
        frame.extend(kind.to_be_bytes());
        frame.extend(payload);
        frame.resize(frame.len().max(60), 0);
        frame
    };
    let ipv4 = |protocol: u8, payload: &[u8]| ethernet(0x0800, &ip_packet(protocol, payload));
    let tagged = |tags: &[u8]| {
        let mut payload = tags.to_vec();
        payload.extend([0x08, 0x00]);
        payload.extend(ip_packet(17, &udp_segment(9, 9, b"tagged")));
        payload
    };
    let mut options = ip_packet(17, &udp_segment(9, 9, b"options"));
    options.splice(20..20, [0x94, 4, 0, 0, 0x07, 7, 4, 0, 0, 0, 0, 0]);
    set_ip_length(&mut options, 8);
    let mut short_header = ip_packet(17, &udp_segment(9, 9, b"IHL below five"));
    if let Some(first) = short_header.first_mut() {
        *first = 0x43;
    }
    let mut beyond = ip_packet(17, &udp_segment(9, 9, b"length beyond the frame"));
    if let Some(length) = beyond.get_mut(2..4) {
        length.copy_from_slice(&9000_u16.to_be_bytes());
    }
    let mut short_tcp = ip_packet(6, &[0; 20]);
    if let Some(offset) = short_tcp.get_mut(32) {
        *offset = 0x10;
    }
    let foreign_vxlan = [
        &[0x08, 0, 0, 0, 0, 0x30, 0x39, 0][..],
        &ethernet(0x0800, &ip_packet(17, &[0; 8])),
    ]
    .concat();
    vec![
        ("vlan", ethernet(0x8100, &tagged(&[0x00, 0x64]))),
        (
            "qinq",
            ethernet(0x88a8, &tagged(&[0x00, 0x64, 0x81, 0x00, 0x20, 0xc8])),
        ),
        (
            "llc",
            ethernet(38, &[&[0x42, 0x42, 0x03][..], &[0; 35]].concat()),
        ),
        (
            "mpls",
            ethernet(
                0x8847,
                &[&[0, 1, 0x41, 64][..], &ip_packet(17, &[0; 8])].concat(),
            ),
        ),
        (
            "pppoe",
            ethernet(
                0x8864,
                &[
                    &[0x11, 0, 0, 1, 0, 30, 0, 0x21][..],
                    &ip_packet(17, &[0; 8]),
                ]
                .concat(),
            ),
        ),
        (
            "gre",
            ipv4(
                47,
                &[&[0, 0, 0x08, 0x00][..], &ip_packet(17, &[0; 8])].concat(),
            ),
        ),
        (
            "sctp",
            ipv4(
                132,
                &[0, 9, 0, 9, 0, 0, 0, 1, 0x5a, 0x5a, 0x5a, 0x5a, 10, 0, 0, 4],
            ),
        ),
        (
            "foreign vxlan",
            ipv4(17, &udp_segment(50_001, 4789, &foreign_vxlan)),
        ),
        ("ip options", ethernet(0x0800, &options)),
        ("short ip header", ethernet(0x0800, &short_header)),
        ("ip length beyond the frame", ethernet(0x0800, &beyond)),
        ("short tcp header", ethernet(0x0800, &short_tcp)),
        (
            "unknown ethertype",
            ethernet(0x88b5, b"for experiments, IEEE 802"),
        ),
        (
            "ipv6 truncated",
            ethernet(0x86dd, &[0x60, 0, 0, 0, 0x05, 0xdc, 6, 64]),
        ),
    ]
}

/// A valid IPv4 packet between addresses that no host of the lab has.
fn ip_packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64);
    let mut packet = Vec::new();
    // Writing to a vector fails only beyond 64 KiB; the samples are far below.
    let _ = builder.write(&mut packet, protocol.into(), payload);
    packet
}

/// A UDP segment without a checksum.
fn udp_segment(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    let mut segment = Vec::new();
    for field in [source, destination, length, 0] {
        segment.extend(field.to_be_bytes());
    }
    segment.extend(payload);
    segment
}

/// Corrects the lengths and the checksum of an IPv4 header of `words` 32-bit words.
fn set_ip_length(packet: &mut [u8], words: u8) {
    let length = u16::try_from(packet.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    let Some((header, _)) = packet.split_at_mut_checked(usize::from(words) * 4) else {
        return;
    };
    for (at, value) in [
        (0, 0x40 | words),
        (2, length[0]),
        (3, length[1]),
        (10, 0),
        (11, 0),
    ] {
        if let Some(byte) = header.get_mut(at) {
            *byte = value;
        }
    }
    let sum = etherparse::checksum::Sum16BitWords::new()
        .add_slice(header)
        .ones_complement();
    if let Some(field) = header.get_mut(10..12) {
        // The sum is of bytes in memory order.
        field.copy_from_slice(&sum.to_ne_bytes());
    }
}
