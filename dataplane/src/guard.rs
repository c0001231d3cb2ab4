//! A panic in one connection ends that connection and nothing else.
//!
//! monoio lets a task's panic end its core's thread; so each connection's future is polled inside `catch_unwind`.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

/// Runs a future; `None` when it panicked. What it owned is dropped, which closes its sockets. Boxed by its caller, lest
/// the task hold room for it twice.
pub(crate) fn catch<F: Future>(mut future: Pin<Box<F>>) -> impl Future<Output = Option<F::Output>> {
    poll_fn(move |context| {
        // A connection shares only cells and counters with others, none of which is left half changed across a call that can panic.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
            Err(_) => Poll::Ready(None),
        }
    })
}
