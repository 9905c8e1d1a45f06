//! See `otlp_json` in `tests/src/fuzz.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| verona_tests::fuzz::run("otlp_json", data));
