//! The programs that the tests need in addition to Rust, installed from the distribution where that
//! is possible.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::geteuid;

use crate::build::has_standard_library;
use crate::cargo::{cargo, nightly_cargo, root, run, succeeds, target_dir};
use crate::failure::{Failure, Result};
use crate::image::Architecture;

const CARGO_DENY: &str = "0.20.2";

/// A program, and the packages that hold what it needs for each manager of [`MANAGERS`].
struct Tool {
    program: &'static str,
    packages: [&'static str; 4],
}

const fn tool(program: &'static str, packages: [&'static str; 4]) -> Tool {
    Tool { program, packages }
}

const TOOLS: [Tool; 8] = [
    tool(
        "tshark",
        ["tshark", "wireshark-cli", "tshark", "wireshark-cli"],
    ),
    tool("iperf3", ["iperf3"; 4]),
    tool("ip", ["iproute2", "iproute", "iproute2", "iproute2"]),
    tool("ethtool", ["ethtool"; 4]),
    tool("tcpdump", ["tcpdump"; 4]),
    tool("nft", ["nftables"; 4]),
    VALGRIND,
    // libFuzzer is C++.
    tool("c++", ["g++", "gcc-c++", "g++", "gcc"]),
];

/// Counts instructions.
const VALGRIND: Tool = tool("valgrind", ["valgrind"; 4]);

/// What `cluster up` needs to make a node image and to run it; the last three build the nodes' runc.
const CLUSTER_TOOLS: [Tool; 6] = [
    tool("dockerd", ["docker.io", "moby-engine", "docker", "docker"]),
    tool("debootstrap", ["debootstrap"; 4]),
    tool(
        "iptables",
        ["iptables", "iptables-nft", "iptables", "iptables"],
    ),
    tool("cc", ["gcc", "gcc", "gcc", "gcc"]),
    tool(
        "pkg-config",
        ["pkg-config", "pkgconf", "pkgconf", "pkgconf"],
    ),
    tool(
        "/usr/include/seccomp.h",
        [
            "libseccomp-dev",
            "libseccomp-static",
            "libseccomp-static",
            "libseccomp",
        ],
    ),
];

/// Keeps a Debian package from starting its services at installation, see invoke-rc.d(8).
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str =
    "#!/bin/sh\n# cargo xtask cluster: removed after the installation\nexit 101\n";

/// What the image is cross-built and checked with.
const FOR_IMAGE: [Tool; 3] = [
    tool("skopeo", ["skopeo"; 4]),
    if cfg!(target_arch = "aarch64") {
        tool(
            "qemu-x86_64",
            ["qemu-user", "qemu-user", "qemu-x86_64", "qemu-user"],
        )
    } else {
        tool(
            "qemu-aarch64",
            ["qemu-user", "qemu-user", "qemu-aarch64", "qemu-user"],
        )
    },
    if cfg!(target_arch = "aarch64") {
        tool(
            "x86_64-linux-gnu-gcc",
            [
                "gcc-x86-64-linux-gnu libc6-dev-amd64-cross",
                "gcc-x86_64-linux-gnu",
                "gcc-x86_64-linux-gnu",
                "x86_64-linux-gnu-gcc",
            ],
        )
    } else {
        tool(
            "aarch64-linux-gnu-gcc",
            [
                "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
                "gcc-aarch64-linux-gnu",
                "gcc-aarch64-linux-gnu",
                "aarch64-linux-gnu-gcc",
            ],
        )
    },
];

/// Links the plugin of kubectl for Windows.
const MINGW: Tool = tool(
    "x86_64-w64-mingw32-gcc",
    [
        "gcc-mingw-w64-x86-64",
        "mingw64-gcc",
        "mingw-w64-gcc",
        "mingw-w64-gcc",
    ],
);

/// What builds the Containerfile without pulling anything, and sees a file capability. Only root can
/// use them.
const FOR_CONTAINERFILE: [Tool; 3] = [
    tool("buildah", ["buildah"; 4]),
    tool("debootstrap", ["debootstrap"; 4]),
    tool(
        "getcap",
        ["libcap2-bin", "libcap", "libcap-getcap", "libcap"],
    ),
];

/// Builds the registry, and the Kubernetes that the tests run where none is given.
const GO: Tool = tool("go", ["golang-go", "golang", "go", "go"]);

/// The variable that names a folder with the servers, and the files in it.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
const SERVERS: [&str; 4] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kubectl",
];

/// How a distribution installs packages: the arguments of the command before it, and those before
/// the packages' names.
struct Manager {
    program: &'static str,
    refresh: &'static [&'static str],
    install: &'static [&'static str],
}

const MANAGERS: [Manager; 4] = [
    Manager {
        program: "apt-get",
        refresh: &["update", "-qq"],
        install: &["install", "-y", "-qq", "--no-install-recommends"],
    },
    Manager {
        program: "dnf",
        refresh: &[],
        install: &["install", "-y", "-q"],
    },
    Manager {
        program: "apk",
        refresh: &[],
        install: &["add", "--quiet"],
    },
    Manager {
        program: "pacman",
        refresh: &[],
        install: &["-S", "--noconfirm", "--needed"],
    },
];

