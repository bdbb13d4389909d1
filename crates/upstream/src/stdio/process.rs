//! One running process: a task that writes lines, one that reads them and hands each to its call, one that keeps the
//! process and ends it: stdin closed, then SIGTERM, then SIGKILL, each to its whole group.
//!
//! The reader never waits for anybody (see [`crate::queue`]), so a process is never held up by a slow consumer.

use super::group::Group;
use super::routes::{Direction, Routes};
use super::spawner::Spawner;
use crate::common::Common;
use crate::peer::{Call, CallError, Exchange, Messages, Source};
use crate::queue::{Class, Pushed, Queue};
use crate::wire;
use bytes::Bytes;
use enfilade_mcp::MESSAGE_BYTES_MAX;
use enfilade_mcp::line::{self, Decoded, Decoder};
use futures::future::BoxFuture;
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Lines that wait for the process to read; further senders wait too.
const LINES_MAX: usize = 64;
/// How long the process may take after its stdin was closed, and again after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// How long to read on after the process and its group are gone.
const DRAIN_MAX: Duration = Duration::from_millis(500);

/// A process. It is ended when this is dropped.
pub(crate) struct Process(Arc<Inner>);

struct Inner {
    common: Arc<Common>,
    routes: Mutex<Routes>,
    /// What belongs to no call.
    own: Queue,
    listening: AtomicBool,
    lines: mpsc::Sender<Line>,
    /// Cancelled when the process is to end.
    stop: CancellationToken,
    /// Cancelled when it has ended.
    exited: CancellationToken,
}

struct Line {
    message: Bytes,
    /// The request's id, for those that wait for an answer.
    id: Option<u64>,
}

impl Process {
    /// Takes over a child with piped stdin and stdout; `ended` runs once it is gone, and hears whether that was of its
    /// own accord.
    pub(crate) fn new(
        common: Arc<Common>,
        mut group: Group,
        spawner: Spawner,
        ended: impl FnOnce(bool) + Send + 'static,
    ) -> Option<Arc<Self>> {
        let child = &mut group.child;
        let (stdin, stdout) = (child.stdin.take()?, child.stdout.take()?);
        let (lines, waiting) = mpsc::channel(LINES_MAX);
        let inner = Arc::new(Inner {
            routes: Mutex::default(),
            own: Queue::default(),
            listening: AtomicBool::new(false),
            lines,
            stop: common.stop.child_token(),
            exited: CancellationToken::new(),
            common,
        });
        let tasks = &inner.common.tasks;
        if let Some(stderr) = child.stderr.take() {
            let exited = inner.exited.clone();
            let log = super::stderr::log(stderr, inner.common.name.clone());
            tasks.spawn(async move { exited.run_until_cancelled(log).await });
        }
        tasks.spawn(inner.clone().write(stdin, waiting));
        let reader = tokio::spawn(inner.clone().read(stdout));
        let keeper = inner.clone();
        tasks.spawn(async move {
            ended(keeper.keep(group, reader).await);
            // Its thread must not end before the process has.
            drop(spawner);
        });
        Some(Arc::new(Self(inner)))
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.0.stop.is_cancelled() && !self.0.exited.is_cancelled()
    }

    /// Ends the process in its own time.
    pub(crate) fn stop(&self) {
        self.0.stop.cancel();
    }

    /// Sends a request and waits for the first thing that comes back.
    pub(crate) async fn exchange(self: &Arc<Self>, call: Call<'_>) -> Result<Exchange, CallError> {
        let queue = self.0.routes.lock().begin(call.id, call.progress_token, call.method).ok_or(CallError::Gone)?;
        let pending = Pending { process: self.clone(), id: call.id, queue };
        self.write(Line { message: call.message, id: Some(call.id) }).await?;
        match pending.queue.pop().await {
            Some(Ok((Class::Response, answer))) => Ok(Exchange::Answer(answer)),
            Some(Ok((_, first))) => {
                Ok(Exchange::Stream(Messages::new(CallMessages { pending, first: Some(first), done: false })))
            }
            Some(Err(error)) => Err(error),
            None => Err(CallError::Lost),
        }
    }

    /// Sends what needs no answer.
    pub(crate) async fn send(&self, message: Bytes) -> Result<(), CallError> {
        self.write(Line { message, id: None }).await
    }

    async fn write(&self, line: Line) -> Result<(), CallError> {
        if self.0.stop.is_cancelled() {
            return Err(CallError::Gone);
        }
        self.0.lines.send(line).await.map_err(|_| CallError::Gone)
    }

    /// What the process says of its own accord; nothing while somebody else listens.
    pub(crate) fn listen(self: &Arc<Self>) -> Option<Messages> {
        let is_first = !self.0.listening.swap(true, Ordering::AcqRel);
        is_first.then(|| Messages::new(OwnMessages(self.clone())))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.stop.cancel();
    }
}

impl Inner {
    /// The writer: until the process is to end or does not take any more.
    async fn write(self: Arc<Self>, mut stdin: ChildStdin, mut waiting: mpsc::Receiver<Line>) {
        let (mut lines, mut buffer) = (Vec::new(), Vec::new());
        let writing = async {
            while waiting.recv_many(&mut lines, LINES_MAX).await > 0 {
                for Line { message, id } in lines.drain(..) {
                    buffer.clear();
                    // The owner sends JSON, which is UTF-8.
                    line::encode(&String::from_utf8_lossy(&message), &mut buffer);
                    if let Some(id) = id {
                        self.routes.lock().written(id);
                    }
                    if stdin.write_all(&buffer).await.is_err() {
                        return;
                    }
                    buffer.shrink_to(64 * 1024);
                }
            }
        };
        // Its stdin is closed as this ends; one that takes no more is of no use.
        self.stop.run_until_cancelled(writing).await;
        self.stop.cancel();
    }

