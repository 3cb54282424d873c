//! Who sends a REFER to whom, and what waits for its response: one of referee's own goes to the leg that was asked for, a party's only
//! where its trunk may send them and none of referee's runs, and what the other party says meanwhile does not overtake it.

use super::Faults;
use crate::command::{CallSelector, Command};
use crate::config::{Config, InboundRefer, Side, Trunk};
use crate::sim::peer::text::Text;
use crate::timer::Instant;
use crate::transport::Flow;
use crate::verb::{Leg, Verb};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// A direction of a dialog: the Call-ID, the sender's tag and the receiver's.
type Direction = (String, String, String);

#[derive(Debug)]
pub(super) struct Refers {
    config: Arc<Config>,
    /// By Call-ID, the tags of those who sent its first INVITE, where that was relayed.
    callers: BTreeMap<String, String>,
    /// By Call-ID, the legs that verbs have named.
    legs: BTreeMap<String, BTreeSet<bool>>,
    /// REFERs of parties that came, by their branches.
    came: BTreeMap<String, SocketAddr>,
    /// Dialogs in which a transfer of referee's runs: its REFER has left, and its action has not.
    running: BTreeSet<Direction>,
    /// Where the response to a REFER of referee's is waited for.
    holds: BTreeMap<Direction, Hold>,
    /// Branches of requests that came, and of those that have left.
    known: BTreeSet<String>,
    left: BTreeSet<String>,
}

#[derive(Debug)]
struct Hold {
    /// The REFER's branch.
    refer: String,
    until: Instant,
    /// Branches of what came meanwhile, in order; it leaves in that order.
    waiting: Vec<String>,
}

/// These wait for nothing: what ends, acknowledges, or is of a subscription.
const NEVER_HELD: &[&str] = &["ACK", "CANCEL", "BYE", "PRACK", "NOTIFY", "SUBSCRIBE"];

impl Refers {
    pub fn new(config: Arc<Config>) -> Refers {
        Refers {
            config,
            callers: BTreeMap::new(),
            legs: BTreeMap::new(),
            came: BTreeMap::new(),
            running: BTreeSet::new(),
            holds: BTreeMap::new(),
            known: BTreeSet::new(),
            left: BTreeSet::new(),
        }
    }

    /// A command is given.
    pub fn command(&mut self, command: &Command) {
        let Command::Verbs { call, verbs, .. } = command else {
            return;
        };
        let CallSelector::SipCallId(call_id) = call else { return };
        let legs = self
            .legs
            .entry(String::from_utf8_lossy(call_id).into_owned())
            .or_default();
        for verb in verbs {
            if let Verb::SipRefer(refer) = verb {
                legs.extend(refer.leg.map(|leg| leg == Leg::Caller));
            }
        }
    }

    /// A request came.
    pub fn request(&mut self, text: &Text, flow: Flow, now: Instant) {
        if text.method() == "REFER" {
            self.came.entry(text.branch()).or_insert(flow.peer);
        }
        if text.method() == "BYE" {
            self.holds.retain(|(call_id, ..), _| call_id != text.call_id());
        }
        let is_new = self.known.insert(text.branch());
        if is_new
            && !NEVER_HELD.contains(&text.method())
            && let Some(hold) = self.holds.get_mut(&direction(text)).filter(|hold| now < hold.until)
        {
            hold.waiting.push(text.branch());
        }
    }

    /// A response came.
    pub fn response(&mut self, text: &Text) {
        if text.method() == "REFER" {
            let branch = text.branch();
            for hold in self.holds.values_mut().filter(|hold| hold.refer == branch) {
                hold.until = Instant::START;
            }
        }
    }

    /// An action tells how a transfer of this call has ended.
    pub fn given_up(&mut self, of: &str) {
        self.running.retain(|(call_id, ..)| call_id != of);
    }

