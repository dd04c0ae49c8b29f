//! What a worker holds while it works, and how it performs each task.

use std::path::PathBuf;
use std::sync::Arc;

use artel_common::records::{DatasetManifest, ModelManifest, ObjectRef, Pair, SplitManifest};
use artel_common::spec::RunSpec;
use artel_common::store::Store;
use artel_common::{ErrorKind, memory, model_files, shard};
use artel_proto::convert;
use artel_proto::v1::complete_task_request::Result as Outcome;
use artel_proto::v1::{self, FailureKind, report_request::Report, task::Kind};
use artel_trainer::collective::TcpListenerHandle;
use artel_trainer::interrupt::Interrupt;
use artel_trainer::model::{ModelFolder, Prompt, Tokenizer};

use crate::join::World;
use crate::saver::Saver;
use crate::{evaluations, export, join, tokenise, training};

/// Why a task failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct TaskError {
    pub kind: FailureKind,
    pub message: String,
}

impl TaskError {
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Internal, message: message.into() }
    }

    /// A broken invariant, caught so that the coordinator hears of it.
    pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Self {
        let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Self::internal(format!(
            "a defect of artel: {}; please report it with the worker's log",
            said.unwrap_or("a panic without words")
        ))
    }
}

impl From<artel_common::Error> for TaskError {
    fn from(error: artel_common::Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Store | ErrorKind::Damaged | ErrorKind::Conflict | ErrorKind::Fenced => FailureKind::Store,
            ErrorKind::Data | ErrorKind::Spec => FailureKind::Data,
            ErrorKind::Model => FailureKind::Model,
            ErrorKind::Internal => FailureKind::Internal,
        };
        Self { kind, message: error.to_string() }
    }
}

impl From<artel_trainer::Error> for TaskError {
    fn from(error: artel_trainer::Error) -> Self {
        use artel_trainer::ErrorKind as Trainer;
        let kind = match error.kind() {
            Trainer::Left => FailureKind::Left,
            Trainer::Input => FailureKind::Model,
            Trainer::Io => FailureKind::Store,
            Trainer::Collective => FailureKind::Collective,
            Trainer::NotFinite => FailureKind::NotFinite,
            Trainer::Internal => FailureKind::Internal,
        };
        Self { kind, message: error.to_string() }
    }
}

/// `Result` of a task.
pub(crate) type TaskResult<T> = Result<T, TaskError>;

/// Where a task says how it goes on.
pub(crate) type Reporter = Arc<dyn Fn(Report) + Send + Sync>;

/// What a worker computes with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compute {
    /// Threads; the spec's, or the machine's cores shared out, where nothing is said.
    pub threads: Option<usize>,
    /// Which GPU, where the run is on GPUs.
    pub gpu: usize,
}

/// Model, data and peers of a worker.
pub(crate) struct Session {
    pub compute: Compute,
    /// Cores that the process had when it began, before it bound itself.
    cores: usize,
    pub spec: RunSpec,
    pub store: Store,
    pub listener: TcpListenerHandle,
    runtime: tokio::runtime::Handle,
    /// What asks the work to end early.
    pub interrupt: Arc<Interrupt>,
    pub saver: Saver,
    inputs: Option<Inputs>,
    /// Where the base model's files lie for as long as the process lives.
    scratch: Option<tempfile::TempDir>,
    folder: Option<Arc<ModelFolder>>,
    tokenizer: Option<Arc<Tokenizer>>,
    dataset: Option<Arc<DatasetManifest>>,
    world: Option<World>,
}

/// What the run is made of, in the store.
#[derive(Debug, Clone)]
pub(crate) struct Inputs {
    pub dataset: ObjectRef,
    pub model: ObjectRef,
    pub plans: Vec<ObjectRef>,
    pub tokens: Option<ObjectRef>,
}

impl Inputs {
    fn new(message: Option<v1::Inputs>) -> TaskResult<Self> {
        let v1::Inputs { dataset, model, plans, tokens } = message.unwrap_or_default();
        let object = |message| convert::object(message).map_err(|e| TaskError::internal(format!("a task's inputs: {e}")));
        Ok(Self {
            dataset: object(dataset)?,
            model: object(model)?,
            plans: plans.into_iter().map(|plan| object(Some(plan))).collect::<TaskResult<_>>()?,
            tokens: tokens.map(|tokens| object(Some(tokens))).transpose()?,
        })
    }
}

impl Session {
    pub(crate) fn new(
        compute: Compute,
        spec: RunSpec,
        listener: TcpListenerHandle,
        interrupt: Arc<Interrupt>,
        saver: Saver,
        store: Store,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self {
            compute,
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            spec,
            store,
            listener,
            runtime,
            interrupt,
            saver,
            inputs: None,
            scratch: None,
            folder: None,
            tokenizer: None,
            dataset: None,
            world: None,
        }
    }

