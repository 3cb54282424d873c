//! What referee says of itself, and what it does not pass on: 100 (RFC 3261 §16.7 step 5), 503 (step 6), 408 to what is no INVITE
//! (RFC 4320 §4.2). A 503 of its own says when to come again, and what is shed while it drains goes nowhere.

use super::Faults;
use crate::sim::peer::text::Text;
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub(super) struct Own {
    /// The branch of the request that is being dealt with.
    asked: Option<String>,
    is_draining: bool,
    /// Branches of INVITEs outside a dialog that came while referee drained, and of those before.
    late: BTreeSet<String>,
    early: BTreeSet<String>,
    /// Those of INVITEs outside a dialog without a hop left.
    hopless: BTreeSet<String>,
}

impl Own {
    /// A request came.
    pub fn request(&mut self, text: &Text) {
        self.asked = Some(text.branch());
        if text.method() == "INVITE" && text.tag("To").is_none() {
            let of_time = match self.is_draining {
                true => &mut self.late,
                false => &mut self.early,
            };
            of_time.insert(text.branch());
            if text.header("Max-Forwards") == Some("0") {
                self.hopless.insert(text.branch());
            }
        }
    }

    /// What came is dealt with.
    pub fn taken(&mut self) {
        self.asked = None;
    }

    /// No shard takes a new call any more.
    pub fn drains(&mut self) {
        self.is_draining = true;
    }

    /// A request leaves.
    pub fn sent_request(&mut self, text: &Text, faults: &mut Faults) {
        let origin = text.origin();
        let opens = text.method() == "INVITE" && text.tag("To").is_none();
        if opens && self.late.contains(&origin) && !self.early.contains(&origin) {
            faults.push(format!(
                "`{}` of {} came while referee drained, and is sent on",
                text.label(),
                text.call_id()
            ));
        }
    }

    /// A response leaves. `is_own`: no peer has given it.
    pub fn sent_response(&mut self, text: &Text, is_own: bool, faults: &mut Faults) {
        let is_invite = text.method() == "INVITE";
        let broken = match text.code() {
            // RFC 3261 §17.2.1: at once; of another request when its Timer E has come to T2 (RFC 4320 §4.1).
            100 if is_invite && self.asked != Some(text.branch()) => "is no answer to what has just come",
            503 if !is_own => "is passed on",
            503 if text.header("Retry-After").is_none() => "does not say when to come again",
            408 if is_own && !is_invite => "is referee's own",
            // RFC 3261 §16.3 step 3, unless there is no room or it is nobody's.
            code if code > 100
                && !matches!(code, 400 | 403 | 483 | 503)
                && is_invite
                && self.hopless.contains(&text.branch()) =>
            {
                "answers a request without a hop left"
            }
            _ => return,
        };
        faults.push(format!("`{}` of {} {broken}", text.label(), text.call_id()));
    }
}
