//! Work on many things, a few at a time: a disk makes many writes durable in the time of one.

use std::cell::RefCell;

use corelane_core::lane::join_all;
use corelane_core::ring::Errno;

/// Things worked on at once.
pub(super) const AT_ONCE: usize = 32;

/// Works on all items, [`AT_ONCE`] of them at a time.
///
/// # Errors
/// As [`some`].
pub(super) async fn each<T, W>(
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> W,
) -> Result<(), Errno>
where
    W: Future<Output = Result<(), Errno>>,
{
    some(items, AT_ONCE, work).await
}

/// Works on all items, so many of them at a time: when one is done, the next one begins.
///
/// # Errors
/// The first of them; what was begun is ended, and nothing more is begun.
pub(super) async fn some<T, W>(
    items: impl IntoIterator<Item = T>,
    at_once: usize,
    work: impl Fn(T) -> W,
) -> Result<(), Errno>
where
    W: Future<Output = Result<(), Errno>>,
{
    // Gone once one failed.
    let items = RefCell::new(Some(items.into_iter()));
    let workers = (0..at_once).map(|_| async {
        loop {
            let next = items.borrow_mut().as_mut().and_then(Iterator::next);
            let Some(item) = next else { return Ok(()) };
            if let Err(errno) = work(item).await {
                *items.borrow_mut() = None;
                return Err(errno);
            }
        }
    });
    join_all(workers).await.into_iter().collect()
}
