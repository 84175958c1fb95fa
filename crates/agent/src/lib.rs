//! The control side of podspan: configuration, startup, logging, and the end of privilege.
//!
//! `main.rs` tells the story of startup in the order of these modules: [`cli`] reads the arguments,
//! [`config`] the environment, [`log`] starts to speak, [`run`](fn@run) opens the sockets, calls
//! [`privilege`] to give up what opening them needed, and mirrors until it is told to stop. Its end
//! is one of the codes in [`exit`].
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
pub mod log;
pub mod privilege;
mod published;
mod reminders;
mod run;
mod sensor_log;
mod sensors;
mod worker;

pub use run::run;
