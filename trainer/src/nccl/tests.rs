//! Communicators over a stub with NCCL's interface: each thing that can go wrong ends in an error inside its deadline.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::{Error, Result};

/// What the stub's functions can be ordered to do, and which they are, as it numbers them.
const FAIL: i32 = 1;
const LATE: i32 = 2;
const HANG: i32 = 3;
const STAY_IN_PROGRESS: i32 = 4;
const HANG_UNTIL_ABORT: i32 = 5;
const INIT: i32 = 0;
const ALL_REDUCE: i32 = 1;
const ABORT: i32 = 3;
const ASYNC: i32 = 4;
const DESTROY: i32 = 5;
const UNIQUE_ID: i32 = 6;

/// A copy of the stub of this test's own, so that orders are too.
struct Stub {
    _folder: tempfile::TempDir,
    file: PathBuf,
    orders: libloading::Library,
    given_up: Arc<Mutex<Vec<String>>>,
}

/// Short ones: what is to be shown is that they hold.
const DEADLINES: Deadlines =
    Deadlines { init: Duration::from_millis(1_500), operation: Duration::from_millis(1_500), abort: Duration::from_millis(500) };
/// What a loaded machine may add to all of them together.
const SLACK: Duration = Duration::from_secs(10);

impl Stub {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libnccl-stub.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/nccl/stub.c");
        let run =
            Command::new("cc").args(["-shared", "-fPIC", "-Wall", "-Werror", source, "-lpthread", "-o"]).arg(&file).output();
        let run = run.expect("a C compiler (cc) is needed for this test");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        // SAFETY: the stub's initialisers do nothing.
        let orders = unsafe { libloading::Library::new(&file) }.unwrap();
        Self { _folder: folder, file, orders, given_up: Arc::default() }
    }

    fn library(&self) -> Result<Arc<Library>> {
        Library::load_file(self.file.to_str().unwrap())
    }

    fn order(&self, function: i32, does: i32, code: i32, milliseconds: i32) {
        // SAFETY: the stub's own type.
        unsafe {
            let order: libloading::Symbol<'_, unsafe extern "C" fn(i32, i32, i32, i32)> = self.orders.get(b"stub_order").unwrap();
            order(function, does, code, milliseconds);
        }
    }

    fn set(&self, name: &str, value: i32) {
        // SAFETY: the stub's own type.
        unsafe { self.orders.get::<unsafe extern "C" fn(i32)>(name.as_bytes()).unwrap()(value) }
    }

    fn asked(&self, name: &str) -> bool {
        // SAFETY: the stub's own type.
        unsafe { self.orders.get::<unsafe extern "C" fn() -> i32>(name.as_bytes()).unwrap()() == 1 }
    }

    fn init(&self) -> Result<Comm> {
        let library = self.library()?;
        let (id, seat) = (library.unique_id()?, Seat { rank: 1, world_size: 4 });
        let given_up = self.given_up.clone();
        let give_up = Arc::new(move |why: &str| given_up.lock().unwrap().push(why.to_owned()));
        Comm::init(&library, id, seat, DEADLINES, Arc::new(|| Ok(())), give_up)
    }

    fn given_up(&self) -> Vec<String> {
        self.given_up.lock().unwrap().clone()
    }
}

fn reduce(comm: &Comm) -> Result<()> {
    let values = [1.0f32; 8];
    // SAFETY: the stub reads and writes nothing but the values.
    unsafe { comm.all_reduce(values.as_ptr() as u64, values.len(), Element::F32, std::ptr::null_mut()) }
}

/// The error's text; it must come before all deadlines together, and slack.
fn error_of<T: std::fmt::Debug>(begun: Instant, outcome: Result<T>) -> String {
    assert!(begun.elapsed() < DEADLINES.init + DEADLINES.operation + 3 * DEADLINES.abort + SLACK, "{:?}", begun.elapsed());
    match outcome.unwrap_err() {
        Error::Collective(message) => message,
        other => panic!("another kind of error: {other:?}"),
    }
}

