//! The numbers of a dialog's requests, as each party sees them (RFC 3261 §12.2.1.1): those of the other party in its order,
//! those of referee above all before, none twice, and an ACK with its INVITE's. One that was challenged may come again once, above
//! all before (RFC 3261 §22.2).

use super::Faults;
use crate::sim::peer::text::{Text, param};
use crate::timer::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A direction of a dialog: the Call-ID, the sender's tag and the receiver's.
type Direction = (String, String, String);

#[derive(Debug, Default)]
pub(super) struct Dialogs {
    /// CSeq numbers of requests that came, by the branch of who sent them first.
    came: BTreeMap<String, u32>,
    directions: BTreeMap<Direction, Numbers>,
    /// Top branches of requests that left: the same again is a repeat.
    left: BTreeSet<String>,
    /// Branches of requests that came again long after.
    replayed: BTreeSet<String>,
    /// Top branches of requests that were challenged and have not been sent again.
    challenged: BTreeSet<String>,
    /// By Call-ID, the tags that peers have used as their own.
    tags: BTreeMap<String, BTreeSet<String>>,
    /// By Call-ID, when the first BYE came or left: the dialog need not be known much longer.
    ends: BTreeMap<String, Instant>,
    /// Call-IDs of dialogs that a party has ended and the other has taken for ended.
    over: BTreeSet<String>,
    /// Dialogs that a relayed response to an INVITE has made, by Call-ID and both tags in order.
    made: BTreeSet<(String, [String; 2])>,
    /// Call-IDs of INVITEs that were answered, and of those that were refused before.
    confirmed: BTreeSet<String>,
    refused: BTreeSet<String>,
    /// Requests within them, by branch, until they have gone on or have an answer.
    open: BTreeMap<String, Text>,
    /// Requests that were answered as if their dialogs were not known, by Call-ID; Call-IDs of calls that referee may have ended.
    unknown: Vec<(String, String)>,
    ended_here: BTreeSet<String>,
    /// By Call-ID, the branches of all BYEs that came or left, and of those that a party has challenged.
    byes: BTreeMap<String, BTreeSet<String>>,
    challenged_byes: BTreeMap<String, Instant>,
}

#[derive(Debug, Default)]
struct Numbers {
    /// What the receiver sees for each number of the sender, with the branch of each sending. The last holds.
    relayed: BTreeMap<u32, Vec<(u32, String)>>,
    /// Numbers of the sender's INVITEs that came again long after, and what the receiver saw for them.
    replayed: BTreeSet<(u32, u32)>,
    /// Numbers of referee's own requests.
    own: BTreeSet<u32>,
    highest: u32,
}

impl Dialogs {
    /// A request came. `is_trunks`: from a trunk.
    pub fn request(&mut self, text: &Text, is_trunks: bool, now: Instant) {
        self.note_tag(text, "From");
        if text.method() == "BYE" {
            self.ends.entry(text.call_id().to_owned()).or_insert(now);
            self.note_bye(text);
        }
        let is_within = self.made.contains(&dialog_of(text)) && !matches!(text.method(), "ACK" | "CANCEL");
        if is_within && is_trunks && !self.came.contains_key(&text.origin()) && text.list("Via").len() == 1 {
            self.open.insert(text.branch(), text.clone());
        }
        if text.method() != "CANCEL" {
            self.came.insert(text.origin(), text.cseq().0);
        }
    }

    /// A response came.
    pub fn response(&mut self, text: &Text) {
        self.note_tag(text, "To");
        if matches!(text.code(), 401 | 407) {
            self.challenged.insert(text.branch());
        }
    }

    /// A response leaves: the tag of whoever answers is one of the dialog's.
    pub fn answered(&mut self, text: &Text) {
        if text.method() == "INVITE" && text.code() < 300 {
            self.note_tag(text, "To");
        }
    }

    /// RFC 3261 §12.3: a refused INVITE ends the dialogs that it has begun.
    fn note_refusal(&mut self, text: &Text) {
        if text.method() == "INVITE" && text.code() >= 300 && !self.confirmed.contains(text.call_id()) {
            self.refused.insert(text.call_id().to_owned());
        }
    }

    fn note_bye(&mut self, text: &Text) {
        let byes = self.byes.entry(text.call_id().to_owned()).or_default();
        byes.insert(text.origin());
    }

