//! The gateway's own answers: why there is none from a node, in words that help whoever reads them.
//!
//! The body is APISIX's (`{"error_msg": ...}`) with the reason beside it; the reason also stands in a field, so that it is seen
//! where bodies are not logged. An operator can turn both off.

use ringway_engine::http1::{NameValue, OwnResponse, encode_own_response, reason_phrase};
use smallvec::SmallVec;

use crate::buf::Room;
use crate::downstream::{Downstream, Fate};

/// The field that names the reason.
const REASON_FIELD: &[u8] = b"Ringway-Reason";

/// An answer of the gateway's own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    /// A stable word for machines.
    pub(crate) code: &'static str,
    /// A sentence for people.
    pub(crate) reason: &'a str,
}

/// Sends it, or the plugins' own answer where there is none. With `keep` the connection may go on afterwards.
pub(crate) async fn send(connection: &mut Downstream, answer: Option<&Answer<'_>>, keep: bool) -> Fate {
    let core = std::rc::Rc::clone(&connection.core);
    let keep = keep && !core.is_closing();
    let mut out = core.buffers.take_empty(Room::Head);
    let status = write(connection, answer, keep, &mut out);
    core.count(|counters| counters.response(status));
    connection.access.answers(status, answer.map_or("plugin", |answer| answer.code));
    let end = out.len();
    let writer = &mut connection.socket.writer;
    let wait = core.limits.response_send;
    let written = if keep {
        writer.write_all(out, 0..end, wait).await
    } else {
        writer.write_last(out, 0..end, wait).await
    };
    core.buffers.give(written.buffer);
    match written.result {
        Ok(()) if keep => Fate::Keep,
        Ok(()) => Fate::Linger,
        Err(_) => Fate::Close,
    }
}

/// Gives the status that was written.
fn write(connection: &Downstream, answer: Option<&Answer<'_>>, keep: bool, out: &mut Vec<u8>) -> u16 {
    let hide = connection.core.options.hide_reasons;
    let changes = connection.own.as_deref();
    let lists = changes.map(|changes| changes.edits.lists()).unwrap_or_default();
    let mut fields: SmallVec<[NameValue<'_>; 8]> = SmallVec::new();
    let (text, filtered);
    let (mut status, mut content_type, mut body): (u16, &[u8], &[u8]) = match (answer, &connection.course) {
        (None, Some(course)) => (course.reply.status, course.reply.content_type, &course.reply.body),
        (None, None) => (500, b"", b""),
        (Some(answer), _) => {
            text = json_body(answer, hide);
            if !hide {
                fields.push((REASON_FIELD, answer.code.as_bytes()));
            }
            (answer.status, b"application/json", text.as_bytes())
        }
    };
    if let Some(changes) = changes {
        status = changes.status.unwrap_or(status);
        body = changes.body.as_deref().unwrap_or(body);
        if let Some(made) = changes.filtered(body) {
            filtered = made;
            body = &filtered;
        }
    }
    let is_changed = |name: &[u8]| {
        lists.set.iter().any(|(set, _)| set.eq_ignore_ascii_case(name))
            || lists.remove.iter().any(|removed| removed.eq_ignore_ascii_case(name))
    };
    fields.retain(|(name, _)| !is_changed(name));
    fields.extend(lists.set.iter().chain(&lists.add).copied());
    if is_changed(b"Content-Type") {
        content_type = b"";
    }
    let date = connection.core.date();
    let response = OwnResponse {
        status,
        content_type,
        body,
        version: connection.head.version,
        keep_alive: keep,
        is_head: connection.head.method == ringway_engine::http1::Method::Head,
        fields: &fields,
        date: Some(&date).filter(|_| !is_changed(b"Date")).map(|date| &date[..]),
        server: Some(&b"ringway"[..]).filter(|_| !is_changed(b"Server")),
    };
    encode_own_response(&response, out);
    status
}

fn json_body(answer: &Answer<'_>, hide: bool) -> String {
    let message = format!("{} {}", answer.status, reason_phrase(answer.status));
    let body = match (answer.code, hide) {
        // Clients of APISIX compare it.
        ("no_route", _) => serde_json::json!({ "error_msg": "404 Route Not Found" }),
        (_, true) => serde_json::json!({ "error_msg": message }),
        (_, false) => serde_json::json!({ "error_msg": message, "reason": answer.reason }),
    };
    format!("{body}\n")
}
