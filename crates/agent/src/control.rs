//! Everything that is not on the way of a frame: signals, logs, learned paths.
//!
//! In: the worker's published numbers and events, and the sensors that were found. Out: the table of
//! sensors; log lines, at changes and not per frame; and
//! one line of totals every minute at most. This side can stall without the worker noticing.

use std::collections::HashMap;
use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capture::{InterfaceChange, InterfaceName};
use discovery::Foreign;
use mirror::totals::{DropReason, Dropped};
use nix::errno::Errno;
use tokio::sync::mpsc::Receiver;
use tokio::time::{MissedTickBehavior, interval};
use transmit::Report;

use crate::finding::Views;
use crate::flag::Flag;
use crate::published::{Event, Published, Snapshot};
use crate::reminders::{REMIND_EVERY, Reminders};
use crate::sensors::Sensors;
use crate::signals::Signals;

/// How often the paths are learned anew though nothing has changed here. The kernel forgets after ten
/// minutes what a router has said of one.
const PATHS_EVERY: Duration = Duration::from_secs(30);
/// How often the numbers are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Losses count as over after this long without one.
const OVER_AFTER: Duration = Duration::from_secs(10);

/// The control side.
pub(crate) struct Control {
    sensors: Sensors,
    published: Arc<Published>,
    happened: Receiver<Event>,
    /// Interfaces that are waited for, and when that was last said.
    missing: HashMap<InterfaceName, Instant>,
    losses: Losses,
    /// What repeats.
    reminders: Reminders,
    /// When the paths' MTUs are learned anew.
    paths_due: Instant,
    /// How many events are known not to have come through.
    events_lost: u64,
    /// What the last line of totals said, and when.
    reported: (Snapshot, Instant),
}

impl Control {
    /// A control side that has said nothing yet.
    pub(crate) fn new(
        sensors: Sensors,
        published: Arc<Published>,
        happened: Receiver<Event>,
    ) -> Self {
        let reported = (Snapshot::default(), Instant::now());
        let (missing, losses) = (HashMap::new(), Losses::default());
        Self {
            sensors,
            published,
            happened,
            missing,
            losses,
            reminders: Reminders::default(),
            paths_due: Instant::now(),
            events_lost: 0,
            reported,
        }
    }

    /// Watches until SIGTERM or SIGINT, which gives true, or until the worker has ended by itself.
    /// The sensors are those of each view, where there are views; the worker is told of the first.
    pub(crate) async fn watch(
        &mut self,
        mut views: Option<Views>,
        first_view: &Flag,
        signals: &mut Signals,
    ) -> bool {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let view = async {
                match &mut views {
                    Some(views) => views.next().await,
                    None => pending().await,
                }
            };
            let name = tokio::select! {
                known = view => {
                    self.sensors.update(known, Instant::now());
                    first_view.raise();
                    continue;
                }
                _ = ticks.tick() => {
                    self.look(Instant::now());
                    continue;
                }
                event = self.happened.recv() => {
                    // The worker holds the other end as long as it runs.
                    let Some(event) = event else { return false };
                    self.tell(event, Instant::now());
                    continue;
                }
                name = signals.next() => name,
            };
            tracing::info!("{name}: capturing ends, the rings are drained");
            return true;
        }
    }

    /// Says how it ended.
    pub(crate) fn end(&mut self, last: &Snapshot) {
        let now = Instant::now();
        while let Ok(event) = self.happened.try_recv() {
            self.tell(event, now);
        }
        self.tell_lost_events();
        self.losses.look(last, now);
        if !last.totals.check() {
            tracing::error!("the totals do not add up; this is a defect, please report it");
        }
        log_totals(last);
    }

    fn look(&mut self, now: Instant) {
        self.tell_lost_events();
        self.sensors.look(now);
        if now >= self.paths_due {
            self.sensors.refresh_paths();
            self.paths_due = now + PATHS_EVERY;
        }
        for (name, said) in &mut self.missing {
            if now.duration_since(*said) >= REMIND_EVERY {
                *said = now;
                tracing::warn!(interface = %name, "still no such interface; waiting for it");
            }
        }
        let snapshot = self.published.read();
        self.losses.look(&snapshot, now);
        let (last, at) = &self.reported;
        if now.duration_since(*at) >= REMIND_EVERY && *last != snapshot {
            log_totals(&snapshot);
            self.reported = (snapshot, now);
        }
    }

    fn tell(&mut self, event: Event, now: Instant) {
        match event {
            Event::Interface { name, change } => self.tell_change(name, &change, now),
            Event::InterfaceFailed { name, error } => {
                if self.reminders.is_due(format!("{name} {error}"), now) {
                    tracing::warn!(interface = %name, error, "the interface cannot be looked after");
                }
            }
            Event::WaitGivenUp { cause, waited } => {
                tracing::warn!(?waited, %cause, "no view of the sensors has come yet; frames do not wait any more");
            }
            Event::Sending(report) => {
                self.tell_sending(&report, now);
                self.sensors.take(&report, now);
            }
            Event::NetworkChanged => self.paths_due = now,
        }
    }

    fn tell_lost_events(&mut self) {
        let lost = self.published.events_lost();
        if lost > self.events_lost {
            self.events_lost = lost;
            tracing::warn!(
                lost,
                "more happened than could be told; some log lines are missing"
            );
        }
    }

    fn tell_sending(&mut self, report: &Report, now: Instant) {
        for news in &report.sensors {
            let address = news.sensor;
            if let Some(path_mtu) = news.path_mtu {
                tracing::info!(%address, %path_mtu, "the path to a sensor became narrower");
            }
            // What follows from that is decided and logged by `sensors`.
            tracing::debug!(
                %address,
                news.unreachable,
                unreachable_by = news.unreachable_by.map(tracing::field::display),
                news.port_unreachable,
                news.refused_by_host,
                news.prohibited,
                prohibited_by = news.prohibited_by.map(tracing::field::display),
                "the network's answers"
            );
        }
        let Some(errno) = report.last_refusal else {
            return;
        };
        if !self.reminders.is_due(errno.to_string(), now) {
            return;
        }
        let remedy = match errno {
            Errno::EPERM => {
                "a firewall or a BPF program in this pod refuses what podspan sends to the sensor; allow \
                 UDP to the sensor's address and port, or choose another SENSOR_PORT"
            }
            _ => "this is not expected; please report it",
        };
        tracing::warn!(times = report.refusals, %errno, remedy, "the kernel refuses to send");
    }

    fn tell_change(&mut self, name: InterfaceName, change: &InterfaceChange, now: Instant) {
        // Whoever renames an interface chooses its name.
        let text = change.to_string();
        let text = Foreign(&text);
        match change {
            InterfaceChange::Bound { .. }
            | InterfaceChange::Replaced { .. }
            | InterfaceChange::Up => {
                tracing::info!(interface = %name, "{text}");
            }
            _ => tracing::warn!(interface = %name, "{text}"),
        }
        if matches!(change, InterfaceChange::Missing) {
            self.missing.insert(name, now);
        } else {
            self.missing.remove(&name);
        }
    }
}

