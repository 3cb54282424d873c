//! Everything that touches the operating system: threads, sockets, the clock, randomness, name lookups.
//!
//! The core is a pure machine; here one thread per shard drives it. A [`worker`] polls its sockets, feeds what arrived to
//! its shard, carries out what the shard asks for, and sleeps until the shard's next deadline.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the layer that owns clock, sockets and threads; the ban is meant for the core"
)]

pub mod clock;
pub mod control;
pub mod counters;
pub mod deliver;
pub mod handoff;
pub mod intake;
pub mod resolve;
pub mod tcp;
pub mod token;
pub mod udp;
pub mod worker;
