//! When a call is over though no BYE says so: its session timer ran out, it has lasted as long as is allowed, or a party has
//! lost it (RFC 4028 §8.3, RFC 5057 §5.1). Every call has one timer, so that none is kept for ever.
//!
//! A proxy forgets such a call without a word: the parties end their own sessions (RFC 4028 §10), and what they still say is
//! relayed by its token. That is not so where referee has put requests of its own into the dialog: only the call knows the
//! numbers then, so it is kept until a BYE, or until referee ends it with BYEs of its own.

use super::arrival::Arrival;
use super::request::Dialog;
use super::{Shard, TimerKey};
use crate::call::{Call, CallKey, CallState, Party};
use crate::dialog_usage::{self, Ends};
use crate::message::edit::decimal;
use crate::message::time::SESSION_INTERVAL_MIN;
use crate::message::{Message, Method};
use crate::proxy::Refused;
use crate::proxy::context::{Context, ContextKey};
use crate::session_timer::{self, Lines, Pass, Verdict};
use crate::timer::Instant;
use crate::transfer::Cause;
use std::time::Duration;

/// Between two looks at a call. Timers are not taken back, so that a short call leaves its behind for no longer than this;
/// and since no session interval is shorter than 90 s (RFC 4028 §4), none that is agreed on meanwhile is looked at too late.
const LOOK: Duration = Duration::from_secs(60);

/// What the BYEs of a call say that has lasted too long (RFC 3326, ITU-T Q.850).
const TOO_LONG: &str = "Q.850;cause=102;text=\"Recovery on timer expiry\"";

impl Shard {
    /// Arms the timer of a call that begins.
    pub(super) fn watch(&mut self, key: CallKey, now: Instant) {
        self.arm(now, LOOK, TimerKey::Lifetime(key));
    }

    pub(super) fn on_lifetime(&mut self, key: CallKey, now: Instant) {
        let call_max = self.config().limits.call_max;
        let Some(call) = self.calls.get(key) else { return };
        let mut next = now + LOOK;
        match call.state {
            // The INVITE's own timers end it, and the call with it.
            CallState::Trying | CallState::Ringing => {
                debug_assert!(
                    call.invite
                        .and_then(|invite| self.transactions.server(invite))
                        .is_some_and(|invite| invite.is_waiting()),
                    "a call without an answer outlives its INVITE"
                );
            }
            // Our BYEs have their timers, a tombstone its own.
            CallState::Ending | CallState::Ended => return,
            CallState::Answered => {
                let over = call.answered.unwrap_or(call.created) + call_max;
                if over <= now {
                    self.counters.calls_over_max_total += 1;
                    let reason = [("Reason".to_owned(), TOO_LONG.to_owned())];
                    return self.end_both(key, &reason, Cause::CallEnded, now);
                }
                next = next.min(over);
                if let Some(until) = call.session_until
                    && is_forgettable(call, now)
                {
                    if until <= now {
                        self.counters.calls_expired_total += 1;
                        return self.remove_call(key);
                    }
                    next = next.min(until);
                }
            }
        }
        match next.since(now) {
            LOOK => self.arm(now, LOOK, TimerKey::Lifetime(key)),
            wait => self.timers.arm_once(now, wait, TimerKey::Lifetime(key)),
        };
    }

    // ---- session timers ----

    /// Judges the session interval that a request asks for, where referee stays in its dialog. `Err`: it was refused.
    pub(super) fn judge_interval(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        now: Instant,
    ) -> Result<Pass, ()> {
        match self.session_policy().judge(message) {
            Verdict::Pass(pass) => Ok(pass),
            Verdict::TooSmall { min_se } => {
                self.counters.session_intervals_refused_total += 1;
                let refused = Refused::new(422, "Session Interval Too Small");
                self.refuse(
                    message,
                    arrival,
                    refused,
                    &[("Min-SE", decimal(min_se).as_bytes())],
                    now,
                );
                Err(())
            }
        }
    }

