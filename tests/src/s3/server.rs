//! The server: its thread, its folder, its connections.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::exclusive::Exclusive;
use super::faults::Faults;
use super::layer::{Layer, Seen};

const BUCKET: &str = "artel";
const ACCESS_KEY: &str = "artel-test-key";
const SECRET_KEY: &str = "artel-test-secret";
const REGION: &str = "us-east-1";
/// How long a server that stops waits for its file work.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// An S3 server with one bucket, `artel`, on a thread of its own; dropping it stops it.
pub struct S3Server {
    address: SocketAddr,
    folder: PathBuf,
    layer: Arc<Layer>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    temporary: Option<TempDir>,
}

impl S3Server {
    /// Starts one on a free port over a temporary folder; panics where it cannot.
    pub fn start() -> Self {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let mut server = Self::start_in(temporary.path(), None);
        server.temporary = Some(temporary);
        server
    }

    /// Starts one over a folder that stays, on this port or a free one; panics where it cannot.
    pub fn start_in(folder: &Path, port: Option<u16>) -> Self {
        let bucket = folder.join(BUCKET);
        std::fs::create_dir_all(&bucket).unwrap_or_else(|e| panic!("{}: cannot be made: {e}", bucket.display()));
        let root = folder.canonicalize().expect("the folder was just made");
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port.unwrap_or(0)))
            .unwrap_or_else(|e| panic!("port {port:?}: cannot listen: {e}"));
        listener.set_nonblocking(true).expect("a listener can be asked not to block");
        let address = listener.local_addr().expect("a bound listener has an address");
        let mut service = S3ServiceBuilder::new(Exclusive::new(&root));
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let layer = Arc::new(Layer::new(service.build(), BUCKET));
        let (stop, stopped) = oneshot::channel();
        let serve = {
            let layer = layer.clone();
            move || run(listener, layer, stopped)
        };
        let thread = std::thread::Builder::new().name("s3-for-tests".to_owned()).spawn(serve).expect("a thread can be started");
        Self { address, folder: root.join(BUCKET), layer, stop: Some(stop), thread: Some(thread), temporary: None }
    }

    /// The URL of a prefix of the bucket.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// Where it listens: what `AWS_ENDPOINT` says.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port it listens on, so that another can be started in its place.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The variables with which a client finds it and may use it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let endpoint = self.endpoint();
        let variables = [
            ("AWS_ENDPOINT", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_REGION", REGION),
            ("AWS_ALLOW_HTTP", "true"),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    /// Where the bucket's objects lie as plain files, each at its key.
    pub fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// What goes wrong on it.
    pub fn faults(&self) -> &Faults {
        &self.layer.faults
    }

    /// The requests that ended so far, in the order in which they ended.
    pub fn requests(&self) -> Vec<Seen> {
        self.layer.seen().clone()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.layer.seen().clear();
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // the thread may be gone already, by a panic that it has reported
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
        drop(self.temporary.take());
    }
}

/// Serves until it is told to stop.
fn run(listener: std::net::TcpListener, layer: Arc<Layer>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("s3-for-tests")
        .enable_all()
        .build()
        .expect("a runtime can be built");
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).expect("the listener does not block");
        tokio::select! {
            _ = stopped => {}
            () = accept(&listener, &layer) => {}
        }
    });
    runtime.shutdown_timeout(STOP_TIMEOUT);
}

async fn accept(listener: &TcpListener, layer: &Arc<Layer>) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => drop(tokio::spawn(serve(socket, layer.clone()))),
            // too many open files, or a client that left early: neither is the end
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Serves a connection until its client ends it or a fault cuts it.
async fn serve(socket: TcpStream, layer: Arc<Layer>) {
    // small answers go out at once; where that cannot be had they go out later
    let _ = socket.set_nodelay(true);
    let mut down = layer.faults.watch_down();
    let service = service_fn(move |request| Box::pin(layer.clone().answer(request)));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
    let cut = tokio::select! {
        biased;
        _ = down.wait_for(|down| *down) => true,
        end = poll_fn(|cx| connection.poll_without_shutdown(cx)) => end.is_err(),
    };
    let mut socket = connection.into_parts().io.into_inner();
    // the client may be gone: then there is nothing to end
    let _ = if cut { socket.set_zero_linger() } else { socket.shutdown().await };
}
