//! What holds at every step, and what must be true once the network heals and all calls are over.
//!
//! The checks see what a peer or an application could see, and the shards' counters; they share no code with what they judge
//! but the strict reading of messages. Each part has its rules: `responses`, `own`, `transactions`, `relayed`, `loops`, `targets`,
//! `strangers`, `dialogs`, `refers`, `notifies`, `hooks`, `calls`, `counters`.

mod calls;
mod counters;
mod dialogs;
mod hooks;
mod loops;
mod notifies;
mod own;
mod refers;
mod relayed;
mod responses;
mod strangers;
mod targets;
mod transactions;

use super::application::Posted;
use super::peer::text::Text;
use super::tally::Tally;
use crate::command::{CallSelector, Command, Reply};
use crate::config::Config;
use crate::identifiers::Secret;
use crate::message::properties::malformed_fields;
use crate::message::{MessageBuf, check};
use crate::shard::Shard;
use crate::shard::audit::Pending;
use crate::timer::Instant;
use crate::transport::Flow;
use crate::webhook::{self, Hook, Lanes};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Rules that were broken, in order.
type Faults = Vec<String>;

/// A message on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'s> {
    /// The peer it is for.
    pub to: &'s str,
    pub flow: Flow,
    pub text: &'s Text,
    pub bytes: usize,
    pub now: Instant,
    /// Its shard has no room for a transaction.
    pub is_full: bool,
}

/// Watches all that passes referee.
#[derive(Debug)]
pub struct Check {
    responses: responses::Responses,
    own: own::Own,
    transactions: transactions::Transactions,
    relayed: relayed::Relayed,
    loops: loops::Loops,
    targets: targets::Targets,
    strangers: strangers::Strangers,
    dialogs: dialogs::Dialogs,
    refers: refers::Refers,
    notifies: notifies::Notifies,
    hooks: hooks::Hooks,
    counters: counters::Watch,
    /// Lines that peers sent and that are malformed: these may be passed on as they are.
    malformed: BTreeSet<(u8, Vec<u8>)>,
    /// Branches of requests that are no valid messages: what answers them copies their faults (RFC 4475 §3.3.1).
    unreadable: BTreeSet<String>,
    /// How long a dialog is known after its first BYE, at least.
    known_for: Duration,
    faults: Faults,
}

impl Check {
    pub fn new(config: Arc<Config>, secret: Secret, shards: usize) -> Check {
        let tombstones = config.trunks.iter().map(|trunk| trunk.refer.tombstone);
        Check {
            known_for: tombstones.min().unwrap_or_default().min(64 * config.timers.t1),
            responses: responses::Responses::new(secret),
            own: own::Own::default(),
            transactions: transactions::Transactions::new(config.timers),
            loops: loops::Loops::new(config.clone()),
            relayed: relayed::Relayed::new(&config),
            targets: targets::Targets::new(config.clone()),
            strangers: strangers::Strangers::new(config.clone()),
            dialogs: dialogs::Dialogs::default(),
            refers: refers::Refers::new(config.clone()),
            notifies: notifies::Notifies::default(),
            hooks: hooks::Hooks::new(&config),
            counters: counters::Watch::new(shards),
            malformed: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            faults: Vec::new(),
        }
    }

    // ---- what comes ----

