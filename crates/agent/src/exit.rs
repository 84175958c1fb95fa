//! The exit codes: a small set that a manifest, a probe or a script can distinguish.
//!
//! The numbers are those of `sysexits.h`, so they mean the same as in other daemons.

use std::process::ExitCode;

/// Why the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Stopped by a signal after the drain, or the requested text was printed.
    Success = 0,
    /// `EX_USAGE`: an argument or an environment variable is wrong. A retry does not help.
    Usage = 64,
    /// `EX_SOFTWARE`: a defect in podspan.
    Software = 70,
    /// `EX_OSERR`: a system call failed that normally succeeds.
    OsError = 71,
    /// `EX_NOPERM`: a capability is missing, or this kernel requires another one. A retry does not help.
    NoPermission = 77,
}

impl Exit {
    /// All codes, the smallest first.
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

    /// The meaning, one line for the operator.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => {
                "ended by SIGTERM or SIGINT after the drain, or printed an option's text"
            }
            Self::Usage => "an argument or an environment variable is wrong; all are listed",
            Self::Software => "a defect in podspan; please report the last lines of the log",
            Self::OsError => "a system call failed; the log has the call and the error",
            Self::NoPermission => {
                "NET_RAW is missing, or Linux is older than 5.17; the log has the remedy"
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
