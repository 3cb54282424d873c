//! How each parser is asked for the fields. Each reads as much of them as it has functions for, by the shortest way
//! that its documentation shows.

pub mod ezk;
pub mod referee;
pub mod rsipstack;

/// The message was not taken, or a field of it was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;
