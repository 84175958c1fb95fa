//! TCP segments and UDP datagrams from a frame that represents several, or that is too long.
//!
//! In: a frame whose TCP or UDP header was found. Out: a datagram for each piece, with rewritten headers
//! in the head, and the payload as a range of the block. The rules are the kernel's (`tcp_gso_segment`
//! in `net/ipv4/tcp_offload.c`, `__udp_gso_segment`, `inet_gso_segment`):
//!
//! - the sequence number increases by the payload before, the IPv4 identification by one;
//! - CWR (and SYN) stay on the first segment, PSH and FIN on the last; options are kept on all;
//! - lengths and checksums are those of the piece; a jumbo payload option (BIG TCP) is removed.
//!
//! If `gso_size` does not fit the tunnel, TCP is split into smaller segments. UDP datagrams must keep
//! their bounds, so they become IP fragments. If a frame was whole on the wire and is split only for the
//! tunnel, a wrong checksum stays wrong ([`Checksum::with_error_of`]): the sensor must not accept a
//! packet that the pod drops. Whether it is wrong follows from the sums of the pieces, so the payload is
//! read a second time only if it is.

use core::ops::Range;

use wire::checksum::{Checksum, Sum, pseudo_v4, pseudo_v6};
use wire::ip::{self, Packet, Version};
use wire::ipv4::Ipv4;
use wire::ipv6::{self, Ipv6};
use wire::tcp::{self, Tcp};
use wire::{ChecksumState, Frame};

use crate::batch::FrameDatagrams;
use crate::fragment::{self, Data, Identifications};
use crate::{DropReason, Inner};

/// No valid frame has more pieces: BIG TCP has 512 KiB and the smallest segment size is 48.
const PIECES_MAX: usize = 16_384;
/// If less payload than this fits after the headers, a packet is fragmented like any other IP packet:
/// otherwise there would be many copies of the headers for few bytes of payload.
const PAYLOAD_MIN: usize = 64;
const UDP_HEADER_LEN: usize = 8;

/// The result of splitting a frame into TCP segments.
pub(crate) enum Segmented {
    /// Its segments are in the batch.
    Done,
    /// There is no valid TCP header, or too little payload fits after it: the packet can be fragmented
    /// like any other IP packet.
    NotAsTcp,
    /// It cannot be split.
    Dropped(DropReason),
}

/// Splits a TCP frame into segments: of `gso_size`, or of equal size if it is `None`.
pub(crate) fn tcp(
    inner: &Inner<'_>,
    packet: &Packet,
    gso_size: Option<u16>,
    out: &mut FrameDatagrams<'_>,
) -> Segmented {
    let Some(segments) = Segments::of(inner, packet, gso_size) else {
        return Segmented::NotAsTcp;
    };
    if gso_size.is_none() && segments.payload_max() < PAYLOAD_MIN {
        return Segmented::NotAsTcp;
    }
    match segments.split(gso_size.map(usize::from), out) {
        Ok(()) => Segmented::Done,
        Err(reason) => Segmented::Dropped(reason),
    }
}

struct Segments<'f> {
    inner: &'f Inner<'f>,
    network: NetworkHeader<'f>,
    header: Tcp<'f>,
    payload: Range<usize>,
    /// Whether the urgent pointer is adjusted in each segment. The kernel copies it unchanged into every
    /// segment of the wire. In a frame that is split only for the tunnel, it must still point at its byte.
    moves_urgent: bool,
    /// The original checksum, if it may be wrong.
    error: Option<Checksum>,
}

impl<'f> Segments<'f> {
    fn of(inner: &'f Inner<'f>, packet: &Packet, gso_size: Option<u16>) -> Option<Self> {
        let transport = inner.frame.bytes.get(packet.transport..packet.end)?;
        let header = Tcp::parse(transport)?;
        Some(Self {
            inner,
            network: NetworkHeader::of(inner.frame, packet, gso_size.is_none())?,
            header,
            payload: packet.transport + header.header().len()..packet.end,
            moves_urgent: gso_size.is_none(),
            error: match (gso_size, inner.frame.offload.checksum) {
                (None, ChecksumState::AsOnWire) => Some(header.checksum()),
                _ => None,
            },
        })
    }

