//! A cluster that somebody else made: all that is there of it is a kubeconfig.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::cluster::{Cluster, on_path_or_built};
use super::error::{Error, Result};
use super::run::make_folder;
use super::state::{Source, State};
use crate::programs::{KUBECTL, target_folder};

/// A cluster that somebody else made, by its kubeconfig and a context of it. kubectl is the one on the PATH,
/// or else is built.
///
/// # Errors
/// [`Error::NoKubeconfig`] where there is no such file, [`Error::Command`] where the API server does not
/// answer or does not list its nodes.
pub fn given(kubeconfig: &Path, context: Option<&str>) -> Result<Cluster> {
    let no_kubeconfig = |error: std::io::Error| Error::NoKubeconfig {
        path: kubeconfig.to_owned(),
        reason: error.to_string(),
    };
    let mut cluster = Cluster {
        name: context.unwrap_or("given").to_owned(),
        folder: target_folder().join("testbed-kind"),
        state: State::new(Source::Given, Vec::new()),
        daemon: None,
        kind: PathBuf::new(),
        kubectl: on_path_or_built(KUBECTL)?,
        kubeconfig: std::fs::canonicalize(kubeconfig).map_err(no_kubeconfig)?,
        context: context.map(str::to_owned),
    };
    make_folder(&cluster.folder)?;
    let list = cluster.kubectl(&["get", "nodes", "-o", "json", "--request-timeout=20s"])?;
    cluster.state.nodes = names_of(&list);
    cluster.state.ready = true;
    Ok(cluster)
}

/// The names in a list of nodes, those with a control plane first.
fn names_of(list: &str) -> Vec<String> {
    let list: Value = serde_json::from_str(list).unwrap_or_default();
    let mut nodes: Vec<&Value> = list["items"].as_array().into_iter().flatten().collect();
    nodes.sort_by_key(|node| {
        node["metadata"]["labels"]["node-role.kubernetes.io/control-plane"].is_null()
    });
    nodes
        .iter()
        .filter_map(|node| Some(node["metadata"]["name"].as_str()?.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_given_cluster_the_control_plane_is_the_first_node() {
        let list = r#"{"items":[
            {"metadata":{"name":"a","labels":{}}},
            {"metadata":{"name":"b","labels":{"node-role.kubernetes.io/control-plane":""}}},
            {"metadata":{"name":"c"}}]}"#;
        assert_eq!(names_of(list), ["b", "a", "c"]);
        assert!(names_of("no JSON").is_empty());
    }

    #[test]
    fn a_kubeconfig_that_is_not_there_is_named() {
        let error = given(Path::new("/no such kubeconfig"), None).unwrap_err();
        assert!(matches!(error, Error::NoKubeconfig { .. }), "{error}");
        assert!(error.to_string().contains("/no such kubeconfig"), "{error}");
    }
}
