//! The streams of one session: the general one, and one for each call that streams.
//!
//! A finished stream is kept for a while for a client that lost its end, then given up.

use crate::copy::{CopyChange, OpenCall, SessionCopy};
use crate::gate::Gate;
use crate::owner::outcome_unknown;
use crate::stream::{EventId, FINISHED_KEPT, Kind, Stream};
use crate::topics::Registration;
use enfilade_mcp::{Id, Version};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;

/// How long finished streams are kept.
const FINISHED_KEPT_FOR: Duration = Duration::from_secs(60);

pub(crate) struct Streams {
    gate: Arc<Gate>,
    version: Version,
    /// Made when somebody reads it or has something to say on it.
    pub(super) general: OnceLock<General>,
    state: Mutex<State>,
}

/// The stream of messages that belong to no call, and what it hears of.
pub(super) struct General {
    pub(super) stream: Arc<Stream>,
    pub(super) registration: Registration,
}

#[derive(Default)]
struct State {
    last: u64,
    calls: HashMap<u64, Arc<Stream>>,
    finished: VecDeque<(Instant, u64)>,
}

impl Streams {
    pub(crate) fn new(version: Version, gate: Arc<Gate>) -> Self {
        Self { gate, version, general: OnceLock::new(), state: Mutex::default() }
    }

    pub(super) fn new_general(&self) -> Arc<Stream> {
        Stream::of(&self.gate, 0, kind(self.version, false), Vec::new())
    }

    /// The streams as the second holds them. What an earlier owner was asked and had not answered ends with "outcome
    /// unknown": the calls ended with that owner. After a move they go on there. The general stream apart, if it was used.
    pub(super) fn restored(version: Version, gate: Arc<Gate>, mut copy: SessionCopy) -> (Self, Option<Arc<Stream>>) {
        let moved = copy.is_moved();
        let general = copy.streams.remove(&0).map(|copy| Stream::restored(&gate, 0, kind(version, false), copy));
        let last = copy.streams.keys().next_back().copied().unwrap_or_default();
        let restored = |(id, copy)| (id, Stream::restored(&gate, id, kind(version, true), copy));
        let calls: HashMap<u64, Arc<Stream>> = copy.streams.into_iter().map(restored).collect();
        let mut ids: Vec<u64> = calls.keys().copied().collect();
        ids.sort_unstable();
        if !moved {
            for stream in calls.values().filter(|stream| !stream.is_done()) {
                end_unknown(stream);
                stream.close();
            }
        }
        let now = Instant::now();
        let finished = ids.into_iter().filter(|id| calls[id].is_done()).map(|id| (now, id)).collect();
        let state = Mutex::new(State { last, calls, finished });
        (Self { gate, version, general: OnceLock::new(), state }, general)
    }

    /// A stream for one call, or for those of a batch.
    pub(crate) fn open(&self, calls: Vec<OpenCall>) -> Arc<Stream> {
        let mut state = self.state.lock();
        state.last += 1;
        let id = state.last;
        let stream = Stream::of(&self.gate, id, kind(self.version, true), calls);
        state.calls.insert(id, stream.clone());
        drop(state);
        // In this order a copy that begins just now is told of it, by this or by who tells everything.
        stream.begin();
        stream
    }

    /// The stream that an event was part of.
    pub(crate) fn get(&self, event: EventId) -> Option<Arc<Stream>> {
        let stream = match event.stream {
            0 => self.general.get().map(|general| general.stream.clone()),
            id => self.state.lock().calls.get(&id).cloned(),
        };
        stream.filter(|stream| stream.term() == event.term)
    }

    /// The stream of this number; those of calls only.
    pub(crate) fn of_call(&self, id: u64) -> Option<Arc<Stream>> {
        self.state.lock().calls.get(&id).cloned()
    }

    /// Streams of calls that are not complete.
    pub(crate) fn unfinished(&self) -> Vec<Arc<Stream>> {
        self.state.lock().calls.values().filter(|stream| !stream.is_done()).cloned().collect()
    }

    /// The calls of a stream were lost.
    pub(crate) fn lose(&self, stream: &Stream) {
        end_unknown(stream);
        self.close(stream);
    }

    /// Does `hold` while nothing is taken in, and tells what was until then.
    pub(crate) fn freeze(&self, hold: impl FnOnce(), tell: &impl Fn(CopyChange)) {
        let all = self.all();
        let quiet: Vec<_> = all.iter().map(|stream| stream.quiet()).collect();
        hold();
        all.iter().for_each(|stream| stream.tell_in_order(tell));
        drop(quiet);
    }

