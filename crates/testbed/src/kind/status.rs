//! What `cargo xtask cluster status` prints.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::cgroups;
use super::cluster::Cluster;
use super::error::Result;
use super::folder::control_group_of;
use super::run::run;
use super::state::Source;

/// What a cluster looks like now.
#[derive(Debug)]
pub struct Status {
    /// Where its nodes come from.
    pub source: Source,
    /// How long ago `up` began.
    pub age: Duration,
    /// Its folder, with logs and configuration.
    pub folder: PathBuf,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// `kubectl get nodes -o wide`.
    pub nodes: String,
    /// `kubectl get pods --all-namespaces -o wide`.
    pub pods: String,
    /// One line of `docker stats` for each node: name, memory, CPU.
    pub containers: String,
    /// The memory of all nodes together in bytes, page cache included, where it is known.
    pub memory: Option<u64>,
}

impl Cluster {
    /// Asks for its state.
    ///
    /// # Errors
    /// Where the API server or Docker does not answer, and [`Error::NoNodes`](super::Error::NoNodes) where
    /// the cluster is given by a kubeconfig.
    pub fn status(&self) -> Result<Status> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |time| time.as_secs());
        let mut stats = self.beside_docker("docker")?;
        stats
            .args(["stats", "--no-stream", "--format"])
            .arg("{{.Name}} {{.MemUsage}} {{.CPUPerc}}")
            .args(self.nodes());
        Ok(Status {
            source: self.source(),
            age: Duration::from_secs(now.saturating_sub(self.state().since)),
            folder: self.folder().to_owned(),
            kubeconfig: self.kubeconfig(),
            nodes: self.kubectl(&["get", "nodes", "-o", "wide"])?,
            pods: self.kubectl(&["get", "pods", "--all-namespaces", "-o", "wide"])?,
            containers: run("docker stats", stats)?,
            memory: self
                .daemon()
                .and_then(|_| cgroups::memory(&control_group_of(self.folder()))),
        })
    }
}
