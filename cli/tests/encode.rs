//! `artel encode` as a process: what it reads and writes, and what it leaves behind.

mod common;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use common::{artel, error, scratch, toy_model};

/// Lines of a block.
const BLOCK: usize = 8192;
/// Bytes before the data of a `.npy` file.
const HEADER: usize = 128;
/// Longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(120);

fn encode(folder: &Path, input: &str, output: &str) -> Output {
    artel(folder, &["encode", "--model", "model", "--input", input, "--output", output])
}

/// The file that it wrote: the shape that its header says, and its rows' bytes.
fn rows(path: &Path) -> (String, Vec<Vec<u8>>) {
    let bytes = std::fs::read(path).expect("the output");
    let header = String::from_utf8_lossy(&bytes[10..HEADER]).into_owned();
    let shape = header.split_once("'shape': ").and_then(|(_, rest)| rest.split_once(", }")).expect("a shape").0.to_owned();
    (shape, bytes[HEADER..].chunks(128 * 4).map(<[u8]>::to_vec).collect())
}

/// `artel encode` of standard input, which is still open.
fn start(folder: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_artel"));
    command.args(["encode", "--model", "model", "--input", "-", "--output", "out.npy"]).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

/// Goal: lines are what `str::lines` says, a row each and in order, from a file as from standard input. Method: both ends of
/// lines, empty lines and no last end; equal lines have equal rows, others others; then no line at all.
#[test]
fn lines_and_standard_input() {
    let folder = scratch();
    toy_model(folder.path());
    let text = "one two\r\n\nthree\none two\n\r\nleave";
    std::fs::write(folder.path().join("lines.txt"), text).expect("a scratch file");
    let done = encode(folder.path(), "lines.txt", "file.npy");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(done.stdout.is_empty() && done.stderr.is_empty(), "short work says nothing");
    let (shape, found) = rows(&folder.path().join("file.npy"));
    assert_eq!((shape.as_str(), found.len()), ("(6, 128)", 6));
    assert!(found[0] == found[3] && found[1] == found[4], "equal texts");
    assert!(found[0] != found[1] && found[1] != found[2] && found[2] != found[5], "other texts");
    let mut child = start(folder.path());
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let done = child.wait_with_output().expect("it ends");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(rows(&folder.path().join("out.npy")).1, found);
    let none = encode(folder.path(), "/dev/null", "none.npy");
    assert!(none.status.success(), "{}", String::from_utf8_lossy(&none.stderr));
    assert_eq!(rows(&folder.path().join("none.npy")), ("(0, 128)".to_owned(), Vec::new()));
}

/// Goal: what is wrong beyond the first block is told by its line, and leaves nothing. Method: bytes that are not UTF-8 in the
/// second block; the same file without them has a row for each line, the last in its place.
#[test]
fn a_later_block() {
    let folder = scratch();
    toy_model(folder.path());
    let mut lines = "one\n".repeat(BLOCK + 100).into_bytes();
    lines.extend(b"leave\n");
    std::fs::write(folder.path().join("good.txt"), &lines).expect("a scratch file");
    let done = encode(folder.path(), "good.txt", "good.npy");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let (shape, found) = rows(&folder.path().join("good.npy"));
    assert_eq!((shape, found.len()), (format!("({}, 128)", BLOCK + 101), BLOCK + 101));
    assert!(found[BLOCK + 100] != found[BLOCK + 99] && found[0] != found[BLOCK + 100]);
    lines.extend(b"bad \xff\n");
    std::fs::write(folder.path().join("bad.txt"), &lines).expect("a scratch file");
    let refused = error(&encode(folder.path(), "bad.txt", "bad.npy"), 3);
    assert!(refused.contains(&format!("bad.txt:{}: not UTF-8", BLOCK + 102)), "{refused}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 4, "no partial file stays");
}

/// Goal: who asks it to leave gets the documented exit code, the command to go on with, and no file. Method: SIGTERM and Ctrl-C
/// after the first block's rows were written, while it waits for more input.
#[test]
fn leaves_nothing_when_asked_to_leave() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = scratch();
        toy_model(folder.path());
        std::fs::write(folder.path().join("out.npy"), "what stood there before").expect("a scratch file");
        let mut child = start(folder.path());
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all("one two\n".repeat(BLOCK + 1).as_bytes()).expect("it reads");
        let begun = Instant::now();
        while partial_bytes(folder.path()) <= HEADER as u64 {
            assert!(begun.elapsed() < LIMIT && child.try_wait().expect("a child").is_none(), "it writes no block");
            std::thread::sleep(Duration::from_millis(10));
        }
        kill_process(Pid::from_child(&child), signal).expect("it runs");
        // it leaves although its input stays open
        let status = child.wait().expect("it ends");
        let mut stderr = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("text");
        assert_eq!(status.code(), Some(75), "{stderr}");
        assert!(stderr.starts_with("error: told to leave: out.npy was not written\nrun me again: "), "{stderr}");
        assert!(stderr.trim_end().ends_with("encode --model model --input - --output out.npy"), "{stderr}");
        assert_eq!(std::fs::read(folder.path().join("out.npy")).expect("the old file"), b"what stood there before");
        assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 2, "no partial file stays");
        drop(input);
    }
}

/// How much of the output was written so far.
fn partial_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("the folder").flatten();
    let partial = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".artel-"));
    partial.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}
