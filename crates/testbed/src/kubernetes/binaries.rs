//! Where etcd, kube-apiserver, kube-controller-manager and kubectl come from.
//!
//! `KUBEBUILDER_ASSETS`, the variable that the tools of the Kubernetes project use for the same
//! purpose, names a folder with them. Without it they are built from the Go modules in this crate's
//! `kubernetes/` folder into
//!
//! ```text
//!   <cargo's target folder>/testbed-kubernetes/<digest>/bin/
//! ```
//!
//! where the digest covers each go.mod and go.sum, the Go version and the build's arguments. The
//! `bin` folder is there only when it is complete: a build works in `bin.partial` and renames it at
//! the end. A lock on a file next to it makes parallel tests wait for one build.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as FILE_NAME;
use ring::digest::{Context, SHA256};

use super::error::Error;

/// This crate's folder.
const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// One binary: its name, its package, the module that builds it, and what the linker writes in it.
struct Tool {
    name: &'static str,
    package: &'static str,
    module: &'static str,
    ldflags: &'static str,
}

/// Without a version in it the API server calls itself v0.0.0-master.
const KUBERNETES_LDFLAGS: &str = "-s -w \
     -X k8s.io/component-base/version.gitVersion=v1.36.3 \
     -X k8s.io/component-base/version.gitMajor=1 \
     -X k8s.io/component-base/version.gitMinor=36";

const TOOLS: [Tool; 4] = [
    Tool {
        name: "etcd",
        package: "go.etcd.io/etcd/server/v3",
        module: "kubernetes/etcd",
        ldflags: "-s -w",
    },
    Tool {
        name: "kube-apiserver",
        package: "k8s.io/kubernetes/cmd/kube-apiserver",
        module: "kubernetes",
        ldflags: KUBERNETES_LDFLAGS,
    },
    Tool {
        name: "kube-controller-manager",
        package: "k8s.io/kubernetes/cmd/kube-controller-manager",
        module: "kubernetes",
        ldflags: KUBERNETES_LDFLAGS,
    },
    Tool {
        name: "kubectl",
        package: "k8s.io/kubernetes/cmd/kubectl",
        module: "kubernetes",
        ldflags: KUBERNETES_LDFLAGS,
    },
];

/// A folder with the binaries of a control plane.
#[derive(Clone, Debug)]
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// Finds the binaries, or builds them: about four minutes on two cores the first
    /// time, milliseconds later.
    ///
    /// # Errors
    /// [`Error::MissingAsset`] when `KUBEBUILDER_ASSETS` is set and incomplete; [`Error::NoGo`] when
    /// it is not set and there is no Go; [`Error::Build`] and [`Error::Io`] when building fails.
    pub fn find() -> Result<Self, Error> {
        match env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty()) {
            Some(folder) => Self::given(folder.into()),
            None => Self::built(&target_folder()),
        }
    }

    /// The path of one of them.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `folder` as `KUBEBUILDER_ASSETS` has it: kube-controller-manager is not part of the usual
    /// archives, so its absence is an error only for those who start it.
    fn given(folder: PathBuf) -> Result<Self, Error> {
        for binary in ["etcd", "kube-apiserver", "kubectl"] {
            if !folder.join(binary).is_file() {
                return Err(Error::MissingAsset { folder, binary });
            }
        }
        Ok(Self { folder })
    }

    fn built(target: &Path) -> Result<Self, Error> {
        let parent = target.join("testbed-kubernetes").join(digest()?);
        let folder = parent.join("bin");
        if folder.is_dir() {
            return Ok(Self { folder });
        }
        let describe = || format!("preparing {}", parent.display());
        fs::create_dir_all(&parent).map_err(Error::io(describe()))?;
        // Released when the file is closed, also by a process that is killed.
        let lock = File::create(parent.join("lock")).map_err(Error::io(describe()))?;
        lock.lock().map_err(Error::io(describe()))?;
        if !folder.is_dir() {
            let partial = parent.join("bin.partial");
            eprintln!(
                "building etcd and Kubernetes into {} (once; minutes on a small machine)",
                folder.display()
            );
            fs::create_dir_all(&partial).map_err(Error::io(describe()))?;
            for tool in &TOOLS {
                tool.build(&partial)?;
            }
            fs::rename(&partial, &folder).map_err(Error::io(describe()))?;
        }
        Ok(Self { folder })
    }
}

impl Tool {
    fn build(&self, folder: &Path) -> Result<(), Error> {
        let module = module_folder(self.module);
        let output = go(&module)
            .args([
                "build",
                "-trimpath",
                "-buildvcs=false",
                "-ldflags",
                self.ldflags,
                "-o",
            ])
            .arg(folder.join(self.name))
            .arg(self.package)
            .env("CGO_ENABLED", "0")
            .output()
            .map_err(|error| Error::NoGo {
                reason: format!("go: {error}"),
            })?;
        if output.status.success() {
            return Ok(());
        }
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Error::Build {
            package: self.package,
            module,
            output,
        })
    }
}

/// A digest of all inputs of the build, as a name for the folder.
fn digest() -> Result<String, Error> {
    let mut context = Context::new(&SHA256);
    context.update(go_version()?.as_bytes());
    for tool in &TOOLS {
        context.update(tool.package.as_bytes());
        context.update(tool.ldflags.as_bytes());
        for file in ["go.mod", "go.sum"] {
            let path = module_folder(tool.module).join(file);
            let text = fs::read(&path).map_err(Error::io(format!("reading {}", path.display())))?;
            context.update(&text);
        }
    }
    let digest = context.finish();
    // A few bytes of it are enough for a name.
    Ok(FILE_NAME.encode(&digest.as_ref()[..12]))
}

/// The version of Go that will build; an older Go fetches the one that go.mod asks for, if it can.
fn go_version() -> Result<String, Error> {
    let output = go(&module_folder("kubernetes"))
        .args(["env", "GOVERSION", "GOOS", "GOARCH"])
        .output()
        .map_err(|error| Error::NoGo {
            reason: format!("go: {error}"),
        })?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(Error::NoGo {
            reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

/// Go, in a module. An older one fetches the one that go.mod asks for: the usual default, which some
/// installations switch off for all that does not ask for it.
fn go(module: &Path) -> Command {
    let mut go = Command::new("go");
    go.current_dir(module);
    if env::var_os("GOTOOLCHAIN").is_none() {
        go.env("GOTOOLCHAIN", "auto");
    }
    go
}

fn module_folder(module: &str) -> PathBuf {
    Path::new(CRATE).join(module)
}

/// Cargo's target folder; cargo reads a relative `CARGO_TARGET_DIR` from where it was called; this
/// code assumes the workspace's root.
fn target_folder() -> PathBuf {
    let workspace = Path::new(CRATE).join("../..");
    match env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => workspace.join(folder),
        None => workspace.join("target"),
    }
}

#[cfg(test)]
mod tests {
    use super::Binaries;
    use crate::kubernetes::Error;

    #[test]
    fn an_incomplete_assets_folder_names_the_missing_binary() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("etcd"), "").unwrap();
        let error = Binaries::given(folder.path().to_owned()).unwrap_err();
        assert!(
            matches!(
                &error,
                Error::MissingAsset {
                    binary: "kube-apiserver",
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.to_string().contains("KUBEBUILDER_ASSETS"), "{error}");
    }
}
