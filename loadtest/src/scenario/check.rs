//! What a scenario cannot be.

use std::time::Duration;

use thiserror::Error;

use super::{Clients, FaultKind, Scenario, TREND_MIN};

/// Shares are written by hand: they may miss 1 by this much.
const SHARES_OFF: f64 = 0.001;
const CONNECTIONS_MAX: u64 = 2_000_000;
const RATE_MAX: f64 = 1_000_000.0;
/// A slower ramp than one session in a hundred seconds is a mistake.
const OPENS_MIN: f64 = 0.01;
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Steps of a search that grow less than this never end.
const GROW_MIN: f64 = 1.05;
const MULTIPLES_MAX: usize = 8;
/// Less says nothing about a second-by-second rate.
const STEP_MIN: Duration = Duration::from_secs(2);
const CPU_MIN: f64 = 0.01;
const MEMORY_MIN: u64 = 16 << 20;

/// A value that cannot be.
#[derive(Debug, Error, PartialEq)]
pub(crate) enum Impossible {
    #[error("connections: {0} is not between 1 and {CONNECTIONS_MAX}")]
    Connections(u64),
    #[error("opens_per_second: {0} is not between {OPENS_MIN} and {RATE_MAX}")]
    Opens(f64),
    #[error("hold: it must be at least a second")]
    Hold,
    #[error("{0}: {1} is not a share between 0 and 1")]
    Share(&'static str, f64),
    #[error("clients: the shares add up to {0}, not to 1")]
    Shares(f64),
    #[error("{0}: {1} is not a rate between 0 and {RATE_MAX} per second")]
    Rate(&'static str, f64),
    #[error("calls.payload_bytes: {0} is more than {PAYLOAD_BYTES_MAX}")]
    Payload(usize),
    #[error("calls.in_flight_max: it must be at least 1")]
    InFlight,
    #[error("{0}: it is needed with {1}")]
    Needed(&'static str, &'static str),
    #[error("faults: `command` is for the kind `command`, which needs it")]
    Command,
    #[error("limits.{0}: {1} is not a positive number")]
    Limit(&'static str, f64),
    #[error(
        "hold: of {hold:?} less than {TREND_MIN:?} are left behind limits.warm_up ({warm_up:?}), but limits.memory_mib_per_minute \
         and limits.drift_max are about that rest: hold for longer, or shorten limits.warm_up"
    )]
    WarmUp { hold: Duration, warm_up: Duration },
    #[error("overload: {0}: it must be {1}")]
    Overload(&'static str, &'static str),
    #[error("local.{0}: it must be {1}")]
    Local(&'static str, &'static str),
}

impl Scenario {
    pub(super) fn check(&self) -> Result<(), Impossible> {
        if !(OPENS_MIN..=RATE_MAX).contains(&self.opens_per_second) {
            return Err(Impossible::Opens(self.opens_per_second));
        }
        if self.connections == 0 || self.connections > CONNECTIONS_MAX {
            return Err(Impossible::Connections(self.connections));
        }
        if self.hold < Duration::from_secs(1) {
            return Err(Impossible::Hold);
        }
        self.check_shares()?;
        self.check_rates()?;
        if self.calls.payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(Impossible::Payload(self.calls.payload_bytes));
        }
        if self.calls.in_flight_max == 0 {
            return Err(Impossible::InFlight);
        }
        self.check_overload()?;
        self.check_local()?;
        for fault in &self.faults {
            share("faults.at", fault.at)?;
            if (fault.kind == FaultKind::Command) == fault.command.is_empty() {
                return Err(Impossible::Command);
            }
        }
        self.check_limits()
    }

    fn check_shares(&self) -> Result<(), Impossible> {
        let Clients { legacy_sse, modern_listen, websocket } = self.clients;
        share("clients.legacy_sse", legacy_sse)?;
        share("clients.modern_listen", modern_listen)?;
        share("clients.websocket", websocket)?;
        share("subscribe.share", self.subscribe.share)?;
        let sum = legacy_sse + modern_listen + websocket;
        if (sum - 1.0).abs() > SHARES_OFF { Err(Impossible::Shares(sum)) } else { Ok(()) }
    }

