//! The gradient of a batch: a rank's share is embedded, its loss taken among all candidates, and gone back from.

use candle_core::{DType, Tensor};

use super::{DeviceTrainer, own_rows};
use crate::dropout::Dropout;
use crate::encoder::{Activations, Pass, Workspace};
use crate::gpu::address::element;
use crate::gpu::memory::{LEAST_TOKENS, kept_beside};
use crate::gpu::micro::{CutBatch, Micro};
use crate::gpu::{DeviceLoss, Place};
use crate::interrupt::Interrupt;
use crate::nccl::Element;
use crate::tokens::TokenTable;
use crate::{Error, Result};

/// A rank's share of a batch, embedded.
struct Embedded {
    micros: Vec<Micro>,
    /// Of the first micro-batches, what the way back needs.
    kept: Vec<Activations>,
    /// The rest take these tokens and sequences of the slot in turn.
    again: (usize, usize),
    /// f32 [T, h].
    embeddings: Tensor,
}

/// How many of the micro-batches, which have so many tokens and sequences each, are kept: the first ones for which there is room, if not for all; `beside` tells for how many tokens
/// beside the largest.
fn num_kept(sizes: &[(usize, usize)], tokens_at_once: usize, beside: impl FnOnce(usize) -> usize) -> usize {
    let total: usize = sizes.iter().map(|size| size.0).sum();
    if total <= tokens_at_once || sizes.len() == 1 {
        return sizes.len();
    }
    let mut left = beside(sizes.iter().map(|size| size.0).max().unwrap_or(0));
    let fits = |size: &&(usize, usize)| {
        let fits = size.0 <= left;
        left -= if fits { size.0 } else { 0 };
        fits
    };
    sizes.iter().take_while(fits).count()
}

impl DeviceTrainer {
    /// The gradient of the batches' losses, added up, over all ranks.
    pub(super) fn gradient(&mut self, table: &TokenTable, batches: &[&[u32]], interrupt: &Interrupt) -> Result<()> {
        self.optimizer.clear()?;
        for (index, rows) in batches.iter().enumerate() {
            self.add_batch(table, rows, (index == 0, index + 1 == batches.len()), interrupt)?;
        }
        let loss = element(&self.optimizer.loss()?, 0)?;
        // SAFETY: the loss is one number, which nobody uses before the exchanges have ended.
        self.exchange(|peers| unsafe { peers.all_reduce(loss, 1, Element::F32) })?;
        self.exchange(|peers| peers.join())?;
        self.wire.as_ref().map_or(Ok(()), |wire| wire.widen(&self.gpu, &self.optimizer.grad))
    }

    /// Adds a batch's loss and gradient; with the last one, the parts of the gradient are summed over the ranks as they are done. What ran out of memory is done again with fewer tokens at
    /// once, as long as no other rank has seen anything of it.
    fn add_batch(&mut self, table: &TokenTable, rows: &[u32], (first, last): (bool, bool), interrupt: &Interrupt) -> Result<()> {
        let own = own_rows(rows.len(), self.seat());
        let mut embedded = self.embed_what_fits(table, &rows[own.clone()], interrupt)?;
        let d_embeddings = self.loss(&embedded.embeddings, rows.len(), table.num_columns())?;
        let mut summed = false;
        while let Err(error) = self.go_back(embedded, &d_embeddings, last, &mut summed, interrupt) {
            if !first || summed {
                return Err(error);
            }
            self.make_room(error)?;
            self.optimizer.grad.zero_set()?;
            embedded = self.embed_what_fits(table, &rows[own.clone()], interrupt)?;
        }
        Ok(())
    }

    /// Embeds these rows, with fewer tokens at once where memory runs out.
    fn embed_what_fits(&mut self, table: &TokenTable, rows: &[u32], interrupt: &Interrupt) -> Result<Embedded> {
        loop {
            match self.embed(table, rows, interrupt) {
                Ok(embedded) => return Ok(embedded),
                Err(error) => self.make_room(error)?,
            }
        }
    }

