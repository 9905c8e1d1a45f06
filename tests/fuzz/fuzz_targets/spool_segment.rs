//! See `spool_segment` in `tests/src/fuzz.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| verona_tests::fuzz::run("spool_segment", data));
