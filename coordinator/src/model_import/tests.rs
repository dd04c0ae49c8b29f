use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use artel_common::digest::Digest;
use artel_common::model_files::fetch_model;
use artel_common::store::Store;

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime").block_on(future)
}

/// The files of a small model in the old layout, and some that must not be taken.
fn model() -> BTreeMap<&'static str, Vec<u8>> {
    let modules = r#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},
        {"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"},
        {"idx":2,"name":"2","path":"2_Normalize","type":"sentence_transformers.models.Normalize"}]"#;
    BTreeMap::from([
        ("modules.json", modules.into()),
        ("config.json", br#"{"model_type":"bert"}"#.to_vec()),
        ("1_Pooling/config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{}".to_vec()),
        ("vocab.txt", b"[PAD]\n".to_vec()),
        ("model.safetensors", (0..3_000_000u32).map(|i| (i % 251) as u8).collect()),
        ("pytorch_model.bin", b"a pickle".to_vec()),
        ("onnx/model.onnx", b"onnx".to_vec()),
        ("README.md", b"# a model".to_vec()),
    ])
}

const TAKEN: [&str; 6] =
    ["1_Pooling/config.json", "config.json", "model.safetensors", "modules.json", "tokenizer.json", "vocab.txt"];

fn write(folder: &Path, files: &BTreeMap<&'static str, Vec<u8>>) {
    for (path, bytes) in files {
        let file = folder.join(path);
        std::fs::create_dir_all(file.parent().expect("it has one")).expect("writable");
        std::fs::write(file, bytes).expect("writable");
    }
}

/// Imports into a new store below `folder`.
fn import(base: &str, folder: &Path) -> Result<(ModelManifest, Vec<String>)> {
    let store = Store::open(&folder.join("store").display().to_string()).expect("a folder");
    let target = Target { store: &store, term: 1 };
    let told = |done, total| assert!(done <= total, "{done} of {total}");
    let (stored, warnings) = wait(import_model(base, None, folder, target, &told))?;
    assert_eq!(wait(store.get_json_verified::<ModelManifest>(&stored.object)).expect("it is put last"), stored.record);
    Ok((stored.record, warnings))
}

/// Imports a model that lacks or has what `change` says, and gives the refusal.
fn refusal(change: impl Fn(&mut BTreeMap<&'static str, Vec<u8>>)) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut files = model();
    change(&mut files);
    write(&folder.path().join("m"), &files);
    let error = import("m", folder.path()).expect_err("not usable");
    assert_eq!(error.kind(), artel_common::ErrorKind::Model);
    assert!(!folder.path().join("store/base/0001/manifest.json").exists(), "half done: {error}");
    error.to_string()
}

/// Goal: a folder goes into the store and comes out of it, by what a model needs and no more. Method: import, fetch, compare; then the
/// same under another name.
#[test]
fn folder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(&folder.path().join("m"), &model());
    let (manifest, warnings) = import("m", folder.path()).expect("a model");
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(manifest.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), TAKEN);
    let store = Store::open(&folder.path().join("store").display().to_string()).expect("a folder");
    let to = folder.path().join("to");
    wait(fetch_model(&manifest, &store, &to)).expect("whole");
    for path in TAKEN {
        assert_eq!(std::fs::read(to.join(path)).expect("there"), model()[path], "{path}");
    }
    let named = Store::open(&folder.path().join("named").display().to_string()).expect("a folder");
    let target = Target { store: &named, term: 1 };
    let (made, _) = wait(import_folder(&folder.path().join("m"), "artel:toy", target, &|_, _| ())).expect("a model");
    assert_eq!((made.record.source.as_str(), made.record.digest), ("artel:toy", manifest.digest));
}

/// Goal: the same files come out of a bucket as out of a folder. Method: a file: URL, and an S3 server where there is one.
#[test]
fn bucket() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = folder.path().join("a model");
    write(&place, &model());
    let (local, _) = import(&format!("file:{}", place.display()), folder.path()).expect("a model");
    let Ok(url) = std::env::var("ARTEL_TEST_S3") else {
        println!("skipped: no S3 server, ARTEL_TEST_S3 not set");
        return;
    };
    let url = format!("{}/models/{}", url.trim_end_matches('/'), std::process::id());
    let source = Store::open(&url).expect("a bucket");
    for (path, bytes) in model() {
        wait(source.put(path, bytes.into())).expect("writable");
    }
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(import(&url, elsewhere.path()).expect("a model").0.digest, local.digest);
    let error = import(&format!("{url}/nothing"), tempfile::tempdir().expect("a folder").path()).expect_err("nothing there");
    assert!(error.to_string().contains("there is nothing at"), "{error}");
}

