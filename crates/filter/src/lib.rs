//! The filter language of pcap-filter(7), compiled to cBPF.
//!
//! In: an expression and the kind of frames that it judges. Out: a [`Program`] for the kernel, or an
//! [`Error`] that says which word is wrong, what was expected, and gives an example. No I/O.
//!
//! The steps, each a module: `lexer` (words with their places), `parser` (primitives and how they are
//! joined), `lower` (each primitive becomes tests of values: what is loaded from where, compared with
//! what), `graph` (a decision graph of tests, made smaller by what is known on each path), `emit`
//! (instructions), `tails` (equal ends of code, once), and `layout` (places, and jumps that are too far for 8 bits).
//!
//! Invariants: the time is bounded by the length of the text ([`MAX_TEXT`]) and by the limit of
//! instructions; recursion is bounded by the nesting of parentheses (`parser::MAX_DEPTH`) and the depth of
//! calculations (`values::MAX_DEPTH`); [`check()`] accepts every program. A load outside of the frame ends
//! a program and rejects the frame, as in the kernel.
//!
//! Sources: pcap-filter(7); `Documentation/networking/filter.rst`, `net/core/filter.c` of Linux.

#![forbid(unsafe_code)]

mod ast;
mod check;
mod devices;
mod emit;
mod error;
mod facts;
mod graph;
mod interpreter;
mod layout;
mod lexer;
mod listing;
mod lower;
mod names;
mod parser;
mod primitive;
mod program;
mod reorder;
mod tails;
mod values;

pub use check::{Invalid, check};
pub use devices::Filter;
pub use error::{Error, Problem};
pub use interpreter::{Metadata, outcome, run};
pub use listing::{decimal, listing};
pub use program::{Instruction, Program};

/// The longest expression in bytes.
pub const MAX_TEXT: usize = 4096;

/// The largest program that Linux accepts (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// What the first byte of a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header. Frames of loopback devices have one too.
    Ethernet,
    /// The IP header: the device has no link header. Tests of the link layer are false.
    Ip,
}

/// Where the outermost VLAN tag of a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tags {
    /// Beside the frame if the kernel took it out, else in the frame: the frames of a packet socket.
    Beside,
    /// In the frame: the frames of a file.
    Inside,
}

/// The frames that a program judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// What the frames begin with.
    pub link: Link,
    /// Where VLAN tags are, and whether the direction of a frame is known.
    pub tags: Tags,
    /// How many instructions the program may have.
    pub limit: usize,
}

impl Options {
    /// Frames of a packet socket on a device with this link header.
    #[must_use]
    pub const fn live(link: Link) -> Self {
        Self {
            link,
            tags: Tags::Beside,
            limit: MAX_INSTRUCTIONS,
        }
    }

    /// Frames of a file.
    #[must_use]
    pub const fn file(link: Link) -> Self {
        Self {
            link,
            tags: Tags::Inside,
            limit: MAX_INSTRUCTIONS,
        }
    }
}

/// Compiles an expression. An empty text accepts every frame.
///
/// # Errors
/// If the text is not an expression of the language, if it uses a part of the language that is left
/// out, or if its program is too long.
pub fn compile(text: &str, options: Options) -> Result<Program, Error> {
    let words = lexer::words(text)?;
    let chain = parser::parse(text, &words)?;
    let lowered = lower::lower(&chain, options)?;
    let graph = graph::Graph::optimised(&lowered);
    let instructions = emit::emit(&graph, &lowered.values)
        .map(tails::share)
        .and_then(layout::layout);
    match instructions {
        Some(instructions) if instructions.len() <= options.limit => Ok(Program(instructions)),
        Some(instructions) => Err(Error::too_long(text, instructions.len(), options.limit)),
        None => Err(Error::too_complex(text)),
    }
}
