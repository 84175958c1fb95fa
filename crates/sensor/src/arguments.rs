//! The command line: which command, and its options with their defaults.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::{Long, Short, Value};
use lexopt::{Parser, ValueExt as _};
use wire::InterfaceName;
use wire::{Vni, vxlan};

use crate::error::Error;

/// The text of `--help`.
pub(crate) const USAGE: &str = "\
podspan-sensor: a receiver for trying podspan. It counts the frames that it receives.

podspan-sensor device [options]
    Makes the kernel's vxlan device, for an init container with NET_ADMIN. What the device receives
    can be captured, and does not reach this pod's own IP stack. A device that exists is checked.
      --name NAME      the device's name (vxlan0)
      --port PORT      the UDP port (4789)
      --vni VNI        only this VNI, in decimal or 0x; without it, all VNIs
      --ipv6           with --vni: receive over IPv6 instead of IPv4; without --vni it is both
      --hold           stay until SIGTERM, then delete the device: for a pod with hostNetwork

podspan-sensor capture [options]
    Captures, and prints a line each second. On a vxlan device it reads plain frames, elsewhere it
    takes them out of VXLAN datagrams. It needs NET_RAW.
      --interface NAME the interface (eth0)
      --port PORT      the UDP port of the datagrams (4789)
      --write FILE     write the frames to a pcap file; - is standard output
      --seconds N      end after N seconds

podspan-sensor ready
    Succeeds when a capture runs in this pod, for a startup probe: copies that arrive before are lost.

podspan-sensor --help | --version
";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Version,
    Device(DeviceOptions),
    Capture(CaptureOptions),
    Ready,
}

/// The options of `device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceOptions {
    pub(crate) name: InterfaceName,
    pub(crate) port: u16,
    /// `None`: all VNIs.
    pub(crate) vni: Option<Vni>,
    pub(crate) ipv6: bool,
    pub(crate) hold: bool,
}

/// The options of `capture`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CaptureOptions {
    pub(crate) interface: InterfaceName,
    pub(crate) port: u16,
    pub(crate) write: Option<Output>,
    pub(crate) seconds: Option<Duration>,
}

/// Where frames are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    Stdout,
    File(PathBuf),
}

/// Reads the arguments after the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Error> {
    let mut parser = Parser::from_args(arguments);
    let first = parser.next()?;
    match first {
        Some(Long("help") | Short('h')) => Ok(Command::Help),
        Some(Long("version") | Short('V')) => Ok(Command::Version),
        Some(Value(command)) if command == "device" => device(&mut parser).map(Command::Device),
        Some(Value(command)) if command == "capture" => capture(&mut parser).map(Command::Capture),
        Some(Value(command)) if command == "ready" => match parser.next()? {
            Some(other) => Err(other.unexpected().into()),
            None => Ok(Command::Ready),
        },
        Some(other) => Err(other.unexpected().into()),
        None => {
            let message = "which command: device, capture or ready?";
            Err(Error::Usage(message.to_owned()))
        }
    }
}

fn device(parser: &mut Parser) -> Result<DeviceOptions, Error> {
    let mut options = DeviceOptions {
        name: interface("--name", "vxlan0")?,
        port: vxlan::PORT,
        vni: None,
        ipv6: false,
        hold: false,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("name") => options.name = interface("--name", &text(parser)?)?,
            Long("port") => options.port = port(&text(parser)?)?,
            Long("vni") => options.vni = Some(vni(&text(parser)?)?),
            Long("ipv6") => options.ipv6 = true,
            Long("hold") => options.hold = true,
            other => return Err(other.unexpected().into()),
        }
    }
    if options.ipv6 && options.vni.is_none() {
        let message = "--ipv6 needs --vni: a device for all VNIs receives over both families";
        return Err(Error::Usage(message.to_owned()));
    }
    Ok(options)
}

