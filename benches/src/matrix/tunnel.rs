//! The far ends of tunnels, and wireguard-go in the pod.
//!
//! In: the lab and the programs. Out: processes that are ready, and the settings with which podspan sends to them. The
//! copies come out at the same receiver as all others: `podspan-receive` forwards them to it within the sensor's
//! namespace, and the address of wireguard-go's device there is one of the receiver's. Each start has new keys.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use keys::{PresharedKey, PrivateKey, PublicKey};
use tempfile::TempDir;
use testbed::{ControlGroup, Namespace, Process, start_wireguard_in};

use super::error::Result;
use super::stand::{PORT, Stand, run};

/// The UDP port of both ends.
const TUNNEL_PORT: u16 = 51_820;
/// The addresses of wireguard-go's devices.
const IN_POD: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const AT_SENSOR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// 1500 bytes without the headers of IPv4, UDP and WireGuard and without its tag.
const DEVICE_MTU: u16 = 1440;
/// The longest time from a start to readiness, and from a request to the end.
const LIMIT: Duration = Duration::from_secs(10);

/// `podspan-receive` beside the receiver.
#[derive(Debug)]
pub struct SensorsEnd {
    process: Process,
    sensor: PublicKey,
    preshared: PresharedKey,
    /// The files are read while it runs.
    _files: TempDir,
}

impl SensorsEnd {
    /// Starts it.
    ///
    /// # Errors
    /// Where it does not get ready.
    pub fn start(stand: &Stand, program: &Path) -> Result<Self> {
        let (sensor, preshared) = (PrivateKey::generate(), PresharedKey::generate());
        let failed = |source| crate::Error::Io {
            doing: "writing the keys of a tunnel",
            source,
        };
        let files = tempfile::tempdir().map_err(failed)?;
        let [private, shared] =
            ["private-key", "preshared-keys"].map(|name| files.path().join(name));
        fs::write(&private, sensor.to_base64()).map_err(failed)?;
        fs::write(&shared, preshared.to_base64()).map_err(failed)?;
        let namespace = &stand.lab.sensor.namespace;
        let mut command = namespace.command_with_capabilities(program, &[]);
        command
            .env_clear()
            .env("LISTEN", format!("0.0.0.0:{TUNNEL_PORT}"))
            .env("FORWARD", format!("127.0.0.1:{PORT}"))
            .env("RECEIVER", "socket")
            .env("METRICS", "off")
            .env("PRIVATE_KEY_FILE", private)
            .env("PRESHARED_KEYS_FILE", shared);
        let mut process = Process::spawn(command)?;
        process.wait_for_output("receives", LIMIT)?;
        Ok(Self {
            process,
            sensor: sensor.public(),
            preshared,
            _files: files,
        })
    }

    /// podspan's settings for it.
    #[must_use]
    pub fn settings(&self, stand: &Stand) -> [(&'static str, String); 4] {
        let sensor = SocketAddr::from((stand.lab.sensor.ipv4, TUNNEL_PORT));
        [
            ("SENSOR", sensor.to_string()),
            ("TUNNEL", "wireguard".to_owned()),
            ("WG_SENSOR_KEY", self.sensor.to_string()),
            ("WG_PRESHARED_KEY", self.preshared.to_base64().to_string()),
        ]
    }

    /// What it has printed.
    #[must_use]
    pub fn printed(&self) -> String {
        self.process.stdout() + &self.process.stderr()
    }

    /// Ends it when it has forwarded what has arrived.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn stop(mut self) -> Result<()> {
        self.process.terminate()?;
        self.process.wait(LIMIT)?;
        Ok(())
    }
}

/// wireguard-go in the pod and at the sensor.
#[derive(Debug)]
pub struct WireguardEnds {
    pod: Process,
    sensor: Process,
}

