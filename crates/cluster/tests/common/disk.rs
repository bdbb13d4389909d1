//! The disk of a node's registry, which can be made to stand still.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// Longer than any test: one that failed must end all the same.
const STILL_MAX: Duration = Duration::from_secs(30);

/// The disk of one node.
#[derive(Clone, Default)]
pub struct Disk(Arc<(Mutex<bool>, Condvar)>);

impl Disk {
    /// From now on writes wait, or none does any more.
    pub fn stand_still(&self, still: bool) {
        *self.0.0.lock() = still;
        self.0.1.notify_all();
    }

    /// Waits as long as it stands still.
    pub fn before_write(&self) {
        self.0.1.wait_while_for(&mut self.0.0.lock(), |still| *still, STILL_MAX);
    }
}
