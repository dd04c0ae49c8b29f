//! Workers come, live, work and are lost.

use std::time::Duration;

use artel_common::event::Event;
use artel_common::exit::Exit;
use artel_common::spec::DeviceKind;
use artel_proto::convert::failure_exit;
use artel_proto::v1;

use super::{BLAME_DELAY, Core, Effect, Failure, LEASE, NewWorker, Phase, WORKERS_DEADLINE, Worker};

impl Core {
    /// The id that a registration leads to, or why it is refused. A repeated registration gets the id of the first.
    ///
    /// # Errors
    /// The run has all its workers, the worker's kernel path is not that of the others (SAME-3), or its GPUs would lie idle unasked.
    pub fn admit(&self, worker: &NewWorker) -> Result<String, String> {
        if let Some(known) = self.workers.iter().find(|known| known.facts.incarnation == worker.incarnation) {
            return Ok(known.id.clone());
        }
        if self.phase == Phase::Over {
            return Err("the run is over".into());
        }
        if self.workers.len() >= self.spec.workers.count {
            return Err(format!("the run has all its {} workers; raise [workers] count to use more", self.spec.workers.count));
        }
        if self.idles_gpus(worker) {
            return Err(format!(
                "{} shows {} GPU{}, and the run would compute on CPUs: its spec leaves the device open and the coordinator's machine shows no GPU; write device = \"cuda\" in [workers] and start the coordinator again with another store (--store), since this one holds a run on the CPU by now; or write \"cpu\" if that is meant",
                worker.host,
                worker.num_gpus,
                if worker.num_gpus == 1 { "" } else { "s" }
            ));
        }
        // on GPUs the CPU's path changes nothing
        if let Some(first) = self.workers.first()
            && self.spec.workers.device == DeviceKind::Cpu
            && first.facts.kernel_path != worker.kernel_path
        {
            return Err(format!(
                "this machine's matrix products take the {} path, {}'s take {}: the weights would not be reproducible; use machines of one kind",
                worker.kernel_path, first.id, first.facts.kernel_path
            ));
        }
        Ok(format!("worker-{}", self.num_admitted + 1))
    }

    /// Whether a worker's machine has GPUs that the run does without because the coordinator's has none.
    fn idles_gpus(&self, worker: &NewWorker) -> bool {
        let section = &self.spec.workers;
        section.device == DeviceKind::Cpu && section.device_found && worker.num_gpus > 0
    }

    pub(super) fn register(&mut self, facts: NewWorker, now: Duration, effects: &mut Vec<Effect>) {
        let Ok(id) = self.admit(&facts) else { return };
        if let Some(known) = self.workers.iter_mut().find(|known| known.id == id) {
            known.last_seen = now;
            return;
        }
        self.num_admitted += 1;
        self.workers.push(Worker { id: id.clone(), facts, last_seen: now, pss_bytes: 0, assigned: None });
        let (present, wanted) = (self.workers.len() as u32, self.spec.workers.count as u32);
        effects.push(Effect::Emit(Event::WorkerJoined { worker: id, present, wanted }));
        self.gather(now, effects);
    }

    pub(super) fn heartbeat(&mut self, worker: &str, pss_bytes: u64, leaving: bool, now: Duration, effects: &mut Vec<Effect>) {
        if leaving && self.knows(worker) {
            self.leave(format!("{worker} was told to leave"), now, effects);
        }
        if let Some(known) = self.workers.iter_mut().find(|known| known.id == worker) {
            known.last_seen = now;
            known.pss_bytes = pss_bytes;
        }
        self.count_memory();
    }

    fn count_memory(&mut self) {
        let workers: u64 = self.workers.iter().map(|worker| worker.pss_bytes).sum();
        self.peak_bytes = self.peak_bytes.max(workers + self.own_bytes);
    }

