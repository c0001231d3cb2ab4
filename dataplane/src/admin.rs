//! The operator's socket: one command line in, a reply out, as HAProxy's runtime API has it.
//!
//! A line holds one command or several with `;` between; the word `json` at the end of a command asks for JSON. After the replies
//! the connection is closed, unless `prompt` was said. Replies to what cannot be done begin with `error:` and say what to do.

mod command;
mod explain;
mod show;

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use self::command::Command;
use crate::config::Flags;
use crate::state::State;
use crate::{feed, sys};

const CONNECTIONS_MAX: usize = 32;
const LINE_BYTES_MAX: u64 = 64 * 1024;
const WAIT: Duration = Duration::from_secs(600);

/// What commands work on.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) state: Arc<State>,
    pub(crate) flags: Flags,
    /// The addresses really listened on, where a port was left to the kernel.
    pub(crate) listening: Vec<std::net::SocketAddr>,
    pub(crate) status: std::net::SocketAddr,
}

impl Admin {
    /// Serves until the process ends.
    pub(crate) fn serve(self: &Arc<Self>, listener: &UnixListener) {
        let open = Arc::new(AtomicUsize::new(0));
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            };
            if !feed::is_trusted(&stream) || open.fetch_add(1, Relaxed) >= CONNECTIONS_MAX {
                continue;
            }
            let (admin, open_here) = (Arc::clone(self), Arc::clone(&open));
            let spawned = std::thread::Builder::new().name("admin".into()).spawn(move || {
                // A peer that breaks off is its own matter.
                let _ = admin.converse(&stream);
                open_here.fetch_sub(1, Relaxed);
            });
            if spawned.is_err() {
                open.fetch_sub(1, Relaxed);
            }
        }
    }

    fn converse(&self, stream: &UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(WAIT))?;
        stream.set_write_timeout(Some(WAIT))?;
        let mut writer = stream;
        let mut interactive = false;
        loop {
            if interactive {
                writer.write_all(b"> ")?;
            }
            let mut line = String::new();
            let mut reader = BufReader::new(io::Read::take(stream, LINE_BYTES_MAX));
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            for text in line.split(';').map(str::trim).filter(|text| !text.is_empty()) {
                if text == "prompt" {
                    interactive = true;
                    continue;
                }
                if text == "quit" {
                    return Ok(());
                }
                writer.write_all(self.reply(text).as_bytes())?;
                writer.write_all(b"\n")?;
            }
            if !interactive {
                return Ok(());
            }
        }
    }

    fn reply(&self, text: &str) -> String {
        match Command::parse(text) {
            Ok((command, json)) => self.carry_out(command, json),
            Err(error) => format!("error: {error}"),
        }
    }

    fn carry_out(&self, command: Command, json: bool) -> String {
        match command {
            Command::Help => command::HELP.to_owned(),
            Command::Show(what) => show::reply(self, what, json),
            Command::Explain(request) => explain::reply(&self.state, &request, json),
            Command::Adopt(lineage) => {
                self.state.feed().adopted = Some(lineage);
                format!(
                    "the next configuration of lineage {lineage:016x} will replace the present one, whatever its revision"
                )
            }
            Command::Drain => {
                self.state.draining.store(true, Relaxed);
                "draining: /readyz fails, no new connections, kept ones end with their next answer".to_owned()
            }
            Command::Shutdown => {
                sys::raise_signal(libc::SIGTERM);
                "shutting down: open requests are finished first".to_owned()
            }
        }
    }
}
