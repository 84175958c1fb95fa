//! The table of sensors that were given by address, and what is learned about the paths to them.
//!
//! The path's MTU comes from the kernel's routing, which knows the interface's MTU, the route's, and
//! what ICMP has said since; asking costs a socket and no datagram. A path that leads nowhere now
//! may lead somewhere later, so it counts as Ethernet's until then.

use mirror::{Sensor, SensorTable};
use wire::Mtu;

use crate::config::Config;

/// The sensors of `SENSOR`, each with the MTU of the path to it.
#[must_use]
pub(crate) fn table(config: &Config) -> SensorTable {
    let sensor = |address| {
        let unknown = config.mtu.unwrap_or(Mtu::MAX).min(Mtu::ETHERNET);
        Sensor::new(
            address,
            transmit::path_mtu(address, config.mtu).unwrap_or(unknown),
        )
    };
    SensorTable::new(config.sensor_addresses().map(sensor).collect())
}

/// Learns the paths anew, and tells of each that has changed.
pub(crate) fn refresh(table: &SensorTable, limit: Option<Mtu>, mut changed: impl FnMut(&Sensor)) {
    for sensor in table.sensors() {
        let Ok(learned) = transmit::path_mtu(sensor.address(), limit) else {
            continue;
        };
        if learned != sensor.path_mtu() {
            sensor.set_path_mtu(learned);
            changed(sensor);
        }
    }
}
