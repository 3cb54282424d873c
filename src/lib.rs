//! referee: a SIP edge proxy that transfers live calls.

#![deny(unsafe_code)]
#![warn(missing_debug_implementations, clippy::iter_over_hash_type)]

pub mod buffer;
pub mod call;
pub mod command;
pub mod command_line;
pub mod config;
#[cfg(feature = "io")]
pub mod demo;
pub mod destination;
pub mod identifiers;
#[cfg(feature = "io")]
pub mod io;
pub mod message;
pub mod next_hop;
pub mod proxy;
pub mod sequence;
pub mod shard;
#[cfg(feature = "sim")]
pub mod sim;
pub mod spelling;
pub mod timer;
pub mod transaction;
pub mod transfer;
pub mod transport;
pub mod traversal;
pub mod verb;
pub mod webhook;
