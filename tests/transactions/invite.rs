//! INVITE transactions (RFC 3261 §17.1.1, §17.2.1; RFC 6026 §7): timers A, B, D, G, H, I, L and M.

use super::ends::{Ends, TRANSPORTS, like, lines, response};
use referee::sim::scene::TWO_SIDES;
use referee::transport::Transport;

#[test]
fn an_invite_is_sent_again_at_doubling_intervals_until_timer_b() {
    for (over, sends) in [
        (Transport::Udp, &[0, 500, 1_500, 3_500, 7_500, 15_500, 31_500][..]),
        (Transport::Tcp, &[0]),
    ] {
        let mut ends = Ends::over(Transport::Udp, over);
        let invite = ends.request("INVITE", "a");
        ends.caller_says(&invite);
        ends.run_to(31_999);
        assert_eq!(ends.callee_heard_at("INVITE"), sends);
        let bytes = ends.bytes_to_callee("INVITE");
        assert!(bytes.iter().all(|again| *again == bytes[0]), "each is the same");
        assert_eq!(ends.to_caller(), lines(&[(0, "100 Trying (INVITE)")]));
        ends.run_to(32_000);
        assert_eq!(ends.caller_heard_at("408"), [32_000]);
        let refusal = ends.last_to_caller("408");
        ends.caller_says(&like(&invite, "ACK", refusal.header("To")));
        ends.run_to(40_000);
        // The transaction ends as the user is told: no ACK, since there was no response, and no CANCEL.
        assert_eq!(ends.to_callee().len(), sends.len());
        assert_eq!(ends.counters().timeouts_total, 1);
        ends.assert_over();
    }
}

#[test]
fn any_provisional_response_ends_the_repeats_of_an_invite_and_timer_b() {
    for code in [100, 180, 199] {
        let mut ends = Ends::over_udp();
        let invite = ends.request("INVITE", "a");
        ends.caller_says(&invite);
        ends.run_to(600);
        ends.callee_answers("INVITE", code);
        ends.run_to(180_000);
        assert_eq!(ends.callee_heard_at(""), [0, 500], "{code}");
        // RFC 3261 §16.7 step 5, RFC 6228 §4: all but a 100 go up.
        let heard = ends.caller_heard_at(&code.to_string());
        assert_eq!(heard, if code == 100 { [0] } else { [600] }, "{code}");
        assert_eq!(ends.caller_heard_at("4"), [0; 0]);
        ends.callee_answers("INVITE", 200);
        assert_eq!(ends.caller_heard_at("200"), [180_000]);
    }
}

#[test]
fn a_refusal_is_acknowledged_at_each_repeat_until_timer_d() {
    let mut ends = Ends::over_udp();
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    ends.run_to(10);
    for at in [10, 510, 1_510, 32_009] {
        ends.run_to(at);
        ends.callee_answers("INVITE", 486);
        let refusal = ends.last_to_caller("486");
        ends.caller_says(&like(&invite, "ACK", refusal.header("To")));
    }
    assert_eq!(ends.callee_heard_at("ACK"), [10, 510, 1_510, 32_009]);
    let bytes = ends.bytes_to_callee("ACK");
    assert!(bytes.iter().all(|again| *again == bytes[0]), "each is the same");
    assert_eq!(ends.caller_heard_at("486"), [10], "repeats are not passed up");
    ends.run_to(32_010);
    ends.callee_answers("INVITE", 486);
    assert_eq!(ends.callee_heard_at("ACK").len(), 4, "the transaction has ended");
    ends.assert_over();
}

#[test]
fn over_a_stream_a_refusal_is_acknowledged_once_and_the_transaction_is_gone() {
    let mut ends = Ends::over(Transport::Udp, Transport::Tcp);
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    ends.run_to(10);
    ends.callee_answers("INVITE", 486);
    ends.run_to(10);
    assert_eq!(ends.callee_heard_at("ACK"), [10]);
    assert_eq!(ends.transactions(), 1, "the server transaction is left");
    ends.callee_answers("INVITE", 486);
    assert_eq!(ends.callee_heard_at("ACK"), [10]);
    assert_eq!(ends.counters().stray_responses_total, 1);
}

#[test]
fn timer_d_is_32_seconds_even_where_t1_is_short() {
    // The far side's T1 may be longer, and so its Timer H.
    let config = format!("{TWO_SIDES}[timers]\nt1 = \"100ms\"\nt2 = \"1s\"\nt4 = \"2s\"\n");
    let mut ends = Ends::with(&config, Transport::Udp, Transport::Udp);
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    ends.callee_answers("INVITE", 486);
    for at in [6_400, 31_999] {
        ends.run_to(at);
        ends.callee_answers("INVITE", 486);
    }
    assert_eq!(ends.callee_heard_at("ACK"), [0, 6_400, 31_999]);
    ends.run_to(32_000);
    ends.callee_answers("INVITE", 486);
    assert_eq!(ends.callee_heard_at("ACK").len(), 3);
    ends.assert_over();
}

