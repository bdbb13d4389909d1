//! The checker of linearizability agrees with stateright's tester on short histories made by chance.

use enfilade_sim::linear::{Did, Operation, is_linearizable};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stateright::semantics::register::{Register, RegisterOp, RegisterRet};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester};

/// Threads of a history, and operations of each.
const THREADS: usize = 3;
const EACH: usize = 3;

/// A history by chance: some are linearizable, some are not, some operations are never answered.
fn history(rng: &mut ChaCha8Rng) -> Vec<(usize, Operation)> {
    let mut history = Vec::new();
    let mut written = 0;
    for thread in 0..THREADS {
        let mut at = rng.random_range(0..6);
        for _ in 0..EACH {
            let began = at * 10 + thread as u64;
            let ended = began + rng.random_range(1..6) * 10;
            at = ended / 10 + 1;
            let did = if rng.random_ratio(1, 2) {
                written += 1;
                Did::Write(written)
            } else {
                Did::Read(rng.random_range(0..=written))
            };
            if rng.random_ratio(1, 12) {
                // A thread that has no answer asks for nothing more.
                history.push((thread, Operation { began, ended: None, did }));
                break;
            }
            history.push((thread, Operation { began, ended: Some(ended), did }));
        }
    }
    history
}

fn stateright_says(history: &[(usize, Operation)]) -> bool {
    let mut events = Vec::new();
    for (thread, operation) in history {
        events.push((operation.began, *thread, operation.did, true));
        events.extend(operation.ended.map(|ended| (ended, *thread, operation.did, false)));
    }
    // An operation that ends when another one begins overlaps it.
    events.sort_by_key(|(at, thread, _, begins)| (*at, !begins, *thread));
    let mut tester = LinearizabilityTester::new(Register(0_u64));
    for (_, thread, did, begins) in events {
        let valid = match (begins, did) {
            (true, Did::Write(value)) => tester.on_invoke(thread, RegisterOp::Write(value)).is_ok(),
            (true, Did::Read(_)) => tester.on_invoke(thread, RegisterOp::Read).is_ok(),
            (false, Did::Write(_)) => tester.on_return(thread, RegisterRet::WriteOk).is_ok(),
            (false, Did::Read(value)) => tester.on_return(thread, RegisterRet::ReadOk(value)).is_ok(),
        };
        assert!(valid, "the history is well formed");
    }
    tester.is_consistent()
}

#[test]
fn both_checkers_agree() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut yes, mut no) = (0, 0);
    for _ in 0..1_500 {
        let history = history(&mut rng);
        let operations: Vec<Operation> = history.iter().map(|(_, operation)| *operation).collect();
        let ours = is_linearizable(&operations);
        assert_eq!(ours, stateright_says(&history), "{history:?}");
        if ours { yes += 1 } else { no += 1 }
    }
    assert!(yes > 50 && no > 50, "the histories are of both kinds: {yes} are linearizable, {no} are not");
}
