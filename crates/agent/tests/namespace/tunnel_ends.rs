//! Both ends of encrypted tunnels in a lab: keys, podspan, `podspan-receive`, what passes between them, and what comes out.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testbed::{
    Decoded, Decoder, Filter, Frame, FrameRef, Host, Lab, Process, Sink, Sniffer, build_wireguard,
};
use tunnel::{PresharedKey, PrivateKey};

use crate::scene::{PORT, VNI, podspan};

/// Longer than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// The usual port of WireGuard.
pub(crate) const TUNNEL_PORT: u16 = 51_820;
/// In the payload of each datagram of a [`stream`], and nowhere else.
pub(crate) const PATTERN: &[u8; 32] = b"plain bytes that nobody may read";
/// A process with this variable is `podspan-receive`.
const RUN_AS: &str = "PODSPAN_TEST_RUNS_AS_RECEIVE";

/// Runs `podspan-receive` if the environment asks for it.
pub(crate) fn run_as_receive() -> Option<ExitCode> {
    std::env::var_os(RUN_AS)?;
    let (program, read) = (&receive::PROGRAM, receive::Config::read);
    Some(program::main(program, read, |config| receive::run(&config)))
}

/// Builds wireguard-go, if it is not there.
pub(crate) fn build() -> PathBuf {
    build_wireguard().unwrap_or_else(|error| panic!("{error}"))
}

/// Keys in files, as two Secrets have them.
pub(crate) struct Keys {
    folder: TempDir,
    pub(crate) sensor: PrivateKey,
    pub(crate) preshared: PresharedKey,
}

impl Keys {
    pub(crate) fn new() -> Self {
        let keys = Self {
            folder: tempfile::tempdir().unwrap(),
            sensor: PrivateKey::generate(),
            preshared: PresharedKey::generate(),
        };
        keys.write("private-key", &[&keys.sensor.to_base64()]);
        keys.write("sensor-key", &[&keys.sensor.public().to_string()]);
        for file in ["preshared-keys", "preshared-key"] {
            keys.write(file, &[&keys.preshared.to_base64()]);
        }
        keys
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.folder.path().join(file).display().to_string()
    }

    /// In one step, as the kubelet does it.
    pub(crate) fn write(&self, file: &str, lines: &[&str]) {
        let next = self.folder.path().join("next");
        fs::write(&next, lines.join("\n")).unwrap();
        fs::rename(next, self.path(file)).unwrap();
    }

    /// `podspan-receive` on a sensor's host; its sensor captures on `lo`.
    pub(crate) fn receive(&self, host: &Host) -> Process {
        let program = std::env::current_exe().unwrap();
        let mut command = host.namespace.command_with_capabilities(program, &[]);
        command
            .env_clear()
            .env(RUN_AS, "1")
            .env("LISTEN", format!("[::]:{TUNNEL_PORT}"))
            .env("FORWARD", format!("127.0.0.1:{PORT}"))
            .env("PRIVATE_KEY_FILE", self.path("private-key"))
            .env("PRESHARED_KEYS_FILE", self.path("preshared-keys"));
        let mut process = Process::spawn(command).unwrap();
        process.wait_for_output("receives", LIMIT).unwrap();
        process
    }

    /// podspan with tunnels to these addresses.
    pub(crate) fn podspan(
        &self,
        lab: &Lab,
        sensors: &[SocketAddr],
        more: &[(&str, &str)],
    ) -> Process {
        let sensors: Vec<_> = sensors.iter().map(ToString::to_string).collect();
        let mut command = podspan(lab, &[("SENSOR", &sensors.join(","))]);
        command
            .env("TUNNEL", "wireguard")
            .env("WG_SENSOR_KEY_FILE", self.path("sensor-key"))
            .env("WG_PRESHARED_KEY_FILE", self.path("preshared-key"))
            .envs(more.iter().copied());
        let mut agent = Process::spawn(command).unwrap();
        agent.wait_for_output("capturing (index", LIMIT).unwrap();
        agent
    }
}

