//! A control plane, and a folder with kubectl and the plugin that is the first one of `PATH`.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Failed;
use nix::pty::openpty;
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::kubernetes::{ControlPlane, Options};

pub(crate) type Outcome = Result<(), Failed>;

pub(crate) struct Cluster {
    pub(crate) plane: ControlPlane,
    programs: TempDir,
}

/// What a run of the plugin printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) messages: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// It ended with code 1, and its messages have all of `parts`.
    #[track_caller]
    pub(crate) fn failed(self, parts: &[&str]) -> Self {
        assert_eq!(self.code, Some(1), "{self:?}");
        for part in parts {
            assert!(self.messages.contains(part), "no {part:?}: {self:#?}");
        }
        self
    }
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let plane = ControlPlane::start(Options::default()).expect("a control plane");
        let programs = tempfile::tempdir().expect("a folder");
        let link =
            |from: &Path, name: &str| symlink(from, programs.path().join(name)).expect("a link");
        link(&plane.kubectl_program(), "kubectl");
        link(
            Path::new(env!("CARGO_BIN_EXE_kubectl-podspan")),
            "kubectl-podspan",
        );
        Self { plane, programs }
    }

    /// `kubectl podspan` in a namespace, or with an empty one without the option, without a terminal.
    pub(crate) fn podspan(&self, namespace: &str, arguments: &[&str]) -> Ran {
        let command = self.command(&[self.programs.path()], namespace, arguments);
        ran(command, Stdio::null())
    }

    /// The same with a script in the place of kubectl: `$KUBECTL` is the real one.
    pub(crate) fn podspan_with(&self, script: &str, namespace: &str, arguments: &[&str]) -> Ran {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kubectl");
        fs::write(&path, script).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        let mut command =
            self.command(&[folder.path(), self.programs.path()], namespace, arguments);
        command.env("KUBECTL", self.plane.kubectl_program());
        command.env("FOLDER", folder.path());
        ran(command, Stdio::null())
    }

    /// The same on a terminal, on which `answer` is typed: the messages are what the terminal shows.
    pub(crate) fn podspan_on_terminal(
        &self,
        answer: &str,
        namespace: &str,
        arguments: &[&str],
    ) -> Ran {
        let terminal = openpty(None, None).expect("a terminal");
        let mut command = self.command(&[self.programs.path()], namespace, arguments);
        let mut master = File::from(terminal.master);
        master.write_all(answer.as_bytes()).expect("typing");
        let slave = || Stdio::from(terminal.slave.try_clone().expect("a terminal"));
        command.stdin(slave()).stdout(slave()).stderr(slave());
        let mut child = command.spawn().expect("kubectl");
        // The terminal ends with the last program that has it open.
        drop((command, terminal.slave));
        let mut shown = Vec::new();
        // Its end is an error of the master (EIO).
        let _ = master.read_to_end(&mut shown);
        Ran {
            code: child.wait().expect("an end").code(),
            output: String::new(),
            messages: String::from_utf8_lossy(&shown).into_owned(),
        }
    }

    fn command(&self, folders: &[&Path], namespace: &str, arguments: &[&str]) -> Command {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = folders.iter().map(|folder| folder.to_path_buf());
        let path = env::join_paths(folders.chain(env::split_paths(&path))).expect("a PATH");
        let mut command = Command::new(self.plane.kubectl_program());
        command.arg("podspan").args(arguments);
        if !namespace.is_empty() {
            command.args(["--namespace", namespace]);
        }
        let cache: OsString = self.plane.folder().join("kubectl-cache").into();
        command
            .env("PATH", path)
            .env("KUBECONFIG", self.plane.admin_kubeconfig())
            .env("KUBECACHEDIR", cache)
            .env_remove("NO_COLOR");
        command
    }

    pub(crate) fn namespace(&self, name: &str) -> Outcome {
        Ok(self.plane.create_namespace(name)?)
    }

    pub(crate) fn read(&self, namespace: &str, object: &str) -> Result<Value, Failed> {
        let of = format!("--namespace={namespace}");
        let text = self.plane.kubectl(["get", object, &of, "--output=json"])?;
        Ok(serde_json::from_str(&text)?)
    }

    pub(crate) fn deploy(&self, namespace: &str, name: &str) -> Outcome {
        Ok(self.plane.apply(&deployment(namespace, name))?)
    }
}

fn ran(mut command: Command, stdin: Stdio) -> Ran {
    let output = command.stdin(stdin).output().expect("kubectl runs");
    Ran {
        code: output.status.code(),
        output: String::from_utf8(output.stdout).expect("text"),
        messages: String::from_utf8(output.stderr).expect("text"),
    }
}

/// The template of a pod with an init container, which removal must leave as it is.
pub(crate) fn template(name: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": name}, "annotations": {"podspan.dev/sensor": "zeek"}},
        "spec": {
            "initContainers": [{"name": "prepare", "image": "a.example/prepare:1"}],
            "containers": [{"name": "web", "image": "a.example/web:1", "ports": [{"containerPort": 80}]}],
        },
    })
}

pub(crate) fn deployment(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name)},
    })
}

/// What `inject` makes of a template.
pub(crate) fn injected(template: &Value) -> Value {
    inject::inject(template, &settings::injection()).expect("it can be injected")
}
