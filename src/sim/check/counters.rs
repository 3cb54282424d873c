//! The numbers of a shard add up at every step, and its tables keep to their bounds.

use super::Faults;
use crate::shard::audit::Pending;
use crate::shard::{CounterKind, Counters, Shard};
use crate::sim::tally::{Fault, Tally};
use crate::webhook;

#[derive(Debug)]
pub(super) struct Watch {
    /// The numbers of each shard as they were last.
    last: Vec<Counters>,
}

impl Watch {
    pub fn new(shards: usize) -> Watch {
        Watch {
            last: vec![Counters::default(); shards],
        }
    }

    pub fn watch(&mut self, number: usize, shard: &Shard, tally: &mut Tally, faults: &mut Faults) {
        let now = shard.counters();
        let mut before = Vec::new();
        self.last[number].each(|_, _, _, value| before.push(value));
        let mut before = before.into_iter();
        now.each(|name, kind, _, value| {
            let before = before.next().unwrap_or_default();
            if kind == CounterKind::Counter && value < before {
                faults.push(format!("{name} fell from {before} to {value}"));
            }
        });
        let mut equal = |what: &str, left: u64, right: u64| {
            if left != right {
                faults.push(format!("{what}: {left} and {right}"));
            }
        };
        let ended = now.transfers_success_total
            + now.transfers_failed_total
            + now.transfers_unknown_total
            + now.transfers_canceled_total;
        equal(
            "transfers begun, and ended or running",
            now.transfers_total,
            ended + now.transfers,
        );
        // Each request has one fate, and one that waited has another then; each response has one.
        let fates = now.taken_total
            + now.answered_total
            + now.refused_total
            + now.repeats_total
            + now.absorbed_acks_total
            + now.stray_acks_total
            + now.dropped_total
            + now.waited_total;
        equal(
            "requests, and what became of them",
            now.requests_total + now.resumed_total,
            fates,
        );
        let fates = now.relayed_responses_total + now.absorbed_responses_total + now.stray_responses_total;
        equal(
            "responses, and what became of them",
            now.responses_total + now.kept_responses_total,
            fates,
        );
        let last = &self.last[number];
        let mut full = |is_full, fault| {
            if is_full {
                tally.note(fault);
            }
        };
        full(now.shed_calls_total > last.shed_calls_total, Fault::CallsFull);
        full(
            now.shed_transactions_total > last.shed_transactions_total,
            Fault::TransactionsFull,
        );
        full(now.waits_refused_total > last.waits_refused_total, Fault::LookupsFull);
        full(now.held_refused_total > last.held_refused_total, Fault::HeldFull);
        full(
            now.transfers_forgotten_total > last.transfers_forgotten_total,
            Fault::RememberedFull,
        );
        self.last[number] = now;
    }
}

/// What the delivery of hooks counts.
pub(super) fn lanes(counters: &webhook::Counters, faults: &mut Faults) {
    let submitted = counters.events_submitted + counters.actions_submitted + counters.questions_submitted;
    let ended = counters.events_delivered
        + counters.actions_delivered
        + counters.events_given_up
        + counters.actions_given_up
        + counters.events_dropped
        + counters.actions_dropped
        + counters.questions_delivered
        + counters.questions_given_up
        + counters.questions_dropped
        + counters.defaults_unanswered;
    if submitted != ended + counters.held {
        faults.push(format!("{submitted} hooks, {ended} ended, {} held", counters.held));
    }
}

/// Nothing is alive and nothing is left to wait for.
pub(super) fn over(number: usize, shard: &Shard, pending: &Pending, faults: &mut Faults) {
    let counters = shard.counters();
    let mut alive = Vec::new();
    counters.each(|name, kind, _, value| {
        if kind == CounterKind::Gauge && value > 0 {
            alive.push(format!("{value} {name}"));
        }
    });
    if !shard.is_idle() || !shard.is_empty() || !alive.is_empty() || shard.next_timeout().is_some() {
        faults.push(format!("shard {number} is not idle: {}", alive.join(", ")));
    }
    if counters.waited_total != counters.resumed_total {
        faults.push(format!(
            "{} requests waited and {} went on",
            counters.waited_total, counters.resumed_total
        ));
    }
    if pending.lookups > 0 || pending.records > 0 || !pending.outcomes.is_empty() {
        faults.push(format!("shard {number} is owed {pending:?}"));
    }
}
