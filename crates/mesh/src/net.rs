//! How nodes reach each other: dialling and accepting are parameters, so that tests can cut and a simulator can carry.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use enfilade_registry::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

/// A connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// What it is.
    fn as_any(&mut self) -> &mut dyn Any;
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// A connection of any kind.
pub type BoxIo = Box<dyn Io>;

/// Lets the runtime that will read and write a socket also wait for it. What is no socket stays as it is.
pub(crate) fn move_to(io: &mut BoxIo, runtime: &Handle) -> io::Result<()> {
    if let Some(socket) = (**io).as_any().downcast_mut::<TcpStream>() {
        let again = socket.as_fd().try_clone_to_owned()?;
        let _entered = runtime.enter();
        *socket = TcpStream::from_std(again.into())?;
    }
    Ok(())
}

/// Dials.
pub trait Net: Send + Sync {
    /// Opens a connection to `host:port`. The caller sets the limit of time.
    fn dial(&self, address: &str) -> BoxFuture<'static, io::Result<BoxIo>>;
}

/// Accepts.
pub trait Listen: Send + Sync {
    /// The next connection. An error of one connection is not the end of listening.
    fn accept(&self) -> BoxFuture<'_, io::Result<BoxIo>>;

    /// Where it listens.
    fn address(&self) -> io::Result<SocketAddr>;
}

/// TCP without delay of small writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpNet;

impl Net for TcpNet {
    fn dial(&self, address: &str) -> BoxFuture<'static, io::Result<BoxIo>> {
        let address = address.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxIo)
        })
    }
}

impl Listen for TcpListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<BoxIo>> {
        Box::pin(async move {
            let (stream, _) = TcpListener::accept(self).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxIo)
        })
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}
