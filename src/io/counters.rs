//! Per-worker counters and their text form.
//!
//! A worker counts in plain numbers and copies them into atomics now and then ([`Publisher`]); whoever scrapes reads those
//! ([`Exporter`]). Nothing on the path of a message is shared between threads.

use crate::config::{Config, TrunkId};
use crate::health::State;
use crate::shard::{self, CounterKind};
use crate::timer::Instant;
use crate::usage::Usage;
use crate::webhook;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

macro_rules! counters {
    ($($kind:ident { $(#[doc = $help:literal] $field:ident: $name:literal,)* })*) => {
        /// What one worker counts beside its shard.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[doc = $help] pub $field: u64,)*)*
        }

        impl Counters {
            /// Calls `f` with name (without prefix), kind, help and value of each.
            pub fn each(&self, mut f: impl FnMut(&'static str, CounterKind, &'static str, u64)) {
                $($(f($name, CounterKind::$kind, $help.trim_ascii(), self.$field);)*)*
            }
        }
    };
}

counters! {
    Counter {
        /// Datagrams received, keep-alives and malformed ones included
        datagrams_received: "datagrams_received_total",
        /// Datagrams given to the kernel
        datagrams_sent: "datagrams_sent_total",
        /// Datagrams not sent because the socket's send buffer was full
        datagrams_unsent: "datagrams_send_buffer_full_total",
        /// Datagrams the kernel refused to send, with an unreachable peer for example
        datagrams_refused: "datagrams_send_errors_total",
        /// ICMP errors received about datagrams we sent
        datagrams_bounced: "datagrams_bounced_total",
        /// ICMP errors not passed on to the worker that may have sent, beyond bounced_rate or because a ring was full
        bounces_dropped: "datagrams_bounced_dropped_total",
        /// Datagrams the kernel dropped because the socket's receive buffer was full
        kernel_drops: "datagrams_kernel_dropped_total",
        /// Keep-alives received: datagrams of CR, LF or NUL only, CRLFCRLF on streams
        keepalives: "keepalives_received_total",
        /// Received bytes that do not parse as a SIP message
        unparsable: "unparsable_total",
        /// Messages passed to the worker that owns their call
        handoff_passed: "handoff_passed_total",
        /// Messages taken over from other workers
        handoff_taken: "handoff_taken_total",
        /// Messages and writes dropped because the ring to another worker was full
        handoff_dropped: "handoff_dropped_total",
        /// Times that a connection was not read on because the ring to another worker was full
        handoff_parked: "handoff_parked_total",
        /// Connections accepted
        tcp_accepted: "tcp_accepted_total",
        /// Connections opened by us
        tcp_opened: "tcp_opened_total",
        /// Connections that could not be opened
        tcp_open_failures: "tcp_open_failures_total",
        /// Connections closed or not opened because there were too many
        tcp_over_limit: "tcp_over_limit_total",
        /// Connections closed at once because their source is no trunk's
        tcp_strangers: "tcp_strangers_total",
        /// Connections closed at once because their source, or all sources that are no trunk's, had too many
        tcp_over_source_limit: "tcp_over_source_limit_total",
        /// Messages sent another way because a peer that had closed its side was gone
        tcp_sent_again: "tcp_sent_again_total",
        /// Times that no connection could be accepted for want of descriptors or memory
        tcp_accept_failures: "tcp_accept_failures_total",
        /// Connections whose peer has closed its side
        tcp_peer_closes: "tcp_peer_closes_total",
        /// Connections that broke, by a reset for example
        tcp_broken: "tcp_broken_total",
        /// Connections closed because the peer did not read what was queued for it
        tcp_write_queue_closes: "tcp_write_queue_closes_total",
        /// Connections closed because a message on them was not whole in time
        tcp_partial_message_closes: "tcp_partial_message_closes_total",
        /// Connections closed because nothing was sent or received for long
        tcp_idle_closes: "tcp_idle_closes_total",
        /// Connections closed because what came on them cannot be framed or parsed
        tcp_malformed_closes: "tcp_malformed_closes_total",
        /// Sends that failed and were reported to the shard
        sends_failed: "sends_failed_total",
        /// Commands taken from other threads
        commands: "commands_total",
        /// Name lookups asked for
        lookups: "lookups_total",
        /// Name lookups answered at once as failed because too many were under way
        lookups_refused: "lookups_refused_total",
        /// Event hooks dropped because delivery was behind
        event_hooks_dropped: "event_hooks_dropped_total",
        /// Action hooks given up because delivery was behind
        action_hooks_dropped: "action_hooks_dropped_total",
        /// Turns of the worker's loop
        turns: "worker_turns_total",
        /// Times the worker went to sleep
        sleeps: "worker_sleeps_total",
        /// Naps, which the worker takes in place of sleeps where messages come close together
        naps: "worker_naps_total",
        /// Events for listeners lost because the control thread was behind
        stream_events_dropped: "stream_events_dropped_total",
    }
    Gauge {
        /// Open connections, those being opened included
        tcp_connections: "tcp_connections",
    }
}

/// How stale published counters may be while a worker is busy; it also publishes before it sleeps.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);

/// A worker's end: copies counters to where other threads can read them.
#[derive(Debug)]
pub struct Publisher {
    values: Arc<[AtomicU64]>,
    published_at: Instant,
    fresh: bool,
}

impl Publisher {
    /// Says that something was counted since the last time.
    pub fn changed(&mut self) {
        self.fresh = true;
    }

    /// Whether [`publish`](Publisher::publish) has something to do: `sleeping` at once, otherwise not too often.
    pub fn is_due(&self, now: Instant, sleeping: bool) -> bool {
        self.fresh && (sleeping || now.since(self.published_at) >= PUBLISH_EVERY)
    }

    /// Copies all counters.
    pub fn publish(&mut self, now: Instant, shard: &shard::Counters, io: &Counters) {
        self.published_at = now;
        self.fresh = false;
        let mut values = self.values.iter();
        let mut put = |_, _, _, value| {
            if let Some(place) = values.next() {
                place.store(value, Ordering::Relaxed);
            }
        };
        shard.each(&mut put);
        io.each(&mut put);
    }
}

/// The reading end: the published counters of all workers.
#[derive(Debug)]
pub struct Exporter {
    families: Vec<Family>,
    /// By shard; each as long as `families`.
    shards: Vec<Arc<[AtomicU64]>>,
}

#[derive(Debug)]
struct Family {
    name: &'static str,
    kind: CounterKind,
    help: &'static str,
}

/// What every name begins with.
const PREFIX: &str = "referee_";

impl Exporter {
    /// The exporter, and one publisher for each of `shards` workers.
    pub fn new(shards: u16) -> (Arc<Exporter>, Vec<Publisher>) {
        let mut families = Vec::new();
        let mut put = |name, kind, help, _| families.push(Family { name, kind, help });
        shard::Counters::default().each(&mut put);
        Counters::default().each(&mut put);
        let shards: Vec<Arc<[AtomicU64]>> = (0..shards)
            .map(|_| families.iter().map(|_| AtomicU64::new(0)).collect())
            .collect();
        let publishers = shards
            .iter()
            .map(|values| Publisher {
                values: Arc::clone(values),
                published_at: Instant::START,
                fresh: true,
            })
            .collect();
        (Arc::new(Exporter { families, shards }), publishers)
    }

    /// The sum over all shards of one counter, by its name without prefix; `None` if there is none of that name.
    pub fn value(&self, name: &str) -> Option<u64> {
        let at = self.families.iter().position(|family| family.name == name)?;
        Some(
            self.shards
                .iter()
                .map(|values| values[at].load(Ordering::Relaxed))
                .sum(),
        )
    }

    /// All counters in Prometheus' text format, version 0.0.4, with a label `shard`.
    ///
    /// Written by hand: the newer OpenMetrics format that prometheus-client writes takes `calls_total` and `calls` for the
    /// same family, and ends in a line that keeps texts from being put together.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (at, family) in self.families.iter().enumerate() {
            let Family { name, kind, help } = family;
            describe(&mut text, name, *kind, help);
            for (shard, values) in self.shards.iter().enumerate() {
                let value = values[at].load(Ordering::Relaxed);
                let _ = writeln!(text, "{PREFIX}{name}{{shard=\"{shard}\"}} {value}");
            }
        }
        text
    }
}

