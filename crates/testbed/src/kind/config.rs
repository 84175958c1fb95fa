//! The input of kind: the cluster's configuration as YAML.

use super::state::Source;

/// Where the API server listens in the network namespace of the private Docker daemon.
const PRIVATE_PORT: &str = "  apiServerAddress: 127.0.0.1\n  apiServerPort: 6443\n";

/// In force for every kubelet and for etcd. The kubelet of Kubernetes 1.35 and later ends at once on
/// a machine with cgroup v1 if `failCgroupV1` is not false. The disk of a developer's machine may be
/// nearly full, and a cluster for tests needs no etcd that survives a power failure.
const PATCHES: &str = r#"kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  failCgroupV1: false
  evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%"}
- |
  kind: ClusterConfiguration
  etcd: {local: {extraArgs: [{name: unsafe-no-fsync, value: "true"}]}}
"#;

/// The configuration of one control plane and `workers` workers.
pub(super) fn render(name: &str, workers: u32, source: Source) -> String {
    let networking = match source {
        // The self-made image of kube-proxy has nft only.
        Source::Own => format!("networking:\n  kubeProxyMode: nftables\n{PRIVATE_PORT}"),
        Source::Published | Source::Given => String::new(),
    };
    let mut text = format!(
        "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nname: {name}\n{networking}nodes:\n\
         - role: control-plane\n"
    );
    for _ in 0..workers {
        text.push_str("- role: worker\n");
    }
    text.push_str(PATCHES);
    text
}

/// The names that kind gives to the nodes, the control plane first.
pub(super) fn nodes(name: &str, workers: u32) -> Vec<String> {
    let workers = (1..=workers).map(|number| match number {
        1 => format!("{name}-worker"),
        _ => format!("{name}-worker{number}"),
    });
    std::iter::once(format!("{name}-control-plane"))
        .chain(workers)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_the_nodes_and_a_port_of_its_own() {
        let text = render("podspan", 2, Source::Own);
        assert!(text.contains("name: podspan\n"));
        assert_eq!(text.matches("role: worker").count(), 2);
        assert_eq!(text.matches("role: control-plane").count(), 1);
        assert!(text.contains("apiServerPort: 6443"));
        assert!(text.contains("failCgroupV1: false"));
    }

    #[test]
    fn with_the_users_docker_the_port_is_left_to_kind() {
        let text = render("podspan", 0, Source::Published);
        assert!(!text.contains("apiServerPort"), "{text}");
        assert!(!text.contains("worker"), "{text}");
    }

    #[test]
    fn nodes_are_named_as_kind_does() {
        assert_eq!(
            nodes("podspan", 2),
            ["podspan-control-plane", "podspan-worker", "podspan-worker2"]
        );
    }
}
