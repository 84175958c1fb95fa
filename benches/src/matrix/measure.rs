//! One measurement: a contender, a case, and either a fixed rate or the search for the highest one.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use testbed::ControlGroup;

use super::contenders::{Programs, Running};
use super::counter::{Counter, Place};
use super::error::{Error, Result};
use super::frames::Frames;
use super::inject::{Injected, inject};
use super::loads::Loads;
use super::plan::{Case, Contender, Load};
use super::results::{Cost, Found, Idle, Step};
use super::search::Search;
use super::stand::{Stand, softirq_threads};
use crate::agent::Agent;
use crate::bare;
use crate::totals_line::TotalsLine;

/// The most bits a second where CPU time is measured.
const FAST_BITS: f64 = 2e9;
/// CPU time is measured for this part of the time of a load.
const COST: f64 = 0.5;
/// When the load beside a bare sender runs.
const STARTED: Duration = Duration::from_millis(50);
/// A bare sender with `UDP_SEGMENT` is so quick that it gets more datagrams.
const MORE: u64 = 4;
const VXLAN: usize = 8;
/// What a sealed datagram has more than its frame: the headers of VXLAN, UDP and IPv4, and WireGuard's header and
/// tag.
const SEALED: u64 = 8 + 28 + 32;
/// All copies have arrived when none has for this time.
const QUIET: Duration = Duration::from_millis(60);
/// A process under the quota can be stopped for the most of a period.
const QUOTA_QUIET: Duration = Duration::from_millis(200);
const QUIET_LIMIT: Duration = Duration::from_secs(10);
/// Copies that arrive later than this after the end of the load count as lost: the ring would hide an
/// overload for seconds. It is the time that the quota of 0.25 CPU can stop a process, 75 ms, and that of a block
/// of the ring. So a result is too high by this part of the load's time at most.
const LATE: Duration = Duration::from_millis(100);
/// What the generator can reach.
const RATES: (f64, f64) = (500.0, 600_000.0);
/// A part of the wanted rate: below it, the generator is at its end.
const REACHED: f64 = 0.95;
/// To find how many datagrams the copies of a cycle are, without loss.
const SLOW: f64 = 8_000.0;
/// So many frames at least: a few copies that belong to something else do not change the result.
const ENOUGH: f64 = 1_500.0;
/// After this time podspan has settled, and its CPU time is read for this time.
const SETTLE: Duration = Duration::from_millis(1500);
const IDLE: Duration = Duration::from_secs(3);
/// The ring of the idle podspan, in KiB.
const IDLE_RING_KIB: u64 = 16 << 10;

/// What all measurements use.
#[derive(Debug)]
pub struct Bench<'a> {
    /// The lab.
    pub stand: &'a Stand,
    /// The frames.
    pub loads: &'a Loads,
    /// The programs.
    pub programs: Programs<'a>,
    /// How long a load runs.
    pub time: Duration,
    /// CPU time in each 100 ms.
    pub quota: Duration,
}

