//! Chunks of text in, question–answer pairs out: prompts, providers, retries and pace. Knows no store and no coordinator.
