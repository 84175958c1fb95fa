//! The compiler against libpcap's: the same verdict for every frame of a corpus.
//!
//! `tcpdump -ddd` prints libpcap's program, optimised and not (`-O`). This crate's interpreter runs all
//! three programs. If libpcap's unoptimised program comes to its end, the verdicts must be equal. If it
//! stops because the frame ends inside a header that it reads, a program that reads in another order may
//! have found the answer before: libpcap's two programs differ there too. Such cases are counted.
//! `FILTER_EXPRESSIONS` sets the number of generated expressions.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests say what they expect by panicking"
)]

mod corpus;
mod expressions;
mod libpcap;
mod random;

use std::time::Instant;

use filter::{Link, Metadata, Options, Program, check, compile, outcome, run};

use corpus::Frame;
use libpcap::Answer;
use random::Random;

/// How many expressions are generated without the variable.
const EXPRESSIONS: usize = 600;

/// What a comparison found.
#[derive(Debug, Default)]
struct Sums {
    expressions: usize,
    refused: usize,
    verdicts: usize,
    accepted: usize,
    /// libpcap's optimised program differs from its other one.
    libpcap_differs: usize,
    /// libpcap's program read outside of the frame.
    stopped: usize,
    stopped_differs: usize,
    log_ratio: f64,
    longer: usize,
    ours: usize,
    theirs: usize,
}

impl Sums {
    #[expect(clippy::cast_precision_loss, reason = "a few thousand expressions")]
    fn geometric_mean(&self) -> f64 {
        (self.log_ratio / self.expressions as f64).exp()
    }
}

