//! The built `podspan-webhook` on loopback with certificates from a folder: real clients, and clients that harm.

mod client;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use client::{Certificates, TIMEOUT, Webhook, review};
use serde_json::Value;

#[test]
fn a_review_is_answered_over_tls() {
    let certificates = Certificates::new(60);
    let webhook = Webhook::start(&certificates, &[]);
    let mut connection = webhook.connect(&certificates);
    // Several on one connection.
    for _ in 0..3 {
        let (status, body) = connection.post("/mutate", review().as_bytes());
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["response"]["patchType"], "JSONPatch");
    }
    assert_eq!(webhook.count("requests_total{result=\"injected\"}"), 3);
    let (status, body) = webhook.connect(&certificates).post("/mutate", b"{}");
    assert_eq!(status, 400, "{body}");
    let (status, _) = webhook.connect(&certificates).post("/other", b"{}");
    assert_eq!(status, 404);
    assert_eq!(webhook.count("requests_total{result=\"malformed\"}"), 2);
    assert!(
        webhook
            .process
            .stderr()
            .contains("podspan is injected pod=shop/web")
    );
}

#[test]
fn changed_files_are_used_without_a_restart_and_wrong_ones_are_not() {
    let certificates = Certificates::new(60);
    let webhook = Webhook::start(&certificates, &[]);
    let first = webhook.count("certificate_expiry_timestamp_seconds");
    fs::write(certificates.folder.path().join("tls.crt"), "garbage").unwrap();
    webhook.until_logged("cannot be used");
    assert_eq!(
        webhook
            .connect(&certificates)
            .post("/mutate", review().as_bytes())
            .0,
        200
    );
    let renewed = Certificates::at(certificates.folder, 600);
    webhook.until(|webhook| webhook.count("certificate_expiry_timestamp_seconds") > first + 100);
    assert_eq!(
        webhook
            .connect(&renewed)
            .post("/mutate", review().as_bytes())
            .0,
        200
    );
}

#[test]
fn without_a_valid_certificate_it_lives_and_is_not_ready() {
    let certificates = Certificates::new(60);
    fs::remove_file(certificates.folder.path().join("tls.crt")).unwrap();
    let webhook = Webhook::start_unready(&certificates, &[]);
    webhook.until_logged("tls.crt cannot be read");
    assert_eq!(webhook.get("/healthz").0, 200);
    let (status, text) = webhook.get("/readyz");
    assert_eq!(
        (status, text.trim()),
        (503, "not ready: there is no certificate yet")
    );
    assert!(!webhook.get("/metrics").1.contains("expiry"));
    let expired = Certificates::at(certificates.folder, -60);
    webhook.until(|webhook| webhook.get("/readyz").1.contains("not valid now"));
    let _valid = Certificates::at(expired.folder, 60);
    webhook.until(|webhook| webhook.get("/readyz").0 == 200);
}

#[test]
fn a_signal_ends_it_after_the_drain_without_an_error() {
    let certificates = Certificates::new(60);
    let mut webhook = Webhook::start(&certificates, &[("DRAIN", "1s")]);
    let mut open = webhook.connect(&certificates);
    assert_eq!(open.post("/mutate", review().as_bytes()).0, 200);
    webhook.process.terminate().unwrap();
    webhook.until(|webhook| webhook.get("/readyz").0 == 503);
    // It still answers, on the old connection and on a new one.
    assert_eq!(open.post("/mutate", review().as_bytes()).0, 200);
    assert_eq!(
        webhook
            .connect(&certificates)
            .post("/mutate", review().as_bytes())
            .0,
        200
    );
    let status = webhook.process.wait(TIMEOUT).unwrap();
    assert!(status.success(), "{status}: {}", webhook.process.stderr());
}

#[test]
fn wrong_settings_are_all_listed_and_end_it_with_64() {
    let mut command = client::command();
    command
        .env("LISTEN", "nowhere")
        .env("PLACEMENT", "first")
        .env("DEFAULTS", "sensor");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8(output.stderr).unwrap();
    for name in [
        "LISTEN=\"nowhere\"",
        "PLACEMENT=\"first\"",
        "DEFAULTS=\"sensor\"",
    ] {
        assert!(text.contains(name), "{text}");
    }
}

