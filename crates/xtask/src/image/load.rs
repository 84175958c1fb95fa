//! `--load`: the archive into what runs containers on this machine.

use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use crate::cargo::run;
use crate::failure::Result;

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A containerd, by its own client; at its usual socket where no other is given.
    Containerd(Option<String>),
    /// Every node of a kind cluster; of the one that is called `kind` where no name is given.
    Kind(Option<String>),
}

impl FromStr for Destination {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (kind, value) = match text.split_once('=') {
            Some((_, "")) => return Err(()),
            Some((kind, value)) => (kind, Some(value.to_owned())),
            None => (text, None),
        };
        match kind {
            "containerd" => Ok(Self::Containerd(value)),
            "kind" => Ok(Self::Kind(value)),
            _ => Err(()),
        }
    }
}

impl Destination {
    pub(crate) fn load(&self, archive: &Path) -> Result<()> {
        run(self.command(archive))
    }

    fn command(&self, archive: &Path) -> Command {
        match self {
            Self::Containerd(address) => {
                let mut ctr = Command::new("ctr");
                if let Some(address) = address {
                    ctr.args(["--address", address]);
                }
                // Where the kubelet looks for its images.
                ctr.args(["--namespace", "k8s.io", "images", "import"]);
                ctr.arg(archive);
                ctr
            }
            Self::Kind(name) => {
                let mut kind = Command::new("kind");
                kind.args(["load", "image-archive"]).arg(archive);
                if let Some(name) = name {
                    kind.args(["--name", name]);
                }
                kind
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(destination: &str) -> String {
        let destination: Destination = destination.parse().unwrap();
        let command = destination.command(Path::new("/a.tar"));
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn an_archive_goes_to_containerd_or_kind() {
        assert_eq!(
            line("containerd"),
            "ctr --namespace k8s.io images import /a.tar"
        );
        assert_eq!(
            line("containerd=/run/c.sock"),
            "ctr --address /run/c.sock --namespace k8s.io images import /a.tar"
        );
        assert_eq!(line("kind"), "kind load image-archive /a.tar");
        assert_eq!(
            line("kind=lab"),
            "kind load image-archive /a.tar --name lab"
        );
        assert!("docker".parse::<Destination>().is_err());
        assert!("kind=".parse::<Destination>().is_err());
    }
}