/// What delivery has counted, in the same form; there is one delivery for all shards.
pub fn hooks_text(counters: &webhook::Counters) -> String {
    use CounterKind::{Counter, Gauge};
    let c = counters;
    let mut text = String::new();
    for (name, kind, help, value) in [
        (
            "hooks_events_submitted_total",
            Counter,
            "Event hooks taken over by delivery",
            c.events_submitted,
        ),
        (
            "hooks_actions_submitted_total",
            Counter,
            "Action hooks taken over by delivery",
            c.actions_submitted,
        ),
        (
            "hooks_questions_submitted_total",
            Counter,
            "Questions to applications taken over by delivery",
            c.questions_submitted,
        ),
        (
            "hooks_events_delivered_total",
            Counter,
            "Event hooks answered with 2xx",
            c.events_delivered,
        ),
        (
            "hooks_actions_delivered_total",
            Counter,
            "Action hooks answered with 2xx",
            c.actions_delivered,
        ),
        (
            "hooks_questions_delivered_total",
            Counter,
            "Questions answered with 2xx",
            c.questions_delivered,
        ),
        (
            "hooks_events_given_up_total",
            Counter,
            "Event hooks refused or not delivered in time",
            c.events_given_up,
        ),
        (
            "hooks_actions_given_up_total",
            Counter,
            "Action hooks refused or not delivered in time",
            c.actions_given_up,
        ),
        (
            "hooks_questions_given_up_total",
            Counter,
            "Questions refused or not answered in time",
            c.questions_given_up,
        ),
        (
            "hooks_events_dropped_total",
            Counter,
            "Event hooks for which there was no room",
            c.events_dropped,
        ),
        (
            "hooks_actions_dropped_total",
            Counter,
            "Action hooks for which there was no room",
            c.actions_dropped,
        ),
        (
            "hooks_questions_dropped_total",
            Counter,
            "Questions for which there was no room",
            c.questions_dropped,
        ),
        (
            "hooks_defaults_unanswered_total",
            Counter,
            "Hooks to the default word that nobody answers to",
            c.defaults_unanswered,
        ),
        (
            "hooks_attempts_total",
            Counter,
            "Attempts to deliver a hook",
            c.attempts,
        ),
        (
            "hooks_attempts_failed_total",
            Counter,
            "Attempts without an answer, or with 408, 429 or 5xx",
            c.attempts_failed,
        ),
        ("hooks_held", Gauge, "Hooks waiting or under way", c.held),
        ("hooks_under_way", Gauge, "Attempts under way", c.under_way),
        (
            "hooks_endpoints",
            Gauge,
            "Endpoints that have hooks or have failed lately",
            c.endpoints,
        ),
        (
            "hooks_endpoints_suspended",
            Gauge,
            "Endpoints that get one probe at a time",
            c.endpoints_suspended,
        ),
    ] {
        describe(&mut text, name, kind, help);
        // Writing to a String does not fail.
        let _ = writeln!(text, "{PREFIX}{name} {value}");
    }
    text
}

