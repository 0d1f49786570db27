//! See `corelane_fuzz::wire`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (corelane_fuzz::wire::FRAME.body)(bytes));