    /// A request leaves.
    pub fn sent(&mut self, text: &Text, flow: Flow, now: Instant, faults: &mut Faults) {
        let (method, is_own) = (text.method(), text.list("Via").len() == 1);
        let is_new = self.left.insert(text.origin());
        if method == "INVITE" && text.tag("To").is_none() && !is_own {
            let caller = text.tag("From").unwrap_or_default();
            self.callers.entry(text.call_id().to_owned()).or_insert(caller);
        }
        if method == "BYE" {
            self.holds.retain(|(call_id, ..), _| call_id != text.call_id());
        }
        let direction = direction(text);
        if method == "REFER" && is_own && text.header("Target-Dialog").is_none() {
            if is_new {
                self.judge_leg(text, flow, faults);
                self.running.insert(direction.clone());
                let hold = Hold {
                    refer: text.branch(),
                    until: now + self.config.transfer.hold,
                    waiting: Vec::new(),
                };
                // There is one wait for each call.
                self.holds.retain(|(call_id, ..), _| call_id != text.call_id());
                self.holds.insert(direction, hold);
            }
            return;
        }
        if is_own || !is_new {
            return;
        }
        let mut fault = |what: &str| faults.push(format!("`{}` of {} {what}", text.label(), text.call_id()));
        if let Some(hold) = self.holds.get_mut(&direction)
            && !NEVER_HELD.contains(&method)
        {
            if now < hold.until {
                fault("does not wait for the response to a REFER");
            }
            if let Some(place) = hold.waiting.iter().position(|branch| *branch == text.origin()) {
                let mut before = hold.waiting.drain(..=place);
                if before.next() != Some(text.origin()) {
                    fault("has waited, and overtakes what has waited longer");
                }
            }
        }
        if method == "REFER" {
            let (call_id, from, to) = direction.clone();
            if [direction, (call_id, to, from)]
                .iter()
                .any(|it| self.running.contains(it))
            {
                fault("goes on while a transfer of referee's runs");
            }
            let from = self.came.get(&text.origin());
            let rejects = |trunk: &Trunk| trunk.inbound_refer == InboundRefer::Reject;
            if from.and_then(|from| self.trunk_of(*from)).is_some_and(rejects) {
                fault("goes on, and its trunk may send none");
            }
        }
    }

    /// A response of referee's own leaves: what it answers does not wait any more.
    pub fn answered(&mut self, text: &Text) {
        if text.code() >= 200 {
            for hold in self.holds.values_mut() {
                hold.waiting.retain(|branch| *branch != text.branch());
            }
        }
    }

    /// A REFER goes to a carrier's leg, or to one that a verb has named.
    fn judge_leg(&self, text: &Text, flow: Flow, faults: &mut Faults) {
        let Some(caller) = self.callers.get(text.call_id()) else {
            return;
        };
        let is_to_caller = text.tag("To").as_ref() == Some(caller);
        let is_named = |legs: &BTreeSet<bool>| legs.contains(&is_to_caller);
        let is_carrier = self
            .trunk_of(flow.peer)
            .is_some_and(|trunk| trunk.side == Some(Side::Carrier));
        let knows = |trunk: &Trunk| trunk.sources.iter().any(|source| source.contains(flow.peer.ip()));
        if self.config.trunks.iter().any(knows) && !is_carrier && !self.legs.get(text.call_id()).is_some_and(is_named) {
            faults.push(format!(
                "`REFER` of {} goes to a leg that nobody has named",
                text.call_id()
            ));
        }
    }

    fn trunk_of(&self, peer: SocketAddr) -> Option<&Trunk> {
        let is_of = |trunk: &&Trunk| trunk.sources.iter().any(|source| source.contains(peer.ip()));
        self.config.trunks.iter().find(is_of)
    }
}

fn direction(text: &Text) -> Direction {
    let tag = |name: &str| text.tag(name).unwrap_or_default();
    (text.call_id().to_owned(), tag("From"), tag("To"))
}
