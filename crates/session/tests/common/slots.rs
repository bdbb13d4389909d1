//! Slots and a second copy that do what a test tells them.

#![allow(dead_code, unreachable_pub, reason = "a module of the tests that use it")]

use enfilade_registry::{Fence, NotServed, SessionId, Slot, Term};
use enfilade_session::copy::{Book, Confirm, Copies, CopyEntry, SessionCopy};
use enfilade_session::slots::{Held, Slots};
use std::sync::Mutex;
use tokio::sync::watch;

type Then = Box<dyn FnOnce() + Send>;

/// One lease for all slots.
pub struct Lease {
    now: Mutex<(Held, u64)>,
    /// What happens right after so many more looks whether something may begin.
    behind: Mutex<Option<(usize, Then)>>,
    changed: watch::Sender<u64>,
    /// How often somebody was told to wait.
    paused: watch::Sender<u64>,
}

impl Lease {
    pub fn new(term: u64) -> Self {
        Self {
            now: Mutex::new((Held::Yes, term)),
            behind: Mutex::default(),
            changed: watch::Sender::new(0),
            paused: watch::Sender::new(0),
        }
    }

    pub fn set(&self, held: Held) {
        self.now.lock().unwrap().0 = held;
        self.changed.send_modify(|changes| *changes += 1);
    }

    pub fn renew(&self, term: u64) {
        *self.now.lock().unwrap() = (Held::Yes, term);
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// The lease is lost right after the next call has begun, for which it is looked twice.
    pub fn pause_behind_next(&self) {
        self.pause_behind(2, || {});
    }

    /// The lease is lost right after so many looks whether something may begin, and then something happens.
    pub fn pause_behind(&self, looks: usize, then: impl FnOnce() + Send + 'static) {
        *self.behind.lock().unwrap() = Some((looks, Box::new(then)));
    }

    fn looked(&self) {
        let mut behind = self.behind.lock().unwrap();
        if let Some((looks, _)) = behind.as_mut() {
            *looks -= 1;
        }
        if let Some((_, then)) = behind.take_if(|(looks, _)| *looks == 0) {
            self.set(Held::Paused);
            then();
        }
    }

    /// Resolves when an effect was begun that waits for the lease.
    pub async fn until_asked(&self, before: u64) {
        let mut asked = self.paused.subscribe();
        super::common::within(asked.wait_for(|asked| *asked > before)).await.unwrap();
    }

    pub fn asked(&self) -> u64 {
        *self.paused.borrow()
    }
}

impl Slots for Lease {
    fn fence(&self, slot: Slot) -> Result<Fence, NotServed> {
        let now = *self.now.lock().unwrap();
        match now {
            (Held::Yes, term) => {
                self.looked();
                Ok(Fence { slot, term: Term(term) })
            }
            (Held::Paused, _) => Err(NotServed::NotReady),
            (Held::Gone, _) => Err(NotServed::NotOwner),
        }
    }

    fn holds(&self, fence: Fence) -> Held {
        let (held, term) = *self.now.lock().unwrap();
        let held = if fence.term.0 < term { Held::Gone } else { held };
        if held == Held::Paused {
            self.paused.send_modify(|asked| *asked += 1);
        }
        held
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn mint(&self) -> Result<Slot, NotServed> {
        (self.now.lock().unwrap().0 == Held::Yes).then_some(Slot::MIN).ok_or(NotServed::NotReady)
    }
}

/// A second that acknowledges at once, or not at all while it is held.
#[derive(Default)]
pub struct Second {
    pub book: Mutex<Book>,
    pub held: Mutex<bool>,
    waiting: Mutex<Vec<Confirm>>,
    appended: watch::Sender<u64>,
}

impl Second {
    pub fn hold(&self) {
        *self.held.lock().unwrap() = true;
    }

    pub fn confirm(&self) {
        *self.held.lock().unwrap() = false;
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap());
        waiting.into_iter().for_each(Confirm::confirm);
    }

    /// Resolves when so many entries were told.
    pub async fn until(&self, entries: u64) {
        let mut appended = self.appended.subscribe();
        super::common::within(appended.wait_for(|appended| *appended >= entries)).await.unwrap();
    }
}

impl Copies for Second {
    fn append(&self, _: Fence, entry: CopyEntry, confirm: Confirm) {
        self.book.lock().unwrap().apply(entry);
        if *self.held.lock().unwrap() {
            self.waiting.lock().unwrap().push(confirm);
        } else {
            confirm.confirm();
        }
        self.appended.send_modify(|appended| *appended += 1);
    }

    fn restore(&self, session: &SessionId) -> Option<SessionCopy> {
        self.book.lock().unwrap().session(session)
    }
}
