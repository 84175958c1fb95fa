//! `cargo xtask bench`: builds podspan and the measurements and runs them: in a lab of namespaces in release
//! mode, or with `--cluster` in a cluster, where only the images count.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use testbed::kind::{self, Options, Stages};

use crate::arguments::Arguments;
use crate::build::{PODSPAN, RECEIVE, release_binary, static_binary};
use crate::cargo::{cargo, root, run as run_command, target_dir};
use crate::cluster_test::load_images;
use crate::failure::{Failure, Result};
use crate::instructions;

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    if arguments.flag("--cluster") {
        return in_cluster(arguments);
    }
    if arguments.flag("--instructions") {
        return instructions::run(arguments);
    }
    if arguments.flag("--senders") {
        return senders(arguments);
    }
    if arguments.flag("--latency") {
        return latency(arguments);
    }
    if arguments.flag("--application") {
        return application(arguments);
    }
    if arguments.flag("--matrix") {
        return matrix(arguments);
    }
    if arguments.flag("--seal") {
        arguments.finish()?;
        return run_benches(&["--features", "seal"], vec!["seal".into()]);
    }
    if arguments.flag("--opening") {
        arguments.finish()?;
        let binary = static_binary(RECEIVE, None)?;
        let words = vec!["opening".into(), binary.into()];
        return run_benches(&["--features", "opening"], words);
    }
    let checksums = arguments.flag("--checksums");
    let ring = arguments.flag("--ring");
    let record = arguments.flag("--record-frames");
    arguments.finish()?;
    let words: Vec<OsString> = match (checksums, ring, record) {
        (true, false, false) => vec!["checksums".into()],
        (false, true, false) => vec!["ring".into()],
        (false, false, true) => vec!["record-frames".into(), instructions::frames_path().into()],
        (false, false, false) => vec![release_binary(PODSPAN)?.into()],
        _ => {
            let message = "--checksums, --ring and --record-frames exclude each other";
            return Err(Failure::Usage(message.to_owned()));
        }
    };
    run_benches(&[], words)
}

fn run_benches(features: &[&str], words: Vec<OsString>) -> Result<()> {
    let mut command = cargo();
    command
        .args(["run", "--quiet", "--release", "--package", "benches"])
        .args(features)
        .arg("--")
        .args(words);
    run_command(command)
}

/// What the kinds of sockets cost that could send the copies.
fn senders(mut arguments: Arguments) -> Result<()> {
    let rounds: u32 = arguments.option("--rounds")?.unwrap_or(7);
    let packets: u32 = arguments.option("--packets")?.unwrap_or(100_000);
    arguments.finish()?;
    let numbers = [rounds, packets].map(|number| number.to_string().into());
    run_benches(&[], [vec!["senders".into()], numbers.into()].concat())
}

/// The latency of copies. Writes JSON and SVG files.
fn latency(mut arguments: Arguments) -> Result<()> {
    let rounds: u32 = arguments.option("--rounds")?.unwrap_or(5);
    let seconds: u32 = arguments.option("--seconds")?.unwrap_or(4);
    let output: Option<PathBuf> = arguments.option("--output")?;
    arguments.finish()?;
    let output = match output {
        Some(output) => absolute(&output)?,
        None => target_dir().join("bench"),
    };
    let mut words = vec![
        "latency".into(),
        release_binary(PODSPAN)?.into(),
        output.into(),
    ];
    words.extend([rounds, seconds].map(|number| number.to_string().into()));
    run_benches(&["--features", "report"], words)
}

/// podspan and other mirrors under many loads; the bench reads all other options.
fn matrix(arguments: Arguments) -> Result<()> {
    let options = [
        "--web".into(),
        instructions::frames_path().into(),
        "--receive".into(),
        release_binary(RECEIVE)?.into(),
    ];
    compare("matrix", &options, arguments)
}

/// An application with podspan, with tc in its place and with neither; the bench reads all other options.
fn application(arguments: Arguments) -> Result<()> {
    compare("application", &[], arguments)
}

/// A bench that compares podspan's binary with others and writes files.
fn compare(bench: &str, options: &[OsString], mut arguments: Arguments) -> Result<()> {
    let output: Option<PathBuf> = arguments.option("--output")?;
    let output = output.unwrap_or_else(|| target_dir().join("bench"));
    let mut words: Vec<OsString> = vec![bench.into(), "--podspan".into()];
    words.push(release_binary(PODSPAN)?.into());
    words.extend_from_slice(options);
    words.extend(["--output".into(), absolute(&output)?.into()]);
    if arguments.flag("--save") {
        words.extend(["--save".into(), root().join("docs").into()]);
    }
    words.extend(arguments.rest().map(OsString::from));
    run_benches(&["--features", "matrix"], words)
}

/// Becomes the bench, so that Ctrl-C and the exit code need no relay. It reads all other options.
fn in_cluster(mut arguments: Arguments) -> Result<()> {
    let name: Option<String> = arguments.option("--name")?;
    let kubeconfig: Option<PathBuf> = arguments.option("--kubeconfig")?;
    let output: Option<PathBuf> = arguments.option("--output")?;
    let image: Option<String> = arguments.option("--image")?;
    let tools: Option<String> = arguments.option("--tools")?;
    let mut command = cargo();
    command
        .args(["run", "--quiet", "--package", "benches"])
        .args(["--features", "cluster", "--", "cluster"]);
    if let Some(kubeconfig) = kubeconfig {
        if name.is_some() {
            let message = "--name and --kubeconfig exclude each other";
            return Err(Failure::Usage(message.to_owned()));
        }
        if image.is_none() || tools.is_none() {
            return Err(images_missing());
        }
        command.arg("--kubeconfig").arg(absolute(&kubeconfig)?);
    } else {
        let name = name.unwrap_or_else(|| Options::NAME.to_owned());
        let cluster = kind::adopt(&name)?;
        if image.is_none() && tools.is_none() {
            load_images(&cluster, &mut Stages::new(&mut |line| println!("{line}")))?;
        }
        command.args(["--name", &name]);
    }
    for (option, value) in [("--image", image), ("--tools", tools)] {
        if let Some(value) = value {
            command.args([option, &value]);
        }
    }
    if let Some(output) = output {
        command.arg("--output").arg(absolute(&output)?);
    }
    command.args(arguments.rest());
    let source = command.exec();
    Err(Failure::Start {
        command: "cargo run --package benches".to_owned(),
        source,
    })
}

/// Of a cluster that is given by a kubeconfig, the nodes pull all images.
pub(crate) fn images_missing() -> Failure {
    let message = "--kubeconfig needs --image and --tools, two images that the cluster can pull: `cargo xtask \
                   image --push REGISTRY/podspan:TAG` and `cargo xtask image --tools --push \
                   REGISTRY/tools:TAG` push them";
    Failure::Usage(message.to_owned())
}

/// cargo runs in the workspace's root, and paths are the caller's.
pub(crate) fn absolute(path: &std::path::Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|source| Failure::system(format!("finding {}", path.display()), source))
}
