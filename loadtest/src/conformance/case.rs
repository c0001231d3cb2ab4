//! What a row of the table is: bytes in, what the origin answers, and every behaviour that the rules allow.
//!
//! A row lists *outcomes*; a gateway passes when it shows exactly one of them whole. Whatever a row says, both sides' bytes
//! must also be strictly valid (`message.rs`), so that no row needs to say it.

use super::message::Framing;

/// The Host of rows that do not care.
pub(crate) const HOST: &str = "conform.test";
/// Stands in the bytes of a row for the address under test.
pub(crate) const AUTHORITY: &[u8] = b"{authority}";

/// What the client does, in order.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Send(Vec<u8>),
    /// What comes next travels in a segment of its own.
    Gap,
    /// Wait until so many final answers have come, or the end.
    Answers(usize),
    /// Wait for an interim answer, at most a while: a gateway need not send one.
    Interim,
    /// Wait until the origin has so many request heads, at most a while.
    OriginHeads(usize),
    /// Wait until the tunnel has brought so many bytes.
    Tunnelled(usize),
    /// Wait until the origin has done all that it does for so many requests, at most a while.
    OriginDone(usize),
    /// End the sending direction.
    End,
    /// The same, but only when neither an answer nor the end comes in a while: some give up a client that ends early.
    EndIfQuiet,
    /// End with a reset.
    Reset,
}

/// When the origin answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// As soon as the head is there.
    Head,
    /// When the request is whole.
    Whole,
}

/// What the origin does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Send(Vec<u8>),
    /// What comes next travels in a segment of its own.
    Gap,
    /// Wait until the request is whole, or its connection ended.
    Whole,
    /// Send back what comes, each byte as it came, until the end of the stream, then end too.
    Echo,
    /// End the sending direction; go on reading to the end.
    End,
    /// End with a reset.
    Reset,
}

/// How the origin answers one request.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) when: When,
    pub(crate) acts: Vec<Act>,
}

impl Answer {
    pub(crate) fn new(when: When, acts: Vec<Act>) -> Answer {
        Answer { when, acts }
    }

    /// Bytes sent when the request is whole.
    pub(crate) fn bytes(bytes: impl AsRef<[u8]>) -> Answer {
        Answer::new(When::Whole, vec![Act::Send(bytes.as_ref().to_vec())])
    }

    /// The same, and then the end of the stream.
    pub(crate) fn last(bytes: impl AsRef<[u8]>) -> Answer {
        Answer::new(When::Whole, vec![Act::Send(bytes.as_ref().to_vec()), Act::End])
    }
}

/// A request that the origin must see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) method: Vec<u8>,
    /// Any of these.
    pub(crate) targets: Vec<Vec<u8>>,
    pub(crate) host: Option<Vec<u8>>,
    pub(crate) framing: Option<Framing>,
    pub(crate) body: Vec<u8>,
    pub(crate) has: Vec<(&'static str, Vec<u8>)>,
    pub(crate) lacks: Vec<&'static str>,
}

/// How a body in an answer has to look.
#[derive(Clone, Debug, Default)]
pub(crate) enum Body {
    #[default]
    Any,
    /// What the origin says about the request at this place when it has no other order.
    Own,
    Exact(Vec<u8>),
    /// The client can see that it is not whole.
    Cut,
}

/// An answer that the client must get.
#[derive(Clone, Debug, Default)]
pub(crate) struct Got {
    /// Any of these; any status at all when empty.
    pub(crate) statuses: Vec<u16>,
    pub(crate) body: Body,
    pub(crate) framing: Option<Framing>,
    pub(crate) has: Vec<(&'static str, Vec<u8>)>,
    pub(crate) lacks: Vec<&'static str>,
    /// The interim answers before it, when they matter.
    pub(crate) interims: Option<Vec<u16>>,
}

/// The client's connection afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum After {
    /// Another request on it works.
    Kept,
    /// It was ended.
    Closed,
    #[default]
    Either,
}

/// One behaviour that the rules allow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) seen: Vec<Seen>,
    /// Besides, a request may have begun towards the origin, if it did not end there.
    pub(crate) partial: bool,
    pub(crate) got: Vec<Got>,
    /// The connection may also end without the last answer.
    pub(crate) silent: bool,
    pub(crate) after: After,
    /// What the client gets through a tunnel.
    pub(crate) tunnelled: Option<Vec<u8>>,
}

