//! Connections for requests with a whole answer. They are few: each is used again, and a request that finds none opens one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;

use crate::http::Connection;

#[derive(Default)]
pub(super) struct Pool(RefCell<HashMap<SocketAddr, Vec<Connection>>>);

impl Pool {
    /// An idle connection that is still open.
    pub(super) fn take(&self, address: SocketAddr) -> Option<Connection> {
        let mut all = self.0.borrow_mut();
        let idle = all.get_mut(&address)?;
        while let Some(connection) = idle.pop() {
            if connection.is_open() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps it, unless `idle_max` are kept to its address.
    pub(super) fn put(&self, address: SocketAddr, connection: Connection, idle_max: usize) {
        let mut all = self.0.borrow_mut();
        let idle = all.entry(address).or_default();
        if idle.len() < idle_max {
            idle.push(connection);
        }
    }
}
