//! Programs as text: as `tcpdump -d` and `tcpdump -ddd` print them.

use std::fmt::Write as _;

use crate::program::{Instruction, code};

/// The program as numbers: their count, then one instruction a line.
#[must_use]
pub fn decimal(program: &[Instruction]) -> String {
    let mut text = format!("{}\n", program.len());
    for Instruction { code, jt, jf, k } in program {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{code} {jt} {jf} {k}");
    }
    text
}

/// The program for people, one instruction a line with its place.
#[must_use]
pub fn listing(program: &[Instruction]) -> String {
    let mut text = String::new();
    for (at, instruction) in program.iter().enumerate() {
        let (name, operand) = words(*instruction, at);
        let is_jump = instruction.code & 7 == 5 && instruction.code != code::JA;
        let line = if is_jump {
            let place = |skip: u8| at + 1 + usize::from(skip);
            let (yes, no) = (place(instruction.jt), place(instruction.jf));
            format!("({at:03}) {name:<8} {operand:<16} jt {yes}\tjf {no}")
        } else {
            format!("({at:03}) {name:<8} {operand}")
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// The name of an instruction, and its operand.
fn words(instruction: Instruction, at: usize) -> (&'static str, String) {
    let Instruction { code, k, .. } = instruction;
    let operand = if code & code::X == 0 {
        format!("#{k:#x}")
    } else {
        "x".to_owned()
    };
    match code {
        0x20 | 0x28 | 0x30 if k >= code::AD => (load(code), property(k)),
        0x20 | 0x28 | 0x30 => (load(code), format!("[{k}]")),
        0x40 | 0x48 | 0x50 => (load(code), format!("[x + {k}]")),
        0x00 => ("ld", format!("#{k:#x}")),
        0x01 => ("ldx", format!("#{k:#x}")),
        0x80 => ("ld", "#pktlen".to_owned()),
        0x81 => ("ldx", "#pktlen".to_owned()),
        0x60 => ("ld", format!("M[{k}]")),
        0x61 => ("ldx", format!("M[{k}]")),
        code::LDX_MSH => ("ldxb", format!("4*([{k}]&0xf)")),
        code::ST => ("st", format!("M[{k}]")),
        code::STX => ("stx", format!("M[{k}]")),
        code::TAX => ("tax", String::new()),
        code::TXA => ("txa", String::new()),
        code::NEG => ("neg", String::new()),
        code::RET => ("ret", format!("#{k}")),
        code::RET_A => ("ret", "a".to_owned()),
        code::JA => (
            "ja",
            (at + 1)
                .saturating_add(usize::try_from(k).unwrap_or(0))
                .to_string(),
        ),
        code if code & 7 == code::ALU => (calculation(code), operand),
        code => (jump(code), operand),
    }
}

const fn load(code: u16) -> &'static str {
    match code & 0x18 {
        code::H => "ldh",
        code::B => "ldb",
        _ => "ld",
    }
}

fn property(k: u32) -> String {
    match k {
        code::AD_PKTTYPE => "[type]".to_owned(),
        code::AD_VLAN_TAG => "[vlan_tci]".to_owned(),
        code::AD_VLAN_TAG_PRESENT => "[vlanp]".to_owned(),
        code::AD_MARK => "[mark]".to_owned(),
        code::AD_HATYPE => "[hatype]".to_owned(),
        other => format!("[{other}]"),
    }
}

const fn calculation(code: u16) -> &'static str {
    match code & 0xf0 {
        0x00 => "add",
        0x10 => "sub",
        0x20 => "mul",
        0x30 => "div",
        0x40 => "or",
        0x50 => "and",
        0x60 => "lsh",
        0x70 => "rsh",
        0x90 => "mod",
        0xa0 => "xor",
        _ => "unknown",
    }
}

const fn jump(code: u16) -> &'static str {
    match code & !code::X {
        code::JEQ => "jeq",
        code::JGT => "jgt",
        code::JGE => "jge",
        code::JSET => "jset",
        _ => "unknown",
    }
}
