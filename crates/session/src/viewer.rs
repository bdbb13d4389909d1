//! Who looks at a list: MCP servers offer tools and prompts according to the capabilities that a client declares.

use crate::live::Live;
use std::sync::Arc;

/// The capabilities that a list was asked with, in one spelling; none for what everybody sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scope(Option<Arc<str>>);

/// Capabilities longer than this, in bytes, do not get lists of their own.
const CAPABILITIES_BYTES_MAX: usize = 4_096;

impl Scope {
    /// Members in one order and without white space, so that equal capabilities are one scope.
    pub(crate) fn of(capabilities: &str) -> Self {
        if capabilities == "{}" || capabilities.len() > CAPABILITIES_BYTES_MAX {
            return Self::default();
        }
        let value = serde_json::from_str::<serde_json::Value>(capabilities).ok();
        let text = value.map(|value| value.to_string()).filter(|text| text != "{}");
        Self(text.map(Into::into))
    }

    /// As [`Scope::of`] for what a session's record says, which most clients spell like that already.
    pub(crate) fn of_record(capabilities: &Arc<str>) -> Self {
        match Self::of(capabilities) {
            Self(Some(text)) if text == *capabilities => Self(Some(capabilities.clone())),
            other => other,
        }
    }

    pub(crate) fn is_public(&self) -> bool {
        self.0.is_none()
    }

    /// The capabilities, a JSON object.
    pub(crate) fn capabilities(&self) -> &str {
        self.0.as_deref().unwrap_or("{}")
    }
}

/// A client that looks at lists.
#[derive(Clone, Default)]
pub(crate) struct Viewer {
    pub(crate) scope: Scope,
    /// The session of a legacy client.
    pub(crate) live: Option<Arc<Live>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_capabilities_are_one_scope() {
        assert_eq!(Scope::of(r#"{ "b": {}, "a": {} }"#), Scope::of(r#"{"a":{},"b":{}}"#));
        assert_ne!(Scope::of(r#"{"a":{}}"#), Scope::of("{}"));
        assert!(Scope::of("{ }").is_public() && Scope::of("garbage").is_public() && Scope::default().is_public());
    }
}
