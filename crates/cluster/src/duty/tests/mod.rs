//! Two or three desks that speak to each other through memory: what one owner wrote is what the next goes on with.

mod copies;
mod walk;

use super::desk::{Desk, Tools};
use super::held::Held;
use super::inbox::Inbox;
use super::lanes::Lanes;
use super::proposals::Proposals;
use super::sessions::Sessions;
use super::words::Listener;
use crate::finish::Finishers;
use crate::tenure::OwnSlots;
use crate::wire::{self, Word};
use enfilade_registry::{
    Command, Fence, Generation, MemoryRegistry, NodeId, Reader, Roles, Run, SessionId, SessionKeys, Slot, Term, Timing,
    plan,
};
use enfilade_session::copy::{Confirm, CopyChange, CopyEntry, SessionCopy};
use enfilade_session::finish::Finishing;
use enfilade_session::slots::{Held as Holds, Slots};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What a node's sessions were told, and what they have.
#[derive(Default)]
struct Scripted {
    slots: Mutex<Option<Arc<OwnSlots>>>,
    entries: Mutex<BTreeMap<Slot, Vec<CopyEntry>>>,
    in_flight: AtomicUsize,
    released: Mutex<Vec<(Slot, Term)>>,
    renewed: Mutex<Vec<Fence>>,
}

impl Sessions for Scripted {
    fn release(&self, slot: Slot, term: Term) {
        self.entries.lock().remove(&slot);
        self.released.lock().push((slot, term));
    }

    fn renew(&self, fence: Fence) {
        self.renewed.lock().push(fence);
    }

    fn tell_copy(&self, slot: Slot, tell: &dyn Fn(Fence, CopyEntry)) {
        let fence = self.slots.lock().as_ref().expect("set").owned(slot).expect("it owns the slot");
        self.snapshot(slot).into_iter().for_each(|entry| tell(fence, entry));
    }

    fn freeze(&self, slot: Slot) -> Vec<CopyEntry> {
        self.snapshot(slot)
    }

    fn commit(&self, _: Slot) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn hand_over(&self, _: Slot, _: Term) -> Option<Finishing> {
        None
    }
}

impl Scripted {
    fn snapshot(&self, slot: Slot) -> Vec<CopyEntry> {
        self.entries.lock().get(&slot).cloned().unwrap_or_default()
    }
}

/// One node.
struct Node {
    run: Run,
    desk: Desk,
    slots: Arc<OwnSlots>,
    held: Arc<Held>,
    lanes: Arc<Lanes>,
    sessions: Arc<Scripted>,
    listener: Arc<Listener>,
}

/// All nodes, one registry, and a clock.
struct World {
    registry: Arc<MemoryRegistry>,
    nodes: Vec<Node>,
    now_ms: Arc<AtomicU64>,
    keys: Arc<SessionKeys>,
    /// Words to this node are lost.
    deaf: Option<usize>,
    /// Every slot is ticked, whether it waits or not.
    everything: bool,
    /// What was said and proposed.
    said: Vec<(Run, NodeId, Word)>,
    proposed: Vec<(Run, Command)>,
}

const SLOT: u16 = 5;

impl World {
    fn new(count: u64) -> Self {
        let (now_ms, registry) = (Arc::new(AtomicU64::new(1000)), Arc::new(MemoryRegistry::new()));
        let keys = Arc::new(SessionKeys::new(1, &[7; 32]).expect("keys"));
        let runs = (1..=count).map(|node| Run { node: NodeId(node), generation: Generation(1) });
        for run in runs.clone() {
            let (name, link) = (run.node.0.to_string().into(), "127.0.0.1:1".into());
            let command = Command::Register { run, name, link, roles: Roles::ALL, formats: 1 };
            registry.apply(&command).expect("registered");
        }
        let nodes = runs.map(|run| node(run, &now_ms, &registry, &keys)).collect();
        let mut world = Self {
            registry,
            nodes,
            now_ms,
            keys,
            deaf: None,
            everything: false,
            said: Vec::new(),
            proposed: Vec::new(),
        };
        world.registry.apply(&Command::Assign { live: vec![world.nodes[0].run] }).expect("assigned");
        world.run();
        world
    }

