//! Programs that are built from Go modules: Kubernetes, etcd, helm, wireguard-go, and what a kind node consists of.
//!
//! Each [`Program`] is built once, into
//!
//! ```text
//!   <cargo's target folder>/testbed-programs/<name>-<digest>/<name>
//! ```
//!
//! where the digest covers the files of the Go module, the Go version and the build's arguments. So
//! a change of one module builds again what comes from this module and nothing else. The program is
//! there only when it is complete: it is built under another name and then renamed. A lock on a file
//! next to it makes parallel tests wait for one build.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::contained;

/// This crate's folder.
pub(crate) const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// A failure to build a program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no usable Go.
    #[error(
        "{name} is needed and could not be built: {reason}. Install Go 1.26 or newer (or 1.21, \
         which downloads it unless GOTOOLCHAIN=local){}",
        if *.given { ", or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, \
         kube-controller-manager and kubectl" } else { "" }
    )]
    NoGo {
        /// The program.
        name: &'static str,
        /// Whether `KUBEBUILDER_ASSETS` could give it.
        given: bool,
        /// What running `go` said.
        reason: String,
    },
    /// `go build` failed.
    #[error("building {package} in {module:?} failed:\n{output}")]
    Build {
        /// The Go package that was built.
        package: &'static str,
        /// The folder of its go.mod.
        module: PathBuf,
        /// What `go build` said.
        output: String,
    },
    /// A file or folder could not be made or read.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted, with the path.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
}

impl Error {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// One program: its name, its package, the module that builds it, and the build's arguments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// `.` where the module has the source itself.
    pub(crate) package: &'static str,
    /// The folder of go.mod in this crate.
    pub(crate) module: &'static str,
    pub(crate) ldflags: &'static str,
    pub(crate) tags: &'static str,
    /// Whether it is linked, statically, with a library in C.
    pub(crate) cgo: bool,
}

/// Without a version in it the API server calls itself v0.0.0-master.
const KUBERNETES_LDFLAGS: &str = "-s -w \
     -X k8s.io/component-base/version.gitVersion=v1.36.3 \
     -X k8s.io/component-base/version.gitMajor=1 \
     -X k8s.io/component-base/version.gitMinor=36";

pub(crate) const ETCD: Program =
    Program::new("etcd", "go.etcd.io/etcd/server/v3", "kubernetes/etcd");
pub(crate) const KUBE_APISERVER: Program =
    Program::kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver");
pub(crate) const KUBE_CONTROLLER_MANAGER: Program = Program::kubernetes(
    "kube-controller-manager",
    "k8s.io/kubernetes/cmd/kube-controller-manager",
);
pub(crate) const KUBECTL: Program = Program::kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl");
const HELM: Program = Program::new("helm", "helm.sh/helm/v4/cmd/helm", "kubernetes/helm");
/// What the control plane of the tests consists of.
pub(crate) const CONTROL_PLANE: [Program; 4] =
    [ETCD, KUBE_APISERVER, KUBE_CONTROLLER_MANAGER, KUBECTL];

/// A release of Kubernetes whose API server the tests can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Release {
    /// 1.34.
    V1_34,
    /// 1.35.
    V1_35,
    /// 1.36, of which all other programs are too.
    #[default]
    V1_36,
}

impl Release {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V1_34, Self::V1_35, Self::V1_36];

    /// Its name, such as `1.36`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V1_34 => "1.34",
            Self::V1_35 => "1.35",
            Self::V1_36 => "1.36",
        }
    }

    /// Its API server.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn api_server(self) -> Program {
        let (module, ldflags) = match self {
            Self::V1_34 => (
                "kubernetes/v1.34",
                "-s -w \
                 -X k8s.io/component-base/version.gitVersion=v1.34.4 \
                 -X k8s.io/component-base/version.gitMajor=1 \
                 -X k8s.io/component-base/version.gitMinor=34",
            ),
            Self::V1_35 => (
                "kubernetes/v1.35",
                "-s -w \
                 -X k8s.io/component-base/version.gitVersion=v1.35.4 \
                 -X k8s.io/component-base/version.gitMajor=1 \
                 -X k8s.io/component-base/version.gitMinor=35",
            ),
            Self::V1_36 => return KUBE_APISERVER,
        };
        Program {
            module,
            ldflags,
            ..KUBE_APISERVER
        }
    }
}

