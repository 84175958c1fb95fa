//! libpcap's compiler, through `tcpdump -ddd`.

use std::process::Command;

use filter::Instruction;

/// What libpcap says to an expression.
#[derive(Debug)]
pub(crate) enum Answer {
    Program(Vec<Instruction>),
    Refused(String),
}

/// The program for frames of an Ethernet file.
pub(crate) fn program(text: &str, is_optimised: bool) -> Answer {
    let mut command = Command::new("tcpdump");
    command.args(["-ddd", "-y", "EN10MB"]);
    if !is_optimised {
        command.arg("-O");
    }
    let output = command
        .arg("--")
        .arg(text)
        .output()
        .expect("tcpdump is one of the tests' tools");
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Answer::Program(parse(&String::from_utf8_lossy(&output.stdout)));
    }
    if errors.contains("rejects all packets") {
        return Answer::Program(vec![Instruction {
            code: 6,
            jt: 0,
            jf: 0,
            k: 0,
        }]);
    }
    Answer::Refused(errors.trim().to_owned())
}

fn parse(text: &str) -> Vec<Instruction> {
    let instruction = |line: &str| {
        let mut numbers = line.split(' ').map(|number| number.parse::<u32>().unwrap());
        let mut next = || numbers.next().unwrap();
        Instruction {
            code: u16::try_from(next()).unwrap(),
            jt: u8::try_from(next()).unwrap(),
            jf: u8::try_from(next()).unwrap(),
            k: next(),
        }
    };
    text.lines().skip(1).map(instruction).collect()
}
