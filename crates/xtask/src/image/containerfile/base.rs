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
use crate::image::oci::sha256;
use crate::image::{create_folder, read_file};

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
        let record = compilers(Some(&partial))?;
        let path = self.record(folder);
        fs::write(&path, record)
            .map_err(|source| Failure::system(format!("writing {}", path.display()), source))?;
        let host = Path::new("/").join(CERTIFICATES);
        fs::copy(&host, partial.join(CERTIFICATES))
            .map_err(|source| Failure::system(format!("copying {}", host.display()), source))?;
        fs::rename(&partial, &base)
            .map_err(|source| Failure::system(format!("making {}", base.display()), source))?;
        Ok(base)
    }

    /// Whether it has the C compiler and the C library of this machine, so that a binary of both must
    /// be the same.
    pub(super) fn has_our_compilers(&self, folder: &Path) -> Result<bool> {
        let record = fs::read_to_string(self.record(folder)).unwrap_or_default();
        Ok(record == compilers(None)?)
    }

    fn record(&self, folder: &Path) -> PathBuf {
        folder.join(format!("compilers-{}", self.digest))
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

/// What of C goes into a static binary, here or below `root`: the compiler's version and the library.
fn compilers(root: Option<&Path>) -> Result<String> {
    let gcc = |argument: &str| {
        let mut command = Command::new(root.map_or("gcc", |_| "chroot"));
        command.args(root).args(root.map(|_| "gcc")).arg(argument);
        output(command)
    };
    let library = gcc("-print-file-name=libc.a")?;
    let library = library.trim().trim_start_matches('/');
    let library = read_file(&root.unwrap_or(Path::new("/")).join(library))?;
    Ok(format!("{}{}", gcc("--version")?, sha256(&library)))
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
