//! A filter for every device: one program for Ethernet headers and one for bare IP packets.
//!
//! The device behind an interface's name can change while podspan runs, so both are compiled at once.

use crate::{Error, Link, MAX_INSTRUCTIONS, Options, Program, compile};

/// How many instructions the two programs have together at most. The rest is for those in front of them,
/// which select one.
const LIMIT: usize = MAX_INSTRUCTIONS - 16;

/// A compiled expression for frames of a packet socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    text: String,
    ethernet: Program,
    ip: Program,
}

impl Filter {
    /// Compiles an expression.
    ///
    /// # Errors
    /// As [`compile`].
    pub fn new(text: &str) -> Result<Self, Error> {
        let program = |link| compile(text, Options::live(link));
        let (ethernet, ip) = (program(Link::Ethernet)?, program(Link::Ip)?);
        let length = ethernet.instructions().len() + ip.instructions().len();
        if length > LIMIT {
            return Err(Error::too_long(text, length, LIMIT));
        }
        let text = text.to_owned();
        Ok(Self { text, ethernet, ip })
    }

    /// The expression.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The program for frames of this link type.
    #[must_use]
    pub const fn program(&self, link: Link) -> &Program {
        match link {
            Link::Ethernet => &self.ethernet,
            Link::Ip => &self.ip,
        }
    }

    /// Whether it accepts every frame of every device.
    #[must_use]
    pub fn accepts_all(&self) -> bool {
        self.ethernet.accepts_all() && self.ip.accepts_all()
    }
}
