//! Which message belongs to which transaction (RFC 3261 §17.1.3, §17.2.3, §18.1.2; RFC 6026 §7.3).

use super::ends::{Ends, like, lines, response};
use referee::sim::scene::CARRIER;

#[test]
fn a_request_is_known_by_branch_sent_by_and_method() {
    let mut ends = Ends::over_udp();
    let message = ends.request("MESSAGE", "a");
    let differs = |from: &str, to: &str| {
        assert!(message.contains(from), "{from}");
        message.replace(from, to)
    };
    ends.caller_says(&message);
    let mut opened = 1;
    for (what, request, is_new) in [
        ("the same", message.clone(), false),
        (
            "another From, To, Call-ID and CSeq number",
            {
                let other = differs("tag=alice-a", "tag=other").replace("Call-ID: a", "Call-ID: b");
                other
                    .replace("CSeq: 7", "CSeq: 8")
                    .replace("To: <sip:+49", "To: <sip:+44")
            },
            false,
        ),
        ("another branch", differs("bK-a", "bK-b"), true),
        ("a branch in other case", differs("bK-a", "bK-A"), true),
        ("another port in sent-by", differs(CARRIER, "198.51.100.10:5070"), true),
        ("another host in sent-by", differs(CARRIER, "client.example:5060"), true),
        ("no port in sent-by", differs(CARRIER, "198.51.100.10"), true),
        ("another method", message.replace("MESSAGE", "PUBLISH"), true),
        ("an unknown method", message.replace("MESSAGE", "FOO"), true),
        ("another unknown method", message.replace("MESSAGE", "BAR"), true),
        ("the unknown method again", message.replace("MESSAGE", "FOO"), false),
    ] {
        ends.caller_says(&request);
        opened += usize::from(is_new);
        assert_eq!(ends.to_callee().len(), opened, "{what}");
    }
}

#[test]
fn without_the_cookie_a_request_is_known_by_uri_tag_call_id_cseq_and_via() {
    for branch in ["", ";branch=1", ";branch=z9hG4b"] {
        let mut ends = Ends::over_udp();
        let message = ends.request("MESSAGE", "a").replace(";branch=z9hG4bK-a", branch);
        let differs = |from: &str, to: &str| {
            assert!(message.contains(from), "{from}");
            message.replace(from, to)
        };
        ends.caller_says(&message);
        let mut opened = 1;
        for (what, request, is_new) in [
            ("the same", message.clone(), false),
            ("another Contact", differs("<sip:alice@198", "<sip:bob@198"), false),
            (
                "another Request-URI",
                differs("MESSAGE sip:+4930", "MESSAGE sip:+4931"),
                true,
            ),
            ("another From tag", differs("tag=alice-a", "tag=alice-b"), true),
            ("no From tag", differs(";tag=alice-a", ""), true),
            ("another Call-ID", differs("Call-ID: a", "Call-ID: A"), true),
            ("another CSeq number", differs("CSeq: 7", "CSeq: 8"), true),
            ("another method", message.replace("MESSAGE", "PUBLISH"), true),
            ("another Via", differs(CARRIER, "198.51.100.10:5070"), true),
        ] {
            ends.caller_says(&request);
            opened += usize::from(is_new);
            assert_eq!(ends.to_callee().len(), opened, "{branch} {what}");
        }
        // Of two dialogs: both are unknown here.
        for tag in ["b", "c"] {
            let to = "To: <sip:+4930123456@203.0.113.7>";
            ends.caller_says(&differs(to, &format!("{to};tag={tag}")));
        }
        assert_eq!(ends.caller_heard_at("481"), [0, 0]);
    }
}

