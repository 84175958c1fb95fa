//! The lab, the control plane in it, and podspan as the kubelet starts it.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use testbed::kubernetes::{ControlPlane, Options, PodDraft, Pods};
use testbed::{Host, Lab, Process};
use tokio::runtime::Builder;

use crate::Outcome;
use crate::memory::working_kib;
use crate::totals::Totals;

pub(crate) const VNI: u32 = 0x00c0_ffee;
pub(crate) const PORT: u16 = 4789;
/// Far longer than anything here needs.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// Mounts the service account's folder `$0` as in a container, and runs the program `$1`.
const MOUNT_AND_RUN: &str = "mount -t tmpfs tmpfs /run && \
     mkdir -p /run/secrets/kubernetes.io/serviceaccount && \
     mount --bind \"$0\" /run/secrets/kubernetes.io/serviceaccount && exec \"$1\"";

/// A lab with two sensors' hosts and an API server.
pub(crate) struct Cluster {
    // The control plane ends before the network that it is in.
    pub(crate) plane: ControlPlane,
    pub(crate) api: Host,
    pub(crate) second: Host,
    pub(crate) lab: Lab,
}

impl Cluster {
    pub(crate) fn start() -> Result<Self, Failed> {
        let lab = Lab::builder().build()?;
        let second = lab.add_host(4)?;
        let api = lab.add_host(10)?;
        let plane = ControlPlane::start(Options {
            namespace: Some(api.namespace.clone()),
            address: api.ipv4.into(),
            ..Options::default()
        })?;
        Ok(Self {
            plane,
            api,
            second,
            lab,
        })
    }

    /// Makes a Kubernetes namespace in which the account `default` has the shipped Role, and its
    /// credentials as a pod's folder.
    pub(crate) fn add_namespace(&self, name: &str) -> Outcome {
        self.add_namespace_without_role(name)?;
        self.bind_role(name)
    }

    /// Gives the account `default` of a namespace the shipped Role.
    pub(crate) fn bind_role(&self, name: &str) -> Outcome {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/rbac/own-namespace");
        Ok(self
            .plane
            .apply_text(&self.plane.kustomize(&folder, name)?)?)
    }

    /// The same without the Role.
    pub(crate) fn add_namespace_without_role(&self, name: &str) -> Outcome {
        self.plane.create_namespace(name)?;
        let token = self
            .plane
            .request_token(name, "default", Duration::from_mins(10))?;
        let folder = self.credentials(name);
        Ok(self.plane.write_pod_credentials(&folder, name, &token)?)
    }

    pub(crate) fn credentials(&self, namespace: &str) -> PathBuf {
        self.plane.folder().join(format!("credentials-{namespace}"))
    }

    /// Changes a namespace's pods as an administrator, from the API server's host.
    pub(crate) fn administer<T: Send>(
        &self,
        namespace: &str,
        work: impl AsyncFnOnce(&Pods) -> T + Send,
    ) -> T {
        self.api.namespace.run(|| {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = self.plane.client().await.unwrap();
                work(&Pods::new(client, namespace)).await
            })
        })
    }

    /// Creates a sensor's pod at a host of the lab.
    pub(crate) fn add_sensor(&self, namespace: &str, draft: &PodDraft) -> Outcome {
        Ok(self
            .administer(namespace, async |pods| pods.create(draft).await)
            .map(drop)?)
    }

    /// Starts podspan in the lab's pod, as a pod of a Kubernetes namespace, and waits until it
    /// captures.
    pub(crate) fn podspan(&self, namespace: &str, more: &[(&str, &str)]) -> Result<Agent, Failed> {
        let mut command = self.lab.pod.namespace.command("unshare");
        command.args(["--mount", "sh", "-c", MOUNT_AND_RUN]);
        command.arg(self.credentials(namespace));
        command.arg(env!("CARGO_BIN_EXE_podspan"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path);
        let api = self.plane.address();
        command
            .env("KUBERNETES_SERVICE_HOST", api.ip().to_string())
            .env("KUBERNETES_SERVICE_PORT", api.port().to_string())
            .env("SENSOR", "zeek")
            // There is only one pair of hosts: its flows must reach all sensors.
            .env("SPREAD", "flows")
            .env("VNI", format!("{VNI:#x}"))
            .env("LOG", "debug")
            .envs(more.iter().copied());
        let mut process = Process::spawn(command)?;
        process.wait_for_output("capturing (index", TIMEOUT)?;
        Ok(Agent(process))
    }
}

