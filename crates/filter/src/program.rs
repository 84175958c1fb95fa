//! Instructions of cBPF, as `struct sock_filter` of `include/uapi/linux/filter.h` has them.

/// One instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What it does (`BPF_*`).
    pub code: u16,
    /// How many instructions a jump skips if its condition is true.
    pub jt: u8,
    /// How many it skips if the condition is false.
    pub jf: u8,
    /// A constant, an offset, or the distance of a jump.
    pub k: u32,
}

/// A program: it ends with a return, and every jump goes forward to a place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program(pub(crate) Vec<Instruction>);

impl Program {
    /// The instructions.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.0
    }

    /// Whether it accepts every frame without a look at it.
    #[must_use]
    pub fn accepts_all(&self) -> bool {
        self.0
            .first()
            .is_some_and(|first| first.code == code::RET && first.k != 0)
    }
}

/// How many bytes of an accepted frame are kept: all.
pub(crate) const WHOLE: u32 = u32::MAX;

/// Operation codes, and what the kernel has beside a frame.
pub(crate) mod code {
    pub(crate) const LD: u16 = 0x00;
    pub(crate) const LDX: u16 = 0x01;
    pub(crate) const ALU: u16 = 0x04;
    pub(crate) const W: u16 = 0x00;
    pub(crate) const H: u16 = 0x08;
    pub(crate) const B: u16 = 0x10;
    pub(crate) const IMM: u16 = 0x00;
    pub(crate) const ABS: u16 = 0x20;
    pub(crate) const IND: u16 = 0x40;
    pub(crate) const MEM: u16 = 0x60;
    pub(crate) const LEN: u16 = 0x80;
    pub(crate) const X: u16 = 0x08;
    pub(crate) const LDX_MSH: u16 = 0xb1;
    pub(crate) const ST: u16 = 0x02;
    pub(crate) const STX: u16 = 0x03;
    pub(crate) const NEG: u16 = 0x84;
    pub(crate) const JA: u16 = 0x05;
    pub(crate) const JEQ: u16 = 0x15;
    pub(crate) const JGT: u16 = 0x25;
    pub(crate) const JGE: u16 = 0x35;
    pub(crate) const JSET: u16 = 0x45;
    pub(crate) const RET: u16 = 0x06;
    pub(crate) const RET_A: u16 = 0x16;
    pub(crate) const TAX: u16 = 0x07;
    pub(crate) const TXA: u16 = 0x87;

    /// `SKF_AD_OFF`: offsets from here are properties of the packet in the kernel.
    pub(crate) const AD: u32 = (-0x1000_i32).cast_unsigned();
    /// `SKF_AD_PROTOCOL`.
    pub(crate) const AD_PROTOCOL: u32 = AD;
    /// `SKF_AD_PKTTYPE`.
    pub(crate) const AD_PKTTYPE: u32 = AD + 4;
    /// `SKF_AD_IFINDEX`.
    pub(crate) const AD_IFINDEX: u32 = AD + 8;
    /// `SKF_AD_MARK`.
    pub(crate) const AD_MARK: u32 = AD + 20;
    /// `SKF_AD_HATYPE`.
    pub(crate) const AD_HATYPE: u32 = AD + 28;
    /// `SKF_AD_VLAN_TAG`.
    pub(crate) const AD_VLAN_TAG: u32 = AD + 44;
    /// `SKF_AD_VLAN_TAG_PRESENT`.
    pub(crate) const AD_VLAN_TAG_PRESENT: u32 = AD + 48;
}
