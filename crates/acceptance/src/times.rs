//! When containers were created, started and ended, as their node's container runtime has it.
//!
//! The API server's times are whole seconds. containerd's have nanoseconds, and all of a node are of one
//! clock. Times of running and ended containers come from crictl. The kubelet removes the containers of
//! a deleted pod at once, so their ends come from containerd's events ([`Exits`]).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use testbed::kind::Cluster;

use crate::error::{Error, Result};

/// The times of a pod's sandbox or of a container, since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// When it was created.
    pub created: Duration,
    /// When its first process was started. None for a sandbox.
    pub started: Option<Duration>,
    /// When its first process ended. None for a sandbox and for a container that runs.
    pub finished: Option<Duration>,
}

/// Prints a line for each sandbox and each container of a namespace: pod, container, times as numbers.
const SCRIPT: &str = r#"
label=io.kubernetes.pod.namespace=$1
{
  for id in $(crictl pods -q --label $label); do
    crictl inspectp -o go-template --template '{{.status.metadata.name}} sandbox {{.status.createdAt}}' $id
  done
  for id in $(crictl ps -a -q --label $label); do
    crictl inspect -o go-template --template '{{index .status.labels "io.kubernetes.pod.name"}} {{.status.metadata.name}} {{.status.createdAt}} {{.status.startedAt}} {{.status.finishedAt}}' $id
  done
} | while read pod name times; do
  line="$pod $name"
  for time in $times; do line="$line $(date -d $time +%s%N)"; done
  echo "$line"
done
"#;

impl Times {
    /// Reads the times of all containers of a namespace on a node, by pod and container. The container
    /// `sandbox` is the pod's sandbox.
    ///
    /// # Errors
    /// When the node cannot be asked, or answers something else.
    pub fn read(
        cluster: &Cluster,
        node: &str,
        namespace: &str,
    ) -> Result<BTreeMap<(String, String), Self>> {
        let lines = cluster.exec_in_node(node, &["sh", "-c", SCRIPT, "sh", namespace])?;
        lines
            .lines()
            .map(|line| {
                parse(line).ok_or_else(|| Error::unexpected("the times of containers", line))
            })
            .collect()
    }
}

fn parse(line: &str) -> Option<((String, String), Times)> {
    let mut words = line.split_whitespace();
    let name = (words.next()?.to_owned(), words.next()?.to_owned());
    // What has not happened is the year 1, a negative number.
    let mut time = || Some(words.next()?.parse().ok().map(Duration::from_nanos));
    let times = Times {
        created: time()??,
        started: time().flatten(),
        finished: time().flatten(),
    };
    Some((name, times))
}

/// Records the ends of a node's containers until it is dropped.
#[derive(Debug)]
pub struct Exits<'a> {
    cluster: &'a Cluster,
    node: String,
    file: String,
    process: String,
}

impl<'a> Exits<'a> {
    /// Starts to record. `name` keeps two records of a node apart.
    ///
    /// # Errors
    /// When the node cannot be asked.
    pub fn record(cluster: &'a Cluster, node: &str, name: &str) -> Result<Self> {
        let file = format!("/tmp/exits-{name}");
        let script = r#"timeout 600 ctr -n k8s.io events 'topic=="/tasks/exit"' >$1 2>&1 </dev/null & echo $!"#;
        let process = cluster.exec_in_node(node, &["sh", "-c", script, "sh", &file])?;
        Ok(Self {
            cluster,
            node: node.to_owned(),
            file,
            process: process.trim().to_owned(),
        })
    }

    /// When a container's first process ended; `id` as the pod's status has it (`containerd://<id>`).
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn of(&self, id: &str) -> Result<Option<Duration>> {
        let id = id.rsplit('/').next().unwrap_or(id);
        let events = self
            .cluster
            .exec_in_node(&self.node, &["cat", &self.file])?;
        Ok(events.lines().find_map(|line| exit(line, id)))
    }
}

impl Drop for Exits<'_> {
    fn drop(&mut self) {
        let script = "kill $1; rm -f $2";
        let arguments = ["sh", "-c", script, "sh", &self.process, &self.file];
        // The record ends by itself after ten minutes.
        let _ = self.cluster.exec_in_node(&self.node, &arguments);
    }
}

/// Reads an event, such as `2026-11-25 04:03:01.6 +0000 UTC k8s.io /tasks/exit {"container_id":...}`.
fn exit(line: &str, id: &str) -> Option<Duration> {
    let event: Value = serde_json::from_str(line.get(line.find('{')?..)?).ok()?;
    // The end of a program that was started in the container has another `id`.
    if event["container_id"] != id || event["id"] != id {
        return None;
    }
    let at = &event["exited_at"];
    let nanoseconds = at["nanos"].as_u64().unwrap_or(0);
    Some(Duration::from_secs(at["seconds"].as_u64()?) + Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_runs_has_no_end() {
        let line = "web-1 podspan 1795579381646747622 1795579381700000000 -62135596800000000000";
        let ((pod, container), times) = parse(line).unwrap();
        assert_eq!((pod.as_str(), container.as_str()), ("web-1", "podspan"));
        assert_eq!(times.created.as_nanos(), 1_795_579_381_646_747_622);
        assert_eq!(times.started.unwrap().as_nanos(), 1_795_579_381_700_000_000);
        assert_eq!(times.finished, None);
    }

    #[test]
    fn a_sandbox_has_its_creation_only() {
        let (_, times) = parse("web-1 sandbox 1795579381646747622").unwrap();
        assert_eq!((times.started, times.finished), (None, None));
        assert!(parse("web-1 sandbox").is_none());
    }

    #[test]
    fn the_end_of_another_process_is_not_the_containers() {
        let event = |process: &str| {
            format!(
                r#"2026-11-25 04:03:01.6 +0000 UTC k8s.io /tasks/exit {{"container_id":"a1","id":"{process}","pid":26,"exited_at":{{"seconds":5,"nanos":7}}}}"#
            )
        };
        assert_eq!(exit(&event("a1"), "a1"), Some(Duration::new(5, 7)));
        assert_eq!(exit(&event("b2"), "a1"), None);
        assert_eq!(exit("no event", "a1"), None);
    }
}
