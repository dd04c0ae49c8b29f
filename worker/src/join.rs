//! A worker becomes a rank: it connects to the others and loads model, tokens and plan.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use artel_common::checkpoint::History;
use artel_common::exit::Exit;
use artel_common::plan::EpochPlan;
use artel_common::records::{Evaluation, TokensManifest};
use artel_common::schedule::Schedule;
use artel_common::spec::{CommunicationType, DeviceKind, LossKind, Precision, RunSpec};
use artel_common::{ErrorKind, memory};
use artel_proto::convert;
use artel_proto::v1::{self, FailureKind, report_request::Report};
use artel_trainer::collective::{Collective, Solo};
use artel_trainer::encode::TokenTexts;
use artel_trainer::encoder::Encoder;
use artel_trainer::evaluate::EvalTexts;
use artel_trainer::gpu::{self, Gpu};
use artel_trainer::loss::LossSpec;
use artel_trainer::model::ModelFolder;
use artel_trainer::nccl::Element;
use artel_trainer::optim::AdamW;
use artel_trainer::state::TrainState;
use artel_trainer::step::{ActivationBudget, MemoryPlan, StepSettings, Trainer};
use artel_trainer::tokens::TokenTable;

use crate::saver::Seat;
use crate::session::{Reporter, Session, TaskError, TaskResult};
use crate::{checkpoint, numa};

/// How long ranks have to find one another.
const CONNECT_DEADLINE: Duration = Duration::from_secs(60);
/// How long a rank may keep the others waiting inside an exchange; a dead one is noticed at once.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(1_800);

/// What a rank trains and measures with.
pub(crate) struct World {
    pub spec: RunSpec,
    pub rank: usize,
    pub trainer: Trainer,
    pub table: TokenTable,
    pub plans: Vec<EpochPlan>,
    pub schedule: Schedule,
    pub eval_texts: EvalTexts,
    pub queries: TokenTexts,
    pub corpus: TokenTexts,
    pub dims: Vec<usize>,
    pub seat: Seat,
    /// What was measured so far.
    pub evaluations: Vec<Evaluation>,
    /// Losses and gradient norms so far.
    pub history: History,
}

/// Joins the world that the coordinator formed.
pub(crate) fn join(session: &mut Session, task: &v1::JoinWorld, report: &Reporter) -> TaskResult<(World, v1::Joined)> {
    let collective = connect(session, task)?;
    let folder = session.folder()?;
    let spec = session.spec.clone();
    let threads = session.num_threads(task.local_workers as usize);
    let encoder = Arc::new(Encoder::new(folder.config.clone(), folder.pooling, folder.layout.clone())?);
    let (state, history) = state(session, task, &folder, report)?;
    let num_columns = session.dataset()?.train.num_columns as usize;
    let settings = settings(&spec, &folder, &encoder, threads, task.local_workers as usize, num_columns)?;
    let activations = settings.activation_budget.all;
    let dataset = session.dataset()?;
    let tokens = session.inputs()?.tokens.clone().ok_or_else(|| TaskError::internal("the store has no tokens yet"))?;
    let tokens: TokensManifest = session.wait(session.store.get_json_verified(&tokens))?;
    let table = load_tokens(session, &tokens, "train")?;
    let test = if dataset.test_is_train { "train" } else { "test" };
    let test_table = load_tokens(session, &tokens, test)?;
    let (eval_texts, queries, corpus) = eval_set(session, test, &test_table)?;
    let plans = load_plans(session)?;
    let batches = plans.iter().map(|plan| plan.num_batches() as u64).collect();
    let schedule = Schedule::new(batches, spec.train.gradient_accumulation_steps as u64, spec.train.max_steps);
    let dims = spec.eval_dims(folder.config.hidden_size);
    let mut trainer = Trainer::new(encoder, settings, collective, state)?.with_interrupt(session.interrupt.clone());
    if spec.workers.device == DeviceKind::Cuda {
        let precision = precision(spec.train.precision);
        let gpu = open_gpu(session.compute.gpu, precision, spec.workers.device_found)?;
        let peers = gpu::join(&gpu, &**trainer.collective(), Arc::new(end_process))?;
        if peers.is_some() {
            THREADS_LEFT.store(true, Ordering::SeqCst);
        }
        let limit = spec.workers.memory_limit;
        let limit = limit.map_or(usize::MAX, |limit| gpu::tokens_in(limit as usize, trainer.encoder(), precision));
        let exchanged = match spec.workers.communication_data_type {
            CommunicationType::F32 => Element::F32,
            CommunicationType::Bf16 => Element::Bf16,
        };
        trainer = trainer.on_gpu(gpu, peers, exchanged)?.with_tokens_at_once(limit);
    }
    let share = table.num_tokens() * spec.train.global_batch_size / table.num_rows().max(1) / task.members.len().max(1);
    let plan = plan(&trainer, threads, activations, share);
    let rank = task.rank as usize;
    let seat = Seat { generation: task.generation, rank, world_size: task.members.len() };
    let mut warnings = folder.warnings.clone();
    if trainer.device().is_none() {
        warnings.extend(idle_threads(threads, spec.train.gradient_leaves, task.members.len()));
    }
    let losses = if rank == 0 { history.losses.clone() } else { Vec::new() };
    let evaluations = serde_json::from_str(&task.evaluations_json)
        .map_err(|e| TaskError::internal(format!("the evaluations so far are not readable: {e}")))?;
    session.make_room();
    Ok((
        World { spec, rank, trainer, table, plans, schedule, eval_texts, queries, corpus, dims, seat, evaluations, history },
        v1::Joined { plan, warnings, losses },
    ))
}