    fn slot() -> Slot {
        Slot::new(SLOT).expect("a slot")
    }

    fn second_of(&self, slot: Slot) -> (Option<Run>, bool) {
        let table = self.registry.slot_table();
        (table.get(slot).second, table.get(slot).in_sync)
    }

    fn owner(&self) -> usize {
        let owner = self.registry.slot_table().get(Self::slot()).owner.expect("an owner");
        self.nodes.iter().position(|node| node.run == owner).expect("a node")
    }

    /// Lets everybody look, speak and propose until nothing happens any more, at this moment.
    fn run(&mut self) {
        let (mut busy, mut turns) = (true, 0);
        while std::mem::take(&mut busy) {
            turns += 1;
            assert!(turns < 1_000, "they go on for ever");
            let table = self.registry.slot_table();
            for node in &mut self.nodes {
                node.desk.look(&table);
                node.desk.happened();
                node.desk.proposals.flush();
            }
            let mut said = Vec::new();
            for node in &mut self.nodes {
                for (to, word) in node.listener.wires.drain() {
                    busy = true;
                    said.push((node.run, to, word));
                }
                for command in node.desk.proposals.drain() {
                    busy = true;
                    self.registry.apply(&command).expect("applied");
                    self.proposed.push((node.run, command));
                }
            }
            self.said.extend(said.iter().cloned());
            for (from, to, word) in said {
                let at = usize::try_from(to.0 - 1).expect("small");
                if self.deaf != Some(at) {
                    self.nodes[at].listener.hear(from, wire::encode_words(vec![word]));
                }
            }
        }
    }

    /// Time passes, with ticks.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(10) {
            let now_ms = self.now_ms.fetch_add(10, Ordering::Relaxed) + 10;
            for node in &mut self.nodes {
                node.slots.set_lease(now_ms + 1000);
                node.desk.beat();
                if now_ms.is_multiple_of(100) {
                    if self.everything {
                        node.desk.waiting.all();
                        node.lanes.waiting.all();
                    }
                    node.desk.tick();
                }
            }
            self.run();
        }
    }

    fn session(&self) -> SessionId {
        self.keys.mint(Self::slot(), [1; 16])
    }

    /// The owner's session says something; gives whether it may leave yet.
    fn say(&self, at: usize, seq: u64) -> Arc<AtomicU64> {
        self.say_in(Self::slot(), at, seq)
    }

    fn say_in(&self, slot: Slot, at: usize, seq: u64) -> Arc<AtomicU64> {
        let node = &self.nodes[at];
        let session = self.keys.mint(slot, [1; 16]);
        let data = format!("event {seq}").into();
        let change = CopyChange::Event { stream: 1, seq, droppable: false, answers: false, data };
        let entry = CopyEntry { session, change };
        let left = Arc::new(AtomicU64::new(0));
        let confirm = Confirm::call({
            let left = left.clone();
            move || left.store(1, Ordering::Relaxed)
        });
        node.sessions.entries.lock().entry(slot).or_default().push(entry.clone());
        node.lanes.append(node.slots.owned(slot).expect("it owns the slot"), &entry, confirm);
        left
    }

    fn has(&self, at: usize) -> usize {
        self.nodes[at].held.restore(&self.session()).map_or(0, |copy: SessionCopy| copy.changes().len())
    }
}

