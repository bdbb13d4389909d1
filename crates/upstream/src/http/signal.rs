//! The waker of one connection: wakes whoever uses the connection now, and nobody while it is idle. It stays the same
//! whoever that is, so sockets need not be registered anew for each call.

use futures::task::AtomicWaker;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Wakes the user of a connection, and tells it when the connection must end.
#[derive(Default)]
pub(crate) struct Signal {
    user: AtomicWaker,
    ended: AtomicBool,
}

impl Signal {
    /// From now on the task of `context` is the user.
    pub(crate) fn used_by(&self, context: &Context<'_>) {
        self.user.register(context.waker());
    }

    /// Nobody uses the connection.
    pub(crate) fn unused(&self) {
        self.user.take();
    }

    /// The connection must end, whatever is on it.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.user.wake();
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !QUIET.get() {
            self.user.wake();
        }
    }
}

/// Takes something from the connection with what it does to wake its driver left out: the caller is the driver, and
/// drives on before it waits again.
pub(crate) fn quietly<T>(take: impl FnOnce(&mut Context<'_>) -> T) -> T {
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            QUIET.set(false);
        }
    }
    QUIET.set(true);
    let _loud = Loud;
    take(&mut Context::from_waker(Waker::noop()))
}
