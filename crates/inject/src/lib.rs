//! podspan's sidecar, and how it gets into a pod and out of it again. No I/O.
//!
//! In: the template of a pod, as a JSON value or within a stream of YAML. Out: the same with the sidecar, or
//! every reason why not. In the order of the data:
//!
//! 1. [`Setting`]s, the pod's annotations `podspan.dev/*` and the defaults of the injection (`setting`, `given`,
//!    `annotations`, `quantity`, `ports`) describe the sidecar;
//! 2. `sidecar` is its one definition, with the keys of `tunnel`; `tree` writes it;
//! 3. `pod` decides what changes: a plan of steps, which [`inject`] and [`remove`] apply to a value
//!    (`step`); `patched` finds what an update would lose;
//! 4. [`yaml`] applies the same steps to text, and changes nothing else in it; [`patch`] writes them as a
//!    JSON Patch;
//! 5. [`policy`] says all of it but the removal in the language of admission policies, which the API server runs.
//!
//! Three promises, each with property tests: injection changes only podspan's container and the volume with its keys,
//! a second injection changes nothing, and removal returns the input.

#![forbid(unsafe_code)]

mod annotations;
mod given;
mod json_patch;
mod patched;
mod pod;
pub mod policy;
mod ports;
mod quantity;
mod refused;
mod setting;
mod sidecar;
mod step;
mod tree;
mod tunnel;
pub mod yaml;

pub use given::Origin;
pub use json_patch::patch;
pub use pod::{inject, is_injected, remove};
pub use refused::{Reason, Refused};
pub use setting::{PREFIX, Setting};
pub use sidecar::{IMAGE, NAME, Placement, Security, container};
pub use tunnel::{NotASecretName, SecretName};

/// The label of a pod or a namespace that opts in or, on a pod, out.
pub const LABEL: &str = "podspan.dev/inject";

/// The namespace of podspan's own objects.
pub const NAMESPACE: &str = "podspan-system";

/// The namespaces in which nothing is injected: without what runs there, there is no cluster.
pub const EXCLUDED: [&str; 4] = ["kube-node-lease", "kube-public", "kube-system", NAMESPACE];

/// How podspan is injected.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// podspan's image.
    pub image: String,
    /// Where the container is.
    pub placement: Placement,
    /// Its user and capabilities.
    pub security: Security,
    /// podspan's settings.
    pub settings: &'a [Setting],
    /// Names of annotations without [`PREFIX`] and their values, such as `sensor` and `zeek`. They apply to a
    /// pod that has no annotation of this name.
    pub defaults: Vec<(String, String)>,
    /// Whether a filter is valid; else the reason, as a part of a sentence.
    pub check_filter: fn(&str) -> Result<(), String>,
}

impl<'a> Options<'a> {
    /// The published image, as a native sidecar.
    #[must_use]
    pub fn new(settings: &'a [Setting], check_filter: fn(&str) -> Result<(), String>) -> Self {
        Self {
            image: IMAGE.to_owned(),
            placement: Placement::default(),
            security: Security::default(),
            settings,
            defaults: Vec::new(),
            check_filter,
        }
    }
}
