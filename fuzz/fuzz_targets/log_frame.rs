//! See `corelane_fuzz::stored`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (corelane_fuzz::stored::FRAME.body)(bytes));
