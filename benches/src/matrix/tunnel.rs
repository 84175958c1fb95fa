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
use testbed::{ControlGroup, Process, WireguardEnd};

use super::error::Result;
use super::stand::{PORT, Stand};

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
        let (pod, sensor) = (&stand.lab.pod, &stand.lab.sensor);
        let at_sensor = WireguardEnd {
            private: of_sensor.secret().to_bytes(),
            peer: *of_pod.public().as_bytes(),
            preshared: PresharedKey::generate().bytes(),
            port: TUNNEL_PORT,
            endpoint: None,
            address: AT_SENSOR.into(),
            other: IN_POD.into(),
            mtu: DEVICE_MTU,
        };
        let in_pod = WireguardEnd {
            private: of_pod.secret().to_bytes(),
            peer: *of_sensor.public().as_bytes(),
            endpoint: Some(SocketAddr::from((sensor.ipv4, TUNNEL_PORT))),
            address: IN_POD.into(),
            other: AT_SENSOR.into(),
            ..at_sensor.clone()
        };
        Ok(Self {
            sensor: at_sensor.start(program.to_owned(), &sensor.namespace, None)?,
            pod: in_pod.start(program.to_owned(), &pod.namespace, group)?,
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
