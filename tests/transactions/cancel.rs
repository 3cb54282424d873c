//! CANCEL (RFC 3261 §9, §16.10; RFC 3326): when it is sent, what is in it, and what it does not do.

use super::ends::{Ends, TRANSPORTS, like, lines};
use referee::sim::scene::{CARRIER, TWO_SIDES};
use referee::transport::Transport;

/// An INVITE of the caller's that the callee lets ring, and its CANCEL.
fn ringing(ends: &mut Ends) -> (String, String) {
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    ends.callee_answers("INVITE", 180);
    let cancel = like(&invite, "CANCEL", None);
    (invite, cancel)
}

#[test]
fn a_cancel_is_answered_at_once_and_one_of_referees_own_goes_on() {
    for over in TRANSPORTS {
        let mut ends = Ends::over(over, over);
        let (_, cancel) = ringing(&mut ends);
        ends.run_to(100);
        ends.caller_says(&cancel);
        assert_eq!(ends.to_caller()[2..], lines(&[(100, "200 OK (CANCEL)")]));
        assert_eq!(ends.to_callee()[1..], lines(&[(100, "CANCEL")]));
        assert_eq!(ends.last_to_callee("CANCEL").list("Via").len(), 1);
        ends.run_to(200);
        ends.callee_answers("CANCEL", 200);
        assert_eq!(ends.to_caller().len(), 3, "the answer to it is nobody else's");
        ends.run_to(300);
        ends.callee_answers("INVITE", 487);
        assert_eq!(
            ends.to_caller()[3..],
            lines(&[(300, "487 Request Terminated (INVITE)")])
        );
    }
}

#[test]
fn a_cancel_is_the_invites_head_and_goes_the_same_way() {
    // The name that the callee has is another host's by then (RFC 3263 §4).
    let config = TWO_SIDES.replace("udp:10.0.0.5:5060", "udp:callee.example:5060");
    let config = config.replace(
        "listen = \"private\"",
        "listen = \"private\"\nsources = [\"10.0.0.0/24\"]",
    );
    let mut ends = Ends::with(&config, Transport::Udp, Transport::Udp);
    ends.wire.resolve_all_to(&["10.0.0.5".parse().unwrap()]);
    let invite = ends.request("INVITE", "a").replace(
        "Max-Forwards",
        "Route: <sip:203.0.113.7;lr>\r\nRoute: <sip:p1.example;lr>, <sip:p2.example;lr>\r\n\
         Require: 100rel\r\nSupported: timer\r\nMax-Forwards",
    );
    ends.caller_says(&invite);
    ends.callee_answers("INVITE", 180);
    ends.wire.resolve_all_to(&["10.0.0.6".parse().unwrap()]);
    ends.run_to(100_000);
    ends.caller_says(&like(&invite, "CANCEL", None));
    let (invite, cancel) = (ends.last_to_callee("INVITE"), ends.last_to_callee("CANCEL"));
    assert_eq!(cancel.request_uri(), invite.request_uri());
    for name in ["From", "To", "Call-ID"] {
        assert_eq!(cancel.header(name), invite.header(name), "{name}");
    }
    assert_eq!(cancel.list("Route"), invite.list("Route"));
    assert_eq!(cancel.list("Route").len(), 2);
    assert_eq!(cancel.list("Via"), invite.list("Via")[..1]);
    assert_eq!(cancel.cseq(), (7, "CANCEL"));
    let names: Vec<&str> = cancel.headers.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "Via",
        "Route",
        "Max-Forwards",
        "From",
        "To",
        "Call-ID",
        "CSeq",
        "Content-Length",
    ];
    assert_eq!(names, expected);
    // So does the ACK of what it leads to.
    ends.callee_answers("CANCEL", 200);
    ends.callee_answers("INVITE", 487);
    assert_eq!(ends.callee_heard_at("ACK"), [100_000]);
}

#[test]
fn a_cancel_waits_for_a_provisional_response() {
    for code in [100, 180] {
        let mut ends = Ends::over_udp();
        let invite = ends.request("INVITE", "a");
        ends.caller_says(&invite);
        ends.run_to(200);
        ends.caller_says(&like(&invite, "CANCEL", None));
        assert_eq!(ends.caller_heard_at("200 OK (CANCEL)"), [200]);
        ends.run_to(700);
        assert_eq!(ends.callee_heard_at("CANCEL"), [0; 0]);
        // The INVITE itself is still sent again.
        assert_eq!(ends.callee_heard_at("INVITE"), [0, 500]);
        ends.callee_answers("INVITE", code);
        assert_eq!(ends.callee_heard_at("CANCEL"), [700], "{code}");
        ends.callee_answers("INVITE", 183);
        assert_eq!(ends.callee_heard_at("CANCEL"), [700], "{code}");
    }
}

