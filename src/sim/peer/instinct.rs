//! What a peer does when a request comes and nobody has told it what to do: as the dice fall.

use super::script::{Act, Steps, notify, request, respond, respond_as_other, respond_with};
use crate::sim::dice::Dice;
use crate::timer::Instant;
use std::time::Duration;

/// How a REFER may be refused.
pub const REFUSALS: &[u16] = &[403, 405, 501, 481, 500, 503, 603, 302, 401, 407, 408, 429];

/// A peer's own mind.
#[derive(Debug)]
pub struct Instinct {
    pub dice: Dice,
    /// From then on it answers everything well and at once.
    pub until: Instant,
    /// Out of a thousand requests it takes so many oddly: no answer, one nobody expects, one that is late.
    pub odd: u64,
    /// What it answers to every other REFER.
    pub refer_code: Option<u16>,
    /// It answers every call at once.
    pub answers: bool,
}

impl Instinct {
    pub(super) fn react(&mut self, method: &str, in_dialog: bool, now: Instant) -> Steps {
        if now >= self.until {
            return match method {
                "INVITE" if !in_dialog => vec![(Duration::from_millis(10), respond(486))],
                _ => vec![(Duration::ZERO, respond(200))],
            };
        }
        match (method, in_dialog) {
            ("INVITE", false) => self.answer(),
            ("INVITE", true) => self.renegotiate(),
            ("REFER", _) => self.course(),
            ("BYE", _) => self.plain(&[200, 200, 200, 200, 200, 200, 481, 401]),
            ("NOTIFY", _) => self.plain(&[200, 200, 200, 200, 200, 481]),
            _ => self.plain(&[200, 200, 200, 200, 405, 481, 407, 503]),
        }
    }

    /// How a callee takes an INVITE.
    fn answer(&mut self) -> Steps {
        let mut steps = Vec::new();
        let mut at = Duration::ZERO;
        if self.answers {
            return vec![(self.dice.millis(100), respond(200))];
        }
        if self.dice.permille(self.odd) {
            // Rings for ever, or says nothing at all.
            if self.dice.one_in(2) {
                steps.push((self.dice.millis(300), respond(180)));
            }
            return steps;
        }
        if !self.dice.one_in(4) {
            at += self.dice.millis(300);
            steps.push((at, respond(180)));
        }
        let others = self.dice.one_in(5);
        if others {
            at += self.dice.millis(300);
            steps.push((at, respond_as_other(183, 1)));
        }
        if self.dice.one_in(5) {
            at += self.dice.millis(300);
            let sequence = (1 + self.dice.below(100)).to_string();
            steps.push((at, respond_with(183, &[("RSeq", &sequence), ("Require", "100rel")])));
        }
        if self.dice.one_in(12) {
            at += self.dice.millis(300);
            steps.push((at, request("UPDATE")));
        }
        at += Duration::from_millis(200) + self.dice.millis(2_000);
        if others && self.dice.one_in(3) {
            steps.push((at, respond_as_other(200, 1)));
            return steps;
        }
        let last = if self.dice.one_in(6) {
            self.dice
                .one_of(&[486, 404, 503, 503, 503, 603, 302, 401, 407, 480, 408, 500, 481, 606])
        } else {
            200
        };
        let retry_after = self.dice.one_of(&["5", "30"]);
        steps.push(match last == 503 && !self.dice.one_in(4) {
            true => (at, respond_with(503, &[("Retry-After", retry_after)])),
            false => (at, respond(last)),
        });
        if others && last == 200 && self.dice.one_in(2) {
            steps.push((at + self.dice.millis(400), respond_as_other(200, 1)));
        }
        steps
    }

    /// How either takes an INVITE of their dialog.
    fn renegotiate(&mut self) -> Steps {
        if self.dice.permille(self.odd) {
            return match self.dice.one_in(2) {
                true => vec![(self.dice.millis(300), respond(180))],
                false => Vec::new(),
            };
        }
        let mut steps = Vec::new();
        if self.dice.one_in(4) {
            steps.push((self.dice.millis(50), respond(100)));
        }
        if self.dice.one_in(4) {
            let sequence = (1 + self.dice.below(100)).to_string();
            let reliable = [("RSeq", sequence.as_str()), ("Require", "100rel")];
            steps.push((self.dice.millis(200), respond_with(183, &reliable)));
        }
        let code = self.dice.one_of(&[200, 200, 200, 200, 200, 488, 491, 500]);
        steps.push((self.dice.millis(1_500), respond(code)));
        steps
    }

