//! Legacy sessions: the SDK's local session manager, plus a handle by which a running call can close
//! its own SSE stream. The SDK can close it but tells no handler which stream is its own.

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream::poll_fn;
use rmcp::model::{ClientJsonRpcMessage, GetExtensions, ServerJsonRpcMessage};
use rmcp::transport::WorkerTransport;
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionHandle, LocalSessionManager, LocalSessionManagerError, LocalSessionWorker,
};
use rmcp::transport::streamable_http_server::session::{EventStore, ServerSseMessage, SessionId, SessionManager};

/// Sessions end after this much silence; tests keep some open for long.
const IDLE_LIMIT: Duration = Duration::from_secs(3600);

/// What SSE streams tell clients about reconnecting.
const RETRY: Duration = Duration::from_millis(500);

/// The SSE stream on which a legacy call is answered.
#[derive(Clone)]
pub(super) struct OwnStream {
    session: LocalSessionHandle,
    id: u64,
}

impl OwnStream {
    /// Ends the stream while the call goes on; the client may resume it.
    pub(super) async fn close(&self) {
        if let Err(error) = self.session.close_sse_stream(self.id, Some(RETRY)).await {
            tracing::debug!(%error, "stream was closed already");
        }
    }
}

/// The session manager.
pub(super) struct Sessions(LocalSessionManager);

impl Sessions {
    pub(super) fn new() -> Self {
        let mut manager = LocalSessionManager::default();
        manager.session_config.keep_alive = Some(IDLE_LIMIT);
        manager.session_config.sse_retry = Some(RETRY);
        Self(manager)
    }
}

impl SessionManager for Sessions {
    type Error = LocalSessionManagerError;
    type Transport = WorkerTransport<LocalSessionWorker>;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        self.0.create_session().await
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        self.0.initialize_session(id, message).await
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        self.0.has_session(id).await
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        self.0.close_session(id).await
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        mut message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let session = self
            .0
            .sessions
            .read()
            .await
            .get(id)
            .cloned()
            .ok_or_else(|| LocalSessionManagerError::SessionNotFound(id.clone()))?;
        let receiver = session.establish_request_wise_channel().await?;
        if let (ClientJsonRpcMessage::Request(request), Some(stream)) = (&mut message, receiver.http_request_id) {
            let own = OwnStream { session: session.clone(), id: stream };
            request.request.extensions_mut().insert(own);
        }
        session.push_message(message, receiver.http_request_id).await?;
        let mut messages = receiver.inner;
        Ok(poll_fn(move |cx| messages.poll_recv(cx)))
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Self::Error> {
        self.0.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.0.create_standalone_stream(id).await
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.0.resume(id, last_event_id).await
    }

    fn event_store(&self) -> Option<Arc<dyn EventStore>> {
        None
    }
}
