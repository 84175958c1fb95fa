//! The command line: flags and options with a value, in any order, each at most once.

use std::collections::VecDeque;
use std::str::FromStr;

use crate::failure::{Failure, Result};

/// The arguments that no command has read yet.
#[derive(Debug)]
pub(crate) struct Arguments(VecDeque<String>);

impl Arguments {
    pub(crate) fn new(arguments: impl IntoIterator<Item = String>) -> Self {
        Self(arguments.into_iter().collect())
    }

    /// Removes the first argument and returns it.
    pub(crate) fn command(&mut self) -> Option<String> {
        self.0.pop_front()
    }

    /// Removes `flag`, and returns whether it was there.
    pub(crate) fn flag(&mut self, flag: &str) -> bool {
        let at = self.0.iter().position(|argument| argument == flag);
        at.and_then(|at| self.0.remove(at)).is_some()
    }

    /// Removes `option` and the value after it, and returns the value.
    pub(crate) fn option<T: FromStr>(&mut self, option: &str) -> Result<Option<T>> {
        let Some(at) = self.0.iter().position(|argument| argument == option) else {
            return Ok(None);
        };
        self.0.remove(at);
        let value = self
            .0
            .remove(at)
            .ok_or_else(|| Failure::Usage(format!("{option} needs a value")))?;
        match value.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Failure::Usage(format!("{option} cannot be {value:?}"))),
        }
    }

    /// Takes `option` and its value where they come first.
    pub(crate) fn leading_option(&mut self, option: &str) -> Result<Option<String>> {
        if self.0.front().is_some_and(|first| first == option) {
            return self.option(option);
        }
        Ok(None)
    }

    /// Takes all that is left, for a program that reads it.
    pub(crate) fn rest(self) -> impl Iterator<Item = String> {
        self.0.into_iter()
    }

    /// Called when a command has read all its arguments: any other one is an error.
    pub(crate) fn finish(self) -> Result<()> {
        match self.0.front() {
            None => Ok(()),
            Some(argument) => Err(Failure::Usage(format!(
                "{argument:?} is no argument of this command"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Arguments {
        Arguments::new(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_and_flags_are_read_in_any_order() {
        let mut given = arguments("demo --list --seconds 7 --only x");
        assert_eq!(given.command().as_deref(), Some("demo"));
        assert_eq!(given.option::<String>("--only").unwrap().unwrap(), "x");
        assert_eq!(given.option::<u64>("--seconds").unwrap(), Some(7));
        assert!(given.flag("--list"));
        assert!(!given.flag("--list"));
        given.finish().unwrap();
    }

    #[test]
    fn what_another_program_reads_is_left_alone() {
        let mut given = arguments("--name a get pods --name b");
        assert_eq!(given.leading_option("--name").unwrap().unwrap(), "a");
        assert_eq!(given.leading_option("--name").unwrap(), None);
        let rest: Vec<String> = given.rest().collect();
        assert_eq!(rest, ["get", "pods", "--name", "b"]);
    }

    #[test]
    fn mistakes_are_named() {
        let mut given = arguments("--seconds many");
        let error = given.option::<u64>("--seconds").unwrap_err();
        assert!(error.to_string().contains("\"many\""), "{error}");
        let error = arguments("--seconds").option::<u64>("--seconds");
        assert!(error.is_err());
        let error = arguments("--fast").finish().unwrap_err();
        assert!(error.to_string().contains("--fast"), "{error}");
    }
}
