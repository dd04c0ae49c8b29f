use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};

use super::*;

fn probed(store: &Store) -> Probed {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(store.probe_timed())
}

fn names(probed: &Probed) -> Vec<&str> {
    probed.steps.iter().map(|(step, _)| *step).collect()
}

/// Goal: a probe tells each request's time and leaves nothing behind. Method: a folder that is there, one that is not, and a
/// file in its place.
#[test]
fn a_timed_probe_leaves_nothing() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let count = |folder: &Path| std::fs::read_dir(folder).expect("still there").count();
    let at = |folder: PathBuf| probed(&Store::open(&folder.display().to_string()).expect("a folder"));
    for folder in [scratch.path().to_path_buf(), scratch.path().join("not/there")] {
        let probed = at(folder);
        assert!(probed.error.is_none(), "{probed:?}");
        assert_eq!(names(&probed), ["create", "read", "refuse", "delete"]);
        assert_eq!(count(scratch.path()), 0);
    }
    std::fs::write(scratch.path().join("file"), "").expect("writable");
    let refused = at(scratch.path().join("file/store"));
    assert!(names(&refused).is_empty());
    assert!(refused.error.is_some_and(|error| error.to_string().contains("a file and no folder")));
    assert_eq!(count(scratch.path()), 1);
}

/// A store that takes every put for an unconditional one, as some S3 servers do.
#[derive(Debug, Default)]
struct Careless(InMemory);

impl std::fmt::Display for Careless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("careless")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Careless {
    async fn put_opts(&self, key: &Key, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.0.put_opts(key, payload, PutOptions { mode: PutMode::Overwrite, ..options }).await
    }

    async fn put_multipart_opts(
        &self,
        key: &Key,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> object_store::Result<GetResult> {
        self.0.get_opts(key, options).await
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, object_store::Result<Key>>,
    ) -> BoxStream<'static, object_store::Result<Key>> {
        self.0.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> object_store::Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

/// Goal: a store that ignores put-if-absent is found out, by both probes, and the object is deleted all the same. Method: one that
/// overwrites.
#[tokio::test]
async fn conditions_that_are_ignored() {
    let inner = std::sync::Arc::new(Careless::default());
    let store = Store { inner, prefix: Key::default(), url: "careless:".into(), folder: None, patience: Duration::from_secs(1) };
    let timed = store.probe_timed().await;
    assert_eq!(names(&timed), ["create", "read"]);
    let errors = [timed.error.expect("found out"), store.probe().await.expect_err("found out")];
    assert!(errors.iter().all(|error| error.to_string().contains("careless: ignores conditional writes")), "{errors:?}");
    assert_eq!(store.list().await.expect("readable"), Vec::<String>::new());
}
