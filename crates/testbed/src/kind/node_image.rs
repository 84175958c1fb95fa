//! The image of a node from nothing: a Debian, the node files of kind's Go module, the programs, and a
//! containerd store with the container images of the control plane.
//!
//! It is a tar that `docker import` reads, named by the digest of what it is made of:
//!
//! ```text
//!   <target>/testbed-kind/node/base-<digest>.tar     debootstrap's result
//!   <target>/testbed-kind/node/node-<digest>.tar     the node image
//!   <target>/testbed-kind/node/work/                 gone when it is made
//! ```
//!
//! kind's own `images/base/Dockerfile` and `pkg/build/nodeimage` do the same with a registry.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::error::{Error, Result};
use super::programs::{CONTAINERD, CTR, IN_IMAGES, IN_NODE, KIND, KUBERNETES, build_all, path};
use super::run::{copy, copy_tree, make_folder, remove, run, write};
use super::stages::Stages;
use super::{base, images};
use crate::contained;
use crate::process::fork;
use crate::programs::{short, source_folder, target_folder};

const CONTAINERD_CONFIG: &str = include_str!("../../kind/containerd.toml");
const OWN_SYSCTLS: &str = include_str!("../../kind/own-sysctls.sh");
const PODNET: &str = include_str!("../../kind/podnet.yaml");
const PODNET_SCRIPT: &str = include_str!("../../kind/podnet.sh");
const STORAGE: &str = include_str!("../../kind/storage.yaml");
/// The code that lays it out: a change of it gives another image.
const SOURCES: [&str; 4] = [
    include_str!("node_image.rs"),
    include_str!("images.rs"),
    include_str!("oci.rs"),
    include_str!("base.rs"),
];

/// What `docker import` is to set; it refuses a stop signal.
pub(super) const CHANGES: [&str; 2] = [
    r#"ENTRYPOINT ["/kind/bin/own-sysctls.sh", "/usr/local/bin/entrypoint", "/sbin/init"]"#,
    "ENV container=docker",
];

/// How long containerd may take to open an empty store.
const STORE_TIMEOUT: Duration = Duration::from_secs(30);

/// A node image that `docker import` can read.
#[derive(Debug)]
pub(super) struct NodeImage {
    /// Its name in Docker.
    pub(super) reference: String,
    pub(super) archive: PathBuf,
}

/// Finds the node image, and makes it if it is not there. Needs root.
pub(super) fn find(stages: &mut Stages<'_>) -> Result<NodeImage> {
    stages.stage("the programs of the nodes", build_all)?;
    let folder = target_folder().join("testbed-kind/node");
    make_folder(&folder)?;
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path).map_err(Error::io(lock_path.display().to_string()))?;
    lock.lock()
        .map_err(Error::io(lock_path.display().to_string()))?;
    let digest = digest()?;
    let archive = folder.join(format!("node-{digest}.tar"));
    if !archive.is_file() {
        make(&folder, &archive, stages)?;
    }
    Ok(NodeImage {
        reference: format!("podspan.local/node:{digest}"),
        archive,
    })
}

fn digest() -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(base::digest());
    for text in [
        CONTAINERD_CONFIG,
        OWN_SYSCTLS,
        PODNET,
        PODNET_SCRIPT,
        STORAGE,
    ]
    .into_iter()
    .chain(SOURCES)
    {
        hash.update(text);
        hash.update([0]);
    }
    let in_node = IN_NODE.into_iter().map(|(program, _)| program);
    for program in in_node.chain(IN_IMAGES).chain([KIND]) {
        hash.update(program.name);
        hash.update(program.digest()?);
    }
    Ok(short(&hash.finalize()))
}

fn make(folder: &Path, archive: &Path, stages: &mut Stages<'_>) -> Result<()> {
    let tar = base::find(folder, stages)?;
    let work = folder.join("work");
    remove(&work)?;
    let root = work.join("root");
    stages.stage("the node's file system", || {
        base::unpack(&tar, &root)?;
        fill(&root)
    })?;
    stages.stage("container images for the node", || store(&root, &work))?;
    stages.stage("packing the node image", || {
        for old in super::run::entries(folder)? {
            let name = old.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("node-") {
                remove(&old)?;
            }
        }
        let partial = archive.with_extension("partial");
        base::pack(&root, &partial)?;
        fs::rename(&partial, archive)
            .map_err(Error::io(format!("renaming {}", partial.display())))?;
        remove(&work)
    })
}

