//! What holds at every step, and what must be true once the network heals and all calls are over.

use super::application::Posted;
use super::peer::OF_REFER;
use super::peer::text::Text;
use crate::message::properties::malformed_fields;
use crate::message::{MessageBuf, ParseErrorKind, check};
use crate::shard::{CounterKind, Counters, Shard};
use crate::webhook::HookKind;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Watches all that passes referee.
#[derive(Debug, Default)]
pub struct Check {
    /// Requests that came, by peer, branch and method as CSeq has it; with the final responses they got.
    requests: BTreeMap<(String, String, String), Finals>,
    /// Branches of the REFERs that peers sent.
    refers: BTreeSet<String>,
    /// NOTIFYs that came and said of which REFER they are, by the branch of their sender.
    notifies: BTreeMap<String, Notify>,
    /// Calls that somebody has sent a BYE for, and those of them that referee has ended itself.
    hung_up: BTreeSet<String>,
    ended_here: BTreeSet<String>,
    /// Executions that were accepted.
    accepted: BTreeSet<String>,
    counters: Vec<Counters>,
    /// Lines that peers sent and that are malformed: these may be passed on as they are.
    malformed: BTreeSet<(u8, Vec<u8>)>,
    violations: Vec<String>,
}

#[derive(Debug, Default)]
struct Finals {
    /// Distinct codes in order.
    codes: Vec<u16>,
}

#[derive(Debug)]
struct Notify {
    /// The branch of the REFER's sender.
    refer: String,
    has_route: bool,
    was_relayed: bool,
}

impl Check {
    /// A request from this peer came.
    pub fn request(&mut self, peer: &str, text: &Text) {
        self.requests.entry(key(peer, text)).or_default();
        match text.method() {
            "REFER" => {
                self.refers.insert(text.origin());
            }
            "BYE" => {
                self.hung_up.insert(text.call_id().to_owned());
            }
            _ => {}
        }
        if let Some(refer) = text.header(OF_REFER) {
            self.notifies.entry(text.origin()).or_insert_with(|| Notify {
                refer: refer.to_owned(),
                has_route: text.header("Route").is_some(),
                was_relayed: false,
            });
        }
    }

    /// A request leaves.
    fn request_sent(&mut self, text: &Text) {
        if let Some(notify) = self.notifies.get_mut(&text.origin()) {
            notify.was_relayed = true;
            if !self.refers.contains(&notify.refer) {
                self.violations
                    .push(format!("`{}` of a REFER of referee's own is relayed", text.label()));
            }
        }
        if text.method() == "BYE" && text.list("Via").len() == 1 {
            self.hung_up.insert(text.call_id().to_owned());
            self.ended_here.insert(text.call_id().to_owned());
        }
    }

    /// A NOTIFY is answered. That of a subscription of a party's is for that party to answer: a peer without route sets loses
    /// it with the call, and so do both when referee ends their call.
    fn notify_answered(&mut self, text: &Text) {
        let Some(notify) = self.notifies.get(&text.origin()) else {
            return;
        };
        let is_lost = match notify.has_route {
            true => self.ended_here.contains(text.call_id()),
            false => self.hung_up.contains(text.call_id()),
        };
        if self.refers.contains(&notify.refer) && !notify.was_relayed && !is_lost {
            self.violation(format!(
                "`{}` answers a NOTIFY of a party's REFER that was not relayed",
                text.label()
            ));
        }
    }

    /// Bytes came that may be a message.
    pub fn received(&mut self, bytes: &[u8]) {
        let Ok(message) = MessageBuf::parse(bytes.to_vec()) else {
            return;
        };
        let message = message.as_message();
        for header in malformed_fields(message) {
            let lines = message.lines_of(header);
            self.malformed
                .extend(lines.map(|line| (header as u8, line.value.to_vec())));
        }
    }

