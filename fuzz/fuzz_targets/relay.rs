//! Any bytes as a stream whose messages are relayed: `cargo +nightly fuzz run relay`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| referee::message::properties::relay_properties(bytes));
