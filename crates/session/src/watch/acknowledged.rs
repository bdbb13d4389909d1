//! The first message of a `subscriptions/listen` stream: what the upstream is going to announce.

use enfilade_mcp::envelope::{Envelope, Kind};
use enfilade_mcp::json;
use std::collections::BTreeSet;

/// The resource URIs that it names; none when the message refuses the whole.
pub(super) fn read(message: &[u8]) -> Option<BTreeSet<String>> {
    let envelope = Envelope::parse(message).ok()?;
    let Kind::Notification(notification) = envelope.kind else { return None };
    let uris = json::at(notification.params.unwrap_or("{}"), &["notifications", "resourceSubscriptions"]);
    Some(json::elements(uris.unwrap_or("[]")).filter_map(json::string).map(std::borrow::Cow::into_owned).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_acknowledgement_names_resources_and_an_error_refuses() {
        let read = |text: &str| super::read(text.as_bytes()).map(|uris| uris.into_iter().collect::<Vec<_>>());
        let head = r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":"#;
        let some = format!(r#"{head}{{"notifications":{{"resourceSubscriptions":["x://a",1]}}}}}}"#);
        assert_eq!(read(&some), Some(vec!["x://a".to_owned()]));
        assert_eq!(read(&format!(r#"{head}{{"notifications":{{"toolsListChanged":true}}}}}}"#)), Some(vec![]));
        assert_eq!(read(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}"#), None);
        assert_eq!(read("garbage"), None);
    }
}
