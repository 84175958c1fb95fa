//! Everything except the path of a frame: signals, the log, the sensors, and the MTUs of paths.
//!
//! In: the worker's published numbers and events, the lists of sensors, and the annotations of podspan's own
//! pod. Out: the table of sensors; the rings' filters; log lines, at changes and not per frame; and one line
//! of totals at most every minute. If this side stalls, the worker does not notice.
//!
//! While something changes, sensors and numbers are checked once a second. When nothing changes, this side
//! sleeps until a deadline, a signal, a list, an annotation or an event. The worker then sends
//! [`Event::Traffic`] at the first change of its numbers, so the sleep does not delay the log line of a loss.

use std::collections::HashMap;
use std::fmt;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capture::InterfaceChange;
use mirror::totals::{DropReason, Dropped};
use nix::errno::Errno;
use settings::Foreign;
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use transmit::{Answers, Report};
use wire::InterfaceName;

use crate::flag::Flag;
use crate::own_annotations::OwnAnnotationChanges;
use crate::published::{Event, Published, Snapshot};
use crate::reminders::{REMIND_EVERY, Reminders};
use crate::ring_filters::RingFilters;
use crate::schedule::{CHECK_EVERY, Schedule};
use crate::sensor_lists::SensorLists;
use crate::sensors::Sensors;
use crate::signals::Signals;

/// How often the MTUs of paths are read again although no route has changed here. After ten minutes the
/// kernel drops the MTU that a router has reported.
const REFRESH_PATHS_EVERY: Duration = Duration::from_secs(30);
/// A loss is over when its counter has not grown for this time.
const LOSS_OVER_AFTER: Duration = Duration::from_secs(10);

/// What changes while podspan runs, apart from what the worker reports.
pub(crate) struct Inputs {
    /// Each list replaces the sensors; `None` if they are addresses.
    pub(crate) lists: Option<SensorLists>,
    /// `None` if no annotations are followed.
    pub(crate) annotations: Option<OwnAnnotationChanges>,
    /// `None` without tunnels.
    pub(crate) answers: Option<Answers>,
}

/// The control side.
pub(crate) struct Control {
    sensors: Sensors,
    filters: RingFilters,
    published: Arc<Published>,
    events: mpsc::Receiver<Event>,
    /// Interfaces that podspan waits for, and when this was last logged.
    missing: HashMap<InterfaceName, Instant>,
    losses: Losses,
    schedule: Schedule,
    /// The numbers at the last check.
    checked: Snapshot,
    /// When the lines that repeat were last logged.
    reminders: Reminders,
    /// When the MTUs of paths are read again.
    next_path_refresh: Instant,
    /// The number of lost events that was last logged.
    events_lost: u64,
    /// The last line of totals, and when it was logged.
    logged_totals: (Snapshot, Instant),
}

impl Control {
    /// A control side that has not logged anything.
    pub(crate) fn new(
        sensors: Sensors,
        filters: RingFilters,
        published: Arc<Published>,
        events: mpsc::Receiver<Event>,
    ) -> Self {
        let logged_totals = (Snapshot::default(), Instant::now());
        let (missing, losses) = (HashMap::new(), Losses::default());
        Self {
            sensors,
            filters,
            published,
            events,
            missing,
            losses,
            schedule: Schedule::new(Instant::now()),
            checked: Snapshot::default(),
            reminders: Reminders::default(),
            next_path_refresh: Instant::now(),
            events_lost: 0,
            logged_totals,
        }
    }

