//! The programs that a cluster consists of in addition to those of the control plane's tests.

use std::path::PathBuf;

use super::error::Result;
use crate::programs::{ETCD, KUBE_APISERVER, KUBE_CONTROLLER_MANAGER, KUBECTL, Program};

/// The release of Kubernetes that `kubernetes/go.mod` names.
pub(super) const KUBERNETES: &str = "v1.36.3";

/// kind itself.
pub(super) const KIND: Program = Program::new("kind", "sigs.k8s.io/kind", "kubernetes/kind");
/// What the private Docker daemon calls in place of runc.
pub(super) const BOUNDED_RUNC: Program =
    Program::new("bounded-runc", ".", "kubernetes/bounded-runc");

pub(super) const CONTAINERD: Program = Program {
    tags: "no_btrfs no_devmapper no_zfs no_aufs",
    ..containerd(
        "containerd",
        "github.com/containerd/containerd/v2/cmd/containerd",
    )
};
pub(super) const CTR: Program = containerd("ctr", "github.com/containerd/containerd/v2/cmd/ctr");
const SHIM: Program = containerd(
    "containerd-shim-runc-v2",
    "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
);
const RUNC: Program = Program {
    tags: "seccomp netgo osusergo urfave_cli_no_docs",
    ldflags: "-s -w -extldflags -static",
    cgo: true,
    ..Program::new("runc", "github.com/opencontainers/runc", "kubernetes/runc")
};
const CRICTL: Program = Program::new(
    "crictl",
    "sigs.k8s.io/cri-tools/cmd/crictl",
    "kubernetes/cri-tools",
);
pub(super) const COREDNS: Program = Program::new("coredns", ".", "kubernetes/coredns");
const BRIDGE: Program = cni(
    "bridge",
    "github.com/containernetworking/plugins/plugins/main/bridge",
);
const HOST_LOCAL: Program = cni(
    "host-local",
    "github.com/containernetworking/plugins/plugins/ipam/host-local",
);
const LOOPBACK: Program = cni(
    "loopback",
    "github.com/containernetworking/plugins/plugins/main/loopback",
);
const PORTMAP: Program = cni(
    "portmap",
    "github.com/containernetworking/plugins/plugins/meta/portmap",
);
const KUBEADM: Program = Program::kubernetes("kubeadm", "k8s.io/kubernetes/cmd/kubeadm");
const KUBELET: Program = Program::kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet");
pub(super) const KUBE_PROXY: Program =
    Program::kubernetes("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy");
pub(super) const KUBE_SCHEDULER: Program =
    Program::kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler");

/// What goes into a node's file system, and where.
pub(super) const IN_NODE: [(Program, &str); 12] = [
    (CONTAINERD, "usr/local/bin"),
    (SHIM, "usr/local/bin"),
    (CTR, "usr/local/bin"),
    (CRICTL, "usr/local/bin"),
    (RUNC, "usr/local/sbin"),
    (KUBEADM, "usr/bin"),
    (KUBELET, "usr/bin"),
    (KUBECTL, "usr/bin"),
    (BRIDGE, "opt/cni/bin"),
    (HOST_LOCAL, "opt/cni/bin"),
    (LOOPBACK, "opt/cni/bin"),
    (PORTMAP, "opt/cni/bin"),
];

/// What goes into container images.
pub(super) const IN_IMAGES: [Program; 6] = [
    ETCD,
    KUBE_APISERVER,
    KUBE_CONTROLLER_MANAGER,
    KUBE_SCHEDULER,
    KUBE_PROXY,
    COREDNS,
];

const fn containerd(name: &'static str, package: &'static str) -> Program {
    Program {
        ldflags: "-s -w -X github.com/containerd/containerd/v2/version.Version=v2.4.2",
        ..Program::new(name, package, "kubernetes/containerd")
    }
}

const fn cni(name: &'static str, package: &'static str) -> Program {
    Program::new(name, package, "kubernetes/cni")
}

/// Builds what is not built yet, so that a failure comes before anything runs.
pub(super) fn build_all() -> Result<()> {
    for program in all() {
        program.find()?;
    }
    Ok(())
}

/// Whether runc is still to be built: that takes a C compiler and libseccomp.
pub(super) fn runc_is_built() -> Result<bool> {
    Ok(RUNC.is_built()?)
}

/// The path of a program.
pub(super) fn path(program: Program) -> Result<PathBuf> {
    Ok(program.find()?)
}

fn all() -> impl Iterator<Item = Program> {
    let in_node = IN_NODE.into_iter().map(|(program, _)| program);
    [KIND, BOUNDED_RUNC]
        .into_iter()
        .chain(in_node)
        .chain(IN_IMAGES)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_program_has_a_module_and_a_name_of_its_own() {
        let names: BTreeSet<&str> = all().map(|program| program.name).collect();
        assert_eq!(names.len(), all().count());
        for program in all() {
            program.digest().unwrap();
        }
    }

    #[test]
    fn the_version_is_that_of_the_module() {
        let module = include_str!("../../kubernetes/go.mod");
        assert!(module.contains(&format!("k8s.io/kubernetes {KUBERNETES}")));
        let module = include_str!("../../kubernetes/containerd/go.mod");
        let (_, version) = CTR.ldflags.rsplit_once('=').unwrap();
        assert!(module.contains(&format!("github.com/containerd/containerd/v2 {version}")));
    }
}
