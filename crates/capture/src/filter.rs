//! Which frames the kernel writes into the ring: a cBPF program on the packet socket.
//!
//! In: the mark of podspan's datagrams, and the operator's filter. Out: a program for `SO_ATTACH_FILTER`.
//! The kernel runs it on every frame before it counts or copies it. A rejected frame uses no space in the
//! ring and is in no counter.
//!
//! The program rejects
//! - frames with podspan's mark, because the copies leave through the captured interface. The mark is a
//!   property of the packet in the kernel, so every fragment of a datagram has it, unlike the ports;
//! - on a loopback device the outgoing copy of a frame: every frame is captured when it comes back in;
//! - frames of an unknown hardware type, see [`link_of`]. They occur only if a device changes its type,
//!   or gets another's name, while the socket is bound;
//! - after these, what the operator's filter rejects (`FILTER`, or the pod's annotation). It has one program
//!   for frames with an Ethernet header and one for bare IP packets.
//!
//! The program reads the type of each frame's device, so it works for all devices. It is attached before
//! the first bind, and stays when the socket is bound to another device. Only another program replaces it
//! ([`crate::filter_handle`]), in one step: the socket is never without one.
//!
//! Sources: `bpf_convert_filter` and `convert_bpf_extensions` in `net/core/filter.c`, `run_filter` in
//! `net/packet/af_packet.c`.

use std::num::NonZeroU32;

use ::filter::{Filter, Instruction};
use libc::{
    ARPHRD_ETHER, ARPHRD_LOOPBACK, ARPHRD_NONE, BPF_ABS, BPF_JA, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD,
    BPF_RET, BPF_W, SKF_AD_HATYPE, SKF_AD_MARK, SKF_AD_OFF, SKF_AD_PKTTYPE, sock_filter,
};
use wire::Link;

/// `ARPHRD_RAWIP` of `include/uapi/linux/if_arp.h`: devices that carry bare IP packets.
const ARPHRD_RAWIP: u16 = 519;
/// `PACKET_OUTGOING` of `include/uapi/linux/if_packet.h`, as the kernel keeps it.
pub(crate) const PACKET_OUTGOING: u8 = libc::PACKET_OUTGOING;

/// How many bytes of an accepted frame go into the ring: all.
const WHOLE: u32 = u32::MAX;

/// The program without a filter of the operator.
pub type Program = [sock_filter; 11];

/// The link header of frames of a hardware type (`ARPHRD_*`); `None` for types that are not mirrored.
#[must_use]
pub const fn link_of(hardware: u16) -> Option<Link> {
    match hardware {
        ARPHRD_ETHER => Some(Link::Ethernet),
        ARPHRD_LOOPBACK => Some(Link::Loopback),
        ARPHRD_NONE | ARPHRD_RAWIP => Some(Link::Ip),
        _ => None,
    }
}

/// The program that rejects frames marked with `mark`, the outgoing copy on loopback, and frames of
/// unknown hardware types.
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
        return_bytes(WHOLE),
        return_bytes(0),
    ]
}

/// The same, and then the operator's filter.
#[must_use]
pub fn program_with(mark: NonZeroU32, filter: Option<&Filter>) -> Vec<sock_filter> {
    const ETHERNET: u8 = 9;
    const IP: u8 = 10;
    const REFUSE: u8 = 11;
    let Some(filter) = filter.filter(|filter| !filter.accepts_all()) else {
        return program(mark).to_vec();
    };
    let instructions = |link| filter.program(link).instructions();
    let ethernet = instructions(::filter::Link::Ethernet);
    let ip = instructions(::filter::Link::Ip);
    // A filter has at most 4,096 instructions.
    let after_ethernet = u32::try_from(ethernet.len()).unwrap_or(u32::MAX);
    let selection = [
        load(SKF_AD_MARK),
        equal(1, mark.get(), REFUSE, 2),
        load(SKF_AD_HATYPE),
        equal(3, u32::from(ARPHRD_ETHER), ETHERNET, 4),
        equal(4, u32::from(ARPHRD_NONE), IP, 5),
        equal(5, u32::from(ARPHRD_RAWIP), IP, 6),
        equal(6, u32::from(ARPHRD_LOOPBACK), 7, REFUSE),
        load(SKF_AD_PKTTYPE),
        equal(8, u32::from(PACKET_OUTGOING), REFUSE, ETHERNET),
        skip(2),
        skip(1 + after_ethernet),
        return_bytes(0),
    ];
    let filters = ethernet.iter().chain(ip).copied().map(instruction);
    selection.into_iter().chain(filters).collect()
}

