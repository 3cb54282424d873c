//! `[limits]` and `[timers]`: what may be kept, how many and how long, and the times of RFC 3261 and RFC 4028.

use super::parse::seconds;
use super::reader::{Document, Table};
use super::{Config, Limits, SessionTimers, SipTimers, value};
use std::time::Duration;

pub(super) fn limits(table: Table<'_>) -> Limits {
    let mut limits = Limits::default();
    table.number("calls_max", 1..=TABLE_ENTRIES_MAX, &mut limits.calls_max);
    table.number("transactions_max", 1..=TABLE_ENTRIES_MAX, &mut limits.transactions_max);
    // Up to T1, when requests are sent again anyway (RFC 3261 §17.1.1.1); below a millisecond a turn of work is no queue.
    table.duration(
        "queue_delay_target",
        Duration::from_millis(1)..=Duration::from_millis(500),
        &mut limits.queue_delay_target,
    );
    table.duration(
        "queue_delay_interval",
        Duration::from_millis(10)..=seconds(60),
        &mut limits.queue_delay_interval,
    );
    if limits.queue_delay_interval < limits.queue_delay_target {
        let key = if table.has("queue_delay_interval") {
            "queue_delay_interval"
        } else {
            "queue_delay_target"
        };
        table.mistake(
            table.at_value(key),
            "`queue_delay_interval` is shorter than `queue_delay_target`",
        );
    }
    table.duration("retry_after", seconds(1)..=seconds(3_600), &mut limits.retry_after);
    if limits.retry_after.subsec_nanos() > 0 {
        // RFC 3261 §20.33: delta-seconds.
        table.mistake(table.at_value("retry_after"), "`retry_after` must be whole seconds");
    }
    table.number("sources_max", 1..=1 << 24, &mut limits.sources_max);
    table.number("held_per_call_max", 1..=1_000, &mut limits.held_per_call_max);
    table.number("lookups_max", 1..=TABLE_ENTRIES_MAX, &mut limits.lookups_max);
    table.number(
        "transfers_remembered",
        0..=TABLE_ENTRIES_MAX,
        &mut limits.transfers_remembered,
    );
    table.number("connections_max", 1..=1_000_000, &mut limits.connections_max);
    table.number(
        "connections_per_source_max",
        1..=1_000_000,
        &mut limits.connections_per_source_max,
    );
    table.number(
        "stranger_connections_max",
        0..=1_000_000,
        &mut limits.stranger_connections_max,
    );
    // Less than the largest message could not be written at all.
    table.number(
        "write_queue_bytes_max",
        65_535..=1 << 30,
        &mut limits.write_queue_bytes_max,
    );
    table.duration(
        "idle_timeout",
        seconds(182)..=seconds(24 * 3_600),
        &mut limits.idle_timeout,
    );
    table.duration(
        "partial_message_timeout",
        seconds(1)..=seconds(300),
        &mut limits.partial_message_timeout,
    );
    table.number("handoff_max", 1..=1_000_000, &mut limits.handoff_max);
    table.number("bounced_rate", 1..=1_000_000, &mut limits.bounced_rate);
    // Timer C lets any callee ring for three minutes (RFC 3261 §16.6 item 11).
    table.duration("ring_max", seconds(181)..=seconds(24 * 3_600), &mut limits.ring_max);
    table.duration("call_max", seconds(60)..=seconds(30 * 24 * 3_600), &mut limits.call_max);
    table.duration(
        "tcp_refusal_kept",
        seconds(1)..=seconds(24 * 3_600),
        &mut limits.tcp_refusal_kept,
    );
    table.duration(
        "retry_after_max",
        seconds(1)..=seconds(24 * 3_600),
        &mut limits.retry_after_max,
    );
    table.duration("nap", Duration::ZERO..=Duration::from_millis(10), &mut limits.nap);
    table.finish();
    limits
}

pub(super) fn timers(table: Table<'_>) -> (SipTimers, SessionTimers) {
    let mut timers = SipTimers::default();
    table.duration("t1", Duration::from_millis(10)..=seconds(10), &mut timers.t1);
    table.duration("t2", Duration::from_millis(10)..=seconds(60), &mut timers.t2);
    table.duration("t4", Duration::from_millis(10)..=seconds(60), &mut timers.t4);
    // RFC 3261 §16.6 item 11: "MUST be larger than 3 minutes".
    table.duration("timer_c", seconds(181)..=seconds(3_600), &mut timers.timer_c);
    if timers.t2 < timers.t1 {
        // T2 caps the retransmit interval that starts at T1 (RFC 3261 §17.1.2.2).
        let key = if table.has("t2") { "t2" } else { "t1" };
        table.mistake(table.at_value(key), "`t2` is shorter than `t1`");
    }
    let session = session_timers(&table);
    table.finish();
    (timers, session)
}

fn session_timers(table: &Table<'_>) -> SessionTimers {
    let interval = |key| {
        let mut interval = Duration::ZERO;
        // RFC 4028 §4, §5: no session interval is shorter than 90 s.
        table.duration(key, seconds(90)..=seconds(24 * 3_600), &mut interval);
        if interval.subsec_nanos() > 0 {
            table.mistake(table.at_value(key), "a session interval is a number of seconds");
        }
        (!interval.is_zero()).then_some(interval)
    };
    let session = SessionTimers {
        expires: interval("session_expires"),
        min_se: interval("min_se"),
    };
    if let (Some(expires), Some(least)) = (session.expires, session.min_se)
        && expires < least
    {
        table.mistake(
            table.at_value("session_expires"),
            "`session_expires` is shorter than `min_se`",
        );
    }
    session
}

/// RFC 3261 §18: a connection outlasts any transaction. An INVITE is silent for Timer C, and for Timer B once it is cancelled.
pub(super) fn check_idle_timeout(document: &Document<'_>, config: &Config, at: usize) {
    let least = config.timers.timer_c + 64 * config.timers.t1;
    if config.limits.idle_timeout < least {
        let (idle, least) = (
            value::duration_text(config.limits.idle_timeout),
            value::duration_text(least),
        );
        let message =
            format!("`idle_timeout` is {idle}, shorter than a transaction may last: `timer_c` and 64 `t1`, {least}");
        document.mistake(at, message);
    }
}

/// Entries of a table are found by an index of 32 bits; this leaves room for a mark.
pub(super) const TABLE_ENTRIES_MAX: u64 = 1 << 30;