    /// Gives a worker something to do; it must have nothing else.
    pub(super) fn assign(&mut self, id: &str, kind: v1::task::Kind, effects: &mut Vec<Effect>) -> u64 {
        let task_id = self.next_task;
        self.next_task += 1;
        if let Some(worker) = self.workers.iter_mut().find(|worker| worker.id == id) {
            assert!(worker.assigned.is_none(), "{id} has a task already");
            worker.assigned = Some(v1::Task { task_id, kind: Some(kind) });
            effects.push(Effect::Wake { worker: id.to_owned() });
        }
        task_id
    }

    /// Takes a worker's task back because it is done; false where it is not its task (a repeated call).
    pub(super) fn take_back(&mut self, id: &str, task: u64) -> bool {
        let Some(worker) = self.workers.iter_mut().find(|worker| worker.id == id) else { return false };
        let is_it = worker.assigned.as_ref().is_some_and(|assigned| assigned.task_id == task);
        if is_it {
            worker.assigned = None;
        }
        is_it
    }

    pub(super) fn task_failed(
        &mut self,
        worker: &str,
        task: u64,
        kind: v1::FailureKind,
        message: String,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        if self.piece_failed(worker, task, kind, &message, now, effects) || !self.take_back(worker, task) {
            return;
        }
        use v1::FailureKind as Kind;
        let reads_checkpoint = matches!(self.phase, Phase::Joining | Phase::Exporting);
        match kind {
            Kind::Checkpoint if reads_checkpoint => {
                if let Some(task) = &mut self.world_task {
                    task.damaged.get_or_insert(message);
                }
                self.world_done(worker, None, now, effects);
            }
            Kind::Left => {
                self.leave(format!("{worker} was told to leave"), now, effects);
                self.world_done(worker, None, now, effects);
            }
            // in a run that leaves, whoever gives up first breaks the others' exchange
            Kind::Collective if self.is_leaving() => self.world_done(worker, None, now, effects),
            Kind::Collective => {
                // an exchange broke: the rank that is silent, not the one that noticed, is to blame
                if self.blamed.is_none() {
                    let message = format!("{worker} in stage {}: {message}", self.stage_name());
                    self.blamed = Some((now + BLAME_DELAY, Failure { exit: Exit::WorkerLost, message }));
                }
            }
            kind => {
                let message = format!("{worker} failed in stage {}: {message}", self.stage_name());
                self.fail(Failure { exit: failure_exit(kind), message }, effects);
            }
        }
    }

    pub(super) fn tick(&mut self, own_bytes: u64, now: Duration, effects: &mut Vec<Effect>) {
        self.own_bytes = own_bytes;
        self.count_memory();
        if let Some(lost) = self.workers.iter().find(|worker| now.saturating_sub(worker.last_seen) > LEASE) {
            let message = format!(
                "{} (process {} on {}) was lost in stage {}: no sign of life for {} s; look at its machine and its log, then run again: the run goes on from its last checkpoint",
                lost.id,
                lost.facts.pid,
                lost.facts.host,
                self.stage_name(),
                LEASE.as_secs()
            );
            if self.phase == Phase::Making {
                let id = lost.id.clone();
                self.warn(format!("{id} was lost; what it was at is done by others"), effects);
                return self.give_up_worker(&id, effects);
            }
            return self.fail(Failure { exit: Exit::WorkerLost, message }, effects);
        }
        self.leave_in_time(now, effects);
        if let Some((due, failure)) = &self.blamed
            && now >= *due
        {
            let failure = failure.clone();
            return self.fail(failure, effects);
        }
        let waited = self.gathering_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        if self.phase == Phase::Gathering && waited > WORKERS_DEADLINE {
            let message = format!(
                "{} of {} workers came within {} s; start the others (artel worker --coordinator URL) sooner, or lower [workers] count",
                self.workers.len(),
                self.spec.workers.count,
                WORKERS_DEADLINE.as_secs()
            );
            self.fail(Failure { exit: Exit::WorkerLost, message }, effects);
        }
    }
}
