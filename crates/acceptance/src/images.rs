//! The images that scenarios use, and what replaces the published ones in the manifests.
//!
//! | in the manifests | on kind |
//! |-|-|
//! | `ghcr.io/podspan/podspan` | the archive of `cargo xtask image` |
//! | a web server | nginx of Debian |
//!
//! Nothing is pulled.

/// podspan and its receiver.
pub const PODSPAN: &str = "podspan.local/podspan:test";
/// nginx, a load client, tcpdump and a shell, from Debian's packages.
pub use testbed::kind::TOOLS;

/// The names in the manifests, each with the image that replaces it.
const REPLACED: [(&str, &str); 2] = [
    ("ghcr.io/podspan/podspan", PODSPAN),
    ("docker.io/nginxinc/nginx-unprivileged", TOOLS),
];

/// The part `images` of a kustomization.
pub(crate) fn kustomize() -> String {
    REPLACED
        .iter()
        .fold("images:\n".to_owned(), |text, (published, image)| {
            let (name, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
            format!("{text}- {{name: {published}, newName: {name}, newTag: {tag:?}}}\n")
        })
}
