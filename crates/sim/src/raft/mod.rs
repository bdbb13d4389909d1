//! A model of Raft, small but honest: elections with terms and pre-votes, a log that commits by a majority, reads by
//! ReadIndex rounds, and leaders that do not know that they were deposed. Term, vote and log outlive a crash.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use enfilade_registry::{Command, Run};

/// Which submission an entry carries: who sent it, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket {
    pub(crate) origin: Run,
    /// Which process of the node: runs may be reused by a defect.
    pub(crate) life: u64,
    pub(crate) number: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) term: u64,
    /// `None` in the entry that a new leader writes first.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) command: Option<Arc<Command>>,
}

#[derive(Clone, Debug)]
pub(crate) enum RaftMessage {
    Ask { term: u64, last: (u64, u64), pre: bool },
    Vote { term: u64, granted: bool, pre: bool },
    Append { term: u64, previous: (u64, u64), entries: Vec<Entry>, commit: u64, round: u64 },
    Appended { term: u64, upto: Option<u64>, hint: u64, round: u64 },
}

#[derive(Clone, Debug)]
pub(crate) struct Lead {
    next: Vec<u64>,
    matched: Vec<u64>,
    round: u64,
    rounds: Vec<u64>,
    /// Index of the first entry of its own term: before it is applied the leader answers no read.
    pub(crate) own: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Role {
    Follower,
    Candidate { votes: BTreeSet<usize>, pre: bool },
    Leader(Lead),
}

/// Most entries in one message.
const ENTRIES_MAX: u64 = 64;

pub(crate) struct Raft {
    me: usize,
    nodes: usize,
    pub(crate) term: u64,
    voted: Option<usize>,
    log: Vec<Entry>,
    pub(crate) commit: u64,
    pub(crate) role: Role,
    pub(crate) leader: Option<usize>,
    heard_us: u64,
    election_us: u64,
    pub(crate) out: Vec<(usize, RaftMessage)>,
}

impl Raft {
    pub(crate) fn new(me: usize, nodes: usize, now_us: u64, election_us: u64) -> Raft {
        Raft {
            me,
            nodes,
            term: 0,
            voted: None,
            log: Vec::new(),
            commit: 0,
            role: Role::Follower,
            leader: None,
            heard_us: now_us,
            election_us,
            out: Vec::new(),
        }
    }

    /// What is left after a crash.
    pub(crate) fn restart(&mut self, now_us: u64) {
        self.commit = 0;
        self.role = Role::Follower;
        self.leader = None;
        self.heard_us = now_us;
        self.out.clear();
    }

    pub(crate) fn lead(&self) -> Option<&Lead> {
        match &self.role {
            Role::Leader(lead) => Some(lead),
            _ => None,
        }
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.lead().is_some()
    }

    pub(crate) fn entry(&self, index: u64) -> Option<&Entry> {
        self.log.get(usize::try_from(index.checked_sub(1)?).ok()?)
    }

    fn last(&self) -> (u64, u64) {
        (self.log.len() as u64, self.log.last().map_or(0, |entry| entry.term))
    }

    /// Called often; starts an election when the leader was not heard for too long. `election_us` is the next patience.
    pub(crate) fn tick(&mut self, now_us: u64, election_us: u64) {
        if self.is_leader() || now_us < self.heard_us + self.election_us {
            return;
        }
        self.heard_us = now_us;
        self.election_us = election_us;
        self.leader = None;
        self.ask(true);
    }

    fn ask(&mut self, pre: bool) {
        if !pre {
            self.term += 1;
            self.voted = Some(self.me);
        }
        self.role = Role::Candidate { votes: BTreeSet::from([self.me]), pre };
        let term = if pre { self.term + 1 } else { self.term };
        self.send_all(&RaftMessage::Ask { term, last: self.last(), pre });
    }

    fn send_all(&mut self, message: &RaftMessage) {
        for node in others(self.nodes, self.me) {
            self.out.push((node, message.clone()));
        }
    }

    /// A heartbeat of the leader, with what each follower lacks. Starts a new ReadIndex round and returns its number.
    pub(crate) fn heartbeat(&mut self) -> Option<u64> {
        let Role::Leader(lead) = &mut self.role else { return None };
        lead.round += 1;
        lead.rounds[self.me] = lead.round;
        let round = lead.round;
        for node in others(self.nodes, self.me) {
            self.append_to(node);
        }
        Some(round)
    }

    fn append_to(&mut self, node: usize) {
        let Role::Leader(lead) = &self.role else { return };
        let previous = lead.next[node] - 1;
        let upto = (previous + ENTRIES_MAX).min(self.log.len() as u64);
        let entries = self.log[previous as usize..upto as usize].to_vec();
        let message = RaftMessage::Append {
            term: self.term,
            previous: (previous, self.entry(previous).map_or(0, |entry| entry.term)),
            entries,
            commit: self.commit,
            round: lead.round,
        };
        self.out.push((node, message));
    }

    /// The newest round that a majority has answered.
    pub(crate) fn round_confirmed(&self) -> u64 {
        self.lead().map_or(0, |lead| majority(&lead.rounds))
    }

    /// Appends a command, if this node believes that it leads.
    pub(crate) fn propose(&mut self, ticket: Ticket, command: Arc<Command>) -> bool {
        if !self.is_leader() {
            return false;
        }
        self.append(Some(ticket), Some(command));
        for node in others(self.nodes, self.me) {
            self.append_to(node);
        }
        true
    }