    /// How many bytes of payload fit after the headers.
    fn payload_max(&self) -> usize {
        let headers = self.inner.prefix.grown(self.network.start)
            + self.network.len()
            + self.header.header().len();
        self.inner.room.saturating_sub(headers)
    }

    fn split(
        &self,
        gso_size: Option<usize>,
        out: &mut FrameDatagrams<'_>,
    ) -> Result<(), DropReason> {
        let payload_max = self.payload_max();
        let length = self.payload.len();
        if payload_max < PAYLOAD_MIN {
            return Err(DropReason::Oversize);
        }
        let size = match gso_size {
            Some(gso_size) => gso_size.min(payload_max),
            // Without a size from the wire: as few segments as possible, all of one size.
            None => length.div_ceil(length.div_ceil(payload_max).max(1)),
        };
        let pieces = length.div_ceil(size.max(1)).max(1);
        if pieces > PIECES_MAX {
            return Err(DropReason::Malformed);
        }
        let payload = self.segments(pieces, size, None, out);
        if let Some(found) = self.error {
            let right = self.right_checksum(payload);
            if !found.is_same_as(right) {
                out.restart();
                self.segments(pieces, size, Some((found, right)), out);
            }
        }
        Ok(())
    }

    /// Makes all segments and returns the sum of the payload. `wrong` is the frame's checksum and the
    /// correct one, if they differ.
    fn segments(
        &self,
        pieces: usize,
        size: usize,
        wrong: Option<(Checksum, Checksum)>,
        out: &mut FrameDatagrams<'_>,
    ) -> Sum {
        let mut payload = Sum::ZERO;
        for piece in 0..pieces {
            let before = piece * size;
            let start = self.payload.start + before;
            let body = start..(start + size).min(self.payload.end);
            let sum = Sum::of(&self.inner.frame.bytes[body.clone()]);
            payload = payload.plus(if before.is_multiple_of(2) {
                sum
            } else {
                sum.one_byte_later()
            });
            self.segment(piece, body, sum, wrong, out);
        }
        payload
    }

    /// The correct checksum of the whole segment, from the sum of its payload.
    fn right_checksum(&self, payload: Sum) -> Checksum {
        let header = self.header.header();
        self.network
            .pseudo(ip::TCP, header.len() + self.payload.len())
            .plus(Sum::of(header))
            .minus_u16(self.header.checksum().get())
            .plus(payload)
            .finish()
    }

    fn segment(
        &self,
        piece: usize,
        body: Range<usize>,
        payload: Sum,
        wrong: Option<(Checksum, Checksum)>,
        out: &mut FrameDatagrams<'_>,
    ) {
        let header = self.header.header();
        let flags = self.header.flags();
        let (is_first, is_last) = (piece == 0, body.end == self.payload.end);
        // A SYN uses one sequence number, before the payload (RFC 9293 section 3.4).
        let syn = u32::from(flags & tcp::SYN != 0 && !is_first);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a frame has less than 4 GiB"
        )]
        let before = (body.start - self.payload.start) as u32;
        let sequence = self
            .header
            .sequence()
            .wrapping_add(before)
            .wrapping_add(syn);
        let mut keep = u8::MAX;
        if !is_first {
            keep &= !(tcp::CWR | tcp::SYN);
        }
        if !is_last {
            keep &= !(tcp::PSH | tcp::FIN);
        }

        out.start();
        self.network
            .write(self.inner, piece, header.len() + body.len(), out);
        let at = out.write(header);
        let copy = out.patch(at);
        copy[tcp::AT_SEQUENCE..tcp::AT_SEQUENCE + 4].copy_from_slice(&sequence.to_be_bytes());
        copy[tcp::AT_FLAGS] = flags & keep;
        if self.moves_urgent && flags & tcp::URG != 0 {
            move_urgent(copy, before);
        }
        copy[tcp::AT_CHECKSUM..tcp::AT_CHECKSUM + 2].fill(0);
        let right = self
            .network
            .pseudo(ip::TCP, header.len() + body.len())
            .plus(Sum::of(copy))
            .plus(payload)
            .finish();
        let checksum = wrong.map_or(right, |(found, was_right)| {
            right.with_error_of(found, was_right)
        });
        copy[tcp::AT_CHECKSUM..tcp::AT_CHECKSUM + 2].copy_from_slice(&checksum.get().to_be_bytes());
        out.end(body);
    }
}

