//! Gives all rings the filter that `filter_choice` decides, while the worker reads them.
//!
//! In: the annotations of podspan's own pod. Out: programs on the rings' sockets, and log lines.
//!
//! Invariants: all rings have the same filter. If the kernel refuses it for one, all of them have the last one
//! that it accepted; `podspan.dev/mirror` is obeyed all the same.

use capture::{FilterHandle, FilterRefused};
use discovery::OwnAnnotations;

use crate::filter_choice::{Change, FilterChoice, FilterStatus, Mirrored};

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
    /// The choice with the last filter that the kernel accepted. While mirroring is off, no filter is attached,
    /// so the kernel may refuse that of `choice` later.
    accepted: FilterChoice,
    /// What all rings have; `None` if they may differ.
    attached: Option<Mirrored>,
}

impl<A: Attach> RingFilters<A> {
    /// The rings have been opened with the choice.
    pub(crate) fn new(rings: Vec<A>, choice: FilterChoice) -> Self {
        Self {
            rings,
            accepted: choice.clone(),
            attached: Some(choice.mirrored()),
            choice,
        }
    }

    /// What is in force.
    pub(crate) fn status(&self) -> FilterStatus {
        FilterStatus {
            is_off: self.attached == Some(Mirrored::Nothing),
            ..self.choice.status()
        }
    }

    /// Attaches what the annotations require, and logs what has changed.
    pub(crate) fn update(&mut self, annotations: OwnAnnotations) {
        let (next, changes) = self.choice.next(annotations);
        self.choice = next;
        let wanted = self.choice.mirrored();
        let Err(error) = self.attach(&wanted) else {
            if wanted != Mirrored::Nothing {
                self.accepted = self.choice.clone();
            }
            return changes.iter().for_each(log);
        };
        self.choice.use_filter_of(&self.accepted);
        let has_switched = if wanted == Mirrored::Nothing {
            tracing::warn!("mirroring cannot be switched off, and continues: {error}");
            false
        } else {
            tracing::warn!(
                "the filter of the annotation podspan.dev/filter is not used, and the last one that the kernel \
                 accepted stays: {error}; make podspan.dev/filter shorter, for example with nets in the place of \
                 hosts"
            );
            self.attach(&self.choice.mirrored()).is_ok()
        };
        let is_true = |change: &&Change| change.is_refusal() || has_switched && change.is_switch();
        changes.iter().filter(is_true).for_each(log);
    }

    fn attach(&mut self, mirrored: &Mirrored) -> Result<(), FilterRefused> {
        if self.attached.as_ref() == Some(mirrored) {
            return Ok(());
        }
        for (count, ring) in self.rings.iter().enumerate() {
            let Err(error) = ring.attach(mirrored) else {
                continue;
            };
            if count > 0 {
                self.restore(count);
            }
            return Err(error);
        }
        self.attached = Some(mirrored.clone());
        Ok(())
    }

    /// Gives the first rings back what all had.
    fn restore(&mut self, count: usize) {
        let Some(last) = self.attached.take() else {
            return;
        };
        for ring in self.rings.iter().take(count) {
            if let Err(error) = ring.attach(&last) {
                tracing::warn!(
                    "the interfaces have different filters until an annotation changes: {error}"
                );
                return;
            }
        }
        self.attached = Some(last);
    }
}

fn log(change: &Change) {
    if change.is_refusal() {
        tracing::warn!("{change}");
    } else {
        tracing::info!("{change}");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use filter::Filter;

    use super::*;
    use crate::filter_choice::FilterOrigin;

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
        let status = |origin, text: &str, is_off| FilterStatus {
            origin,
            text: text.to_owned(),
            is_off,
        };
        let expected = status(FilterOrigin::Annotation, "icmp", false);
        assert_eq!(filters.status(), expected);
        filters.update(OwnAnnotations {
            filter: None,
            mirror: Some("off".to_owned()),
        });
        let expected = status(FilterOrigin::Setting, "udp", true);
        assert_eq!(filters.status(), expected);
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

    /// While mirroring is off, the kernel has not judged the filter.
    #[test]
    fn a_filter_that_is_refused_when_mirroring_is_switched_on_leaves_it_on_with_the_last_filter() {
        let mut filters = filters(&[100, 10]);
        for (filter, mirror) in [
            ("tcp", "on"),
            ("tcp", "off"),
            ("tcp port 8080", "off"),
            ("tcp port 8080", "on"),
            ("tcp port 8080", "maybe"),
            ("icmp", "on"),
        ] {
            filters.update(annotations(filter, mirror));
        }
        let expected = [
            vec!["tcp", "-", "tcp port 8080", "-", "tcp", "icmp"],
            vec!["tcp", "-", "tcp", "icmp"],
        ];
        assert_eq!(attached(&filters), expected);
    }

    #[test]
    fn a_refused_filter_does_not_hide_the_switch() {
        let mut filters = filters(&[10]);
        filters.update(annotations("tcp port 8080", "off"));
        filters.update(annotations("tcp port 8081", "on"));
        assert_eq!(attached(&filters), [vec!["-", "udp"]]);
    }
}
