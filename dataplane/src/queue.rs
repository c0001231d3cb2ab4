//! Requests of one core that wait for room at a full upstream, first come, first served.
//!
//! Whoever makes room calls the first one, which tries again; when another request was faster it waits again, in front. One that finds room calls
//! the next, as there may be more: where a change has made it, nobody knows for how many. How many may wait is the roster's to say, for how
//! long the caller's.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Queue(RefCell<VecDeque<Rc<Waiter>>>);

#[derive(Debug, Default)]
struct Waiter {
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Queue {
    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// There is room: calls who has waited longest.
    pub(crate) fn call(&self) {
        if let Some(first) = self.0.borrow_mut().pop_front() {
            first.called.set(true);
            if let Some(waker) = first.waker.take() {
                waker.wake();
            }
        }
    }

    /// Waits to be called, at most `wait`, behind all others or in front of them. Tells whether it was.
    pub(crate) async fn wait(&self, wait: Duration, in_front: bool) -> bool {
        let waiter = Rc::new(Waiter::default());
        if in_front {
            self.0.borrow_mut().push_front(Rc::clone(&waiter));
        } else {
            self.0.borrow_mut().push_back(Rc::clone(&waiter));
        }
        let _place = Place { queue: self, waiter: &waiter };
        let mut time = pin!(monoio::time::sleep(wait));
        poll_fn(|context| {
            if waiter.called.get() {
                return Poll::Ready(true);
            }
            *waiter.waker.borrow_mut() = Some(context.waker().clone());
            time.as_mut().poll(context).map(|()| false)
        })
        .await
    }
}

/// Leaves the queue when its request does.
struct Place<'q> {
    queue: &'q Queue,
    waiter: &'q Rc<Waiter>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.0.borrow_mut().retain(|waiter| !Rc::ptr_eq(waiter, self.waiter));
    }
}
