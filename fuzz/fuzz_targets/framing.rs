//! Any bytes as a stream: `cargo +nightly fuzz run framing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| referee::message::properties::framing_properties(bytes));
