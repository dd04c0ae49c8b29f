//! From documents to pairs: pieces of work that workers lease, do and give back; what is recorded is done for good.

mod mining;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use artel_common::event::Stage;
use artel_common::exit::Exit;
use artel_common::journal::{Record, RunState};
use artel_common::making::{AskedRecord, Ledger, MakingState, ReadRecord};
use artel_common::mining::{EmbeddedRecord, SearchedRecord, TextKind};
use artel_proto::convert;
use artel_proto::v1::complete_task_request::Result as Outcome;
use artel_proto::v1::{self, FailureKind, task::Kind};
use artel_questions::Estimate;

use super::gate::{Answer, Gate};
use super::{Commit, Core, Effect, Failure, Phase};
use mining::Mining;

/// Chunks of one piece.
pub(crate) const PIECE_CHUNKS: u64 = 64;

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// Documents, by number.
    Read { first: u64, count: u64 },
    /// Chunks of the shard that begins with a document.
    Ask { shard: u64, from: u64, count: u64 },
    /// Texts of a shard of the pool.
    Embed { kind: TextKind, index: u64, count: u64 },
    /// Questions of a shard of the pool.
    Search { index: u64, count: u64 },
}

#[derive(Debug)]
struct Lease {
    worker: String,
    piece: Piece,
}

/// What is to be done, what is being done, and what may be spent.
#[derive(Debug)]
pub(super) struct Making {
    reads: VecDeque<Piece>,
    asks: VecDeque<Piece>,
    mines: VecDeque<Piece>,
    leases: BTreeMap<u64, Lease>,
    /// Pieces that are done and on their way into the journal.
    committing: usize,
    gate: Gate,
    /// A worker takes pieces on until it has so many chunks: enough that the last answers of two
    /// pieces do not make it wait.
    chunks_at_once: u64,
    /// How far the base model was asked about the pairs.
    mining: Mining,
    /// Nothing more is given out: why, once what is under way is given back.
    stopping: Option<Failure>,
}

impl Making {
    fn held<'a>(&'a self, worker: &'a str) -> impl Iterator<Item = (u64, &'a Piece)> {
        self.leases.iter().filter(move |(_, lease)| lease.worker == worker).map(|(id, lease)| (*id, &lease.piece))
    }

    /// The stage that a piece belongs to, whatever else is under way.
    fn stage_of(piece: &Piece) -> Stage {
        match piece {
            Piece::Read { .. } => Stage::Read,
            Piece::Ask { .. } => Stage::Ask,
            Piece::Embed { .. } | Piece::Search { .. } => Stage::Mine,
        }
    }

    fn put_back(&mut self, piece: Piece) {
        match piece {
            Piece::Read { .. } => self.reads.push_front(piece),
            Piece::Ask { .. } => self.asks.push_front(piece),
            Piece::Embed { .. } | Piece::Search { .. } => self.mines.push_front(piece),
        }
    }

    fn is_idle(&self) -> bool {
        self.leases.is_empty() && self.committing == 0
    }
}

/// The pieces that a shard's chunks are asked about in.
fn pieces(read: &ReadRecord) -> impl Iterator<Item = Piece> {
    let (shard, total) = (read.first, read.num_chunks);
    let from = (0..total.div_ceil(PIECE_CHUNKS)).map(|piece| piece * PIECE_CHUNKS);
    from.map(move |from| Piece::Ask { shard, from, count: PIECE_CHUNKS.min(total - from) })
}

impl Core {
    /// The list of documents is in the store: `cuts` are the pieces that it is read in. What the journal has of them is not done again.
    pub(super) fn begin_making(&mut self, cuts: &[(u64, u64)], run: RunState, now: Duration, effects: &mut Vec<Effect>) {
        self.leave_stage(now, String::new(), effects);
        self.wall.clone_from(&run.wall_s);
        self.run = run;
        let (Some(questions), Some(state)) = (&self.spec.questions, &self.run.making) else {
            let message = "documents are to be read, but the run has no list of them; start afresh in another store".to_owned();
            return self.fail(Failure { exit: Exit::Internal, message }, effects);
        };
        let gate = match Gate::new(questions, state.reserved) {
            Ok(gate) => gate,
            Err(message) => return self.fail(Failure { exit: Exit::Usage, message: format!("questions.{message}") }, effects),
        };
        let is_read = |first: u64| state.read.iter().any(|read| read.first == first);
        let is_asked = |piece: &Piece| match piece {
            Piece::Ask { shard, from, .. } => state.asked.iter().any(|asked| (asked.shard, asked.from) == (*shard, *from)),
            _ => false,
        };
        let reads =
            cuts.iter().filter(|(first, _)| !is_read(*first)).map(|&(first, count)| Piece::Read { first, count }).collect();
        let asks = state.read.iter().flat_map(pieces).filter(|piece| !is_asked(piece)).collect();
        let chunks_at_once = u64::from(questions.max_in_flight) + 2 * PIECE_CHUNKS;
        if !state.read.is_empty() {
            self.tell_resumption(0, effects);
        }
        let mining = if self.spec.mining().is_some() { Mining::Wanted } else { Mining::Unneeded };
        self.making = Some(Making {
            reads,
            asks,
            mines: VecDeque::new(),
            leases: BTreeMap::new(),
            committing: 0,
            gate,
            chunks_at_once,
            mining,
            stopping: None,
        });
        self.phase = Phase::Making;
        self.enter_making_stage(now, effects);
        self.making_goes_on(now, effects);
    }

