//! Which targets of a request are tried, and when (RFC 3261 §16.6, RFC 3263 §4.3, RFC 5393 §5.3.3).
//!
//! A route's trunks are its targets, a trunk's addresses ways to reach one of them. As a list of attempts, `A` and `B` trunks:
//!
//! ```text
//!              A1 ── A2      B1 ── B2 ── B3
//!   parallel   ├─ no use ►   ├─ no use ►          A and B at once, each by its addresses in turn
//!   sequential └─ no use ► … └─ refused ───►      the next in the list, or the next trunk after a refusal
//!   weighted   └─ no use ► …                      the next in the list; a refusal is the answer
//! ```

use super::best::Best;
use crate::config::{RouteMode, TrunkId};
use smallvec::SmallVec;
use std::time::Duration;

/// The most attempts of one request: with the usual 3 s for each that says nothing, a caller has given up long before.
pub const ATTEMPTS_MAX: usize = 32;

/// RFC 5393 §5.3.3: what a request without Max-Breadth is given, and what one with more is lowered to.
pub const MAX_BREADTH: u8 = 60;

/// One address of one trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub trunk: TrunkId,
    /// An index into the trunk's addresses.
    pub address: u8,
    /// Whether it is the first of its trunk's.
    pub leads: bool,
}

/// Why the search goes on from a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It cannot be reached, says nothing, or answered 503: another address may do.
    NoUse,
    /// It has refused the request, or did not answer it in time: another address leads to the same.
    Refused,
    /// Its trunk has no room for the call: no other address of it either, but another trunk may.
    Full,
}

/// The search for a target that takes a request.
#[derive(Debug)]
pub struct Search {
    attempts: SmallVec<[Attempt; 4]>,
    mode: RouteMode,
    /// Those whose turn it is, in order; they wait only for breadth.
    due: SmallVec<[u8; 4]>,
    /// Which attempts were due, one bit for each: the search goes on from an attempt once.
    seen: u32,
    breadth_left: u8,
    /// What each branch gets of it.
    share: u8,
    /// Nothing more is tried: a target has the request, one has refused for all, or the caller gave up.
    pub is_over: bool,
    /// The caller gave up.
    pub is_cancelled: bool,
    /// The request has its final response.
    pub is_answered: bool,
    pub best: Best,
    pub response_timeout: Duration,
    pub answer_timeout: Option<Duration>,
}

impl Search {
    /// A search through `attempts`, of which there is at least one; those past [`ATTEMPTS_MAX`] are left out. `breadth`: the
    /// request's Max-Breadth, at least 1.
    pub fn new(attempts: SmallVec<[Attempt; 4]>, mode: RouteMode, breadth: u8) -> Search {
        debug_assert!(!attempts.is_empty() && breadth > 0);
        let mut attempts = attempts;
        attempts.truncate(ATTEMPTS_MAX);
        let share = (usize::from(breadth) / attempts.len()).max(1) as u8;
        let mut search = Search {
            attempts,
            mode,
            due: SmallVec::new(),
            seen: 0,
            breadth_left: breadth,
            share,
            is_over: false,
            is_cancelled: false,
            is_answered: false,
            best: Best::default(),
            response_timeout: Duration::ZERO,
            answer_timeout: None,
        };
        for number in 0..search.attempts.len() {
            if number == 0 || (mode == RouteMode::Parallel && search.attempts[number].leads) {
                search.let_be_due(number);
            }
        }
        search
    }

    fn let_be_due(&mut self, number: usize) {
        let bit = 1 << number;
        if self.seen & bit == 0 {
            self.seen |= bit;
            self.due.push(number as u8);
        }
    }

    /// Takes the next attempt whose turn it is, with its share of the breadth: the sum over live branches never exceeds what
    /// the request came with.
    pub fn take_due(&mut self) -> Option<(Attempt, u8)> {
        if self.is_over || self.due.is_empty() || self.breadth_left < self.share {
            return None;
        }
        self.breadth_left -= self.share;
        let number = self.due.remove(0);
        Some((self.attempts[usize::from(number)], self.share))
    }

    /// A branch has ended: its breadth is free again.
    pub fn give_back(&mut self, breadth: u8) {
        self.breadth_left += breadth;
    }

    /// The attempt that follows one for this cause.
    fn successor(&self, attempt: Attempt, cause: Cause) -> Option<usize> {
        let place = self.attempts.iter().position(|other| *other == attempt)?;
        let mut rest = (place + 1)..self.attempts.len();
        let next = match (cause, self.mode) {
            (Cause::NoUse, RouteMode::Parallel) => rest.next().filter(|next| !self.attempts[*next].leads),
            (Cause::NoUse, RouteMode::Sequential | RouteMode::Weighted) => rest.next(),
            (Cause::Full, RouteMode::Sequential | RouteMode::Weighted) | (Cause::Refused, RouteMode::Sequential) => {
                rest.find(|next| self.attempts[*next].leads)
            }
            (Cause::Refused, RouteMode::Parallel | RouteMode::Weighted) | (Cause::Full, RouteMode::Parallel) => None,
        };
        next.filter(|next| self.seen & (1 << next) == 0)
    }

    /// Whether something else can be tried where this attempt is of no use.
    pub fn has_other(&self, attempt: Attempt) -> bool {
        !self.is_over && self.successor(attempt, Cause::NoUse).is_some()
    }

    /// Goes on from an attempt, unless nothing more is tried.
    pub fn go_on(&mut self, from: Attempt, cause: Cause) {
        if self.is_over {
            return;
        }
        if let Some(next) = self.successor(from, cause) {
            self.let_be_due(next);
        }
    }

