//! The lab of an application and its client, and what mirrors the pod's traffic.
//!
//! ```text
//!  client, processor 1          pod, processor 0           sensor
//!  10.77.0.1, MTU 1450          10.77.0.2                  10.77.0.3, vxlan0 (VNI 1)
//! ```
//! The sensor has a kernel vxlan device, which takes the copies of both mirrors and drops what is in them: it is
//! for no address there. Between client and pod the MTU is 1450, so that each copy fits the tunnel: with 1500,
//! tc's copies of full-sized packets would be fragmented, which costs it most of its speed.
//!
//! podspan is not pinned. Its control group has the quota and the CPU request of the manifests, as a container has.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use testbed::{ControlGroup, Lab};

use super::plan::Mirror;
use super::results::Copies;
use crate::agent::Agent;
use crate::matrix::stand::run;
use crate::matrix::{Error, Result};

const VNI: u32 = 1;
const PORT: u16 = 4789;
/// With a VXLAN header the packets have 1500 bytes.
const MTU: u32 = 1450;
/// The CPU request of `manifests/components/sidecar`, in thousandths of a processor.
const REQUEST: u32 = 50;
/// Where the application runs.
pub const POD: usize = 0;
/// Where its client runs.
pub const CLIENT: usize = 1;

/// The lab.
#[derive(Debug)]
pub struct Stand {
    /// Client, pod and sensor.
    pub lab: Lab,
    group: ControlGroup,
}

/// A mirror that runs; tc's is removed when this is dropped.
#[derive(Debug)]
pub struct Running<'s> {
    stand: &'s Stand,
    form: Form,
    arrived: u64,
    since: Instant,
}

#[derive(Debug)]
enum Form {
    Nothing,
    Tc,
    /// With its CPU time before the load.
    Podspan(Box<Agent>, Duration),
}

impl Stand {
    /// Builds it; podspan may use `quota` in each 100 ms.
    ///
    /// # Errors
    /// [`Error::NoQuota`], or of the lab.
    pub fn new(quota: Duration) -> Result<Self> {
        let group = ControlGroup::with_quota(quota).ok_or(Error::NoQuota)?;
        group.set_request(REQUEST)?;
        let lab = Lab::builder().client_mtu(MTU).vxlan(VNI, PORT).build()?;
        Ok(Self { lab, group })
    }

    /// Starts a mirror.
    ///
    /// # Errors
    /// [`Error::Program`] where tc or ip is refused, or of podspan.
    pub fn start(&self, podspan: &Path, mirror: Mirror) -> Result<Running<'_>> {
        let mut running = Running {
            stand: self,
            form: Form::Nothing,
            arrived: 0,
            since: Instant::now(),
        };
        match mirror {
            Mirror::Nothing => (),
            Mirror::Tc => {
                running.form = Form::Tc;
                self.start_tc()?;
            }
            Mirror::Podspan | Mirror::Rejecting => {
                let mut settings = vec![
                    ("SENSOR", format!("{}:{PORT}", self.lab.sensor.ipv4)),
                    ("VNI", VNI.to_string()),
                    ("RECEIVER", "socket".to_owned()),
                ];
                if mirror == Mirror::Rejecting {
                    settings.push(("FILTER", Mirror::REJECTING.to_owned()));
                }
                let mut agent = Agent::start_in(podspan, &self.lab, &settings, Some(&self.group))?;
                agent.await_mirroring(&self.lab)?;
                let used = agent.cpu_time()?;
                running.form = Form::Podspan(Box::new(agent), used);
            }
        }
        running.arrived = self.arrived()?;
        running.since = Instant::now();
        Ok(running)
    }

    /// Bytes of the copies at the sensor's vxlan device so far.
    fn arrived(&self) -> Result<u64> {
        let device = self
            .lab
            .vxlan
            .as_ref()
            .map(|(device, _)| device.statistics());
        Ok(device
            .transpose()?
            .map_or(0, |statistics| statistics.rx_bytes))
    }

    /// Both directions, without the copies themselves.
    fn start_tc(&self) -> Result<()> {
        let sensor = self.lab.sensor.ipv4;
        let mirror = "action mirred egress mirror dev mirror0";
        for words in [
            &format!(
                "ip link add mirror0 type vxlan id {VNI} remote {sensor} dstport {PORT} nolearning dev eth0"
            ),
            "ip link set mirror0 up",
            "tc qdisc add dev eth0 clsact",
            &format!("tc filter add dev eth0 ingress prio 2 u32 match u32 0 0 {mirror}"),
            &format!(
                "tc filter add dev eth0 egress prio 1 protocol ip u32 match ip protocol 17 0xff match ip dport \
                 {PORT} 0xffff flowid 1:1"
            ),
            &format!("tc filter add dev eth0 egress prio 2 u32 match u32 0 0 {mirror}"),
        ] {
            run(&self.lab.pod.namespace, words)?;
        }
        Ok(())
    }

    fn stop_tc(&self) -> Result<()> {
        run(&self.lab.pod.namespace, "tc qdisc del dev eth0 clsact")?;
        run(&self.lab.pod.namespace, "ip link del mirror0")
    }
}

impl Running<'_> {
    /// Ends it, and returns what it copied since it was started.
    ///
    /// # Errors
    /// Where podspan ended with an error.
    pub fn stop(mut self) -> Result<Copies> {
        let form = std::mem::replace(&mut self.form, Form::Nothing);
        let mut cpu = 0.0;
        let totals = match form {
            Form::Podspan(agent, before) => {
                let used = agent.cpu_time()?.saturating_sub(before);
                cpu = used.as_secs_f64() / self.since.elapsed().as_secs_f64();
                // It also sends what is in its ring.
                Some(agent.stop()?)
            }
            Form::Tc => {
                self.stand.stop_tc()?;
                None
            }
            Form::Nothing => None,
        };
        Ok(Copies {
            bytes: self.stand.arrived()?.saturating_sub(self.arrived),
            frames: totals.as_ref().map_or(0, |totals| totals.ring_packets),
            ring_drops: totals.map_or(0, |totals| totals.ring_drops),
            cpu,
        })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if matches!(self.form, Form::Tc) {
            // After another error that is reported; the lab is removed soon.
            let _ = self.stand.stop_tc();
        }
    }
}

/// Pins the calling thread.
///
/// # Errors
/// [`crate::Error::System`], as on a machine with one processor.
pub fn pin(processor: usize) -> Result<()> {
    let failed = |source| crate::Error::System {
        doing: "pinning a thread to a processor; the bench needs two processors",
        source,
    };
    let mut set = CpuSet::new();
    set.set(processor).map_err(failed)?;
    sched_setaffinity(Pid::from_raw(0), &set).map_err(failed)?;
    Ok(())
}
