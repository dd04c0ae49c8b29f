//! The coordinator's durable log: numbered entries, each created with put-if-absent and carrying its writer's term.
//!
//! Whoever takes the journal over replays it and appends an entry of a higher term; from then on the former owner's next append finds its
//! number taken, and it is fenced (FENCE-1). What no entry names does not exist. An entry is its JSON on a line, then the SHA-256 of that
//! line on another. Every [`SNAPSHOT_EVERY`] entries the state they add up to is put beside them, and a hint to it, so that a replay reads
//! a bounded number of objects; the hint may be old or missing, which costs time and nothing else.

mod record;
mod state;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use record::{Began, CheckpointRecord, DataStamp, Entry, Exported, PreparedRecord, Record};
pub use state::RunState;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::layout;
use crate::records::ObjectRef;
use crate::store::{Created, Store};

/// Version of the entries.
pub const FORMAT: u32 = 1;
/// Entries from one snapshot to the next.
pub const SNAPSHOT_EVERY: u64 = 64;
/// Entries read at once while replaying.
const READ_AHEAD: u64 = 8;
/// How often a missing entry before others is looked for, and the pause between: a writer may be at work.
const GAP_LOOKS: u32 = 3;
const GAP_PAUSE: Duration = Duration::from_millis(200);
/// How often a take-over that met another one is tried.
const MAX_TAKE_OVERS: usize = 64;

/// Where the newest snapshot lies, as far as this hint knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Head {
    sequence: u64,
    snapshot: ObjectRef,
}

/// What a replay found.
struct Replayed {
    state: RunState,
    /// The number of the next entry.
    next: u64,
    head: Option<Head>,
}

/// The journal in the hands of its owner.
#[derive(Debug)]
pub struct Journal {
    store: Store,
    term: u64,
    writer: String,
    next: u64,
    state: RunState,
    head: Option<Head>,
}

impl Journal {
    /// What the journal in this store adds up to; `None` where there is none. Changes nothing.
    ///
    /// # Errors
    /// The store does not answer, or an entry is damaged or of a newer format.
    pub async fn read(store: &Store) -> Result<Option<RunState>> {
        let replayed = replay(store).await?;
        Ok((replayed.next > 1).then_some(replayed.state))
    }

    /// Every object of the journal itself, and what is wrong with entries that a snapshot stands for, for a check of the store.
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub async fn check(store: &Store) -> Result<(Vec<String>, Vec<String>)> {
        let replayed = replay(store).await?;
        let mut wrong = Vec::new();
        for sequence in 1..replayed.next {
            let key = layout::journal_entry(sequence);
            match store.get_opt(&key).await? {
                None => wrong.push(format!("{key} is missing from {}", store.url())),
                Some(bytes) => wrong.extend(unseal::<Entry>(store, &key, &bytes).err().map(|e| e.to_string())),
            }
        }
        let mut keys: Vec<String> = (1..replayed.next).map(layout::journal_entry).collect();
        if let Some(head) = replayed.head {
            keys.extend([layout::JOURNAL_HEAD.to_owned(), head.snapshot.key]);
        }
        Ok((keys, wrong))
    }

