//! Chunks of text in, question–answer pairs out: prompts, providers, retries and pace.
//! It knows HTTP and the providers' dialects; whoever calls it owns leases, the cache of answers and the ledger.
//! It must never import a store, a coordinator, gRPC or tensors.

pub mod backoff;
pub mod breaker;
pub mod budget;
pub mod client;
pub mod concurrency;
pub mod failed;
pub mod gate;
pub mod http;
pub mod judge;
pub mod offline;
pub mod pace;
pub mod parse;
pub mod price;
pub mod prompt;
pub mod provider;
pub mod secret;
pub mod settings;

pub use client::{Asker, Judge, Judgement, Reply};
pub use failed::{Failed, FailedKind};
pub use gate::{Estimate, Gate, NoLimits, Permit, Stopped, Usage};
pub use judge::JudgeSettings;
pub use parse::{Malformed, QaPair};
pub use prompt::{Prompt, request_id};
pub use secret::Secret;
pub use settings::{Patience, Provider, QuestionSettings, SettingsError, Style};
