//! What was measured, and medians of it. Pure.

use serde::Serialize;

use super::limits::Limit;
use super::plan::{Case, Contender};
use crate::statistics::{median, median_ratio};

/// Outer Ethernet, IPv4 and UDP headers: what a copy has on the wire before its VXLAN header.
const OUTER: f64 = 42.0;

/// podspan's totals of a turn, and what the receiver counted in the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Totals {
    /// Frames for which the ring had no room.
    pub ring_drops: u64,
    /// Frames that were not mirrored.
    pub frames_dropped: u64,
    /// Datagrams that the kernel refused.
    pub datagrams_dropped: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Messages in which they were sent.
    pub messages_sent: u64,
    /// Bytes from the VXLAN headers on, without trailers.
    pub bytes_sent: u64,
    /// Bytes of trailers.
    pub trailer_bytes: u64,
    /// Datagrams at the receiver.
    pub arrived: u64,
}

impl Totals {
    /// Whether both counted the same.
    #[must_use]
    pub fn agree(&self) -> bool {
        self.datagrams_sent == self.arrived
    }

    /// Datagrams in a message on average.
    #[must_use]
    pub fn run_length(&self) -> f64 {
        ratio(self.datagrams_sent, self.messages_sent)
    }

    /// Bytes of a copy on the wire on average, from the outer Ethernet header on, with its trailer.
    #[must_use]
    pub fn wire_bytes(&self) -> f64 {
        OUTER + ratio(self.bytes_sent + self.trailer_bytes, self.datagrams_sent)
    }
}

/// CPU time at a fixed rate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// The round.
    pub round: u32,
    /// The load.
    pub case: Case,
    /// Who.
    pub contender: Contender,
    /// Frames that the pod got.
    pub frames: u64,
    /// Copies: datagrams that arrived, or that a bare sender sent.
    pub copies: u64,
    /// CPU time of the contender's process for each copy.
    pub own_ns: f64,
    /// CPU time of the whole lab for each frame.
    pub lab_ns: f64,
    /// Frames a second that the generator reached.
    pub reached_per_second: f64,
    /// podspan's totals.
    pub totals: Option<Totals>,
}

impl Cost {
    /// CPU time of the contender's process for each frame.
    #[must_use]
    pub fn own_of_a_frame(&self) -> f64 {
        self.own_ns * ratio(self.copies, self.frames)
    }
}

/// One load of a search.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Frames a second that were sent to the pod.
    pub offered_per_second: f64,
    /// The part of the copies that did not arrive, or too late.
    pub lost: f64,
}

/// The highest load without loss.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// The round.
    pub round: u32,
    /// The load.
    pub case: Case,
    /// Who.
    pub contender: Contender,
    /// Frames a second.
    pub frames_per_second: f64,
    /// Datagrams a second that the copies are.
    pub copies_per_second: f64,
    /// Bits a second of the frames.
    pub bits_per_second: f64,
    /// The generator was at its end without loss: the limit is higher.
    pub is_generators_end: bool,
    /// All loads that were tried.
    pub steps: Vec<Step>,
    /// podspan's totals of all of them.
    pub totals: Option<Totals>,
}

/// podspan without traffic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Idle {
    /// The part of a core.
    pub cpu_share: f64,
    /// Resident memory apart from the ring.
    pub resident_kib: u64,
    /// The program's file.
    pub program_kib: u64,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct Results {
    /// CPU time in each 100 ms, in ms.
    pub quota_ms: u64,
    /// How long a load ran.
    pub seconds: f64,
    /// Bits a second of a copy in memory.
    pub copy_bits_per_second: f64,
    /// The first number of `/proc/loadavg` before and after.
    pub load_average: Vec<f64>,
    /// How long runs can be.
    pub limits: Vec<Limit>,
    /// CPU time.
    pub costs: Vec<Cost>,
    /// Highest loads.
    pub found: Vec<Found>,
    /// Without traffic.
    pub idle: Vec<Idle>,
}

impl Results {
    fn costs_of(&self, case: Case, contender: Contender) -> impl Iterator<Item = &Cost> {
        self.costs
            .iter()
            .filter(move |cost| cost.case == case && cost.contender == contender)
    }

