//! The built `podspan-receive`, with podspans and a sensor on loopback.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by a panic; clippy.toml's exception is for #[test] only"
)]

mod metrics;
mod podspan;

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testbed::Process;
use tunnel::{PresharedKey, PrivateKey, PublicKey};

use podspan::{LIMIT, Podspan};

/// `podspan-receive` with its keys, and a sensor.
struct Fixture {
    process: Process,
    address: SocketAddr,
    metrics: Option<SocketAddr>,
    sensor: UdpSocket,
    public: PublicKey,
    keys: Vec<PresharedKey>,
    folder: TempDir,
}

impl Fixture {
    fn start(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let private = PrivateKey::generate();
        fs::write(folder.path().join("private"), &*private.to_base64()).unwrap();
        let keys = vec![PresharedKey::generate()];
        write_keys(&folder, &keys);
        let sensor = UdpSocket::bind("127.0.0.1:0").unwrap();
        sensor.set_read_timeout(Some(LIMIT)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_podspan-receive"));
        command
            .env("LISTEN", "127.0.0.1:0")
            .env("METRICS", "127.0.0.1:0")
            .env("FORWARD", sensor.local_addr().unwrap().to_string())
            .env("PRIVATE_KEY_FILE", folder.path().join("private"))
            .env("PRESHARED_KEYS_FILE", folder.path().join("preshared"))
            .envs(variables.iter().copied());
        let mut process = Process::spawn(command).unwrap();
        process.wait_for_output("receives", LIMIT).unwrap();
        let line = process.stderr();
        let field = |name: &str| {
            let value = line.split(name).nth(1).unwrap();
            value.split_whitespace().next().unwrap().to_owned()
        };
        Self {
            address: field("listen=").parse().unwrap(),
            metrics: field("metrics=").parse().ok(),
            process,
            sensor,
            public: private.public(),
            keys,
            folder,
        }
    }

    fn podspan(&self, key: usize) -> Podspan {
        Podspan::new(self.address, self.public, self.keys[key].clone())
    }

    fn connected(&self, key: usize) -> Podspan {
        let mut podspan = self.podspan(key);
        assert!(podspan.connect(LIMIT), "{}", self.process.stderr());
        podspan
    }

    fn arrived(&self) -> Vec<u8> {
        let mut bytes = vec![0; 65_536];
        let length = self.sensor.recv(&mut bytes).unwrap();
        bytes.truncate(length);
        bytes
    }

    /// Ends it, and returns its last line.
    fn end(mut self) -> String {
        self.process.terminate().unwrap();
        let status = self.process.wait(LIMIT).unwrap();
        let log = self.process.stderr();
        assert!(status.success(), "{log}");
        log.lines().last().unwrap().to_owned()
    }
}

fn write_keys(folder: &TempDir, keys: &[PresharedKey]) {
    let lines: Vec<_> = keys.iter().map(|key| key.to_base64().to_string()).collect();
    // As a Secret changes: in one step.
    let next = folder.path().join("next");
    fs::write(&next, lines.join("\n")).unwrap();
    fs::rename(next, folder.path().join("preshared")).unwrap();
}

/// Datagrams that all differ, and their order shows.
fn datagram(number: u32, length: usize) -> Vec<u8> {
    let mut datagram = vec![number.to_le_bytes()[0]; length];
    datagram[..4].copy_from_slice(&number.to_be_bytes());
    datagram
}

#[track_caller]
fn assert_contains(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "no {part:?}: {line}");
    }
}

#[test]
fn copies_arrive_whole_and_in_order_and_all_are_counted() {
    for receiver in ["sniffer", "socket"] {
        let fixture = Fixture::start(&[("RECEIVER", receiver)]);
        let mut podspan = fixture.connected(0);
        for number in 0..600 {
            let length = [60, 1400, 1400, 1400, 300, 9000][number as usize % 6];
            podspan.send(&datagram(number, length));
            assert_eq!(fixture.arrived(), datagram(number, length));
        }
        let last = fixture.end();
        assert_contains(
            &last,
            &[
                "ended",
                "opened=600",
                "forwarded=600",
                "peers=1",
                "refused=0",
                "overflowed=0",
            ],
        );
    }
}

#[test]
fn each_podspan_belongs_to_a_thread_and_all_arrive() {
    let fixture = Fixture::start(&[("THREADS", "3")]);
    let mut podspans: Vec<_> = (0..12).map(|_| fixture.connected(0)).collect();
    for round in 0..10 {
        for (podspan, number) in podspans.iter_mut().zip(0..) {
            let sent = datagram(round * 100 + number, 200);
            podspan.send(&sent);
            assert_eq!(fixture.arrived(), sent);
        }
    }
    let last = fixture.end();
    assert_contains(
        &last,
        &["opened=120", "forwarded=120", "peers=12", "refused=0"],
    );
}

