//! What `podspan-receive` tells by HTTP, and how little anybody can take from it there.

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tunnel::PresharedKey;

use super::podspan::LIMIT;
use super::{Fixture, datagram};

/// Everything that is held for connections takes less.
const MEMORY_MAX: u64 = 8 << 10;

/// A connection that waits no longer than a test may.
fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Status and body of an answer.
fn get(from: SocketAddr, path: &str) -> (String, String) {
    let mut stream = connect(from);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    (status.to_owned(), body.to_owned())
}

/// The samples by name and labels.
fn scrape(from: SocketAddr) -> HashMap<String, u64> {
    let (status, text) = get(from, "/metrics");
    assert_eq!(status, "200");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let name = name.strip_prefix("podspan_receive_").unwrap();
        (name.to_owned(), value.parse().unwrap())
    });
    samples.collect()
}

/// The sum of a family.
fn sum(samples: &HashMap<String, u64>, family: &str) -> u64 {
    let of_family = samples
        .iter()
        .filter(|(name, _)| name.split('{').next() == Some(family));
    of_family.map(|(_, value)| value).sum()
}

#[track_caller]
fn assert_sums(samples: &HashMap<String, u64>) {
    let of = |family: &str| sum(samples, family);
    assert_eq!(
        of("received_datagrams_total"),
        of("opened_datagrams_total")
            + of("keepalives_total")
            + of("handshakes_total")
            + of("refused_datagrams_total"),
        "{samples:?}"
    );
    assert_eq!(
        of("opened_datagrams_total"),
        of("forwarded_datagrams_total") + of("dropped_datagrams_total"),
        "{samples:?}"
    );
}

/// The samples when one of them has this value, which the threads publish within a second.
fn scrape_until(from: SocketAddr, name: &str, value: u64) -> HashMap<String, u64> {
    let begun = Instant::now();
    loop {
        let samples = scrape(from);
        assert_sums(&samples);
        if samples[name] == value {
            return samples;
        }
        assert!(
            begun.elapsed() < LIMIT,
            "{name} is not {value}: {samples:?}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn metrics_have_the_sums_of_the_log_and_are_exact_on_each_scrape() {
    let fixture = Fixture::start(&[("THREADS", "2"), ("PEERS", "5")]);
    let from = fixture.metrics.unwrap();
    let mut podspans = [fixture.connected(0), fixture.connected(0)];
    for number in 0..100 {
        for podspan in &mut podspans {
            podspan.send(&datagram(number, 100));
            assert_eq!(fixture.arrived(), datagram(number, 100));
        }
        if number % 30 == 0 {
            assert_sums(&scrape(from));
        }
    }
    podspans[0].send_raw(b"garbage");
    let samples = scrape_until(from, "refused_datagrams_total{reason=\"too_short\"}", 1);
    for (name, value) in [
        ("forwarded_datagrams_total", 200),
        ("opened_bytes_total", 20_000),
        ("handshakes_total", 2),
        ("sessions_confirmed_total{of=\"new_peer\"}", 2),
        ("sessions_confirmed_with_older_key_total", 0),
        ("dropped_datagrams_total{reason=\"queue_full\"}", 0),
        ("overflowed_messages_total", 0),
        ("peers", 2),
        ("sessions", 2),
        ("peers_limit", 10),
        ("preshared_keys", 1),
    ] {
        assert_eq!(samples[name], value, "{name}");
    }
    let last = fixture.end();
    super::assert_contains(
        &last,
        &[
            "received=",
            "opened=200",
            "opened_bytes=20000",
            "refused=too_short=1",
        ],
    );
}

#[test]
fn sessions_with_the_older_key_are_counted_until_a_rotation_has_reached_all() {
    let mut fixture = Fixture::start(&[]);
    fixture.keys.push(PresharedKey::generate());
    super::write_keys(&fixture.folder, &fixture.keys);
    fixture.process.wait_for_output("keys=2", LIMIT).unwrap();
    let from = fixture.metrics.unwrap();
    // A thread takes the keys within a second.
    fixture.connected(1);
    fixture.connected(0);
    fixture.connected(1);
    let samples = scrape_until(from, "sessions_confirmed_total{of=\"new_peer\"}", 3);
    assert_eq!(samples["sessions_confirmed_with_older_key_total"], 1);
    assert_eq!(samples["preshared_keys"], 2);
}

#[test]
fn it_is_live_and_ready_also_when_the_keys_can_no_longer_be_read() {
    let fixture = Fixture::start(&[]);
    let from = fixture.metrics.unwrap();
    let ok = ("200".to_owned(), "ok\n".to_owned());
    let begun = Instant::now();
    while get(from, "/readyz") != ok {
        assert!(begun.elapsed() < LIMIT);
    }
    let failures = "preshared_keys_read_failures_total";
    assert_eq!(scrape(from)[failures], 0);
    fs::remove_file(fixture.folder.path().join("preshared")).unwrap();
    while scrape(from)[failures] == 0 {
        assert!(begun.elapsed() < LIMIT);
    }
    assert_eq!(get(from, "/livez"), ok);
    assert_eq!(get(from, "/readyz"), ok);
    fixture.connected(0);
    assert_eq!(get(from, "/").0, "404");
}

#[test]
fn without_an_address_nothing_is_served_and_a_taken_one_is_named() {
    let fixture = Fixture::start(&[("METRICS", "off")]);
    assert_eq!(fixture.metrics, None);
    fixture.connected(0);
    let other = Fixture::start(&[]);
    let taken = other.metrics.unwrap().to_string();
    let keys = |name: &str| other.folder.path().join(name);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_podspan-receive"))
        .env("LISTEN", "127.0.0.1:0")
        .env("METRICS", &taken)
        .env("PRIVATE_KEY_FILE", keys("private"))
        .env("PRESHARED_KEYS_FILE", keys("preshared"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(71));
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = format!("METRICS={taken}: cannot listen there: ");
    super::assert_contains(&said, &[&expected, "; set another METRICS, or off"]);
}

/// Connects without a word, and keeps the connections.
fn idle(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| connect(to)).collect()
}

/// Connections that send nonsense, and heads without an end.
fn garbage(to: SocketAddr, stop: &AtomicBool) {
    let endless = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(1 << 20));
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let bytes = [&[0xff; 4096][..], b"GET\r\n\r\n", endless.as_bytes()][round % 3];
        let mut stream = connect(to);
        // It closes while this writes.
        let _ = stream.write_all(bytes);
        let _ = stream.read(&mut [0; 512]);
    }
}

