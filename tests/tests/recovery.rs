//! Nothing lost (CKPT-1, CKPT-2, FENCE-1): whatever is killed, the same command carries on, at any number of workers, to the same weights.
//!
//! The shortened set; `tests/slow/recovery.sh` runs the whole. `ARTEL_RECOVERY_KILLS` says how many random kills.

mod common;

use std::time::Duration;

use artel_tests::Process;
use artel_tests::s3::S3Server;
use common::{Disturbed, LIMIT, POINTS, SAVE_STEPS, Where, steps_lost};

/// Goal: death at each named point of the checkpoint and journal protocol, on a folder. Method: one process dies there, once; the run goes on
/// by itself to the same weights.
#[test]
fn every_fail_point_on_a_folder() {
    let disturbed = Disturbed::new(Where::Folder);
    for (index, point) in POINTS.into_iter().enumerate() {
        disturbed.die_at(point, &format!("point-{index}"));
    }
}

/// Goal: the same on a bucket. Method: a real S3 server.
#[test]
fn every_fail_point_on_a_bucket() {
    let disturbed = Disturbed::new(Where::Bucket(S3Server::start()));
    // a third of them where time is short: the protocol is the same, and the folder has all
    let every = if std::env::var_os("ARTEL_SLOW").is_some() { 1 } else { 3 };
    for (index, point) in POINTS.into_iter().enumerate().step_by(every) {
        disturbed.die_at(point, &format!("point-{index}"));
    }
}

