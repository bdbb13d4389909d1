//! Prints how many sessions a second one node creates durably, with 64 callers.
//!
//! Usage: `cargo run -p enfilade-journal --example writes [DIR [SESSIONS]]`. The directory decides
//! which disk is measured; the default is below the present one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use enfilade_journal::{LocalConfig, LocalRegistry};
use enfilade_registry::{Command, Limits, NewSession, Reader as _, SessionKeys, Slot, Writer as _};

const CALLERS: u64 = 64;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let parent = PathBuf::from(args.next().unwrap_or_else(|| ".".to_owned()));
    let sessions: u64 = args.next().map_or(Ok(100_000), |count| count.parse())?;
    let dir = tempfile::tempdir_in(parent)?;
    let begun = Instant::now();
    let now_ms = Arc::new(move || begun.elapsed().as_millis() as u64);
    let registry = Arc::new(LocalRegistry::open(LocalConfig::new(dir.path(), now_ms.clone()))?);
    let limits = Limits { sessions_per_principal_max: sessions, ..Limits::default() };
    registry.submit(Command::Configure { limits }).await?;

    let keys = SessionKeys::new(1, &[7; 32])?;
    let begun = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let (registry, keys) = (registry.clone(), keys.clone());
        callers.spawn(async move {
            let mut slowest = std::time::Duration::ZERO;
            for n in (caller..sessions).step_by(CALLERS as usize) {
                let begun = Instant::now();
                registry.submit(Command::CreateSession(new_session(&keys, n))).await?;
                slowest = slowest.max(begun.elapsed());
            }
            Ok::<_, enfilade_registry::WriteError>(slowest)
        });
    }
    let mut slowest = std::time::Duration::ZERO;
    while let Some(done) = callers.join_next().await {
        slowest = slowest.max(done??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let per_second = sessions as f64 / seconds;
    println!("{sessions} durable creations, {CALLERS} callers: {per_second:.0}/s, slowest {slowest:?}");

    let digest = registry.digest();
    registry.close();
    let begun = Instant::now();
    let again = LocalRegistry::open(LocalConfig::new(dir.path(), now_ms))?;
    println!("reopened with {} sessions in {:?}", again.counts().sessions, begun.elapsed());
    assert_eq!(again.digest(), digest, "the reopened registry differs");
    Ok(())
}

fn new_session(keys: &SessionKeys, n: u64) -> NewSession {
    // Scatters the slots as random ids would.
    let scattered = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut random = [0; 16];
    random[..8].copy_from_slice(&scattered.to_be_bytes());
    let slot = Slot::new((scattered >> 52) as u16).unwrap_or(Slot::MIN);
    NewSession {
        id: keys.mint(slot, random),
        principal: format!("principal-{}", n % 1000).into(),
        server: "default".into(),
        version: "2025-11-25".into(),
        client_info: r#"{"name":"example-client","version":"1.0.0"}"#.into(),
        capabilities: r#"{"roots":{"listChanged":true},"sampling":{},"elicitation":{}}"#.into(),
        log_level: None,
    }
}
