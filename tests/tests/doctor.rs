//! `artel doctor` on a bucket: what it does there, what it says of faults, and that it leaves nothing.

use std::path::Path;

use artel_tests::Sandbox;
use artel_tests::s3::{Fault, Rule, S3Server};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_artel-under-test");

/// Files below a folder.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path.display().to_string()] }).collect()
}

/// Goal: a good bucket is told so, a failing request is told with what to do under exit code 5, and nothing is left behind either way.
/// Method: an S3 server as it should be; one that forbids reading; one that forbids writing.
#[test]
fn a_bucket() {
    let sandbox = Sandbox::new(PROGRAM);
    let server = S3Server::start();
    let doctor = |code: i32| -> Value {
        let mut command = sandbox.artel(["doctor", "--json", "--store", &server.url("run")]);
        let output = command.envs(server.environment()).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(files(&server.folder()), Vec::<String>::new());
        serde_json::from_slice(&output.stdout).expect("one JSON object")
    };
    let steps = |found: &Value| found["store"]["latency_ms"].as_object().expect("steps").keys().cloned().collect::<Vec<_>>();
    let good = doctor(0);
    assert_eq!(steps(&good), ["create", "read", "refuse", "delete"]);
    assert!(good["store"]["usable"] == true && good["store"]["error"].is_null(), "{good}");
    for (method, done) in [("GET", &["create"][..]), ("PUT", &[])] {
        server.faults().add(Rule::always(method, "run/probe/", Fault::Status(403)));
        let bad = doctor(5);
        server.faults().clear();
        assert_eq!(steps(&bad), done, "{bad}");
        assert!(bad["store"]["error"].as_str().is_some_and(|error| error.contains("check the credentials")), "{bad}");
    }
}
