//! Bytes as a page: refused, or searched and read without a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thunderhead::fuzzing::page(bytes));
