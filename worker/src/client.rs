//! A worker's life: it registers, says that it lives, takes tasks, and ends when the run does.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use artel_common::exit::{Exit, RunError};
use artel_common::spec::RunSpec;
use artel_common::store::{LONG_PATIENCE, Store};
use artel_common::{clock, memory};
use artel_proto::v1::coordinator_client::CoordinatorClient;
use artel_proto::{MAX_MESSAGE_BYTES, PROTOCOL, v1};
use artel_trainer::collective::TcpCollective;
use artel_trainer::gpu;
use artel_trainer::interrupt::Interrupt;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::transport::{Channel, Endpoint};

use crate::making::Maker;
use crate::saver::Saver;
use crate::session::{Compute, Session, TaskError};

/// How long a worker looks for its coordinator before it gives up: it may have been started first.
const CONNECT_DEADLINE: Duration = Duration::from_secs(120);
/// After how long it says that it waits.
const SAY_WAITING: Duration = Duration::from_secs(3);
/// How often it tries.
const CONNECT_RETRY: Duration = Duration::from_millis(200);
/// Time one call may take beyond the wait that it asks for.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the step at hand may take once the run leaves, before it is given up.
const STEP_MAY_TAKE: Duration = Duration::from_secs(4);
/// How long a worker that was told to go waits for the run to end in order.
const LEAVE_DEADLINE: Duration = Duration::from_secs(19);
/// How long the session has to give back what it holds, at the end of a run: longer than NCCL has to leave a world.
const PART_DEADLINE: Duration = Duration::from_secs(25);
/// Reports that may wait to be sent.
const QUEUE: usize = 256;

/// How a worker is started.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// `http://ADDR` of the coordinator.
    pub coordinator: String,
    /// Threads; the spec's, or the machine's cores shared out, where nothing is said.
    pub threads: Option<usize>,
    /// Where other ranks reach this one.
    pub bind: IpAddr,
    /// Which GPU computes, where the run is on GPUs.
    pub gpu: usize,
    /// For messages.
    pub name: Option<String>,
    /// `artel run` stands above.
    pub supervised: bool,
    /// Bind another address than loopback without TLS (a private network).
    pub allow_insecure: bool,
}

/// The coordinator as a worker reaches it.
pub(crate) type Client = CoordinatorClient<Channel>;

/// What leaves the worker, in order.
enum Outbound {
    Report(u64, v1::report_request::Report),
    Complete(u64, v1::complete_task_request::Result),
    Fail(u64, TaskError),
}

/// Works for a coordinator until the run is over.
///
/// # Errors
/// The run failed, the coordinator was lost, or this worker does not fit the run; with the process's exit code.
pub async fn run(options: WorkerOptions, mut stop: watch::Receiver<bool>) -> Result<(), RunError> {
    if !(options.bind.is_loopback() || options.allow_insecure) {
        return Err(RunError::new(
            Exit::Usage,
            format!(
                "refusing to listen on {}: exchanges between ranks have no TLS yet; use 127.0.0.1, or --allow-insecure on a private network",
                options.bind
            ),
        ));
    }
    let departure = Arc::new(Departure::default());
    tokio::select! {
        ended = work(options, departure.clone()) => ended,
        () = depart(&mut stop, &departure) => Err(RunError::new(Exit::Preempted, "the worker was told to leave")),
    }
}

/// How this worker leaves: told itself, or by the coordinator.
#[derive(Debug, Default)]
struct Departure {
    /// This process was told to go.
    told: AtomicBool,
    /// It is known to a coordinator, which is to end the run in order.
    registered: AtomicBool,
    interrupt: Arc<Interrupt>,
    deadline: AtomicBool,
}

impl Departure {
    /// The step at hand is the last one; it is given up where it takes long.
    fn begin(self: &Arc<Self>) {
        self.interrupt.leave();
        if !self.deadline.swap(true, Ordering::Relaxed) {
            let departure = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(STEP_MAY_TAKE).await;
                departure.interrupt.give_up();
            });
        }
    }
}

/// Ends once this process was told to go and the run had its time to end in order.
async fn depart(stop: &mut watch::Receiver<bool>, departure: &Arc<Departure>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        return std::future::pending().await;
    }
    departure.told.store(true, Ordering::Relaxed);
    if departure.registered.load(Ordering::Relaxed) {
        departure.begin();
        tokio::time::sleep(LEAVE_DEADLINE).await;
    }
}

/// Vectors of more than so many bytes are the system's again as soon as they are freed. What the matrix products take and
/// give back at every call is smaller.
const LARGE_BYTES: libc::c_int = 4 << 20;
/// Free bytes at the end of a heap that are kept.
const KEPT_BYTES: libc::c_int = 8 << 20;

