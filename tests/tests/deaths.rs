//! LIVE-1: a process that dies is replaced where somebody can replace it, and else ends the run within ten seconds, with one clear error;
//! no process outlives its parent.

use std::time::{Duration, Instant};

use artel_tests::{Process, Sandbox, children_of, is_alive};

const PROGRAM: &str = env!("CARGO_BIN_EXE_artel-under-test");
const STAGES: [&str; 7] = ["import", "tokenise", "evaluate_base", "train", "evaluate", "export", "report"];
const TRAIN: &str = "save_strategy = \"steps\"\nsave_steps = 2";

/// A run of some steps; a killed one must still give the weights of one that nobody disturbed.
fn prepare() -> (Sandbox, String) {
    let sandbox = Sandbox::new(PROGRAM);
    sandbox.pairs(200);
    sandbox.spec(TRAIN, "count = 2\nthreads = 1");
    sandbox.run(["run", "spec.toml", "--json", "--store", "file:./undisturbed"]).expect_done();
    let digest = sandbox.digest("undisturbed");
    (sandbox, digest)
}

fn start(sandbox: &Sandbox, store: &str) -> Process {
    Process::start(&mut sandbox.artel(["run", "spec.toml", "--json", "--store", &format!("file:./{store}")]))
}

/// The three processes below `artel run`, once they are there.
fn children(run: &Process) -> Vec<(u32, String)> {
    let begun = Instant::now();
    loop {
        let children = children_of(run.pid());
        if children.len() == 3 && children.iter().all(|(_, command)| !command.is_empty()) {
            return children;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "children: {children:?}");
    }
}

/// Kills what `role` names as soon as the stage begins; the run must go on by itself to the same weights.
fn kill_in(sandbox: &Sandbox, stage: &str, role: &str, digest: &str) {
    let store = format!("{stage}-{role}");
    let run = start(sandbox, &store);
    run.wait_for_line(Duration::from_secs(60), |line| line.contains("stage_started") && line.contains(&format!("\"{stage}\"")));
    let children = children(&run);
    let victim = children.iter().find(|(_, command)| command.contains(&format!(" {role} "))).expect("the victim runs").0;
    // SAFETY: kill(2) touches no memory of this process
    unsafe { libc::kill(victim as i32, libc::SIGKILL) };
    let (status, lines, stderr) = run.wait(Duration::from_secs(60));
    assert_eq!(status.code(), Some(0), "{stage}/{role}: {stderr}\n{lines:#?}");
    // in the last stages the run may be over before the death is seen
    let restarted = lines.iter().any(|line| line.contains("\"restarting\"") && line.contains(role));
    assert!(restarted || ["export", "report"].contains(&stage), "{stage}/{role}: {lines:#?}");
    assert_eq!(sandbox.digest(&store), digest, "{stage}/{role}");
    for (pid, command) in children {
        assert!(!is_alive(pid), "{stage}/{role}: orphan {pid}: {command}");
    }
}

/// Goal: kill -9 of a worker in each stage costs nothing but time. Method: exit code 0, a restart that names it, the same weights.
#[test]
fn a_killed_worker_is_replaced() {
    let (sandbox, digest) = prepare();
    for stage in STAGES {
        kill_in(&sandbox, stage, "worker", &digest);
    }
}

/// Goal: the same for the coordinator. Method: as above.
#[test]
fn a_killed_coordinator_is_replaced() {
    let (sandbox, digest) = prepare();
    for stage in STAGES {
        kill_in(&sandbox, stage, "coordinator", &digest);
    }
}

/// Goal: a run that gets no further is not started again for ever. Method: every worker dies after its first step; exit code 7, one error.
#[test]
fn restarts_are_bounded() {
    let sandbox = Sandbox::new(PROGRAM);
    sandbox.pairs(120);
    sandbox.spec("save_strategy = \"no\"", "count = 2\nthreads = 1");
    let begun = Instant::now();
    let mut command = sandbox.artel(["run", "spec.toml", "--json"]);
    let (status, lines, stderr) = Process::start(command.env("ARTEL_DIE_AT", "train::after_step")).wait(Duration::from_secs(90));
    assert_eq!(status.code(), Some(7), "{stderr}");
    assert!(stderr.contains("worker") && stderr.matches("error: ").count() == 1, "{stderr}");
    let restarts = lines.iter().filter(|line| line.contains("\"restarting\"")).count();
    // one that followed progress (the evaluated base model), then those in a row
    assert!((3..=4).contains(&restarts), "{restarts} restarts: {lines:#?}");
    assert!(begun.elapsed() < Duration::from_secs(80));
}

/// Goal: nothing outlives `artel run`, even killed with -9. Method: look for its children.
#[test]
fn nothing_outlives_the_run() {
    let (sandbox, _) = prepare();
    let run = start(&sandbox, "outlive");
    run.wait_for_line(Duration::from_secs(60), |line| line.contains("\"step\""));
    let children = children(&run);
    run.signal(libc::SIGKILL);
    let _ = run.wait(Duration::from_secs(5));
    let begun = Instant::now();
    while children.iter().any(|(pid, _)| is_alive(*pid)) {
        assert!(begun.elapsed() < Duration::from_secs(5), "orphans: {children:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A coordinator by hand, and its URL.
fn coordinator(sandbox: &Sandbox) -> (Process, String) {
    let coordinator = Process::start(&mut sandbox.artel(["coordinator", "spec.toml", "--listen", "127.0.0.1:0", "--json"]));
    let line = coordinator.wait_for_line(Duration::from_secs(20), |line| line.contains("listening"));
    let event: serde_json::Value = serde_json::from_str(&line).expect("an event");
    (coordinator, event["url"].as_str().expect("a URL").to_owned())
}

/// Goal: processes started by hand end within ten seconds of a death, with the documented codes, and the next ones go on from the store.
/// Method: kill -9 the coordinator in mid-training: its worker ends with 8. Kill a worker: its coordinator ends with 7. Then finish.
#[test]
fn deaths_by_hand() {
    let sandbox = Sandbox::new(PROGRAM);
    sandbox.pairs(396);
    sandbox.spec(&format!("{TRAIN}\nnum_train_epochs = 4"), "count = 1\nthreads = 1");
    let step = |line: &str| line.contains("\"event\":\"step\"");
    let (first, url) = coordinator(&sandbox);
    let worker = Process::start(&mut sandbox.artel(["worker", "--coordinator", &url]));
    first.wait_for_line(Duration::from_secs(60), step);
    first.signal(libc::SIGKILL);
    let begun = Instant::now();
    let (status, _, stderr) = worker.wait(Duration::from_secs(20));
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(status.code(), Some(8), "{stderr}");
    assert!(stderr.contains("coordinator was lost"), "{stderr}");

    let (second, url) = coordinator(&sandbox);
    let worker = Process::start(&mut sandbox.artel(["worker", "--coordinator", &url]));
    second.wait_for_line(Duration::from_secs(60), step);
    worker.signal(libc::SIGKILL);
    let begun = Instant::now();
    let (status, _, stderr) = second.wait(Duration::from_secs(20));
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(status.code(), Some(7), "{stderr}");
    assert!(stderr.contains("worker-1") && stderr.contains("lost"), "{stderr}");

    let (third, url) = coordinator(&sandbox);
    let worker = Process::start(&mut sandbox.artel(["worker", "--coordinator", &url]));
    let (status, _, stderr) = third.wait(Duration::from_secs(60));
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert_eq!(worker.wait(Duration::from_secs(10)).0.code(), Some(0));
    assert_eq!(sandbox.report("store")["attempts"].as_array().map(Vec::len), Some(3));
}
