//! The state machine: sessions and their indexes, changed by `apply` and nothing else.
//! Invariant: no session is ever visible at or after its deadline, because only `Tick` moves time.

use std::sync::Arc;

use crate::intern::Interner;
use crate::placement::Placement;
use crate::principals::Principals;
use crate::record::{Client, Extras};
use crate::sessions::Sessions;
use crate::{
    ClusterId, Command, EndReason, Ended, Limits, Members, NewSession, Outcome, Refusal, Run, SessionId, SessionRecord,
    Slot, SlotTable, TOUCH_MAX, UpstreamBinding,
};

/// The registry's state. Equal commands at equal indexes make equal states.
#[derive(Clone, Debug, Default)]
pub struct StateMachine {
    pub(crate) applied: u64,
    pub(crate) now_ms: u64,
    pub(crate) limits: Limits,
    pub(crate) placement: Placement,
    pub(crate) sessions: Sessions,
    principals: Principals,
    subscriptions: u64,
    strings: Interner<str>,
    clients: Interner<Client>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions.
    pub sessions: u64,
    /// Principals that have a session.
    pub principals: u64,
    /// Resource subscriptions of all sessions.
    pub subscriptions: u64,
}

impl StateMachine {
    /// An empty registry at index and time 0, with default limits.
    pub fn new() -> StateMachine {
        StateMachine::default()
    }

    /// A registry of fewer slots, for simulations; everything else is alike.
    pub fn with_slots(count: u16) -> StateMachine {
        let placement = Placement { slots: Arc::new(SlotTable::with_slots(count)), ..Placement::default() };
        StateMachine { placement, ..StateMachine::default() }
    }

    /// Applies the command at `index`. Indexes rise; they may leave gaps.
    ///
    /// # Errors
    /// The command is refused: but for the index nothing changes, alike on every replica.
    pub fn apply(&mut self, index: u64, command: &Command) -> Result<Outcome, Refusal> {
        if index <= self.applied {
            return Err(Refusal::OldIndex { applied: self.applied });
        }
        self.applied = index;
        self.apply_one(index, command)
    }

    /// Applies the commands of one entry, in order, each as if alone: one that is refused does not hinder the others.
    pub fn apply_batch(&mut self, index: u64, commands: &[Command]) -> Vec<Result<Outcome, Refusal>> {
        if index <= self.applied {
            return vec![Err(Refusal::OldIndex { applied: self.applied }); commands.len()];
        }
        self.applied = index;
        commands.iter().map(|command| self.apply_one(index, command)).collect()
    }

    fn apply_one(&mut self, index: u64, command: &Command) -> Result<Outcome, Refusal> {
        self.check(command)?;
        Ok(match command {
            Command::Tick { elapsed_ms } => self.tick(*elapsed_ms),
            Command::Configure { limits } => {
                self.limits = *limits;
                Outcome::Done
            }
            Command::CreateSession(new) => self.create(new),
            Command::EndSession { id, reason } => Outcome::Ended(self.end(id, *reason).into_iter().collect()),
            Command::EndByPrincipal { principal, reason } => self.end_by_principal(principal, *reason),
            Command::BindUpstream { id, upstream, binding } => self.bind(id, upstream, binding),
            Command::UnbindUpstream { id, upstream } => self.update(id, |extras| {
                extras.upstreams.remove(upstream);
            }),
            Command::SetLogLevel { id, level } => {
                let level = level.as_ref().map(|level| self.strings.get(level));
                self.update(id, |extras| extras.log_level = level)
            }
            Command::Subscribe { id, uri } => self.subscribe(id, uri),
            Command::Unsubscribe { id, uri } => self.unsubscribe(id, uri),
            Command::Touch { idle } => self.touch(idle),
            Command::ApplyConfiguration { version, document, reverts } => {
                self.apply_configuration(*version, document, *reverts)
            }
            Command::Found { .. }
            | Command::Register { .. }
            | Command::Drain { .. }
            | Command::Remove { .. }
            | Command::Lead { .. }
            | Command::Take { .. }
            | Command::Assign { .. }
            | Command::Seconds { .. }
            | Command::InSync { .. }
            | Command::Move { .. }
            | Command::Done { .. }
            | Command::Abort { .. }
            | Command::Finalise { .. } => self.placement.apply(index, command),
        })
    }

