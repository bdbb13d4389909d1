//! A network whose connections stand still while it is cut: nothing arrives, nothing is refused.

use enfilade_mesh::{BoxIo, Listen, Net, TcpNet};
use enfilade_registry::BoxFuture;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::time::{Sleep, sleep};

/// How often a cut connection looks whether it is healed.
const LOOK: Duration = Duration::from_millis(10);

/// Whether a node's network is cut.
#[derive(Clone, Default)]
pub struct Cut(Arc<AtomicBool>);

impl Cut {
    pub fn set(&self, cut: bool) {
        self.0.store(cut, Ordering::SeqCst);
    }

    fn is_cut(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    async fn healed(&self) {
        while self.is_cut() {
            sleep(LOOK).await;
        }
    }
}

pub struct CutNet(pub Cut);

impl Net for CutNet {
    fn dial(&self, address: &str) -> BoxFuture<'static, io::Result<BoxIo>> {
        let (cut, dialled) = (self.0.clone(), TcpNet.dial(address));
        Box::pin(async move {
            cut.healed().await;
            Ok(Box::new(CutIo::new(dialled.await?, cut)) as BoxIo)
        })
    }
}

pub struct CutListener(pub TcpListener, pub Cut);

impl Listen for CutListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<BoxIo>> {
        Box::pin(async move {
            let io = Listen::accept(&self.0).await?;
            self.1.healed().await;
            Ok(Box::new(CutIo::new(io, self.1.clone())) as BoxIo)
        })
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

struct CutIo {
    io: BoxIo,
    cut: Cut,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl CutIo {
    fn new(io: BoxIo, cut: Cut) -> Self {
        Self { io, cut, reading: None, writing: None }
    }
}

/// Ready once the network is not cut.
fn poll_healed(cut: &Cut, timer: &mut Option<Pin<Box<Sleep>>>, context: &mut Context<'_>) -> Poll<()> {
    while cut.is_cut() {
        ready!(timer.get_or_insert_with(|| Box::pin(sleep(LOOK))).as_mut().poll(context));
        *timer = None;
    }
    Poll::Ready(())
}

impl AsyncRead for CutIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(poll_healed(&this.cut, &mut this.reading, cx));
        Pin::new(&mut *this.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for CutIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(poll_healed(&this.cut, &mut this.writing, cx));
        Pin::new(&mut *this.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }
}