fn node(run: Run, now_ms: &Arc<AtomicU64>, registry: &Arc<MemoryRegistry>, keys: &Arc<SessionKeys>) -> Node {
    let clock: crate::Clock = {
        let now_ms = now_ms.clone();
        Arc::new(move || now_ms.load(Ordering::Relaxed))
    };
    let slots = Arc::new(OwnSlots::new(clock.clone()));
    slots.set_lease(now_ms.load(Ordering::Relaxed) + 1000);
    let (inbox, wires) = (Arc::new(Inbox::default()), Arc::new(super::wires::Wires::in_memory()));
    let lanes = Arc::new(Lanes::new(clock.clone(), 300, wires.clone(), inbox.clone()));
    let held = Arc::new(Held::new(keys.clone()));
    let sessions = Arc::new(Scripted::default());
    *sessions.slots.lock() = Some(slots.clone());
    let listener = Arc::new(Listener {
        held: held.clone(),
        lanes: lanes.clone(),
        inbox: inbox.clone(),
        wires: wires.clone(),
        tasks: tokio_util::task::TaskTracker::new(),
        stop: tokio_util::sync::CancellationToken::new(),
    });
    let (tasks, stop) = (listener.tasks.clone(), listener.stop.clone());
    let finishers = Finishers::new(None, keys.clone(), inbox.clone(), tasks, stop);
    let tools = Tools {
        clock,
        slots: slots.clone(),
        lanes: lanes.clone(),
        held: held.clone(),
        inbox,
        wires,
        sessions: sessions.clone(),
        finishers,
    };
    let desk = Desk::new(run, Timing::default(), tools, Proposals::new(registry.clone()));
    Node { run, desk, slots, held, lanes, sessions, listener }
}

fn left(confirm: &AtomicU64) -> bool {
    confirm.load(Ordering::Relaxed) == 1
}

/// A world in which node 0 owns the slot and node 1 is its second, in sync.
fn in_sync() -> World {
    let mut world = World::new(2);
    assert!(left(&world.say(0, 0)), "without a second nothing waits");
    let slots = vec![(World::slot(), Term(1))];
    world.registry.apply(&Command::Seconds { slots, second: world.nodes[1].run }).expect("chosen");
    world.pass(200);
    assert_eq!(world.second_of(World::slot()), (Some(world.nodes[1].run), true));
    world
}

#[test]
fn what_leaves_is_at_the_second_and_a_lost_owner_is_gone_on_with() {
    let mut world = in_sync();
    world.deaf = Some(1);
    let confirm = world.say(0, 1);
    world.run();
    assert!(!left(&confirm), "the second did not hear it");
    world.deaf = None;
    world.pass(150);
    assert!(left(&confirm), "it was said again");
    let (lost, heir) = (world.nodes[0].run, world.nodes[1].run);
    world.registry.apply(&Command::Take { lost, live: vec![heir], epoch: 0, upto: u64::MAX }).expect("taken");
    world.run();
    assert_eq!((world.owner(), world.has(1)), (1, 2), "both events");
    assert_eq!(world.nodes[0].sessions.released.lock().iter().filter(|(slot, _)| *slot == World::slot()).count(), 1);
    let old = Fence { slot: World::slot(), term: Term(1) };
    assert_eq!(world.nodes[0].slots.holds(old), Holds::Gone);
}

#[test]
fn a_silent_second_is_given_up_and_filled_again() {
    let mut world = in_sync();
    world.deaf = Some(1);
    let confirm = world.say(0, 1);
    world.pass(250);
    assert!(!left(&confirm), "300 ms are not over");
    world.pass(200);
    assert!(left(&confirm), "it goes on alone");
    assert!(!world.second_of(World::slot()).1, "and the registry knows");
    world.deaf = None;
    world.pass(500);
    assert!(world.second_of(World::slot()).1, "the copy is complete again");
    let (lost, heir) = (world.nodes[0].run, world.nodes[1].run);
    world.registry.apply(&Command::Take { lost, live: vec![heir], epoch: 0, upto: u64::MAX }).expect("taken");
    world.run();
    assert_eq!(world.has(1), 2);
}

#[test]
fn a_second_that_missed_something_is_not_gone_on_with() {
    let mut world = in_sync();
    world.deaf = Some(1);
    world.say(0, 1);
    world.pass(500);
    let (lost, heir) = (world.nodes[0].run, world.nodes[1].run);
    world.registry.apply(&Command::Take { lost, live: vec![heir], epoch: 0, upto: u64::MAX }).expect("taken");
    world.run();
    assert_eq!((world.owner(), world.has(1)), (1, 0), "the gap rule");
}

