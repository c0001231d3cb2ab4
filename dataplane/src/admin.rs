//! The operator's socket: one command line in, a reply out, as HAProxy's runtime API has it.
//!
//! A line holds one command or several with `;` between; the word `json` at the end of a command asks for JSON. After the replies
//! the connection is closed, unless `prompt` was said. Replies to what cannot be done begin with `error:` and say what to do.

mod command;
mod explain;
mod latency;
mod nodes;
mod show;
mod tally;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::channel::Sender;

use self::command::Command;
use crate::config::{Flags, Limits};
use crate::helm::Order;
use crate::state::State;
use crate::{door, feed, log, sys};

const CONNECTIONS_MAX: usize = 32;
const LINE_BYTES_MAX: u64 = 64 * 1024;
const WAIT: Duration = Duration::from_secs(600);
/// How long the main thread may take for an order, beside an upgrade.
const ORDER_WAIT: Duration = Duration::from_secs(10);

/// What commands work on.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) state: Arc<State>,
    pub(crate) flags: Flags,
    pub(crate) limits: Limits,
    /// The addresses really listened on, where a port was left to the kernel.
    pub(crate) listening: Vec<std::net::SocketAddr>,
    pub(crate) status: std::net::SocketAddr,
    pub(crate) orders: Sender<Order>,
    /// What `upgrade` starts.
    pub(crate) executable: std::path::PathBuf,
    /// One at a time asks the cores for their nodes.
    pub(crate) asking: Mutex<()>,
}

/// One of the connections that there may be, for as long as it is kept.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Option<Place> {
        let is_free = open.fetch_add(1, Relaxed) < CONNECTIONS_MAX;
        let place = Place(Arc::clone(open));
        is_free.then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Admin {
    /// Serves until the process ends or a successor does.
    pub(crate) fn serve(self: &Arc<Self>, listener: &UnixListener) {
        let open = Arc::new(AtomicUsize::new(0));
        while door::wait(listener, || self.state.life.status_door()) {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => {
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                }
            };
            if !feed::is_trusted(&stream) {
                continue;
            }
            let Some(place) = Place::take(&open) else { continue };
            let admin = Arc::clone(self);
            // Where no thread can be started the connection ends, and its place is free again.
            let _ = std::thread::Builder::new().name("admin".into()).spawn(move || {
                let _place = place;
                // A peer that breaks off is its own matter.
                let _ = admin.converse(&stream);
            });
        }
    }

    fn converse(&self, stream: &UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(WAIT))?;
        stream.set_write_timeout(Some(WAIT))?;
        let mut writer = stream;
        let mut interactive = false;
        // One for all lines: what comes behind a line is the next one.
        let mut reader = BufReader::new(stream).take(0);
        loop {
            if interactive {
                writer.write_all(b"> ")?;
            }
            let mut bytes = Vec::new();
            reader.set_limit(LINE_BYTES_MAX);
            if reader.read_until(b'\n', &mut bytes)? == 0 {
                return Ok(());
            }
            // What was cut would be another command than the one that was meant.
            if reader.limit() == 0 && bytes.last() != Some(&b'\n') {
                return writer
                    .write_all(format!("error: a line has at most {LINE_BYTES_MAX} bytes\n").as_bytes());
            }
            let Ok(line) = String::from_utf8(bytes) else {
                return writer.write_all(b"error: commands are UTF-8\n");
            };
            for text in line.split(';').map(str::trim).filter(|text| !text.is_empty()) {
                if text == "prompt" {
                    interactive = true;
                    continue;
                }
                if text == "quit" {
                    return Ok(());
                }
                let replying = &self.state.life.replying;
                // An order may end the process, which waits for this.
                replying.fetch_add(1, Relaxed);
                let reply = self.reply(text) + "\n";
                let written = writer.write_all(reply.as_bytes());
                replying.fetch_sub(1, Relaxed);
                written?;
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

    /// Gives an order to the main thread and waits for what it says.
    fn order(&self, order: impl FnOnce(Sender<String>) -> Order) -> String {
        let (reply, said) = crossbeam::channel::bounded(1);
        let wait = ORDER_WAIT + Duration::from_secs(self.flags.upgrade_timeout_s);
        let sent = self.orders.send(order(reply));
        let said = sent.ok().and_then(|()| said.recv_timeout(wait).ok());
        said.unwrap_or_else(|| "error: this process is ending".to_owned())
    }

    fn carry_out(&self, command: Command, json: bool) -> String {
        match command {
            Command::Help => command::HELP.to_owned(),
            Command::Show(what) => show::reply(self, what, json),
            Command::Explain(request) => explain::reply(&self.state, &request, json),
            Command::Set(node, setting) => nodes::set(&self.state, &node, setting),
            Command::Adopt(lineage) => {
                self.state.feed().adopted = Some(lineage);
                format!(
                    "the next configuration of lineage {lineage:016x} will replace the present one, whatever its revision"
                )
            }
            Command::LogLevel(None) => log::level(),
            Command::LogLevel(Some(filter)) => match log::set_level(&filter) {
                Ok(()) => format!("logging {filter} until this process ends"),
                Err(error) => format!("error: {error}"),
            },
            Command::LogReopen if self.state.ledger.logs => {
                self.state.ledger.reopen();
                "the access log is opened anew".to_owned()
            }
            Command::LogReopen => "error: there is no access log; give --access-log".to_owned(),
            Command::Drain(grace_s) => {
                self.order(|reply| Order::Drain(grace_s.map(Duration::from_secs), reply))
            }
            Command::Undrain => self.order(Order::Undrain),
            Command::Upgrade(program) => self.order(|reply| Order::Upgrade(program, Some(reply))),
            #[cfg(debug_assertions)]
            Command::Fault(core, fault) => match self.state.cores.get(core) {
                Some(core) => {
                    core.fault.store(fault, Relaxed);
                    "as you like".to_owned()
                }
                None => "error: there is no such core".to_owned(),
            },
            #[cfg(debug_assertions)]
            Command::Spent(core) => match self.state.cores.get(core) {
                Some(core) => {
                    let (requests, spent) =
                        *core.spent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    format!("{requests} {spent}")
                }
                None => "error: there is no such core".to_owned(),
            },
            Command::Shutdown => {
                sys::raise_signal(libc::SIGTERM);
                "shutting down: open requests are finished first".to_owned()
            }
        }
    }
}
