//! The Debian that a node stands on, as a tar: by debootstrap, from the mirror that apt uses here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::error::{Error, Result};
use super::run::{make_folder, remove, run, run_with_log};
use super::stages::Stages;
use crate::contained;
use crate::programs::short;

/// The release that kind's own node image stands on too.
const SUITE: &str = "bookworm";

/// What kind's entrypoint, kubeadm, the kubelet and kube-proxy call.
const PACKAGES: &str = "busybox-static,ca-certificates,conntrack,curl,dbus,e2fsprogs,ethtool,iproute2,\
     iptables,jq,kmod,libseccomp2,mount,nftables,openssl,procps,rsync,socat,systemd,systemd-sysv,\
     util-linux";

/// What a node does not need.
const USELESS: [&str; 8] = [
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/cache/debconf",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/log",
];

/// What decides the contents of the base, as far as we decide it.
pub(super) fn digest() -> String {
    let mut hash = Sha256::new();
    for text in [SUITE, PACKAGES, std::env::consts::ARCH] {
        hash.update(text);
        hash.update([0]);
    }
    for folder in USELESS {
        hash.update(folder);
    }
    short(&hash.finalize())
}

/// The base as a tar in `folder`. It is made if it is not there: a minute or two, once.
pub(super) fn find(folder: &Path, stages: &mut Stages<'_>) -> Result<PathBuf> {
    let tar = folder.join(format!("base-{}.tar", digest()));
    if !tar.is_file() {
        stages.stage("Debian for the nodes, by debootstrap", || {
            make(folder, &tar)
        })?;
    }
    Ok(tar)
}

fn make(folder: &Path, tar: &Path) -> Result<()> {
    let root = folder.join("debootstrap");
    remove(&root)?;
    make_folder(&root)?;
    let mut debootstrap = contained::command("debootstrap");
    debootstrap
        .args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE])
        .arg(&root)
        .args(mirror());
    let log = folder.join("debootstrap.log");
    remove(&log)?;
    run_with_log("debootstrap", debootstrap, &log)?;
    for useless in USELESS {
        let useless = root.join(useless);
        remove(&useless)?;
        make_folder(&useless)?;
    }
    let partial = tar.with_extension("partial");
    pack(&root, &partial)?;
    fs::rename(&partial, tar).map_err(Error::io(format!("renaming {}", partial.display())))?;
    remove(&root)
}

/// Packs a root file system into a tar.
pub(super) fn pack(root: &Path, tar: &Path) -> Result<()> {
    let mut command = contained::command("tar");
    command
        .args(["--numeric-owner", "--xattrs", "-C"])
        .arg(root);
    command.arg("-cf").arg(tar).arg(".");
    run(&format!("packing {}", tar.display()), command).map(drop)
}

/// Unpacks such a tar.
pub(super) fn unpack(tar: &Path, root: &Path) -> Result<()> {
    make_folder(root)?;
    let mut command = contained::command("tar");
    command
        .args(["--numeric-owner", "--xattrs", "-C"])
        .arg(root);
    command.arg("-xf").arg(tar);
    run(&format!("unpacking {}", tar.display()), command).map(drop)
}

/// The mirror of a Debian machine; another machine's apt has none for Debian, and debootstrap takes
/// its own default there.
fn mirror() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "$(SITE)"]);
    let targets = run("asking apt for its mirror", apt).unwrap_or_default();
    debian_mirror(&release, &targets)
}

fn debian_mirror(release: &str, targets: &str) -> Option<String> {
    let debian = release.lines().any(|line| line == "ID=debian");
    // The archive of security updates has no whole release.
    let mirror = targets
        .lines()
        .find(|site| !site.trim_end_matches('/').ends_with("-security"));
    mirror.filter(|_| debian).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_taken_from_a_debian_only() {
        let targets = "http://mirror/debian-security\nhttp://mirror/debian\n";
        let debian = "NAME=\"Debian\"\nID=debian\n";
        assert_eq!(
            debian_mirror(debian, targets).as_deref(),
            Some("http://mirror/debian")
        );
        assert_eq!(debian_mirror("ID=ubuntu\n", targets), None);
        assert_eq!(debian_mirror(debian, ""), None);
    }
}
