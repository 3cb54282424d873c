//! The arrows of the state machines as they are drawn. Seeds together must take each that is drawn, and none that is not.
//!
//! One line for each: from, on what, to. Several names behind `to` are arrows of which one must be taken; a line that begins
//! with `?` is drawn but too rare, or too odd a thing of peers, to be waited for.

use referee::coverage::{Arrow, Coverage};
use std::collections::BTreeSet;

/// RFC 3261 figure 5 with RFC 6026 figure 6. Not taken: a transport error in Completed, since nobody asks what became of an ACK;
/// Timer D ends that state in any case.
const INVITE_CLIENT: &str = "
    Calling    | Timer A         | Calling
    Calling    | Timer B         | Terminated
    Calling    | transport error | Terminated
    Calling    | 1xx             | Proceeding
    Calling    | 2xx             | Accepted
    Calling    | 300-699         | Completed
    Proceeding | 1xx             | Proceeding
    Proceeding | 2xx             | Accepted
    Proceeding | 300-699         | Completed
    Completed  | 300-699         | Completed
    Completed  | Timer D         | Terminated
    Accepted   | 2xx             | Accepted
    Accepted   | Timer M         | Terminated
";

/// Beyond the figures: what is absorbed, the first failure over UDP, and the end of a branch that Timer C or a CANCEL gave up
/// (RFC 3261 §9.1, §16.8). A transaction that has a response outlives a failed send (§18.2.2).
const INVITE_CLIENT_MORE: &str = "
    Calling    | transport error | Calling
    Proceeding | transport error | Proceeding
    Proceeding | given up        | Terminated
  ? Calling    | given up        | Terminated
  ? Proceeding | Timer B         | Terminated
    Completed  | 1xx             | Completed
  ? Completed  | 2xx             | Completed
  ? Completed  | transport error | Completed
    Accepted   | 1xx             | Accepted
  ? Accepted   | 300-699         | Accepted
    Accepted   | transport error | Accepted
";

/// RFC 3261 figure 6.
const OTHER_CLIENT: &str = "
    Trying     | Timer E         | Trying
    Trying     | Timer F         | Terminated
    Trying     | transport error | Terminated
    Trying     | 1xx             | Proceeding
    Trying     | 200-699         | Completed
    Proceeding | Timer E         | Proceeding
    Proceeding | Timer F         | Terminated
    Proceeding | 1xx             | Proceeding
    Proceeding | 200-699         | Completed
    Completed  | Timer K         | Terminated
";

/// Beyond the figure, as above; a CANCEL ends with its INVITE, an OPTIONS of ours with its own time.
const OTHER_CLIENT_MORE: &str = "
    Trying     | transport error | Trying
    Proceeding | transport error | Proceeding
    Trying     | given up        | Terminated
  ? Proceeding | given up        | Terminated
    Trying     | INVITE ended    | Terminated
  ? Proceeding | INVITE ended    | Terminated
  ? Completed  | INVITE ended    | Terminated
    Completed  | 200-699         | Completed
  ? Completed  | 1xx             | Completed
  ? Completed  | transport error | Completed
";

/// RFC 3261 figure 7 with RFC 6026 figure 7: it begins in Proceeding, and a failed send changes nothing (RFC 6026 §7.1).
const INVITE_SERVER: &str = "
    Proceeding | request            | Proceeding
    Proceeding | 1xx                | Proceeding
    Proceeding | 2xx                | Accepted
    Proceeding | 300-699            | Completed
    Completed  | request            | Completed
    Completed  | Timer G            | Completed
    Completed  | ACK                | Confirmed
    Completed  | Timer H            | Terminated
    Confirmed  | ACK                | Confirmed
    Confirmed  | Timer I            | Terminated
    Accepted   | request            | Accepted
    Accepted   | 2xx                | Accepted
    Accepted   | Timer L            | Terminated
";

/// Beyond the figures: what comes too late is discarded, and an ACK that matches by its branch goes on to the user.
const INVITE_SERVER_MORE: &str = "
    Confirmed  | request            | Confirmed
  ? Accepted   | ACK                | Accepted
  ? Proceeding | ACK                | Proceeding
    Accepted   | response discarded | Accepted
  ? Completed  | response discarded | Completed
  ? Confirmed  | response discarded | Confirmed
