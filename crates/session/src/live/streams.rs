//! The streams of one session: the general one, and one for each call that streams.
//!
//! A finished stream is kept for a while for a client that lost its end, then given up.

use crate::stream::{Kind, Stream};
use enfilade_mcp::Version;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Finished streams that are kept at most, and for how long.
const FINISHED_KEPT: usize = 16;
const FINISHED_KEPT_FOR: Duration = Duration::from_secs(60);

pub(crate) struct Streams {
    term: u64,
    version: Version,
    general: Arc<Stream>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    calls: HashMap<u64, Arc<Stream>>,
    finished: VecDeque<(Instant, u64)>,
}

impl Streams {
    pub(crate) fn new(version: Version, term: u64) -> Self {
        let general = Stream::new(0, term, kind(version, false));
        Self { term, version, general, state: Mutex::default() }
    }

    /// The stream of messages that belong to no call.
    pub(crate) fn general(&self) -> &Arc<Stream> {
        &self.general
    }

    /// A stream for one call.
    pub(crate) fn open(&self) -> Arc<Stream> {
        let mut state = self.state.lock();
        state.last += 1;
        let stream = Stream::new(state.last, self.term, kind(self.version, true));
        state.calls.insert(stream.id(), stream.clone());
        stream
    }

    /// The stream with this number; 0 is the general one.
    pub(crate) fn get(&self, id: u64) -> Option<Arc<Stream>> {
        if id == 0 { Some(self.general.clone()) } else { self.state.lock().calls.get(&id).cloned() }
    }

    /// The term in the ids of this session's events.
    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// A call's stream is complete.
    pub(crate) fn close(&self, stream: &Stream) {
        stream.finish();
        let mut state = self.state.lock();
        state.finished.push_back((Instant::now(), stream.id()));
        state.give_up(FINISHED_KEPT);
    }

    /// Gives up streams that were finished long ago.
    pub(crate) fn sweep(&self) {
        self.state.lock().give_up(FINISHED_KEPT);
    }

    /// Ends every stream.
    pub(crate) fn finish(&self) {
        self.general.finish();
        self.state.lock().calls.values().for_each(|stream| stream.finish());
    }
}

impl State {
    fn give_up(&mut self, kept_max: usize) {
        while let Some((since, id)) = self.finished.front().copied() {
            if self.finished.len() <= kept_max && since.elapsed() < FINISHED_KEPT_FOR {
                return;
            }
            self.finished.pop_front();
            self.calls.remove(&id);
        }
    }
}

fn kind(version: Version, call: bool) -> Kind {
    if version.has_event_ids() { Kind::Resumable { priming: call && version.has_priming() } } else { Kind::Ephemeral }
}
