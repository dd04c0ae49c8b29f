//! The file-backed S3 of `s3s-fs`, made exact where it is not.
//!
//! As it comes its conditional put looks first and writes later, so that a race has several winners; it writes an object
//! and what belongs to it one after the other, so that a client that goes away leaves halves of both; and it takes the
//! folders of keys for objects. Here one request at a time works on a key, and what a request has begun it finishes.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use s3s::dto::*;
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Keys share this many locks, so that their number has a bound.
const LOCKS: usize = 256;
/// The largest body of one request.
const MOST_BODY_BYTES: usize = 1 << 30;

/// S3 over a folder: `BUCKET/KEY` is the object's file.
pub(super) struct Exclusive {
    files: Arc<FileSystem>,
    root: PathBuf,
    locks: Vec<Arc<Mutex<()>>>,
}

impl Exclusive {
    /// Serves the buckets of an existing folder; panics where it cannot.
    pub(super) fn new(root: &Path) -> Self {
        let files = FileSystem::new(root).unwrap_or_else(|e| panic!("{}: cannot serve it: {e:?}", root.display()));
        let locks = std::iter::repeat_with(Arc::default).take(LOCKS).collect();
        Self { files: Arc::new(files), root: root.to_owned(), locks }
    }

    /// Locks these keys: always in the same order, so that no two requests wait for each other.
    async fn lock(&self, bucket: &str, keys: &[&str]) -> Vec<OwnedMutexGuard<()>> {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let mut places: Vec<usize> = keys.iter().map(|key| hasher.hash_one((bucket, key)) as usize % LOCKS).collect();
        places.sort_unstable();
        places.dedup();
        let mut held = Vec::with_capacity(places.len());
        for place in places {
            held.push(self.locks[place].clone().lock_owned().await);
        }
        held
    }

    fn file(&self, bucket: &str, key: &str) -> PathBuf {
        self.root.join(bucket).join(key.trim_start_matches('/'))
    }

    /// A folder of keys is no object.
    fn refuse_folder(&self, bucket: &str, key: &str) -> S3Result<()> {
        if self.file(bucket, key).is_dir() { Err(s3_error!(NoSuchKey)) } else { Ok(()) }
    }

    /// If-Match on a key without object is answered as real S3 does: there is no such key.
    fn refuse_absent(&self, bucket: &str, key: &str, if_match: Option<&ETagCondition>) -> S3Result<()> {
        if if_match.is_some() && !self.file(bucket, key).exists() { Err(s3_error!(NoSuchKey)) } else { Ok(()) }
    }

    /// An upload that is unknown, completed or aborted is answered as real S3 does, not as denied.
    fn refuse_unknown(&self, upload_id: &str) -> S3Result<()> {
        let is_id = upload_id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let known = is_id && self.root.join(format!(".upload-{upload_id}.json")).exists();
        if known { Ok(()) } else { Err(s3_error!(NoSuchUpload)) }
    }
}

/// Runs to its end what the client may no longer wait for.
async fn finish<T: Send + 'static>(work: impl Future<Output = S3Result<T>> + Send + 'static) -> S3Result<T> {
    tokio::spawn(work).await.unwrap_or_else(|_| Err(s3_error!(InternalError, "the request's work panicked")))
}

/// The whole body, before a lock is held for it: a slow client must not keep others from the key.
async fn whole(body: Option<StreamingBlob>) -> S3Result<Option<StreamingBlob>> {
    let Some(mut body) = body else { return Ok(None) };
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.next().await {
        let piece: Bytes = piece.map_err(|e| S3Error::with_source(S3ErrorCode::IncompleteBody, e))?;
        if bytes.len() + piece.len() > MOST_BODY_BYTES {
            return Err(s3_error!(EntityTooLarge));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Some(StreamingBlob::from(Body::from(bytes.freeze()))))
}

/// The conditions of a read.
struct ReadIf {
    matches: Option<ETagCondition>,
    differs: Option<ETagCondition>,
}

impl ReadIf {
    fn check(&self, found: Option<&ETag>) -> S3Result<()> {
        let same = |condition: &ETagCondition| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(tag) => found.is_some_and(|found| found.weak_cmp(tag)),
        };
        if self.matches.as_ref().is_some_and(|condition| !same(condition)) {
            return Err(s3_error!(PreconditionFailed));
        }
        if self.differs.as_ref().is_some_and(same) { Err(s3_error!(NotModified)) } else { Ok(()) }
    }
}

