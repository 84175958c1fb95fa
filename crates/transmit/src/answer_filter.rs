//! The kernel's filter of what arrives at the sockets of tunnels.
//!
//! In: the hosts of the sensors that have a tunnel. Out: a classic BPF program that passes a datagram if it has the
//! type and the length of one of [`ANSWERS`] and comes from one of these hosts. The kernel drops everything else
//! before it reaches the socket's buffer: anybody can send to the port, and what fills the buffer takes the place
//! of the sensors' answers.
//!
//! ```text
//! type 2, 3 or 4, three zeros? -> the length of this type? -> from a sensor's host? -> pass
//! ```
//! A program has at most 256 instructions here, because the memory for it is limited
//! (`net.core.optmem_max`, 20 KiB on older kernels, for the program before and the new one together). Beyond
//! [`HOSTS_MAX`] sensors the source is not compared; the control side compares it.
//!
//! Source: Linux `Documentation/networking/filter.rst`. The program of a UDP socket sees the datagram from the UDP
//! header on (`udp_queue_rcv_one_skb` in `net/ipv4/udp.c`); [`NETWORK`] is the offset of the IP header.

use std::io;
use std::net::{IpAddr, UdpSocket};

use mirror::own::ANSWERS;
use socket2::{SockFilter, SockRef};

/// With more sensors than this the source is not compared.
const HOSTS_MAX: usize = 24;

const UDP_HEADER_LEN: u32 = 8;
/// `SKF_NET_OFF`.
const NETWORK: u32 = 0xfff0_0000;
/// Where the source is in an IPv4 and in an IPv6 header.
const SOURCE_V4: u32 = NETWORK + 12;
const SOURCE_V6: u32 = NETWORK + 8;

/// An instruction, as `struct sock_filter` has it.
#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u16,
    /// How many instructions a comparison skips if the values are equal, and if not.
    skip_if_equal: u8,
    skip_if_not: u8,
    value: u32,
}

impl Instruction {
    const fn new(code: u16, skip_if_equal: u8, skip_if_not: u8, value: u32) -> Self {
        Self {
            code,
            skip_if_equal,
            skip_if_not,
            value,
        }
    }
}

/// `BPF_RET | BPF_K`: the length that is received.
const DROP: Instruction = Instruction::new(0x06, 0, 0, 0);
const PASS: Instruction = Instruction::new(0x06, 0, 0, u32::MAX);

/// `BPF_LD | BPF_W | BPF_ABS`: loads the four bytes at an offset.
const fn load(offset: u32) -> Instruction {
    Instruction::new(0x20, 0, 0, offset)
}

/// `BPF_LD | BPF_W | BPF_LEN`: loads the length.
const LOAD_LENGTH: Instruction = Instruction::new(0x80, 0, 0, 0);

/// `BPF_JMP | BPF_JEQ | BPF_K`: skips some instructions if what was loaded is this value, and some if it is not.
const fn compare(value: u32, skip_if_equal: u8, skip_if_not: u8) -> Instruction {
    Instruction::new(0x15, skip_if_equal, skip_if_not, value)
}

/// Makes a socket receive answers of tunnels from these hosts, and nothing else. It replaces an earlier filter in one
/// step. It needs no capability.
///
/// # Errors
/// The kernel's; the filter before stays.
pub fn receive_answers(
    socket: &UdpSocket,
    sensors: impl Iterator<Item = IpAddr>,
) -> io::Result<()> {
    let is_ipv6 = socket.local_addr()?.is_ipv6();
    let mut hosts: Vec<_> = sensors.filter(|host| host.is_ipv6() == is_ipv6).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let socket = SockRef::from(socket);
    let attach = |program: Vec<Instruction>| {
        let instruction = |one: &Instruction| {
            SockFilter::new(one.code, one.skip_if_equal, one.skip_if_not, one.value)
        };
        let program: Vec<_> = program.iter().map(instruction).collect();
        socket.attach_filter(&program)
    };
    // The memory may be too small for the sources.
    attach(program(&hosts)).or_else(|_| attach(of_any_host()))
}

/// The program for these hosts.
fn program(hosts: &[IpAddr]) -> Vec<Instruction> {
    if hosts.len() > HOSTS_MAX {
        return of_any_host();
    }
    let mut program = Vec::from(form());
    program.extend(hosts.iter().copied().flat_map(from_host));
    program.push(DROP);
    program
}

/// The program for all hosts.
fn of_any_host() -> Vec<Instruction> {
    let mut program = Vec::from(form());
    program.push(PASS);
    program
}

/// Drops what has not the type and the length of an answer, and goes on after itself otherwise.
const fn form() -> [Instruction; 12] {
    let [first, second, third] = ANSWERS;
    [
        load(UDP_HEADER_LEN),
        compare(start(first), 3, 0),
        compare(start(second), 4, 0),
        compare(start(third), 5, 0),
        DROP,
        LOAD_LENGTH,
        compare(length(first), 5, 4),
        LOAD_LENGTH,
        compare(length(second), 3, 2),
        LOAD_LENGTH,
        compare(length(third), 1, 0),
        DROP,
    ]
}

/// The first four bytes of an answer: its type and three zeros.
const fn start((kind, _): (u8, usize)) -> u32 {
    u32::from_be_bytes([kind, 0, 0, 0])
}

