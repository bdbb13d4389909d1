//! The methods of MCP and what the gateway must know of each: where its target is named, and what its result may be.

/// A method that the gateway handles itself or routes by a param; every other one is passed or refused by name only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each variant is the method of that name")]
pub enum Method {
    Initialize,
    Discover,
    Ping,
    ToolsList,
    ToolsCall,
    ResourcesList,
    TemplatesList,
    ResourcesRead,
    ResourcesSubscribe,
    ResourcesUnsubscribe,
    PromptsList,
    PromptsGet,
    Complete,
    SetLevel,
    Listen,
    TasksGet,
    TasksUpdate,
    TasksCancel,
    TasksList,
    TasksResult,
}

impl Method {
    const NAMES: [(Self, &'static str); 20] = [
        (Self::Initialize, "initialize"),
        (Self::Discover, "server/discover"),
        (Self::Ping, "ping"),
        (Self::ToolsList, "tools/list"),
        (Self::ToolsCall, "tools/call"),
        (Self::ResourcesList, "resources/list"),
        (Self::TemplatesList, "resources/templates/list"),
        (Self::ResourcesRead, "resources/read"),
        (Self::ResourcesSubscribe, "resources/subscribe"),
        (Self::ResourcesUnsubscribe, "resources/unsubscribe"),
        (Self::PromptsList, "prompts/list"),
        (Self::PromptsGet, "prompts/get"),
        (Self::Complete, "completion/complete"),
        (Self::SetLevel, "logging/setLevel"),
        (Self::Listen, "subscriptions/listen"),
        (Self::TasksGet, "tasks/get"),
        (Self::TasksUpdate, "tasks/update"),
        (Self::TasksCancel, "tasks/cancel"),
        (Self::TasksList, "tasks/list"),
        (Self::TasksResult, "tasks/result"),
    ];

    /// The method of that name, if the gateway knows it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(method, _)| *method)
    }

    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(method, _)| *method == self).map_or("", |(_, name)| name)
    }

    /// The param that names the target, which `Mcp-Name` must repeat (2026-07-28 streamable-http, Standard Request
    /// Headers; for tasks, the extension's Routing Headers).
    #[must_use]
    pub fn name_param(self) -> Option<&'static str> {
        match self {
            Self::ToolsCall | Self::PromptsGet => Some("name"),
            Self::ResourcesRead => Some("uri"),
            Self::TasksGet | Self::TasksUpdate | Self::TasksCancel => Some("taskId"),
            _ => None,
        }
    }

    /// Methods that 2026-07-28 removed: there they are unknown.
    #[must_use]
    pub fn is_legacy_only(self) -> bool {
        matches!(
            self,
            Self::Initialize
                | Self::Ping
                | Self::SetLevel
                | Self::ResourcesSubscribe
                | Self::ResourcesUnsubscribe
                | Self::TasksList
                | Self::TasksResult
        )
    }

    /// Methods that came with 2026-07-28.
    #[must_use]
    pub fn is_modern_only(self) -> bool {
        matches!(self, Self::Discover | Self::Listen | Self::TasksUpdate)
    }

    /// Safe to run twice; `tools/call` only where an operator says so.
    #[must_use]
    pub fn is_safe(self) -> bool {
        !matches!(self, Self::ToolsCall | Self::TasksUpdate | Self::TasksCancel | Self::Initialize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for (method, name) in Method::NAMES {
            assert_eq!(Method::parse(name), Some(method));
            assert_eq!(method.as_str(), name);
        }
        assert_eq!(Method::parse("tools/Call"), None);
    }
}
