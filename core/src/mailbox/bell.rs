//! One wake for many letters, and none lost.
//!
//! A sender puts its letter down and then rings; only the ring that finds the bell silent has to
//! wake anybody. The receiver silences the bell *before* it empties its box, so a letter that comes
//! too late to be found finds the bell silent and wakes again.

use std::sync::atomic::{AtomicBool, Ordering};

/// What a bell is made of. The tests put one in that explores every order of threads.
pub trait Flag: Default {
    fn raise(&self) -> bool;
    fn lower(&self);
}

impl Flag for AtomicBool {
    fn raise(&self) -> bool {
        self.swap(true, Ordering::SeqCst)
    }

    fn lower(&self) {
        self.store(false, Ordering::SeqCst);
    }
}

/// Whether a wake is on its way to a lane.
#[derive(Debug, Default)]
pub struct Bell<F: Flag = AtomicBool>(F);

impl<F: Flag> Bell<F> {
    /// Call after putting a letter down. Says whether the receiver must be woken.
    #[must_use]
    pub fn ring(&self) -> bool {
        !self.0.raise()
    }

    /// Call when woken, before looking into the box.
    pub fn heard(&self) {
        self.0.lower();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shuttle::sync::atomic::AtomicBool as Explored;
    use shuttle::sync::{Arc, Condvar, Mutex};
    use shuttle::thread;

    impl Flag for Explored {
        fn raise(&self) -> bool {
            self.swap(true, Ordering::SeqCst)
        }

        fn lower(&self) {
            self.store(false, Ordering::SeqCst);
        }
    }

    const SENDERS: usize = 2;
    const LETTERS: usize = 2;

    #[derive(Default)]
    struct Shared {
        bell: Bell<Explored>,
        letters: Mutex<Vec<usize>>,
        /// Wakes on their way, as the kernel keeps them.
        wakes: Mutex<usize>,
        woken: Condvar,
    }

    /// Two senders, one receiver that sleeps until woken. Ends only if no letter is lost.
    fn deliver(silence_first: bool) {
        let shared = Arc::new(Shared::default());
        let senders = (0..SENDERS).map(|sender| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for letter in 0..LETTERS {
                    shared.letters.lock().expect("unpoisoned").push(sender * LETTERS + letter);
                    if shared.bell.ring() {
                        *shared.wakes.lock().expect("unpoisoned") += 1;
                        shared.woken.notify_one();
                    }
                }
            })
        });
        let senders: Vec<_> = senders.collect();
        let mut got = Vec::new();
        while got.len() < SENDERS * LETTERS {
            let mut wakes = shared.wakes.lock().expect("unpoisoned");
            while *wakes == 0 {
                wakes = shared.woken.wait(wakes).expect("unpoisoned");
            }
            *wakes -= 1;
            drop(wakes);
            if silence_first {
                shared.bell.heard();
            }
            got.append(&mut shared.letters.lock().expect("unpoisoned"));
            if !silence_first {
                shared.bell.heard();
            }
        }
        for it in senders {
            it.join().expect("senders do not fail");
        }
        got.sort_unstable();
        assert_eq!(got, (0..SENDERS * LETTERS).collect::<Vec<_>>());
    }

    #[test]
    fn no_letter_is_lost_in_any_order_of_the_threads() {
        shuttle::check_random(|| deliver(true), 5_000);
        shuttle::check_pct(|| deliver(true), 2_000, 3);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn silencing_the_bell_too_late_loses_letters_and_the_search_finds_it() {
        shuttle::check_random(|| deliver(false), 5_000);
    }
}