";

/// RFC 3261 figure 8; the only provisional response is the 100 of RFC 4320 §4.1.
const OTHER_SERVER: &str = "
    Trying     | request            | Trying
    Trying     | 1xx                | Proceeding
    Trying     | 200-699            | Completed
    Proceeding | request            | Proceeding
    Proceeding | 200-699            | Completed
    Completed  | request            | Completed
    Completed  | Timer J            | Terminated
";

/// Beyond the figure: no answer came, and none is made up (RFC 4320 §4.2).
const OTHER_SERVER_MORE: &str = "
    Proceeding | given up           | Completed
  ? Trying     | given up           | Completed
  ? Completed  | response discarded | Completed
";

/// `sip:refer`, as `transfer.rs` draws it.
const TRANSFER: &str = "
    Sending   | REFER sent                  | Sending
    Sending   | refused here                | Done
  ? Sending   | caller redirected           | Done
    Sending   | replaced                    | Done
  ? Sending   | replaced                    | Lingering
    Sending   | unsendable                  | Done
    Sending   | transport error             | Done, Lingering, Progress
    Sending   | no response                 | Done, Lingering, Progress
    Sending   | 2xx                         | Waiting
    Sending   | 2xx                         | Progress
    Sending   | 2xx                         | Lingering
    Sending   | 2xx                         | Done
    Sending   | 2xx with Refer-Sub: false   | Lingering
    Sending   | 2xx with Refer-Sub: false   | Done
    Sending   | 3xx                         | Done
    Sending   | 401, 407 answered           | Sending
    Sending   | 401, 407                    | Done
    Sending   | 408                         | Done
    Sending   | 429                         | Done
    Sending   | 481                         | Done
    Sending   | 491                         | Backoff
    Sending   | 491                         | Done
  ? Sending   | 491                         | Sending, Lingering
    Sending   | 500, 503 with Retry-After   | Backoff
    Sending   | 500, 503 with Retry-After   | Done
  ? Sending   | 500, 503 with Retry-After   | Sending, Lingering
    Sending   | 500, overtaken              | Sending
  ? Sending   | 500, overtaken              | Done, Backoff, Lingering
    Sending   | other 4xx-6xx               | Done
  ? Sending   | other 4xx-6xx               | Lingering
    Sending   | NOTIFY 1xx                  | Sending
    Sending   | NOTIFY final                | Sending
  ? Sending   | NOTIFY final, overtaken     | Sending
    Sending   | NOTIFY terminated, not final | Sending
    Sending   | NOTIFY not final, overtaken | Sending
    Sending   | BYE of the notifier         | ByeGrace
    Sending   | BYE of the other party      | Done
    Sending   | BYE of the other party      | Sending
  ? Sending   | BYE of the notifier         | Sending
    Sending   | call ended here             | Done
    Sending   | T_total                     | Done, Lingering
    Sending   | T_tx                        | Done, Progress
  ? Sending   | T_tx                        | Lingering, Sending
    Sending   | T_bye_grace                 | Sending
    Sending   | subscription expires        | Sending
  ? Sending   | T_first                     | Sending
    Backoff   | backoff over                | Sending
  ? Backoff   | transport error             | Done, Lingering
    Backoff   | BYE of the notifier         | Done
    Backoff   | BYE of the other party      | Done
  ? Backoff   | replaced                    | Done
    Backoff   | call ended here             | Done
    Backoff   | T_total                     | Done, Lingering
  ? Backoff   | subscription expires        | Backoff
  ? Backoff   | T_bye_grace                 | Backoff
  ? Backoff   | NOTIFY 1xx                  | Backoff
  ? Backoff   | NOTIFY final                | Backoff
  ? Backoff   | NOTIFY terminated, not final | Backoff
  ? Backoff   | NOTIFY not final, overtaken | Backoff
    Waiting   | NOTIFY 1xx                  | Progress
    Waiting   | NOTIFY terminated, not final | Progress
    Waiting   | NOTIFY final                | Lingering
    Waiting   | NOTIFY final                | Done
    Waiting   | BYE of the notifier         | ByeGrace
  ? Waiting   | BYE of the notifier         | Waiting
    Waiting   | BYE of the other party      | Waiting
    Waiting   | replaced                    | Done
    Waiting   | call ended here             | Done
    Waiting   | T_first                     | Done
  ? Waiting   | T_first                     | Waiting
    Waiting   | T_total                     | Done
    Progress  | NOTIFY 1xx                  | Progress
    Progress  | NOTIFY terminated, not final | Progress
    Progress  | NOTIFY final                | Lingering
    Progress  | NOTIFY final                | Done
  ? Progress  | NOTIFY final, overtaken     | Lingering, Done
    Progress  | NOTIFY not final, overtaken | Progress
    Progress  | BYE of the notifier         | ByeGrace
  ? Progress  | BYE of the notifier         | Progress
    Progress  | BYE of the other party      | Progress
    Progress  | replaced                    | Done
    Progress  | call ended here             | Done
    Progress  | T_total                     | Done
  ? Progress  | T_tx                        | Progress
  ? Progress  | 2xx                         | Progress
  ? Progress  | 2xx with Refer-Sub: false   | Progress
  ? Progress  | 3xx                         | Progress
  ? Progress  | other 4xx-6xx               | Progress
  ? Progress  | 481                         | Progress
  ? Progress  | 491                         | Progress
  ? Progress  | no response                 | Progress
  ? Progress  | transport error             | Progress
    Progress  | T_bye_grace                 | Done
    Progress  | subscription expires        | Done
    ByeGrace  | 2xx                         | ByeGrace
    ByeGrace  | 2xx                         | Done
  ? ByeGrace  | 2xx with Refer-Sub: false   | ByeGrace, Done
    ByeGrace  | 481                         | Done
    ByeGrace  | 3xx, 401, 407, 408, 429, 491, 500, 503 with Retry-After, 500, overtaken, other 4xx-6xx | Done
    ByeGrace  | transport error             | Done
  ? ByeGrace  | no response                 | Done
  ? ByeGrace  | unsendable                  | Done
    ByeGrace  | NOTIFY 1xx                  | ByeGrace
    ByeGrace  | NOTIFY terminated, not final | ByeGrace
    ByeGrace  | NOTIFY final                | ByeGrace
    ByeGrace  | NOTIFY final                | Done
  ? ByeGrace  | NOTIFY final, overtaken     | ByeGrace, Done
    ByeGrace  | NOTIFY not final, overtaken | ByeGrace
    ByeGrace  | BYE of the notifier         | ByeGrace
    ByeGrace  | BYE of the other party      | ByeGrace
    ByeGrace  | call ended here             | Done
    ByeGrace  | T_bye_grace                 | Done
    ByeGrace  | T_total                     | Done
  ? ByeGrace  | T_tx                        | ByeGrace
    ByeGrace  | subscription expires        | ByeGrace
  ? ByeGrace  | T_first                     | ByeGrace
  ? Lingering | 2xx                         | Lingering
    Lingering | action answered             | Done
  ? Lingering | transport error             | Lingering
  ? Lingering | no response                 | Lingering
    Lingering | T_linger                    | Done
    Lingering | call ended here             | Done
    Lingering | BYE of the notifier         | Done
    Lingering | BYE of the other party      | Done
  ? Lingering | NOTIFY 1xx                  | Lingering
    Lingering | NOTIFY not final, overtaken | Lingering
  ? Lingering | NOTIFY final                | Lingering
  ? Lingering | NOTIFY final, overtaken     | Lingering
  ? Lingering | NOTIFY terminated, not final | Lingering
    Done      | action answered             | Done
    Done      | NOTIFY 1xx                  | Done
    Done      | NOTIFY final                | Done
  ? Done      | NOTIFY final, overtaken     | Done
    Done      | NOTIFY terminated, not final | Done
    Done      | NOTIFY not final, overtaken | Done
    Done      | call ended here             | Done
    Done      | T_linger                    | Done
    Done      | no response                 | Done
    Done      | transport error             | Done
    Done      | 2xx                         | Done
    Done      | 481                         | Done
  ? Done      | 2xx with Refer-Sub: false   | Done
  ? Done      | 3xx, 401, 407, 408, 429, 491, 500, 503 with Retry-After, 500, overtaken, other 4xx-6xx | Done
