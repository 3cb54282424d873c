//! Any bytes as one datagram: `cargo +nightly fuzz run parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| referee::message::properties::parse_properties(bytes));