#[test]
fn no_cancel_is_sent_where_a_final_response_comes_first_or_none_at_all() {
    for (code, label) in [
        (200, "200 OK (INVITE)"),
        (486, "486 Busy Here (INVITE)"),
        (0, "487 Request Terminated (INVITE)"),
    ] {
        let mut ends = Ends::over_udp();
        let invite = ends.request("INVITE", "a");
        ends.caller_says(&invite);
        ends.caller_says(&like(&invite, "CANCEL", None));
        ends.run_to(700);
        if code > 0 {
            ends.callee_answers("INVITE", code);
        }
        ends.run_to(32_000);
        assert_eq!(ends.callee_heard_at("CANCEL"), [0; 0]);
        let at = if code > 0 { 700 } else { 32_000 };
        assert_eq!(ends.caller_heard_at(label)[0], at, "{code}");
    }
}

#[test]
fn a_cancel_is_sent_again_like_any_request_and_the_branch_is_given_up_after_64_t1() {
    let mut ends = Ends::over_udp();
    let (_, cancel) = ringing(&mut ends);
    ends.run_to(1_000);
    ends.caller_says(&cancel);
    ends.run_to(32_999);
    let after = [
        0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
    ];
    assert_eq!(ends.callee_heard_at("CANCEL"), after.map(|at| 1_000 + at));
    assert_eq!(ends.caller_heard_at("487"), [0; 0]);
    ends.run_to(33_000);
    assert_eq!(ends.caller_heard_at("487"), [33_000]);
    // What comes now is of no transaction.
    ends.callee_answers("INVITE", 200);
    assert_eq!(ends.caller_heard_at("200 OK (INVITE)"), [0; 0]);
}

#[test]
fn the_answer_to_a_cancel_ends_its_repeats_and_not_the_invite() {
    let mut ends = Ends::over_udp();
    let (_, cancel) = ringing(&mut ends);
    ends.caller_says(&cancel);
    ends.callee_answers("CANCEL", 200);
    ends.run_to(20_000);
    assert_eq!(ends.callee_heard_at("CANCEL"), [0]);
    ends.callee_answers("INVITE", 180);
    assert_eq!(ends.caller_heard_at("180"), [0, 20_000], "the INVITE goes on");
    ends.callee_answers("INVITE", 487);
    assert_eq!(ends.caller_heard_at("487"), [20_000]);
}

#[test]
fn a_cancel_ends_with_its_invite_at_the_latest() {
    // Over a stream the INVITE's transaction is gone with its response, and the answer to the CANCEL finds nothing.
    let mut ends = Ends::over(Transport::Tcp, Transport::Tcp);
    let (invite, cancel) = ringing(&mut ends);
    ends.caller_says(&cancel);
    ends.callee_answers("INVITE", 487);
    let refusal = ends.last_to_caller("487");
    ends.caller_says(&like(&invite, "ACK", refusal.header("To")));
    ends.run_to(0);
    ends.callee_answers("CANCEL", 200);
    ends.run_to(60_000);
    assert_eq!(ends.counters().timeouts_total, 0);
    ends.assert_over();
}

#[test]
fn a_cancel_that_comes_again_gets_its_answer_again() {
    let mut ends = Ends::over_udp();
    let (_, cancel) = ringing(&mut ends);
    for at in [1_000, 1_500, 32_999] {
        ends.run_to(at);
        ends.caller_says(&cancel);
    }
    assert_eq!(ends.caller_heard_at("200 OK (CANCEL)"), [1_000, 1_500, 32_999]);
    let first = ends.callee_heard_at("CANCEL");
    assert_eq!(first[..2], [1_000, 1_500], "its own repeats alone: {first:?}");
}

#[test]
fn the_reasons_of_a_cancel_are_copied() {
    let elsewhere = "SIP;cause=200;text=\"Call completed elsewhere\"";
    for (lines, expected) in [
        (String::new(), vec![]),
        (format!("Reason: {elsewhere}\r\n"), vec![elsewhere]),
        (
            format!("Reason: {elsewhere}\r\nReason: Q.850;cause=26\r\n"),
            vec![elsewhere, "Q.850;cause=26"],
        ),
        (
            format!("Reason: {elsewhere}, Q.850\r\n ;cause=26\r\n"),
            vec![elsewhere, "Q.850 ;cause=26"],
        ),
    ] {
        for waits in [false, true] {
            let mut ends = Ends::over_udp();
            let invite = ends.request("INVITE", "a");
            ends.caller_says(&invite);
            let cancel = like(&invite, "CANCEL", None);
            let cancel = cancel.replace("Content-Length", &format!("{lines}Content-Length"));
            if !waits {
                ends.callee_answers("INVITE", 180);
            }
            ends.caller_says(&cancel);
            ends.callee_answers("INVITE", 180);
            assert_eq!(ends.last_to_callee("CANCEL").list("Reason"), expected, "{lines}");
        }
    }
}

