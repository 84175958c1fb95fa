//! `cargo xtask image --containerfile`: builds the `Containerfile` with buildah and checks that the
//! result is the image that [`super::contents`] describes.
//!
//! Nothing is pulled. The build image is assembled from Debian's packages and this machine's Rust
//! ([`base`]), and named to the `Containerfile` by its argument. In the container, cargo fetches the
//! crates as it does here. Storage, temporary files and caches are private folders below cargo's
//! target folder, so that no other image of this machine is touched:
//!
//! ```text
//!   target/image/containerfile/base-<digest>/   the build image's files, ready when it has this name
//!                              storage/, run/   buildah's images and containers
//!                              tmp/             and its caches, which outlive a build
//!                              IMAGE-ARCHITECTURE/  the result as an OCI layout
//! ```
//! It needs root: debootstrap makes device files, and buildah's chroot isolation mounts.

mod base;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::geteuid;

use super::contents::{Architecture, Contents};
use super::read::Found;
use super::{create_folder, folder};
use crate::cargo::{root, run, succeeds};
use crate::failure::{Failure, Result};
use crate::tools;

/// Why it cannot be built here, if it cannot.
pub(super) fn impossible() -> Option<&'static str> {
    (!geteuid().is_root()).then_some("building the Containerfile needs root")
}

/// What the `Containerfile` gave.
pub(super) struct Built {
    pub(super) architecture: Architecture,
    pub(super) image: Found,
    /// Whether its C compiler and library are those of this machine.
    pub(super) with_our_compilers: bool,
}

pub(super) fn build_and_check(
    contents: &Contents,
    architectures: &[Architecture],
) -> Result<Vec<Built>> {
    if let Some(reason) = impossible() {
        return Err(Failure::Wrong(format!(
            "{reason}: run this command as root"
        )));
    }
    tools::for_containerfile()?;
    let store = Store::new()?;
    let base = base::Base::find()?;
    let build_image = store.build_image(&base)?;
    let with_our_compilers = base.has_our_compilers(&store.folder)?;
    let build = |&architecture: &Architecture| {
        let layout = store.build(contents, architecture, &build_image)?;
        let image = Found::read(&layout)?;
        image.check(contents, architecture)?;
        println!("{}: {}", layout.display(), architecture.name());
        Ok(Built {
            architecture,
            image,
            with_our_compilers,
        })
    };
    architectures.iter().map(build).collect()
}

/// Buildah with folders of its own.
struct Store {
    folder: PathBuf,
}

impl Store {
    fn new() -> Result<Self> {
        let folder = folder().join("containerfile");
        create_folder(&folder.join("tmp"))?;
        // Buildah wants absolute paths.
        let folder = fs::canonicalize(&folder)
            .map_err(|source| Failure::system(format!("finding {}", folder.display()), source))?;
        Ok(Self { folder })
    }

    fn buildah(&self) -> Command {
        let mut buildah = Command::new("buildah");
        buildah
            .args(["--storage-driver", "vfs", "--root"])
            .arg(self.folder.join("storage"))
            .arg("--runroot")
            .arg(self.folder.join("run"))
            .env("TMPDIR", self.folder.join("tmp"));
        buildah
    }

    /// The build image's name; it is assembled where it is not there yet.
    fn build_image(&self, base: &base::Base) -> Result<String> {
        let name = format!("localhost/podspan-build:{}", base.digest);
        let mut inspect = self.buildah();
        inspect.args(["inspect", "--type", "image", &name]);
        if succeeds(inspect) {
            return Ok(name);
        }
        let files = base.assemble(&self.folder)?;
        let recipe = self.folder.join("tmp/base.containerfile");
        fs::write(&recipe, base::RECIPE)
            .map_err(|source| Failure::system(format!("writing {}", recipe.display()), source))?;
        let mut build = self.buildah();
        build.args(["build", "--isolation", "chroot", "--quiet", "--tag", &name]);
        build.arg("--file").arg(recipe).arg(&files);
        run(build)?;
        // The image holds a copy.
        fs::remove_dir_all(&files)
            .map_err(|source| Failure::system(format!("removing {}", files.display()), source))?;
        Ok(name)
    }

    /// Builds for one architecture and returns the folder with the result.
    fn build(
        &self,
        contents: &Contents,
        architecture: Architecture,
        build_image: &str,
    ) -> Result<PathBuf> {
        let tag = format!("localhost/{}:{}", contents.title, architecture.name());
        let mut build = self.buildah();
        build
            .args(["build", "--isolation", "chroot", "--pull-never"])
            .args(["--platform", &format!("linux/{}", architecture.name())])
            .arg(format!("--build-arg=BUILD_IMAGE={build_image}"))
            // Buildah 1.28 does not set it.
            .arg(format!(
                "--build-arg=BUILDPLATFORM=linux/{}",
                Architecture::here().name()
            ))
            .args(["--target", contents.stage, "--tag", &tag, "--file"])
            .arg(root().join("Containerfile"))
            .arg(root());
        run(build)?;
        let name = format!("{}-{}", contents.title, architecture.name());
        let layout = self.folder.join(name);
        remove(&layout)?;
        let mut export = self.buildah();
        export.args(["push", "--quiet", &tag]);
        export.arg(format!("oci:{}", layout.display()));
        run(export)?;
        // Its copy of the build image takes a gigabyte.
        let mut remove = self.buildah();
        remove.args(["rm", "--all"]);
        run(remove)?;
        Ok(layout)
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Failure::system(
            format!("removing {}", folder.display()),
            source,
        )),
        _ => Ok(()),
    }
}
