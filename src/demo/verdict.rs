//! Whether all that had to happen happened: the checks that a careful reader of the ladder would make.

use super::application::verify;
use super::scenarios::{Asked, Ending, Scenario, Target, Transfer};
use super::sip::{self, Message};
use super::trace::{Column, Event, Http};
use serde_json::Value;

/// One thing that has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The sentence that is true if it holds.
    pub claim: &'static str,
    /// What is wrong; empty if it holds.
    pub problems: Vec<String>,
}

/// Makes every check. `ids`: the Call-IDs of the call and of the consultation; `secrets`: of the two signatures of a hook.
pub fn judge(events: &[Event], scenario: &Scenario, ids: &[String; 2], secrets: [&[u8]; 2]) -> Vec<Check> {
    let is_of = |event: &Event, id: &str| event.sip().is_some_and(|message| message.header("Call-ID") == Some(id));
    let (consultation, of_call): (Vec<Event>, Vec<Event>) =
        events.iter().cloned().partition(|event| is_of(event, &ids[1]));
    let seen = Seen { events: &of_call };
    let consultation = Seen { events: &consultation };
    let check = |claim, problems| Check { claim, problems };
    let mut checks = vec![
        check("the call was answered and acknowledged", seen.set_up(scenario)),
        check("the control API took the verb", seen.verbs(scenario)),
        check(
            "the REFER speaks as the platform, with the verb's target, referrer and header",
            seen.refers(scenario, &consultation),
        ),
        check(
            "CSeq rises in each direction and goes on from the REFER's",
            seen.sequences(),
        ),
        check("every response answers a request with its CSeq", seen.responses()),
        check(
            "every NOTIFY was answered 200, and neither it nor the REFER reached the platform",
            seen.notifies(scenario),
        ),
        check("one eventHook per NOTIFY, in order", seen.event_hooks(scenario)),
        check(
            "one actionHook per transfer, last, with its result",
            seen.action_hooks(scenario),
        ),
        check(
            "every hook is signed and has an id of its own",
            seen.signatures(secrets),
        ),
        check(scenario.ending.claim(), seen.ending(scenario)),
    ];
    if scenario.transfers.iter().any(|transfer| transfer.is_challenged) {
        checks.push(check(
            "the challenged REFER came again at once, with the next number and with credentials",
            seen.challenges(),
        ));
    }
    if scenario.is_led {
        checks.push(check(
            "the application was asked once, and told how the call went",
            seen.call_hooks(),
        ));
    }
    if scenario.consults {
        checks.push(check(
            "the caller took the platform's place in the other call, and that ended",
            consultation.consultation(&seen),
        ));
    }
    checks
}

impl Ending {
    fn claim(self) -> &'static str {
        match self {
            Ending::Referee => "referee ended the call with one BYE on each leg that there was",
            Ending::Carrier => "the call went on until the carrier hung up",
            Ending::Platform => "the call went on: the carrier took the platform's re-INVITE, ACK and BYE",
        }
    }
}

/// The record, looked at.
struct Seen<'a> {
    events: &'a [Event],
}