/// Lays kind's node files and the programs into the base.
fn fill(root: &Path) -> Result<()> {
    let files = source_folder(&KIND, "sigs.k8s.io/kind")?.join("images/base/files");
    copy_tree(
        &files.join("usr/local/bin"),
        &root.join("usr/local/bin"),
        &|_| 0o755,
    )?;
    copy_tree(&files.join("etc"), &root.join("etc"), &|_| 0o644)?;
    let script = |path: &Path| match path.extension() {
        Some(extension) if extension == "sh" => 0o755,
        _ => 0o644,
    };
    copy_tree(&files.join("kind"), &root.join("kind"), &script)?;
    strip_systemd(root)?;
    for (program, inside) in IN_NODE {
        copy(
            &path(program)?,
            &root.join(inside).join(program.name),
            0o755,
        )?;
    }
    for folder in ["etc/kubernetes/manifests", "kind/manifests"] {
        make_folder(&root.join(folder))?;
    }
    write(&root.join("kind/version"), KUBERNETES, 0o644)?;
    write(&root.join("kind/bin/own-sysctls.sh"), OWN_SYSCTLS, 0o755)?;
    write(&root.join("kind/manifests/default-cni.yaml"), PODNET, 0o644)?;
    write(
        &root.join("kind/manifests/default-storage.yaml"),
        STORAGE,
        0o644,
    )?;
    write(
        &root.join("etc/containerd/config.toml"),
        CONTAINERD_CONFIG,
        0o644,
    )?;
    let mut spec = Command::new(path(CTR)?);
    spec.args(["oci", "spec"]);
    let spec = base_spec(&run(
        "asking containerd for a container's configuration",
        spec,
    )?)?;
    write(&root.join("etc/containerd/cri-base.json"), spec, 0o644)
}

/// systemd with the units of a node and no others, as kind's Dockerfile has it.
fn strip_systemd(root: &Path) -> Result<()> {
    let units = root.join("lib/systemd/system");
    let whole = [
        units.join("multi-user.target.wants"),
        units.join("local-fs.target.wants"),
        units.join("basic.target.wants"),
        // Nothing in a node may change the settings of the kernel that all share.
        root.join("usr/lib/sysctl.d"),
    ];
    for folder in whole {
        remove(&folder)?;
        make_folder(&folder)?;
    }
    remove(&units.join("sysinit.target.wants/systemd-tmpfiles-setup.service"))?;
    remove(&root.join("etc/sysctl.d/99-sysctl.conf"))?;
    for unit in super::run::entries(&units.join("sockets.target.wants"))? {
        let name = unit.file_name().unwrap_or_default().to_string_lossy();
        if name.contains("udev") || name.contains("initctl") {
            remove(&unit)?;
        }
    }
    for folder in super::run::entries(&root.join("etc/systemd/system"))? {
        if folder
            .extension()
            .is_some_and(|extension| extension == "wants")
        {
            remove(&folder)?;
        }
    }
    // As systemd-journald.service.d would, on top of Debian's defaults.
    write(
        &root.join("etc/systemd/journald.conf.d/kind.conf"),
        "[Journal]\nReadKMsg=no\n",
        0o644,
    )?;
    for arguments in [
        &["enable", "kubelet", "containerd", "undo-mount-hacks"][..],
        &["mask", "systemd-binfmt"][..],
    ] {
        let mut systemctl = contained::command("chroot");
        systemctl
            .arg(root)
            .args(["systemctl", "--quiet"])
            .args(arguments);
        run("choosing the units of the node", systemctl)?;
    }
    Ok(())
}

