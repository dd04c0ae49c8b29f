//! A document is read in a child process: what happens in it costs that document alone. The test program is its own child: with
//! `child WAY` it reads as `artel parse` does, or misbehaves in that way; so it has a `main` of its own instead of the test harness.
#![allow(clippy::unwrap_used)]

use std::io::{Write, stderr, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use artel_documents::element::Document;
use artel_documents::isolate::{Input, KEPT_VARIABLES, Limits, child_main, child_main_with, read_isolated};
use artel_documents::read::{ReadOptions, Reason, Unreadable};
use rustix::process::{Pid, Signal, getpid, kill_process};

/// Long enough for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["child", way] => child(way),
        ["parent", way] => {
            let _ = read(&[way], Input::Bytes(b"x"), &limits(1 << 30, 600));
            ExitCode::SUCCESS
        }
        _ => run_tests(&arguments),
    }
}

/// Runs the tests whose name has the first argument in it; `--list` names them, as test runners ask of a harness.
fn run_tests(arguments: &[String]) -> ExitCode {
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    let filter =
        arguments.iter().find(|argument| !argument.starts_with('-')).filter(|_| !has("--list")).map_or("", String::as_str);
    let tests: [(&str, fn()); 9] = [
        ("documents_are_read", documents_are_read),
        ("memory_is_limited", memory_is_limited),
        ("time_is_limited", time_is_limited),
        ("output_is_limited", output_is_limited),
        ("crashes_are_named", crashes_are_named),
        ("pipes_do_not_deadlock", pipes_do_not_deadlock),
        ("grandchildren_end", grandchildren_end),
        ("children_end_with_their_parent", children_end_with_their_parent),
        ("keys_stay_here", keys_stay_here),
    ];
    if has("--ignored") {
        return ExitCode::SUCCESS;
    }
    for (name, test) in tests.iter().filter(|(name, _)| name.contains(filter)) {
        if has("--list") {
            println!("{name}: test");
            continue;
        }
        test();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

/// The child: limits are on it when `misbehave` runs.
fn child(way: &str) -> ExitCode {
    match way {
        "reads" => child_main(stdin().lock(), stdout().lock()),
        "deaf" => ExitCode::SUCCESS,
        way => child_main_with(stdin().lock(), stdout().lock(), |_, _, _| misbehave(way)),
    }
}

fn misbehave(way: &str) -> Result<Document, Unreadable> {
    match way {
        "hogs" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(vec![1_u8; 1 << 20]);
            }
        }
        "hogs_at_once" => drop(std::hint::black_box(vec![1_u8; 1 << 40])),
        "spins" => loop {
            std::hint::spin_loop();
        },
        "waits" => loop {
            std::thread::park();
        },
        "aborts" => std::process::abort(),
        "panics" => panic!("a number that is no number"),
        // Rust's handler, which looks for an overflow of the stack, lets the first one pass.
        "faults" => (0..2).for_each(|_| kill_process(getpid(), Signal::SEGV).unwrap()),
        "recurses" => drop(recurse(&[0; 1000])),
        "floods" => loop {
            let _ = stdout().write_all(&[b'x'; 1 << 16]);
        },
        "talks" => {
            println!("a library says hello");
            (0..10_000).for_each(|i| eprintln!("{i}: {}", "x".repeat(1000)));
        }
        "is_killed" => kill_process(getpid(), Signal::KILL).unwrap(),
        "leaves_others" => {
            let sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
            eprintln!("sleeper {}", sleeper.id());
            std::process::abort();
        }
        "tells_variables" => return Ok(said(std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect())),
        "tells_itself" => {
            let file =
                std::env::temp_dir().join(format!("artel-isolate-{}", rustix::process::getppid().unwrap().as_raw_nonzero()));
            std::fs::write(file, std::process::id().to_string()).unwrap();
            loop {
                std::thread::park();
            }
        }
        other => panic!("no such way: {other}"),
    }
    Ok(said(vec!["done".into()]))
}

#[allow(unconditional_recursion)]
fn recurse(bytes: &[u8; 1000]) -> usize {
    let more = std::hint::black_box([bytes[0]; 1000]);
    recurse(&more) + usize::from(more[1])
}

fn said(warnings: Vec<String>) -> Document {
    Document { warnings, ..Document::default() }
}

fn limits(memory_bytes: u64, seconds: u64) -> Limits {
    Limits { memory_bytes, seconds, output_bytes: 1 << 20 }
}

fn read(way: &[&str], input: Input<'_>, limits: &Limits) -> Result<Document, Unreadable> {
    let program = std::env::current_exe().unwrap();
    let arguments = [&["child"], way].concat();
    read_isolated(&program, &arguments, input, "a.txt", &ReadOptions::default(), limits)
}

fn fails(way: &str, limits: &Limits, reason: Reason, words: &str) {
    let error = read(&[way], Input::Bytes(b"x"), limits).unwrap_err();
    assert!(error.reason == reason && error.message.contains(words), "{way}: {error:?}");
    assert!(error.message.contains("a.txt") && error.message.len() < 1000, "{way}: {error:?}");
}

