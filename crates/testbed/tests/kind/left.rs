//! What is left of a cluster after its end: nothing, also when `up` was killed while it made one.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use testbed::kind::{self, Stages};

use crate::{NAME, Outcome, cluster, options};

/// Set in the process that is killed while it makes a cluster.
pub(crate) const VICTIM: &str = "TESTBED_KIND_VICTIM";

/// What Docker, kind, the kubelet or kubectl would make outside the cluster's folder.
const PATHS: [&str; 10] = [
    "/etc/cni",
    "/etc/kubernetes",
    "/opt/cni",
    "/root/.kube",
    "/run/containerd",
    "/run/docker",
    "/run/docker.sock",
    "/usr/sbin/policy-rc.d",
    "/var/lib/docker",
    "/var/lib/kubelet",
];

/// Settings that Docker, systemd, the kubelet and kube-proxy write.
const SETTINGS: [&str; 7] = [
    "fs/file-max",
    "fs/nr_open",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/ip_forward",
    "net/netfilter/nf_conntrack_max",
    "vm/overcommit_memory",
];

/// What tells the cluster's own from everything else on the machine.
struct Mark {
    folder: String,
    group: String,
}

pub(crate) fn be_killed() -> ExitCode {
    match kind::up(&options(), &mut Stages::new(&mut |line| println!("{line}"))) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn down() -> Outcome {
    let mark = mark()?;
    cluster()?;
    let namespaces = namespaces_of(&mark);
    // So that what follows is known to see something: three nodes, each with its namespaces.
    assert!(traces(&mark).len() > 10, "{:?}", traces(&mark));
    assert!(namespaces.len() > 6, "{namespaces:?}");
    take_down()?;
    nothing_is_left(&mark, &namespaces);
    // Once more, with nothing there.
    take_down()
}

/// Kills `up` at moments from its first steps to its last, and looks after each `down`.
pub(crate) fn killed() -> Outcome {
    let mark = mark()?;
    take_down()?;
    let machine = machine();
    // By what it has printed, so that a slow machine is killed in the same places.
    for (line, more) in [
        ("a private Docker daemon ...", 0),
        ("a private Docker daemon ...", 300),
        ("the node image in it ...", 0),
        ("kind create cluster ...", 500),
        ("kind create cluster ...", 6000),
        ("kind create cluster ...", 15_000),
        ("nodes, names and routes ...", 0),
    ] {
        let mut victim = Command::new(env::current_exe()?)
            .env(VICTIM, "1")
            .stdout(Stdio::piped())
            .spawn()?;
        wait_for_line(&mut victim, line)?;
        thread::sleep(Duration::from_millis(more));
        victim.kill()?;
        victim.wait()?;
        let namespaces = namespaces_of(&mark);
        take_down()?;
        nothing_is_left(&mark, &namespaces);
        assert_eq!(self::machine(), machine, "killed at {line:?} and {more} ms");
        println!("killed at {line:?} and {more} ms: nothing is left");
    }
    Ok(())
}

fn take_down() -> Outcome {
    let begin = Instant::now();
    kind::down(NAME, &mut Stages::new(&mut |line| println!("{line}")))?;
    println!("down after {:?}", begin.elapsed());
    Ok(())
}

fn wait_for_line(victim: &mut std::process::Child, wanted: &str) -> Outcome {
    use std::io::{BufRead, BufReader};
    let stdout = victim.stdout.take().ok_or("no output")?;
    for line in BufReader::new(stdout).lines() {
        if line? == wanted {
            return Ok(());
        }
    }
    Err(Failed::from(format!("up ended before {wanted:?}")))
}

fn mark() -> Result<Mark, Failed> {
    let folder = kind::folder_of(NAME)?;
    Ok(Mark {
        group: kind::control_group_of(&folder),
        folder: folder.display().to_string(),
    })
}

fn nothing_is_left(mark: &Mark, namespaces: &BTreeSet<String>) {
    // The kernel sends the parent-death signal when the parent ends; the end of its receiver may take
    // a moment longer.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut left = traces(mark);
        left.extend(
            processes()
                .flat_map(|process| namespaces_at(&process))
                .filter(|namespace| namespaces.contains(namespace)),
        );
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left: {left:#?}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Processes of the cluster, its control groups, and mounts of its folder.
fn traces(mark: &Mark) -> Vec<String> {
    let processes = processes_of(mark).map(|process| {
        let name = text(&process.join("cmdline")).replace('\0', " ");
        format!("{}: {name}", process.display())
    });
    let hierarchies = fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten();
    let groups = hierarchies
        .map(|hierarchy| hierarchy.path().join(&mark.group))
        .chain([Path::new("/sys/fs/cgroup").join(&mark.group)])
        .filter(|group| group.exists())
        .map(|group| group.display().to_string());
    let mounts = text(Path::new("/proc/self/mountinfo"));
    let mounts = mounts.lines().filter(|line| line.contains(&mark.folder));
    processes
        .chain(groups)
        .chain(mounts.map(str::to_owned))
        .collect()
}

/// Processes that name the cluster's folder or are in its control groups.
fn processes_of(mark: &Mark) -> impl Iterator<Item = PathBuf> {
    processes().filter(|process| {
        text(&process.join("cmdline")).contains(&mark.folder)
            || text(&process.join("cgroup")).contains(&mark.group)
    })
}

/// The namespaces of those that are not this process's too.
fn namespaces_of(mark: &Mark) -> BTreeSet<String> {
    let ours: BTreeSet<String> = namespaces_at(Path::new("/proc/self")).collect();
    let theirs = processes_of(mark).flat_map(|process| namespaces_at(&process));
    theirs
        .filter(|namespace| !ours.contains(namespace))
        .collect()
}

/// Network, mount and process-ID namespace of a process, as `net:[4026531840]`.
fn namespaces_at(process: &Path) -> impl Iterator<Item = String> + use<> {
    let links = ["ns/net", "ns/mnt", "ns/pid"].map(|name| fs::read_link(process.join(name)));
    let names = links.into_iter().flatten();
    names.map(|link| link.display().to_string())
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name.iter().all(u8::is_ascii_digit)
    })
}

/// What of the machine could have changed: links and routes of this network namespace, its packet
/// filter, settings of the kernel, and paths.
fn machine() -> Vec<String> {
    let printed = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map_or_else(
            |error| error.to_string(),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let settings = SETTINGS.map(|name| text(&Path::new("/proc/sys").join(name)));
    let there = PATHS.iter().filter(|path| Path::new(path).exists());
    [
        printed("ip", &["-brief", "link"]),
        printed("ip", &["route"]),
        printed("nft", &["list", "ruleset"]),
    ]
    .into_iter()
    .chain(settings)
    .chain(there.map(|&path| path.to_owned()))
    .collect()
}

/// A file of the kernel; one whose process has just ended is empty.
fn text(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
