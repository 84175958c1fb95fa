//! podspan's objects for a cluster.
//!
//! In: a name, and the versions that the cluster serves. Out: the objects as one stream of YAML. They are the
//! kustomizations of `manifests/`, which are embedded in this program; kubectl builds an overlay on one of them
//! that has the options as patches. So the output is what `kubectl apply -k` of the folder would apply.

mod overlay;
mod version;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use clap::ValueEnum;
use serde_json::Value;
use thiserror::Error;

use crate::arguments::ManifestsArguments;
use crate::connection;
use crate::console::Console;
use overlay::overlay;
pub(crate) use version::Version;

/// The files of `manifests/`: paths with slashes, and texts.
const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// The version with native sidecars.
const NATIVE: Version = Version::new(1, 29);

/// The resource that the policy is made of, and since when it has each version. The newest is first.
const POLICIES: (&str, [(&str, &str, Version); 2]) = (
    "mutatingadmissionpolicies",
    [
        ("v1", "injection/policy", Version::new(1, 36)),
        ("v1beta1", "injection/policy-v1beta1", Version::new(1, 34)),
    ],
);

/// What can be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// The rights of pods with podspan to find sensors by their names
    Rbac,
    /// Admission policies that inject podspan into the pods that opt in: Kubernetes 1.34 and newer
    Policy,
    /// The webhook that does the same in older clusters
    Webhook,
    /// The webhook with certificates of cert-manager
    WebhookCertManager,
}

/// Where podspan may search for sensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scope {
    /// In the namespace of its pod
    Own,
    /// In the namespace of the sensors
    Other,
    /// In all namespaces
    All,
}

/// Why nothing is printed.
#[derive(Debug, Error)]
pub enum Error {
    #[error(transparent)]
    Kubectl(#[from] connection::Error),
    #[error("cannot write the manifests for kubectl: {0}")]
    Files(io::Error),
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
    #[error(
        "{0} serves no MutatingAdmissionPolicy: Kubernetes 1.36 serves it as v1, 1.34 and 1.35 as v1beta1 if it \
         is switched on. Use the webhook: kubectl podspan manifests webhook"
    )]
    NoPolicy(String),
    #[error("the API server has the version {0}, which is not a version of Kubernetes")]
    Version(String),
    #[error("this program has no manifests/{0}: it was built without them")]
    NoFolder(&'static str),
    #[error("--{option} does not apply to {name}. Remove it")]
    Option { option: &'static str, name: String },
    #[error(
        "the image {0:?} has neither a tag nor a digest. Example: registry.example/podspan:0.1.0"
    )]
    Image(String),
}

/// Prints the objects.
pub(crate) fn run(arguments: &ManifestsArguments, console: &mut Console<'_>) -> Result<(), Error> {
    check_options(arguments)?;
    let folder = folder(arguments)?;
    if !FILES.iter().any(|(path, _)| {
        path.strip_prefix(folder)
            .is_some_and(|rest| rest.starts_with('/'))
    }) {
        return Err(Error::NoFolder(folder));
    }
    let is_plain = arguments.name.is_webhook() && cluster_version(arguments)? < NATIVE;
    let built = build(arguments, &overlay(arguments, folder, is_plain)?)?;
    Ok(console.output.write_all(&built)?)
}

impl Name {
    fn text(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    fn is_webhook(self) -> bool {
        matches!(self, Self::Webhook | Self::WebhookCertManager)
    }
}

/// An option without an effect is refused.
fn check_options(arguments: &ManifestsArguments) -> Result<(), Error> {
    let is_rbac = arguments.name == Name::Rbac;
    let is_other = is_rbac && arguments.scope == Scope::Other;
    let wrong = [
        ("image", is_rbac && arguments.image.is_some()),
        ("set", is_rbac && !arguments.defaults.settings.is_empty()),
        (
            "tunnel-secret",
            is_rbac && arguments.defaults.tunnel_secret.is_some(),
        ),
        (
            "namespace",
            !is_rbac && arguments.connection.namespace.is_some(),
        ),
        ("scope", !is_rbac && arguments.scope != Scope::Own),
        (
            "service-account",
            !is_rbac && arguments.service_account != "default",
        ),
        (
            "sensor-namespace",
            !is_other && arguments.sensor_namespace != "sensors",
        ),
    ];
    match wrong.into_iter().find(|(_, is_wrong)| *is_wrong) {
        Some((option, _)) => Err(Error::Option {
            option,
            name: arguments.name.text(),
        }),
        None => Ok(()),
    }
}

/// The folder of the kustomization that fits the cluster.
fn folder(arguments: &ManifestsArguments) -> Result<&'static str, Error> {
    Ok(match (arguments.name, arguments.scope) {
        (Name::Rbac, Scope::Own) => "rbac/own-namespace",
        (Name::Rbac, Scope::Other) => "rbac/other-namespace",
        (Name::Rbac, Scope::All) => "rbac/all-namespaces",
        (Name::Policy, _) => policy(arguments)?,
        (Name::Webhook, _) => "injection/webhook",
        (Name::WebhookCertManager, _) => "injection/webhook-cert-manager",
    })
}

fn policy(arguments: &ManifestsArguments) -> Result<&'static str, Error> {
    let (resource, versions) = POLICIES;
    if let Some(version) = arguments.kubernetes_version {
        let found = versions.into_iter().find(|(.., since)| version >= *since);
        let none = || Error::NoPolicy(format!("Kubernetes {version}"));
        return found.map(|(_, folder, _)| folder).ok_or_else(none);
    }
    let group = raw(arguments, "/apis/admissionregistration.k8s.io")?;
    let served = group["versions"].as_array().map_or(&[][..], Vec::as_slice);
    for (version, folder, _) in versions {
        if !served.iter().any(|served| served["version"] == version) {
            continue;
        }
        // v1 has had the webhooks long before it had policies.
        let resources = raw(
            arguments,
            &format!("/apis/admissionregistration.k8s.io/{version}"),
        )?;
        let resources = resources["resources"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        if resources.iter().any(|served| served["name"] == resource) {
            return Ok(folder);
        }
    }
    Err(Error::NoPolicy("the API server".to_owned()))
}

fn cluster_version(arguments: &ManifestsArguments) -> Result<Version, Error> {
    if let Some(version) = arguments.kubernetes_version {
        return Ok(version);
    }
    let answer = raw(arguments, "/version")?;
    let text = answer["gitVersion"].as_str().unwrap_or_default();
    text.parse().map_err(|_| Error::Version(text.to_owned()))
}

fn raw(arguments: &ManifestsArguments, path: &str) -> Result<Value, Error> {
    Ok(arguments
        .connection
        .ask_json(&["get".into(), format!("--raw={path}").into()])?)
}

/// What kubectl makes of an overlay on the embedded files.
fn build(arguments: &ManifestsArguments, overlay: &Value) -> Result<Vec<u8>, Error> {
    let root = tempfile::tempdir().map_err(Error::Files)?;
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        fs::write(path, text)
    };
    for (path, text) in FILES {
        write(path, text).map_err(Error::Files)?;
    }
    // JSON is YAML.
    write("overlay/kustomization.yaml", &overlay.to_string()).map_err(Error::Files)?;
    let folder: OsString = root.path().join("overlay").into();
    Ok(arguments.connection.ask(&["kustomize".into(), folder])?)
}
