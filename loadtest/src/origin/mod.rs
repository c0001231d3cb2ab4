//! `origin`: a backend that is never the bottleneck, and whose answers a test can choose by the path.
//!
//! `/bytes/N` answers N bytes, `/echo` what was sent, `/status/NNN` that status, `/delay/MS` after so long;
//! anything else the default body. Every answer names the origin in `X-Origin`. The first line on standard output
//! says where it listens, so that a caller can let the kernel choose the port.

mod connection;
mod reply;
mod request;
pub(crate) mod server;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;

use crate::poll::Poller;
use crate::socket;
use server::{Server, ServerPlan};

const THREADS_MAX: usize = 256;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address to listen on; port 0 lets the kernel choose
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The value of X-Origin
    #[arg(long, default_value = "origin")]
    name: String,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Size of the default answer's body
    #[arg(long, default_value_t = 128)]
    body_bytes: u64,
    /// Answer everything so much later
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Reset every connection as soon as it is made
    #[arg(long)]
    resets: bool,
}

pub(crate) fn execute(arguments: &Arguments) -> Result<()> {
    if !(1..=THREADS_MAX).contains(&arguments.threads) {
        bail!("--threads must be between 1 and {THREADS_MAX}");
    }
    let plan = ServerPlan {
        delay_ms: arguments.delay_ms,
        resets: arguments.resets,
        ..ServerPlan::new(&arguments.name, arguments.body_bytes)?
    };
    let first = listen(arguments.listen)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..arguments.threads {
        listeners.push(listen(address)?);
    }
    let threads: Vec<JoinHandle<Result<()>>> = listeners
        .into_iter()
        .enumerate()
        .map(|(index, listener)| {
            let plan = plan.clone();
            std::thread::Builder::new()
                .name(format!("origin-{index}"))
                .spawn(move || serve(listener, plan))
                .context("cannot start a thread")
        })
        .collect::<Result<_>>()?;
    println!("listening {address}");
    std::io::stdout().flush()?;
    for thread in threads {
        thread.join().map_err(|_| anyhow!("an origin thread panicked"))??;
    }
    Ok(())
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    socket::listener(address).with_context(|| format!("cannot listen on {address}"))
}

fn serve(listener: TcpListener, plan: ServerPlan) -> Result<()> {
    let mut poller = Poller::new().context("cannot create an epoll instance")?;
    let mut server = Server::new(listener, plan);
    server.register(&poller)?;
    let mut ready = Vec::new();
    loop {
        let now = Instant::now();
        server.on_time(&poller, now);
        let wait = server.next_wakeup().map(|at| at.saturating_duration_since(now));
        poller.wait(wait, &mut ready).context("waiting for sockets failed")?;
        for ready in &ready {
            server.on_ready(&poller, *ready);
        }
    }
}
