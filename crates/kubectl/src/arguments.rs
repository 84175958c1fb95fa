//! The commands and their options. The texts here are `--help` and `docs/kubectl.md`.

#![expect(clippy::doc_markdown, reason = "these texts are printed on terminals")]

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use inject::SecretName;
use settings::{Namespace, ObjectName, Value as _};

use crate::connection::Connection;
use crate::manifests::{Name, Scope, Version};
use crate::results::Format;
use crate::secrets::Form;

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
    /// Add podspan's sidecar to the pods of a YAML or JSON stream, or of objects in the cluster
    ///
    /// With -f: prints the stream with podspan's container in each Deployment, StatefulSet, DaemonSet, ReplicaSet, Job,
    /// CronJob, Pod, Argo Rollout, and in those within a List. Everything else stays as it is, comments too. A
    /// second injection changes nothing, and `uninject` returns the input byte for byte. If one object cannot
    /// be injected, nothing is printed but the reasons.
    ///
    /// With the names of objects, such as deploy/web, or deploy -l app=web: shows the change as a diff that the
    /// API server has checked, asks, and changes the objects. If one of them cannot be injected, none is
    /// changed.
    ///
    /// Annotations podspan.dev/* of the pods set podspan's settings, for example podspan.dev/sensor: zeek.
    Inject(InjectArguments),
    /// Remove podspan's sidecar from the pods of a YAML or JSON stream, or of objects in the cluster
    Uninject(UninjectArguments),
    /// Print podspan's objects for a cluster, for kubectl apply
    ///
    /// The version of Kubernetes and the versions of its API decide what is printed: those of the cluster that
    /// kubectl talks to, or those of --kubernetes-version.
    Manifests(ManifestsArguments),
    /// Print the keys of encrypted copies as Secrets, for kubectl create and kubectl replace
    ///
    /// Without -f: new keys. One Secret is for podspan-receive beside the sensor, the others are for podspans, one
    /// in each namespace of -n.
    ///
    /// With -f: the Secret of podspan-receive is read, as kubectl get -o yaml prints it. What is printed are the
    /// Secrets for podspans that fit it, with its newest pre-shared key; or with --rotate and --finish that Secret
    /// itself, with a second pre-shared key and without the older one.
    Keys(KeysArguments),
    /// Print the version, and the image that is injected
    Version {
        /// A document, or a table
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
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
    #[command(flatten)]
    pub(crate) defaults: Defaults,
    /// Remove the sidecar, as `uninject` does
    #[arg(long)]
    pub(crate) remove: bool,
    #[command(flatten)]
    pub(crate) live: Live,
}

#[derive(Debug, Args)]
pub(crate) struct UninjectArguments {
    #[command(flatten)]
    pub(crate) files: Files,
    #[command(flatten)]
    pub(crate) live: Live,
}

#[derive(Debug, Args)]
pub(crate) struct Files {
    /// The file to read; - is the standard input
    #[arg(
        short = 'f',
        long = "filename",
        value_name = "FILE",
        required_unless_present = "objects",
        conflicts_with = "objects"
    )]
    pub(crate) file: Option<String>,
    /// Print no line for each object on the standard error
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ManifestsArguments {
    /// What is printed
    #[arg(value_enum)]
    pub(crate) name: Name,
    /// Do not ask the cluster: print what fits this version, such as 1.35
    #[arg(long, value_name = "VERSION")]
    pub(crate) kubernetes_version: Option<Version>,
    /// podspan's image
    #[arg(long)]
    pub(crate) image: Option<String>,
    #[command(flatten)]
    pub(crate) defaults: Defaults,
    /// Of rbac: the namespaces in which podspan may search for sensors
    #[arg(long, value_enum, default_value_t = Scope::Own)]
    pub(crate) scope: Scope,
    /// Of rbac: the service account of the pods
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) service_account: String,
    /// Of rbac with --scope other: the namespace of the sensors
    #[arg(long, value_name = "NAME", default_value = "sensors")]
    pub(crate) sensor_namespace: String,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

