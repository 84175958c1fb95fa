//! The documents against the code: the published numbers, labels, files and tests exist and are correct.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use etherparse::PacketBuilder;
use wire::{Mtu, ip, vxlan};

use super::TestFrame;
use crate::hash::FlowHash;
use crate::spread::Spreader;
use crate::{DropReason, Sensor, SensorTable, Spread};

const WIRE_TRUTH: &str = include_str!("../../../../docs/wire-truth.md");
const DOCUMENTS: [(&str, &str); 13] = [
    ("README.md", include_str!("../../../../README.md")),
    (
        "docs/ARCHITECTURE.md",
        include_str!("../../../../docs/ARCHITECTURE.md"),
    ),
    (
        "docs/discovery.md",
        include_str!("../../../../docs/discovery.md"),
    ),
    (
        "docs/operations.md",
        include_str!("../../../../docs/operations.md"),
    ),
    (
        "docs/CONTRIBUTING.md",
        include_str!("../../../../docs/CONTRIBUTING.md"),
    ),
    (
        "docs/SECURITY.md",
        include_str!("../../../../docs/SECURITY.md"),
    ),
    (
        "docs/observability.md",
        include_str!("../../../../docs/observability.md"),
    ),
    ("docs/wire-truth.md", WIRE_TRUTH),
    (
        "docs/install.md",
        include_str!("../../../../docs/install.md"),
    ),
    (
        "docs/managed.md",
        include_str!("../../../../docs/managed.md"),
    ),
    (
        "docs/performance.md",
        include_str!("../../../../docs/performance.md"),
    ),
    ("docs/filter.md", include_str!("../../../../docs/filter.md")),
    (
        "docs/encryption.md",
        include_str!("../../../../docs/encryption.md"),
    ),
];

fn packet(payload: &[u8], header: impl FnOnce(&mut Vec<u8>, &[u8])) -> TestFrame {
    let mut bytes = Vec::new();
    header(&mut bytes, payload);
    TestFrame::new(bytes)
}

fn v4() -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
}

/// The frames of the document's test vectors.
fn vectors() -> Vec<(&'static str, TestFrame)> {
    let address = |text: &str| text.parse::<core::net::Ipv6Addr>().unwrap().octets();
    let tcp = || {
        packet(&[], |bytes, payload| {
            v4().tcp(40_000, 443, 1, 1).write(bytes, payload).unwrap();
        })
    };
    let tcp6 = packet(&[], |bytes, payload| {
        let ip = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = ip.ipv6(address("fd00::1"), address("fd00::2"), 64);
        ip.tcp(40_000, 443, 1, 1).write(bytes, payload).unwrap();
    });
    let udp = packet(&[], |bytes, payload| {
        v4().udp(40_000, 443).write(bytes, payload).unwrap();
    });
    let echo = packet(&[], |bytes, payload| {
        v4().icmpv4_echo_request(1, 1)
            .write(bytes, payload)
            .unwrap();
    });
    let error = packet(&tcp().bytes[14..42], |bytes, payload| {
        v4().icmpv4_raw(3, 3, [0; 4]).write(bytes, payload).unwrap();
    });
    let mut fragment = tcp();
    fragment.bytes[20] = 0x20;
    let mut later = fragment.clone();
    later.bytes[20..22].copy_from_slice(&[0, 185]);
    let mut malformed = tcp();
    malformed.bytes[14] = 0x4f;
    let arp = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1, 0x08, 0x06]].concat();
    vec![
        ("tcp 10.0.0.1:40000 10.0.0.2:443", tcp()),
        ("tcp [fd00::1]:40000 [fd00::2]:443", tcp6),
        ("udp 10.0.0.1:40000 10.0.0.2:443", udp),
        ("icmp echo 10.0.0.1 10.0.0.2", echo),
        ("icmp error about tcp 10.0.0.1:40000 10.0.0.2:443", error),
        ("first fragment, tcp 10.0.0.1:40000 10.0.0.2:443", fragment),
        ("its later fragments", later.clone()),
        (
            "arp ff:ff:ff:ff:ff:ff 02:00:00:00:00:01",
            TestFrame::new(arp),
        ),
        (
            "header length beyond the packet, 10.0.0.1 10.0.0.2",
            malformed,
        ),
    ]
}

