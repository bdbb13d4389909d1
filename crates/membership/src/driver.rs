//! The task that runs foca: packets in, timers, seeds, hints, coming back, going.
//!
//! Rule: everything that foca decides goes through this one task, and nothing in it waits but for the next event.
//! After a pause packets are read before timers fire, or this node would suspect those that answered meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use enfilade_registry::NodeId;
use foca::{Foca, Member};
use rand10::rngs::StdRng;
use rand10::seq::IteratorRandom;
use rand10::{RngExt, SeedableRng};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::hint::{HintBook, SEES_MAX, Said};
use crate::outbox::Outbox;
use crate::seal::{PACKET_BYTES_MAX, Seal};
use crate::seat::{Seat, Taken, Wire};
use crate::{Alive, Hint, Roster, Timing};

/// Packets that are read before timers get their turn.
const PACKETS_PER_TURN: usize = 64;

/// Seeds that are called at one time.
const SEEDS_PER_CALL: usize = 4;

/// Shortest time between two broadcasts of the own hint.
const HINT_PAUSE: Duration = Duration::from_millis(100);

/// First and longest wait before coming back after having been declared down.
const RETURN_FIRST: Duration = Duration::from_millis(100);
const RETURN_LAST: Duration = Duration::from_secs(5);

/// Between two goodbyes; three are sent, because packets get lost.
const GOODBYE_PAUSE: Duration = Duration::from_millis(15);

/// Between two lines in the log about packets that are not understood.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// What comes in and goes out besides packets.
pub(crate) struct Orders {
    pub(crate) hints: watch::Receiver<Option<Hint>>,
    pub(crate) seeds: mpsc::Receiver<BTreeSet<SocketAddr>>,
    pub(crate) leaving: mpsc::Receiver<oneshot::Sender<()>>,
    pub(crate) roster: watch::Sender<Arc<Roster>>,
    pub(crate) rejected: Arc<AtomicU64>,
}

/// The task's state.
pub(crate) struct Driver {
    foca: Foca<Seat, Wire, StdRng, HintBook>,
    outbox: Outbox,
    socket: Arc<UdpSocket>,
    seal: Seal,
    me: Taken,
    timing: Timing,
    random: StdRng,
    book: HintBook,
    orders: Orders,
    seeds: BTreeSet<SocketAddr>,
    hint: Option<Said>,
    hint_said: Instant,
    hint_at: Option<Instant>,
    return_at: Option<Instant>,
    return_wait: Duration,
    returned: Instant,
    logged: Option<Instant>,
}

impl Driver {
    pub(crate) fn new(me: Taken, timing: Timing, seed: u64, seal: Seal, socket: UdpSocket, orders: Orders) -> Driver {
        let socket = Arc::new(socket);
        let book = HintBook::default();
        let mut random = StdRng::seed_from_u64(seed);
        let foca_random = StdRng::seed_from_u64(random.random());
        let seat = Seat::Taken(me.clone());
        let foca = Foca::with_custom_broadcast(seat, timing.foca(), foca_random, Wire, book.clone());
        Driver {
            foca,
            outbox: Outbox::new(Arc::clone(&socket), seal.clone()),
            socket,
            seal,
            me,
            timing,
            random,
            book,
            orders,
            seeds: BTreeSet::new(),
            hint: None,
            hint_said: Instant::now(),
            hint_at: None,
            return_at: None,
            return_wait: RETURN_FIRST,
            returned: Instant::now(),
            logged: None,
        }
    }

    /// Runs until the node leaves, or until [`crate::Membership`] is dropped, which ends the task where it waits.
    pub(crate) async fn run(mut self) {
        let mut packet = [0; PACKET_BYTES_MAX + 1];
        loop {
            let wake = self.wake_at();
            tokio::select! {
                biased;
                Some(done) = self.orders.leaving.recv() => return self.leave(done).await,
                Ok(()) = self.orders.hints.changed() => self.hint_changed(),
                Some(seeds) = self.orders.seeds.recv() => self.call_seeds(seeds),
                received = self.socket.recv_from(&mut packet) => match received {
                    Ok((length, from)) => {
                        self.packet(&mut packet[..length], from);
                        self.more_packets(&mut packet);
                    }
                    Err(error) => self.receive_failed(&error).await,
                },
                () = tokio::time::sleep_until(wake) => {}
            }
            self.on_time(Instant::now());
            self.look_around();
        }
    }

