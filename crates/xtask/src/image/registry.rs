//! A real registry for the checks: the program `registry` of the CNCF's distribution, built with Go
//! from the module in this crate's `registry/` folder into
//!
//! ```text
//!   <cargo's target folder>/tools/registry-<digest of go.mod and go.sum>
//! ```
//!
//! It listens on a port of the loopback that the kernel chooses, and keeps what it gets in a
//! temporary folder. It ends with the value.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::oci::sha256;
use super::{create_folder, read_file};
use crate::cargo::{run, target_dir};
use crate::failure::{Failure, Result};

const PACKAGE: &str = "github.com/distribution/distribution/v3/cmd/registry";

/// A running registry.
pub(crate) struct Registry {
    child: Child,
    address: String,
    _folder: TempDir,
}

impl Registry {
    pub(crate) fn start() -> Result<Self> {
        let program = built()?;
        let failed = |source| Failure::system("starting a registry", source);
        let folder = tempfile::tempdir().map_err(failed)?;
        let config = folder.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nhttp: {{addr: '127.0.0.1:0'}}\n\
             storage: {{filesystem: {{rootdirectory: '{}'}}}}\n",
            folder.path().join("data").display()
        );
        fs::write(&config, text).map_err(failed)?;
        let mut command = Command::new(program);
        command
            .arg("serve")
            .arg(&config)
            // It would trace to a collector that is not there.
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut registry = Self {
            child: command.spawn().map_err(failed)?,
            address: String::new(),
            _folder: folder,
        };
        registry.address = registry.wait_until_it_listens()?;
        Ok(registry)
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Reads its log up to the line that names the port; a thread reads the rest, so that the
    /// registry never waits for a reader.
    fn wait_until_it_listens(&mut self) -> Result<String> {
        let gone = || Failure::Wrong("the registry ended before it listened".to_owned());
        let log = self.child.stderr.take().ok_or_else(gone)?;
        let mut lines = BufReader::new(log).lines().map_while(std::io::Result::ok);
        let address = lines.find_map(|line| listening(&line)).ok_or_else(gone)?;
        std::thread::spawn(move || lines.for_each(drop));
        Ok(address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Fails only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in a line of the log that has one.
fn listening(line: &str) -> Option<String> {
    let (_, after) = line.split_once("listening on ")?;
    let end = after.find(|byte: char| !(byte.is_ascii_digit() || ".:".contains(byte)));
    Some(after[..end.unwrap_or(after.len())].to_owned())
}

fn module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("registry")
}

/// The program's path; it is built where it is not there yet.
fn built() -> Result<PathBuf> {
    let mut inputs = read_file(&module().join("go.mod"))?;
    inputs.extend(read_file(&module().join("go.sum"))?);
    let digest = sha256(&inputs);
    let tools = target_dir().join("tools");
    create_folder(&tools)?;
    let tools = fs::canonicalize(&tools).map_err(|source| Failure::system("finding it", source))?;
    let program = tools.join(format!("registry-{}", &digest[7..23]));
    let failed = |source| Failure::system(format!("building {}", program.display()), source);
    // Released when the file is closed, also by a process that is killed.
    let lock = File::create(program.with_extension("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    if !program.is_file() {
        println!("building a registry: two minutes, once");
        let partial = program.with_extension("partial");
        let mut go = Command::new("go");
        go.current_dir(module())
            .args([
                "build",
                "-trimpath",
                "-buildvcs=false",
                "-ldflags",
                "-s -w",
                "-o",
            ])
            .arg(&partial)
            .arg(PACKAGE)
            .env("CGO_ENABLED", "0");
        // A Go of a distribution is often too old, and fetches the one that go.mod asks for.
        if env::var_os("GOTOOLCHAIN").is_none() {
            go.env("GOTOOLCHAIN", "auto");
        }
        run(go)?;
        fs::rename(&partial, &program).map_err(failed)?;
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_the_port() {
        let line = r#"time="2026-01-01" level=info msg="listening on 127.0.0.1:40123" version=v3"#;
        assert_eq!(listening(line).unwrap(), "127.0.0.1:40123");
        assert_eq!(listening("level=info msg=\"redis not configured\""), None);
    }
}
