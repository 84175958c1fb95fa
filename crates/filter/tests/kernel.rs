//! The kernel's verdicts against the interpreter's, for frames that are really sent.
//!
//! Two packet sockets receive from one end of a veth pair: one with the program, and one without, which
//! was opened first and so gets each frame last (`dev_add_pack` puts new sockets in front). When the
//! second has a frame, the kernel's verdict is whether the first has it too.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests say what they expect by panicking"
)]
#![allow(
    dead_code,
    reason = "the corpus and the expressions have more than is needed here"
)]

#[path = "oracle/corpus.rs"]
mod corpus;
#[path = "oracle/expressions.rs"]
mod expressions;
#[path = "oracle/random.rs"]
mod random;

use std::io::{ErrorKind, Read as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use filter::{Link, Metadata, Options, check, compile, run};
use libtest_mimic::{Arguments, Trial};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{SockFilter, SockRef};
use testbed::traffic::RawSocket;
use testbed::{Namespace, veth};

use corpus::Frame;
use random::Random;

fn main() -> ExitCode {
    testbed::user_namespace::enter().unwrap();
    let test = Trial::test("the_kernel_judges_as_the_interpreter_does", || {
        compare();
        Ok(())
    });
    libtest_mimic::run(&Arguments::from_args(), vec![test]).exit_code()
}

/// How many expressions are compared.
const EXPRESSIONS: usize = 60;

/// The frames that can be sent: a whole Ethernet header, and a whole tag if there is one.
fn sendable() -> Vec<Frame> {
    let mut frames = corpus::frames();
    frames.retain(|frame| {
        let is_tagged = matches!(frame.bytes.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]));
        // The kernel drops a frame in which less than two bytes follow the tag.
        let least = if is_tagged { 20 } else { 14 };
        (least..=1514).contains(&frame.bytes.len())
    });
    let step = frames.len() / 300;
    frames.into_iter().step_by(step.max(1)).collect()
}

/// What the kernel gives to the program: the frame without its first tag, and this tag beside it.
fn as_received(frame: &Frame) -> (Vec<u8>, Metadata) {
    match frame.without_first_tag() {
        Some((bytes, tag)) => {
            let tag = Some(tag);
            (
                bytes,
                Metadata {
                    tag,
                    ..Metadata::default()
                },
            )
        }
        None => (frame.bytes.clone(), Metadata::default()),
    }
}

/// Whether a frame was received; it waits for it if asked.
fn received(socket: &RawSocket, wait: bool) -> bool {
    if wait {
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::from(5000_u16)).unwrap();
    }
    let socket = SockRef::from(socket);
    socket.set_nonblocking(true).unwrap();
    match (&*socket).read(&mut [0; 2048]) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

fn compare() {
    let (here, there) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    let (near, far) = veth((&here, "near"), (&there, "far")).unwrap();
    for link in [&near, &far] {
        link.disable_ipv6().unwrap();
        link.up().unwrap();
    }
    let sender = RawSocket::open(&near).unwrap();
    let all = RawSocket::open(&far).unwrap();
    let filtered = RawSocket::open(&far).unwrap();
    let frames = sendable();
    let mut random = Random::new(21);
    let generated = (0..EXPRESSIONS).map(|_| expressions::expression(&mut random));
    let vlan = expressions::VLAN.iter().map(ToString::to_string);
    let directions = ["inbound".to_owned(), "outbound or udp".to_owned()];
    let chains = ["protochain 6".to_owned(), "ip6 protochain \\udp".to_owned()];
    let texts: Vec<String> = generated
        .chain(vlan)
        .chain(directions)
        .chain(chains)
        .collect();
    let (mut verdicts, mut accepted) = (0, 0);
    for text in &texts {
        let program = compile(text, Options::live(Link::Ethernet)).unwrap();
        let instructions = program.instructions();
        check(instructions).unwrap();
        let kernel: Vec<SockFilter> = instructions
            .iter()
            .map(|i| SockFilter::new(i.code, i.jt, i.jf, i.k))
            .collect();
        SockRef::from(&filtered).attach_filter(&kernel).unwrap();
        while received(&filtered, false) {}
        for frame in &frames {
            sender.send(&frame.bytes).unwrap();
            assert!(received(&all, true), "{} did not arrive", frame.name);
            let verdict = received(&filtered, false);
            let (bytes, metadata) = as_received(frame);
            let expected = run(instructions, &bytes, &metadata) != 0;
            assert_eq!(
                verdict, expected,
                "{text}: {} {:02x?}",
                frame.name, frame.bytes
            );
            verdicts += 1;
            accepted += usize::from(verdict);
        }
    }
    println!(
        "{} programs, {} frames sent for each: {verdicts} verdicts of the kernel equal the \
         interpreter's, {accepted} accepted",
        texts.len(),
        frames.len()
    );
    assert!(accepted * 50 > verdicts);
}