impl Bench<'_> {
    /// CPU time per packet at a fixed rate, without a quota.
    ///
    /// # Errors
    /// [`Error`].
    pub fn cost(&self, round: u32, case: Case, contender: Contender) -> Result<Cost> {
        let mut frames = self.loads.frames(case);
        let counter = self.stand.counter(Place::Receiver);
        let first = counter.arrived()?;
        let running = Running::start(self.stand, self.programs, (contender, case), None)?;
        let per_second = fast(&frames, case);
        let count = whole_cycles(&frames, per_second * self.time.as_secs_f64() * COST);
        let arrived = counter.arrived()?;
        let (own, softirq) = (running.cpu()?, softirq_threads());
        let (injected, bare) = thread::scope(|scope| {
            let sockets = self.stand.sockets(case.interfaces);
            let load = scope.spawn(|| inject(sockets, &mut frames, count, per_second));
            let bare = self.bare(case, contender, count);
            let injected = load.join().map_err(|_| crate::Error::LoadFailed)??;
            Ok::<_, Error>((injected, bare?))
        })?;
        counter.await_quiet(QUIET, QUIET_LIMIT)?;
        let own = running.cpu()?.saturating_sub(own);
        let softirq = softirq_threads().saturating_sub(softirq);
        let arrived = counter.arrived()? - arrived;
        let totals = running.stop()?;
        let copies = match (contender, bare) {
            (Contender::Nothing, _) => injected.frames,
            (_, Some(bare)) => bare.datagrams,
            _ => arrived,
        };
        let own = bare.map_or(own, |bare| bare.cpu);
        let all = counter.arrived()? - first;
        Ok(Cost {
            round,
            case,
            contender,
            frames: injected.frames,
            copies,
            own_ns: per(own, copies),
            lab_ns: per(injected.cpu + own + softirq, injected.frames),
            reached_per_second: injected.per_second(),
            totals: totals.map(|totals| totals_of(&totals, all)),
        })
    }

    fn bare(&self, case: Case, contender: Contender, count: u64) -> Result<Option<bare::Sent>> {
        let lengths: Vec<usize> = self.loads.lengths(case.load);
        let lengths: Vec<usize> = lengths.iter().map(|length| VXLAN + length).collect();
        let (lab, sensor) = (&self.stand.lab, self.stand.sensor());
        let sent = match (contender, lengths.first()) {
            (Contender::Bare, Some(_)) => {
                thread::sleep(STARTED);
                bare::plain(lab, sensor, &lengths, count)?
            }
            (Contender::BareSegmented, Some(length)) => {
                thread::sleep(STARTED);
                let length = u16::try_from(*length).unwrap_or(u16::MAX);
                bare::segmented(lab, sensor, length, MORE * count, None)?
            }
            (Contender::BarePaced, Some(length)) => {
                let length = u16::try_from(*length).unwrap_or(u16::MAX);
                bare::segmented(lab, sensor, length, count, Some(case.per_second.into()))?
            }
            _ => return Ok(None),
        };
        Ok(Some(sent))
    }

    /// The highest rate without loss under the quota, near `expected` frames a second.
    ///
    /// # Errors
    /// [`Error`].
    pub fn search(
        &self,
        round: u32,
        case: Case,
        contender: Contender,
        expected: f64,
    ) -> Result<Found> {
        let mut frames = self.loads.frames(case);
        let group = ControlGroup::with_quota(self.quota).ok_or(Error::NoQuota)?;
        let counter = self.stand.counter(place(case, contender));
        let first = counter.arrived()?;
        let running = Running::start(self.stand, self.programs, (contender, case), Some(&group))?;
        let per_cycle = self.copies_of_a_cycle(counter, case, &mut frames)?;
        let mut search = Search::new(expected, RATES.0, RATES.1);
        let (mut steps, mut best, mut is_generators_end) = (Vec::new(), None, false);
        while let Some(per_second) = search.next() {
            let step = self.step(counter, (case, per_cycle), &mut frames, per_second)?;
            let is_good = step.lost <= 0.0;
            search.report(is_good);
            let reached = step.offered_per_second;
            steps.push(step);
            if is_good {
                best = Some(reached);
            }
            if reached < REACHED * per_second && is_good {
                is_generators_end = true;
                break;
            }
        }
        let all = counter.await_quiet(QUOTA_QUIET, QUIET_LIMIT)? - first;
        let totals = running.stop()?;
        drop(group);
        let best = if is_generators_end {
            best
        } else {
            search.result()
        };
        let frames_per_second = best.unwrap_or_default();
        let cycles = frames_per_second / to_float(frames.len() as u64);
        Ok(Found {
            round,
            case,
            contender,
            frames_per_second,
            copies_per_second: cycles * to_float(per_cycle),
            bits_per_second: cycles * to_float(frames.bytes() as u64) * 8.0,
            is_generators_end: is_generators_end || search.is_at_end(),
            steps,
            // On the interface, there are datagrams of other lengths from the start.
            totals: totals
                .filter(|_| place(case, contender) == Place::Receiver)
                .map(|totals| totals_of(&totals, all)),
        })
    }

    /// How many datagrams the copies of a cycle are.
    fn copies_of_a_cycle(
        &self,
        counter: Counter<'_>,
        case: Case,
        frames: &mut Frames,
    ) -> Result<u64> {
        let before = counter.await_quiet(QUOTA_QUIET, QUIET_LIMIT)?;
        let count = whole_cycles(frames, ENOUGH);
        let cycles = count / (frames.len() as u64).max(1);
        let per_second = SLOW.min(fast(frames, case) / 4.0);
        inject(
            self.stand.sockets(case.interfaces),
            frames,
            count,
            per_second,
        )?;
        let copies = counter.await_quiet(QUOTA_QUIET, QUIET_LIMIT)? - before;
        Ok((copies + cycles / 2) / cycles.max(1))
    }

    fn step(
        &self,
        counter: Counter<'_>,
        (case, per_cycle): (Case, u64),
        frames: &mut Frames,
        per_second: f64,
    ) -> Result<Step> {
        let count = whole_cycles(frames, per_second * self.time.as_secs_f64());
        let wanted = count / (frames.len() as u64).max(1) * per_cycle;
        let before = counter.arrived()?;
        let injected: Injected = inject(
            self.stand.sockets(case.interfaces),
            frames,
            count,
            per_second,
        )?;
        let late = Instant::now() + LATE;
        let arrived = counter.await_arrivals(before + wanted, late)? - before;
        if arrived < wanted {
            counter.await_quiet(QUOTA_QUIET, QUIET_LIMIT)?;
        }
        let lost = wanted.saturating_sub(arrived);
        Ok(Step {
            offered_per_second: injected.per_second(),
            lost: to_float(lost) / to_float(wanted.max(1)),
        })
    }

    /// CPU time and memory without traffic.
    ///
    /// # Errors
    /// [`Error`].
    pub fn idle(&self, podspan: &Path) -> Result<Idle> {
        let settings = [
            ("SENSOR", self.stand.sensor_setting(1)),
            ("RECEIVER", "socket".to_owned()),
            ("RING_SIZE", format!("{}MiB", IDLE_RING_KIB >> 10)),
        ];
        let agent = Agent::start_in(podspan, &self.stand.lab, &settings, None)?;
        thread::sleep(SETTLE);
        let before = agent.cpu_time()?;
        thread::sleep(IDLE);
        let used = agent.cpu_time()?.saturating_sub(before);
        let resident = agent.status_kib("VmRSS")?;
        agent.stop()?;
        let bytes = std::fs::metadata(podspan).map_or(0, |file| file.len());
        Ok(Idle {
            cpu_share: used.as_secs_f64() / IDLE.as_secs_f64(),
            resident_kib: resident.saturating_sub(IDLE_RING_KIB),
            program_kib: bytes >> 10,
        })
    }
}

