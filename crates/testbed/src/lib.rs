//! The network lab of tests, benches and the demo.
//!
//! A [`Lab`] is a small Kubernetes node: client, pod and sensor, each in its own network namespace
//! with an `eth0`, on a bridge as a CNI sets it up. Programs run in it ([`Process`]), and traffic
//! runs between its hosts ([`traffic`]). A [`Sniffer`] captures the frames, a [`Decoder`] takes the
//! inner frames out of the VXLAN datagrams, and code from outside the project verifies them
//! ([`verify`], [`tshark`]).
//!
//! Everything is a value: when it is dropped, its namespaces, links and processes are removed.
//! Nothing has a name outside the namespaces, nothing changes the host's network, and nothing needs
//! root after [`user_namespace::enter`].

mod allocations;
mod capture_file;
#[cfg(any(feature = "kind", feature = "kubernetes", feature = "wireguard"))]
mod contained;
mod control_group;
mod decoder;
mod error;
mod exposition;
mod fanout;
mod features;
mod frame;
mod host;
#[cfg(feature = "kind")]
pub mod kind;
#[cfg(feature = "kind")]
mod krew;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
mod lab;
mod link;
mod namespace;
mod pipe;
mod process;
#[cfg(any(feature = "kind", feature = "kubernetes", feature = "wireguard"))]
mod programs;
mod quota;
mod ring;
mod seccomp;
mod sniffer;
mod tcpdump;
mod totals;
pub mod traffic;
pub mod tshark;
pub mod user_namespace;
pub mod verify;
#[cfg(feature = "wireguard")]
mod wireguard;

pub use allocations::{CountingAllocator, allocations};
pub use caps::Capability;
pub use capture_file::{CaptureWriter, read_capture};
pub use control_group::ControlGroup;
pub use decoder::{Anomaly, Datagram, Decoded, Decoder};
pub use error::{Error, Result};
pub use exposition::Exposition;
pub use fanout::join_fanout;
pub use features::{Feature, Offload};
pub use frame::{Direction, Frame, FrameRef, Sink};
pub use host::Host;
#[cfg(feature = "kind")]
pub use krew::{Krew, build_krew};
pub use lab::{Lab, LabBuilder};
pub use link::{Link, Mac, SegmentationLimits, Statistics, Vxlan, veth};
pub use namespace::Namespace;
pub use nix::sys::signal::Signal;
pub use pipe::FullPipe;
pub use process::Process;
#[cfg(any(feature = "kind", feature = "kubernetes", feature = "wireguard"))]
pub use programs::{
    Error as ProgramError, Release, build_control_plane, build_helm, helm, kubectl, target_folder,
};
pub use quota::Quota;
pub use seccomp::refuse_setsockopt;
pub use sniffer::{CaptureTotals, Filter, Sniffer};
pub use tcpdump::Tcpdump;
pub use totals::Totals;
#[cfg(feature = "wireguard")]
pub use wireguard::{WireguardEnd, build_wireguard};