/// Goal: a child reads as the parent would. Method: bytes, a file, an empty file, no file, a folder, another program.
fn documents_are_read() {
    let limits = limits(1 << 30, 60);
    let folder = tempfile::tempdir().unwrap();
    let (file, none) = (folder.path().join("a.txt"), folder.path().join("none"));
    std::fs::write(&file, "Words of a file.").unwrap();
    let text = |input| read(&["reads"], input, &limits).map(|document| document.elements[0].text.clone());
    assert_eq!(text(Input::Bytes(b"Words of bytes.")).unwrap(), "Words of bytes.");
    assert_eq!(text(Input::Path(&file)).unwrap(), "Words of a file.");
    assert_eq!(text(Input::Bytes(b"")).unwrap_err().reason, Reason::Empty);
    assert_eq!(text(Input::Path(&none)).unwrap_err().reason, Reason::Missing);
    assert_eq!(text(Input::Path(folder.path())).unwrap_err().reason, Reason::Missing);
    assert_eq!(text(Input::Path(Path::new("/dev/zero"))).unwrap_err().reason, Reason::Missing);
    let program = Path::new("/no/such/program");
    let error = read_isolated(program, &[], Input::Bytes(b"x"), "a.txt", &ReadOptions::default(), &limits).unwrap_err();
    assert!(error.reason == Reason::Limit && error.message.contains("/no/such/program"), "{error}");
}

/// Goal: memory has a limit. Method: a child that takes more and more, one that takes a terabyte at once, an input above the limit.
fn memory_is_limited() {
    let few = limits(256 << 20, 60);
    fails("hogs", &few, Reason::Limit, "memory");
    fails("hogs_at_once", &few, Reason::Limit, "memory");
    let error = read(&["reads"], Input::Bytes(&vec![b'x'; 80 << 20]), &limits(64 << 20, 60)).unwrap_err();
    assert!(error.reason == Reason::Limit && error.message.contains("memory"), "{error}");
    // What is within the limit is read.
    assert!(read(&["reads"], Input::Bytes(&"words ".repeat(10_000).into_bytes()), &few).is_ok());
}

/// Goal: time has a limit. Method: children that spin and that wait for ever.
fn time_is_limited() {
    for way in ["spins", "waits"] {
        let begun = Instant::now();
        fails(way, &limits(1 << 30, 1), Reason::Limit, "1 s");
        assert!(begun.elapsed() < PATIENCE, "{way}");
    }
}

/// Goal: output has a limit. Method: a child that writes for ever, and a document whose elements are above the limit.
fn output_is_limited() {
    fails("floods", &limits(1 << 30, 60), Reason::Limit, "1048576 bytes");
    let error = read(&["reads"], Input::Bytes(&vec![b'x'; 2 << 20]), &limits(1 << 30, 60)).unwrap_err();
    assert_eq!(error.reason, Reason::Limit, "{error}");
}

/// Goal: a crash has its name and last words. Method: abort, panic, fault, endless recursion, a kill from outside, a silent end.
fn crashes_are_named() {
    let limits = limits(1 << 30, 60);
    fails("aborts", &limits, Reason::Broken, "SIGABRT");
    fails("panics", &limits, Reason::Broken, "a number that is no number");
    fails("faults", &limits, Reason::Broken, "SIGSEGV");
    fails("recurses", &limits, Reason::Broken, "overflowed its stack");
    fails("is_killed", &limits, Reason::Limit, "killed from outside");
    fails("deaf", &limits, Reason::Broken, "no answer");
}

/// Goal: no pipe blocks another. Method: megabytes of talk before the answer; megabytes to a child that does not listen.
fn pipes_do_not_deadlock() {
    let limits = limits(1 << 30, 60);
    assert_eq!(read(&["talks"], Input::Bytes(&[b'x'; 1 << 20]), &limits).unwrap().warnings, ["done"]);
    assert_eq!(read(&["deaf"], Input::Bytes(&vec![b'x'; 8 << 20]), &limits).unwrap_err().reason, Reason::Broken);
}

/// Goal: programs that a child started end with it, and do not hold the parent up. Method: a child that starts a sleeper and crashes.
fn grandchildren_end() {
    let begun = Instant::now();
    let error = read(&["leaves_others"], Input::Bytes(b"x"), &limits(1 << 30, 60)).unwrap_err();
    assert!(begun.elapsed() < PATIENCE && error.message.contains("SIGABRT"), "{error}");
    let pid: i32 =
        error.message.split("sleeper ").nth(1).unwrap().split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
    until_gone(pid);
}

/// Goal: a child ends when its parent is killed. Method: a parent of a child that waits for ever gets SIGKILL.
fn children_end_with_their_parent() {
    let program = std::env::current_exe().unwrap();
    let mut parent = Command::new(program).args(["parent", "tells_itself"]).stdin(Stdio::null()).spawn().unwrap();
    let file: PathBuf = std::env::temp_dir().join(format!("artel-isolate-{}", parent.id()));
    let begun = Instant::now();
    let pid: i32 = loop {
        assert!(begun.elapsed() < PATIENCE, "the child never began");
        if let Some(pid) = std::fs::read_to_string(&file).ok().and_then(|pid| pid.parse().ok()) {
            break pid;
        }
        std::thread::yield_now();
    };
    assert!(is_running(pid));
    parent.kill().unwrap();
    parent.wait().unwrap();
    until_gone(pid);
    std::fs::remove_file(&file).unwrap();
}

/// Goal: keys in the environment do not reach the child. Method: the child tells the names that it sees; cargo has set others here.
fn keys_stay_here() {
    let names = read(&["tells_variables"], Input::Bytes(b"x"), &limits(1 << 30, 60)).unwrap().warnings;
    assert!(names.iter().all(|name| KEPT_VARIABLES.contains(&name.as_str())), "{names:?}");
    assert!(std::env::vars_os().count() > names.len());
}

/// Whether a process runs; one that is dead but not waited for does not.
fn is_running(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status.rsplit(") ").next().and_then(|rest| rest.chars().next());
    state.is_some_and(|state| !"ZX".contains(state)) && Pid::from_raw(pid).is_some()
}

fn until_gone(pid: i32) {
    let begun = Instant::now();
    while is_running(pid) {
        assert!(begun.elapsed() < PATIENCE, "process {pid} still runs");
        std::thread::yield_now();
    }
    let _ = stderr().flush();
}