    /// Takes from a 2xx until when the session may be alive; gives back the header lines to put into it.
    pub(super) fn note_interval(&mut self, key: ContextKey, message: Message<'_>, code: u16, now: Instant) -> Lines {
        let context = self.contexts.get(key);
        let is_refresh = |context: &&Context| session_timer::refreshes_session(context.method);
        let Some(context) = context.filter(|_| (200..=299).contains(&code)).filter(is_refresh) else {
            return Lines::new();
        };
        let (interval, lines) = session_timer::answered(message, context.session.asked);
        // Each target that answers an INVITE has a call of its own.
        let call = match context.call.filter(|_| context.is_initial) {
            Some(first) => self.call_with_tag(first, message),
            None => context.call,
        };
        if let Some(call) = call.and_then(|call| self.calls.get_mut(call)) {
            call.session_until = interval.map(|seconds| {
                // Less is a slip of the party's: no session ends that soon (RFC 4028 §4).
                now + Duration::from_secs(seconds.max(SESSION_INTERVAL_MIN).into())
            });
        }
        lines
    }

    /// The call that a 2xx to an INVITE belongs to; `first` is the one that the INVITE has opened.
    fn call_with_tag(&self, first: CallKey, message: Message<'_>) -> Option<CallKey> {
        let (call_id, from_tag) = (message.call_id().ok()?, message.from_tag().unwrap_or_default());
        match (self.calls.get(first), message.to_tag()) {
            (Some(call), to_tag) if call.tag(Party::Callee) == to_tag => Some(first),
            (_, Some(to_tag)) => {
                let is_of_it = |call: &Call| call.traversal == first;
                self.call_of(call_id, from_tag, to_tag, is_of_it).and_then(Dialog::call)
            }
            (_, None) => None,
        }
    }

    // ---- calls that a party has lost ----

    /// A request within the dialog got this final response, or none (408). What ends the usage or the dialog for whoever sent it
    /// ends it for us as well, unless the party that answered shows within 64·T1 that it knows the call: the sender is to say
    /// BYE meanwhile (RFC 3261 §12.2.1.2), and some peers say 481 of what they merely do not like.
    pub(super) fn weigh_answer(&mut self, key: CallKey, method: Method, party: Party, code: u16, now: Instant) {
        let Some(call) = self.calls.get_mut(key) else { return };
        match dialog_usage::ends(method, code) {
            Some(Ends::InviteUsage | Ends::Dialog) => self.doubt(key, party, now),
            Some(_) => {}
            None if (200..=299).contains(&code) => call.shows_life(party),
            None => {}
        }
    }

    /// A party seems to have lost the call, or to have left it: unless it says something within 64·T1 it is over.
    pub(super) fn doubt(&mut self, key: CallKey, party: Party, now: Instant) {
        let wait = 64 * self.config().timers.t1;
        let Some(call) = self.calls.get_mut(key).filter(|call| call.state == CallState::Answered) else {
            return;
        };
        let doubt = &mut call.extra_mut().doubt;
        if doubt.is_none() {
            *doubt = Some((party, now + wait));
            self.arm(now, wait, TimerKey::Doubt(key));
        }
    }

    pub(super) fn on_doubt_over(&mut self, key: CallKey, now: Instant) {
        let Some(call) = self.calls.get(key) else { return };
        let is_over = call
            .extra()
            .and_then(|extra| extra.doubt)
            .is_some_and(|(_, until)| until <= now);
        if !is_over || call.state != CallState::Answered {
            return;
        }
        self.counters.calls_lost_total += 1;
        // An application is to hear that its call is over.
        if call.application.is_none() && is_forgettable(call, now) {
            self.remove_call(key);
        } else {
            self.end_both(key, &[], Cause::CallEnded, now);
        }
    }
}

/// Whether nothing is lost if this call is forgotten while its parties still talk: what they say finds its way by its token.
fn is_forgettable(call: &Call, now: Instant) -> bool {
    !call.is_shifted() && call.extra().is_none_or(|extra| !extra.is_referring(now))
}
