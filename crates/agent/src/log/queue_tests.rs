//! The queue, with pipes that are read, not read, or read late.

use std::io::{PipeReader, PipeWriter, Read as _, pipe};
use std::time::Duration;

use testbed::FullPipe;

use super::*;

/// A queue that is never freed, because a writer's thread needs this.
fn queue() -> &'static Queue {
    Box::leak(Box::new(Queue::new(notice)))
}

fn notice(lines: u64) -> Vec<u8> {
    format!("{lines} dropped\n").into_bytes()
}

fn push(queue: &Queue, line: &str) {
    queue.push(format!("{line}\n").as_bytes());
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(50)
}

/// Longer than the slowest machine needs.
fn much_later() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

/// What is read until `writer` is closed.
fn read((mut reader, writer): (PipeReader, PipeWriter)) -> String {
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn without_a_writer_lines_wait_for_a_flush() {
    let (queue, pipe) = (queue(), pipe().unwrap());
    push(queue, "first");
    push(queue, "second");
    queue.flush(&pipe.1, much_later());
    assert_eq!(read(pipe), "first\nsecond\n");
}

#[test]
fn a_flush_writes_what_a_writer_without_cpu_time_has_not_begun() {
    let (queue, pipe) = (queue(), pipe().unwrap());
    // As if its thread had not run yet.
    queue.lock().has_writer = true;
    push(queue, "totals");
    queue.flush(&pipe.1, soon());
    assert_eq!(read(pipe), "totals\n");
}

#[test]
fn the_writer_writes_earlier_and_later_lines() {
    let (queue, pipe) = (queue(), pipe().unwrap());
    push(queue, "before");
    for _ in 0..2 {
        queue.start_writer(pipe.1.try_clone().unwrap()).unwrap();
    }
    push(queue, "after");
    queue.flush(&pipe.1, much_later());
    let mut text = [0; 13];
    (&pipe.0).read_exact(&mut text).unwrap();
    assert_eq!(text, *b"before\nafter\n");
}

#[test]
fn dropped_lines_are_counted_and_reported_in_their_place() {
    let (queue, pipe) = (queue(), pipe().unwrap());
    for number in 0..LINES_MAX + 3 {
        push(queue, &number.to_string());
    }
    queue.flush(&pipe.1, much_later());
    push(queue, "next");
    queue.flush(&pipe.1, much_later());
    let text = read(pipe);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), LINES_MAX + 2);
    let last = (LINES_MAX - 1).to_string();
    assert_eq!(lines[LINES_MAX - 1..], [last.as_str(), "3 dropped", "next"]);
}

#[test]
fn the_number_of_dropped_lines_comes_before_the_next_line_that_fits() {
    let queue = queue();
    for _ in 0..LINES_MAX + 3 {
        push(queue, "early");
    }
    let mut waiting = queue.lock();
    waiting.take();
    waiting.is_writing = false;
    drop(waiting);
    push(queue, "next");
    push(queue, "too much again");
    let Waiting { lines, dropped, .. } = &*queue.lock();
    let last: Vec<&[u8]> = lines.iter().rev().take(2).map(Vec::as_slice).collect();
    assert_eq!(last, [&b"next\n"[..], b"3 dropped\n"]);
    assert_eq!(*dropped, 1);
}

#[test]
fn bytes_are_bounded_too() {
    let queue = queue();
    for _ in 0..LINES_MAX {
        push(queue, &"-".repeat(1000));
    }
    let Waiting { lines, bytes, .. } = &*queue.lock();
    assert_eq!(lines.iter().map(Vec::len).sum::<usize>(), *bytes);
    assert!((BYTES_MAX - 1001..=BYTES_MAX).contains(bytes), "{bytes}");
}

#[test]
fn no_call_waits_for_a_reader_that_does_not_read() {
    let FullPipe { writer, reader, .. } = FullPipe::new().unwrap();
    let unwritten = queue();
    push(unwritten, "without a writer");
    unwritten.flush(&writer, soon());
    assert_eq!(write_until(&writer, b"refused\n", soon()), 0);
    let queue = queue();
    queue.start_writer(writer).unwrap();
    for _ in 0..2 * LINES_MAX {
        push(queue, "with a writer");
    }
    queue.flush(&reader, soon());
    assert!(!queue.lock().lines.is_empty());
}

#[test]
fn a_partly_written_line_is_completed_when_it_is_read_again() {
    let (queue, mut full) = (queue(), FullPipe::new().unwrap());
    let long = "-".repeat(2 * full.filled);
    push(queue, &long);
    push(queue, "next");
    let mut text = Vec::new();
    for _ in 0..8 {
        queue.flush(&full.writer, soon());
        let mut chunk = [0; PIPE_BUF];
        let count = full.reader.read(&mut chunk).unwrap();
        text.extend_from_slice(&chunk[..count]);
        if queue.lock().lines.is_empty() {
            break;
        }
    }
    text.extend_from_slice(read((full.reader, full.writer)).as_bytes());
    let mut text = String::from_utf8(text).unwrap();
    assert_eq!(text.split_off(full.filled), format!("{long}\nnext\n"));
}

#[test]
fn a_closed_reader_loses_lines_and_causes_no_error() {
    let (queue, (reader, writer)) = (queue(), pipe().unwrap());
    drop(reader);
    push(queue, "into nowhere");
    queue.flush(&writer, much_later());
    assert!(queue.lock().lines.is_empty());
}
