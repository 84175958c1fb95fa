//! Making, finding and ending a cluster.
//!
//! ```text
//!   nothing --up: state file (not ready)--> being made --state file (ready)--> ready
//!      ^                                        |                                |
//!      '---------------- down ------------------+--------------------------------'
//! ```
//!
//! `up` on a ready cluster that answers does nothing. On anything else that is there, it does what
//! `down` does first. A lock on a file keeps two commands apart.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use nix::sys::inotify::{InitFlags, Inotify};
use nix::unistd::geteuid;

use super::docker::{self, Daemon};
use super::error::{Error, Result};
use super::folder::{control_group_of, folder_of, kubeconfig_in, lock};
use super::programs::{self, KIND};
use super::run::{make_folder, remove, run, run_with_log, write};
use super::stages::{Stages, seconds};
use super::state::{Source, State};
use super::{config, node_image, ready};
use crate::programs::KUBECTL;

/// What systemd, containerd and the kubelet of a node take, each pod sandbox included.
const INOTIFY_INSTANCES: usize = 18;

/// Which of the two ways is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// The published node image where it can be had, else the own one.
    #[default]
    Auto,
    /// The published one or none.
    Published,
    /// The own one or none.
    Own,
}

/// Which cluster to make.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name; also the beginning of the nodes' names.
    pub name: String,
    /// How many nodes there are in addition to the control plane.
    pub workers: u32,
    /// Where the nodes come from.
    pub choice: Choice,
}

impl Options {
    /// The name that is used where none is given.
    pub const NAME: &str = "podspan";
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: Self::NAME.to_owned(),
            workers: 2,
            choice: Choice::Auto,
        }
    }
}

/// A cluster that is up. Dropping it leaves it up: [`down`] ends it.
#[derive(Debug)]
pub struct Cluster {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) state: State,
    pub(super) daemon: Option<Daemon>,
    pub(super) kind: PathBuf,
    pub(super) kubectl: PathBuf,
    pub(super) kubeconfig: PathBuf,
    pub(super) context: Option<String>,
}

/// Makes a cluster, or finds that it is there, and returns when its nodes are Ready, names resolve on
/// each of them and pods reach each other: half a minute when everything is built.
///
/// # Errors
/// [`Error::NotRoot`] and [`Error::Missing`] say what to do; the others name what failed.
pub fn up(options: &Options, stages: &mut Stages<'_>) -> Result<Cluster> {
    let begin = Instant::now();
    let folder = folder_of(&options.name)?;
    make_folder(&folder)?;
    let _lock = lock(&folder, stages)?;
    if let Some(cluster) = find(&options.name, &folder)? {
        if cluster.answers() {
            stages.report(&format!("cluster {} is up already", options.name));
            return Ok(cluster);
        }
        stages.report("the cluster does not answer: making it again");
    }
    remove_cluster(&options.name, &folder, stages)?;
    let cluster = match options.choice {
        Choice::Own => own(options, &folder, stages, "--own was given")?,
        Choice::Published => {
            docker_answers().map_err(|reason| Error::NoDocker { reason })?;
            published(options, &folder, stages)?
        }
        Choice::Auto => auto(options, &folder, stages)?,
    };
    stages.report(&format!(
        "cluster {} is up after {}",
        options.name,
        seconds(begin.elapsed())
    ));
    Ok(cluster)
}

/// The cluster of this name, where it is up.
///
/// # Errors
/// [`Error::Down`] where it is not.
pub fn adopt(name: &str) -> Result<Cluster> {
    let folder = folder_of(name)?;
    find(name, &folder)?.ok_or_else(|| Error::Down {
        name: name.to_owned(),
    })
}

/// Ends the cluster of this name, in whatever state it is, and what a killed [`up`] has left of it.
///
/// # Errors
/// Where something cannot be removed.
pub fn down(name: &str, stages: &mut Stages<'_>) -> Result<()> {
    let folder = folder_of(name)?;
    if !folder.is_dir() {
        return Ok(());
    }
    let _lock = lock(&folder, stages)?;
    remove_cluster(name, &folder, stages)
}

impl Cluster {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of its nodes, those with a control plane first.
    #[must_use]
    pub fn nodes(&self) -> &[String] {
        &self.state.nodes
    }

