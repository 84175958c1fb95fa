//! Instructions for the graph: which values are in which register, and what must be loaded.
//!
//! Nodes come in the order of the graph, so every jump goes forward. Each node has two entries: one in
//! front of its loads, and one behind them for jumps from nodes that already have the value in the
//! accumulator. What the registers hold at an entry is what all jumps to it agree on.

use crate::ast::Operator;
use crate::graph::{Graph, Next};
use crate::layout::{Code, Item, Label};
use crate::program::{Instruction, WHOLE, code};
use crate::values::{Compare, Id, Right, Test, Value, Values};

/// What the registers hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Registers {
    a: Option<Id>,
    x: Option<Id>,
}

impl Registers {
    fn meet(self, other: Self) -> Self {
        Self {
            a: self.a.filter(|_| self.a == other.a),
            x: self.x.filter(|_| self.x == other.x),
        }
    }
}

/// The two entries of a node: what the registers hold if anything jumps there.
#[derive(Debug, Clone, Copy, Default)]
struct Entries {
    before: Option<Registers>,
    behind: Option<Registers>,
}

/// How many headers a `protochain` follows.
pub(crate) const CHAIN_HEADERS: usize = 8;

/// Words of memory that a program has.
const MEMORY: u32 = 16;

/// The code of a graph; `None` if a calculation needs more memory than there is.
pub(crate) fn emit(graph: &Graph, values: &Values) -> Option<Code> {
    let mut emitter = Emitter {
        graph,
        values,
        entries: vec![Entries::default(); graph.nodes.len()],
        code: Code::default(),
        registers: Registers::default(),
        used: 0,
    };
    // Two labels for each node; those of template code follow.
    emitter.code.labels = vec![0; 2 * graph.nodes.len()];
    match graph.root.unwrap_or(Next::Reject) {
        Next::Node(root) => {
            emitter.entries.get_mut(root)?.before = Some(Registers::default());
            for at in (0..=root).rev() {
                emitter.node(at)?;
            }
        }
        Next::Accept => emitter.put(code::RET, WHOLE),
        Next::Reject => emitter.put(code::RET, 0),
    }
    Some(emitter.code)
}

struct Emitter<'a> {
    graph: &'a Graph,
    values: &'a Values,
    entries: Vec<Entries>,
    code: Code,
    registers: Registers,
    /// Words of memory in use.
    used: u32,
}

