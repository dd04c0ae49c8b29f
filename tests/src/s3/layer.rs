//! What stands before the S3 service: it notes each request, and lets it go wrong where a fault says so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use s3s::service::S3Service;
use s3s::{Body, HttpResponse, StdError};

use super::faults::{Fault, Faults};
use super::pace::Paced;

/// How many requests are remembered; later ones are not.
const MOST_SEEN: usize = 1 << 20;

/// A request that the server saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// GET, HEAD, PUT, POST, DELETE (a bulk delete too, though it travels as a POST) or LIST (a listing, a GET of the bucket).
    pub method: String,
    /// The key; a listing's prefix; the keys of a bulk delete, one a line.
    pub key: String,
    /// The query as sent, in which the steps of a multipart upload differ (`uploads`, `partNumber=`, `uploadId=`).
    pub query: String,
    /// The status answered; none where the client got no answer.
    pub status: Option<u16>,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the answer's body that were to be sent.
    pub sent: u64,
}

/// The end of a connection on which the client gets no more.
#[derive(Debug)]
pub(super) struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection was cut, as the test asked")
    }
}

impl std::error::Error for Cut {}

/// The layer.
pub(super) struct Layer {
    service: S3Service,
    bucket: &'static str,
    pub(super) faults: Arc<Faults>,
    seen: Mutex<Vec<Seen>>,
}

impl Layer {
    pub(super) fn new(service: S3Service, bucket: &'static str) -> Self {
        Self { service, bucket, faults: Arc::new(Faults::new()), seen: Mutex::default() }
    }

    /// The requests seen so far.
    pub(super) fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().expect("nothing panics while it holds the requests")
    }

    /// Answers a request, or cuts its connection.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<HttpResponse, Cut> {
        let (head, body) = request.into_parts();
        let mut note = Note::new(&self, self.name(&head));
        let mut body = Paced::new(Body::from(body), self.faults.clone(), note.received.clone()).boxed();
        if note.seen.method == "DELETE" && head.method == Method::POST {
            let list = body.collect().await.map_err(|_| Cut)?.to_bytes();
            note.seen.key = keys_within(&list);
            body = Body::from(list);
        }
        let fault = self.faults.decide(&note.seen.method, &note.seen.key);
        match fault {
            // read to its end, so that the client gets the answer instead of a failure to send
            Some(Fault::Status(status)) => {
                drain(body).await?;
                return Ok(note.answered(refusal(status)));
            }
            Some(Fault::ResetBeforeAnswer) => {
                drain(body).await?;
                return Err(Cut);
            }
            Some(Fault::Stall(time)) => tokio::time::sleep(time).await,
            Some(Fault::LoseAnswer | Fault::ResetInBody) | None => {}
        }
        let answer = self.service.call(Request::from_parts(head, body)).await.map_err(|_| Cut)?;
        if fault == Some(Fault::LoseAnswer) {
            return Err(Cut);
        }
        self.send(answer, note, fault == Some(Fault::ResetInBody))
    }

    /// Sends an answer at the pace, half of it where it is to break off.
    fn send(&self, answer: HttpResponse, mut note: Note<'_>, breaks: bool) -> Result<HttpResponse, Cut> {
        let length = if note.seen.method == "HEAD" { None } else { length(&answer) };
        note.seen.sent = length.unwrap_or(0);
        let paced = |body| Paced::new(body, self.faults.clone(), Arc::default());
        if !breaks {
            return Ok(note.answered(answer.map(|body| paced(body).boxed())));
        }
        // what has no half cannot break off half way
        let half = length.map(|length| length / 2).filter(|half| *half > 0).ok_or(Cut)?;
        note.seen.sent = half;
        Ok(note.answered(answer.map(|body| paced(body).breaking_after(half).boxed())))
    }

    /// The method and key by which a request is known.
    fn name(&self, head: &Parts) -> Seen {
        let path = head.uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let query = head.uri.query().unwrap_or_default();
        let pairs = || query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let asks = |wanted: &str| pairs().find(|(name, _)| *name == wanted).map(|(_, value)| value);
        let on_bucket = bucket == self.bucket && key.is_empty();
        let (method, key) = match head.method.as_str() {
            // a query has spaces as plus signs, a path has not
            "GET" if on_bucket => ("LIST", decoded(&asks("prefix").unwrap_or_default().replace('+', " "))),
            "POST" if on_bucket && asks("delete").is_some() => ("DELETE", String::new()),
            method => (method, decoded(key)),
        };
        Seen { method: method.to_owned(), key, query: query.to_owned(), status: None, received: 0, sent: 0 }
    }
}

/// Notes a request at its end, however it ends: a client that goes away drops the work on its request.
struct Note<'a> {
    layer: &'a Layer,
    seen: Seen,
    received: Arc<AtomicU64>,
}

impl<'a> Note<'a> {
    fn new(layer: &'a Layer, seen: Seen) -> Self {
        Self { layer, seen, received: Arc::default() }
    }

    fn answered(mut self, answer: HttpResponse) -> HttpResponse {
        self.seen.status = Some(answer.status().as_u16());
        answer
    }
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        self.seen.received = self.received.load(Ordering::Relaxed);
        let mut seen = self.layer.seen();
        if seen.len() < MOST_SEEN {
            seen.push(self.seen.clone());
        }
    }
}

async fn drain(mut body: Body) -> Result<(), Cut> {
    while let Some(frame) = body.frame().await {
        frame.map_err(|_: StdError| Cut)?;
    }
    Ok(())
}

/// The bytes of an answer's body, as far as it tells.
fn length(answer: &HttpResponse) -> Option<u64> {
    let header = answer.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    header.or_else(|| answer.body().size_hint().exact())
}

/// An error as S3 words it.
fn refusal(status: u16) -> HttpResponse {
    let code = match status {
        429 => "TooManyRequests",
        503 => "SlowDown",
        _ => "InternalError",
    };
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as the test asked</Message></Error>");
    let mut answer = Response::new(Body::from(text));
    *answer.status_mut() = StatusCode::from_u16(status).expect("a test asks for a status that there is");
    answer.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/xml"));
    answer
}

/// The keys that a bulk delete names, one a line.
fn keys_within(list: &Bytes) -> String {
    let text = String::from_utf8_lossy(list);
    let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>")).map(|(key, _)| unescaped(key));
    keys.collect::<Vec<_>>().join("\n")
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

/// A path or query without its percent signs.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let digits = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
