//! Everything that touches the operating system: sockets, threads, clocks.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the layer that owns sockets, threads and clocks; the core below it does not"
)]

pub mod control;
pub mod deliver;
