//! Two connections joined after a switch of protocols: bytes as they come, both ways, each end passed on by itself.
//!
//! A side that ends its direction leaves the other one open (RFC 9110 section 7.8 leaves the rest to the new protocol).

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use ringway_engine::http1::HEADROOM_BYTES;

use crate::buf::{Buffers, LARGE_BYTES};
use crate::downstream::Downstream;
use crate::io::{Reader, Writer};
use crate::pool::Upstream;

/// Carries a tunnel to its end. `early` came from the client behind its request.
pub(crate) async fn run(connection: &mut Downstream, upstream: &mut Upstream, early: Vec<u8>) {
    let core = std::rc::Rc::clone(&connection.core);
    let wait = core.limits.tunnel_idle;
    let end = early.len();
    if upstream.socket.writer.write_all(early, 0..end, wait).await.result.is_err() {
        return;
    }
    let (down, up) = (&mut connection.socket, &mut upstream.socket);
    let mut inward = pin!(copy(&mut up.reader, &mut down.writer, &core.buffers, wait));
    let mut outward = pin!(copy(&mut down.reader, &mut up.writer, &core.buffers, wait));
    let (mut inward_ended, mut outward_ended) = (false, false);
    poll_fn(|context| {
        // Broken, not ended: the other direction has nobody to talk to.
        if poll_side(inward.as_mut(), &mut inward_ended, context)
            || poll_side(outward.as_mut(), &mut outward_ended, context)
        {
            return Poll::Ready(());
        }
        if inward_ended && outward_ended { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Moves one direction on; whether it broke.
fn poll_side(
    side: Pin<&mut impl Future<Output = bool>>,
    ended: &mut bool,
    context: &mut Context<'_>,
) -> bool {
    if *ended {
        return false;
    }
    match side.poll(context) {
        Poll::Pending => false,
        Poll::Ready(whole) => {
            *ended = true;
            !whole
        }
    }
}

/// Copies one direction; whether it ended well.
async fn copy(reader: &mut Reader, writer: &mut Writer, buffers: &Buffers, wait: Duration) -> bool {
    let mut buffer = buffers.take_small();
    let mut carried = 0;
    loop {
        if !reader.is_armed() {
            reader.arm(buffer);
        }
        let read = reader.finish(wait).await;
        let end = read.buffer.len();
        match read.result {
            Ok(0) => return writer.end().await.is_ok(),
            Ok(bytes) => carried = (carried + bytes as u64).min(LARGE_BYTES as u64),
            Err(_) => return false,
        }
        let written = writer.write_all(read.buffer, HEADROOM_BYTES..end, wait).await;
        if written.result.is_err() {
            return false;
        }
        buffer = buffers.renew(written.buffer, carried >= LARGE_BYTES as u64);
    }
}
