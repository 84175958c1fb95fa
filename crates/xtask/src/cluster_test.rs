//! The step `cluster` of `cargo xtask test`: podspan's acceptance tests on a kind cluster.
//!
//! The cluster has a name of its own, so a cluster of `cargo xtask cluster up` is not touched. It is taken
//! down at the end, also when a test fails; `PODSPAN_KEEP_CLUSTER=1` keeps it, for a look at it.

use std::env;

use nix::unistd::geteuid;
use testbed::kind::{self, Options, Stages};

use crate::cargo::{cargo, run as run_command};
use crate::failure::Result;
use crate::image::{self, Architecture, Request};
use crate::test::Outcome;
use crate::tools;

const NAME: &str = "podspan-test";

pub(crate) fn run() -> Result<Outcome> {
    if !geteuid().is_root() {
        let reason = "the tests on a kind cluster: they need root";
        return Ok(Outcome::NotRun(reason.to_owned()));
    }
    tools::for_cluster()?;
    let mut request = Request::new(&[Architecture::here()]);
    acceptance::images::PODSPAN.clone_into(&mut request.name);
    request.output.set_file_name("podspan-test.tar");
    image::archive(&request)?;
    let options = Options {
        name: NAME.to_owned(),
        ..Options::default()
    };
    let mut print = |line: &str| println!("{line}");
    let mut stages = Stages::new(&mut print);
    let outcome = kind::up(&options, &mut stages)
        .map_err(Into::into)
        .and_then(|cluster| {
            cluster.load(&kind::tools_image(&mut stages)?)?;
            cluster.load(&request.output)?;
            let mut tests = cargo();
            tests
                .args(["test", "--package", "acceptance", "--features", "kind"])
                .args(["--test", "kind", "--", "--nocapture"])
                .env("PODSPAN_CLUSTER", NAME);
            run_command(tests)
        });
    if env::var_os("PODSPAN_KEEP_CLUSTER").is_none() {
        kind::down(NAME, &mut stages)?;
    }
    outcome.map(|()| Outcome::Done)
}
