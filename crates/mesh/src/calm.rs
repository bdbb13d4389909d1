//! Tasks of a connection that are not woken by themselves. HTTP/2 wakes a stream's writer for room that the writer has
//! just asked for; such a wake-up costs a turn of the task, and wakes another thread to look for work.
//! Here the task is polled once more at once instead.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;
use hyper::rt::Executor;

/// After so many rounds the task is woken in earnest: others get their turn.
const ROUNDS_MAX: usize = 4;

thread_local! {
    /// The doorbell of what this thread polls now, by its address, and whether it rang meanwhile.
    static POLLED: Cell<(usize, bool)> = const { Cell::new((0, false)) };
}

/// What is woken in place of the task, and passes it on.
#[derive(Default)]
struct Doorbell(AtomicWaker);

impl Doorbell {
    fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }
}

impl Wake for Doorbell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match POLLED.get() {
            (polled, _) if polled == self.address() => POLLED.set((polled, true)),
            _ => self.0.wake(),
        }
    }
}

/// A future that is polled again at once when it wakes itself.
pub(crate) struct Calm<F> {
    inner: Pin<Box<F>>,
    doorbell: Arc<Doorbell>,
    waker: Waker,
}

impl<F: Future> Calm<F> {
    pub(crate) fn new(inner: F) -> Self {
        let doorbell = Arc::new(Doorbell::default());
        let waker = Waker::from(Arc::clone(&doorbell));
        Self { inner: Box::pin(inner), doorbell, waker }
    }
}

impl<F: Future> Future for Calm<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.doorbell.0.register(cx.waker());
        for _ in 0..ROUNDS_MAX {
            let polling = Polling::begin(&this.doorbell);
            if let Poll::Ready(output) = this.inner.as_mut().poll(&mut Context::from_waker(&this.waker)) {
                return Poll::Ready(output);
            }
            if !polling.rang() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// While it lives, this thread polls what has the doorbell.
struct Polling {
    outer: (usize, bool),
}

impl Polling {
    fn begin(doorbell: &Arc<Doorbell>) -> Self {
        Self { outer: POLLED.replace((doorbell.address(), false)) }
    }

    fn rang(&self) -> bool {
        POLLED.get().1
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        POLLED.set(self.outer);
    }
}

/// Runs the streams of a connection as calm tasks.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tasks;

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(Calm::new(future));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Polls a future that wakes itself `times` times before it has nothing to do.
    fn polled(times: usize) -> (usize, usize) {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut polls = 0;
        let mut calm = Calm::new(poll_fn(|cx| {
            polls += 1;
            if polls <= times {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        }));
        assert!(Pin::new(&mut calm).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(calm);
        (polls, count.0.load(Ordering::Relaxed))
    }

    #[test]
    fn what_wakes_itself_is_polled_again_and_its_task_is_not_woken() {
        assert_eq!(polled(0), (1, 0));
        assert_eq!(polled(1), (2, 0));
        assert_eq!(polled(1000), (ROUNDS_MAX, 1), "others get their turn");
    }

    #[test]
    fn what_others_wake_is_woken() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let kept = std::sync::Mutex::new(None);
        let mut calm = Calm::new(poll_fn(|cx| {
            *kept.lock().expect("no panic") = Some(cx.waker().clone());
            Poll::<()>::Pending
        }));
        let rings = || count.0.load(Ordering::Relaxed);
        for woken in 1..3 {
            assert!(Pin::new(&mut calm).poll(&mut Context::from_waker(&waker)).is_pending());
            kept.lock().expect("no panic").take().expect("kept").wake();
            assert_eq!(rings(), woken);
        }
        assert!(Pin::new(&mut calm).poll(&mut Context::from_waker(&waker)).is_pending());
        let other = kept.lock().expect("no panic").take().expect("kept");
        std::thread::spawn(move || other.wake()).join().expect("no panic");
        assert_eq!(rings(), 3);
    }
}
