//! An image for tests in a cluster: a web server, a load client and a capture program, which nobody here
//! wrote.
//!
//! nginx, iperf3 and tcpdump are Debian's packages; vegeta is a Go module. By default the image runs nginx
//! on port 8080, as a user without rights. The archive is cached by the digest of its inputs.

use std::fs::File;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::base;
use super::error::{Error, Result};
use super::images::{linked, with_busybox, with_files};
use super::oci::Image;
use super::run::{make_folder, remove, run_with_log, write};
use super::stages::Stages;
use crate::contained;
use crate::programs::{Program, short, target_folder};

/// The image's name.
pub const TOOLS: &str = "podspan.local/tools:1";

const VEGETA: Program = Program::new(
    "vegeta",
    "github.com/tsenart/vegeta/v12",
    "kubernetes/vegeta",
);
const PACKAGES: [&str; 3] = ["nginx-light", "iperf3", "tcpdump"];
const PROGRAMS: [&str; 3] = ["usr/sbin/nginx", "usr/bin/iperf3", "usr/bin/tcpdump"];
/// Unprivileged: all that nginx writes is in /tmp.
const NGINX: &str = include_str!("../../kind/nginx.conf");
const SOURCES: [&str; 2] = [include_str!("tools_image.rs"), include_str!("oci.rs")];

/// Finds the archive of the image, and makes it if it is not there: half a minute. Needs root.
///
/// # Errors
/// When a package cannot be installed, or a program not be built.
pub fn tools_image(stages: &mut Stages<'_>) -> Result<PathBuf> {
    let folder = target_folder().join("testbed-kind/node");
    make_folder(&folder)?;
    let lock = File::create(folder.join("lock")).map_err(Error::io("locking the images"))?;
    lock.lock().map_err(Error::io("locking the images"))?;
    let archive = folder.join(format!("tools-{}.tar", digest()?));
    if !archive.is_file() {
        let base = base::find(&folder, stages)?;
        stages.stage("an image with a web server and a load client", || {
            make(&base, &folder.join("tools"), &archive)
        })?;
    }
    Ok(archive)
}

fn digest() -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(base::digest());
    hash.update(NGINX);
    for source in SOURCES {
        hash.update(source);
    }
    hash.update(VEGETA.digest()?);
    Ok(short(&hash.finalize()))
}

fn make(base: &Path, root: &Path, archive: &Path) -> Result<()> {
    let vegeta = VEGETA.find()?;
    remove(root)?;
    base::unpack(base, root)?;
    // Nothing is started in the folder, whatever a package asks for.
    write(
        &root.join("usr/sbin/policy-rc.d"),
        "#!/bin/sh\nexit 101\n",
        0o755,
    )?;
    let log = root.with_extension("log");
    remove(&log)?;
    let quiet = ["-q", "-y", "-o", "APT::Sandbox::User=root"];
    for arguments in [&["update"][..], &["install", "--no-install-recommends"]] {
        let mut apt = contained::command("chroot");
        apt.arg(root)
            .args(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"])
            .args(quiet)
            .args(arguments);
        if arguments != ["update"] {
            apt.args(PACKAGES);
        }
        run_with_log("apt-get in a folder", apt, &log)?;
    }
    let mut image = Image::new(TOOLS)
        .command(&["/usr/sbin/nginx"])
        .user("65534:65534")
        .text("etc/nginx/nginx.conf", NGINX, 0o644)
        .text("srv/index.html", &page(1000), 0o644)
        .text("srv/large", &page(100_000), 0o644)
        .text("etc/group", "root:x:0:\nnogroup:x:65534:\n", 0o644)
        .file("usr/bin/vegeta", vegeta);
    image = with_busybox(image, root)?;
    for program in PROGRAMS {
        image = with_files(image, &linked(root, program)?);
    }
    let partial = archive.with_extension("partial");
    image.write(&partial)?;
    std::fs::rename(&partial, archive).map_err(Error::io("renaming the archive"))?;
    remove(root)
}

/// Text of a length, so that what arrives can be compared.
fn page(length: usize) -> String {
    "podspan ".chars().cycle().take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_length() {
        assert_eq!(page(1000).len(), 1000);
        assert!(page(1000).starts_with("podspan podspan "));
    }
}