    fn append(&mut self, ticket: Option<Ticket>, command: Option<Arc<Command>>) {
        self.log.push(Entry { term: self.term, ticket, command });
        let index = self.log.len() as u64;
        if let Role::Leader(lead) = &mut self.role {
            lead.matched[self.me] = index;
        }
        self.advance();
    }

    fn advance(&mut self) {
        let Role::Leader(lead) = &self.role else { return };
        let index = majority(&lead.matched);
        // Only entries of its own term commit by counting.
        if index > self.commit && self.entry(index).is_some_and(|entry| entry.term == self.term) {
            self.commit = index;
        }
    }

    fn follow(&mut self, term: u64) {
        if term > self.term {
            self.term = term;
            self.voted = None;
            self.leader = None;
        }
        self.role = Role::Follower;
    }

    pub(crate) fn receive(&mut self, now_us: u64, from: usize, message: RaftMessage, election_min_us: u64) {
        match message {
            RaftMessage::Ask { term, last, pre } => self.asked(now_us, from, (term, last, pre), election_min_us),
            RaftMessage::Vote { term, granted, pre } => self.voted(now_us, from, term, granted, pre),
            RaftMessage::Append { term, previous, entries, commit, round } => {
                let reply = self.appending(now_us, from, term, previous, entries, commit);
                let (upto, hint) = reply.map_or_else(|hint| (None, hint), |upto| (Some(upto), upto));
                self.out.push((from, RaftMessage::Appended { term: self.term, upto, hint, round }));
            }
            RaftMessage::Appended { term, upto, hint, round } => self.appended(from, term, upto, hint, round),
        }
    }

    fn asked(&mut self, now_us: u64, from: usize, ask: (u64, (u64, u64), bool), election_min_us: u64) {
        let (term, last, pre) = ask;
        let newest = (last.1, last.0) >= (self.last().1, self.last().0);
        // A node that still hears its leader, or leads, does not help to depose it.
        let content = self.is_leader() || (self.leader.is_some() && now_us < self.heard_us + election_min_us);
        if pre {
            let granted = term > self.term && newest && !content;
            self.out.push((from, RaftMessage::Vote { term: if granted { term } else { self.term }, granted, pre }));
            return;
        }
        if term > self.term {
            self.follow(term);
        }
        let granted = term == self.term && newest && self.voted.is_none_or(|voted| voted == from);
        if granted {
            self.voted = Some(from);
            self.heard_us = now_us;
        }
        self.out.push((from, RaftMessage::Vote { term: self.term, granted, pre }));
    }

    fn voted(&mut self, now_us: u64, from: usize, term: u64, granted: bool, of_pre: bool) {
        if !granted {
            if term > self.term {
                self.follow(term);
            }
            return;
        }
        let expected = if of_pre { self.term + 1 } else { self.term };
        let enough = self.nodes / 2 + 1;
        let Role::Candidate { votes, pre } = &mut self.role else { return };
        if *pre != of_pre || term != expected {
            return;
        }
        votes.insert(from);
        if votes.len() < enough {
            return;
        }
        if of_pre { self.ask(false) } else { self.elected(now_us) }
    }

    fn elected(&mut self, now_us: u64) {
        let last = self.log.len() as u64;
        self.role = Role::Leader(Lead {
            next: vec![last + 1; self.nodes],
            matched: vec![0; self.nodes],
            round: 0,
            rounds: vec![0; self.nodes],
            own: last + 1,
        });
        self.leader = Some(self.me);
        self.heard_us = now_us;
        self.append(None, None);
        self.heartbeat();
    }

    fn appending(
        &mut self,
        now_us: u64,
        from: usize,
        term: u64,
        previous: (u64, u64),
        entries: Vec<Entry>,
        commit: u64,
    ) -> Result<u64, u64> {
        if term < self.term {
            return Err(0);
        }
        self.follow(term);
        self.leader = Some(from);
        self.heard_us = now_us;
        if previous.0 > 0 && self.entry(previous.0).is_none_or(|entry| entry.term != previous.1) {
            return Err(previous.0.min(self.log.len() as u64 + 1).saturating_sub(1).max(self.commit));
        }
        let upto = previous.0 + entries.len() as u64;
        for (index, entry) in (previous.0 + 1..).zip(entries) {
            if self.entry(index).is_some_and(|own| own.term != entry.term) {
                assert!(index > self.commit, "a committed entry would be overwritten");
                self.log.truncate(index as usize - 1);
            }
            if self.entry(index).is_none() {
                self.log.push(entry);
            }
        }
        self.commit = self.commit.max(commit.min(upto));
        Ok(upto)
    }

    fn appended(&mut self, from: usize, term: u64, upto: Option<u64>, hint: u64, round: u64) {
        if term > self.term {
            self.follow(term);
            return;
        }
        let length = self.log.len() as u64;
        let Role::Leader(lead) = &mut self.role else { return };
        if term < self.term {
            return;
        }
        lead.rounds[from] = lead.rounds[from].max(round);
        match upto {
            Some(upto) => {
                lead.matched[from] = lead.matched[from].max(upto);
                lead.next[from] = lead.next[from].max(upto + 1);
                let behind = lead.next[from] <= length && upto == lead.matched[from] && upto < length;
                self.advance();
                if behind {
                    self.append_to(from);
                }
            }
            None => {
                lead.next[from] = (hint + 1).min(lead.next[from].saturating_sub(1)).max(lead.matched[from] + 1);
                self.append_to(from);
            }
        }
    }
}

fn others(nodes: usize, me: usize) -> impl Iterator<Item = usize> {
    (0..nodes).filter(move |node| *node != me)
}

fn majority(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    sorted[values.len() / 2]
}