    fn making_state(&self) -> Option<&MakingState> {
        self.run.making.as_ref()
    }

    /// Reading is the stage until every document is read, although questions are asked meanwhile.
    fn enter_making_stage(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let Some(state) = self.making_state() else { return };
        if self.making.as_ref().is_some_and(|making| making.mining.has_begun()) {
            return;
        }
        let read: u64 = state.read.iter().map(|read| read.count).sum();
        let stage = if read < state.documents { Stage::Read } else { Stage::Ask };
        if self.stage.is_some_and(|(present, _)| present == stage) {
            return;
        }
        if self.stage.is_some_and(|(present, _)| present == Stage::Read) {
            let sum = |of: fn(&ReadRecord) -> u64| state.read.iter().map(of).sum::<u64>();
            let (failed, pages, chunks) = (sum(|r| r.failed), sum(|r| r.pages), sum(|r| r.num_chunks));
            let note = format!("{read} documents, {failed} of them failed, {pages} pages, {chunks} chunks");
            self.leave_stage(now, note, effects);
        }
        self.enter(stage, now, effects);
    }

    /// What a worker is to do beside what it holds; asked again with the same it gives the same.
    pub fn offer(&mut self, worker: &str, holding: &[u64]) -> Option<v1::Task> {
        if self.phase != Phase::Making || self.is_leaving() || !self.knows(worker) {
            return None;
        }
        let making = self.making.as_mut()?;
        // what it was given and does not hold has not reached it
        let unheard = making.held(worker).find(|(id, _)| !holding.contains(id)).map(|(id, piece)| (id, piece.clone()));
        let (id, piece) = match unheard {
            Some(lease) => lease,
            None => {
                if making.stopping.is_some() {
                    return None;
                }
                let (mut chunks, mut others) = (0, 0);
                for (_, piece) in making.held(worker) {
                    match piece {
                        Piece::Ask { count, .. } => chunks += count,
                        // of all else one at a time, which takes all of the worker's threads
                        _ => others += 1,
                    }
                }
                let piece = if chunks < making.chunks_at_once { making.asks.pop_front() } else { None };
                let mut other = || making.reads.pop_front().or_else(|| making.mines.pop_front());
                let piece = piece.or_else(|| if others == 0 { other() } else { None })?;
                let id = self.next_task;
                self.next_task += 1;
                making.leases.insert(id, Lease { worker: worker.to_owned(), piece: piece.clone() });
                (id, piece)
            }
        };
        Some(v1::Task { task_id: id, kind: Some(self.kind_of(&piece)?) })
    }

    fn kind_of(&self, piece: &Piece) -> Option<Kind> {
        let state = self.making_state()?;
        Some(match *piece {
            Piece::Embed { .. } | Piece::Search { .. } => return mining::kind_of(piece, state),
            Piece::Read { first, count } => {
                let (sources, model) = (Some((&state.sources).into()), state.model.as_ref().map(Into::into));
                Kind::Read(v1::Read { sources, first, count, model })
            }
            Piece::Ask { shard, from, count } => {
                let read = state.read.iter().find(|read| read.first == shard)?;
                Kind::Ask(v1::Ask { chunks: Some((&read.chunks).into()), shard, from, count })
            }
        })
    }

