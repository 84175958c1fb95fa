//! Lines that wait for standard error, and the thread that writes them.
//!
//! In: whole lines, from any thread. Out: one write(2) for each line, in order, by the writer's thread, or by the
//! thread that flushes if the writer has not begun. A line that does not fit is dropped and counted, and a line before
//! the next one that fits gives the number of dropped lines.
//!
//! Invariants:
//! - [`Queue::push`] never waits for a reader: the lock is held only for moves in memory.
//! - One thread at a time writes a line. It writes the whole line, or as much as its reader reads.
//! - [`Queue::flush`] and [`write_until`] return soon after their `end`, whether the lines are read or not.
//!
//! `O_NONBLOCK` would be simpler, but it belongs to the open file description (open(2)), which other
//! processes share. So if no thread can wait, poll(2) comes before each write. A pipe is ready when it
//! has room for a page (`pipe_poll` in fs/pipe.c), so `PIPE_BUF` bytes do not block then, unless another
//! process fills the same pipe in between.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;

/// The most lines that wait. Many unusable pods cause many lines at once, and the writer may not run until
/// the control side sleeps.
const LINES_MAX: usize = 1024;
/// The most bytes that wait.
const BYTES_MAX: usize = 256 * 1024;
/// `PIPE_BUF` of `<linux/limits.h>`: a write of this size is done completely or not at all.
const PIPE_BUF: usize = 4096;
/// The writer calls write(2) and little else.
const STACK: usize = 64 * 1024;

/// Lines that wait to be written, at most 1024 and 256 KiB, and one about dropped lines.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// Makes the line about dropped lines.
    notice: Notice,
}

/// Makes a line with the number of dropped lines.
pub(super) type Notice = fn(u64) -> Vec<u8>;

#[derive(Debug)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The number of lines that did not fit since the last that did.
    dropped: u64,
    /// The number of all lines that did not fit.
    dropped_in_all: u64,
    has_writer: bool,
    /// Whether a thread is writing a line.
    is_writing: bool,
}

impl Waiting {
    fn report_dropped(&mut self, notice: Notice) {
        if self.dropped > 0 {
            self.push(notice(self.dropped));
            self.dropped = 0;
        }
    }

    fn push(&mut self, line: Vec<u8>) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    fn push_front(&mut self, line: Vec<u8>) {
        self.bytes += line.len();
        self.lines.push_front(line);
    }

    /// The next line for the calling thread to write, unless another thread writes one.
    fn take(&mut self) -> Option<Vec<u8>> {
        if self.is_writing {
            return None;
        }
        let line = self.lines.pop_front()?;
        self.bytes -= line.len();
        self.is_writing = true;
        Some(line)
    }
}

impl Queue {
    /// An empty queue without a writer.
    pub(super) const fn new(notice: Notice) -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                lines: VecDeque::new(),
                bytes: 0,
                dropped: 0,
                dropped_in_all: 0,
                has_writer: false,
                is_writing: false,
            }),
            changed: Condvar::new(),
            notice,
        }
    }

    /// Appends a line, or counts it as dropped.
    pub(super) fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.lines.len() >= LINES_MAX || waiting.bytes + line.len() > BYTES_MAX {
            waiting.dropped += 1;
            waiting.dropped_in_all += 1;
            return;
        }
        waiting.report_dropped(self.notice);
        waiting.push(line.to_vec());
        self.changed.notify_all();
    }

    /// Starts the thread that writes to `target`, unless it runs already.
    pub(super) fn start_writer(
        &'static self,
        target: impl AsFd + Send + 'static,
    ) -> io::Result<()> {
        let mut waiting = self.lock();
        if !waiting.has_writer {
            thread::Builder::new()
                .name("log".to_owned())
                .stack_size(STACK)
                .spawn(move || self.write_all(&target))?;
            waiting.has_writer = true;
        }
        Ok(())
    }

    /// Waits until all lines are written, at most until `end`. What the writer has not begun to write by then, the
    /// calling thread writes, without waiting: where a CPU quota stops all threads, the writer may not have run
    /// before `end`. Without a writer, the calling thread writes from the start.
    pub(super) fn flush(&self, target: &impl AsFd, end: Instant) {
        let mut waiting = self.lock();
        waiting.report_dropped(self.notice);
        self.changed.notify_all();
        if waiting.has_writer {
            let left = end.saturating_duration_since(Instant::now());
            let is_busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.lines.is_empty();
            let waited = self.changed.wait_timeout_while(waiting, left, is_busy);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        while let Some(mut line) = waiting.take() {
            drop(waiting);
            let written = write_until(target, &line, end);
            waiting = self.lock();
            waiting.is_writing = false;
            self.changed.notify_all();
            if written < line.len() {
                // The rest may be read at the next flush.
                line.drain(..written);
                waiting.push_front(line);
                return;
            }
        }
    }

    /// The loop of the writer's thread. It never ends.
    fn write_all(&self, target: &impl AsFd) {
        let mut waiting = self.lock();
        loop {
            let Some(line) = waiting.take() else {
                waiting = self
                    .changed
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(waiting);
            write_blocking(target, &line);
            waiting = self.lock();
            waiting.is_writing = false;
            self.changed.notify_all();
        }
    }

    /// The number of all lines that did not fit.
    pub(super) fn dropped_in_all(&self) -> u64 {
        self.lock().dropped_in_all
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a whole line, without a time limit. A line that cannot be written is lost.
fn write_blocking(target: &impl AsFd, mut line: &[u8]) {
    while !line.is_empty() {
        match write(target, line) {
            Ok(count) => line = line.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // Another process has made the description non-blocking.
            Err(Errno::EAGAIN) => {
                let _ = poll(&mut [writable(target)], PollTimeout::NONE);
            }
            Err(_) => return,
        }
    }
}

/// Writes as much as possible until `end`; returns the number of bytes that need no retry: all of them, if
/// a write fails.
pub(super) fn write_until(target: &impl AsFd, text: &[u8], end: Instant) -> usize {
    let mut written = 0;
    while let Some(rest) = text.get(written..).filter(|rest| !rest.is_empty()) {
        let left = end.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let chunk = rest.get(..PIPE_BUF).unwrap_or(rest);
        let outcome = match poll(&mut [writable(target)], left) {
            Ok(0) => return written,
            Ok(_) => write(target, chunk),
            Err(errno) => Err(errno),
        };
        match outcome {
            Ok(count) => written += count,
            Err(Errno::EINTR | Errno::EAGAIN) if Instant::now() < end => {}
            Err(Errno::EINTR | Errno::EAGAIN) => return written,
            Err(_) => return text.len(),
        }
    }
    written
}

fn writable(target: &impl AsFd) -> PollFd<'_> {
    PollFd::new(target.as_fd(), PollFlags::POLLOUT)
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