impl Emitter<'_> {
    fn put(&mut self, code: u16, k: u32) {
        self.code.items.push(Item::Plain(Instruction {
            code,
            jt: 0,
            jf: 0,
            k,
        }));
    }

    fn node(&mut self, at: usize) -> Option<()> {
        let node = *self.graph.nodes.get(at)?;
        let entries = *self.entries.get(at)?;
        *self.code.labels.get_mut(2 * at)? = self.code.items.len();
        if let Some(registers) = entries.before {
            self.registers = registers;
            self.prepare(node.test)?;
        }
        *self.code.labels.get_mut(2 * at + 1)? = self.code.items.len();
        self.registers = match (entries.before, entries.behind) {
            (Some(_), Some(behind)) => self.registers.meet(behind),
            (Some(_), None) => self.registers,
            (None, Some(behind)) => behind,
            (None, None) => return Some(()),
        };
        let (yes, no) = (self.jump(node.yes)?, self.jump(node.no)?);
        let (code, k) = match (node.test.compare, node.test.right) {
            _ if self.is_chain(node.test) => (code::JEQ, self.chain_number(node.test)),
            (compare, Right::Constant(k)) => (operation(compare), k),
            (compare, Right::Value(_)) => (operation(compare) | code::X, 0),
        };
        self.code.items.push(Item::Jump { code, k, yes, no });
        Some(())
    }

    /// The label for a jump to a node, with what the registers hold now.
    fn jump(&mut self, next: Next) -> Option<Label> {
        let at = match next {
            Next::Accept => return Some(Label::Accept),
            Next::Reject => return Some(Label::Reject),
            Next::Node(at) => at,
        };
        let test = self.graph.nodes.get(at)?.test;
        let registers = self.registers;
        let has_right = match test.right {
            Right::Constant(_) => true,
            Right::Value(right) => registers.x == Some(right),
        };
        let is_behind = registers.a == Some(test.left) && has_right && !self.is_chain(test);
        let entries = self.entries.get_mut(at)?;
        let entry = if is_behind {
            &mut entries.behind
        } else {
            &mut entries.before
        };
        *entry = Some(entry.map_or(registers, |met| met.meet(registers)));
        Some(Label::Local(2 * at + usize::from(is_behind)))
    }

    /// Loads what a test compares.
    fn prepare(&mut self, test: Test) -> Option<()> {
        if let Value::Chain { is_v6, at, number } = self.values.get(test.left) {
            return self.chain(is_v6, at, number);
        }
        match test.right {
            Right::Constant(_) => self.set_a(test.left),
            Right::Value(right) => self.set_both(test.left, right),
        }
    }

    /// Calculates a value into the accumulator.
    fn set_a(&mut self, id: Id) -> Option<()> {
        if self.registers.a == Some(id) {
            return Some(());
        }
        if self.registers.x == Some(id) {
            self.put(code::TXA, 0);
            self.registers.a = Some(id);
            return Some(());
        }
        match self.values.get(id) {
            Value::Constant(k) => self.put(code::LD | code::IMM, k),
            Value::Length => self.put(code::LD | code::LEN, 0),
            Value::Beside(k) => self.put(code::LD | code::W | code::ABS, k),
            Value::Load {
                size,
                base: None,
                k,
            } => self.put(code::LD | width(size) | code::ABS, k),
            Value::Load {
                size,
                base: Some(base),
                k,
            } => {
                self.set_x(base)?;
                self.put(code::LD | width(size) | code::IND, k);
            }
            Value::HeaderLength(_) => {
                self.set_x(id)?;
                self.put(code::TXA, 0);
            }
            Value::Negate(of) => {
                self.set_a(of)?;
                self.put(code::NEG, 0);
            }
            Value::Binary(operator, left, right) => self.binary(operator, left, right)?,
            Value::Chain { .. } => return None,
        }
        self.registers.a = Some(id);
        Some(())
    }

    fn binary(&mut self, operator: Operator, left: Id, right: Id) -> Option<()> {
        let operation = code::ALU | operator_code(operator);
        if let Some(k) = self.values.constant_of(right) {
            self.set_a(left)?;
            self.put(operation, k);
            return Some(());
        }
        let commutes = !matches!(
            operator,
            Operator::Subtract
                | Operator::Divide
                | Operator::Remainder
                | Operator::ShiftLeft
                | Operator::ShiftRight
        );
        if commutes && self.is_for_x(left) && !self.is_for_x(right) {
            self.set_both(right, left)?;
        } else {
            self.set_both(left, right)?;
        }
        self.put(operation | code::X, 0);
        Some(())
    }

    /// Calculates one value into the accumulator and another into X.
    fn set_both(&mut self, a: Id, x: Id) -> Option<()> {
        if self.is_for_x(x) || (self.registers.x == Some(x) && self.leaves_x(a)) {
            self.set_a(a)?;
            return self.set_x(x);
        }
        self.set_a(x)?;
        if self.leaves_x(a) {
            self.put(code::TAX, 0);
            self.registers.x = Some(x);
            return self.set_a(a);
        }
        let slot = self.used;
        if slot == MEMORY {
            return None;
        }
        self.used += 1;
        self.put(code::ST, slot);
        self.set_a(a)?;
        self.put(code::LDX | code::MEM, slot);
        self.registers.x = Some(x);
        self.used -= 1;
        Some(())
    }

    fn set_x(&mut self, id: Id) -> Option<()> {
        if self.registers.x == Some(id) {
            return Some(());
        }
        match self.values.get(id) {
            Value::Constant(k) => self.put(code::LDX | code::IMM, k),
            Value::Length => self.put(code::LDX | code::LEN, 0),
            Value::HeaderLength(k) => self.put(code::LDX_MSH, k),
            _ => {
                self.set_a(id)?;
                self.put(code::TAX, 0);
            }
        }
        self.registers.x = Some(id);
        Some(())
    }

    /// Whether one instruction loads a value into X.
    fn is_for_x(&self, id: Id) -> bool {
        matches!(
            self.values.get(id),
            Value::Constant(_) | Value::Length | Value::HeaderLength(_)
        )
    }

    /// Whether calculating a value does not need X.
    fn leaves_x(&self, id: Id) -> bool {
        if self.registers.a == Some(id) || self.registers.x == Some(id) {
            return false;
        }
        match self.values.get(id) {
            Value::Constant(_)
            | Value::Length
            | Value::Beside(_)
            | Value::Load { base: None, .. } => true,
            Value::Negate(of) => self.leaves_x(of),
            Value::Binary(_, left, right) => {
                self.values.constant_of(right).is_some() && self.leaves_x(left)
            }
            _ => false,
        }
    }

    fn is_chain(&self, test: Test) -> bool {
        matches!(self.values.get(test.left), Value::Chain { .. })
    }

    fn chain_number(&self, test: Test) -> u32 {
        match self.values.get(test.left) {
            Value::Chain { number, .. } => u32::from(number),
            _ => 0,
        }
    }

    fn label(&mut self) -> usize {
        self.code.labels.push(0);
        self.code.labels.len() - 1
    }

    fn place(&mut self, label: usize) {
        if let Some(place) = self.code.labels.get_mut(label) {
            *place = self.code.items.len();
        }
    }

    fn equal(&mut self, k: u32, yes: usize, no: usize) {
        let (yes, no) = (Label::Local(yes), Label::Local(no));
        self.code.items.push(Item::Jump {
            code: code::JEQ,
            k,
            yes,
            no,
        });
    }

    /// Follows the headers of a packet until one has this number: it is in the accumulator at the end
    /// if there is one. cBPF in the kernel has no loops, so the loop is written out.
    fn chain(&mut self, is_v6: bool, at: u32, number: u8) -> Option<()> {
        /// Hop-by-hop options, destination options, routing and fragment: their length is in units of
        /// 8 bytes. The fragment header has a zero there.
        const OPTIONS: [u32; 4] = [0, 60, 43, 44];
        /// The authentication header: its length is in units of 4 bytes.
        const AUTHENTICATION: u32 = 51;
        let slot = self.used;
        if slot == MEMORY {
            return None;
        }
        if is_v6 {
            self.put(code::LD | code::B | code::ABS, at + 6);
            self.put(code::LDX | code::IMM, 40);
        } else {
            self.put(code::LD | code::B | code::ABS, at + 9);
            self.put(code::LDX_MSH, at);
        }
        let end = self.label();
        for _ in 0..CHAIN_HEADERS {
            let (options, join) = (self.label(), self.label());
            let next = self.label();
            self.equal(u32::from(number), end, next);
            self.place(next);
            if is_v6 {
                for option in OPTIONS {
                    let next = self.label();
                    self.equal(option, options, next);
                    self.place(next);
                }
            }
            let next = self.label();
            self.equal(AUTHENTICATION, next, end);
            self.place(next);
            self.put(code::LD | code::B | code::IND, at + 1);
            self.put(code::ALU, 2);
            self.put(code::ALU | operator_code(Operator::ShiftLeft), 2);
            if is_v6 {
                self.code.items.push(Item::Always(Label::Local(join)));
                self.place(options);
                self.put(code::LD | code::B | code::IND, at + 1);
                self.put(code::ALU, 1);
                self.put(code::ALU | operator_code(Operator::ShiftLeft), 3);
                self.place(join);
            }
            self.put(code::ALU | code::X, 0);
            self.put(code::ST, slot);
            self.put(code::LD | code::B | code::IND, at);
            self.put(code::LDX | code::MEM, slot);
        }
        self.place(end);
        self.registers = Registers::default();
        Some(())
    }
}

const fn width(size: u8) -> u16 {
    match size {
        1 => code::B,
        2 => code::H,
        _ => code::W,
    }
}

const fn operation(compare: Compare) -> u16 {
    match compare {
        Compare::Equal => code::JEQ,
        Compare::Greater => code::JGT,
        Compare::AtLeast => code::JGE,
        Compare::AnyBit => code::JSET,
    }
}

const fn operator_code(operator: Operator) -> u16 {
    match operator {
        Operator::Add => 0x00,
        Operator::Subtract => 0x10,
        Operator::Multiply => 0x20,
        Operator::Divide => 0x30,
        Operator::Or => 0x40,
        Operator::And => 0x50,
        Operator::ShiftLeft => 0x60,
        Operator::ShiftRight => 0x70,
        Operator::Remainder => 0x90,
        Operator::Xor => 0xa0,
    }
}
