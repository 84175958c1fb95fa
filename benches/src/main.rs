//! Runs the measurements and prints one table: `cargo xtask bench` builds podspan and calls this.
//! `checksums` measures only checksums, `ring` only rings, `seal` only the tunnel's sealing, `opening` the sensor's end of it, `senders` kinds of sockets, and
//! `latency` the latency of copies; `record-frames FILE` records frames.

#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use benches::cpu_per_packet::{FAST, FRAME, Plan, Round, measure};
use benches::{Align, Table};

/// The limit of podspan's CPU time, as a multiple of the bare sender's.
const LIMIT: f64 = 1.15;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let outcome = match arguments.as_slice() {
        // These read their own options.
        #[cfg(feature = "cluster")]
        [word, options @ ..] if word == "cluster" => {
            let ended = benches::cluster::command(options.iter().cloned());
            return ended_with(ended, benches::cluster::Error::exit_code);
        }
        #[cfg(feature = "matrix")]
        [word, options @ ..] if word == "matrix" => {
            return ended_with(benches::matrix::command(options.iter().cloned()), |_| 1);
        }
        #[cfg(feature = "matrix")]
        [word, options @ ..] if word == "application" => {
            return ended_with(
                benches::application::command(options.iter().cloned()),
                |_| 1,
            );
        }
        [word] if word == "checksums" => {
            checksums();
            Ok(true)
        }
        #[cfg(feature = "seal")]
        [word] if word == "seal" => {
            println!("Sealing: packets by each implementation in turns, medians of the rounds");
            print!("{}", benches::seal::table());
            println!("Initiations at the sensor:");
            print!("{}", benches::handshakes::table());
            Ok(true)
        }
        #[cfg(feature = "opening")]
        [word, binary] if word == "opening" => opening(Path::new(binary)),
        [word] if word == "ring" => rings(),
        [word, rounds, packets] if word == "senders" => senders(rounds, packets),
        #[cfg(feature = "report")]
        [word, binary, output, rounds, seconds] if word == "latency" => {
            latency(Path::new(binary), Path::new(output), rounds, seconds)
        }
        [word] if word == benches::throttling::ROLE => {
            benches::throttling::read_the_clock();
            Ok(true)
        }
        [word, file] if word == "record-frames" => record(Path::new(file)),
        [binary] => run(Path::new(binary)),
        _ => {
            eprintln!("usage: benches <path of podspan>; cargo xtask bench passes it");
            return ExitCode::FAILURE;
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(any(feature = "cluster", feature = "matrix"))]
fn ended_with<E: std::fmt::Display>(
    outcome: Result<(), E>,
    exit_code: impl Fn(&E) -> u8,
) -> ExitCode {
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error}");
    ExitCode::from(exit_code(&error))
}

fn checksums() {
    println!("Checksums: sums of buffers and copies of the same buffers in turns");
    print!("{}", benches::checksums::table());
}

#[cfg(feature = "opening")]
fn opening(binary: &Path) -> benches::Result<bool> {
    const ROUNDS: usize = 11;
    // Building may need a network, which the namespace does not have.
    testbed::build_wireguard().map_err(|error| benches::Error::Tunnel(error.to_string()))?;
    testbed::user_namespace::enter()?;
    println!(
        "Opening: the same copies to each end of a tunnel in turns, medians of {ROUNDS} rounds"
    );
    let table = benches::opening::table(binary, ROUNDS, |round| {
        eprintln!("round {round} of {ROUNDS}");
    })?;
    print!("{table}");
    Ok(true)
}

fn rings() -> benches::Result<bool> {
    const ROUNDS: usize = 5;
    testbed::user_namespace::enter()?;
    println!(
        "Rings: the same loads with several kinds of rings in turns, medians of {ROUNDS} rounds"
    );
    let table = benches::ring::table(ROUNDS, |round| eprintln!("round {round} of {ROUNDS}"))?;
    print!("{table}");
    println!("CPU quotas: how long one stops a thread");
    match benches::throttling::table(ROUNDS)? {
        Some(table) => print!("{table}"),
        None => println!("not measured: this user may not make a control group"),
    }
    Ok(true)
}

/// `xtask` passes only numbers, so another word counts as none.
fn number(word: &OsStr) -> u32 {
    word.to_str()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

fn senders(rounds: &OsStr, packets: &OsStr) -> benches::Result<bool> {
    let (rounds, packets) = (number(rounds).max(1), number(packets).max(1));
    testbed::user_namespace::enter()?;
    println!(
        "Senders: CPU time per datagram of {packets} datagrams by each kind of socket in turns, medians of \
         {rounds} rounds, with the client's load beside them"
    );
    let table = benches::senders::table(rounds, packets.into(), |round| {
        eprintln!("round {round} of {rounds}");
    })?;
    print!("{table}");
    println!("After a change of the network:");
    print!("{}", benches::senders::changes::table()?);
    Ok(true)
}

#[cfg(feature = "report")]
fn latency(binary: &Path, output: &Path, rounds: &OsStr, seconds: &OsStr) -> benches::Result<bool> {
    let rounds = number(rounds).max(1) as usize;
    let time = Duration::from_secs(number(seconds).max(1).into());
    testbed::user_namespace::enter()?;
    println!("Latency of a copy, podspan with 0.25 CPU, {rounds} rounds of {time:?} each");
    let results = benches::latency::measure(binary, rounds, time, |line| eprintln!("{line}"))?;
    print!("{}", results.table());
    let charts = [("histogram", results.chart())];
    for path in benches::files::write(output, "latency", &results, &charts)? {
        println!("wrote {}", path.display());
    }
    Ok(results.is_met())
}

fn record(file: &Path) -> benches::Result<bool> {
    testbed::user_namespace::enter()?;
    let recording = benches::record::web_mix(file)?;
    let bytes: usize = recording.frames().map(|frame| frame.bytes.len()).sum();
    println!(
        "{} frames with {} bytes in {}",
        recording.len(),
        benches::grouped(bytes as u64),
        file.display()
    );
    Ok(true)
}

fn run(binary: &Path) -> benches::Result<bool> {
    testbed::user_namespace::enter()?;
    let plan = Plan {
        rounds: 7,
        packets: 200_000,
        per_second: FAST,
    };
    println!("CPU per packet: frames of {FRAME} bytes, podspan and a bare sendmmsg in turns");
    let mut table = Table::new(&[
        ("round", Align::Left),
        ("podspan", Align::Right),
        ("to a socket", Align::Right),
        ("bare sendmmsg", Align::Right),
        ("ratio", Align::Right),
    ]);
    let mut number = 0;
    let outcome = measure(binary, plan, |round| {
        number += 1;
        table.row(cells(number.to_string(), round));
        true
    })?;
    let median = outcome.median();
    table.row(cells("median".to_owned(), median));
    print!("{table}");
    let good = outcome.ratio() <= LIMIT;
    let verdict = if good { "within" } else { "above" };
    println!("the ratio of the medians is {verdict} the limit of {LIMIT}");
    Ok(good)
}

fn cells(name: String, round: Round) -> [String; 5] {
    let micros = |time: Duration| format!("{:.2} us", time.as_secs_f64() * 1e6);
    let ratio = round.podspan.as_secs_f64() / round.bare.as_secs_f64();
    [
        name,
        micros(round.podspan),
        micros(round.socket),
        micros(round.bare),
        format!("{ratio:.2}"),
    ]
}
