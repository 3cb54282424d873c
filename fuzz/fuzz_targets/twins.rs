//! Any bytes, read with vector instructions and without: `cargo +nightly fuzz run twins`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| referee::message::properties::twin_properties(bytes));