/// A request that comes so slowly that it never ends; returns when the connection is closed.
fn slow(to: SocketAddr) {
    let mut stream = connect(to);
    let begun = Instant::now();
    for byte in b"GET /metrics HTTP/1.1\r\nX: "
        .iter()
        .chain([b'x'].iter().cycle())
    {
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "a slow client is not closed");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn idle_slow_and_garbled_connections_lose_no_copy_and_no_scrape_and_take_little_memory() {
    let fixture = Fixture::start(&[]);
    let from = fixture.metrics.unwrap();
    let memory = || -> u64 {
        let field = fixture.process.status_field("RssAnon").unwrap();
        field.split_whitespace().next().unwrap().parse().unwrap()
    };
    let mut podspan = fixture.connected(0);
    let mut flow = |from: u32, count: u32| {
        for number in from..from + count {
            podspan.send(&datagram(number, 1000));
            assert_eq!(fixture.arrived(), datagram(number, 1000));
        }
    };
    flow(0, 500);
    assert_eq!(get(from, "/livez").0, "200");
    let before = memory();
    let stop = AtomicBool::new(false);
    let (mut sent, mut most) = (500, 0);
    thread::scope(|scope| {
        let garbled = scope.spawn(|| garbage(from, &stop));
        let idle = scope.spawn(|| idle(from, 1000));
        let slow = scope.spawn(|| slow(from));
        while !(idle.is_finished() && slow.is_finished()) {
            flow(sent, 100);
            sent += 100;
            assert_eq!(get(from, "/livez").0, "200");
            assert_sums(&scrape(from));
            most = most.max(memory());
        }
        stop.store(true, Ordering::Relaxed);
        garbled.join().unwrap();
        assert_eq!(idle.join().unwrap().len(), 1000);
        slow.join().unwrap();
    });
    assert!(most < before + MEMORY_MAX, "{before} kB, then {most} kB");
    let samples = scrape_until(from, "forwarded_datagrams_total", sent.into());
    assert!(samples["http_connections_evicted_total"] > 0);
    assert_eq!(sum(&samples, "dropped_datagrams_total"), 0);
}
