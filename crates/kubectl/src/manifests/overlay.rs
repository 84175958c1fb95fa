//! The options as a kustomization on one of the folders.

use inject::NAMESPACE;
use inject::policy::CONFIG_MAP;
use serde_json::{Value, json};

use super::{Error, Name, Scope};
use crate::arguments::ManifestsArguments;

/// The kustomization. With `is_plain`, the cluster has no native sidecars.
pub(super) fn overlay(
    arguments: &ManifestsArguments,
    folder: &str,
    is_plain: bool,
) -> Result<Value, Error> {
    let mut overlay = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [format!("../{folder}")],
    });
    if let Some(image) = &arguments.image {
        check_image(image)?;
    }
    match arguments.name {
        Name::Rbac => overlay["patches"] = rbac(arguments),
        Name::Policy => {
            let image = arguments
                .image
                .iter()
                .map(|image| ("image".to_owned(), image.clone()));
            let data: serde_json::Map<_, _> = image
                .chain(arguments.defaults.all())
                .map(|(name, value)| (name, value.into()))
                .collect();
            let patch = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "data": data,
                "metadata": {"name": CONFIG_MAP, "namespace": NAMESPACE},
            });
            overlay["patches"] = json!([{"patch": patch.to_string()}]);
        }
        Name::Webhook | Name::WebhookCertManager => {
            let settings = arguments.defaults.all().into_iter();
            let settings: Vec<_> = settings
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let image = arguments.image.iter().map(|image| format!("IMAGE={image}"));
            let defaults =
                (!settings.is_empty()).then(|| format!("DEFAULTS={}", settings.join("; ")));
            let place = is_plain.then(|| "PLACEMENT=plain".to_owned());
            let literals: Vec<_> = image.chain(defaults).chain(place).collect();
            if !literals.is_empty() {
                overlay["configMapGenerator"] = json!([{
                    "name": "podspan-webhook-settings", "namespace": NAMESPACE, "behavior": "merge", "literals": literals,
                }]);
            }
        }
    }
    Ok(overlay)
}

fn check_image(image: &str) -> Result<(), Error> {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains(':') || name.contains('@') {
        return Ok(());
    }
    Err(Error::Image(image.to_owned()))
}

/// Patches rather than `namespace`, which would change the sensors' namespace too.
fn rbac(arguments: &ManifestsArguments) -> Value {
    let replace = |path: &str, value: &str| json!({"op": "replace", "path": path, "value": value});
    let namespace = arguments
        .connection
        .namespace
        .as_deref()
        .unwrap_or("default");
    let subject = json!([
        replace("/subjects/0/name", &arguments.service_account),
        replace("/subjects/0/namespace", namespace),
    ]);
    let kind = match arguments.scope {
        Scope::All => "ClusterRoleBinding",
        Scope::Own | Scope::Other => "RoleBinding",
    };
    let mut patches = vec![json!({"target": {"kind": kind}, "patch": subject.to_string()})];
    let of_role = match arguments.scope {
        Scope::All => return Value::from(patches),
        Scope::Own => namespace,
        Scope::Other => &arguments.sensor_namespace,
    };
    let patch = json!([replace("/metadata/namespace", of_role)]).to_string();
    patches.push(json!({"target": {"name": "podspan-discovery"}, "patch": patch}));
    Value::from(patches)
}
