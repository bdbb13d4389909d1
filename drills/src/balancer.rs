//! A load balancer without stickiness: any node that is not known to be away.
//! A node that refuses a connection is left out for a moment, as balancers do; nothing was sent to it then.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;

/// How long a node that refused a connection is left out.
const AWAY: Duration = Duration::from_millis(300);

/// A node's entrance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entrance {
    pub(crate) node: usize,
    pub(crate) url: String,
}

#[derive(Debug)]
struct Known {
    entrance: Entrance,
    /// The operator has taken it out.
    out: bool,
    away_until: Option<Instant>,
}

/// The nodes that requests go to.
#[derive(Debug, Default)]
pub(crate) struct Balancer(Mutex<Vec<Known>>);

impl Balancer {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<Known>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a node in, or back in with a new address.
    pub(crate) fn put(&self, node: usize, url: &str) {
        self.with(|all| {
            all.retain(|known| known.entrance.node != node);
            let entrance = Entrance { node, url: url.to_owned() };
            all.push(Known { entrance, out: false, away_until: None });
        });
    }

    /// Takes a node out, or puts it back in.
    pub(crate) fn set_out(&self, node: usize, out: bool) {
        self.with(|all| all.iter_mut().filter(|known| known.entrance.node == node).for_each(|known| known.out = out));
    }

    /// A node refused a connection.
    pub(crate) fn refused(&self, node: usize) {
        let until = Instant::now() + AWAY;
        self.with(|all| {
            all.iter_mut().filter(|known| known.entrance.node == node).for_each(|known| known.away_until = Some(until));
        });
    }

    /// Any node but `not`, rather one that is not away.
    pub(crate) fn choose(&self, not: Option<usize>) -> Option<Entrance> {
        let now = Instant::now();
        self.with(|all| {
            let here: Vec<&Known> =
                all.iter().filter(|known| !known.out && known.away_until.is_none_or(|until| until < now)).collect();
            let others: Vec<&&Known> = here.iter().filter(|known| Some(known.entrance.node) != not).collect();
            let chosen = others.choose(&mut rand::rng()).map(|known| **known).or_else(|| here.first().copied());
            chosen.map(|known| known.entrance.clone())
        })
    }

    /// All entrances, those that are out as well.
    pub(crate) fn all(&self) -> Vec<Entrance> {
        self.with(|all| all.iter().map(|known| known.entrance.clone()).collect())
    }

    /// One node, if it is there.
    pub(crate) fn of(&self, node: usize) -> Option<Entrance> {
        self.with(|all| all.iter().find(|known| known.entrance.node == node).map(|known| known.entrance.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_among_those_that_are_there() {
        let balancer = Balancer::default();
        assert_eq!(balancer.choose(None), None);
        balancer.put(0, "http://a/mcp");
        balancer.put(1, "http://b/mcp");
        for _ in 0..20 {
            assert_eq!(balancer.choose(Some(0)).map(|entrance| entrance.node), Some(1));
        }
        balancer.refused(1);
        assert_eq!(balancer.choose(Some(0)).map(|entrance| entrance.node), Some(0), "the only one that is there");
        balancer.set_out(0, true);
        assert_eq!(balancer.choose(None), None);
        assert_eq!(balancer.of(0).map(|entrance| entrance.url), Some("http://a/mcp".to_owned()));
    }
}
