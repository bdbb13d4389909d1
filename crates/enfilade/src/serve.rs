//! One node in this process, from its start to its end.

use crate::allocator;
use crate::compose::compose;
use crate::config::Config;
use crate::health::Health;
use crate::metrics::Sources;
use crate::{Failure, announce};
use anyhow::Context;
use enfilade_runtime::{Pressure, Signals, watch};
use nix::sys::signal::{Signal, raise};
use std::io::Read;

/// Serves until a signal.
pub(crate) async fn until_stopped(config: Config, signals: Signals, is_demo: bool) -> Result<(), Failure> {
    let mut stop = std::pin::pin!(signals.first());
    let pressure = Pressure::default();
    let watching = watch(config.memory_bytes_max, pressure.clone(), allocator::give_back);
    let _watching = watching.context("no thread that looks at the memory")?;
    let health = Health::start(config.health, pressure.clone()).await?;
    let mut gateway = tokio::select! {
        gateway = compose(config, pressure) => gateway?,
        // It serves nobody yet, so there is nothing to be stopped in order.
        () = &mut stop => return Ok(()),
    };
    health.serves(Sources::of(&gateway));
    announce::ready(&gateway.urls);
    if let (true, Some(url)) = (is_demo, gateway.urls.first()) {
        announce::try_it(url);
    }
    let failed = tokio::select! {
        () = &mut stop => None,
        error = gateway.failed() => Some(error),
    };
    health.stops();
    let shutdown = gateway.stop().await;
    match (failed, shutdown.late()) {
        (Some(error), _) => Err(error.into()),
        (None, []) => Ok(()),
        (None, late) => Err(anyhow::anyhow!("did not stop in time: {}", late.join(", ")).into()),
    }
}

/// Makes the end of standard input count as SIGTERM: whoever holds the other end has died, or wants this node to end.
/// If it is stopping already it ends at once, as with a second signal.
///
/// # Errors
/// There is no further thread.
pub(crate) fn end_with_parent() -> anyhow::Result<()> {
    let watch = || {
        let mut stdin = std::io::stdin().lock();
        let mut ignored = [0; 64];
        while stdin.read(&mut ignored).is_ok_and(|read| read > 0) {}
        // It cannot fail: the signal exists.
        let _ = raise(Signal::SIGTERM);
    };
    // A thread, because a read of standard input cannot be taken back. Ends with the process.
    std::thread::Builder::new().name("parent".to_owned()).spawn(watch).context("no thread")?;
    Ok(())
}
