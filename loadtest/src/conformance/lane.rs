//! One lane: a source address, an origin of its own, and one row at a time between them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::case::{AUTHORITY, Act, After, Answer, Case, Cuts, HOST, Step};
use super::client::Client;
use super::judge::{self, Observed, Probe};
use super::message;
use super::origin::{Origin, own_body};
use super::{GAP, PROBE};

/// For everything that a row waits for. Only a row that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(4);
/// For what a gateway may do or leave.
const OPTION_PATIENCE: Duration = Duration::from_millis(300);
/// For the first configuration of a gateway.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// Connections ended by the origin that a gateway may still have in its pool when it is asked to look.
const SETTLE_TRIES: usize = 5;

#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) target: SocketAddr,
    pub(crate) from: Option<IpAddr>,
    pub(crate) origin: Origin,
}

/// One run of a row.
#[derive(Debug)]
pub(crate) struct Run {
    /// The place of the outcome, or what is wrong with each that was allowed.
    pub(crate) verdict: Result<usize, Vec<String>>,
    pub(crate) seen: Vec<String>,
}

impl Lane {
    /// Waits until a request reaches the origin.
    pub(crate) fn wait_until_served(&self) -> Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        while !self.probe_alone() {
            if Instant::now() >= deadline {
                bail!("no answer from the origin through {}", self.target);
            }
            std::thread::sleep(GAP);
        }
        Ok(())
    }

    pub(crate) fn run(&self, case: &Case) -> Run {
        self.origin.begin(&case.answers);
        let observed = match self.observe(case) {
            Ok(observed) => observed,
            Err(error) => {
                return Run { verdict: Err(vec![format!("cannot connect: {error}")]), seen: Vec::new() };
            }
        };
        let verdict = judge::judge(case, &observed);
        let ends = case.answers.iter().flat_map(|answer| &answer.acts);
        let ends = ends.clone().any(|act| matches!(act, Act::End | Act::Reset | Act::Echo));
        let unfinished = observed.log.requests.iter().any(|request| !request.message.complete);
        if ends || unfinished || verdict.is_err() || !observed.log.stray.is_empty() {
            self.settle();
        }
        let seen = if verdict.is_err() { judge::describe(&observed) } else { Vec::new() };
        Run { verdict, seen }
    }

    fn observe(&self, case: &Case) -> io::Result<Observed> {
        let methods = methods(case);
        let mut client = Client::connect(self.target, self.from, methods)?;
        let deadline = Instant::now() + PATIENCE;
        for step in &case.steps {
            self.step(step, &mut client, deadline);
        }
        let wanted = case.outcomes.iter().map(|outcome| outcome.got.len()).max().unwrap_or(0);
        client.read_until(deadline, |client| client.answers.len() >= wanted);
        let probe = self.afterwards(case, &mut client, wanted, deadline);
        client.conclude();
        if probe != Probe::Answered {
            // What the gateway had begun towards the origin has arrived when a later request has.
            self.probe_alone();
            self.origin.catch_up(Instant::now() + PATIENCE);
        }
        let mut log = self.origin.log(deadline.max(Instant::now() + OPTION_PATIENCE));
        log.requests.retain(|request| request.message.head.line[1] != PROBE.as_bytes());
        Ok(Observed {
            answers: client.answers,
            violation: client.violation,
            end: client.end,
            probe,
            tunnelled: client.tunnelled,
            log,
        })
    }

    fn step(&self, step: &Step, client: &mut Client, deadline: Instant) {
        match step {
            Step::Send(bytes) => client.send(bytes),
            Step::Gap => std::thread::sleep(GAP),
            Step::Answers(count) => {
                client.read_until(deadline, |client| client.answers.len() >= *count);
            }
            Step::Interim => {
                let deadline = Instant::now() + OPTION_PATIENCE;
                client.read_until(deadline, |client| client.interims() > 0 || !client.answers.is_empty());
            }
            Step::OriginHeads(count) => {
                self.origin.wait_for_heads(*count, Instant::now() + OPTION_PATIENCE);
            }
            Step::Tunnelled(count) => {
                let enough =
                    |client: &Client| client.tunnelled.as_ref().is_some_and(|bytes| bytes.len() >= *count);
                client.read_until(deadline, |client| {
                    client.tunnelled.is_none() && !client.answers.is_empty() || enough(client)
                });
            }
            Step::OriginDone(count) => {
                self.origin.wait_for_answers(*count, Instant::now() + OPTION_PATIENCE);
            }
            Step::End => client.end_sending(),
            Step::EndIfQuiet => {
                let before = client.answers.len();
                let deadline = Instant::now() + OPTION_PATIENCE;
                client.read_until(deadline, |client| client.answers.len() > before);
                if client.end.is_none() && client.answers.len() == before {
                    client.end_sending();
                }
            }
            Step::Reset => client.reset(),
        }
    }

    /// Finds out what became of the client's connection.
    fn afterwards(&self, case: &Case, client: &mut Client, wanted: usize, deadline: Instant) -> Probe {
        let says_close = client.answers.last().is_some_and(|answer| {
            let mut values = answer.last.head.values("connection");
            values.any(|value| value.to_ascii_lowercase().windows(5).any(|window| window == b"close"))
        });
        let must_close = case.outcomes.iter().all(|outcome| outcome.after == After::Closed);
        if says_close {
            // Some read on for a while before they end; a client that is done ends too.
            client.read_until(Instant::now() + OPTION_PATIENCE, |_| false);
            if client.end.is_none() {
                client.end_sending();
            }
        }
        if client.tunnelled.is_some() || must_close || says_close || client.answers.len() < wanted {
            client.read_until(deadline, |_| false);
            return Probe::NotSent;
        }
        if client.end.is_some() || client.violation.is_some() {
            return Probe::NotSent;
        }
        let before = client.answers.len();
        client.send(&probe_request());
        let ours = own_body(b"GET", PROBE.as_bytes());
        client.read_until(deadline, |client| {
            client.answers.get(before..).unwrap_or_default().iter().any(|answer| answer.last.body == ours)
        });
        match client.answers.get(before..).unwrap_or_default() {
            [answer] if answer.last.body == ours && answer.last.status() == 200 => {
                client.answers.truncate(before);
                Probe::Answered
            }
            [] if client.end.is_some() => Probe::Refused,
            [] => Probe::Wrong("is not answered".to_owned()),
            answers => {
                let shown: Vec<String> = answers
                    .iter()
                    .map(|answer| format!("{} {}", answer.last.status(), message::show(&answer.last.body)))
                    .collect();
                Probe::Wrong(format!("gets {}", shown.join(", then ")))
            }
        }
    }

    /// Begins anew with fresh connections: ends those of the origin, and has the gateway notice.
    fn settle(&self) {
        self.origin.retire();
        self.origin.begin(&[]);
        for _ in 0..SETTLE_TRIES {
            if self.probe_alone() {
                return;
            }
        }
    }

    /// Whether a request on a connection of its own is answered by the origin.
    fn probe_alone(&self) -> bool {
        let Ok(mut client) = Client::connect(self.target, self.from, Vec::new()) else { return false };
        client.send(&probe_request());
        client.read_until(Instant::now() + PATIENCE, |client| !client.answers.is_empty());
        let ours = own_body(b"GET", PROBE.as_bytes());
        client.answers.first().is_some_and(|answer| answer.last.body == ours)
    }
}