    /// Embeds these rows, and keeps what fits of it for the way back.
    fn embed(&mut self, table: &TokenTable, rows: &[u32], interrupt: &Interrupt) -> Result<Embedded> {
        let micros = self.micros(table, rows)?;
        let dropout = self.dropout();
        let (h, num_texts) = (self.encoder.config().hidden_size, rows.len() * table.num_columns());
        let embeddings = Tensor::zeros((num_texts.max(1), h), DType::F32, self.gpu.device())?.narrow(0, 0, num_texts)?;
        let sizes: Vec<_> = micros.iter().map(|micro| (micro.packed.num_tokens(), micro.packed.num_sequences())).collect();
        let at_once = self.settings.tokens_at_once;
        let beside = |largest| kept_beside(largest, at_once, &self.encoder, self.gpu.precision());
        let (keep, again) = sizes.split_at(num_kept(&sizes, at_once, beside));
        let sums = |sizes: &[(usize, usize)]| sizes.iter().fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
        let begins = sums(keep);
        let most = again.iter().fold((0, 0), |most, size| (most.0.max(size.0), most.1.max(size.1)));
        if self.workspace.rows() > 2 * most.0.max(LEAST_TOKENS) && !again.is_empty() {
            // buffers of a batch that went in one piece stand where activations are to be kept
            self.workspace = Workspace::new();
        }
        let layers = self.encoder.config().num_hidden_layers;
        self.slot.reserve(&self.encoder, layers, begins.0 + most.0, begins.1 + most.1, self.gpu.like())?;
        let mut kept = Vec::with_capacity(keep.len());
        for (index, micro) in micros.iter().enumerate() {
            interrupt.check()?;
            let keeps = index < keep.len();
            let mut workspace = std::mem::take(&mut self.workspace);
            let pass = self.pass(micro, dropout.as_ref(), keeps)?;
            let acts = match keeps {
                true => self.room(micro, sums(&sizes[..index]))?,
                false => pass.room(false, &mut workspace)?,
            };
            pass.forward(&acts, &mut workspace)?;
            self.workspace = workspace;
            embeddings.slice_set(&acts.embeddings, 0, micro.texts.start)?;
            kept.extend(keeps.then_some(acts));
        }
        Ok(Embedded { micros, kept, again: begins, embeddings })
    }

    /// The way back from the embeddings' gradient; `summed` is set once a part of the gradient went to the other ranks.
    fn go_back(
        &mut self,
        embedded: Embedded,
        d_embeddings: &Tensor,
        last: bool,
        summed: &mut bool,
        interrupt: &Interrupt,
    ) -> Result<()> {
        let Embedded { micros, kept, again, .. } = embedded;
        let dropout = self.dropout();
        let mut kept = kept.into_iter();
        for (index, micro) in micros.iter().enumerate() {
            interrupt.check()?;
            let mut workspace = std::mem::take(&mut self.workspace);
            let pass = self.pass(micro, dropout.as_ref(), true)?;
            let acts = match kept.next() {
                Some(acts) => acts,
                None => {
                    let acts = self.room(micro, again)?;
                    pass.forward(&acts, &mut workspace)?;
                    acts
                }
            };
            let d = d_embeddings.narrow(0, micro.texts.start, micro.texts.len())?;
            let done = &mut |part| match last && index + 1 == micros.len() {
                true => self.sum_part(part, summed),
                false => Ok(()),
            };
            pass.backward_by_parts(acts, &d, &self.optimizer.grad, &mut workspace, done)?;
            self.workspace = workspace;
        }
        if last && micros.is_empty() {
            (0..self.encoder.parts().len()).rev().try_for_each(|part| self.sum_part(part, summed))?;
        }
        Ok(())
    }

    /// Room in the slot for a micro-batch, from these tokens and sequences on.
    fn room(&self, micro: &Micro, (tokens, sequences): (usize, usize)) -> Result<Activations> {
        let (num_tokens, num_sequences) = (micro.packed.num_tokens(), micro.packed.num_sequences());
        self.slot.activations(&self.encoder, tokens..tokens + num_tokens, sequences..sequences + num_sequences)
    }

