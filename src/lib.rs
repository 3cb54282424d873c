//! referee: a SIP edge proxy that transfers live calls.

#![deny(unsafe_code)]
#![warn(missing_debug_implementations, clippy::iter_over_hash_type)]

pub mod message;
pub mod timer;