    fn wake_at(&self) -> Instant {
        let others = [self.hint_at, self.return_at, self.outbox.next_due()];
        let idle = Instant::now() + Duration::from_secs(60);
        others.into_iter().flatten().min().unwrap_or(idle)
    }

    /// What is waiting already, up to a limit.
    fn more_packets(&mut self, packet: &mut [u8; PACKET_BYTES_MAX + 1]) {
        for _ in 1..PACKETS_PER_TURN {
            let Ok((length, from)) = self.socket.try_recv_from(packet) else { return };
            self.packet(&mut packet[..length], from);
        }
    }

    fn packet(&mut self, packet: &mut [u8], from: SocketAddr) {
        let Some(plain) = self.seal.open(packet) else {
            let rejected = self.orders.rejected.fetch_add(1, Ordering::Relaxed) + 1;
            if self.may_log() {
                tracing::warn!(%from, rejected, "gossip that does not open: another key, another cluster or noise");
            }
            return;
        };
        match self.foca.handle_data(plain, &mut self.outbox) {
            // The own address among the seeds, or an earlier run of this node: both end by themselves.
            Ok(()) | Err(foca::Error::DataFromOurselves) => {}
            Err(error) => {
                if self.may_log() {
                    tracing::warn!(%from, %error, "gossip that is not understood");
                }
            }
        }
    }

    async fn receive_failed(&mut self, error: &io::Error) {
        if self.may_log() {
            tracing::warn!(%error, "gossip socket");
        }
        // Whatever it is, it must not become a busy loop.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    fn may_log(&mut self) -> bool {
        let now = Instant::now();
        let free = self.logged.is_none_or(|logged| now - logged >= LOG_PAUSE);
        if free {
            self.logged = Some(now);
        }
        free
    }

    fn on_time(&mut self, now: Instant) {
        while let Some(timer) = self.outbox.pop_due(now) {
            if let Err(error) = self.foca.handle_timer(timer, &mut self.outbox) {
                tracing::debug!(%error, "gossip timer");
            }
        }
        if self.return_at.is_some_and(|at| at <= now) {
            self.come_back(now);
        }
        if self.hint_at.is_some_and(|at| at <= now) {
            self.say_hint(now);
        }
    }

    /// Acts on what foca noticed, and publishes who is alive.
    fn look_around(&mut self) {
        let noticed = std::mem::take(&mut self.outbox.noticed);
        if noticed.declared_down && self.return_at.is_none() {
            let now = Instant::now();
            if now - self.returned > RETURN_LAST * 2 {
                self.return_wait = RETURN_FIRST;
            }
            self.return_at = Some(now + self.return_wait);
            self.return_wait = (self.return_wait * 2).min(RETURN_LAST);
        }
        if noticed.newcomer && self.hint.is_some() {
            self.hint_soon(HINT_PAUSE);
        }
        if noticed.members {
            self.settle_addresses();
        }
        if noticed.members | self.book.take_changed() {
            self.publish();
        }
    }

    fn publish(&mut self) {
        let me = Alive { identity: self.me.identity.clone(), hint: self.hint.as_ref().map(|said| said.hint.clone()) };
        let others = self.foca.iter_members().filter_map(|member| member.id().taken());
        let others =
            others.map(|taken| Alive { identity: taken.identity.clone(), hint: self.book.of(taken.identity.run) });
        let roster = Roster::new(others.chain([me]).collect());
        let alive: Vec<NodeId> = roster.runs().map(|run| run.node).collect();
        self.book.prune(&alive);
        self.orders.roster.send_if_modified(|known| {
            let different = **known != roster;
            if different {
                *known = Arc::new(roster);
            }
            different
        });
    }

    /// Of nodes that claim one address only the latest can be there: it was started in place of the others.
    fn settle_addresses(&mut self) {
        let mut latest: BTreeMap<SocketAddr, u64> = BTreeMap::new();
        let alive: Vec<&Taken> = self.foca.iter_members().filter_map(|member| member.id().taken()).collect();
        for taken in alive.iter().copied().chain([&self.me]) {
            let started = latest.entry(taken.identity.gossip).or_default();
            *started = (*started).max(taken.started_ms);
        }
        let replaced = |taken: &&Taken| latest.get(&taken.identity.gossip).is_some_and(|at| *at > taken.started_ms);
        let gone: Vec<Taken> = alive.into_iter().filter(replaced).cloned().collect();
        for taken in gone {
            tracing::info!(run = %taken.identity.run, at = %taken.identity.gossip, "replaced by another node");
            let down = Member::down(Seat::Taken(taken));
            if let Err(error) = self.foca.apply_many([down].into_iter(), true, &mut self.outbox) {
                tracing::debug!(%error, "gossip update");
            }
        }
    }

