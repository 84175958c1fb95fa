//! The step `cluster` of `cargo xtask test`: podspan's acceptance tests on a kind cluster, and a short bench.
//!
//! The cluster has a name of its own, so a cluster of `cargo xtask cluster up` is not touched. It is taken
//! down at the end, also when a test fails; `PODSPAN_KEEP_CLUSTER=1` keeps it, for a look at it.
//!
//! With `--kubeconfig` the tests run on a cluster that somebody else made. Nothing is loaded or taken down
//! there, and the tests that need access to nodes are listed as not run.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use acceptance::Images;
use nix::unistd::geteuid;
use testbed::kind::{self, Cluster, Options, Stages};

use crate::cargo::{self, cargo, run as run_command};
use crate::failure::{Failure, Result};
use crate::image::{self, Architecture, PODSPAN_IMAGE, Request, WEBHOOK_IMAGE};
use crate::test::Outcome;
use crate::tools;

const NAME: &str = "podspan-test";

pub(crate) fn run() -> Result<Outcome> {
    if !geteuid().is_root() {
        let reason = "the tests on a kind cluster: they need root";
        return Ok(Outcome::NotRun(reason.to_owned()));
    }
    tools::for_cluster()?;
    let options = Options {
        name: NAME.to_owned(),
        ..Options::default()
    };
    let mut print = |line: &str| println!("{line}");
    let mut stages = Stages::new(&mut print);
    let outcome = kind::up(&options, &mut stages)
        .map_err(Into::into)
        .and_then(|cluster| {
            load_images(&cluster, &mut stages)?;
            load_webhook(&cluster)?;
            let mut tests = tests();
            tests.env("PODSPAN_CLUSTER", NAME);
            run_command(tests)?;
            short_bench(&cluster)
        });
    if env::var_os("PODSPAN_KEEP_CLUSTER").is_none() {
        kind::down(NAME, &mut stages)?;
    }
    outcome.map(|()| Outcome::Done)
}

/// A cluster of somebody else.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) context: Option<String>,
    pub(crate) images: Images,
}

/// The tests that need no access to nodes, on a given cluster.
pub(crate) fn run_on(given: &Given) -> Result<()> {
    let mut tests = tests();
    tests
        .env("PODSPAN_KUBECONFIG", &given.kubeconfig)
        .env("PODSPAN_IMAGE", &given.images.podspan)
        .env("PODSPAN_TOOLS_IMAGE", &given.images.tools);
    if let Some(context) = &given.context {
        tests.env("PODSPAN_CONTEXT", context);
    }
    run_command(tests)
}

fn tests() -> Command {
    let mut tests = cargo();
    tests
        .args(["test", "--package", "acceptance", "--features", "kind"])
        .args(["--test", "kind", "--", "--nocapture"]);
    tests
}

/// Builds podspan's image and loads it and the tools image into every node.
pub(crate) fn load_images(cluster: &Cluster, stages: &mut Stages<'_>) -> Result<()> {
    let mut request = Request::new(&PODSPAN_IMAGE, &[Architecture::here()]);
    acceptance::images::PODSPAN.clone_into(&mut request.name);
    request.output.set_file_name("podspan-test.tar");
    image::archive(&request)?;
    cluster.load(&kind::tools_image(stages)?)?;
    cluster.load(&request.output)?;
    Ok(())
}

/// Builds the webhook's image and loads it into every node.
fn load_webhook(cluster: &Cluster) -> Result<()> {
    let mut request = Request::new(&WEBHOOK_IMAGE, &[Architecture::here()]);
    acceptance::images::WEBHOOK.clone_into(&mut request.name);
    request.output.set_file_name("podspan-webhook-test.tar");
    image::archive(&request)?;
    cluster.load(&request.output)?;
    Ok(())
}

/// A short bench, which has the cluster by its kubeconfig only: this tests `bench --cluster` and a given cluster
/// together.
fn short_bench(cluster: &Cluster) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--package", "benches", "--features", "cluster"]);
    let executables = cargo::build(build)?;
    let missing = || Failure::Wrong("cargo built no bench".to_owned());
    let program = executables.first().ok_or_else(missing)?;
    let output = cargo::target_dir().join("bench/short");
    let mut bench = cluster.command(program);
    bench
        .args(["cluster", "--rounds", "1", "--seconds", "1"])
        .args(["--http-rates", "100", "--packet-rates", "2000"])
        .args(["--tcp-mbits", "0"])
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig())
        .arg("--output")
        .arg(&output);
    run_command(bench)?;
    for file in [
        "cluster.json",
        "cluster-latency.svg",
        "cluster-mirrored.svg",
    ] {
        let path = output.join(file);
        if !path.is_file() {
            let message = format!("the bench has not written {}", path.display());
            return Err(Failure::Wrong(message));
        }
    }
    Ok(())
}
