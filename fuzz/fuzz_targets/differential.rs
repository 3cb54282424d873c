//! Any bytes, read by another parser too: `cargo +nightly fuzz run differential`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| referee_fuzz::differential::differential(bytes));
