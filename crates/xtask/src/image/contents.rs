//! What is in each image, as data: the programs, and what a container runtime is told about them.
//!
//! The `Containerfile` says the same, with a stage for each image; building it checks that
//! ([`super::containerfile`]).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::build::{Binary, PODSPAN, RECEIVE, SENSOR, WEBHOOK};

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

/// One image.
#[derive(Debug)]
pub(crate) struct Contents {
    /// Its title, and the beginning of its file's name.
    pub(crate) title: &'static str,
    description: &'static str,
    /// The repository that the manifests name.
    repository: &'static str,
    /// Its stage in the `Containerfile`.
    pub(crate) stage: &'static str,
    /// The first one is the entrypoint.
    pub(crate) programs: &'static [Program],
}

/// podspan's image.
pub(crate) const PODSPAN_IMAGE: Contents = Contents {
    title: "podspan",
    description: "A sidecar that copies a pod's traffic to a network sensor over VXLAN",
    repository: "ghcr.io/podspan/podspan",
    stage: "podspan",
    programs: &[
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
        Program {
            binary: RECEIVE,
            path: "/podspan-receive",
            capability: None,
        },
    ],
};

/// The webhook's image. It needs no capability.
pub(crate) const WEBHOOK_IMAGE: Contents = Contents {
    title: "podspan-webhook",
    description: "A webhook that adds podspan's sidecar to pods",
    repository: "ghcr.io/podspan/podspan-webhook",
    stage: "webhook",
    programs: &[Program {
        binary: WEBHOOK,
        path: "/podspan-webhook",
        capability: None,
    }],
};

/// All images.
pub(crate) const IMAGES: [&Contents; 2] = [&PODSPAN_IMAGE, &WEBHOOK_IMAGE];

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// An image that runs without root where the manifest says nothing.
pub(crate) const USER: &str = "65532:65532";

impl Contents {
    /// The name of the image where none is given.
    pub(crate) fn default_name(&self) -> String {
        format!("{}:{VERSION}", self.repository)
    }

    pub(crate) fn runtime(&self) -> Runtime {
        Runtime {
            user: USER,
            entrypoint: self
                .programs
                .iter()
                .take(1)
                .map(|first| first.path)
                .collect(),
            labels: BTreeMap::from([
                ("org.opencontainers.image.description", self.description),
                (
                    "org.opencontainers.image.licenses",
                    env!("CARGO_PKG_LICENSE"),
                ),
                ("org.opencontainers.image.title", self.title),
                ("org.opencontainers.image.version", VERSION),
            ]),
        }
    }
}

/// The part of an image's configuration that a runtime applies: OCI image-spec, config.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Runtime {
    pub(crate) user: &'static str,
    pub(crate) entrypoint: Vec<&'static str>,
    pub(crate) labels: BTreeMap<&'static str, &'static str>,
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
