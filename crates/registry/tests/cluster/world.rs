//! Duties, copies and the registry together, over a network that loses and delays: what a client was given is always
//! where the next owner will look for it. Time is not the subject here; leases have their own properties.

use std::collections::{BTreeMap, VecDeque};

use enfilade_registry::{
    Command, CopyAnswer, CopyMessage, CopyReceiver, CopySender, Duty, DutyAction, DutyEvent, Holds, Lane, Origin,
    PeerMessage, Run, SlotRecord, Step, Timing,
};
use proptest::prelude::*;

use crate::waits::{check_duty, check_sender};
use crate::{Cluster, register, run, slot};

const NODES: usize = 4;

#[derive(Clone, Debug)]
enum Message {
    Copy(CopyMessage<u64>),
    Answer(CopyAnswer),
    Peer(PeerMessage),
}

/// One process.
struct Node {
    run: Run,
    duty: Duty,
    /// The log, while it owns the slot or as it was handed over.
    log: Vec<u64>,
    /// Since which commit the log is that of the owner.
    loaded: Option<u64>,
    second: (CopyReceiver, Vec<u64>),
    target: (CopyReceiver, Vec<u64>),
    senders: Vec<CopySender<u64, u64>>,
}

impl Node {
    fn new(run: Run) -> Node {
        Node {
            run,
            duty: Duty::new(run, slot(0), Timing::default()),
            log: Vec::new(),
            loaded: None,
            second: (CopyReceiver::new(slot(0)), Vec::new()),
            target: (CopyReceiver::new(slot(0)), Vec::new()),
            senders: Vec::new(),
        }
    }

    fn holder(&mut self, lane: Lane) -> &mut (CopyReceiver, Vec<u64>) {
        if matches!(lane, Lane::Second(_)) { &mut self.second } else { &mut self.target }
    }
}

struct World {
    cluster: Cluster,
    nodes: Vec<Node>,
    links: BTreeMap<(usize, usize), VecDeque<(Run, Message)>>,
    proposals: Vec<Command>,
    now_ms: u64,
    /// What clients have, and nobody may lose.
    left: Vec<u64>,
    next: u64,
    gaps: usize,
    moved: usize,
    promoted: usize,
    /// For the test of the test: nothing waits for the copy.
    careless: bool,
}

fn digest(log: &[u64]) -> [u8; 32] {
    let mut digest = [0; 32];
    for (n, entry) in log.iter().enumerate() {
        digest[n % 32] ^= (*entry as u8).wrapping_add(n as u8);
    }
    digest[31] ^= log.len() as u8;
    digest
}

impl World {
    fn new(careless: bool) -> World {
        let mut world = World {
            cluster: Cluster::new(1, NODES as u64),
            nodes: (1..=NODES).map(|node| Node::new(run(node as u64, 1))).collect(),
            links: BTreeMap::new(),
            proposals: Vec::new(),
            now_ms: 0,
            left: Vec::new(),
            next: 0,
            gaps: 0,
            moved: 0,
            promoted: 0,
            careless,
        };
        world.plan();
        world
    }

    fn record(&self) -> SlotRecord {
        self.cluster.record(0)
    }

    fn live(&self) -> Vec<Run> {
        self.nodes.iter().map(|node| node.run).collect()
    }

    fn plan(&mut self) {
        for command in self.cluster.0.plan(&self.live()) {
            self.commit(command);
        }
    }

    fn commit(&mut self, command: Command) {
        let before = self.record();
        let _ = self.cluster.apply(command);
        let record = self.record();
        if record.since != before.since {
            match record.origin {
                Origin::Gap => {
                    // The gap rule: what the lost owner had is gone, and counted.
                    self.gaps += 1;
                    self.left.clear();
                }
                Origin::Copy(_) => self.promoted += 1,
                Origin::Move(_) => self.moved += 1,
                Origin::Assigned => {}
            }
        }
    }

    fn index(&self, run: Run) -> Option<usize> {
        self.nodes.iter().position(|node| node.run == run)
    }

    fn send(&mut self, from: usize, to: Run, message: Message) {
        if let Some(to_index) = self.index(to) {
            self.links.entry((from, to_index)).or_default().push_back((to, message));
        }
    }

