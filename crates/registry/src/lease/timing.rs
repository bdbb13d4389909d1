//! The times on which safety rests, and the check without which no node starts.

/// All times of the protocol, in ms of a clock that counts while the machine sleeps (`CLOCK_BOOTTIME`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats of a node to the leader.
    pub heartbeat_ms: u64,
    /// An owner acts until this long after it sent the heartbeat that was acknowledged.
    pub act_ms: u64,
    /// The leader gives slots away this long after it received the last heartbeat that it acknowledged.
    pub give_away_ms: u64,
    /// Shortest time without a leader before a voter stands for election.
    pub election_min_ms: u64,
    /// Longest such time.
    pub election_max_ms: u64,
    /// Between two heartbeats of Raft.
    pub raft_heartbeat_ms: u64,
    /// An owner that says for this long that it is fenced, while it is acknowledged, does not hear us.
    pub fenced_ms: u64,
    /// An owner that a majority cannot reach for this long gets no more acknowledgements.
    pub unreachable_ms: u64,
    /// How long an owner waits for its second before it goes on alone.
    pub copy_ms: u64,
    /// How long a planned move may take.
    pub move_ms: u64,
    /// How long an edge holds a request whose slot nobody serves.
    pub hold_ms: u64,
    /// How long the former owner finishes calls in flight after a move.
    pub drain_ms: u64,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            heartbeat_ms: 250,
            act_ms: 2000,
            give_away_ms: 2500,
            election_min_ms: 300,
            election_max_ms: 500,
            raft_heartbeat_ms: 100,
            fenced_ms: 1000,
            unreachable_ms: 5000,
            copy_ms: 300,
            move_ms: 5000,
            hold_ms: 10_000,
            drain_ms: 60_000,
        }
    }
}

/// Why a combination of times is refused. Each text says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// A time of zero.
    #[error("{name} is 0: give it a time above zero")]
    Zero {
        /// Which.
        name: &'static str,
    },
    /// Two owners could act at once.
    #[error(
        "an owner acts for {act_ms} ms of its own clock, which may run 10 % slow, yet its slots are given away after \
         {give_away_ms} ms: raise give_away_ms above {needed_ms} or lower act_ms"
    )]
    GivenAwayTooSoon {
        /// As configured.
        act_ms: u64,
        /// As configured.
        give_away_ms: u64,
        /// What would do.
        needed_ms: u64,
    },
    /// Owners would pause at every change of leader.
    #[error(
        "an owner stops {act_ms} ms after its last acknowledged heartbeat, yet a change of leader can take \
         {needed_ms} ms (2 × election_max_ms + 2 × heartbeat_ms + 200): raise act_ms, or lower the others"
    )]
    StopsTooSoon {
        /// As configured.
        act_ms: u64,
        /// What would do.
        needed_ms: u64,
    },
    /// Elections without need.
    #[error(
        "a voter stands for election after {election_min_ms} to {election_max_ms} ms with Raft heartbeats every \
         {raft_heartbeat_ms} ms: election_min_ms must be at least twice raft_heartbeat_ms and below election_max_ms"
    )]
    Elections {
        /// As configured.
        election_min_ms: u64,
        /// As configured.
        election_max_ms: u64,
        /// As configured.
        raft_heartbeat_ms: u64,
    },
    /// A healthy owner would be given up.
    #[error(
        "an owner shows that it is not fenced only with its next heartbeat: fenced_ms ({fenced_ms}) must be at least \
         twice heartbeat_ms ({heartbeat_ms})"
    )]
    FencedTooSoon {
        /// As configured.
        fenced_ms: u64,
        /// As configured.
        heartbeat_ms: u64,
    },
    /// Requests would be refused although the move or the take goes well.
    #[error(
        "an edge holds requests for {hold_ms} ms: raise hold_ms above move_ms ({move_ms}) and give_away_ms ({give_away_ms})"
    )]
    HeldTooShort {
        /// As configured.
        hold_ms: u64,
        /// As configured.
        move_ms: u64,
        /// As configured.
        give_away_ms: u64,
    },
}

impl Timing {
    /// Refuses times with which two owners could act at once, or owners would pause without need.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), TimingError> {
        self.check_zero()?;
        // What a clock that runs 10 % slow shows as `act_ms` takes 10/9 of it.
        let needed_ms = self.act_ms.saturating_mul(10).div_ceil(9);
        if self.give_away_ms <= needed_ms {
            let (act_ms, give_away_ms) = (self.act_ms, self.give_away_ms);
            return Err(TimingError::GivenAwayTooSoon { act_ms, give_away_ms, needed_ms });
        }
        let needed_ms = self.election_max_ms.saturating_add(self.heartbeat_ms).saturating_mul(2).saturating_add(200);
        if self.act_ms < needed_ms {
            return Err(TimingError::StopsTooSoon { act_ms: self.act_ms, needed_ms });
        }
        if self.election_min_ms < self.raft_heartbeat_ms.saturating_mul(2)
            || self.election_min_ms >= self.election_max_ms
        {
            return Err(TimingError::Elections {
                election_min_ms: self.election_min_ms,
                election_max_ms: self.election_max_ms,
                raft_heartbeat_ms: self.raft_heartbeat_ms,
            });
        }
        if self.fenced_ms < self.heartbeat_ms.saturating_mul(2) {
            return Err(TimingError::FencedTooSoon { fenced_ms: self.fenced_ms, heartbeat_ms: self.heartbeat_ms });
        }
        if self.hold_ms <= self.move_ms.max(self.give_away_ms) {
            return Err(TimingError::HeldTooShort {
                hold_ms: self.hold_ms,
                move_ms: self.move_ms,
                give_away_ms: self.give_away_ms,
            });
        }
        Ok(())
    }

    fn check_zero(&self) -> Result<(), TimingError> {
        let all = [
            ("heartbeat_ms", self.heartbeat_ms),
            ("act_ms", self.act_ms),
            ("raft_heartbeat_ms", self.raft_heartbeat_ms),
            ("unreachable_ms", self.unreachable_ms),
            ("copy_ms", self.copy_ms),
            ("move_ms", self.move_ms),
            ("drain_ms", self.drain_ms),
        ];
        match all.iter().find(|(_, time_ms)| *time_ms == 0) {
            Some((name, _)) => Err(TimingError::Zero { name }),
            None => Ok(()),
        }
    }
}
