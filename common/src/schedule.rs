//! Which batches an update takes, and when to measure: pure functions of the spec and the number of batches.

use crate::spec::Strategy;

/// The updates of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    batches_per_epoch: Vec<u64>,
    accumulation: u64,
    total: u64,
}

/// Where an update stands: the batches of an epoch that it averages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepBatches {
    /// The pass over the data, from 0.
    pub epoch: u32,
    /// First batch of that pass.
    pub first: u64,
    /// How many batches; fewer than the accumulation at the end of a pass.
    pub count: u64,
}

impl Schedule {
    /// Each epoch's batches are taken `accumulation` at a time, the last update of an epoch with what is left;
    /// `max_steps` ends the run early.
    pub fn new(batches_per_epoch: Vec<u64>, accumulation: u64, max_steps: Option<u64>) -> Self {
        let accumulation = accumulation.max(1);
        let planned: u64 = batches_per_epoch.iter().map(|batches| batches.div_ceil(accumulation)).sum();
        Self { batches_per_epoch, accumulation, total: max_steps.map_or(planned, |max| max.min(planned)) }
    }

    /// Updates in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    fn steps_of(&self, epoch: usize) -> u64 {
        self.batches_per_epoch[epoch].div_ceil(self.accumulation)
    }

    /// The batches of the update that leads from `step` updates to `step + 1`.
    pub fn batches(&self, step: u64) -> Option<StepBatches> {
        let mut before = 0;
        for epoch in 0..self.batches_per_epoch.len() {
            let steps = self.steps_of(epoch);
            if step < before + steps {
                let first = (step - before) * self.accumulation;
                let count = self.accumulation.min(self.batches_per_epoch[epoch] - first);
                return Some(StepBatches { epoch: epoch as u32, first, count });
            }
            before += steps;
        }
        None
    }

    /// Passes over the data after so many updates, fractional.
    pub fn epoch_at(&self, step: u64) -> f64 {
        let mut before = 0;
        for epoch in 0..self.batches_per_epoch.len() {
            let steps = self.steps_of(epoch);
            if step < before + steps {
                return epoch as f64 + (step - before) as f64 / steps as f64;
            }
            before += steps;
        }
        self.batches_per_epoch.len() as f64
    }

    /// After which updates the weights are measured, in order; the last update is always among them.
    pub fn evaluations(&self, strategy: Strategy, every: Option<u64>) -> Vec<u64> {
        let mut points: Vec<u64> = match strategy {
            Strategy::No => Vec::new(),
            Strategy::Steps => (1..).map(|k| k * every.unwrap_or(1).max(1)).take_while(|&step| step <= self.total).collect(),
            Strategy::Epoch => {
                let ends = (0..self.batches_per_epoch.len()).scan(0, |sum, epoch| {
                    *sum += self.steps_of(epoch);
                    Some(*sum)
                });
                ends.filter(|&step| step <= self.total).collect()
            }
        };
        if points.last() != Some(&self.total) {
            points.push(self.total);
        }
        points.dedup();
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every batch is taken once, partial updates included. Method: two epochs of 7 and 6 batches by 3.
    #[test]
    fn every_batch_once() {
        let schedule = Schedule::new(vec![7, 6], 3, None);
        assert_eq!(schedule.total(), 5);
        let taken: Vec<_> = (0..5).filter_map(|step| schedule.batches(step)).map(|b| (b.epoch, b.first, b.count)).collect();
        assert_eq!(taken, [(0, 0, 3), (0, 3, 3), (0, 6, 1), (1, 0, 3), (1, 3, 3)]);
        assert_eq!(schedule.batches(5), None);
        assert_eq!((schedule.epoch_at(3), schedule.epoch_at(5)), (1.0, 2.0));
    }

    /// Goal: measuring points follow the strategy and always hold the end. Method: each strategy.
    #[test]
    fn measuring_points() {
        let schedule = Schedule::new(vec![4, 4], 1, None);
        assert_eq!(schedule.evaluations(Strategy::No, None), [8]);
        assert_eq!(schedule.evaluations(Strategy::Epoch, None), [4, 8]);
        assert_eq!(schedule.evaluations(Strategy::Steps, Some(3)), [3, 6, 8]);
        assert_eq!(Schedule::new(vec![4, 4], 1, Some(5)).evaluations(Strategy::Epoch, None), [4, 5]);
    }
}
