//! The commands and their options. The texts here are `--help` and `docs/kubectl.md`.

#![expect(clippy::doc_markdown, reason = "these texts are printed on terminals")]

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Mirrors the traffic of pods to network sensors.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-podspan",
    bin_name = "kubectl podspan",
    version,
    arg_required_else_help = true
)]
pub struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add podspan's sidecar to the pods of a YAML or JSON stream
    ///
    /// Prints the stream with podspan's container in each Deployment, StatefulSet, DaemonSet, ReplicaSet, Job,
    /// CronJob, Pod, Argo Rollout, and in those within a List. Everything else stays as it is, comments too. A
    /// second injection changes nothing, and `uninject` returns the input byte for byte. If one object cannot
    /// be injected, nothing is printed but the reasons.
    ///
    /// Annotations podspan.dev/* of the pods set podspan's settings, for example podspan.dev/sensor: zeek.
    Inject(InjectArguments),
    /// Remove podspan's sidecar from the pods of a YAML or JSON stream
    Uninject(Files),
    /// Print the version, and the image that is injected
    Version,
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Print docs/kubectl.md
    #[command(hide = true)]
    Markdown,
}

#[derive(Debug, Args)]
pub(crate) struct InjectArguments {
    #[command(flatten)]
    pub(crate) files: Files,
    /// podspan's image
    #[arg(long, default_value = inject::IMAGE)]
    pub(crate) image: String,
    /// Where the container is
    #[arg(long, value_enum, default_value_t = Place::Native)]
    pub(crate) place: Place,
    /// The user and the capabilities of the container
    #[arg(long, value_enum, default_value_t = SecurityLevel::Added)]
    pub(crate) security: SecurityLevel,
    /// A setting for the pods that have no annotation podspan.dev/NAME, for example sensor=zeek; can be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = default)]
    pub(crate) defaults: Vec<(String, String)>,
    /// Remove the sidecar, as `uninject` does
    #[arg(long)]
    pub(crate) remove: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Files {
    /// The file to read; - is the standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) file: String,
    /// Print no line for each object on the standard error
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Place {
    /// First of the init containers, as a native sidecar: Kubernetes 1.29 and newer
    Native,
    /// Last of the containers, for older clusters; not for Jobs, which would not end
    Plain,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SecurityLevel {
    /// An unprivileged user with NET_RAW added; Pod Security level privileged
    Added,
    /// An unprivileged user with the NET_RAW that containerd grants; Pod Security level baseline
    Baseline,
    /// Root in its container with NET_RAW only; for runtimes without file capabilities
    Root,
}

/// Name and value of a default.
fn default(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text
        .split_once('=')
        .ok_or("it has no =; for example sensor=zeek")?;
    Ok((name.to_owned(), value.to_owned()))
}
