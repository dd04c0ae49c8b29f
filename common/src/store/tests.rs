use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// What every store must do, whichever it is.
async fn drill(store: &Store) {
    store.probe().await.expect("writable, conditionally");
    assert_eq!(store.list().await.expect("empty"), Vec::<String>::new());
    assert_eq!(store.get_opt("a/b.json").await.expect("absent"), None);
    assert!(store.get("a/b.json").await.expect_err("absent").to_string().contains("a/b.json is not in "));
    assert_eq!(store.create("a/b.json", Bytes::from_static(b"1")).await.expect("new"), Created::New);
    assert_eq!(store.create("a/b.json", Bytes::from_static(b"2")).await.expect("there"), Created::Exists);
    assert_eq!(store.get("a/b.json").await.expect("ours"), "1");
    let mut object = store.put("a/c é %20#?.bin", Bytes::from_static(b"xyz")).await.expect("writable");
    assert_eq!(store.get_verified(&object).await.expect("whole"), "xyz");
    object.sha256 = crate::digest::Digest::of(b"other");
    assert!(store.get_verified(&object).await.expect_err("not that").to_string().contains("is damaged"));
    let keys: Vec<String> = store.list().await.expect("two").into_iter().collect();
    assert_eq!(keys, ["a/b.json", "a/c é %20#?.bin"]);
    let listed = store.list_prefix("a").await.expect("two");
    assert_eq!((listed.len(), listed[1].bytes), (2, 3));
    assert_eq!(store.list_prefix("b").await.expect("none"), []);
    for key in keys {
        store.delete(&key).await.expect("deletable");
        store.delete(&key).await.expect("gone already is no error");
    }
    assert_eq!(store.list().await.expect("empty again"), Vec::<String>::new());
    assert!(store.put("a/../b", Bytes::new()).await.is_err());
}

/// Files of several sizes, there and back, whole and damaged.
async fn drill_files(store: &Store, folder: &std::path::Path) {
    let large: Vec<u8> = (0..PART_BYTES * 3 + 12345).map(|i| (i * 7 + i / 251) as u8).collect();
    for bytes in [&large[..0], &large[..5], &large[..PART_BYTES], &large[..]] {
        let (from, to) = (folder.join("from"), folder.join("to"));
        std::fs::write(&from, bytes).expect("writable");
        let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
        let count = |counter: &AtomicU64, n| {
            counter.fetch_add(n, Ordering::Relaxed);
        };
        let object = store.put_file("files/x", &from, &|n| count(&up, n)).await.expect("writable");
        assert_eq!(object.sha256, crate::digest::Digest::of(bytes));
        assert_eq!(store.get("files/x").await.expect("there"), bytes);
        store.get_to_file(&object, &to, &|n| count(&down, n)).await.expect("whole");
        assert_eq!(std::fs::read(&to).expect("there"), bytes);
        let size = bytes.len() as u64;
        assert_eq!((object.bytes, up.into_inner(), down.into_inner()), (size, size, size));
    }
    let object = store.put("files/y", large.clone().into()).await.expect("writable");
    assert_eq!(store.get_verified(&object).await.expect("whole").len(), large.len());
    let to = folder.join("never");
    let mut wrong = object.clone();
    wrong.sha256 = crate::digest::Digest::of(b"");
    assert!(store.get_to_file(&wrong, &to, &|_| ()).await.expect_err("damaged").to_string().contains("SHA-256"));
    wrong.bytes += 1;
    assert!(store.get_to_file(&wrong, &to, &|_| ()).await.expect_err("torn").to_string().contains("bytes"));
    wrong.key = "files/none".into();
    assert!(store.get_to_file(&wrong, &to, &|_| ()).await.expect_err("absent").to_string().contains("is not in"));
    assert!(!to.exists() && !folder.join("never.part").exists());
    for key in ["files/x", "files/y"] {
        store.delete(key).await.expect("deletable");
    }
}

/// Goal: a folder is a store. Method: the drill, in a folder that does not exist yet and has a strange name.
#[test]
fn folder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(&format!("file:{}/a b/c%25", folder.path().display())).expect("a folder");
    assert_eq!(store.folder(), Some(folder.path().join("a b/c%").as_path()));
    assert_eq!(Store::open(store.url()).expect("its own URL").folder(), store.folder());
    runtime().block_on(async {
        drill(&store).await;
        drill_files(&store, folder.path()).await;
    });
    assert!(!folder.path().join("a b/c%/probe").exists());
}

