//! The order in which the datagrams of a batch are sent.
//!
//! In: a batch. Out: for each source port the numbers of its datagrams, in the order of the batch. With
//! one port, the default, this is the batch's order, so each sensor gets the order of the wire. With
//! several ports, all traffic of two hosts has one port, so it keeps its order. The datagrams are sorted
//! only by port: a counting sort, two passes, no comparison.
//!
//! Later, neighbours of a group that go to one sensor and have the same length can be sent as one message
//! (UDP GSO), if the sensor's receiver allows it. The code that finds them belongs here.

use core::ops::Range;

use crate::batch::{Batch, PortIndex};
use crate::spread::SourcePorts;

const PORTS: usize = SourcePorts::MAX.get() as usize;

/// The numbers of a batch's datagrams, grouped by source port. Reused without allocation.
#[derive(Debug, Default)]
pub struct Plan {
    order: Vec<u32>,
    groups: [Range<usize>; PORTS],
}

impl Plan {
    /// Plans a batch.
    pub fn make(&mut self, batch: &Batch) {
        let datagrams = batch.datagrams();
        let mut counts = [0_usize; PORTS];
        for datagram in datagrams {
            counts[slot(datagram.port)] += 1;
        }
        let mut next = [0_usize; PORTS];
        let mut start = 0;
        for ((group, next), count) in self.groups.iter_mut().zip(&mut next).zip(counts) {
            *group = start..start + count;
            *next = start;
            start += count;
        }
        self.order.clear();
        self.order.resize(datagrams.len(), 0);
        for (number, datagram) in (0_u32..).zip(datagrams) {
            let next = &mut next[slot(datagram.port)];
            self.order[*next] = number;
            *next += 1;
        }
    }

    /// Each source port with datagrams, and their numbers.
    pub fn groups(&self) -> impl Iterator<Item = (PortIndex, &[u32])> {
        (0_u8..)
            .zip(&self.groups)
            .filter(|(_, group)| !group.is_empty())
            .map(|(port, group)| (PortIndex(port), &self.order[group.clone()]))
    }
}

fn slot(port: PortIndex) -> usize {
    usize::from(port.0) % PORTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SensorIndex;
    use crate::batch::Route;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_datagram_is_sent_once_by_its_socket_and_in_order(ports in proptest::collection::vec(0_u8..SourcePorts::MAX.get(), 0..100)) {
            let mut batch = Batch::new();
            for port in &ports {
                let route = Route { sensor: SensorIndex(0), port: PortIndex(*port) };
                let mut frame = batch.frame([0; 8], route, 0);
                frame.start();
                frame.end(0..1);
                frame.commit();
            }
            let mut plan = Plan::default();
            plan.make(&batch);
            let mut seen = 0;
            for (port, numbers) in plan.groups() {
                prop_assert!(numbers.is_sorted_by(|a, b| a < b));
                prop_assert!(numbers.iter().all(|n| ports[*n as usize] == port.0));
                seen += numbers.len();
            }
            prop_assert_eq!(seen, ports.len());
        }
    }
}
