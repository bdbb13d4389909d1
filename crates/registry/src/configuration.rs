//! The cluster's configuration: documents that operators applied, by version. What is in one means nothing here.
//! Rule: a version is the one before it plus one, and never changes; so nobody overwrites what he has not seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Outcome, Refusal, StateMachine};

/// Most bytes of one document.
pub const DOCUMENT_BYTES_MAX: usize = 256 << 10;

/// How many versions are kept: what one may go back to, the present one among them.
pub const VERSIONS_KEPT: usize = 10;

/// The documents that are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Configuration(BTreeMap<u64, Document>);

/// One version of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// As it was applied.
    pub text: Arc<str>,
    /// When, in registry time.
    pub at_ms: u64,
    /// The version that it puts back, if that was its purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverts: Option<u64>,
}

impl Configuration {
    /// The present version; 0 as long as nobody applied one.
    pub fn version(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(version, _)| *version)
    }

    /// The document of a version, if it is kept.
    pub fn get(&self, version: u64) -> Option<&Document> {
        self.0.get(&version)
    }

    /// The versions that are kept, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = (u64, &Document)> {
        self.0.iter().rev().map(|(version, document)| (*version, document))
    }

    pub(crate) fn is_empty(configuration: &Arc<Configuration>) -> bool {
        configuration.0.is_empty()
    }

    fn check(&self, version: u64, text: &str) -> Result<(), Refusal> {
        let is_repeat = self.get(version).is_some_and(|document| *document.text == *text);
        if text.len() > DOCUMENT_BYTES_MAX {
            Err(Refusal::DocumentTooLarge { bytes_max: DOCUMENT_BYTES_MAX as u64 })
        } else if version == self.version() + 1 || version == self.version() && is_repeat {
            Ok(())
        } else {
            Err(Refusal::OtherVersion { current: self.version() })
        }
    }

    fn put(&mut self, version: u64, document: Document) {
        self.0.entry(version).or_insert(document);
        while self.0.len() > VERSIONS_KEPT {
            self.0.pop_first();
        }
    }
}

impl StateMachine {
    /// The configuration. Cheap to clone.
    pub fn configuration(&self) -> &Arc<Configuration> {
        &self.placement.configuration
    }

    pub(crate) fn check_configuration(&self, version: u64, text: &str) -> Result<(), Refusal> {
        self.configuration().check(version, text)
    }

    pub(crate) fn apply_configuration(&mut self, version: u64, text: &Arc<str>, reverts: Option<u64>) -> Outcome {
        let document = Document { text: text.clone(), at_ms: self.now_ms(), reverts };
        Arc::make_mut(&mut self.placement.configuration).put(version, document);
        Outcome::Done
    }
}
