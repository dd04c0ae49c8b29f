//! What a store can do to a run: errors, resets, lost answers, silence, slowness, no room. The same weights, no double entry, nothing lost.

mod common;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use artel_common::journal::Journal;
use artel_common::store::Store;
use artel_tests::s3::{Fault, Rule, S3Server};
use artel_tests::{Process, Sandbox};
use common::{Disturbed, LIMIT, PROGRAM, Where};

/// Goal: errors, resets and answers that are lost with or without their effect change nothing. Method: one request in 12 is hit, by each kind of
/// fault in turn; one attempt, the weights of an undisturbed run, and a store of which every object is whole.
#[test]
fn faults_of_a_bucket() {
    let disturbed = Disturbed::new(Where::Bucket(S3Server::start()));
    let kinds = [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(429),
        Fault::ResetBeforeAnswer,
        Fault::LoseAnswer,
        Fault::ResetInBody,
    ];
    let server = disturbed.server();
    for (seed, kinds) in [(1, &kinds[..]), (2, &[Fault::LoseAnswer]), (3, &[Fault::ResetBeforeAnswer])] {
        let before = server.faults().hits();
        server.faults().random(seed, 80, kinds);
        let store = format!("faulty-{seed}");
        let (status, lines, stderr) = disturbed.start(&store, 2, &[]).wait(LIMIT);
        server.faults().clear();
        assert_eq!(status.code(), Some(0), "seed {seed}: {stderr}\n{lines:#?}");
        assert!(server.faults().hits() >= before + 4, "seed {seed}: only {} faults", server.faults().hits() - before);
        let report = disturbed.report(&store);
        assert_eq!(report["weights_digest"], disturbed.digest.as_str(), "seed {seed}");
        assert_eq!(report["attempts"].as_array().map(Vec::len), Some(1), "seed {seed}");
        disturbed.whole(&store);
        // entries are numbered without a gap, so one that was written twice would have fenced its own writer
        let url = format!("file:{}", disturbed.folder(&store).display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let journal = runtime.block_on(Journal::read(&Store::open(&url).expect("a folder"))).expect("readable").expect("a run");
        assert_eq!(journal.term, 1, "seed {seed}");
    }
}

/// Goal: a request that stalls, and a store that is gone for a while, are waited for and said. Method: a part of a checkpoint stalls for 10 s; then the
/// server closes every connection for `ARTEL_VANISH_S` seconds (12) in mid-training.
#[test]
fn a_store_that_is_silent_or_gone() {
    let disturbed = Disturbed::new(Where::Bucket(S3Server::start()));
    let server = disturbed.server();
    server.faults().add(Rule::once("PUT", "checkpoints/", Fault::Stall(Duration::from_secs(10))));
    disturbed.finish("stalled", 2);
    let gone: u64 = std::env::var("ARTEL_VANISH_S").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(12);
    let run = disturbed.start("vanished", 2, &[]);
    run.wait_for_line(LIMIT, |line| line.contains("\"event\":\"checkpoint\""));
    server.faults().down(true);
    std::thread::sleep(Duration::from_secs(gone));
    server.faults().down(false);
    let (status, lines, stderr) = run.wait(LIMIT);
    assert_eq!(status.code(), Some(0), "{stderr}\n{lines:#?}");
    assert!(stderr.contains("trying again"), "{stderr}");
    let report = disturbed.report("vanished");
    assert_eq!(report["weights_digest"], disturbed.digest.as_str());
    assert_eq!(report["attempts"].as_array().map(Vec::len), Some(1));
}

/// Goal: SIGTERM under a store of 1 MB/s, a checkpoint in flight, still ends with the state saved in under 20 s. Method: a state of over 8 MB; the
/// store becomes slow once a checkpoint begins; SIGTERM; the resumed run reaches the same weights. With `ARTEL_SLOW=1`, in every other stage too.
#[test]
fn leaving_under_a_slow_store() {
    let disturbed = Disturbed::with_words(Where::Bucket(S3Server::start()), 10);
    let server = disturbed.server();
    let run = disturbed.start("slow", 2, &[]);
    let saved = run.wait_for_line(LIMIT, |line| line.contains("\"event\":\"checkpoint\""));
    let saved: serde_json::Value = serde_json::from_str(&saved).expect("an event");
    assert!(saved["bytes"].as_u64() >= Some(8_000_000), "{saved}");
    server.faults().bandwidth(Some(1_000_000));
    server.clear_requests();
    // the next checkpoint is in flight once its first part was sent
    let begun = Instant::now();
    while !server.requests().iter().any(|seen| seen.key.contains("checkpoints/") && seen.method == "PUT") {
        assert!(begun.elapsed() < LIMIT, "no checkpoint begins");
        std::thread::sleep(Duration::from_millis(20));
    }
    let told = Instant::now();
    run.signal(libc::SIGTERM);
    let (status, lines, stderr) = run.wait(Duration::from_secs(25));
    assert!(told.elapsed() < Duration::from_secs(20), "{:?}", told.elapsed());
    assert_eq!(status.code(), Some(75), "{stderr}\n{lines:#?}");
    println!("left in {:.1} s: {stderr}", told.elapsed().as_secs_f64());
    server.faults().bandwidth(None);
    disturbed.finish("slow", 1);
    if std::env::var_os("ARTEL_SLOW").is_none() {
        return;
    }
    for stage in ["import", "split", "tokenise", "evaluate_base", "evaluate", "export"] {
        server.faults().bandwidth(Some(1_000_000));
        let store = format!("slow-{stage}");
        let run = disturbed.start(&store, 2, &[]);
        run.wait_for_line(LIMIT, |line| line.contains("stage_started") && line.contains(&format!("\"{stage}\"")));
        let told = Instant::now();
        disturbed.leave_in(&store, run, libc::SIGTERM, stage);
        println!("{stage}: left in {:.1} s", told.elapsed().as_secs_f64());
        server.faults().bandwidth(None);
        disturbed.finish(&store, 4);
    }
}

/// A file system of its own for a test, or none where it cannot be made.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path, megabytes: u32) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a folder can be made");
        let options = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        let done = mounted.is_ok_and(|output| output.status.success());
        if !done {
            eprintln!("skipped: a small file system cannot be mounted here (it takes root)");
        }
        done.then_some(Self(at))
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let output = Command::new("mount").args(["-o", &options]).arg(self.0).output().expect("mount runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}

/// Goal: a full disk, and one that became read-only, end the run with a message that says what to do, and lose nothing. Method: a small tmpfs; it is
/// made larger, or writable again, and the same command goes on to the same weights.
#[test]
fn a_full_or_read_only_disk() {
    let disturbed = Disturbed::new(Where::Folder);
    let disk = disturbed.folder("disk");
    let Some(mounted) = SmallDisk::mount(&disk, 24) else { return };
    let (status, lines, stderr) = disturbed.start("disk/run", 2, &[]).wait(LIMIT);
    assert_eq!(status.code(), Some(5), "{stderr}\n{lines:#?}");
    assert!(stderr.contains("free some space"), "{stderr}");
    assert!(lines.iter().any(|line| line.contains("\"event\":\"checkpoint\"")), "it came to a checkpoint first: {lines:#?}");
    mounted.remount("size=400m");
    disturbed.finish("disk/run", 1);

    let run = disturbed.start("disk/read-only", 2, &[]);
    run.wait_for_line(LIMIT, |line| line.contains("\"event\":\"checkpoint\""));
    // busy while files are open for writing
    let begun = Instant::now();
    while !Command::new("mount").args(["-o", "remount,ro"]).arg(&disk).output().expect("mount runs").status.success() {
        assert!(begun.elapsed() < Duration::from_secs(5), "the disk stays busy");
    }
    let (status, _, stderr) = run.wait(LIMIT);
    assert_eq!(status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("read-only"), "{stderr}");
    let (status, _, stderr) = disturbed.start("disk/other", 1, &[]).wait(LIMIT);
    assert!(status.code() == Some(5) && stderr.contains("read-only"), "{stderr}");
    mounted.remount("rw");
    disturbed.finish("disk/read-only", 4);
}

/// Goal: a resume takes no longer after many steps than after few (CKPT-2), and reads no text that it does not need. Method: with `ARTEL_SLOW=1`, a
/// tiny model at step 10 and at step 10,000: from the start of the command to the first step, within 1 s of each other.
#[test]
fn resuming_late_is_as_quick() {
    if std::env::var_os("ARTEL_SLOW").is_none() {
        eprintln!("skipped: some minutes long; ARTEL_SLOW=1 runs it (tests/slow/recovery.sh)");
        return;
    }
    let sandbox = Sandbox::new(PROGRAM);
    sandbox.pairs(396);
    let train = "num_train_epochs = 80\nsave_strategy = \"steps\"\nsave_steps = 10\nsave_total_limit = 3\neval_strategy = \"no\"\nload_best_model_at_end = false";
    let spec = sandbox.spec(train, "count = 1\nthreads = 1");
    let text = std::fs::read_to_string(&spec).expect("the spec").replace("global_batch_size = 16", "global_batch_size = 2");
    sandbox.write("spec.toml", &text);
    let resumed_after = |from: u64| {
        let run = Process::start(&mut sandbox.artel(["run", "spec.toml", "--json"]));
        let last = format!("\"step\":{from},");
        run.wait_for_line(Duration::from_secs(1_500), |line| line.contains("\"event\":\"checkpoint\"") && line.contains(&last));
        run.signal(libc::SIGKILL);
        let _ = run.wait(Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(500));
        let begun = Instant::now();
        let again = Process::start(&mut sandbox.artel(["run", "spec.toml", "--json"]));
        again.wait_for_line(LIMIT, |line| line.contains("\"event\":\"step\""));
        let took = begun.elapsed();
        again.signal(libc::SIGKILL);
        let _ = again.wait(Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(500));
        took
    };
    let (early, late) = (resumed_after(10), resumed_after(10_000));
    println!("first step after a resume: {:.2} s at step 10, {:.2} s at step 10,000", early.as_secs_f64(), late.as_secs_f64());
    assert!(late.abs_diff(early) < Duration::from_secs(1), "{early:?} and {late:?}");
}