#[test]
fn an_ack_or_cancel_of_an_older_peer_finds_its_invite() {
    // RFC 2543: the ACK has the To tag of the response, which the INVITE has not.
    for branch in ["", ";branch=1"] {
        let mut ends = Ends::over_udp();
        let invite = ends.request("INVITE", "a").replace(";branch=z9hG4bK-a", branch);
        ends.caller_says(&invite);
        ends.callee_answers("INVITE", 180);
        ends.caller_says(&like(&invite, "CANCEL", None));
        ends.callee_answers("CANCEL", 200);
        ends.callee_answers("INVITE", 487);
        let refusal = ends.last_to_caller("487");
        ends.run_to(100);
        ends.caller_says(&like(&invite, "ACK", refusal.header("To")));
        ends.run_to(5_100);
        let expected = [
            (0, "100 Trying (INVITE)"),
            (0, "180 Ringing (INVITE)"),
            (0, "200 OK (CANCEL)"),
            (0, "487 Request Terminated (INVITE)"),
        ];
        assert_eq!(ends.to_caller(), lines(&expected), "{branch}");
        assert_eq!(ends.to_callee(), lines(&[(0, "INVITE"), (0, "CANCEL"), (0, "ACK")]));
    }
}

#[test]
fn an_ack_for_a_refusal_is_known_by_the_invites_branch_and_goes_nowhere() {
    let mut ends = Ends::over_udp();
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    ends.callee_answers("INVITE", 486);
    let refusal = ends.last_to_caller("486");
    let ack = like(&invite, "ACK", refusal.header("To"));
    // One that is not of this transaction does not end the repeats.
    ends.caller_says(&ack.replace("bK-a", "bK-b"));
    ends.caller_says(&ack.replace(CARRIER, "198.51.100.10:5070"));
    ends.run_to(1_000);
    ends.caller_says(&ack);
    ends.run_to(10_000);
    assert_eq!(ends.caller_heard_at("486"), [0, 500]);
    assert_eq!(ends.callee_heard_at("ACK"), [0], "that of referee's own");
    assert_eq!(ends.caller_heard_at("").len(), 3, "an ACK is never answered");
}

#[test]
fn an_ack_with_the_branch_of_an_invite_that_has_no_answer_goes_nowhere() {
    // RFC 3261 §13.2.2.4: that of a 2xx has a branch of its own. Whoever recorded a call sends its INVITE and its ACK again.
    let mut ends = Ends::over_udp();
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    ends.caller_says(&like(&invite, "ACK", Some("<sip:+4930123456@203.0.113.7>;tag=callee")));
    ends.callee_answers("INVITE", 180);
    let ringing = ends.last_to_caller("180");
    let ack = like(&invite, "ACK", ringing.header("To"));
    ends.caller_says(&ack);
    assert_eq!(ends.counters().stray_acks_total, 2);
    let relayed = ends.sent().iter().filter(|sent| sent.bytes.starts_with(b"ACK"));
    assert_eq!(relayed.count(), 0);
    // The transaction is as it was.
    ends.callee_answers("INVITE", 486);
    ends.run_to(1_000);
    ends.caller_says(&ack);
    ends.run_to(10_000);
    assert_eq!(ends.caller_heard_at("486"), [0, 500]);
    assert_eq!(ends.callee_heard_at("ACK"), [0], "that of referee's own");
}

#[test]
fn a_request_with_the_tags_of_a_call_that_was_refused_is_not_of_the_next_with_its_call_id() {
    // RFC 3261 §12.1: before the callee has shown a tag there is no dialog. The INVITE of a challenged call comes again with its
    // Call-ID and From tag (§22.2), and what was said in the early dialog of the first may come after it.
    let mut ends = Ends::over_udp();
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    ends.callee_answers("INVITE", 183);
    ends.callee_answers("INVITE", 401);
    let challenge = ends.last_to_caller("401");
    ends.caller_says(&like(&invite, "ACK", challenge.header("To")));
    let again = invite.replace("bK-a", "bK-again").replace("CSeq: 7", "CSeq: 9");
    ends.caller_says(&again);
    let sent = ends.sent().len();
    for method in ["PRACK", "UPDATE", "INFO", "BYE"] {
        let late = ends
            .request(method, "a")
            .replace("bK-a", &format!("bK-{method}"))
            .replace("203.0.113.7>\r\nCall", "203.0.113.7>;tag=callee\r\nCall")
            .replace("CSeq: 7", "CSeq: 8");
        ends.caller_says(&late);
        let answer = format!("481 Call/Transaction Does Not Exist ({method})");
        assert_eq!(ends.to_caller().last().map(|(_, label)| &**label), Some(&*answer));
    }
    assert_eq!(ends.sent().len(), sent + 4, "nothing is relayed");
    ends.callee_answers("INVITE", 200);
    assert_eq!(ends.caller_heard_at("200"), [0]);
}

