//! The frames of all loads, made or recorded once.

use instructions::recording::Recording;

use super::error::Result;
use super::frames::{Frames, imix};
use super::plan::{Case, Load};
use crate::record;

/// All loads.
#[derive(Debug)]
pub struct Loads {
    imix: Vec<usize>,
    web: Frames,
    web_without_offloads: Frames,
    dns: Frames,
    short: Frames,
    bulk: Frames,
}

impl Loads {
    /// Makes them: `web` is the recording in the repository; the others are recorded now, each in a lab of its
    /// own.
    ///
    /// # Errors
    /// Of the recordings.
    pub fn new(web: &Recording) -> Result<Self> {
        let (web, web_without_offloads) = Frames::recorded_in_parts(web);
        Ok(Self {
            imix: imix(),
            web,
            web_without_offloads,
            dns: Frames::recorded(&record::dns()?),
            short: Frames::recorded(&record::short_connections()?),
            bulk: Frames::recorded(&record::bulk()?),
        })
    }

    /// The frames of a case.
    #[must_use]
    pub fn frames(&self, case: Case) -> Frames {
        match case.load {
            Load::Size(length) => Frames::of_size(length.into(), case.flows),
            Load::Imix => Frames::of_lengths(&self.imix, case.flows),
            Load::Web => self.web.clone(),
            Load::WebWithoutOffloads => self.web_without_offloads.clone(),
            Load::Dns => self.dns.clone(),
            Load::Short => self.short.clone(),
            Load::Bulk => self.bulk.clone(),
        }
    }

    /// The lengths of the frames, where each frame is one datagram.
    #[must_use]
    pub fn lengths(&self, load: Load) -> Vec<usize> {
        match load {
            Load::Size(length) => vec![length.into()],
            Load::Imix => self.imix.clone(),
            _ => Vec::new(),
        }
    }
}