#[test]
fn the_other_timers_are_made_of_the_configured_t1_t2_and_t4() {
    let config = format!("{TWO_SIDES}[timers]\nt1 = \"100ms\"\nt2 = \"1s\"\nt4 = \"2s\"\n");
    let mut ends = Ends::with(&config, Transport::Udp, Transport::Udp);
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    ends.caller_says(&ends.request("MESSAGE", "m"));
    ends.run_to(6_500);
    // A and B.
    assert_eq!(ends.callee_heard_at("INVITE"), [0, 100, 300, 700, 1_500, 3_100, 6_300]);
    // E and F.
    let sends = [0, 100, 300, 700, 1_500, 2_500, 3_500, 4_500, 5_500];
    assert_eq!(ends.callee_heard_at("MESSAGE"), sends);
    assert_eq!(ends.counters().timeouts_total, 2);
    ends.run_to(12_799);
    // G and H.
    let sends: Vec<u64> = [0, 100, 300, 700, 1_500, 2_500, 3_500, 4_500, 5_500]
        .map(|at| 6_400 + at)
        .to_vec();
    assert_eq!(ends.caller_heard_at("408"), sends);
    assert_eq!(ends.transactions(), 1);
    ends.run_to(12_800);
    assert_eq!(ends.transactions(), 0);
    // K and J.
    let start = 20_000;
    ends.run_to(start);
    ends.caller_says(&ends.request("MESSAGE", "k"));
    ends.callee_answers("MESSAGE", 200);
    for (at, left) in [(1_999, 2), (2_000, 1), (6_399, 1), (6_400, 0)] {
        ends.run_to(start + at);
        assert_eq!(ends.transactions(), left, "{at}");
    }
    // L and M.
    let start = 30_000;
    ends.run_to(start);
    ends.caller_says(&ends.request("INVITE", "l"));
    ends.callee_answers("INVITE", 200);
    for (at, left) in [(6_399, 2), (6_400, 0)] {
        ends.run_to(start + at);
        assert_eq!(ends.transactions(), left, "{at}");
    }
    // I.
    let start = 40_000;
    ends.run_to(start);
    let invite = ends
        .request("INVITE", "i")
        .replace("Max-Forwards: 70", "Max-Forwards: 0");
    ends.caller_says(&invite);
    let refusal = ends.last_to_caller("483");
    ends.caller_says(&like(&invite, "ACK", refusal.header("To")));
    for (at, left) in [(1_999, 1), (2_000, 0)] {
        ends.run_to(start + at);
        assert_eq!(ends.transactions(), left, "{at}");
    }
}

#[test]
fn each_2xx_of_an_invite_goes_up_until_timer_m() {
    for over in TRANSPORTS {
        let mut ends = Ends::over(Transport::Udp, over);
        let invite = ends.request("INVITE", "a");
        ends.caller_says(&invite);
        ends.run_to(100);
        let heard = ends.last_to_callee("INVITE");
        // Of two forks further down, the first of them twice.
        for (at, tag) in [(100, "one"), (600, "two"), (700, "one"), (32_099, "two")] {
            ends.run_to(at);
            ends.callee_says(&response(&heard, 200, tag));
            assert_eq!(ends.last_to_caller("200").tag("To").as_deref(), Some(tag));
        }
        assert_eq!(ends.caller_heard_at("200"), [100, 600, 700, 32_099], "{over}");
        // What is no 2xx is too late.
        ends.callee_says(&response(&heard, 486, "one"));
        ends.callee_says(&response(&heard, 180, "one"));
        assert_eq!(ends.to_caller().len(), 5);
        ends.run_to(32_100);
        ends.callee_says(&response(&heard, 200, "two"));
        assert_eq!(ends.caller_heard_at("200").len(), 4);
        // To acknowledge a 2xx is the caller's.
        assert_eq!(ends.callee_heard_at("ACK"), [0; 0]);
    }
}