#[async_trait::async_trait]
impl S3 for Exclusive {
    async fn get_object(&self, mut req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.refuse_folder(&req.input.bucket, &req.input.key)?;
        // held until the file is open: what is written later is another file
        let _held = self.lock(&req.input.bucket, &[&req.input.key]).await;
        if let (Some(Range::Suffix { length }), Ok(file)) =
            (&mut req.input.range, self.file(&req.input.bucket, &req.input.key).metadata())
        {
            // more than there is means all of it
            *length = file.len().min(*length);
        }
        let condition = ReadIf { matches: req.input.if_match.take(), differs: req.input.if_none_match.take() };
        let answer = self.files.get_object(req).await?;
        condition.check(answer.output.e_tag.as_ref())?;
        Ok(answer)
    }

    async fn head_object(&self, mut req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.refuse_folder(&req.input.bucket, &req.input.key)?;
        let _held = self.lock(&req.input.bucket, &[&req.input.key]).await;
        let condition = ReadIf { matches: req.input.if_match.take(), differs: req.input.if_none_match.take() };
        let answer = self.files.head_object(req).await?;
        condition.check(answer.output.e_tag.as_ref())?;
        Ok(answer)
    }

    async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        req.input.body = whole(req.input.body.take()).await?;
        let held = self.lock(&req.input.bucket, &[&req.input.key]).await;
        if self.file(&req.input.bucket, &req.input.key).is_dir() {
            return Err(s3_error!(InvalidRequest, "this server cannot keep an object whose key is the folder of others"));
        }
        self.refuse_absent(&req.input.bucket, &req.input.key, req.input.if_match.as_ref())?;
        let files = self.files.clone();
        finish(async move {
            let _held = held;
            files.put_object(req).await
        })
        .await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let held = self.lock(&req.input.bucket, &[&req.input.key]).await;
        if self.file(&req.input.bucket, &req.input.key).is_dir() {
            return Ok(S3Response::new(DeleteObjectOutput::default()));
        }
        let files = self.files.clone();
        finish(async move {
            let _held = held;
            files.delete_object(req).await
        })
        .await
    }

    async fn delete_objects(&self, mut req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let bucket = req.input.bucket.clone();
        let keys: Vec<String> = req.input.delete.objects.iter().map(|object| object.key.clone()).collect();
        let held = self.lock(&bucket, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
        req.input.delete.objects.retain(|object| !self.file(&bucket, &object.key).is_dir());
        let files = self.files.clone();
        finish(async move {
            let _held = held;
            files.delete_objects(req).await
        })
        .await
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let CopySource::Bucket { bucket, key, .. } = &req.input.copy_source else { return Err(s3_error!(NotImplemented)) };
        if **bucket != *req.input.bucket {
            return Err(s3_error!(NotImplemented, "this server copies within a bucket only"));
        }
        self.refuse_folder(bucket, key)?;
        let held = self.lock(bucket, &[key, &req.input.key]).await;
        let files = self.files.clone();
        finish(async move {
            let _held = held;
            files.copy_object(req).await
        })
        .await
    }

    async fn upload_part(&self, mut req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        req.input.body = whole(req.input.body.take()).await?;
        self.refuse_unknown(&req.input.upload_id)?;
        self.files.upload_part(req).await
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let held = self.lock(&req.input.bucket, &[&req.input.key]).await;
        self.refuse_unknown(&req.input.upload_id)?;
        self.refuse_absent(&req.input.bucket, &req.input.key, req.input.if_match.as_ref())?;
        let files = self.files.clone();
        finish(async move {
            let _held = held;
            files.complete_multipart_upload(req).await
        })
        .await
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let held = self.lock(&req.input.bucket, &[&req.input.key]).await;
        self.refuse_unknown(&req.input.upload_id)?;
        let files = self.files.clone();
        finish(async move {
            let _held = held;
            files.abort_multipart_upload(req).await
        })
        .await
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.files.create_multipart_upload(req).await
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        self.files.list_parts(req).await
    }

    async fn upload_part_copy(&self, req: S3Request<UploadPartCopyInput>) -> S3Result<S3Response<UploadPartCopyOutput>> {
        self.files.upload_part_copy(req).await
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        self.files.list_objects(req).await
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.files.list_objects_v2(req).await
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.files.head_bucket(req).await
    }

    async fn get_bucket_location(&self, req: S3Request<GetBucketLocationInput>) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.files.get_bucket_location(req).await
    }

    async fn list_buckets(&self, req: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        self.files.list_buckets(req).await
    }
}
