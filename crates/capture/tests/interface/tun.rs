//! Interfaces that a program writes to: bare IP packets, and frames that no `virtio_net_hdr` describes.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

use capture::{InterfaceChange, Ring};
use nix::errno::Errno;
use testbed::Namespace;
use wire::{Direction, Link};

use crate::support::{Test, finish, number, numbered, numbers, open};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("a_tun_interface_carries_bare_ip", bare_ip),
        ("a_slot_that_the_kernel_abandoned_is_skipped", void_slot),
        ("an_interface_of_another_type_is_named", unsupported),
    ]
}

/// Makes a tun or tap device and sets it up; it exists as long as the file is open.
fn device(namespace: &Namespace, name: &str, flags: libc::c_int) -> File {
    let file = namespace.run(|| {
        let file = File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .expect("/dev/net/tun: load the kernel module tun");
        let mut request = [0u8; size_of::<libc::ifreq>()];
        request[..name.len()].copy_from_slice(name.as_bytes());
        let flags = i16::try_from(flags).unwrap();
        request[libc::IFNAMSIZ..libc::IFNAMSIZ + 2].copy_from_slice(&flags.to_ne_bytes());
        // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, which has that many bytes.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        Errno::result(result).unwrap();
        file
    });
    let link = namespace.link(name).unwrap();
    link.disable_ipv6().unwrap();
    link.up().unwrap();
    file
}

/// An IPv4 packet of UDP to nobody, with no checksums.
fn packet(number: u32, len: usize) -> Vec<u8> {
    let payload = numbered(number, len);
    let udp = u16::try_from(8 + payload.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 8, 0, 2, 10, 8, 0, 1]);
    packet.extend([0x30, 0x39, 0x0f, 0xa0]);
    packet.extend(udp.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

fn bare_ip() {
    let namespace = Namespace::new().unwrap();
    let mut tun = device(&namespace, "tun0", libc::IFF_TUN | libc::IFF_NO_PI);
    let mut ring = open(&namespace, "tun0", 2);
    let change = ring.refresh().unwrap();
    assert!(
        matches!(change, Some(InterfaceChange::Bound { link: Link::Ip, .. })),
        "{change:?}"
    );
    let packet = packet(5, 64);
    tun.write_all(&packet).unwrap();
    let (seen, _) = finish(ring, Vec::new());
    let got = seen.iter().find(|frame| number(frame) == Some(5)).unwrap();
    assert_eq!(got.bytes, packet);
    assert_eq!((got.link, got.direction), (Link::Ip, Direction::Incoming));
}

/// A `virtio_net_hdr` cannot describe UFO. The kernel notices this when the slot is already reserved: it
/// counts a drop and leaves the slot in the block (`tpacket_rcv`).
fn void_slot() {
    let namespace = Namespace::new().unwrap();
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    let mut tap = device(&namespace, "tap0", flags);
    let mut ring: Ring = open(&namespace, "tap0", 2);
    ring.refresh().unwrap();
    let mut write = |number: u32, gso: bool| {
        let mut frame = if gso {
            // NEEDS_CSUM, GSO_UDP, hdr_len 42, gso_size 1480, csum_start 34, csum_offset 6.
            vec![1, 3, 42, 0, 0xc8, 0x05, 34, 0, 6, 0]
        } else {
            vec![0; 10]
        };
        frame.extend([0xff; 6]);
        frame.extend([2, 0, 0, 0, 0, 1, 8, 0]);
        frame.extend(packet(number, if gso { 4000 } else { 64 }));
        assert_eq!(tap.write(&frame).unwrap(), frame.len());
    };
    write(1, false);
    write(2, true);
    write(3, false);
    write(4, true);
    let (seen, statistics) = finish(ring, Vec::new());
    assert_eq!(numbers(&seen), [1, 3]);
    assert_eq!((statistics.packets, statistics.drops), (4, 2));
}

/// The type of a tun device can be changed while it is down.
fn unsupported() {
    let namespace = Namespace::new().unwrap();
    let mut tun = device(&namespace, "tun0", libc::IFF_TUN | libc::IFF_NO_PI);
    let link = namespace.link("tun0").unwrap();
    link.down().unwrap();
    let gre = libc::c_ulong::from(libc::ARPHRD_IPGRE);
    // SAFETY: TUNSETLINK takes an integer.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETLINK, gre) };
    Errno::result(result).unwrap();
    link.up().unwrap();
    let mut ring = open(&namespace, "tun0", 2);
    let change = ring.refresh().unwrap().unwrap();
    assert_eq!(change, InterfaceChange::Unsupported { hardware: 778 });
    assert!(change.to_string().contains("type 778 (GRE)"));
    tun.write_all(&packet(1, 64)).unwrap();
    let (seen, statistics) = finish(ring, Vec::new());
    assert_eq!((seen.len(), statistics.packets), (0, 0));
}
