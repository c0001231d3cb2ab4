//! A look into a request's body before it goes anywhere, where a condition asks for it.
//!
//! The body is read as far as it may be looked into, judged and framed as it would be on its way (`body.rs`), and held until it goes out
//! with the head. So nodes, retries, copies and counts cannot tell that somebody looked. A client that waits for leave to send it
//! gets that from here. A body that is larger than the limit is held up to there and its rest streams; nobody sees it, as if there were none.
//!
//! Invariants: a request that no condition asks for comes here never; every wait has the deadline that a body's next bytes have anywhere; what
//! all requests of a core hold together is bounded.

use std::rc::Rc;

use ringway_engine::content::{Content, ContentKind};
use ringway_engine::exchange::Expectation;
use ringway_engine::facts::Known;
use ringway_engine::http1::{BodyError, BodyFraming, CONTINUE};

use crate::answer::{self, Answer};
use crate::body::BodyStart;
use crate::core::Core;
use crate::downstream::{Downstream, Fate};

/// What was seen, for as long as its request lasts.
#[derive(Debug)]
pub(crate) struct Looked {
    /// What of the body was read, until it goes out.
    pub(crate) start: Option<BodyStart>,
    /// `None`: it is too large, or not what it says.
    content: Option<Content>,
    /// Counts its bytes.
    _held: Held,
}

/// Why a request goes no further.
#[derive(Debug)]
pub(crate) enum Missed {
    /// The client broke off.
    Gone,
    /// No bytes of the body came in time.
    Slow,
    /// It is framed wrongly.
    Bad(BodyError),
    /// This core holds as many bytes as it may.
    Full,
}

/// Bytes that one request makes its core hold.
#[derive(Debug)]
pub(crate) struct Held {
    core: Rc<Core>,
    bytes: usize,
}

impl Held {
    /// Holds so many more. `false`: the core holds as many as it may.
    pub(crate) fn add(&mut self, bytes: usize) -> bool {
        let all = self.core.looked_bytes.get().saturating_add(bytes);
        if all > self.core.limits.looked_bodies_bytes_max {
            return false;
        }
        self.hold(all);
        self.bytes = self.bytes.saturating_add(bytes);
        true
    }

    fn hold(&self, all: usize) {
        self.core.looked_bytes.set(all);
        self.core.count(|counters| counters.looked_bytes.set(all as u64));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.hold(self.core.looked_bytes.get().saturating_sub(self.bytes));
    }
}

/// What conditions may see of it.
pub(crate) fn known(looked: Option<&Looked>) -> Known<'_> {
    looked.and_then(|looked| looked.content.as_ref()).map_or(Known::Nothing, Known::Read)
}

/// Looks into the body of the present request, unless that has been done or cannot be: there is none, it is of no kind that can be read, or it says
/// itself that it is too large. Tells whether there is more to be seen than before.
pub(crate) async fn look(connection: &mut Downstream) -> Result<bool, Missed> {
    let core = Rc::clone(&connection.core);
    let Some(content_type) = content_type(connection).filter(|_| connection.looked.is_none()) else {
        return Ok(false);
    };
    let bytes_max = core.limits.looked_body_bytes_max;
    if matches!(connection.exchange.request.framing(), BodyFraming::Length(length) if length > bytes_max) {
        core.count(|counters| counters.bodies_not_looked_into.up());
        return Ok(false);
    }
    if connection.exchange.request.expectation() == Expectation::Waiting {
        let writer = &mut connection.socket.writer;
        let wait = core.limits.response_send;
        let written = writer.write_all(CONTINUE.to_vec(), 0..CONTINUE.len(), wait).await;
        written.result.map_err(|_| Missed::Gone)?;
        connection.exchange.request.release();
    }
    let mut held = Held { core: Rc::clone(&core), bytes: 0 };
    let (start, payload) = BodyStart::gather_all(connection, bytes_max, &mut held).await?;
    connection.access.waited();
    let content = match &payload {
        Some(payload) => {
            core.count(|counters| counters.bodies_looked_into.up());
            Content::read(&content_type, payload.of(&start))
        }
        None => {
            core.count(|counters| counters.bodies_not_looked_into.up());
            None
        }
    };
    let sees = content.is_some();
    connection.looked = Some(Box::new(Looked { start: Some(start), content, _held: held }));
    Ok(sees)
}

/// Answers a request whose body did not come as it should.
pub(crate) async fn refuse(connection: &mut Downstream, missed: Missed) -> Fate {
    let core = Rc::clone(&connection.core);
    let reason;
    let (status, code, reason) = match missed {
        Missed::Gone => {
            core.count(|counters| counters.client_gone.up());
            return Fate::Close;
        }
        Missed::Slow => (408, "bad_body", "the request's body did not come in time"),
        Missed::Bad(error) => {
            core.count(|counters| counters.refused_heads.up());
            reason = error.to_string();
            (error.status(), "bad_body", &*reason)
        }
        Missed::Full => (
            503,
            "bodies_full",
            "as many bytes of bodies as may be are held for conditions on them (post_arg)",
        ),
    };
    answer::send(connection, Some(&Answer { status, code, reason }), false).await
}

/// The Content-Type of a body that can be looked into.
fn content_type(connection: &Downstream) -> Option<Vec<u8>> {
    if connection.exchange.request.framing().is_empty() {
        return None;
    }
    let bytes = connection.buffer.get(connection.at..)?;
    let mut fields = connection.head.fields.iter();
    let field = fields.find(|field| field.name.of(bytes).eq_ignore_ascii_case(b"content-type"))?;
    let value = field.value.of(bytes);
    ContentKind::of(value).map(|_| value.to_vec())
}
