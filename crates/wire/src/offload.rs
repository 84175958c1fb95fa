//! What the kernel left to be done later on a frame, as described by its `virtio_net_hdr`.
//!
//! In: the ten bytes that `PACKET_VNET_HDR` puts in front of a frame. Out: where a checksum must be
//! completed, and how the frame must be split. The offsets are not trusted: they are checked against
//! the frame where they are used. Source: `include/uapi/linux/virtio_net.h` and
//! `virtio_net_hdr_from_skb` in `include/linux/virtio_net.h`.

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum field contains only the pseudo-header's sum.
const F_NEEDS_CSUM: u8 = 1;
/// `VIRTIO_NET_HDR_F_DATA_VALID`: the receiving device has checked the checksum.
const F_DATA_VALID: u8 = 2;
/// `VIRTIO_NET_HDR_GSO_ECN`, a bit in addition to the type.
const GSO_ECN: u8 = 0x80;

/// The length of the header, without the fields that newer kernels can append.
pub const VIRTIO_NET_HDR_LEN: usize = 10;

/// The state of a frame's transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChecksumState {
    /// It is the checksum of the wire, correct or wrong.
    #[default]
    AsOnWire,
    /// The receiving device or an earlier layer has found it correct.
    Verified,
    /// It must still be completed (`CHECKSUM_PARTIAL`).
    Unfinished(Unfinished),
}

/// Where a checksum must be completed; the offsets are in bytes, as the kernel reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished {
    /// Where the sum starts, counted from the first byte of the frame.
    pub start: u16,
    /// Where the checksum field is, counted from `start`.
    pub offset: u16,
}

/// What a frame with `gso_size` must be split into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP segments over IPv4.
    TcpV4,
    /// TCP segments over IPv6.
    TcpV6,
    /// UDP datagrams, each with its own header (USO, UDP GRO).
    UdpL4,
    /// The number of a kind that no kernel passes to packet sockets today.
    Other(u8),
}

/// The offload of a frame that represents several frames of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gso {
    /// The protocol that is split.
    pub kind: GsoKind,
    /// Bytes of payload in each frame of the wire except the last.
    pub size: u16,
}

/// The content of a `virtio_net_hdr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offload {
    /// The state of the transport checksum.
    pub checksum: ChecksumState,
    /// How to split the frame, if it represents several.
    pub gso: Option<Gso>,
}

impl Offload {
    /// Reads a header in the byte order of this machine, as packet sockets write it.
    ///
    /// The `ECN` bit of `gso_type` is not needed: CWR belongs to the first segment with and without
    /// it. `hdr_len` is a hint about memory, not about headers, and is not read.
    #[must_use]
    pub fn parse(header: &[u8; VIRTIO_NET_HDR_LEN]) -> Self {
        let [flags, gso_type, _, _, s0, s1, c0, c1, o0, o1] = *header;
        let checksum = if flags & F_NEEDS_CSUM != 0 {
            ChecksumState::Unfinished(Unfinished {
                start: u16::from_ne_bytes([c0, c1]),
                offset: u16::from_ne_bytes([o0, o1]),
            })
        } else if flags & F_DATA_VALID != 0 {
            ChecksumState::Verified
        } else {
            ChecksumState::AsOnWire
        };
        let kind = match gso_type & !GSO_ECN {
            0 => None,
            1 => Some(GsoKind::TcpV4),
            4 => Some(GsoKind::TcpV6),
            5 => Some(GsoKind::UdpL4),
            other => Some(GsoKind::Other(other)),
        };
        let gso = kind.map(|kind| Gso {
            kind,
            size: u16::from_ne_bytes([s0, s1]),
        });
        Self { checksum, gso }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: u8, gso_type: u8, size: u16, start: u16, offset: u16) -> [u8; 10] {
        let mut h = [flags, gso_type, 0xaa, 0xaa, 0, 0, 0, 0, 0, 0];
        h[4..6].copy_from_slice(&size.to_ne_bytes());
        h[6..8].copy_from_slice(&start.to_ne_bytes());
        h[8..10].copy_from_slice(&offset.to_ne_bytes());
        h
    }

    #[test]
    fn a_plain_frame_has_no_offload() {
        assert_eq!(Offload::parse(&header(0, 0, 0, 0, 0)), Offload::default());
    }

    #[test]
    fn an_unfinished_checksum_and_tso_with_ecn_are_read() {
        let got = Offload::parse(&header(1, 0x81, 1448, 34, 16));
        let want = Offload {
            checksum: ChecksumState::Unfinished(Unfinished {
                start: 34,
                offset: 16,
            }),
            gso: Some(Gso {
                kind: GsoKind::TcpV4,
                size: 1448,
            }),
        };
        assert_eq!(got, want);
    }

    #[test]
    fn every_kind_of_gso_is_read() {
        let kind = |t| Offload::parse(&header(2, t, 9, 0, 0)).gso.map(|g| g.kind);
        assert_eq!(kind(0), None);
        assert_eq!(kind(4), Some(GsoKind::TcpV6));
        assert_eq!(kind(5), Some(GsoKind::UdpL4));
        assert_eq!(kind(3), Some(GsoKind::Other(3)));
        assert_eq!(
            Offload::parse(&header(2, 0, 0, 0, 0)).checksum,
            ChecksumState::Verified
        );
    }
}