    /// A request to the language model is wished for, and others came to their end.
    pub fn permit(&mut self, request: &v1::PermitRequest, now: Duration) -> (v1::PermitResponse, Vec<Effect>) {
        let mut effects = Vec::new();
        let leaving = self.is_leaving();
        let Some(making) = &mut self.making else {
            let stopped = Some("no questions are asked any more".to_owned());
            return (v1::PermitResponse { granted: false, wait_ms: 0, stopped }, effects);
        };
        for spent in &request.spent {
            making.gate.settle(&request.worker_id, spent);
        }
        if request.tag == 0 {
            return (v1::PermitResponse::default(), effects);
        }
        if leaving {
            let stopped = Some("the run is leaving".to_owned());
            return (v1::PermitResponse { granted: false, wait_ms: 0, stopped }, effects);
        }
        let estimate =
            Estimate { tokens_in: request.tokens_in, tokens_out_max: request.tokens_out_max, is_judgement: request.is_judgement };
        let answer = making.gate.wish(&request.worker_id, request.tag, estimate, now);
        if let Some((requests, cost_micros)) = making.gate.take_reservation() {
            Self::commit(Commit::Record(Record::Reserved { requests, cost_micros }), &mut effects);
        }
        let response = match answer {
            Answer::Granted => v1::PermitResponse { granted: true, ..Default::default() },
            Answer::Wait(wait) => v1::PermitResponse { wait_ms: wait.as_millis().max(1) as u64, ..Default::default() },
            Answer::Stopped(why) => v1::PermitResponse { stopped: Some(why), ..Default::default() },
        };
        (response, effects)
    }

    /// A leased piece is done; false where this is no leased piece of the worker.
    pub(super) fn piece_done(
        &mut self,
        worker: &str,
        task: u64,
        outcome: &Outcome,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(making) = &mut self.making else { return false };
        if making.leases.get(&task).is_none_or(|lease| lease.worker != worker) {
            return false;
        }
        let Some(Lease { piece, .. }) = making.leases.remove(&task) else { return false };
        match record(&piece, outcome) {
            Ok(record) => {
                making.committing += 1;
                Self::commit(Commit::Record(record), effects);
            }
            Err(what) => {
                let message = format!("{worker} gave no usable result of a piece ({what}); run the same version everywhere");
                self.fail(Failure { exit: Exit::Internal, message }, effects);
            }
        }
        self.making_goes_on(now, effects);
        true
    }

    /// A leased piece was given back undone; false where this is none.
    pub(super) fn piece_failed(
        &mut self,
        worker: &str,
        task: u64,
        kind: FailureKind,
        message: &str,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(making) = &mut self.making else { return false };
        if making.leases.get(&task).is_none_or(|lease| lease.worker != worker) {
            return false;
        }
        let Some(Lease { piece, .. }) = making.leases.remove(&task) else { return false };
        let stage = Making::stage_of(&piece).name();
        making.put_back(piece);
        if kind == FailureKind::Left {
            self.leave(format!("{worker} was told to leave"), now, effects);
        } else {
            let exit = convert::failure_exit(kind);
            let message = match kind {
                FailureKind::Budget => {
                    format!("{message}; raise the limit in [questions] and run again: what was answered is kept")
                }
                _ => format!("{worker} failed in stage {stage}: {message}"),
            };
            making.stopping.get_or_insert(Failure { exit, message });
        }
        self.making_goes_on(now, effects);
        true
    }

    /// A worker is lost: what it held goes to others. Its place is free.
    pub(super) fn give_up_worker(&mut self, worker: &str, effects: &mut Vec<Effect>) {
        let Some(making) = &mut self.making else { return };
        let ids: Vec<u64> = making.held(worker).map(|(id, _)| id).collect();
        for lease in ids.iter().filter_map(|id| making.leases.remove(id)).collect::<Vec<_>>() {
            making.put_back(lease.piece);
        }
        making.gate.lost(worker);
        self.workers.retain(|known| known.id != worker);
        self.wake_all(effects);
    }

    /// A piece is in the journal.
    pub(super) fn piece_recorded(&mut self, record: &Record, now: Duration, effects: &mut Vec<Effect>) {
        let Some(making) = &mut self.making else { return };
        match record {
            Record::Reserved { requests, cost_micros } => return making.gate.recorded(*requests, *cost_micros),
            Record::Read(read) => making.asks.extend(pieces(read)),
            _ => {}
        }
        making.committing -= 1;
        if let Record::Mining(_) | Record::Embedded(_) | Record::Searched(_) = record {
            return self.mining_recorded(record, now, effects);
        }
        let Some(state) = self.making_state() else { return };
        let sum = |of: fn(&ReadRecord) -> u64| state.read.iter().map(of).sum::<u64>();
        let (read, failed, pages, chunks) = (sum(|r| r.count), sum(|r| r.failed), sum(|r| r.pages), sum(|r| r.num_chunks));
        let mut ledger = Ledger::default();
        state.asked.iter().for_each(|asked| ledger.add(&asked.ledger));
        let spent = ledger.spent();
        let (done, total, unit, detail) = if read < state.documents {
            let detail = format!("{pages} pages, {chunks} chunks, {failed} failed; {} asked about, {spent}", ledger.chunks);
            (read, state.documents, "documents", detail)
        } else {
            let detail = format!("{} pairs, {} chunks failed, {spent}", ledger.pairs, ledger.failed_chunks);
            (ledger.chunks, chunks, "chunks", detail)
        };
        self.enter_making_stage(now, effects);
        self.progress_with(done, total, unit.into(), detail, effects);
        self.making_goes_on(now, effects);
    }