/// Goal: a model that is not usable is refused by what is wrong with it, and nothing is left half done. Method: one defect each.
#[test]
fn unusable() {
    let lacks = |path: &'static str| move |files: &mut BTreeMap<&str, Vec<u8>>| drop(files.remove(path));
    let has = |path: &'static str, text: &'static str| {
        move |files: &mut BTreeMap<&'static str, Vec<u8>>| drop(files.insert(path, text.into()))
    };
    assert!(refusal(lacks("model.safetensors")).contains("pytorch_model.bin alone; Artel reads safetensors only"));
    assert!(refusal(lacks("config.json")).contains("has no config.json"));
    assert!(refusal(has("config.json", "{")).contains("config.json is not JSON"));
    assert!(refusal(has("config.json", "[]")).contains("not a JSON object"));
    assert!(refusal(has("modules.json", "{}")).contains("no list of modules"));
    assert!(refusal(has("modules.json", r#"[{"type":"x","path":"../../etc"}]"#)).contains("leaves its folder"));
    assert!(refusal(has("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid")).contains("git lfs pull"));
    let no_tokenizer =
        |files: &mut BTreeMap<&'static str, Vec<u8>>| files.retain(|path, _| !["tokenizer.json", "vocab.txt"].contains(path));
    assert!(refusal(no_tokenizer).contains("has no tokenizer"));
    let index = |text: &'static str| {
        move |files: &mut BTreeMap<&'static str, Vec<u8>>| {
            files.remove("model.safetensors");
            files.insert("model.safetensors.index.json", text.into());
        }
    };
    assert!(
        refusal(index(r#"{"weight_map":{"a":"model-00001-of-00002.safetensors"}}"#))
            .contains("lacks model-00001-of-00002.safetensors")
    );
    assert!(refusal(index(r#"{"weight_map":{"a":"../x.safetensors"}}"#)).contains("leaves its folder"));
    assert!(refusal(index(r#"{"weight_map":{"a":"pytorch_model.bin"}}"#)).contains("no safetensors file"));
    assert!(refusal(index("{}")).contains("no weight_map"));
}

/// Goal: what is no model at all says so. Method: a file, a path to nothing, no id, an unknown name of ours.
#[test]
fn no_model() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("file"), "x").expect("writable");
    for (base, piece) in [
        ("file", "is a file and no model folder"),
        ("./nothing", "there is no folder"),
        ("/nothing", "there is no folder /nothing"),
        ("a/b/c", "it is no hub id"),
        ("what is this", "it is no hub id"),
        ("artel:other", "there is artel:toy"),
        ("ftp://host/model", "not a store that Artel knows"),
        ("s3://user:secret@bucket/model", "no user, password"),
    ] {
        let error = import(base, folder.path()).expect_err(base).to_string();
        assert!(error.contains(piece), "{base}: {error}");
    }
    for (id, is) in [
        ("BAAI/bge-base-en-v1.5", true),
        ("bert-base-uncased", true),
        ("a/b/c", false),
        ("a//b", false),
        ("-a/b", false),
        ("a b", false),
        ("a/..", false),
    ] {
        assert_eq!(hub::is_id(id), is, "{id}");
    }
}

/// Goal: a model without modules.json and one in shards are taken, the first with a warning. Method: both at once, with the
/// Transformer at the root; then an older layout with a folder of its own for it.
#[test]
fn layouts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut files = model();
    files.remove("modules.json");
    files.remove("model.safetensors");
    files.insert(
        "model.safetensors.index.json",
        br#"{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors","c":"model-1.safetensors"}}"#.to_vec(),
    );
    files.insert("model-1.safetensors", b"1".to_vec());
    files.insert("model-2.safetensors", b"2".to_vec());
    write(&folder.path().join("m"), &files);
    let (manifest, warnings) = import("m", folder.path()).expect("a model");
    assert!(warnings.len() == 1 && warnings[0].contains("mean pooling is assumed"), "{warnings:?}");
    assert_eq!(manifest.files.iter().filter(|file| file.path.ends_with(".safetensors")).count(), 2);
    let old = tempfile::tempdir().expect("a temporary folder");
    let modules = br#"[{"type":"sentence_transformers.models.Transformer","path":"0_Transformer"}]"#.to_vec();
    let files = BTreeMap::from([
        ("modules.json", modules),
        ("0_Transformer/config.json", b"{}".to_vec()),
        ("0_Transformer/vocab.txt", b"x".to_vec()),
        ("0_Transformer/model.safetensors", b"x".to_vec()),
    ]);
    write(&old.path().join("m"), &files);
    assert_eq!(import("m", old.path()).expect("a model").0.files.len(), 4);
}

/// Method, path, and the token that was sent.
type Request = (String, String, Option<String>);

/// A server that speaks the hub's paths; large files are a redirect to another host, as on the hub.
struct HubServer {
    address: SocketAddr,
    /// Method, path and Authorization of each request.
    log: Arc<Mutex<Vec<Request>>>,
}

/// How the server misbehaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Well,
    /// Answers 401 to who does not bring the token.
    Private,
    /// Answers 403.
    Gated,
    /// Answers 503 to the download, after a good answer to the question.
    Broken,
    /// Sends other bytes than it promised.
    Flipped,
}

impl HubServer {
    fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let log = Arc::new(Mutex::new(Vec::new()));
        let shared = log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = shared.clone();
                std::thread::spawn(move || while answer(&stream, address, mood, &log).is_some() {});
            }
        });
        Self { address, log }
    }

    fn requests(&self) -> Vec<(String, String, Option<String>)> {
        self.log.lock().expect("no test panics with it").clone()
    }
}

/// Reads one request and answers it; `None` ends the connection.
fn answer(
    mut stream: &TcpStream,
    address: SocketAddr,
    mood: Mood,
    log: &Mutex<Vec<(String, String, Option<String>)>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|bytes| *bytes > 0)?;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_end(&mut Vec::new()).ok()?;
    let mut words = first.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let token = headers.get("authorization").cloned();
    log.lock().expect("no test panics with it").push((method.clone(), path.clone(), token.clone()));
    let (status, extra, body) = route(&method, &path, token.as_deref(), address, mood);
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nX-Repo-Commit: {COMMIT}\r\n{extra}\r\n", body.len());
    stream.write_all(head.as_bytes()).ok()?;
    if method != "HEAD" {
        stream.write_all(&body).ok()?;
    }
    Some(())
}