/// Makes sure of what the image is built and checked with.
pub(crate) fn for_image() -> Result<()> {
    install(&image_tools())?;
    standard_libraries()
}

/// The missing ones.
fn image_tools() -> Vec<&'static Tool> {
    // Go builds the registry.
    let mut missing = missing(&FOR_IMAGE);
    missing.extend(Some(&GO).filter(|go| !is_there(go.program)));
    if geteuid().is_root() {
        missing.extend(self::missing(&FOR_CONTAINERFILE));
    }
    missing
}

/// Makes sure of what the plugin of kubectl is linked and installed with.
pub(crate) fn for_plugin() -> Result<()> {
    let [_, _, cross] = &FOR_IMAGE;
    let needed = [cross, &MINGW, &GO].into_iter();
    let missing: Vec<_> = needed.filter(|tool| !is_there(tool.program)).collect();
    install(&missing)
}

pub(crate) fn for_containerfile() -> Result<()> {
    install(&missing(&FOR_CONTAINERFILE))?;
    standard_libraries()
}

fn standard_libraries() -> Result<()> {
    let mut targets = Architecture::ALL.into_iter().map(Architecture::target);
    targets.try_for_each(standard_library)
}

/// Makes sure of Rust's standard library for `target`.
pub(crate) fn standard_library(target: &str) -> Result<()> {
    if has_standard_library(target)? {
        return Ok(());
    }
    let mut add = Command::new("rustup");
    add.args(["target", "add", target]).current_dir(root());
    run(add)
}

fn missing(tools: &'static [Tool]) -> Vec<&'static Tool> {
    let missing = tools.iter().filter(|tool| !is_there(tool.program));
    missing.collect()
}

/// Makes sure that every program is installed. The error names the programs to install.
pub(crate) fn programs() -> Result<()> {
    let assets = env::var_os(ASSETS).filter(|folder| !folder.is_empty());
    let go = assets.is_none().then_some(&GO);
    let mut missing = missing(&TOOLS);
    missing.extend(go.filter(|go| !is_there(go.program)));
    install(&missing)?;
    match assets {
        Some(folder) => are_in(Path::new(&folder)),
        None => go_is_new_enough(),
    }
}

/// Builds etcd and Kubernetes for the tests, unless [`ASSETS`] names a folder with them.
pub(crate) fn control_plane() -> Result<()> {
    if env::var_os(ASSETS).is_none_or(|folder| folder.is_empty()) {
        testbed::build_control_plane()?;
    }
    Ok(())
}

/// Makes sure of what counts instructions of a program for `target`.
pub(crate) fn for_instructions(target: &str) -> Result<()> {
    let missing = Some(&VALGRIND).filter(|tool| !is_there(tool.program));
    install(missing.as_slice())?;
    standard_library(target)
}

/// Makes sure of what `cluster up` needs beyond Go. Says whether anything was installed.
pub(crate) fn for_cluster() -> Result<bool> {
    let missing: Vec<&Tool> = CLUSTER_TOOLS
        .iter()
        .filter(|tool| !is_there(tool.program))
        .collect();
    if missing.is_empty() {
        return Ok(false);
    }
    let policy = Policy::set()?;
    let installed = install(&missing);
    drop(policy);
    installed.map(|()| true)
}

/// The file that keeps services from starting, for as long as this value lives. One that is there
/// already is left alone.
struct Policy;

impl Policy {
    fn set() -> Result<Self> {
        let path = Path::new(POLICY);
        if geteuid().is_root() && is_there("apt-get") && !path.exists() {
            let failed = |source| Failure::system(format!("writing {POLICY}"), source);
            fs::write(path, POLICY_TEXT).map_err(failed)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        }
        Ok(Self)
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        // The next command on a cluster tries again, and tells.
        let _ = remove_policy();
    }
}

/// Removes the file if it is ours: also where an earlier installation was killed.
pub(crate) fn remove_policy() -> Result<()> {
    match fs::read_to_string(POLICY) {
        Ok(text) if text == POLICY_TEXT => fs::remove_file(POLICY)
            .map_err(|source| Failure::system(format!("removing {POLICY}"), source)),
        _ => Ok(()),
    }
}

/// Installs the missing programs from the distribution. The error names the programs to install.
fn install(missing: &[&Tool]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let manager = (0..)
        .zip(&MANAGERS)
        .find(|(_, manager)| is_there(manager.program));
    let Some((column, manager)) = manager else {
        let names: Vec<_> = missing.iter().map(|tool| tool.program).collect();
        return Err(Failure::Wrong(format!("install {}", names.join(", "))));
    };
    let packages = packages(missing, column);
    let by_hand = format!(
        "{} {} {}",
        manager.program,
        manager.install.join(" "),
        packages.join(" ")
    );
    let Some(prefix) = root_prefix() else {
        return Err(Failure::Wrong(format!(
            "tools are missing; run as root: {by_hand}"
        )));
    };
    println!("installing {}", packages.join(", "));
    if !manager.refresh.is_empty() {
        run(as_root(prefix, manager.program, manager.refresh))?;
    }
    let mut install = as_root(prefix, manager.program, manager.install);
    install.args(&packages);
    run(install)?;
    match missing.iter().find(|tool| !is_there(tool.program)) {
        None => Ok(()),
        Some(tool) => Err(Failure::Wrong(format!(
            "{} is still missing after `{by_hand}`",
            tool.program
        ))),
    }
}

/// Whether a folder holds all that the tests start.
fn are_in(folder: &Path) -> Result<()> {
    match SERVERS.iter().find(|name| !folder.join(name).is_file()) {
        None => Ok(()),
        Some(name) => Err(Failure::Wrong(format!(
            "{ASSETS}={} holds no {name}: put {} there, or unset the variable to build them with Go",
            folder.display(),
            SERVERS.join(", ")
        ))),
    }
}

/// Runs Go on a module that needs a new version. A distribution's Go is often too old. From 1.21 on, Go
/// then downloads the version that go.mod names, as it does any other module, if this is allowed.
fn go_is_new_enough() -> Result<()> {
    let mut list = Command::new("go");
    list.args(["list", "-m"])
        .current_dir(root().join("crates/testbed/kubernetes"));
    if env::var_os("GOTOOLCHAIN").is_none() {
        list.env("GOTOOLCHAIN", "auto");
    }
    let reason = match list.output() {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Failure::Wrong(format!(
        "the tests run etcd and Kubernetes, and this Go cannot build them:\n{reason}\nInstall Go \
         1.26 or newer from https://go.dev/dl, or 1.21 or newer from the distribution, which fetches \
         the right one by itself where GOTOOLCHAIN is not set to local and GOPROXY can be reached; \
         or set {ASSETS} to a folder with {}",
        SERVERS.join(", ")
    )))
}

/// Builds cargo-deny where it is not there yet, and returns its path.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    let root = target_dir().join("tools");
    let program = root.join("bin/cargo-deny");
    if !program.exists() {
        println!("building cargo-deny {CARGO_DENY}: some minutes, once");
        let mut command = cargo();
        command
            .args([
                "install",
                "cargo-deny",
                "--locked",
                "--version",
                CARGO_DENY,
                "--root",
            ])
            .arg(&root)
            .arg("--target-dir")
            .arg(root.join("build"));
        run(command)?;
    }
    Ok(program)
}

