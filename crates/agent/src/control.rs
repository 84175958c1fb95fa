//! Everything except the path of a frame: signals, the log, the sensors, the MTUs of paths, and the state for who asks.
//!
//! In: the worker's published numbers and events, the lists of sensors, and the annotations of podspan's own
//! pod. Out: the table of sensors; the rings' filters; log lines, at changes and not per frame; and one line
//! of totals at most every minute. If this side stalls, the worker does not notice.
//!
//! While something changes, sensors and numbers are checked once a second. When nothing changes, this side
//! sleeps until a deadline, a signal, a list, an annotation or an event. The worker then sends
//! [`Event::Traffic`] at the first change of its numbers, so the sleep does not delay the log line of a loss.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use discovery::SharedContact;
use nix::errno::Errno;
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use transmit::{Answers, Report};
use wire::InterfaceName;

use crate::cpu_quota::CpuQuota;
use crate::endpoint::Endpoint;
use crate::flag::Flag;
use crate::interfaces::Interfaces;
use crate::losses::Losses;
use crate::own_annotations::OwnAnnotationChanges;
use crate::published::{Event, Published, Snapshot};
use crate::reminders::{REMIND_EVERY, Reminders};
use crate::ring_filters::RingFilters;
use crate::schedule::{CHECK_EVERY, Schedule};
use crate::sensor_lists::SensorLists;
use crate::sensors::Sensors;
use crate::signals::Signals;
use crate::status::process::Usage;
use crate::status::{ContactStatus, Identity, InterfaceStatus, Status};

/// How often the MTUs of paths are read again although no route has changed here. After ten minutes the
/// kernel drops the MTU that a router has reported.
const REFRESH_PATHS_EVERY: Duration = Duration::from_secs(30);

/// What changes while podspan runs, apart from what the worker reports.
pub(crate) struct Inputs {
    /// Each list replaces the sensors; `None` if they are addresses.
    pub(crate) lists: Option<SensorLists>,
    /// `None` if no annotations are followed.
    pub(crate) annotations: Option<OwnAnnotationChanges>,
    /// `None` without tunnels.
    pub(crate) answers: Option<Answers>,
    /// Who wants to know the state.
    pub(crate) endpoint: Endpoint,
}

/// What is known at the start and does not change.
pub(crate) struct Known {
    pub(crate) identity: Identity,
    /// The size of each ring in bytes, and its number of blocks.
    pub(crate) ring_size: u64,
    pub(crate) ring_blocks: u64,
    pub(crate) cpu_quota: CpuQuota,
}

/// The control side.
pub(crate) struct Control {
    sensors: Sensors,
    filters: RingFilters,
    published: Arc<Published>,
    events: mpsc::Receiver<Event>,
    interfaces: Interfaces,
    known: Known,
    /// The watches at the API server: for sensors, and for podspan's own pod.
    contacts: [Option<SharedContact>; 2],
    /// Whether the sensors are addresses, or a list has come.
    has_list: bool,
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
        interfaces: Interfaces,
        known: Known,
    ) -> Self {
        let logged_totals = (Snapshot::default(), Instant::now());
        let losses = Losses::default();
        Self {
            sensors,
            filters,
            published,
            events,
            interfaces,
            known,
            contacts: [None, None],
            has_list: false,
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
            mut endpoint,
        } = inputs;
        self.has_list = lists.is_none();
        self.contacts = [
            lists.as_ref().map(SensorLists::contact),
            annotations.as_ref().and_then(OwnAnnotationChanges::contact),
        ];
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
                    self.has_list = true;
                    self.sensors_changed(first_list);
                    continue;
                }
                () = self.sensors.tunnel_changed(answers.as_ref()) => {
                    self.sensors_changed(first_list);
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
                request = endpoint.request() => {
                    request.answer(self.status(Instant::now()));
                    continue;
                }
                name = signals.next() => name,
            };
            tracing::info!("{name}: podspan stops capturing and sends what is in the rings");
            return true;
        }
    }

    /// Ends the wait of the first frames if one of the listed sensors can be used, and requests a check.
    fn sensors_changed(&mut self, first_list: &Flag) {
        let now = Instant::now();
        if self.has_list && self.sensors.is_usable(now) {
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
        self.status(now).log_totals();
    }

    /// What is known now.
    fn status(&self, now: Instant) -> Status {
        let interface = |((name, state), ring): ((&InterfaceName, _), _)| InterfaceStatus {
            name: name.to_string(),
            state,
            ring,
        };
        let interfaces = self.interfaces.states().zip(self.published.rings(now));
        let contact = |contact: &Option<SharedContact>| {
            let contact = contact.as_ref()?;
            Some(ContactStatus::at(contact.get(), now))
        };
        let [sensors_api, own_pod_api] = &self.contacts;
        Status {
            identity: self.known.identity.clone(),
            idle: None,
            snapshot: self.published.read(),
            interfaces: interfaces.map(interface).collect(),
            ring_size: Some(self.known.ring_size),
            ring_blocks: Some(self.known.ring_blocks),
            sensors_api: contact(sensors_api),
            own_pod_api: contact(own_pod_api),
            throttling: self.known.cpu_quota.read(),
            worker_late: self.published.late(now),
            has_list: self.has_list,
            sensors: self.sensors.status(now),
            filter: self.filters.status(),
            usage: Usage::read(),
            events_lost: self.published.events_lost(),
            log_lines_dropped: crate::log::dropped(),
            // The endpoint adds its own.
            connections_evicted: 0,
        }
    }

    /// Does what is due, and schedules the next check.
    fn check(&mut self, now: Instant) {
        self.log_lost_events();
        self.sensors.check(now);
        if now >= self.next_path_refresh {
            self.sensors.refresh_paths();
            self.next_path_refresh = now + REFRESH_PATHS_EVERY;
        }
        self.interfaces.remind(now);
        let snapshot = self.published.read();
        self.losses.update(&snapshot, now);
        let (last, at) = &self.logged_totals;
        if now.duration_since(*at) >= REMIND_EVERY && *last != snapshot {
            self.status(now).log_totals();
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
        let missing = self.interfaces.next_reminder();
        missing
            .into_iter()
            .chain(totals)
            .fold(self.next_path_refresh, Instant::min)
    }

    fn handle(&mut self, event: Event, now: Instant) {
        self.schedule.request(now + CHECK_EVERY);
        match event {
            Event::Interface { name, change } => self.interfaces.changed(&name, &change, now),
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
}
