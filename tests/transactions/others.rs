//! Transactions of other requests (RFC 3261 §17.1.2, §17.2.2; RFC 4320): timers E, F, J and K.

use super::ends::{Ends, TRANSPORTS, lines};
use referee::transport::Transport;

#[test]
fn a_request_is_sent_again_at_intervals_up_to_t2_until_timer_f() {
    for (over, sends) in [
        (
            Transport::Udp,
            &[
                0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
            ][..],
        ),
        (Transport::Tcp, &[0]),
    ] {
        let mut ends = Ends::over(Transport::Udp, over);
        ends.caller_says(&ends.request("MESSAGE", "a"));
        ends.run_to(31_999);
        assert_eq!(ends.callee_heard_at("MESSAGE"), sends);
        let bytes = ends.bytes_to_callee("MESSAGE");
        assert!(bytes.iter().all(|again| *again == bytes[0]), "each is the same");
        assert_eq!(ends.transactions(), 2);
        ends.run_to(32_000);
        assert_eq!(ends.counters().timeouts_total, 1);
        // RFC 4320 §4: a 100 when Timer E has reached T2, and no 408; the caller's own Timer F has fired by now.
        assert_eq!(ends.to_caller(), lines(&[(3_500, "100 Trying (MESSAGE)")]));
        ends.run_to(37_000);
        ends.assert_over();
    }
}

/// RFC 3261 §17.2.2: what its sender has repeated before it gave up may come after that, for as long as a network keeps it.
#[test]
fn a_repeat_that_was_on_its_way_at_timer_f_is_no_new_request_until_t4() {
    let mut ends = Ends::over_udp();
    let message = ends.request("MESSAGE", "a");
    ends.caller_says(&message);
    ends.run_to(32_000);
    let sends = ends.callee_heard_at("MESSAGE");
    for at in [32_020, 36_999] {
        ends.run_to(at);
        ends.caller_says(&message);
    }
    assert_eq!(ends.callee_heard_at("MESSAGE"), sends);
    let trying = [3_500, 32_020, 36_999].map(|at| (at, "100 Trying (MESSAGE)"));
    assert_eq!(ends.to_caller(), lines(&trying));
    ends.run_to(37_000);
    ends.assert_over();
}

#[test]
fn a_request_with_a_provisional_response_is_sent_again_every_t2_until_timer_f() {
    let mut ends = Ends::over_udp();
    ends.caller_says(&ends.request("MESSAGE", "a"));
    ends.run_to(1_000);
    ends.callee_answers("MESSAGE", 100);
    ends.run_to(31_999);
    // The one that was due at 1.5 s is the first to be followed by T2.
    let sends = [0, 500, 1_500, 5_500, 9_500, 13_500, 17_500, 21_500, 25_500, 29_500];
    assert_eq!(ends.callee_heard_at("MESSAGE"), sends);
    assert_eq!(ends.transactions(), 2);
    ends.run_to(32_000);
    assert_eq!(ends.counters().timeouts_total, 1);
    assert_eq!(ends.caller_heard_at("408"), [0; 0]);
    ends.run_to(37_000);
    ends.assert_over();
}

/// RFC 4320 §4.2. Its sender goes on repeating: nothing of that is a new request.
#[test]
fn a_408_to_a_non_invite_goes_no_further_and_ends_it() {
    let mut ends = Ends::over_udp();
    let message = ends.request("MESSAGE", "a");
    ends.caller_says(&message);
    ends.run_to(700);
    ends.callee_answers("MESSAGE", 408);
    for at in [1_500, 5_800, 31_500] {
        ends.run_to(at);
        ends.caller_says(&message);
    }
    ends.run_to(32_699);
    assert_eq!(ends.callee_heard_at(""), [0, 500]);
    assert_eq!(ends.to_caller(), []);
    assert_eq!(ends.transactions(), 1);
    ends.run_to(32_700);
    ends.assert_over();
}

