//! The build image of the `Containerfile`, with nothing pulled: Debian's packages by debootstrap, and
//! the compiler that builds here. It stands for the public `rust` image, and has in it what the
//! `Containerfile` would install.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::remove;
use crate::cargo::{output, root, run};
use crate::failure::{Failure, Result};
use crate::image::contents::Architecture;
use crate::image::create_folder;
use crate::image::oci::sha256;

const SUITE: &str = "bookworm";

/// How the folder becomes an image.
pub(super) const RECIPE: &str = "\
FROM scratch
COPY . /
ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
";

/// Where this machine's Debian or its like keeps whom it trusts. The container asks the same servers.
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";

pub(super) struct Base {
    /// Of all that decides what is in it.
    pub(super) digest: String,
    packages: String,
    sysroot: PathBuf,
}

impl Base {
    pub(super) fn find() -> Result<Self> {
        let packages = packages(Architecture::here());
        let mut version = Command::new("rustc");
        version.current_dir(root()).args(["--version", "--verbose"]);
        let version = output(version)?;
        let mut sysroot = Command::new("rustc");
        sysroot.current_dir(root()).args(["--print", "sysroot"]);
        let digest = sha256(format!("{SUITE} {packages} {version} {RECIPE}").as_bytes());
        Ok(Self {
            digest: digest[7..23].to_owned(),
            packages,
            sysroot: output(sysroot)?.trim().into(),
        })
    }

    /// Makes the folder, which has its final name only when it is complete.
    pub(super) fn assemble(&self, folder: &Path) -> Result<PathBuf> {
        let base = folder.join(format!("base-{}", self.digest));
        if base.is_dir() {
            return Ok(base);
        }
        println!("assembling the build image: two minutes, once");
        let partial = folder.join("base.partial");
        remove(&partial)?;
        let mut debootstrap = Command::new("debootstrap");
        debootstrap
            .args(["--variant=minbase", &format!("--include={}", self.packages)])
            .arg(SUITE)
            .arg(&partial);
        // Its hundreds of lines matter only where it fails, and then they are in its log.
        debootstrap.stdout(std::process::Stdio::null());
        run(debootstrap)?;
        self.add_rust(&partial)?;
        let host = Path::new("/").join(CERTIFICATES);
        fs::copy(&host, partial.join(CERTIFICATES))
            .map_err(|source| Failure::system(format!("copying {}", host.display()), source))?;
        fs::rename(&partial, &base)
            .map_err(|source| Failure::system(format!("making {}", base.display()), source))?;
        Ok(base)
    }

    /// Cargo, rustc and the standard libraries of the image's targets.
    fn add_rust(&self, partial: &Path) -> Result<()> {
        let local = partial.join("usr/local");
        for program in ["bin/cargo", "bin/rustc"] {
            copy(&self.sysroot.join(program), &local.join("bin"))?;
        }
        let libraries = fs::read_dir(self.sysroot.join("lib"))
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|source| Failure::system("reading Rust's libraries", source))?;
        for library in libraries {
            if library.path().is_file() {
                copy(&library.path(), &local.join("lib"))?;
            }
        }
        for architecture in Architecture::ALL {
            let target = Path::new("lib/rustlib").join(architecture.target());
            copy(&self.sysroot.join(target), &local.join("lib/rustlib"))?;
        }
        Ok(())
    }
}

fn copy(from: &Path, into: &Path) -> Result<()> {
    create_folder(into)?;
    let mut copy = Command::new("cp");
    copy.arg("--archive").arg(from).arg(into);
    run(copy)
}

/// A C compiler for both architectures, and setcap.
fn packages(here: Architecture) -> String {
    let cross = match here {
        Architecture::Amd64 => "gcc-aarch64-linux-gnu,libc6-dev-arm64-cross",
        Architecture::Arm64 => "gcc-x86-64-linux-gnu,libc6-dev-amd64-cross",
    };
    format!("ca-certificates,gcc,libc6-dev,{cross},libcap2-bin")
}
