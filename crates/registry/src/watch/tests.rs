//! Whatever happens, and however far behind: a watching node has what the registry has, as far as it concerns the node.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{Command, Generation, MoveId, NodeId, Roles, Run, SessionId, StateMachine};

fn run(node: u64, generation: u64) -> Run {
    Run { node: NodeId(node), generation: Generation(generation) }
}

/// A registry with two replicas that keep changes for a short and for a long time, and who watches it.
struct World {
    state: StateMachine,
    index: u64,
    recents: [Recent; 2],
    watching: Vec<Watching>,
    seq: u64,
}

struct Watching {
    run: Run,
    watched: Watched,
    feed: Feed,
    replica: usize,
    /// What it has heard the end of.
    ended: Vec<SessionId>,
    answered: Vec<u64>,
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Command),
    /// What a leader would do now.
    Plan,
    /// All slots of an owner go to others.
    Take(u64),
    /// Moves that have begun end well.
    Done,
    Update(usize),
    /// It comes to a replica, with what it has.
    Connect(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => crate::properties::command().prop_map(Step::Apply),
        2 => Just(Step::Plan),
        1 => (1..4u64).prop_map(Step::Take),
        2 => Just(Step::Done),
        6 => (0..4usize).prop_map(Step::Update),
        2 => (0..4usize, 0..2usize).prop_map(|(who, replica)| Step::Connect(who, replica)),
    ]
}

impl World {
    fn new() -> World {
        let mut world = World {
            state: StateMachine::new(),
            index: 0,
            recents: [Recent::new(0, 6), Recent::new(0, 1000)],
            watching: Vec::new(),
            seq: 0,
        };
        for node in 1..=4 {
            let roles = Roles { edge: true, owner: node < 4, registry: false };
            let me = run(node, 1);
            let register = Command::Register { run: me, name: "n".into(), link: "l:1".into(), roles, formats: 1 };
            world.apply(register);
            let watched = Watched::new(me);
            let feed = Feed::new(me, watched.position());
            world.watching.push(Watching { run: me, watched, feed, replica: 0, ended: vec![], answered: vec![] });
        }
        world.apply(Command::Assign { live: Self::live() });
        world
    }

    fn live() -> Vec<Run> {
        (1..4).map(|node| run(node, 1)).collect()
    }

    fn apply(&mut self, command: Command) {
        self.index += 1;
        self.seq += 1;
        let commands = [command];
        let results = self.state.apply_batch(self.index, &commands);
        // Batches of two nodes in turn.
        let origin = run(3 + self.seq % 2, 1);
        for recent in &mut self.recents {
            recent.applied(self.index, &commands, &results, Some((origin, self.seq)));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Apply(command) => self.apply(command),
            Step::Plan => self.state.plan(&Self::live()).into_iter().for_each(|command| self.apply(command)),
            Step::Take(node) => {
                let (lost, mut live) = (run(node, 1), Self::live());
                live.retain(|run| *run != lost);
                self.apply(Command::Take { lost, live, epoch: 0, upto: u64::MAX });
            }
            Step::Done => {
                let moving = self.state.slots().iter().filter_map(|(slot, record)| Some((slot, record.moving?.id)));
                let moves: Vec<(Slot, MoveId)> = moving.collect();
                self.apply(Command::Done { moves });
            }
            Step::Update(who) => self.update(who),
            Step::Connect(who, replica) => {
                let watching = &mut self.watching[who];
                watching.feed = Feed::new(watching.run, watching.watched.position());
                watching.replica = replica;
            }
        }
    }

    fn update(&mut self, who: usize) {
        let watching = &mut self.watching[who];
        let before: BTreeMap<_, _> = watching.watched.state().page(None).map(|one| (one.id, one.clone())).collect();
        let had = watching.watched.position().held;
        let update = watching.feed.next(&self.state, self.index, &self.recents[watching.replica]);
        assert_eq!(watching.feed.index(), self.index);
        if watching.replica == 1 && update.whole {
            assert!(before.is_empty(), "this one knows all that has happened");
        }
        watching.answered.extend(update.answers.iter().map(|answers| answers.seq));
        let ended = watching.watched.apply(&update);
        let held = watching.watched.position().held;
        for (id, _) in before.iter().filter(|(id, _)| had.contains(id.slot()) && held.contains(id.slot())) {
            let heard = ended.iter().any(|ended| ended.id == *id);
            assert!(heard || self.state.get(id).is_some(), "an end that nobody told");
        }
        watching.ended.extend(ended.iter().map(|ended| ended.id));
        self.check(who);
    }