    /// Performs one task to its end.
    pub(crate) fn perform(&mut self, task: v1::Task, report: &Reporter) -> TaskResult<Outcome> {
        match task.kind.ok_or_else(|| TaskError::internal("a task of a kind that this version does not know"))? {
            Kind::Tokenise(shard) => {
                self.inputs = Some(Inputs::new(shard.inputs.clone())?);
                tokenise::tokenise(self, &shard).map(Outcome::Tokenised)
            }
            Kind::JoinWorld(join) => {
                self.inputs = Some(Inputs::new(join.inputs.clone())?);
                self.world = None;
                let (world, joined) = join::join(self, &join, report)?;
                self.world = Some(world);
                Ok(Outcome::Joined(joined))
            }
            Kind::Evaluate(_) => {
                let evaluated = training::evaluate(self.world()?, report)?;
                evaluations::put_csv(self)?;
                self.saver.check()?;
                Ok(Outcome::Evaluated(evaluated))
            }
            Kind::Train(train) => {
                let trained = training::train(self, &train, report)?;
                evaluations::put_steps(self)?;
                Ok(Outcome::Trained(trained))
            }
            Kind::Save(save) => training::save(self, save.step, report).map(|()| Outcome::Saved(v1::Saved {})),
            Kind::Export(task) => {
                // what is in flight must be whole before the run can be done
                self.saver.settle()?;
                export::export(self, &task).map(Outcome::Exported)
            }
            Kind::Stop(_) => Err(TaskError::internal("a stop is not a task")),
            Kind::Read(_) | Kind::Ask(_) | Kind::Embed(_) | Kind::Search(_) => {
                Err(TaskError::internal("a leased piece is not the session's"))
            }
        }
    }

    /// What the run is made of.
    pub(crate) fn inputs(&self) -> TaskResult<&Inputs> {
        self.inputs.as_ref().ok_or_else(|| TaskError::internal("this worker was not told what the run is made of"))
    }

    /// World and saver, each for itself.
    pub(crate) fn world_and_saver(&mut self) -> TaskResult<(&mut World, &mut Saver)> {
        let world = self.world.as_mut().ok_or_else(|| TaskError::internal("this worker is not a rank of a world yet"))?;
        Ok((world, &mut self.saver))
    }

    /// The world that this worker is a rank of.
    pub(crate) fn world(&mut self) -> TaskResult<&mut World> {
        self.world.as_mut().ok_or_else(|| TaskError::internal("this worker is not a rank of a world yet"))
    }

    /// Waits for the store from the session's own thread.
    pub(crate) fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// The data set's manifest.
    pub(crate) fn dataset(&mut self) -> TaskResult<Arc<DatasetManifest>> {
        if let Some(dataset) = &self.dataset {
            return Ok(dataset.clone());
        }
        let dataset: Arc<DatasetManifest> = Arc::new(self.wait(self.store.get_json_verified(&self.inputs()?.dataset))?);
        self.dataset = Some(dataset.clone());
        Ok(dataset)
    }

    /// A side of the split, by its name in tasks.
    pub(crate) fn split(&mut self, name: &str) -> TaskResult<SplitManifest> {
        let dataset = self.dataset()?;
        match name {
            "train" => Ok(dataset.train.clone()),
            "test" => Ok(dataset.test.clone()),
            other => Err(TaskError::internal(format!("there is no split {other:?}"))),
        }
    }

    /// The rows of a shard.
    pub(crate) fn rows(&self, split: &SplitManifest, index: usize) -> TaskResult<Vec<Pair>> {
        let shard = split.shards.get(index).ok_or_else(|| TaskError::internal(format!("there is no shard {index}")))?;
        let bytes = self.wait(self.store.get_verified(&shard.object))?;
        Ok(shard::decode_shard(bytes)?)
    }

    /// The base model's manifest.
    pub(crate) fn model(&self) -> TaskResult<ModelManifest> {
        Ok(self.wait(self.store.get_json_verified(&self.inputs()?.model))?)
    }

    /// The base model's folder, fetched once and checked.
    pub(crate) fn folder(&mut self) -> TaskResult<Arc<ModelFolder>> {
        if let Some(folder) = &self.folder {
            return Ok(folder.clone());
        }
        let manifest = self.model()?;
        let scratch = tempfile::tempdir()
            .map_err(|e| TaskError { kind: FailureKind::Store, message: format!("no temporary folder: {e}") })?;
        let path: PathBuf = scratch.path().join("base");
        self.wait(model_files::fetch_model(&manifest, &self.store, &path))?;
        let folder = Arc::new(ModelFolder::open(&path).map_err(|e| {
            // the temporary path says nothing to a person
            let message = e.to_string().replace(&path.display().to_string(), &manifest.source);
            TaskError { kind: FailureKind::Model, message }
        })?);
        self.scratch = Some(scratch);
        self.folder = Some(folder.clone());
        Ok(folder)
    }

    /// The model's tokenizer at the run's length.
    pub(crate) fn tokenizer(&mut self) -> TaskResult<Arc<Tokenizer>> {
        if let Some(tokenizer) = &self.tokenizer {
            return Ok(tokenizer.clone());
        }
        let folder = self.folder()?;
        let length = self.spec.model.max_seq_length.unwrap_or(folder.max_seq_length);
        let tokenizer = Arc::new(folder.tokenizer(length)?);
        self.tokenizer = Some(tokenizer.clone());
        Ok(tokenizer)
    }

    /// Forgets the tokenizer, which is read again where it is wanted, and gives back what stages before have freed: training wants the memory.
    pub(crate) fn make_room(&mut self) {
        self.tokenizer = None;
        memory::give_back();
    }

    /// What is put before anchors and before passages: the spec's prompts, else the model's own.
    pub(crate) fn prompts(&mut self) -> TaskResult<(Prompt, Prompt)> {
        let (folder, tokenizer) = (self.folder()?, self.tokenizer()?);
        let model = &self.spec.model;
        let query = model.query_prompt.as_deref().unwrap_or_else(|| folder.prompts.query());
        let passage = model.passage_prompt.as_deref().unwrap_or_else(|| folder.prompts.passage());
        Ok((tokenizer.prompt(query)?, tokenizer.prompt(passage)?))
    }

    /// Threads of this worker beside others on its machine.
    pub(crate) fn num_threads(&self, local_workers: usize) -> usize {
        self.compute.threads.or(self.spec.workers.threads).unwrap_or((self.cores / local_workers.max(1)).max(1))
    }
}
