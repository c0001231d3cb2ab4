//! Two connections joined after a switch of protocols: bytes as they come, both ways, each end passed on by itself.
//!
//! A side that ends its direction leaves the other one open (RFC 9110 section 7.8 leaves the rest to the new protocol). A
//! side that breaks, breaks the other one too, so that nobody takes what it got for whole.
//!
//! Invariant: a tunnel is idle when both of its directions are; bytes in one of them are a sign of life of both.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ringway_engine::http1::HEADROOM_BYTES;

use crate::buf::{Buffers, LARGE_BYTES, Room};
use crate::downstream::{Downstream, Fate};
use crate::io::{Clock, Reader, Writer};
use crate::pool::Upstream;

/// How one direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By itself, and the other side was told.
    Clean,
    /// Nobody said anything for too long.
    Idle,
    Broken,
}

/// Carries a tunnel to its end. `early` came from the client behind its request.
pub(crate) async fn run(connection: &mut Downstream, upstream: &mut Upstream, early: Vec<u8>) -> Fate {
    let core = Rc::clone(&connection.core);
    let life =
        Life { clocks: [connection.socket.clock(), upstream.socket.clock()], wait: core.limits.tunnel_idle };
    let end = {
        let (down, up) = (&mut connection.socket, &mut upstream.socket);
        let mut inward = pin!(copy(&mut up.reader, &mut down.writer, &core.buffers, &life, Vec::new()));
        let mut outward = pin!(copy(&mut down.reader, &mut up.writer, &core.buffers, &life, early));
        let (mut inward_ended, mut outward_ended) = (false, false);
        poll_fn(|context| {
            let unclean = poll_side(inward.as_mut(), &mut inward_ended, context)
                .or_else(|| poll_side(outward.as_mut(), &mut outward_ended, context));
            match unclean {
                // The other direction has nobody to talk to.
                Some(end) => Poll::Ready(end),
                None if inward_ended && outward_ended => Poll::Ready(End::Clean),
                None => Poll::Pending,
            }
        })
        .await
    };
    if end == End::Broken {
        // Fails only when it is gone already.
        let _ = upstream.socket.reset();
        return Fate::Reset;
    }
    Fate::Close
}

/// The deadlines of both sides.
struct Life {
    clocks: [Clock; 2],
    wait: Duration,
}

impl Life {
    fn sign(&self) {
        for clock in &self.clocks {
            clock.extend(self.wait);
        }
    }
}

/// Moves one direction on; how it ended, when not cleanly.
fn poll_side(
    side: Pin<&mut impl Future<Output = End>>,
    ended: &mut bool,
    context: &mut Context<'_>,
) -> Option<End> {
    if *ended {
        return None;
    }
    match side.poll(context) {
        Poll::Pending => None,
        Poll::Ready(end) => {
            *ended = true;
            (end != End::Clean).then_some(end)
        }
    }
}

/// Copies one direction, first what came of it before.
async fn copy(
    reader: &mut Reader,
    writer: &mut Writer,
    buffers: &Buffers,
    life: &Life,
    early: Vec<u8>,
) -> End {
    let end = early.len();
    if let Err(error) = writer.write_all(early, 0..end, life.wait).await.result {
        return broken(&error);
    }
    let mut buffer = buffers.take(Room::Small);
    let mut carried = 0;
    loop {
        if !reader.is_armed() {
            reader.arm(buffer);
        }
        let read = reader.finish(life.wait).await;
        let end = read.buffer.len();
        match read.result {
            Ok(0) => {
                buffers.give(read.buffer);
                return if writer.end().is_ok() { End::Clean } else { End::Broken };
            }
            Ok(bytes) => carried = (carried + bytes as u64).min(LARGE_BYTES as u64),
            Err(error) => return broken(&error),
        }
        life.sign();
        let written = writer.write_all(read.buffer, HEADROOM_BYTES..end, life.wait).await;
        if let Err(error) = written.result {
            return broken(&error);
        }
        life.sign();
        let room = if carried >= LARGE_BYTES as u64 { Room::Large } else { Room::Small };
        buffer = buffers.renew(written.buffer, room);
    }
}

fn broken(error: &io::Error) -> End {
    if error.kind() == io::ErrorKind::TimedOut { End::Idle } else { End::Broken }
}
