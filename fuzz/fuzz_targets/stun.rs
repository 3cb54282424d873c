//! Any datagram as one of STUN: `cargo +nightly fuzz run stun`.
#![no_main]

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| referee::stun::stun_answer(datagram));
