//! What may be sent twice: by the protocol, or because the operator says so.

use crate::lists::ListKind;
use crate::node::Node;
use crate::owner::ServerId;
use crate::site::Site;
use crate::view::View;
use crate::viewer::Viewer;
use enfilade_mcp::json;
use enfilade_mcp::method::Method;

impl Node {
    /// Whether a request may be sent again although nobody knows what became of it: lists, reads and the like; a tool
    /// call only where the upstream's configuration says so. A tool whose name is not known here is not safe.
    #[must_use]
    pub fn safe(&self, server: ServerId, method: &str, params: Option<&str>) -> bool {
        match Method::parse(method) {
            Some(Method::ToolsCall) => {
                let name = params.and_then(|params| json::get(params, "name")).and_then(json::string);
                let view = self.views.get(server.0);
                view.zip(name).is_some_and(|(view, name)| may_replay(view, &name))
            }
            method => method.is_some_and(Method::is_safe),
        }
    }
}

fn may_replay(view: &View, name: &str) -> bool {
    if let Some((site, tool)) = view.known_tool(name) {
        return view.sites[site].may_replay(&tool, &Viewer::default());
    }
    // A node that has not listed yet knows at least how names are built.
    view.sites.iter().any(|site| {
        let tool = name.strip_prefix(site.name()).and_then(|rest| rest.strip_prefix("__"));
        tool.is_some_and(|tool| site.connector.config().replay_safe.iter().any(|safe| safe == tool))
    })
}

impl Site {
    /// Whether a tool of this upstream may be called twice.
    pub(crate) fn may_replay(&self, tool: &str, viewer: &Viewer) -> bool {
        let config = self.connector.config();
        if config.replay_safe.iter().any(|safe| safe == tool) {
            return true;
        }
        if !config.trust_annotations {
            return false;
        }
        // Annotations are hints, and what an upstream says of itself (2025-11-25 tools, ToolAnnotations).
        let tools = self.last(ListKind::Tools, viewer);
        let item = tools.as_ref().and_then(|tools| tools.item(tool));
        let says = |hint: &str| item.is_some_and(|item| json::at(&item.text, &["annotations", hint]) == Some("true"));
        says("readOnlyHint") || says("idempotentHint")
    }
}
