//! A model for one purpose: how it is spoken to, and whether it takes a JSON schema.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::prompt::Form;
use crate::provider::{Dialect, Purpose};
use crate::settings::{QuestionSettings, SettingsError};

/// Chunks that were answered as text after an error 500 to JSON, none ever as JSON, until JSON is asked for no more.
const JSON_DOUBTS: u32 = 3;

/// A model, and what is asked of it.
pub(super) struct Model {
    pub(super) dialect: Dialect,
    /// Its name at the server.
    pub(super) name: String,
    pub(super) max_output_tokens: u32,
    purpose: Purpose,
    json: Json,
}

/// Whether JSON is asked for.
#[derive(Debug, Default)]
struct Json {
    off: AtomicBool,
    works: AtomicBool,
    doubts: AtomicU32,
}

impl Model {
    /// The model of these settings, asked for this.
    ///
    /// # Errors
    /// The address cannot be used, or the provider is `offline`.
    pub(super) fn new(settings: &QuestionSettings, purpose: Purpose) -> Result<Self, SettingsError> {
        let json = Json { off: AtomicBool::new(!settings.json), ..Json::default() };
        let dialect = Dialect::new(settings, purpose)?;
        Ok(Self { dialect, name: settings.model.clone(), max_output_tokens: settings.max_output_tokens, purpose, json })
    }

    pub(super) fn is_judge(&self) -> bool {
        self.purpose == Purpose::Judgement
    }

    pub(super) fn asks_json(&self) -> bool {
        !self.json.off.load(Ordering::Relaxed)
    }

    /// Learns from an answer whether the server takes a schema. True if JSON is asked for no more from here on.
    pub(super) fn learn(&self, form: Form, refused: bool, doubted: bool) -> bool {
        if form == Form::Json {
            self.json.works.store(true, Ordering::Relaxed);
            return false;
        }
        if self.json.works.load(Ordering::Relaxed) || !(refused || doubted) {
            return false;
        }
        let doubts = 1 + self.json.doubts.fetch_add(1, Ordering::Relaxed);
        (refused || doubts >= JSON_DOUBTS) && !self.json.off.swap(true, Ordering::Relaxed)
    }
}