/// What calls take of trunks, and which of their addresses are up, in the same form; all shards count together.
pub fn trunks_text(config: &Config, usage: &Usage) -> String {
    use CounterKind::Gauge;
    let mut text = String::new();
    let trunks = || {
        let numbered = config.trunks.iter().enumerate();
        numbered.map(|(number, trunk)| (TrunkId(number as u8), trunk))
    };
    if config.trunks.is_empty() {
        return text;
    }
    describe(&mut text, "trunk_calls", Gauge, "Calls from and to a trunk");
    for (id, trunk) in trunks() {
        let _ = writeln!(
            text,
            "{PREFIX}trunk_calls{{trunk=\"{}\"}} {}",
            label(&trunk.name),
            usage.calls(id)
        );
    }
    if !config.trunks.iter().any(|trunk| trunk.health.is_some()) {
        return text;
    }
    let help = "Whether an address of a trunk with health is not dead";
    describe(&mut text, "trunk_address_up", Gauge, help);
    for (id, trunk) in trunks().filter(|(_, trunk)| trunk.health.is_some()) {
        for (place, address) in trunk.addresses.iter().enumerate() {
            let up = u8::from(usage.shown(id, place) != State::Dead);
            let (name, address) = (label(&trunk.name), label(&address.to_string()));
            let _ = writeln!(
                text,
                "{PREFIX}trunk_address_up{{trunk=\"{name}\",address=\"{address}\"}} {up}"
            );
        }
    }
    text
}

