//! Names of network interfaces.
//!
//! In: a text. Out: a name that the kernel accepts and that a log line can show. Source: `dev_valid_name()` in
//! `net/core/dev.c`.

use core::fmt;
use core::str::FromStr;

/// `IFNAMSIZ` of `include/uapi/linux/if.h`: the bytes of a name with the zero at its end.
const IFNAMSIZ: usize = 16;

/// The name of a network interface: 1 to 15 bytes, without `/`, `:`, spaces and invisible characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceName(String);

/// A text that is not a valid interface name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidInterfaceName(pub String);

impl InvalidInterfaceName {
    /// The rule for names, as a part of a sentence.
    pub const RULE: &'static str =
        "1 to 15 bytes without space, slash, colon or invisible characters";
}

impl fmt::Display for InvalidInterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, rule) = (&self.0, Self::RULE);
        write!(
            f,
            "INTERFACE names {name:?}: an interface's name has {rule}, for example eth0"
        )
    }
}

impl core::error::Error for InvalidInterfaceName {}

impl FromStr for InterfaceName {
    type Err = InvalidInterfaceName;

    fn from_str(name: &str) -> Result<Self, InvalidInterfaceName> {
        // As `dev_valid_name` in net/core/dev.c, and without characters that a log line cannot show,
        // because most lines contain the name. Quotes and the backslash are visible, though Rust
        // escapes them.
        let is_visible = |c: char| c.escape_debug().len() == 1 || matches!(c, '\'' | '"' | '\\');
        let valid = (1..IFNAMSIZ).contains(&name.len())
            && !matches!(name, "." | "..")
            && !name.contains(|c: char| matches!(c, '/' | ':') || c.is_whitespace())
            && name.chars().all(is_visible);
        if valid {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidInterfaceName(name.to_owned()))
        }
    }
}

impl InterfaceName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_kernel_accepts() {
        for good in ["lo", "eth0", "a", "abcdefghijklmno", "eth0.100", "wg-ü"] {
            assert_eq!(good.parse::<InterfaceName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "a\tb",
            "a\x0bb",
            "a:1",
            "a\0",
            "abcdefghijklmnop",
            "eth\u{202e}0",
            "a\u{1b}b",
        ] {
            let error = bad.parse::<InterfaceName>().unwrap_err().to_string();
            let start = format!("INTERFACE names {bad:?}");
            assert!(error.starts_with(&start), "{error}");
        }
    }
}