/// Compares one expression on all frames.
fn compare(text: &str, frames: &[Frame], sums: &mut Sums) -> Result<(), String> {
    let ours = compile(text, Options::file(Link::Ethernet));
    let (optimised, plain) = match (libpcap::program(text, true), libpcap::program(text, false)) {
        (Answer::Program(optimised), Answer::Program(plain)) => (optimised, plain),
        (Answer::Refused(why), _) | (_, Answer::Refused(why)) => {
            sums.refused += 1;
            return match ours {
                Err(_) => Ok(()),
                // libpcap has fewer registers for calculations than there is memory.
                Ok(_) if why.contains("too many registers") => Ok(()),
                Ok(_) => Err(format!("{text}\n  libpcap refuses it: {why}")),
            };
        }
    };
    let ours = ours.map_err(|error| format!("{text}\n  libpcap accepts it: {error}"))?;
    check(ours.instructions()).map_err(|invalid| format!("{text}\n  {invalid}"))?;
    sums.expressions += 1;
    let (length, theirs) = (ours.instructions().len(), optimised.len());
    sums.log_ratio += log_ratio(length, theirs);
    sums.ours += length;
    sums.theirs += theirs;
    sums.longer += usize::from(length > theirs);
    if length > theirs && std::env::var_os("FILTER_SHOW").is_some() {
        println!("LONGER {length} {theirs} {text}");
    }
    for frame in frames {
        if frame.has_authentication && text.contains("protochain") {
            // libpcap forgets where it was after an authentication header.
            continue;
        }
        let verdict = |program| run(program, &frame.bytes, &Metadata::default()) != 0;
        let (ours, optimised) = (verdict(ours.instructions()), verdict(&optimised));
        let reached = outcome(&plain, &frame.bytes, &Metadata::default());
        let (plain, stopped) = (reached.is_some_and(|bytes| bytes != 0), reached.is_none());
        sums.verdicts += 1;
        sums.accepted += usize::from(ours);
        sums.libpcap_differs += usize::from(optimised != plain);
        if stopped {
            sums.stopped += 1;
            sums.stopped_differs += usize::from(ours != plain);
        } else if ours != plain {
            return Err(format!(
                "{text}\n  {}: libpcap says {plain}, the filter {ours}\n  {:02x?}",
                frame.name, frame.bytes
            ));
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "programs are short")]
fn log_ratio(ours: usize, theirs: usize) -> f64 {
    (ours as f64 / theirs as f64).ln()
}

fn compare_all(expressions: impl Iterator<Item = String>, frames: &[Frame]) -> Sums {
    let mut sums = Sums::default();
    let mut wrong = Vec::new();
    for text in expressions {
        if let Err(message) = compare(&text, frames, &mut sums) {
            wrong.push(message);
        }
    }
    assert!(
        wrong.is_empty(),
        "{} expressions differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    sums
}

#[test]
fn generated_expressions_judge_every_frame_as_libpcap_does() {
    let count = std::env::var("FILTER_EXPRESSIONS")
        .ok()
        .and_then(|count| count.parse().ok());
    let count = count.unwrap_or(EXPRESSIONS);
    let frames = corpus::frames();
    let begin = Instant::now();
    let mut random = Random::new(14);
    let expressions = (0..count).map(|_| expressions::expression(&mut random));
    let sums = compare_all(expressions, &frames);
    let mean = sums.geometric_mean();
    println!(
        "{} expressions ({} refused by both), {} frames, {} verdicts ({} accepted); the frame ends \
         inside a header for {}, of which {} differ from libpcap (and {} of libpcap from itself); \
         {:.1?}; length: geometric mean {mean:.3} of libpcap's, {} longer, {} \
         instructions against {}",
        sums.expressions,
        sums.refused,
        frames.len(),
        sums.verdicts,
        sums.accepted,
        sums.stopped,
        sums.stopped_differs,
        sums.libpcap_differs,
        begin.elapsed(),
        sums.longer,
        sums.ours,
        sums.theirs
    );
    assert!(
        sums.accepted * 50 > sums.verdicts,
        "the expressions select too little: {sums:?}"
    );
    assert!(sums.stopped_differs * 10 <= sums.stopped, "{sums:?}");
    assert!(mean <= 1.0, "programs are longer than libpcap's: {mean:.3}");
}

#[test]
fn the_examples_of_the_manual_judge_every_frame_as_libpcap_does() {
    let frames = corpus::frames();
    let sums = compare_all(expressions::MANUAL.iter().map(ToString::to_string), &frames);
    println!("{sums:?}: geometric mean {:.3}", sums.geometric_mean());
    assert_eq!(sums.refused, 0);
    assert_eq!(sums.expressions, expressions::MANUAL.len());
}

#[test]
fn each_primitive_judges_every_frame_as_libpcap_does() {
    let frames = corpus::frames();
    let sums = compare_all(
        expressions::PRIMITIVES.iter().map(ToString::to_string),
        &frames,
    );
    println!("{sums:?}: geometric mean {:.3}", sums.geometric_mean());
    assert_eq!(sums.refused, 0);
}

/// Programs in which jumps are longer than the 8 bits of a conditional jump.
/// Tests of one value are moved together, but none that reads more before one that accepts the frame.
#[test]
fn a_frame_is_accepted_by_an_alternative_before_one_that_reads_beyond_its_end() {
    let program = compile(
        "ether[0] = ether[1] or len = 60 or ether[0] = ether[100]",
        Options::file(Link::Ethernet),
    )
    .unwrap();
    let mut frame = vec![1; 60];
    frame[1] = 2;
    assert!(accepts(&program, &frame, &Metadata::default()));
    frame.push(0);
    assert!(!accepts(&program, &frame, &Metadata::default()));
}

#[test]
fn long_expressions_judge_every_frame_as_libpcap_does() {
    let list = |part: &dyn Fn(usize) -> String, last: &str| {
        let parts: Vec<String> = (0..150).map(part).collect();
        format!("{} or {last}", parts.join(" or "))
    };
    let host = |at| format!("host 172.16.{at}.1");
    let host6 = |at| format!("ip6 host fd01::{at}");
    let port = |at| format!("tcp port {}", 2000 + 2 * at);
    let expressions = [
        list(&host, "10.0.0.1"),
        list(&host6, "ip6 host fd00::1"),
        list(&port, "80"),
        format!("not ({}) and tcp", list(&host, "10.0.0.1")),
        format!(
            "tcp and (port 80 or not ({}))",
            list(&host6, "ip6 host fd00::1")
        ),
    ];
    let sums = compare_all(expressions.into_iter(), &corpus::frames());
    println!("{sums:?}: geometric mean {:.3}", sums.geometric_mean());
    assert_eq!(sums.expressions, 5);
}

fn accepts(program: &Program, frame: &[u8], metadata: &Metadata) -> bool {
    run(program.instructions(), frame, metadata) != 0
}

/// The exception: libpcap's `protochain` goes on at a wrong place after an authentication header.
#[test]
fn a_chain_with_an_authentication_header_is_followed() {
    let compiled = |text| compile(text, Options::file(Link::Ethernet)).unwrap();
    let mut found = 0;
    let frames = corpus::frames();
    let whole =
        |frame: &&Frame| frame.name.starts_with("ah then tcp") && !frame.name.contains("cut");
    for frame in frames.iter().filter(whole) {
        for text in ["protochain \\tcp", "protochain 51"] {
            assert!(
                accepts(&compiled(text), &frame.bytes, &Metadata::default()),
                "{}",
                frame.name
            );
        }
        assert!(!accepts(
            &compiled("protochain \\udp"),
            &frame.bytes,
            &Metadata::default()
        ));
        found += 1;
    }
    assert_eq!(found, 2);
}

/// The exception: libpcap 1.10 takes 240.0.0.0/4 for multicast too.
#[test]
fn ip_multicast_is_the_net_of_multicast_addresses() {
    let multicast = compile("ip multicast", Options::file(Link::Ethernet)).unwrap();
    for (first, expected) in [(223, false), (224, true), (239, true), (240, false)] {
        let header = [&[2; 12][..], &[8, 0, 0x45], &[0; 15]].concat();
        let frame = [&header[..], &[first, 0, 0, 1]].concat();
        let verdict = accepts(&multicast, &frame, &Metadata::default());
        assert_eq!(verdict, expected, "{first}");
    }
}

/// The exception: libpcap forgets what the right side of an operator requires of the frame, and reads
/// other bytes as TCP. Here both sides are required.
#[test]
fn both_sides_of_an_operator_require_their_protocol() {
    let compiled = |text| compile(text, Options::file(Link::Ethernet)).unwrap();
    let (both, tcp) = (
        compiled("ip[0] + tcp[0] >= 0"),
        compiled("ip and tcp[0] >= 0"),
    );
    let Answer::Program(libpcap) = libpcap::program("ip[0] + tcp[0] >= 0", true) else {
        panic!()
    };
    let mut differs = 0;
    for frame in corpus::frames() {
        let metadata = Metadata::default();
        let verdict = accepts(&both, &frame.bytes, &metadata);
        assert_eq!(
            verdict,
            accepts(&tcp, &frame.bytes, &metadata),
            "{}",
            frame.name
        );
        differs += usize::from(verdict != (run(&libpcap, &frame.bytes, &metadata) != 0));
    }
    assert!(
        differs > 0,
        "libpcap has been repaired: compare such expressions too"
    );
}

/// The exception: a tag beside the frame. The verdict is that of libpcap on the frame as it was on the
/// wire, and where the tag is in the frame nothing changes.
#[test]
fn a_tag_beside_the_frame_counts_as_the_first_tag_of_the_wire() {
    let mut compared = 0;
    for text in expressions::VLAN {
        let live = compile(text, Options::live(Link::Ethernet)).unwrap();
        check(live.instructions()).unwrap();
        let Answer::Program(wire) = libpcap::program(text, true) else {
            panic!("{text}")
        };
        for frame in corpus::frames() {
            let expected = run(&wire, &frame.bytes, &Metadata::default()) != 0;
            let inside = accepts(&live, &frame.bytes, &Metadata::default());
            assert_eq!(inside, expected, "{text}: {}", frame.name);
            if let Some((bytes, tag)) = frame.without_first_tag() {
                let metadata = Metadata {
                    tag: Some(tag),
                    ..Metadata::default()
                };
                assert_eq!(
                    accepts(&live, &bytes, &metadata),
                    expected,
                    "{text}: {}",
                    frame.name
                );
                compared += usize::from(expected);
            }
        }
    }
    assert!(compared > 20, "{compared}");
}

/// Frames of a device without link headers are judged as the same packets in Ethernet frames.
#[test]
fn packets_without_a_link_header_are_judged_like_those_in_ethernet_frames() {
    let mut random = Random::new(15);
    let mut accepted = 0;
    for _ in 0..300 {
        let text = expressions::without_link(&mut random);
        let ethernet = compile(&text, Options::live(Link::Ethernet)).unwrap();
        let ip = compile(&text, Options::live(Link::Ip)).unwrap();
        check(ip.instructions()).unwrap();
        for frame in corpus::frames().iter().filter(|frame| frame.is_ip()) {
            let packet = &frame.bytes[14..];
            let expected = accepts(&ethernet, &frame.bytes, &Metadata::default());
            let got = accepts(&ip, packet, &Metadata::default());
            assert_eq!(got, expected, "{text}: {} {:02x?}", frame.name, frame.bytes);
            accepted += usize::from(got);
        }
    }
    assert!(accepted > 1000, "{accepted}");
}
