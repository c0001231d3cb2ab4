//! HTTP/1.1 as bytes in and bytes out: heads, bodies and what a gateway writes in their place (RFC 9110, RFC 9112).
//!
//! There is no socket, no clock and no task in here. A driver hands in the bytes it has read; it gets back spans
//! into those bytes, a framing decision, and bytes to send.
//!
//! Invariants:
//! - A message is either understood in exactly one way or refused. Where the RFCs let a recipient be lenient
//!   and two recipients could then disagree about where a message ends, it is refused.
//! - Nothing is forwarded verbatim but validated names, values and payload bytes: line ends, white space, framing
//!   fields and chunk headers are always written anew, so the next hop cannot read them differently.
//! - No byte of input can panic, and the work done is linear in the bytes received, however they are cut.
//! - Vectors are cleared and used again; a connection in steady state does not allocate.

mod authority;
mod chunked;
mod encode;
mod error;
mod field;
mod framing;
mod line;
mod method;
mod relay;
mod request;
mod response;
mod span;
mod target;
mod token;
mod trailer;

pub use authority::Authority;
pub use chunked::{ChunkDecoder, ChunkEvent, ChunkLimits};
pub use encode::own::{CONTINUE, OwnResponse, encode_own_response, reason_phrase};
pub use encode::request::{Forwarded, RequestEdits, encode_request};
pub use encode::response::{ResponseEdits, encode_response};
pub use encode::{BodyHeader, NameValue};
pub use error::{BodyError, HeadError};
pub use field::{Field, FieldKind};
pub use framing::{BodyFraming, SinkFraming};
pub use line::HeadLimits;
pub use method::Method;
pub use relay::{BodyLimits, HEADROOM_BYTES, Relay, Relayed, TAILROOM_BYTES};
pub use request::{RequestHead, Upgrade};
pub use response::ResponseHead;
pub use span::{Parse, Span, Version};
pub use target::{Form, Scheme, Target};
pub use token::{is_token, list_members};

#[cfg(test)]
mod tests;
