//! What the kernel lets into the ring: a cBPF program on the packet socket.
//!
//! In: the mark of our own datagrams. Out: a program for `SO_ATTACH_FILTER`. The kernel runs it on
//! every frame before it counts or copies it, so what is refused here costs no memory of the ring
//! and is in none of the counters.
//!
//! Refused are
//! - frames with our mark: the mirrored datagrams leave through the interface that is captured. The
//!   mark is a property of the packet in the kernel, so it is on every fragment of a datagram, which
//!   ports are not;
//! - on a loopback device the outgoing sighting: every packet comes back in, and is seen then;
//! - frames of a hardware type that we do not know, see [`link_of`]. Only a device that changes its
//!   type, or takes another's name, in the moment of binding could bring any.
//!
//! The program asks the frame's device for its type instead of being made for one device. So it is
//! attached once, before the first bind, and holds whatever the socket is bound to later: there is
//! no moment without it. Sources: `bpf_convert_filter` and `convert_bpf_extensions` in
//! `net/core/filter.c`, `run_filter` in `net/packet/af_packet.c`.

use std::num::NonZeroU32;

use libc::{
    ARPHRD_ETHER, ARPHRD_LOOPBACK, ARPHRD_NONE, BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET,
    BPF_W, SKF_AD_HATYPE, SKF_AD_MARK, SKF_AD_OFF, SKF_AD_PKTTYPE, sock_filter,
};
use wire::Link;

/// `ARPHRD_RAWIP` of `include/uapi/linux/if_arp.h`: devices that carry bare IP packets.
const ARPHRD_RAWIP: u16 = 519;
/// `PACKET_OUTGOING` of `include/uapi/linux/if_packet.h`, as the kernel keeps it.
pub(crate) const PACKET_OUTGOING: u8 = libc::PACKET_OUTGOING;

/// The number of bytes of an accepted frame that go into the ring: all.
const WHOLE: u32 = u32::MAX;

/// A filter program.
pub type Program = [sock_filter; 11];

/// What frames of a hardware type (`ARPHRD_*`) start with; nothing for types that are not
/// mirrored.
#[must_use]
pub const fn link_of(hardware: u16) -> Option<Link> {
    match hardware {
        ARPHRD_ETHER => Some(Link::Ethernet),
        ARPHRD_LOOPBACK => Some(Link::Loopback),
        ARPHRD_NONE | ARPHRD_RAWIP => Some(Link::Ip),
        _ => None,
    }
}

/// The program that refuses frames marked with `mark`, the first sighting on loopback, and frames
/// of unknown hardware types.
#[must_use]
pub const fn program(mark: NonZeroU32) -> Program {
    const ACCEPT: u8 = 9;
    const REFUSE: u8 = 10;
    [
        load(SKF_AD_MARK),
        equal(1, mark.get(), REFUSE, 2),
        load(SKF_AD_HATYPE),
        equal(3, ARPHRD_ETHER as u32, ACCEPT, 4),
        equal(4, ARPHRD_NONE as u32, ACCEPT, 5),
        equal(5, ARPHRD_RAWIP as u32, ACCEPT, 6),
        equal(6, ARPHRD_LOOPBACK as u32, 7, REFUSE),
        load(SKF_AD_PKTTYPE),
        equal(8, PACKET_OUTGOING as u32, REFUSE, ACCEPT),
        give_back(WHOLE),
        give_back(0),
    ]
}

/// The program that refuses every frame.
#[must_use]
pub const fn refuse_all() -> [sock_filter; 1] {
    [give_back(0)]
}

/// Loads a property of the packet that stands beside its bytes (`SKF_AD_*`).
const fn load(property: libc::c_int) -> sock_filter {
    sock_filter {
        code: code(BPF_LD | BPF_W | BPF_ABS),
        jt: 0,
        jf: 0,
        k: (SKF_AD_OFF + property).cast_unsigned(),
    }
}

/// The instruction at place `at`: where what was loaded equals `value` goes on at `then`, else at
/// `otherwise`. Both lie behind it.
const fn equal(at: u8, value: u32, then: u8, otherwise: u8) -> sock_filter {
    sock_filter {
        code: code(BPF_JMP | BPF_JEQ | BPF_K),
        jt: then - at - 1,
        jf: otherwise - at - 1,
        k: value,
    }
}

/// Ends the program: that many bytes of the frame are taken, none for 0.
const fn give_back(bytes: u32) -> sock_filter {
    sock_filter {
        code: code(BPF_RET | BPF_K),
        jt: 0,
        jf: 0,
        k: bytes,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "an operation code of cBPF has 16 bits; libc's constants are wider"
)]
const fn code(operation: u32) -> u16 {
    operation as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: NonZeroU32 = NonZeroU32::new(0x706f_6473).unwrap();

    /// What the program can see of a packet.
    #[derive(Clone, Copy)]
    struct Packet {
        mark: u32,
        hardware: u16,
        kind: u8,
    }

    /// Runs a program as `Documentation/networking/filter.rst` describes the instructions, for the
    /// subset that is in use. Any other instruction or a jump out of the program is a panic.
    fn run(program: &[sock_filter], packet: Packet) -> u32 {
        let mut accumulator = 0;
        let mut at = 0;
        loop {
            let instruction = &program[at];
            at += 1;
            match u32::from(instruction.code) {
                0x20 => {
                    accumulator = match instruction.k.cast_signed() - SKF_AD_OFF {
                        4 => u32::from(packet.kind),
                        20 => packet.mark,
                        28 => u32::from(packet.hardware),
                        other => panic!("loads property {other}"),
                    }
                }
                0x15 if accumulator == instruction.k => at += usize::from(instruction.jt),
                0x15 => at += usize::from(instruction.jf),
                0x06 => return instruction.k,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn our_mark_is_refused_on_every_kind_of_device_and_in_both_directions() {
        for hardware in [1, 772, 0xfffe, 519] {
            for kind in 0..8 {
                let packet = |mark| Packet {
                    mark,
                    hardware,
                    kind,
                };
                assert_eq!(run(&program(MARK), packet(MARK.get())), 0);
                let seen = !(hardware == 772 && kind == 4);
                for other in [0, 1, MARK.get() - 1, u32::MAX] {
                    let want = if seen { u32::MAX } else { 0 };
                    assert_eq!(run(&program(MARK), packet(other)), want);
                }
            }
        }
    }

    #[test]
    fn the_program_and_the_table_of_types_agree() {
        let step = if cfg!(miri) { 259 } else { 1 };
        for hardware in (0..=u16::MAX).step_by(step) {
            let packet = Packet {
                mark: 0,
                hardware,
                kind: 0,
            };
            let accepted = run(&program(MARK), packet) != 0;
            assert_eq!(accepted, link_of(hardware).is_some(), "type {hardware}");
        }
    }

    #[test]
    fn nothing_passes_the_last_filter() {
        let packet = Packet {
            mark: 0,
            hardware: 1,
            kind: 0,
        };
        assert_eq!(run(&refuse_all(), packet), 0);
    }
}
