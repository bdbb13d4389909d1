//! MCP on a pair of byte streams: standard input and output, or a pipe within a test.

use std::io;
use std::sync::Arc;

use rmcp::model::{
    ClientNotification, ClientRequest, DiscoverRequestMethod, ProtocolVersion, ServerConfig, ServerResult,
    SubscriptionsListenRequestMethod,
};
use rmcp::service::{NotificationContext, RequestContext};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::stdio_pipes;
use rmcp::{ErrorData, RoleServer, Service, serve_server};
use tokio::io::{AsyncRead, AsyncWrite};

use super::server::Everything;
use super::shared::Shared;
use super::{Era, Options};

/// Lines may be larger than the 16 MiB that tests send, for escapes and the envelope.
const LINE_BYTES_MAX: usize = 40 * 1024 * 1024;

/// Serves MCP on this process's standard streams until its input ends.
///
/// # Errors
///
/// The client broke the opening, or the task that serves failed.
pub async fn serve_stdio(options: Options) -> io::Result<()> {
    let (input, output) = stdio_pipes();
    serve_io(input, output, options).await
}

/// Serves MCP, one message per line, until `input` ends.
///
/// # Errors
///
/// The client broke the opening, or the task that serves failed.
pub async fn serve_io<R, W>(input: R, output: W, options: Options) -> io::Result<()>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let legacy = options.era == Era::Legacy;
    let handler = Everything::new(Arc::new(Shared::new(options)));
    let transport = AsyncRwTransport::new_server(input, output).with_max_line_length(LINE_BYTES_MAX);
    let service = Stdio { handler, legacy };
    let running = serve_server(service, transport).await.map_err(io::Error::other)?;
    running.waiting().await.map_err(io::Error::other)?;
    Ok(())
}

/// The handler, and in legacy mode a server that has never heard of the modern methods. The SDK
/// would answer them with modern errors, by which a client would take this server for a modern one.
struct Stdio {
    handler: Everything,
    legacy: bool,
}

impl Service<RoleServer> for Stdio {
    async fn handle_request(
        &self,
        request: ClientRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<ServerResult, ErrorData> {
        match request {
            ClientRequest::DiscoverRequest(_) if self.legacy => {
                Err(ErrorData::method_not_found::<DiscoverRequestMethod>())
            }
            ClientRequest::SubscriptionsListenRequest(_) if self.legacy => {
                Err(ErrorData::method_not_found::<SubscriptionsListenRequestMethod>())
            }
            request => Service::handle_request(&self.handler, request, context).await,
        }
    }

    async fn handle_notification(
        &self,
        notification: ClientNotification,
        context: NotificationContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Service::handle_notification(&self.handler, notification, context).await
    }

    fn get_info(&self) -> ServerConfig {
        Service::get_info(&self.handler)
    }

    fn supported_protocol_versions(&self) -> std::borrow::Cow<'static, [ProtocolVersion]> {
        Service::supported_protocol_versions(&self.handler)
    }
}
