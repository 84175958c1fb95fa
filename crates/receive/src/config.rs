//! Reads the settings from the environment, and collects all errors.

use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::str::FromStr;

use program::{Reading, UNKNOWN_WORD, parsed};
use tunnel::responder::Limits;

use crate::variable as table;

/// What takes the copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// A sensor that captures: it must see one datagram at a time.
    Sniffer,
    /// A UDP socket or a vxlan device: the kernel gives it one datagram at a time.
    Socket,
}

/// The settings, each valid.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where podspans send to.
    pub listen: SocketAddr,
    /// The file with the private key.
    pub private_key: PathBuf,
    /// The file with the pre-shared keys.
    pub preshared_keys: PathBuf,
    /// Where the copies go.
    pub forward: SocketAddr,
    /// What takes them.
    pub receiver: Receiver,
    /// Where metrics and the state are; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// How many threads decrypt.
    pub threads: NonZeroU8,
    /// What podspans may cost each thread.
    pub limits: Limits,
}

impl Config {
    /// Reads all settings but those of the log.
    pub fn read(reading: &mut Reading) -> Option<Self> {
        let listen = reading.value(&table::LISTEN, parsed);
        let private_key = reading.value(&table::PRIVATE_KEY_FILE, file);
        let preshared_keys = reading.value(&table::PRESHARED_KEYS_FILE, file);
        let forward = reading.value(&table::FORWARD, forward);
        let receiver = reading.value(&table::RECEIVER, |text| match text {
            "sniffer" => Ok(Receiver::Sniffer),
            "socket" => Ok(Receiver::Socket),
            _ => Err(UNKNOWN_WORD.to_owned()),
        });
        let metrics = reading.value(&table::METRICS, |text| match text {
            "off" => Ok(None),
            text => parsed(text).map(Some),
        });
        let threads = reading.value(&table::THREADS, |text| number(text, 1, 16));
        let peers = reading.value(&table::PEERS, |text| number(text, 1, 16_384));
        let handshakes = reading.value(&table::HANDSHAKES, |text| number(text, 1, 10_000));
        Some(Self {
            listen: listen?,
            private_key: private_key?,
            preshared_keys: preshared_keys?,
            forward: forward?,
            receiver: receiver?,
            metrics: metrics?,
            threads: NonZeroU8::new(threads?)?,
            limits: Limits {
                peers: peers?,
                handshakes: handshakes?,
                ..Limits::default()
            },
        })
    }
}

fn file(text: &str) -> Result<PathBuf, String> {
    if text.starts_with('/') {
        Ok(text.into())
    } else {
        Err("it is not an absolute path".to_owned())
    }
}

fn forward(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = parsed(text)?;
    if address.port() == 0 || address.ip().is_unspecified() {
        return Err("nothing can be sent there".to_owned());
    }
    Ok(address)
}

fn number<T: FromStr + PartialOrd + Copy>(text: &str, min: T, max: T) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    let number = text.parse().map_err(|error: T::Err| error.to_string())?;
    if number < min || number > max {
        return Err("it is out of bounds".to_owned());
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use program::{ConfigErrors, Log};
    use tracing::Level;

    use super::*;
    use crate::variable::{PROGRAM, SETTINGS};

    fn read(variables: &[(&str, &str)]) -> Result<(Log, Config), ConfigErrors> {
        let pairs = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        PROGRAM.read(pairs, Config::read)
    }

    #[test]
    fn without_variables_the_defaults_apply() {
        let (log, config) = read(&[("PATH", "/bin"), ("LOG", "")]).unwrap();
        assert_eq!(config.listen, "[::]:51820".parse().unwrap());
        assert_eq!(config.forward, "127.0.0.1:4789".parse().unwrap());
        assert_eq!(config.receiver, Receiver::Sniffer);
        assert_eq!(config.metrics, "[::]:9470".parse().ok());
        assert_eq!(config.threads.get(), 1);
        assert_eq!(config.limits, Limits::default());
        assert_eq!(log.level, Level::INFO);
    }

    #[test]
    fn every_example_is_valid() {
        for setting in SETTINGS {
            let config = read(&[(setting.name, setting.example)]);
            assert!(config.is_ok(), "{}", config.unwrap_err());
        }
    }

    #[test]
    fn wrong_values_are_named() {
        let errors = read(&[
            ("HANDSHAKES", "0"),
            ("LISTEN", "51820"),
            ("FORWARD", "0.0.0.0:4789"),
            ("PRIVATE_KEY_FILE", "key"),
            ("THREADS", "17"),
            ("RECEIVER", "device"),
            ("METRICS", "on"),
        ])
        .unwrap_err();
        let names: Vec<_> = errors
            .errors
            .iter()
            .map(|error| error.variable.name)
            .collect();
        let expected = [
            "LISTEN",
            "PRIVATE_KEY_FILE",
            "FORWARD",
            "RECEIVER",
            "METRICS",
            "THREADS",
            "HANDSHAKES",
        ];
        assert_eq!(names, expected);
        let text = errors.to_string();
        assert!(
            text.contains("FORWARD=\"0.0.0.0:4789\": nothing can be sent there; expected: "),
            "{text}"
        );
        assert!(
            text.ends_with("podspan-receive --help describes every setting"),
            "{text}"
        );
    }
}