/// Adjusts the urgent pointer for a segment that starts `before` bytes later; a segment after the
/// urgent data is not urgent.
fn move_urgent(header: &mut [u8], before: u32) {
    let field = &mut header[tcp::AT_URGENT..tcp::AT_URGENT + 2];
    let pointer = u32::from(u16::from_be_bytes([field[0], field[1]])).saturating_sub(before);
    field.copy_from_slice(&u16::try_from(pointer).unwrap_or(u16::MAX).to_be_bytes());
    if pointer == 0 && before > 0 {
        header[tcp::AT_FLAGS] &= !tcp::URG;
    }
}

/// Splits a frame of several UDP datagrams of one size (USO, UDP GRO) into these datagrams.
pub(crate) fn udp(
    inner: &Inner<'_>,
    packet: &Packet,
    gso_size: u16,
    identifications: &mut Identifications,
    out: &mut FrameDatagrams<'_>,
) -> Result<(), DropReason> {
    let bytes = inner.frame.bytes;
    let network = NetworkHeader::of(inner.frame, packet, false).ok_or(DropReason::Malformed)?;
    let payload = packet.transport + UDP_HEADER_LEN..packet.end;
    if payload.start > payload.end {
        return Err(DropReason::Malformed);
    }
    let size = usize::from(gso_size);
    let pieces = payload.len().div_ceil(size).max(1);
    if pieces > PIECES_MAX {
        return Err(DropReason::Malformed);
    }
    let headers = inner.prefix.grown(network.start) + network.len() + UDP_HEADER_LEN;
    for piece in 0..pieces {
        let start = payload.start + piece * size;
        let body = start..(start + size).min(payload.end);
        let length = UDP_HEADER_LEN + body.len();
        let mut header = [0; UDP_HEADER_LEN];
        header[..4].copy_from_slice(&bytes[packet.transport..packet.transport + 4]);
        header[4..6].copy_from_slice(&length_field(length).to_be_bytes());
        let checksum = network
            .pseudo(ip::UDP, length)
            .plus(Sum::of(&header))
            .plus(Sum::of(&bytes[body.clone()]))
            .finish()
            .or_all_ones();
        header[6..].copy_from_slice(&checksum.get().to_be_bytes());

        if headers + body.len() <= inner.room {
            out.start();
            network.write(inner, piece, length, out);
            out.write(&header);
            out.end(body);
        } else {
            let data = Data::of_datagram(inner.frame, packet, &header, body)?;
            fragment::data(inner, packet, &data, identifications.next(), out)?;
        }
    }
    Ok(())
}

/// A length for a header's field. More than 16 bits occur only in packets that are fragmented later.
fn length_field(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(0)
}

/// The network header, which is the same in all pieces except for the lengths.
struct NetworkHeader<'f> {
    /// Where it starts in the frame.
    start: usize,
    /// All its bytes, including extension headers.
    bytes: &'f [u8],
    kind: Kind<'f>,
    /// The sum of the pseudo-header without protocol and length.
    addresses: Sum,
}

enum Kind<'f> {
    V4 {
        ip: Ipv4<'f>,
        /// Whether a wrong header checksum stays wrong.
        keep_error: bool,
    },
    V6 {
        /// Whether a jumbo payload option is removed.
        jumbo: bool,
    },
}

