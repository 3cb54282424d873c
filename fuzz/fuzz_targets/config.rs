//! Any text as a configuration file: `cargo +nightly fuzz run config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| referee::config::parse::config_text(text));