/// Builds what the control plane of the tests consists of, for those who start tests: the first test
/// that needs it would build it too, but on the processors of this test alone.
///
/// # Errors
/// [`Error::NoGo`] and [`Error::Build`] where building fails.
pub fn build_control_plane() -> Result<(), Error> {
    for program in CONTROL_PLANE {
        program.find()?;
    }
    Ok(())
}

/// Builds helm if it is not there.
///
/// # Errors
/// As [`build_control_plane`].
pub fn build_helm() -> Result<(), Error> {
    HELM.find().map(drop)
}

/// helm, which reads and writes below `home` only, and knows no cluster. It is built if it is not there.
///
/// # Errors
/// As [`build_control_plane`].
pub fn helm(home: &Path) -> Result<Command, Error> {
    let mut helm = Command::new(HELM.find()?);
    for variable in [
        "HOME",
        "HELM_CACHE_HOME",
        "HELM_CONFIG_HOME",
        "HELM_DATA_HOME",
    ] {
        helm.env(variable, home);
    }
    helm.env("KUBECONFIG", home.join("none"));
    Ok(helm)
}

/// The path of kubectl. It is built if it is not there.
///
/// # Errors
/// As [`build_control_plane`].
pub fn kubectl() -> Result<PathBuf, Error> {
    KUBECTL.find()
}

impl Program {
    /// A program in pure Go.
    pub(crate) const fn new(
        name: &'static str,
        package: &'static str,
        module: &'static str,
    ) -> Self {
        Self {
            name,
            package,
            module,
            ldflags: "-s -w",
            tags: "",
            cgo: false,
        }
    }

    /// A program of Kubernetes.
    pub(crate) const fn kubernetes(name: &'static str, package: &'static str) -> Self {
        Self {
            ldflags: KUBERNETES_LDFLAGS,
            ..Self::new(name, package, "kubernetes")
        }
    }

    /// Whether it is built.
    #[cfg(feature = "kind")]
    pub(crate) fn is_built(&self) -> Result<bool, Error> {
        Ok(self.folder()?.join(self.name).is_file())
    }

    /// Its path. It is built if it is not there: up to some minutes, once.
    pub(crate) fn find(&self) -> Result<PathBuf, Error> {
        let folder = self.folder()?;
        let path = folder.join(self.name);
        if path.is_file() {
            return Ok(path);
        }
        let describe = || format!("preparing {}", folder.display());
        fs::create_dir_all(&folder).map_err(Error::io(describe()))?;
        // Released when the file is closed, also by a process that is killed.
        let lock = File::create(folder.join("lock")).map_err(Error::io(describe()))?;
        lock.lock().map_err(Error::io(describe()))?;
        if !path.is_file() {
            let partial = folder.join("partial");
            // What a killed build has left.
            match fs::remove_dir_all(&partial) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io(describe())(error));
                }
                _ => {}
            }
            fs::create_dir_all(&partial).map_err(Error::io(describe()))?;
            self.build(&partial)?;
            fs::rename(partial.join(self.name), &path).map_err(Error::io(describe()))?;
            fs::remove_dir_all(&partial).map_err(Error::io(describe()))?;
        }
        Ok(path)
    }

    /// What decides the contents of the program: the name of its folder ends with it.
    pub(crate) fn digest(&self) -> Result<String, Error> {
        let mut hash = Sha256::new();
        hash.update(self.go_version()?);
        for argument in [self.package, self.ldflags, self.tags] {
            hash.update(argument);
            hash.update([0, u8::from(self.cgo)]);
        }
        let module = module_folder(self.module);
        let describe = || format!("reading {}", module.display());
        let mut files: Vec<PathBuf> = fs::read_dir(&module)
            .map_err(Error::io(describe()))?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()
            .map_err(Error::io(describe()))?;
        files.retain(|path| path.is_file());
        files.sort();
        for path in files {
            hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
            hash.update(fs::read(&path).map_err(Error::io(describe()))?);
        }
        Ok(short(&hash.finalize()))
    }

    fn folder(&self) -> Result<PathBuf, Error> {
        let folder = format!("{}-{}", self.name, self.digest()?);
        Ok(target_folder().join("testbed-programs").join(folder))
    }

    fn build(&self, folder: &Path) -> Result<(), Error> {
        eprintln!("building {} (once; minutes on a small machine)", self.name);
        let begin = Instant::now();
        let module = module_folder(self.module);
        let program = folder.join(self.name);
        let mut go = go(&module);
        go.args(["build", "-trimpath", "-buildvcs=false", "-tags", self.tags])
            .args(["-ldflags", self.ldflags, "-o"])
            .arg(&program)
            .arg(self.package)
            .env("CGO_ENABLED", if self.cgo { "1" } else { "0" })
            // What a killed build leaves stays below the target folder.
            .env("GOTMPDIR", folder);
        let output = self.output(go)?;
        if !output.status.success() {
            let output = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::Build {
                package: self.package,
                module,
                output,
            });
        }
        let size = fs::metadata(&program).map_or(0, |metadata| metadata.len());
        eprintln!(
            "built {} in {:.1} s, {} MB",
            self.name,
            begin.elapsed().as_secs_f64(),
            size / 1_000_000
        );
        Ok(())
    }

    /// The version of Go that will build; an older Go fetches the one that go.mod asks for, if it
    /// can. One question for each process is enough: all modules ask for nearly the same.
    fn go_version(&self) -> Result<String, Error> {
        static VERSION: OnceLock<String> = OnceLock::new();
        if let Some(version) = VERSION.get() {
            return Ok(version.clone());
        }
        let mut go = go(&module_folder("kubernetes"));
        go.args(["env", "GOVERSION", "GOOS", "GOARCH"]);
        let output = self.output(go)?;
        if !output.status.success() {
            return Err(self.no_go(String::from_utf8_lossy(&output.stderr).trim()));
        }
        let version = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(VERSION.get_or_init(|| version).clone())
    }

    fn output(&self, go: Command) -> Result<Output, Error> {
        contained::output(go).map_err(|error| self.no_go(&format!("go: {error}")))
    }

    fn no_go(&self, reason: &str) -> Error {
        Error::NoGo {
            name: self.name,
            given: cfg!(feature = "kubernetes")
                && CONTROL_PLANE.iter().any(|given| given.name == self.name),
            reason: reason.to_owned(),
        }
    }
}

