//! How sensors receive the copies: a setting, and an annotation of sensors.
//!
//! In: a word. Out: a [`Receiver`].

use std::fmt;

/// How a sensor receives the copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Receiver {
    /// It captures on an interface: each copy must be a separate datagram.
    Sniffer,
    /// It uses a UDP socket or a kernel vxlan device: the kernel splits what was sent as one.
    Socket,
}

impl Receiver {
    /// The word of the annotation and of `RECEIVER`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sniffer => "sniffer",
            Self::Socket => "socket",
        }
    }

    /// Reads [`Self::word`], in upper or lower case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Sniffer, Self::Socket]
            .into_iter()
            .find(|receiver| word.eq_ignore_ascii_case(receiver.word()))
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
