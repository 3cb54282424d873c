//! Timers that a `sip:refer` sets for its own execution, in place of those of the trunk.

use super::Fields;
use crate::config::ReferRules;
use std::time::Duration;

/// `None`: as the trunk has it ([`ReferRules`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReferTimers {
    /// T_total
    pub timeout: Option<Duration>,
    /// T_tx
    pub response_timeout: Option<Duration>,
    /// T_first
    pub notify_timeout: Option<Duration>,
    /// From the 2xx to the final NOTIFY.
    pub result_timeout: Option<Duration>,
    /// T_linger
    pub bye_delay: Option<Duration>,
    /// T_bye_grace
    pub bye_grace: Option<Duration>,
    /// T_retry_after
    pub retry_after_max: Option<Duration>,
    /// T_491
    pub glare_wait: Option<Duration>,
    /// T_queue
    pub queue_timeout: Option<Duration>,
    /// T_tomb
    pub tombstone: Option<Duration>,
    /// T_hook
    pub hook_timeout: Option<Duration>,
    /// T_evt
    pub events_wait: Option<Duration>,
}

impl ReferTimers {
    pub(super) fn read(fields: &Fields<'_>) -> ReferTimers {
        let timers = ReferTimers {
            timeout: fields.some_seconds("timeout", TIMEOUT_SECONDS_MAX),
            response_timeout: fields.some_seconds("responseTimeout", GRACE_SECONDS_MAX),
            notify_timeout: fields.some_seconds("notifyTimeout", TIMEOUT_SECONDS_MAX),
            result_timeout: fields.some_seconds("resultTimeout", TIMEOUT_SECONDS_MAX),
            bye_delay: fields.seconds("byeDelay", 0.0..=GRACE_SECONDS_MAX),
            bye_grace: fields.seconds("byeGrace", 0.0..=GRACE_SECONDS_MAX),
            retry_after_max: fields.seconds("retryAfterMax", 0.0..=HOOK_SECONDS_MAX),
            glare_wait: fields.seconds("glareWait", 0.0..=GRACE_SECONDS_MAX),
            queue_timeout: fields.seconds("queueTimeout", 0.0..=GRACE_SECONDS_MAX),
            tombstone: fields.seconds("tombstone", 0.0..=TIMEOUT_SECONDS_MAX),
            hook_timeout: fields.seconds("hookTimeout", HOOK_SECONDS_MIN..=HOOK_SECONDS_MAX),
            events_wait: fields.seconds("eventsWait", 0.0..=HOOK_SECONDS_MAX),
        };
        for (field, part) in [
            ("responseTimeout", timers.response_timeout),
            ("notifyTimeout", timers.notify_timeout),
            ("resultTimeout", timers.result_timeout),
        ] {
            if let (Some(total), Some(part)) = (timers.timeout, part)
                && part > total
            {
                fields.wrong(field, "is longer than `timeout`");
            }
        }
        timers
    }

    /// The rules of a trunk for this execution.
    pub fn apply(&self, rules: &mut ReferRules) {
        let own = |target: &mut Duration, asked: Option<Duration>| *target = asked.unwrap_or(*target);
        own(&mut rules.total_timeout, self.timeout);
        own(&mut rules.bye_delay, self.bye_delay);
        own(&mut rules.bye_grace, self.bye_grace);
        own(&mut rules.retry_after_max, self.retry_after_max);
        own(&mut rules.queue_timeout, self.queue_timeout);
        own(&mut rules.tombstone, self.tombstone);
        let own = |target: &mut Option<Duration>, asked: Option<Duration>| *target = asked.or(*target);
        own(&mut rules.response_timeout, self.response_timeout);
        own(&mut rules.notify_timeout, self.notify_timeout);
        own(&mut rules.result_timeout, self.result_timeout);
        own(&mut rules.glare_wait, self.glare_wait);
        own(&mut rules.hook_timeout, self.hook_timeout);
        own(&mut rules.events_wait, self.events_wait);
    }
}

/// The longest a transfer may last.
const TIMEOUT_SECONDS_MAX: f64 = 300.0;
/// As long as a transaction may last: 64·T1 (RFC 3261 §17.1.2.2).
const GRACE_SECONDS_MAX: f64 = 32.0;
const HOOK_SECONDS_MIN: f64 = 0.1;
/// As in `[hooks]`.
const HOOK_SECONDS_MAX: f64 = 60.0;
