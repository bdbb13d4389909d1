//! Which connections of clients come in: so many, so many of one address, as long as descriptors and memory last.
//!
//! A reserve of descriptors is kept for links, upstreams, the journal and health. The system gives the lowest number that is
//! free, so a connection whose number lies in the reserve says that all below are taken: nothing has to be counted.
//!
//! Once memory is nearly used up few connections come in at a time, each for one request: what gives memory back must not
//! need one that is open. Which requests are taken is told by [`crate::ladder`], as for all others.

use crate::config::Config;
use enfilade_mcp::RpcError;
use enfilade_runtime::{Limit, Permit};
use enfilade_runtime::{Pressure, Step, usage};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// An operator is told of the same reason again after this time.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// A part of the descriptors is the reserve, within these bounds.
const RESERVE_PART: u64 = 16;
const RESERVE: (u64, u64) = (64, 1024);

/// Connections that are in at a time of those which came while memory was nearly used up. They take some 12 KiB each.
const SPARE_MAX: usize = 256;
/// How long such a connection may be silent.
pub(crate) const SPARE_SILENCE: Duration = Duration::from_secs(5);

/// Why a connection does not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// `connections_max` is reached.
    Node,
    /// `connections_per_address_max` is.
    Address,
    /// Descriptors are short.
    Descriptors,
    /// Memory is.
    Memory,
}

impl Full {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 4] = [Self::Node, Self::Address, Self::Descriptors, Self::Memory];

    /// The value of the label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Address => "address",
            Self::Descriptors => "descriptors",
            Self::Memory => "memory",
        }
    }

    /// What its client is told over HTTP/1.1.
    pub(crate) fn http1(self) -> String {
        let (status, why) = match self {
            Self::Node | Self::Descriptors => ("503 Service Unavailable", "Too many connections; try again"),
            Self::Address => {
                ("429 Too Many Requests", "Too many connections from this address; close some, or try again")
            }
            Self::Memory => ("503 Service Unavailable", "This node has no memory left; try again, or at another node"),
        };
        let body = RpcError::gateway(true, why).message(None);
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// Once a minute at most.
    fn tell(self, refused: u64, config: &Config) {
        let max = config.connections_max;
        match self {
            Self::Node => tracing::warn!(refused, max, "connections are refused: raise connections_max, or add a node"),
            Self::Address => tracing::warn!(
                refused,
                max = config.connections_per_address_max,
                "connections of one address are refused: connections_per_address_max is reached"
            ),
            Self::Descriptors => tracing::warn!(
                refused,
                max = usage::descriptors_max(),
                "connections are refused: file descriptors are short. Raise the limit of the process (ulimit -n), or lower \
                 connections_max, or add a node"
            ),
            Self::Memory => tracing::warn!(refused, "connections are refused: memory is nearly used up"),
        }
    }
}

/// The place of a connection among all of them, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    _permit: Permit,
    _seat: Option<Box<Seat>>,
    /// Its place among those that came while memory was nearly used up, until it is not any more.
    spare: Option<Box<Mutex<Option<Permit>>>>,
}

impl From<Permit> for Pass {
    fn from(permit: Permit) -> Self {
        Self { _permit: permit, _seat: None, spare: None }
    }
}

impl Pass {
    /// It came while memory was nearly used up.
    pub(crate) fn is_spare(&self) -> bool {
        self.spare.is_some()
    }

    /// Whether the connection ends with this answer, so that another one has its place. Once memory suffices again it is
    /// one like all others.
    pub(crate) fn ends(&self, step: Step) -> bool {
        let Some(spare) = &self.spare else { return false };
        let mut permit = spare.lock();
        if step < Step::TheLeast {
            *permit = None;
        }
        permit.is_some()
    }
}

