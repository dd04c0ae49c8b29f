use std::path::Path;

use super::*;
use crate::records::Evaluation;

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

fn open(folder: &Path) -> Store {
    Store::open(&folder.display().to_string()).expect("a folder")
}

fn began() -> Began {
    Began { name: "run".into(), version: "1".into(), unix_s: 0 }
}

fn take(store: &Store, writer: &str) -> Journal {
    wait(Journal::take_over(store, writer, began())).expect("nobody is in the way")
}

fn world(generation: u64) -> Record {
    Record::World { generation, workers: 2, from_step: generation }
}

/// Goal: what was appended is what is replayed, over many snapshots, and whoever reads changes nothing. Method: 200 entries, read after each.
#[test]
fn replayed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    assert!(wait(Journal::read(&store)).expect("readable").is_none());
    let mut journal = take(&store, "a");
    for generation in 1..=200 {
        wait(journal.append(world(generation))).expect("ours");
        if generation % 7 == 0 {
            assert_eq!(wait(Journal::read(&store)).expect("readable").as_ref(), Some(journal.state()));
        }
    }
    assert_eq!((journal.state().generation, journal.state().attempts.len(), journal.term()), (200, 200, 1));
    let next = take(&store, "b");
    assert_eq!((next.term(), next.state().generation, next.state().writer.as_str()), (2, 200, "b"));
    let (keys, wrong) = wait(Journal::check(&store)).expect("readable");
    assert_eq!(wrong, Vec::<String>::new());
    let listed = wait(store.list()).expect("listed");
    assert!(listed.iter().all(|key| keys.contains(key)), "{listed:?}");
    // only the newest snapshot stays
    assert_eq!(listed.iter().filter(|key| key.contains("snapshots")).count(), 1);
}

/// Goal: a coordinator that was taken over loses its next write and says by whom (FENCE-1). Method: two on one store, then a third.
#[test]
fn fenced() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let mut first = take(&store, "first");
    wait(first.append(world(1))).expect("ours");
    wait(first.check_owned()).expect("ours");
    let mut second = take(&store, "second");
    let error = wait(first.check_owned()).expect_err("fenced");
    assert!(error.kind() == crate::ErrorKind::Fenced && error.to_string().contains("second"), "{error}");
    wait(second.check_owned()).expect("its own");
    let error = wait(first.append(world(2))).expect_err("fenced");
    assert_eq!(error.kind(), crate::ErrorKind::Fenced);
    assert!(error.to_string().contains("second") && error.to_string().contains("term 2"), "{error}");
    wait(second.append(world(3))).expect("ours");
    // it stays fenced, however often it tries
    assert_eq!(wait(first.append(world(4))).expect_err("fenced").kind(), crate::ErrorKind::Fenced);
    assert_eq!(wait(Journal::read(&store)).expect("readable").expect("a run").generation, 3);
}

/// Goal: of many that take over at once each gets a term of its own, and the last one owns the journal. Method: eight at once, ten times.
#[test]
fn a_race_for_the_journal() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    for round in 1..=10u64 {
        let takers = (0..8).map(|n| {
            let store = store.clone();
            async move { Journal::take_over(&store, &format!("{round}-{n}"), began()).await.expect("in the end") }
        });
        let mut journals = wait(futures::future::join_all(takers));
        journals.sort_by_key(Journal::term);
        let terms: Vec<u64> = journals.iter().map(Journal::term).collect();
        assert_eq!(terms, ((round - 1) * 9 + 1..=(round - 1) * 9 + 8).collect::<Vec<_>>());
        let won = journals.iter_mut().filter_map(|journal| wait(journal.append(world(round))).is_ok().then_some(journal.term()));
        assert_eq!(won.collect::<Vec<_>>(), [*terms.last().expect("eight")]);
        // the next round's first term follows
        drop(take(&store, "between"));
    }
}

