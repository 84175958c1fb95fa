//! The images that scenarios use, and what replaces the published ones in the manifests.
//!
//! | in the manifests | on kind | on a cluster that is given by a kubeconfig |
//! |-|-|-|
//! | `ghcr.io/podspan/podspan` | the archive of `cargo xtask image` | `PODSPAN_IMAGE` |
//! | a web server | the archive of `cargo xtask image --tools` | `PODSPAN_TOOLS_IMAGE` |
//!
//! On kind nothing is pulled.

use std::env;

/// podspan and its receiver, on kind.
pub const PODSPAN: &str = "podspan.local/podspan:test";
/// podspan's webhook, on kind.
pub const WEBHOOK: &str = "podspan.local/podspan-webhook:test";
/// nginx, a load client, tcpdump and a shell, from Debian's packages, on kind.
pub use testbed::kind::TOOLS;

/// The images of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// podspan and its receiver.
    pub podspan: String,
    /// nginx, iperf3, a load client, tcpdump and a shell.
    pub tools: String,
}

impl Default for Images {
    fn default() -> Self {
        Self {
            podspan: PODSPAN.to_owned(),
            tools: TOOLS.to_owned(),
        }
    }
}

impl Images {
    /// What `PODSPAN_IMAGE` and `PODSPAN_TOOLS_IMAGE` name; without them, those on kind.
    #[must_use]
    pub fn from_environment() -> Self {
        let kind = Self::default();
        Self {
            podspan: env::var("PODSPAN_IMAGE").unwrap_or(kind.podspan),
            tools: env::var("PODSPAN_TOOLS_IMAGE").unwrap_or(kind.tools),
        }
    }

    /// The part `images` of a kustomization.
    pub(crate) fn kustomize(&self) -> String {
        let replaced = [
            ("ghcr.io/podspan/podspan", &self.podspan),
            ("docker.io/nginxinc/nginx-unprivileged", &self.tools),
        ];
        replaced
            .iter()
            .fold("images:\n".to_owned(), |text, (published, image)| {
                let (name, version) = parts(image);
                format!("{text}- {{name: {published}, newName: {name}, {version}}}\n")
            })
    }
}

/// The name of an image, and its tag or digest as kustomize has it.
fn parts(image: &str) -> (&str, String) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, format!("digest: {digest:?}"));
    }
    match image.rsplit_once(':') {
        // What comes before a slash is the registry's port.
        Some((name, tag)) if !tag.contains('/') => (name, format!("newTag: {tag:?}")),
        _ => (image, "newTag: \"latest\"".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_digests_and_ports_are_told_apart() {
        for (image, name, version) in [
            ("a.example/b:1", "a.example/b", "newTag: \"1\""),
            ("a.example:5000/b:1", "a.example:5000/b", "newTag: \"1\""),
            ("a.example:5000/b", "a.example:5000/b", "newTag: \"latest\""),
            ("a/b@sha256:12", "a/b", "digest: \"sha256:12\""),
        ] {
            assert_eq!(parts(image), (name, version.to_owned()));
        }
    }
}
