//! The resources: text, binary, watched, large, guarded by a question, and a template.

use rmcp::ErrorData;
use rmcp::model::{ReadResourceResponse, ReadResourceResult, Resource, ResourceContents, ResourceTemplate};
use serde_json::json;

use super::ask::{Asked, ask, field, form};
use super::call::Call;
use super::content::PNG;

/// The size of `test://big`, more than one MiB.
const BIG_BYTES: usize = 2 * 1024 * 1024;

/// All resources in list order.
pub(super) fn list() -> Vec<Resource> {
    let resource = |uri: &str, name: &str, what: &str, mime: &str| {
        Resource::new(uri, name).with_description(what).with_mime_type(mime)
    };
    vec![
        resource("test://static-text", "static-text", "a fixed text", "text/plain"),
        resource("test://static-binary", "static-binary", "a fixed image", "image/png"),
        resource("test://watched-resource", "watched-resource", "a text to subscribe to", "text/plain"),
        resource("test://big", "big", "two MiB of text", "text/plain").with_size(BIG_BYTES as u64),
        resource("test://guarded", "guarded", "a text that asks the user first", "text/plain"),
    ]
}

/// All resource templates.
pub(super) fn templates() -> Vec<ResourceTemplate> {
    let template = ResourceTemplate::new("test://template/{id}/data", "template")
        .with_description("data of an id")
        .with_mime_type("application/json");
    vec![template]
}

/// Whether a URI names something that can be read or subscribed to.
pub(super) fn known(uri: &str) -> bool {
    template_id(uri).is_some() || list().iter().any(|resource| resource.uri == uri)
}

fn template_id(uri: &str) -> Option<&str> {
    uri.strip_prefix("test://template/")?.strip_suffix("/data").filter(|id| !id.is_empty() && !id.contains('/'))
}

/// Answers `resources/read`.
pub(super) async fn read(call: &Call) -> Result<ReadResourceResponse, ErrorData> {
    let uri = call.name.as_str();
    let contents = match uri {
        "test://static-text" => ResourceContents::text("This is the content of the static text resource.", uri),
        "test://static-binary" => ResourceContents::blob(PNG, uri).with_mime_type("image/png"),
        "test://watched-resource" => ResourceContents::text("Watched resource content", uri),
        "test://big" => ResourceContents::text("x".repeat(BIG_BYTES), uri),
        "test://guarded" => {
            let question = form("Who wants to read this?", "name", "string");
            match ask(call, vec![vec![("reader", question)]]).await? {
                Asked::Pending(result) => return Ok(result.into()),
                Asked::Answers(answers) => {
                    let name = field(&answers, "reader", "name");
                    ResourceContents::text(format!("Opened for {name}"), uri)
                }
            }
        }
        _ => {
            let id = template_id(uri).ok_or_else(|| not_found(uri))?;
            let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
            ResourceContents::text(data.to_string(), uri).with_mime_type("application/json")
        }
    };
    Ok(ReadResourceResult::new(vec![contents]).into())
}

/// The error for a URI that names nothing.
pub(super) fn not_found(uri: &str) -> ErrorData {
    ErrorData::resource_not_found(format!("resource not found: {uri}"), Some(json!({ "uri": uri })))
}