    /// Replays the journal and takes it over under a higher term, which fences whoever had it. `writer` tells this process from every other.
    ///
    /// # Errors
    /// As [`Journal::read`], or the store refuses the write.
    pub async fn take_over(store: &Store, writer: &str, began: Began) -> Result<Self> {
        for _ in 0..MAX_TAKE_OVERS {
            let Replayed { state, next, head } = replay(store).await?;
            let term = state.term + 1;
            let mut journal = Self { store: store.clone(), term, writer: writer.to_owned(), next, state, head };
            match journal.append(Record::Began(began.clone())).await {
                Ok(()) => return Ok(journal),
                Err(Error::Fenced(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Err(Error::Conflict(format!(
            "{}: {MAX_TAKE_OVERS} other coordinators took the journal first; start one alone",
            store.url()
        )))
    }

    /// Appends an entry; when this returns, it is durable and this process still owns the journal.
    ///
    /// # Errors
    /// [`Error::Fenced`] where another process has taken over, [`Error::Store`] where the store refuses.
    pub async fn append(&mut self, record: Record) -> Result<()> {
        let entry = Entry { format: FORMAT, sequence: self.next, term: self.term, writer: self.writer.clone(), record };
        let key = layout::journal_entry(self.next);
        if self.next > 1 {
            let before = layout::journal_entry(self.next - 1);
            if self.store.get_opt(&before).await?.is_none() {
                let url = self.store.url();
                return Err(Error::Damaged(format!("{before} is gone from {url}: the store was moved or deleted under the run")));
            }
        }
        match self.store.create(&key, seal(&entry)?).await? {
            Created::New => {}
            Created::Exists => return Err(self.fenced(&key).await),
        }
        self.state.apply(&entry);
        self.next += 1;
        if entry.sequence.is_multiple_of(SNAPSHOT_EVERY) {
            self.put_snapshot(entry.sequence).await?;
        }
        Ok(())
    }

    /// Looks whether this process still owns the journal; nothing is written.
    ///
    /// # Errors
    /// [`Error::Fenced`] where another process has taken over, [`Error::Store`] where the store does not answer.
    pub async fn check_owned(&self) -> Result<()> {
        let key = layout::journal_entry(self.next);
        match self.store.get_opt(&key).await? {
            None => Ok(()),
            Some(_) => Err(self.fenced(&key).await),
        }
    }

    async fn fenced(&self, key: &str) -> Error {
        let by = match self.store.get(key).await.and_then(|bytes| unseal::<Entry>(&self.store, key, &bytes)) {
            Ok(entry) => format!("term {} ({})", entry.term, entry.writer),
            Err(_) => "another one".to_owned(),
        };
        Error::Fenced(format!(
            "fenced: another coordinator, {by}, has taken over the run in {}; this one, of term {}, has stopped and changes nothing more",
            self.store.url(),
            self.term
        ))
    }

    /// Puts the state so far, then the hint to it, then deletes the snapshot before.
    async fn put_snapshot(&mut self, sequence: u64) -> Result<()> {
        let snapshot = self.store.put(&layout::journal_snapshot(sequence, self.term), seal(&self.state)?).await?;
        let head = Head { sequence, snapshot };
        self.store.put(layout::JOURNAL_HEAD, seal(&head)?).await?;
        if let Some(before) = self.head.replace(head) {
            self.store.delete(&before.snapshot.key).await?;
        }
        Ok(())
    }

    /// What the entries add up to.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// This owner's term.
    pub fn term(&self) -> u64 {
        self.term
    }
}

/// A record's JSON on a line, and its digest on another.
fn seal<T: Serialize>(value: &T) -> Result<Bytes> {
    let json = serde_json::to_string(value).map_err(|e| Error::Internal(format!("cannot write a journal entry: {e}")))?;
    let digest = Digest::of(json.as_bytes());
    Ok(Bytes::from(format!("{json}\n{digest}\n")))
}

fn unseal<T: DeserializeOwned>(store: &Store, key: &str, bytes: &[u8]) -> Result<T> {
    let damaged = |what: &str| {
        Error::Damaged(format!("{key} in {} is damaged: {what}; restore it, or start afresh in another store", store.url()))
    };
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    let (json, digest) = text.strip_suffix('\n').and_then(|text| text.rsplit_once('\n')).ok_or_else(|| damaged("it was cut"))?;
    if Digest::of(json.as_bytes()).as_str() != digest {
        return Err(damaged("its SHA-256 does not match"));
    }
    let format = serde_json::from_str::<serde_json::Value>(json).ok().and_then(|value| value.get("format")?.as_u64());
    if let Some(format) = format.filter(|format| *format > u64::from(FORMAT)) {
        let url = store.url();
        return Err(Error::Store(format!(
            "{key} in {url} has format {format}, this binary reads {FORMAT}; use the binary that wrote it"
        )));
    }
    serde_json::from_str(json).map_err(|e| damaged(&format!("it is not a record ({e})")))
}

/// The newest snapshot that the hint leads to, if it leads to a whole one.
async fn snapshot(store: &Store) -> Result<Option<(Head, RunState)>> {
    let Some(bytes) = store.get_opt(layout::JOURNAL_HEAD).await? else { return Ok(None) };
    let Ok(head) = unseal::<Head>(store, layout::JOURNAL_HEAD, &bytes) else { return Ok(None) };
    let Ok(bytes) = store.get_verified(&head.snapshot).await else { return Ok(None) };
    Ok(unseal(store, &head.snapshot.key, &bytes).ok().map(|state| (head, state)))
}

/// The last entry can be done without: a run that died before writing it would be the same.
fn last_is_damaged(what: &str) -> Error {
    Error::Damaged(format!(
        "{what}. It is the last entry: where it cannot be restored, delete it, and the run goes on from the one before"
    ))
}

async fn replay(store: &Store) -> Result<Replayed> {
    let (head, mut state) = match snapshot(store).await? {
        Some((head, state)) => (Some(head), state),
        None => (None, RunState::default()),
    };
    let mut next = head.as_ref().map_or(1, |head| head.sequence + 1);
    let mut looks = 0;
    'read: loop {
        let keys: Vec<String> = (next..next + READ_AHEAD).map(layout::journal_entry).collect();
        let found = futures::future::try_join_all(keys.iter().map(|key| store.get_opt(key))).await?;
        let beyond = found.iter().rposition(Option::is_some);
        for (index, (key, bytes)) in keys.iter().zip(&found).enumerate() {
            let Some(bytes) = bytes else {
                if beyond.is_none_or(|beyond| beyond < index) {
                    return Ok(Replayed { state, next, head });
                }
                // a writer may have been at it while these were read
                looks += 1;
                if looks > GAP_LOOKS {
                    let after = &keys[beyond.unwrap_or(index)];
                    return Err(Error::Damaged(format!(
                        "{key} is missing from {} although {after} is there; restore it, or start afresh in another store",
                        store.url()
                    )));
                }
                tokio::time::sleep(GAP_PAUSE).await;
                continue 'read;
            };
            let is_last = beyond == Some(index) && index + 1 < keys.len();
            let entry: Entry = unseal(store, key, bytes).map_err(|e| match e {
                Error::Damaged(what) if is_last => last_is_damaged(&what),
                e => e,
            })?;
            if entry.sequence != next || entry.term < state.term {
                let (sequence, term) = (entry.sequence, entry.term);
                let what = format!("it is entry {sequence} of term {term}, expected {next} of term {} or more", state.term);
                return Err(Error::Store(format!("{key} in {} is damaged: {what}; start afresh in another store", store.url())));
            }
            state.apply(&entry);
            next += 1;
        }
    }
}
