//! What leaves a shard for the bytes that came in: datagrams, and streams whole, byte by byte and coalesced. What leaves is
//! read by a reader of its own ([`lines`]), so that no misreading of the parser hides itself.

mod dialog;
mod fate;
mod fields;
mod format;
mod generated;
mod lines;
mod probes;
mod setting;
mod torture;
mod transfer;
mod values;