/// The folder of a Go module that one of podspan's requires, downloaded if it is not there.
#[cfg(feature = "kind")]
pub(crate) fn source_folder(program: &Program, required: &str) -> Result<PathBuf, Error> {
    let module = module_folder(program.module);
    let mut go = go(&module);
    go.args(["mod", "download", "-json", required]);
    let output = program.output(go)?;
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    match answer.get("Dir").and_then(serde_json::Value::as_str) {
        Some(folder) if output.status.success() => Ok(folder.into()),
        _ => Err(Error::Build {
            package: program.package,
            module,
            output: format!(
                "go mod download {required}: {}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
        }),
    }
}

/// The first bytes of a digest: enough for a name.
pub(crate) fn short(digest: &[u8]) -> String {
    hex(digest.get(..8).unwrap_or(digest))
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Go, in a module. An older one fetches the one that go.mod asks for: the usual default, which some
/// installations switch off for all that does not ask for it.
fn go(module: &Path) -> Command {
    let mut go = contained::command("go");
    go.current_dir(module);
    if env::var_os("GOTOOLCHAIN").is_none() {
        go.env("GOTOOLCHAIN", "auto");
    }
    go
}

fn module_folder(module: &str) -> PathBuf {
    Path::new(CRATE).join(module)
}

/// Cargo's target folder; cargo reads a relative `CARGO_TARGET_DIR` from where it was called, which
/// is taken to be the workspace's root.
#[must_use]
pub fn target_folder() -> PathBuf {
    let crate_folder = Path::new(CRATE);
    let workspace = crate_folder.ancestors().nth(2).unwrap_or(crate_folder);
    match env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => workspace.join(folder),
        None => workspace.join("target"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_depends_on_the_arguments_of_one_program() {
        let digest = KUBECTL.digest().unwrap();
        assert_eq!(digest.len(), 16);
        assert_eq!(KUBECTL.digest().unwrap(), digest);
        let other = Program {
            tags: "slim",
            ..KUBECTL
        };
        assert_ne!(other.digest().unwrap(), digest);
    }

    #[test]
    fn a_build_that_fails_shows_what_go_says() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Program::new("missing", "podspan.dev/missing", "kubernetes/etcd");
        let error = missing.build(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Build { .. }), "{error}");
        assert!(error.to_string().contains("podspan.dev/missing"), "{error}");
    }
}
