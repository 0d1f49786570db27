//! Ends the process when something under a simulation asks the machine for time or chance.
//!
//! The C library's functions are defined here again; the linker prefers ours, so that the standard
//! library and every dependency come by. Only threads that simulate are watched: the test harness
//! may look at its watch.
#![expect(unsafe_code, reason = "functions of the C library are replaced")]

use std::sync::atomic::{AtomicI32, Ordering};

use libc::{c_int, c_long, c_uint, c_void, clockid_t, size_t, ssize_t, time_t, timespec, timeval};

/// Threads that simulate right now; zero is a free place.
static WATCHED: [AtomicI32; 64] = [const { AtomicI32::new(0) }; 64];

/// Watches this thread while `work` runs.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> T {
    struct Place(&'static AtomicI32);
    impl Drop for Place {
        fn drop(&mut self) {
            self.0.store(0, Ordering::SeqCst);
        }
    }
    let me = thread();
    let take =
        |it: &&AtomicI32| it.compare_exchange(0, me, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    let _place = Place(WATCHED.iter().find(take).expect("fewer than 64 threads simulate"));
    work()
}

fn thread() -> i32 {
    // SAFETY: this call takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

fn asked_for(what: &str) {
    let watched = WATCHED.iter().any(|it| it.load(Ordering::SeqCst) != 0);
    if watched && WATCHED.iter().any(|it| it.load(Ordering::SeqCst) == thread()) {
        let told = format!("a simulation asked the machine for {what}\n");
        // SAFETY: writes a live buffer of this length to an open descriptor.
        unsafe { libc::write(2, told.as_ptr().cast::<c_void>(), told.len()) };
        std::process::abort();
    }
}

/// # Safety
/// As the function of this name in the C library.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn clock_gettime(clock: clockid_t, out: *mut timespec) -> c_int {
    asked_for("the time (clock_gettime)");
    // SAFETY: the kernel's own contract, passed on.
    unsafe { status(libc::syscall(libc::SYS_clock_gettime, clock, out)) }
}

/// # Safety
/// As the function of this name in the C library.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn gettimeofday(out: *mut timeval, zone: *mut c_void) -> c_int {
    asked_for("the time (gettimeofday)");
    // SAFETY: the kernel's own contract, passed on.
    unsafe { status(libc::syscall(libc::SYS_gettimeofday, out, zone)) }
}

/// # Safety
/// As the function of this name in the C library.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn time(out: *mut time_t) -> time_t {
    asked_for("the time (time)");
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` lives through the call; `out` is null or the caller's.
    unsafe {
        libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_REALTIME, &raw mut now);
        if !out.is_null() {
            *out = now.tv_sec;
        }
    }
    now.tv_sec
}

/// # Safety
/// As the function of this name in the C library.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getrandom(
    out: *mut c_void,
    bytes: size_t,
    flags: c_uint,
) -> ssize_t {
    asked_for("chance (getrandom)");
    // SAFETY: the kernel's own contract, passed on.
    let count = unsafe { libc::syscall(libc::SYS_getrandom, out, bytes, flags) };
    ssize_t::try_from(count).expect("a count")
}

fn status(result: c_long) -> c_int {
    c_int::try_from(result).expect("zero or minus one")
}