#[test]
fn an_invite_is_answered_100_at_once_with_its_timestamp_and_no_tag() {
    for over in TRANSPORTS {
        let mut ends = Ends::over(over, Transport::Udp);
        let invite = ends.request("INVITE", "a");
        let invite = invite.replace("Max-Forwards", "Timestamp: 54.5\r\nMax-Forwards");
        ends.caller_says(&invite);
        assert_eq!(ends.to_caller(), lines(&[(0, "100 Trying (INVITE)")]));
        let trying = ends.last_to_caller("100");
        assert_eq!(trying.header("Timestamp"), Some("54.5"));
        assert_eq!(trying.tag("To"), None);
        // One that is refused at once needs none.
        let refused = ends
            .request("INVITE", "b")
            .replace("Max-Forwards: 70", "Max-Forwards: 0");
        ends.caller_says(&refused);
        assert_eq!(ends.to_caller()[1..], lines(&[(0, "483 Too Many Hops (INVITE)")]));
    }
}

#[test]
fn a_repeat_of_an_invite_gets_the_last_provisional_response_and_goes_no_further() {
    let mut ends = Ends::over_udp();
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    ends.callee_answers("INVITE", 100);
    ends.run_to(500);
    ends.caller_says(&invite);
    ends.run_to(600);
    ends.callee_answers("INVITE", 180);
    let ringing = ends.last_to_caller("180");
    ends.run_to(1_500);
    ends.caller_says(&invite);
    let expected = [
        (0, "100 Trying (INVITE)"),
        (500, "100 Trying (INVITE)"),
        (600, "180 Ringing (INVITE)"),
        (1_500, "180 Ringing (INVITE)"),
    ];
    assert_eq!(ends.to_caller(), lines(&expected));
    assert_eq!(ends.last_to_caller("180"), ringing);
    assert_eq!(ends.to_callee(), lines(&[(0, "INVITE")]));
    assert_eq!((ends.counters().calls_total, ends.counters().repeats_total), (1, 2));
}

#[test]
fn a_refusal_is_sent_again_until_its_ack_comes_or_timer_h() {
    let after = 1_000;
    for (over, sends) in [
        (
            Transport::Udp,
            &[
                0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
            ][..],
        ),
        (Transport::Tcp, &[0]),
    ] {
        let mut ends = Ends::over(over, Transport::Tcp);
        let invite = ends.request("INVITE", "a");
        ends.caller_says(&invite);
        ends.run_to(after);
        ends.callee_answers("INVITE", 486);
        ends.run_to(after + 31_999);
        let sends: Vec<u64> = sends.iter().map(|at| after + at).collect();
        assert_eq!(ends.caller_heard_at("486"), sends);
        assert_eq!((ends.transactions(), ends.counters().unacknowledged_total), (1, 0));
        ends.run_to(after + 32_000);
        assert_eq!((ends.transactions(), ends.counters().unacknowledged_total), (0, 1));
        // An ACK that comes only now is that of a refusal all the same.
        let refusal = ends.last_to_caller("486");
        ends.caller_says(&like(&invite, "ACK", refusal.header("To")));
        assert_eq!(ends.counters().absorbed_acks_total, 1);
        ends.assert_over();
    }
}

#[test]
fn the_ack_of_a_refusal_ends_its_repeats_and_is_absorbed_until_timer_i() {
    let mut ends = Ends::over(Transport::Udp, Transport::Tcp);
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    assert!(!ends.wire.shard().is_idle());
    ends.callee_answers("INVITE", 486);
    // What is left absorbs repeats: referee may stop, if it is asked to.
    assert!(ends.wire.shard().is_idle() && ends.transactions() > 0);
    let refusal = ends.last_to_caller("486");
    let ack = like(&invite, "ACK", refusal.header("To"));
    // Each repeat of the INVITE gets the refusal again, until the ACK is there.
    ends.run_to(100);
    ends.caller_says(&invite);
    ends.run_to(700);
    ends.caller_says(&ack);
    for at in [800, 5_699] {
        ends.run_to(at);
        ends.caller_says(&ack);
        ends.caller_says(&invite);
        assert_eq!(ends.transactions(), 1, "{at}");
    }
    ends.run_to(5_700);
    assert_eq!(ends.transactions(), 0);
    assert_eq!(ends.caller_heard_at("486"), [0, 100, 500]);
    assert_eq!(ends.to_callee(), lines(&[(0, "INVITE"), (0, "ACK")]));
    assert_eq!(ends.counters().unacknowledged_total, 0);
    ends.assert_over();
}

#[test]
fn over_a_stream_the_ack_of_a_refusal_ends_the_transaction() {
    let mut ends = Ends::over(Transport::Tcp, Transport::Tcp);
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    ends.callee_answers("INVITE", 486);
    let refusal = ends.last_to_caller("486");
    ends.run_to(700);
    ends.caller_says(&like(&invite, "ACK", refusal.header("To")));
    ends.run_to(700);
    ends.assert_over();
    assert_eq!(ends.callee_heard_at("ACK"), [0], "that of referee's own");
}