    /// Bytes came from this peer that may be a message; [`Check::taken`] follows when they are dealt with.
    pub fn received(&mut self, from: &str, flow: Flow, bytes: &[u8], now: Instant) {
        let text = Text::read_any_length(bytes).ok();
        let is_known = text.as_ref().is_some_and(|text| self.dialogs.has_sent(&text.branch()));
        self.strangers.received(flow, text.as_ref(), is_known, bytes.len());
        if let Some(text) = text.filter(Text::is_request) {
            self.responses.request(from, &text);
            self.own.request(&text);
            self.loops.request(&text, flow);
            self.transactions.request(&text, flow, now, &mut self.faults);
            self.relayed.request(&text, flow, now);
            self.targets.request(&text, flow, now);
            self.dialogs.request(&text, !self.strangers.is_stranger(flow), now);
            self.refers.request(&text, flow, now);
            self.notifies.request(&text);
            self.hooks.request(&text, flow);
        } else if let Ok(text) = Text::read_any_length(bytes) {
            self.hooks.response(&text);
            self.transactions.response(&text, flow, now);
            self.targets.response(&text, flow, now, &mut self.faults);
            if is_known {
                self.relayed.response(&text, flow, now);
            }
            self.dialogs.response(&text);
            self.refers.response(&text);
            self.notifies.response(&text);
        }
        self.note_malformed(bytes);
    }

    /// Every shard drains.
    pub fn drains(&mut self) {
        self.own.drains();
    }

    /// What was received is dealt with.
    pub fn taken(&mut self) {
        self.strangers.taken();
        self.own.taken();
        self.transactions.taken(&mut self.faults);
    }

    fn note_malformed(&mut self, bytes: &[u8]) {
        let Ok(message) = MessageBuf::parse(bytes.to_vec()) else {
            if let Ok(text) = Text::read_any_length(bytes) {
                self.unreadable.insert(text.branch());
            }
            return;
        };
        let message = message.as_message();
        for header in malformed_fields(message) {
            let lines = message.lines_of(header);
            self.malformed
                .extend(lines.map(|line| (header as u8, line.value.to_vec())));
        }
    }

    /// A datagram of a peer will come again, from whom ever, long after.
    pub fn replayed(&mut self, text: &Text) {
        self.responses.replayed(text);
        self.transactions.replayed(text);
        self.relayed.replayed(text);
        self.targets.replayed(text);
        self.notifies.replayed(text);
        self.dialogs.replayed(text);
    }

    /// Referee will be told that this request has not arrived; another copy of it may have, or it was read before its connection broke.
    pub fn send_failed(&mut self, text: &Text) {
        self.transactions.send_failed(text);
        self.relayed.send_failed(text);
        self.targets.send_failed(text);
        self.notifies.send_failed(text);
    }

    // ---- what leaves ----

    /// What leaves is a message by our own strict reading, with every field of ours as its grammar wants it.
    pub fn is_valid(&mut self, bytes: &[u8], label: &str) {
        let message = match MessageBuf::parse(bytes.to_vec()) {
            Ok(message) => message,
            Err(_) if self.is_answer_to_unreadable(bytes) => return,
            Err(error) => return self.violation(format!("`{label}` is sent but would not be read: {error:?}")),
        };
        let message = message.as_message();
        if let Err(problem) = check(message) {
            self.violation(format!("`{label}` is sent but would be refused: {problem:?}"));
        }
        for header in malformed_fields(message) {
            let mut lines = message.lines_of(header);
            if !lines.any(|line| self.malformed.contains(&(header as u8, line.value.to_vec()))) {
                self.violation(format!("`{label}` is sent with a malformed {}", header.name()));
            }
        }
    }

    fn is_answer_to_unreadable(&self, bytes: &[u8]) -> bool {
        let text = Text::read_any_length(bytes).ok();
        text.is_some_and(|text| text.code() >= 400 && self.unreadable.contains(&text.branch()))
    }

