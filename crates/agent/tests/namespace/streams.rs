//! TCP streams joined from segments, in two ways.
//!
//! First in the order of arrival, and every gap, overlap and repeated segment counts: two captures of
//! one wire must be equal, whatever the wire did. Second by sequence numbers, as TCP does: the result
//! must be what the application sent, whatever the kernel sent again or out of order.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use testbed::traffic::{StreamHash, TcpOutcome};
use testbed::{FrameRef, Sink};

/// Both directions of every connection.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    by_ends: BTreeMap<(SocketAddr, SocketAddr), Stream>,
    /// Segments that did not follow the previous one.
    pub(crate) out_of_order: u64,
    /// Segments with CWR, with ECE, with PSH, with FIN.
    pub(crate) flags: [u64; 4],
    /// Segments with a timestamp option.
    pub(crate) timestamps: u64,
    /// Segments that offer selective acknowledgements.
    pub(crate) sack_permitted: u64,
}

#[derive(Debug, Default)]
struct Stream {
    arrived: Arrived,
    joined: Joined,
}

/// A stream as its segments arrived.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arrived {
    next: Option<u32>,
    bytes: u64,
    hash: StreamHash,
}

/// A stream as its receiver reads it.
#[derive(Debug, Default)]
struct Joined {
    /// The sequence number of the first byte that has not arrived.
    next: Option<u32>,
    bytes: u64,
    hash: StreamHash,
    /// Payloads that arrived too early, by their place in the stream.
    ahead: BTreeMap<u64, Vec<u8>>,
}

impl Joined {
    /// Adds the payload that begins at `sequence`.
    fn add(&mut self, sequence: u32, payload: &[u8]) {
        let next = *self.next.get_or_insert(sequence);
        let distance = i64::from(sequence.wrapping_sub(next).cast_signed());
        let Some(place) = self.bytes.checked_add_signed(distance) else {
            return;
        };
        if place > self.bytes {
            let kept = self.ahead.entry(place).or_default();
            if kept.len() < payload.len() {
                *kept = payload.to_vec();
            }
            return;
        }
        self.append(place, payload);
        while let Some(entry) = self.ahead.first_entry()
            && *entry.key() <= self.bytes
        {
            let (place, payload) = entry.remove_entry();
            self.append(place, &payload);
        }
    }

    /// Appends the new part of a payload that begins at the end or before it.
    fn append(&mut self, place: u64, payload: &[u8]) {
        let old = usize::try_from(self.bytes - place).unwrap();
        let new = payload.get(old..).unwrap_or_default();
        self.hash.update(new);
        self.bytes += new.len() as u64;
        let length = u32::try_from(new.len()).unwrap();
        self.next = self.next.map(|next| next.wrapping_add(length));
    }
}

impl Streams {
    pub(crate) fn add(&mut self, frame: &[u8]) {
        let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
            return;
        };
        let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
            return;
        };
        let (source, destination): (IpAddr, IpAddr) = match packet.net {
            Some(NetSlice::Ipv4(ip)) => (
                ip.header().source_addr().into(),
                ip.header().destination_addr().into(),
            ),
            Some(NetSlice::Ipv6(ip)) => (
                ip.header().source_addr().into(),
                ip.header().destination_addr().into(),
            ),
            _ => return,
        };
        for (count, flag) in self
            .flags
            .iter_mut()
            .zip([tcp.cwr(), tcp.ece(), tcp.psh(), tcp.fin()])
        {
            *count += u64::from(flag);
        }
        for option in tcp.options_iterator().flatten() {
            match option {
                etherparse::TcpOptionElement::Timestamp(..) => self.timestamps += 1,
                etherparse::TcpOptionElement::SelectiveAcknowledgementPermitted => {
                    self.sack_permitted += 1;
                }
                _ => {}
            }
        }
        let key = (
            SocketAddr::new(source, tcp.source_port()),
            SocketAddr::new(destination, tcp.destination_port()),
        );
        let stream = self.by_ends.entry(key).or_default();
        let payload = tcp.payload();
        let length =
            u32::try_from(payload.len()).unwrap() + u32::from(tcp.syn()) + u32::from(tcp.fin());
        let sequence = tcp.sequence_number();
        let arrived = &mut stream.arrived;
        if length > 0 && arrived.next.is_some_and(|next| next != sequence) {
            self.out_of_order += 1;
        }
        if length > 0 || arrived.next.is_none() {
            arrived.next = Some(sequence.wrapping_add(length));
        }
        arrived.bytes += payload.len() as u64;
        arrived.hash.update(payload);
        let first = sequence.wrapping_add(u32::from(tcp.syn()));
        stream.joined.add(first, payload);
    }

    /// Asserts that two captures have the same bytes of every stream, in the same order, including
    /// retransmissions.
    pub(crate) fn assert_same(&self, other: &Self) {
        assert!(
            self.by_ends.keys().eq(other.by_ends.keys()),
            "the same streams"
        );
        for ((ends, one), (_, another)) in self.by_ends.iter().zip(&other.by_ends) {
            assert_eq!(one.arrived, another.arrived, "{ends:?}");
        }
        assert_eq!(self.out_of_order, other.out_of_order);
    }

    /// Asserts that both directions of every connection are complete, as the applications sent them.
    pub(crate) fn assert_hold(&self, connections: &[TcpOutcome]) {
        for sent in connections {
            let (client, server) = (sent.client, sent.server);
            for (from, to, bytes, hash) in [
                (client, server, sent.upstream, sent.upstream_hash),
                (server, client, sent.downstream, sent.downstream_hash),
            ] {
                let stream = self.by_ends.get(&(from, to));
                let joined = stream.map(|stream| (stream.joined.bytes, stream.joined.hash));
                assert_eq!(joined, Some((bytes, hash)), "{from} to {to}");
            }
        }
    }
}

impl Sink for Streams {
    fn receive(&mut self, frame: FrameRef<'_>) {
        self.add(frame.bytes);
    }
}
