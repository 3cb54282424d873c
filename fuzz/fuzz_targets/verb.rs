//! Any text as the JSON of verbs: `cargo +nightly fuzz run verb`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| referee::verb::verb_json(text));
