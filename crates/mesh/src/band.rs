//! The tasks of one link as a single task of the runtime. HTTP/2 has one for the socket and some for each stream, and
//! every message passes through all of them: here they take turns at once, and no other thread is woken for it.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;
use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// After so many rounds other tasks of the runtime get their turn.
const ROUNDS_MAX: usize = 8;

thread_local! {
    /// The band that this thread polls now, by its address.
    static POLLED: Cell<usize> = const { Cell::new(0) };
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where the tasks of a connection run.
#[derive(Clone)]
pub(crate) enum Tasks {
    /// Each by itself.
    Apart,
    /// As a band. What happens in one of them stops the others: none may wait otherwise than by its waker.
    Together(Arc<Shared>),
}

/// What the members of a band share.
pub(crate) struct Shared {
    task: AtomicWaker,
    /// Those who have not had a turn yet: as many as the connection may have streams. None once the band has ended.
    new: Mutex<Option<Vec<Task>>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { task: AtomicWaker::new(), new: Mutex::new(Some(Vec::new())) }
    }
}

impl Shared {
    /// The band looks once more by itself before it rests.
    fn wake(&self) {
        if POLLED.get() != std::ptr::from_ref(self).addr() {
            self.task.wake();
        }
    }
}

impl Tasks {
    /// Runs `task`; its result, unless the connection ends before.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, result) = oneshot::channel();
        // Who asked may have lost interest.
        self.execute(async move { drop(sender.send(task.await)) });
        result
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        match self {
            Self::Apart => drop(tokio::spawn(future)),
            Self::Together(shared) => {
                let task: Task = Box::pin(async move { drop(future.await) });
                let late = match &mut *shared.new.lock() {
                    Some(new) => {
                        new.push(task);
                        None
                    }
                    None => Some(task),
                };
                drop(late);
                shared.wake();
            }
        }
    }
}

struct Member {
    task: Task,
    bell: Arc<Bell>,
    waker: Waker,
}

/// Rung when the member has something to do.
struct Bell {
    rang: AtomicBool,
    shared: Arc<Shared>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rang.swap(true, Ordering::AcqRel) {
            self.shared.wake();
        }
    }
}

impl Member {
    fn new(task: Task, shared: &Arc<Shared>) -> Self {
        let bell = Arc::new(Bell { rang: AtomicBool::new(true), shared: Arc::clone(shared) });
        let waker = Waker::from(Arc::clone(&bell));
        Self { task, bell, waker }
    }

    fn rang(&self) -> bool {
        self.bell.rang.swap(false, Ordering::AcqRel)
    }

    fn poll(&mut self) -> Poll<()> {
        self.task.as_mut().poll(&mut Context::from_waker(&self.waker))
    }
}

/// A connection and the tasks that it and its users run on it. Ends with the connection.
pub(crate) struct Band {
    shared: Arc<Shared>,
    connection: Option<Member>,
    others: Vec<Member>,
}

impl Band {
    pub(crate) fn new(shared: Arc<Shared>, connection: impl Future<Output = ()> + Send + 'static) -> Self {
        let connection = Some(Member::new(Box::pin(connection), &shared));
        Self { shared, connection, others: Vec::new() }
    }

    /// Gives everyone a turn whose bell rang; whether there was one.
    fn round(&mut self) -> bool {
        let mut any = false;
        let mut turn = |member: &mut Member| {
            let rang = member.rang();
            any |= rang;
            rang && member.poll().is_ready()
        };
        if self.connection.as_mut().is_some_and(&mut turn) {
            self.connection = None;
        }
        self.others.retain_mut(|member| !turn(member));
        let new = self.shared.new.lock().as_mut().map(std::mem::take).unwrap_or_default();
        any |= !new.is_empty();
        self.others.extend(new.into_iter().map(|task| Member::new(task, &self.shared)));
        any
    }
}

impl Drop for Band {
    /// Who comes late, or has had no turn, is told by being dropped.
    fn drop(&mut self) {
        let late = self.shared.new.lock().take();
        drop(late);
    }
}

impl Future for Band {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.task.register(cx.waker());
        let _polling = Polling::begin(&self.shared);
        for _ in 0..ROUNDS_MAX {
            if !self.round() {
                // Those who are left have seen that the connection has ended.
                return if self.connection.is_none() { Poll::Ready(()) } else { Poll::Pending };
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// While it lives, this thread polls the band.
struct Polling {
    outer: usize,
}

impl Polling {
    fn begin(shared: &Arc<Shared>) -> Self {
        Self { outer: POLLED.replace(Arc::as_ptr(shared).addr()) }
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        POLLED.set(self.outer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, poll_fn};
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(band: &mut Band, woken: &Arc<Count>) -> Poll<()> {
        Pin::new(band).poll(&mut Context::from_waker(&Waker::from(Arc::clone(woken))))
    }

    /// Polls a member that wakes itself `times` times before it has nothing to do: its polls, and wake-ups of the band.
    fn polled(times: usize) -> (usize, usize) {
        let (woken, polls) = (Arc::new(Count::default()), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&polls);
        let mut band = Band::new(
            Arc::default(),
            poll_fn(move |cx| {
                if count.fetch_add(1, Ordering::Relaxed) < times {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }),
        );
        assert!(poll(&mut band, &woken).is_pending());
        (polls.load(Ordering::Relaxed), woken.0.load(Ordering::Relaxed))
    }

    #[test]
    fn what_members_wake_has_its_turn_and_the_runtime_is_not_asked() {
        assert_eq!(polled(0), (1, 0));
        assert_eq!(polled(1), (2, 0));
        assert_eq!(polled(1000), (ROUNDS_MAX, 1), "others get their turn");
    }

    #[test]
    fn what_others_wake_is_woken_and_alone_has_its_turn() {
        let (woken, shared) = (Arc::new(Count::default()), Arc::<Shared>::default());
        let kept = Arc::new(Mutex::new(None));
        let (mine, turns) = (Arc::clone(&kept), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&turns);
        let mut band = Band::new(Arc::clone(&shared), pending());
        Tasks::Together(shared).execute(poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            *mine.lock() = Some(cx.waker().clone());
            Poll::<()>::Pending
        }));
        for rings in 1..4 {
            assert!(poll(&mut band, &woken).is_pending());
            assert_eq!(turns.load(Ordering::Relaxed), rings);
            let waker: Waker = kept.lock().take().expect("kept");
            std::thread::spawn(move || waker.wake()).join().expect("no panic");
            assert_eq!(woken.0.load(Ordering::Relaxed), rings);
        }
    }

    #[test]
    fn a_band_ends_with_its_connection() {
        let (woken, shared) = (Arc::new(Count::default()), Arc::<Shared>::default());
        let (end, ended) = oneshot::channel::<()>();
        let mut band = Band::new(Arc::clone(&shared), async move { drop(ended.await) });
        let tasks = Tasks::Together(shared);
        let mut done = tasks.run(async { 7 });
        let mut never = tasks.run(pending::<()>());
        assert!(poll(&mut band, &woken).is_pending());
        assert_eq!(done.try_recv(), Ok(7));
        end.send(()).expect("the connection lives");
        assert!(poll(&mut band, &woken).is_ready());
        let mut unseen = tasks.run(pending::<()>());
        drop(band);
        let mut late = tasks.run(pending::<()>());
        for ended in [&mut never, &mut unseen, &mut late] {
            assert_eq!(ended.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        }
    }
}