#[test]
fn a_response_is_known_by_branch_and_method_and_by_nothing_less() {
    let mut ends = Ends::over_udp();
    ends.caller_says(&ends.request("FOO", "a"));
    let answer = response(&ends.last_to_callee("FOO"), 200, "callee");
    let differs = |from: &str, to: &str| {
        assert!(answer.contains(from), "{from}");
        answer.replacen(from, to, 1)
    };
    let branch = ends.last_to_callee("FOO").branch();
    let digit = |at: usize, digit: &str| {
        let mut other = branch.clone();
        other.replace_range(at..=at, digit);
        differs(&branch, &other)
    };
    let last = branch.len() - 1;
    let other = |digit: u8| if digit == b'0' { "1" } else { "0" };
    let strays = [
        ("another method", differs("CSeq: 7 FOO", "CSeq: 7 MESSAGE")),
        ("another unknown method", differs("CSeq: 7 FOO", "CSeq: 7 BAR")),
        ("the beginning of its method", differs("CSeq: 7 FOO", "CSeq: 7 FO")),
        ("CANCEL, where there is none", differs("CSeq: 7 FOO", "CSeq: 7 CANCEL")),
        ("another key", digit(22, other(branch.as_bytes()[22]))),
        ("another number", digit(38, other(branch.as_bytes()[38]))),
        ("another loop digest", digit(last, other(branch.as_bytes()[last]))),
        ("no loop digest", differs(&branch, &branch[..39])),
        ("a branch that is cut", differs(&branch, &branch[..last])),
        ("a branch with more behind", differs(&branch, &format!("{branch}0"))),
        ("no branch", differs(&format!(";branch={branch}"), "")),
        ("another port in sent-by", differs("10.0.0.1:5060", "10.0.0.1:5062")),
        ("another host in sent-by", differs("10.0.0.1:5060", "10.0.0.2:5060")),
        (
            "another socket of referee's",
            differs("10.0.0.1:5060", "203.0.113.7:5060"),
        ),
    ];
    for (what, stray) in &strays {
        ends.callee_says(stray);
        assert_eq!(ends.to_caller(), [], "{what}");
    }
    assert_eq!(ends.counters().stray_responses_total, strays.len() as u64);
    // The default port may be left out, and nothing of this depends on the other fields.
    let odd = differs("10.0.0.1:5060", "10.0.0.1").replace("Call-ID: a", "Call-ID: b");
    ends.callee_says(&odd);
    assert_eq!(ends.caller_heard_at("200"), [0]);
}

#[test]
fn a_response_without_a_via_below_referees_goes_nowhere() {
    let mut ends = Ends::over_udp();
    ends.caller_says(&ends.request("INVITE", "a"));
    let answer = response(&ends.last_to_callee("INVITE"), 200, "callee");
    let second = answer.match_indices("Via: ").nth(1).unwrap().0;
    let end = second + answer[second..].find("\r\n").unwrap() + 2;
    let alone = answer.replace(&answer[second..end], "");
    assert_eq!(alone.matches("Via: ").count(), 1);
    ends.callee_says(&alone);
    assert_eq!(ends.to_caller(), lines(&[(0, "100 Trying (INVITE)")]));
    // Both in one line are two.
    let below = answer[second..end].trim_start_matches("Via: ").trim_end();
    let joined = alone.replacen(";rport\r\n", &format!(";rport , {below}\r\n"), 1);
    assert_eq!(joined.matches("Via: ").count(), 1, "{joined}");
    ends.callee_says(&joined);
    assert_eq!(ends.to_caller()[1..], lines(&[(0, "200 OK (INVITE)")]));
    assert_eq!(ends.last_to_caller("200").list("Via").len(), 1);
}

