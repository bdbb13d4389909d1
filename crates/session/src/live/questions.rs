//! Requests that upstreams made to one client and that it has not answered yet.
//!
//! Ids and progress tokens of upstreams may collide; each question goes to the client under a number of ours.

use enfilade_mcp::Id;
use enfilade_upstream::Peer;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Questions that may be open at a time.
const QUESTIONS_MAX: usize = 256;
/// How long a client may take to answer.
const QUESTION_OPEN_MAX: Duration = Duration::from_secs(600);

/// A request that the client has to answer.
pub(crate) struct Question {
    /// Who asked.
    pub(crate) peer: Arc<dyn Peer>,
    /// The id under which it was asked.
    pub(crate) id: Id,
    /// The progress token that it came with, a JSON text.
    pub(crate) token: Option<String>,
    /// The call, by its id at the upstream, in whose course it was asked.
    pub(crate) call: Option<u64>,
    /// When it was asked.
    pub(crate) asked: Instant,
}

/// The open questions of one session.
pub(crate) struct Questions {
    state: Mutex<(u64, BTreeMap<u64, Question>)>,
}

impl Default for Questions {
    /// Numbers begin anywhere: the client may still answer what an earlier owner asked.
    fn default() -> Self {
        let first = getrandom::u32().unwrap_or_default() & 0x3fff_ffff;
        Self { state: Mutex::new((u64::from(first), BTreeMap::new())) }
    }
}

impl Questions {
    /// Notes a question and gives the number under which the client gets it; the question back when there are too many.
    pub(crate) fn open(&self, question: Question) -> Result<u64, Question> {
        let mut state = self.state.lock();
        if state.1.len() >= QUESTIONS_MAX {
            return Err(question);
        }
        state.0 += 1;
        let number = state.0;
        state.1.insert(number, question);
        Ok(number)
    }

    /// The client answered.
    pub(crate) fn close(&self, number: u64) -> Option<Question> {
        self.state.lock().1.remove(&number)
    }

    /// Who asked question `number`, and the progress token that it came with.
    pub(crate) fn token(&self, number: u64) -> Option<(Arc<dyn Peer>, String)> {
        let state = self.state.lock();
        let question = state.1.get(&number)?;
        Some((question.peer.clone(), question.token.clone()?))
    }

    /// The upstream withdraws what it asked as `id`; the number under which the client knows it.
    pub(crate) fn withdraw(&self, peer: &Arc<dyn Peer>, id: &Id) -> Option<u64> {
        let mut state = self.state.lock();
        let same = |(_, question): &(&u64, &Question)| Arc::ptr_eq(&question.peer, peer) && question.id == *id;
        let number = state.1.iter().find(same).map(|(number, _)| *number)?;
        state.1.remove(&number);
        Some(number)
    }

    /// True while the client has a question of this call to answer.
    pub(crate) fn waits(&self, call: u64) -> bool {
        self.state.lock().1.values().any(|question| question.call == Some(call))
    }

    /// An upstream session says no more, and with it ends what it asked outside calls.
    pub(crate) fn end_of_peer(&self, peer: &Arc<dyn Peer>) {
        self.state.lock().1.retain(|_, question| question.call.is_some() || !Arc::ptr_eq(&question.peer, peer));
    }

    /// Gives up questions that were asked too long ago.
    pub(crate) fn expire(&self) -> Vec<Question> {
        let mut state = self.state.lock();
        let late = |question: &Question| question.asked.elapsed() > QUESTION_OPEN_MAX;
        let numbers: Vec<u64> = state.1.iter().filter(|(_, question)| late(question)).map(|(n, _)| *n).collect();
        numbers.iter().filter_map(|number| state.1.remove(number)).collect()
    }

    /// A call has ended, and with it what was asked in its course.
    pub(crate) fn end_of(&self, call: u64) {
        self.state.lock().1.retain(|_, question| question.call != Some(call));
    }
}
