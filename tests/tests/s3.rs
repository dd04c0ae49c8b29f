//! The S3 server for tests is one: through a real client it keeps what it promises, and fails as it is told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use artel_tests::s3::{Fault, Rule, S3Server};
use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig, UpdateVersion,
    WriteMultipart,
};

/// A client that tries everything once.
fn client(server: &S3Server) -> AmazonS3 {
    client_with(server, &[], 0)
}

fn client_with(server: &S3Server, more: &[(&str, &str)], max_retries: usize) -> AmazonS3 {
    let environment = server.environment();
    let given = environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let set = |builder: AmazonS3Builder, (name, value): (&str, &str)| {
        let key: AmazonS3ConfigKey = name.to_lowercase().parse().expect("a variable that object_store knows");
        builder.with_config(key, value)
    };
    let builder = given.chain(more.iter().copied()).fold(AmazonS3Builder::new().with_url(server.url("")), set);
    builder.with_retry(RetryConfig { max_retries, ..RetryConfig::default() }).build().expect("the settings fit together")
}

fn data(bytes: usize) -> Bytes {
    (0..bytes).map(|i| (i * 7 + i / 251) as u8).collect()
}

async fn read(store: &AmazonS3, key: &str) -> object_store::Result<Bytes> {
    store.get(&Path::from(key)).await?.bytes().await
}

async fn put(store: &AmazonS3, key: &str, text: &'static str) -> object_store::Result<object_store::PutResult> {
    store.put(&Path::from(key), PutPayload::from_static(text.as_bytes())).await
}

/// Eight writers put this key at once in this mode; who won, and what the others were told.
async fn race(stores: &[AmazonS3], key: &Path, mode: &PutMode) -> Vec<object_store::Result<Bytes>> {
    let writers = stores.iter().enumerate().map(|(writer, store)| async move {
        let body = data(1000 + writer);
        let options = PutOptions::from(mode.clone());
        store.put_opts(key, body.clone().into(), options).await.map(|_| body)
    });
    join_all(writers).await
}

/// Goal: one of eight writers creates an object, and the others learn of it. Method: 20 races of clients of their own with
/// If-None-Match through object_store; one must win, the rest get "already exists", and the object is the winner's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_writer_creates() {
    let server = S3Server::start();
    let stores: Vec<AmazonS3> = (0..8).map(|_| client(&server)).collect();
    for round in 0..20 {
        let key = Path::from(format!("race/create-{round}"));
        let ends = race(&stores, &key, &PutMode::Create).await;
        let won: Vec<&Bytes> = ends.iter().flatten().collect();
        assert_eq!(won.len(), 1, "round {round}: {ends:?}");
        assert_eq!(read(&stores[0], key.as_ref()).await.unwrap(), won[0]);
        let lost = |end: &object_store::Result<Bytes>| matches!(end, Err(Error::AlreadyExists { .. }));
        assert_eq!(ends.iter().filter(|end| lost(end)).count(), 7, "round {round}: {ends:?}");
    }
    let answered = |status| server.requests().iter().filter(|seen| seen.method == "PUT" && seen.status == Some(status)).count();
    assert_eq!((answered(200), answered(412)), (20, 140));
}

