//! Keeps what a vxlan device receives away from the IP stack of the pod.
//!
//! A copy is a frame of somebody else's network. The kernel hands it to the packet sockets on the device,
//! and then to the pod's own IP stack, as if the device were a network card. Most copies are for another
//! address and go no further. But a router advertisement in a copy gave the pod a default route over the
//! device (measured), and a broadcast frame can carry a packet to a local socket. In the pod of an
//! application that would change the application's traffic. So an nftables chain at the device's ingress
//! drops everything; packet sockets get their frames before it (`__netif_receive_skb_core` in
//! `net/core/dev.c`).
//!
//! In: the device's name. Out: one batch of netfilter messages, which the kernel takes as a whole or not
//! at all: make the table, delete it with what it had, make it again with the chain. So it can be sent
//! any number of times. Sources: `net/netfilter/nf_tables_api.c`, `include/uapi/linux/netfilter/
//! nf_tables.h`, `include/uapi/linux/netfilter/nfnetlink.h`.

use std::io;
use std::os::fd::AsRawFd as _;

use libc::{
    NF_DROP, NF_NETDEV_INGRESS, NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES,
    NFPROTO_NETDEV, NFPROTO_UNSPEC, NFT_MSG_DELTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_NEWTABLE,
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NLMSG_ERROR, c_int,
};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// `nlmsghdr` and `nfgenmsg`.
const HEADER_LEN: usize = 16 + 4;
/// The bit of an attribute's type that says that attributes are in it.
const NESTED: u16 = 1 << 15;
const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVICE: u16 = 3;

/// Drops everything that `device` receives, after the packet sockets.
pub(crate) fn isolate(device: &str) -> io::Result<()> {
    transact(&isolating(device))
}

/// Removes the table again.
pub(crate) fn release(device: &str) -> io::Result<()> {
    transact(&releasing(device))
}

fn isolating(device: &str) -> Vec<u8> {
    let table = table_of(device);
    let named = attribute(TABLE_NAME, &text(&table));
    let hook = [
        attribute(HOOK_NUMBER, &NF_NETDEV_INGRESS.to_be_bytes()),
        attribute(HOOK_PRIORITY, &0_i32.to_be_bytes()),
        attribute(HOOK_DEVICE, &text(device)),
    ];
    let chain = [
        attribute(CHAIN_TABLE, &text(&table)),
        attribute(CHAIN_NAME, &text("ingress")),
        attribute(CHAIN_TYPE, &text("filter")),
        attribute(CHAIN_HOOK | NESTED, &hook.concat()),
        attribute(CHAIN_POLICY, &NF_DROP.to_be_bytes()),
    ];
    batch(&[
        (NFT_MSG_NEWTABLE, &named),
        (NFT_MSG_DELTABLE, &named),
        (NFT_MSG_NEWTABLE, &named),
        (NFT_MSG_NEWCHAIN, &chain.concat()),
    ])
}

fn releasing(device: &str) -> Vec<u8> {
    let named = attribute(TABLE_NAME, &text(&table_of(device)));
    batch(&[(NFT_MSG_NEWTABLE, &named), (NFT_MSG_DELTABLE, &named)])
}

fn table_of(device: &str) -> String {
    format!("podspan-{device}")
}

/// Messages in one piece. Only the last is acknowledged; an error of any of them is the first answer.
fn batch(messages: &[(c_int, &[u8])]) -> Vec<u8> {
    let mut batch = frame(NFNL_MSG_BATCH_BEGIN);
    for (number, (kind, attributes)) in (1..).zip(messages) {
        let kind = (NFNL_SUBSYS_NFTABLES << 8) | kind;
        let acknowledge = if number == messages.len() {
            NLM_F_ACK
        } else {
            0
        };
        let flags = NLM_F_REQUEST | NLM_F_CREATE | acknowledge;
        batch.extend(message(kind, flags, NFPROTO_NETDEV, 0, attributes));
    }
    batch.extend(frame(NFNL_MSG_BATCH_END));
    batch
}

/// The message before or after the others.
fn frame(kind: c_int) -> Vec<u8> {
    // The "resource" names the subsystem.
    message(
        kind,
        NLM_F_REQUEST,
        NFPROTO_UNSPEC,
        NFNL_SUBSYS_NFTABLES,
        &[],
    )
}

fn message(
    kind: c_int,
    flags: c_int,
    family: c_int,
    resource: c_int,
    attributes: &[u8],
) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_LEN + attributes.len());
    message.extend(word(HEADER_LEN + attributes.len()).to_ne_bytes());
    message.extend(half(kind).to_ne_bytes());
    message.extend(half(flags).to_ne_bytes());
    // Sequence number and port: the answers come in order.
    message.extend([0; 8]);
    message.extend([family.to_le_bytes()[0], 0]);
    message.extend(half(resource).to_be_bytes());
    message.extend(attributes);
    message
}

/// An attribute, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = Vec::with_capacity(4 + value.len());
    attribute.extend(half(4 + value.len()).to_ne_bytes());
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// A number in a field of 16 bits. Names have at most 15 bytes, so nothing is as large.
fn half(number: impl TryInto<u16>) -> u16 {
    number.try_into().unwrap_or(u16::MAX)
}

fn word(number: usize) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

/// Sends a batch and waits for the answer.
fn transact(batch: &[u8]) -> io::Result<()> {
    let netfilter = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    send(netfilter.as_raw_fd(), batch, MsgFlags::empty())?;
    let mut answer = [0; 4096];
    let length = recv(netfilter.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    match refusal(answer.get(..length).unwrap_or_default()) {
        Some(Errno::UnknownErrno) => Ok(()),
        Some(errno) => Err(errno.into()),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The error in an answer, which is 0 for an acknowledgement. `None` where the bytes are no answer.
fn refusal(answer: &[u8]) -> Option<Errno> {
    let kind = answer.get(4..6)?.first_chunk()?;
    let code = answer.get(16..20)?.first_chunk()?;
    let is_answer = c_int::from(u16::from_ne_bytes(*kind)) == NLMSG_ERROR;
    is_answer.then(|| Errno::from_raw(i32::from_ne_bytes(*code).saturating_neg()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the kernel takes the batch is tested in `crates/agent/tests/namespace/sensor.rs`.
    #[test]
    fn the_batch_is_whole_messages_of_whole_attributes() {
        let batch = isolating("vxlan0");
        let mut rest = batch.as_slice();
        let mut kinds = Vec::new();
        while !rest.is_empty() {
            let length = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
            assert_eq!(length % 4, 0);
            kinds.push(u16::from_ne_bytes([rest[4], rest[5]]));
            attributes(&rest[HEADER_LEN..length]);
            rest = &rest[length..];
        }
        assert_eq!(kinds, [0x10, 0xa00, 0xa02, 0xa00, 0xa03, 0x11]);
    }

    fn attributes(mut rest: &[u8]) {
        while !rest.is_empty() {
            let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
            let kind = u16::from_ne_bytes([rest[2], rest[3]]);
            if kind & NESTED != 0 {
                attributes(&rest[4..length]);
            }
            rest = &rest[length.next_multiple_of(4)..];
        }
    }

    #[test]
    fn an_answer_is_an_error_or_none() {
        let mut answer = [0; 36];
        answer[4] = 2;
        assert_eq!(refusal(&answer), Some(Errno::UnknownErrno));
        answer[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(refusal(&answer), Some(Errno::EPERM));
        assert_eq!(refusal(&answer[..19]), None);
        answer[4] = 3;
        assert_eq!(refusal(&answer), None);
    }
}
