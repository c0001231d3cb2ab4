//! Whether what was seen is one of the outcomes that a row allows.

use super::case::{After, Body, Case, Got, Outcome, Seen};
use super::client::{Answered, End};
use super::message::{self, Framing, Message, show};
use super::origin::{Log, own_body};

/// Everything that could be seen of one run of a row.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    /// Without the probe's.
    pub(crate) answers: Vec<Answered>,
    pub(crate) violation: Option<String>,
    /// How the client's connection ended; `None` while open.
    pub(crate) end: Option<End>,
    pub(crate) probe: Probe,
    pub(crate) tunnelled: Option<Vec<u8>>,
    /// Without the probe's.
    pub(crate) log: Log,
}

/// What became of the request that the runner sends afterwards on the same connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    NotSent,
    Answered,
    /// The connection ended.
    Refused,
    Wrong(String),
}

/// The place of the outcome that was seen, or what is wrong with each.
pub(crate) fn judge(case: &Case, observed: &Observed) -> Result<usize, Vec<String>> {
    let always = violations(observed);
    if !always.is_empty() {
        return Err(always);
    }
    let mut faults = Vec::new();
    for (place, outcome) in case.outcomes.iter().enumerate() {
        match check(outcome, observed) {
            Ok(()) => return Ok(place),
            Err(fault) => faults.push(fault),
        }
    }
    Err(faults)
}

/// What no row allows.
fn violations(observed: &Observed) -> Vec<String> {
    let mut found: Vec<String> =
        observed.log.violations.iter().map(|text| format!("sent to the origin: {text}")).collect();
    found.extend(observed.violation.iter().map(|text| format!("sent to the client: {text}")));
    if let Probe::Wrong(text) = &observed.probe {
        found.push(format!("the next request on the connection: {text}"));
    }
    if observed.log.hanging > 0 {
        found.push("a request to the origin stays unfinished on an open connection".to_owned());
    }
    for answer in &observed.answers {
        if answer.last.head.values("connection").any(|value| names(value, b"close"))
            && observed.probe == Probe::Answered
        {
            found.push("the connection goes on after Connection: close".to_owned());
        }
    }
    found
}

fn names(list: &[u8], option: &[u8]) -> bool {
    list.split(|&byte| byte == b',').any(|member| message::trim(member).eq_ignore_ascii_case(option))
}

fn check(outcome: &Outcome, observed: &Observed) -> Result<(), String> {
    check_seen(outcome, &observed.log)?;
    check_got(outcome, observed)?;
    let closed = observed.end.is_some() || observed.probe == Probe::Refused;
    match outcome.after {
        After::Kept if observed.probe != Probe::Answered => {
            return Err("the connection does not go on".to_owned());
        }
        After::Closed if !closed => return Err("the connection was not ended".to_owned()),
        _ => {}
    }
    if let Some(expected) = &outcome.tunnelled
        && observed.tunnelled.as_ref() != Some(expected)
    {
        let tunnelled = observed.tunnelled.as_ref().map_or("no tunnel".to_owned(), |bytes| show(bytes));
        return Err(format!("through the tunnel came {tunnelled}, not {}", show(expected)));
    }
    Ok(())
}

fn check_seen(outcome: &Outcome, log: &Log) -> Result<(), String> {
    let whole: Vec<&Message> =
        log.requests.iter().map(|request| &request.message).filter(|message| message.complete).collect();
    if !outcome.partial && (whole.len() < log.requests.len() || !log.stray.is_empty()) {
        return Err("the origin got a request in part".to_owned());
    }
    if whole.len() != outcome.seen.len() {
        return Err(format!("the origin got {} requests, not {}", whole.len(), outcome.seen.len()));
    }
    for (place, (seen, message)) in outcome.seen.iter().zip(whole).enumerate() {
        check_request(seen, message).map_err(|fault| format!("request {}: {fault}", place + 1))?;
    }
    Ok(())
}

fn check_request(seen: &Seen, message: &Message) -> Result<(), String> {
    let [method, target, _] = &message.head.line;
    if *method != seen.method {
        return Err(format!("method {}, not {}", show(method), show(&seen.method)));
    }
    if !seen.targets.is_empty() && !seen.targets.contains(target) {
        return Err(format!("target {}, not {}", show(target), show(&seen.targets.join(&b" or "[..]))));
    }
    let host = message.head.values("host").next().unwrap_or_default();
    if let Some(expected) = &seen.host
        && !host.eq_ignore_ascii_case(expected)
    {
        return Err(format!("Host {}, not {}", show(host), show(expected)));
    }
    if message.body != seen.body {
        return Err(format!("body {}, not {}", show(&message.body), show(&seen.body)));
    }
    check_framing(seen.framing, message.framing)?;
    check_fields(message, &seen.has, &seen.lacks)
}