/// Goal: of many writers that create one key, one wins. Method: 8 at once, 50 times.
#[test]
fn create_race() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(&folder.path().display().to_string()).expect("a folder");
    runtime().block_on(async {
        for round in 0..50 {
            let key = format!("race/{round}");
            let writers = (0..8u8).map(|writer| {
                let (store, key) = (store.clone(), key.clone());
                tokio::spawn(async move { store.create(&key, vec![writer].into()).await.expect("won or lost") })
            });
            let results = futures::future::join_all(writers).await;
            let won = results.iter().filter(|result| matches!(result, Ok(Created::New))).count();
            assert_eq!(won, 1);
        }
    });
}

/// Goal: a store that cannot be written says which folder and why. Method: below a file, below /proc, and (not as root) read-only.
#[test]
fn unwritable() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").expect("writable");
    let error = |path: &FilePath| {
        let store = Store::open(&path.display().to_string()).expect("a path");
        runtime().block_on(store.probe()).expect_err("unwritable").to_string()
    };
    for path in [file.clone(), file.join("below")] {
        let text = error(&path);
        assert!(text.contains(&file.display().to_string()) && text.contains("is a file and no folder"), "{text}");
    }
    let text = error(FilePath::new("/proc/artel-store"));
    assert!(text.contains("/proc") && text.contains("name another store"), "{text}");
    let locked = folder.path().join("locked");
    std::fs::create_dir(&locked).expect("writable");
    let mut permissions = std::fs::metadata(&locked).expect("there").permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&locked, permissions).expect("ours");
    if std::fs::write(locked.join("x"), "x").is_ok() {
        println!("skipped: this user may write everywhere, so a read-only folder is none");
        return;
    }
    let text = error(&locked.join("store"));
    assert!(text.contains("make the folder writable") && text.contains("locked"), "{text}");
}

/// Goal: URLs that are no store, or carry a password, are refused without repeating it. Method: one of each.
#[test]
fn wrong_urls() {
    for (url, piece) in [
        ("s3://user:hunter2secret@bucket/x", "no user, password"),
        ("s3://bucket/x?sig=hunter2secret", "no user, password"),
        ("https://hunter2secret.example/x", "not a store that Artel knows"),
        ("ftp://host/x", "not a store that Artel knows"),
        ("s3://", "s3:"),
        ("file://host/x", "a file URL has none"),
    ] {
        let text = Store::open(url).expect_err(url).to_string();
        assert!(text.contains(piece), "{url}: {text}");
        assert!(url.starts_with("https") || !text.contains("hunter2secret"), "{text}");
    }
}

/// Goal: a bucket works as a folder does, errors are bounded and show no secret. Method: the drill against an S3 server; see tests/tools/s3_server.sh.
#[test]
fn bucket() {
    let Ok(url) = std::env::var("ARTEL_TEST_S3") else {
        println!("skipped: no S3 server, ARTEL_TEST_S3 not set");
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(&format!("{}/run-{}", url.trim_end_matches('/'), std::process::id())).expect("a bucket");
    runtime().block_on(async {
        drill(&store).await;
        drill_files(&store, folder.path()).await;
        let absent = Store::open("s3://artel-no-such-bucket/x").expect("a URL");
        let text = absent.probe().await.expect_err("no bucket").to_string();
        assert!(text.contains("s3://artel-no-such-bucket/x"), "{text}");
    });
}

/// Goal: no credential shows in an error. Method: a store at a closed port, with marked credentials, in a process of its own.
#[test]
fn no_secrets() {
    const MARK: &str = "hunter2secret";
    if std::env::var("ARTEL_TEST_CHILD").is_ok() {
        let store = Store::open("s3://bucket/prefix").expect("a bucket").with_patience(Duration::from_secs(1));
        let error = runtime().block_on(store.probe()).expect_err("nothing listens there");
        println!("{error} {store:?} {error:?}");
        println!("{}", failure::redact(&format!("a body that quotes {MARK}key")));
        return;
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let started = crate::clock::now();
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "store::tests::no_secrets", "--nocapture"])
        .envs([("ARTEL_TEST_CHILD", "1"), ("AWS_REGION", "us-east-1"), ("AWS_ACCESS_KEY_ID", "hunter2secretid")])
        .envs([("AWS_SECRET_ACCESS_KEY", format!("{MARK}key")), ("AWS_SESSION_TOKEN", format!("{MARK}token"))])
        .env("AWS_ENDPOINT", format!("http://{closed}"))
        .output()
        .expect("this program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("cannot create") && text.contains("s3://bucket/prefix"), "{text}");
    assert!(text.contains("check the address"), "{text}");
    assert!(!text.contains(MARK), "{text}");
    assert!(crate::clock::now() - started < Duration::from_secs(60), "{text}");
}
