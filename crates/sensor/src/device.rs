//! `device`: the kernel's vxlan device as a receiver.
//!
//! In: name, port, VNI. Out: a device that is up and only receives. What is set, and why:
//!
//! - without a VNI the device is `external` (collect metadata). One such device receives every VNI, over
//!   IPv4 and IPv6; a device with a VNI receives that one over one family, and the two kinds cannot share
//!   a port (measured);
//! - it learns no addresses and has no remote, so nothing is ever sent through it; `NOARP` and no
//!   link-local address keep the pod from trying;
//! - what is received stays away from the pod's IP stack ([`crate::isolation`]);
//! - `gro_max_size` is 0: the device would merge TCP segments into frames of up to 64 KB with unfinished
//!   checksums, which sensors read as bad ones (measured with a sender that uses UDP GSO: 200 frames for
//!   10,000).
//!
//! A container that is restarted finds the device of its predecessor: a device of the same kind, VNI and
//! port is used, another one is an error. All settings are made again, in an order in which no frame
//! reaches the IP stack: the device is brought up last.

use std::net::Ipv6Addr;
use std::thread;
use std::time::Duration;

use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVxlan, LinkAttribute, LinkInfo,
    LinkMessage,
};
use nix::errno::Errno;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVxlan};

use crate::arguments::DeviceOptions;
use crate::error::Error;
use crate::isolation;
use crate::netlink::{find, infos, is_vxlan, refusal, with};
use crate::signals::Stop;

/// How often `--hold` checks for the signal.
const HOLD_CHECK_EVERY: Duration = Duration::from_millis(100);

/// Makes or checks the device; with `--hold` deletes it again on SIGTERM.
pub(crate) fn run(options: &DeviceOptions) -> Result<(), Error> {
    let stop = Stop::on_signals()?;
    let name = options.name.as_str();
    let merges = with(async |netlink| ensure(&netlink, options).await)?;
    let what = options
        .vni
        .map_or("all VNIs".to_owned(), |vni| format!("VNI {}", vni.get()));
    eprintln!(
        "podspan-sensor: {name} is up and receives {what} at UDP port {}",
        options.port
    );
    if merges {
        eprintln!(
            "podspan-sensor: this kernel cannot turn off the merging of segments on {name} \
             (gro_max_size, Linux 5.19). If the sensor reports frames above the MTU or bad checksums, \
             run: ethtool -K {name} gro off"
        );
    }
    if !options.hold {
        return Ok(());
    }
    while !stop.is_requested() {
        thread::sleep(HOLD_CHECK_EVERY);
    }
    with(async |netlink| delete(&netlink, name).await)?;
    isolation::release(name).map_err(|error| Error::system(format!("release {name}"), &error))
}

/// Makes the device where there is none, sets it up, and returns whether it still merges segments.
async fn ensure(netlink: &Handle, options: &DeviceOptions) -> Result<bool, Error> {
    let name = options.name.as_str();
    if find(netlink, name).await?.is_none() {
        let made = netlink.link().add(wanted(options)).execute().await;
        made.map_err(|error| match refusal(&error) {
            Some(Errno::EADDRINUSE | Errno::EEXIST) => port_in_use(options),
            _ => refused(&format!("make the vxlan device {name}"), &error),
        })?;
    }
    let missing = || {
        Error::system(
            format!("find the device {name}"),
            &"it was deleted meanwhile",
        )
    };
    let link = find(netlink, name).await?.ok_or_else(missing)?;
    if let Some(difference) = difference(&link, options) {
        let name = name.to_owned();
        return Err(Error::OtherDevice { name, difference });
    }
    isolation::isolate(name).map_err(|source| match source.raw_os_error() {
        Some(libc::EPERM) => Error::NetAdmin {
            doing: format!("keep the frames of {name} away from the IP stack"),
        },
        _ => Error::Isolation {
            name: name.to_owned(),
            source,
        },
    })?;
    set_up(netlink, link.header.index, options).await?;
    let link = find(netlink, name).await?.ok_or_else(missing)?;
    Ok(!link.attributes.contains(&LinkAttribute::GroMaxSize(0)))
}

