//! The rings' size: the one in `RING_SIZE`, or with `RING_SIZE=auto` one that is computed at the start.
//!
//! In: the setting and the names of the interfaces. Out: the open rings and a [`Plan`], which the log
//! shows. [`host`] reads the container's CPU quota and memory limit and the node's memory, [`limits`]
//! parses these files, and [`geometry`] decides; only `host` and [`open`] do I/O. If the kernel has no
//! memory for rings of the computed size, all of them are made half as large, again and again, down to
//! 2 MiB. A size in `RING_SIZE` is never changed.

mod geometry;
mod host;
#[cfg(test)]
mod host_tests;
mod limits;
#[cfg(test)]
mod limits_tests;

use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use capture::{BLOCK_LEN, OpenError, Ring, RingConfig};
use wire::InterfaceName;

use geometry::{Bound, Geometry, choose, hold};
use host::Host;
use settings::{Config, RingSetting, RingSize};

/// The directory of the nearest control group with a CPU quota, from this process's own on upwards, else its own; `root`
/// is `/`.
pub(crate) fn quota_group(root: &Path) -> Option<PathBuf> {
    host::quota_group(root)
}

/// A number of bytes in MiB, or in KiB if it is not a multiple.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            mib if mib.is_multiple_of(1 << 20) || mib >= 1 << 30 => write!(f, "{}MiB", mib >> 20),
            other => write!(f, "{}KiB", other >> 10),
        }
    }
}

/// The rings' geometry and how it was chosen.
#[derive(Debug)]
pub(crate) struct Plan {
    host: Host,
    geometry: Geometry,
    /// With `RING_SIZE=auto`.
    auto: Option<Auto>,
}

#[derive(Debug)]
struct Auto {
    bound: Bound,
    /// The size that was computed, before the kernel had no memory for it.
    computed: Geometry,
}

impl Plan {
    fn fixed(host: Host, size: RingSize) -> Self {
        let bytes = usize::try_from(size.bytes()).unwrap_or(usize::MAX);
        Self {
            host,
            geometry: Geometry {
                block_len: BLOCK_LEN,
                blocks: bytes / BLOCK_LEN,
            },
            auto: None,
        }
    }

    fn auto(host: Host, interfaces: usize) -> Self {
        let (geometry, bound) = choose(&host.inputs(interfaces));
        Self {
            host,
            geometry,
            auto: Some(Auto {
                bound,
                computed: geometry,
            }),
        }
    }

    /// Smaller rings, after the kernel had no memory; `None` if the size must not change.
    fn half(&self) -> Option<Geometry> {
        self.auto.as_ref()?;
        self.geometry.half(hold(self.host.inputs(1).quota))
    }

    /// Whether a CPU quota is set, so that podspan has a control group of its own.
    pub(crate) fn has_cpu_quota(&self) -> bool {
        self.host.inputs(1).quota.is_some()
    }

    /// The size of each ring in bytes.
    pub(crate) const fn ring_bytes(&self) -> usize {
        self.geometry.bytes()
    }

    /// The number of blocks of each ring.
    pub(crate) const fn blocks(&self) -> usize {
        self.geometry.blocks
    }

    /// Logs the rings' size and the reason.
    pub(crate) fn log(&self) {
        let Geometry { block_len, blocks } = self.geometry;
        let (size, block) = (shown(self.geometry.bytes()), shown(block_len));
        let Some(Auto { bound, computed }) = &self.auto else {
            tracing::info!(%size, blocks, %block, "the size of each ring is that in RING_SIZE");
            return;
        };
        tracing::info!(
            %size, blocks, %block, reason = bound.to_string(),
            cpu_quota = self.host.quota_text().to_string(),
            memory_limit = self.host.memory_limit_text().to_string(),
            node_memory = self.host.node_text().to_string(),
            "the size of each ring was computed (RING_SIZE=auto)"
        );
        if *computed != self.geometry {
            tracing::warn!(
                computed = %shown(computed.bytes()), %size,
                "the kernel had no memory for rings of the computed size, so they are smaller; frames can \
                 be lost while podspan has no CPU: free memory on the node"
            );
        }
    }
}

fn shown(bytes: usize) -> Size {
    Size(bytes as u64)
}

/// Opens one ring for each interface, in the order of the configuration; none is bound yet.
pub(crate) fn open(config: &Config, mark: NonZeroU32) -> Result<(Vec<Ring>, Plan), OpenError> {
    let host = Host::read(Path::new("/"));
    let mut plan = match config.ring_size {
        RingSetting::Fixed(size) => Plan::fixed(host, size),
        RingSetting::Auto => Plan::auto(host, config.interface.names().len()),
    };
    let filter = config.filter.clone().map(Arc::new);
    loop {
        let ring_config = RingConfig {
            block_len: plan.geometry.block_len,
            filter: filter.clone(),
            ..RingConfig::new(plan.geometry.bytes(), mark)
        };
        let open = |name: &InterfaceName| Ring::open(name.clone(), &ring_config);
        match config.interface.names().map(open).collect() {
            Ok(rings) => return Ok((rings, plan)),
            Err(error @ OpenError::Memory { .. }) => plan.geometry = plan.half().ok_or(error)?,
            Err(error) => return Err(error),
        }
    }
}
