//! Where a request goes: which upstream, under which name, and what of its text must differ there.

use crate::lists::ListKind;
use crate::site::Site;
use crate::view::{Target, View};
use crate::viewer::Viewer;
use enfilade_mcp::envelope::Request;
use enfilade_mcp::method::Method;
use enfilade_mcp::{RpcError, Splice, json};
use std::sync::Arc;

/// A request's way.
#[derive(Debug)]
pub(crate) struct Route {
    /// Index of the upstream in its virtual server.
    pub(crate) site: usize,
    /// The target as the upstream names it: for `Mcp-Name`, and to find a tool's schema.
    pub(crate) name: Option<String>,
}

/// Finds the way of a request and notes the names and URIs that must be replaced in its text.
///
/// # Errors
/// −32602 for a target that does not exist or is not named, −32601 for a method that nobody here knows.
pub(crate) async fn route<'a>(
    view: &View,
    request: &Request<'a>,
    method: Option<Method>,
    viewer: &Viewer,
    splice: &mut Splice<'a>,
) -> Result<Route, RpcError> {
    let params = request.params.unwrap_or("{}");
    match method {
        Some(Method::ToolsCall) => by_name(view, ListKind::Tools, params, viewer, splice).await,
        Some(Method::PromptsGet) => by_name(view, ListKind::Prompts, params, viewer, splice).await,
        Some(Method::ResourcesRead) => {
            let raw = string_param(params, "uri")?;
            let uri = json::string(raw).unwrap_or_default();
            let target = view.resolve_uri(&uri).await.ok_or_else(|| resource_not_found(&uri))?;
            Ok(replace(raw, &uri, target, splice))
        }
        Some(Method::Complete) => completion(view, params, viewer, splice).await,
        Some(Method::TasksGet | Method::TasksUpdate | Method::TasksCancel | Method::TasksResult) => {
            task(view, params, splice)
        }
        _ if view.single().is_some() => Ok(Route { site: 0, name: None }),
        _ => Err(RpcError::method_not_found(&request.method)),
    }
}

/// −32602 for a resource that no upstream offers; legacy clients get −32002 (BRIDGE.md 13).
pub(crate) fn resource_not_found(uri: &str) -> RpcError {
    RpcError::invalid_params("Resource not found").with("uri", json::quote(uri))
}

async fn by_name<'a>(
    view: &View,
    kind: ListKind,
    params: &'a str,
    viewer: &Viewer,
    splice: &mut Splice<'a>,
) -> Result<Route, RpcError> {
    let raw = string_param(params, "name")?;
    let name = json::string(raw).unwrap_or_default();
    let what = if kind == ListKind::Tools { "tool" } else { "prompt" };
    let unknown =
        || RpcError::invalid_params(format!("Unknown {what}: {}", name.chars().take(128).collect::<String>()));
    let target = view.resolve_name(kind, &name, viewer).await.ok_or_else(unknown)?;
    // A tool that was left out of the list for a bad schema cannot be called either.
    if view.sites[target.site].last(kind, viewer).is_some_and(|list| list.refused.contains(&target.original)) {
        return Err(unknown());
    }
    Ok(replace(raw, &name, target, splice))
}

fn replace<'a>(raw: &'a str, known: &str, target: Target, splice: &mut Splice<'a>) -> Route {
    if target.original != known {
        splice.replace(raw, json::quote(&target.original));
    }
    Route { site: target.site, name: Some(target.original) }
}

async fn completion<'a>(
    view: &View,
    params: &'a str,
    viewer: &Viewer,
    splice: &mut Splice<'a>,
) -> Result<Route, RpcError> {
    let reference = json::get(params, "ref").ok_or_else(|| missing("ref"))?;
    let kind = json::get(reference, "type").and_then(json::string);
    let route = match kind.as_deref() {
        Some("ref/prompt") => by_name(view, ListKind::Prompts, reference, viewer, splice).await?,
        Some("ref/resource") => {
            let raw = string_param(reference, "uri")?;
            let uri = json::string(raw).unwrap_or_default();
            let target = view.resolve_uri(&uri).await.ok_or_else(|| resource_not_found(&uri))?;
            replace(raw, &uri, target, splice)
        }
        _ => return Err(RpcError::invalid_params("\"ref.type\" must be \"ref/prompt\" or \"ref/resource\"")),
    };
    Ok(Route { name: None, ..route })
}

fn task<'a>(view: &View, params: &'a str, splice: &mut Splice<'a>) -> Result<Route, RpcError> {
    let raw = string_param(params, "taskId")?;
    let id = json::string(raw).unwrap_or_default();
    let target = split_task(view, &id).ok_or_else(|| RpcError::invalid_params("Unknown task"))?;
    Ok(replace(raw, &id, target, splice))
}

/// A task id as clients know it: with its upstream in front where there are several.
pub(crate) fn issue_task(view: &View, site: usize, id: &str) -> Option<String> {
    view.single().is_none().then(|| format!("{}.{id}", view.sites[site].name()))
}

fn split_task(view: &View, id: &str) -> Option<Target> {
    if view.single().is_some() {
        return Some(Target { site: 0, original: id.to_owned() });
    }
    let (name, original) = id.split_once('.')?;
    let site = view.sites.iter().position(|site: &Arc<Site>| site.name() == name)?;
    Some(Target { site, original: original.to_owned() })
}

/// The JSON text of a param that must be a string.
pub(crate) fn string_param<'a>(params: &'a str, name: &str) -> Result<&'a str, RpcError> {
    json::get(params, name).filter(|raw| raw.starts_with('"')).ok_or_else(|| missing(name))
}

fn missing(name: &str) -> RpcError {
    RpcError::invalid_params(format!("Invalid params: \"{name}\" is missing or of the wrong type"))
}
