//! An HTTP server that does what a test tells it to: answers, waits, hangs, breaks off, resets.

#![allow(dead_code, reason = "each test binary takes what it needs of it")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use artel_questions::{Estimate, Gate, Permit, Secret, Stopped, Usage};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The key that every test uses; it must show up nowhere.
pub const KEY: &str = "sk-0123456789abcdefXYZ";

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// How many requests came before it.
    pub number: usize,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as JSON.
    pub body: Value,
}

impl Request {
    /// The prompt, in either dialect.
    pub fn prompt(&self) -> &str {
        let gemini = self.body.pointer("/contents/0/parts/0/text");
        gemini.or_else(|| self.body.pointer("/messages/0/content")).and_then(Value::as_str).unwrap_or_default()
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Action {
    /// Answers.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Answers after so many milliseconds.
    Late(u64, Box<Action>),
    /// Never answers.
    Hang,
    /// Resets the connection.
    Reset,
    /// Promises more than it sends, then closes.
    BreakOff,
}

/// An answer without headers of its own.
pub fn answer(status: u16, body: impl ToString) -> Action {
    Action::Answer(status, vec![], body.to_string())
}

/// A chat completion in OpenAI's form.
pub fn chat(content: &str) -> Action {
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"});
    answer(200, json!({"choices": [choice], "usage": {"prompt_tokens": 150, "completion_tokens": 30, "total_tokens": 180}}))
}

/// A running server; it ends with the runtime of the test.
pub struct Server {
    /// Its address, without a path.
    pub base: String,
    /// What came.
    pub seen: Arc<Mutex<Vec<Request>>>,
    /// The most that were being answered at once.
    pub most: Arc<AtomicUsize>,
}

impl Server {
    /// Serves on a free port.
    pub async fn start(handle: impl Fn(&Request) -> Action + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (seen, now, most) = (Arc::default(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let server = Self { base, seen: Arc::clone(&seen), most: Arc::clone(&most) };
        let handle = Arc::new(handle);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handle, seen, now, most) = (handle.clone(), seen.clone(), now.clone(), most.clone());
                // a client that goes away ends its connection, nothing else
                tokio::spawn(async move { serve(stream, &*handle, &seen, &now, &most).await.ok() });
            }
        });
        server
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

async fn serve(
    stream: TcpStream,
    handle: &(impl Fn(&Request) -> Action + Send + Sync),
    seen: &Mutex<Vec<Request>>,
    now: &AtomicUsize,
    most: &AtomicUsize,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some((path, headers, body)) = read(&mut stream).await? {
        let request = {
            let mut seen = seen.lock().unwrap();
            let request = Request { number: seen.len(), path, headers, body };
            seen.push(request.clone());
            request
        };
        let mut action = handle(&request);
        most.fetch_max(1 + now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
        if let Action::Late(ms, then) = action {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            action = *then;
        }
        now.fetch_sub(1, Ordering::SeqCst);
        match action {
            Action::Answer(status, headers, body) => {
                let extra: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{extra}\r\n", body.len());
                stream.get_mut().write_all(format!("{head}{body}").as_bytes()).await?;
            }
            Action::Hang => std::future::pending().await,
            Action::Reset => return stream.get_ref().set_zero_linger(),
            Action::BreakOff => {
                stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"choices\": [").await?;
                return Ok(());
            }
            Action::Late(..) => unreachable!("one delay an answer"),
        }
    }
    Ok(())
}

type Read = (String, BTreeMap<String, String>, Value);

async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Read>> {
    let (mut path, mut headers) = (String::new(), BTreeMap::new());
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        match line.split_once(": ") {
            Some((name, value)) => _ = headers.insert(name.to_ascii_lowercase(), value.to_owned()),
            None => path = line.split(' ').nth(1).unwrap_or_default().to_owned(),
        }
    }
    let length: usize = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some((path, headers, serde_json::from_slice(&body).unwrap())))
}

/// A gate that lets so many requests through and adds up what they came to.
#[derive(Default)]
pub struct Counting {
    pub most: u64,
    given: AtomicU64,
    pub spent: Mutex<Usage>,
}

impl Counting {
    pub fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { most, ..Self::default() })
    }
}

#[async_trait]
impl Gate for Counting {
    async fn permit(&self, estimate: Estimate) -> Result<Permit, Stopped> {
        if self.given.fetch_add(1, Ordering::SeqCst) >= self.most {
            return Err(Stopped("max_requests is reached".into()));
        }
        Ok(Permit { estimate, tag: 0 })
    }

    fn settle(&self, permit: Permit, spent: Usage) {
        assert!(spent.tokens_out <= permit.estimate.tokens_out_max);
        *self.spent.lock().unwrap() += spent;
    }
}

/// The key as a secret.
pub fn secret() -> Secret {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::File::create(&path).unwrap().write_all(KEY.as_bytes()).unwrap();
    Secret::from_file(&path).unwrap()
}