/// Sets the device up, and brings it up, which opens the port.
async fn set_up(netlink: &Handle, index: u32, options: &DeviceOptions) -> Result<(), Error> {
    let name = options.name.as_str();
    let no_address =
        LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
            In6AddrGenMode::None,
        )])]);
    let quiet = LinkUnspec::new_with_index(index)
        .arp(false)
        .append_extra_attribute(LinkAttribute::GroMaxSize(0));
    // Where IPv6 is disabled the kernel refuses the attribute, and there is no address to prevent.
    let no_address = LinkUnspec::new_with_index(index).append_extra_attribute(no_address);
    let _ = netlink.link().change(no_address.build()).execute().await;
    for message in [
        quiet.build(),
        LinkUnspec::new_with_index(index).up().build(),
    ] {
        let changed = netlink.link().change(message).execute().await;
        changed.map_err(|error| match refusal(&error) {
            Some(Errno::EADDRINUSE) => port_in_use(options),
            _ => refused(&format!("set up the vxlan device {name}"), &error),
        })?;
    }
    Ok(())
}

async fn delete(netlink: &Handle, name: &str) -> Result<(), Error> {
    let Some(link) = find(netlink, name).await? else {
        return Ok(());
    };
    let deleted = netlink.link().del(link.header.index).execute().await;
    deleted.map_err(|error| refused(&format!("delete the device {name}"), &error))
}

/// The request for a new device, which is down.
fn wanted(options: &DeviceOptions) -> LinkMessage {
    let device = LinkMessageBuilder::<LinkVxlan>::new(options.name.as_str())
        .port(options.port)
        .learning(false);
    match options.vni {
        None => device.collect_metadata(true),
        // An address of the family, though it is no certain one, says which family.
        Some(vni) if options.ipv6 => device.id(vni.get()).local6(Ipv6Addr::UNSPECIFIED),
        Some(vni) => device.id(vni.get()),
    }
    .build()
}

/// What makes an existing device another one than the options ask for.
fn difference(link: &LinkMessage, options: &DeviceOptions) -> Option<String> {
    if !is_vxlan(link) {
        return Some("it is no vxlan device".to_owned());
    }
    let (mut port, mut vni, mut all) = (None, None, false);
    let data = infos(link).filter_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
        _ => None,
    });
    for info in data.flatten() {
        match info {
            InfoVxlan::Port(value) => port = Some(*value),
            InfoVxlan::Id(value) => vni = Some(*value),
            InfoVxlan::CollectMetadata(value) => all = *value,
            _ => {}
        }
    }
    let shown = |vni: Option<u32>| vni.map_or("all VNIs".to_owned(), |vni| format!("VNI {vni}"));
    let (vni, expected) = (vni.filter(|_| !all), options.vni.map(wire::Vni::get));
    if port != Some(options.port) {
        let port = port.map_or("no port".to_owned(), |port| format!("port {port}"));
        return Some(format!("it has {port}, not {}", options.port));
    }
    // Over which family a device with a VNI receives cannot be read: the kernel does not report the
    // unspecified address.
    (vni != expected).then(|| format!("it receives {}, not {}", shown(vni), shown(expected)))
}

fn port_in_use(options: &DeviceOptions) -> Error {
    Error::PortInUse {
        name: options.name.to_string(),
        port: options.port,
    }
}

fn refused(doing: &str, error: &rtnetlink::Error) -> Error {
    match refusal(error) {
        Some(Errno::EPERM) => Error::NetAdmin {
            doing: doing.to_owned(),
        },
        Some(Errno::EOPNOTSUPP) => Error::system(
            doing,
            &"the kernel has no vxlan devices: load its module vxlan on the node (modprobe vxlan), or use \
             the form that captures on eth0",
        ),
        Some(errno) => Error::system(doing, &errno),
        None => Error::system(doing, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(vni: Option<u32>) -> DeviceOptions {
        DeviceOptions {
            name: "vxlan0".parse().unwrap(),
            port: 4789,
            vni: vni.and_then(wire::Vni::new),
            ipv6: false,
            hold: false,
        }
    }

    #[test]
    fn the_device_that_it_makes_is_the_one_that_it_finds() {
        let ipv6 = DeviceOptions {
            ipv6: true,
            ..options(Some(5))
        };
        for options in [options(None), options(Some(5)), ipv6] {
            assert_eq!(difference(&wanted(&options), &options), None);
        }
    }

    #[test]
    fn another_device_is_named_by_what_differs() {
        let all = wanted(&options(None));
        let five = wanted(&options(Some(5)));
        let other_port = DeviceOptions {
            port: 4790,
            ..options(None)
        };
        let dummy = LinkUnspec::new_with_name("vxlan0").build();
        for (link, options, text) in [
            (&dummy, options(None), "it is no vxlan device"),
            (&all, other_port, "it has port 4789, not 4790"),
            (&all, options(Some(5)), "it receives all VNIs, not VNI 5"),
            (&five, options(None), "it receives VNI 5, not all VNIs"),
            (&five, options(Some(6)), "it receives VNI 5, not VNI 6"),
        ] {
            assert_eq!(difference(link, &options).as_deref(), Some(text));
        }
    }
}
