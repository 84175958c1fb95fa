//! The control side of podspan: configuration, startup, logging, and the end of privilege.
//!
//! `main.rs` tells the story of startup in the order of these modules: [`cli`] reads the arguments,
//! [`config`] the environment, [`log`] starts to speak, [`run`](fn@run) opens the sockets, calls
//! [`privilege`] to give up what opening them needed, and mirrors until it is told to stop. Its end
//! is one of the codes in [`exit`]. With `ON_FAILURE=idle` a start that fails is no end:
//! [`idle`](fn@idle) keeps the process alive.
//!
//! Then three threads go on: `worker` takes every frame its whole way, from ring to socket; `control`
//! does everything else, and sees of the worker only what is in `published`; the log's thread writes
//! what `control` says. Where the sensor is a name, `finding` looks it up beside `control`, and
//! `sensors` decides which are in use: `evidence` and `ejection` hold the rules, `sensor_log` and
//! `reminders` what is logged.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
mod control;
mod ejection;
mod evidence;
pub mod exit;
mod finding;
mod flag;
mod idle;
pub mod log;
pub mod privilege;
mod published;
mod reminders;
mod run;
mod sensor_log;
mod sensors;
mod signals;
mod sources;
mod start_wait;
mod worker;

pub use idle::idle;
pub use run::run;