fn route(method: &str, path: &str, token: Option<&str>, address: SocketAddr, mood: Mood) -> (&'static str, String, Vec<u8>) {
    let error = |status| (status, String::new(), b"{\"error\":\"no\"}".to_vec());
    if let Some(name) = path.strip_prefix("/cdn/") {
        let mut bytes = model().remove(name).expect("the server itself named it");
        match mood {
            Mood::Broken if method == "GET" => return error("503 Service Unavailable"),
            Mood::Flipped => bytes[7] ^= 1,
            _ => {}
        }
        return ("200 OK", String::new(), bytes);
    }
    match mood {
        Mood::Private if token != Some("Bearer hf_secret_of_the_test") => return error("401 Unauthorized"),
        Mood::Gated => return error("403 Forbidden"),
        _ => {}
    }
    if path == "/api/models/own/er" || path == "/api/models/owner/model" {
        return ("200 OK", String::new(), format!("{{\"id\":\"owner/model\",\"sha\":\"{COMMIT}\"}}").into_bytes());
    }
    let Some(file) = path.strip_prefix("/owner/model/resolve/main/") else { return error("404 Not Found") };
    let Some(bytes) = model().remove(file) else { return error("404 Not Found") };
    let digest = Digest::of(&bytes);
    if bytes.len() > 1_000_000 {
        let extra = format!(
            "ETag: \"x\"\r\nX-Linked-ETag: \"{digest}\"\r\nX-Linked-Size: {}\r\nLocation: http://{address}/cdn/{file}\r\n",
            bytes.len()
        );
        return ("302 Found", extra, Vec::new());
    }
    ("200 OK", format!("ETag: \"{}\"\r\n", &digest.as_str()[..40]), bytes)
}

