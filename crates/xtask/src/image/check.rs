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
//! | the chart arrives in a registry | helm, which pulls and lints it |
//! | the `Containerfile` gives the same image | buildah builds it, as root |
//! | a binary is the same in whatever folder it is built | the `Containerfile`'s, where the C compiler and library are those of this machine |

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::chart;
use super::containerfile::Built;
use super::contents::{Architecture, Contents, IMAGES, VERSION, WEBHOOK_IMAGE};
use super::oci::{Image, sha256};
use super::read::Found;
use super::registry::Registry;
use super::{Request, archive, containerfile, read_file};
use crate::build::static_binary;
use crate::cargo::{cargo, output, run as run_command, target_dir};
use crate::failure::{Failure, Result};
use crate::test::Outcome;
use crate::tools;

pub(crate) fn run() -> Result<Outcome> {
    tools::for_image()?;
    chart::check()?;
    for contents in IMAGES {
        println!("{}:", contents.title);
        if let Outcome::NotRun(reason) = check(contents)? {
            return Ok(Outcome::NotRun(reason));
        }
    }
    Ok(Outcome::Done)
}

fn check(contents: &'static Contents) -> Result<Outcome> {
    let request = Request::new(contents, &Architecture::ALL);
    let image = archive(&request)?;
    let folder = tempfile::tempdir()
        .map_err(|source| Failure::system("making a temporary folder", source))?;
    for architecture in Architecture::ALL {
        archive_holds(&request, architecture, folder.path())?;
    }
    registry_has(&image, &request, folder.path())?;
    if let Some(reason) = containerfile::impossible() {
        return Ok(Outcome::NotRun(reason.to_owned()));
    }
    for (architecture, layer) in Architecture::ALL.into_iter().zip(image.layers()) {
        capability_is_set(contents, layer, &folder.path().join(architecture.name()))?;
    }
    for built in containerfile::build_and_check(contents, &[Architecture::here()])? {
        has_our_binaries(contents, &built)?;
    }
    Ok(Outcome::Done)
}

/// Lets skopeo copy one architecture out of the archive, reads what it copied, and runs the programs.
fn archive_holds(request: &Request, architecture: Architecture, folder: &Path) -> Result<()> {
    let name = architecture.name();
    let layout = folder.join(format!("layout-{name}"));
    let mut copy = Command::new("skopeo");
    copy.args(["--insecure-policy", "--override-arch", name])
        .args(["copy", "--quiet"])
        .arg(format!("oci-archive:{}", request.output.display()))
        .arg(format!("oci:{}", layout.display()));
    run_command(copy)?;
    let found = Found::read(&layout)?;
    found.check(request.contents, architecture)?;
    for program in request.contents.programs {
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
    let repository = format!("{}/{}", registry.address(), request.contents.title);
    let second = folder.join("second.tar");
    let mut push = cargo();
    push.args(["run", "--quiet", "--package", "xtask"])
        .args(["--features", "registry", "--", "image", "--output"])
        .arg(&second)
        .args(["--name", &request.name])
        .args(["--push", &format!("{repository}:{VERSION}")]);
    if request.contents.stage == WEBHOOK_IMAGE.stage {
        push.arg("--webhook");
    }
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

/// The container builds in another folder, with another home of cargo and with all its source newer.
fn has_our_binaries(contents: &Contents, built: &Built) -> Result<()> {
    if !built.with_our_compilers {
        println!("the Containerfile has another C compiler: its binaries may differ from ours");
        return Ok(());
    }
    for program in contents.programs {
        let target = built.architecture.target().to_owned();
        let ours = read_file(&static_binary(program.binary, Some(target))?)?;
        if ours != built.image.file(program.path)?.bytes {
            return Err(Failure::Wrong(format!(
                "two builds of {} in two folders differ",
                program.binary.name
            )));
        }
        println!("{}: the same binary in both", program.path);
    }
    Ok(())
}

/// Unpacks a layer with GNU tar and asks getcap what the kernel sees. Below cargo's target folder,
/// because a file system in memory may not keep the attribute.
fn capability_is_set(contents: &Contents, layer: &[u8], file: &Path) -> Result<()> {
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
    for program in contents.programs {
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