    /// Readers look again whether the slot is still this node's.
    pub(crate) fn wake(&self) {
        self.each(Stream::wake);
    }

    /// A call's stream is complete.
    pub(crate) fn close(&self, stream: &Stream) {
        stream.close();
        self.state.lock().finished.push_back((Instant::now(), stream.id()));
        self.sweep();
    }

    /// Gives up streams that were finished long ago.
    pub(crate) fn sweep(&self) {
        let given_up = self.state.lock().give_up(FINISHED_KEPT);
        given_up.iter().for_each(|stream| stream.forgotten());
    }

    /// Ends every stream; where its slot is another node's, a reader gets nothing more.
    pub(crate) fn finish(&self) {
        self.each(Stream::finish);
    }

    /// Tells everything that a second must know.
    pub(crate) fn tell(&self, tell: &impl Fn(CopyChange)) {
        self.each(|stream| stream.tell(tell));
    }

    fn each(&self, then: impl Fn(&Stream)) {
        self.all().iter().for_each(|stream| then(stream));
    }

    fn all(&self) -> Vec<Arc<Stream>> {
        let state = self.state.lock();
        let general = self.general.get().map(|general| &general.stream);
        general.into_iter().chain(state.calls.values()).cloned().collect()
    }
}

impl State {
    fn give_up(&mut self, kept_max: usize) -> Vec<Arc<Stream>> {
        let mut given_up = Vec::new();
        while let Some((since, id)) = self.finished.front().copied() {
            if self.finished.len() <= kept_max && since.elapsed() < FINISHED_KEPT_FOR {
                break;
            }
            self.finished.pop_front();
            given_up.extend(self.calls.remove(&id));
        }
        given_up
    }
}

/// What its calls came to nobody knows.
fn end_unknown(stream: &Stream) {
    for call in stream.unanswered() {
        let Some(id) = Id::from_json(&call.id) else { continue };
        stream.send_answer(outcome_unknown(call.safe).message(Some(&id)).into());
    }
}

fn kind(version: Version, call: bool) -> Kind {
    Kind::Resumable { priming: call && version.has_priming() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::{Confirm, Copies, CopyEntry};
    use crate::slots::AllSlots;
    use enfilade_registry::{Fence, SessionId, SessionKeys, Slot, Term};
    use std::sync::Weak;

    /// A second that looks, while it is told of a stream, whether a copy that begins at this moment would be told of it.
    #[derive(Default)]
    struct Second {
        streams: OnceLock<Weak<Streams>>,
        found: Mutex<Vec<bool>>,
    }

    impl Copies for Second {
        fn append(&self, _: Fence, entry: CopyEntry, confirm: Confirm) {
            let streams = self.streams.get().and_then(Weak::upgrade).expect("it is there");
            if let CopyChange::Open { stream, .. } = entry.change {
                self.found.lock().push(streams.all().iter().any(|found| found.id() == stream));
            }
            confirm.confirm();
        }

        fn restore(&self, _: &SessionId) -> Option<SessionCopy> {
            None
        }
    }

    fn streams(second: &Arc<Second>) -> Arc<Streams> {
        let session = SessionKeys::new(1, &[7; 32]).expect("a key").mint(Slot::MIN, [1; 16]);
        let gate = Gate::new(Arc::new(AllSlots::new(Term(5))), second.clone(), session, Term(5));
        let streams = Arc::new(Streams::new(Version::LEGACY_LATEST, gate));
        let _ = second.streams.set(Arc::downgrade(&streams));
        streams
    }

    #[test]
    fn a_copy_that_begins_while_a_stream_is_opened_is_told_of_it() {
        let second = Arc::new(Second::default());
        let streams = streams(&second);
        let call = OpenCall { id: "7".into(), safe: false };
        let stream = streams.open(vec![call.clone()]);
        assert_eq!(*second.found.lock(), [true], "it is in its session before anybody is told of it");
        // And also between the two: told twice it is the same.
        let early = Stream::of(&streams.gate, 9, kind(streams.version, true), vec![call]);
        streams.state.lock().calls.insert(9, early.clone());
        let told = Mutex::new(Vec::new());
        streams.tell(&|change| told.lock().push(change));
        early.begin();
        let opened = |id| matches!(id, CopyChange::Open { stream: 9, ref calls, .. } if calls.len() == 1);
        assert!(told.into_inner().into_iter().any(opened));
        assert_eq!((stream.id(), second.found.lock().len()), (1, 2));
    }
}
