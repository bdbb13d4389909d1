//! How a replica runs. Plain data with defaults.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use enfilade_registry::{Run, Timing};

use crate::Transport;

/// Holds up the log's thread for as long as it takes.
pub type BeforeWrite = Arc<dyn Fn() + Send + Sync>;

/// How a node submits commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitting {
    /// How long a command may take to be applied here before its caller hears `Unavailable`.
    pub within: Duration,
    /// Most commands that wait to be sent; more callers wait before they enter.
    pub queue_max: usize,
    /// Most commands in one entry of the log.
    pub batch_commands_max: usize,
    /// Most bytes of commands in one entry; a larger command has an entry of its own.
    pub batch_bytes_max: usize,
    /// Most batches of this node under way at once; what comes meanwhile waits, and so fills the next batch.
    pub batches_in_flight_max: usize,
}

impl Default for Submitting {
    fn default() -> Submitting {
        Submitting {
            within: Duration::from_secs(5),
            queue_max: 4096,
            batch_commands_max: 512,
            batch_bytes_max: 1 << 20,
            batches_in_flight_max: 4,
        }
    }
}

/// How a replica runs.
#[derive(Clone)]
pub struct Config {
    /// Where the log and the snapshots live. One process has it at a time.
    pub dir: PathBuf,
    /// This node, and its run: the generation must be higher at each start.
    pub run: Run,
    /// How to call the other nodes.
    pub transport: Arc<dyn Transport>,
    /// The protocol's times, of which those of elections and of Raft's heartbeat are used.
    pub timing: Timing,
    /// How this node submits commands.
    pub submitting: Submitting,
    /// No snapshot is taken below this many bytes of log.
    pub snapshot_log_bytes_min: u64,
    /// Entries that a snapshot covers and that are kept all the same, for followers that lag a little.
    pub kept_entries: u64,
    /// Most bytes of log kept in memory; older entries are read from the disk.
    pub log_cache_bytes_max: u64,
    /// Bytes of a snapshot in one call.
    pub snapshot_chunk_bytes: usize,
    /// Called on the log's thread before each write: how tests make a disk slow.
    pub before_write: Option<BeforeWrite>,
}

impl Config {
    /// The defaults, in `dir`, for this run, over this transport.
    pub fn new(dir: impl Into<PathBuf>, run: Run, transport: Arc<dyn Transport>) -> Config {
        Config {
            dir: dir.into(),
            run,
            transport,
            timing: Timing::default(),
            submitting: Submitting::default(),
            snapshot_log_bytes_min: 4 << 20,
            kept_entries: 256,
            log_cache_bytes_max: 4 << 20,
            snapshot_chunk_bytes: 1 << 20,
            before_write: None,
        }
    }

    pub(crate) fn for_openraft(&self) -> Result<openraft::Config, openraft::ConfigError> {
        let election_max_ms = self.timing.election_max_ms;
        openraft::Config {
            cluster_name: "enfilade".to_owned(),
            heartbeat_interval: self.timing.raft_heartbeat_ms,
            election_timeout_min: self.timing.election_min_ms,
            election_timeout_max: election_max_ms,
            // A node that comes back from a partition must not depose a leader that is well.
            enable_pre_vote: Some(true),
            // A leader that is heard but hears nothing falls silent at times, so that others can elect one.
            quorum_loss_probe_interval: Some(3 * election_max_ms),
            // Leadership after a restart is won, not remembered.
            enable_leader_restore: Some(false),
            // Snapshots are taken at cuts.
            snapshot_policy: openraft::SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: self.kept_entries,
            purge_batch_size: 1,
            // Read at a time; what one message takes is bounded by bytes.
            max_payload_entries: 64,
            ..openraft::Config::default()
        }
        .validate()
    }
}