    /// How any takes a request that opens nothing.
    fn plain(&mut self, codes: &[u16]) -> Steps {
        if self.dice.permille(self.odd) {
            return match self.dice.below(4) {
                0 => Vec::new(),
                // Only 100 is provisional where no INVITE is (RFC 4320 §4.1): a peer that does not know that.
                1 => vec![
                    (self.dice.millis(300), respond(183)),
                    (self.dice.millis(9_000), respond(200)),
                ],
                2 => vec![
                    (self.dice.millis(300), respond(100)),
                    (self.dice.millis(9_000), respond(200)),
                ],
                _ => vec![(self.dice.millis(40_000), respond(200))],
            };
        }
        let code = match self.dice.one_in(4) {
            true => self.dice.one_of(codes),
            false => 200,
        };
        vec![(self.dice.millis(250), respond(code))]
    }

    /// How a party takes a REFER.
    fn course(&mut self) -> Steps {
        let at = self.dice.millis(300);
        if self.dice.permille(self.odd) {
            return self.odd_course(at);
        }
        let code = match (self.refer_code, self.dice.below(10)) {
            (Some(code), 0..=6) => code,
            (_, 0) => self.dice.one_of(REFUSALS),
            (_, 1) => 491,
            (_, 2) => 200,
            _ => 202,
        };
        if code >= 300 {
            if code == 503 || self.dice.one_in(6) {
                let wait = self.dice.one_of(&["2", "5", "60"]);
                let code = if code == 500 { 500 } else { 503 };
                return vec![(at, respond_with(code, &[("Retry-After", wait)]))];
            }
            return vec![(at, respond(code))];
        }
        if self.dice.one_in(10) {
            return vec![(at, respond_with(code, &[("Refer-Sub", "false")]))];
        }
        let mut steps: Steps = vec![(at, respond(code))];
        self.report(&mut steps);
        steps
    }

    /// The NOTIFYs of a REFER; in one burst they overtake each other, and the response.
    fn report(&mut self, steps: &mut Steps) {
        let mut at = Duration::ZERO;
        let (between, last) = match self.dice.one_in(3) {
            true => (20, 40),
            false => (1_000, 5_000),
        };
        for status in ["100 Trying", "180 Ringing"] {
            at += self.dice.millis(between);
            if !self.dice.one_in(4) {
                let expires = self
                    .dice
                    .one_of(&["active;expires=60", "active;expires=2", "pending", "active"]);
                steps.push((at, notify(status, expires)));
            }
        }
        at += self.dice.millis(last);
        let ended = "terminated;reason=noresource";
        match self.dice.below(12) {
            0 => {}
            1 => steps.push((at, request("BYE"))),
            2 => steps.push((at, notify("", "terminated;reason=giveup"))),
            3 => {
                steps.push((at, notify("", "terminated;reason=timeout")));
                steps.push((at + self.dice.millis(1_500), notify("200 OK", ended)));
            }
            4 => {
                steps.push((at, notify("200 OK", ended)));
                steps.push((at, request("BYE")));
            }
            5 => {
                steps.push((at, request("BYE")));
                steps.push((at + self.dice.millis(1_500), notify("200 OK", ended)));
            }
            6 => {
                // A second thought.
                steps.push((at, notify("486 Busy Here", ended)));
                steps.push((at + self.dice.millis(3_000), notify("200 OK", ended)));
            }
            _ => {
                let status = self
                    .dice
                    .one_of(&["200 OK", "200 OK", "486 Busy Here", "603 Decline", "410 Gone"]);
                steps.push((at, notify(status, ended)));
            }
        }
    }

    /// No final response, one that is late, or NOTIFYs before it.
    fn odd_course(&mut self, at: Duration) -> Steps {
        let mut steps: Steps = Vec::new();
        match self.dice.below(5) {
            0 => {}
            1 => steps.push((at, respond(100))),
            2 => self.report(&mut steps),
            3 => {
                self.report(&mut steps);
                steps.push((self.dice.millis(8_000), respond(202)));
            }
            _ => {
                steps.push((at, Act::Cancel));
                steps.push((at, request("BYE")));
                let code = self.dice.one_of(&[202, 202, 481, 481, 401, 403, 408]);
                steps.push((at + self.dice.millis(600), respond(code)));
            }
        }
        steps
    }
}