#[test]
fn an_invite_answered_2xx_is_known_and_absorbed_until_timer_l() {
    for over in TRANSPORTS {
        let mut ends = Ends::over(over, Transport::Udp);
        let invite = ends.request("INVITE", "a");
        ends.caller_says(&invite);
        ends.run_to(1_000);
        ends.callee_answers("INVITE", 200);
        for at in [2_000, 32_999] {
            ends.run_to(at);
            ends.caller_says(&invite);
        }
        // Nothing of referee's doing: to repeat a 2xx is the callee's.
        assert_eq!(ends.caller_heard_at("200"), [1_000], "{over}");
        assert_eq!(ends.callee_heard_at("INVITE").len(), 2, "{over}");
        assert_eq!((ends.counters().calls_total, ends.transactions()), (1, 2));
        ends.run_to(33_000);
        assert_eq!(ends.transactions(), 0);
    }
}

#[test]
fn an_ack_for_a_2xx_goes_on_whatever_its_branch() {
    let mut ends = Ends::over_udp();
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    ends.callee_answers("INVITE", 200);
    let answer = ends.last_to_caller("200");
    // RFC 6026 §7.1: one with the INVITE's branch is the user's, too.
    let ack = like(&invite, "ACK", answer.header("To"));
    let fresh = ack.replace("branch=z9hG4bK-a", "branch=z9hG4bK-ack");
    for ack in [&ack, &fresh, &fresh] {
        ends.caller_says(ack);
    }
    assert_eq!(ends.callee_heard_at("ACK"), [0, 0, 0]);
    assert_eq!(ends.transactions(), 2, "an ACK makes no transaction");
    // RFC 3261 §16.11: forwarded without state, a repeat is the same as the one before.
    let bytes = ends.bytes_to_callee("ACK");
    assert_eq!(bytes[1], bytes[2]);
    assert_ne!(bytes[0], bytes[1]);
    assert_eq!(ends.caller_heard_at(""), [0, 0]);
}

#[test]
fn the_ack_for_a_refusal_is_the_invites_head_with_the_to_of_the_response() {
    for over in TRANSPORTS {
        let mut ends = Ends::over(Transport::Udp, over);
        let invite = ends.request("INVITE", "a").replace(
            "Max-Forwards",
            "Route: <sip:203.0.113.7;lr>\r\nRoute: <sip:p1.example;lr>, <sip:p2.example;lr>\r\n\
             Require: 100rel\r\nMax-Forwards",
        );
        ends.caller_says(&invite);
        ends.callee_answers("INVITE", 486);
        let (invite, ack) = (ends.last_to_callee("INVITE"), ends.last_to_callee("ACK"));
        assert_eq!(ack.request_uri(), invite.request_uri());
        for name in ["From", "Call-ID"] {
            assert_eq!(ack.header(name), invite.header(name), "{name}");
        }
        assert_eq!(ack.list("Route"), ["<sip:p1.example;lr>", "<sip:p2.example;lr>"]);
        assert_eq!(ack.list("Route"), invite.list("Route"));
        assert_eq!(ack.list("Via"), invite.list("Via")[..1]);
        assert_eq!(ack.cseq(), (7, "ACK"));
        let to = format!("{};tag=callee", invite.header("To").unwrap());
        assert_eq!(ack.header("To"), Some(&*to));
        let names: Vec<&str> = ack.headers.iter().map(|(name, _)| name.as_str()).collect();
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
        let flows: Vec<_> = ends.sent().iter().filter(|sent| sent.flow.bind.0 >= 2).collect();
        assert_eq!(flows.len(), 2);
        assert_eq!(flows[0].flow, flows[1].flow, "to the same place");
    }
}

#[test]
fn the_ack_of_a_refusal_goes_nowhere_while_the_invite_that_comes_again_has_no_answer() {
    let mut ends = Ends::over_udp();
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    ends.callee_answers("INVITE", 401);
    let refusal = ends.last_to_caller("401");
    let ack = like(&invite, "ACK", refusal.header("To"));
    ends.caller_says(&ack);
    // Timer I has ended the transaction when the recorded ACK comes once more.
    ends.run_to(10_000);
    let again = invite.replace("bK-a", "bK-b").replace("CSeq: 7", "CSeq: 8");
    ends.caller_says(&again);
    let (sent, strays) = (ends.sent().len(), ends.counters().stray_acks_total);
    ends.caller_says(&ack);
    assert_eq!(ends.sent().len(), sent);
    assert_eq!(ends.counters().stray_acks_total, strays + 1);
}
