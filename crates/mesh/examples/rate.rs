//! How much one link carries: two meshes in one process, small questions and answers over a loopback socket.
//!
//! `rate [seconds] [callers] [bytes] [--tls]`, for example `cargo run --release -p enfilade-mesh --example rate -- 5 64 200`.
//! Prints exchanges per second, CPU time per exchange of both nodes together, and what an idle exchange weighs.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use enfilade_mesh::{CallError, CallKind, Config, Exchange, Mesh, Open, Peer, Serve, Tls, keys};
use enfilade_registry::{BoxFuture, Generation, NodeId, Run};

/// Exchanges that lie idle while memory is read.
const IDLE: usize = 20_000;

/// Answers each exchange with its first message; keeps those that go on.
struct Echo {
    idle: tokio::sync::mpsc::Sender<Exchange>,
}

impl Serve for Echo {
    fn exchange(&self, _from: Run, open: Open, mut exchange: Exchange) {
        if open.last {
            tokio::spawn(async move {
                // The asker sees what went wrong.
                let _ = exchange.send(open.payload, true).await;
            });
        } else {
            let _ = self.idle.try_send(exchange);
        }
    }

    fn call(&self, _from: Run, _kind: CallKind, body: Bytes) -> BoxFuture<'static, Result<Bytes, CallError>> {
        Box::pin(async move { Ok(body) })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (flags, numbers): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|arg| arg.starts_with("--"));
    let number = |at: usize, default: usize| numbers.get(at).map_or(Ok(default), |text| text.parse());
    let (seconds, callers, bytes) = (number(0, 3)?, number(1, 64)?, number(2, 200)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(seconds as u64, callers, bytes, flags.iter().any(|flag| flag == "--tls")))
}

async fn run(seconds: u64, callers: usize, bytes: usize, tls: bool) -> Result<(), Box<dyn std::error::Error>> {
    let (mesh, _served, mut kept) = pair(tls).await?;
    let payload = Bytes::from(vec![b'x'; bytes]);
    measure(&mesh, &payload, Duration::from_millis(500), callers).await;
    let cpu = cpu_us()?;
    let begun = Instant::now();
    let done = measure(&mesh, &payload, Duration::from_secs(seconds), callers).await;
    let (took, cpu) = (begun.elapsed(), cpu_us()? - cpu);
    println!(
        "callers {callers}, payload {bytes} B, tls {tls}: {:.0} exchanges/s, {:.1} us of CPU per exchange, {:.0} us each",
        done as f64 / took.as_secs_f64(),
        cpu as f64 / done as f64,
        took.as_secs_f64() * 1e6 * callers as f64 / done as f64,
    );

    let before = resident_bytes()?;
    let mut idle = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        idle.push((mesh.open(NodeId(2), Open::default()).await?, kept.recv().await));
    }
    println!("idle exchange: {} B of memory, both ends together", (resident_bytes()? - before) / IDLE as u64);
    Ok(())
}

type Kept = tokio::sync::mpsc::Receiver<Exchange>;

async fn pair(tls: bool) -> Result<(Mesh, Mesh, Kept), Box<dyn std::error::Error>> {
    let keys = keys::generate()?;
    let tls = tls.then_some(Tls { ca: keys.ca_cert, cert: keys.node_cert, key: keys.node_key });
    let (idle, kept) = tokio::sync::mpsc::channel(1024);
    let echo = Arc::new(Echo { idle });
    let start = |node: u64| -> Result<(Mesh, Peer), Box<dyn std::error::Error>> {
        let run = Run { node: NodeId(node), generation: Generation(1) };
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let mesh = Mesh::start(Config { tls: tls.clone(), ..Config::new(run) }, listener, echo.clone())?;
        Ok((mesh, Peer { run, address }))
    };
    let ((mesh, _), (served, peer)) = (start(1)?, start(2)?);
    mesh.set_peers(vec![peer]);
    mesh.watch().wait_for(|nodes| !nodes.is_empty()).await?;
    Ok((mesh, served, kept))
}

async fn measure(mesh: &Mesh, payload: &Bytes, time: Duration, callers: usize) -> u64 {
    let done = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + time;
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (mesh, payload, done) = (mesh.clone(), payload.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                while Instant::now() < end {
                    let open = Open {
                        within: Some(Duration::from_secs(30)),
                        payload: payload.clone(),
                        last: true,
                        ..Open::default()
                    };
                    let mut exchange = mesh.open(NodeId(2), open).await.expect("a link");
                    let answer = exchange.next().await.expect("an answer").expect("a link");
                    assert_eq!(answer.len(), payload.len());
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    done.load(Ordering::Relaxed)
}

/// CPU time of this process, in µs (the kernel counts in hundredths of a second).
fn cpu_us() -> Result<u64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = fields.get(11..13).ok_or("no times")?.iter().map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    Ok(ticks * 10_000)
}

fn resident_bytes() -> Result<u64, Box<dyn std::error::Error>> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    Ok(statm.split_whitespace().nth(1).ok_or("no size")?.parse::<u64>()? * 4096)
}
