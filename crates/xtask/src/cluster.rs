//! `cargo xtask cluster`: a kind cluster on this machine, with real kubelets.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use testbed::kind::{self, Choice, Cluster, Options, Source, Stages, Status};

use crate::arguments::Arguments;
use crate::failure::{Failure, Result};
use crate::image::{self, Architecture, PODSPAN_IMAGE, Request};
use crate::tools;

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    match arguments.command().as_deref() {
        Some("up") => up(arguments),
        Some("down") => {
            let name = name(&mut arguments)?;
            arguments.finish()?;
            tools::remove_policy()?;
            kind::down(&name, &mut Stages::new(&mut print))?;
            println!("cluster {name} is down");
            Ok(())
        }
        Some("status") => {
            let cluster = adopt(&mut arguments)?;
            arguments.finish()?;
            print!("{}", shown(&cluster.status()?));
            Ok(())
        }
        Some("load") => load(arguments),
        Some("kubectl") => kubectl(arguments),
        _ => Err(Failure::Usage(
            "cluster needs one of up, down, status, load, kubectl".to_owned(),
        )),
    }
}

fn up(mut arguments: Arguments) -> Result<()> {
    let own = arguments.flag("--own");
    let published = arguments.flag("--published");
    let workers = arguments.option("--workers")?;
    let options = Options {
        name: name(&mut arguments)?,
        workers: workers.unwrap_or(Options::default().workers),
        choice: match (own, published) {
            (false, false) => Choice::Auto,
            (true, false) => Choice::Own,
            (false, true) => Choice::Published,
            (true, true) => {
                let message = "--own and --published exclude each other";
                return Err(Failure::Usage(message.to_owned()));
            }
        },
    };
    arguments.finish()?;
    tools::remove_policy()?;
    let cluster = loop {
        match kind::up(&options, &mut Stages::new(&mut print)) {
            // Only who makes the nodes here needs these programs, and only as root.
            Err(kind::Error::Missing { .. }) if tools::for_cluster()? => {}
            other => break other?,
        }
    };
    println!("nodes: {}", cluster.nodes().join(", "));
    println!("kubeconfig: {}", cluster.kubeconfig().display());
    println!("use it with: cargo xtask cluster kubectl get pods -A");
    Ok(())
}

/// Becomes kubectl, so that signals, the terminal and the exit code need no relay. A name comes
/// first: what follows is kubectl's.
fn kubectl(mut arguments: Arguments) -> Result<()> {
    let name = arguments.leading_option("--name")?;
    let cluster = kind::adopt(name.as_deref().unwrap_or(Options::NAME))?;
    let mut command = cluster.kubectl_command();
    command.args(arguments.rest());
    let source = command.exec();
    Err(Failure::Start {
        command: "kubectl".to_owned(),
        source,
    })
}

/// Imports an archive into every node; without one, podspan's image, and where nothing can be pulled the
/// image with a web server and a load client too.
fn load(mut arguments: Arguments) -> Result<()> {
    let cluster = adopt(&mut arguments)?;
    let given = arguments.command();
    arguments.finish()?;
    if let Some(archive) = given {
        cluster.load(&PathBuf::from(&archive))?;
        println!("{archive} is on every node");
        return Ok(());
    }
    let request = Request::new(&PODSPAN_IMAGE, &[Architecture::here()]);
    image::archive(&request)?;
    cluster.load(&request.output)?;
    if cluster.source() == Source::Own {
        cluster.load(&kind::tools_image(&mut Stages::new(&mut print))?)?;
        println!(
            "{} is on every node, with nginx for the examples",
            kind::TOOLS
        );
    }
    println!("{} is on every node", request.name);
    Ok(())
}

fn adopt(arguments: &mut Arguments) -> Result<Cluster> {
    Ok(kind::adopt(&name(arguments)?)?)
}

fn name(arguments: &mut Arguments) -> Result<String> {
    let name = arguments.option("--name")?;
    Ok(name.unwrap_or_else(|| Options::NAME.to_owned()))
}

fn print(line: &str) {
    println!("{line}");
}

fn shown(status: &Status) -> String {
    let source = match status.source {
        Source::Own => "a node image made here, in a private Docker daemon",
        Source::Published => "the published node image, in your Docker",
        Source::Given => "a cluster that is given by a kubeconfig",
    };
    let minutes = status.age.as_secs() / 60;
    let memory = status.memory.map_or_else(String::new, |bytes| {
        format!("\nmemory of all nodes: {} MB", bytes / 1_000_000)
    });
    format!(
        "{source}\nage: {minutes} min\nfolder: {}\nkubeconfig: {}{memory}\n\n{}\n{}\n{}",
        status.folder.display(),
        status.kubeconfig.display(),
        status.containers,
        status.nodes,
        status.pods
    )
}
