//! How tests and commands reach a cluster: kubectl, a client, and what they are used for most.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::cluster::Cluster;
use super::error::{Error, Result};
use super::run::{output_with_input, run, run_with_input};
use crate::Namespace;

impl Cluster {
    /// A program in the network of the cluster: where the API server can be reached, with the caller's
    /// terminal.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Some(namespace) = self.namespace() {
            let namespace = namespace.clone();
            // SAFETY: between fork and exec, or before an exec without fork, the closure makes one
            // system call on a descriptor that was opened before.
            unsafe { command.pre_exec(move || namespace.enter_thread()) };
        }
        command
    }

    /// kubectl as administrator, in the network of the cluster, with the caller's terminal: to be
    /// run, or to become ([`CommandExt::exec`]).
    #[must_use]
    pub fn kubectl_command(&self) -> Command {
        let mut command = self.command(self.kubectl_path());
        command
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.folder().join("kubectl-cache"));
        if let Some(context) = self.context() {
            command.args(["--context", context]);
        }
        command
    }

    /// Runs kubectl as administrator and returns what it printed.
    ///
    /// # Errors
    /// [`Error::Command`] with its standard error when it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.kubectl_command();
        command.args(arguments);
        run(&format!("kubectl {}", arguments.join(" ")), command)
    }

    /// As [`Self::kubectl`], with `input` as its standard input.
    ///
    /// # Errors
    /// As [`Self::kubectl`].
    pub fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = self.kubectl_command();
        command.args(arguments);
        run_with_input(&format!("kubectl {}", arguments.join(" ")), command, input)
    }

    /// As [`Self::kubectl`], with the bytes that it printed: for files that are no text.
    ///
    /// # Errors
    /// As [`Self::kubectl`].
    pub fn kubectl_bytes(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let mut command = self.kubectl_command();
        command.args(arguments);
        output_with_input(&format!("kubectl {}", arguments.join(" ")), command, "")
    }

    /// Applies YAML, as `kubectl apply -f` does.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        self.kubectl_with_input(&["apply", "-f", "-"], yaml)
    }

    /// Deletes what YAML names and waits until it is gone; what is not there is no error.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn delete(&self, yaml: &str) -> Result<String> {
        let arguments = ["delete", "--ignore-not-found", "--wait", "-f", "-"];
        self.kubectl_with_input(&arguments, yaml)
    }

    /// Waits until each of `objects`, such as `pod/web` or `-n shop`, `deployment/web`, has a
    /// condition as `kubectl wait --for` has it: `condition=Ready`, `delete`, or
    /// `jsonpath={.status.phase}=Succeeded`.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub fn wait(&self, condition: &str, objects: &[&str], limit: Duration) -> Result<()> {
        let condition = format!("--for={condition}");
        let timeout = format!("--timeout={}s", limit.as_secs());
        let mut arguments = vec!["wait", &condition, &timeout];
        arguments.extend(objects);
        self.kubectl(&arguments).map(drop)
    }

    /// Runs a program in a container of a pod and returns what it printed. `pod` is its name, or
    /// further arguments of kubectl too: `["-n", "shop", "web", "-c", "podspan"]`.
    ///
    /// # Errors
    /// [`Error::Command`] with its standard error when it fails.
    pub fn exec(&self, pod: &[&str], program: &[&str]) -> Result<String> {
        let arguments = [&["exec"], pod, &["--"], program].concat();
        self.kubectl(&arguments)
    }

    /// What a container of a pod has printed; `pod` as for [`Self::exec`].
    ///
    /// # Errors
    /// When there is no such container, or it has not started.
    pub fn logs(&self, pod: &[&str]) -> Result<String> {
        self.kubectl(&[&["logs"], pod].concat())
    }

    /// Imports an image archive, as `cargo xtask image` writes it, into every node. Pods that use it
    /// need a tag other than `latest`, or `imagePullPolicy: Never`.
    ///
    /// # Errors
    /// [`Error::Archive`] where there is none, [`Error::Command`] where a node refuses it,
    /// [`Error::NoNodes`] where the cluster is given by a kubeconfig.
    pub fn load(&self, archive: &Path) -> Result<()> {
        let path = std::path::absolute(archive)
            .and_then(std::fs::canonicalize)
            .map_err(|error| Error::Archive {
                path: archive.to_owned(),
                reason: error.to_string(),
            })?;
        let mut kind = self.beside_docker(self.kind_path())?;
        kind.args(["load", "image-archive", "--name", self.name()])
            .arg(path);
        run(&format!("loading {}", archive.display()), kind).map(drop)
    }

    /// Runs a program in a node, as root.
    ///
    /// # Errors
    /// [`Error::Command`] with its standard error when it fails, [`Error::NoNodes`] where the cluster is
    /// given by a kubeconfig.
    pub fn exec_in_node(&self, node: &str, program: &[&str]) -> Result<String> {
        let mut docker = self.beside_docker("docker")?;
        docker.args(["exec", node]).args(program);
        run(&format!("running {} in {node}", program.join(" ")), docker)
    }

    /// Runs `work` where the API server can be reached: on a thread in the network namespace of the
    /// cluster, or right here where that is the caller's own.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match self.namespace() {
            Some(namespace) => namespace.run(work),
            None => work(),
        }
    }

    /// A client with the administrator's rights, bound to the tokio runtime it is called in. What it
    /// is used for must run where the API server can be reached: see [`Self::inside`].
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    #[cfg(feature = "kubernetes")]
    pub async fn client(&self) -> Result<kube::Client> {
        use kube::config::{KubeConfigOptions, Kubeconfig};
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let options = KubeConfigOptions {
            context: self.context().map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// The network namespace in which the API server can be reached, where that is not the caller's.
    #[must_use]
    pub fn namespace(&self) -> Option<&Namespace> {
        self.daemon().map(super::docker::Daemon::namespace)
    }
}
