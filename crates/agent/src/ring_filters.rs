//! Gives all rings the filter that `filter_choice` decides, while the worker reads them.
//!
//! In: the annotations of podspan's own pod. Out: programs on the rings' sockets, and log lines.
//!
//! Invariant: all rings have the same filter. If the kernel refuses it for one, the others get the last one
//! back.

use capture::{FilterHandle, FilterRefused};
use discovery::OwnAnnotations;

use crate::filter_choice::{FilterChoice, Mirrored};

/// Where a filter is attached.
pub(crate) trait Attach {
    /// Replaces the filter.
    fn attach(&self, mirrored: &Mirrored) -> Result<(), FilterRefused>;
}

impl Attach for FilterHandle {
    fn attach(&self, mirrored: &Mirrored) -> Result<(), FilterRefused> {
        match mirrored {
            Mirrored::Nothing => self.reject_all(),
            Mirrored::Accepted(filter) => self.replace(filter.as_deref()),
        }
    }
}

/// The filters of all rings.
pub(crate) struct RingFilters<A = FilterHandle> {
    rings: Vec<A>,
    choice: FilterChoice,
}

impl<A: Attach> RingFilters<A> {
    /// The rings have been opened with the choice.
    pub(crate) const fn new(rings: Vec<A>, choice: FilterChoice) -> Self {
        Self { rings, choice }
    }

    /// Attaches what the annotations require, and logs what has changed.
    pub(crate) fn update(&mut self, annotations: OwnAnnotations) {
        let (next, changes) = self.choice.next(annotations);
        if let Err(error) = self.attach(&next.mirrored()) {
            tracing::warn!(
                "the annotations podspan.dev/filter and podspan.dev/mirror are not applied, and what podspan \
                 mirrored before stays: {error}; make podspan.dev/filter shorter, for example with nets in the \
                 place of hosts"
            );
            self.choice.keep(next);
            return;
        }
        self.choice = next;
        for change in changes {
            if change.is_refusal() {
                tracing::warn!("{change}");
            } else {
                tracing::info!("{change}");
            }
        }
    }

    fn attach(&self, mirrored: &Mirrored) -> Result<(), FilterRefused> {
        let last = self.choice.mirrored();
        if *mirrored == last {
            return Ok(());
        }
        for (count, ring) in self.rings.iter().enumerate() {
            let Err(error) = ring.attach(mirrored) else {
                continue;
            };
            for ring in self.rings.iter().take(count) {
                if let Err(error) = ring.attach(&last) {
                    tracing::warn!(
                        "the interfaces have different filters until the next change: {error}"
                    );
                }
            }
            return Err(error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use filter::Filter;

    use super::*;

    /// A socket with a limit for the length of a filter's text.
    struct Ring {
        limit: usize,
        attached: RefCell<Vec<Mirrored>>,
    }

    impl Attach for Ring {
        fn attach(&self, mirrored: &Mirrored) -> Result<(), FilterRefused> {
            let length = match mirrored {
                Mirrored::Accepted(Some(filter)) => filter.text().len(),
                _ => 0,
            };
            if length > self.limit {
                return Err(FilterRefused {
                    instructions: length,
                    source: std::io::ErrorKind::OutOfMemory.into(),
                });
            }
            self.attached.borrow_mut().push(mirrored.clone());
            Ok(())
        }
    }

    fn filters(limits: &[usize]) -> RingFilters<Ring> {
        let ring = |limit: &usize| Ring {
            limit: *limit,
            attached: RefCell::default(),
        };
        let setting = Filter::new("udp").unwrap();
        RingFilters::new(
            limits.iter().map(ring).collect(),
            FilterChoice::new(Some(setting)),
        )
    }

    /// The texts that were attached to each ring; `-` rejects all.
    fn attached(filters: &RingFilters<Ring>) -> Vec<Vec<String>> {
        let text = |mirrored: &Mirrored| match mirrored {
            Mirrored::Nothing => "-".to_owned(),
            Mirrored::Accepted(filter) => filter.as_ref().unwrap().text().to_owned(),
        };
        let of_ring = |ring: &Ring| ring.attached.borrow().iter().map(text).collect();
        filters.rings.iter().map(of_ring).collect()
    }

    fn annotations(filter: &str, mirror: &str) -> OwnAnnotations {
        OwnAnnotations {
            filter: Some(filter.to_owned()),
            mirror: Some(mirror.to_owned()),
        }
    }

    #[test]
    fn every_ring_gets_each_filter_once() {
        let mut filters = filters(&[100, 100]);
        for (filter, mirror) in [
            ("tcp", "on"),
            ("tcp", "off"),
            ("prot", "off"),
            ("icmp", "off"),
            ("icmp", "on"),
            ("icmp", "maybe"),
        ] {
            filters.update(annotations(filter, mirror));
        }
        for ring in attached(&filters) {
            assert_eq!(ring, ["tcp", "-", "icmp"]);
        }
    }

    #[test]
    fn if_the_kernel_refuses_a_filter_every_ring_keeps_the_last_one() {
        let mut filters = filters(&[100, 10]);
        filters.update(annotations("tcp", "on"));
        filters.update(annotations("tcp port 8080", "on"));
        assert_eq!(
            attached(&filters),
            [vec!["tcp", "tcp port 8080", "tcp"], vec!["tcp"]]
        );
        filters.update(annotations("tcp port 8080", "off"));
        filters.update(annotations("tcp port 8080", "on"));
        let expected = [
            vec!["tcp", "tcp port 8080", "tcp", "-", "tcp"],
            vec!["tcp", "-", "tcp"],
        ];
        assert_eq!(attached(&filters), expected);
    }
}