#[test]
fn stray_responses_are_dropped_and_leave_nothing_behind() {
    let mut ends = Ends::over_udp();
    ends.caller_says(&ends.request("INVITE", "a"));
    let answers: Vec<String> = ["INVITE", "OPTIONS"]
        .iter()
        .flat_map(|method| {
            let request = ends.last_to_callee("INVITE");
            [180, 200, 404].map(|code| response(&request, code, "x").replace("7 INVITE", &format!("7 {method}")))
        })
        .collect();
    ends.callee_answers("INVITE", 486);
    let invite = ends.request("INVITE", "a");
    let refusal = ends.last_to_caller("486");
    ends.caller_says(&like(&invite, "ACK", refusal.header("To")));
    ends.run_to(300_000);
    ends.assert_over();
    let before = ends.sent().len();
    for _ in 0..1_000 {
        for answer in &answers {
            ends.callee_says(answer);
        }
    }
    assert_eq!(ends.counters().stray_responses_total, 6_000);
    assert_eq!(ends.sent().len(), before);
    ends.assert_over();
}

#[test]
fn a_request_that_comes_by_two_ways_is_two_for_a_proxy() {
    for method in ["INVITE", "MESSAGE"] {
        let mut ends = Ends::over_udp();
        let request = ends.request(method, "a");
        ends.caller_says(&request);
        ends.caller_says(&request.replace("bK-a", "bK-b"));
        // RFC 3261 §16.3: merged requests are no error here.
        assert_eq!(ends.callee_heard_at(method), [0, 0]);
        assert_eq!(ends.caller_heard_at("4"), [0; 0]);
    }
}

#[test]
fn transactions_of_many_calls_are_all_gone_when_their_timers_have_fired() {
    let mut ends = Ends::over_udp();
    for call in 0..1_000 {
        let name = call.to_string();
        let invite = ends.request("INVITE", &name);
        ends.caller_says(&invite);
        match call % 4 {
            0 => ends.callee_answers("INVITE", 200),
            1 => {
                ends.callee_answers("INVITE", 486);
                let refusal = ends.last_to_caller("486");
                ends.caller_says(&like(&invite, "ACK", refusal.header("To")));
            }
            2 => ends.callee_answers("INVITE", 486),
            _ => {}
        }
    }
    // Timer B, and behind it Timer H of the 408.
    ends.run_to(63_999);
    assert_eq!(ends.transactions(), 250);
    ends.run_to(64_000);
    assert_eq!((ends.transactions(), ends.counters().contexts), (0, 0));
}

/// RFC 3261 §18.3: where the datagram is shorter than its Content-Length a request gets 400, and a response is dropped.
#[test]
fn a_response_that_is_shorter_than_it_says_is_dropped() {
    let mut ends = Ends::over_udp();
    ends.caller_says(&ends.request("MESSAGE", "a"));
    let whole = response(&ends.last_to_callee("MESSAGE"), 200, "b");
    ends.callee_says(&whole.replace("Content-Length: 0", "Content-Length: 9"));
    ends.callee_says(
        &whole
            .replace("Content-Length: 0", "Content-Length: 9")
            .replace("\r\n\r\n", "\r\n\r\n12345678"),
    );
    assert_eq!(ends.to_caller(), []);
    assert_eq!(ends.counters().malformed_unanswered_total, 2);
    ends.callee_says(&whole);
    assert_eq!(ends.caller_heard_at("200"), [0]);
}