#[test]
fn the_document_has_the_hash_vectors_and_no_other() {
    let mut spreader = Spreader::new(Spread::Flows);
    let mut line = |(name, test_frame): &(&str, TestFrame)| {
        let frame = test_frame.frame();
        let hashes = spreader.hashes(&frame, &ip::locate(&frame));
        format!("{:016x} {:016x} {name}", hashes.hosts.0, hashes.flow.0)
    };
    let lines: Vec<String> = vectors().iter().map(&mut line).collect();
    let block = format!("```\n{}\n```", lines.join("\n"));
    assert!(WIRE_TRUTH.contains(&block), "docs/wire-truth.md:\n{block}");
}

#[test]
fn the_document_has_the_bucket_vector() {
    let sensor = |n| Sensor::new(([10, 0, 0, n], vxlan::PORT).into(), Mtu::ETHERNET);
    let table = SensorTable::new([1, 2, 3].map(sensor).into());
    let winners: Vec<String> = (0..16_u64)
        .map(|bucket| table.sensor_of(FlowHash(bucket << 50)).unwrap().1)
        .map(|sensor| sensor.address().ip().to_string())
        .collect();
    let lines: Vec<String> = winners.chunks(4).map(|four| four.join(" ")).collect();
    let block = format!("```\n{}\n```", lines.join("\n"));
    assert!(WIRE_TRUTH.contains(&block), "docs/wire-truth.md:\n{block}");
}

#[test]
fn the_document_has_every_reason_for_a_drop() {
    for reason in DropReason::ALL {
        let row = format!("\n| `{reason}` | ");
        assert!(WIRE_TRUTH.contains(&row), "docs/wire-truth.md lacks {row}");
    }
}

#[test]
fn the_files_and_tests_that_the_documents_name_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let words = words_of_sources(&root.join("crates"));
    for (document, text) in DOCUMENTS {
        for code in text
            .lines()
            .flat_map(|line| line.split('`').skip(1).step_by(2))
        {
            let is_path = ["crates/", "benches/", "docs/", "manifests/"]
                .iter()
                .any(|start| code.starts_with(start));
            // The names of metrics are put together in the code, from a prefix, a name and `_total`.
            let metric = code.strip_prefix("podspan_").unwrap_or_default();
            let metric = metric.strip_suffix("_total").unwrap_or(metric);
            let is_test = code.matches('_').count() >= 3
                && !code.starts_with("podspan_receive_")
                && code
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            assert!(
                !is_path || root.join(code).exists(),
                "{document} names {code}, which does not exist"
            );
            assert!(
                !is_test || words.contains(code) || words.contains(metric),
                "{document} names {code}, which no source has"
            );
        }
        let folder = root.join(document);
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let is_file = !link.contains("://") && !link.starts_with('#');
            let target = folder.with_file_name(link.split('#').next().unwrap_or_default());
            assert!(!is_file || target.exists(), "{document} links to {link}");
        }
    }
}

#[test]
fn the_log_lines_that_the_document_explains_are_in_the_code() {
    let (_, lines) = DOCUMENTS[3].1.split_once("## Log lines").unwrap();
    let (lines, _) = lines.split_once("\n## ").unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let sources = sources(&root.join("crates")).join("\n");
    let rows = lines.lines().filter(|line| line.starts_with("| "));
    let texts: Vec<&str> = rows
        .filter_map(|row| row.split('|').nth(2))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert!(texts.len() > 10, "{texts:?}");
    for text in texts {
        assert!(sources.contains(text), "no source has the line {text:?}");
    }
}

/// All identifiers in the Rust files under a folder.
fn words_of_sources(folder: &Path) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for text in sources(folder) {
        let of_text = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.extend(of_text.map(str::to_owned));
    }
    words
}

/// The Rust files under a folder, with each string of several lines joined into one.
fn sources(folder: &Path) -> Vec<String> {
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let parts = text.split("\\\n").enumerate();
                let joined = parts.map(
                    |(number, part)| {
                        if number == 0 { part } else { part.trim_start() }
                    },
                );
                sources.push(joined.collect());
            }
        }
    }
    sources
}
