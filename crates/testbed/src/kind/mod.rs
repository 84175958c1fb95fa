//! A real cluster for tests: kind, with kubelets that enforce their limits.
//!
//! Comes in: [`Options`]. Goes out: a [`Cluster`], which outlives the process that made it, until
//! [`down`]. There are two ways to one, and a third to somebody else's, and everything else is the
//! same for all:
//!
//! ```text
//!   Source::Published   kind in the user's Docker, with the published node image
//!   Source::Own         kind in a private Docker daemon, with a node image made here from Debian's
//!                       packages and Go modules; nothing is pulled; needs root
//!   Source::Given       not made here: any cluster, by its kubeconfig ([`given`]), without access to
//!                       its nodes
//! ```
//!
//! | file | what |
//! |-|-|
//! | `folder.rs` | the folder of a cluster, its lock, and what is named after it |
//! | `cluster.rs` | up, down and what is known in between |
//! | `given.rs` | a cluster that somebody else made |
//! | `access.rs` | kubectl, a client, exec, logs, images |
//! | `docker.rs`, `cgroups.rs` | the private daemon, and how all of it is ended |
//! | `node_image.rs`, `base.rs`, `images.rs`, `oci.rs` | the node image |
//! | `programs.rs` | what is built from Go modules |
//! | `ready.rs` | when a cluster is ready |
//!
//! Invariants:
//! - Nothing of the machine is changed: no rule, bridge, setting of the kernel, mount or kubeconfig.
//!   What is made is below cargo's target folder, in namespaces of its own, and in control groups
//!   with a parent of its own.
//! - [`down`] leaves nothing but caches below the target folder, whenever [`up`] was killed. Each
//!   step is either known from before it begins (the state file, the lock of the daemon), or ends
//!   with the process that does it (`src/contained.rs`).
//! - No process is ended because of its name or number: the kernel says who holds the lock.
//!
//! On cgroup v2 the same commands run; this was tried on cgroup v1 only.

mod access;
mod base;
mod cgroups;
mod cluster;
mod config;
mod docker;
mod error;
mod folder;
mod given;
mod images;
mod node_image;
mod oci;
mod programs;
mod ready;
mod run;
mod stages;
mod state;
mod status;
mod tools_image;

pub use cluster::{Choice, Cluster, Options, adopt, down, up};
pub use error::Error;
pub use folder::{control_group_of, folder_of};
pub use given::given;
pub use images::BUSYBOX;
pub use stages::Stages;
pub use state::Source;
pub use status::Status;
pub use tools_image::{TOOLS, tools_image};
