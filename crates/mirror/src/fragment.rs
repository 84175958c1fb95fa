//! Valid IP fragments of a packet that does not fit the tunnel and cannot be split in another way.
//!
//! In: a valid IP packet, which can be a fragment already, and the length that fits. Out: inner
//! fragments. The outer packet is never fragmented (RFC 7348 section 4.3). An unfinished checksum is
//! finished first.
//!
//! Over IPv4 (RFC 791): all fragments except the last have a multiple of eight bytes, "don't fragment" is
//! cleared, and after the first fragment, options without the copied bit become no-ops. A packet that was
//! whole on the wire gets an identification from podspan: with "don't fragment", its own may have any
//! value (RFC 6864); without, another packet may have the same one. A fragment keeps its identification,
//! because the other fragments of its packet have it too. Over IPv6 (RFC 8200 section 4.5): the
//! unfragmentable part is repeated, and a Fragment header follows it.

use core::ops::Range;

use wire::Frame;
use wire::ip::{Network, Packet, Version};
use wire::ipv4::{self, DONT_FRAGMENT, Ipv4, MORE_FRAGMENTS, OFFSET_MASK};
use wire::ipv6::{self, Chain};

use crate::batch::FrameDatagrams;
use crate::{DropReason, Inner, whole};

/// The most rewritten bytes before the body: headers up to a checksum, including those of tunnels.
const LEAD_MAX: usize = 256;
/// Fragments have multiples of this many bytes.
const UNIT: usize = 8;

/// The fragmentable part of a packet: rewritten bytes, then a range of the frame.
pub(crate) struct Data {
    lead: [u8; LEAD_MAX],
    lead_len: usize,
    body: Range<usize>,
}

impl Data {
    const fn of_body(body: Range<usize>) -> Self {
        Self {
            lead: [0; LEAD_MAX],
            lead_len: 0,
            body,
        }
    }

    fn then(mut self, bytes: &[u8]) -> Result<Self, DropReason> {
        let end = self.lead_len + bytes.len();
        let room = self
            .lead
            .get_mut(self.lead_len..end)
            .ok_or(DropReason::UnknownOffload)?;
        room.copy_from_slice(bytes);
        self.lead_len = end;
        Ok(self)
    }

    /// The fragmentable part of a packet, with its checksum finished.
    fn of_packet(frame: &Frame<'_>, packet: &Packet) -> Result<Self, DropReason> {
        let start = fragmentable(packet);
        match whole::finish(frame, &Network::Ip(*packet)) {
            Some(finished) if finished.at >= start && finished.end() <= packet.end => {
                Self::of_body(finished.end()..packet.end)
                    .then(&frame.bytes[start..finished.at])?
                    .then(finished.bytes())
            }
            _ => Ok(Self::of_body(start..packet.end)),
        }
    }

    /// The fragmentable part of one of several UDP datagrams, with its new header.
    pub(crate) fn of_datagram(
        frame: &Frame<'_>,
        packet: &Packet,
        header: &[u8],
        body: Range<usize>,
    ) -> Result<Self, DropReason> {
        let between = &frame.bytes[fragmentable(packet)..packet.transport];
        Self::of_body(body).then(between)?.then(header)
    }

    fn len(&self) -> usize {
        self.lead_len + self.body.len()
    }

    /// Writes the rewritten bytes of a range, and returns the rest of it as a range of the frame.
    fn write(&self, part: Range<usize>, out: &mut FrameDatagrams<'_>) -> Range<usize> {
        let lead = part.start.min(self.lead_len)..part.end.min(self.lead_len);
        out.write(&self.lead[lead]);
        let in_body = |at: usize| self.body.start + at.saturating_sub(self.lead_len);
        in_body(part.start)..in_body(part.end)
    }
}

/// Where the fragmentable part starts in the frame.
fn fragmentable(packet: &Packet) -> usize {
    match packet.version {
        Version::V4 => packet.transport,
        Version::V6(Chain {
            fragment: Some(at), ..
        }) => packet.start + at + ipv6::FRAGMENT_HEADER_LEN,
        Version::V6(chain) => packet.start + chain.unfragmentable,
    }
}

