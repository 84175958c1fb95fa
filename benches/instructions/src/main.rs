//! `instructions MEASURE FILE` runs one measure on the frames of a file. Without arguments it lists the
//! measures. `cargo xtask bench --instructions` calls it under callgrind.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use instructions::measures::{MEASURES, Measure};
use instructions::recording::Recording;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.as_slice() {
        [] => {
            for (name, _) in MEASURES {
                println!("{name}");
            }
            return ExitCode::SUCCESS;
        }
        [name, file] => run(name, Path::new(file)),
        _ => Err("usage: instructions MEASURE FILE".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, file: &Path) -> Result<(), String> {
    let measure: Option<&(&str, Measure)> = MEASURES.iter().find(|(known, _)| *known == name);
    let (_, measure) = measure.ok_or_else(|| format!("there is no measure {name:?}"))?;
    let recording = Recording::read(file).map_err(|error| error.to_string())?;
    measure(&recording);
    Ok(())
}