fn probe_request() -> Vec<u8> {
    format!("GET {PROBE} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").into_bytes()
}

/// The methods of the requests that the client gets answers to, in order, where they are not all GET.
fn methods(case: &Case) -> Vec<Vec<u8>> {
    if let Some(outcome) = case.outcomes.iter().find(|outcome| !outcome.seen.is_empty()) {
        return outcome.seen.iter().map(|seen| seen.method.clone()).collect();
    }
    // A refusal of HEAD has no body either.
    let bytes: Vec<u8> = case.steps.iter().filter_map(sent).flatten().copied().collect();
    if bytes.starts_with(b"HEAD ") { vec![b"HEAD".to_vec()] } else { Vec::new() }
}

/// Puts the address under test in the place of what stands for it.
pub(crate) fn fill_in(case: &mut Case, target: SocketAddr) {
    for step in &mut case.steps {
        if let Step::Send(bytes) = step
            && let Some(at) = bytes.windows(AUTHORITY.len()).position(|window| window == AUTHORITY)
        {
            bytes.splice(at..at + AUTHORITY.len(), target.to_string().into_bytes());
        }
    }
}

/// How many bytes of a row can be cut.
pub(crate) fn cut_length(case: &Case) -> usize {
    match case.cuts {
        Cuts::None => 0,
        Cuts::Request => case.steps.iter().find_map(sent).map_or(0, <[u8]>::len),
        Cuts::Answer => answer_bytes(case).map_or(0, <[u8]>::len),
    }
}

fn sent(step: &Step) -> Option<&[u8]> {
    match step {
        Step::Send(bytes) => Some(bytes),
        _ => None,
    }
}

fn answer_bytes(case: &Case) -> Option<&[u8]> {
    let acts = case.answers.first()?.acts.iter();
    acts.filter_map(|act| if let Act::Send(bytes) = act { Some(bytes.as_slice()) } else { None }).next()
}

/// The row with its bytes in two segments.
pub(crate) fn cut(case: &Case, position: usize) -> Case {
    let mut cut = case.clone();
    cut.name = format!("{} cut at {position}", case.name);
    match case.cuts {
        Cuts::None => {}
        Cuts::Request => {
            if let Some(at) = cut.steps.iter().position(|step| sent(step).is_some())
                && let Some((before, after)) =
                    cut.steps.get(at).and_then(sent).and_then(|bytes| bytes.split_at_checked(position))
            {
                let pieces = [Step::Send(before.to_vec()), Step::Gap, Step::Send(after.to_vec())];
                cut.steps.splice(at..=at, pieces);
            }
        }
        Cuts::Answer => {
            if let Some(Answer { acts, .. }) = cut.answers.first_mut()
                && let Some(at) = acts.iter().position(|act| matches!(act, Act::Send(_)))
                && let Some(Act::Send(bytes)) = acts.get(at)
                && let Some((before, after)) = bytes.split_at_checked(position)
            {
                let pieces = [Act::Send(before.to_vec()), Act::Gap, Act::Send(after.to_vec())];
                acts.splice(at..=at, pieces);
            }
        }
    }
    cut
}
