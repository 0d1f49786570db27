//! Signals as values: blocked in every thread, taken by one that waits for them.
#![expect(unsafe_code, reason = "signal masks are set by system calls")]

use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::thread::JoinHandle;

use crate::ring::Errno;
use crate::ring::real::now;
use crate::time::Nanos;

/// What the process is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: end in good order.
    Terminate,
    /// SIGINT: the same, from a terminal.
    Interrupt,
    /// SIGHUP: the same, when the terminal is gone.
    HangUp,
    /// SIGUSR1: say how you are.
    Report,
}

const SIGNALS: [(libc::c_int, Signal); 4] = [
    (libc::SIGTERM, Signal::Terminate),
    (libc::SIGINT, Signal::Interrupt),
    (libc::SIGHUP, Signal::HangUp),
    (libc::SIGUSR1, Signal::Report),
];

/// The signals we take, blocked in this thread and in those it starts from now on.
pub struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Call it before any other thread is started: threads inherit what is blocked.
    ///
    /// # Errors
    /// When the kernel refuses the mask.
    pub fn block() -> Result<Self, Errno> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the call makes the set empty, and so whole.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: made whole by the call above.
        let mut set = unsafe { set.assume_init() };
        for (number, signal) in SIGNALS {
            // Somebody started us so that we outlive the terminal.
            if signal == Signal::HangUp && is_ignored(number) {
                continue;
            }
            // SAFETY: the set lives through the call and the signals exist.
            unsafe { libc::sigaddset(&raw mut set, number) };
        }
        let old = std::ptr::null_mut();
        // SAFETY: the set lives through the call; the old mask is not asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, old) } {
            0 => Ok(Self { set }),
            errno => Err(Errno(errno)),
        }
    }

    /// Waits for the next signal.
    ///
    /// # Errors
    /// When the kernel has no such wait.
    pub fn next(&self) -> Result<Signal, Errno> {
        let mut number = 0;
        // SAFETY: both pointers live through the call.
        let errno = unsafe { libc::sigwait(&raw const self.set, &raw mut number) };
        let taken = SIGNALS.iter().find(|it| it.0 == number).map(|it| it.1);
        if errno == 0 { taken.ok_or(Errno::INVAL) } else { Err(Errno(errno)) }
    }

    /// A thread that gives each signal, and when it came, to `take` until it has enough. Ending the process ends it.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn watch(
        self,
        mut take: impl FnMut(Signal, Nanos) -> ControlFlow<()> + Send + 'static,
    ) -> Result<JoinHandle<Result<(), Errno>>, Errno> {
        let body = move || {
            while take(self.next()?, now()).is_continue() {}
            Ok(())
        };
        let spawned = std::thread::Builder::new().name("signals".to_owned()).spawn(body);
        spawned.map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EAGAIN)))
    }
}

/// Whether the process was started with this signal ignored.
fn is_ignored(number: libc::c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: nothing is changed, and what is set now is written to the memory given for it.
    let done = unsafe { libc::sigaction(number, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: the call above made it whole, if it says that it was done.
    done == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_arrives_as_a_value() {
        // Sent to this one thread, so that no other test sees it.
        let signals = Signals::block().expect("a mask");
        // SAFETY: the thread is this one; the signal is blocked here and waits to be taken.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1) };
        assert_eq!(signals.next(), Ok(Signal::Report));
    }
}
