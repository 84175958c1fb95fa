//! wireguard-go: WireGuard as others wrote it, on a tun device in a namespace.

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

/// Starts one end of a tunnel on a new tun device `name`. `configuration` is in the lines of the cross-platform
/// userspace interface. The device is there when this returns, and goes with the process.
///
/// # Errors
/// [`crate::Error::Program`] with its output where the program ends: most often because `/dev/net/tun` is missing
/// or the configuration is wrong.
pub fn start_wireguard(
    program: PathBuf,
    namespace: &Namespace,
    name: &str,
    configuration: &str,
) -> crate::Result<Process> {
    start_wireguard_in(program, namespace, name, configuration, None)
}

/// As [`start_wireguard`], in a control group.
///
/// # Errors
/// As [`start_wireguard`], and where the group cannot be entered.
pub fn start_wireguard_in(
    program: PathBuf,
    namespace: &Namespace,
    name: &str,
    configuration: &str,
    group: Option<&ControlGroup>,
) -> crate::Result<Process> {
    let mut command = namespace.command(program);
    command.args([name, "1400"]).env("WIREGUARD", configuration);
    if let Some(group) = group {
        group.add(&mut command)?;
    }
    let mut process = Process::spawn(command)?;
    process.wait_for_output("ready", Duration::from_secs(30))?;
    Ok(process)
}