    /// What `apply` would refuse in the present state. Lets a writer refuse without a log entry.
    ///
    /// # Errors
    /// The refusal.
    pub fn check(&self, command: &Command) -> Result<(), Refusal> {
        match command {
            Command::Tick { .. } | Command::EndByPrincipal { .. } => Ok(()),
            Command::Configure { limits } if limits.is_sound() => Ok(()),
            Command::Configure { .. } => Err(Refusal::BadLimits),
            Command::CreateSession(new) => self.check_create(new),
            Command::EndSession { id, .. } | Command::UnbindUpstream { id, .. } | Command::Unsubscribe { id, .. } => {
                self.known(id).map(drop)
            }
            Command::BindUpstream { id, upstream, binding } => {
                let session_id = binding.session_id.as_ref().map_or(0, |id| id.len());
                self.check_bytes(self.known(id)?.text_bytes() + upstream.len() + binding.version.len() + session_id)
            }
            Command::SetLogLevel { id, level } => {
                self.check_bytes(self.known(id)?.text_bytes() + level.as_ref().map_or(0, |level| level.len()))
            }
            Command::Subscribe { id, uri } => self.check_subscribe(self.known(id)?, uri),
            Command::Touch { idle } if idle.len() <= TOUCH_MAX => Ok(()),
            Command::Touch { .. } => Err(Refusal::TouchTooLong),
            Command::Finalise { version } => self.check_finalise(*version),
            Command::ApplyConfiguration { version, document, .. } => {
                self.may_propose(command)?;
                self.check_configuration(*version, document)
            }
            _ => self.placement.check(command),
        }
    }

    fn known(&self, id: &SessionId) -> Result<&SessionRecord, Refusal> {
        self.sessions.get(id).map(|record| &**record).ok_or(Refusal::UnknownSession)
    }

    fn check_create(&self, new: &NewSession) -> Result<(), Refusal> {
        let limits = &self.limits;
        if let Some(record) = self.sessions.get(&new.id) {
            return if new.created(record) { Ok(()) } else { Err(Refusal::AlreadyExists) };
        }
        if self.sessions.count() >= limits.sessions_max {
            return Err(Refusal::RegistryFull { max: limits.sessions_max });
        }
        if self.principals.count_of(&new.principal) >= limits.sessions_per_principal_max {
            return Err(Refusal::PrincipalQuota { max: limits.sessions_per_principal_max });
        }
        self.check_bytes(new.text_bytes())
    }

    fn check_subscribe(&self, record: &SessionRecord, uri: &Arc<str>) -> Result<(), Refusal> {
        let max = self.limits.subscriptions_per_session_max;
        if record.subscriptions().contains(uri) {
            Ok(())
        } else if record.subscriptions().len() as u64 >= u64::from(max) {
            Err(Refusal::SubscriptionQuota { max })
        } else {
            self.check_bytes(record.text_bytes() + uri.len())
        }
    }

    /// Text that replaces other text counts in full: simpler, and refused only close to the limit.
    fn check_bytes(&self, bytes: usize) -> Result<(), Refusal> {
        let bytes_max = self.limits.record_bytes_max;
        if bytes as u64 > u64::from(bytes_max) { Err(Refusal::RecordTooLarge { bytes_max }) } else { Ok(()) }
    }

    fn tick(&mut self, elapsed_ms: u64) -> Outcome {
        self.now_ms = self.now_ms.saturating_add(elapsed_ms);
        let mut ended = Vec::new();
        for id in self.sessions.due(self.now_ms) {
            let absolute = self.sessions.get(&id).is_some_and(|record| record.absolute_expires_at_ms <= self.now_ms);
            let reason = if absolute { EndReason::Absolute } else { EndReason::Idle };
            ended.extend(self.end(&id, reason));
        }
        Outcome::Ticked { now_ms: self.now_ms, ended }
    }

    fn create(&mut self, new: &NewSession) -> Outcome {
        if let Some(record) = self.sessions.get(&new.id) {
            return Outcome::Created(record.clone());
        }
        let client = self.share_client(new.client());
        let record = SessionRecord::new(new, client, self.now_ms, &self.limits);
        let record = Arc::new(self.share(record));
        self.insert(record.clone());
        Outcome::Created(record)
    }

    /// A record that was read from a snapshot, with what it shares with others.
    pub(crate) fn restored(&mut self, mut record: SessionRecord) -> Arc<SessionRecord> {
        let client = self.share_client(record.client().clone());
        record.share_client(client);
        Arc::new(self.share(record))
    }

    fn share_client(&mut self, client: Client) -> Arc<Client> {
        if let Some(shared) = self.clients.find(&client) {
            return shared;
        }
        let strings = &mut self.strings;
        let mut share = |text: Arc<str>| strings.get(&text);
        let (server, version) = (share(client.server), share(client.version));
        let (client_info, capabilities) = (share(client.client_info), share(client.capabilities));
        self.clients.get(&Arc::new(Client { server, version, client_info, capabilities }))
    }

    /// Gives the record the one copy of each string that others have too.
    fn share(&mut self, mut record: SessionRecord) -> SessionRecord {
        let strings = &mut self.strings;
        record.change(|extras| {
            extras.log_level = extras.log_level.take().map(|level| strings.get(&level));
            let upstreams = std::mem::take(&mut extras.upstreams).into_iter();
            let shared = upstreams.map(|(name, binding)| {
                let version = strings.get(&binding.version);
                (strings.get(&name), UpstreamBinding { version, ..binding })
            });
            extras.upstreams = shared.collect();
            extras.subscriptions = extras.subscriptions.iter().map(|uri| strings.get(uri)).collect();
        });
        if let Some(shared) = self.principals.shared(&record.principal) {
            record.principal = shared.clone();
        }
        record
    }