    fn found_of(&self, case: Case, contender: Contender) -> impl Iterator<Item = &Found> {
        self.found
            .iter()
            .filter(move |found| found.case == case && found.contender == contender)
    }

    /// The median of a value of one contender's costs.
    #[must_use]
    pub fn cost(&self, (case, contender): (Case, Contender), of: fn(&Cost) -> f64) -> Option<f64> {
        median(self.costs_of(case, contender).map(of))
    }

    /// The median of the ratios of each round.
    #[must_use]
    pub fn cost_ratio(
        &self,
        (case, contender): (Case, Contender),
        (base, other): (Case, Contender),
        of: fn(&Cost) -> f64,
    ) -> Option<f64> {
        let pairs = self.costs_of(case, contender).filter_map(|cost| {
            let mut others = self.costs_of(base, other);
            let other = others.find(|other| other.round == cost.round)?;
            Some((of(cost), of(other)))
        });
        median_ratio(pairs)
    }

    /// The lab's CPU time for each mirrored frame: what it needs more than without a mirror.
    #[must_use]
    pub fn lab_cost(&self, case: Case, contender: Contender) -> Option<f64> {
        median(self.lab_costs(case, contender).map(|(_, cost)| cost))
    }

    fn lab_costs(&self, case: Case, contender: Contender) -> impl Iterator<Item = (u32, f64)> {
        self.costs_of(case, contender).filter_map(move |cost| {
            let mut nothing = self.costs_of(case, Contender::Nothing);
            let nothing = nothing.find(|nothing| nothing.round == cost.round)?;
            Some((cost.round, cost.lab_ns - nothing.lab_ns))
        })
    }

    /// The median of the ratios of [`Results::lab_cost`] of each round.
    #[must_use]
    pub fn lab_ratio(&self, case: Case, contender: Contender, other: Contender) -> Option<f64> {
        let pairs = self.lab_costs(case, contender).filter_map(|(round, cost)| {
            let mut others = self.lab_costs(case, other);
            let (_, other) = others.find(|(of, _)| *of == round)?;
            Some((cost, other))
        });
        median_ratio(pairs)
    }

    /// The median of a value of one contender's highest loads.
    #[must_use]
    pub fn highest(
        &self,
        (case, contender): (Case, Contender),
        of: fn(&Found) -> f64,
    ) -> Option<f64> {
        median(self.found_of(case, contender).map(of))
    }

    /// Whether the generator was at its end in any round.
    #[must_use]
    pub fn is_generators_end(&self, case: Case, contender: Contender) -> bool {
        self.found_of(case, contender)
            .any(|found| found.is_generators_end)
    }

    /// The median of the ratios of the highest loads of each round.
    #[must_use]
    pub fn highest_ratio(&self, case: Case, contender: Contender, other: Contender) -> Option<f64> {
        let pairs = self.found_of(case, contender).filter_map(|found| {
            let mut others = self.found_of(case, other);
            let other = others.find(|other| other.round == found.round)?;
            Some((found.frames_per_second, other.frames_per_second))
        });
        median_ratio(pairs)
    }

    /// Bytes of a copy on the wire, as a multiple of those of another contender.
    #[must_use]
    pub fn wire_ratio(&self, case: Case, contender: Contender, other: Contender) -> Option<f64> {
        let wire = |cost: &Cost| cost.totals.as_ref().map_or(0.0, Totals::wire_bytes);
        self.cost_ratio((case, contender), (case, other), wire)
    }

    /// Turns of podspan, and in how many of them its totals and the receiver did not agree.
    #[must_use]
    pub fn disagreements(&self) -> (usize, usize) {
        let costs = self.costs.iter().filter_map(|cost| cost.totals.as_ref());
        let found = self.found.iter().filter_map(|found| found.totals.as_ref());
        let all: Vec<&Totals> = costs.chain(found).collect();
        let wrong = all.iter().filter(|totals| !totals.agree()).count();
        (all.len(), wrong)
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn ratio(number: u64, to: u64) -> f64 {
    number as f64 / to.max(1) as f64
}
