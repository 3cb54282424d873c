//! Which arrows of its state machines a shard has taken: for the simulator, whose seeds together must take all of them.
//!
//! A machine says each arrow where it takes it, so that those which change no state (a repeat, a message absorbed) count as
//! well; what can be seen from outside tells them apart from nothing. Without the feature `sim` there is nothing to hold and
//! nothing is done: the closure that names the arrow is never called.

use std::fmt;

/// One arrow of a state machine, in the words of its drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrow {
    /// `INVITE client`, `transfer` …
    pub machine: &'static str,
    pub from: &'static str,
    /// What happened: a message, a timer, a failure.
    pub on: &'static str,
    pub to: &'static str,
}

impl fmt::Display for Arrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Arrow { machine, from, on, to } = self;
        write!(f, "{machine} | {from} | {on} | {to}")
    }
}

/// The arrows taken so far.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    #[cfg(feature = "sim")]
    taken: std::collections::BTreeMap<Arrow, u64>,
}

impl Coverage {
    /// An arrow was taken.
    #[inline]
    pub fn take(&mut self, arrow: impl FnOnce() -> Arrow) {
        #[cfg(feature = "sim")]
        {
            *self.taken.entry(arrow()).or_default() += 1;
        }
        #[cfg(not(feature = "sim"))]
        let _ = arrow;
    }

    /// Each arrow with how often it was taken.
    #[cfg(feature = "sim")]
    pub fn taken(&self) -> impl Iterator<Item = (Arrow, u64)> {
        self.taken.iter().map(|(arrow, count)| (*arrow, *count))
    }

    /// Adds what another has taken.
    #[cfg(feature = "sim")]
    pub fn add(&mut self, other: &Coverage) {
        for (arrow, count) in &other.taken {
            *self.taken.entry(*arrow).or_default() += count;
        }
    }
}