fn check_framing(expected: Option<Framing>, is: Framing) -> Result<(), String> {
    match (expected, is) {
        // An announced nothing is nothing.
        (None, _) | (Some(Framing::None), Framing::Length(0)) => Ok(()),
        (Some(expected), is) if expected == is => Ok(()),
        (Some(expected), is) => Err(format!("framed by {is:?}, not {expected:?}")),
    }
}

/// Each expected value is there as a line of its own or as a member of a list.
fn check_fields(message: &Message, has: &[(&str, Vec<u8>)], lacks: &[&str]) -> Result<(), String> {
    for (name, expected) in has {
        let values: Vec<&[u8]> = message.head.values(name).collect();
        let line = values.join(&b", "[..]);
        if !values.contains(&expected.as_slice()) && !names(&line, expected) && line != *expected {
            return Err(format!("{name} is {}, not {}", show(&line), show(expected)));
        }
    }
    match lacks.iter().find(|name| message.head.has(name)) {
        Some(name) => Err(format!("{name} is there")),
        None => Ok(()),
    }
}

fn check_got(outcome: &Outcome, observed: &Observed) -> Result<(), String> {
    let (expected, answers) = (&outcome.got, &observed.answers);
    let is_silent = outcome.silent && answers.len() + 1 == expected.len() && observed.end.is_some();
    if answers.len() != expected.len() && !is_silent {
        return Err(format!("{} answers, not {}", answers.len(), expected.len()));
    }
    for (place, (got, answer)) in expected.iter().zip(answers).enumerate() {
        let seen = outcome.seen.get(place);
        check_answer(got, seen, answer, observed)
            .map_err(|fault| format!("answer {}: {fault}", place + 1))?;
    }
    Ok(())
}

fn check_answer(
    got: &Got,
    seen: Option<&Seen>,
    answer: &Answered,
    observed: &Observed,
) -> Result<(), String> {
    let last = &answer.last;
    let status = last.status();
    if !got.statuses.is_empty() && !got.statuses.contains(&status) {
        return Err(format!("status {status}, not {}", list(&got.statuses)));
    }
    if let Some(expected) = &got.interims {
        let interims: Vec<u16> = answer.interims.iter().map(Message::status).collect();
        if interims != *expected {
            return Err(format!("interim answers {}, not {}", list(&interims), list(expected)));
        }
    }
    let cut = matches!(got.body, Body::Cut);
    match (cut, last.complete) {
        (true, true) => return Err("a broken answer looks whole".to_owned()),
        (true, false) if observed.end.is_none() => return Err("a broken answer never ends".to_owned()),
        (false, false) => return Err(format!("the answer breaks off behind {}", show(&last.body))),
        _ => {}
    }
    let expected = match &got.body {
        Body::Any | Body::Cut => None,
        Body::Exact(body) => Some(body.clone()),
        Body::Own => seen.map(|seen| {
            let target = observed.log.requests.iter().map(|request| &request.message.head.line[1]);
            let target =
                target.clone().find(|target| seen.targets.contains(target)).cloned().unwrap_or_default();
            if seen.method == b"HEAD" { Vec::new() } else { own_body(&seen.method, &target) }
        }),
    };
    if let Some(expected) = expected
        && last.body != expected
    {
        return Err(format!("body {}, not {}", show(&last.body), show(&expected)));
    }
    check_framing(got.framing, last.framing)?;
    check_fields(last, &got.has, &got.lacks)
}

fn list(statuses: &[u16]) -> String {
    if statuses.is_empty() {
        return "none".to_owned();
    }
    statuses.iter().map(u16::to_string).collect::<Vec<_>>().join("/")
}

/// What was seen, for people.
pub(crate) fn describe(observed: &Observed) -> Vec<String> {
    let mut lines = Vec::new();
    for request in &observed.log.requests {
        let Message { head, framing, body, complete, .. } = &request.message;
        let [method, target, version] = &head.line;
        let fields: Vec<String> = head
            .fields
            .iter()
            .map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii()))
            .collect();
        lines.push(format!(
            "origin, connection {}: {} {} {} [{}] {framing:?} {}{}",
            request.connection,
            method.escape_ascii(),
            target.escape_ascii(),
            version.escape_ascii(),
            fields.join(" | "),
            show(body),
            if *complete { "" } else { " (unfinished)" }
        ));
    }
    for answer in &observed.answers {
        for message in answer.interims.iter().chain([&answer.last]) {
            let fields: Vec<String> = message
                .head
                .fields
                .iter()
                .map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii()))
                .collect();
            lines.push(format!(
                "client: {} [{}] {:?} {}{}",
                message.status(),
                fields.join(" | "),
                message.framing,
                show(&message.body),
                if message.complete { "" } else { " (breaks off)" }
            ));
        }
    }
    lines.push(match (observed.end, &observed.probe) {
        (Some(End::Clean), _) => "connection ended".to_owned(),
        (Some(End::Reset), _) => "connection reset".to_owned(),
        (None, probe) => format!("connection open, probe {probe:?}"),
    });
    lines
}