/// A label's value as the format has it: trunks may be named anything.
fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Names and help are our own and need no escapes.
pub(super) fn describe(text: &mut String, name: &str, kind: CounterKind, help: &str) {
    let kind = match kind {
        CounterKind::Counter => "counter",
        CounterKind::Gauge => "gauge",
    };
    let _ = write!(text, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_counters_appear_in_the_text_with_their_shard() {
        let (exporter, mut publishers) = Exporter::new(2);
        let io = Counters {
            datagrams_received: 7,
            tcp_connections: 3,
            ..Counters::default()
        };
        publishers[1].publish(Instant::from_millis(1), &shard::Counters::default(), &io);
        let text = exporter.text();
        for line in [
            "# TYPE referee_datagrams_received_total counter",
            "referee_datagrams_received_total{shard=\"0\"} 0",
            "referee_datagrams_received_total{shard=\"1\"} 7",
            "# TYPE referee_tcp_connections gauge",
            "referee_tcp_connections{shard=\"1\"} 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let hooks = hooks_text(&webhook::Counters {
            held: 5,
            ..webhook::Counters::default()
        });
        assert!(
            hooks.contains("# TYPE referee_hooks_held gauge\nreferee_hooks_held 5\n"),
            "{hooks}"
        );
        let mut config = crate::config::Config::relay_all(&[], "127.0.0.1:5070").unwrap();
        assert!(!trunks_text(&config, &Usage::new(&config)).contains("up"));
        config.trunks[1].name = "a \"b\" \\".into();
        config.trunks[1].health = Some(crate::config::Health::default());
        let usage = Arc::new(Usage::new(&config));
        let place = usage.take(TrunkId(0), Instant::START).unwrap();
        for (state, up) in [(State::Unknown, 1), (State::Dead, 0), (State::Alive, 1)] {
            usage.show(TrunkId(1), 0, state);
            let text = trunks_text(&config, &usage);
            for line in [
                "referee_trunk_calls{trunk=\"caller\"} 1",
                "referee_trunk_calls{trunk=\"a \\\"b\\\" \\\\\"} 0",
                &format!("referee_trunk_address_up{{trunk=\"a \\\"b\\\" \\\\\",address=\"127.0.0.1:5070\"}} {up}"),
            ] {
                assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
            }
        }
        drop(place);
        assert_eq!(exporter.value("datagrams_received_total"), Some(7));
        assert_eq!(exporter.value("no_such"), None);
    }

    #[test]
    fn a_busy_worker_publishes_at_times_and_a_sleeping_one_at_once() {
        let (_, mut publishers) = Exporter::new(1);
        let publisher = &mut publishers[0];
        let now = Instant::from_millis(10_000);
        assert!(publisher.is_due(now, false));
        publisher.publish(now, &shard::Counters::default(), &Counters::default());
        assert!(!publisher.is_due(now + PUBLISH_EVERY, true), "nothing changed");
        publisher.changed();
        assert!(!publisher.is_due(now, false) && publisher.is_due(now, true));
        assert!(publisher.is_due(now + PUBLISH_EVERY, false));
    }

    #[test]
    fn names_are_distinct_and_counters_end_in_total() {
        let mut names = std::collections::BTreeSet::new();
        let mut check = |name: &'static str, kind, help: &str, _| {
            assert!(names.insert(name), "{name} is there twice");
            assert_eq!(kind == CounterKind::Counter, name.ends_with("_total"), "{name}");
            assert!(
                !help.is_empty() && !help.contains(['\n', '\\']),
                "{name}: {help:?} would need escapes"
            );
        };
        shard::Counters::default().each(&mut check);
        Counters::default().each(&mut check);
    }
}
