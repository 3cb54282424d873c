//! The numbers of a shard add up at every step, and its tables keep to their bounds.

use super::Faults;
use crate::config::Config;
use crate::shard::audit::Pending;
use crate::shard::{CounterKind, Counters, Shard};
use crate::sim::tally::{Fault, Tally};
use crate::webhook;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Watch {
    config: Arc<Config>,
    /// The numbers of each shard as they were last.
    last: Vec<Counters>,
}

impl Watch {
    pub fn new(config: Arc<Config>, shards: usize) -> Watch {
        Watch {
            config,
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
        let limits = self.config.limits;
        let mut full = |is_full, fault| {
            if is_full {
                tally.note(fault);
            }
        };
        full(now.calls >= limits.calls_max as u64, Fault::CallsFull);
        full(
            now.transactions >= limits.transactions_max as u64,
            Fault::TransactionsFull,
        );
        full(now.lookups >= limits.lookups_max as u64, Fault::LookupsFull);
        self.last[number] = now;
    }
}

/// What the delivery of hooks counts.
pub(super) fn lanes(counters: &webhook::Counters, faults: &mut Faults) {
    let submitted = counters.events_submitted + counters.actions_submitted;
    let ended = counters.events_delivered
        + counters.actions_delivered
        + counters.events_given_up
        + counters.actions_given_up
        + counters.events_dropped
        + counters.actions_dropped
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
    if pending.lookups > 0 || pending.records > 0 || !pending.outcomes.is_empty() {
        faults.push(format!("shard {number} is owed {pending:?}"));
    }
}
