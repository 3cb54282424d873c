//! Which rows of its state machine an execution has gone through, for the simulator; nothing without the feature `sim`.

use super::State;
#[cfg(feature = "sim")]
use crate::coverage::{Arrow, Coverage};

/// The rows of one execution.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// The state that the last input met, and the input. Its row ends in the state that the next one meets.
    #[cfg(feature = "sim")]
    open: Option<(State, &'static str)>,
    #[cfg(feature = "sim")]
    taken: Coverage,
}

impl Rows {
    /// An input meets this state.
    #[inline]
    pub fn enter(&mut self, state: State, on: &'static str) {
        #[cfg(feature = "sim")]
        {
            self.close(state);
            self.open = Some((state, on));
        }
        #[cfg(not(feature = "sim"))]
        let _ = (state, on);
    }

    /// The input that was met last gives the verdict.
    #[inline]
    pub fn verdict(&mut self, cause: &'static str) {
        #[cfg(feature = "sim")]
        if let Some((from, on)) = self.open {
            self.taken.take(|| row("transfer verdict", from, on, cause));
        }
        #[cfg(not(feature = "sim"))]
        let _ = cause;
    }

    /// What was taken, by an execution that is in this state now.
    #[cfg(feature = "sim")]
    pub fn taken(&self, state: State) -> Coverage {
        let mut taken = self.taken.clone();
        if let Some((from, on)) = self.open {
            taken.take(|| row("transfer", from, on, state.as_str()));
        }
        taken
    }

    #[cfg(feature = "sim")]
    fn close(&mut self, state: State) {
        if let Some((from, on)) = self.open.take() {
            self.taken.take(|| row("transfer", from, on, state.as_str()));
        }
    }
}

#[cfg(feature = "sim")]
fn row(machine: &'static str, from: State, on: &'static str, to: &'static str) -> Arrow {
    Arrow {
        machine,
        from: from.as_str(),
        on,
        to,
    }
}