    /// Nothing is under way.
    pub(super) fn nothing_is_made(&self) -> bool {
        self.making.as_ref().is_none_or(Making::is_idle)
    }

    fn wake_all(&self, effects: &mut Vec<Effect>) {
        effects.extend(self.workers.iter().map(|worker| Effect::Wake { worker: worker.id.clone() }));
    }

    /// Gives out what there is; where all is done, the data set is made; where the run stops or leaves, it ends once nothing is under way.
    fn making_goes_on(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let leaving = self.is_leaving();
        let Some(making) = &self.making else { return };
        if self.phase != Phase::Making {
            return;
        }
        let idle = making.is_idle();
        if let (true, Some(failure)) = (idle, making.stopping.clone()) {
            return self.fail(failure, effects);
        }
        if leaving {
            if idle {
                self.left(effects);
            }
            return;
        }
        let is_done = idle && making.reads.is_empty() && making.asks.is_empty() && making.mines.is_empty();
        if !is_done {
            return self.wake_all(effects);
        }
        match making.mining {
            Mining::Unneeded => {
                let note = self.asked_note();
                self.leave_stage(now, note, effects);
                self.build(effects);
            }
            Mining::Wanted => {
                let note = self.asked_note();
                self.leave_stage(now, note, effects);
                self.begin_mining(now, effects);
            }
            // what the pool is made of is on its way
            Mining::Pooling => {}
            Mining::Embedding => self.begin_searching(now, effects),
            Mining::Searching => {
                let note = self.mined_note();
                self.leave_stage(now, note, effects);
                self.build(effects);
            }
        }
    }

    fn build(&mut self, effects: &mut Vec<Effect>) {
        let Some(state) = self.making_state() else { return };
        effects.push(Effect::Build(Box::new(state.clone())));
        self.phase = Phase::Preparing;
        self.making = None;
    }

    /// What asking came to.
    fn asked_note(&self) -> String {
        let Some(state) = self.making_state() else { return String::new() };
        let mut ledger = Ledger::default();
        state.asked.iter().for_each(|asked| ledger.add(&asked.ledger));
        format!(
            "{} pairs of {} chunks, {} chunks failed; {}, {} answers were there already",
            ledger.pairs,
            ledger.chunks,
            ledger.failed_chunks,
            ledger.spent(),
            ledger.cache_hits,
        )
    }
}

/// The journal's record of a piece that is done.
fn record(piece: &Piece, outcome: &Outcome) -> Result<Record, String> {
    match (piece, outcome) {
        (Piece::Read { first, count }, Outcome::Read(done)) => Ok(Record::Read(ReadRecord {
            first: *first,
            count: *count,
            failed: done.failed,
            pages: done.pages,
            num_chunks: done.num_chunks,
            reports: convert::object(done.reports.clone())?,
            elements: convert::object(done.elements.clone())?,
            chunks: convert::object(done.chunks.clone())?,
        })),
        (Piece::Ask { shard, from, count }, Outcome::Ask(done)) => Ok(Record::Asked(AskedRecord {
            shard: *shard,
            from: *from,
            count: *count,
            pairs: convert::object(done.pairs.clone())?,
            ledger: done.ledger.unwrap_or_default().into(),
        })),
        (Piece::Embed { kind, index, count }, Outcome::Embed(done)) => Ok(Record::Embedded(EmbeddedRecord {
            kind: *kind,
            index: *index,
            count: *count,
            vectors: convert::object(done.vectors.clone())?,
        })),
        (Piece::Search { index, count }, Outcome::Search(done)) => {
            Ok(Record::Searched(SearchedRecord { index: *index, count: *count, found: convert::object(done.found.clone())? }))
        }
        (piece, outcome) => Err(format!("{outcome:?} of {piece:?}")),
    }
}

#[cfg(test)]
mod tests;