impl Outcome {
    /// Whether requests and answers came through whole. Cutting must change nothing of that; how something bad is refused
    /// may depend on how much of it was there.
    pub(crate) fn is_whole(&self) -> bool {
        let good = |got: &Got| !matches!(got.body, Body::Cut) && got.statuses != BAD_GATEWAY;
        !self.seen.is_empty() && !self.partial && self.got.iter().all(good)
    }
}

/// Which bytes are cut in two at every position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cuts {
    #[default]
    None,
    /// The client's.
    Request,
    /// The origin's.
    Answer,
}

/// A row.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) category: &'static str,
    pub(crate) name: String,
    /// The rule, or the published attack.
    pub(crate) source: &'static str,
    pub(crate) steps: Vec<Step>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) cuts: Cuts,
}

/// Rows of one category.
#[derive(Debug)]
pub(crate) struct Table {
    category: &'static str,
    pub(crate) cases: Vec<Case>,
}

impl Table {
    pub(crate) fn new(category: &'static str) -> Table {
        Table { category, cases: Vec::new() }
    }

    /// A row that sends these bytes at once.
    pub(crate) fn row(
        &mut self,
        name: impl Into<String>,
        source: &'static str,
        bytes: impl AsRef<[u8]>,
    ) -> &mut Case {
        let case = self.steps(name, source, vec![Step::Send(bytes.as_ref().to_vec())]);
        case.cuts = Cuts::Request;
        case
    }

    /// A row with steps of its own.
    pub(crate) fn steps(
        &mut self,
        name: impl Into<String>,
        source: &'static str,
        steps: Vec<Step>,
    ) -> &mut Case {
        let at = self.cases.len();
        self.cases.push(Case {
            category: self.category,
            name: name.into(),
            source,
            steps,
            answers: Vec::new(),
            outcomes: Vec::new(),
            cuts: Cuts::None,
        });
        &mut self.cases[at]
    }

    /// A row about an answer: a plain GET, which the origin answers with these bytes. With `ends` it then ends the stream.
    pub(crate) fn answer(
        &mut self,
        name: impl Into<String>,
        source: &'static str,
        bytes: impl AsRef<[u8]>,
        ends: bool,
    ) -> &mut Case {
        let case = self.row(name, source, get("/"));
        case.cuts = Cuts::Answer;
        case.answers = vec![if ends { Answer::last(bytes) } else { Answer::bytes(bytes) }];
        case
    }
}

/// Answers by which a gateway may refuse what is no valid request.
pub(crate) const REFUSALS: &[u16] = &[400, 405, 411, 413, 414, 417, 421, 422, 431, 501, 505];
/// Answers by which a gateway tells of an origin that does not speak HTTP.
pub(crate) const BAD_GATEWAY: &[u16] = &[502, 500, 503, 504];

impl Case {
    pub(crate) fn answers(&mut self, answers: Vec<Answer>) -> &mut Case {
        self.answers = answers;
        self
    }

    pub(crate) fn uncut(&mut self) -> &mut Case {
        self.cuts = Cuts::None;
        self
    }

    pub(crate) fn outcome(&mut self, outcome: Outcome) -> &mut Case {
        self.outcomes.push(outcome);
        self
    }

    /// Refused, answered with one of these or not at all, and the connection ended.
    pub(crate) fn refused(&mut self) -> &mut Case {
        self.outcome(Outcome {
            got: vec![Got::status(REFUSALS)],
            silent: true,
            after: After::Closed,
            ..Outcome::default()
        })
    }

    /// Refused with exactly such an answer; the connection may stay.
    pub(crate) fn refused_with(&mut self, statuses: &[u16]) -> &mut Case {
        self.outcome(Outcome { got: vec![Got::status(statuses)], ..Outcome::default() })
    }

    /// Refused in the middle of its body: a part of it may have gone on, but never all.
    pub(crate) fn refused_midway(&mut self) -> &mut Case {
        self.outcome(Outcome {
            got: vec![Got::status(REFUSALS)],
            partial: true,
            silent: true,
            after: After::Closed,
            ..Outcome::default()
        })
    }

    /// Forwarded as this, answered by the origin, and the connection goes on.
    pub(crate) fn serves(&mut self, seen: Seen) -> &mut Case {
        self.serves_all(vec![seen])
    }

    /// Forwarded as these, each answered in turn, and the connection goes on.
    pub(crate) fn serves_all(&mut self, seen: Vec<Seen>) -> &mut Case {
        self.served(seen, After::Kept)
    }