    fn check_rates(&self) -> Result<(), Impossible> {
        rate("calls.per_second", self.calls.per_second)?;
        rate("lists.per_second", self.lists.per_second)?;
        rate("subscribe.per_second", self.subscribe.per_second)?;
        rate("notify.per_second", self.notify.per_second)?;
        rate("churn.per_second", self.churn.per_second)?;
        let needed = [
            (self.calls.per_second > 0.0 && self.calls.tool.is_empty(), "calls.tool", "calls.per_second"),
            (self.subscribe.share > 0.0 && self.subscribe.uri.is_empty(), "subscribe.uri", "subscribe.share"),
            (self.notify.per_second > 0.0 && self.subscribe.share == 0.0, "subscribe.share", "notify.per_second"),
            (
                self.subscribe.per_second > 0.0 && self.subscribe.other_uri.is_empty(),
                "subscribe.other_uri",
                "subscribe.per_second",
            ),
        ];
        match needed.into_iter().find(|(is_missing, ..)| *is_missing) {
            Some((_, what, with)) => Err(Impossible::Needed(what, with)),
            None => Ok(()),
        }
    }

    fn check_overload(&self) -> Result<(), Impossible> {
        let Some(overload) = &self.overload else { return Ok(()) };
        let is_one = |multiple: &f64| (1.0..=1_000.0).contains(multiple);
        let problem = if !(GROW_MIN..=10.0).contains(&overload.grow) {
            Some(("grow", "between 1.05 and 10"))
        } else if [overload.step, overload.each, overload.rest_for].iter().any(|time| *time < STEP_MIN) {
            Some(("step, each and rest_for", "at least 2s"))
        } else if overload.multiples.len() > MULTIPLES_MAX || !overload.multiples.iter().all(is_one) {
            Some(("multiples", "at most 8, each from 1 to 1000"))
        } else if !(overload.rest > 0.0 && overload.rest <= 1.0) {
            Some(("rest", "above 0, and 1 at most"))
        } else if self.calls.per_second <= 0.0 {
            Some(("calls.per_second", "the rate of the first step"))
        } else if !self.faults.is_empty() {
            Some(("faults", "for runs without overload"))
        } else {
            None
        };
        problem.map_or(Ok(()), |(key, wanted)| Err(Impossible::Overload(key, wanted)))
    }

    fn check_local(&self) -> Result<(), Impossible> {
        match (self.local.nodes, self.local.cpu_max, self.local.memory_max) {
            (Some(0), ..) => Err(Impossible::Local("nodes", "at least 1")),
            (_, Some(cores), _) if !(CPU_MIN..=1_024.0).contains(&cores) => {
                Err(Impossible::Local("cpu_max", "a number of cores, such as 0.25"))
            }
            (.., Some(bytes)) if bytes < MEMORY_MIN => Err(Impossible::Local("memory_max", "at least 16MiB")),
            _ => Ok(()),
        }
    }

    fn check_limits(&self) -> Result<(), Impossible> {
        let limits = &self.limits;
        let (hold, warm_up) = (self.hold, limits.warm_up);
        let has_trends = limits.memory_mib_per_minute.is_some() || limits.drift_max.is_some();
        if has_trends && hold < warm_up.saturating_add(TREND_MIN) {
            return Err(Impossible::WarmUp { hold, warm_up });
        }
        share("limits.errors_max", limits.errors_max)?;
        share("limits.achieved_min", limits.achieved_min)?;
        share("limits.goodput_min", limits.goodput_min)?;
        share("limits.silent_max", limits.silent_max)?;
        share("limits.drift_max", limits.drift_max.unwrap_or(0.0))?;
        for (name, value) in [
            ("p99_ms", limits.p99_ms),
            ("late_p99_ms", limits.late_p99_ms),
            ("admitted_p99_ms", limits.admitted_p99_ms),
            ("memory_mib_per_minute", limits.memory_mib_per_minute.unwrap_or(1.0)),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(Impossible::Limit(name, value));
            }
        }
        Ok(())
    }
}

fn share(name: &'static str, value: f64) -> Result<(), Impossible> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(Impossible::Share(name, value)) }
}

fn rate(name: &'static str, value: f64) -> Result<(), Impossible> {
    if (0.0..=RATE_MAX).contains(&value) { Ok(()) } else { Err(Impossible::Rate(name, value)) }
}
