//! One glommio executor, pinned, for as long as one future takes.

use glommio::{GlommioError, LocalExecutorBuilder, Placement};
use std::future::Future;
use std::io;

pub(crate) fn run<F, T>(core: usize, start: impl FnOnce() -> F + Send + 'static) -> io::Result<T>
where
    F: Future<Output = io::Result<T>> + 'static,
    T: Send + 'static,
{
    let plain = |it: GlommioError<()>| io::Error::other(format!("glommio: {it}"));
    let executor = LocalExecutorBuilder::new(Placement::Fixed(core)).spawn(start);
    executor.map_err(plain)?.join().map_err(plain)?
}