/// Goal: what goes well goes well, also where it takes its time. Method: every operation, with calls in progress and late ones.
#[test]
fn operations_come_through() {
    let stub = Stub::new();
    stub.order(INIT, STAY_IN_PROGRESS, 0, 5);
    stub.order(ALL_REDUCE, LATE, 0, 50);
    let comm = stub.init().unwrap();
    assert_eq!(comm.seat(), Seat { rank: 1, world_size: 4 });
    reduce(&comm).unwrap();
    stub.order(ALL_REDUCE, STAY_IN_PROGRESS, 0, 3);
    reduce(&comm).unwrap();
    let (from, mut to) = ([1.5f32, 2.5], [0.0f32; 8]);
    // SAFETY: as above.
    unsafe { comm.all_gather(from.as_ptr() as u64, to.as_mut_ptr() as u64, 2, Element::F32, std::ptr::null_mut()).unwrap() };
    assert_eq!(to[..2], from);
    let looks = AtomicUsize::new(0);
    comm.wait(|| Ok(looks.fetch_add(1, Ordering::SeqCst) > 3)).unwrap();
    drop(comm);
    assert!(stub.asked("stub_destroyed") && !stub.asked("stub_aborted") && stub.given_up().is_empty());
}

/// Goal: a world that does not come together is an error that says so, in time. Method: an init that fails, that hangs, that stays in
/// progress, and one whose abort hangs too: then the process is given up.
#[test]
fn init_has_a_deadline() {
    for (does, code, expected) in [
        (FAIL, 2, "NCCL init on rank 1 of 4: unhandled system error (ncclResult 2, last error: stub: ordered to fail with 2)"),
        (HANG, 0, "not all ranks found one another"),
        (STAY_IN_PROGRESS, 0, "a rank is missing, hangs, or cannot be reached"),
    ] {
        let stub = Stub::new();
        stub.order(INIT, does, code, 0);
        let message = error_of(Instant::now(), stub.init());
        assert!(message.contains(expected), "{message}");
        assert!(stub.given_up().is_empty());
        assert_eq!(stub.asked("stub_aborted"), does == STAY_IN_PROGRESS);
    }
    let stub = Stub::new();
    stub.order(INIT, STAY_IN_PROGRESS, 0, 0);
    stub.order(ABORT, HANG, 0, 0);
    error_of(Instant::now(), stub.init());
    assert!(stub.given_up()[0].contains("and so does its abort"), "{:?}", stub.given_up());
}

/// Goal: a failing or hanging operation ends the communicator, in time and with its reason, and nothing is tried after it. Method: each way to
/// fail; then one operation more.
#[test]
fn operations_have_a_deadline() {
    for (does, code, expected) in [
        (FAIL, 6, "NCCL all-reduce on rank 1 of 4: remote process exited"),
        (STAY_IN_PROGRESS, 0, "it stayed in progress"),
        (HANG_UNTIL_ABORT, 0, "the call itself hung and was aborted"),
    ] {
        let stub = Stub::new();
        let comm = stub.init().unwrap();
        stub.order(ALL_REDUCE, does, code, 0);
        let message = error_of(Instant::now(), reduce(&comm));
        assert!(message.contains(expected), "{message}");
        assert!(stub.asked("stub_aborted"));
        // a call that hung ends the process, also where its abort has let it go
        let expected = usize::from(does == HANG_UNTIL_ABORT);
        // another thread writes it down
        let begun = Instant::now();
        while stub.given_up().len() < expected && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(stub.given_up().len(), expected, "{:?}", stub.given_up());
        assert!(error_of(Instant::now(), reduce(&comm)).contains("was aborted before"));
    }
}

