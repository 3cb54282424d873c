//! Requests of a party that wait until a REFER of ours has a response, so that none overtakes it.

use super::Shard;
use crate::call::CallKey;
use crate::proxy::Refused;
use crate::timer::Instant;

impl Shard {
    pub(super) fn on_hold_over(&mut self, key: CallKey, now: Instant) {
        // A REFER that was sent again has a wait of its own.
        let hold = self.calls.get(key).and_then(|call| call.extra()?.hold);
        if hold.is_some_and(|(_, until)| until <= now) {
            self.release_held(key, now);
        }
    }

    pub(super) fn release_held(&mut self, key: CallKey, now: Instant) {
        let Some(extra) = self.calls.get_mut(key).and_then(|call| call.extra_if_any()) else {
            return;
        };
        extra.hold = None;
        let held = std::mem::take(&mut extra.held);
        for held in held {
            self.resume_request(held.flow, &held.message, Some(held.server), now);
        }
    }

    /// RFC 3261 §15.1.2: requests that are pending when the call ends are answered 487.
    pub(super) fn end_held(&mut self, key: CallKey, now: Instant) {
        let Some(extra) = self.calls.get_mut(key).and_then(|call| call.extra_if_any()) else {
            return;
        };
        extra.hold = None;
        for held in std::mem::take(&mut extra.held) {
            self.counters.resumed_total += 1;
            self.counters.refused_total += 1;
            self.answer_stored(held.server, Refused::new(487, "Request Terminated"), now);
        }
    }
}