";

/// Every cause that an execution may end for.
const CAUSES: &[&str] = &[
    "notify_final",
    "accepted_no_subscription",
    "rejected",
    "redirected",
    "unauthorized",
    "referrer_identity",
    "no_dialog",
    "timeout",
    "transport",
    "no_notify",
    "ring_timeout",
    "subscription_terminated",
    "subscription_expired",
    "bye_after_accept",
    "bye_while_ringing",
    "call_ended",
    "hangup",
    "unsendable",
    "invalid_target",
    "busy",
    "not_answered",
    "caller_redirected",
    "replaced",
];

/// A line of a drawing.
struct Line {
    machine: &'static str,
    from: &'static str,
    /// One of these.
    on: Vec<&'static str>,
    to: Vec<&'static str>,
    is_rare: bool,
}

impl Line {
    fn has(&self, arrow: &Arrow) -> bool {
        self.machine == arrow.machine
            && self.from == arrow.from
            && self.on.contains(&arrow.on)
            && self.to.contains(&arrow.to)
    }
}

/// What a line has on the arrow: one thing, or for refusals a list of them, of which some have a comma of their own.
fn events(text: &'static str) -> Vec<&'static str> {
    const REFUSALS: &[&str] = &[
        "3xx",
        "401, 407",
        "408",
        "429",
        "491",
        "500, 503 with Retry-After",
        "500, overtaken",
        "other 4xx-6xx",
    ];
    match text.starts_with("3xx, ") {
        true => REFUSALS.to_vec(),
        false => vec![text],
    }
}

fn drawings() -> Vec<Line> {
    let machines = [
        ("INVITE client", INVITE_CLIENT),
        ("INVITE client", INVITE_CLIENT_MORE),
        ("non-INVITE client", OTHER_CLIENT),
        ("non-INVITE client", OTHER_CLIENT_MORE),
        ("INVITE server", INVITE_SERVER),
        ("INVITE server", INVITE_SERVER_MORE),
        ("non-INVITE server", OTHER_SERVER),
        ("non-INVITE server", OTHER_SERVER_MORE),
        ("transfer", TRANSFER),
    ];
    let mut lines = Vec::new();
    for (machine, drawing) in machines {
        for line in drawing.lines().filter(|line| !line.trim().is_empty()) {
            let (is_rare, line) = match line.trim_start().strip_prefix('?') {
                Some(rest) => (true, rest),
                None => (false, line),
            };
            let parts: Vec<&str> = line.split('|').map(str::trim).collect();
            let [from, on, to] = parts[..] else {
                panic!("`{line}` is no arrow");
            };
            lines.push(Line {
                machine,
                from,
                on: events(on),
                to: to.split(',').map(str::trim).collect(),
                is_rare,
            });
        }
    }
    lines
}

/// Arrows that must be taken and were not.
pub fn missing(coverage: &Coverage) -> Vec<String> {
    let taken: Vec<Arrow> = coverage.taken().map(|(arrow, _)| arrow).collect();
    let lines = drawings();
    let is_missing = |line: &&Line| !line.is_rare && !taken.iter().any(|arrow| line.has(arrow));
    let mut missing: Vec<String> = lines
        .iter()
        .filter(is_missing)
        .map(|line| {
            let to = line.to.join(" or ");
            format!("{} | {} | {} | {to}", line.machine, line.from, line.on.join(" or "))
        })
        .collect();
    let causes: BTreeSet<&str> = verdicts(&taken).map(|arrow| arrow.to).collect();
    missing.extend(
        CAUSES
            .iter()
            .filter(|cause| !causes.contains(*cause))
            .map(|cause| format!("cause {cause}")),
    );
    missing
}

/// Arrows that were taken and are not drawn.
pub fn undrawn(coverage: &Coverage) -> Vec<String> {
    let lines = drawings();
    let taken: Vec<Arrow> = coverage.taken().map(|(arrow, _)| arrow).collect();
    let is_undrawn = |arrow: &&Arrow| match arrow.machine {
        "transfer verdict" => !CAUSES.contains(&arrow.to),
        _ => !lines.iter().any(|line| line.has(arrow)),
    };
    taken.iter().filter(is_undrawn).map(Arrow::to_string).collect()
}

fn verdicts(taken: &[Arrow]) -> impl Iterator<Item = &Arrow> {
    taken.iter().filter(|arrow| arrow.machine == "transfer verdict")
}