#[derive(Debug, Args)]
pub(crate) struct KeysArguments {
    /// The file with the Secret of podspan-receive; - is the standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) file: Option<String>,
    /// Print the Secret of podspan-receive with a new pre-shared key in addition
    #[arg(long, requires = "file", conflicts_with_all = ["finish", "namespaces", "name"])]
    pub(crate) rotate: bool,
    /// Print the Secret of podspan-receive without the older pre-shared key
    #[arg(long, requires = "file", conflicts_with_all = ["namespaces", "name"])]
    pub(crate) finish: bool,
    /// A namespace of podspans; can be repeated. Without it, the Secret has none, and kubectl chooses
    #[arg(short, long = "namespace", value_name = "NAME", value_parser = Namespace::parse)]
    pub(crate) namespaces: Vec<Namespace>,
    /// The name of the Secret for podspans
    #[arg(long, value_name = "NAME", value_parser = ObjectName::parse, default_value = "podspan-tunnel")]
    pub(crate) name: ObjectName,
    /// The namespace of podspan-receive
    #[arg(long, value_name = "NAME", value_parser = Namespace::parse, conflicts_with = "file")]
    pub(crate) sensor_namespace: Option<Namespace>,
    /// The name of the Secret for podspan-receive
    #[arg(
        long,
        value_name = "NAME",
        value_parser = ObjectName::parse,
        default_value = "podspan-receive",
        conflicts_with = "file"
    )]
    pub(crate) sensor_name: ObjectName,
    /// The form of the Secrets
    #[arg(short, long, value_enum, default_value_t = Form::Yaml)]
    pub(crate) output: Form,
    /// Print nothing on the standard error but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// What applies to the pods that have no annotation for it.
#[derive(Debug, Args)]
pub(crate) struct Defaults {
    /// A setting for the pods that have no annotation podspan.dev/NAME, for example sensor=zeek; can be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    pub(crate) settings: Vec<(String, String)>,
    /// The Secret with the keys of encrypted tunnels, for the pods that have no annotation podspan.dev/tunnel-secret
    #[arg(long, value_name = "NAME")]
    pub(crate) tunnel_secret: Option<SecretName>,
}

impl Defaults {
    /// Names and values.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        let secret = self.tunnel_secret.iter();
        let secret = secret.map(|secret| ("tunnel-secret".to_owned(), secret.to_string()));
        self.settings.iter().cloned().chain(secret).collect()
    }
}

/// Name and value of a setting.
fn setting(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text
        .split_once('=')
        .ok_or("it has no =; for example sensor=zeek")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Objects of the cluster, and how they are changed.
#[derive(Debug, Args)]
pub(crate) struct Live {
    /// Objects of the cluster, as in kubectl get: deploy/web sts/db, or deploy web, or deploy -l app=web
    #[arg(value_name = "TYPE/NAME")]
    pub(crate) objects: Vec<String>,
    /// Change the objects with these labels
    #[arg(short = 'l', long, value_name = "LABELS", requires = "objects")]
    pub(crate) selector: Option<String>,
    /// Change the objects with these fields
    #[arg(long, value_name = "FIELDS", requires = "objects")]
    pub(crate) field_selector: Option<String>,
    /// Change the objects of all namespaces but those that the cluster depends on
    #[arg(short = 'A', long, requires = "objects", conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// Change the objects without a question
    #[arg(short, long, requires = "objects")]
    pub(crate) yes: bool,
    /// Show the changes and make none
    #[arg(long, value_enum, default_value_t = DryRun::None, requires = "objects")]
    pub(crate) dry_run: DryRun,
    /// Print the results on the standard output, and the diffs on the standard error
    #[arg(short, long, value_enum, requires = "objects")]
    pub(crate) output: Option<Format>,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DryRun {
    /// Make the changes
    None,
    /// The API server checks the changes and completes the objects
    Server,
    /// Only read the objects
    Client,
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