    /// Calls a few seeds, those first that are not known to be alive.
    fn call_seeds(&mut self, seeds: BTreeSet<SocketAddr>) {
        // With DNS down the last known addresses are better than none.
        if !seeds.is_empty() {
            self.seeds = seeds;
        }
        let known: BTreeSet<SocketAddr> = self.foca.iter_members().map(|member| member.id().socket()).collect();
        let mine = self.me.identity.gossip;
        let strangers = self.seeds.iter().filter(|address| **address != mine && !known.contains(address));
        let mut called = strangers.copied().sample(&mut self.random, SEEDS_PER_CALL);
        called.extend(self.seeds.intersection(&known).choose(&mut self.random));
        for address in called {
            self.announce(Seat::Seed(address));
        }
    }

    fn announce(&mut self, to: Seat) {
        if let Err(error) = self.foca.announce(to, &mut self.outbox) {
            tracing::debug!(%error, "gossip announce");
        }
    }

    /// Takes a new claim after others had declared this node down.
    fn come_back(&mut self, now: Instant) {
        self.return_at = None;
        self.returned = now;
        self.me = self.me.renewed();
        tracing::info!(renewal = self.me.renewal, "others had declared this node down; it comes back");
        if let Err(error) = self.foca.change_identity(Seat::Taken(self.me.clone()), &mut self.outbox) {
            tracing::warn!(%error, "cannot come back");
        }
        let known: Vec<Seat> = self.foca.iter_members().map(|member| member.id().clone()).collect();
        for seat in known.into_iter().sample(&mut self.random, SEEDS_PER_CALL) {
            self.announce(seat);
        }
        self.call_seeds(BTreeSet::new());
    }

    fn hint_changed(&mut self) {
        let Some(mut hint) = self.orders.hints.borrow_and_update().clone() else { return };
        hint.sees.truncate(SEES_MAX);
        self.hint = Some(Said { run: self.me.identity.run, beat: 0, hint });
        self.publish();
        self.hint_soon(Duration::ZERO);
    }

    /// Says the hint after `wait`, or when the pause since the last time is over.
    fn hint_soon(&mut self, wait: Duration) {
        let at = (Instant::now() + wait).max(self.hint_said + HINT_PAUSE);
        self.hint_at = Some(self.hint_at.map_or(at, |planned| planned.min(at)));
    }

    fn say_hint(&mut self, now: Instant) {
        self.hint_said = now;
        self.hint_at = Some(now + self.timing.hint().mul_f64(self.random.random_range(0.8..1.2)));
        let Some(said) = &mut self.hint else { return };
        said.beat = said.beat.saturating_add(1);
        let added = match said.bytes() {
            Ok(bytes) => self.foca.add_broadcast(&bytes).and_then(|_| self.foca.broadcast(&mut self.outbox)),
            Err(error) => return tracing::error!(%error, "a hint cannot be written"),
        };
        if let Err(error) = added {
            tracing::debug!(%error, "gossip broadcast");
        }
    }

    /// Tells everybody, not only a few, and more than once.
    async fn leave(mut self, done: oneshot::Sender<()>) {
        let all = self.foca.num_members().clamp(1, usize::from(u8::MAX) / 4);
        let config = foca::Config {
            num_indirect_probes: NonZeroUsize::new(all).unwrap_or(NonZeroUsize::MIN),
            max_transmissions: NonZeroU8::MAX,
            ..self.timing.foca()
        };
        let mut told = self.foca.set_config(config).and_then(|()| self.foca.leave_cluster(&mut self.outbox));
        for _ in 0..2 {
            tokio::time::sleep(GOODBYE_PAUSE).await;
            told = told.and_then(|()| self.foca.gossip(&mut self.outbox));
        }
        if let Err(error) = told {
            tracing::debug!(%error, "goodbye");
        }
        // An error means that nobody waits for it any more.
        let _ = done.send(());
    }
}