    fn event(&mut self, at: usize, event: DutyEvent) {
        let actions = self.nodes[at].duty.on(self.now_ms, event);
        check_duty(&self.nodes[at].duty, self.now_ms);
        for action in actions {
            self.act(at, action);
        }
    }

    fn act(&mut self, at: usize, action: DutyAction) {
        let now_ms = self.now_ms;
        match action {
            DutyAction::Load { fence, origin } => {
                let node = &mut self.nodes[at];
                node.log = match origin {
                    Origin::Copy(_) => node.second.1.clone(),
                    Origin::Move(_) => node.target.1.clone(),
                    Origin::Assigned | Origin::Gap => Vec::new(),
                };
                node.loaded = Some(node.duty.record().since);
                self.event(at, DutyEvent::Loaded(fence.term));
            }
            DutyAction::CopyTo { fence, lane, to, adopted } => {
                self.end_copy(at, |other| std::mem::discriminant(&other) == std::mem::discriminant(&lane));
                let (sender, step) = if adopted {
                    (CopySender::adopted(now_ms, 300, fence, lane, to), None)
                } else {
                    let all = self.nodes[at].log.clone();
                    let (sender, step) = CopySender::begin(now_ms, 300, fence, lane, to, all);
                    (sender, Some(step))
                };
                self.nodes[at].senders.push(sender);
                step.into_iter().for_each(|step| self.step(at, lane, to, step));
            }
            DutyAction::CopyEnds { lane } => self.end_copy(at, |other| other == lane),
            DutyAction::Renew { new, .. } => {
                self.nodes[at].senders.iter_mut().for_each(|sender| sender.renew(new.term));
            }
            DutyAction::Freeze { id, .. } => {
                let seal = digest(&self.nodes[at].log);
                self.event(at, DutyEvent::Frozen { id, digest: seal });
                self.each_sender(at, |sender| (sender.lane() == Lane::Move(id)).then(|| sender.seal(now_ms, seal)));
            }
            DutyAction::Adopt { lane, term } => {
                let node = &mut self.nodes[at];
                if node.second.0.adopt(term, lane) {
                    node.second.1 = node.log.clone();
                }
            }
            DutyAction::Forget { lane } => {
                let holder = self.nodes[at].holder(lane);
                if holder.0.forget(lane) {
                    holder.1.clear();
                }
            }
            DutyAction::Send { to, message } => self.send(at, to, Message::Peer(message)),
            DutyAction::Propose(command) => self.proposals.push(command),
            DutyAction::Release { .. } | DutyAction::HandOver { .. } => self.nodes[at].loaded = None,
            DutyAction::Serve(_) | DutyAction::FinishOver { .. } => {}
        }
    }

    fn end_copy(&mut self, at: usize, which: impl Fn(Lane) -> bool) {
        let node = &mut self.nodes[at];
        let (ended, kept) = std::mem::take(&mut node.senders).into_iter().partition(|sender| which(sender.lane()));
        node.senders = kept;
        for sender in ended {
            let sender: CopySender<u64, u64> = sender;
            let is_second = matches!(sender.lane(), Lane::Second(_));
            let left = sender.alone();
            if is_second {
                self.leave(at, left);
            }
        }
    }

    /// Bytes leave to clients, if the fence holds.
    fn leave(&mut self, at: usize, events: Vec<u64>) {
        let duty = &self.nodes[at].duty;
        if duty.holds(duty.fence()) != Holds::Gone && self.is_owner(at) {
            self.left.extend(events);
        }
    }

    fn is_owner(&self, at: usize) -> bool {
        // Clients drop what comes under a lower term than the registry's.
        let duty = &self.nodes[at].duty;
        duty.record().term == self.record().term && self.record().owner == Some(self.nodes[at].run)
    }

    fn step(&mut self, at: usize, lane: Lane, to: Run, step: Step<u64, u64>) {
        for message in step.send {
            self.send(at, to, Message::Copy(message));
        }
        if matches!(lane, Lane::Second(_)) {
            self.leave(at, step.confirmed);
        }
        if step.caught_up {
            self.event(at, DutyEvent::CaughtUp(lane));
        }
        if step.given_up {
            self.event(at, DutyEvent::GivenUp(lane));
        }
    }

