//! The runs of the datagrams to one sensor.
//!
//! In: the datagrams, once, and then the place of each message. Out: the run that starts there. Messages are made
//! in the order of the datagrams, so the next one starts where the last run ended. Any other place means that
//! the datagrams there are not divided yet, or no longer: then there is no run.

use mirror::TrailerBound;
use mirror::runs::{Candidate, Run, Search};

/// The datagrams of a group from some place on, divided into runs, which are taken one after the other.
#[derive(Debug, Default)]
pub(crate) struct Division {
    search: Search,
    /// The number of the next run.
    next: usize,
    /// Its place.
    place: usize,
}

impl Division {
    /// Divides the datagrams from a place on.
    pub(crate) fn divide<C>(&mut self, place: usize, candidates: C, bound: TrailerBound)
    where
        C: IntoIterator<Item = Candidate, IntoIter: Clone>,
    {
        self.search.divide(candidates, bound);
        self.next = 0;
        self.place = place;
    }

    /// Takes the run at a place, if it is the next one.
    pub(crate) fn take(&mut self, place: usize) -> Option<Run> {
        let run = *self.search.runs().get(self.next)?;
        if place != self.place {
            return None;
        }
        self.next += 1;
        self.place += run.count as usize;
        Some(run)
    }

    /// Removes all runs.
    pub(crate) fn clear(&mut self) {
        // No run has this number.
        self.next = usize::MAX;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_taken_in_order_and_only_at_their_places() {
        let candidate = |length| Candidate {
            length,
            shows_end: true,
        };
        let mut division = Division::default();
        assert_eq!(division.take(0), None);
        let lengths = [100, 100, 1400, 1400, 60];
        division.divide(7, lengths.map(candidate), TrailerBound::NONE);
        assert_eq!(division.take(0), None);
        assert_eq!(division.take(7).map(|run| run.count), Some(2));
        assert_eq!(division.take(7), None, "it was taken");
        assert_eq!(division.take(9).map(|run| run.count), Some(3));
        assert_eq!(division.take(12), None, "the end");
        division.divide(7, lengths.map(candidate), TrailerBound::NONE);
        division.clear();
        assert_eq!(division.take(7), None);
    }
}
