//! What the core wants durable, made so: objects first, then the journal entry that names them, one commit after another.

use std::time::Duration;

use artel_common::checkpoint::CheckpointManifest;
use artel_common::exit::Exit;
use artel_common::journal::{CheckpointRecord, Exported, Journal, Record};
use artel_common::records::ObjectRef;
use artel_common::store::{Created, Store};
use artel_common::{Error, Result, layout};
use tokio::sync::mpsc;

use crate::core::{Commit, Failure, Input};
use crate::event_loop::Handle;
use crate::prepare::put_report;

/// Without a commit for so long the coordinator looks whether the run is still its own.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Carries out commits until the queue is closed or one fails; each that is done is told to the core.
pub(crate) async fn run(mut journal: Journal, store: Store, mut queue: mpsc::Receiver<Commit>, handle: Handle) {
    // a deletion may have been cut short; once more does no harm
    tokio::spawn(delete_checkpoints(store.clone(), journal.state().pruned.clone()));
    loop {
        let input = match tokio::time::timeout(LOOK_EVERY, queue.recv()).await {
            Ok(None) => return,
            Ok(Some(commit)) => match carry_out(&mut journal, &store, commit).await {
                Ok(record) => Input::Recorded(Box::new(record)),
                Err(e) => Input::Failed(failure(&e)),
            },
            // one that was fenced must not have its workers ask, and pay, until it has something to record
            Err(_) => match tokio::time::timeout(LOOK_EVERY, journal.check_owned()).await {
                Ok(Err(e @ Error::Fenced(_))) => Input::Failed(failure(&e)),
                // a store that does not answer is told of by what has to be recorded
                _ => continue,
            },
        };
        let failed = matches!(input, Input::Failed(_));
        if handle.tell(input).await.is_err() || failed {
            return;
        }
    }
}

fn failure(error: &Error) -> Failure {
    let exit: Exit = error.kind().into();
    Failure { exit, message: error.to_string() }
}

async fn carry_out(journal: &mut Journal, store: &Store, commit: Commit) -> Result<Record> {
    let record = match commit {
        Commit::Record(record) => record,
        Commit::Tokens { manifest, wall_s } => {
            let manifest = store.put_json(&layout::tokens_manifest(journal.term()), &manifest).await?;
            Record::Tokens { manifest, wall_s }
        }
        Commit::Checkpoint { manifest, peak_bytes, wall_s } => {
            fail::fail_point!("checkpoint::before_manifest");
            let object = put_manifest(store, &manifest).await?;
            fail::fail_point!("checkpoint::after_manifest");
            let (step, generation, bytes) = (manifest.step, manifest.generation, manifest.bytes());
            Record::Checkpoint(CheckpointRecord { step, generation, manifest: object, bytes, peak_bytes, wall_s })
        }
        Commit::Prune(checkpoints) => {
            Record::Pruned { checkpoints: checkpoints.iter().map(|gone| (gone.generation, gone.step)).collect() }
        }
        Commit::Export { manifest, weights_digest } => {
            let object = store.put_json(&layout::export_manifest(journal.term()), &manifest).await?;
            Record::Exported(Exported { manifest: object, step: manifest.step, weights_digest })
        }
        Commit::Done(report) => Record::Done { report },
    };
    fail::fail_point!("journal::before_append");
    journal.append(record.clone()).await?;
    fail::fail_point!("journal::after_append");
    match &record {
        Record::Pruned { .. } => {
            tokio::spawn(delete_checkpoints(store.clone(), journal.state().pruned.clone()));
        }
        Record::Done { report } => {
            put_report(store, report).await?;
            fail::fail_point!("journal::after_report");
        }
        _ => {}
    }
    Ok(record)
}

/// Creates a checkpoint's manifest: of one generation and step there is one.
async fn put_manifest(store: &Store, manifest: &CheckpointManifest) -> Result<ObjectRef> {
    let key = layout::checkpoint_manifest(manifest.generation, manifest.step);
    let json = serde_json::to_vec(manifest).map_err(|e| Error::Internal(format!("cannot write a manifest: {e}")))?;
    let object = ObjectRef { key: key.clone(), bytes: json.len() as u64, sha256: artel_common::digest::Digest::of(&json) };
    match store.create(&key, json.into()).await? {
        Created::New => Ok(object),
        Created::Exists => Err(Error::Conflict(format!("{key} in {} is there already: another process wrote it", store.url()))),
    }
}

/// Deletes what these manifests name, and then the manifests. What cannot be deleted is left: nothing names it any more, and
/// `artel fsck --delete-unnamed` finds it.
async fn delete_checkpoints(store: Store, manifests: Vec<ObjectRef>) {
    for object in manifests {
        let Ok(manifest) = store.get_json_verified::<CheckpointManifest>(&object).await else { continue };
        for part in manifest.objects().chain([&object]) {
            if let Err(e) = store.delete(&part.key).await {
                tracing::warn!("a pruned checkpoint stays in part: {e}");
                return;
            }
        }
        store.remove_empty_folder(&object.key);
    }
}
