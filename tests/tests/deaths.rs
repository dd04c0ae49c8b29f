//! LIVE-1: a process that dies ends the run within ten seconds, with one clear error, and leaves no orphan.

use std::time::{Duration, Instant};

use artel_tests::{Process, Sandbox, children_of, is_alive};

const PROGRAM: &str = env!("CARGO_BIN_EXE_artel-under-test");
const STAGES: [&str; 5] = ["import", "tokenise", "evaluate_base", "train", "evaluate"];

/// A run long enough to be killed in any stage.
fn start(sandbox: &Sandbox, store: &str) -> Process {
    Process::start(&mut sandbox.artel(["run", "spec.toml", "--json", "--store", &format!("file:./{store}")]))
}

fn prepare() -> Sandbox {
    let sandbox = Sandbox::new(PROGRAM);
    sandbox.pairs(396);
    sandbox.spec("num_train_epochs = 40\neval_strategy = \"steps\"\neval_steps = 5", "count = 2\nthreads = 1");
    sandbox
}

/// Kills what `role` names as soon as the stage begins, and checks how the run ends.
fn kill_in(sandbox: &Sandbox, stage: &str, role: &str, code: i32, says: &str) {
    let run = start(sandbox, &format!("{stage}-{role}"));
    run.wait_for_line(Duration::from_secs(60), |line| line.contains("stage_started") && line.contains(&format!("\"{stage}\"")));
    let begun = Instant::now();
    let children = loop {
        let children = children_of(run.pid());
        if children.len() == 3 {
            break children;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "children: {children:?}");
    };
    let victim = children.iter().find(|(_, command)| command.contains(&format!(" {role} "))).expect("the victim runs").0;
    let killed = Instant::now();
    // SAFETY: kill(2) touches no memory of this process
    unsafe { libc::kill(victim as i32, libc::SIGKILL) };
    let (status, lines, stderr) = run.wait(Duration::from_secs(20));
    assert!(killed.elapsed() < Duration::from_secs(10), "{stage}/{role}: took {:?}", killed.elapsed());
    assert_eq!(status.code(), Some(code), "{stage}/{role}: {stderr}\n{lines:#?}");
    assert!(stderr.contains(says), "{stage}/{role}: {stderr}");
    assert_eq!(stderr.lines().filter(|line| line.starts_with("error")).count(), 1, "one clear error: {stderr}");
    for (pid, command) in children {
        assert!(!is_alive(pid), "{stage}/{role}: orphan {pid}: {command}");
    }
}

/// Goal: kill -9 of a worker in each stage. Method: exit code 7, a message that names it, nothing left running.
#[test]
fn a_killed_worker_ends_the_run() {
    let sandbox = prepare();
    for stage in STAGES {
        kill_in(&sandbox, stage, "worker", 7, "worker");
    }
}

/// Goal: kill -9 of the coordinator in each stage. Method: exit code 8, a message, nothing left running.
#[test]
fn a_killed_coordinator_ends_the_run() {
    let sandbox = prepare();
    for stage in STAGES {
        kill_in(&sandbox, stage, "coordinator", 8, "coordinator");
    }
}

/// Goal: nothing outlives `artel run`, even killed with -9. Method: look for its children.
#[test]
fn nothing_outlives_the_run() {
    let sandbox = prepare();
    let run = start(&sandbox, "outlive");
    run.wait_for_line(Duration::from_secs(60), |line| line.contains("\"step\""));
    let children = children_of(run.pid());
    assert_eq!(children.len(), 3, "{children:?}");
    run.signal(libc::SIGKILL);
    let _ = run.wait(Duration::from_secs(5));
    let begun = Instant::now();
    while children.iter().any(|(pid, _)| is_alive(*pid)) {
        assert!(begun.elapsed() < Duration::from_secs(5), "orphans: {children:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Goal: Ctrl-C ends everything cleanly. Method: SIGINT in mid-training: exit 130, one line, no orphan.
#[test]
fn ctrl_c_ends_everything() {
    let sandbox = prepare();
    let run = start(&sandbox, "interrupt");
    run.wait_for_line(Duration::from_secs(60), |line| line.contains("\"step\""));
    let children = children_of(run.pid());
    let begun = Instant::now();
    run.signal(libc::SIGINT);
    let (status, _, stderr) = run.wait(Duration::from_secs(20));
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("interrupted"), "{stderr}");
    assert!(children.iter().all(|(pid, _)| !is_alive(*pid)));
}

/// Goal: a worker by hand whose coordinator dies ends with 8 within ten seconds. Method: kill -9 in mid-training.
#[test]
fn a_worker_by_hand_loses_its_coordinator() {
    let sandbox = prepare();
    sandbox.spec("num_train_epochs = 40", "count = 1\nthreads = 1");
    let coordinator = Process::start(&mut sandbox.artel(["coordinator", "spec.toml", "--listen", "127.0.0.1:0", "--json"]));
    let line = coordinator.wait_for_line(Duration::from_secs(20), |line| line.contains("listening"));
    let event: serde_json::Value = serde_json::from_str(&line).expect("an event");
    let worker = Process::start(&mut sandbox.artel(["worker", "--coordinator", event["url"].as_str().expect("a URL")]));
    coordinator.wait_for_line(Duration::from_secs(60), |line| line.contains("\"event\":\"step\""));
    coordinator.signal(libc::SIGKILL);
    let begun = Instant::now();
    let (status, _, stderr) = worker.wait(Duration::from_secs(20));
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(status.code(), Some(8), "{stderr}");
    assert!(stderr.contains("coordinator was lost"), "{stderr}");
}