/// The length of an answer with its UDP header.
#[expect(clippy::cast_possible_truncation, reason = "it is at most 100")]
const fn length((_, length): (u8, usize)) -> u32 {
    length as u32 + UDP_HEADER_LEN
}

/// Passes what comes from this host, and goes on after itself otherwise.
fn from_host(host: IpAddr) -> Vec<Instruction> {
    let words: Vec<_> = match host {
        IpAddr::V4(host) => vec![(SOURCE_V4, u32::from(host))],
        IpAddr::V6(host) => (0..4)
            .map(|word: u32| {
                #[expect(clippy::cast_possible_truncation, reason = "a word of it")]
                let value = (host.to_bits() >> (96 - 32 * word)) as u32;
                (SOURCE_V6 + 4 * word, value)
            })
            .collect(),
    };
    let count = words.len();
    let mut program = Vec::new();
    for ((offset, value), number) in words.into_iter().zip(0..) {
        #[expect(clippy::cast_possible_truncation, reason = "it is at most 7")]
        let skipped = (2 * (count - number) - 1) as u8;
        program.extend([load(offset), compare(value, 0, skipped)]);
    }
    program.push(PASS);
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// What the instructions do with a datagram, from the UDP header on, that a host has sent. Written from the
    /// kernel's documentation.
    fn passes(program: &[Instruction], from: IpAddr, datagram: &[u8]) -> bool {
        let mut header = [0; 40];
        match from {
            IpAddr::V4(from) => header[12..16].copy_from_slice(&from.octets()),
            IpAddr::V6(from) => header[8..24].copy_from_slice(&from.octets()),
        }
        let (mut place, mut loaded) = (0, 0);
        loop {
            let Instruction { code, value, .. } = program[place];
            place += 1;
            let word = |bytes: &[u8], at: u32| {
                let bytes = bytes.get(at as usize..)?.first_chunk()?;
                Some(u32::from_be_bytes(*bytes))
            };
            match code {
                0x06 => return value != 0,
                0x80 => loaded = u32::try_from(datagram.len()).unwrap(),
                0x20 => {
                    let found = match value.checked_sub(NETWORK) {
                        Some(at) => word(&header, at),
                        None => word(datagram, value),
                    };
                    let Some(found) = found else { return false };
                    loaded = found;
                }
                0x15 if loaded == value => place += usize::from(program[place - 1].skip_if_equal),
                0x15 => place += usize::from(program[place - 1].skip_if_not),
                _ => panic!("{code:#x}"),
            }
        }
    }

    fn host(is_ipv6: bool, number: u8) -> IpAddr {
        if is_ipv6 {
            // They differ in one word, each time in another one.
            let word = u128::from(number) << (32 * (number % 4));
            Ipv6Addr::from_bits(word).into()
        } else {
            Ipv4Addr::new(10, 0, number, 1).into()
        }
    }

    proptest! {
        #[test]
        fn it_passes_exactly_the_answers_of_the_hosts(
            is_ipv6: bool,
            hosts in proptest::collection::btree_set(0_u8..40, 0..30),
            from in 0_u8..40,
            kind in 0_u8..6,
            zero in prop_oneof![4 => Just(0_u8), 1 => any::<u8>()],
            length in prop_oneof![Just(92_usize), Just(64), Just(32), 0_usize..100],
        ) {
            let listed: Vec<_> = hosts.iter().map(|number| host(is_ipv6, *number)).collect();
            let mut payload = vec![9; length];
            for (byte, value) in payload.iter_mut().zip([kind, 0, zero, 0]) {
                *byte = value;
            }
            let datagram = [&[7; 8][..], &payload].concat();
            let is_answer = matches!((kind, length), (2, 92) | (3, 64) | (4, 32)) && zero == 0;
            let is_listed = hosts.contains(&from) || hosts.len() > HOSTS_MAX;
            let program = program(&listed);
            prop_assert!(program.len() <= 256);
            prop_assert_eq!(passes(&program, host(is_ipv6, from), &datagram), is_answer && is_listed);
        }
    }

    #[test]
    fn the_kernel_drops_what_is_no_answer_of_a_sensor() {
        for own in ["127.0.0.1", "::1"] {
            let own: IpAddr = own.parse().unwrap();
            let other = host(own.is_ipv6(), 9);
            let Ok(socket) = UdpSocket::bind((own, 0)) else {
                continue;
            };
            socket.set_nonblocking(true).unwrap();
            let sensor = UdpSocket::bind((own, 0)).unwrap();
            let to = socket.local_addr().unwrap();
            let received = || socket.recv(&mut [0; 200]).ok();
            let (mut answer, mut longer) = ([0; 92], [0; 93]);
            (answer[0], longer[0]) = (2, 2);
            let many = (0..=u8::MAX).map(|number| host(own.is_ipv6(), number));
            for (hosts, expected) in [
                (vec![own], Some(92)),
                (vec![other], None),
                (many.clone().take(HOSTS_MAX).collect(), None),
                (
                    many.skip(1).take(HOSTS_MAX - 1).chain([own]).collect(),
                    Some(92),
                ),
                (vec![], None),
            ] {
                receive_answers(&socket, hosts.into_iter()).unwrap();
                for datagram in [&b"garbage"[..], b"", &longer, &answer] {
                    sensor.send_to(datagram, to).unwrap();
                }
                assert_eq!(received(), expected);
                assert_eq!(received(), None);
            }
        }
    }
}