#[test]
fn a_rotation_of_the_preshared_key_loses_nothing() {
    let mut fixture = Fixture::start(&[]);
    let mut old = fixture.connected(0);
    fixture.keys.push(PresharedKey::generate());
    let mut new = fixture.podspan(1);
    assert!(
        !new.connect(Duration::from_secs(1)),
        "the key is not known yet"
    );

    write_keys(&fixture.folder, &fixture.keys);
    fixture.process.wait_for_output("keys=2", LIMIT).unwrap();
    assert!(new.connect(LIMIT));
    // The old key makes sessions too.
    let mut number = 0;
    for podspan in [&mut old, &mut new, &mut fixture.connected(0)] {
        podspan.send(&datagram(number, 100));
        assert_eq!(fixture.arrived(), datagram(number, 100));
        number += 1;
    }

    write_keys(&fixture.folder, &fixture.keys[1..]);
    fixture.process.wait_for_output("keys=1", LIMIT).unwrap();
    let begun = Instant::now();
    // A thread takes the keys within a second.
    while fixture.podspan(0).connect(Duration::from_millis(300)) {
        assert!(begun.elapsed() < LIMIT, "the old key is still valid");
    }
    old.send(&datagram(number, 100));
    assert_eq!(fixture.arrived(), datagram(number, 100), "sessions stay");
    let last = fixture.end();
    assert_contains(&last, &["opened=4", "forwarded=4"]);
}

#[test]
fn what_is_not_authentic_is_counted_by_reason_and_disturbs_nobody() {
    let fixture = Fixture::start(&[]);
    let mut podspan = fixture.connected(0);
    let sealed = podspan.sealed(&datagram(1, 100));
    podspan.send_raw(&sealed);
    assert_eq!(fixture.arrived(), datagram(1, 100));

    podspan.send_raw(&sealed);
    let mut forged = podspan.sealed(&datagram(2, 100));
    forged[40] ^= 1;
    podspan.send_raw(&forged);
    podspan.send_raw(&sealed[..31]);
    podspan.send_raw(b"");
    podspan.send_raw(&[9; 200]);
    let mut unknown = sealed.clone();
    unknown[4] ^= 0xff;
    podspan.send_raw(&unknown);
    let mut initiation = [0x55; 148];
    initiation[..4].copy_from_slice(&[1, 0, 0, 0]);
    podspan.send_raw(&initiation);
    let wrong_sensor = PrivateKey::generate().public();
    let mut misled = Podspan::new(fixture.address, wrong_sensor, fixture.keys[0].clone());
    assert!(!misled.connect(Duration::from_millis(500)));
    let mut outsider = Podspan::new(fixture.address, fixture.public, PresharedKey::generate());
    assert!(!outsider.connect(Duration::from_millis(500)));

    podspan.send(&datagram(3, 100));
    assert_eq!(fixture.arrived(), datagram(3, 100));
    let last = fixture.end();
    assert_contains(
        &last,
        &[
            "opened=2",
            "forwarded=2",
            "peers=1",
            "too_short=2",
            "unknown_type=1",
            "unknown_index=1",
            "replayed=1",
            "not_authentic=1",
            "mac1=2",
        ],
    );
}

#[test]
fn it_has_no_privilege_and_shows_no_key() {
    let mut fixture = Fixture::start(&[("LOG", "trace")]);
    let podspan = fixture.connected(0);
    for (field, expected) in [
        ("CapEff", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("NoNewPrivs", "1"),
    ] {
        assert_eq!(fixture.process.status_field(field).unwrap(), expected);
    }
    drop(podspan);
    fixture.process.terminate().unwrap();
    fixture.process.wait(LIMIT).unwrap();
    let log = fixture.process.stderr();
    let private = fs::read_to_string(fixture.folder.path().join("private")).unwrap();
    for secret in [&*private, &*fixture.keys[0].to_base64()] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn wrong_settings_and_keys_are_named() {
    let run = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_podspan-receive"));
        command.envs(variables.iter().copied());
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, said) = run(&[("THREADS", "0"), ("LISTEN", "here")]);
    assert_eq!(code, Some(64));
    assert_contains(
        &said,
        &["THREADS=\"0\": it is out of bounds", "LISTEN=\"here\""],
    );

    let (code, said) = run(&[("PRIVATE_KEY_FILE", "/nowhere/key")]);
    assert_eq!(code, Some(64));
    assert_contains(
        &said,
        &["PRIVATE_KEY_FILE=/nowhere/key: there is no such file; mount the Secret of the sensor"],
    );
}