    /// Where its nodes come from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.state.source
    }

    /// The folder with its state and logs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The kubeconfig of its administrator. With [`Source::Own`] its address can be used in the
    /// cluster's network namespace only.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone()
    }

    /// The kubeconfig's context, where it is not the current one.
    pub(super) fn context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    pub(super) fn daemon(&self) -> Option<&Daemon> {
        self.daemon.as_ref()
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn kubectl_path(&self) -> &Path {
        &self.kubectl
    }

    pub(super) fn kind_path(&self) -> &Path {
        &self.kind
    }

    /// A command that speaks with the Docker of the nodes.
    ///
    /// # Errors
    /// [`Error::NoNodes`] with [`Source::Given`].
    pub(super) fn beside_docker(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        match (&self.daemon, self.source()) {
            (_, Source::Given) => Err(Error::NoNodes),
            (Some(daemon), _) => Ok(daemon.command(program)),
            (None, _) => Ok(Command::new(program)),
        }
    }

    /// Whether the API server says that it is ready.
    fn answers(&self) -> bool {
        self.kubectl(&["get", "--raw=/readyz", "--request-timeout=5s"])
            .is_ok()
    }

    /// Runs `kind create cluster` and waits until the cluster can be used.
    fn create(
        mut self,
        workers: u32,
        image: Option<&str>,
        stages: &mut Stages<'_>,
    ) -> Result<Self> {
        let file = self.folder.join("kind.yaml");
        write(
            &file,
            config::render(&self.name, workers, self.source()),
            0o644,
        )?;
        let log = self.folder.join("kind.log");
        remove(&log)?;
        remove(&self.kubeconfig())?;
        stages.stage("kind create cluster", || {
            let mut kind = self.beside_docker(&self.kind)?;
            kind.args(["create", "cluster", "--retain", "--wait", "3m"])
                .args(["--name", &self.name, "--config"])
                .arg(&file)
                .arg("--kubeconfig")
                .arg(self.kubeconfig());
            if let Some(image) = image {
                kind.args(["--image", image]);
            }
            run_with_log("kind create cluster", kind, &log)
        })?;
        stages.stage("nodes, names and routes", || ready::wait(&self))?;
        self.state.ready = true;
        self.state.write(&self.folder)?;
        Ok(self)
    }
}

/// The published image, or else the own one.
fn auto(options: &Options, folder: &Path, stages: &mut Stages<'_>) -> Result<Cluster> {
    let why = match docker_answers() {
        Err(reason) => format!("no Docker daemon can be used ({reason})"),
        Ok(()) => match published(options, folder, stages) {
            Err(Error::Command { output, .. }) if output.contains("failed to pull image") => {
                remove_cluster(&options.name, folder, stages)?;
                "the published node image cannot be pulled".to_owned()
            }
            other => return other,
        },
    };
    stages.report(&format!("{why}: making one here"));
    own(options, folder, stages, &why)
}

/// The cluster in the user's Docker.
fn published(options: &Options, folder: &Path, stages: &mut Stages<'_>) -> Result<Cluster> {
    let kind = on_path_or_built(KIND)?;
    let mut list = Command::new(&kind);
    list.args(["get", "clusters"]);
    let there = run("asking kind for its clusters", list)?;
    if there.lines().any(|name| name == options.name) {
        return Err(Error::Foreign {
            name: options.name.clone(),
        });
    }
    let state = State::new(
        Source::Published,
        config::nodes(&options.name, options.workers),
    );
    state.write(folder)?;
    let cluster = Cluster {
        name: options.name.clone(),
        folder: folder.to_owned(),
        state,
        daemon: None,
        kind,
        kubectl: on_path_or_built(KUBECTL)?,
        kubeconfig: kubeconfig_in(folder),
        context: None,
    };
    cluster.create(options.workers, None, stages)
}

/// The cluster in a Docker daemon of its own.
fn own(options: &Options, folder: &Path, stages: &mut Stages<'_>, why: &str) -> Result<Cluster> {
    if !geteuid().is_root() {
        return Err(Error::NotRoot {
            why: why.to_owned(),
        });
    }
    let build_runc = !programs::runc_is_built()?;
    for (program, package, needed) in [
        ("dockerd", "docker.io", true),
        ("debootstrap", "debootstrap", true),
        ("iptables", "iptables", true),
        ("cc", "gcc", true),
        ("pkg-config", "pkg-config", build_runc),
        ("/usr/include/seccomp.h", "libseccomp-dev", build_runc),
    ] {
        if needed && on_path(program).is_none() {
            return Err(Error::Missing { program, package });
        }
    }
    check_inotify(options.workers + 1, || {
        Inotify::init(InitFlags::IN_CLOEXEC).ok()
    })?;
    let image = node_image::find(stages)?;
    let state = State::new(Source::Own, config::nodes(&options.name, options.workers));
    state.write(folder)?;
    let daemon = stages.stage("a private Docker daemon", || {
        Daemon::start(folder, &control_group_of(folder))
    })?;
    stages.stage("the node image in it", || daemon.import(&image))?;
    let cluster = Cluster {
        name: options.name.clone(),
        folder: folder.to_owned(),
        state,
        daemon: Some(daemon),
        kind: programs::path(KIND)?,
        kubectl: programs::path(KUBECTL)?,
        kubeconfig: kubeconfig_in(folder),
        context: None,
    };
    cluster.create(options.workers, Some(&image.reference), stages)
}

