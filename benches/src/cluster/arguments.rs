//! The command line of the bench in a cluster. `cargo xtask bench --cluster` passes it on.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use acceptance::Images;
use lexopt::Parser;

use super::error::{Error, Result};
use super::plan::Plan;
use crate::options::{self, value};

/// How the sensors receive copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SensorForm {
    /// From the kernel's vxlan device; it needs `NET_ADMIN` in an init container.
    #[default]
    Device,
    /// From a packet capture.
    Sniffing,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// The cluster of `cargo xtask cluster up`.
    pub name: String,
    /// Another cluster.
    pub kubeconfig: Option<PathBuf>,
    /// A context of it.
    pub context: Option<String>,
    /// The images.
    pub images: Images,
    /// Where the files go.
    pub output: PathBuf,
    /// The namespace that is made and deleted.
    pub namespace: String,
    /// How the sensors receive.
    pub sensor: SensorForm,
    /// What is measured.
    pub plan: Plan,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            name: testbed::kind::Options::NAME.to_owned(),
            kubeconfig: None,
            context: None,
            images: Images::default(),
            output: testbed::target_folder().join("bench"),
            namespace: "podspan-bench".to_owned(),
            sensor: SensorForm::default(),
            plan: Plan::default(),
        }
    }
}

impl Arguments {
    /// Reads the command line without the program's name.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the argument.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let mut arguments = Self::default();
        options::read(words, |option, parser| arguments.set(option, parser))?;
        if arguments.kubeconfig.is_none() && arguments.context.is_some() {
            return Err(Error::Usage("--context belongs to --kubeconfig".to_owned()));
        }
        arguments.plan = arguments.plan.check()?;
        Ok(arguments)
    }

    fn set(&mut self, option: &str, parser: &mut Parser) -> Result<()> {
        let plan = &mut self.plan;
        match option {
            "name" => self.name = value(option, parser)?,
            "kubeconfig" => self.kubeconfig = Some(value::<PathBuf>(option, parser)?),
            "context" => self.context = Some(value(option, parser)?),
            "image" => self.images.podspan = value(option, parser)?,
            "tools" => self.images.tools = value(option, parser)?,
            "output" => self.output = value(option, parser)?,
            "namespace" => self.namespace = value(option, parser)?,
            "sensor" => self.sensor = value(option, parser)?,
            "rounds" => plan.rounds = value(option, parser)?,
            "seconds" => plan.seconds = value(option, parser)?,
            "http-rates" => plan.http_rates = list(option, parser)?,
            "tcp-mbits" => plan.tcp_mbits = value(option, parser)?,
            "packet-rates" => plan.packet_rates = list(option, parser)?,
            "packet-bytes" => plan.packet_bytes = value(option, parser)?,
            other => {
                let message = format!("--{other} is no option of bench --cluster");
                return Err(Error::Usage(message));
            }
        }
        Ok(())
    }
}

/// Numbers with commas between them; `none` is an empty list.
fn list(option: &str, parser: &mut Parser) -> Result<Vec<u32>> {
    let text: String = value(option, parser)?;
    if text == "none" {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| {
            Error::Usage(format!(
                "--{option} cannot be {text:?}: it is numbers with commas between them, or none"
            ))
        })
}

impl FromStr for SensorForm {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text {
            "device" => Ok(Self::Device),
            "sniffing" => Ok(Self::Sniffing),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments> {
        Arguments::read(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn every_option_is_read() {
        assert_eq!(read("").unwrap(), Arguments::default());
        let arguments = read(
            "--kubeconfig /k --context c --image i:1 --tools t:1 --output o --namespace n --sensor sniffing \
             --rounds 2 --seconds 1 --http-rates 5,6 --tcp-mbits 0 --packet-rates none --packet-bytes 64",
        )
        .unwrap();
        assert_eq!(arguments.context.as_deref(), Some("c"));
        assert_eq!(arguments.sensor, SensorForm::Sniffing);
        assert_eq!(arguments.plan.http_rates, [5, 6]);
        assert_eq!(arguments.plan.cases().len(), 2);
    }

    #[test]
    fn a_mistake_is_named() {
        for (line, text) in [
            ("--context c", "--context belongs to --kubeconfig"),
            ("--rounds many", "--rounds cannot be \"many\""),
            ("--http-rates 5,", "--http-rates cannot be \"5,\""),
            ("--seconds 0", "--seconds 0: it must be between 1 and 60"),
            ("--fast", "--fast is no option"),
            ("--sensor tap", "--sensor cannot be \"tap\""),
        ] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