/// Clients that send garbage, nothing, half a request, or a body that never ends, each many times; meanwhile a
/// client that asks is answered, and the memory stays bounded.
#[test]
fn harmful_clients_disturb_nobody_and_take_bounded_memory() {
    let certificates = Certificates::new(600);
    let webhook = Webhook::start(&certificates, &[]);
    let before = webhook.resident_kib();
    let silent: Vec<_> = (0..1000).map(|_| webhook.connect_tcp()).collect();
    for stream in silent.iter().step_by(3) {
        let _ = (&*stream).write_all(b"GET / HTTP/1.1\r\n\r\n\x00\xff garbage");
    }
    // Bodies that trickle, and heads, on connections with TLS. Each begins at once, before its time is over.
    let send_part = |text: &str| {
        let mut connection = webhook.connect(&certificates);
        connection.write(text);
        connection
    };
    let half = "x".repeat(100_000);
    let half = format!("POST /mutate HTTP/1.1\r\nhost: a\r\ncontent-length: 3000000\r\n\r\n{half}");
    let mut slow: Vec<_> = (0..50).map(|_| send_part(&half)).collect();
    let heads: Vec<_> = (0..50)
        .map(|_| send_part("POST /mutate HTTP/1.1\r\nhost:"))
        .collect();
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let begun = Instant::now();
        let (status, body) = webhook
            .connect(&certificates)
            .post("/mutate", review().as_bytes());
        slowest = slowest.max(begun.elapsed());
        assert_eq!(status, 200, "{body}");
        for connection in &mut slow {
            connection.write("y");
        }
        thread::sleep(Duration::from_millis(50));
    }
    println!("the slowest answer took {slowest:?}");
    // An API server waits for two.
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    webhook.until(|webhook| webhook.count("requests_total{result=\"too_slow\"}") == 50);
    // Those without a request are closed.
    webhook.until(|webhook| webhook.count("connections") < 5);
    let closed =
        |reason: &str| webhook.count(&format!("connections_closed_total{{reason=\"{reason}\"}}"));
    assert!(closed("evicted") + closed("handshake") >= 1000);
    let grown = webhook.resident_kib().saturating_sub(before);
    println!("{grown} KiB more are resident");
    assert!(grown < 64 << 10, "{grown} KiB");
    drop((silent, heads));
}

#[test]
fn a_huge_body_is_refused_and_a_large_one_is_read() {
    let certificates = Certificates::new(600);
    let webhook = Webhook::start(&certificates, &[]);
    let before = webhook.resident_kib();
    // It is refused by its announced length, and by its bytes where it announces none.
    let mut announced = webhook.connect(&certificates);
    announced.write("POST /mutate HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999\r\n\r\n");
    assert_eq!(announced.read_response().0, 413);
    let mut chunked = webhook.connect(&certificates);
    chunked.write("POST /mutate HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    while chunked.try_write(&chunk) {}
    webhook.until(|webhook| webhook.count("requests_total{result=\"too_large\"}") == 2);
    // The largest pod, and the most values in so many bytes.
    let padding = format!("\"{}\"", "a".repeat(3_000_000));
    let values = format!("[{}0]", "0,".repeat(1_500_000));
    for large in [padding, values] {
        let large = review().replace("\"large\"", &large);
        let (status, body) = webhook
            .connect(&certificates)
            .post("/mutate", large.as_bytes());
        assert_eq!(status, 200, "{}", &body[..body.len().min(200)]);
    }
    let grown = webhook.peak_kib().saturating_sub(before);
    println!("{grown} KiB more were resident");
    assert!(grown < 128 << 10, "{grown} KiB");
}

#[test]
fn the_state_is_read_without_tls_and_nothing_else_is_there() {
    let certificates = Certificates::new(60);
    let webhook = Webhook::start(&certificates, &[]);
    assert_eq!(webhook.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(webhook.get("/mutate").0, 404);
    assert_eq!(webhook.count("connections"), 0);
    let mut stream = TcpStream::connect(webhook.status).unwrap();
    stream.write_all(b"\x16\x03\x01garbage\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(webhook.get("/readyz").0, 200);
}