impl WireguardEnds {
    /// Starts both, the pod's in the control group.
    ///
    /// # Errors
    /// Where one does not get ready.
    pub fn start(stand: &Stand, program: &Path, group: Option<&ControlGroup>) -> Result<Self> {
        let (of_pod, of_sensor) = (PrivateKey::generate(), PrivateKey::generate());
        let preshared = PresharedKey::generate();
        let (pod, sensor) = (&stand.lab.pod, &stand.lab.sensor);
        let to_pod = configuration(&of_sensor, &of_pod.public(), &preshared, (IN_POD, None));
        let endpoint = SocketAddr::from((sensor.ipv4, TUNNEL_PORT));
        let to_sensor = (AT_SENSOR, Some(endpoint));
        let to_sensor = configuration(&of_pod, &of_sensor.public(), &preshared, to_sensor);
        Ok(Self {
            sensor: start_end(program, &sensor.namespace, AT_SENSOR, &to_pod, None)?,
            pod: start_end(program, &pod.namespace, IN_POD, &to_sensor, group)?,
        })
    }

    /// podspan's settings for it. wireguard-go's own datagrams have no mark of podspan, so a filter keeps them out.
    #[must_use]
    pub fn settings(&self) -> [(&'static str, String); 2] {
        [
            ("SENSOR", format!("{AT_SENSOR}:{PORT}")),
            ("FILTER", format!("not udp port {TUNNEL_PORT}")),
        ]
    }

    /// CPU time of the pod's end so far.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn cpu_time(&self) -> Result<Duration> {
        Ok(self.pod.cpu_time()?)
    }

    /// What both have printed.
    #[must_use]
    pub fn printed(&self) -> String {
        [&self.pod, &self.sensor]
            .map(|process| process.stdout() + &process.stderr())
            .concat()
    }
}

fn start_end(
    program: &Path,
    namespace: &Namespace,
    address: Ipv4Addr,
    configuration: &str,
    group: Option<&ControlGroup>,
) -> Result<Process> {
    let program = program.to_owned();
    let process = start_wireguard_in(program, namespace, "wg0", configuration, group)?;
    run(namespace, &format!("ip address add {address}/24 dev wg0"))?;
    run(namespace, &format!("ip link set wg0 mtu {DEVICE_MTU} up"))?;
    Ok(process)
}

/// The lines of the cross-platform userspace interface for an end with one peer.
fn configuration(
    own: &PrivateKey,
    peer: &PublicKey,
    preshared: &PresharedKey,
    (inside, endpoint): (Ipv4Addr, Option<SocketAddr>),
) -> String {
    let mut lines = vec![
        format!("private_key={}", hex(&own.secret().to_bytes())),
        format!("listen_port={TUNNEL_PORT}"),
        format!("public_key={}", hex(peer.as_bytes())),
        format!("preshared_key={}", hex(&preshared.bytes())),
        format!("allowed_ip={inside}/32"),
    ];
    lines.extend(endpoint.map(|endpoint| format!("endpoint={endpoint}")));
    lines.join("\n") + "\n"
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_has_its_own_key_and_the_public_one_of_its_peer() {
        let (own, peer) = (PrivateKey::generate(), PublicKey::new([0x0a; 32]));
        let preshared = PresharedKey::generate();
        let endpoint = "10.0.0.3:51820".parse().ok();
        let text = configuration(&own, &peer, &preshared, (AT_SENSOR, endpoint));
        let keys: Vec<&str> = text
            .lines()
            .filter_map(|line| Some(line.split_once('=')?.0))
            .collect();
        let order = ["private_key", "listen_port", "public_key", "preshared_key"];
        assert_eq!(keys[..4], order, "the peer's lines begin with its key");
        assert!(text.contains(&format!("public_key={}\n", "0a".repeat(32))));
        assert!(text.contains("allowed_ip=10.9.0.1/32\nendpoint=10.0.0.3:51820\n"));
        assert!(!text.contains(&hex(own.public().as_bytes())));
    }
}