    /// Forwarded as these, each answered in turn.
    pub(crate) fn served(&mut self, seen: Vec<Seen>, after: After) -> &mut Case {
        let got =
            seen.iter().map(|_| Got { statuses: vec![200], body: Body::Own, ..Got::default() }).collect();
        self.outcome(Outcome { seen, got, after, ..Outcome::default() })
    }

    /// Forwarded as a plain GET of `/` and answered so; the connection goes on.
    pub(crate) fn gives(&mut self, got: Got) -> &mut Case {
        self.given(got, After::Kept)
    }

    pub(crate) fn given(&mut self, got: Got, after: After) -> &mut Case {
        self.outcome(Outcome { seen: vec![Seen::get("/")], got: vec![got], after, ..Outcome::default() })
    }

    /// The origin's answer is not passed on; the client is told of a bad gateway. The request may have been tried twice.
    pub(crate) fn bad_gateway(&mut self) -> &mut Case {
        for tries in 1..=2 {
            self.outcome(Outcome {
                seen: vec![Seen::get("/"); tries],
                got: vec![Got::status(BAD_GATEWAY)],
                ..Outcome::default()
            });
        }
        self
    }
}

impl Seen {
    pub(crate) fn new(method: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Seen {
        Seen {
            method: method.as_ref().to_vec(),
            targets: vec![target.as_ref().to_vec()],
            framing: Some(Framing::None),
            ..Seen::default()
        }
    }

    pub(crate) fn get(target: impl AsRef<[u8]>) -> Seen {
        Seen::new("GET", target)
    }

    /// A POST to `/` with this body, framed in any way.
    pub(crate) fn post(body: impl AsRef<[u8]>) -> Seen {
        Seen { framing: None, ..Seen::new("POST", "/") }.body(body)
    }

    pub(crate) fn host(mut self, host: impl AsRef<[u8]>) -> Seen {
        self.host = Some(host.as_ref().to_vec());
        self
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Seen {
        self.body = body.as_ref().to_vec();
        self.framing = None;
        self
    }

    pub(crate) fn or_target(mut self, target: impl AsRef<[u8]>) -> Seen {
        self.targets.push(target.as_ref().to_vec());
        self
    }

    pub(crate) fn has(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Seen {
        self.has.push((name, value.as_ref().to_vec()));
        self
    }

    pub(crate) fn lacks(mut self, name: &'static str) -> Seen {
        self.lacks.push(name);
        self
    }
}

impl Got {
    pub(crate) fn status(statuses: &[u16]) -> Got {
        Got { statuses: statuses.to_vec(), ..Got::default() }
    }

    /// A 200 with this body.
    pub(crate) fn body(body: impl AsRef<[u8]>) -> Got {
        Got { statuses: vec![200], body: Body::Exact(body.as_ref().to_vec()), ..Got::default() }
    }

    /// A 200 whose body visibly breaks off.
    pub(crate) fn cut() -> Got {
        Got { statuses: vec![200], body: Body::Cut, ..Got::default() }
    }

    pub(crate) fn has(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Got {
        self.has.push((name, value.as_ref().to_vec()));
        self
    }

    pub(crate) fn lacks(mut self, name: &'static str) -> Got {
        self.lacks.push(name);
        self
    }

    pub(crate) fn interims(mut self, statuses: &[u16]) -> Got {
        self.interims = Some(statuses.to_vec());
        self
    }
}

/// A GET with the usual Host.
pub(crate) fn get(target: impl AsRef<[u8]>) -> Vec<u8> {
    request("GET", target, "", "")
}

/// A POST of `/` with these field lines (each with its CRLF) and this body.
pub(crate) fn post(fields: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Vec<u8> {
    request("POST", "/", fields, body)
}

/// A chunked POST of `/`.
pub(crate) fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

/// A GET of `/` with these field lines (each with its CRLF).
pub(crate) fn with(fields: impl AsRef<[u8]>) -> Vec<u8> {
    request("GET", "/", fields, "")
}

/// A request with the usual Host.
pub(crate) fn request(
    method: impl AsRef<[u8]>,
    target: impl AsRef<[u8]>,
    fields: impl AsRef<[u8]>,
    body: impl AsRef<[u8]>,
) -> Vec<u8> {
    let host = format!(" HTTP/1.1\r\nHost: {HOST}\r\n");
    join(&[method.as_ref(), b" ", target.as_ref(), host.as_bytes(), fields.as_ref(), b"\r\n", body.as_ref()])
}

pub(crate) fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}