/// Goal: one of eight writers replaces what all have read. Method: 20 races with If-Match on one key; all
/// writers hold the ETag of the same body. An update of a key that is not there must fail too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_writer_updates() {
    let server = S3Server::start();
    let stores: Vec<AmazonS3> = (0..8).map(|_| client(&server)).collect();
    let key = Path::from("race/update");
    for round in 0..20 {
        // the last winner's body is among those that race: without another between, the ETag could stay as it is
        stores[0].put(&key, data(10 + round).into()).await.unwrap();
        let e_tag = stores[0].head(&key).await.unwrap().e_tag;
        let mode = PutMode::Update(UpdateVersion { e_tag, version: None });
        let ends = race(&stores, &key, &mode).await;
        let won: Vec<&Bytes> = ends.iter().flatten().collect();
        assert_eq!(won.len(), 1, "round {round}: {ends:?}");
        assert_eq!(read(&stores[0], key.as_ref()).await.unwrap(), won[0]);
        let lost = |end: &object_store::Result<Bytes>| matches!(end, Err(Error::Precondition { .. }));
        assert_eq!(ends.iter().filter(|end| lost(end)).count(), 7, "round {round}: {ends:?}");
    }
    let mode = PutMode::Update(UpdateVersion { e_tag: Some("\"any\"".to_owned()), version: None });
    let absent = stores[0].put_opts(&Path::from("race/absent"), data(1).into(), PutOptions::from(mode)).await;
    assert!(matches!(absent, Err(Error::Precondition { .. })), "{absent:?}");
    assert_eq!(server.requests().last().unwrap().status, Some(404));
}

/// Goal: a large object goes up in parts and comes back whole. Method: 20 MB in parts of 6 MB; bytes, length and ETag must
/// agree; nothing is there before it is complete, and an aborted one leaves nothing.
#[tokio::test]
async fn multipart() {
    let server = S3Server::start();
    let (store, key, body) = (client(&server), Path::from("large/file.bin"), data(20_000_000));
    let mut upload = WriteMultipart::new_with_chunk_size(store.put_multipart(&key).await.unwrap(), 6_000_000);
    upload.write(&body);
    assert!(matches!(store.head(&key).await, Err(Error::NotFound { .. })));
    let done = upload.finish().await.unwrap();
    let meta = store.head(&key).await.unwrap();
    assert_eq!((meta.size, meta.e_tag.clone()), (20_000_000, done.e_tag));
    assert!(meta.e_tag.unwrap().ends_with("-4\""));
    assert_eq!(read(&store, key.as_ref()).await.unwrap(), body);
    assert_eq!(std::fs::read(server.folder().join("large/file.bin")).unwrap(), body);
    let parts: Vec<u64> =
        server.requests().iter().filter(|seen| seen.query.contains("partNumber=")).map(|seen| seen.received).collect();
    assert_eq!(parts.iter().sum::<u64>(), 20_000_000);

    let mut aborted = store.put_multipart(&Path::from("large/aborted")).await.unwrap();
    aborted.put_part(data(1000).into()).await.unwrap();
    aborted.abort().await.unwrap();
    assert!(matches!(read(&store, "large/aborted").await, Err(Error::NotFound { .. })));
}

/// Goal: reads of parts, conditional reads, copies, deletions and folders of keys are as in S3. Method: one object of 100 kB.
#[tokio::test]
async fn reads() {
    let server = S3Server::start();
    let (store, key, body) = (client(&server), Path::from("a/b"), data(100_000));
    let put = store.put(&key, body.clone().into()).await.unwrap();
    assert_eq!(store.get_range(&key, 10..20).await.unwrap(), body[10..20]);
    assert_eq!(store.get_range(&key, 99_990..200_000).await.unwrap(), body[99_990..]);
    let ranges = store.get_ranges(&key, &[0..5, 50_000..50_001]).await.unwrap();
    assert_eq!(ranges, [body.slice(0..5), body.slice(50_000..50_001)]);
    for suffix in [3, 100_000, 300_000] {
        let options = GetOptions { range: Some(GetRange::Suffix(suffix)), ..GetOptions::default() };
        let part = store.get_opts(&key, options).await.unwrap().bytes().await.unwrap();
        assert_eq!(part, body[100_000 - 100_000.min(suffix as usize)..]);
    }
    let unless = GetOptions { if_none_match: put.e_tag.clone(), ..GetOptions::default() };
    assert!(matches!(store.get_opts(&key, unless).await, Err(Error::NotModified { .. })));
    let only = GetOptions { if_match: Some("\"another\"".to_owned()), ..GetOptions::default() };
    assert!(matches!(store.get_opts(&key, only).await, Err(Error::Precondition { .. })));
    assert!(matches!(store.head(&Path::from("a")).await, Err(Error::NotFound { .. })));
    assert!(matches!(read(&store, "a").await, Err(Error::NotFound { .. })));
    store.copy(&key, &Path::from("a/copy %+ö")).await.unwrap();
    assert_eq!(read(&store, "a/copy %+ö").await.unwrap(), body);
    assert_eq!(server.requests().last().unwrap().key, Path::from("a/copy %+ö").as_ref());
    store.delete(&key).await.unwrap();
    let seen = server.requests().pop().unwrap();
    assert_eq!((seen.method.as_str(), seen.key.as_str(), seen.status), ("DELETE", "a/b", Some(200)));
    assert!(matches!(read(&store, "a/b").await, Err(Error::NotFound { .. })));
}