/// An instruction of the compiler as the kernel has it.
const fn instruction(instruction: Instruction) -> sock_filter {
    let Instruction { code, jt, jf, k } = instruction;
    sock_filter { code, jt, jf, k }
}

/// Skips this many instructions.
const fn skip(instructions: u32) -> sock_filter {
    sock_filter {
        code: code(BPF_JMP | BPF_JA),
        jt: 0,
        jf: 0,
        k: instructions,
    }
}

/// The program that rejects every frame: of a ring that has stopped, or while mirroring is switched off.
#[must_use]
pub const fn reject_all() -> [sock_filter; 1] {
    [return_bytes(0)]
}

/// Loads metadata of the packet (`SKF_AD_*`).
const fn load(property: libc::c_int) -> sock_filter {
    sock_filter {
        code: code(BPF_LD | BPF_W | BPF_ABS),
        jt: 0,
        jf: 0,
        k: (SKF_AD_OFF + property).cast_unsigned(),
    }
}

/// The instruction at place `at`: continues at `then` if the loaded value equals `value`, else at
/// `otherwise`. Both places are after `at`.
const fn equal(at: u8, value: u32, then: u8, otherwise: u8) -> sock_filter {
    sock_filter {
        code: code(BPF_JMP | BPF_JEQ | BPF_K),
        jt: then - at - 1,
        jf: otherwise - at - 1,
        k: value,
    }
}

/// Ends the program and accepts this many bytes of the frame; 0 rejects it.
const fn return_bytes(bytes: u32) -> sock_filter {
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

    /// The metadata of a packet that the program can load.
    #[derive(Clone, Copy)]
    struct Packet {
        mark: u32,
        hardware: u16,
        kind: u8,
    }

    /// Runs a program as described in `Documentation/networking/filter.rst`, for the instructions that
    /// are used. Panics at any other instruction and at a jump out of the program.
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
    fn podspans_mark_is_rejected_on_every_kind_of_device_and_in_both_directions() {
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

    /// Runs a program on a frame, with the interpreter of the filter crate.
    fn accepts(program: &[sock_filter], frame: &[u8], packet: Packet) -> bool {
        let program: Vec<Instruction> = program
            .iter()
            .map(|&sock_filter { code, jt, jf, k }| Instruction { code, jt, jf, k })
            .collect();
        ::filter::check(&program).unwrap();
        let metadata = ::filter::Metadata {
            kind: packet.kind,
            mark: packet.mark,
            hardware: packet.hardware,
            ..::filter::Metadata::default()
        };
        ::filter::run(&program, frame, &metadata) != 0
    }

    #[test]
    fn without_a_filter_the_program_is_the_one_without_it() {
        let bytes = |program: &[sock_filter]| -> Vec<(u16, u8, u8, u32)> {
            program.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect()
        };
        let empty = Filter::new(" ").unwrap();
        for filter in [None, Some(&empty)] {
            assert_eq!(bytes(&program_with(MARK, filter)), bytes(&program(MARK)));
        }
    }

    #[test]
    fn the_filter_judges_what_the_program_before_it_lets_pass() {
        let udp = [&[0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17][..], &[0; 18]].concat();
        let tcp = [&[0x45, 0, 0, 20, 0, 0, 0, 0, 64, 6][..], &[0; 18]].concat();
        // Miri takes minutes for a long expression, and the compiler has no `unsafe`.
        let hosts = if cfg!(miri) { 1..4 } else { 1..120 };
        let many: Vec<String> = hosts.map(|at| format!("host 10.0.{at}.1")).collect();
        let long = format!("not ({}) and udp", many.join(" or "));
        for text in ["udp", "not tcp", long.as_str()] {
            let program = program_with(MARK, Some(&Filter::new(text).unwrap()));
            for hardware in [1, 772, 0xfffe, 519, 777] {
                for (mark, kind) in [(0, 0), (0, 4), (MARK.get(), 0)] {
                    let packet = Packet {
                        mark,
                        hardware,
                        kind,
                    };
                    let passes = run(&super::program(MARK), packet) != 0;
                    let header = match link_of(hardware) {
                        Some(Link::Ip) => vec![],
                        _ => [&[2; 12][..], &[8, 0]].concat(),
                    };
                    let frame = |payload: &[u8]| [&header, payload].concat();
                    assert_eq!(accepts(&program, &frame(&udp), packet), passes, "{text}");
                    assert!(!accepts(&program, &frame(&tcp), packet), "{text}");
                }
            }
        }
    }

    #[test]
    fn the_filter_of_a_stopped_ring_rejects_every_frame() {
        let packet = Packet {
            mark: 0,
            hardware: 1,
            kind: 0,
        };
        assert_eq!(run(&reject_all(), packet), 0);
    }
}
