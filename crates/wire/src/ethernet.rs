//! The link header: two addresses, tags, and the protocol that follows (IEEE 802.3, 802.1Q).
//!
//! In: a frame. Out: the EtherType after all tags, and where the payload starts. For a frame that ends
//! within its tags, or has a length (802.3/LLC) in place of the type, podspan reads no network layer.
//! It mirrors the frame all the same.

use crate::frame::{Frame, Link};

/// Bytes of an untagged header.
pub const HEADER_LEN: usize = 14;
/// Bytes of the two addresses, before any tag.
pub const ADDRESSES_LEN: usize = 12;
/// Bytes of one tag.
pub const TAG_LEN: usize = 4;
/// Customer tag (802.1Q).
pub const TYPE_VLAN: u16 = 0x8100;
/// Service tag (802.1ad).
pub const TYPE_SERVICE_VLAN: u16 = 0x88a8;
/// The service tag of older switches.
pub const TYPE_QINQ: u16 = 0x9100;
/// IPv4.
pub const TYPE_IPV4: u16 = 0x0800;
/// IPv6.
pub const TYPE_IPV6: u16 = 0x86dd;

/// A frame with more tags has no payload here: no network stacks so many VLANs.
const TAGS_MAX: usize = 8;

/// Artificial addresses for frames that have none, destination first: locally administered (the second
/// lowest bit), unicast, and neither zero nor a device's own, which receivers would drop.
pub const ARTIFICIAL_ADDRESSES: [u8; ADDRESSES_LEN] =
    [0x02, b'p', b'o', b'd', 0, 2, 0x02, b'p', b'o', b'd', 0, 1];

/// The addresses that replace those of a frame whose source is zero, which receivers drop (the
/// kernel's `vxlan_rcv` does): an artificial source, and an artificial destination if that is zero too.
/// `None` if the source is not zero.
#[must_use]
pub fn usable_addresses(addresses: &[u8; ADDRESSES_LEN]) -> Option<[u8; ADDRESSES_LEN]> {
    let (destination, source) = addresses.split_at(ADDRESSES_LEN / 2);
    if source != [0; 6] {
        return None;
    }
    let mut usable = ARTIFICIAL_ADDRESSES;
    if destination != [0; 6] {
        usable[..6].copy_from_slice(destination);
    }
    Some(usable)
}

/// The payload of a frame: its type and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// The EtherType after the last tag; below 1,536 it is a length.
    pub ethertype: u16,
    /// Where the payload starts in [`Frame::bytes`].
    pub start: usize,
}

/// Finds the payload after the link header; `None` if the frame ends within the header.
#[must_use]
pub fn payload(frame: &Frame<'_>) -> Option<Payload> {
    match frame.link {
        Link::Ip => {
            let ethertype = match frame.bytes.first()? >> 4 {
                4 => TYPE_IPV4,
                6 => TYPE_IPV6,
                _ => return None,
            };
            Some(Payload {
                ethertype,
                start: 0,
            })
        }
        Link::Ethernet | Link::Loopback => after_tags(frame.bytes),
    }
}

fn after_tags(bytes: &[u8]) -> Option<Payload> {
    let mut at = ADDRESSES_LEN;
    for _ in 0..=TAGS_MAX {
        let field = bytes.get(at..at + 2)?;
        let ethertype = u16::from_be_bytes([field[0], field[1]]);
        if !matches!(ethertype, TYPE_VLAN | TYPE_SERVICE_VLAN | TYPE_QINQ) {
            return Some(Payload {
                ethertype,
                start: at + 2,
            });
        }
        at += TAG_LEN;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Direction, Timestamp};
    use crate::offload::Offload;

    fn frame(bytes: &[u8], link: Link) -> Frame<'_> {
        Frame {
            bytes,
            at: 0,
            headroom: 0,
            wire_len: u32::try_from(bytes.len()).unwrap(),
            timestamp: Timestamp::default(),
            direction: Direction::Incoming,
            link,
            vlan: None,
            offload: Offload::default(),
        }
    }

    fn with_types(types: &[u8]) -> Vec<u8> {
        [&[0; 12][..], types].concat()
    }

    #[test]
    fn the_payload_starts_after_the_tags() {
        let plain = with_types(&[0x08, 0x00, 0x45]);
        let want = Payload {
            ethertype: TYPE_IPV4,
            start: 14,
        };
        assert_eq!(payload(&frame(&plain, Link::Ethernet)), Some(want));
        let qinq = with_types(&[0x88, 0xa8, 0, 1, 0x81, 0x00, 0, 2, 0x86, 0xdd]);
        let want = Payload {
            ethertype: TYPE_IPV6,
            start: 22,
        };
        assert_eq!(payload(&frame(&qinq, Link::Ethernet)), Some(want));
    }

    #[test]
    fn a_frame_that_ends_within_its_tags_has_no_payload() {
        for types in [&[][..], &[0x08], &[0x81, 0x00], &[0x81, 0x00, 0, 1, 0x08]] {
            assert_eq!(payload(&frame(&with_types(types), Link::Ethernet)), None);
        }
        let endless = with_types(&[0x81, 0x00, 0, 1].repeat(20));
        assert_eq!(payload(&frame(&endless, Link::Ethernet)), None);
    }

    #[test]
    fn a_zero_source_is_replaced_and_then_a_zero_destination_too() {
        let mut addresses = [0; ADDRESSES_LEN];
        assert_eq!(usable_addresses(&addresses), Some(ARTIFICIAL_ADDRESSES));
        addresses[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        let usable = usable_addresses(&addresses).unwrap();
        assert_eq!(usable[..6], addresses[..6]);
        assert_eq!(usable[6..], ARTIFICIAL_ADDRESSES[6..]);
        addresses[11] = 1;
        assert_eq!(usable_addresses(&addresses), None);
        addresses[..6].fill(0);
        assert_eq!(usable_addresses(&addresses), None);
    }

    #[test]
    fn the_version_is_the_protocol_of_a_raw_ip_frame() {
        let want = Payload {
            ethertype: TYPE_IPV6,
            start: 0,
        };
        assert_eq!(payload(&frame(&[0x60, 0], Link::Ip)), Some(want));
        assert_eq!(payload(&frame(&[0x10, 0], Link::Ip)), None);
        assert_eq!(payload(&frame(&[], Link::Ip)), None);
    }
}
