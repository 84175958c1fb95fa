//! `cargo xtask`: the commands for developers, one file for each.

#![forbid(unsafe_code)]

mod arguments;
mod bench;
mod build;
mod cargo;
mod cluster;
mod cluster_test;
mod demo;
mod elf;
mod failure;
mod image;
mod interrupt;
mod test;
mod tools;

use std::env;
use std::process::ExitCode;

use arguments::Arguments;
use failure::{Failure, Result};

const HELP: &str = "\
cargo xtask <command>

  demo     run podspan with traffic on this machine, without root
             --seconds N       how long the traffic runs (10)
             --pcapng PATH     where to write what the sensor decoded (demo.pcapng)
             --ipv6-underlay   reach the sensor over IPv6
             --kubernetes      find it by its name through a real API server, which needs Go;
                               during the traffic a second sensor is added and the first
                               one is removed
  test     run every check that a change must pass
             --only STEP       run one step
             --list            list the steps
  bench    measure CPU per packet against a bare sender
  cluster  a kind cluster: one control plane and two workers, with real kubelets
             up                make it, or find that it is up; --own makes the node image here and
                               --published pulls it (the default is whichever can be had);
                               --workers N (2)
             status            nodes, pods, paths and memory
             load [ARCHIVE]    import an image archive into every node; without one, podspan's image
             kubectl ...       run kubectl in it; what follows is kubectl's
             down              take it away, also what a killed `up` has left
             --name NAME       which cluster, before all others with kubectl (podspan)
  build    build the static podspan for release and print its path
             --target TRIPLE   for another machine, such as aarch64-unknown-linux-gnu
  image    write the image for amd64 and arm64 as an OCI archive, and print its digest
             --output FILE     where to (target/image/podspan-VERSION.tar)
             --name NAME:TAG   what a node calls it (that of --push, else as in manifests/)
             --architecture A  amd64 or arm64 alone
             --push REGISTRY/NAME:TAG
                               send it to a registry, with the credentials of `docker login`
             --insecure        by plain HTTP; a registry on loopback needs no such word
             --load containerd[=ADDRESS] | kind[=CLUSTER]
                               import it there
             --containerfile   build the Containerfile instead, for this machine or for
                               --architecture, and check the result; needs root, pulls nothing
  help     print this
";

fn main() -> ExitCode {
    match run(Arguments::new(env::args().skip(1))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}

fn run(mut arguments: Arguments) -> Result<()> {
    match arguments.command().as_deref() {
        Some("demo") => demo::run(arguments),
        Some("test") => test::run(arguments),
        Some("bench") => bench::run(arguments),
        Some("cluster") => cluster::run(arguments),
        Some("build") => build::run(arguments),
        Some("image") => image::run(arguments),
        None | Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => Err(Failure::Usage(format!("there is no command {other:?}"))),
    }
}
