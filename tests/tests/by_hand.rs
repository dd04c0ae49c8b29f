//! A coordinator and workers started by hand give what `artel run` gives.

use std::time::{Duration, Instant};

use artel_tests::{Process, Sandbox, children_of, is_alive, kill};

const PROGRAM: &str = env!("CARGO_BIN_EXE_artel-under-test");
const LIMIT: Duration = Duration::from_secs(100);

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// Goal: workers started first, each in a folder of its own that holds nothing, and a coordinator started last, reach
/// the digest of `artel run`. Method: three workers, a store given by an absolute path; everybody ends with 0.
#[test]
fn workers_first() {
    let sandbox = Sandbox::new(PROGRAM);
    sandbox.pairs(120);
    sandbox.spec("", "count = 3\nthreads = 1");
    sandbox.run(["run", "spec.toml", "--json", "--store", "file:./by-run"]).expect_done();
    let address = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{address}");
    let empties: Vec<Sandbox> = (0..3).map(|_| Sandbox::new(PROGRAM)).collect();
    let workers: Vec<Process> =
        empties.iter().map(|empty| Process::start(&mut empty.artel(["worker", "--coordinator", &url]))).collect();
    let store = format!("file:{}", sandbox.path("by-hand").display());
    let coordinator =
        Process::start(&mut sandbox.artel(["coordinator", "spec.toml", "--listen", &address, "--store", &store, "--json"]));
    let (status, _, stderr) = coordinator.wait(LIMIT);
    assert_eq!(status.code(), Some(0), "{stderr}");
    for worker in workers {
        let (status, _, stderr) = worker.wait(Duration::from_secs(10));
        assert_eq!(status.code(), Some(0), "{stderr}");
    }
    assert_eq!(sandbox.report("by-hand")["weights_digest"], sandbox.report("by-run")["weights_digest"]);
}

/// Waits for the two workers that a process has started.
fn two_children(node: &Process) -> Vec<u32> {
    let begun = Instant::now();
    loop {
        let workers = children_of(node.pid()).into_iter().filter(|(_, line)| line.contains("--supervised"));
        let children: Vec<u32> = workers.map(|(pid, _)| pid).collect();
        if children.len() == 2 {
            // until they catch signals
            std::thread::sleep(Duration::from_millis(500));
            return children;
        }
        assert!(begun.elapsed() < LIMIT, "the workers were not started");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Goal: one command is all workers of a machine, and ends when the run does. Method: two devices of a run on the CPU, where they are two workers; the
/// digest of one.
#[test]
fn a_worker_for_each_device() {
    let sandbox = Sandbox::new(PROGRAM);
    sandbox.pairs(120);
    sandbox.spec("", "count = 2\nthreads = 1");
    sandbox.run(["run", "spec.toml", "--json", "--store", "file:./by-run", "--workers", "1"]).expect_done();
    let address = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{address}");
    let node = Process::start(&mut sandbox.artel(["worker", "--coordinator", &url, "--devices", "0,1", "--name", "node"]));
    let coordinator = Process::start(&mut sandbox.artel(["coordinator", "spec.toml", "--listen", &address, "--json"]));
    let (status, _, stderr) = coordinator.wait(LIMIT);
    assert_eq!(status.code(), Some(0), "{stderr}");
    let (status, _, stderr) = node.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert_eq!(sandbox.digest("store"), sandbox.digest("by-run"));
}

/// Goal: workers of one command end together, and say so. Method: one of two is killed; both are told to leave.
#[test]
fn devices_end_together() {
    let sandbox = Sandbox::new(PROGRAM);
    let url = format!("http://127.0.0.1:{}", free_port());
    let start = || Process::start(&mut sandbox.artel(["worker", "--coordinator", &url, "--devices", "0,1"]));
    for (killed, code, words) in [(true, 7, "was ended by signal 9"), (false, 75, "run me again")] {
        let node = start();
        let children = two_children(&node);
        if killed {
            kill(children[1], 9);
        } else {
            node.signal(15);
        }
        let (status, _, stderr) = node.wait(LIMIT);
        assert_eq!(status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
        assert!(children.iter().all(|child| !is_alive(*child)), "a worker outlived its command");
    }
}

/// Goal: no port is opened to the world without TLS. Method: another address than loopback, with and without the key.
#[test]
fn other_addresses_are_refused() {
    let sandbox = Sandbox::new(PROGRAM);
    sandbox.pairs(120);
    sandbox.spec("", "count = 1");
    let refused = sandbox.run(["coordinator", "spec.toml", "--listen", "0.0.0.0:0"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("allow_insecure"), "{}", refused.stderr);
    assert!(!sandbox.path("store").exists(), "nothing may be half-done");
    let worker = sandbox.run(["worker", "--coordinator", "http://127.0.0.1:9", "--bind", "0.0.0.0"]);
    assert_eq!(worker.code, Some(2));
}
