//! One POST: bounded in time and size, no redirects, the key in one header marked as sensitive.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};

use crate::settings::{Patience, SettingsError};

/// Bytes of an answer that are read.
pub const MOST_BODY_BYTES: usize = 4 << 20;

/// A request that is ready to be sent.
#[derive(Debug, Clone)]
pub struct Call {
    /// Where to.
    pub url: String,
    /// The header with the key.
    pub key: Option<(HeaderName, HeaderValue)>,
    /// JSON.
    pub body: Vec<u8>,
}

/// A server's answer, whatever its status.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The header Retry-After as it came.
    pub retry_after: Option<String>,
    /// The header Location as it came.
    pub location: Option<String>,
    /// At most `MOST_BODY_BYTES`.
    pub body: Vec<u8>,
}

/// Why there was no whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendError {
    /// What happened; the server's words in it are not scrubbed yet.
    pub what: String,
    /// Whether the server may have had the request, and may bill it.
    pub sent: bool,
}

/// What sends requests; replaced in tests.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// There was no whole answer.
    async fn post(&self, call: Call) -> Result<Answer, SendError>;
}

/// Transport over real sockets.
#[derive(Debug, Clone)]
pub struct Http(reqwest::Client);

impl Http {
    /// A client for one server. Over https the environment's proxy is used (it sees no key: the tunnel is encrypted); over plain
    /// http never.
    ///
    /// # Errors
    /// The system has no certificates to trust.
    pub fn new(base: &str, patience: &Patience) -> Result<Self, SettingsError> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("artel/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs_f64(patience.connect_seconds))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .pool_max_idle_per_host(patience.max_in_flight as usize);
        let plain = base.starts_with("http://");
        let builder = if plain { builder.no_proxy().tls_certs_only([]) } else { builder.https_only(true) };
        let client = builder.build().map_err(|e| SettingsError {
            key: "base_url",
            what: format!("cannot be reached over https: {}; install the system's CA certificates", causes(&e)),
        })?;
        Ok(Self(client))
    }
}

#[async_trait]
impl Transport for Http {
    async fn post(&self, call: Call) -> Result<Answer, SendError> {
        let mut request = self.0.post(&call.url).header(CONTENT_TYPE, "application/json").body(call.body);
        if let Some((name, value)) = call.key {
            request = request.header(name, value);
        }
        let mut response = request.send().await.map_err(|e| failed(e, "the request failed"))?;
        let text = |name: HeaderName| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (retry_after, location) = (text(RETRY_AFTER), text(LOCATION));
        let mut answer = Answer { status: response.status().as_u16(), retry_after, location, body: Vec::new() };
        while let Some(piece) = response.chunk().await.map_err(|e| failed(e, "the answer broke off"))? {
            if answer.body.len() + piece.len() > MOST_BODY_BYTES {
                let what = format!("the answer has more than {MOST_BODY_BYTES} bytes");
                return Err(SendError { what, sent: true });
            }
            answer.body.extend_from_slice(&piece);
        }
        Ok(answer)
    }
}

fn failed(error: reqwest::Error, what: &str) -> SendError {
    let sent = !error.is_connect() && !error.is_builder();
    SendError { what: format!("{what}: {}", causes(&error.without_url())), sent }
}

/// An error with everything below it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !out.contains(&text) {
            out = format!("{out}: {text}");
        }
        next = cause.source();
    }
    out
}
