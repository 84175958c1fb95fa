//! Processes: none runs longer than its owner, and none has more privileges than it needs.

use std::time::Duration;

use libtest_mimic::Failed;
use testbed::{Capability, Namespace, Process, Signal};

use crate::{Outcome, TIMEOUT};

/// The argument that makes this program hold a child and wait to be killed.
pub(crate) const HOLD_A_CHILD: &str = "--hold-a-child";

/// Starts a child in a namespace, prints its number, and waits.
pub(crate) fn hold_a_child() {
    match Namespace::new()
        .map_err(Failed::from)
        .and_then(|namespace| sleeper(&namespace))
    {
        Ok(child) => {
            println!("child {} runs", child.id());
            std::thread::sleep(TIMEOUT);
        }
        Err(error) => eprintln!("{error:?}"),
    }
}

pub(crate) fn processes_die_with_a_killed_parent() -> Outcome {
    let mut command = Namespace::new()?.command(std::env::current_exe()?);
    command.arg(HOLD_A_CHILD);
    let mut parent = Process::spawn(command)?;
    parent.wait_for_output("runs", TIMEOUT)?;
    let printed = parent.stdout();
    let child: u32 = printed.split(' ').nth(1).ok_or("no number")?.parse()?;
    assert!(is_alive(child));
    parent.signal(Signal::SIGKILL)?;
    let deadline = std::time::Instant::now() + TIMEOUT;
    while is_alive(child) {
        assert!(
            std::time::Instant::now() < deadline,
            "the child outlives its parent"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn is_alive(process: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

fn sleeper(namespace: &Namespace) -> Result<Process, Failed> {
    let mut command = namespace.command("sleep");
    command.arg("60");
    Ok(Process::spawn(command)?)
}

pub(crate) fn processes_die_with_their_value() -> Outcome {
    let namespace = Namespace::new()?;
    let process = sleeper(&namespace)?;
    let id = process.id();
    assert!(is_alive(id));
    drop(process);
    assert!(!is_alive(id));
    let mut seen = 0;
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let process = sleeper(&namespace);
        seen = process.as_ref().map_or(0, Process::id);
        std::panic::resume_unwind(Box::new("a test failed"));
    }));
    assert!(outcome.is_err() && seen != 0 && !is_alive(seen));
    let mut gentle = sleeper(&namespace)?;
    gentle.terminate()?;
    assert!(!gentle.wait(TIMEOUT)?.success());
    // The end of the thread that started the child does not send the parent-death signal.
    let survivor = std::thread::scope(|scope| {
        scope
            .spawn(|| sleeper(&namespace))
            .join()
            .map_err(|_| "a thread panicked")
    })??;
    std::thread::sleep(Duration::from_millis(50));
    assert!(is_alive(survivor.id()));
    Ok(())
}

pub(crate) fn capabilities_are_reduced() -> Outcome {
    let namespace = Namespace::new()?;
    for (keep, mask) in [
        (&[Capability::CAP_NET_RAW][..], "0000000000002000"),
        (&[], "0000000000000000"),
    ] {
        let mut command = namespace.command_with_capabilities("grep", keep);
        command.args(["Cap", "/proc/self/status"]);
        let mut process = Process::spawn(command)?;
        assert!(process.wait(TIMEOUT)?.success(), "{}", process.stderr());
        let output = process.stdout();
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert!(output.contains(&format!("{set}:\t{mask}")), "{output}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert!(
                output.contains(&format!("{set}:\t0000000000000000")),
                "{output}"
            );
        }
    }
    Ok(())
}
