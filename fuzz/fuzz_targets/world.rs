//! Any bytes as the choices of a whole world, which must keep the rules and come to rest: `cargo +nightly fuzz run world`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    referee::sim::drawn::of_bytes(bytes);
});
