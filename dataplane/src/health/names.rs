//! Looks names up, by the system's own resolver, on threads of their own: a look-up may take as long as it likes and holds nobody up but
//! the names behind it.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};

use crossbeam::channel::{Receiver, Sender};

/// Look-ups at once.
const THREADS: usize = 4;

/// A name, and its addresses if it has any.
type Answer = (Box<str>, Option<Vec<IpAddr>>);

/// The threads, as the health thread sees them.
#[derive(Debug)]
pub(super) struct Resolver {
    questions: Sender<Box<str>>,
    answers: Receiver<Answer>,
}

impl Resolver {
    pub(super) fn start() -> io::Result<Resolver> {
        // Not bounded: a name is asked for again only when it has been answered.
        let (questions, asked) = crossbeam::channel::unbounded::<Box<str>>();
        let (answer, answers) = crossbeam::channel::unbounded();
        for _ in 0..THREADS {
            let (asked, answer) = (asked.clone(), answer.clone());
            std::thread::Builder::new().name("names".into()).spawn(move || {
                for name in asked {
                    let addresses = look_up(&name);
                    if answer.send((name, addresses)).is_err() {
                        return;
                    }
                }
            })?;
        }
        Ok(Resolver { questions, answers })
    }

    /// Asks for a name.
    pub(super) fn ask(&self, name: Box<str>) {
        // The threads end only with this.
        let _ = self.questions.send(name);
    }

    /// What has been answered meanwhile.
    pub(super) fn answers(&self) -> impl Iterator<Item = Answer> + '_ {
        self.answers.try_iter()
    }
}

/// IPv4 addresses, or where there are none IPv6 addresses: a host without IPv6 gets both from its resolver.
fn look_up(name: &str) -> Option<Vec<IpAddr>> {
    let found = (name, 0).to_socket_addrs();
    let all: Vec<IpAddr> = match found {
        Ok(found) => found.map(|address| address.ip()).collect(),
        Err(error) => {
            tracing::debug!(name, "cannot be looked up: {error}");
            return None;
        }
    };
    let v4: Vec<IpAddr> = all.iter().filter(|address| address.is_ipv4()).copied().collect();
    Some(if v4.is_empty() { all } else { v4 })
}