    fn each_sender(&mut self, at: usize, mut each: impl FnMut(&mut CopySender<u64, u64>) -> Option<Step<u64, u64>>) {
        let (senders, now_ms) = (&mut self.nodes[at].senders, self.now_ms);
        let steps: Vec<_> =
            senders.iter_mut().filter_map(|sender| Some((sender.lane(), sender.to(), each(sender)?))).collect();
        senders.iter().for_each(|sender| check_sender(sender, now_ms));
        for (lane, to, step) in steps {
            self.step(at, lane, to, step);
        }
    }

    /// The owner's upstream says something that is to be logged.
    fn push(&mut self, at: usize) {
        let (now_ms, entry) = (self.now_ms, self.next);
        let duty = &self.nodes[at].duty;
        if duty.holds(duty.fence()) != Holds::Yes || !self.is_owner(at) {
            return;
        }
        self.next += 1;
        self.nodes[at].log.push(entry);
        let has_second = self.nodes[at].senders.iter().any(|sender| matches!(sender.lane(), Lane::Second(_)));
        self.each_sender(at, |sender| Some(sender.push(now_ms, entry, entry)));
        if !has_second || self.careless {
            self.leave(at, vec![entry]);
        }
    }

    fn deliver(&mut self, from: usize, to: usize) {
        let Some((addressee, message)) = self.links.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return };
        if self.nodes[to].run != addressee {
            return;
        }
        let (sender, now_ms) = (self.nodes[from].run, self.now_ms);
        match message {
            Message::Copy(message) => self.receive(from, to, message),
            Message::Answer(answer) => {
                self.each_sender(to, |copy| (copy.to() == sender).then(|| copy.answered(now_ms, answer)));
            }
            Message::Peer(message) => self.event(to, DutyEvent::Peer { from: sender, message }),
        }
    }

    fn receive(&mut self, from: usize, to: usize, message: CopyMessage<u64>) {
        let lane = message.lane;
        let holder = self.nodes[to].holder(lane);
        let received = holder.0.receive(message);
        if received.reset {
            holder.1.clear();
        }
        holder.1.extend(received.entry);
        let own = digest(&holder.1);
        if let (Some(_), Lane::Move(id)) = (received.sealed, lane) {
            self.event(to, DutyEvent::Received { id, digest: own });
        }
        let back = self.nodes[from].run;
        self.send(to, back, Message::Answer(received.answer));
    }

    fn tick(&mut self, at: usize) {
        let now_ms = self.now_ms;
        self.event(at, DutyEvent::Tick);
        self.each_sender(at, |sender| Some(sender.tick(now_ms)));
    }

    fn apply(&mut self, at: usize) {
        let record = self.record();
        self.nodes[at].second.0.learned(record.term);
        self.nodes[at].target.0.learned(record.term);
        self.event(at, DutyEvent::Applied(record));
    }

    /// The process dies and starts again; what it had is taken at once, since it is known to be gone.
    fn kill(&mut self, at: usize) {
        let old = self.nodes[at].run;
        self.links.retain(|(from, to), _| *from != at && *to != at);
        let new = run(old.node.0, old.generation.0 + 1);
        self.nodes[at] = Node::new(new);
        self.commit(register(new));
        let (live, epoch, upto) = (self.live(), self.cluster.0.epoch(), self.cluster.0.applied());
        self.commit(Command::Take { lost: old, live, epoch, upto });
    }

    /// What was given to clients is with whoever owns the slot, or will when it has applied what is committed; and
    /// with the second, if the registry would promote it.
    fn check(&self) {
        let record = self.record();
        let has_all = |held: &[u64]| self.left.iter().all(|event| held.contains(event));
        let owner = self.index(record.owner.expect("assigned")).expect("the dead own nothing");
        let node = &self.nodes[owner];
        let held = match record.origin {
            _ if node.loaded == Some(record.since) => &node.log,
            // Until it has applied the end of its move, what it has is the log that it handed over.
            Origin::Copy(copy) if node.second.0.lane() != Some(Lane::Second(copy)) => &node.log,
            Origin::Copy(_) => &node.second.1,
            Origin::Move(_) => &node.target.1,
            Origin::Assigned | Origin::Gap => &node.log,
        };
        assert!(has_all(held), "the owner {:?} lacks some of {:?}: {held:?}", record, self.left);
        if record.in_sync {
            let second = &self.nodes[self.index(record.second.expect("has one")).expect("lives")];
            // Until it has applied the end of its move, what it has is the log that it handed over.
            let adopts = second.second.0.lane() != Some(Lane::Second(record.copy));
            let held = if adopts { &second.log } else { &second.second.1 };
            assert!(has_all(held), "the in-sync second {:?} lacks some of {:?}: {held:?}", record, self.left);
        }
    }

    fn random_step(&mut self, dice: u32) {
        let at = (dice >> 8) as usize % NODES;
        match dice % 32 {
            0..=5 => self.push(at),
            6..=15 => {
                for from in 0..NODES {
                    (0..dice >> 28).for_each(|_| self.deliver(from, at));
                }
            }
            16..=18 => {
                self.now_ms += u64::from(dice >> 16) % 150;
                self.tick(at);
            }
            19..=23 => self.apply(at),
            24 | 25 if !self.proposals.is_empty() => {
                // Late, twice, or in another order.
                let n = (dice >> 16) as usize % self.proposals.len();
                let command = self.proposals[n].clone();
                if dice & 0x8000_0000 == 0 {
                    self.proposals.remove(n);
                }
                self.commit(command);
            }
            26 | 27 => self.plan(),
            28 => {
                let (term, to) = (self.record().term, self.nodes[at].run);
                self.commit(Command::Move { slots: vec![(slot(0), term)], to });
            }
            29 if dice >> 28 == 0 => self.kill(at),
            29 if dice >> 28 == 1 => {
                let owner = self.record().owner.and_then(|owner| self.index(owner));
                owner.into_iter().for_each(|owner| self.kill(owner));
            }
            30 if dice >> 29 == 0 => self.links.clear(),
            _ => {}
        }
        self.check();
    }

    /// Nothing is lost any more: everything comes to rest, and the slot serves with a second in sync.
    fn settle(&mut self) {
        for _ in 0..400 {
            self.now_ms += 50;
            self.plan();
            for command in std::mem::take(&mut self.proposals) {
                self.commit(command);
            }
            for at in 0..NODES {
                self.apply(at);
                self.tick(at);
                for other in 0..NODES {
                    while self.links.get(&(other, at)).is_some_and(|link| !link.is_empty()) {
                        self.deliver(other, at);
                    }
                }
            }
            self.check();
            let record = self.record();
            let owner = self.index(record.owner.expect("assigned")).expect("lives");
            let at_rest = record.in_sync && record.moving.is_none() && self.nodes[owner].duty.is_serving();
            if at_rest && self.nodes[owner].senders.iter().all(|sender| sender.unacknowledged() == 0) {
                return;
            }
        }
        panic!("does not come to rest: {:?}", self.record());
    }
}

