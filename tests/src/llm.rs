//! A server of OpenAI's API that does what a script says: faults that a real model server cannot be made to show.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Scripted {
    /// Answers with this text, as the model's.
    Say(String),
    /// Answers with this status and body.
    Status(u16, String),
    /// Never answers.
    Hang,
    /// Ends the connection in the middle.
    Cut,
}

/// What is done with the `n`th request (from 1) of one prompt.
pub type Script = dyn Fn(&str, u64) -> Scripted + Send + Sync;

/// What the server saw.
#[derive(Debug, Default)]
struct Seen {
    /// Requests by prompt.
    asked: HashMap<String, u64>,
    /// Those answered with a text, in full, by prompt.
    answered: HashMap<String, u64>,
    times: Vec<Instant>,
    in_flight: usize,
    most_in_flight: usize,
    /// Headers that a key stands in.
    keys: Vec<String>,
}

/// The server, on a thread of its own for as long as the process lives.
pub struct LlmServer {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl LlmServer {
    /// Starts one on a free port: every answer takes `delay`, and is what the script says.
    pub fn start(delay: Duration, script: impl Fn(&str, u64) -> Scripted + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a listener can be asked not to block");
        let address = listener.local_addr().expect("a bound listener has an address");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (script, shared): (Arc<Script>, _) = (Arc::new(script), seen.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("the listener does not block");
                loop {
                    let Ok((socket, _)) = listener.accept().await else { continue };
                    let (script, seen) = (script.clone(), shared.clone());
                    tokio::spawn(async move {
                        let answer = service_fn(move |request| answer(request, delay, script.clone(), seen.clone()));
                        let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), answer).await;
                    });
                }
            });
        });
        Self { address, seen }
    }

    /// What `base_url` says.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    fn seen<T>(&self, of: impl Fn(&Seen) -> T) -> T {
        of(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.seen(|seen| seen.asked.values().sum())
    }

    /// How often each prompt was sent.
    pub fn asked(&self) -> HashMap<String, u64> {
        self.seen(|seen| seen.asked.clone())
    }

    /// How often each prompt was answered.
    pub fn answered(&self) -> HashMap<String, u64> {
        self.seen(|seen| seen.answered.clone())
    }

    /// When requests came.
    pub fn times(&self) -> Vec<Instant> {
        self.seen(|seen| seen.times.clone())
    }

    /// The most requests at once.
    pub fn most_in_flight(&self) -> usize {
        self.seen(|seen| seen.most_in_flight)
    }

    /// What stood in the header of keys, each once.
    pub fn keys(&self) -> Vec<String> {
        self.seen(|seen| seen.keys.clone())
    }
}

/// One fewer is in flight, however the request ends.
struct InFlight(Arc<Mutex<Seen>>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).in_flight -= 1;
    }
}

async fn answer(
    request: Request<Incoming>,
    delay: Duration,
    script: Arc<Script>,
    seen: Arc<Mutex<Seen>>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let key = request.headers().get("authorization").and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let prompt = prompt(&body);
    let number = {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let number = seen.asked.entry(prompt.clone()).or_default();
        *number += 1;
        let number = *number;
        seen.times.push(Instant::now());
        seen.in_flight += 1;
        seen.most_in_flight = seen.most_in_flight.max(seen.in_flight);
        if !seen.keys.contains(&key) {
            seen.keys.push(key);
        }
        number
    };
    let in_flight = InFlight(seen.clone());
    tokio::time::sleep(delay).await;
    let reply = match script(&prompt, number) {
        Scripted::Say(text) => {
            *seen.lock().unwrap_or_else(PoisonError::into_inner).answered.entry(prompt).or_default() += 1;
            let choice = json!({ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": text } });
            let usage = json!({ "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120 });
            (200, json!({ "id": "1", "object": "chat.completion", "choices": [choice], "usage": usage }).to_string())
        }
        Scripted::Status(status, text) => (status, text),
        Scripted::Hang => std::future::pending::<Result<_, Infallible>>().await.unwrap_or_default(),
        Scripted::Cut => return Err(std::io::Error::other("the script ends it")),
    };
    drop(in_flight);
    let mut response = Response::new(Full::new(Bytes::from(reply.1)));
    *response.status_mut() = hyper::StatusCode::from_u16(reply.0).unwrap_or_default();
    if reply.0 == 429 {
        response.headers_mut().insert("retry-after", hyper::header::HeaderValue::from_static("1"));
    }
    Ok(response)
}

/// The text of all messages of a request.
fn prompt(body: &[u8]) -> String {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let messages = request["messages"].as_array().cloned().unwrap_or_default();
    messages.iter().filter_map(|message| message["content"].as_str().map(str::to_owned)).collect::<Vec<_>>().join("\n")
}
