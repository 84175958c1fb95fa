//! The container images that a node has from the start: those of the control plane by the names that
//! kubeadm gives them, and two of podspan.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{Error, Result};
use super::oci::Image;
use super::programs::{COREDNS, KUBE_PROXY, KUBE_SCHEDULER, KUBERNETES, path};
use super::run::{entries, run};
use crate::contained;
use crate::programs::{
    CRATE, ETCD, KUBE_APISERVER, KUBE_CONTROLLER_MANAGER, KUBECTL, Program, source_folder,
};

/// A shell with the usual small programs, for tests: `nc`, `ping`, `wget`, `nslookup`.
pub const BUSYBOX: &str = "podspan.local/busybox:1";
/// The pod network.
pub(super) const PODNET: &str = "podspan.local/podnet:1";

/// The names that kubeadm v1.36 gives to what is not versioned with Kubernetes
/// (`cmd/kubeadm/app/constants/constants.go`).
const PAUSE: &str = "registry.k8s.io/pause:3.10.2";
const ETCD_IMAGE: &str = "registry.k8s.io/etcd:3.6.8-0";
const COREDNS_IMAGE: &str = "registry.k8s.io/coredns/coredns:v1.14.2";

/// All of them. `root` is the node's file system, which some take libraries from; `work` is a folder
/// for what is compiled.
pub(super) fn all(root: &Path, work: &Path) -> Result<Vec<Image>> {
    let mut images = vec![
        Image::new(PAUSE)
            .entrypoint(&["/pause"])
            .user("65535:65535")
            .file("pause", pause(work)?),
        with_program(Image::new(ETCD_IMAGE), ETCD)?,
    ];
    for program in [KUBE_APISERVER, KUBE_CONTROLLER_MANAGER, KUBE_SCHEDULER] {
        images.push(with_program(versioned(program), program)?);
    }
    let nft = linked(root, "usr/sbin/nft")?;
    let proxy = with_program(versioned(KUBE_PROXY), KUBE_PROXY)?;
    images.push(with_files(proxy, &nft));
    images.push(
        Image::new(COREDNS_IMAGE)
            .entrypoint(&["/coredns"])
            .file("coredns", path(COREDNS)?),
    );
    let podnet = Path::new(CRATE).join("kind/podnet.sh");
    let podnet = with_busybox(Image::new(PODNET), root)?.file("podnet.sh", podnet);
    images.push(with_files(podnet, &nft));
    images.push(with_busybox(
        Image::new(BUSYBOX).command(&["/bin/sh"]),
        root,
    )?);
    Ok(images)
}

fn versioned(program: Program) -> Image {
    Image::new(format!("registry.k8s.io/{}:{KUBERNETES}", program.name))
}

fn with_program(image: Image, program: Program) -> Result<Image> {
    let inside = format!("usr/local/bin/{}", program.name);
    Ok(image.file(&inside, path(program)?))
}

pub(super) fn with_files(image: Image, files: &[(String, PathBuf)]) -> Image {
    files
        .iter()
        .fold(image, |image, (inside, file)| image.file(inside, file))
}

/// busybox with a link for each of its programs.
pub(super) fn with_busybox(image: Image, root: &Path) -> Result<Image> {
    let busybox = entries(&root.join("usr/bin"))
        .into_iter()
        .flatten()
        .chain(entries(&root.join("bin")).into_iter().flatten())
        .find(|path| path.file_name().is_some_and(|name| name == "busybox"));
    let missing = || Error::Missing {
        program: "busybox",
        package: "busybox-static",
    };
    let busybox = busybox.ok_or_else(missing)?;
    let mut list = Command::new(&busybox);
    list.arg("--list");
    let names = run("asking busybox for its programs", list)?;
    let names = names.lines().filter(|&name| name != "busybox");
    let image = image.file("bin/busybox", &busybox);
    Ok(names.fold(image, |image, name| {
        image.link(&format!("bin/{name}"), "busybox")
    }))
}

/// A dynamically linked program of the root file system with its libraries: paths inside, and here.
pub(super) fn linked(root: &Path, program: &str) -> Result<Vec<(String, PathBuf)>> {
    let mut ldd = contained::command("chroot");
    ldd.arg(root).args(["ldd", &format!("/{program}")]);
    let printed = run(&format!("asking for the libraries of {program}"), ldd)?;
    let mut inside: BTreeSet<String> = libraries(&printed);
    inside.insert(format!("/{program}"));
    Ok(inside
        .into_iter()
        .map(|path| {
            let relative = path.trim_start_matches('/').to_owned();
            let here = root.join(&relative);
            (relative, here)
        })
        .collect())
}

/// The paths in what ldd prints: `libnftables.so.1 => /lib/libnftables.so.1 (0x7f)` and
/// `/lib64/ld-linux-x86-64.so.2 (0x7f)`.
fn libraries(printed: &str) -> BTreeSet<String> {
    printed
        .lines()
        .filter_map(|line| {
            let path = line.split_once("=>").map_or(line, |(_, path)| path);
            path.split_whitespace().next()
        })
        .filter(|path| path.starts_with('/'))
        .map(str::to_owned)
        .collect()
}

/// The first process of each pod, from its source in the module of Kubernetes.
fn pause(work: &Path) -> Result<PathBuf> {
    let source = source_folder(&KUBECTL, "k8s.io/kubernetes")?.join("build/pause/linux/pause.c");
    let pause = work.join("pause");
    let mut cc = contained::command("cc");
    cc.args([
        "-Os",
        "-static",
        "-s",
        &format!("-DVERSION={KUBERNETES}"),
        "-o",
    ])
    .arg(&pause)
    .arg(source);
    run("compiling pause", cc)?;
    Ok(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_of_libraries_are_found_in_what_ldd_prints() {
        let printed = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                       \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\
                       \tlibgone.so => not found\n";
        let found: Vec<String> = libraries(printed).into_iter().collect();
        assert_eq!(
            found,
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
    }

    #[test]
    fn the_manifest_and_containerd_name_our_images() {
        assert!(include_str!("../../kind/podnet.yaml").contains(PODNET));
        assert!(include_str!("../../kind/containerd.toml").contains(PAUSE));
    }
}
