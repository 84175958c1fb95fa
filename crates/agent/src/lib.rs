//! The library behind `main.rs`: startup, logging, dropping privileges, and the control side.
//!
//! `main.rs` starts podspan in the order of these modules: [`cli`] reads the arguments, the crate `settings`
//! the environment, [`log`] starts the log, and [`run`](fn@run) opens the sockets, calls [`privilege`] to
//! drop the capabilities, and mirrors until a signal. The process ends with one of the codes in
//! [`exit`]. With `ON_FAILURE=idle`, [`idle`](fn@idle) keeps a process alive that cannot start.
//!
//! [`filter_command`] is `podspan filter`, which needs none of this.
//!
//! Then there are three threads. `worker` handles each frame from the ring to the socket. `control` does
//! everything else; it reads from the worker only what is in `published`. The log's thread writes the
//! log lines. If the sensor is a name, `sensor_lists` runs discovery on the thread of `control`.
//! `own_annotations` follows the annotations of podspan's own pod there; `filter_choice` decides which filter
//! they mean, and `ring_filters` attaches it.
//! `ring_size` chooses the rings' size. `sensors` decides which sensors are in use: `observation` and `ejection` have the rules, and
//! `sensor_log` and `reminders` the log lines. `interfaces` and `losses` log these. What is known of all of it is one value,
//! a `status`, which the totals in the log and the pages of `endpoint` are made from.

#![forbid(unsafe_code)]

mod capture_file;
pub mod cli;
mod control;
mod cpu_quota;
mod ejection;
mod endpoint;
pub mod exit;
mod filter_choice;
pub mod filter_command;
mod flag;
pub mod help;
mod idle;
mod interfaces;
pub mod log;
mod losses;
pub mod observability;
mod observation;
mod own_annotations;
pub mod privilege;
mod published;
mod reminders;
mod report_schedule;
mod ring_filters;
mod ring_size;
mod run;
mod schedule;
mod sealing;
mod sensor_lists;
mod sensor_log;
mod sensors;
mod signals;
mod sources;
mod start_wait;
mod status;
mod tunnels;
mod work;
mod worker;

pub use idle::idle;
pub use run::run;