fn play(dice: &[u32], careless: bool) -> World {
    let mut world = World::new(careless);
    for dice in dice {
        world.random_step(*dice);
    }
    world.settle();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_clients_have_is_never_lost_but_by_the_gap_rule(dice in proptest::collection::vec(any::<u32>(), 0..2000)) {
        play(&dice, false);
    }
}

/// A fixed sequence that looks random, the same everywhere.
fn sequence(seed: u64, len: usize) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as u32
    };
    (0..len).map(|_| next()).collect()
}

/// The property is worth something: moves and promotions happen, and bytes that leave before the copy has them are seen.
#[test]
fn the_world_moves_and_promotes_and_finds_what_leaves_too_early() {
    let worlds: Vec<World> = (0..20).map(|seed| play(&sequence(seed, 2000), false)).collect();
    let sum = |count: fn(&World) -> usize| worlds.iter().map(count).sum::<usize>();
    let (moved, promoted, gaps) = (sum(|w| w.moved), sum(|w| w.promoted), sum(|w| w.gaps));
    println!("20 worlds: {moved} moves, {promoted} promotions, {gaps} gaps, {} events", sum(|w| w.next as usize));
    assert!(moved > 20 && promoted > 20, "{moved} moves, {promoted} promotions");
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = (0..20).filter(|seed| std::panic::catch_unwind(|| play(&sequence(*seed, 2000), true)).is_err()).count();
    std::panic::set_hook(hook);
    assert!(found > 10, "found in {found} of 20");
}
