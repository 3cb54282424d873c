//! The numbers of a dialog's requests, as each party sees them (RFC 3261 §12.2.1.1): those of the other party in its order,
//! those of referee above all before, none twice, and an ACK with its INVITE's.

use super::Faults;
use crate::sim::peer::text::Text;
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
    /// By Call-ID, the tags that peers have used as their own.
    tags: BTreeMap<String, BTreeSet<String>>,
    /// By Call-ID, when the first BYE came or left: the dialog need not be known much longer.
    ends: BTreeMap<String, Instant>,
}

#[derive(Debug, Default)]
struct Numbers {
    /// What the receiver sees for each number of the sender.
    relayed: BTreeMap<u32, u32>,
    /// Numbers of referee's own requests.
    own: BTreeSet<u32>,
    highest: u32,
}

impl Dialogs {
    /// A request came.
    pub fn request(&mut self, text: &Text, now: Instant) {
        self.note_tag(text, "From");
        if text.method() == "BYE" {
            self.ends.entry(text.call_id().to_owned()).or_insert(now);
        }
        if text.method() != "CANCEL" {
            self.came.insert(text.origin(), text.cseq().0);
        }
    }

    /// A response came.
    pub fn response(&mut self, text: &Text) {
        self.note_tag(text, "To");
    }

    /// A response leaves: the tag of whoever answers is one of the dialog's.
    pub fn answered(&mut self, text: &Text) {
        if text.method() == "INVITE" && text.code() < 300 {
            self.note_tag(text, "To");
        }
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
        if !self.left.insert(text.branch()) || method == "CANCEL" || self.replayed.contains(&origin) {
            return;
        }
        if method == "OPTIONS" && text.list("Via").len() == 1 {
            // Of no dialog.
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
        let tag = |name: &str| text.tag(name).unwrap_or_default();
        let direction = (text.call_id().to_owned(), tag("From"), tag("To"));
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
        match numbers.relayed.get(&came) {
            Some(known) if *known != number => {
                fault(format!("is numbered {number}, and its {came} was {known} before"));
            }
            _ => {}
        }
        if method == "ACK" {
            return;
        }
        let below = numbers.relayed.range(..came).next_back().map(|(_, number)| *number);
        let above = numbers.relayed.range(came + 1..).next().map(|(_, number)| *number);
        if below.is_some_and(|below| below >= number) || above.is_some_and(|above| above <= number) {
            fault(format!("is numbered {number} between {below:?} and {above:?}"));
        }
        if numbers.own.contains(&number) {
            fault(format!("has the number {number} of a request of referee's own"));
        }
        numbers.relayed.insert(came, number);
        numbers.highest = numbers.highest.max(number);
    }
}
