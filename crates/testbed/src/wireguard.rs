//! wireguard-go: WireGuard as others wrote it, on a tun device in a namespace.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::control_group::ControlGroup;
use crate::namespace::Namespace;
use crate::process::Process;
use crate::programs::{Error, Program};

const END: Program = Program::new("wireguard-end", ".", "wireguard");

/// Builds the program, if it is not there: half a minute, once.
///
/// # Errors
/// [`Error::NoGo`] and [`Error::Build`] where building fails.
pub fn build_wireguard() -> Result<PathBuf, Error> {
    END.find()
}

/// The name of the tun device.
const DEVICE: &str = "wg0";

/// One end of a tunnel with one peer. Keys are as messages have them.
#[derive(Debug, Clone)]
pub struct WireguardEnd {
    /// Its private key.
    pub private: [u8; 32],
    /// The peer's public key.
    pub peer: [u8; 32],
    /// The key of both.
    pub preshared: [u8; 32],
    /// Its UDP port; 0 is any.
    pub port: u16,
    /// Where the peer is, if this end does the first handshake.
    pub endpoint: Option<SocketAddr>,
    /// Its address in the tunnel.
    pub address: IpAddr,
    /// The peer's address in the tunnel.
    pub other: IpAddr,
    /// The MTU of the tun device.
    pub mtu: u16,
}

impl WireguardEnd {
    /// The usual MTU of the tun device.
    pub const MTU: u16 = 1400;

    /// Starts `program` ([`build_wireguard`]) on a new tun device with the address in the tunnel, in a control group
    /// if there is one. The device is up when this returns, and goes with the process.
    ///
    /// # Errors
    /// [`crate::Error::Program`] with its output where the program ends: most often because `/dev/net/tun` is
    /// missing; others where the device or the group cannot be configured.
    pub fn start(
        &self,
        program: PathBuf,
        namespace: &Namespace,
        group: Option<&ControlGroup>,
    ) -> crate::Result<Process> {
        let mut command = namespace.command(program);
        command
            .args([DEVICE, &self.mtu.to_string()])
            .env("WIREGUARD", self.configuration());
        if let Some(group) = group {
            group.add(&mut command)?;
        }
        let mut process = Process::spawn(command)?;
        process.wait_for_output("ready", Duration::from_secs(30))?;
        let link = namespace.link(DEVICE)?;
        let prefix = if self.address.is_ipv4() { 24 } else { 64 };
        link.add_address(self.address, prefix)?;
        link.up()?;
        Ok(process)
    }

    /// The lines of the cross-platform userspace interface.
    fn configuration(&self) -> String {
        let bits = if self.other.is_ipv4() { 32 } else { 128 };
        let mut lines = vec![
            format!("private_key={}", hex(&self.private)),
            format!("listen_port={}", self.port),
            format!("public_key={}", hex(&self.peer)),
            format!("preshared_key={}", hex(&self.preshared)),
            format!("allowed_ip={}/{bits}", self.other),
        ];
        lines.extend(self.endpoint.map(|endpoint| format!("endpoint={endpoint}")));
        lines.join("\n") + "\n"
    }
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
    fn a_key_is_written_in_hexadecimal() {
        assert_eq!(hex(&[0x00, 0x9f, 0xa0]), "009fa0");
    }

    #[test]
    fn an_end_has_its_own_key_and_the_public_one_of_its_peer() {
        let end = WireguardEnd {
            private: [0x0b; 32],
            peer: [0x0a; 32],
            preshared: [0x0c; 32],
            port: 51_820,
            endpoint: "10.0.0.3:51820".parse().ok(),
            address: "10.9.0.2".parse().unwrap(),
            other: "10.9.0.1".parse().unwrap(),
            mtu: WireguardEnd::MTU,
        };
        let text = end.configuration();
        let keys: Vec<&str> = text
            .lines()
            .filter_map(|line| Some(line.split_once('=')?.0))
            .collect();
        let order = ["private_key", "listen_port", "public_key", "preshared_key"];
        assert_eq!(keys[..4], order, "the peer's lines begin with its key");
        assert!(text.starts_with(&format!("private_key={}\n", "0b".repeat(32))));
        assert!(text.contains(&format!("public_key={}\n", "0a".repeat(32))));
        assert!(text.contains("allowed_ip=10.9.0.1/32\nendpoint=10.0.0.3:51820\n"));
    }
}
