//! The machines that the plugin is for, by their names in Rust and in krew, and the step `targets` of
//! `cargo xtask test`: the plugin's source has no warning on any of them.

use crate::cargo::{cargo, run};
use crate::failure::Result;
use crate::tools;

/// A target that the plugin is shipped for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// Rust's name.
    pub(crate) triple: &'static str,
    /// krew's names, which are those of Go.
    pub(crate) os: &'static str,
    pub(crate) architecture: &'static str,
}

/// In the order of `.krew.yaml`.
pub(crate) const SHIPPED: [Target; 5] = [
    target("x86_64-unknown-linux-gnu", "linux", "amd64"),
    target("aarch64-unknown-linux-gnu", "linux", "arm64"),
    target("x86_64-apple-darwin", "darwin", "amd64"),
    target("aarch64-apple-darwin", "darwin", "arm64"),
    target("x86_64-pc-windows-gnu", "windows", "amd64"),
];

/// Targets that no archive is made for: Microsoft's linker runs on Windows only.
const CHECKED_ONLY: [&str; 2] = ["x86_64-pc-windows-msvc", "aarch64-pc-windows-msvc"];

const fn target(triple: &'static str, os: &'static str, architecture: &'static str) -> Target {
    Target {
        triple,
        os,
        architecture,
    }
}

impl Target {
    /// The name of the archive for `tag`.
    pub(crate) fn archive(&self, plugin: &str, tag: &str) -> String {
        let Self {
            os, architecture, ..
        } = self;
        format!("{plugin}-{tag}-{os}-{architecture}.tar.gz")
    }

    /// The name of the program in the archive.
    pub(crate) fn program(&self, plugin: &str) -> String {
        let suffix = if self.os == "windows" { ".exe" } else { "" };
        format!("{plugin}{suffix}")
    }
}

/// Checks the plugin with clippy for each target. This needs no linker and nothing of the target's system.
pub(crate) fn check() -> Result<()> {
    let shipped = SHIPPED.map(|target| target.triple);
    for triple in shipped.into_iter().chain(CHECKED_ONLY) {
        tools::standard_library(triple)?;
        println!("{triple}");
        let mut clippy = cargo();
        clippy
            .args(["clippy", "--quiet", "--package", super::PLUGIN.package])
            .args(["--target", triple, "--", "-D", "warnings"]);
        run(clippy)?;
    }
    Ok(())
}
