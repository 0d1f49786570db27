//! The simulated ring: one lane's door into its [kernel](super::kernel). It never sleeps; when there is
//! nothing to give, the world moves on to whoever is next.

use std::cell::RefCell;
use std::rc::Rc;

use super::kernel::{Kernel, LaneKey};
use crate::buf::Pool;
use crate::ids::LaneId;
use crate::ring::{Completion, Op, Ring, Ticket, Wait};
use crate::time::{Nanos, WallMillis};

/// One lane's door. Once its process is gone it takes nothing and gives nothing.
pub(super) struct SimRing {
    pub(super) kernel: Rc<RefCell<Kernel>>,
    pub(super) key: LaneKey,
    pub(super) pool: Pool,
}

impl Ring for SimRing {
    fn submit(&mut self, op: Op) -> Result<Ticket, Op> {
        self.kernel.borrow_mut().submit(self.key, op)
    }

    fn cancel(&mut self, ticket: Ticket) {
        self.kernel.borrow_mut().cancel(self.key, ticket);
    }

    fn turn(&mut self, _: Wait, completed: &mut Vec<Completion>) {
        self.kernel.borrow_mut().collect(self.key, completed);
    }

    fn now(&self) -> Nanos {
        self.kernel.borrow().local_now(self.key)
    }

    fn wall(&self) -> WallMillis {
        self.kernel.borrow().wall(self.key)
    }

    fn random(&mut self) -> u64 {
        self.kernel.borrow_mut().random(self.key)
    }

    fn lane(&self) -> LaneId {
        self.key.lane
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn polled(&mut self) {
        self.kernel.borrow_mut().polled(self.key);
    }

    fn describe(&self) -> Vec<String> {
        vec![format!("simulated ring, seed {}", self.kernel.borrow().seed())]
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        self.kernel.borrow().lane_counts(self.key)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::task::Poll;

    use crate::buf::Buf;
    use crate::lane::Lane;
    use crate::limits::BLOCK_BYTES;
    use crate::ring::sim::{Faults, World};
    use crate::ring::{Access, Op, Sync};
    use crate::time::Nanos;

    /// A write on its way, and the buffer it shares.
    async fn start_write(lane: &Lane) -> (impl Future<Output = ()> + use<>, Buf) {
        let access = Access { write: true, create: true, ..Access::default() };
        let (file, _) = lane.open("/file", access).await.expect("opened");
        let mut buf = lane.pool().get(BLOCK_BYTES).expect("in budget");
        buf.pad_to(BLOCK_BYTES);
        let op = Op::Write { file, at: 0, data: buf.slice(..), sync: Sync::Data };
        let mut write = Box::pin(lane.op(op));
        poll_fn(|context| {
            assert!(write.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        (async move { drop(write.await) }, buf)
    }

    fn run<F: Future<Output = ()> + 'static>(program: impl Fn(Lane) -> F) {
        let mut world = World::new(1, Faults::none());
        let node = world.node(1);
        world.start(node, program);
        world.run_to(Nanos::secs(1), || false);
    }

    #[test]
    #[should_panic(expected = "a write changed while the kernel owned it")]
    fn memory_that_changes_while_the_kernel_owns_it_is_caught() {
        run(|lane| async move {
            let (write, mut buf) = start_write(&lane).await;
            buf.break_rule();
            write.await;
        });
    }

    #[test]
    fn memory_stays_away_from_its_pool_while_the_kernel_owns_it() {
        run(|lane| async move {
            let lent = lane.pool().stats().lent_bytes;
            let (write, mut buf) = start_write(&lane).await;
            assert!(!buf.clear() && buf.filled_mut().is_none(), "the kernel reads it");
            drop((write, buf));
            assert_eq!(lane.pool().stats().lent_bytes, lent + BLOCK_BYTES, "nobody else has it");
            lane.sleep(Nanos::millis(100)).await;
            assert_eq!(lane.pool().stats().lent_bytes, lent, "it came home with the completion");
        });
    }
}