    /// Puts a session that is not there yet, and indexes it.
    pub(crate) fn insert(&mut self, record: Arc<SessionRecord>) {
        self.principals.insert(&record);
        self.subscriptions += record.subscriptions().len() as u64;
        self.sessions.insert(record);
    }

    pub(crate) fn end(&mut self, id: &SessionId, reason: EndReason) -> Option<Ended> {
        let record = self.sessions.remove(id)?;
        self.principals.remove(&record);
        self.subscriptions -= record.subscriptions().len() as u64;
        Some(Ended { id: *id, reason })
    }

    fn end_by_principal(&mut self, principal: &str, reason: EndReason) -> Outcome {
        let ids: Vec<SessionId> = self.by_principal(principal).map(|record| record.id).collect();
        Outcome::Ended(ids.iter().filter_map(|id| self.end(id, reason)).collect())
    }

    fn update(&mut self, id: &SessionId, change: impl FnOnce(&mut Extras)) -> Outcome {
        self.sessions.update(id, |record| record.change(change));
        Outcome::Done
    }

    fn bind(&mut self, id: &SessionId, upstream: &Arc<str>, binding: &UpstreamBinding) -> Outcome {
        let upstream = self.strings.get(upstream);
        // The session id is the upstream's own and never shared.
        let version = self.strings.get(&binding.version);
        let binding = UpstreamBinding { session_id: binding.session_id.clone(), version };
        self.update(id, |extras| {
            extras.upstreams.insert(upstream, binding);
        })
    }

    fn subscribe(&mut self, id: &SessionId, uri: &Arc<str>) -> Outcome {
        let uri = self.strings.get(uri);
        let mut added = false;
        let outcome = self.update(id, |extras| added = extras.subscriptions.insert(uri));
        self.subscriptions += u64::from(added);
        outcome
    }

    fn unsubscribe(&mut self, id: &SessionId, uri: &Arc<str>) -> Outcome {
        let mut removed = false;
        let outcome = self.update(id, |extras| removed = extras.subscriptions.remove(uri));
        self.subscriptions -= u64::from(removed);
        outcome
    }

    fn touch(&mut self, idle: &[(SessionId, u64)]) -> Outcome {
        let mut unknown = Vec::new();
        for (id, idle_for_ms) in idle {
            let Some(record) = self.sessions.get(id) else {
                unknown.push(*id);
                continue;
            };
            let used_at_ms = self.now_ms.saturating_sub(*idle_for_ms);
            let expires_at_ms = used_at_ms.saturating_add(self.limits.idle_ms);
            if expires_at_ms > record.idle_expires_at_ms {
                self.sessions.update(id, |record| record.idle_expires_at_ms = expires_at_ms);
            }
        }
        Outcome::Touched { unknown }
    }

    /// The session with this id.
    pub fn get(&self, id: &SessionId) -> Option<&Arc<SessionRecord>> {
        self.sessions.get(id)
    }

    /// The sessions of a slot, in the order of ids.
    pub fn by_slot(&self, slot: Slot) -> impl Iterator<Item = &Arc<SessionRecord>> {
        self.sessions.of_slot(slot)
    }

    /// The sessions of a principal, in the order of ids.
    pub fn by_principal<'a>(&'a self, principal: &str) -> impl Iterator<Item = &'a Arc<SessionRecord>> + use<'a> {
        // It borrows the index, not the caller's string.
        self.principals.sessions_of(principal, &self.sessions)
    }

    /// All sessions after `after`, in the order of ids: take as many as a page holds.
    pub fn page(&self, after: Option<&SessionId>) -> impl Iterator<Item = &Arc<SessionRecord>> {
        self.sessions.after(after)
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        Counts {
            sessions: self.sessions.count(),
            principals: self.principals.len() as u64,
            subscriptions: self.subscriptions,
        }
    }

    /// The last index applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Registry time, in ms.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The cluster, once founded.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.placement.cluster
    }

    /// The Raft term of the last leader that began, by its [`Command::Lead`].
    pub fn epoch(&self) -> u64 {
        self.placement.epoch
    }

    /// The members. Cheap to clone.
    pub fn members(&self) -> &Arc<Members> {
        &self.placement.members
    }

    /// The slot table. Cheap to clone; a clone does not change.
    pub fn slots(&self) -> &Arc<SlotTable> {
        &self.placement.slots
    }

    /// The index of the last command that changed a slot: orders the watch, rejects nothing.
    pub fn map_version(&self) -> u64 {
        self.placement.slots.version()
    }

    /// What the leader should propose next, given the runs that hold a lease: owners, seconds, and the fewest moves
    /// that balance within one slot and empty nodes that drain. Nothing if all is as it should be.
    pub fn plan(&self, live: &[Run]) -> Vec<Command> {
        self.placement.plan(live)
    }

    /// Whether the indexes say what the sessions say. For tests.
    #[cfg(test)]
    pub(crate) fn indexes_agree(&self) -> bool {
        let mut again = StateMachine::default();
        for record in self.sessions.iter() {
            again.insert(record.clone());
        }
        self.sessions.agrees() && self.principals == again.principals && self.subscriptions == again.subscriptions
    }
}
