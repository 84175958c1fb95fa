//! `podspan-sensor`: a receiver for trying podspan, and for the example manifests.
//!
//! It is not a product sensor: it counts frames and writes them to a capture file, and analyses
//! nothing. Three commands:
//!
//! - `device` makes the kernel's vxlan device in the pod's network namespace. It is for an init container
//!   with `NET_ADMIN`; the sensor's own container then needs `NET_RAW` only. `isolation` keeps what the
//!   device receives away from the pod's own IP stack.
//! - `capture` reads an interface through a ring. On a vxlan device the frames are the copies themselves. On
//!   any other interface it takes them out of VXLAN datagrams (`decode`). `checksum` checks each copy,
//!   `tally` counts, and `pcap` writes.
//! - `ready` says whether a capture runs, for a startup probe.
//!
//! Decisions are in `arguments`, `checksum`, `decode`, `pcap` and `tally`, which do no I/O of their own.
//! What arrives can come from anybody who reaches the port: every length is checked, and the numbers of
//! VNIs and senders that are counted one by one are bounded.

#![forbid(unsafe_code)]

mod arguments;
mod capture;
mod checksum;
mod decode;
mod device;
mod error;
mod isolation;
mod netlink;
mod pcap;
mod ready;
mod signals;
mod tally;
#[cfg(test)]
mod test_frame;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use crate::arguments::{Command, USAGE};
use crate::error::Error;

/// Runs the command that the arguments name, which are those after the program's name. The exit code is
/// that of podspan for the same cause: 64 for wrong arguments, 77 for a missing capability, 71 for a
/// refusal of the system.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match arguments::parse(arguments).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        // Standard error may be closed; the exit code is left then.
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "podspan-sensor: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command) -> Result<(), Error> {
    let text = match command {
        Command::Device(options) => return device::run(&options),
        Command::Capture(options) => return capture::run(&options),
        Command::Ready => return ready::run(),
        Command::Help => USAGE,
        Command::Version => concat!("podspan-sensor ", env!("CARGO_PKG_VERSION"), "\n"),
    };
    // A reader that is gone (`podspan-sensor --help | head -1`) is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}