    /// The reader: until the process closes its stdout.
    async fn read(self: Arc<Self>, mut stdout: ChildStdout) {
        let mut buffer = vec![0; 64 * 1024];
        let mut decoder = Decoder::new(MESSAGE_BYTES_MAX);
        while let Ok(read @ 1..) = stdout.read(&mut buffer).await {
            decoder.push(&buffer[..read]);
            while let Some(line) = decoder.next() {
                self.take(line);
            }
        }
        while let Some(line) = decoder.finish() {
            self.take(line);
        }
    }

    fn take(&self, line: Decoded) {
        let upstream = &*self.common.name;
        match line {
            Decoded::Message(line) => {
                let line = Bytes::from(line);
                let Some(line) = self.common.answers.hold(line.clone()) else { return self.no_memory_for(&line) };
                let Ok(text) = std::str::from_utf8(&line) else {
                    tracing::warn!(upstream, "a line of the process is not UTF-8");
                    return;
                };
                for part in wire::split(text) {
                    self.direct(part, line.slice_ref(part.as_bytes()));
                }
            }
            Decoded::TooLong { bytes, head } => {
                let for_call = self.routes.lock().too_large(&head);
                tracing::warn!(upstream, bytes, for_call, "a message of the process is over the limit");
            }
        }
    }

    /// The calls whose answers these are end without them.
    fn no_memory_for(&self, line: &[u8]) {
        for part in wire::split(std::str::from_utf8(line).unwrap_or_default()) {
            match wire::sort(part) {
                wire::Sort::Response(Some(id)) => {
                    let queue = self.routes.lock().end(id);
                    queue.into_iter().for_each(|queue| queue.end(Some(CallError::NoMemory)));
                }
                wire::Sort::Request { id, .. } => self.answer(wire::refusal(&id)),
                wire::Sort::Response(None) | wire::Sort::Notification { .. } => self.common.count_dropped(1),
                wire::Sort::Nothing => {}
            }
        }
    }

    fn direct(&self, text: &str, message: Bytes) {
        let direction = self.routes.lock().direct(text, self.listening.load(Ordering::Acquire));
        let pushed = match direction {
            Direction::Call(queue, class) => queue.push(class, message),
            Direction::Listener(class) => self.own.push(class, message),
            Direction::Back(answer) => return self.answer(answer),
            Direction::Nowhere => return tracing::debug!(upstream = &*self.common.name, "message for nobody"),
        };
        match pushed {
            Pushed::Taken { dropped } => self.common.count_dropped(dropped),
            Pushed::Refused => match wire::sort(text) {
                wire::Sort::Request { id, .. } => self.answer(wire::refusal(&id)),
                _ => self.common.count_dropped(1),
            },
        }
    }

    /// Answers the process, unless it reads nothing: then it is not waiting for this.
    fn answer(&self, message: String) {
        let _ = self.lines.try_send(Line { message: message.into(), id: None });
    }

    /// The keeper: until the process is gone. True when that was of its own accord.
    async fn keep(&self, mut group: Group, mut reader: JoinHandle<()>) -> bool {
        let unasked = tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            _ = group.child.wait() => true,
            // Without stdout it is of no use.
            _ = &mut reader => true,
        };
        self.stop.cancel();
        for signal in [None, Some(Signal::SIGTERM), Some(Signal::SIGKILL)] {
            if let Some(signal) = signal {
                group.signal(signal);
            }
            if let Ok(status) = tokio::time::timeout(GRACE, group.child.wait()).await {
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                match unasked {
                    true => tracing::warn!(upstream = &*self.common.name, status, "the process ended"),
                    false => tracing::debug!(upstream = &*self.common.name, status, "the process was ended"),
                }
                break;
            }
        }
        // Whoever it had started itself.
        drop(group);
        if !reader.is_finished() && tokio::time::timeout(DRAIN_MAX, &mut reader).await.is_err() {
            reader.abort();
        }
        self.exited.cancel();
        self.routes.lock().end_all();
        self.own.end(None);
        unasked
    }
}

/// A call in flight; it is forgotten when this is dropped.
struct Pending {
    process: Arc<Process>,
    id: u64,
    queue: Arc<Queue>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.process.0.routes.lock().end(self.id);
    }
}

/// The messages of one call.
struct CallMessages {
    pending: Pending,
    first: Option<Bytes>,
    done: bool,
}

impl CallMessages {
    async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        if self.done {
            return None;
        }
        let next = self.pending.queue.pop().await;
        self.done = !matches!(next, Some(Ok((Class::Notification | Class::Request, _))));
        Some(next.unwrap_or(Err(CallError::Lost)).map(|(_, message)| message))
    }
}

impl Source for CallMessages {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, CallError>>> {
        Box::pin(self.next())
    }
}

/// The messages of no call.
struct OwnMessages(Arc<Process>);

impl Source for OwnMessages {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, CallError>>> {
        Box::pin(async { Some(self.0.0.own.pop().await?.map(|(_, message)| message)) })
    }
}

impl Drop for OwnMessages {
    fn drop(&mut self) {
        self.0.0.listening.store(false, Ordering::Release);
    }
}