    /// What waits for the answers of the tunnels, for [`Inputs`]. Must be called within the runtime.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn answers(&self) -> io::Result<Option<Answers>> {
        self.sensors.answers()
    }

    /// Runs until SIGTERM or SIGINT, and returns true, or until the worker has ended without a request,
    /// and returns false. The first list of sensors raises `first_list`, if one of them can be used: with tunnels
    /// only, the first session raises it.
    pub(crate) async fn run(
        &mut self,
        inputs: Inputs,
        first_list: &Flag,
        signals: &mut Signals,
    ) -> bool {
        let Inputs {
            mut lists,
            mut annotations,
            answers,
        } = inputs;
        let mut has_list = lists.is_none();
        loop {
            let changed = async {
                match &mut annotations {
                    Some(annotations) => annotations.next().await,
                    None => pending().await,
                }
            };
            let list = async {
                match &mut lists {
                    Some(lists) => lists.next().await,
                    None => pending().await,
                }
            };
            let name = tokio::select! {
                list = list => {
                    self.sensors.update_list(list, Instant::now());
                    has_list = true;
                    self.sensors_changed(has_list, first_list);
                    continue;
                }
                () = self.sensors.tunnel_changed(answers.as_ref()) => {
                    self.sensors_changed(has_list, first_list);
                    continue;
                }
                annotations = changed => {
                    self.filters.update(annotations);
                    continue;
                }
                () = sleep_until(self.schedule.next().into()) => {
                    self.check(Instant::now());
                    continue;
                }
                event = self.events.recv() => {
                    // The worker holds the other end as long as it runs.
                    let Some(event) = event else { return false };
                    self.handle(event, Instant::now());
                    continue;
                }
                name = signals.next() => name,
            };
            tracing::info!("{name}: podspan stops capturing and sends what is in the rings");
            return true;
        }
    }

    /// Ends the wait of the first frames if one of the listed sensors can be used, and requests a check.
    fn sensors_changed(&mut self, has_list: bool, first_list: &Flag) {
        let now = Instant::now();
        if has_list && self.sensors.is_usable(now) {
            first_list.raise();
        }
        self.schedule.request(now + CHECK_EVERY);
    }

    /// Logs the last events and the totals.
    pub(crate) fn end(&mut self, last: &Snapshot) {
        let now = Instant::now();
        while let Ok(event) = self.events.try_recv() {
            self.handle(event, now);
        }
        self.log_lost_events();
        self.losses.update(last, now);
        if !last.totals.check() {
            tracing::error!("the totals do not add up; this is a defect, please report it");
        }
        log_totals(last);
    }

    /// Does what is due, and schedules the next check.
    fn check(&mut self, now: Instant) {
        self.log_lost_events();
        self.sensors.check(now);
        if now >= self.next_path_refresh {
            self.sensors.refresh_paths();
            self.next_path_refresh = now + REFRESH_PATHS_EVERY;
        }
        for (name, logged) in &mut self.missing {
            if now.duration_since(*logged) >= REMIND_EVERY {
                *logged = now;
                tracing::warn!(
                    interface = %name,
                    "the interface still does not exist; podspan waits for it"
                );
            }
        }
        let snapshot = self.published.read();
        self.losses.update(&snapshot, now);
        let (last, at) = &self.logged_totals;
        if now.duration_since(*at) >= REMIND_EVERY && *last != snapshot {
            log_totals(&snapshot);
            self.logged_totals = (snapshot, now);
        }
        let is_idle = !self.sensors.needs_check(now)
            && !self.losses.any()
            && snapshot == self.checked
            && self.published.request_traffic_event(&snapshot);
        self.schedule
            .checked(now, is_idle, self.next_deadline(&snapshot));
        self.checked = snapshot;
    }

    /// When the next check is due even if nothing changes.
    fn next_deadline(&self, snapshot: &Snapshot) -> Instant {
        let (last, at) = &self.logged_totals;
        let totals = (last != snapshot).then(|| *at + REMIND_EVERY);
        let missing = self.missing.values().map(|logged| *logged + REMIND_EVERY);
        missing
            .chain(totals)
            .fold(self.next_path_refresh, Instant::min)
    }

    fn handle(&mut self, event: Event, now: Instant) {
        self.schedule.request(now + CHECK_EVERY);
        match event {
            Event::Interface { name, change } => self.log_interface_change(name, &change, now),
            Event::InterfaceFailed { name, error } => {
                if self.reminders.is_due(format!("{name} {error}"), now) {
                    tracing::warn!(
                        interface = %name,
                        error,
                        "an operation on the interface failed; podspan repeats it while it runs"
                    );
                }
            }
            Event::WaitEnded { cause, waited } => {
                tracing::warn!(
                    ?waited, %cause,
                    "no list of sensors has arrived yet; frames no longer wait and count as no_sensor, or as \
                     no_session if there is no session of a tunnel"
                );
            }
            Event::Sending(report) => {
                self.log_report(&report, now);
                self.sensors.handle_report(&report, now);
            }
            Event::NetworkChanged => {
                self.next_path_refresh = now;
                self.schedule.request(now);
            }
            // The check that was just requested reads the numbers.
            Event::Traffic => {}
        }
    }

    fn log_lost_events(&mut self) {
        let lost = self.published.events_lost();
        if lost > self.events_lost {
            self.events_lost = lost;
            tracing::warn!(
                lost,
                "the worker reported more events than the control side could read; some log lines are \
                 missing"
            );
        }
    }

    fn log_report(&mut self, report: &Report, now: Instant) {
        for sensor in &report.sensors {
            let address = sensor.sensor;
            if let Some(path_mtu) = sensor.path_mtu {
                tracing::info!(
                    %address, %path_mtu,
                    "the MTU of the path to a sensor became smaller; nothing needs to be done"
                );
            }
            if let Some(errno) = sensor.runs_refused
                && self.reminders.is_due(format!("runs to {address}"), now)
            {
                tracing::info!(
                    %address, %errno,
                    "the kernel refuses several copies in one message to a sensor; for a minute they are sent \
                     one by one, which takes more CPU time"
                );
            }
            // `sensors` handles these answers and logs the result.
            tracing::debug!(
                %address,
                unreachable = sensor.unreachable,
                unreachable_by = sensor.unreachable_by.map(tracing::field::display),
                port_unreachable = sensor.port_unreachable,
                refused_by_host = sensor.refused_by_host,
                prohibited = sensor.prohibited,
                prohibited_by = sensor.prohibited_by.map(tracing::field::display),
                "the network's answers to copies"
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
                "a firewall or a BPF program in this pod rejects the copies; allow UDP to the sensor's \
                 address and port, or choose another SENSOR_PORT"
            }
            _ => "this is not expected; please report it",
        };
        tracing::warn!(times = report.refusals, %errno, remedy, "the kernel refuses to send");
    }

    fn log_interface_change(
        &mut self,
        name: InterfaceName,
        change: &InterfaceChange,
        now: Instant,
    ) {
        // Another process can choose an interface's name.
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
        messages_sent = totals.messages_sent,
        trailer_bytes = totals.trailer_bytes,
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

/// The losses that continue. Only the start and the end of each are logged.
#[derive(Default)]
struct Losses {
    /// The counters at the last update.
    dropped: Dropped,
    ring_drops: u64,
    /// When each counter last grew, for losses that continue; the ring's is the last.
    grew_at: [Option<Instant>; DropReason::ALL.len() + 1],
}

impl Losses {
    /// Whether a loss continues.
    fn any(&self) -> bool {
        self.grew_at.iter().any(Option::is_some)
    }

    fn update(&mut self, snapshot: &Snapshot, now: Instant) {
        let [reasons @ .., ring] = &mut self.grew_at;
        for (grew_at, reason) in reasons.iter_mut().zip(DropReason::ALL) {
            // This is not a loss: such frames are left out on purpose.
            if reason == DropReason::OwnError {
                continue;
            }
            let count = snapshot.totals.frames_dropped.of(reason);
            let frames = count - self.dropped.of(reason).min(count);
            log_loss(grew_at, reason.label(), frames, now);
        }
        let frames = snapshot.ring.drops - self.ring_drops.min(snapshot.ring.drops);
        log_loss(ring, "ring_drops", frames, now);
        self.dropped = snapshot.totals.frames_dropped;
        self.ring_drops = snapshot.ring.drops;
    }
}

/// Logs the start or the end of a loss. `frames` were lost since the last update.
fn log_loss(grew_at: &mut Option<Instant>, reason: &str, frames: u64, now: Instant) {
    match grew_at {
        None if frames > 0 => {
            tracing::warn!(reason, frames, "frames are not mirrored");
            *grew_at = Some(now);
        }
        Some(_) if frames > 0 => *grew_at = Some(now),
        Some(last) if now.duration_since(*last) >= LOSS_OVER_AFTER => {
            tracing::info!(reason, "frames are mirrored again");
            *grew_at = None;
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
    fn a_loss_continues_until_ten_seconds_without_a_lost_frame() {
        let mut losses = Losses::default();
        let mut snapshot = Snapshot::default();
        let start = Instant::now();
        snapshot.ring.drops = 5;
        losses.update(&snapshot, start);
        assert!(losses.grew_at[DropReason::ALL.len()].is_some());
        losses.update(&snapshot, start + LOSS_OVER_AFTER / 2);
        assert!(losses.grew_at[DropReason::ALL.len()].is_some());
        losses.update(&snapshot, start + LOSS_OVER_AFTER);
        assert!(losses.grew_at.iter().all(Option::is_none));
    }
}
