//! Bytes as a value with an index, compressed or not: refused, or read and changed without a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thunderhead::fuzzing::value(bytes));