#[test]
fn a_cancel_after_a_final_response_is_answered_200_and_changes_nothing() {
    for code in [200, 486] {
        let mut ends = Ends::over_udp();
        let (invite, cancel) = ringing(&mut ends);
        ends.callee_answers("INVITE", code);
        let answer = ends.last_to_caller(&code.to_string());
        ends.caller_says(&cancel);
        ends.caller_says(&like(&invite, "ACK", answer.header("To")));
        ends.run_to(60_000);
        assert_eq!(ends.caller_heard_at("200 OK (CANCEL)"), [0]);
        assert_eq!(ends.callee_heard_at("CANCEL"), [0; 0]);
        assert_eq!(ends.caller_heard_at("487"), [0; 0]);
        // A call that is up stays up.
        let bye = like(&invite, "BYE", answer.header("To"))
            .replace("bK-a", "bK-bye")
            .replace("CSeq: 7", "CSeq: 8");
        ends.caller_says(&bye);
        assert_eq!(ends.callee_heard_at("BYE").len(), usize::from(code == 200));
    }
}

#[test]
fn a_cancel_of_no_transaction_gets_481_and_no_call_ends() {
    for (what, from, to) in [
        ("another branch", "bK-a", "bK-b"),
        ("another port in sent-by", CARRIER, "198.51.100.10:5070"),
    ] {
        let mut ends = Ends::over_udp();
        let (_, cancel) = ringing(&mut ends);
        ends.caller_says(&cancel.replace(from, to));
        assert_eq!(
            ends.to_caller()[2..],
            lines(&[(0, "481 Call/Transaction Does Not Exist (CANCEL)")]),
            "{what}"
        );
        assert_eq!(ends.to_callee().len(), 1, "{what}");
        ends.run_to(40_000);
        ends.callee_answers("INVITE", 200);
        assert_eq!(ends.caller_heard_at("200 OK (INVITE)"), [40_000], "{what}");
    }
}

#[test]
fn a_cancel_of_anything_but_an_invite_has_no_effect() {
    let mut ends = Ends::over_udp();
    let message = ends.request("MESSAGE", "a");
    ends.caller_says(&message);
    ends.callee_answers("MESSAGE", 100);
    ends.caller_says(&like(&message, "CANCEL", None));
    assert_eq!(
        ends.to_caller(),
        lines(&[(0, "481 Call/Transaction Does Not Exist (CANCEL)")])
    );
    assert_eq!(ends.to_callee(), lines(&[(0, "MESSAGE")]));
    ends.callee_answers("MESSAGE", 200);
    assert_eq!(ends.caller_heard_at("200 OK (MESSAGE)"), [0]);
}

/// RFC 3261 §16.8, §9.1: without a provisional response there is nothing to cancel; the branch ends as if a 408 had come.
#[test]
fn timer_c_ends_a_branch_that_has_said_nothing_without_a_cancel() {
    let slow = "\n[timers]\nt1 = \"10s\"\nt2 = \"10s\"\n[limits]\nidle_timeout = \"20m\"\n";
    for over in TRANSPORTS {
        let mut ends = Ends::with(&format!("{TWO_SIDES}{slow}"), Transport::Udp, over);
        ends.caller_says(&ends.request("INVITE", "a"));
        ends.run_to(180_999);
        assert_eq!(ends.caller_heard_at(""), [0], "{over}");
        ends.run_to(181_000);
        assert_eq!(ends.caller_heard_at("408"), [181_000], "{over}");
        assert_eq!(ends.callee_heard_at("CANCEL"), [0; 0]);
        let invites = ends.callee_heard_at("INVITE");
        // What comes too late has no transaction any more.
        ends.callee_answers("INVITE", 200);
        assert_eq!(ends.caller_heard_at("200"), [0; 0]);
        ends.run_to(900_000);
        assert_eq!(ends.callee_heard_at("INVITE"), invites);
        ends.assert_over();
    }
}

#[test]
fn a_2xx_that_crosses_a_cancel_goes_up_and_no_487_follows() {
    for over in TRANSPORTS {
        let mut ends = Ends::over(Transport::Udp, over);
        let (_, cancel) = ringing(&mut ends);
        ends.caller_says(&cancel);
        ends.callee_answers("INVITE", 200);
        ends.callee_answers("CANCEL", 481);
        ends.callee_answers("INVITE", 200);
        ends.run_to(100_000);
        assert_eq!(ends.caller_heard_at("200 OK (INVITE)"), [0, 0]);
        assert_eq!(ends.caller_heard_at("4"), [0; 0]);
    }
}
