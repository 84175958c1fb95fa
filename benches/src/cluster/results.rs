//! What a run has measured, as it is written to `cluster.json`.
//!
//! Plain numbers of each round, so that a reader can compute other figures than [`super::summary`] does.
//! A value that the cluster does not give is `null`, never zero.

use serde::{Deserialize, Serialize};

use super::plan::Plan;

/// The version of this format. It is raised when a field changes its meaning.
pub const FORMAT: u32 = 1;

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`FORMAT`].
    pub format: u32,
    /// Where it ran.
    pub environment: Environment,
    /// What was asked for.
    pub plan: Plan,
    /// The cases, in the order of the plan.
    pub cases: Vec<Case>,
}

/// Where a run was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// The cluster's name, or the context of the kubeconfig.
    pub cluster: String,
    /// The node with the application.
    pub application: Node,
    /// The node with the load client and the sensors.
    pub client: Node,
    /// podspan's image.
    pub podspan: String,
    /// The image of the application and the load client.
    pub tools: String,
    /// The sidecar's limit of CPU, as its manifest has it.
    pub cpu_limit: String,
    /// The sidecar's limit of memory, as its manifest has it.
    pub memory_limit: String,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its label `kubernetes.io/hostname`.
    pub hostname: String,
    /// Its CPUs, as Kubernetes has them.
    pub cpus: String,
    /// Its kernel.
    pub kernel: String,
    /// Its architecture.
    pub architecture: String,
    /// Its container runtime.
    pub runtime: String,
    /// Its kubelet.
    pub kubelet: String,
}

/// What is offered to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "scene", rename_all = "snake_case")]
pub enum Offered {
    /// HTTP requests, each in a connection of its own.
    Http {
        /// Requests a second.
        per_second: u32,
    },
    /// One TCP connection.
    Bulk {
        /// Payload in bits a second.
        bits_per_second: u64,
    },
    /// UDP datagrams.
    Packets {
        /// Datagrams a second.
        per_second: u32,
        /// Payload of each.
        bytes: u32,
    },
}

/// One load, in all rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// The load.
    pub offered: Offered,
    /// Its rounds.
    pub rounds: Vec<Round>,
}

/// One round: the same load without and with the sidecar, in turns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Whether the load with the sidecar came first.
    pub with_first: bool,
    /// The application without the sidecar.
    pub without: Client,
    /// The application with the sidecar.
    pub with: Client,
    /// The sidecar itself.
    pub sidecar: Sidecar,
}

/// What the load client measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// Requests, bytes or datagrams that were sent.
    pub sent: u64,
    /// Requests without an answer of status 200, TCP segments that were sent again, or datagrams that did
    /// not arrive.
    pub failed: u64,
    /// Answers, bits or datagrams a second that arrived.
    pub rate: f64,
    /// Half of the requests took at most this long.
    pub p50_us: Option<f64>,
    /// 99 of 100 requests took at most this long.
    pub p99_us: Option<f64>,
}

/// What the sidecar did and used for one load. The frames from the pod's start to the load are included: some
/// 50 of podspan's search for its sensor, the kubelet's check and address resolution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    /// CPU time of all threads, from directly before the load to directly after it.
    pub cpu_us: Option<f64>,
    /// Periods of the quota in which the sidecar was runnable.
    pub periods: Option<u64>,
    /// Of these, those in which it was stopped because its quota was used up.
    pub throttled: Option<u64>,
    /// Resident memory after the load, the ring included.
    pub resident_bytes: Option<u64>,
    /// Frames that passed the ring's filter.
    pub ring_packets: u64,
    /// Of these, those that the ring had no room for.
    pub ring_drops: u64,
    /// Frames that were mirrored.
    pub frames_mirrored: u64,
    /// Frames that podspan read and did not mirror.
    pub frames_dropped: u64,
    /// Copies that the kernel accepted.
    pub copies_sent: u64,
    /// Copies that the kernel refused.
    pub copies_dropped: u64,
    /// Copies that the sensor has counted.
    pub copies_received: u64,
    /// Copies with a wrong checksum, and datagrams that the sensor could not read.
    pub copies_wrong: u64,
    /// Copies that the sensor's own ring had no room for.
    pub lost_in_sensor: u64,
}
