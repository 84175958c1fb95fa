//! The kind cluster that other tests stand on: pods on different nodes reach each other, names
//! resolve, limits are enforced, and `down` leaves nothing, also after a killed `up`.
//!
//! One cluster of a name of its own, from nothing to nothing, in order: what it takes is a minute when
//! the programs and the node image are built. It needs root where the published node image cannot be
//! pulled.

mod left;
mod pods;

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use libtest_mimic::{Arguments, Failed, Trial};
use testbed::kind::{self, Cluster, Options, Stages};

type Outcome = Result<(), Failed>;

/// In addition to a cluster that a developer has.
const NAME: &str = "podspan-test";

fn main() -> ExitCode {
    if env::var_os(left::VICTIM).is_some() {
        return left::be_killed();
    }
    let mut arguments = Arguments::from_args();
    // Each stands on what the one before has left.
    arguments.test_threads = Some(1);
    let trials = vec![
        Trial::test("up_is_ready_and_idempotent", up),
        Trial::test("pods_on_two_nodes_reach_each_other", || {
            with_cluster(pods::reach)
        }),
        Trial::test("a_cpu_limit_is_enforced", || with_cluster(pods::cpu)),
        Trial::test("a_memory_limit_is_enforced", || with_cluster(pods::memory)),
        Trial::test("down_leaves_nothing", left::down),
        Trial::test("down_leaves_nothing_of_a_killed_up", left::killed),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn options() -> Options {
    Options {
        name: NAME.to_owned(),
        ..Options::default()
    }
}

/// The cluster, made if it is not there.
fn cluster() -> Result<Cluster, Failed> {
    Ok(kind::up(
        &options(),
        &mut Stages::new(&mut |line| println!("{line}")),
    )?)
}

fn with_cluster(test: fn(&Cluster) -> Outcome) -> Outcome {
    test(&cluster()?)
}

fn up() -> Outcome {
    let cluster = cluster()?;
    let nodes = cluster.kubectl(&["get", "nodes", "--no-headers"])?;
    assert_eq!(nodes.lines().count(), 3, "{nodes}");
    assert_eq!(nodes.matches(" Ready ").count(), 3, "{nodes}");
    let uid = |cluster: &Cluster| {
        cluster.kubectl(&[
            "get",
            "namespace",
            "kube-system",
            "-o=jsonpath={.metadata.uid}",
        ])
    };
    let first = uid(&cluster)?;
    let begin = Instant::now();
    let again = self::cluster()?;
    println!("found again after {:?}", begin.elapsed());
    assert_eq!(uid(&again)?, first, "up made another cluster");
    Ok(())
}
