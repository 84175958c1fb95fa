//! What the parts of the process share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use inject::Options;

use crate::body::{ALL_BODIES_MAX, Budget};
use crate::connections::Connections;
use crate::identity::{Shown, now};
use crate::metrics::Metrics;

/// The most connections of API servers at a time, and of those who ask for the state.
const REVIEWS_MAX: usize = 512;
const STATUS_MAX: usize = 32;

/// The state of the process.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) options: Options<'static>,
    pub(crate) metrics: Metrics,
    pub(crate) identity: Arc<Shown>,
    pub(crate) budget: Arc<Budget>,
    /// Of the port for reviews.
    pub(crate) reviews: Arc<Connections>,
    /// Of the port for the state.
    pub(crate) status: Arc<Connections>,
    /// Whether API servers can know the CA: it was seen in the configuration, or others publish it.
    pub(crate) published: AtomicBool,
    /// The process ends soon.
    pub(crate) draining: AtomicBool,
}

impl State {
    pub(crate) fn new(options: Options<'static>, published: bool) -> Arc<Self> {
        Arc::new(Self {
            options,
            metrics: Metrics::default(),
            identity: Arc::default(),
            budget: Budget::new(ALL_BODIES_MAX),
            reviews: Connections::new(REVIEWS_MAX),
            status: Connections::new(STATUS_MAX),
            published: AtomicBool::new(published),
            draining: AtomicBool::new(false),
        })
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Why no API server should ask here; `None` if it should.
    pub(crate) fn not_ready(&self) -> Option<&'static str> {
        if self.is_draining() {
            return Some("the process ends");
        }
        match self.identity.get() {
            None => Some("there is no certificate yet"),
            Some(identity) if !identity.is_valid(now()) => Some("the certificate is not valid now"),
            Some(_) if !self.published.load(Ordering::Relaxed) => {
                Some("the CA is not in the MutatingWebhookConfiguration yet")
            }
            Some(_) => None,
        }
    }
}