/// Without this glibc keeps freed vectors of up to 32 MiB in its heap, and the run's peak is that of all stages together;
/// or, told only that, it gives back and asks again for the memory of every matrix product.
fn set_up_allocator() {
    // SAFETY: mallopt only sets numbers of the allocator, which every thread reads under its lock
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    };
}

async fn work(options: WorkerOptions, departure: Arc<Departure>) -> Result<(), RunError> {
    set_up_allocator();
    let listener = TcpCollective::listen(options.bind)
        .map_err(|e| RunError::new(Exit::Usage, format!("cannot listen on {} for the other ranks: {e}", options.bind)))?;
    let mut client = connect(&options.coordinator, options.allow_insecure).await?;
    let registered = register(&mut client, &options, &listener.address().to_string()).await?;
    let spec: RunSpec = serde_json::from_str(&registered.spec_json).map_err(|e| {
        RunError::new(Exit::Refused, format!("the coordinator's spec is not readable: {e}; run the same version everywhere"))
    })?;
    let store = Store::open(&registered.store_url)?.with_patience(LONG_PATIENCE);
    departure.registered.store(true, Ordering::Relaxed);
    let (end, mut ended) = watch::channel(None);
    let lease = Duration::from_millis(registered.lease_ms.into());
    let beat = Duration::from_millis(registered.heartbeat_ms.into());
    tokio::spawn(heartbeats(client.clone(), registered.worker_id.clone(), [beat, lease], departure.clone(), end.clone()));
    let (outbound, queue) = mpsc::channel(QUEUE);
    tokio::spawn(send_outbound(client.clone(), registered.worker_id.clone(), queue));
    let runtime = tokio::runtime::Handle::current();
    let saver = Saver::new(client.clone(), registered.worker_id.clone(), store.clone(), runtime.clone());
    let compute = Compute { threads: options.threads, gpu: options.gpu };
    let threads = making_threads(options.threads, &spec);
    let (id, interrupt) = (registered.worker_id.clone(), departure.interrupt.clone());
    let maker = Maker::new(client.clone(), id, spec.clone(), store.clone(), interrupt, (threads, compute));
    let session = Session::new(compute, spec, listener, departure.interrupt.clone(), saver, store, runtime);
    let (session, session_ended) = start_session(session, outbound);
    let tasks = take_tasks(client, registered.worker_id.clone(), maker, session, end);
    let tasks = tokio::spawn(tasks);
    let reason = ended.wait_for(Option::is_some).await.map(|end| end.clone());
    tasks.abort();
    match reason {
        Ok(Some((Exit::Done, _))) => {
            // GPUs leave their world in order: what a process's end takes from under NCCL's threads ends them with a fault
            let _ = tokio::time::timeout(PART_DEADLINE, session_ended).await;
            Ok(())
        }
        Ok(Some((exit, message))) => Err(RunError::new(exit, message)),
        _ => Err(RunError::new(Exit::Internal, "the worker's tasks ended early")),
    }
}

/// Whether a host is this machine.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
}

/// Refuses what is no coordinator's address, and one that cannot be reached as safely as it says.
fn check_url(endpoint: &Endpoint, url: &str, allow_insecure: bool) -> Result<(), RunError> {
    let why = match (endpoint.uri().scheme_str(), endpoint.uri().host()) {
        (Some("https"), _) => {
            format!("{url}: there is no TLS between coordinator and workers yet; write http://, on a private network")
        }
        (Some("http"), Some(host)) if allow_insecure || is_loopback(host) => return Ok(()),
        (Some("http"), Some(host)) => format!(
            "refusing to reach {host}: there is no TLS between coordinator and workers yet; give --allow-insecure on a private network"
        ),
        _ => format!("{url:?} is not a coordinator's URL; write http://ADDRESS:PORT"),
    };
    Err(RunError::new(Exit::Usage, why))
}

async fn connect(url: &str, allow_insecure: bool) -> Result<Client, RunError> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|e| RunError::new(Exit::Usage, format!("{url:?} is not a coordinator's URL ({e}); write http://ADDRESS:PORT")))?
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true);
    check_url(&endpoint, url, allow_insecure)?;
    let (begun, mut said) = (clock::now(), false);
    loop {
        if !said && clock::now() - begun > SAY_WAITING {
            said = true;
            tracing::warn!("no coordinator answers at {url} yet; looking for it for up to {} s", CONNECT_DEADLINE.as_secs());
        }
        match endpoint.connect().await {
            Ok(channel) => {
                return Ok(CoordinatorClient::new(channel)
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_MESSAGE_BYTES));
            }
            Err(e) if clock::now() - begun > CONNECT_DEADLINE => {
                return Err(RunError::new(
                    Exit::CoordinatorLost,
                    format!(
                        "no coordinator answered at {url} within {} s: {e}; start it, or mend --coordinator",
                        CONNECT_DEADLINE.as_secs()
                    ),
                ));
            }
            Err(_) => tokio::time::sleep(CONNECT_RETRY).await,
        }
    }
}

