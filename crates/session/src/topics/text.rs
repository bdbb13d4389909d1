//! The texts of announcements: made once, and shared by all streams that get the same.

use bytes::Bytes;
use enfilade_mcp::json;
use std::sync::Arc;

/// What is announced for a changed resource.
pub(super) const UPDATED: &str = "notifications/resources/updated";

/// The texts of one announcement as they are needed. Streams come in no order, so two are remembered: the last one of
/// those without a listen request, which most have in common, and the last one with.
pub(super) struct Texts {
    method: &'static str,
    plain: Option<(Arc<str>, Bytes)>,
    listen: Option<(Arc<str>, Arc<str>, Bytes)>,
}

impl Texts {
    pub(super) fn new(method: &'static str) -> Self {
        Self { method, plain: None, listen: None }
    }

    /// The notice for one stream: of what its client knows by this URI (empty for lists), with the id of its listen
    /// request, if it is one.
    pub(super) fn of(&mut self, known: &Arc<str>, listen_id: Option<&Arc<str>>) -> Bytes {
        match (listen_id, &self.plain, &self.listen) {
            (None, Some((same, text)), _) if same == known => return text.clone(),
            (Some(id), _, Some((same, same_id, text))) if same == known && same_id == id => return text.clone(),
            _ => {}
        }
        let members = if known.is_empty() { String::new() } else { format!("\"uri\":{}", json::quote(known)) };
        let text = notification(self.method, &members, listen_id.map(|id| &**id));
        match listen_id {
            None => self.plain = Some((known.clone(), text.clone())),
            Some(id) => self.listen = Some((known.clone(), id.clone(), text.clone())),
        }
        text
    }
}

/// A notification, with the id of the listen request where there is one.
pub(crate) fn notification(method: &str, members: &str, listen_id: Option<&str>) -> Bytes {
    let params = match listen_id {
        Some(id) => {
            let comma = if members.is_empty() { "" } else { "," };
            format!(r#","params":{{{members}{comma}"_meta":{{"{}":{id}}}}}"#, enfilade_mcp::meta::SUBSCRIPTION_ID)
        }
        None if members.is_empty() => String::new(),
        None => format!(r#","params":{{{members}}}"#),
    };
    format!(r#"{{"jsonrpc":"2.0","method":"{method}"{params}}}"#).into()
}
