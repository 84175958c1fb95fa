//! How the process ends: a small set of codes that a manifest, a probe or a script can tell apart.
//!
//! The numbers are those of `sysexits.h`, so that they mean the same here as in other daemons.

use std::process::ExitCode;

/// Why the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done: told to stop and drained, or a question was answered.
    Success = 0,
    /// `EX_USAGE`: an argument or an environment variable is wrong. Trying again does not help.
    Usage = 64,
    /// `EX_SOFTWARE`: podspan broke a promise of its own.
    Software = 70,
    /// `EX_OSERR`: the system refused something that it normally grants.
    OsError = 71,
    /// `EX_NOPERM`: a capability is missing, or not enough on this kernel. Trying again does not help.
    NoPermission = 77,
}

impl Exit {
    /// Every way to end, by rising code.
    pub const ALL: [Self; 5] = [
        Self::Success,
        Self::Usage,
        Self::Software,
        Self::OsError,
        Self::NoPermission,
    ];

    /// The number that the parent process sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// One line for the operator.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "stopped by SIGTERM or SIGINT after a drain, or a question answered",
            Self::Usage => "an argument or an environment variable is wrong; all are listed",
            Self::Software => "a defect in podspan; please report the last lines of the log",
            Self::OsError => "the system refused something; the log names the call and the error",
            Self::NoPermission => {
                "NET_RAW is missing, or Linux is older than 5.17; the log says what to do"
            }
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_sysexits() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 64, 70, 71, 77]);
    }
}