/// Goal: a damaged entry is named and never taken for what it is not; a damaged hint costs nothing. Method: every bit of an entry flipped, every
/// length, a newer format, a gap; hint and snapshot flipped.
#[test]
fn damage() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let mut journal = take(&store, "a");
    for generation in 1..=70 {
        wait(journal.append(world(generation))).expect("ours");
    }
    let whole = wait(Journal::read(&store)).expect("readable");
    let path = folder.path().join(layout::journal_entry(71));
    let bytes = std::fs::read(&path).expect("the last entry");
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("writable");
        wait(Journal::read(&store)).expect_err("damaged").to_string()
    };
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        assert!(refused(&flipped).contains("journal/00000071.json"));
        assert!(refused(&bytes[..at]).contains("journal/00000071.json"));
    }
    let text = String::from_utf8(bytes.clone()).expect("text");
    let json = text.lines().next().expect("a line").replace("\"format\":1", "\"format\":2");
    assert!(refused(format!("{json}\n{}\n", Digest::of(json.as_bytes())).as_bytes()).contains("use the binary that wrote it"));
    let other = std::fs::read(folder.path().join(layout::journal_entry(70))).expect("an entry");
    assert!(refused(&other).contains("expected 71"));
    // the last entry that is damaged may be deleted, one before others may not be missing
    assert!(refused(&bytes[..9]).contains("delete it, and the run goes on from the one before"));
    std::fs::write(&path, &bytes).expect("writable");
    let before = folder.path().join(layout::journal_entry(70));
    let kept = std::fs::read(&before).expect("an entry");
    std::fs::remove_file(&before).expect("ours");
    let gap = wait(Journal::read(&store)).expect_err("a gap").to_string();
    assert!(gap.contains("journal/00000070.json is missing") && gap.contains("journal/00000071.json is there"), "{gap}");
    let taken = wait(Journal::take_over(&store, "b", began())).expect_err("a gap");
    assert_eq!(taken.kind(), crate::ErrorKind::Damaged);
    std::fs::write(&before, kept).expect("writable");
    // an entry that a snapshot stands for is missed by a check alone
    let early = folder.path().join(layout::journal_entry(3));
    let kept = std::fs::read(&early).expect("an entry");
    std::fs::write(&early, "{}").expect("writable");
    assert_eq!(wait(Journal::check(&store)).expect("readable").1.len(), 1);
    std::fs::write(&early, kept).expect("writable");
    for key in wait(store.list()).expect("listed").iter().filter(|key| key.contains("snapshot") || key.contains("head")) {
        std::fs::write(folder.path().join(key), "{}").expect("writable");
        assert_eq!(wait(Journal::read(&store)).expect("readable"), whole, "{key}");
    }
}

/// Goal: the fold keeps what a resume needs. Method: checkpoints that come, go and turn out damaged; evaluations measured twice.
#[test]
fn folded() {
    let mut state = RunState::default();
    let object = |key: &str| ObjectRef { key: key.into(), bytes: 1, sha256: Digest::of(b"") };
    let checkpoint = |generation: u64, step: u64| {
        let manifest = object(&format!("{step}"));
        Record::Checkpoint(CheckpointRecord { step, generation, manifest, bytes: 1, peak_bytes: 0, wall_s: Default::default() })
    };
    let evaluated = |step: u64, value: f64| Record::Evaluated {
        evaluation: Evaluation { step, epoch: 0.0, metrics: [("m".to_owned(), value)].into() },
        wall_s: Default::default(),
    };
    for record in
        [world(1), evaluated(0, 9.0), checkpoint(1, 2), evaluated(2, 0.5), checkpoint(1, 4), evaluated(4, 0.5), world(2)]
    {
        state.record(&record);
    }
    assert_eq!(state.last_checkpoint().map(|last| last.step), Some(4));
    assert_eq!(state.best("m", |_| true).map(|best| best.step), Some(2), "of equals the earlier, and never the base");
    assert_eq!(state.best("m", |step| step == 4).map(|best| best.step), Some(4));
    state.record(&Record::Damaged { generation: 1, step: 4, reason: "flipped".into() });
    state.record(&checkpoint(2, 6));
    state.record(&evaluated(2, 0.1));
    assert_eq!((state.evaluations.len(), state.damaged.len()), (3, 1));
    state.record(&Record::Pruned { checkpoints: vec![(1, 2)] });
    assert_eq!((state.checkpoints.len(), state.pruned[0].key.as_str()), (1, "2"));
    assert_eq!(state.attempts.iter().map(|attempt| attempt.to_step).collect::<Vec<_>>(), [4, 6]);
}
