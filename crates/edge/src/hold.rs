//! Keeps a connection's task from being woken by itself. hyper's body wakes the connection whenever a piece is taken from
//! it, even the last; but the taker runs in that very task. Such a wake-up costs a turn of the task, and wakes another
//! thread to look for work.

use futures::task::AtomicWaker;
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

thread_local! {
    /// While wake-ups are held back: whether there was one.
    static HELD: Cell<Option<bool>> = const { Cell::new(None) };
}

/// What is woken in place of a connection's task, and passes it on.
#[derive(Default)]
struct Doorbell(AtomicWaker);

impl Wake for Doorbell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match HELD.get() {
            None => self.0.wake(),
            Some(_) => HELD.set(Some(true)),
        }
    }
}

/// Runs a connection so that [`hold_back`] works in what it polls. Not for HTTP/2, whose streams are other tasks.
pub(crate) async fn run<F: Future>(mut connection: Pin<&mut F>) -> F::Output {
    let doorbell = Arc::new(Doorbell::default());
    let waker = Waker::from(doorbell.clone());
    poll_fn(|context| {
        doorbell.0.register(context.waker());
        connection.as_mut().poll(&mut Context::from_waker(&waker))
    })
    .await
}

/// Takes something with the wake-ups that it causes held back; true when there was one, which the caller must then make
/// up for.
pub(crate) fn hold_back<T>(take: impl FnOnce() -> T) -> (T, bool) {
    struct LetGo;
    impl Drop for LetGo {
        fn drop(&mut self) {
            HELD.set(None);
        }
    }
    HELD.set(Some(false));
    let _let_go = LetGo;
    let taken = take();
    (taken, HELD.get() == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_is_held_back_is_told_and_nothing_else_is_held_back() {
        let count = Arc::new(Count::default());
        let (task, doorbell) = (Waker::from(count.clone()), Arc::new(Doorbell::default()));
        let rings = || count.0.load(Ordering::Relaxed);
        let waker = Waker::from(doorbell.clone());
        doorbell.0.register(&task);
        assert_eq!((hold_back(|| waker.wake_by_ref()), rings()), (((), true), 0));
        assert_eq!((hold_back(|| 7), rings()), ((7, false), 0));
        hold_back(|| std::thread::scope(|scope| scope.spawn(|| waker.wake_by_ref()).join())).0.expect("no panic");
        assert_eq!(rings(), 1, "other threads are heard meanwhile");
        doorbell.0.register(&task);
        waker.wake();
        assert_eq!(rings(), 2);
    }
}
