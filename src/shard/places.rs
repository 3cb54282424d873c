//! Calls take places on their trunks: on the caller's before anything is done, on a target's when its INVITE is sent.
//!
//! A call has one place on each trunk, however many of its addresses are tried, and gives it back when its last branch there
//! has ended without an answer. An answered call keeps the caller's place and the callee's until its dialog ends. Whatever
//! else becomes of a call, dropping it gives all back.

use super::Shard;
use super::arrival::Arrival;
use super::response::BranchFailure;
use crate::call::{Call, CallKey, CallState, Party};
use crate::config::TrunkId;
use crate::message::{Message, Method};
use crate::proxy::Refused;
use crate::proxy::context::ContextKey;
use crate::timer::Instant;
use crate::usage::{Full, Place, Places};
use std::time::Duration;

/// What a caller is told who found a trunk full, in seconds: places are given back all the time, and the rate has room again
/// within a second.
pub(super) const FULL_RETRY_AFTER: &[u8] = b"1";

impl Shard {
    fn take_place(&mut self, trunk: TrunkId, now: Instant) -> Result<Place, Full> {
        let place = self.setup.usage.take(trunk, now);
        match place {
            Ok(_) => {}
            Err(Full::Calls) => self.counters.trunk_calls_max_total += 1,
            Err(Full::Rate) => self.counters.trunk_rate_max_total += 1,
        }
        place
    }

    /// The place of a new call on the trunk it comes from; other requests need none.
    pub(super) fn place_of_caller(
        &mut self,
        method: Method,
        trunk: TrunkId,
        now: Instant,
    ) -> Result<Option<Place>, Full> {
        match method {
            Method::Invite => self.take_place(trunk, now).map(Some),
            _ => Ok(None),
        }
    }

    /// Lets a new call have its place on a trunk where it is about to be tried.
    pub(super) fn take_place_of_callee(
        &mut self,
        key: ContextKey,
        trunk: TrunkId,
        now: Instant,
    ) -> Result<(), BranchFailure> {
        let Some(call_key) = self.contexts.get(key).and_then(|context| context.call) else {
            return Ok(());
        };
        if self.calls.get(call_key).is_none_or(|call| call.places.has(trunk)) {
            return Ok(());
        }
        let taken = self.take_place(trunk, now);
        match (taken, self.calls.get_mut(call_key)) {
            (Ok(place), Some(call)) => {
                call.places.add(place);
                Ok(())
            }
            (Ok(_), None) => Ok(()),
            (Err(_), _) => {
                if let Some(context) = self.contexts.get_mut(key) {
                    context.found_full = true;
                }
                Err(BranchFailure::Full)
            }
        }
    }

    /// Gives back the places of a call on trunks where no branch of its INVITE is open any more.
    pub(super) fn keep_places(&mut self, key: ContextKey) {
        let Some(context) = self.contexts.get(key).filter(|context| context.is_initial) else {
            return;
        };
        let Some(call) = context.call.and_then(|call| self.calls.get_mut(call)) else {
            return;
        };
        let is_answered = !matches!(call.state, CallState::Trying | CallState::Ringing);
        let callee = Some(call.trunk(Party::Callee)).filter(|_| is_answered);
        let is_tried = |trunk| {
            let target = |number| context.branch(number).and_then(|branch| branch.target);
            context.pending().filter_map(target).any(|target| target.trunk == trunk)
        };
        call.places.keep(|trunk| callee == Some(trunk) || is_tried(trunk));
    }

    /// A further target has answered an INVITE: its place is that of the call this makes. Where the same trunk has answered
    /// twice there is one place for both, and where the caller comes from one in all.
    pub(super) fn move_place(&mut self, first: CallKey, another: &mut Call, trunk: Option<TrunkId>) {
        let Some(call) = self.calls.get_mut(first) else { return };
        if let Some(trunk) = trunk.filter(|trunk| *trunk != call.trunk(Party::Callee)) {
            another.places = Places::of_callee(call.places.take_out(trunk));
        }
    }

    /// Answers a new call for which its own trunk has no room.
    pub(super) fn refuse_full(&mut self, message: Message<'_>, arrival: &Arrival<'_>, now: Instant) {
        self.shed(message, arrival, FULL_RETRY_AFTER, now);
    }

    /// Answers a request whose targets have all asked for no requests, for so long at least.
    pub(super) fn refuse_all_waiting(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        wait: Duration,
        now: Instant,
    ) {
        self.counters.retry_after_refused_total += 1;
        let seconds = wait.as_micros().div_ceil(1_000_000).to_string();
        self.shed(message, arrival, seconds.as_bytes(), now);
    }

    /// By a transaction: an INVITE that comes twice, or again because its answer is slow, must not be refused and then, where
    /// a place has become free meanwhile, ring somewhere for a caller who has given up.
    fn shed(&mut self, message: Message<'_>, arrival: &Arrival<'_>, retry_after: &[u8], now: Instant) {
        self.counters.shed_total += 1;
        self.refuse(message, arrival, Refused::SHED, &[("Retry-After", retry_after)], now);
    }
}