fn capture(parser: &mut Parser) -> Result<CaptureOptions, Error> {
    let mut options = CaptureOptions {
        interface: interface("--interface", "eth0")?,
        port: vxlan::PORT,
        write: None,
        seconds: None,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("interface") => options.interface = interface("--interface", &text(parser)?)?,
            Long("port") => options.port = port(&text(parser)?)?,
            Long("write") => {
                let file = parser.value()?;
                options.write = Some(if file == "-" {
                    Output::Stdout
                } else {
                    Output::File(file.into())
                });
            }
            Long("seconds") => options.seconds = Some(seconds(&text(parser)?)?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(options)
}

fn text(parser: &mut Parser) -> Result<String, Error> {
    Ok(parser.value()?.string()?)
}

fn interface(option: &str, name: &str) -> Result<InterfaceName, Error> {
    let rule = wire::InvalidInterfaceName::RULE;
    name.parse().map_err(|_| {
        Error::Usage(format!(
            "{option} is {name:?}: an interface's name has {rule}, for example vxlan0"
        ))
    })
}

fn port(port: &str) -> Result<u16, Error> {
    let number = port.parse().ok().filter(|&port| port != 0);
    number.ok_or_else(|| Error::Usage(format!("--port is {port:?}: it must be 1 to 65535")))
}

fn vni(vni: &str) -> Result<Vni, Error> {
    let number = match vni.strip_prefix("0x") {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok(),
        None => vni.parse().ok(),
    };
    number.and_then(Vni::new).ok_or_else(|| {
        Error::Usage(format!(
            "--vni is {vni:?}: it must be 0 to 16777215, or 0x0 to 0xffffff"
        ))
    })
}

fn seconds(seconds: &str) -> Result<Duration, Error> {
    let number = seconds.parse::<u32>().ok().filter(|&number| number != 0);
    let number = number
        .ok_or_else(|| Error::Usage(format!("--seconds is {seconds:?}: it must be 1 or more")))?;
    Ok(Duration::from_secs(number.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_help() {
        let device = DeviceOptions {
            name: "vxlan0".parse().unwrap(),
            port: 4789,
            vni: None,
            ipv6: false,
            hold: false,
        };
        assert_eq!(parsed("device"), Ok(Command::Device(device)));
        let capture = CaptureOptions {
            interface: "eth0".parse().unwrap(),
            port: 4789,
            write: None,
            seconds: None,
        };
        assert_eq!(parsed("capture"), Ok(Command::Capture(capture)));
        assert_eq!(parsed("ready"), Ok(Command::Ready));
        assert_eq!(parsed("--help"), Ok(Command::Help));
        assert_eq!(parsed("-V"), Ok(Command::Version));
    }

    #[test]
    fn every_option_is_read() {
        let device = DeviceOptions {
            name: "podspan0".parse().unwrap(),
            port: 4790,
            vni: Vni::new(0x10),
            ipv6: true,
            hold: true,
        };
        let line = "device --name podspan0 --port=4790 --vni 0x10 --ipv6 --hold";
        assert_eq!(parsed(line), Ok(Command::Device(device)));
        let capture = CaptureOptions {
            interface: "lo".parse().unwrap(),
            port: 1,
            write: Some(Output::Stdout),
            seconds: Some(Duration::from_secs(5)),
        };
        let line = "capture --interface lo --port 1 --write - --seconds 5";
        assert_eq!(parsed(line), Ok(Command::Capture(capture)));
        let Ok(Command::Capture(options)) = parsed("capture --write a.pcap") else {
            panic!("the file is read");
        };
        assert_eq!(options.write, Some(Output::File("a.pcap".into())));
    }

    #[test]
    fn a_wrong_argument_is_named_with_its_rule() {
        let cases = [
            ("", "which command: device, capture or ready?"),
            ("ready --interface eth0", "--interface"),
            ("listen", "\"listen\""),
            ("device --port 0", "--port is \"0\": it must be 1 to 65535"),
            ("device --vni 16777216", "0 to 16777215"),
            ("device --vni 1a", "--vni is \"1a\""),
            ("device --name a/b", "--name is \"a/b\""),
            ("device --ipv6", "--ipv6 needs --vni"),
            ("capture --vni 1", "--vni"),
            ("capture --seconds 0", "--seconds is \"0\""),
            ("capture --write", "--write"),
        ];
        for (line, part) in cases {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
            assert!(error.ends_with("see podspan-sensor --help"), "{error}");
        }
    }
}