    /// What leaves is a message by our own strict reading, with every field of ours as its grammar wants it.
    pub fn is_valid(&mut self, bytes: &[u8], label: &str) {
        let message = match MessageBuf::parse(bytes.to_vec()) {
            Ok(message) => message,
            // RFC 4475 §3.3.1: what answers a request that lacks a field lacks it, too.
            Err(error) if matches!(error.kind, ParseErrorKind::Missing(_)) && bytes.starts_with(b"SIP/2.0 400 ") => {
                return;
            }
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

    /// A message leaves for this peer.
    pub fn sent(&mut self, peer: &str, text: &Text) {
        if text.is_request() {
            return self.request_sent(text);
        }
        let label = text.label();
        let (code, method) = (text.code(), text.method().to_owned());
        let Some(finals) = self.requests.get_mut(&key(peer, text)) else {
            return self.violation(format!("`{label}` to {peer} answers nothing it sent"));
        };
        if method == "ACK" {
            self.violations.push(format!("`{label}` to {peer} answers an ACK"));
            return;
        }
        if code < 200 {
            if !finals.codes.is_empty() && code != 100 {
                // RFC 3261 §17.2.1: nothing provisional behind a final response.
                self.violations
                    .push(format!("`{label}` to {peer} comes after {:?}", finals.codes));
            }
            return;
        }
        if finals.codes.contains(&code) {
            return;
        }
        let is_further_2xx = code < 300 && finals.codes.iter().all(|code| *code < 300);
        if !(finals.codes.is_empty() || is_further_2xx && method == "INVITE") {
            self.violations
                .push(format!("`{label}` to {peer} is final after {:?}", finals.codes));
        }
        finals.codes.push(code);
        if method == "NOTIFY" {
            self.notify_answered(text);
        }
    }

    /// A verb was accepted as this execution.
    pub fn accepted(&mut self, transfer: String) {
        self.accepted.insert(transfer);
    }

    /// Counters that only rise do, and what they count adds up.
    pub fn counters(&mut self, shard: usize, now: Counters) {
        if self.counters.len() <= shard {
            self.counters.resize(shard + 1, Counters::default());
        }
        let mut before = Vec::new();
        self.counters[shard].each(|_, _, _, value| before.push(value));
        let mut i = 0;
        let mut faults = Vec::new();
        now.each(|name, kind, _, value| {
            if kind == CounterKind::Counter && value < before[i] {
                faults.push(format!("{name} fell from {} to {value}", before[i]));
            }
            i += 1;
        });
        let ended = now.transfers_success_total
            + now.transfers_failed_total
            + now.transfers_unknown_total
            + now.transfers_canceled_total;
        if now.transfers_total != ended + now.transfers {
            faults.push(format!(
                "{} transfers began, {ended} ended, {} run",
                now.transfers_total, now.transfers
            ));
        }
        self.violations.extend(faults);
        self.counters[shard] = now;
    }

    /// Every execution posted exactly one action, and events after it say that they are late.
    pub fn hooks(&mut self, posted: &[Posted]) {
        let mut actions: BTreeMap<&str, usize> = self.accepted.iter().map(|id| (id.as_str(), 0)).collect();
        let mut faults = Vec::new();
        let mut ids = BTreeSet::new();
        for hook in posted {
            let actions = actions.entry(&hook.transfer).or_default();
            if !ids.insert(&hook.webhook_id) {
                faults.push(format!("{} was posted twice", hook.webhook_id));
            }
            let is_late = hook.body.get("late") == Some(&Value::Bool(true));
            match hook.kind {
                HookKind::Action => *actions += 1,
                HookKind::Event if (*actions > 0) != is_late => {
                    faults.push(format!("{}: late {is_late} after {actions} actions", hook.webhook_id));
                }
                HookKind::Event => {}
            }
        }
        for (transfer, actions) in actions {
            if actions != 1 {
                faults.push(format!("{transfer} posted {actions} actions"));
            }
        }
        self.violations.extend(faults);
    }

    /// Nothing is alive and nothing is left to wait for.
    pub fn over(&mut self, number: usize, shard: &Shard) {
        let counters = shard.counters();
        let mut alive = Vec::new();
        counters.each(|name, kind, _, value| {
            if kind == CounterKind::Gauge && value > 0 {
                alive.push(format!("{value} {name}"));
            }
        });
        if !shard.is_idle() || !alive.is_empty() || shard.next_timeout().is_some() {
            self.violations
                .push(format!("shard {number} is not idle: {}", alive.join(", ")));
        }
    }

    pub fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    pub fn violations(&self) -> &[String] {
        &self.violations
    }
}

fn key(peer: &str, text: &Text) -> (String, String, String) {
    (peer.to_owned(), text.branch(), text.cseq().1.to_owned())
}