#[test]
fn a_final_response_ends_the_repeats_and_its_own_are_absorbed_until_timer_k() {
    for code in [200, 486, 603] {
        let mut ends = Ends::over_udp();
        ends.caller_says(&ends.request("MESSAGE", "a"));
        ends.run_to(700);
        ends.callee_answers("MESSAGE", code);
        ends.run_to(5_699);
        ends.callee_answers("MESSAGE", code);
        assert_eq!(ends.callee_heard_at(""), [0, 500]);
        assert_eq!(ends.caller_heard_at(&code.to_string()), [700], "{code}");
        assert_eq!(ends.transactions(), 2);
        ends.run_to(5_700);
        assert_eq!(ends.transactions(), 1, "the server transaction is left");
        ends.callee_answers("MESSAGE", code);
        assert_eq!(ends.caller_heard_at(&code.to_string()), [700], "{code}");
    }
}

#[test]
fn a_repeat_is_ignored_before_the_response_and_gets_it_again_until_timer_j() {
    let mut ends = Ends::over(Transport::Udp, Transport::Tcp);
    let message = ends.request("MESSAGE", "a");
    ends.caller_says(&message);
    ends.run_to(500);
    ends.caller_says(&message);
    assert_eq!(ends.to_caller(), []);
    ends.run_to(1_000);
    ends.callee_answers("MESSAGE", 200);
    let answer = ends.last_to_caller("200");
    for at in [1_500, 32_999] {
        ends.run_to(at);
        ends.caller_says(&message);
    }
    assert_eq!(ends.caller_heard_at("200"), [1_000, 1_500, 32_999]);
    assert_eq!(ends.last_to_caller("200"), answer);
    assert_eq!(ends.callee_heard_at(""), [0], "it is acted on once");
    assert_eq!(ends.transactions(), 1);
    ends.run_to(33_000);
    ends.assert_over();
}

#[test]
fn over_a_stream_a_response_ends_the_transaction() {
    let mut ends = Ends::over(Transport::Tcp, Transport::Tcp);
    ends.caller_says(&ends.request("MESSAGE", "a"));
    ends.run_to(700);
    ends.callee_answers("MESSAGE", 200);
    ends.run_to(700);
    assert_eq!(ends.caller_heard_at("200"), [700]);
    ends.assert_over();
}

#[test]
fn a_response_that_comes_when_timer_f_has_fired_is_dropped() {
    for over in TRANSPORTS {
        let mut ends = Ends::over(over, over);
        ends.caller_says(&ends.request("MESSAGE", "a"));
        ends.run_to(32_000);
        for at in [32_000, 40_000] {
            ends.run_to(at);
            ends.callee_answers("MESSAGE", 200);
        }
        // RFC 4320 §4.2.
        assert_eq!(ends.to_caller(), lines(&[(3_500, "100 Trying (MESSAGE)")]));
        assert_eq!(ends.counters().stray_responses_total, 2);
        ends.assert_over();
    }
}

#[test]
fn a_late_bye_and_its_response_end_with_their_transaction() {
    let mut ends = Ends::over_udp();
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    ends.callee_answers("INVITE", 200);
    let answer = ends.last_to_caller("200");
    let bye = |name: &str| {
        let bye = super::ends::like(&invite, "BYE", answer.header("To"));
        bye.replace("z9hG4bK-a", name).replace("CSeq: 7", "CSeq: 8")
    };
    ends.caller_says(&bye("z9hG4bK-bye"));
    ends.run_to(40_000);
    ends.callee_answers("BYE", 200);
    assert_eq!(
        ends.caller_heard_at(""),
        [0, 0, 3_500],
        "100 and 200 of the INVITE, 100 of the BYE"
    );
    // The call is over for referee, too.
    ends.caller_says(&bye("z9hG4bK-again"));
    assert_eq!(
        ends.to_caller()[3..],
        lines(&[(40_000, "481 Call/Transaction Does Not Exist (BYE)")])
    );
}
