//! Where a command reads and writes, and what a terminal allows.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write};

/// The streams of a command.
pub struct Console<'a> {
    /// The standard input.
    pub input: &'a mut dyn Read,
    /// Results.
    pub output: &'a mut dyn Write,
    /// Everything for people.
    pub messages: &'a mut dyn Write,
    /// Whether somebody can read a question there and answer it.
    pub is_interactive: bool,
    /// Whether the results are shown on a terminal.
    pub is_shown: bool,
    /// Whether diffs have colours.
    pub is_coloured: bool,
}

impl Console<'_> {
    /// The bytes of a file, or of the standard input for `-`, and the name for messages.
    pub(crate) fn read(&mut self, file: &str) -> (String, io::Result<Vec<u8>>) {
        if file != "-" {
            return (file.to_owned(), fs::read(file));
        }
        let mut bytes = Vec::new();
        let read = self.input.read_to_end(&mut bytes).map(|_| bytes);
        ("the standard input".to_owned(), read)
    }

    /// Asks, and returns whether the answer is yes.
    pub(crate) fn confirm(&mut self, question: &str) -> io::Result<bool> {
        write!(self.messages, "{question} [y/N] ")?;
        self.messages.flush()?;
        let mut answer = String::new();
        BufReader::new(&mut self.input).read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}