/// Counts who is in.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub(crate) connections: Limit,
    spare: Limit,
    /// None where addresses have no bound of their own.
    addresses: Option<Arc<Addresses>>,
    /// The first descriptor of the reserve.
    reserve_begin: u64,
    /// The first that is not even taken to say why a connection is refused.
    last_begin: u64,
    pressure: Pressure,
    refused: [AtomicU64; Full::ALL.len()],
    /// When it was said last, and how many had been refused.
    told: Mutex<[Option<(Instant, u64)>; Full::ALL.len()]>,
}

impl Entrance {
    pub(crate) fn new(config: &Config, pressure: Pressure) -> Self {
        let addresses = config.connections_per_address_max;
        let (reserve_begin, last_begin) = reserve_of(usage::descriptors_max());
        Self {
            connections: Limit::new(config.connections_max),
            spare: Limit::new(SPARE_MAX),
            addresses: addresses.map(|max| Arc::new(Addresses { max, counts: Mutex::default() })),
            reserve_begin,
            last_begin,
            pressure,
            refused: Default::default(),
            told: Mutex::default(),
        }
    }

    /// The most connections for which there are descriptors, if that is fewer than may come in.
    pub(crate) fn descriptors_for(&self) -> Option<u64> {
        Some(self.reserve_begin).filter(|most| *most < self.connections.max() as u64)
    }

    /// Lets a connection in, which has this descriptor and comes from this address.
    pub(crate) fn enter(&self, descriptor: u64, from: IpAddr) -> Result<Pass, Full> {
        if descriptor >= self.reserve_begin {
            return Err(Full::Descriptors);
        }
        let spare = match self.pressure.step() {
            Step::Serve | Step::NothingNew => None,
            Step::TheLeast => Some(Box::new(Mutex::new(Some(self.spare.enter().ok_or(Full::Memory)?)))),
        };
        let permit = self.connections.enter().ok_or(Full::Node)?;
        let seat = match &self.addresses {
            Some(addresses) => Some(Box::new(addresses.enter(from).ok_or(Full::Address)?)),
            None => None,
        };
        Ok(Pass { _permit: permit, _seat: seat, spare })
    }

    /// Whether a connection with this descriptor, which does not come in, may stay until it was told so.
    pub(crate) fn may_hear(&self, descriptor: u64) -> bool {
        descriptor < self.last_begin
    }