/// Bits a second of a copy in memory, of buffers that no cache holds.
#[must_use]
pub fn copy_bits_per_second() -> f64 {
    const BYTES: usize = 64 << 20;
    let (from, mut to) = (vec![1_u8; BYTES], vec![0_u8; BYTES]);
    let rates = (0..9).map(|_| {
        let start = Instant::now();
        to.copy_from_slice(&from);
        std::hint::black_box(&mut to);
        8.0 * to_float(BYTES as u64) / start.elapsed().as_secs_f64()
    });
    crate::statistics::median(rates).unwrap_or_default()
}

/// Where the copies of a search are counted. Those of a tunnel are counted before the sensor's end: it has no quota,
/// but shares the machine, and is slower than podspan at times.
fn place(case: Case, contender: Contender) -> Place {
    match (contender, case.load) {
        (Contender::Tunnel, Load::Size(bytes)) => Place::Interface(u64::from(bytes) + SEALED),
        _ => Place::Receiver,
    }
}

/// The rate where CPU time is measured.
fn fast(frames: &Frames, case: Case) -> f64 {
    let bits = 8.0 * to_float(frames.bytes() as u64) / to_float((frames.len() as u64).max(1));
    f64::from(case.per_second).min(FAST_BITS / bits.max(1.0))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of frames"
)]
fn whole_cycles(frames: &Frames, count: f64) -> u64 {
    (count as u64).next_multiple_of((frames.len() as u64).max(1))
}

fn per(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e9 / to_float(count.max(1))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn to_float(number: u64) -> f64 {
    number as f64
}

fn totals_of(totals: &TotalsLine, arrived: u64) -> super::results::Totals {
    super::results::Totals {
        ring_drops: totals.ring_drops,
        frames_dropped: totals.frames_dropped,
        datagrams_dropped: totals.datagrams_dropped,
        datagrams_sent: totals.datagrams_sent,
        messages_sent: totals.messages_sent,
        bytes_sent: totals.bytes_sent,
        trailer_bytes: totals.trailer_bytes,
        arrived,
    }
}

/// A first guess of the highest rate, where nothing is measured yet.
#[must_use]
pub fn guess(loads: &Loads, case: Case, contender: Contender) -> f64 {
    let small = match contender {
        Contender::Socket | Contender::SocketHalfTrailers | Contender::SocketNoTrailers => {
            150_000.0
        }
        Contender::Tunnel => 75_000.0,
        _ => 45_000.0,
    };
    match case.load {
        Load::Bulk => fast(&loads.frames(case), case).min(small),
        _ => small,
    }
}
