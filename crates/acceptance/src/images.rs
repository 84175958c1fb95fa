//! The images that scenarios use, and what replaces the published ones in the manifests.
//!
//! | in the manifests | on kind |
//! |-|-|
//! | `ghcr.io/podspan/podspan` | the archive of `cargo xtask image` |
//! | a web server | nginx of Debian |
//!
//! Nothing is pulled. On any other cluster the names come from the caller.

use std::env;

/// podspan and its receiver.
pub const PODSPAN: &str = "podspan.local/podspan:test";
/// nginx, a load client, tcpdump and a shell, from Debian's packages.
pub use testbed::kind::TOOLS;

/// The names in the manifests, each with the image that replaces it.
const REPLACED: [(&str, &str); 2] = [
    ("ghcr.io/podspan/podspan", PODSPAN),
    ("docker.io/nginxinc/nginx-unprivileged", TOOLS),
];

/// The image of the load client and of capturing pods.
#[must_use]
pub fn tools() -> String {
    name(TOOLS)
}

/// The image of podspan.
#[must_use]
pub fn podspan() -> String {
    name(PODSPAN)
}

/// The part `images` of a kustomization.
pub(crate) fn kustomize() -> String {
    REPLACED
        .iter()
        .fold("images:\n".to_owned(), |text, (published, image)| {
            let image = name(image);
            let (new_name, tag) = image.rsplit_once(':').unwrap_or((&image, "latest"));
            format!("{text}- {{name: {published}, newName: {new_name}, newTag: {tag:?}}}\n")
        })
}

/// On clusters that pull, `PODSPAN_IMAGE` and `PODSPAN_TOOLS_IMAGE` name the images.
fn name(image: &str) -> String {
    let variable = if image == PODSPAN {
        "PODSPAN_IMAGE"
    } else {
        "PODSPAN_TOOLS_IMAGE"
    };
    env::var(variable).unwrap_or_else(|_| image.to_owned())
}
