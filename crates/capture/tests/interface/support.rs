//! Two namespaces with a veth between them, numbered datagrams, and reading a ring to its end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use capture::{BLOCK_LEN, InterfaceChange, Ring, RingConfig, RingStatistics};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockRef;
use testbed::{Link, Namespace, veth};
use wire::{Direction, Frame, Offload, VlanTag};

/// A test and its name.
pub(crate) type Test = (&'static str, fn());

/// The mark that the ring's filter rejects.
pub(crate) const MARK: NonZeroU32 = NonZeroU32::new(0x7064_7370).unwrap();

/// The first bytes of each test datagram, which other traffic does not have.
const MAGIC: [u8; 4] = *b"CAPT";

pub(crate) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));
pub(crate) const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
pub(crate) const PORT: u16 = 4000;

/// A namespace with an `eth0`, and another at the other end of its cable.
pub(crate) struct Pair {
    pub(crate) here: Namespace,
    pub(crate) eth0: Link,
    pub(crate) there: Namespace,
    pub(crate) far: Link,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let here = Namespace::new().unwrap();
        let there = Namespace::new().unwrap();
        let (eth0, far) = veth((&here, "eth0"), (&there, "eth0")).unwrap();
        let pair = Self {
            here,
            eth0,
            there,
            far,
        };
        pair.configure();
        pair
    }

    /// Gives both ends addresses and waits until the cable works: the kernel enables a veth's queues up
    /// to a second after its carrier, and drops frames that are sent earlier.
    fn configure(&self) {
        configure(&self.eth0, HERE);
        configure(&self.far, THERE);
        let bind = |namespace: &Namespace, address| {
            let socket = namespace.run(|| UdpSocket::bind((address, 0)).unwrap());
            socket
                .set_read_timeout(Some(Duration::from_millis(5)))
                .unwrap();
            socket
        };
        let (a, b) = (bind(&self.here, HERE), bind(&self.there, THERE));
        for (from, to) in [(&a, &b), (&b, &a)] {
            let end = Instant::now() + Duration::from_secs(5);
            loop {
                from.send_to(b"ready?", to.local_addr().unwrap()).unwrap();
                if to.recv(&mut [0; 8]).is_ok() {
                    break;
                }
                assert!(Instant::now() < end, "the cable does not work");
            }
        }
    }

    /// Creates the veth again; the old one was deleted.
    pub(crate) fn make_again(&mut self) {
        (self.eth0, self.far) = veth((&self.here, "eth0"), (&self.there, "eth0")).unwrap();
        self.configure();
    }

    pub(crate) fn ring(&self, interface: &str, blocks: usize) -> Ring {
        open(&self.here, interface, blocks)
    }
}

/// Sets a link up with an address, without IPv6, so that it sends nothing by itself.
pub(crate) fn configure(link: &Link, address: IpAddr) {
    link.disable_ipv6().unwrap();
    link.add_address(address, 24).unwrap();
    link.up().unwrap();
}

pub(crate) fn open(namespace: &Namespace, interface: &str, blocks: usize) -> Ring {
    let config = RingConfig::new(blocks * BLOCK_LEN, MARK);
    let name = interface.parse().unwrap();
    namespace.run(|| Ring::open(name, &config)).unwrap()
}

/// Opens a ring and binds it to an interface that exists and is up.
pub(crate) fn bound(namespace: &Namespace, interface: &str, blocks: usize) -> Ring {
    let mut ring = open(namespace, interface, blocks);
    let change = ring.refresh().unwrap();
    assert!(
        matches!(change, Some(InterfaceChange::Bound { up: true, .. })),
        "{change:?}"
    );
    ring
}

/// A UDP socket that sends to the other end, with the mark or without.
pub(crate) fn sender(namespace: &Namespace, to: IpAddr, marked: bool) -> UdpSocket {
    namespace.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if marked {
            SockRef::from(&socket).set_mark(MARK.get()).unwrap();
        }
        socket.connect(SocketAddr::new(to, PORT)).unwrap();
        socket
    })
}

/// A socket that receives the datagrams; without it the kernel would answer with ICMP errors.
pub(crate) fn receiver(namespace: &Namespace) -> UdpSocket {
    namespace.run(|| UdpSocket::bind(("0.0.0.0", PORT)).unwrap())
}

/// A datagram with a number in it, of `len` bytes.
pub(crate) fn numbered(number: u32, len: usize) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.resize(len.max(8), 0x55);
    bytes
}

/// The copy of a frame that a test keeps.
#[derive(Debug, Clone)]
pub(crate) struct CapturedFrame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) wire_len: u32,
    pub(crate) direction: Direction,
    pub(crate) link: wire::Link,
    pub(crate) vlan: Option<VlanTag>,
    pub(crate) offload: Offload,
}

impl From<Frame<'_>> for CapturedFrame {
    fn from(frame: Frame<'_>) -> Self {
        Self {
            bytes: frame.bytes.to_vec(),
            wire_len: frame.wire_len,
            direction: frame.direction,
            link: frame.link,
            vlan: frame.vlan,
            offload: frame.offload,
        }
    }
}

/// The number of the datagram in a frame, if it is a test datagram and not a later fragment.
pub(crate) fn number(frame: &CapturedFrame) -> Option<u32> {
    let at = frame.bytes.windows(4).position(|bytes| bytes == MAGIC)?;
    let number = frame.bytes.get(at + 4..at + 8)?;
    Some(u32::from_be_bytes(number.try_into().unwrap()))
}

pub(crate) fn numbers(frames: &[CapturedFrame]) -> Vec<u32> {
    frames.iter().filter_map(number).collect()
}

/// Reads all frames of the closed blocks.
pub(crate) fn read_closed(ring: &mut Ring, into: &mut Vec<CapturedFrame>) {
    while let Some(block) = ring.next_block() {
        assert_eq!(block.unreadable(), 0);
        assert_eq!(block.frames().len(), block.len() as usize);
        into.extend(block.frames().map(CapturedFrame::from));
    }
}

/// Waits with poll(2) until a block is closed, and reads the frames; asserts that one is closed.
pub(crate) fn wait(ring: &mut Ring) -> Vec<CapturedFrame> {
    let mut seen = Vec::new();
    let mut fds = [PollFd::new(ring.as_fd(), PollFlags::POLLIN)];
    assert_eq!(
        poll(&mut fds, PollTimeout::from(2000u16)),
        Ok(1),
        "no block was closed"
    );
    read_closed(ring, &mut seen);
    seen
}

/// Stops the ring, reads it to its end, and checks that the equation of the accounting holds.
/// `before` are the frames that were read earlier.
pub(crate) fn finish(
    mut ring: Ring,
    before: Vec<CapturedFrame>,
) -> (Vec<CapturedFrame>, RingStatistics) {
    ring.stop().unwrap();
    drain(ring, before)
}

/// The second half of [`finish`].
pub(crate) fn drain(
    mut ring: Ring,
    mut seen: Vec<CapturedFrame>,
) -> (Vec<CapturedFrame>, RingStatistics) {
    let end = Instant::now() + Duration::from_secs(2);
    loop {
        read_closed(&mut ring, &mut seen);
        if ring.waiting().unwrap() == 0 {
            break;
        }
        assert!(Instant::now() < end, "not drained: {ring:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    let statistics = ring.statistics().unwrap();
    assert_eq!(statistics.packets, seen.len() as u64 + statistics.drops);
    // Nothing follows, not even a late block.
    std::thread::sleep(Duration::from_millis(50));
    assert!(ring.next_block().is_none());
    assert_eq!(ring.statistics().unwrap(), statistics);
    (seen, statistics)
}
