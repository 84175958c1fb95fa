//! The sidecar: its one definition.
//!
//! In: the image, the settings and the security context. Out: the container, as a tree from which the JSON
//! value and the YAML text come. `manifests/components/sidecar`, `sidecar-root` and `sidecar-baseline` are
//! compared with it by `the_components_are_this_sidecar`.
//!
//! The variables have a fixed order: first those that every sidecar has, then those that annotations set, in
//! the order of the table of settings, then the files of the keys, then those of [`RESTORE`]. So two ways to inject
//! give equal containers.

use serde_json::Value;

use crate::step::List;
use crate::tree::Tree;
use crate::tunnel::{self, SecretName};

/// The name of the container.
pub const NAME: &str = "podspan";

/// The image without a registry of one's own.
pub const IMAGE: &str = concat!("ghcr.io/podspan/podspan:", env!("CARGO_PKG_VERSION"));

/// The variables that every sidecar has, with the values that it has without annotations.
pub(crate) const BASE: [(&str, &str); 2] = [
    // The pods labelled run=sensor.
    ("SENSOR", "sensor"),
    // A sidecar that exits at its start keeps the pod from being Ready.
    ("ON_FAILURE", "idle"),
];

/// The variables from the downward API, with the fields of the pod.
pub(crate) const DOWNWARD: [(&str, &str); 4] = [
    ("NODE_NAME", "spec.nodeName"),
    ("POD_NAME", "metadata.name"),
    ("POD_NAMESPACE", "metadata.namespace"),
    ("POD_UID", "metadata.uid"),
];

/// Variables that podspan ignores. Each exists where a list was there without an entry, and has the text that stood
/// there, so that removal restores it.
pub(crate) const RESTORE: [(List, &str); 2] = [
    (List::Init, "PODSPAN_INIT_CONTAINERS_BEFORE"),
    (List::Volumes, "PODSPAN_VOLUMES_BEFORE"),
];

/// What containerd grants to a container by default, without `NET_RAW`.
const CONTAINERD_DEFAULT: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The user and the capabilities of podspan's container. `manifests/README.md` compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// An unprivileged user, with `NET_RAW` added.
    #[default]
    Added,
    /// The same for namespaces that enforce the Pod Security level `baseline`, with containerd: `NET_RAW`
    /// stays, everything else is dropped by name.
    Baseline,
    /// Root in its container, for runtimes that do not honour file capabilities.
    Root,
}

/// Where podspan's container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Placement {
    /// First of the init containers, with `restartPolicy: Always`. It starts before the application and ends
    /// after it. Kubernetes 1.29 and newer.
    #[default]
    Native,
    /// Last of the containers, for older clusters. The first container stays the first, so that `kubectl logs`
    /// and `kubectl exec` still select the application.
    Plain,
}

/// Request and limit of a resource, as quantities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) request: String,
    pub(crate) limit: String,
}

/// A resource of the sidecar, with quantities.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resource {
    /// Its name, and that of its annotation.
    pub(crate) name: &'static str,
    /// Without an annotation.
    pub(crate) request: &'static str,
    /// Without an annotation.
    pub(crate) limit: &'static str,
    /// podspan needs a limit of at least this.
    pub(crate) least: &'static str,
}

pub(crate) const CPU: Resource = Resource {
    name: "cpu",
    request: "50m",
    limit: "250m",
    least: "10m",
};

pub(crate) const MEMORY: Resource = Resource {
    name: "memory",
    request: "32Mi",
    limit: "256Mi",
    least: "16Mi",
};

impl Resource {
    /// What the sidecar has without an annotation.
    pub(crate) fn amount(self) -> Amount {
        Amount {
            request: self.request.to_owned(),
            limit: self.limit.to_owned(),
        }
    }

    /// The same as an annotation has it.
    pub(crate) fn example(self) -> String {
        format!("{}/{}", self.request, self.limit)
    }
}

/// Everything that differs between two sidecars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sidecar {
    pub(crate) image: String,
    pub(crate) placement: Placement,
    pub(crate) security: Security,
    pub(crate) cpu: Amount,
    pub(crate) memory: Amount,
    /// The values of the variables of [`BASE`], in its order.
    pub(crate) base: [String; BASE.len()],
    /// Further variables, with values as podspan shall read them.
    pub(crate) settings: Vec<(String, String)>,
    /// The Secret with the keys of encrypted tunnels.
    pub(crate) tunnel: Option<SecretName>,
    /// The values of the variables of [`RESTORE`], in its order.
    pub(crate) restore: [Option<String>; RESTORE.len()],
}

impl Sidecar {
    pub(crate) fn new(image: &str, placement: Placement, security: Security) -> Self {
        Self {
            image: image.to_owned(),
            placement,
            security,
            cpu: CPU.amount(),
            memory: MEMORY.amount(),
            base: BASE.map(|(_, value)| value.to_owned()),
            settings: Vec::new(),
            tunnel: None,
            restore: RESTORE.map(|_| None),
        }
    }