fn log_totals(Snapshot { totals, ring }: &Snapshot) {
    tracing::info!(
        ring_packets = ring.packets,
        ring_drops = ring.drops,
        frames_seen = totals.frames_seen,
        frames_mirrored = totals.frames_mirrored,
        frames_dropped = totals.frames_dropped.sum(),
        frames_dropped_by = %ByReason(&totals.frames_dropped),
        datagrams_built = totals.datagrams_built,
        datagrams_sent = totals.datagrams_sent,
        datagrams_dropped = totals.datagrams_dropped.sum(),
        datagrams_dropped_by = %ByReason(&totals.datagrams_dropped),
        bytes_sent = totals.bytes_sent,
        "totals"
    );
}

/// Counts as `no_sensor:3,oversize:1`, or `none`.
struct ByReason<'d>(&'d Dropped);

impl fmt::Display for ByReason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for reason in DropReason::ALL {
            let count = self.0.of(reason);
            if count > 0 {
                write!(f, "{separator}{reason}:{count}")?;
                separator = ",";
            }
        }
        if separator.is_empty() {
            f.write_str("none")
        } else {
            Ok(())
        }
    }
}

/// Which losses are going on, so that only their beginning and their end are logged.
#[derive(Default)]
struct Losses {
    seen: Dropped,
    seen_in_ring: u64,
    /// When each last grew, for those that are going on; the ring's stands last.
    since: [Option<Instant>; DropReason::ALL.len() + 1],
}

impl Losses {
    fn look(&mut self, snapshot: &Snapshot, now: Instant) {
        let [reasons @ .., ring] = &mut self.since;
        for (since, reason) in reasons.iter_mut().zip(DropReason::ALL) {
            // No loss: it stays out on purpose, wherever a sensor sniffs.
            if reason == DropReason::OwnError {
                continue;
            }
            let count = snapshot.totals.frames_dropped.of(reason);
            let news = count - self.seen.of(reason).min(count);
            tell_loss(since, reason.label(), news, now);
        }
        let news = snapshot.ring.drops - self.seen_in_ring.min(snapshot.ring.drops);
        tell_loss(ring, "ring_drops", news, now);
        self.seen = snapshot.totals.frames_dropped;
        self.seen_in_ring = snapshot.ring.drops;
    }
}

fn tell_loss(since: &mut Option<Instant>, reason: &str, news: u64, now: Instant) {
    match since {
        None if news > 0 => {
            tracing::warn!(reason, frames = news, "frames are not mirrored");
            *since = Some(now);
        }
        Some(_) if news > 0 => *since = Some(now),
        Some(last) if now.duration_since(*last) >= OVER_AFTER => {
            tracing::info!(reason, "frames are mirrored again");
            *since = None;
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_listed_by_reason() {
        let mut dropped = Dropped::default();
        assert_eq!(ByReason(&dropped).to_string(), "none");
        dropped.set(DropReason::NoSensor, 3);
        dropped.set(DropReason::SendError, 1);
        assert_eq!(ByReason(&dropped).to_string(), "no_sensor:3,send_error:1");
    }

    #[test]
    fn a_loss_goes_on_until_it_has_been_quiet_for_a_while() {
        let mut losses = Losses::default();
        let mut snapshot = Snapshot::default();
        let start = Instant::now();
        snapshot.ring.drops = 5;
        losses.look(&snapshot, start);
        assert!(losses.since[DropReason::ALL.len()].is_some());
        losses.look(&snapshot, start + OVER_AFTER / 2);
        assert!(losses.since[DropReason::ALL.len()].is_some());
        losses.look(&snapshot, start + OVER_AFTER);
        assert!(losses.since.iter().all(Option::is_none));
    }
}
