//! The MCP handler: hands each request to the file of its subject. One value serves one legacy
//! session, one modern HTTP request, or one stdio process; all of them share [`Shared`].

use std::borrow::Cow;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, CompleteRequestParams, CompleteResult,
    GetPromptRequestParams, GetPromptResponse, GetTaskParams, GetTaskResult, Implementation, InitializeRequestParams,
    InitializeResult, InputResponses, JsonObject, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse,
    ServerCapabilities, ServerConfig, SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter, Tool,
    UnsubscribeRequestParams, UpdateTaskParams,
};
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};

use super::call::{Call, is_modern};
use super::page::page;
use super::shared::{Session, Shared};
use super::{Era, completion, prompts, resources, tools};

/// The handler.
pub(super) struct Everything {
    shared: Arc<Shared>,
    session: Arc<Session>,
}

impl Everything {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, session: Arc::default() }
    }

    fn call(
        &self,
        name: &str,
        args: Option<JsonObject>,
        responses: Option<InputResponses>,
        state: Option<String>,
        ctx: RequestContext<RoleServer>,
    ) -> Call {
        Call {
            shared: self.shared.clone(),
            session: self.session.clone(),
            name: name.to_owned(),
            args: args.unwrap_or_default(),
            responses: responses.unwrap_or_default(),
            state,
            ctx,
        }
    }

    fn page_size(&self) -> Option<usize> {
        self.shared.options.page_size
    }
}

impl ServerHandler for Everything {
    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(match self.shared.options.era {
            Era::Both => ProtocolVersion::KNOWN_VERSIONS,
            Era::Legacy => ProtocolVersion::known_up_to(&ProtocolVersion::LATEST_WITH_INITIALIZE),
            Era::Modern => &[ProtocolVersion::V_2026_07_28],
        })
    }

    fn get_info(&self) -> ServerConfig {
        let mut capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .enable_completions()
            .enable_tasks()
            .build();
        // The builder's method for it is marked deprecated.
        capabilities.logging = Some(JsonObject::new());
        // What the SDK falls back to in `initialize`; a version without it makes it refuse instead.
        let fallback = match self.shared.options.era {
            Era::Modern => ProtocolVersion::LATEST,
            Era::Both | Era::Legacy => ProtocolVersion::LATEST_WITH_INITIALIZE,
        };
        ServerConfig::new(capabilities)
            .with_protocol_version(fallback)
            .with_server_info(Implementation::new(&self.shared.options.name, env!("CARGO_PKG_VERSION")))
            .with_instructions("A server for tests: every MCP feature behind known names.")
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        context.peer.set_peer_info(request.clone());
        let mut result = self.negotiate_initialize(&request)?;
        // Tasks exist here only as the extension of the modern era.
        result.capabilities.extensions = None;
        self.shared.hub.join(context.peer, self.session.clone());
        Ok(result)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        self.shared.called("tools/list");
        let (items, next) = page(tools::list(&self.shared), request, self.page_size())?;
        let mut result = ListToolsResult::with_all_items(items);
        result.next_cursor = next;
        Ok(result)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::find(&self.shared, name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let (responses, state) = (request.input_responses, request.request_state);
        let call = self.call(&request.name, request.arguments, responses, state, context);
        tools::call(&call).await
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        self.shared.called("prompts/list");
        let (items, next) = page(prompts::list(), request, self.page_size())?;
        let mut result = ListPromptsResult::with_all_items(items);
        result.next_cursor = next;
        Ok(result)
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let (responses, state) = (request.input_responses, request.request_state);
        let call = self.call(&request.name, request.arguments, responses, state, context);
        prompts::get(&call).await
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        self.shared.called("resources/list");
        let (items, next) = page(resources::list(), request, self.page_size())?;
        let mut result = ListResourcesResult::with_all_items(items);
        result.next_cursor = next;
        Ok(result)
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        self.shared.called("resources/templates/list");
        let (items, next) = page(resources::templates(), request, self.page_size())?;
        let mut result = ListResourceTemplatesResult::with_all_items(items);
        result.next_cursor = next;
        Ok(result)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let (responses, state) = (request.input_responses, request.request_state);
        let call = self.call(&request.uri, None, responses, state, context);
        resources::read(&call).await
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        completion::complete(&request)
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        if is_modern(&context) {
            return Err(ErrorData::method_not_found::<rmcp::model::SetLevelRequestMethod>());
        }
        *self.session.level.lock() = Some(request.level);
        Ok(())
    }

    async fn subscribe(&self, request: SubscribeRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        if !resources::known(&request.uri) {
            return Err(resources::not_found(&request.uri));
        }
        self.session.uris.lock().insert(request.uri);
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.session.uris.lock().remove(&request.uri);
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let mut accepted = requested.clone();
        if let Some(uris) = &mut accepted.resource_subscriptions {
            uris.retain(|uri| resources::known(uri));
        }
        Some(accepted)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let _listening = self.shared.hub.listen(context.sink().clone());
        tokio::select! {
            () = context.cancelled() => {}
            () = self.shared.stopping.cancelled() => {}
        }
        Ok(())
    }

    async fn on_cancelled(
        &self,
        notification: rmcp::model::CancelledNotificationParam,
        _: NotificationContext<RoleServer>,
    ) {
        tracing::debug!(id = ?notification.request_id, "cancelled");
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.shared.tasks.get_task(&request.task_id).map(GetTaskResult::new)
    }

    async fn update_task(&self, request: UpdateTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.shared.tasks.update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(&self, request: CancelTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.shared.tasks.cancel_task(&request.task_id)
    }
}
