//! What membership needs to know, and how fast it is.

use std::io;
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use foca::PeriodicParams;

use crate::seal::{PACKET_BYTES_MAX, SEAL_BYTES};
use crate::{GossipKeys, Resolve, SystemResolver};

/// What a node needs to find its cluster.
#[derive(Clone)]
pub struct Config {
    /// The cluster's configured name: packets of others do not open.
    pub cluster: String,
    /// The keys that packets are sealed with.
    pub keys: GossipKeys,
    /// `host:port` of nodes to begin with and to come back to. Names are resolved each time; all addresses count.
    pub seeds: Vec<String>,
    /// Who resolves them.
    pub resolver: Arc<dyn Resolve>,
    /// How fast.
    pub timing: Timing,
    /// When this run began, ms since 1970. Of two nodes that claim one gossip address the later one has it.
    pub started_ms: u64,
    /// Where foca's choices begin; the system's randomness if none is given.
    pub random_seed: Option<u64>,
}

impl Config {
    /// A cluster with the system's resolver and the default timing.
    pub fn new(cluster: &str, keys: GossipKeys, seeds: Vec<String>) -> Config {
        Config {
            cluster: cluster.to_owned(),
            keys,
            seeds,
            resolver: Arc::new(SystemResolver),
            timing: Timing::default(),
            started_ms: 0,
            random_seed: None,
        }
    }
}

/// Why membership did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket does not say where it is bound.
    #[error("the gossip socket: {0}")]
    Socket(#[from] io::Error),
    /// A name or link address that would not fit into packets.
    #[error("{what} is longer than {bytes_max} bytes")]
    TooLong {
        /// Which one.
        what: &'static str,
        /// How long it may be.
        bytes_max: usize,
    },
    /// An address that nobody can send to.
    #[error("others cannot reach the gossip address {0}")]
    NoAddress(std::net::SocketAddr),
    /// The system gives no randomness.
    #[error("no randomness: {0}")]
    Randomness(getrandom::Error),
    /// A duration that must not be zero, or a probe that waits longer than its turn lasts.
    #[error("timing: {0}")]
    Timing(&'static str),
}

/// How fast. A dead node is found within about two probe turns, one probe and the suspicion; the defaults are for
/// a node that is seen to be gone within 4 s, and that may be held up for 2.5 s without being called dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// One probe of one other member, ms.
    pub probe_ms: u64,
    /// After this it is asked through others, ms; less than half a probe.
    pub probe_direct_ms: u64,
    /// How long a suspect may take to contradict, ms.
    pub suspect_ms: u64,
    /// Between two rounds of news, ms.
    pub gossip_ms: u64,
    /// Between two calls to those that are down or to the seeds while others are there, ms.
    pub again_ms: u64,
    /// Between two calls to the seeds while nobody is there, ms.
    pub alone_ms: u64,
    /// Between two times that the own hint is said, ms.
    pub hint_ms: u64,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            probe_ms: 400,
            probe_direct_ms: 150,
            suspect_ms: 2500,
            gossip_ms: 200,
            again_ms: 2000,
            alone_ms: 400,
            hint_ms: 3000,
        }
    }
}

impl Timing {
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let all = [self.probe_direct_ms, self.suspect_ms, self.gossip_ms, self.again_ms, self.alone_ms, self.hint_ms];
        if all.contains(&0) {
            return Err(StartError::Timing("nothing may take no time"));
        }
        if self.probe_direct_ms * 2 > self.probe_ms {
            return Err(StartError::Timing("the direct part of a probe must not take more than half of it"));
        }
        Ok(())
    }

    pub(crate) fn again(&self) -> Duration {
        Duration::from_millis(self.again_ms)
    }

    pub(crate) fn alone(&self) -> Duration {
        Duration::from_millis(self.alone_ms)
    }

    pub(crate) fn hint(&self) -> Duration {
        Duration::from_millis(self.hint_ms)
    }

    /// The same for foca.
    pub(crate) fn foca(&self) -> foca::Config {
        let every = |ms, members| PeriodicParams { frequency: Duration::from_millis(ms), num_members: members };
        foca::Config {
            probe_period: Duration::from_millis(self.probe_ms),
            probe_rtt: Duration::from_millis(self.probe_direct_ms),
            num_indirect_probes: THREE,
            // With fewer some news never reach some members.
            max_transmissions: const { NonZeroU8::new(12).unwrap() },
            suspect_to_down_after: Duration::from_millis(self.suspect_ms),
            // Bounds what is remembered of members that never come back.
            remove_down_after: Some(Duration::from_secs(3600)),
            max_packet_size: const { NonZeroUsize::new(PACKET_BYTES_MAX - SEAL_BYTES).unwrap() },
            notify_down_members: true,
            periodic_announce: Some(every(self.again_ms, const { NonZeroUsize::new(2).unwrap() })),
            periodic_announce_to_down_members: Some(every(self.again_ms, THREE)),
            periodic_gossip: Some(every(self.gossip_ms, THREE)),
        }
    }
}

const THREE: NonZeroUsize = NonZeroUsize::new(3).unwrap();