/// Goal: a listing has every key once. Method: 1100 keys in two folders, more than fit one page; with and without delimiter.
#[tokio::test]
async fn listing() {
    let server = S3Server::start();
    let store = client(&server);
    let keys: BTreeSet<String> = (0..1100).map(|i| format!("many more/{}/{i:04}", i % 2)).collect();
    for key in &keys {
        let path = server.folder().join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"x").unwrap();
    }
    let found: Vec<_> = store.list(Some(&Path::from("many more"))).try_collect().await.unwrap();
    assert_eq!(found.len(), 1100);
    assert_eq!(found.iter().map(|meta| meta.location.to_string()).collect::<BTreeSet<_>>(), keys);
    let seen = server.requests();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.method == "LIST" && seen.key == "many more/" && seen.sent > 0), "{seen:?}");
    let level = store.list_with_delimiter(Some(&Path::from("many more"))).await.unwrap();
    assert_eq!(level.common_prefixes, [Path::from("many more/0"), Path::from("many more/1")]);
    let all = futures::stream::iter(found).map(|meta| Ok(meta.location)).boxed();
    let deleted: Vec<Path> = store.delete_stream(all).try_collect().await.unwrap();
    assert_eq!(deleted.len(), 1100);
    assert_eq!(store.list(None).count().await, 0);
}

/// Goal: a put lost with its answer is not there; one whose answer alone is lost is. Method: the client sees both fail; the
/// object tells them apart. The same for a deletion.
#[tokio::test]
async fn lost_puts_and_lost_answers() {
    let server = S3Server::start();
    let store = client(&server);
    server.faults().add(Rule::once("PUT", "lost", Fault::ResetBeforeAnswer));
    server.faults().add(Rule::once("PUT", "done", Fault::LoseAnswer));
    assert!(put(&store, "x/lost", "text").await.is_err());
    assert!(put(&store, "x/done", "text").await.is_err());
    assert!(matches!(read(&store, "x/lost").await, Err(Error::NotFound { .. })));
    assert_eq!(read(&store, "x/done").await.unwrap(), "text");
    let puts: Vec<_> = server.requests().into_iter().filter(|seen| seen.method == "PUT").collect();
    assert_eq!(puts.iter().map(|seen| (seen.status, seen.received)).collect::<Vec<_>>(), [(None, 4), (None, 4)]);
    assert_eq!(server.faults().hits(), 2);

    server.faults().add(Rule::once("DELETE", "done", Fault::LoseAnswer));
    assert!(store.delete(&Path::from("x/done")).await.is_err());
    assert!(matches!(read(&store, "x/done").await, Err(Error::NotFound { .. })));
    put(&store, "x/lost", "text").await.unwrap();
}

