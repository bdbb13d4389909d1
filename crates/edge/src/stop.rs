//! Tells connections and streams that the node stops. Thousands of tasks watch it, so an unchanged watch costs one
//! atomic load: the token, whose poll takes locks that all of them share, is polled once per waker.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The signal; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<State>);

#[derive(Debug, Default)]
struct State {
    stopped: AtomicBool,
    token: CancellationToken,
}

impl Stop {
    pub(crate) fn stop(&self) {
        self.0.stopped.store(true, Ordering::Release);
        self.0.token.cancel();
    }

    pub(crate) fn watch(&self) -> Watch {
        Watch { state: self.0.clone(), wait: None }
    }
}

/// One task's view of the signal.
#[derive(Debug)]
pub(crate) struct Watch {
    state: Arc<State>,
    wait: Option<(Waker, Pin<Box<WaitForCancellationFutureOwned>>)>,
}

impl Watch {
    /// True once stopped; otherwise the task will be woken.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> bool {
        if self.state.stopped.load(Ordering::Acquire) {
            return true;
        }
        if self.wait.as_ref().is_some_and(|(waker, _)| waker.will_wake(context.waker())) {
            return false;
        }
        let mut wait = Box::pin(self.state.token.clone().cancelled_owned());
        let stopped = wait.as_mut().poll(context).is_ready();
        self.wait = Some((context.waker().clone(), wait));
        stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;

    #[tokio::test]
    async fn every_watch_is_woken_whichever_task_polled_it_first() {
        let stop = Stop::default();
        let mut watch = stop.watch();
        assert!(!watch.poll(&mut Context::from_waker(Waker::noop())));
        let (polled, seen) = tokio::sync::oneshot::channel();
        let mut polled = Some(polled);
        let task = tokio::spawn(poll_fn(move |context| {
            let stopped = watch.poll(context);
            polled.take().map(|polled| polled.send(()));
            if stopped { Poll::Ready(()) } else { Poll::Pending }
        }));
        seen.await.expect("polled while nothing had stopped");
        stop.stop();
        task.await.expect("woken");
        assert!(stop.watch().poll(&mut Context::from_waker(Waker::noop())));
    }
}
