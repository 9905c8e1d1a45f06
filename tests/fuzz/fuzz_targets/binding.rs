//! See `binding` in `tests/src/fuzz.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| verona_tests::fuzz::run("binding", data));
