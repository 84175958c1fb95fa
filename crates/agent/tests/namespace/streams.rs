//! TCP streams put together from segments in the order in which they arrived, with nothing
//! forgiven: no gap, no overlap, no segment twice.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use testbed::traffic::{StreamHash, TcpOutcome};
use testbed::{FrameRef, Sink};

/// Both directions of every connection.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    by_ends: BTreeMap<(SocketAddr, SocketAddr), Stream>,
    /// Segments that did not follow the one before.
    pub(crate) out_of_place: u64,
    /// Segments with CWR, with ECE, with PSH, with FIN.
    pub(crate) flags: [u64; 4],
    /// Segments with a timestamp option.
    pub(crate) timestamps: u64,
    /// Segments that offer selective acknowledgements.
    pub(crate) sack_permitted: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Stream {
    next: Option<u32>,
    bytes: u64,
    hash: StreamHash,
}

impl Streams {
    pub(crate) fn take(&mut self, frame: &[u8]) {
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
        let taken =
            u32::try_from(payload.len()).unwrap() + u32::from(tcp.syn()) + u32::from(tcp.fin());
        let sequence = tcp.sequence_number();
        if taken > 0 && stream.next.is_some_and(|next| next != sequence) {
            self.out_of_place += 1;
        }
        if taken > 0 || stream.next.is_none() {
            stream.next = Some(sequence.wrapping_add(taken));
        }
        stream.bytes += payload.len() as u64;
        stream.hash.update(payload);
    }

    /// Asserts that two captures hold the same bytes of every stream, in the same order, with what
    /// the sender sent again sent again.
    pub(crate) fn assert_same(&self, other: &Self) {
        assert!(
            self.by_ends.keys().eq(other.by_ends.keys()),
            "the same streams"
        );
        for ((ends, one), (_, another)) in self.by_ends.iter().zip(&other.by_ends) {
            assert_eq!(one, another, "{ends:?}");
        }
        assert_eq!(self.out_of_place, other.out_of_place);
    }

    /// Whether both directions of a connection are here as the application sent them, so without
    /// anything that was sent again.
    pub(crate) fn holds(&self, sent: &TcpOutcome) -> bool {
        let is = |from, to, bytes, hash| {
            let stream = self.by_ends.get(&(from, to));
            stream.is_some_and(|stream| (stream.bytes, stream.hash) == (bytes, hash))
        };
        is(sent.client, sent.server, sent.upstream, sent.upstream_hash)
            && is(
                sent.server,
                sent.client,
                sent.downstream,
                sent.downstream_hash,
            )
    }
}

impl Sink for Streams {
    fn take(&mut self, frame: FrameRef<'_>) {
        Self::take(self, frame.bytes);
    }
}