/// What a GPU computes with where the spec says this.
pub(crate) fn precision(written: Precision) -> gpu::Precision {
    match written {
        Precision::Bf16 => gpu::Precision::Bf16,
        Precision::Tf32 => gpu::Precision::Tf32,
        Precision::F32 => gpu::Precision::F32,
    }
}

/// The GPU that this worker computes on; from now on its threads stay near it.
fn open_gpu(ordinal: usize, precision: gpu::Precision, is_found: bool) -> TaskResult<Arc<Gpu>> {
    let gpu = gpu::open(ordinal, precision).map_err(|e| {
        let error = TaskError::from(e);
        let advice = if is_found { "; or write device = \"cpu\" in [workers], which leaves it open" } else { "" };
        TaskError { message: format!("{}{advice}", error.message), ..error }
    })?;
    if let Some(id) = gpu.backend().pci_bus_id() {
        numa::stay_near(&id);
    }
    Ok(Arc::new(gpu))
}

/// Whether a library has begun threads that may still live.
static THREADS_LEFT: AtomicBool = AtomicBool::new(false);

/// Ends this process at once where threads of NCCL may still live: an orderly end takes from under them what they use, and they end it with a fault.
pub fn end_where_threads_live(code: u8) {
    if THREADS_LEFT.load(Ordering::SeqCst) {
        end_at_once(code);
    }
}

/// Ends the process without its libraries' leave.
fn end_at_once(code: u8) -> ! {
    // SAFETY: nothing of this process runs afterwards.
    unsafe { libc::_exit(code.into()) }
}

/// The end of a worker whose GPU cannot be used any more: its supervisor starts another.
fn end_process(why: &str) {
    tracing::error!("{why}; this worker ends, since what hangs cannot be taken back");
    end_at_once(Exit::WorkerLost.code());
}

/// What the worker computes with, for people; its share of a batch has about so many tokens.
fn plan(trainer: &Trainer, threads: usize, activations: usize, tokens: usize) -> String {
    match trainer.device() {
        Some(device) => {
            let (gpu, fitting) = (device.gpu(), device.settings().tokens_at_once);
            let kept = gpu::in_words(tokens, fitting, trainer.encoder(), gpu.precision());
            format!("{}, {}, {kept}", gpu.backend().describe(), gpu.precision().name())
        }
        None => format!(
            "{} kernels, {threads} thread{} a worker, up to {} MB of activations kept",
            artel_trainer::kernels::kernel_path(),
            if threads == 1 { "" } else { "s" },
            activations / 1_000_000
        ),
    }
}

/// The state to begin from: a checkpoint's, else the base model's.
fn state(session: &Session, task: &v1::JoinWorld, folder: &ModelFolder, report: &Reporter) -> TaskResult<(TrainState, History)> {
    let Some(object) = task.checkpoint.clone() else {
        return Ok((TrainState::new(folder.load_params()?)?, History::default()));
    };
    let object = convert::object(Some(object)).map_err(TaskError::internal)?;
    let read = async {
        let manifest = checkpoint::read_manifest(&session.store, &object).await?;
        if manifest.run_digest.as_str() != task.run_digest {
            return Err(artel_common::Error::Damaged(format!("{} is of another run", object.key)));
        }
        let (state, history) = checkpoint::read_state(&session.store, &manifest, folder.layout.total).await?;
        Ok((manifest, state, history))
    };
    let (manifest, state, history) = session.wait(read).map_err(|e| match e.kind() {
        ErrorKind::Damaged => TaskError { kind: FailureKind::Checkpoint, message: e.to_string() },
        _ => e.into(),
    })?;
    let path = artel_trainer::kernels::kernel_path();
    if manifest.kernel_path != path && session.spec.workers.device == DeviceKind::Cpu {
        report(Report::Warning(v1::Warning {
            message: format!(
                "the checkpoint was computed with {} kernels and the run goes on with {path}: its weights may differ in their last bits from those of an undisturbed run",
                manifest.kernel_path
            ),
        }));
    }
    Ok((state, history))
}

fn connect(session: &Session, task: &v1::JoinWorld) -> TaskResult<Arc<dyn Collective>> {
    if task.members.len() == 1 {
        return Ok(Arc::new(Solo::new()));
    }
    let members: Result<Vec<SocketAddr>, _> = task.members.iter().map(|member| member.parse()).collect();
    let members = members.map_err(|e| TaskError::internal(format!("a rank's address is not one: {e}")))?;
    let token: [u8; 32] =
        task.token.as_slice().try_into().map_err(|_| TaskError::internal("the world's token is not of 32 bytes"))?;
    let (rank, generation) = (task.rank as usize, task.generation);
    Ok(Arc::new(session.listener.connect(token, generation, rank, &members, CONNECT_DEADLINE, EXCHANGE_TIMEOUT)?))
}