    /// One was refused.
    pub(crate) fn refused(&self, why: Full, config: &Config) {
        let refused = self.refused[why as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let now = Instant::now();
        let mut told = self.told.lock();
        let last = &mut told[why as usize];
        let since = match *last {
            Some((at, _)) if now.duration_since(at) < TELL_EVERY => return,
            Some((_, before)) => refused - before,
            None => refused,
        };
        *last = Some((now, refused));
        drop(told);
        why.tell(since, config);
    }

    /// How many were refused why, in the order of [`Full::ALL`].
    pub(crate) fn refusals(&self) -> [u64; Full::ALL.len()] {
        self.refused.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

/// Where descriptors begin that are not for connections of clients, of so many; and those that are not for refusals either,
/// three quarters of them.
fn reserve_of(max: Option<u64>) -> (u64, u64) {
    let Some(max) = max else { return (u64::MAX, u64::MAX) };
    let reserve = (max / RESERVE_PART).clamp(RESERVE.0, RESERVE.1).min(max / 2);
    (max - reserve, max - reserve * 3 / 4)
}

/// How many connections each address has.
#[derive(Debug)]
struct Addresses {
    max: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

impl Addresses {
    fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Seat> {
        let address = one_client(from);
        let mut counts = self.counts.lock();
        let count = counts.entry(address).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Seat { addresses: self.clone(), address })
    }
}

/// Whoever has an IPv6 address commonly has the 64 bits behind its network, too (RFC 4291, section 2.5.4).
fn one_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

/// One connection of an address.
#[derive(Debug)]
struct Seat {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.addresses.counts.lock().entry(self.address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_runtime::Memory;

    fn entrance(change: impl FnOnce(&mut Config)) -> (Entrance, Pressure) {
        let (mut config, pressure) = (Config::default(), Pressure::default());
        change(&mut config);
        (Entrance::new(&config, pressure.clone()), pressure)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_address_has_its_own_places_and_gives_them_back() {
        let (entrance, _) = entrance(|config| config.connections_per_address_max = Some(2));
        let enter = |address| entrance.enter(9, ip(address)).map_err(|why| why.as_str());
        let first = enter("10.0.0.1");
        let second = enter("::ffff:10.0.0.1");
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(enter("10.0.0.1").err(), Some("address"));
        assert!(enter("10.0.0.2").is_ok());
        let same = (enter("2001:db8::1"), enter("2001:db8::2"), enter("2001:db8::3").err());
        assert!(same.0.is_ok() && same.1.is_ok() && same.2 == Some("address"), "one network is one client");
        assert!(enter("2001:db8:0:1::1").is_ok());
        drop(first);
        assert!(enter("10.0.0.1").is_ok());
        drop((second, same));
        assert_eq!(entrance.connections.now(), 0, "a refused one takes no place");
        let addresses = entrance.addresses.expect("bounded");
        assert!(addresses.counts.lock().is_empty(), "who is gone is forgotten");
    }

    #[test]
    fn descriptors_and_memory_come_before_places() {
        let (mut entrance, pressure) = entrance(|config| config.connections_max = 1);
        (entrance.reserve_begin, entrance.last_begin) = (100, 110);
        let why = |entrance: &Entrance, descriptor| entrance.enter(descriptor, ip("10.0.0.1")).err();
        assert_eq!((why(&entrance, 99), why(&entrance, 100)), (None, Some(Full::Descriptors)));
        assert!(entrance.may_hear(109) && !entrance.may_hear(110), "refusals do not use it up");
        let _one = entrance.enter(5, ip("10.0.0.1")).expect("a place");
        assert_eq!(why(&entrance, 5), Some(Full::Node));
        entrance.spare = Limit::new(0);
        for (used_bytes, expected) in [(85, Full::Node), (95, Full::Memory), (70, Full::Node)] {
            pressure.measured(Memory { used_bytes, max_bytes: 100 });
            assert_eq!(why(&entrance, 5), Some(expected), "{used_bytes}");
        }
        assert_eq!(entrance.descriptors_for(), None, "there is one place only");
    }

    #[test]
    fn few_come_in_at_a_time_once_memory_is_nearly_used_up() {
        let (entrance, pressure) = entrance(|_| ());
        let enter = || entrance.enter(5, ip("10.0.0.1"));
        let uses = |percent| pressure.measured(Memory { used_bytes: percent, max_bytes: 100 });
        let before = enter().expect("a place");
        uses(95);
        let mut spare: Vec<Pass> = (0..SPARE_MAX).map(|_| enter().expect("a place of those")).collect();
        assert_eq!(enter().err(), Some(Full::Memory));
        assert!(spare.iter().all(|pass| pass.is_spare() && pass.ends(Step::TheLeast)));
        assert!(!before.is_spare() && !before.ends(Step::TheLeast), "who was in before stays");
        drop(spare.pop());
        let last = enter().expect("the place that was given back");
        assert!(!last.ends(Step::NothingNew) && !last.ends(Step::TheLeast), "it has become one like all others");
        assert!(enter().is_ok(), "and left its place");
    }

    #[test]
    fn the_reserve_leaves_most_to_clients() {
        for (max, reserve, last) in [(0, 0, 0), (10, 5, 3), (256, 64, 48), (1024, 64, 48), (16_384, 1024, 768)] {
            assert_eq!(reserve_of(Some(max)), (max - reserve, max - last), "{max}");
        }
        assert_eq!(reserve_of(None), (u64::MAX, u64::MAX));
    }

    #[test]
    fn the_refusal_declares_its_length_and_is_json() {
        for why in Full::ALL {
            let text = why.http1();
            let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
            assert!(head.ends_with(&format!("content-length: {}", body.len())), "{text}");
            assert!(enfilade_mcp::json::check(body.as_bytes()).is_ok());
        }
    }
}
