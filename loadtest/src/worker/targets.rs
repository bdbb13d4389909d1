//! Where to connect: any node, but for a moment none that did not take a connection.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rand::Rng;

use crate::address::Target;

/// A node that took no connection is left alone for this long, while there are others.
const LEFT_ALONE: Duration = Duration::from_millis(500);

#[derive(Default)]
pub(super) struct Targets(RefCell<Vec<Known>>);

struct Known {
    target: Rc<Target>,
    not_before: Option<Instant>,
}

impl Targets {
    /// These and no others from now on.
    pub(super) async fn replace(&self, urls: &[String]) -> Result<()> {
        let mut all = Vec::new();
        for url in urls {
            let found = Target::all(url).await?;
            all.extend(found.into_iter().map(|target| Known { target: Rc::new(target), not_before: None }));
        }
        ensure!(!all.is_empty(), "there is nothing to connect to");
        *self.0.borrow_mut() = all;
        Ok(())
    }

    /// Any that is not left alone, else any.
    pub(super) fn any(&self) -> Rc<Target> {
        let (all, now) = (self.0.borrow(), Instant::now());
        let is_well = |known: &&Known| known.not_before.is_none_or(|then| then <= now);
        let count = all.iter().filter(is_well).count();
        let mut random = rand::rng();
        let chosen = match count {
            0 => all.get(random.random_range(0..all.len())),
            _ => all.iter().filter(is_well).nth(random.random_range(0..count)),
        };
        let first = chosen.or(all.first()).unwrap_or_else(|| unreachable!("it never becomes empty"));
        Rc::clone(&first.target)
    }

    pub(super) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    /// It took no connection.
    pub(super) fn refused(&self, address: SocketAddr) {
        let until = Some(Instant::now() + LEFT_ALONE);
        let mut all = self.0.borrow_mut();
        all.iter_mut().filter(|known| known.target.address == address).for_each(|known| known.not_before = until);
    }
}