async fn register(
    client: &mut Client,
    options: &WorkerOptions,
    collective_address: &str,
) -> Result<v1::RegisterResponse, RunError> {
    let request = v1::RegisterRequest {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel_path: artel_trainer::kernels::kernel_path().to_owned(),
        host: host_name(),
        pid: std::process::id(),
        collective_address: collective_address.to_owned(),
        incarnation: rand::random(),
        name: options.name.clone().unwrap_or_default(),
        num_gpus: gpu::count() as u32,
    };
    let answer = client.register(timed(request, CALL_TIMEOUT)).await;
    answer.map(tonic::Response::into_inner).map_err(|status| match status.code() {
        tonic::Code::FailedPrecondition | tonic::Code::InvalidArgument => {
            RunError::new(Exit::Refused, format!("the coordinator refused this worker: {}", status.message()))
        }
        _ => RunError::new(
            Exit::CoordinatorLost,
            format!("the coordinator at {} did not answer: {}", options.coordinator, status.message()),
        ),
    })
}

/// A call with a deadline.
pub(crate) fn timed<T>(message: T, timeout: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(timeout);
    request
}

/// Documents that a worker reads at once: its threads, or its share of the machine's cores.
fn making_threads(threads: Option<usize>, spec: &RunSpec) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    threads.or(spec.workers.threads).unwrap_or((cores / spec.workers.count.max(1)).max(1))
}

fn host_name() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let boot = read("/proc/sys/kernel/random/boot_id");
    format!("{}/{}", read("/proc/sys/kernel/hostname"), boot.get(..8).unwrap_or_default())
}

/// Says that the worker lives; ends the worker when the run is over or the coordinator is silent for a lease.
async fn heartbeats(
    mut client: Client,
    worker_id: String,
    [beat, lease]: [Duration; 2],
    departure: Arc<Departure>,
    end: watch::Sender<Option<(Exit, String)>>,
) {
    let (mut answered, mut gauge) = (clock::now(), memory::Gauge::default());
    loop {
        let pss_bytes = gauge.read().unwrap_or(0);
        let leaving = departure.told.load(Ordering::Relaxed);
        let request = v1::HeartbeatRequest { worker_id: worker_id.clone(), pss_bytes, leaving };
        match client.heartbeat(timed(request, lease)).await.map(tonic::Response::into_inner) {
            Ok(v1::HeartbeatResponse { stop: Some(stop), .. }) => return finish(&end, &stop),
            Ok(v1::HeartbeatResponse { leave, .. }) => {
                answered = clock::now();
                if leave {
                    departure.begin();
                }
            }
            Err(status) if status.code() == tonic::Code::FailedPrecondition => {
                let _ = end.send(Some((Exit::Refused, format!("fenced: {}", status.message()))));
                return;
            }
            Err(status) if clock::now() - answered > lease => {
                let message = format!(
                    "the coordinator was lost: no answer for {} s ({}); what this worker held is in the store or can be computed again",
                    lease.as_secs(),
                    status.message()
                );
                let _ = end.send(Some((Exit::CoordinatorLost, message)));
                return;
            }
            Err(_) => {}
        }
        tokio::time::sleep(beat).await;
    }
}

fn finish(end: &watch::Sender<Option<(Exit, String)>>, stop: &v1::Stop) {
    let exit = u8::try_from(stop.exit_code).ok().and_then(Exit::from_code).unwrap_or(Exit::Internal);
    let _ = end.send(Some((exit, stop.reason.clone())));
}

/// A task and where its end is told.
type Work = (v1::Task, oneshot::Sender<()>);