/// Makes sure that there is a nightly toolchain with Miri and the standard library's source.
pub(crate) fn nightly() -> Result<()> {
    let mut miri = nightly_cargo();
    miri.args(["miri", "--version"]);
    if succeeds(miri) {
        return Ok(());
    }
    let mut install = Command::new("rustup");
    install.args(["toolchain", "install", "nightly", "--profile", "minimal"]);
    install.args(["-c", "miri", "-c", "rust-src"]);
    run(install)
}

/// Whether one of the folders that hold programs has this one, or a file by its path. Those of root count too: an
/// ordinary user's PATH often leaves them out, and the tests' programs run there as root.
fn is_there(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders
        .into_iter()
        .any(|folder| folder.join(program).is_file())
}

fn packages(tools: &[&Tool], column: usize) -> Vec<&'static str> {
    tools
        .iter()
        .filter_map(|tool| tool.packages.get(column))
        .flat_map(|packages| packages.split(' '))
        .collect()
}

/// What to put in front of a command for it to run as root; `None` where nothing does.
fn root_prefix() -> Option<&'static [&'static str]> {
    if geteuid().is_root() {
        return Some(&[]);
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "true"]);
    succeeds(sudo).then_some(&["sudo", "-n"])
}

fn as_root(prefix: &[&str], program: &str, arguments: &[&str]) -> Command {
    // env, because sudo clears the environment.
    let words = prefix
        .iter()
        .chain(&["env", "DEBIAN_FRONTEND=noninteractive"])
        .chain(std::iter::once(&program))
        .chain(arguments);
    let mut words = words.copied();
    let mut command = Command::new(words.next().unwrap_or("env"));
    command.args(words);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_runs_commands_as_they_are_and_others_by_sudo() {
        let words = |command: &Command| {
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            words
                .map(|word| word.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            words(&as_root(&["sudo", "-n"], "apt-get", &["update"])),
            "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get update"
        );
        assert_eq!(
            words(&as_root(&[], "apk", &["add"])),
            "env DEBIAN_FRONTEND=noninteractive apk add"
        );
    }

    #[test]
    fn each_manager_has_its_names() {
        let all: Vec<&Tool> = TOOLS
            .iter()
            .chain(&FOR_IMAGE)
            .chain(&FOR_CONTAINERFILE)
            .collect();
        assert_eq!(packages(&all, 1)[0], "wireshark-cli");
        for column in 0..MANAGERS.len() {
            assert!(packages(&all, column).len() >= all.len());
        }
    }

    #[test]
    fn given_servers_must_be_complete() {
        let error = are_in(Path::new("/dev/null")).unwrap_err().to_string();
        assert!(error.contains("/dev/null holds no etcd:"), "{error}");
    }

    #[test]
    fn a_shell_is_there() {
        assert!(is_there("sh"));
        assert!(!is_there("no such program"));
    }
}
