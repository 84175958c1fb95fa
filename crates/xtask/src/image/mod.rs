//! `cargo xtask image`: the images of podspan and of its webhook, without a daemon and without a base image.
//!
//! ```text
//!   contents (what, as data) --> build (static binaries) --> layer (tar, gzip) --> oci (documents)
//!                                                                                   |
//!                 archive file <----------------------------------------------------+
//!                 registry     <-- push (feature `registry`) <----------------------+
//!                 containerd, kind <-- load <-- archive file
//! ```
//! The same source gives the same digest: the binaries name no folder of this machine
//! ([`crate::build`]), and all that is packed around them has a fixed order and no time.
//!
//! `--chart` packs the Helm chart ([`chart`]). `--containerfile` builds the `Containerfile` instead ([`containerfile`]), and checks that the
//! result is the same image. [`check`] is the step of `cargo xtask test`.

mod chart;
pub(crate) mod check;
mod containerfile;
mod contents;
pub(crate) mod layer;
mod load;
mod oci;
#[cfg(feature = "registry")]
mod push;
mod read;
mod registry;
#[cfg(test)]
mod tests;
mod tools;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::arguments::Arguments;
use crate::build::static_binary;
use crate::cargo::target_dir;
use crate::failure::{Failure, Result};
use contents::Contents;
pub(crate) use contents::{Architecture, PODSPAN_IMAGE, WEBHOOK_IMAGE};
use layer::Executable;
use load::Destination;
pub(crate) use oci::sha256;
use oci::{Blob, ForOne, Image};

/// The largest image of one architecture, in bytes to download.
const IMAGE_MAX: usize = 10_000_000;

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    if arguments.flag("--chart") {
        return chart::run(arguments);
    }
    let only: Option<Architecture> = arguments.option("--architecture")?;
    let output: Option<PathBuf> = arguments.option("--output")?;
    let name: Option<String> = arguments.option("--name")?;
    let push: Option<String> = arguments.option("--push")?;
    let insecure = arguments.flag("--insecure");
    let load: Option<Destination> = arguments.option("--load")?;
    let containerfile = arguments.flag("--containerfile");
    let for_tests = arguments.flag("--tools");
    let contents = if arguments.flag("--webhook") {
        &WEBHOOK_IMAGE
    } else {
        &PODSPAN_IMAGE
    };
    arguments.finish()?;
    if containerfile {
        if output.is_some()
            || name.is_some()
            || push.is_some()
            || load.is_some()
            || insecure
            || for_tests
        {
            return Err(Failure::Usage(
                "--containerfile goes with --architecture and --webhook only".to_owned(),
            ));
        }
        // Each takes minutes: without a choice, this machine's is enough.
        let architectures = only.map_or(vec![Architecture::here()], |one| vec![one]);
        return containerfile::build_and_check(contents, &architectures).map(drop);
    }
    let architectures = only.map_or(Architecture::ALL.to_vec(), |one| vec![one]);
    #[cfg(not(feature = "registry"))]
    if push.is_some() {
        return Err(crate::cargo::run_again_with("registry"));
    }
    if for_tests {
        if only.is_some() || name.is_some() || contents.stage != PODSPAN_IMAGE.stage {
            return Err(Failure::Usage(
                "--tools goes with --output, --load and --push only".to_owned(),
            ));
        }
        let archive = tools::archive(output.as_deref(), load.as_ref())?;
        return push_image(|| tools::blobs(&archive), push.as_deref(), insecure);
    }
    let mut request = Request::new(contents, &architectures);
    if let Some(name) = name.or_else(|| push.clone()) {
        request.name = name;
    }
    if let Some(output) = output {
        request.output = output;
    }
    let image = archive(&request)?;
    if let Some(destination) = load {
        destination.load(&request.output)?;
    }
    let blobs = || Ok(image.blobs().cloned().collect());
    push_image(blobs, push.as_deref(), insecure)
}