    /// A response leaves that nobody has given. A request of a dialog that nobody has ended is of one, if its Routes or a challenge of
    /// before tell so.
    pub fn answered_here(&mut self, text: &Text) {
        self.note_refusal(text);
        let Some(request) = self.open.remove(&text.branch()) else {
            return;
        };
        let (call_id, method) = (request.call_id(), request.method());
        if text.code() != 481 || self.replayed.contains(&text.branch()) {
            return;
        }
        let is_live = match method {
            "NOTIFY" | "SUBSCRIBE" | "REFER" => false,
            "BYE" => {
                let is_again = request.header("Authorization").is_some() && self.challenged_byes.contains_key(call_id);
                is_again && self.byes.get(call_id).is_some_and(|byes| byes.len() == 2)
            }
            _ => {
                let is_over = self.ends.contains_key(call_id) || self.refused.contains(call_id);
                request.header("Route").is_some() && !is_over
            }
        };
        if is_live {
            let fault = format!(
                "`{}` answers a `{method}` of {call_id}, which nobody has ended",
                text.label()
            );
            self.unknown.push((call_id.to_owned(), fault));
        }
    }

    /// All is over: each request of a dialog has gone on or has been answered.
    pub fn over(&self, faults: &mut Faults) {
        // A BYE of referee's own may have waited for a name then, or found none.
        let unknown = self
            .unknown
            .iter()
            .filter(|(call_id, _)| !self.ended_here.contains(call_id));
        faults.extend(unknown.map(|(_, fault)| fault.clone()));
        for (branch, request) in &self.open {
            if !self.replayed.contains(branch) {
                faults.push(format!("`{}` of {} is lost", request.label(), request.call_id()));
            }
        }
    }

    /// A response of a party's is passed on.
    pub fn passed_on(&mut self, text: &Text, now: Instant) {
        self.note_refusal(text);
        if text.method() == "INVITE" && (200..300).contains(&text.code()) {
            self.confirmed.insert(text.call_id().to_owned());
        }
        if text.method() == "INVITE" && (101..300).contains(&text.code()) && text.tag("To").is_some() {
            self.made.insert(dialog_of(text));
        }
        if text.method() == "BYE" && matches!(text.code(), 401 | 407) {
            self.challenged_byes.insert(text.call_id().to_owned(), now);
        }
        // A challenged BYE comes again.
        if text.method() == "BYE" && text.code() >= 200 && !matches!(text.code(), 401 | 407) {
            self.over.insert(text.call_id().to_owned());
        }
    }

    /// Referee may end a call by this: a hangup, the end of a transfer. Its BYEs need not leave, where nobody is to be had.
    pub fn may_end(&mut self, call_id: &str) {
        self.ended_here.insert(call_id.to_owned());
    }

    /// Whether the only dialog of a Call-ID is over (RFC 3261 §15.1).
    pub fn is_over(&self, call_id: &str) -> bool {
        self.over.contains(call_id) && self.tags.get(call_id).is_some_and(|tags| tags.len() == 2)
    }

    fn note_tag(&mut self, text: &Text, field: &str) {
        if let Some(tag) = text.tag(field) {
            self.tags.entry(text.call_id().to_owned()).or_default().insert(tag);
        }
    }

    pub fn replayed(&mut self, text: &Text) {
        self.replayed.insert(text.branch());
    }

    /// Whether a request with this branch has left.
    pub fn has_sent(&self, branch: &str) -> bool {
        self.left.contains(branch)
    }