/// Fails where the nodes would run out of inotify instances, which the kernel counts for each user:
/// without them a kubelet does not become Ready, and only its log says why. `take` takes one more:
/// having them is the only way to ask.
fn check_inotify<T>(nodes: u32, take: impl FnMut() -> Option<T>) -> Result<()> {
    let wanted = INOTIFY_INSTANCES * usize::try_from(nodes).unwrap_or(usize::MAX);
    let taken: Vec<T> = std::iter::repeat_with(take)
        .take(wanted)
        .map_while(|taken| taken)
        .collect();
    if taken.len() == wanted {
        return Ok(());
    }
    Err(Error::Inotify {
        wanted,
        free: taken.len(),
    })
}

/// The cluster in `folder`, where `up` came to its end and its daemon runs.
fn find(name: &str, folder: &Path) -> Result<Option<Cluster>> {
    let Some(state) = State::read(folder)?.filter(|state| state.ready) else {
        return Ok(None);
    };
    let (daemon, kind, kubectl) = match state.source {
        Source::Own => match Daemon::find(folder)? {
            None => return Ok(None),
            daemon => (daemon, programs::path(KIND)?, programs::path(KUBECTL)?),
        },
        Source::Published => (None, on_path_or_built(KIND)?, on_path_or_built(KUBECTL)?),
        // It has no folder.
        Source::Given => return Ok(None),
    };
    Ok(Some(Cluster {
        name: name.to_owned(),
        folder: folder.to_owned(),
        state,
        daemon,
        kind,
        kubectl,
        kubeconfig: kubeconfig_in(folder),
        context: None,
    }))
}

/// Removes the cluster in `folder`, whatever is there of it. Caches stay.
fn remove_cluster(name: &str, folder: &Path, stages: &mut Stages<'_>) -> Result<()> {
    let group = control_group_of(folder);
    let Some(state) = State::read(folder)? else {
        // There is no more than what a killed command left before or after its state was there.
        return docker::kill(folder, &group);
    };
    stages.stage(&format!("removing cluster {name}"), || {
        match state.source {
            Source::Published => {
                let mut kind = Command::new(on_path_or_built(KIND)?);
                kind.args(["delete", "cluster", "--name", name, "--kubeconfig"])
                    .arg(kubeconfig_in(folder));
                run("kind delete cluster", kind)?;
            }
            Source::Own => {
                // In order where it can be, so that the node image need not be imported again.
                // Whatever is wrong with the daemon, the kernel ends it.
                if state.ready
                    && let Some(daemon) = Daemon::find(folder)?
                {
                    let _ = daemon.stop();
                }
                docker::kill(folder, &group)?;
            }
            Source::Given => {}
        }
        for file in ["kubeconfig", "kubectl-cache", "docker-config"] {
            remove(&folder.join(file))?;
        }
        State::forget(folder)
    })
}

/// Whether the user's own Docker can be used, or why not.
fn docker_answers() -> Result<(), String> {
    if on_path("docker").is_none() {
        return Err("docker is not installed".to_owned());
    }
    let mut docker = Command::new("timeout");
    docker.args(["20", "docker", "info", "--format", "{{.ServerVersion}}"]);
    match run("docker info", docker) {
        Ok(_) => Ok(()),
        Err(Error::Command { output, .. }) => {
            Err(output.lines().last().unwrap_or("no answer").to_owned())
        }
        Err(other) => Err(other.to_string()),
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

pub(super) fn on_path_or_built(program: crate::programs::Program) -> Result<PathBuf> {
    on_path(program.name).map_or_else(|| programs::path(program), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_inotify_instances_are_told_before_anything_is_made() {
        let mut left = 40;
        let mut take = || {
            left -= 1;
            (left >= 0).then_some(())
        };
        check_inotify(1, &mut take).unwrap();
        let error = check_inotify(2, &mut take).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Inotify {
                    wanted: 36,
                    free: 22
                }
            ),
            "{error}"
        );
    }
}
