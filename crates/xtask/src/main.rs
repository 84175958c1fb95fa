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
mod instructions;
mod interrupt;
mod plugin;
mod test;
mod tools;
mod workspace_tests;

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
             --kubeconfig PATH with --only cluster: the tests that need no access to nodes, on any
                               cluster; --context NAME; --image REF and --tools REF are images
                               that it can pull
  bench    measure CPU per packet against a bare sender
             --instructions    count the instructions of parts of the path of a frame, and fail if a
                               count is 3 % above the baseline; --save writes a new baseline
             --checksums       measure checksums against a copy of the same bytes
             --seal            measure the tunnel's sealing, and the AEAD of three libraries
             --opening         measure what podspan-receive does for a copy, against wireguard-go
             --ring            measure how long frames wait in rings of several kinds, and wake-ups;
                               as root also how long a CPU quota stops a thread
             --senders         measure the kinds of sockets that could send the copies, and show what
                               each does after a change of the network; --rounds N (7); --packets N
                               for each turn (100000)
             --latency         measure the latency of copies, idle and at half load, as root under a
                               quota of 0.25 CPU: table, JSON and SVG; --rounds N (5); --seconds N for
                               each load (4); --output DIR (target/bench)
             --record-frames   record the frames of --instructions again
             --matrix          compare podspan with bare senders and tc under many loads, and find the
                               highest load without loss under a CPU quota; needs root; 12 minutes
                 --peer 'CMD'  another program that mirrors, given SENSOR and INTERFACE; one process
                 --only A,B    parts: cost, scale, quota, idle, tunnel; tunnel builds wireguard-go, which
                               needs Go
                 --rounds N    how often everything runs (5); --seconds N: how long a load runs (1)
                 --quota N     CPUs (0.25); --save writes the plots into docs/, too
             --application     measure an application with podspan, with tc in its place and with
                               neither, and what rings cost it; needs root; 5 minutes
                 --only A,B    parts: throughput, latency, ring
                 --rounds N    how often everything runs (5); --seconds N: how long a load runs (2)
                 --quota N     CPUs (0.25); --save writes the plot into docs/, too
                 --requests N  a second (half of the highest rate, which is searched)
             --cluster         measure an application with and without the sidecar in a cluster:
                               latency, throughput, lost packets, CPU; below 5 minutes
             --name NAME       the cluster of `cluster up` (podspan)
             --kubeconfig PATH any other cluster; --context NAME; --image REF and --tools REF are
                               images that it can pull
             --rounds N        how often each load runs with and without (3)
             --seconds N       how long each load runs (3)
             --http-rates A,B  requests a second (100,400,1000; none leaves them out)
             --tcp-mbits N     one connection, in Mbit/s (200; 0 leaves it out)
             --packet-rates A,B
                               UDP datagrams a second (2000,10000,20000; none leaves them out)
             --packet-bytes N  payload of each (128)
             --sensor FORM     device, or sniffing, which needs no NET_ADMIN (device)
             --namespace NAME  the namespace that is made and deleted (podspan-bench)
             --output DIR      where JSON and SVG files go (target/bench)
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
             --webhook         the image of podspan-webhook instead
             --chart           the Helm chart instead; with --output, --push and --insecure
             --tools           the image of the tests and of bench --cluster instead: a web server,
                               iperf3, a load client; for this machine; needs root
             --insecure        by plain HTTP; a registry on loopback needs no such word
             --load containerd[=ADDRESS] | kind[=CLUSTER]
                               import it there
             --containerfile   build the Containerfile instead, for this machine or for
                               --architecture, and check the result; needs root, pulls nothing
  plugin   make the release archives of kubectl-podspan and the manifest for krew, and print their
           SHA-256
             --target TRIPLE   for one machine; without it for all that this machine can link
             --output DIR      where to (target/plugin)
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
        Some("plugin") => plugin::run(arguments),
        None | Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => Err(Failure::Usage(format!("there is no command {other:?}"))),
    }
}