#[test]
fn a_move_hands_everything_over_and_back() {
    let mut world = in_sync();
    for (from, to, term) in [(0, 1, 1), (1, 0, 2)] {
        let entries = world.nodes[from].sessions.snapshot(World::slot()).len()
            + world.nodes[from].held.leftover(World::slot()).len();
        assert!(entries > 0);
        let slots = vec![(World::slot(), Term(term))];
        world.registry.apply(&Command::Move { slots, to: world.nodes[to].run }).expect("moves");
        world.pass(200);
        let record = *world.registry.slot_table().get(World::slot());
        assert_eq!((world.owner(), record.term, record.in_sync), (to, Term(term + 1), true), "from {from}");
        assert_eq!(record.second, Some(world.nodes[from].run));
        let confirm = world.say(to, 10 + term);
        assert!(!left(&confirm), "the former owner is the second now");
        world.pass(50);
        assert!(left(&confirm));
    }
    assert!(world.has(0) >= 2, "what was inherited twice is still there");
}

#[test]
fn a_frozen_owner_that_missed_the_end_of_its_move_goes_on_with_what_it_has() {
    let mut world = in_sync();
    let (first, other) = (world.nodes[0].run, world.nodes[1].run);
    let slots = vec![(World::slot(), Term(1))];
    world.registry.apply(&Command::Move { slots, to: other }).expect("moves");
    let moving = world.registry.slot_table().get(World::slot()).moving.expect("it moves");
    while world.nodes[0].slots.fence(World::slot()).is_ok() {
        world.pass(10);
    }
    // It is about to be frozen, and will not hear that the other one is ready.
    world.deaf = Some(0);
    world.pass(10);
    assert_eq!(world.nodes[0].slots.holds(Fence { slot: World::slot(), term: Term(1) }), Holds::Paused);
    let moves = vec![(World::slot(), moving.id)];
    world.registry.apply(&Command::Done { moves }).expect("done");
    world.registry.apply(&Command::Take { lost: other, live: vec![first], epoch: 0, upto: u64::MAX }).expect("taken");
    world.run();
    assert_eq!((world.owner(), world.registry.slot_table().get(World::slot()).term), (0, Term(3)));
    assert_eq!(world.has(0), 1, "its event");
}

#[test]
fn a_slot_is_not_frozen_under_a_call() {
    let mut world = in_sync();
    world.nodes[0].sessions.in_flight.store(1, Ordering::Relaxed);
    let slots = vec![(World::slot(), Term(1))];
    world.registry.apply(&Command::Move { slots, to: world.nodes[1].run }).expect("moves");
    let mut served = 0;
    for _ in 0..100 {
        world.pass(10);
        served += usize::from(world.nodes[0].slots.fence(World::slot()).is_ok());
    }
    assert!((30..70).contains(&served), "it opens in between: {served} %");
    assert_eq!(world.owner(), 0);
    world.nodes[0].sessions.in_flight.store(0, Ordering::Relaxed);
    world.pass(200);
    assert_eq!(world.owner(), 1);
}

#[test]
fn a_move_whose_target_is_silent_ends_where_it_began() {
    let mut world = in_sync();
    world.deaf = Some(1);
    let slots = vec![(World::slot(), Term(1))];
    world.registry.apply(&Command::Move { slots, to: world.nodes[1].run }).expect("moves");
    world.pass(6000);
    let record = *world.registry.slot_table().get(World::slot());
    assert_eq!((world.owner(), record.moving, record.term), (0, None, Term(2)));
    let fence = Fence { slot: World::slot(), term: Term(2) };
    assert_eq!(*world.nodes[0].sessions.renewed.lock(), [fence]);
    assert_eq!(world.nodes[0].slots.fence(World::slot()), Ok(fence));
    assert!(plan(&world.registry.slot_table(), &world.registry.members(), &[]).is_empty());
}
