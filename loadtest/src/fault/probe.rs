//! What the routes answer: on several kept connections, which the kernel spreads over the cores, `/told` is asked for the
//! number of the change that its core has applied.
//!
//! A connection stays on its core, so that its numbers may never fall. When a number is new to a connection, the route of
//! the same change must be there too: a transaction is seen as a whole.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::ask::Asker;

/// Eight are on one of two cores in 1 run of 128 only.
const CONNECTIONS: usize = 8;
const ROUND_EVERY: Duration = Duration::from_millis(30);

/// One answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// Another number for every connection that was ever made.
    pub(crate) connection: u64,
    pub(crate) asked: Instant,
    pub(crate) at: Instant,
    /// The change that it told of; 0 before the first.
    pub(crate) number: u64,
    /// The status of that change's own route, where it was asked for.
    pub(crate) own_route: Option<u16>,
}

/// What went wrong with a question.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) asked: Instant,
    pub(crate) at: Instant,
    /// `None`: the connection failed.
    pub(crate) status: Option<u16>,
    pub(crate) text: String,
}

#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) answers: Vec<Answer>,
    pub(crate) troubles: Vec<Trouble>,
}

#[derive(Debug)]
pub(crate) struct Probe {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Answers>>,
}

impl Probe {
    pub(crate) fn start(address: SocketAddr) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("probe".into()).spawn({
            let stop = Arc::clone(&stop);
            move || run(address, &stop)
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    pub(crate) fn finish(mut self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug, Default)]
struct Lane {
    asker: Option<Asker>,
    connection: u64,
    last: Option<u64>,
}

fn run(address: SocketAddr, stop: &AtomicBool) -> Answers {
    let mut lanes: Vec<Lane> = (0..CONNECTIONS).map(|_| Lane::default()).collect();
    let mut connections = 0;
    let mut answers = Answers::default();
    while !stop.load(Ordering::Relaxed) {
        let round = Instant::now();
        for lane in &mut lanes {
            if lane.asker.as_ref().is_none_or(Asker::is_over) {
                lane.asker = None;
                connections += 1;
                lane.connection = connections;
                lane.last = None;
            }
            if let Err(trouble) = lane.ask(address, &mut answers.answers) {
                lane.asker = None;
                answers.troubles.push(trouble);
            }
        }
        std::thread::sleep(ROUND_EVERY.saturating_sub(round.elapsed()));
    }
    answers
}

impl Lane {
    fn ask(&mut self, address: SocketAddr, answers: &mut Vec<Answer>) -> Result<(), Trouble> {
        let asked = Instant::now();
        let trouble = |status, text| Trouble { asked, at: Instant::now(), status, text };
        let broken = |error: std::io::Error| trouble(None, error.to_string());
        let asker = match &mut self.asker {
            Some(asker) => asker,
            empty => empty.insert(Asker::connect(address).map_err(broken)?),
        };
        let told = asker.get("/told").map_err(broken)?;
        let at = Instant::now();
        let number = told.body.strip_prefix('c').and_then(|digits| digits.parse().ok());
        let Some(number) = number.filter(|_| told.status == 200) else {
            return Err(trouble(Some(told.status), told.body));
        };
        let is_new = number > 0 && self.last != Some(number);
        self.last = Some(number);
        // A gateway that ends the connection with this answer has said all it will.
        let own_route = match is_new && !asker.is_over() {
            true => Some(asker.get(&format!("/change/{number}")).map_err(broken)?.status),
            false => None,
        };
        answers.push(Answer { connection: self.connection, asked, at, number, own_route });
        Ok(())
    }
}
