//! Waiting with a bound.

use std::future::Future;
use std::time::{Duration, Instant};

/// Bounds a wait, so that a defect fails a test instead of hanging it.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it takes too long")
}

/// Asks until an answer satisfies the condition.
pub async fn until<T, F: Future<Output = T>>(mut ask: impl FnMut() -> F, mut good: impl FnMut(&T) -> bool) -> T {
    let started = Instant::now();
    loop {
        let answer = ask().await;
        if good(&answer) {
            return answer;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "it takes too long");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
