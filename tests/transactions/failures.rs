//! What a failed send does to a transaction (RFC 3261 §17.1.4, §17.2.4, §18.4; RFC 6026 §7.1).

use super::ends::{Ends, like, lines};
use referee::transport::Transport;

#[test]
fn over_udp_the_first_failure_is_let_pass_and_the_second_ends_the_transaction() {
    for (method, label) in [
        ("INVITE", "500 Next Hop Unreachable (INVITE)"),
        ("MESSAGE", "500 Next Hop Unreachable (MESSAGE)"),
    ] {
        let mut ends = Ends::over_udp();
        ends.caller_says(&ends.request(method, "a"));
        ends.run_to(10);
        ends.last_send_fails(method);
        assert_eq!(ends.caller_heard_at("500"), [0; 0]);
        ends.run_to(510);
        assert_eq!(ends.callee_heard_at(method), [0, 500]);
        ends.last_send_fails(method);
        let answers = ends.to_caller();
        assert_eq!(answers.last(), lines(&[(510, label)]).first());
        ends.run_to(9_000);
        assert_eq!(ends.callee_heard_at(""), [0, 500]);
        assert_eq!(ends.counters().transport_failures_total, 1);
        assert_eq!(ends.counters().timeouts_total, 0);
    }
}

#[test]
fn a_second_failure_ends_a_transaction_where_all_intervals_are_the_same() {
    let config = format!(
        "{}[timers]\nt1 = \"500ms\"\nt2 = \"500ms\"\n",
        referee::sim::scene::TWO_SIDES
    );
    let mut ends = Ends::with(&config, Transport::Udp, Transport::Udp);
    ends.caller_says(&ends.request("MESSAGE", "a"));
    ends.last_send_fails("MESSAGE");
    ends.run_to(500);
    ends.last_send_fails("MESSAGE");
    assert_eq!(ends.caller_heard_at("500"), [500]);
}

#[test]
fn over_a_stream_a_failure_ends_the_transaction_at_once() {
    for method in ["INVITE", "MESSAGE"] {
        let mut ends = Ends::over(Transport::Udp, Transport::Tcp);
        ends.caller_says(&ends.request(method, "a"));
        ends.run_to(10);
        ends.last_send_fails(method);
        assert_eq!(ends.caller_heard_at("500"), [10]);
        assert_eq!(ends.counters().transport_failures_total, 1);
    }
}

#[test]
fn a_failure_after_a_response_ends_nothing() {
    for (method, over) in [
        ("INVITE", Transport::Udp),
        ("INVITE", Transport::Tcp),
        ("MESSAGE", Transport::Udp),
        ("MESSAGE", Transport::Tcp),
    ] {
        let mut ends = Ends::over(Transport::Udp, over);
        ends.caller_says(&ends.request(method, "a"));
        ends.run_to(600);
        ends.callee_answers(method, 100);
        ends.run_to(2_000);
        ends.last_send_fails(method);
        ends.callee_answers(method, 200);
        ends.last_send_fails(method);
        // The peer may answer by another connection (RFC 3261 §18.2.2).
        assert_eq!(ends.caller_heard_at("200"), [2_000], "{method} {over}");
        assert_eq!(ends.counters().transport_failures_total, 0);
    }
}

#[test]
fn a_response_that_cannot_be_sent_leaves_its_transaction_alive() {
    let mut ends = Ends::over_udp();
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    ends.callee_answers("INVITE", 486);
    // Nobody waits for what becomes of a response: the driver is given nothing to report it with.
    let responses = ends.sent().iter().filter(|sent| sent.bytes.starts_with(b"SIP/2.0 "));
    assert!(responses.clone().count() == 2 && responses.clone().all(|sent| sent.ticket.is_none()));
    ends.run_to(100);
    ends.caller_says(&invite);
    assert_eq!(ends.caller_heard_at("486"), [0, 100]);
    let refusal = ends.last_to_caller("486");
    ends.caller_says(&like(&invite, "ACK", refusal.header("To")));
    ends.run_to(5_100);
    assert_eq!(ends.caller_heard_at("486"), [0, 100]);
}

#[test]
fn a_cancel_that_cannot_be_sent_ends_nothing_but_itself() {
    let mut ends = Ends::over_udp();
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    ends.callee_answers("INVITE", 180);
    ends.caller_says(&like(&invite, "CANCEL", None));
    ends.last_send_fails("CANCEL");
    ends.run_to(500);
    ends.last_send_fails("CANCEL");
    ends.run_to(5_000);
    assert_eq!(ends.callee_heard_at("CANCEL"), [0, 500]);
    ends.callee_answers("INVITE", 200);
    assert_eq!(ends.caller_heard_at("200 OK (INVITE)"), [5_000]);
}
