//! Runs a program on a frame, as `net/core/filter.c` of Linux does, for tests and for files.
//!
//! Every jump of a program goes forward, so a run has at most as many steps as the program has
//! instructions; the programs of libpcap for files may jump back, and end after [`MAX_STEPS`].

use crate::ast::Operator;
use crate::program::{Instruction, code};
use crate::values::calculate;

/// What the kernel has beside a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Metadata {
    /// The length of the frame, if the bytes are only its beginning.
    pub length: Option<u32>,
    /// `PACKET_*`: 4 is outgoing.
    pub kind: u8,
    /// The tag control information of a tag that was taken out of the frame.
    pub tag: Option<u16>,
    /// The mark of the packet.
    pub mark: u32,
    /// `ARPHRD_*` of the device.
    pub hardware: u16,
    /// The index of the device.
    pub interface: u32,
    /// The EtherType.
    pub protocol: u16,
}

/// How many instructions a run has at most.
const MAX_STEPS: usize = 1 << 16;

/// How many bytes of the frame the program accepts; 0 if it rejects the frame.
#[must_use]
pub fn run(program: &[Instruction], frame: &[u8], metadata: &Metadata) -> u32 {
    outcome(program, frame, metadata).unwrap_or(0)
}

/// As [`run`]; `None` if the program ended before a return: it read outside of the frame or divided by
/// 0, which rejects the frame, or it is not valid.
#[must_use]
pub fn outcome(program: &[Instruction], frame: &[u8], metadata: &Metadata) -> Option<u32> {
    let mut machine = Machine {
        frame,
        metadata,
        a: 0,
        x: 0,
        memory: [0; 16],
    };
    let mut at = 0_usize;
    for _ in 0..MAX_STEPS {
        match machine.step(*program.get(at)?)? {
            Step::Next(skip) => at = at.wrapping_add(1).wrapping_add_signed(skip),
            Step::Return(bytes) => return Some(bytes),
        }
    }
    None
}

enum Step {
    /// How many instructions are skipped.
    Next(isize),
    Return(u32),
}

struct Machine<'a> {
    frame: &'a [u8],
    metadata: &'a Metadata,
    a: u32,
    x: u32,
    memory: [u32; 16],
}

impl Machine<'_> {
    /// One instruction; `None` ends the program and rejects the frame.
    fn step(&mut self, instruction: Instruction) -> Option<Step> {
        let Instruction { code, jt, jf, k } = instruction;
        let slot = usize::try_from(k).ok();
        match code {
            0x20 | 0x28 | 0x30 if k >= code::AD => self.a = self.property(k)?,
            0x20 => self.a = self.load(k, 4)?,
            0x28 => self.a = self.load(k, 2)?,
            0x30 => self.a = self.load(k, 1)?,
            0x40 => self.a = self.load(self.x.wrapping_add(k), 4)?,
            0x48 => self.a = self.load(self.x.wrapping_add(k), 2)?,
            0x50 => self.a = self.load(self.x.wrapping_add(k), 1)?,
            0x00 => self.a = k,
            0x01 => self.x = k,
            0x80 => self.a = self.length(),
            0x81 => self.x = self.length(),
            0x60 => self.a = *self.memory.get(slot?)?,
            0x61 => self.x = *self.memory.get(slot?)?,
            code::ST => *self.memory.get_mut(slot?)? = self.a,
            code::STX => *self.memory.get_mut(slot?)? = self.x,
            code::LDX_MSH => self.x = (self.load(k, 1)? & 0xf) << 2,
            code::TAX => self.x = self.a,
            code::TXA => self.a = self.x,
            code::NEG => self.a = self.a.wrapping_neg(),
            code::RET => return Some(Step::Return(k)),
            code::RET_A => return Some(Step::Return(self.a)),
            code::JA => return Some(Step::Next(isize::try_from(k.cast_signed()).ok()?)),
            _ => return self.calculate_or_jump(code, jt, jf, k),
        }
        Some(Step::Next(0))
    }

    fn calculate_or_jump(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Option<Step> {
        let right = if code & code::X == 0 { k } else { self.x };
        if code & 7 == code::ALU {
            self.a = calculate(operator(code)?, self.a, right)?;
            return Some(Step::Next(0));
        }
        let result = match code & !code::X {
            code::JEQ => self.a == right,
            code::JGT => self.a > right,
            code::JGE => self.a >= right,
            code::JSET => self.a & right != 0,
            _ => return None,
        };
        Some(Step::Next(isize::from(if result { jt } else { jf })))
    }

    fn length(&self) -> u32 {
        let captured = u32::try_from(self.frame.len()).unwrap_or(u32::MAX);
        self.metadata.length.unwrap_or(captured)
    }

    fn load(&self, at: u32, size: usize) -> Option<u32> {
        let at = usize::try_from(at).ok()?;
        let bytes = self.frame.get(at..at.checked_add(size)?)?;
        Some(
            bytes
                .iter()
                .fold(0, |number, byte| number << 8 | u32::from(*byte)),
        )
    }

    fn property(&self, k: u32) -> Option<u32> {
        Some(match k {
            code::AD_PROTOCOL => u32::from(self.metadata.protocol),
            code::AD_PKTTYPE => u32::from(self.metadata.kind),
            code::AD_IFINDEX => self.metadata.interface,
            code::AD_MARK => self.metadata.mark,
            code::AD_HATYPE => u32::from(self.metadata.hardware),
            code::AD_VLAN_TAG => u32::from(self.metadata.tag.unwrap_or(0)),
            code::AD_VLAN_TAG_PRESENT => u32::from(self.metadata.tag.is_some()),
            _ => return None,
        })
    }
}

fn operator(code: u16) -> Option<Operator> {
    Some(match code & 0xf0 {
        0x00 => Operator::Add,
        0x10 => Operator::Subtract,
        0x20 => Operator::Multiply,
        0x30 => Operator::Divide,
        0x40 => Operator::Or,
        0x50 => Operator::And,
        0x60 => Operator::ShiftLeft,
        0x70 => Operator::ShiftRight,
        0x90 => Operator::Remainder,
        0xa0 => Operator::Xor,
        _ => return None,
    })
}
