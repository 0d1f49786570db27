//! A bell that one task waits for and any other of its thread rings.

use futures_lite::future;
use std::cell::{Cell, RefCell};
use std::task::{Poll, Waker};
use std::time::Duration;

#[derive(Default)]
pub(crate) struct Bell {
    rung: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Bell {
    pub(crate) fn ring(&self) {
        self.rung.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Until it was rung, also before this was called.
    pub(crate) async fn heard(&self) {
        future::poll_fn(|context| {
            if self.rung.take() {
                return Poll::Ready(());
            }
            self.waiting.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Until it was rung, or `time` is over.
    pub(crate) async fn heard_within(&self, time: Duration) {
        if self.rung.take() {
            return;
        }
        future::or(self.heard(), async {
            glommio::timer::sleep(time).await;
        })
        .await;
    }
}