/// The identifications that podspan gives to packets, for all sensors and both versions of IP: one for
/// each packet that it fragments, increasing by one. IPv4 uses the lower 16 bits, so none is repeated
/// within 65,536 packets.
#[derive(Debug)]
pub(crate) struct Identifications(u32);

impl Identifications {
    /// Starts with this one.
    pub(crate) const fn from(first: u32) -> Self {
        Self(first)
    }

    pub(crate) const fn next(&mut self) -> u32 {
        let id = self.0;
        self.0 = id.wrapping_add(1);
        id
    }
}

/// Splits a packet into fragments.
pub(crate) fn packet(
    inner: &Inner<'_>,
    packet: &Packet,
    identifications: &mut Identifications,
    out: &mut FrameDatagrams<'_>,
) -> Result<(), DropReason> {
    let fragmentable = Data::of_packet(inner.frame, packet)?;
    data(inner, packet, &fragmentable, identifications.next(), out)
}

/// Splits the fragmentable part of a packet into fragments; `id` is for a packet that is not a fragment.
pub(crate) fn data(
    inner: &Inner<'_>,
    packet: &Packet,
    data: &Data,
    id: u32,
    out: &mut FrameDatagrams<'_>,
) -> Result<(), DropReason> {
    let bytes = inner.frame.bytes;
    match packet.version {
        Version::V4 => {
            let header = &bytes[packet.start..packet.transport];
            let ip = Ipv4::parse(header).ok_or(DropReason::Malformed)?;
            V4 { ip, id }.split(inner, packet, data, out)
        }
        Version::V6(chain) => {
            let header = &bytes[packet.start..packet.start + chain.unfragmentable];
            V6::of(bytes, packet, &chain, header, id).split(inner, packet, data, out)
        }
    }
}

/// How one version writes a fragment's headers.
trait Header {
    /// The length of the headers before a fragment's data, without the link header.
    fn len(&self) -> usize;
    /// The offset of the packet's data in units of eight bytes; not zero if it is a later fragment.
    fn first_offset(&self) -> usize;
    /// Writes the headers for `length` bytes of data at `offset` units.
    fn write(&self, offset: u16, length: usize, place: Place, out: &mut FrameDatagrams<'_>);

    fn split(
        &self,
        inner: &Inner<'_>,
        packet: &Packet,
        data: &Data,
        out: &mut FrameDatagrams<'_>,
    ) -> Result<(), DropReason> {
        let headers = inner.prefix.grown(packet.start) + self.len();
        let most = inner.room.saturating_sub(headers) / UNIT * UNIT;
        if most < UNIT.max(data.lead_len) {
            return Err(DropReason::Oversize);
        }
        let length = data.len();
        let mut at = 0;
        while at < length {
            let end = (at + most).min(length);
            let offset = u16::try_from(self.first_offset() + at / UNIT)
                .ok()
                .filter(|offset| *offset <= OFFSET_MASK)
                .ok_or(DropReason::Malformed)?;
            let place = Place {
                is_first: at == 0,
                is_last: end == length,
            };
            out.start();
            inner.prefix.write(inner.frame, packet.start, out);
            self.write(offset, end - at, place, out);
            let body = data.write(at..end, out);
            out.end(body);
            at = end;
        }
        Ok(())
    }
}

/// Whether a fragment is the first or the last of those made from one packet.
#[derive(Clone, Copy)]
struct Place {
    is_first: bool,
    is_last: bool,
}

struct V4<'f> {
    ip: Ipv4<'f>,
    /// For a packet that is not a fragment.
    id: u32,
}

impl Header for V4<'_> {
    fn len(&self) -> usize {
        self.ip.header().len()
    }

    fn first_offset(&self) -> usize {
        usize::from(self.ip.fragment_field() & OFFSET_MASK)
    }

    fn write(&self, offset: u16, length: usize, place: Place, out: &mut FrameDatagrams<'_>) {
        let field = self.ip.fragment_field();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "IPv4 uses the lower 16 bits"
        )]
        let id = if self.ip.is_fragment() {
            self.ip.id()
        } else {
            self.id as u16
        };
        let more = if place.is_last {
            field & MORE_FRAGMENTS
        } else {
            MORE_FRAGMENTS
        };
        let reserved = field & !(DONT_FRAGMENT | MORE_FRAGMENTS | OFFSET_MASK);
        let total = u16::try_from(self.len() + length).unwrap_or(u16::MAX);

        let at = out.write(self.ip.header());
        let header = out.patch(at);
        if !place.is_first {
            ipv4::blank_uncopied_options(&mut header[ipv4::HEADER_LEN_MIN..]);
        }
        patch_v4(header, total, id, reserved | more | offset);
        keep_error_v4(header, &self.ip);
    }
}