#[cfg(feature = "registry")]
fn push_image(
    blobs: impl FnOnce() -> Result<Vec<Blob>>,
    name: Option<&str>,
    insecure: bool,
) -> Result<()> {
    match name {
        Some(name) => push::push(&blobs()?.iter().collect::<Vec<_>>(), name, insecure),
        None if insecure => Err(insecure_alone()),
        None => Ok(()),
    }
}

#[cfg(not(feature = "registry"))]
fn push_image(
    _: impl FnOnce() -> Result<Vec<Blob>>,
    _: Option<&str>,
    insecure: bool,
) -> Result<()> {
    if insecure {
        return Err(insecure_alone());
    }
    Ok(())
}

fn insecure_alone() -> Failure {
    Failure::Usage("--insecure belongs to --push".to_owned())
}

/// What to make.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) contents: &'static Contents,
    pub(crate) architectures: Vec<Architecture>,
    /// What a node calls the image after the import: `REPOSITORY:TAG`.
    pub(crate) name: String,
    pub(crate) output: PathBuf,
}

impl Request {
    /// The usual name, in the usual place.
    pub(crate) fn new(contents: &'static Contents, architectures: &[Architecture]) -> Self {
        let file = format!("{}-{}.tar", contents.title, contents::VERSION);
        Self {
            contents,
            architectures: architectures.to_vec(),
            name: contents.default_name(),
            output: folder().join(file),
        }
    }
}

/// Builds the programs, packs them, and writes the OCI archive to `request.output`.
pub(crate) fn archive(request: &Request) -> Result<Image> {
    let image = assemble(request.contents, &request.architectures)?;
    write_file(&request.output, image.archive(&request.name))?;
    report(&image, request);
    Ok(image)
}

/// Builds the programs for each architecture, and packs them.
fn assemble(contents: &Contents, architectures: &[Architecture]) -> Result<Image> {
    let images = architectures.iter().map(|&architecture| {
        let mut files = Vec::new();
        for program in contents.programs {
            let path = static_binary(program.binary, Some(architecture.target().to_owned()))?;
            files.push((program, read_file(&path)?));
        }
        let files: Vec<_> = files
            .iter()
            .map(|(program, bytes)| Executable {
                path: program.path,
                bytes,
                capability: program.capability,
            })
            .collect();
        pack(contents, architecture, &files)
    });
    let images = images.collect::<Result<_>>()?;
    Image::new(images).map_err(|source| Failure::system("writing the image's index", source))
}

/// The image of one architecture, which must not be too large.
fn pack(
    contents: &Contents,
    architecture: Architecture,
    files: &[Executable<'_>],
) -> Result<ForOne> {
    let runtime = contents.runtime();
    let packed = layer::tar(files).and_then(|tar| ForOne::new(architecture, &tar, &runtime));
    let image = packed.map_err(|source| Failure::system("packing the image", source))?;
    let (bytes, name) = (image.bytes(), architecture.name());
    if bytes > IMAGE_MAX {
        return Err(Failure::Wrong(format!(
            "the image for {name} takes {bytes} bytes, and {IMAGE_MAX} are wanted"
        )));
    }
    Ok(image)
}

fn report(image: &Image, request: &Request) {
    println!("{}", request.output.display());
    println!("{}@{}", request.name, image.index.digest);
    for image in &image.images {
        println!(
            "  linux/{:<6} {:>9} bytes  {}",
            image.architecture.name(),
            image.bytes(),
            image.manifest.digest
        );
    }
}

/// Where all of this is kept.
fn folder() -> PathBuf {
    target_dir().join("image")
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| Failure::system(format!("reading {}", path.display()), source))
}

/// Writes what was packed, and makes the folder.
fn write_file(path: &Path, bytes: io::Result<Vec<u8>>) -> Result<()> {
    let failed = |source| Failure::system(format!("writing {}", path.display()), source);
    let bytes = bytes.map_err(failed)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, bytes).map_err(failed)
}

fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path)
        .map_err(|source| Failure::system(format!("making {}", path.display()), source))
}
