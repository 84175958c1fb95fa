//! The rules that Linux has for a program: `bpf_check_classic` and `check_load_and_stores` of
//! `net/core/filter.c`, written down for tests and for the proof that every compiled program is valid.

use thiserror::Error;

use crate::program::{Instruction, code};

/// Why Linux would refuse a program: the place of the instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts describe the variants")]
pub enum Invalid {
    #[error("the program has {0} instructions, not 1 to 4096")]
    Length(usize),
    #[error("instruction {0} is unknown")]
    Unknown(usize),
    #[error("instruction {0} divides by 0 or shifts by more than 31")]
    Operand(usize),
    #[error("instruction {0} uses memory that is not there")]
    Memory(usize),
    #[error("instruction {0} reads memory that was not written on every path")]
    Unwritten(usize),
    #[error("instruction {0} jumps out of the program")]
    Jump(usize),
    #[error("instruction {0} loads a property that does not exist")]
    Property(usize),
    #[error("the last instruction does not return")]
    End,
}

/// Words of memory that a program has.
const MEMORY: u32 = 16;

/// Properties of a packet (`SKF_AD_*`) that exist, in steps of 4 from `SKF_AD_OFF`.
const PROPERTIES: u32 = 64;

/// Checks a program.
///
/// # Errors
/// For the first instruction that Linux would refuse.
pub fn check(program: &[Instruction]) -> Result<(), Invalid> {
    if !(1..=crate::MAX_INSTRUCTIONS).contains(&program.len()) {
        return Err(Invalid::Length(program.len()));
    }
    for (at, instruction) in program.iter().enumerate() {
        let left = program.len() - at - 1;
        check_one(at, *instruction, left)?;
    }
    match program.last().map(|last| last.code) {
        Some(code::RET | code::RET_A) => check_memory(program),
        _ => Err(Invalid::End),
    }
}

fn check_one(at: usize, instruction: Instruction, left: usize) -> Result<(), Invalid> {
    use code::{ABS, ALU, B, H, IMM, IND, LD, LDX, LEN, MEM, W, X};
    let Instruction { code, jt, jf, k } = instruction;
    let jumps_within = |distance: usize| distance < left;
    let is_within = match code {
        code::JA => jumps_within(usize::try_from(k).unwrap_or(usize::MAX)),
        code if code & 7 == 5 => jumps_within(usize::from(jt)) && jumps_within(usize::from(jf)),
        _ => true,
    };
    if !is_within {
        return Err(Invalid::Jump(at));
    }
    let operation = code & 0xf0;
    if code & 7 == ALU {
        return match (operation, code & X) {
            (0x30 | 0x90, 0) if k == 0 => Err(Invalid::Operand(at)),
            (0x60 | 0x70, 0) if k > 31 => Err(Invalid::Operand(at)),
            (0x00..=0x70 | 0x90 | 0xa0, _) | (0x80, 0) if code < 0x100 => Ok(()),
            _ => Err(Invalid::Unknown(at)),
        };
    }
    if code & 7 == 5 {
        let known = code == code::JA || matches!(operation, 0x10..=0x40) && code < 0x100;
        return if known {
            Ok(())
        } else {
            Err(Invalid::Unknown(at))
        };
    }
    let loads = [LD | ABS | W, LD | ABS | H, LD | ABS | B];
    if loads.contains(&code) && k >= code::AD {
        let exists = k - code::AD < PROPERTIES && (k - code::AD).is_multiple_of(4);
        return if exists {
            Ok(())
        } else {
            Err(Invalid::Property(at))
        };
    }
    let memory = [LD | MEM, LDX | MEM, code::ST, code::STX];
    if memory.contains(&code) {
        return if k < MEMORY {
            Ok(())
        } else {
            Err(Invalid::Memory(at))
        };
    }
    let others = [
        LD | IND | W,
        LD | IND | H,
        LD | IND | B,
        LD | IMM,
        LD | LEN,
        LDX | IMM,
        LDX | LEN,
        code::LDX_MSH,
        code::RET,
        code::RET_A,
        code::TAX,
        code::TXA,
    ];
    let known = loads.contains(&code) || others.contains(&code);
    if known {
        Ok(())
    } else {
        Err(Invalid::Unknown(at))
    }
}

/// Each word of memory that is read was written on every path before.
fn check_memory(program: &[Instruction]) -> Result<(), Invalid> {
    let mut written = vec![u32::MAX; program.len()];
    let mut now = 0_u32;
    for (at, instruction) in program.iter().enumerate() {
        now &= written.get(at).copied().unwrap_or(0);
        let mut jump = |distance: usize, now: u32| {
            if let Some(target) = written.get_mut(at + 1 + distance) {
                *target &= now;
            }
        };
        match instruction.code {
            code::ST | code::STX => now |= 1_u32.checked_shl(instruction.k).unwrap_or(0),
            0x60 | 0x61 if now & 1_u32.checked_shl(instruction.k).unwrap_or(0) == 0 => {
                return Err(Invalid::Unwritten(at));
            }
            code::JA => {
                jump(
                    usize::try_from(instruction.k).unwrap_or(usize::MAX - at - 1),
                    now,
                );
                now = u32::MAX;
            }
            code if code & 7 == 5 => {
                jump(usize::from(instruction.jt), now);
                jump(usize::from(instruction.jf), now);
                now = u32::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}
