//! SIGTERM and SIGINT: the first asks for an orderly stop, the second ends the process at once.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code after a second signal: the stop was not orderly.
const IMPATIENT: i32 = 130;

/// The signals that end this process. From its creation on they are caught.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches the signals; call it within the runtime, before anything is announced.
    ///
    /// # Errors
    /// The system does not let them be caught.
    pub fn catch() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the first signal. The next one ends the process, whatever it is doing.
    pub async fn first(mut self) {
        let name = self.next().await;
        tracing::info!(signal = name, "stopping; a second signal ends at once");
        // Owned by the process: it ends with it.
        tokio::spawn(async move {
            let name = self.next().await;
            tracing::warn!(signal = name, "second signal: ended without waiting");
            std::process::exit(IMPATIENT);
        });
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