/// A usable sensor at a host of the lab.
pub(crate) fn sensor(name: &str, host: &Host) -> PodDraft {
    PodDraft::new(name)
        .label("run", "zeek")
        .node("node-1")
        .address(host.ipv4)
        .ready()
}

/// What the scheduler knows about threads.
#[derive(Default)]
struct Times {
    running: Duration,
    waiting: Duration,
}

/// A running podspan.
pub(crate) struct Agent(pub(crate) Process);

impl Agent {
    /// Waits until it has logged exactly these hosts as sensors in use, and returns how long it waited.
    #[track_caller]
    pub(crate) fn until_in_use(&self, hosts: &[&Host]) -> Duration {
        let addresses = hosts.iter().map(|host| host.ipv4.into());
        self.until_in_use_at(&addresses.collect::<Vec<_>>())
    }

    /// The same for addresses of any family.
    #[track_caller]
    pub(crate) fn until_in_use_at(&self, addresses: &[IpAddr]) -> Duration {
        let mut addresses = addresses.to_vec();
        addresses.sort();
        let begun = Instant::now();
        loop {
            let log = self.0.stderr();
            let last = log.lines().rev().find_map(sensors_in_use);
            if last.is_some_and(|sensors| sensors == addresses) {
                let time = begun.elapsed();
                // podspan uses them just after the log line.
                thread::sleep(Duration::from_millis(50));
                return time;
            }
            assert!(
                begun.elapsed() < TIMEOUT,
                "{addresses:?} are not in use; the log:\n{log}"
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for a line of the log with all these words.
    #[track_caller]
    pub(crate) fn until_logged(&self, words: &[&str]) {
        let begun = Instant::now();
        let has_all = |line: &str| words.iter().all(|word| line.contains(word));
        while !self.0.stderr().lines().any(has_all) {
            assert!(
                begun.elapsed() < TIMEOUT,
                "{words:?} not in the log:\n{}",
                self.0.stderr()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops it, and returns its totals and its log.
    pub(crate) fn end(mut self) -> Result<(Totals, String), Failed> {
        self.0.terminate()?;
        let status = self.0.wait(TIMEOUT)?;
        let log = self.0.stderr();
        assert!(status.success(), "{status}:\n{log}");
        Ok((Totals::read(&log), log))
    }

    /// CPU time of the worker thread.
    pub(crate) fn worker_time(&self) -> Duration {
        self.times_of(|thread| thread == "worker").running
    }

    /// How long the worker thread was ready to run and had no processor.
    pub(crate) fn worker_delay(&self) -> Duration {
        self.times_of(|thread| thread == "worker").waiting
    }

    /// CPU time of all threads.
    pub(crate) fn time(&self) -> Duration {
        self.times_of(|_| true).running
    }

    fn times_of(&self, counts: impl Fn(&str) -> bool) -> Times {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        let mut sum = Times::default();
        for task in tasks {
            let task = task.unwrap().path();
            let read = |file: &str| std::fs::read_to_string(task.join(file)).unwrap();
            if !counts(read("comm").trim()) {
                continue;
            }
            // Nanoseconds on a processor, nanoseconds of waiting for one, and the number of runs.
            let text = read("schedstat");
            let mut times = text
                .split_ascii_whitespace()
                .map(|number| Duration::from_nanos(number.parse().unwrap()));
            sum.running += times.next().unwrap();
            sum.waiting += times.next().unwrap();
        }
        sum
    }

    /// Resident memory apart from the ring and the program, in KiB.
    pub(crate) fn working_kib(&self) -> u64 {
        working_kib(self.0.id())
    }
}

/// The addresses in a log line that lists the sensors.
fn sensors_in_use(line: &str) -> Option<Vec<IpAddr>> {
    if line.contains("no sensor: there are no usable") {
        return Some(Vec::new());
    }
    let (_, list) = line.split_once("sensors in use: ")?;
    let addresses = list
        .split([',', ' '])
        .filter_map(|word| word.parse::<SocketAddr>().ok());
    let mut addresses: Vec<_> = addresses.map(|address| address.ip()).collect();
    addresses.sort();
    Some(addresses)
}
