//! The network lab of tests, benches and the demo.
//!
//! A [`Lab`] is a Kubernetes node in small: client, pod and sensor, each in a network namespace of
//! its own with an `eth0`, on a bridge as a CNI lays it out. Programs run in it ([`Process`]),
//! traffic crosses it ([`traffic`]), and what crosses is caught ([`Sniffer`]), taken out of its
//! VXLAN datagrams ([`Decoder`]) and judged by code that the project did not write ([`verify`],
//! [`tshark`]).
//!
//! Everything is a value: dropping it, by whatever way, takes namespaces, links and processes
//! away. Nothing has a name outside the namespaces, nothing touches the host's network, and
//! nothing needs root once [`user_namespace::enter`] has run.

mod capture_file;
#[cfg(any(feature = "kind", feature = "kubernetes"))]
mod contained;
mod decoder;
mod error;
mod features;
mod frame;
mod host;
#[cfg(feature = "kind")]
pub mod kind;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
mod lab;
mod link;
mod namespace;
mod pipe;
mod process;
#[cfg(any(feature = "kind", feature = "kubernetes"))]
mod programs;
mod quota;
mod ring;
mod seccomp;
mod sniffer;
mod tcpdump;
pub mod traffic;
pub mod tshark;
pub mod user_namespace;
pub mod verify;

pub use caps::Capability;
pub use capture_file::{CaptureWriter, read_capture};
pub use decoder::{Anomaly, Datagram, Decoded, Decoder};
pub use error::{Error, Result};
pub use features::{Feature, Offload};
pub use frame::{Direction, Frame, FrameRef, Sink};
pub use host::Host;
pub use lab::{Lab, LabBuilder};
pub use link::{Link, Mac, SegmentationLimits, Statistics, Vxlan, veth};
pub use namespace::Namespace;
pub use nix::sys::signal::Signal;
pub use pipe::FullPipe;
pub use process::Process;
#[cfg(any(feature = "kind", feature = "kubernetes"))]
pub use programs::Error as ProgramError;
pub use quota::Quota;
pub use seccomp::refuse_setsockopt;
pub use sniffer::{CaptureTotals, Filter, Sniffer};
pub use tcpdump::Tcpdump;