/// Runs `test` again in a process of its own, with these settings, and gives what it said.
fn child(test: &str, base: &str, home: &Path, settings: &[(&str, String)]) -> String {
    let program = std::env::current_exe().expect("this program");
    let mut command = std::process::Command::new(program);
    command.args(["--exact", &format!("model_import::tests::{test}"), "--nocapture"]);
    for name in
        ["HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
    {
        command.env_remove(name);
    }
    command.env("HF_HOME", home.join("hf")).env("ARTEL_TEST_CHILD", base).env("ARTEL_TEST_HOME", home);
    let output = command.envs(settings.iter().map(|(name, value)| (name, value))).output().expect("this program runs");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// In the child: imports what the parent said and prints the outcome.
fn as_child() -> bool {
    let Ok(base) = std::env::var("ARTEL_TEST_CHILD") else { return false };
    let home = PathBuf::from(std::env::var_os("ARTEL_TEST_HOME").expect("the parent sets it"));
    match import(&base, &home) {
        Ok((manifest, _)) => {
            println!("imported {}", manifest.files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>().join(" "))
        }
        Err(e) => println!("refused ({:?}): {e}", e.kind()),
    }
    true
}

/// Goal: a model comes from the hub through its cache, with the token, and a second time without the network. Method: a server that
/// speaks the hub's paths, with a redirect for large files; then offline, then with the server's damage and refusals.
#[test]
fn from_the_hub() {
    const NAME: &str = "from_the_hub";
    if as_child() {
        return;
    }
    let home = tempfile::tempdir().expect("a temporary folder");
    let fresh = || drop(std::fs::remove_dir_all(home.path().join("store")));
    let server = HubServer::start(Mood::Private);
    let endpoint = |server: &HubServer| ("HF_ENDPOINT", format!("http://{}", server.address));
    let token = ("HF_TOKEN", "hf_secret_of_the_test".to_owned());
    let text = child(NAME, "owner/model", home.path(), &[endpoint(&server), token.clone()]);
    assert!(text.contains(&format!("imported {}", TAKEN.join(" "))), "{text}");
    let requests = server.requests();
    assert!(
        requests.iter().all(|(_, path, _)| !path.ends_with(".bin") && !path.ends_with(".onnx") && !path.ends_with(".md")),
        "{requests:?}"
    );
    assert!(requests.iter().filter(|(_, path, _)| path.contains("/resolve/")).all(|(_, _, sent)| sent.is_some()), "{requests:?}");
    let snapshot = home.path().join(format!("hf/hub/models--owner--model/snapshots/{COMMIT}/model.safetensors"));
    assert_eq!(std::fs::read(snapshot).expect("the hub's own cache layout"), model()["model.safetensors"]);

    fresh();
    let offline = child(NAME, "owner/model", home.path(), &[("HF_HUB_OFFLINE", "1".into())]);
    assert!(offline.contains(&format!("imported {}", TAKEN.join(" "))), "{offline}");
    fresh();
    let absent = child(NAME, "owner/other", home.path(), &[("HF_HUB_OFFLINE", "1".into())]);
    assert!(absent.contains("refused (Model)") && absent.contains("not in the cache"), "{absent}");

    let other = tempfile::tempdir().expect("a temporary folder");
    let refused = |base: &str, mood: Mood, settings: &[(&str, String)]| {
        let server = HubServer::start(mood);
        let settings: Vec<_> = settings.iter().cloned().chain([endpoint(&server)]).collect();
        let text = child(NAME, base, other.path(), &settings);
        assert!(text.contains("refused (Model)") && !text.contains("hf_secret"), "{mood:?}: {text}");
        text
    };
    assert!(refused("owner/model", Mood::Private, &[]).contains("set HF_TOKEN"));
    assert!(
        refused("owner/model", Mood::Private, &[("HF_TOKEN", "hf_secret_but_wrong".into())])
            .contains("HF_TOKEN is not valid there")
    );
    assert!(refused("owner/model", Mood::Gated, &[]).contains("accept the model's terms"));
    assert!(refused("owner/none", Mood::Well, &[]).contains("there is no such model, and no folder"));
    assert!(refused("noname", Mood::Well, &[]).contains("sentence-transformers/noname"));
    let blobs = other.path().join("hf/hub/models--owner--model/blobs");
    let large = |blobs: &Path| {
        std::fs::read_dir(blobs).map_or(0, |found| found.flatten().filter(|file| file.file_name().len() == 64).count())
    };
    let text = refused("owner/model", Mood::Broken, &[]);
    assert!(text.contains("but 14 came"), "{text}");
    assert_eq!(large(&blobs), 0, "an answer that is no file stayed in the cache");
    assert!(refused("owner/model", Mood::Flipped, &[]).contains("model.safetensors is damaged"));
    assert_eq!(large(&blobs), 0, "a damaged file stayed in the cache");
}

/// Goal: a hub that cannot be reached is an error in time. Method: a closed port.
#[test]
fn no_hub() {
    if as_child() {
        return;
    }
    let home = tempfile::tempdir().expect("a temporary folder");
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let text = child("no_hub", "owner/model", home.path(), &[("HF_ENDPOINT", format!("http://{closed}"))]);
    assert!(text.contains("refused (Model)") && text.contains("check the network and HF_ENDPOINT"), "{text}");
}
