//! Starting, killing, freezing and dropping the servers.

use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use futures_util::StreamExt;
use kube::ResourceExt;
use kube::api::{ListParams, VersionMatch, WatchEvent, WatchParams};
use libtest_mimic::Failed;
use testbed::kubernetes::{Component, ControlPlane, Error, Options, PodDraft, Pods};
use testbed::{Lab, Namespace};

use crate::{Outcome, block_on, eventually, refusal, running, start};

/// Set in the process that [`killed`] kills.
pub(crate) const HOLDER: &str = "TESTBED_HOLDER";

pub(crate) fn starts() -> Result<ControlPlane, Failed> {
    let started = Instant::now();
    let control_plane = start(false)?;
    let time = started.elapsed();
    println!("ready after {time:?}");
    let version = control_plane.kubectl(["get", "--raw=/version"])?;
    assert!(version.contains("v1.36."), "{version}");
    assert!(time < Duration::from_secs(15), "ready after {time:?}");
    Ok(control_plane)
}

/// As in a test of the agent: the API server on one host of a lab, its client on another.
pub(crate) fn in_a_lab() -> Outcome {
    let lab = Lab::builder().build()?;
    let serves = |address: IpAddr| -> Outcome {
        let control_plane = ControlPlane::start(Options {
            namespace: Some(lab.client.namespace.clone()),
            address,
            ..Options::default()
        })?;
        assert_eq!(control_plane.address().ip(), address);
        let pod = block_on(&lab.pod.namespace, async || {
            let pods = Pods::new(control_plane.client().await?, "default");
            let draft = PodDraft::new("sensor").address(lab.sensor.ipv6);
            pods.create(&draft).await
        })?;
        assert_eq!(pod.name_any(), "sensor");
        Ok(())
    };
    thread::scope(|scope| {
        let ipv6 = scope.spawn(|| serves(lab.client.ipv6.into()));
        serves(lab.client.ipv4.into())?;
        ipv6.join().unwrap()
    })
}

