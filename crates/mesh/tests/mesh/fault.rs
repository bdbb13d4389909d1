//! A network whose connections can be cut, silenced and counted, per address.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use enfilade_mesh::{BoxIo, Net, TcpNet};
use enfilade_registry::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

/// What becomes of the bytes to and from an address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Connections break, and dialling fails.
    Cut,
    /// Nothing passes and nothing tells of it.
    Silent,
}

/// TCP under a weather that the test makes.
pub(crate) struct FaultNet {
    weather: Mutex<HashMap<String, Arc<Route>>>,
    dials: watch::Sender<usize>,
}

struct Route {
    state: Mutex<(Weather, Vec<Waker>)>,
}

impl FaultNet {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { weather: Mutex::default(), dials: watch::Sender::new(0) })
    }

    pub(crate) fn set(&self, address: &str, weather: Weather) {
        let route = self.route(address);
        let waiting = {
            let mut state = route.state.lock().unwrap();
            state.0 = weather;
            std::mem::take(&mut state.1)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Waits until so many attempts were made.
    pub(crate) async fn dialled(&self, times: usize) {
        self.dials.subscribe().wait_for(|dials| *dials >= times).await.unwrap();
    }

    fn route(&self, address: &str) -> Arc<Route> {
        let mut routes = self.weather.lock().unwrap();
        let fair = || Arc::new(Route { state: Mutex::new((Weather::Fair, Vec::new())) });
        Arc::clone(routes.entry(address.to_owned()).or_insert_with(fair))
    }
}

impl Net for FaultNet {
    fn dial(&self, address: &str) -> BoxFuture<'static, io::Result<BoxIo>> {
        self.dials.send_modify(|dials| *dials += 1);
        let route = self.route(address);
        let dial = TcpNet.dial(address);
        Box::pin(async move {
            let weather = route.state.lock().unwrap().0;
            match weather {
                Weather::Cut => return Err(io::ErrorKind::ConnectionRefused.into()),
                Weather::Silent => std::future::pending::<()>().await,
                Weather::Fair => {}
            }
            Ok(Box::new(FaultIo { inner: dial.await?, route }) as BoxIo)
        })
    }
}

struct FaultIo {
    inner: BoxIo,
    route: Arc<Route>,
}

impl FaultIo {
    fn check(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.route.state.lock().unwrap();
        // Whatever the connection waits for, a change of the weather wakes it.
        if !state.1.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.1.push(cx.waker().clone());
        }
        match state.0 {
            Weather::Fair => Poll::Ready(Ok(())),
            Weather::Cut => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Weather::Silent => Poll::Pending,
        }
    }
}

macro_rules! pass {
    ($self:ident, $cx:ident, $call:ident $(, $argument:expr)?) => {
        match $self.check($cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut $self.inner).$call($cx $(, $argument)?),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    };
}

impl AsyncRead for FaultIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        pass!(self, cx, poll_read, buf)
    }
}

impl AsyncWrite for FaultIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        pass!(self, cx, poll_write, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pass!(self, cx, poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pass!(self, cx, poll_shutdown)
    }
}