    /// A micro-batch's way through the encoder.
    fn pass<'a>(&'a self, micro: &'a Micro, dropout: Option<&'a Dropout>, keep_masks: bool) -> Result<Pass<'a>> {
        let place = Place { gpu: &self.gpu, batch: &micro.on_device, weights: &self.optimizer.weights, keep_masks };
        Ok(self.encoder.pass(&self.optimizer.params, &micro.packed, dropout)?.on(place))
    }

    /// Begins the sum of a part of the gradient over the ranks.
    fn sum_part(&self, part: usize, summed: &mut bool) -> Result<()> {
        self.exchange(|peers| {
            let (range, grad) = (self.encoder.parts()[part].clone(), &self.optimizer.grad);
            let (len, wire) = (range.len(), self.wire.as_ref());
            let (from, element) = match wire {
                None => (element(grad, range.start)?, Element::F32),
                Some(wire) => (wire.narrow(&self.gpu, grad, range)?, Element::Bf16),
            };
            *summed = true;
            // SAFETY: the part lies in the gradient, or in what was made of it, and nothing is added to it any more.
            unsafe { peers.all_reduce(from, len, element) }
        })
    }

    /// The texts of these rows in micro-batches on the device, cut by now or before.
    fn micros(&mut self, table: &TokenTable, rows: &[u32]) -> Result<Vec<Micro>> {
        let (ahead, tokens) = (self.ahead.take().filter(|ahead| ahead.rows() == rows), self.settings.tokens_at_once);
        let cut = match ahead.filter(|ahead| ahead.tokens_at_once() == tokens) {
            Some(ahead) => ahead,
            None => CutBatch::of(&self.encoder, table, rows, tokens)?,
        };
        cut.on(&self.gpu)
    }

    /// Adds the loss of this rank's anchors, among all candidates of a batch of `num_rows`; gives the gradient of the rank's embeddings, [T, h], which stand column
    /// by column.
    fn loss(&self, embeddings: &Tensor, num_rows: usize, num_columns: usize) -> Result<Tensor> {
        let h = self.encoder.config().hidden_size;
        let own = own_rows(num_rows, self.seat());
        let num_candidates = num_rows * (num_columns - 1);
        let candidates = match &self.peers {
            None => embeddings.narrow(0, num_rows, num_candidates)?,
            Some(_) => self.gather_candidates(embeddings, num_rows, num_columns)?,
        };
        let anchors = embeddings.narrow(0, 0, own.len())?;
        let gradient =
            |rows: usize| Ok::<_, Error>(Tensor::zeros((rows.max(1), h), DType::F32, self.gpu.device())?.narrow(0, 0, rows)?);
        let all = gradient(own.len() + num_candidates)?;
        let (d_anchors, d_candidates) = (all.narrow(0, 0, own.len())?, all.narrow(0, own.len(), num_candidates)?);
        if !own.is_empty() {
            let (gpu, spec) = (&*self.gpu, &self.settings.loss);
            let (anchors, candidates) = (&anchors, &candidates);
            let loss = DeviceLoss { gpu, spec, anchors, candidates, own_offset: own.start, num_anchors: num_rows };
            loss.run(&self.optimizer.loss()?, &d_anchors, &d_candidates)?;
        }
        if self.peers.is_none() {
            return Ok(all);
        }
        let from = element(&d_candidates, 0)?;
        // SAFETY: the candidates' gradients, which are used after the join.
        self.exchange(|peers| unsafe { peers.all_reduce(from, num_candidates * h, Element::F32) })?;
        self.exchange(|peers| peers.join())?;
        let d_embeddings = gradient(own.len() * num_columns)?;
        if !own.is_empty() {
            d_embeddings.slice_set(&d_anchors, 0, 0)?;
            for column in 1..num_columns {
                let mine = d_candidates.narrow(0, (column - 1) * num_rows + own.start, own.len())?;
                d_embeddings.slice_set(&mine, 0, column * own.len())?;
            }
        }
        Ok(d_embeddings)
    }

    /// All ranks' candidates, column by column in the order of the batch's rows, from this rank's embeddings.
    fn gather_candidates(&self, embeddings: &Tensor, num_rows: usize, num_columns: usize) -> Result<Tensor> {
        let (h, seat) = (self.encoder.config().hidden_size, self.seat());
        let (own, each) = (own_rows(num_rows, seat).len(), num_rows.div_ceil(seat.world_size));
        let zeros = |rows: usize| Ok::<_, Error>(Tensor::zeros((rows, h), DType::F32, self.gpu.device())?);
        let candidates = zeros(num_rows * (num_columns - 1))?;
        for column in 1..num_columns {
            // ranks give equally many; only the last ones that have rows have fewer, so that what is filled up stands at the end
            let (mine, all) = (zeros(each)?, zeros(each * seat.world_size)?);
            if own > 0 {
                mine.slice_set(&embeddings.narrow(0, column * own, own)?, 0, 0)?;
            }
            let (from, to) = (element(&mine, 0)?, element(&all, 0)?);
            // SAFETY: there is room for every rank's rows, and they are used after the join.
            self.exchange(|peers| unsafe { peers.all_gather(from, to, each * h) })?;
            self.exchange(|peers| peers.join())?;
            candidates.slice_set(&all.narrow(0, 0, num_rows)?, 0, (column - 1) * num_rows)?;
        }
        Ok(candidates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is kept leaves room for the largest of the rest, and everything is kept where it fits. Method: sizes and what fits.
    #[test]
    fn kept_micro_batches() {
        let sizes = [100, 90, 95, 100, 40].map(|tokens| (tokens, 3));
        for (tokens_at_once, expected) in [(425usize, 5), (424, 3), (390, 3), (385, 3), (384, 2), (290, 2), (199, 0), (1, 0)] {
            let beside = |largest| tokens_at_once.saturating_sub(largest);
            assert_eq!(num_kept(&sizes, tokens_at_once, beside), expected, "{tokens_at_once}");
        }
        // one text that is longer than all that fits
        assert_eq!((num_kept(&sizes[..1], 1, |_| 0), num_kept(&[], 5, |_| 0)), (1, 0));
    }
}