/// Goal: a completion whose answer is lost has completed, and is not done twice. Method: a client that tries again by itself is
/// told that there is no such upload, and finds the object whole.
#[tokio::test]
async fn lost_completion() {
    let server = S3Server::start();
    let (store, key) = (client_with(&server, &[], 1), Path::from("large"));
    let mut upload = store.put_multipart(&key).await.unwrap();
    upload.put_part(data(1000).into()).await.unwrap();
    server.faults().add(Rule::once("POST", "large", Fault::LoseAnswer));
    let end = upload.complete().await;
    assert!(matches!(end, Err(Error::NotFound { .. })), "{end:?}");
    let posts: Vec<_> = server.requests().into_iter().filter(|seen| seen.method == "POST").map(|seen| seen.status).collect();
    assert_eq!(posts, [Some(200), None, Some(404)]);
    assert_eq!(read(&store, "large").await.unwrap(), data(1000));
}

/// Goal: an answer that breaks off is an error, not a short object. Method: the read starts well and fails half way, on a
/// small and on a large object; a listing fails too; the next read is whole.
#[tokio::test]
async fn broken_bodies() {
    let server = S3Server::start();
    let store = client(&server);
    for size in [1000, 3_000_000] {
        let (key, body) = (Path::from("object"), data(size));
        store.put(&key, body.clone().into()).await.unwrap();
        server.faults().add(Rule::once("GET", "", Fault::ResetInBody));
        let answer = store.get(&key).await.unwrap();
        assert_eq!(answer.meta.size, size as u64);
        let pieces: Vec<_> = answer.into_stream().collect().await;
        let got: usize = pieces.iter().flatten().map(Bytes::len).sum();
        assert!(0 < got && got <= size / 2, "{got} of {size}");
        assert!(pieces.last().unwrap().is_err());
        assert_eq!(server.requests().last().unwrap().sent, size as u64 / 2);
        assert_eq!(read(&store, "object").await.unwrap(), body);
    }
    server.faults().add(Rule { method: None, ..Rule::once("", "", Fault::ResetInBody) });
    put(&store, "not-a-read", "text").await.unwrap();
    assert!(store.list(None).try_collect::<Vec<_>>().await.is_err());
    assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 2);
}

/// Goal: statuses reach the client, for as many requests as asked, and nothing is done. Method: skip one, hit two, of three
/// kinds; a stall delays and then goes on.
#[tokio::test]
async fn statuses_and_stalls() {
    let server = S3Server::start();
    let store = client(&server);
    for status in [500, 503, 429] {
        let key = format!("status/{status}");
        let rule = Rule { skip: 1, times: 2, ..Rule::once("PUT", &key, Fault::Status(status)) };
        server.faults().add(rule);
        let mut ends = Vec::new();
        for text in ["first", "second", "third", "fourth"] {
            ends.push(put(&store, &key, text).await.map_err(|e| e.to_string()));
            let kept = read(&store, &key).await.unwrap();
            assert_eq!(kept, if text == "fourth" { "fourth" } else { "first" });
        }
        assert_eq!(ends.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, true]);
        assert!(ends[1].as_ref().unwrap_err().contains(&status.to_string()), "{ends:?}");
        let seen = server.requests().iter().filter(|seen| seen.status == Some(status)).count();
        assert_eq!(seen, 2);
    }
    server.faults().add(Rule::once("GET", "", Fault::Stall(Duration::from_millis(400))));
    let begun = Instant::now();
    assert_eq!(read(&store, "status/500").await.unwrap(), "fourth");
    assert!(begun.elapsed() >= Duration::from_millis(400));
}

/// Goal: chance hits about as often as asked, and the same requests for the same seed. Method: 200 requests in order at
/// 300 per mille, twice with one seed and once with another; none after `clear`.
#[tokio::test]
async fn chance() {
    let server = S3Server::start();
    let store = client(&server);
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        server.faults().random(seed, 300, &[Fault::Status(503), Fault::LoseAnswer, Fault::ResetBeforeAnswer]);
        let mut ends = Vec::new();
        for _ in 0..200 {
            ends.push(put(&store, "object", "text").await.is_ok());
        }
        runs.push(ends);
    }
    let hits = runs[0].iter().filter(|ok| !**ok).count();
    assert!((40..=80).contains(&hits), "{hits} of 200");
    assert!(runs[0] == runs[1] && runs[0] != runs[2]);
    server.faults().clear();
    let before = server.faults().hits();
    for _ in 0..50 {
        put(&store, "object", "text").await.unwrap();
    }
    assert_eq!(server.faults().hits(), before);
}

