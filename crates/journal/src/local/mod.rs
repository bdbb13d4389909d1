//! The registry of a single node: the state machine, made durable by a journal.
//!
//! Rule: a command is answered after it is synced and applied, so no answer is ever taken back.
//! Commands that wait together share one sync. Time is a parameter; it counts only while the node runs.

mod queue;
mod recovery;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use enfilade_registry::{
    BoxFuture, ClusterId, Command, Counts, Limits, Members, OnEnded, Outcome, Reader, SessionId, SessionRecord, Slot,
    SlotTable, StateMachine, WriteError, Writer,
};
use parking_lot::{Mutex, RwLock};

use self::queue::Queue;
use self::writer::WriterThread;
use crate::error::Tried as _;

pub use self::recovery::OpenError;

/// Reads a clock that only goes forward, in ms.
pub type NowMs = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How a local registry runs.
#[derive(Clone)]
pub struct LocalConfig {
    /// Where the journal lives.
    pub dir: PathBuf,
    /// The clock that ticks are measured with.
    pub now_ms: NowMs,
    /// Most commands that wait for the writer; more callers wait before they enter.
    pub queue_max: usize,
    /// Most commands that share one sync.
    pub batch_max: usize,
    /// No snapshot is taken below this many bytes of log.
    pub compact_log_bytes_min: u64,
}

impl LocalConfig {
    /// The defaults, in `dir`, with this clock.
    pub fn new(dir: impl Into<PathBuf>, now_ms: NowMs) -> LocalConfig {
        LocalConfig { dir: dir.into(), now_ms, queue_max: 4096, batch_max: 512, compact_log_bytes_min: 4 << 20 }
    }
}

/// A registry on this node's disk. Share it in an `Arc`; the end of the last one closes it.
pub struct LocalRegistry {
    shared: Arc<Shared>,
    now_ms: NowMs,
    /// The clock at the last tick.
    ticked_at_ms: Mutex<u64>,
    torn_bytes: u64,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What callers and the writer thread share.
struct Shared {
    state: RwLock<StateMachine>,
    queue: Queue,
    on_ended: RwLock<Option<OnEnded>>,
}

impl LocalRegistry {
    /// Opens the registry and starts its writer thread. Blocks while it reads the disk.
    ///
    /// # Errors
    /// The journal cannot be opened, or what it holds cannot be understood. Nothing is skipped.
    pub fn open(config: LocalConfig) -> Result<LocalRegistry, OpenError> {
        let (journal, state, torn_bytes) = recovery::recover(&config.dir)?;
        let shared = Arc::new(Shared {
            state: RwLock::new(state),
            queue: Queue::new(config.queue_max),
            on_ended: RwLock::new(None),
        });
        let writer = WriterThread::new(shared.clone(), journal, &config);
        let writer = std::thread::Builder::new()
            .name("registry-writer".to_owned())
            .spawn(move || writer.run())
            .tried("start the writer of", &config.dir)?;
        Ok(LocalRegistry {
            shared,
            ticked_at_ms: Mutex::new((config.now_ms)()),
            now_ms: config.now_ms,
            torn_bytes,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Moves registry time on by what the clock says has passed since the last tick. Call it about
    /// once a second. A tick that fails is lost: sessions then live longer, never shorter.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub async fn tick(&self) -> Result<Outcome, WriteError> {
        let elapsed_ms = {
            let mut ticked_at_ms = self.ticked_at_ms.lock();
            let now_ms = (self.now_ms)();
            now_ms.saturating_sub(std::mem::replace(&mut *ticked_at_ms, now_ms))
        };
        self.submit(Command::Tick { elapsed_ms }).await
    }

    /// Who hears of every session that ends. Called on the writer thread: it must not block.
    pub fn on_ended(&self, hear: OnEnded) {
        *self.shared.on_ended.write() = Some(hear);
    }

    /// Bytes of an unacknowledged batch that a crash had left, and that were dropped at the start.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// The state's digest. Reads everything.
    pub fn digest(&self) -> [u8; 32] {
        let frozen = self.shared.state.read().freeze();
        frozen.digest()
    }

    /// Whether commands are still taken: false once closed, or after the disk failed.
    pub fn is_writable(&self) -> bool {
        !self.shared.queue.is_stopped()
    }

    /// Takes no more commands, carries out those that wait, and gives up the directory. Blocks.
    pub fn close(&self) {
        self.shared.queue.stop();
        let writer = self.writer.lock().take();
        if let Some(Err(_)) = writer.map(JoinHandle::join) {
            tracing::error!("the registry's writer thread had panicked");
        }
    }
}

impl Drop for LocalRegistry {
    fn drop(&mut self) {
        self.close();
    }
}

impl Writer for LocalRegistry {
    /// Refuses what the present state refuses without writing it down, so that a client over its
    /// quota costs no disk. Hence a command that needs another one waits for that one's answer.
    fn submit(&self, command: Command) -> BoxFuture<'_, Result<Outcome, WriteError>> {
        Box::pin(async move {
            self.shared.state.read().check(&command)?;
            self.shared.queue.submit(command).await
        })
    }
}

impl Reader for LocalRegistry {
    fn session(&self, id: &SessionId) -> Option<Arc<SessionRecord>> {
        self.shared.state.read().get(id).cloned()
    }

    fn sessions_of_slot(&self, slot: Slot) -> Vec<Arc<SessionRecord>> {
        self.shared.state.read().by_slot(slot).cloned().collect()
    }

    fn sessions_of_principal(&self, principal: &str, limit: usize) -> Vec<Arc<SessionRecord>> {
        self.shared.state.read().by_principal(principal).take(limit).cloned().collect()
    }

    fn page(&self, after: Option<&SessionId>, limit: usize) -> Vec<Arc<SessionRecord>> {
        self.shared.state.read().page(after).take(limit).cloned().collect()
    }

    fn counts(&self) -> Counts {
        self.shared.state.read().counts()
    }

    fn limits(&self) -> Limits {
        *self.shared.state.read().limits()
    }

    fn now_ms(&self) -> u64 {
        self.shared.state.read().now_ms()
    }

    fn index(&self) -> u64 {
        self.shared.state.read().applied()
    }

    fn slot_table(&self) -> Arc<SlotTable> {
        self.shared.state.read().slots().clone()
    }

    fn members(&self) -> Arc<Members> {
        self.shared.state.read().members().clone()
    }

    fn cluster(&self) -> Option<ClusterId> {
        self.shared.state.read().cluster()
    }
}