    /// Sets a variable.
    pub(crate) fn set(&mut self, variable: &str, value: &str) {
        if let Some(place) = BASE.iter().position(|(name, _)| *name == variable) {
            if let Some(base) = self.base.get_mut(place) {
                value.clone_into(base);
            }
            return;
        }
        match self.settings.iter_mut().find(|(name, _)| name == variable) {
            Some((_, old)) => value.clone_into(old),
            None => self.settings.push((variable.to_owned(), value.to_owned())),
        }
    }

    /// The value of a variable that annotations can set.
    pub(crate) fn get(&self, variable: &str) -> Option<&String> {
        let base = BASE.iter().zip(&self.base);
        let mut base = base.filter(|((name, _), _)| *name == variable);
        let mut settings = self.settings.iter().filter(|(name, _)| name == variable);
        let setting = || settings.next().map(|(_, value)| value);
        base.next().map(|(_, value)| value).or_else(setting)
    }

    /// Sets the text that stood in a list before, for removal.
    pub(crate) fn restore(&mut self, list: List, text: Option<&str>) {
        for ((known, _), restore) in RESTORE.iter().zip(&mut self.restore) {
            if *known == list {
                *restore = text.map(str::to_owned);
            }
        }
    }

    /// The value of `SENSOR`, which is the first variable.
    pub(crate) fn sensor(&self) -> &str {
        let [sensor, ..] = &self.base;
        sensor.trim()
    }

    /// The container.
    pub(crate) fn container(&self) -> Tree {
        let mut entries = vec![
            ("name", Tree::text(NAME)),
            ("image", Tree::text(&self.image)),
        ];
        if self.placement == Placement::Native {
            entries.push(("restartPolicy", Tree::text("Always")));
        }
        entries.push(("env", Tree::List(self.environment())));
        let amounts = |cpu: &str, memory: &str| {
            Tree::Map(vec![
                ("cpu", Tree::text(cpu)),
                ("memory", Tree::text(memory)),
            ])
        };
        let resources = vec![
            ("requests", amounts(&self.cpu.request, &self.memory.request)),
            ("limits", amounts(&self.cpu.limit, &self.memory.limit)),
        ];
        entries.push(("resources", Tree::Map(resources)));
        entries.push(("securityContext", self.security.context()));
        if self.tunnel.is_some() {
            entries.push(("volumeMounts", tunnel::mounts()));
        }
        Tree::Map(entries)
    }

    fn environment(&self) -> Vec<Tree> {
        let text = |name: &str, value: &str| {
            Tree::Map(vec![
                ("name", Tree::text(name)),
                ("value", Tree::text(escaped(value))),
            ])
        };
        let base = BASE.iter().zip(&self.base);
        let base = base.map(|((name, _), value)| text(name, value));
        let downward = DOWNWARD.iter().map(|(name, path)| {
            let field = Tree::Map(vec![("fieldPath", Tree::text(*path))]);
            Tree::Map(vec![
                ("name", Tree::text(*name)),
                ("valueFrom", Tree::Map(vec![("fieldRef", field)])),
            ])
        });
        let settings = self.settings.iter().map(|(name, value)| text(name, value));
        let keys = self.tunnel.iter().flat_map(|_| tunnel::variables());
        let restore = RESTORE.iter().zip(&self.restore);
        let restore = restore.filter_map(|((_, name), value)| Some(text(name, value.as_deref()?)));
        base.chain(downward)
            .chain(settings)
            .chain(keys)
            .chain(restore)
            .collect()
    }
}

impl Security {
    /// Their names in configurations; the first is that of the default.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("added", Self::Added),
        ("baseline", Self::Baseline),
        ("root", Self::Root),
    ];

    /// The field `securityContext`.
    pub(crate) fn context(self) -> Tree {
        let id = if self == Self::Root { 0 } else { 65532 };
        let list = |names: &[&str]| Tree::List(names.iter().copied().map(Tree::text).collect());
        let capabilities = match self {
            Self::Added | Self::Root => {
                vec![("drop", list(&["ALL"])), ("add", list(&["NET_RAW"]))]
            }
            Self::Baseline => vec![("drop", list(&CONTAINERD_DEFAULT))],
        };
        Tree::Map(vec![
            ("runAsNonRoot", Tree::Bool(self != Self::Root)),
            ("runAsUser", Tree::Number(id)),
            ("runAsGroup", Tree::Number(id)),
            ("allowPrivilegeEscalation", Tree::Bool(false)),
            ("readOnlyRootFilesystem", Tree::Bool(true)),
            ("capabilities", Tree::Map(capabilities)),
            (
                "seccompProfile",
                Tree::Map(vec![("type", Tree::text("RuntimeDefault"))]),
            ),
        ])
    }
}

/// The container without annotations, as a JSON value.
#[must_use]
pub fn container(image: &str, placement: Placement, security: Security) -> Value {
    Sidecar::new(image, placement, security).container().value()
}

/// A value as the kubelet must get it: it replaces `$(NAME)` by a variable, and `$$` by `$`.
fn escaped(value: &str) -> String {
    value.replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelet_replaces_nothing_in_a_value() {
        assert_eq!(escaped("$(POD_NAME) $$ a"), "$$(POD_NAME) $$$$ a");
        assert_eq!(escaped("zeek"), "zeek");
    }
}
