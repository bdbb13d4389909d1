//! What every run starts with: a registry of few slots, its sessions, and the registers in them that its clients use.

use std::sync::{Arc, OnceLock};

use enfilade_registry::{ClusterId, Command, NewSession, SessionId, SessionKeys, Slot, StateMachine};

/// How many slots the cluster of a run has.
pub(crate) const SLOTS: u16 = 8;
/// Sessions of each slot.
const SESSIONS_PER_SLOT: usize = 2;
/// Sessions in all.
pub(crate) const SESSIONS: usize = SLOTS as usize * SESSIONS_PER_SLOT;

/// An empty registry.
pub(crate) fn machine() -> StateMachine {
    StateMachine::with_slots(SLOTS)
}

/// All slots of a run.
pub(crate) fn slots() -> impl Iterator<Item = Slot> {
    Slot::all().take(usize::from(SLOTS))
}

/// The slot of a session.
pub(crate) fn slot_of(session: usize) -> Slot {
    session_id(session).slot()
}

fn ids() -> &'static [SessionId] {
    static IDS: OnceLock<Vec<SessionId>> = OnceLock::new();
    IDS.get_or_init(|| {
        let keys = SessionKeys::new(1, &[7; 32]).expect("a key of 32 bytes");
        let slots: Vec<Slot> = slots().collect();
        (0..SESSIONS)
            .map(|session| {
                let mut random = [0; 16];
                random[0] = session as u8 + 1;
                keys.mint(slots[session % slots.len()], random)
            })
            .collect()
    })
}

pub(crate) fn session_id(session: usize) -> SessionId {
    ids()[session]
}

/// What a new cluster lacks: the leader proposes it.
pub(crate) fn missing(machine: &StateMachine) -> Vec<Command> {
    if machine.cluster().is_none() {
        return vec![Command::Found { cluster: ClusterId(0x5eed) }];
    }
    let absent = |session: &usize| machine.get(&session_id(*session)).is_none();
    (0..SESSIONS).filter(absent).map(create).collect()
}

fn create(session: usize) -> Command {
    let text = |text: &str| -> Arc<str> { text.into() };
    Command::CreateSession(NewSession {
        id: session_id(session),
        principal: text("p"),
        server: text("s"),
        version: text("2025-11-25"),
        client_info: text("{}"),
        capabilities: text("{}"),
        log_level: None,
    })
}

/// Writes the register of a session.
pub(crate) fn write(session: usize, value: u64) -> Command {
    Command::SetLogLevel { id: session_id(session), level: Some(value.to_string().into()) }
}

/// Reads it; 0 when it was never written.
pub(crate) fn read(machine: &StateMachine, session: usize) -> u64 {
    let record = machine.get(&session_id(session));
    record.and_then(|record| record.log_level()?.parse().ok()).unwrap_or(0)
}

/// A command as the trace shows it.
pub(crate) fn short(command: &Command) -> String {
    match command {
        Command::CreateSession(new) => format!("CreateSession {:?}", new.id),
        Command::Register { run, .. } => format!("Register {run}"),
        Command::SetLogLevel { id, level } => format!("SetLogLevel {id:?} {level:?}"),
        other => format!("{other:?}"),
    }
}
