//! The injection as admission policies, which the API server itself runs.
//!
//! In: the table of settings. Out: the files of a kustomization: the namespace and the `ConfigMap` of the
//! parameters, a `MutatingAdmissionPolicy` that adds the sidecar to pods when they are created, and
//! `ValidatingAdmissionPolicies` that name what is wrong.
//!
//! 1. `cel` writes literals;
//! 2. `variables` says what is computed from a pod, `reasons` what is wrong with it, `mutation` how the sidecar
//!    follows from it;
//! 3. `documents` are the objects as YAML.
//!
//! A pod gets the container that [`crate::inject`] gives it, from the same definition; a pod that `inject`
//! refuses is not changed. A policy decides from the pod, the namespace and the `ConfigMap` alone, so it needs no
//! program in the cluster. Nothing here can keep a pod of a controller from being created: errors are ignored
//! (`failurePolicy: Ignore`), and only objects without a controller are refused for their annotations.
//!
//! Source: Kubernetes' documentation of the two kinds, and `k8s.io/apiserver/pkg/admission/plugin/policy`. A patch
//! that gives no valid pod would be an internal error, which is not ignored; so each value is checked before.

mod cel;
mod documents;
mod mutation;
mod reasons;
mod variables;

use crate::setting::Setting;

/// The name of the `ConfigMap` with the parameters, in [`NAMESPACE`](crate::NAMESPACE).
pub const CONFIG_MAP: &str = "podspan";

/// The version of the API that serves `MutatingAdmissionPolicies`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Kubernetes 1.36 and newer.
    V1,
    /// Kubernetes 1.34 and 1.35, where it must be switched on.
    V1Beta1,
}

impl Version {
    /// Its name, and the folder's in `manifests/injection`.
    #[must_use]
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::V1 => ("v1", "policy"),
            Self::V1Beta1 => ("v1beta1", "policy-v1beta1"),
        }
    }
}

/// The files of the kustomization, with their names.
#[must_use]
pub fn files(version: Version, settings: &[Setting]) -> Vec<(&'static str, String)> {
    vec![
        ("kustomization.yaml", documents::kustomization(version)),
        ("namespace.yaml", documents::namespace()),
        ("parameters.yaml", documents::parameters()),
        ("mutating.yaml", documents::mutating(version, settings)),
        ("validating.yaml", documents::validating(settings)),
    ]
}
