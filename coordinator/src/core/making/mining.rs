//! What the base model is asked about the pairs: texts to embed, then questions to search for, leased like all pieces.

use std::time::Duration;

use artel_common::event::Stage;
use artel_common::journal::Record;
use artel_common::making::MakingState;
use artel_common::mining::{MiningRecord, MiningState, SHARD_TEXTS, TextKind};
use artel_proto::v1::{self, task::Kind};

use super::Piece;
use crate::core::{Commit, Core, Effect};

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mining {
    /// The spec asks for nothing.
    Unneeded,
    /// Once all chunks are asked about.
    Wanted,
    /// Pairs are cleaned and split, and their texts put into the store.
    Pooling,
    /// Texts are embedded.
    Embedding,
    /// Questions are searched for.
    Searching,
}

impl Mining {
    pub(super) fn has_begun(self) -> bool {
        matches!(self, Self::Pooling | Self::Embedding | Self::Searching)
    }
}

/// The texts of a shard, where `total` are cut into equal ones but for the last.
fn count(total: u64, index: u64) -> u64 {
    total.saturating_sub(index * SHARD_TEXTS as u64).min(SHARD_TEXTS as u64)
}

fn embeds(record: &MiningRecord) -> impl Iterator<Item = Piece> {
    let of = |kind, shards: u64, total| (0..shards).map(move |index| Piece::Embed { kind, index, count: count(total, index) });
    let passages = of(TextKind::Passage, record.passage_shards, record.passages);
    passages.chain(of(TextKind::Question, record.question_shards, record.questions))
}

fn searches(record: &MiningRecord) -> impl Iterator<Item = Piece> {
    let total = record.questions;
    (0..record.question_shards).map(move |index| Piece::Search { index, count: count(total, index) })
}

/// Whether the journal has a piece.
fn is_done(mining: &MiningState, piece: &Piece) -> bool {
    match piece {
        Piece::Embed { kind, index, .. } => mining.embedded.iter().any(|done| (done.kind, done.index) == (*kind, *index)),
        Piece::Search { index, .. } => mining.searched.iter().any(|done| done.index == *index),
        Piece::Read { .. } | Piece::Ask { .. } => false,
    }
}

/// What a worker is told of a piece.
pub(super) fn kind_of(piece: &Piece, state: &MakingState) -> Option<Kind> {
    let mining = state.mining.as_ref()?;
    let pool = Some((&mining.record.pool).into());
    match *piece {
        Piece::Embed { kind, index, .. } => {
            let model = state.model.as_ref().map(Into::into);
            Some(Kind::Embed(v1::Embed { pool, questions: kind == TextKind::Question, index, model }))
        }
        Piece::Search { index, .. } => {
            let of_shard = |done: &&artel_common::mining::EmbeddedRecord| (done.kind, done.index) == (TextKind::Question, index);
            let questions = mining.embedded.iter().find(of_shard).map(|done| (&done.vectors).into());
            let passages = mining.vectors(TextKind::Passage).iter().map(Into::into).collect();
            Some(Kind::Search(v1::Search { pool, index, questions, passages }))
        }
        Piece::Read { .. } | Piece::Ask { .. } => None,
    }
}

impl Core {
    /// All chunks are asked about: what the base model is to be asked is gathered.
    pub(super) fn begin_mining(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let (Some(making), Some(state)) = (&mut self.making, &self.run.making) else { return };
        making.mining = Mining::Pooling;
        let state = Box::new(state.clone());
        self.enter(Stage::Mine, now, effects);
        effects.push(Effect::Pool(state));
    }

    /// The pool is in the store. Where it is the one that the journal has, what was found of it counts.
    pub(in crate::core) fn pooled(&mut self, record: MiningRecord, now: Duration, effects: &mut Vec<Effect>) {
        let leaving = self.is_leaving();
        let known = self.run.making.as_ref().and_then(|state| state.mining.as_ref());
        let Some(making) = self.making.as_mut().filter(|making| making.mining == Mining::Pooling && !leaving) else { return };
        match known.filter(|mining| mining.record == record) {
            Some(mining) => {
                making.mines = embeds(&record).filter(|piece| !is_done(mining, piece)).collect();
                making.mining = Mining::Embedding;
            }
            None => {
                making.committing += 1;
                Self::commit(Commit::Record(Record::Mining(record)), effects);
            }
        }
        self.making_goes_on(now, effects);
    }

    /// The pool, or a piece of it, is in the journal.
    pub(super) fn mining_recorded(&mut self, record: &Record, now: Duration, effects: &mut Vec<Effect>) {
        if let (Record::Mining(record), Some(making)) = (record, &mut self.making) {
            making.mines = embeds(record).collect();
            making.mining = Mining::Embedding;
        }
        if let Some(mining) = self.run.making.as_ref().and_then(|state| state.mining.as_ref()) {
            let texts = mining.record.questions + mining.record.passages;
            let embedded = mining.embedded.iter().map(|done| done.count).sum();
            let searched = mining.searched.iter().map(|done| done.count).sum();
            match self.making.as_ref().map(|making| making.mining) {
                Some(Mining::Searching) => self.progress(searched, mining.record.questions, "questions".into(), effects),
                _ => self.progress(embedded, texts, "texts".into(), effects),
            }
        }
        self.making_goes_on(now, effects);
    }

    /// All texts are embedded.
    pub(super) fn begin_searching(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let mining = self.run.making.as_ref().and_then(|state| state.mining.as_ref());
        let (Some(making), Some(mining)) = (&mut self.making, mining) else { return };
        making.mines = searches(&mining.record).filter(|piece| !is_done(mining, piece)).collect();
        making.mining = Mining::Searching;
        self.making_goes_on(now, effects);
    }

    /// What mining came to, before it is applied.
    pub(super) fn mined_note(&self) -> String {
        let mining = self.run.making.as_ref().and_then(|state| state.mining.as_ref());
        mining.map_or(String::new(), |mining| {
            format!("{} questions were held against {} passages", mining.record.questions, mining.record.passages)
        })
    }
}
