//! A version of Kubernetes.

use std::fmt;
use std::str::FromStr;

/// The major and the minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    pub(super) const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }
}

impl FromStr for Version {
    type Err = &'static str;

    /// `1.35`, and what API servers say: `v1.35.2`, `v1.35.2-gke.1000`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.strip_prefix('v').unwrap_or(text).splitn(3, '.');
        let mut next = || numbers.next().and_then(|number| number.parse().ok());
        let (Some(major), Some(minor)) = (next(), next()) else {
            return Err("it is not a version of Kubernetes, such as 1.35");
        };
        Ok(Self { major, minor })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_of_api_servers_are_read_and_ordered() {
        for text in [
            "1.35",
            "v1.35",
            "v1.35.2",
            "v1.35.2-gke.1000",
            "1.35.0+k3s1",
        ] {
            assert_eq!(text.parse(), Ok(Version::new(1, 35)), "{text}");
        }
        for text in ["", "1", "v1", "one.two", "1.x", "latest"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        assert!(Version::new(1, 9) < Version::new(1, 29));
    }
}
