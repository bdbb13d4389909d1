//! What a session holds once it is used. Made at first need: most sessions of a node wait between two uses, and many
//! never ask for the half of it.

use super::streams::{General, Streams};
use super::upstreams::Binding;
use super::{InFlight, Live, Questions, moving};
use crate::copy::CopyChange;
use crate::finish::Back;
use crate::lists::ListKind;
use crate::stream::Stream;
use crate::topics::{Subscriber, notification};
use crate::viewer::{Scope, Viewer};
use enfilade_mcp::Id;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

pub(super) struct Parts {
    pub(super) streams: Streams,
    pub(super) questions: Questions,
    pub(super) calls: Mutex<HashMap<Id, InFlight>>,
    /// Batches under way: some of their calls may not have begun.
    pub(super) batches: AtomicU32,
    /// Messages that are about to begin a call, or a batch.
    pub(super) beginning: AtomicU32,
    pub(super) bindings: Box<[Binding]>,
    /// To the former owner, which finishes calls that came with a move.
    pub(super) back: Option<Arc<Back>>,
    /// Their streams.
    pub(super) came: Box<[u64]>,
    pub(super) log_level: Mutex<Option<Arc<str>>>,
    /// What the client declared that it can do.
    scope: OnceLock<Scope>,
    /// Resources that the client watches through its own upstream sessions, by the URIs that it knows.
    pub(super) watched: Mutex<BTreeSet<Arc<str>>>,
}

impl Parts {
    /// `back`: another node finishes the calls of these streams.
    pub(super) fn new(live: &Live, streams: Streams, back: Option<Arc<Back>>) -> Self {
        let came = back.iter().flat_map(|_| streams.unfinished());
        Self {
            calls: Mutex::new(if back.is_some() { moving::foreign(&streams) } else { HashMap::new() }),
            came: came.map(|stream| stream.id()).collect(),
            back,
            streams,
            questions: Questions::default(),
            batches: AtomicU32::new(0),
            beginning: AtomicU32::new(0),
            bindings: live.view.sites.iter().map(|_| Binding::default()).collect(),
            log_level: Mutex::new(live.facts.log_level().cloned()),
            scope: OnceLock::new(),
            watched: Mutex::new(live.facts.subscriptions().clone()),
        }
    }
}

/// One batch more for as long as it lives.
pub(crate) struct UnderWay(Arc<Live>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.parts().batches.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Live {
    /// What it holds, if it was used.
    pub(super) fn made(&self) -> Option<&Parts> {
        self.parts.get().map(|parts| &**parts)
    }

    /// What it holds, made now if need be.
    pub(super) fn parts(&self) -> &Parts {
        let make = || Box::new(Parts::new(self, Streams::new(self.version, self.gate.clone()), None));
        self.parts.get_or_init(make)
    }

    pub(crate) fn streams(&self) -> &Streams {
        &self.parts().streams
    }

    pub(crate) fn questions(&self) -> &Questions {
        &self.parts().questions
    }

    /// A batch begins. It is under way for as long as what is returned lives.
    pub(crate) fn begin_batch(self: &Arc<Self>) -> UnderWay {
        self.parts().batches.fetch_add(1, Ordering::AcqRel);
        UnderWay(self.clone())
    }

    pub(super) fn bindings(&self) -> &[Binding] {
        &self.parts().bindings
    }

    pub(crate) fn log_level(&self) -> Option<Arc<str>> {
        self.parts().log_level.lock().clone()
    }

    pub(crate) fn viewer(self: &Arc<Self>) -> Viewer {
        let scope = self.parts().scope.get_or_init(|| Scope::of_record(self.facts.capabilities()));
        Viewer { scope: scope.clone(), live: Some(self.clone()) }
    }

    /// The stream of messages that belong to no call.
    pub(crate) fn general(&self) -> &Arc<Stream> {
        &self.joined(None).stream
    }

    /// Under which number it hears notices.
    pub(crate) fn subscriber_id(&self) -> u64 {
        self.joined(None).registration.id
    }

    /// Tells everything that a second must know of its streams.
    pub(crate) fn tell(&self, tell: &impl Fn(CopyChange)) {
        self.made().iter().for_each(|parts| parts.streams.tell(tell));
    }

    /// Gives up streams that were finished long ago.
    pub(crate) fn sweep(&self) {
        self.made().iter().for_each(|parts| parts.streams.sweep());
    }

    /// Whether somebody reads the general stream.
    pub(crate) fn is_heard(&self) -> bool {
        self.made().and_then(|parts| parts.streams.general.get()).is_some_and(|general| general.stream.is_attached())
    }

    /// Tells the client that lists may have changed, on its general stream: now if there is one, else when there is.
    pub(super) fn announce_lists(&self) {
        // What `joined` reads.
        self.heard.store(0, Ordering::Release);
        if let Some(general) = self.made().and_then(|parts| parts.streams.general.get()) {
            self.gap_notices(&general.stream);
        }
    }

    /// The general stream, made now if need be, with the notices that it would have got since the session was taken up.
    pub(super) fn joined(&self, restored: Option<Arc<Stream>>) -> &General {
        let streams = self.streams();
        let general = streams.general.get_or_init(|| {
            let stream = restored.unwrap_or_else(|| streams.new_general());
            let subscriber = Subscriber {
                stream: Arc::downgrade(&stream),
                sites: self.view.indexes.clone(),
                lists: ListKind::ALL.to_vec(),
                listen_id: None,
            };
            let heard = self.heard.load(Ordering::Acquire);
            let (registration, missed) = self.view.sites[0].hub.register_since(subscriber, heard);
            if heard == 0 {
                self.gap_notices(&stream);
            }
            for method in missed {
                stream.notice(method, notification(method, "", None));
            }
            General { stream, registration }
        });
        // Whoever ended the session before did not find the stream.
        if self.ended.load(Ordering::Acquire) {
            general.stream.finish();
        }
        general
    }

    fn gap_notices(&self, stream: &Stream) {
        for kind in ListKind::ALL {
            let path = [kind.capability(), "listChanged"];
            let can = self.view.single().and_then(|site| site.up()).is_none_or(|up| up.profile.declares(&path));
            if can {
                stream.notice(kind.changed(), notification(kind.changed(), "", None));
            }
        }
    }
}
