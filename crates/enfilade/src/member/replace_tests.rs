//! Tables of when a voter is replaced, and by whom.

use super::*;
use enfilade_registry::{Generation, Roles, Run, StateMachine};

const DEAD: NodeId = NodeId(3);
const SPARE: NodeId = NodeId(4);

/// Nodes 1 to 3 vote and 4 follows; 3 is gone for long.
struct World {
    state: StateMachine,
    index: u64,
    status: Status,
    wanted: usize,
    here: BTreeSet<NodeId>,
    gone: BTreeSet<NodeId>,
}

impl World {
    fn new() -> Self {
        let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
        let status = Status {
            is_leader: true,
            last_log: 5_000,
            voters: nodes(&[1, 2, 3]),
            learners: nodes(&[4]),
            matched: [(NodeId(2), Some(5_000)), (DEAD, Some(10)), (SPARE, Some(4_900))].into(),
            ..Status::default()
        };
        let mut world = Self {
            state: StateMachine::new(),
            index: 0,
            status,
            wanted: 3,
            here: nodes(&[1, 2, 4]),
            gone: nodes(&[3]),
        };
        (1..=4).for_each(|node| world.register(node, Roles::ALL));
        world
    }

    fn apply(&mut self, command: Command) {
        self.index += 1;
        self.state.apply(self.index, &command).expect("not refused");
    }

    fn register(&mut self, node: u64, roles: Roles) {
        let run = Run { node: NodeId(node), generation: Generation(1) };
        self.apply(Command::Register { run, name: "n".into(), link: "l:1".into(), roles, formats: 1 });
    }

    fn next(&self) -> Option<Change> {
        let members = self.state.members();
        View { me: NodeId(1), wanted: self.wanted, status: &self.status, members, here: &self.here, gone: &self.gone }
            .next()
    }
}

#[test]
fn a_dead_voter_is_replaced_by_a_follower_that_has_the_log() {
    let world = World::new();
    let voters = vec![NodeId(1), NodeId(2), SPARE];
    assert_eq!(world.next(), Some(Change::Voters { gone: DEAD, voters }));
}

/// Why nobody is replaced, and what makes it so.
type Reason = (&'static str, fn(&mut World));

#[test]
fn and_else_nobody_is() {
    let table: [Reason; 8] = [
        ("does not lead", |world| world.status.is_leader = false),
        ("not gone for long enough", |world| world.gone.clear()),
        ("nobody follows", |world| world.status.learners.clear()),
        ("the follower is away", |world| world.here.retain(|node| *node != SPARE)),
        ("the follower lags", |world| world.status.matched.extend([(SPARE, Some(3_999))])),
        ("the follower was never heard", |world| world.status.matched.extend([(SPARE, None)])),
        ("a node is emptied", |world| world.apply(Command::Drain { node: NodeId(2), on: true })),
        ("most of the new voters would be away", |world| {
            world.status.voters.extend([NodeId(5), NodeId(6)]);
        }),
    ];
    for (what, change) in table {
        let mut world = World::new();
        change(&mut world);
        // Two of four new voters, of which one is the follower: this node and another are not most of five.
        if what.starts_with("most") {
            world.here.remove(&NodeId(2));
        }
        assert_eq!(world.next(), None, "{what}");
    }
}

#[test]
fn only_registry_nodes_vote() {
    let mut world = World::new();
    world.status.learners = [NodeId(5)].into();
    world.status.matched.insert(NodeId(5), Some(5_000));
    world.here.insert(NodeId(5));
    world.register(5, Roles { edge: true, owner: true, registry: false });
    assert_eq!(world.next(), None);
}

#[test]
fn a_replaced_node_is_forgotten() {
    let mut world = World::new();
    world.status.voters = [NodeId(1), NodeId(2), SPARE].into();
    world.status.learners.clear();
    assert_eq!(world.next(), Some(Change::Forget(DEAD)));
    world.apply(Command::Remove { node: DEAD });
    assert_eq!(world.next(), None);
}

#[test]
fn more_vote_when_fewer_do_than_are_wanted() {
    let mut world = World::new();
    world.gone.clear();
    world.register(5, Roles::ALL);
    world.status.learners = [SPARE, NodeId(5)].into();
    world.status.matched.insert(NodeId(5), Some(5_000));
    world.here.extend([DEAD, NodeId(5)]);
    assert_eq!(world.next(), None, "three are wanted");
    world.wanted = 5;
    assert_eq!(world.next(), Some(Change::Grow { voters: [1, 2, 3, 4, 5].map(NodeId).to_vec() }));
    world.here.remove(&NodeId(5));
    assert_eq!(world.next(), None, "four would be worse than three");

    // After a recovery.
    world.status.voters = [NodeId(1)].into();
    world.status.learners = [NodeId(2)].into();
    assert_eq!(world.next(), None, "two would be worse than one");
    world.status.learners = [NodeId(2), SPARE].into();
    assert_eq!(world.next(), Some(Change::Grow { voters: [1, 2, 4].map(NodeId).to_vec() }));
    world.wanted = 1;
    assert_eq!(world.next(), None);

    // One of four that was the answer to a crash in between.
    (world.status.voters, world.wanted) = ([NodeId(1), NodeId(2)].into(), 3);
    world.status.learners = [SPARE].into();
    assert_eq!(world.next(), Some(Change::Grow { voters: [1, 2, 4].map(NodeId).to_vec() }));
}