pub(crate) fn restart(plane: &mut Option<ControlPlane>) -> Outcome {
    let control_plane = running(plane)?;
    let address = control_plane.address();
    control_plane.create_namespace("kept")?;
    let kept = |control_plane: &ControlPlane| control_plane.kubectl(["get", "namespace", "kept"]);
    let namespace = control_plane.namespace().unwrap().clone();
    let connect = || namespace.run(|| TcpStream::connect(address));

    control_plane.kill(Component::ApiServer)?;
    assert_eq!(
        connect().unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
    assert!(kept(control_plane).is_err());
    assert!(matches!(
        control_plane.kill(Component::ApiServer),
        Err(Error::WrongState { .. })
    ));
    control_plane.launch(Component::ApiServer)?;
    assert_eq!(control_plane.address(), address);
    kept(control_plane)?;
    assert!(matches!(
        control_plane.launch(Component::ApiServer),
        Err(Error::WrongState { .. })
    ));

    control_plane.terminate(Component::ApiServer)?;
    control_plane.launch(Component::ApiServer)?;
    kept(control_plane)?;

    control_plane.kill(Component::Etcd)?;
    control_plane.launch(Component::Etcd)?;
    eventually("the API server finds etcd again", || {
        kept(control_plane).is_ok()
    });
    Ok(())
}

pub(crate) fn freeze(plane: &mut Option<ControlPlane>) -> Outcome {
    let control_plane = running(plane)?;
    let request = || control_plane.kubectl(["get", "--raw=/version", "--request-timeout=1s"]);
    request()?;
    control_plane.freeze(Component::ApiServer)?;
    let refused = refusal(request());
    assert!(
        refused.contains("imeout") || refused.contains("deadline"),
        "{refused}"
    );
    control_plane.thaw(Component::ApiServer)?;
    eventually("it answers again", || request().is_ok());
    Ok(())
}

pub(crate) fn compaction(plane: &mut Option<ControlPlane>) -> Outcome {
    let control_plane = running(plane)?;
    let namespace = control_plane.namespace().unwrap().clone();
    control_plane.create_namespace("compacted")?;
    let old = block_on(&namespace, async || {
        let pods = Pods::new(control_plane.client().await?, "compacted");
        let old = pods
            .create(&PodDraft::new("first"))
            .await?
            .resource_version()
            .unwrap();
        for number in 0..3 {
            pods.create(&PodDraft::new(format!("later-{number}")))
                .await?;
        }
        Ok::<_, Error>(old)
    })?;
    control_plane.compact()?;
    // Its watch cache still has the later versions.
    control_plane.kill(Component::ApiServer)?;
    control_plane.launch(Component::ApiServer)?;
    block_on(&namespace, async || {
        let pods = Pods::new(control_plane.client().await?, "compacted");
        let exact = ListParams::default().at(&old).matching(VersionMatch::Exact);
        match pods.api().list(&exact).await {
            Err(kube::Error::Api(status)) => assert_eq!(status.code, 410, "{status:?}"),
            other => panic!("an old list: {other:?}"),
        }
        let mut events = Box::pin(
            pods.api()
                .watch(&WatchParams::default().timeout(10), &old)
                .await?,
        );
        match events.next().await {
            Some(Ok(WatchEvent::Error(status))) => assert_eq!(status.code, 410, "{status:?}"),
            other => panic!("an old watch: {other:?}"),
        }
        let list = pods.api().list(&ListParams::default()).await?;
        assert_eq!(list.items.len(), 4, "only history is gone");
        Ok(())
    })
}

pub(crate) fn failing() -> Outcome {
    let flags = vec!["--no-such-flag".to_owned()];
    let options = Options {
        apiserver_flags: flags,
        ..Options::default()
    };
    let started = Instant::now();
    let error = ControlPlane::start(options)
        .err()
        .ok_or("started with an unknown flag")?;
    let text = error.to_string();
    assert!(text.contains("kube-apiserver ended by itself"), "{text}");
    assert!(text.contains("unknown flag: --no-such-flag"), "{text}");
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "it is reported at once"
    );
    Ok(())
}

pub(crate) fn dropped(plane: &mut Option<ControlPlane>) -> Outcome {
    running(plane)?.launch(Component::ControllerManager)?;
    let control_plane = plane.take().ok_or("no control plane")?;
    let folder = control_plane.folder().to_owned();
    assert_eq!(processes_of(&folder), 3);
    // Also a frozen one.
    control_plane.freeze(Component::ApiServer)?;
    // From another thread than the one that started it.
    thread::spawn(move || drop(control_plane)).join().unwrap();
    assert_eq!(processes_of(&folder), 0);
    assert!(!folder.exists());
    Ok(())
}

pub(crate) fn killed() -> Outcome {
    let namespace = Namespace::new()?;
    let mut holder = namespace
        .command(env::current_exe()?)
        .env(HOLDER, "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let mut folder = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut folder)?;
    let folder = PathBuf::from(folder.trim_end());
    assert!(folder.is_absolute(), "the holder started nothing");
    assert_eq!(processes_of(&folder), 2);
    holder.kill()?;
    holder.wait()?;
    eventually("the kernel kills the servers", || {
        processes_of(&folder) == 0
    });
    // A killed process cannot remove it.
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Starts a control plane in the current network namespace, on a thread that ends. Prints its folder
/// and waits until it is killed.
pub(crate) fn hold() -> ExitCode {
    let control_plane = thread::spawn(|| ControlPlane::start(Options::default()).unwrap())
        .join()
        .unwrap();
    println!("{}", control_plane.folder().display());
    thread::sleep(Duration::from_mins(1));
    ExitCode::FAILURE
}

/// How many processes have `folder` in their command line.
fn processes_of(folder: &Path) -> usize {
    let folder = folder.to_str().unwrap();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.unwrap().path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(folder))
        .count()
}
