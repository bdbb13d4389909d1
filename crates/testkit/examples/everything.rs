//! Runs the everything server: `--listen 127.0.0.1:0 --era both`, or `--stdio`.

use clap::{Parser, ValueEnum};
use enfilade_testkit::everything::{self, Options};

#[derive(Parser)]
struct Args {
    /// Where to serve Streamable HTTP; port 0 lets the system choose.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: std::net::SocketAddr,
    /// Serve standard input and output instead.
    #[arg(long)]
    stdio: bool,
    #[arg(long, value_enum, default_value = "both")]
    era: Era,
    #[arg(long, default_value = "everything")]
    name: String,
    /// Items per page of every list.
    #[arg(long)]
    page_size: Option<usize>,
    /// How many numbered tools to add.
    #[arg(long, default_value_t = 0)]
    extra_tools: usize,
    /// Answer modern requests with SSE even where JSON would do.
    #[arg(long)]
    sse: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Era {
    Both,
    Legacy,
    Modern,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let args = Args::parse();
    let options = Options {
        name: args.name,
        era: match args.era {
            Era::Both => everything::Era::Both,
            Era::Legacy => everything::Era::Legacy,
            Era::Modern => everything::Era::Modern,
        },
        page_size: args.page_size,
        extra_tools: args.extra_tools,
        json_response: !args.sse,
        ..Options::default()
    };
    if args.stdio {
        return everything::serve_stdio(options).await;
    }
    let listener = tokio::net::TcpListener::bind(args.listen).await?;
    println!("ready http://{}/mcp", listener.local_addr()?);
    let stop = async {
        // Without a way to hear the signal the server runs until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    everything::serve_http(listener, options, stop).await
}
