//! A coordinator from its first to its last breath.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use artel_common::digest::Digest;
use artel_common::event::Event;
use artel_common::exit::{Exit, RunError};
use artel_common::records::Report;
use artel_common::spec::LoadedSpec;
use artel_common::store::{LONG_PATIENCE, Store};
use artel_common::{layout, memory};
use artel_proto::MAX_MESSAGE_BYTES;
use artel_proto::v1::coordinator_server::CoordinatorServer;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::TcpListenerStream;

use crate::core::{Core, Failure, Input};
use crate::event_loop::{Ending, EventLoop, Handle};
use crate::face::Face;
use crate::prepare::{MakeModel, Preparation, Ready, prepare};

/// How long answers may take to leave once the run is over.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// How a coordinator is started.
pub struct CoordinatorOptions {
    /// The spec and the folder that its paths are relative to.
    pub spec: LoadedSpec,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `artel run` stands above and counts as part of the run's memory.
    pub supervised: bool,
    /// Makes a folder that stands for the spec's base model.
    pub make_model: Option<MakeModel>,
}

/// Loopback, or a private network that the spec allows: nothing else until TLS and a token exist.
fn check_address(listen: SocketAddr, allow_insecure: bool) -> Result<(), RunError> {
    if listen.ip().is_loopback() || allow_insecure {
        return Ok(());
    }
    Err(RunError {
        exit: Exit::Usage,
        message: format!(
            "refusing to listen on {listen}: the protocol has neither TLS nor a token yet, so whoever reaches the port could steer the run; \
             listen on 127.0.0.1, or write allow_insecure = true under [workers] for a private network"
        ),
    })
}

/// Coordinates a run to its end. Events go to `events`; `stop` makes the run save its state and leave.
///
/// # Errors
/// Why the run did not come to its end, with the exit code of every process of it.
pub async fn serve(
    options: CoordinatorOptions,
    events: mpsc::Sender<Event>,
    stop: watch::Receiver<bool>,
) -> Result<Report, RunError> {
    let spec = options.spec.spec.clone();
    check_address(options.listen, spec.workers.allow_insecure)?;
    let store = Store::open(&spec.run.store)?;
    let patient = store.with_patience(LONG_PATIENCE);
    let listener = TcpListener::bind(options.listen).await.map_err(|e| RunError {
        exit: Exit::Usage,
        message: format!("cannot listen on {}: {e}; choose another address with --listen", options.listen),
    })?;
    let address = listener
        .local_addr()
        .map_err(|e| RunError { exit: Exit::Internal, message: format!("the listener has no address: {e}") })?;
    let _ = events.send(Event::Listening { url: format!("http://{address}") }).await;
    let mut own_processes = vec![std::process::id()];
    if options.supervised {
        own_processes.push(std::os::unix::process::parent_id());
    }
    let token: [u8; 32] = rand::random();
    let writer = format!("{}-{}", std::process::id(), Digest::of(&token).short());
    let folder = options.spec.folder.clone();
    let preparation =
        Arc::new(Preparation { spec: spec.clone(), folder, make_model: options.make_model, store: store.clone(), writer });
    let (event_loop, handle) =
        EventLoop::new(Core::new(spec.clone(), token), patient, preparation.clone(), events.clone(), own_processes);
    let spec_json = serde_json::to_string(&spec).map_err(|e| RunError { exit: Exit::Internal, message: e.to_string() })?;
    let face = Face { handle: handle.clone(), store_url: store.url().to_owned(), spec_json };
    let (closing, closed) = oneshot::channel::<()>();
    let server = tonic::transport::Server::builder()
        .add_service(
            CoordinatorServer::new(face)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        )
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
            let _ = closed.await;
        });
    let mut server = tokio::spawn(server);
    let preparing = tokio::spawn(run_preparation(preparation, handle.clone()));
    let stopping = tokio::spawn(watch_stop(stop, handle));
    let ending = event_loop.run().await;
    preparing.abort();
    stopping.abort();
    // the last answers are still on their way to the workers
    let _ = closing.send(());
    let _ = tokio::time::timeout(LAST_ANSWERS, &mut server).await;
    server.abort();
    conclude(ending, &store, &events).await
}

async fn run_preparation(preparation: Arc<Preparation>, handle: Handle) {
    let tell = |input| handle.tell_soon(input);
    let prepared = prepare(&preparation, &tell).await;
    // this process does little from now on, and workers of this machine want the memory
    memory::give_back();
    match prepared {
        Ok(Ready::Prepared(prepared, journal)) => handle.prepared(prepared, journal).await,
        Ok(Ready::Making(cuts, journal)) => handle.making(cuts, journal).await,
        Ok(Ready::Done(report)) => handle.already_done(report).await,
        Err(e) => {
            let failure = Failure { exit: e.kind().into(), message: e.to_string() };
            let _ = handle.tell(Input::Failed(failure)).await;
        }
    }
}

async fn watch_stop(mut stop: watch::Receiver<bool>, handle: Handle) {
    if stop.wait_for(|stop| *stop).await.is_ok() {
        let _ = handle.tell(Input::Leave { reason: "the coordinator was told to leave".to_owned() }).await;
    }
}

async fn conclude(ending: Ending, store: &Store, events: &mpsc::Sender<Event>) -> Result<Report, RunError> {
    let Ending { exit, message, report } = ending;
    match (exit, report) {
        (Exit::Done, Some(report)) => {
            let at = |key: &str| match store.folder() {
                Some(folder) => folder.join(key).display().to_string(),
                None => format!("{}/{key}", store.url()),
            };
            let _ = events.send(Event::Done { report: at(layout::REPORT), model: at(layout::EXPORT) }).await;
            Ok(report)
        }
        (exit, _) => {
            let _ = events.send(Event::Failed { message: message.clone(), exit_code: exit.code() }).await;
            Err(RunError { message, exit })
        }
    }
}