    /// A request leaves. `known_for`: how long a dialog is known after its first BYE.
    pub fn sent(&mut self, text: &Text, now: Instant, known_for: Duration, faults: &mut Faults) {
        let (number, method) = text.cseq();
        let origin = text.origin();
        self.open.remove(&origin);
        if method == "BYE" {
            self.note_bye(text);
            if text.list("Via").len() == 1 {
                self.ended_here.insert(text.call_id().to_owned());
            }
        }
        if !self.left.insert(text.branch()) || method == "CANCEL" {
            return;
        }
        let tag = |name: &str| text.tag(name).unwrap_or_default();
        let direction = (text.call_id().to_owned(), tag("From"), tag("To"));
        if self.replayed.contains(&origin) {
            // It may have come again while it went on: its ACK, which did not, has the number with which it left all the same.
            if let (Some(came), "INVITE") = (self.came.get(&origin), method) {
                let numbers = self.directions.entry(direction).or_default();
                numbers.replayed.insert((*came, number));
            }
            return;
        }
        if method == "OPTIONS" && text.list("Via").len() == 1 {
            // Of no dialog.
            return;
        }
        if method == "REFER" && text.tag("To").is_none() && text.list("Via").len() == 1 {
            // It makes a dialog of its own; the one that it is about is another.
            let target = text.header("Target-Dialog").unwrap_or_default();
            let call_id = target.split(';').next().unwrap_or_default();
            for name in ["local-tag", "remote-tag"] {
                let tag = param(target, name).unwrap_or_default();
                if !self.tags.get(call_id).is_some_and(|tags| tags.contains(&tag)) {
                    faults.push(format!("`REFER` has the {name} {tag}, which is nobody's"));
                }
            }
            return;
        }
        for field in ["From", "To"] {
            if let Some(tag) = text.tag(field)
                && !self.tags.get(text.call_id()).is_some_and(|tags| tags.contains(&tag))
            {
                faults.push(format!(
                    "`{}` has the {field} tag {tag}, which is nobody's",
                    text.label()
                ));
            }
        }
        if self.ends.get(text.call_id()).is_some_and(|at| now >= *at + known_for) {
            return;
        }
        if method == "BYE" {
            self.ends.entry(text.call_id().to_owned()).or_insert(now);
        }
        let numbers = self.directions.entry(direction).or_default();
        let mut fault = |what: String| faults.push(format!("`{}` of {} {what}", text.label(), text.call_id()));
        if text.list("Via").len() == 1 {
            if method == "ACK" {
                return;
            }
            if number <= numbers.highest {
                fault(format!("is numbered {number} after {}", numbers.highest));
            }
            numbers.own.insert(number);
            numbers.highest = number;
            return;
        }
        let Some(came) = self.came.get(&origin).copied() else {
            return fault("is relayed and never came".into());
        };
        if method == "ACK" && numbers.replayed.contains(&(came, number)) {
            return;
        }
        let is_new = text.tag("To").is_none();
        let sendings = numbers.relayed.get(&came).map_or(&[][..], Vec::as_slice);
        let is_known = |(known, _): &(u32, String)| *known == number;
        let known = sendings.last().map(|(known, _)| *known);
        let mut is_again = false;
        // The branches of a new request have numbers of their own.
        if known.is_some_and(|known| known != number) && !(is_new && sendings.iter().any(is_known)) {
            let challenged = |(_, branch): &&(u32, String)| self.challenged.contains(branch);
            match sendings.iter().find(challenged).filter(|_| method != "ACK") {
                Some((before, branch)) if number > *before && (is_new || number > numbers.highest) => {
                    self.challenged.remove(branch);
                    is_again = true;
                }
                Some(_) | None => fault(format!("is numbered {number}, and its {came} was {sendings:?} before")),
            }
        }
        if method == "ACK" {
            return;
        }
        // By the number that each had first: one that came again has overtaken others.
        let first = |(_, sendings): (&u32, &Vec<(u32, String)>)| sendings.first().map(|(number, _)| *number);
        let below = numbers.relayed.range(..came).next_back().and_then(first);
        let above = numbers.relayed.range(came + 1..).next().and_then(first);
        if !is_again && (below.is_some_and(|below| below >= number) || above.is_some_and(|above| above <= number)) {
            fault(format!("is numbered {number} between {below:?} and {above:?}"));
        }
        let mut others = numbers.relayed.iter().filter(|(other, _)| **other != came);
        if numbers.own.contains(&number) || others.any(|(_, sendings)| sendings.iter().any(is_known)) {
            fault(format!("has the number {number} of another request"));
        }
        numbers.relayed.entry(came).or_default().push((number, text.branch()));
        numbers.highest = numbers.highest.max(number);
    }
}

/// The dialog that a message is of: its Call-ID and both tags in order.
fn dialog_of(text: &Text) -> (String, [String; 2]) {
    let mut tags = ["From", "To"].map(|name| text.tag(name).unwrap_or_default());
    tags.sort_unstable();
    (text.call_id().to_owned(), tags)
}