    /// A message leaves.
    pub fn sent(&mut self, sent: &Sent<'_>) {
        let Sent { to, text, now, .. } = *sent;
        self.strangers.sent(sent.flow, text, sent.bytes, &mut self.faults);
        if text.is_request() {
            self.transactions.sent_request(text, sent.flow, now, &mut self.faults);
            self.relayed.sent_request(text, sent.flow, now, &mut self.faults);
            self.own.sent_request(text, &mut self.faults);
            self.loops.sent_request(text, &mut self.faults);
            self.targets.sent_request(text, sent.flow, now, &mut self.faults);
            self.dialogs.sent(text, now, self.known_for, &mut self.faults);
            self.refers.sent(text, sent.flow, now, &mut self.faults);
            self.notifies.sent(text, &mut self.faults);
            self.hooks.referred_outside(text);
        } else {
            // Where an application leads a call, referee is a party of it, with a tag of its own.
            self.dialogs.answered(text);
            let is_stateless = self.responses.is_stateless(text, sent.is_full);
            self.transactions
                .sent_response(text, sent.flow, is_stateless, now, &mut self.faults);
            let is_own = !self.relayed.sent_response(text, &mut self.faults);
            self.targets.sent_response(text, is_own, now, &mut self.faults);
            self.own.sent_response(text, is_own, &mut self.faults);
            match is_own {
                true => {
                    self.loops.sent_own(text, &mut self.faults);
                    self.dialogs.answered_here(text);
                    self.refers.answered(text);
                }
                false => self.dialogs.passed_on(text, now),
            }
            let is_news = self.responses.sent(to, text, is_stateless, &mut self.faults);
            if is_news && text.method() == "NOTIFY" {
                self.notifies.answered(text, &mut self.faults);
            }
        }
    }

    // ---- the control API and hooks ----

    /// From now on every verb asks for events.
    pub fn all_ask_for_events(&mut self) {
        self.hooks.all_ask_for_events = true;
    }

    /// A command was given.
    pub fn command(&mut self, ticket: u64, command: &Command) {
        if let Command::Hangup {
            call: CallSelector::SipCallId(call_id),
        } = command
        {
            self.dialogs.may_end(&String::from_utf8_lossy(call_id));
        }
        self.hooks.command(ticket, command);
        self.refers.command(command);
    }

    pub fn replied(&mut self, ticket: u64, reply: &Reply) {
        self.hooks.replied(ticket, reply, &mut self.faults);
    }

    /// A hook is handed over.
    pub fn hook(&mut self, hook: &Hook) {
        if let Some(call_id) = self.hooks.handed(hook, &mut self.faults) {
            self.dialogs.may_end(&call_id);
            self.notifies.given_up(&call_id);
            self.refers.given_up(&call_id);
        }
    }

    /// What the lanes count.
    pub fn lanes(&mut self, counters: &webhook::Counters) {
        counters::lanes(counters, &mut self.faults);
    }

    // ---- numbers ----

    /// The numbers of a shard add up, and its tables keep to their bounds.
    pub fn counters(&mut self, number: usize, shard: &Shard, tally: &mut Tally) {
        self.counters.watch(number, shard, tally, &mut self.faults);
    }

    // ---- the end ----

    /// Transactions, once all is over.
    pub fn transactions(&mut self) {
        self.transactions.over(&mut self.faults);
        self.dialogs.over(&mut self.faults);
    }

    /// Hooks, once all is over.
    pub fn hooks(&mut self, posted: &[Posted], lanes: Option<&Lanes>) {
        let unheard = self.notifies.unheard();
        self.hooks.over(posted, lanes.is_some(), &unheard, &mut self.faults);
        if lanes.is_some_and(|lanes| !lanes.is_idle()) {
            self.violation("hooks are left".into());
        }
        for ticket in self.hooks.unanswered() {
            self.violation(format!("command {ticket} got no reply"));
        }
    }

    /// A call is still known long after all have hung up.
    pub fn outlives(&mut self, call_id: &str) {
        if self.dialogs.is_over(call_id) {
            self.violation(format!("{call_id} is known long after its BYE was answered"));
        }
    }

    /// Nothing is alive and nothing is left to wait for.
    pub fn over(&mut self, number: usize, shard: &Shard, pending: &Pending) {
        counters::over(number, shard, pending, &mut self.faults);
    }

    pub fn violation(&mut self, what: String) {
        self.faults.push(what);
    }

    pub fn violations(&self) -> &[String] {
        &self.faults
    }
}