/// Goal: a call that hangs even after its abort ends the process. Method: such a call, on a thread that is left behind; what would end the process
/// is written down instead.
#[test]
fn hopeless_calls_are_given_up() {
    let stub = Stub::new();
    let comm = stub.init().unwrap();
    stub.order(ALL_REDUCE, HANG, 0, 0);
    std::thread::spawn(move || reduce(&comm));
    let begun = Instant::now();
    while stub.given_up().is_empty() {
        assert!(begun.elapsed() < SLACK, "nothing was given up");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(stub.given_up()[0].contains("all-reduce on rank 1 of 4: the call hung"), "{:?}", stub.given_up());
}

/// Goal: what goes wrong while the device works is found, and waiting has an end. Method: an asynchronous error, a failing question for it, and a
/// device that never finishes.
#[test]
fn waiting_sees_errors() {
    let stub = Stub::new();
    let comm = stub.init().unwrap();
    stub.set("stub_async", 6);
    let message = error_of(Instant::now(), comm.wait(|| Ok(false)));
    assert!(
        message.contains("NCCL wait on rank 1 of 4: remote process exited") && message.contains("its log has the reason"),
        "{message}"
    );

    let stub = Stub::new();
    let comm = stub.init().unwrap();
    stub.order(ASYNC, FAIL, 3, 0);
    assert!(error_of(Instant::now(), comm.wait(|| Ok(false))).contains("ncclResult 3"));

    let stub = Stub::new();
    let comm = stub.init().unwrap();
    assert!(error_of(Instant::now(), comm.wait(|| Ok(false))).contains("an exchange did not end"));
    assert!(stub.asked("stub_aborted"));
}

/// Goal: leaving a world has an end too. Method: a destroy that hangs.
#[test]
fn leaving_has_a_deadline() {
    let stub = Stub::new();
    let comm = stub.init().unwrap();
    stub.order(DESTROY, HANG, 0, 0);
    let begun = Instant::now();
    drop(comm);
    assert!(begun.elapsed() < DEADLINES.abort + SLACK);
}

/// Goal: a library that cannot be used is refused by name, with what to do. Method: none, one that is no NCCL, an old one, one without a network.
#[test]
fn unsuitable_libraries() {
    let missing = Library::load_file("libnccl-that-is-not-there.so").unwrap_err().to_string();
    assert!(missing.contains("libnccl-that-is-not-there.so"), "{missing}");
    let other = Library::load_file("libm.so.6").unwrap_err().to_string();
    assert!(other.contains("is no NCCL that can be used: it lacks ncclGetVersion"), "{other}");
    let stub = Stub::new();
    assert_eq!(stub.library().unwrap().version(), "2.28.9");
    stub.order(UNIQUE_ID, FAIL, 2, 0);
    assert!(stub.library().unwrap().unique_id().unwrap_err().to_string().contains("NCCL_SOCKET_IFNAME"));
    stub.set("stub_version", 21602);
    assert!(stub.library().unwrap_err().to_string().contains("NCCL 2.16.2, too old"));
    assert!(UniqueId::from_bytes(&[1; 127]).is_err());
}

/// Goal: the types are those of the real library. Method: where this machine has NCCL (ARTEL_NCCL may name it), it is loaded, makes an id, and takes a
/// communicator of one rank, or says why not: without a GPU it has none.
#[test]
fn the_real_library() {
    let library = match Library::load() {
        Ok(library) => library,
        Err(error) => return println!("skipped: {error}"),
    };
    let id = library.unique_id().unwrap();
    assert_eq!(UniqueId::from_bytes(id.as_bytes()).unwrap(), id);
    let seat = Seat { rank: 0, world_size: 1 };
    let given_up = Arc::new(Mutex::new(Vec::new()));
    let give_up = Arc::new({
        let given_up = given_up.clone();
        move |why: &str| given_up.lock().unwrap().push(why.to_owned())
    });
    match Comm::init(&library, id, seat, Deadlines::default(), Arc::new(|| Ok(())), give_up) {
        Ok(comm) => println!("{library:?} took {:?}", comm.seat()),
        Err(error) => {
            let error = error.to_string();
            println!("{library:?}: {error}");
            // 4 and 5 would be wrong use: of the configuration, the id or the types
            let misused = ["ncclResult 4", "ncclResult 5"].iter().any(|code| error.contains(code));
            assert!(error.contains("NCCL init on rank 0 of 1") && !misused, "{error}");
        }
    }
    assert!(given_up.lock().unwrap().is_empty(), "{given_up:?}");
}
