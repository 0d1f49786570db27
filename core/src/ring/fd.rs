//! An open file or socket: a number somebody must close, exactly once, after its last operation.

use std::fmt;
use std::sync::Arc;

use crossbeam_queue::SegQueue;

/// A shared descriptor. Operations in flight hold a clone, so it is closed only after them.
#[derive(Clone)]
pub struct Fd(Arc<Inner>);

struct Inner {
    number: i32,
    closing: Closing,
}

/// Where descriptors that nobody holds any more wait for their ring to close them.
/// At most as many wait as were open, so the bound is the limit on open files.
#[derive(Clone, Default)]
pub struct Closing(Arc<SegQueue<i32>>);

impl Closing {
    /// The next descriptor to close.
    #[must_use]
    pub fn next(&self) -> Option<i32> {
        self.0.pop()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Fd {
    /// Takes over `number`; the last clone to go hands it to `closing`.
    #[must_use]
    pub fn new(number: i32, closing: &Closing) -> Self {
        assert!(0 <= number, "a descriptor is not negative: {number}");
        Self(Arc::new(Inner { number, closing: closing.clone() }))
    }

    /// The number the ring knows it by.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.0.number
    }

    /// Whether nobody else holds it, not even an operation in flight.
    #[must_use]
    pub fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.closing.0.push(self.number);
    }
}

impl PartialEq for Fd {
    fn eq(&self, other: &Self) -> bool {
        self.0.number == other.0.number
    }
}

impl fmt::Debug for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fd({})", self.0.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_waits_for_its_last_holder_and_is_closed_once() {
        let closing = Closing::default();
        let fd = Fd::new(7, &closing);
        let in_flight = fd.clone();
        drop(fd);
        assert!(closing.is_empty());
        assert!(in_flight.is_last());
        drop(in_flight);
        assert_eq!((closing.next(), closing.next()), (Some(7), None));
    }
}
