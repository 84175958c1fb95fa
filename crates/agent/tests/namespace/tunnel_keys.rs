//! The keys of encrypted tunnels come after podspan's start.

use std::fs;
use std::thread;
use std::time::Duration;

use testbed::Lab;

use crate::totals::Totals;
use crate::tunnel_ends::{Keys, LIMIT, Wire, end, numbers, opened_at, sensor_at, stop, stream};

/// Removes podspan's files, as they are missing without the Secret; returns what they had.
fn take(keys: &Keys) -> [String; 2] {
    ["sensor-key", "preshared-key"].map(|file| {
        let text = fs::read_to_string(keys.path(file)).unwrap();
        fs::remove_file(keys.path(file)).unwrap();
        text
    })
}

/// As those of an optional Secret that is made after the pod.
pub(crate) fn late() {
    const COUNT: u32 = 500;
    for tunnel in ["wireguard", "required"] {
        let (lab, keys) = (Lab::builder().build().unwrap(), Keys::new());
        let (receive, opened) = (keys.receive(&lab.sensor), opened_at(&lab.sensor));
        let wire = Wire::at(&lab.sensor);
        let files = take(&keys);
        let more = [("START_WAIT", "0s"), ("TUNNEL", tunnel)];
        let mut agent = keys.podspan(&lab, &[sensor_at(&lab.sensor)], &more);
        stream(&lab, 0..COUNT, 1000);
        let [sensor, preshared] = &files;
        // Half of the files is none.
        keys.write("sensor-key", &[sensor]);
        stream(&lab, COUNT..2 * COUNT, 500);
        let (so_far, _) = wire.stop().unwrap();
        assert!(so_far.plain == 0 && so_far.sealed == 0, "no key was there");

        let wire = Wire::at(&lab.sensor);
        keys.write("preshared-key", &[preshared]);
        // podspan reads the files while there is traffic, and now and then without.
        agent.wait_for_output("are there", 2 * LIMIT).unwrap();
        agent.wait_for_output("a sensor is up", LIMIT).unwrap();
        stream(&lab, 2 * COUNT..3 * COUNT, 500);
        let log = end(agent);
        thread::sleep(Duration::from_millis(200));
        let found = numbers(&stop(opened));
        let totals = Totals::read(&log);
        assert!(
            totals.frames_dropped["no_session"] >= 2 * u64::from(COUNT),
            "{totals:?}"
        );
        assert_eq!(found, (2 * COUNT..3 * COUNT).collect::<Vec<_>>(), "{log}");
        let warnings = log.matches("there is no such file").count();
        // One for each of the two files.
        assert_eq!(warnings, 2, "{log}");
        for part in [
            &format!(
                "WG_SENSOR_KEY_FILE={}: there is no such file",
                keys.path("sensor-key")
            )[..],
            "No sensor with a tunnel is used until it is there",
            "kubectl podspan keys ... | kubectl create -f -",
        ] {
            assert!(log.contains(part), "{part}\n{log}");
        }
        assert!(!log.contains("does not answer"), "{log}");
        end(receive);
        Wire::assert_sealed(wire);
    }
}