/// Rewrites length, identification and fragment field of an IPv4 header, and its checksum.
pub(crate) fn patch_v4(header: &mut [u8], total_len: u16, id: u16, fragment_field: u16) {
    let mut put = |at: usize, value: u16| header[at..at + 2].copy_from_slice(&value.to_be_bytes());
    put(ipv4::AT_TOTAL_LEN, total_len);
    put(ipv4::AT_ID, id);
    put(ipv4::AT_FRAGMENT, fragment_field);
    if let Some(right) = Ipv4::parse(header).map(|ip| ip.right_checksum()) {
        header[ipv4::AT_CHECKSUM..ipv4::AT_CHECKSUM + 2]
            .copy_from_slice(&right.get().to_be_bytes());
    }
}

/// Gives the correct checksum of a rewritten IPv4 header the error of the original one.
pub(crate) fn keep_error_v4(header: &mut [u8], original: &Ipv4<'_>) {
    if let Some(right) = Ipv4::parse(header).map(|ip| ip.checksum()) {
        let kept = right.with_error_of(original.checksum(), original.right_checksum());
        header[ipv4::AT_CHECKSUM..ipv4::AT_CHECKSUM + 2].copy_from_slice(&kept.get().to_be_bytes());
    }
}

struct V6<'f> {
    unfragmentable: &'f [u8],
    /// The offset of the last "next header" field of the unfragmentable part.
    next_at: usize,
    /// The number of the header that follows that part.
    next: u8,
    first_offset: usize,
    more: bool,
    /// The reserved bits of the original Fragment header.
    reserved: (u8, u16),
    id: [u8; 4],
}

impl<'f> V6<'f> {
    fn of(bytes: &[u8], packet: &Packet, chain: &Chain, unfragmentable: &'f [u8], id: u32) -> Self {
        let header = chain
            .fragment
            .and_then(|at| bytes[packet.start + at..].first_chunk::<8>());
        let next_at = chain.unfragmentable_next;
        match header {
            Some([next, reserved, a, b, id @ ..]) => {
                let field = u16::from_be_bytes([*a, *b]);
                Self {
                    unfragmentable,
                    next_at,
                    next: *next,
                    first_offset: usize::from(field >> 3),
                    more: field & 1 != 0,
                    reserved: (*reserved, field & 0b110),
                    id: *id,
                }
            }
            None => Self {
                unfragmentable,
                next_at,
                next: unfragmentable[next_at],
                first_offset: 0,
                more: false,
                reserved: (0, 0),
                id: id.to_be_bytes(),
            },
        }
    }
}

impl Header for V6<'_> {
    fn len(&self) -> usize {
        self.unfragmentable.len() + ipv6::FRAGMENT_HEADER_LEN
    }

    fn first_offset(&self) -> usize {
        self.first_offset
    }

    fn write(&self, offset: u16, length: usize, place: Place, out: &mut FrameDatagrams<'_>) {
        let payload = self.len() - ipv6::HEADER_LEN + length;
        let payload = u16::try_from(payload).unwrap_or(u16::MAX);
        let more = !place.is_last || self.more;
        let field = (offset << 3 | self.reserved.1 | u16::from(more)).to_be_bytes();

        let at = out.write(self.unfragmentable);
        out.write(&[self.next, self.reserved.0]);
        out.write(&field);
        out.write(&self.id);
        let header = out.patch(at);
        header[ipv6::AT_PAYLOAD_LEN..ipv6::AT_PAYLOAD_LEN + 2]
            .copy_from_slice(&payload.to_be_bytes());
        header[self.next_at] = ipv6::FRAGMENT;
    }
}
