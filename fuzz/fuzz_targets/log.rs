//! Bytes as a chunk of the commit log: refused, or replayed without a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thunderhead::fuzzing::log(bytes));
