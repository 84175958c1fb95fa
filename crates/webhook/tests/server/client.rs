//! The program, its certificates, and a client of HTTP over TLS that can also misbehave.

#![allow(dead_code, reason = "each suite uses a part of this")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use tempfile::TempDir;
use testbed::Process;

/// Far longer than anything here needs.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// A review for a new pod, with a place for a large value.
pub(crate) fn review() -> String {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "a", "operation": "CREATE", "namespace": "shop",
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "object": {
                "metadata": {"name": "web", "annotations": {"other": "large"}},
                "spec": {"containers": [{"name": "web"}]},
            },
        },
    })
    .to_string()
}

/// A CA, and a folder with a certificate for 127.0.0.1.
pub(crate) struct Certificates {
    pub(crate) folder: TempDir,
    ca: String,
}

impl Certificates {
    /// Valid for so many seconds from now.
    pub(crate) fn new(seconds: i64) -> Self {
        Self::at(tempfile::tempdir().unwrap(), seconds)
    }

    /// New ones in the same folder.
    pub(crate) fn at(folder: TempDir, seconds: i64) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let mut parameters = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let now = time::OffsetDateTime::from(SystemTime::now());
        parameters.not_before = now - time::Duration::HOUR;
        parameters.not_after = now + time::Duration::seconds(seconds);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &ca).unwrap();
        fs::write(folder.path().join("tls.key"), key.serialize_pem()).unwrap();
        fs::write(folder.path().join("tls.crt"), certificate.pem()).unwrap();
        let ca = ca.pem();
        Self { folder, ca }
    }
}

/// The program without variables of this process.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podspan-webhook"));
    command.env_clear();
    command
}

/// A running webhook.
pub(crate) struct Webhook {
    pub(crate) process: Process,
    pub(crate) reviews: SocketAddr,
    pub(crate) status: SocketAddr,
}

impl Webhook {
    pub(crate) fn start(certificates: &Certificates, more: &[(&str, &str)]) -> Self {
        let webhook = Self::start_unready(certificates, more);
        webhook.until(|webhook| webhook.get("/readyz").0 == 200);
        webhook
    }

    pub(crate) fn start_unready(certificates: &Certificates, more: &[(&str, &str)]) -> Self {
        let mut command = command();
        command
            .env("CERTIFICATES", certificates.folder.path())
            .envs(more.iter().copied());
        Self::run(command)
    }

    /// Starts it on ports of loopback.
    pub(crate) fn run(mut command: Command) -> Self {
        command
            .env("LISTEN", "127.0.0.1:0")
            .env("STATUS", "127.0.0.1:0");
        let mut process = Process::spawn(command).unwrap();
        process.wait_for_output("listens", TIMEOUT).unwrap();
        let log = process.stderr();
        let address = |name: &str| {
            let (_, rest) = log.split_once(name).unwrap();
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        Self {
            reviews: address("reviews="),
            status: address("status="),
            process,
        }
    }

    pub(crate) fn connect_tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.reviews).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        stream
    }

    pub(crate) fn connect(&self, certificates: &Certificates) -> Connection {
        Connection::new(self.connect_tcp(), &certificates.ca)
    }

    /// Status and body of a request for the state.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.status).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        read_response(&mut stream)
    }

    /// The value of a metric.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let (_, text) = self.get("/metrics");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("podspan_webhook_{name} ")));
        line.unwrap().parse().unwrap()
    }

    #[track_caller]
    pub(crate) fn until(&self, condition: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            let metrics = self.get("/metrics").1;
            assert!(
                begun.elapsed() < TIMEOUT,
                "{}\n{metrics}",
                self.process.stderr()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    pub(crate) fn until_logged(&self, text: &str) {
        self.until(|webhook| webhook.process.stderr().contains(text));
    }

    pub(crate) fn resident_kib(&self) -> u64 {
        self.memory("VmRSS")
    }

    pub(crate) fn peak_kib(&self) -> u64 {
        self.memory("VmHWM")
    }

    fn memory(&self, field: &str) -> u64 {
        let text = self.process.status_field(field).unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    }
}

/// A connection by TLS.
pub(crate) struct Connection(StreamOwned<ClientConnection, TcpStream>);

impl Connection {
    /// One that trusts these CAs only.
    pub(crate) fn new(stream: TcpStream, cas: &str) -> Self {
        let mut roots = RootCertStore::empty();
        for ca in CertificateDer::pem_slice_iter(cas.as_bytes()) {
            roots.add(ca.unwrap()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        Self(StreamOwned::new(tls, stream))
    }

    pub(crate) fn write(&mut self, text: &str) {
        // The webhook may have closed it.
        let _ = self.try_write(text);
    }

    pub(crate) fn try_write(&mut self, text: &str) -> bool {
        self.0
            .write_all(text.as_bytes())
            .and_then(|()| self.0.flush())
            .is_ok()
    }

    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> (u16, String) {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        self.0.write_all(head.as_bytes()).unwrap();
        self.0.write_all(body).unwrap();
        self.0.flush().unwrap();
        self.read_response()
    }

    pub(crate) fn read_response(&mut self) -> (u16, String) {
        read_response(&mut self.0)
    }
}

/// Status and body of a response with a length.
fn read_response(stream: &mut impl Read) -> (u16, String) {
    let mut bytes = Vec::new();
    let head = loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.extend(byte);
        if bytes.ends_with(b"\r\n\r\n") {
            break String::from_utf8(bytes).unwrap().to_ascii_lowercase();
        }
    };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.split_once("content-length: ").unwrap().1;
    let length = length.lines().next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (status, String::from_utf8(body).unwrap())
}