fn settings(
    spec: &RunSpec,
    folder: &ModelFolder,
    encoder: &Encoder,
    threads: usize,
    local_workers: usize,
    num_columns: usize,
) -> TaskResult<StepSettings> {
    let train = &spec.train;
    let widths = spec.train_dims(folder.config.hidden_size);
    let LossKind::MultipleNegativesRanking = train.loss;
    let loss = LossSpec {
        scale: train.scale,
        dims: widths.iter().map(|width| width.dim).collect(),
        weights: widths.iter().map(|width| width.weight).collect(),
    };
    let config = &folder.config;
    let dropout = match train.dropout {
        Some(dropout) => (dropout, dropout),
        None => (config.hidden_dropout_prob, config.attention_probs_dropout_prob),
    };
    let plan = MemoryPlan {
        limit: memory_limit(spec, local_workers),
        threads,
        num_leaves: train.gradient_leaves,
        micro_batch_tokens: train.micro_batch_tokens,
        num_texts: train.global_batch_size * num_columns,
        accumulates: train.gradient_accumulation_steps > 1,
    };
    Ok(StepSettings {
        loss,
        num_leaves: train.gradient_leaves,
        micro_batch_tokens: train.micro_batch_tokens,
        max_grad_norm: train.max_grad_norm,
        adamw: AdamW { betas: (train.adam_beta1, train.adam_beta2), eps: train.adam_epsilon, weight_decay: train.weight_decay },
        seed: train.seed,
        dropout,
        threads,
        activation_budget: ActivationBudget::of(encoder, plan),
    })
}

/// A leaf is one thread's work, so threads beyond a rank's leaves have none.
fn idle_threads(threads: usize, num_leaves: usize, world_size: usize) -> Option<String> {
    let share = num_leaves.div_ceil(world_size.max(1));
    (threads > share).then(|| {
        format!(
            "each of {world_size} worker{} has {threads} threads for {share} of the {num_leaves} gradient leaves, so {} are idle while it trains; raise gradient_leaves in [train] (this changes the run's identity) or start more workers",
            if world_size == 1 { "" } else { "s" },
            threads - share
        )
    })
}

/// Bytes that a worker plans with.
fn memory_limit(spec: &RunSpec, local_workers: usize) -> usize {
    spec.workers.memory_limit.unwrap_or_else(|| memory::worker_bytes(local_workers)) as usize
}

fn load_tokens(session: &Session, manifest: &TokensManifest, split: &str) -> TaskResult<TokenTable> {
    let mut table: Option<TokenTable> = None;
    for shard in manifest.shards.iter().filter(|shard| shard.split == split) {
        let bytes = session.wait(session.store.get_verified(&shard.object))?;
        let part = TokenTable::from_bytes(&bytes)?;
        match &mut table {
            None => table = Some(part),
            Some(table) => table.append(&part)?,
        }
    }
    table.ok_or_else(|| TaskError::internal(format!("the store has no tokens of the {split} rows")))
}

/// Queries and documents of the test rows, as texts and as tokens.
fn eval_set(session: &mut Session, name: &str, table: &TokenTable) -> TaskResult<(EvalTexts, TokenTexts, TokenTexts)> {
    let split = session.split(name)?;
    let mut pairs = Vec::with_capacity(split.num_rows as usize);
    for index in 0..split.shards.len() {
        pairs.extend(session.rows(&split, index)?);
    }
    let texts = EvalTexts::from_pairs(&pairs, &[])?;
    let queries = (0..pairs.len()).map(|row| table.text(row, 0).to_vec()).collect();
    let corpus = texts.corpus_rows.iter().map(|&row| table.text(row, 1).to_vec()).collect();
    let queries = TokenTexts { texts: queries, prompt_len: table.prompt_len(0) };
    let corpus = TokenTexts { texts: corpus, prompt_len: table.prompt_len(1) };
    Ok((texts, queries, corpus))
}

fn load_plans(session: &Session) -> TaskResult<Vec<EpochPlan>> {
    let mut plans = Vec::new();
    for plan in &session.inputs()?.plans {
        plans.push(EpochPlan::from_bytes(&session.wait(session.store.get_verified(plan))?)?);
    }
    Ok(plans)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: threads without work are told of, and only those. Method: several worlds.
    #[test]
    fn idle_threads_are_told() {
        assert_eq!(idle_threads(8, 8, 1), None);
        assert_eq!(idle_threads(3, 8, 3), None);
        assert!(idle_threads(16, 8, 1).unwrap().contains("16 threads for 8 of the 8 gradient leaves, so 8 are idle"));
        assert!(idle_threads(4, 8, 4).unwrap().contains("each of 4 workers has 4 threads for 2"));
    }
}