impl<'a> Seen<'a> {
    /// SIP messages that went this way, without repeats.
    fn sip(&self, from: Column, to: Column) -> impl Iterator<Item = &'a Message> {
        self.events
            .iter()
            .filter(move |event| event.from == from && event.to == to && !event.repeat)
            .filter_map(Event::sip)
    }

    fn requests(&self, from: Column, to: Column, method: &'static str) -> Vec<&'a Message> {
        self.sip(from, to)
            .filter(|message| message.method() == Some(method))
            .collect()
    }

    fn hooks(&self, path: &'static str) -> Vec<&'a Http> {
        self.all_hooks()
            .filter(|http| http.start == format!("POST {path}"))
            .collect()
    }

    fn all_hooks(&self) -> impl Iterator<Item = &'a Http> {
        self.events
            .iter()
            .filter(|event| event.from == Column::Referee && event.to == Column::Application)
            .filter_map(Event::http)
            .filter(|http| http.start.starts_with("POST "))
    }

    fn set_up(&self, scenario: &Scenario) -> Vec<String> {
        let mut problems = Vec::new();
        // Where the application leads the call, referee answers it: at once, and nobody else hears of it.
        let (called, statuses) = match scenario.is_led {
            true => (0, &[100, 200][..]),
            false => (1, &[100, 180, 200][..]),
        };
        for method in ["INVITE", "ACK"] {
            let is_there = !self.requests(Column::Referee, Column::Platform, method).is_empty();
            expect_count(
                &mut problems,
                &format!("{method}s at the platform"),
                usize::from(is_there),
                called,
            );
        }
        for &status in statuses {
            let came = self
                .sip(Column::Referee, Column::Carrier)
                .any(|message| message.status() == Some(status) && message.cseq().is_some_and(|(_, m)| m == "INVITE"));
            if !came {
                problems.push(format!("the carrier got no {status} to its INVITE"));
            }
        }
        let acks = self.requests(Column::Carrier, Column::Referee, "ACK");
        if acks.is_empty() {
            problems.push("the carrier sent no ACK".into());
        }
        problems
    }

    fn verbs(&self, scenario: &Scenario) -> Vec<String> {
        let answers: Vec<&Http> = self
            .events
            .iter()
            .filter(|event| event.to == Column::Application)
            .filter_map(Event::http)
            .filter(|http| !http.start.starts_with("POST "))
            .collect();
        let mut problems: Vec<String> = answers
            .iter()
            .filter(|http| !http.start.starts_with("202"))
            .map(|http| format!("the control API said {}: {}", http.start, http.body))
            .collect();
        expect_count(
            &mut problems,
            "answers to verbs",
            answers.len(),
            scenario
                .transfers
                .iter()
                .filter(|transfer| transfer.asked == Asked::ByApi)
                .count(),
        );
        problems
    }

    fn refers(&self, scenario: &Scenario, consultation: &Seen<'_>) -> Vec<String> {
        let mut problems = Vec::new();
        let refers = self.requests(Column::Referee, Column::Carrier, "REFER");
        let targets: Vec<Target> = scenario
            .transfers
            .iter()
            .flat_map(|transfer| vec![transfer.target; 1 + usize::from(transfer.is_challenged)])
            .collect();
        expect_count(&mut problems, "REFERs at the carrier", refers.len(), targets.len());
        let answer = self.answer(Column::Referee, Column::Carrier);
        let invite = self.requests(Column::Carrier, Column::Referee, "INVITE");
        let (Some(answer), Some(invite)) = (answer, invite.first()) else {
            problems.push("there is no dialog to compare with".into());
            return problems;
        };
        let tag = |message: &Message, name: &str| {
            message
                .header(name)
                .and_then(|value| sip::parameter(value, "tag"))
                .unwrap_or_default()
                .to_owned()
        };
        for (refer, target) in refers.into_iter().zip(targets) {
            let consulted;
            let target = match target {
                Target::Named(_, on_the_wire) => on_the_wire,
                Target::Consulted => {
                    consulted = consultation.replaces();
                    &consulted
                }
            };
            let expected = [
                ("Contact", answer.header("Contact")),
                ("Call-ID", answer.header("Call-ID")),
                ("Refer-To", Some(target)),
                ("Referred-By", Some(super::REFERRED_BY)),
                (super::CUSTOM_HEADER.0, Some(super::CUSTOM_HEADER.1)),
            ];
            for (name, value) in expected {
                expect_equal(&mut problems, &format!("the REFER's {name}"), refer.header(name), value);
            }
            expect_equal(
                &mut problems,
                "the REFER's Request-URI",
                Some(refer.request_uri()),
                invite.header("Contact").map(sip::uri_of),
            );
            expect_equal(
                &mut problems,
                "the REFER's From tag",
                &tag(refer, "From"),
                &tag(answer, "To"),
            );
            expect_equal(
                &mut problems,
                "the REFER's To tag",
                &tag(refer, "To"),
                &tag(answer, "From"),
            );
            if !refer.values("Allow").contains(&"NOTIFY") {
                problems.push("the REFER does not allow NOTIFY".into());
            }
        }
        problems
    }

    /// The 200 to the first INVITE that went from `to` to `from`.
    fn answer(&self, from: Column, to: Column) -> Option<&'a Message> {
        self.sip(from, to)
            .find(|message| message.status() == Some(200) && message.cseq().is_some_and(|(_, m)| m == "INVITE"))
    }

    /// What refers somebody to the one that this call reached at the carrier: its Contact, and a Replaces of the dialog as that one
    /// sees it (RFC 3891 §3, RFC 5589 §7).
    fn replaces(&self) -> String {
        let Some(answer) = self.answer(Column::Carrier, Column::Referee) else {
            return String::new();
        };
        let tag = |name| {
            answer
                .header(name)
                .and_then(|value| sip::parameter(value, "tag"))
                .unwrap_or_default()
        };
        let uri = sip::uri_of(answer.header("Contact").unwrap_or_default());
        let id = answer.header("Call-ID").unwrap_or_default().replace('@', "%40");
        format!(
            "<{uri}?Replaces={id}%3Bto-tag%3D{}%3Bfrom-tag%3D{}&Require=replaces>",
            tag("To"),
            tag("From")
        )
    }

    /// Of a call that somebody else takes over.
    fn consultation(&self, call: &Seen<'_>) -> Vec<String> {
        let mut problems = [self.sequences(), self.responses()].concat();
        for (from, to) in [(Column::Carrier, Column::Referee), (Column::Referee, Column::Platform)] {
            expect_count(
                &mut problems,
                "BYEs after the target was joined",
                self.requests(from, to, "BYE").len(),
                1,
            );
        }
        let first = |events: &[Event], method| {
            let is_it = |event: &&Event| event.sip().is_some_and(|message| message.method() == Some(method));
            events.iter().find(is_it).map(|event| event.at)
        };
        if first(self.events, "BYE") < first(call.events, "REFER") {
            problems.push("it ended before the REFER".into());
        }
        problems
    }

    fn call_hooks(&self) -> Vec<String> {
        let mut problems = Vec::new();
        expect_count(&mut problems, "call hooks", self.hooks("/call").len(), 1);
        let statuses: Vec<String> = self
            .hooks("/status")
            .iter()
            .filter_map(|hook| body_of(hook)["call_status"].as_str().map(str::to_owned))
            .collect();
        let expected = ["trying", "in-progress", "completed"].map(str::to_owned);
        expect_equal(&mut problems, "the call's statuses", &statuses[..], &expected[..]);
        problems
    }

    fn challenges(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let refers = self.requests(Column::Referee, Column::Carrier, "REFER");
        let numbers: Vec<u32> = refers
            .iter()
            .filter_map(|refer| refer.cseq())
            .map(|(number, _)| number)
            .collect();
        expect_equal(&mut problems, "the REFERs' numbers", &numbers[..], &[1, 2]);
        let shown: Vec<bool> = refers
            .iter()
            .map(|refer| refer.header("Authorization").is_some())
            .collect();
        expect_equal(
            &mut problems,
            "whether they have credentials",
            &shown[..],
            &[false, true],
        );
        problems
    }

    /// RFC 3261 §12.2.1.1: each request has a higher number than the one before; an ACK has its INVITE's.
    fn sequences(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for peer in [Column::Carrier, Column::Platform] {
            let mut last = None;
            let mut invites = Vec::new();
            for request in self
                .sip(Column::Referee, peer)
                .filter(|message| message.status().is_none())
            {
                let Some((number, method)) = request.cseq() else {
                    problems.push(format!("`{}` has no CSeq", request.start));
                    continue;
                };
                match method {
                    "ACK" if invites.contains(&number) => continue,
                    "ACK" => problems.push(format!("the ACK #{number} at the {} has no INVITE", peer.name())),
                    _ if last.is_some_and(|last| number <= last) => {
                        problems.push(format!(
                            "{method} #{number} at the {} does not rise above #{}",
                            peer.name(),
                            last.unwrap_or(0)
                        ));
                    }
                    // The platform, for which referee speaks, has sent nothing before the first REFER.
                    "REFER" if last.is_none() && number != 1 => {
                        problems.push(format!("the first request of the platform's side is #{number}, not #1"));
                    }
                    _ => {}
                }
                if method == "INVITE" {
                    invites.push(number);
                }
                last = last.max(Some(number));
            }
        }
        problems
    }

    fn responses(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for peer in [Column::Carrier, Column::Platform] {
            for (asker, answerer) in [(peer, Column::Referee), (Column::Referee, peer)] {
                let asked: Vec<_> = self
                    .sip(asker, answerer)
                    .filter_map(|request| request.method().and(request.cseq()))
                    .collect();
                for response in self.sip(answerer, asker) {
                    let Some(status) = response.status() else { continue };
                    let cseq = response.cseq().unwrap_or_default();
                    if !asked.contains(&cseq) {
                        problems.push(format!(
                            "{} got {} to {} #{}, which it never sent",
                            asker.name(),
                            response.status_text(),
                            cseq.1,
                            cseq.0
                        ));
                    }
                    if status >= 300 && cseq.1 != "REFER" {
                        problems.push(format!(
                            "{} answered {} #{} with {}",
                            answerer.name(),
                            cseq.1,
                            cseq.0,
                            response.status_text()
                        ));
                    }
                }
            }
        }
        problems
    }

    fn notifies(&self, scenario: &Scenario) -> Vec<String> {
        let mut problems = Vec::new();
        let sent = self.requests(Column::Carrier, Column::Referee, "NOTIFY");
        let expected: usize = scenario.transfers.iter().map(|transfer| transfer.notified.len()).sum();
        expect_count(&mut problems, "NOTIFYs of the carrier", sent.len(), expected);
        for notify in sent {
            let is_answered = self
                .sip(Column::Referee, Column::Carrier)
                .any(|message| message.status() == Some(200) && message.cseq() == notify.cseq());
            if !is_answered {
                problems.push(format!("NOTIFY {} has no 200", notify.sipfrag().unwrap_or_default()));
            }
        }
        for method in ["NOTIFY", "REFER"] {
            if !self.requests(Column::Referee, Column::Platform, method).is_empty() {
                problems.push(format!("a {method} reached the platform"));
            }
        }
        problems
    }

    fn event_hooks(&self, scenario: &Scenario) -> Vec<String> {
        let mut problems = Vec::new();
        let statuses: Vec<u64> = self
            .hooks("/event")
            .iter()
            .map(|hook| {
                let body = body_of(hook);
                expect_value(&mut problems, "an eventHook", &body, "event", &"transfer-status".into());
                expect_value(&mut problems, "an eventHook", &body, "verb", &"sip:refer".into());
                body["call_status"].as_u64().unwrap_or(0)
            })
            .collect();
        let expected: Vec<u64> = scenario
            .transfers
            .iter()
            .flat_map(|transfer| transfer.notified.iter().map(|status| u64::from(*status)))
            .collect();
        expect_equal(&mut problems, "the eventHooks' statuses", &statuses, &expected);
        problems
    }

    fn action_hooks(&self, scenario: &Scenario) -> Vec<String> {
        let mut problems = Vec::new();
        let actions = self.hooks("/action");
        expect_count(&mut problems, "actionHooks", actions.len(), scenario.transfers.len());
        for (hook, transfer) in actions.iter().zip(scenario.transfers) {
            let body = body_of(hook);
            for (key, expected) in expected_action(transfer) {
                expect_value(&mut problems, "the actionHook", &body, key, &expected);
            }
            if body["verb_id"].as_str().is_none_or(str::is_empty) {
                problems.push("the actionHook has no verb_id".into());
            }
        }
        let mut ended = Vec::new();
        for hook in self.all_hooks() {
            let transfer = body_of(hook)["trace_id"].clone();
            if hook.start == "POST /action" {
                ended.push(transfer);
            } else if hook.start == "POST /event" && ended.contains(&transfer) {
                problems.push("an eventHook came after its actionHook".into());
            }
        }
        problems
    }

    fn signatures(&self, secrets: [&[u8]; 2]) -> Vec<String> {
        let mut problems = Vec::new();
        let mut ids = Vec::new();
        for hook in self.all_hooks() {
            if let Err(header) = verify(hook, secrets[0], secrets[1]) {
                problems.push(format!("the {header} of {} is missing or wrong", hook.start));
            }
            match hook.header("webhook-id") {
                Some(id) if !ids.contains(&id) => ids.push(id),
                Some(id) => problems.push(format!("two hooks have the id {id}")),
                None => problems.push(format!("{} has no webhook-id", hook.start)),
            }
        }
        problems
    }

    fn ending(&self, scenario: &Scenario) -> Vec<String> {
        let mut problems = Vec::new();
        let byes = |from, to| self.requests(from, to, "BYE").len();
        let counted = [
            ("BYEs that the carrier sent", byes(Column::Carrier, Column::Referee)),
            ("BYEs that the carrier got", byes(Column::Referee, Column::Carrier)),
            ("BYEs that the platform sent", byes(Column::Platform, Column::Referee)),
            ("BYEs that the platform got", byes(Column::Referee, Column::Platform)),
        ];
        let expected = match scenario.ending {
            Ending::Referee if scenario.is_led => [0, 1, 0, 0],
            Ending::Referee => [0, 1, 0, 1],
            Ending::Carrier => [1, 0, 0, 1],
            Ending::Platform => [0, 1, 1, 0],
        };
        for ((what, count), expected) in counted.into_iter().zip(expected) {
            expect_count(&mut problems, what, count, expected);
        }
        let went_through = |method| self.requests(Column::Referee, Column::Carrier, method).len();
        let reinvites = self.requests(Column::Platform, Column::Referee, "INVITE").len();
        expect_count(
            &mut problems,
            "re-INVITEs at the carrier",
            went_through("INVITE"),
            reinvites,
        );
        expect_count(&mut problems, "ACKs at the carrier", went_through("ACK"), reinvites);
        expect_count(
            &mut problems,
            "INFOs at the platform",
            self.requests(Column::Referee, Column::Platform, "INFO").len(),
            self.requests(Column::Carrier, Column::Referee, "INFO").len(),
        );
        if scenario.ending == Ending::Platform && reinvites == 0 {
            problems.push("the platform sent no re-INVITE".into());
        }
        problems
    }
}

