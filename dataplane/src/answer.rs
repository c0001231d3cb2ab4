//! The gateway's own answers: why there is none from a node, in words that help whoever reads them.
//!
//! The body is APISIX's (`{"error_msg": ...}`) with the reason beside it; the reason also stands in a field, so that it is seen
//! where bodies are not logged. An operator can turn both off.

use ringway_engine::http1::{NameValue, OwnResponse, encode_own_response, reason_phrase};

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

/// Sends it. With `keep` the connection may go on afterwards.
pub(crate) async fn send(connection: &mut Downstream, answer: &Answer<'_>, keep: bool) -> Fate {
    let core = std::rc::Rc::clone(&connection.core);
    let keep = keep && !core.is_closing();
    let mut out = core.buffers.take(Room::Head);
    out.clear();
    write(connection, answer, keep, &mut out);
    core.count(|counters| counters.response(answer.status));
    connection.access.answers(answer.status, answer.code);
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

fn write(connection: &Downstream, answer: &Answer<'_>, keep: bool, out: &mut Vec<u8>) {
    let hide = connection.core.options.hide_reasons;
    let message = format!("{} {}", answer.status, reason_phrase(answer.status));
    let body = match (answer.code, hide) {
        ("no_route", true) => serde_json::json!({ "error_msg": "404 Route Not Found" }),
        ("no_route", false) => {
            serde_json::json!({ "error_msg": "404 Route Not Found", "reason": answer.reason })
        }
        (_, true) => serde_json::json!({ "error_msg": message }),
        (_, false) => serde_json::json!({ "error_msg": message, "reason": answer.reason }),
    };
    let body = format!("{body}\n");
    let reason: [NameValue<'_>; 1] = [(REASON_FIELD, answer.code.as_bytes())];
    let response = OwnResponse {
        status: answer.status,
        content_type: b"application/json",
        body: body.as_bytes(),
        version: connection.head.version,
        keep_alive: keep,
        is_head: connection.head.method == ringway_engine::http1::Method::Head,
        fields: if hide { &[] } else { &reason },
        date: Some(&connection.core.date()),
        server: Some(b"ringway"),
    };
    encode_own_response(&response, out);
}