impl<'f> NetworkHeader<'f> {
    fn of(frame: &Frame<'f>, packet: &Packet, keep_error: bool) -> Option<Self> {
        let bytes = frame.bytes.get(packet.start..packet.transport)?;
        let (kind, addresses) = match packet.version {
            Version::V4 => {
                let ip = Ipv4::parse(bytes)?;
                (
                    Kind::V4 { ip, keep_error },
                    pseudo_v4(ip.source(), ip.destination(), 0, 0),
                )
            }
            Version::V6(chain) => {
                let ip = Ipv6::parse(bytes)?;
                let addresses = unfinished_addresses(frame, packet)
                    .unwrap_or_else(|| pseudo_v6(ip.source(), ip.destination(), 0, 0));
                (Kind::V6 { jumbo: chain.jumbo }, addresses)
            }
        };
        Some(Self {
            start: packet.start,
            bytes,
            kind,
            addresses,
        })
    }

    /// Its length in each piece.
    const fn len(&self) -> usize {
        match self.kind {
            Kind::V6 { jumbo: true } => self.bytes.len() - ipv6::JUMBO_HEADER_LEN,
            _ => self.bytes.len(),
        }
    }

    /// The sum of the pseudo-header for a transport packet of `length` bytes.
    fn pseudo(&self, protocol: u8, length: usize) -> Sum {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a frame has less than 4 GiB"
        )]
        let length = length as u32;
        self.addresses
            .plus_u16(u16::from(protocol))
            .plus_u32(length)
    }

    /// Writes link and network header of a piece whose transport packet has `length` bytes.
    fn write(&self, inner: &Inner<'_>, piece: usize, length: usize, out: &mut FrameDatagrams<'_>) {
        inner.prefix.write(inner.frame, self.start, out);
        match &self.kind {
            Kind::V4 { ip, keep_error } => {
                let at = out.write(self.bytes);
                let header = out.patch(at);
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "wraps as the kernel's does"
                )]
                let id = ip.id().wrapping_add(piece as u16);
                let total = length_field(self.bytes.len() + length);
                fragment::patch_v4(header, total, id, ip.fragment_field());
                if *keep_error {
                    fragment::keep_error_v4(header, ip);
                }
            }
            Kind::V6 { jumbo } => {
                let at = out.write(&self.bytes[..ipv6::HEADER_LEN]);
                let skipped = if *jumbo { ipv6::JUMBO_HEADER_LEN } else { 0 };
                out.write(&self.bytes[ipv6::HEADER_LEN + skipped..]);
                let header = out.patch(at);
                if *jumbo {
                    header[ipv6::AT_NEXT_HEADER] = self.bytes[ipv6::HEADER_LEN];
                }
                let payload = length_field(self.len() - ipv6::HEADER_LEN + length);
                header[ipv6::AT_PAYLOAD_LEN..ipv6::AT_PAYLOAD_LEN + 2]
                    .copy_from_slice(&payload.to_be_bytes());
            }
        }
    }
}

/// The pseudo-header's sum over IPv6 from an unfinished checksum field, without protocol and length.
/// With a routing header, the checksum uses the last destination (RFC 8200 section 8.1), and the kernel
/// has already added it to the field. Without extension headers the addresses of the header are enough.
fn unfinished_addresses(frame: &Frame<'_>, packet: &Packet) -> Option<Sum> {
    let ChecksumState::Unfinished(unfinished) = frame.offload.checksum else {
        return None;
    };
    let start = usize::from(unfinished.start);
    if start != packet.transport || packet.transport - packet.start == ipv6::HEADER_LEN {
        return None;
    }
    let at = start + usize::from(unfinished.offset);
    let field = frame.bytes.get(at..at + 2)?;
    let length = u32::try_from(packet.end - packet.transport).ok()?;
    let [a, b, c, d] = length.to_be_bytes();
    Some(
        Sum::of(field)
            .minus_u16(u16::from(packet.protocol))
            .minus_u16(u16::from_be_bytes([a, b]))
            .minus_u16(u16::from_be_bytes([c, d])),
    )
}
