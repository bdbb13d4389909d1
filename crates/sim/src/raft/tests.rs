//! The model is honest: what a minority believes is not committed.

use super::*;

const PATIENCE: u64 = 400;

/// Three nodes and what is on its way between them.
struct Three(Vec<Raft>);

impl Three {
    fn new() -> Three {
        Three((0..3).map(|me| Raft::new(me, 3, 0, PATIENCE)).collect())
    }

    /// Carries messages between those that `reach` each other until nobody says anything more.
    fn talk(&mut self, now: u64, reach: impl Fn(usize, usize) -> bool) {
        loop {
            let sent: Vec<_> = (0..3)
                .flat_map(|from| std::mem::take(&mut self.0[from].out).into_iter().map(move |out| (from, out)))
                .filter(|(from, (to, _))| reach(*from, *to))
                .collect();
            if sent.is_empty() {
                return;
            }
            for (from, (to, message)) in sent {
                self.0[to].receive(now, from, message, PATIENCE);
            }
        }
    }
}

fn command(number: u64) -> (Ticket, Arc<Command>) {
    (Ticket { origin: Run::default(), life: 1, number }, Arc::new(Command::Tick { elapsed_ms: number }))
}

#[test]
fn a_deposed_leader_commits_nothing_and_confirms_no_round() {
    let mut three = Three::new();
    three.0[0].tick(PATIENCE, PATIENCE);
    three.talk(PATIENCE, |_, _| true);
    assert!(three.0[0].is_leader());
    let (ticket, first) = command(1);
    assert!(three.0[0].propose(ticket, first));
    three.talk(PATIENCE, |_, _| true);
    assert_eq!(three.0[0].commit, 2, "its own first entry, and the command");

    let apart = |from: usize, to: usize| from != 0 && to != 0;
    three.0[1].tick(3 * PATIENCE, PATIENCE);
    // The third one has not heard the leader for long enough either.
    three.0[2].leader = None;
    three.talk(3 * PATIENCE, apart);
    assert!(three.0[0].is_leader() && three.0[1].is_leader(), "the first one does not know");
    let (ticket, lost) = command(2);
    assert!(three.0[0].propose(ticket, lost));
    let round = three.0[0].heartbeat().expect("it believes that it leads");
    three.talk(3 * PATIENCE, apart);
    assert_eq!(three.0[0].commit, 2);
    assert!(three.0[0].round_confirmed() < round);

    let (ticket, kept) = command(3);
    assert!(three.0[1].propose(ticket, kept));
    three.0[1].heartbeat();
    three.talk(3 * PATIENCE, |_, _| true);
    three.0[1].heartbeat();
    three.talk(3 * PATIENCE, |_, _| true);
    assert!(!three.0[0].is_leader());
    for raft in &three.0 {
        assert_eq!(raft.commit, 4);
        let numbers: Vec<u64> = raft.log.iter().filter_map(|entry| Some(entry.ticket?.number)).collect();
        assert_eq!(numbers, [1, 3], "what was not committed is gone");
    }
}
