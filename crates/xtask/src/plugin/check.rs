//! The step `plugin` of `cargo xtask test`: krew's own check accepts the manifest, krew installs each archive
//! that this machine can build, and kubectl runs the plugin that krew has installed.
//!
//! In: the archives, and kubectl, krew and krew's check, which are built from Go modules. The manifest names a
//! server on loopback in place of the release. Nothing is written outside a temporary folder: `KREW_ROOT`.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::{env, fs, io, thread};

use super::targets::SHIPPED;
use super::{Archives, TAG, archives, manifest, sha256, template, write};
use crate::cargo::{output, run as run_command};
use crate::failure::{Failure, Result};
use crate::test::Outcome;
use crate::tools;

pub(crate) fn run() -> Result<Outcome> {
    tools::for_plugin()?;
    let archives = Arc::new(archives(&SHIPPED.each_ref())?);
    let folder = tempfile::tempdir()
        .map_err(|source| Failure::system("making a temporary folder", source))?;
    let server =
        serve(Arc::clone(&archives)).map_err(|source| Failure::system("serving", source))?;
    let text = manifest::fill(&template()?, TAG, |file, _| {
        let digest = sha256(archives.get(file)?);
        Some((format!("http://{server}/{file}"), digest))
    })?;
    write(folder.path(), manifest::FILE, text.as_bytes())?;
    let krew = testbed::build_krew()?;
    let programs = folder.path().join("programs");
    link(&krew.kubectl, &programs.join("kubectl"))?;
    // The name that makes it `kubectl krew`.
    link(&krew.krew, &programs.join("kubectl-krew"))?;
    let manifest = folder.path().join(manifest::FILE);
    let path = path_with(&[&programs])?;
    let mut validate = Command::new(&krew.validate);
    validate.arg("-manifest").arg(&manifest).env("PATH", &path);
    run_command(validate)?;
    installed_here(folder.path(), &manifest, &programs)?;
    let missing = SHIPPED
        .iter()
        .filter(|target| !archives.contains_key(&target.archive(super::PLUGIN.name, TAG)));
    let missing: Vec<_> = missing.map(|target| target.triple).collect();
    if missing.is_empty() {
        return Ok(Outcome::Done);
    }
    Ok(Outcome::NotRun(format!(
        "no linker for {}; set CARGO_TARGET_*_LINKER",
        missing.join(" and ")
    )))
}

/// Installs the plugin for this machine, and runs it by kubectl.
fn installed_here(folder: &Path, manifest: &Path, programs: &Path) -> Result<()> {
    let krew_root = folder.join("krew");
    let path = path_with(&[&krew_root.join("bin"), programs])?;
    let kubectl = |arguments: &[&str]| {
        let mut kubectl = Command::new(programs.join("kubectl"));
        kubectl
            .args(arguments)
            .env("PATH", &path)
            .env("KREW_ROOT", &krew_root);
        kubectl
    };
    let mut install = kubectl(&["krew", "install"]);
    install.arg(["--manifest=", &manifest.display().to_string()].concat());
    run_command(install)?;
    let said = output(kubectl(&["podspan", "version"]))?;
    let version = TAG.trim_start_matches('v');
    if said.contains(version) {
        println!("kubectl podspan version: {}", said.trim());
        return Ok(());
    }
    Err(Failure::Wrong(format!(
        "kubectl podspan version says {said:?}, not {version}"
    )))
}

/// `PATH` with `folders` before all others.
fn path_with(folders: &[&Path]) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = folders.iter().map(|folder| folder.to_path_buf());
    env::join_paths(folders.chain(env::split_paths(&path)))
        .map_err(|error| Failure::Wrong(format!("PATH cannot get another folder: {error}")))
}

fn link(program: &Path, name: &Path) -> Result<()> {
    let folder = name.parent().unwrap_or(name);
    fs::create_dir_all(folder)
        .and_then(|()| symlink(program, name))
        .map_err(|source| Failure::system(format!("making {}", name.display()), source))
}

/// Serves the archives by HTTP on loopback until this process ends.
fn serve(archives: Arc<Archives>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away fails by itself.
            let _ = answer(stream, &archives);
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream, archives: &Archives) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    // The header's end: closing a connection with unread bytes would reset it.
    while lines
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    let file = request.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match archives.get(file.trim_start_matches('/')) {
        Some(bytes) => ("200 OK", &bytes[..]),
        None => ("404 Not Found", &[][..]),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(body)
}
