//! `ANNOTATIONS`: the annotations of podspan's own pod in a file, which is replaced as the kubelet
//! replaces it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::Duration;

use testbed::Lab;
use testbed::traffic::{Family, udp_stream};

use crate::filter::{STREAM, udp_frames};
use crate::scene::{LIMIT, Scene, sensor_of};

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "a_file_of_annotations_is_followed_when_it_is_replaced",
        replaced,
    ),
    ("a_file_of_annotations_costs_little_cpu_time", idle),
];

/// Writes `annotations` in a new folder, and renames the link `..data` onto the old one.
fn write(volume: &Path, version: &str, text: &str) {
    let data = volume.join(version);
    fs::create_dir(&data).unwrap();
    fs::write(data.join("annotations"), text).unwrap();
    symlink(version, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

/// A volume whose file has the text.
fn volume(text: &str) -> tempfile::TempDir {
    let volume = tempfile::tempdir().unwrap();
    write(volume.path(), "..1", text);
    symlink("..data/annotations", volume.path().join("annotations")).unwrap();
    volume
}

fn replaced() {
    let volume = volume("a=\"b\"\npodspan.dev/filter=\"not (udp and ip6)\"\n");
    let path = volume.path().join("annotations").display().to_string();
    let lab = Lab::builder().build().unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    let environment = [
        ("SENSOR", sensor.as_str()),
        ("FILTER", "ip6"),
        ("ANNOTATIONS", path.as_str()),
        // With the file, the API server is not asked.
        ("KUBERNETES_SERVICE_HOST", "192.0.2.1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
        ("POD_NAME", "app"),
    ];
    let mut scene = Scene::start_with(lab, &environment, Vec::new());
    let mut until = |words: &str| scene.agent.wait_for_output(words, LIMIT).unwrap();
    let stream = |lab: &Lab| {
        for family in Family::BOTH {
            udp_stream(&lab.client, &lab.pod, family, STREAM).unwrap();
        }
    };
    until("annotation podspan.dev/filter: \"not (udp and ip6)\"");
    stream(&scene.lab);
    let mut until = |words: &str| scene.agent.wait_for_output(words, LIMIT).unwrap();
    write(
        volume.path(),
        "..2",
        "podspan.dev/filter=\"udp prot\"\npodspan.dev/mirror=\"off\"\n",
    );
    until("at byte 4, \"prot\"");
    until("switches mirroring off");
    stream(&scene.lab);
    let mut until = |words: &str| scene.agent.wait_for_output(words, LIMIT).unwrap();
    write(volume.path(), "..3", "");
    until("FILTER is used again: \"ip6\"");
    until("switched on again");
    stream(&scene.lab);
    let log = scene.agent.stderr();
    assert!(!log.contains("not followed"), "{log}");
    let (_lab, outcome) = scene.end();
    let sent = usize::try_from(STREAM.count).unwrap();
    assert_eq!(udp_frames(&outcome.inner), (sent, sent));
}

fn idle() {
    const WINDOW: Duration = Duration::from_secs(4);
    let volume = volume("podspan.dev/filter=\"udp\"\n");
    let path = volume.path().join("annotations").display().to_string();
    let lab = Lab::builder().build().unwrap();
    let sensor = sensor_of(&lab, Family::V4);
    let environment = [("SENSOR", sensor.as_str()), ("ANNOTATIONS", path.as_str())];
    let mut scene = Scene::start_with(lab, &environment, Vec::new());
    scene
        .agent
        .wait_for_output("annotation podspan.dev/filter", LIMIT)
        .unwrap();
    thread::sleep(Duration::from_secs(2));
    // The minimum of some windows: other work on the machine makes each system call slower.
    let window = |_| {
        let before = scene.agent.cpu_time().unwrap();
        thread::sleep(WINDOW);
        scene.agent.cpu_time().unwrap().saturating_sub(before)
    };
    let used = (0..3).map(window).min().unwrap();
    let percent = used.as_secs_f64() / WINDOW.as_secs_f64() * 100.0;
    println!("idle with a file of annotations: {percent:.4} % of a core");
    assert!(percent < 0.05, "{percent} %");
    scene.end();
}