/// Starts the thread that owns the session, where model, state and peers live: where it takes its tasks from, and what tells that it has ended and holds nothing
/// any more.
fn start_session(
    mut session: Session,
    outbound: mpsc::Sender<Outbound>,
) -> (std::sync::mpsc::Sender<Work>, oneshot::Receiver<()>) {
    let (sender, work) = std::sync::mpsc::channel::<Work>();
    let (end, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name("artel-session".into())
        .spawn(move || {
            while let Ok((task, done)) = work.recv() {
                let task_id = task.task_id;
                let reports = outbound.clone();
                let report: crate::session::Reporter = Arc::new(move |report| {
                    let _ = reports.blocking_send(Outbound::Report(task_id, report));
                });
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| session.perform(task, &report)))
                    .unwrap_or_else(|panic| Err(TaskError::panicked(&*panic)));
                let message = match result {
                    Ok(outcome) => Outbound::Complete(task_id, outcome),
                    Err(error) => Outbound::Fail(task_id, error),
                };
                let _ = outbound.blocking_send(message);
                let _ = done.send(());
            }
            drop(session);
            let _ = end.send(());
        })
        .expect("a thread can be started at a process's beginning");
    (sender, ended)
}

async fn take_tasks(
    mut client: Client,
    worker_id: String,
    maker: Arc<Maker>,
    session: std::sync::mpsc::Sender<Work>,
    end: watch::Sender<Option<(Exit, String)>>,
) {
    let mut last = 0;
    loop {
        let request = v1::NextTaskRequest { worker_id: worker_id.clone(), holding: maker.holding() };
        let task = match client.next_task(timed(request, CALL_TIMEOUT)).await {
            Ok(answer) => answer.into_inner().task,
            Err(_) => {
                // heartbeats decide when the coordinator is lost
                tokio::time::sleep(CONNECT_RETRY).await;
                continue;
            }
        };
        let Some(task) = task else { continue };
        if let Some(v1::task::Kind::Stop(stop)) = &task.kind {
            return finish(&end, stop);
        }
        if maker.take(&task) {
            continue;
        }
        if task.task_id == last {
            // its completion is still on the way
            tokio::time::sleep(CONNECT_RETRY / 10).await;
            continue;
        }
        last = task.task_id;
        maker.forget().await;
        let (done, finished) = oneshot::channel();
        if session.send((task, done)).is_err() || finished.await.is_err() {
            let _ = end.send(Some((Exit::Internal, "the worker's session thread ended: see its log".into())));
            return;
        }
    }
}

/// Sends what the session has to say, in order; a call that fails is tried again until the heartbeats give up.
async fn send_outbound(mut client: Client, worker_id: String, mut queue: mpsc::Receiver<Outbound>) {
    while let Some(message) = queue.recv().await {
        loop {
            let sent = match &message {
                Outbound::Report(task_id, report) => {
                    let request =
                        v1::ReportRequest { worker_id: worker_id.clone(), task_id: *task_id, report: Some(report.clone()) };
                    client.report(timed(request, CALL_TIMEOUT)).await.map(|_| ())
                }
                Outbound::Complete(task_id, result) => {
                    let request =
                        v1::CompleteTaskRequest { worker_id: worker_id.clone(), task_id: *task_id, result: Some(result.clone()) };
                    client.complete_task(timed(request, CALL_TIMEOUT)).await.map(|_| ())
                }
                Outbound::Fail(task_id, error) => {
                    let request = v1::FailTaskRequest {
                        worker_id: worker_id.clone(),
                        task_id: *task_id,
                        kind: error.kind.into(),
                        message: error.message.clone(),
                    };
                    client.fail_task(timed(request, CALL_TIMEOUT)).await.map(|_| ())
                }
            };
            match sent {
                Ok(()) => break,
                Err(status) if status.code() == tonic::Code::InvalidArgument => break,
                Err(_) => tokio::time::sleep(CONNECT_RETRY).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what names no coordinator, or one that cannot be reached as safely as the address or the flags say, is refused with what to do. Method: addresses, good and bad.
    #[test]
    fn addresses() {
        let check = |url: &str, allow: bool| check_url(&Endpoint::from_shared(url.to_owned()).unwrap(), url, allow);
        for good in ["http://127.0.0.1:7071", "http://localhost:1", "http://[::1]:7071", "http://127.9.9.9:1"] {
            check(good, false).unwrap();
        }
        check("http://10.0.0.1:7071", true).unwrap();
        for (url, allow, said) in [
            ("https://127.0.0.1:7071", true, "no TLS"),
            ("http://10.0.0.1:7071", false, "refusing to reach 10.0.0.1"),
            ("http://coordinator:7071", false, "--allow-insecure"),
            ("ftp://127.0.0.1", true, "write http://ADDRESS:PORT"),
            ("/nowhere", true, "write http://ADDRESS:PORT"),
        ] {
            let refusal = check(url, allow).unwrap_err();
            assert!(refusal.exit == Exit::Usage && refusal.message.contains(said), "{url}: {refusal:?}");
        }
    }
}