/// The fields of an actionHook that tell how the transfer ended.
fn expected_action(transfer: &Transfer) -> [(&'static str, Value); 6] {
    [
        ("refer_status", transfer.refer_status.into()),
        ("referStatus", transfer.refer_status.to_string().into()),
        (
            "final_referred_call_status",
            transfer.final_status.map_or(Value::Null, Value::from),
        ),
        ("refer_result", transfer.result.into()),
        ("refer_cause", transfer.cause.into()),
        ("notify_count", transfer.notified.len().into()),
    ]
}

fn body_of(hook: &Http) -> Value {
    serde_json::from_str(&hook.body).unwrap_or_default()
}

fn expect_value(problems: &mut Vec<String>, of: &str, body: &Value, key: &str, expected: &Value) {
    if body[key] != *expected {
        problems.push(format!("{of} has {key} {}, not {expected}", body[key]));
    }
}

fn expect_count(problems: &mut Vec<String>, what: &str, count: usize, expected: usize) {
    if count != expected {
        problems.push(format!("{what}: {count}, not {expected}"));
    }
}

fn expect_equal<T: PartialEq + std::fmt::Debug>(problems: &mut Vec<String>, what: &str, found: T, expected: T) {
    if found != expected {
        problems.push(format!("{what}: {found:?}, not {expected:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::trace::What;
    use std::time::Duration;

    fn request(from: Column, to: Column, method: &str, cseq: u32) -> Event {
        let text = format!("{method} sip:x SIP/2.0\r\nCSeq: {cseq} {method}\r\n\r\n");
        Event {
            at: Duration::ZERO,
            from,
            to,
            what: What::Sip(Message::parse(text.as_bytes()).unwrap()),
            repeat: false,
        }
    }

    #[test]
    fn a_number_that_does_not_rise_is_found() {
        use Column::{Carrier, Referee};
        for (numbers, is_fine) in [
            (&[("REFER", 1), ("INVITE", 2), ("ACK", 2), ("BYE", 3)][..], true),
            (&[("REFER", 1), ("INVITE", 1), ("ACK", 1)], false),
            (&[("REFER", 2)], false),
            (&[("REFER", 1), ("BYE", 1)], false),
            (&[("REFER", 1), ("INVITE", 2), ("ACK", 1)], false),
        ] {
            let events: Vec<Event> = numbers
                .iter()
                .map(|(method, number)| request(Referee, Carrier, method, *number))
                .collect();
            assert_eq!(Seen { events: &events }.sequences().is_empty(), is_fine, "{numbers:?}");
        }
    }

    #[test]
    fn a_silent_stage_fails_every_check_that_needs_something() {
        let checks = judge(&[], &crate::demo::SCENARIOS[0], &["a".into(), "b".into()], [b"", b""]);
        let failed = checks.iter().filter(|check| !check.problems.is_empty()).count();
        // Nothing rises, answers or is signed where nothing was sent.
        assert_eq!((checks.len(), failed), (10, 7), "{checks:#?}");
    }
}
