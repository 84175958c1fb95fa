//! What is in the image, as data: the programs, and what a container runtime is told about them.
//!
//! The `Containerfile` says the same; building it checks that ([`super::containerfile`]).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::build::{Binary, PODSPAN, SENSOR};

/// A program of the workspace in the image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    pub(crate) binary: Binary,
    /// Where it is in the image.
    pub(crate) path: &'static str,
    /// The capability that it gets as a file capability, permitted and not effective, by its number.
    pub(crate) capability: Option<u8>,
}

/// `CAP_NET_RAW` in linux/capability.h.
const CAP_NET_RAW: u8 = 13;

/// The first one is the entrypoint.
pub(crate) const PROGRAMS: [Program; 2] = [
    Program {
        binary: PODSPAN,
        path: "/podspan",
        capability: Some(CAP_NET_RAW),
    },
    Program {
        binary: SENSOR,
        path: "/podspan-sensor",
        capability: Some(CAP_NET_RAW),
    },
];

/// The repository that the manifests name.
pub(crate) const REPOSITORY: &str = "ghcr.io/podspan/podspan";
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// An image that runs without root where the manifest says nothing.
pub(crate) const USER: &str = "65532:65532";

/// The name of the image where none is given.
pub(crate) fn default_name() -> String {
    format!("{REPOSITORY}:{VERSION}")
}

/// The part of an image's configuration that a runtime applies: OCI image-spec, config.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Runtime {
    pub(crate) user: &'static str,
    pub(crate) entrypoint: Vec<&'static str>,
    pub(crate) labels: BTreeMap<&'static str, &'static str>,
}

pub(crate) fn runtime() -> Runtime {
    Runtime {
        user: USER,
        entrypoint: PROGRAMS.iter().take(1).map(|first| first.path).collect(),
        labels: BTreeMap::from([
            (
                "org.opencontainers.image.description",
                "A sidecar that copies a pod's traffic to a network sensor over VXLAN",
            ),
            (
                "org.opencontainers.image.licenses",
                env!("CARGO_PKG_LICENSE"),
            ),
            ("org.opencontainers.image.title", "podspan"),
            ("org.opencontainers.image.version", VERSION),
        ]),
    }
}

/// The machines that the image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    pub(crate) const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// That of this machine.
    pub(crate) fn here() -> Self {
        if cfg!(target_arch = "aarch64") {
            Self::Arm64
        } else {
            Self::Amd64
        }
    }

    /// As OCI names it, which is as Go does.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// As ELF names it: `EM_X86_64`, `EM_AARCH64`.
    pub(crate) fn machine(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
        }
    }

    /// As the kernel and QEMU name it.
    pub(crate) fn kernel_name(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// The target of the compiler.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }
}

impl std::str::FromStr for Architecture {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|architecture| architecture.name() == text)
            .ok_or(())
    }
}