/// Goal: all bodies share the bandwidth, both ways. Method: at 1 MB/s, 2 MB up in two puts at once and 2 MB down take about
/// two seconds each; without the limit the waiting ends at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bandwidth() {
    let server = S3Server::start();
    let store = Arc::new(client(&server));
    server.faults().bandwidth(Some(1_000_000));
    let begun = Instant::now();
    let (one, two) = (Path::from("one"), Path::from("two"));
    let (first, second) = tokio::join!(store.put(&one, data(1_000_000).into()), store.put(&two, data(1_000_000).into()));
    first.and(second).unwrap();
    let up = begun.elapsed().as_secs_f64();
    assert!((1.5..4.0).contains(&up), "{up} s");
    let begun = Instant::now();
    let (first, second) = tokio::join!(read(&store, "one"), read(&store, "two"));
    assert_eq!(first.unwrap().len() + second.unwrap().len(), 2_000_000);
    let down = begun.elapsed().as_secs_f64();
    assert!((1.5..4.0).contains(&down), "{down} s");

    server.faults().bandwidth(Some(1000));
    let reading = tokio::spawn({
        let store = store.clone();
        async move { read(&store, "one").await }
    });
    store.head(&two).await.unwrap();
    server.faults().bandwidth(None);
    let begun = Instant::now();
    assert_eq!(reading.await.unwrap().unwrap().len(), 1_000_000);
    assert!(begun.elapsed() < Duration::from_secs(2));
}

/// Goal: a vanished store answers nothing, cuts what is under way, and is as before when it is back. Method: requests before,
/// during and after; one is stalled while the store goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn down_and_up() {
    let server = S3Server::start();
    let store = client(&server);
    put(&store, "object", "text").await.unwrap();
    server.faults().add(Rule::once("GET", "", Fault::Stall(Duration::from_secs(60))));
    let reading = tokio::spawn({
        let store = store.clone();
        async move { read(&store, "object").await }
    });
    while server.faults().hits() == 0 {
        tokio::task::yield_now().await;
    }
    server.faults().down(true);
    assert!(reading.await.unwrap().is_err());
    for _ in 0..3 {
        assert!(read(&store, "object").await.is_err());
        assert!(put(&store, "other", "text").await.is_err());
    }
    server.faults().down(false);
    assert_eq!(read(&store, "object").await.unwrap(), "text");
    assert!(matches!(read(&store, "other").await, Err(Error::NotFound { .. })));
}

/// Goal: only who knows the secret is served, and a server started again has what was there. Method: a wrong secret gets 403;
/// a second server over the same folder and port answers the same client, and a file that was changed comes back changed.
#[tokio::test]
async fn secrets_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let server = S3Server::start_in(folder.path(), None);
    let (store, port) = (client(&server), server.port());
    put(&store, "a/object", "text").await.unwrap();
    let stranger = client_with(&server, &[("aws_secret_access_key", "wrong")], 0);
    assert!(matches!(put(&stranger, "a/object", "other").await, Err(Error::PermissionDenied { .. })));
    assert_eq!(server.requests().last().unwrap().status, Some(403));
    server.clear_requests();
    assert!(server.requests().is_empty());

    drop(server);
    assert!(read(&store, "a/object").await.is_err());
    let server = S3Server::start_in(folder.path(), Some(port));
    assert_eq!(read(&store, "a/object").await.unwrap(), "text");
    std::fs::write(server.folder().join("a/object"), "tExt").unwrap();
    assert_eq!(read(&store, "a/object").await.unwrap(), "tExt");
    std::fs::remove_file(server.folder().join("a/object")).unwrap();
    assert!(matches!(read(&store, "a/object").await, Err(Error::NotFound { .. })));
}