    /// Nothing more is tried.
    pub fn stop(&mut self) {
        self.is_over = true;
        self.due.clear();
    }

    /// Whether attempts wait for their turn.
    pub fn has_due(&self) -> bool {
        !self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two addresses of trunk 0, three of trunk 1.
    fn search(mode: RouteMode, breadth: u8) -> Search {
        let addresses = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)];
        let attempts = addresses.map(|(trunk, address)| Attempt {
            trunk: TrunkId(trunk),
            address,
            leads: address == 0,
        });
        Search::new(attempts.into_iter().collect(), mode, breadth)
    }

    /// What is tried next, as `trunk.address` of each.
    fn tried(search: &mut Search) -> Vec<(u8, u8)> {
        let mut tried = Vec::new();
        while let Some((attempt, _)) = search.take_due() {
            tried.push((attempt.trunk.0, attempt.address));
        }
        tried
    }

    fn attempt(search: &Search, number: usize) -> Attempt {
        search.attempts[number]
    }

    #[test]
    fn parallel_targets_are_tried_at_once_and_each_by_its_own_addresses() {
        let mut search = search(RouteMode::Parallel, 60);
        assert_eq!(tried(&mut search), [(0, 0), (1, 0)]);
        search.go_on(attempt(&search, 2), Cause::NoUse);
        assert_eq!(tried(&mut search), [(1, 1)]);
        search.go_on(attempt(&search, 3), Cause::Refused);
        assert_eq!(tried(&mut search), []);
        search.go_on(attempt(&search, 0), Cause::NoUse);
        assert_eq!(tried(&mut search), [(0, 1)]);
        // Trunk 0 has no more addresses, and those behind it are another's.
        assert!(!search.has_other(attempt(&search, 1)));
        search.go_on(attempt(&search, 1), Cause::NoUse);
        assert_eq!(tried(&mut search), []);
    }

    #[test]
    fn nothing_becomes_due_once_the_search_is_over() {
        for mode in [RouteMode::Parallel, RouteMode::Sequential, RouteMode::Weighted] {
            let mut search = search(mode, 60);
            tried(&mut search);
            search.stop();
            search.go_on(attempt(&search, 0), Cause::NoUse);
            assert!(!search.has_due() && tried(&mut search).is_empty());
        }
    }

    #[test]
    fn sequential_targets_follow_one_another() {
        let mut search = search(RouteMode::Sequential, 60);
        assert_eq!(tried(&mut search), [(0, 0)]);
        assert!(search.has_other(attempt(&search, 0)));
        search.go_on(attempt(&search, 0), Cause::NoUse);
        assert!(!search.has_other(attempt(&search, 0)), "the next has had its turn");
        assert_eq!(tried(&mut search), [(0, 1)]);
        search.go_on(attempt(&search, 1), Cause::Refused);
        assert_eq!(tried(&mut search), [(1, 0)]);
        search.go_on(attempt(&search, 2), Cause::Refused);
        assert_eq!(tried(&mut search), []);
    }

    #[test]
    fn a_refusal_skips_the_other_addresses_of_its_trunk() {
        let mut search = search(RouteMode::Sequential, 60);
        assert_eq!(tried(&mut search), [(0, 0)]);
        search.go_on(attempt(&search, 0), Cause::Refused);
        assert_eq!(tried(&mut search), [(1, 0)]);
        // What it took too long over ends later: the search does not go on from it again.
        search.go_on(attempt(&search, 0), Cause::Refused);
        assert_eq!(tried(&mut search), []);
    }

    #[test]
    fn a_weighted_target_is_left_only_where_it_is_of_no_use() {
        let mut search = search(RouteMode::Weighted, 60);
        assert_eq!(tried(&mut search), [(0, 0)]);
        search.go_on(attempt(&search, 0), Cause::Refused);
        assert_eq!(tried(&mut search), []);
        search.go_on(attempt(&search, 0), Cause::NoUse);
        search.go_on(attempt(&search, 1), Cause::NoUse);
        assert_eq!(tried(&mut search), [(0, 1), (1, 0)]);
    }

    #[test]
    fn a_full_trunk_is_passed_over_with_all_its_addresses() {
        for (mode, expected) in [
            (RouteMode::Sequential, &[(1, 0)][..]),
            (RouteMode::Weighted, &[(1, 0)]),
            (RouteMode::Parallel, &[]),
        ] {
            let mut search = search(mode, 60);
            tried(&mut search);
            search.go_on(attempt(&search, 0), Cause::Full);
            assert_eq!(tried(&mut search), expected, "{mode:?}");
        }
    }

    #[test]
    fn without_breadth_for_all_they_wait_for_each_other() {
        let mut search = search(RouteMode::Parallel, 1);
        assert_eq!(tried(&mut search), [(0, 0)]);
        assert!(search.has_due());
        search.give_back(1);
        assert_eq!(tried(&mut search), [(1, 0)]);
        assert!(!search.has_due());
    }

    #[test]
    fn the_breadth_of_live_branches_never_exceeds_the_requests() {
        for breadth in 1..=MAX_BREADTH {
            let mut search = search(RouteMode::Parallel, breadth);
            let mut live = 0;
            while let Some((_, share)) = search.take_due() {
                live += share;
            }
            assert!(live <= breadth && live > 0);
        }
    }

    #[test]
    fn nothing_is_tried_once_it_is_over() {
        let mut search = search(RouteMode::Sequential, 60);
        assert_eq!(tried(&mut search), [(0, 0)]);
        search.stop();
        search.go_on(attempt(&search, 0), Cause::NoUse);
        assert_eq!(tried(&mut search), []);
    }
}