/// Goal: everything killed at random moments, each time another number of workers, on either kind of store. Method: kill -9 of `artel run` (its
/// children go with it), of the coordinator alone, of a worker alone, then the same command; the same weights, attempts that join, few steps lost.
#[test]
fn killed_at_random_moments() {
    let kills = std::env::var("ARTEL_RECOVERY_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(4);
    for place in [Where::Folder, Where::Bucket(S3Server::start())] {
        let disturbed = Disturbed::new(place);
        let seed = disturbed.kill_at_random(kills);
        let report = disturbed.report("random");
        assert_eq!(report["weights_digest"], disturbed.digest.as_str(), "seed {seed}");
        let attempts = report["attempts"].as_array().expect("a list");
        let number = |attempt: &serde_json::Value, key: &str| attempt[key].as_u64().unwrap_or_else(|| panic!("{key}: {attempt}"));
        for pair in attempts.windows(2) {
            assert!(number(&pair[0], "to_step") >= number(&pair[1], "from_step"), "{attempts:?}");
        }
        assert_eq!(attempts.last().map(|last| number(last, "to_step")), report["steps"].as_u64());
    }
}

/// Goal: a run that goes on at another number of workers says how many steps were lost: never more than twice save_steps. Method: kill in
/// mid-training, compare the last step told with the one that the next attempt begins from.
#[test]
fn few_steps_are_lost() {
    let disturbed = Disturbed::new(Where::Folder);
    let run = disturbed.start("lost", 2, &[]);
    let seen = run.wait_for_line(LIMIT, |line| line.contains("\"event\":\"step\"") && line.contains("\"step\":17"));
    run.signal(libc::SIGKILL);
    let (_, rest, _) = run.wait(Duration::from_secs(10));
    let told = rest.iter().chain([&seen]).filter_map(|line| common::step_of(line)).max().expect("a step");
    let (status, lines, stderr) = disturbed.start("lost", 1, &[]).wait(LIMIT);
    assert_eq!(status.code(), Some(0), "{stderr}");
    let lost = steps_lost(told, &lines);
    assert!(lost <= 2 * SAVE_STEPS, "{lost} steps lost of {told}");
    assert_eq!(disturbed.report("lost")["weights_digest"], disturbed.digest.as_str());
}

/// Goal: a resume reads what it needs and no more (CKPT-2). Method: on a bucket, killed after a checkpoint: no row to train on is read again,
/// nothing is tokenised, nothing imported.
#[test]
fn a_resume_reads_no_training_text() {
    let disturbed = Disturbed::new(Where::Bucket(S3Server::start()));
    let run = disturbed.start("read", 2, &[]);
    run.wait_for_line(LIMIT, |line| line.contains("\"event\":\"checkpoint\""));
    run.signal(libc::SIGKILL);
    let _ = run.wait(Duration::from_secs(10));
    std::thread::sleep(Duration::from_millis(300));
    disturbed.server().clear_requests();
    disturbed.finish("read", 4);
    let requests = disturbed.server().requests();
    let read = |part: &str| requests.iter().filter(|seen| seen.method == "GET" && seen.key.contains(part)).count();
    assert!(read("checkpoints/") > 0 && read("tokens/train") > 0, "{requests:#?}");
    assert_eq!(read("dataset/train"), 0, "{requests:#?}");
    let imported = |part: &str| requests.iter().any(|seen| seen.method == "PUT" && seen.key.contains(part));
    assert!(!imported("dataset/") && !imported("tokens/") && !imported("base/"), "{requests:#?}");
}

/// Goal: every kind of damage to a checkpoint is found, named, passed over. Method: each object of the newest one flipped, cut, emptied, removed.
#[test]
fn damaged_checkpoints() {
    let disturbed = Disturbed::new(Where::Folder);
    let run = disturbed.start("whole", 2, &[]);
    run.wait_for_line(LIMIT, |line| line.contains("\"checkpoint\"") && line.contains(&format!("\"step\":{}", 4 * SAVE_STEPS)));
    run.signal(libc::SIGKILL);
    let _ = run.wait(Duration::from_secs(10));
    let newest = common::newest_checkpoint(&disturbed.folder("whole"));
    let objects: Vec<String> = std::fs::read_dir(&newest)
        .expect("the checkpoint is a folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(objects.len() >= 8, "{objects:?}");
    // one of each kind: of ranks that each save every vector, the first's
    let kinds = ["params-000000000000", "exp_avg-000000000000", "exp_avg_sq-000000000000", "history", "manifest"];
    for (index, kind) in kinds.into_iter().enumerate() {
        let name = objects.iter().find(|name| name.starts_with(kind)).unwrap_or_else(|| panic!("{kind} in {objects:?}"));
        for damage in common::DAMAGES {
            let store = format!("damaged-{index}-{damage:?}");
            common::copy_folder(&disturbed.folder("whole"), &disturbed.folder(&store));
            let path = common::newest_checkpoint(&disturbed.folder(&store)).join(name);
            damage.inflict(&path);
            let fsck = disturbed.sandbox.run(["fsck", &store]);
            assert_eq!(fsck.code, Some(5), "{store}: {}", fsck.stdout.join("\n"));
            assert!(fsck.stdout.iter().any(|line| line.contains(name.as_str())), "{store}: {:?}", fsck.stdout);
            let (status, lines, stderr) = disturbed.start(&store, 1 + index % 2, &[]).wait(LIMIT);
            assert_eq!(status.code(), Some(0), "{store}: {stderr}");
            let named =
                |line: &&String| line.contains("\"warning\"") && line.contains("passed over") && line.contains(name.as_str());
            assert!(lines.iter().any(|line| named(&line)), "{store}: nobody named {name}: {lines:#?}");
            assert_eq!(disturbed.report(&store)["weights_digest"], disturbed.digest.as_str(), "{store}");
        }
    }
}

/// Goal: of two coordinators on one store exactly one commits (FENCE-1). Method: the first is stopped in mid-training, another finishes the run;
/// the first is let go on and ends as fenced, and the report stays what the second wrote.
#[test]
fn two_coordinators() {
    let disturbed = Disturbed::new(Where::Folder);
    let first = disturbed.by_hand("two");
    let first_worker = disturbed.worker(&first.1);
    first.0.wait_for_line(LIMIT, |line| line.contains("\"event\":\"checkpoint\""));
    first.0.signal(libc::SIGSTOP);
    first_worker.signal(libc::SIGSTOP);
    let second = disturbed.by_hand("two");
    let second_worker = disturbed.worker(&second.1);
    let (status, _, stderr) = second.0.wait(LIMIT);
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert_eq!(second_worker.wait(LIMIT).0.code(), Some(0));
    let report = disturbed.report("two");
    assert_eq!(report["weights_digest"], disturbed.digest.as_str());
    first_worker.signal(libc::SIGCONT);
    first.0.signal(libc::SIGCONT);
    let (status, _, stderr) = first.0.wait(LIMIT);
    // its worker may be silent for longer than a lease when it wakes up: then it is lost before anything is written
    assert!(matches!(status.code(), Some(11 | 7)), "{status}: {stderr}");
    assert!(stderr.contains("fenced") || stderr.contains("lost"), "{stderr}");
    assert_eq!(disturbed.report("two"), report);
    let (status, _, _) = first_worker.wait(LIMIT);
    assert_ne!(status.code(), Some(0));
}

/// Goal: a paused coordinator with a healthy worker loses its next write and exits with the documented code. Method: only the coordinator is
/// stopped, for less than its worker's patience, while another takes the store over.
#[test]
fn the_fenced_one_says_so() {
    let disturbed = Disturbed::new(Where::Folder);
    let (first, url) = disturbed.by_hand("fenced");
    let worker = disturbed.worker(&url);
    first.wait_for_line(LIMIT, |line| line.contains("\"event\":\"step\""));
    first.signal(libc::SIGSTOP);
    let (second, _) = disturbed.by_hand("fenced");
    second.wait_for_line(LIMIT, |line| line.contains("\"event\":\"resumed\""));
    first.signal(libc::SIGCONT);
    let (status, _, stderr) = first.wait(LIMIT);
    assert_eq!(status.code(), Some(11), "{stderr}");
    assert!(stderr.contains("another coordinator") && stderr.contains("term 2"), "{stderr}");
    assert_eq!(worker.wait(LIMIT).0.code(), Some(11));
    second.signal(libc::SIGTERM);
    let (status, _, stderr) = second.wait(LIMIT);
    assert_eq!(status.code(), Some(75), "{stderr}");
}

/// Goal: a run that is told to leave does so in time with its state saved, in each stage, and goes on to the same weights. Method: SIGTERM, or
/// Ctrl-C, to `artel run`; to a coordinator and to a worker started by hand.
#[test]
fn leaving() {
    let disturbed = Disturbed::new(Where::Folder);
    for (index, stage) in ["import", "tokenise", "evaluate_base", "train", "evaluate", "export"].into_iter().enumerate() {
        let store = format!("leaving-{stage}");
        let signal = if index % 2 == 0 { libc::SIGTERM } else { libc::SIGINT };
        let run = disturbed.start(&store, 2, &[]);
        run.wait_for_line(LIMIT, |line| line.contains("stage_started") && line.contains(&format!("\"{stage}\"")));
        disturbed.leave(&store, run, signal, stage);
    }
    let (coordinator, url) = disturbed.by_hand("leaving-worker");
    let worker = disturbed.worker(&url);
    coordinator.wait_for_line(LIMIT, |line| line.contains("\"step\":7"));
    worker.signal(libc::SIGTERM);
    for process in [coordinator, worker] {
        let (status, _, stderr) = process.wait(Duration::from_secs(20));
        assert_eq!(status.code(), Some(75), "{stderr}");
        assert!(stderr.contains("run me again: ") && stderr.contains("is saved"), "{stderr}");
    }
    disturbed.finish("leaving-worker", 2);
}

/// Goal: a spec, data or model that changed under a run is refused by name; what is outside of its identity may change. Method: edit each.
#[test]
fn changes_are_refused() {
    let disturbed = Disturbed::new(Where::Folder);
    let run = disturbed.start("changed", 1, &[]);
    run.wait_for_line(LIMIT, |line| line.contains("\"event\":\"checkpoint\""));
    disturbed.leave_unfinished(run);
    let spec = std::fs::read_to_string(disturbed.sandbox.path("spec.toml")).expect("the spec");
    let pairs = std::fs::read_to_string(disturbed.sandbox.path("pairs.jsonl")).expect("the pairs");
    let refused = |spec: &str, names: &str| {
        disturbed.sandbox.write("spec.toml", spec);
        let outcome = disturbed.sandbox.run(["run", "spec.toml", "--json", "--store", "file:./changed"]);
        assert_eq!(outcome.code, Some(6), "{names}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(names) && outcome.stderr.contains("start afresh"), "{names}: {}", outcome.stderr);
    };
    refused(&spec.replace("learning_rate = 1e-3", "learning_rate = 2e-3"), "learning_rate was 0.001 and is 0.002");
    refused(&spec.replace("test_fraction = 0.2", "test_fraction = 0.3"), "test_fraction");
    refused(&spec.replace("max_seq_length = 48", "max_seq_length = 47"), "max_seq_length was 48 and is 47");
    disturbed.sandbox.write("pairs.jsonl", &pairs.replacen("the ", "a ", 1));
    refused(&spec, "pairs.jsonl has changed");
    // the same bytes written anew are the same data; files that are gone are not missed
    disturbed.sandbox.write("pairs.jsonl", &pairs);
    let allowed = spec.replace("logging_steps = 1", "logging_steps = 5").replace("name = \"test\"", "name = \"renamed\"");
    disturbed.sandbox.write("spec.toml", &allowed);
    std::fs::remove_file(disturbed.sandbox.path("pairs.jsonl")).expect("ours");
    disturbed.finish("changed", 2);
    // and a finished run says that it is, with its table
    let again = disturbed.sandbox.run(["run", "spec.toml", "--store", "file:./changed"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stderr.contains("done already") && again.stdout.iter().any(|line| line.contains("before")), "{again:?}");
}

/// Goal: a run can be looked at, checked and exported from at any time. Method: a run left in mid-training: `status`, `fsck` with a stranger in the
/// store, `export --checkpoint`.
#[test]
fn looking() {
    let disturbed = Disturbed::new(Where::Folder);
    let run = disturbed.start("looked", 2, &[]);
    run.wait_for_line(LIMIT, |line| line.contains("\"event\":\"checkpoint\"") && line.contains("\"step\":8"));
    disturbed.leave_unfinished(run);
    let status = disturbed.sandbox.run(["status", "looked", "--json"]).expect_done();
    let status: serde_json::Value = serde_json::from_str(&status.stdout.join("")).expect("JSON");
    assert!(status["next"].as_str().is_some_and(|next| next.contains("train on from step")), "{status}");
    assert!(status["step"].as_u64() >= Some(8) && status["checkpoints"].as_array().is_some_and(|all| all.len() >= 2), "{status}");
    let left = disturbed.sandbox.write("looked/checkpoints/step-00000007-g0009/params-000000000000.bin", "what nothing names");
    let stranger = disturbed.sandbox.write("looked/dataset/mine.csv", "what is not Artel's");
    let fsck = disturbed.sandbox.run(["fsck", "looked"]).expect_done();
    assert!(fsck.stdout.iter().any(|line| line.contains("unnamed") && line.contains("g0009")), "{:?}", fsck.stdout);
    assert!(left.exists());
    disturbed.sandbox.run(["fsck", "looked", "--delete-unnamed"]).expect_done();
    assert!(!left.exists() && stranger.exists());
    let manifest = common::newest_checkpoint(&disturbed.folder("looked")).join("manifest.json");
    let kept = std::fs::read(&manifest).expect("a manifest");
    common::Damage::Cut.inflict(&manifest);
    let refused = disturbed.sandbox.run(["fsck", "looked", "--delete-unnamed"]);
    assert!(refused.code == Some(5) && refused.stderr.contains("nothing was deleted"), "{}", refused.stderr);
    std::fs::write(&manifest, kept).expect("writable");
    disturbed.sandbox.run(["fsck", "looked"]).expect_done();
    for which in ["8", "last"] {
        let to = format!("exported-{which}");
        disturbed.sandbox.run(["export", "looked", "--to", &to, "--checkpoint", which]).expect_done();
        disturbed.sandbox.write("texts.txt", "a question\n");
        disturbed
            .sandbox
            .run(["encode", "--model", &to, "--input", "texts.txt", "--output", &format!("{which}.npy")])
            .expect_done();
    }
    let missing = disturbed.sandbox.run(["export", "looked", "--to", "nowhere", "--checkpoint", "9999"]);
    assert!(missing.code == Some(5) && missing.stderr.contains("it has those of steps"), "{}", missing.stderr);
    let (status, _, stderr): (_, Vec<String>, String) =
        Process::start(&mut disturbed.sandbox.artel(["export", "looked", "--to", "early"])).wait(LIMIT);
    assert!(status.code() == Some(5) && stderr.contains("--checkpoint last"), "{stderr}");
    disturbed.finish("looked", 4);
}