    fn check(&self, who: usize) {
        let (watching, state) = (&self.watching[who], &self.state);
        let part = watching.watched.state();
        assert_eq!((watching.watched.index(), watching.watched.counts()), (self.index, state.counts()));
        assert_eq!((part.now_ms(), part.head()), (state.now_ms(), state.head()));
        assert_eq!(part.slots(), state.slots());
        let named = SlotSet::naming(state.slots(), watching.run);
        // Idle times are not told.
        let untimed = |record: &Arc<SessionRecord>| {
            let mut record = (**record).clone();
            record.idle_expires_at_ms = 0;
            record
        };
        let mine = state.page(None).filter(|record| named.contains(record.id.slot()));
        assert!(part.page(None).map(untimed).eq(mine.map(untimed)), "the sessions of its slots");
        assert!(watching.answered.is_sorted_by(|a, b| a < b), "no batch is answered twice");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_watching_node_has_what_the_registry_has(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
        (0..4).for_each(|who| world.update(who));
        // Node 4 owns nothing: it has no session, and all answers that a replica could still give.
        prop_assert_eq!(world.watching[3].watched.state().page(None).count(), 0);
    }
}

#[test]
fn an_update_is_the_difference() {
    let mut world = World::new();
    world.watching[3].replica = 1;
    world.update(3);
    assert_eq!(world.watching[3].answered.len(), 3, "of the five commands before it came");
    world.apply(Command::Tick { elapsed_ms: 5 });
    world.apply(Command::Tick { elapsed_ms: 5 });
    let watching = &mut world.watching[3];
    let update = watching.feed.next(&world.state, world.index, &world.recents[1]);
    assert!(!update.whole && update.slots.is_empty() && update.globals.is_none(), "{update:?}");
    assert_eq!((update.now_ms, update.answers.len()), (10, 1), "those of the other node are not its own");
    watching.watched.apply(&update);
    // At another replica it goes on from there.
    let mut feed = Feed::new(watching.run, watching.watched.position());
    world.apply(Command::Tick { elapsed_ms: 5 });
    let update = feed.next(&world.state, world.index, &world.recents[0]);
    assert!(!update.whole && update.slots.is_empty() && update.globals.is_some(), "{update:?}");
}

#[test]
fn a_whole_picture_comes_with_the_answers_that_are_still_known() {
    let mut world = World::new();
    let run = run(4, 1);
    let mine =
        world.recents[1].since(0).filter(|change| change.answers.as_ref().is_some_and(|one| one.0 == run)).count();
    // The watch began when its replica had applied nothing.
    let mut feed = Feed::new(run, Watched::new(run).position());
    assert!(feed.next(&StateMachine::new(), 0, &Recent::new(0, 1000)).whole);
    let update = feed.next(&world.state, world.index, &world.recents[1]);
    assert!(update.whole && mine > 0, "{update:?}");
    assert_eq!(update.answers.len(), mine, "who sent a command before hears what came of it");
    world.apply(Command::Tick { elapsed_ms: 5 });
    world.apply(Command::Tick { elapsed_ms: 5 });
    let again = feed.next(&world.state, world.index, &world.recents[1]);
    assert_eq!((again.whole, again.answers.len()), (false, 1), "once");
}

#[test]
fn sets_and_globals_keep_their_bytes() {
    let mut set = SlotSet::default();
    for slot in [0, 9, 4095] {
        set.insert(Slot::new(slot).expect("a slot"));
    }
    let bytes = set.to_bytes();
    assert_eq!((bytes.len(), bytes[0], bytes[1], bytes[511]), (512, 1, 2, 0x80));
    assert_eq!(SlotSet::from_bytes(&bytes), Some(set));
    assert_eq!(SlotSet::from_bytes(&bytes[1..]), None);
    let globals = Globals(World::new().state.head());
    assert_eq!(Globals::decode(&globals.encode()).expect("a head"), globals);
}
