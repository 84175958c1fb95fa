//! The step `image` of `cargo xtask test`: what must hold of the image, checked by programs that are
//! not podspan's.
//!
//! | what | checked by |
//! |-|-|
//! | two builds of it have one digest | the digest, from two processes with different features |
//! | the archive is one | skopeo, which copies each architecture out of it |
//! | the file capability arrives | GNU tar and getcap, as root; [`Found::check`] reads the record |
//! | the other architecture's program runs | QEMU |
//! | a registry has what was pushed | the CNCF's registry takes it, skopeo pulls it by digest |
//! | the `Containerfile` gives the same image | buildah builds it, as root |

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::contents::{Architecture, PROGRAMS, VERSION};
use super::oci::{Image, sha256};
use super::read::Found;
use super::registry::Registry;
use super::{Request, archive, containerfile, read_file};
use crate::cargo::{cargo, output, run as run_command, target_dir};
use crate::failure::{Failure, Result};
use crate::test::Outcome;
use crate::tools;

pub(crate) fn run() -> Result<Outcome> {
    tools::for_image()?;
    let request = Request::new(&Architecture::ALL);
    let image = archive(&request)?;
    let folder = tempfile::tempdir()
        .map_err(|source| Failure::system("making a temporary folder", source))?;
    for architecture in Architecture::ALL {
        archive_holds(&request.output, architecture, folder.path())?;
    }
    registry_has(&image, &request, folder.path())?;
    if let Some(reason) = containerfile::impossible() {
        return Ok(Outcome::NotRun(reason.to_owned()));
    }
    for (architecture, layer) in Architecture::ALL.into_iter().zip(image.layers()) {
        capability_is_set(layer, &folder.path().join(architecture.name()))?;
    }
    containerfile::build_and_check(&[Architecture::here()])?;
    Ok(Outcome::Done)
}

/// Lets skopeo copy one architecture out of the archive, reads what it copied, and runs the programs.
fn archive_holds(archive: &Path, architecture: Architecture, folder: &Path) -> Result<()> {
    let name = architecture.name();
    let layout = folder.join(format!("layout-{name}"));
    let mut copy = Command::new("skopeo");
    copy.args(["--insecure-policy", "--override-arch", name])
        .args(["copy", "--quiet"])
        .arg(format!("oci-archive:{}", archive.display()))
        .arg(format!("oci:{}", layout.display()));
    run_command(copy)?;
    let found = Found::read(&layout)?;
    found.check(architecture)?;
    for program in PROGRAMS {
        let path = folder.join(format!("{}-{name}", program.binary.name));
        write_executable(&path, &found.file(program.path)?.bytes)?;
        let said = output(emulated(&path, architecture))?;
        if !said.contains(VERSION) {
            return Err(Failure::Wrong(format!(
                "{} --version says {said:?} on {name}",
                program.path
            )));
        }
        println!("linux/{name}: {}", said.trim());
    }
    Ok(())
}

/// `PROGRAM --version`, on the machine that it is for.
fn emulated(program: &Path, architecture: Architecture) -> Command {
    let mut command = if architecture == Architecture::here() {
        Command::new(program)
    } else {
        let mut qemu = Command::new(format!("qemu-{}", architecture.kernel_name()));
        qemu.arg(program);
        qemu
    };
    command.arg("--version");
    command
}

fn write_executable(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, bytes)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .map_err(|source| Failure::system(format!("writing {}", path.display()), source))
}

/// Pushes by the command, in a process of its own that packs the image again; then lets skopeo pull
/// it by the digest that it has here.
fn registry_has(image: &Image, request: &Request, folder: &Path) -> Result<()> {
    let registry = Registry::start()?;
    let repository = format!("{}/podspan", registry.address());
    let second = folder.join("second.tar");
    let mut push = cargo();
    push.args(["run", "--quiet", "--package", "xtask"])
        .args(["--features", "registry", "--", "image", "--output"])
        .arg(&second)
        .args(["--name", &request.name])
        .args(["--push", &format!("{repository}:{VERSION}")]);
    run_command(push)?;
    if read_file(&second)? != read_file(&request.output)? {
        return Err(Failure::Wrong(format!(
            "two builds of the image differ: {} and {}",
            second.display(),
            request.output.display()
        )));
    }
    let pulled = folder.join("pulled");
    let mut pull = Command::new("skopeo");
    pull.args(["--insecure-policy", "copy", "--quiet", "--all"])
        .args(["--src-tls-verify=false"])
        .arg(format!("docker://{repository}@{}", image.index.digest))
        .arg(format!("dir:{}", pulled.display()));
    run_command(pull)?;
    let found = digests(&pulled)?;
    match image.blobs().find(|blob| !found.contains(&blob.digest)) {
        None => Ok(()),
        Some(missing) => Err(Failure::Wrong(format!(
            "what came back from the registry has no {} {}",
            missing.media_type, missing.digest
        ))),
    }
}

/// The digest of every file in a folder.
fn digests(folder: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| Failure::system(format!("reading {}", folder.display()), source))?;
    let digest = |entry: fs::DirEntry| Ok(sha256(&read_file(&entry.path())?));
    entries.into_iter().map(digest).collect()
}

/// Unpacks a layer with GNU tar and asks getcap what the kernel sees. Below cargo's target folder,
/// because a file system in memory may not keep the attribute.
fn capability_is_set(layer: &[u8], file: &Path) -> Result<()> {
    fs::write(file, layer)
        .map_err(|source| Failure::system(format!("writing {}", file.display()), source))?;
    let folder = tempfile::tempdir_in(target_dir())
        .map_err(|source| Failure::system("making a temporary folder", source))?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--gzip", "--xattrs"])
        .args(["--xattrs-include=security.capability", "--directory"])
        .arg(folder.path())
        .arg("--file")
        .arg(file);
    run_command(tar)?;
    for program in PROGRAMS {
        let path = folder.path().join(program.path.trim_start_matches('/'));
        let mut getcap = Command::new("getcap");
        getcap.arg(&path);
        let said = output(getcap)?;
        if said.contains("cap_net_raw=p") != program.capability.is_some() {
            return Err(Failure::Wrong(format!(
                "{} was unpacked with the capabilities {said:?}",
                program.path
            )));
        }
    }
    Ok(())
}