/// The configuration from which the node's containerd makes each container: the default with kind's
/// hook, and without limits, which root may lack the right to raise.
fn base_spec(default: &str) -> Result<String> {
    let mut spec: Value = serde_json::from_str(default)
        .map_err(|error| Error::io("reading what ctr prints")(error.into()))?;
    if let Some(process) = spec.get_mut("process").and_then(Value::as_object_mut) {
        process.remove("rlimits");
    }
    if let Some(fields) = spec.as_object_mut() {
        let hook = json!({"createContainer": [{"path": "/kind/bin/mount-product-files.sh"}]});
        fields.insert("hooks".to_owned(), hook);
    }
    Ok(spec.to_string())
}

/// Writes the container images and imports them, not unpacked, into the node's containerd store.
fn store(root: &Path, work: &Path) -> Result<()> {
    let images = images::all(root, work)?;
    let state = work.join("state");
    make_folder(&state)?;
    // An address below the work folder may be longer than a socket's may be: the work folder is
    // containerd's and ctr's own.
    let config = format!(
        "version = 3\nroot = {:?}\nstate = \"state\"\ndisabled_plugins = \
         [\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.images\", \
         \"io.containerd.cri.v1.runtime\", \"io.containerd.nri.v1.nri\", \
         \"io.containerd.internal.v1.opt\"]\n[grpc]\n  address = \"state/containerd.sock\"\n\
         [ttrpc]\n  address = \"state/containerd.sock.ttrpc\"\n",
        root.join("var/lib/containerd").display().to_string()
    );
    write(&state.join("config.toml"), config, 0o644)?;
    let log_path = work.join("containerd.log");
    let log = File::create(&log_path).map_err(Error::io(log_path.display().to_string()))?;
    let mut containerd = contained::command(path(CONTAINERD)?);
    containerd
        .args(["--config", "state/config.toml"])
        .current_dir(work)
        .stdout(std::process::Stdio::null())
        .stderr(log);
    let mut containerd = fork(containerd).map_err(Error::io("starting containerd"))?;
    let imported = wait_for_store(work, &log_path).and_then(|()| {
        images.iter().try_for_each(|image| {
            let archive = work.join("image.tar");
            image.write(&archive)?;
            let mut import = ctr(work)?;
            import
                .args(["images", "import", "--local", "--no-unpack"])
                .arg(&archive);
            run(&format!("importing {}", image.reference()), import).map(drop)
        })
    });
    // Its whole process-ID namespace ends with it. The store is on disk when the import returns.
    let ended = containerd.kill().and_then(|()| containerd.wait());
    imported?;
    ended.map(drop).map_err(Error::io("ending containerd"))
}

fn wait_for_store(work: &Path, log: &Path) -> Result<()> {
    let begin = Instant::now();
    loop {
        let mut version = ctr(work)?;
        version.arg("version");
        let Err(last) = run("asking containerd", version) else {
            return Ok(());
        };
        if begin.elapsed() > STORE_TIMEOUT {
            return Err(Error::Late {
                what: "containerd".to_owned(),
                seconds: STORE_TIMEOUT.as_secs(),
                last: format!("{last}\n{}", super::run::tail(log)),
            });
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn ctr(work: &Path) -> Result<Command> {
    let mut ctr = contained::command(path(CTR)?);
    // ctr takes absolute paths only.
    ctr.args(["--address", "/proc/self/cwd/state/containerd.sock"])
        .args(["--namespace", "k8s.io"])
        .current_dir(work);
    Ok(ctr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_get_the_hook_and_no_limits() {
        let default =
            r#"{"ociVersion":"1.3.0","process":{"args":["sh"],"rlimits":[{"hard":1024}]}}"#;
        let spec: Value = serde_json::from_str(&base_spec(default).unwrap()).unwrap();
        assert!(spec["process"].get("rlimits").is_none());
        assert_eq!(spec["process"]["args"][0], "sh");
        let hook = &spec["hooks"]["createContainer"][0]["path"];
        assert_eq!(hook, "/kind/bin/mount-product-files.sh");
        assert!(base_spec("no JSON").is_err());
    }

    #[test]
    fn the_digest_is_the_same_each_time() {
        assert_eq!(digest().unwrap(), digest().unwrap());
    }
}