/// What `podspan-receive` forwards on a host.
pub(crate) fn opened_at(host: &Host) -> Sniffer<Decoded<Vec<Frame>>> {
    let sink = Decoded {
        decoder: Decoder::new(VNI, PORT, 65_536),
        sink: Vec::new(),
    };
    Sniffer::start(&host.namespace, "lo", Filter::Incoming, sink).unwrap()
}

/// The frames that were opened.
pub(crate) fn stop(sniffer: Sniffer<Decoded<Vec<Frame>>>) -> Vec<Frame> {
    let (Decoded { decoder, sink }, capture) = sniffer.stop().unwrap();
    assert_eq!(capture.dropped, 0, "the sniffer kept up");
    assert!(decoder.anomalies().is_empty(), "{:?}", decoder.anomalies());
    sink
}

/// Ends a program and returns its log.
pub(crate) fn end(mut process: Process) -> String {
    process.terminate().unwrap();
    let status = process.wait(LIMIT).unwrap();
    let log = process.stderr();
    assert!(status.success(), "{status}:\n{log}");
    log
}

/// Everything on the wire at a sensor's host.
#[derive(Default)]
pub(crate) struct Wire {
    pub(crate) frames: u64,
    /// Frames of a tunnel.
    pub(crate) sealed: u64,
    /// Frames with a plain VXLAN header or the pattern.
    pub(crate) plain: u64,
}

impl Wire {
    pub(crate) fn at(host: &Host) -> Sniffer<Self> {
        Sniffer::start(&host.namespace, "eth0", Filter::All, Self::default()).unwrap()
    }

    /// Asserts that something was sealed and nothing was plain.
    pub(crate) fn assert_sealed(sniffer: Sniffer<Self>) {
        let (wire, capture) = sniffer.stop().unwrap();
        assert_eq!(capture.dropped, 0);
        assert_eq!(wire.plain, 0, "of {} frames", wire.frames);
        assert!(wire.sealed > 0);
    }
}

impl Sink for Wire {
    fn receive(&mut self, frame: FrameRef<'_>) {
        let [_, v0, v1, v2] = VNI.to_be_bytes();
        let vxlan = [8, 0, 0, 0, v0, v1, v2, 0];
        let has = |part: &[u8]| frame.bytes.windows(part.len()).any(|bytes| bytes == part);
        let port = TUNNEL_PORT.to_be_bytes();
        let of_tunnel = |at: usize| frame.bytes.get(at..at + 2) == Some(&port[..]);
        self.frames += 1;
        self.plain += u64::from(has(&vxlan) || has(PATTERN));
        // The destination port after an IPv4 or an IPv6 header.
        self.sealed += u64::from(of_tunnel(14 + 20 + 2) || of_tunnel(14 + 40 + 2));
    }
}

/// Sends numbered datagrams with the pattern from the client to the pod, at a constant rate.
pub(crate) fn stream(lab: &Lab, numbers: std::ops::Range<u32>, per_second: u32) {
    let to = SocketAddr::from((lab.pod.ipv4, 7777));
    // So that the pod sends no ICMP errors.
    let _receiver = lab.pod.namespace.run(|| UdpSocket::bind(to)).unwrap();
    let socket = lab
        .client
        .namespace
        .run(|| UdpSocket::bind((lab.client.ipv4, 0)))
        .unwrap();
    let (start, first) = (Instant::now(), numbers.start);
    for number in numbers {
        let due = Duration::from_secs(1) * (number - first) / per_second;
        thread::sleep(due.saturating_sub(start.elapsed()));
        let payload = [&number.to_be_bytes(), &PATTERN[..]].concat();
        socket.send_to(&payload, to).unwrap();
    }
}

/// The numbers of the stream in frames, in their order.
pub(crate) fn numbers(frames: &[Frame]) -> Vec<u32> {
    let number = |frame: &Frame| {
        let payload = frame.bytes.get(14 + 20 + 8..)?;
        let (number, rest) = payload.split_first_chunk::<4>()?;
        rest.starts_with(PATTERN)
            .then(|| u32::from_be_bytes(*number))
    };
    frames.iter().filter_map(number).collect()
}

pub(crate) fn sensor_at(host: &Host) -> SocketAddr {
    SocketAddr::from((host.ipv4, TUNNEL_PORT))
}
