//! Any text gives an error at a place in it, or a program that Linux accepts, in a bounded time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests say what they expect by panicking"
)]

use std::time::{Duration, Instant};

use filter::{Link, MAX_TEXT, Options, Problem, check, compile};
use proptest::prelude::*;

const OPTIONS: [Options; 4] = [
    Options::live(Link::Ethernet),
    Options::live(Link::Ip),
    Options::file(Link::Ethernet),
    Options::file(Link::Ip),
];

/// Compiles a text in every way and checks what comes out.
fn compile_and_check(text: &str) {
    for options in OPTIONS {
        match compile(text, options) {
            Ok(program) => check(program.instructions()).unwrap(),
            Err(error) => {
                let place = text.get(error.offset..).expect("the place is in the text");
                assert!(place.starts_with(&error.word), "{error:?}");
                let shown = error.to_string();
                assert!(
                    shown.contains("expected: ") && shown.contains("for example: "),
                    "{shown}"
                );
                assert!(!shown.contains('\n'), "{shown:?}");
            }
        }
    }
}

/// Words that a text is made of, so that many are almost right.
const WORDS: &[&str] = &[
    "and",
    "or",
    "not",
    "(",
    ")",
    "!",
    "host",
    "net",
    "port",
    "portrange",
    "src",
    "dst",
    "tcp",
    "udp",
    "ip",
    "ip6",
    "arp",
    "ether",
    "icmp",
    "vlan",
    "mpls",
    "proto",
    "protochain",
    "less",
    "len",
    "[",
    "]",
    ":",
    "1",
    "2",
    "4",
    "80",
    "0xffffffff",
    "10.0.0.1",
    "10.0.0.0/8",
    "/",
    "8",
    "fd00::1",
    "::/0",
    "mask",
    "02:00:00:00:00:01",
    "=",
    "!=",
    "<",
    "<<",
    "+",
    "-",
    "*",
    "%",
    "^",
    "&",
    "|",
    "tcpflags",
    "tcp-syn",
    "broadcast",
    "multicast",
    "inbound",
    "outbound",
    "1-9",
    "foo",
    "\\tcp",
    "gateway",
    "ä",
    "\u{0}",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_an_error_with_a_place_or_a_valid_program(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        compile_and_check(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_words_give_an_error_with_a_place_or_a_valid_program(
        words in proptest::collection::vec(proptest::sample::select(WORDS), 0..24),
    ) {
        compile_and_check(&words.join(" "));
    }
}

/// Texts of the longest allowed length: each the worst for another step of the compiler.
fn long_texts() -> Vec<String> {
    let fill = |part: &dyn Fn(usize) -> String| {
        let mut text = part(0);
        for at in 1.. {
            let next = part(at);
            if text.len() + next.len() + 4 > MAX_TEXT {
                break;
            }
            text = format!("{text} or {next}");
        }
        text
    };
    let list = |part: &dyn Fn(usize) -> String| {
        let parts: Vec<_> = (0..MAX_TEXT / 16).map(part).collect();
        parts.join(" or ")
    };
    let nested = |part: &str| format!("{}{part}{}", "(".repeat(60), ")".repeat(60));
    vec![
        fill(&|at| format!("host 10.{}.{}.1", at / 200, at % 200)),
        fill(&|at| format!("ip6 src {:x}::{at:x}", 0x2001 + at)),
        fill(&|at| format!("port {at}")),
        fill(&|at| format!("tcp[{at}] & {} = {at}", at + 1)),
        fill(&|at| format!("ip[{}:2] = tcp[{at}:2]", at % 40)),
        fill(&|at| {
            if at % 2 == 0 {
                "tcp".to_owned()
            } else {
                format!("port {at} and udp")
            }
        }),
        fill(&|at| format!("port not {at}")),
        fill(&|at| format!("ip[{at}] = ip[{}]", at + 1)),
        fill(&|at| format!("not host 10.0.{}.{}", at / 200, at % 200)),
        format!("port ({})", list(&|at| at.to_string())),
        format!("host not ({})", list(&|at| format!("10.0.0.{}", at % 256))),
        fill(&|at| format!("{}vlan {at}", if at % 2 == 0 { "not " } else { "" })),
        fill(&|_| nested("ip6 protochain 6")),
        fill(&|at| format!("src net {}.0.0.0/8 and portrange {at}-{}", at % 256, at * 2)),
        "not ".repeat(MAX_TEXT / 4 - 1) + "ip",
        "(".repeat(MAX_TEXT),
        "1+".repeat(MAX_TEXT / 2 - 2) + "1=1",
        "-".repeat(MAX_TEXT - 3) + "1=1",
        "x".repeat(MAX_TEXT),
        "ip[".repeat(MAX_TEXT / 3),
    ]
}

/// The bar is 10 ms for an optimised build on a quiet machine; the test allows for a slow one.
#[test]
fn the_longest_texts_take_a_bounded_time() {
    let mut longest = Duration::ZERO;
    for text in long_texts() {
        assert!(text.len() <= MAX_TEXT);
        let begin = Instant::now();
        let result = compile(&text, Options::live(Link::Ethernet));
        let elapsed = begin.elapsed();
        let shown: String = text.chars().take(30).collect();
        let result = match result {
            Ok(program) => format!("{} instructions", program.instructions().len()),
            Err(error) => format!("{:?} at byte {}", error.problem, error.offset),
        };
        println!("{elapsed:>9.1?} {shown}: {result}");
        compile_and_check(&text);
        longest = longest.max(elapsed);
    }
    assert!(longest < Duration::from_secs(5), "{longest:?}");
}

#[test]
fn a_text_or_a_program_that_is_too_long_is_an_error() {
    let text = "ip ".repeat(MAX_TEXT);
    let error = compile(&text, Options::live(Link::Ethernet)).unwrap_err();
    assert_eq!(error.problem, Problem::TextTooLong(text.len()));
    let options = Options {
        limit: 10,
        ..Options::live(Link::Ethernet)
    };
    let error = compile("port 80", options).unwrap_err();
    assert!(
        matches!(
            error.problem,
            Problem::ProgramTooLong {
                length: 20..,
                limit: 10
            }
        ),
        "{error}"
    );
}

/// Wrong texts, the wrong word, and a part of what the error says.
const WRONG: &[(&str, &str, &str)] = &[
    ("host web", "web", "names of hosts are not looked up"),
    ("net intranet", "intranet", "names of networks"),
    ("tcp port 70000", "70000", "largest port is 65535"),
    ("port htttp", "htttp", "name of the port is unknown"),
    ("udp port http", "http", "used with tcp only"),
    ("tcp prot 80", "prot", "does not follow"),
    ("tcp and", "", "a primitive is missing"),
    ("and tcp", "and", "a primitive is missing"),
    ("port", "", "a value is missing"),
    ("(tcp or udp", "(", "not closed"),
    ("tcp)", ")", "was not opened"),
    ("tcp udp", "udp", "does not follow"),
    ("net 10.0.0.1/8", "10.0.0.1", "bits outside of the mask"),
    ("net 10.0.0.0/33", "33", "at most 32"),
    ("host 10.0.0.256", "10.0.0.256", "IPv4 address is not valid"),
    ("ether host 10.0.0.1", "10.0.0.1", "does not go together"),
    ("icmp port 80", "80", "does not go together"),
    ("tcp[0:3] = 1", "3", "1, 2 or 4 bytes"),
    ("tcp[0 = 1", "=", "bracket is not closed"),
    ("tcp[0] and udp", "and", "comparison is missing"),
    ("len / 0 = 1", "/", "divisor is 0"),
    ("len << 32 = 1", "<<", "at most 31"),
    ("ether[0xfffff000] = 1", "ether", "no frame is that long"),
    ("ip broadcast", "ip", "netmask"),
    ("gateway 10.0.0.1", "gateway", "leaves this primitive out"),
    ("port (80 or 443", "(", "not closed"),
    ("port (80 or tcp)", "tcp", "name of the port is unknown"),
    ("port (80 443)", "443", "does not follow"),
    ("port not", "", "a value is missing"),
    (
        "wlan addr1 00:00:00:00:00:00",
        "addr1",
        "leaves this primitive out",
    ),
    ("vlan 5000", "5000", "largest VLAN is 4095"),
    ("ether proto 100", "100", "is a length"),
    ("ip proto 300", "300", "largest IP protocol is 255"),
    ("mpls and arp", "arp", "within MPLS"),
    ("tcp @ udp", "@", "no meaning"),
    ("10.0.0.1", "10.0.0.1", "does not begin a primitive"),
];

#[test]
fn an_error_names_the_word_and_what_is_wrong_with_it() {
    for (text, word, part) in WRONG {
        let error = compile(text, Options::live(Link::Ethernet)).unwrap_err();
        assert_eq!(error.word, *word, "{text}: {error}");
        assert!(error.to_string().contains(part), "{text}: {error}");
        assert!(text[error.offset..].starts_with(word), "{text}: {error:?}");
        println!("{text}\n    {error}");
    }
    let error = compile("inbound", Options::file(Link::Ethernet)).unwrap_err();
    assert_eq!(error.problem, Problem::NoDirection);
}

/// Every expression of the recipes in the document compiles for every device.
#[test]
fn the_recipes_of_the_document_compile() {
    let document = include_str!("../../../docs/filter.md");
    let section = document
        .split("\n## ")
        .find(|part| part.starts_with("Recipes"));
    let rows = section
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("| "));
    let mut compiled = 0;
    for row in rows {
        if let Some((_, text)) = row
            .split_once("| `")
            .filter(|_| !row.starts_with("| wanted"))
        {
            let text = text.trim_end_matches("` |").replace("\\|", "|");
            filter::Filter::new(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            compiled += 1;
        }
    }
    assert!(compiled > 5, "{compiled}");
}
