//! A registry in memory only: for tests, and for nodes that are told to keep nothing.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::{
    BoxFuture, ClusterId, Command, Counts, Limits, Members, OnEnded, Outcome, Reader, Refusal, SessionId,
    SessionRecord, Slot, SlotTable, StateMachine, WriteError, Writer,
};

/// A [`Reader`] and [`Writer`] without a disk.
#[derive(Default)]
pub struct MemoryRegistry {
    state: RwLock<StateMachine>,
    on_ended: RwLock<Option<OnEnded>>,
}

impl MemoryRegistry {
    /// An empty one.
    pub fn new() -> MemoryRegistry {
        MemoryRegistry::default()
    }

    /// Applies a command at the next index.
    ///
    /// # Errors
    /// The state machine refuses it.
    pub fn apply(&self, command: &Command) -> Result<Outcome, Refusal> {
        let result = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            let index = state.applied() + 1;
            state.apply(index, command)
        };
        if let Ok(outcome) = &result {
            let on_ended = self.on_ended.read().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(on_ended) = on_ended.filter(|_| !outcome.ended().is_empty()) {
                on_ended(outcome.ended());
            }
        }
        result
    }

    /// Who hears of sessions that end.
    pub fn on_ended(&self, hear: OnEnded) {
        *self.on_ended.write().unwrap_or_else(PoisonError::into_inner) = Some(hear);
    }

    fn state(&self) -> RwLockReadGuard<'_, StateMachine> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer for MemoryRegistry {
    fn submit(&self, command: Command) -> BoxFuture<'_, Result<Outcome, WriteError>> {
        Box::pin(async move { Ok(self.apply(&command)?) })
    }
}

impl Reader for MemoryRegistry {
    fn session(&self, id: &SessionId) -> Option<Arc<SessionRecord>> {
        self.state().get(id).cloned()
    }

    fn sessions_of_slot(&self, slot: Slot) -> Vec<Arc<SessionRecord>> {
        self.state().by_slot(slot).cloned().collect()
    }

    fn sessions_of_principal(&self, principal: &str, limit: usize) -> Vec<Arc<SessionRecord>> {
        self.state().by_principal(principal).take(limit).cloned().collect()
    }

    fn page(&self, after: Option<&SessionId>, limit: usize) -> Vec<Arc<SessionRecord>> {
        self.state().page(after).take(limit).cloned().collect()
    }

    fn counts(&self) -> Counts {
        self.state().counts()
    }

    fn limits(&self) -> Limits {
        *self.state().limits()
    }

    fn now_ms(&self) -> u64 {
        self.state().now_ms()
    }

    fn index(&self) -> u64 {
        self.state().applied()
    }

    fn slot_table(&self) -> Arc<SlotTable> {
        self.state().slots().clone()
    }

    fn members(&self) -> Arc<Members> {
        self.state().members().clone()
    }

    fn cluster(&self) -> Option<ClusterId> {
        self.state().cluster()
    }
}
