//! How a request that comes back is known, and what in its branch that does not touch (RFC 5393 §4.2, RFC 3261 §16.6).

use super::ends::{Ends, TRANSPORTS, like, response};
use referee::sim::peer::text::Text;
use referee::sim::scene::{CARRIER, PLATFORM, TWO_SIDES};
use referee::transport::Transport;

/// Two headers have a say in where calls of the carrier go.
fn staged() -> String {
    let by_header = |name: &str| {
        format!(
            "[[route]]\nfrom = \"carrier\"\nto = \"platform\"\nmatch = {{ header = {{ name = \"{name}\", value = \"1\" }} }}\n"
        )
    };
    TWO_SIDES.replacen(
        "[[route]]",
        &(by_header("X-Stage") + &by_header("X-Other") + "[[route]]"),
        1,
    )
}

const ROUTE: &str = "Route: <sip:p1.example;lr>\r\n";
const STAGE: &str = "X-Stage: 1\r\n";

/// A request that has something of all that leads it on its way.
fn led(ends: &Ends, name: &str) -> String {
    let plain = ends.request("INVITE", name);
    plain.replace("Max-Forwards", &format!("{ROUTE}{STAGE}Max-Forwards"))
}

/// The same as it comes back behind this Via of referee's.
fn back(ends: &Ends, name: &str, own_via: &str) -> String {
    led(ends, name).replacen("Max-Forwards", &format!("Via: {own_via}\r\nMax-Forwards"), 1)
}

fn own_via(ends: &mut Ends) -> String {
    let first = led(ends, "first");
    ends.caller_says(&first);
    ends.last_to_callee("INVITE").list("Via")[0].clone()
}

/// What is changed, by pieces of text with what they become, and whether it is a loop all the same.
type Change = (&'static str, &'static [(&'static str, &'static str)], bool);

#[test]
fn whatever_leads_a_request_elsewhere_makes_a_spiral_and_nothing_else_does() {
    let changes: &[Change] = &[
        ("nothing", &[], true),
        // RFC 5393 §4.2.1: not the method.
        ("the method", &[("INVITE", "MESSAGE")], true),
        ("the hops left", &[("Max-Forwards: 70", "Max-Forwards: 7")], true),
        (
            "a header that no route matches on",
            &[("Contact", "X-Note: 1\r\nContact")],
            true,
        ),
        (
            "another address of the trunk in Contact",
            &[("<sip:alice@198.51.100.10", "<sip:alice@198.51.100.11")],
            true,
        ),
        (
            "the user",
            &[("sip:+4930123456@203.0.113.7 SIP", "sip:+4930123457@203.0.113.7 SIP")],
            false,
        ),
        (
            "a parameter of the Request-URI",
            &[("203.0.113.7 SIP", "203.0.113.7;x=1 SIP")],
            false,
        ),
        ("no Route any more", &[(ROUTE, "")], false),
        ("another Route", &[(ROUTE, "Route: <sip:p2.example;lr>\r\n")], false),
        (
            "a Route more",
            &[(ROUTE, "Route: <sip:p1.example;lr>\r\nRoute: <sip:p2.example;lr>\r\n")],
            false,
        ),
        (
            "a Route more in one line",
            &[(ROUTE, "Route: <sip:p1.example;lr>, <sip:p2.example;lr>\r\n")],
            false,
        ),
        (
            "another value of the header of a route",
            &[(STAGE, "X-Stage: 2\r\n")],
            false,
        ),
        ("no header of a route any more", &[(STAGE, "")], false),
        (
            "the header of a route twice",
            &[(STAGE, "X-Stage: 1\r\nX-Stage: 1\r\n")],
            false,
        ),
        (
            "the header of another route",
            &[(STAGE, "X-Stage: 1\r\nX-Other: 1\r\n")],
            false,
        ),
        (
            "the value in the header of another route",
            &[(STAGE, "X-Other: 1\r\n")],
            false,
        ),
    ];
    for (what, changes, is_loop) in changes {
        let mut ends = Ends::with(&staged(), Transport::Udp, Transport::Udp);
        let own_via = own_via(&mut ends);
        let again = changes.iter().fold(back(&ends, "again", &own_via), |text, (from, to)| {
            assert!(text.contains(from), "{what}: no {from}");
            text.replace(from, to)
        });
        ends.caller_says(&again);
        let again = Text::read(again.as_bytes()).unwrap();
        let passed = ends.sent().iter().map(|sent| Text::read(&sent.bytes).unwrap());
        let passed = passed.filter(|sent| sent.is_request() && sent.call_id() == again.call_id());
        assert_eq!(passed.count(), usize::from(!is_loop), "{what}");
        assert_eq!(!ends.caller_heard_at("482").is_empty(), *is_loop, "{what}");
        assert_eq!(ends.counters().loops_total, u64::from(*is_loop), "{what}");
    }
}

#[test]
fn a_request_that_comes_back_from_another_trunk_is_a_spiral() {
    let mut ends = Ends::over_udp();
    let own_via = own_via(&mut ends);
    let again = back(&ends, "again", &own_via).replace(CARRIER, PLATFORM);
    ends.callee_says(&again);
    assert_eq!(ends.last_to_caller("INVITE").list("Via").len(), 3);
    assert_eq!(ends.counters().loops_total, 0);
    // When it comes from there once more it is a loop, whichever of its Vias tells.
    let second_via = ends.last_to_caller("INVITE").list("Via")[0].clone();
    for (number, vias) in [format!("{second_via}, {own_via}"), format!("{own_via}, {second_via}")]
        .iter()
        .enumerate()
    {
        let again = back(&ends, &format!("again{number}"), vias).replace(CARRIER, PLATFORM);
        ends.callee_says(&again);
        assert_eq!(ends.counters().loops_total, number as u64 + 1);
    }
    assert_eq!(ends.caller_heard_at("INVITE"), [0]);
}

/// RFC 3261 §9.1, §17.1.1.3: else the hop after us could not tell what they belong to. The INVITE meant is the one sent last.
#[test]
fn a_cancel_and_an_ack_have_the_branch_of_their_invite() {
    let auth = "[trunk.auth]\nusername = \"referee\"\npassword = \"hush hush\"\n";
    let config = TWO_SIDES.replacen("[[route]]", &format!("{auth}[[route]]"), 1);
    for over in TRANSPORTS {
        let mut ends = Ends::with(&config, over, over);
        let invite = ends.request("INVITE", "a");
        ends.caller_says(&invite);
        let first = ends.last_to_callee("INVITE");
        let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\nContent-Length";
        ends.callee_says(&response(&first, 401, "callee").replace("Content-Length", challenge));
        assert_eq!(ends.last_to_callee("ACK").list("Via"), first.list("Via")[..1]);
        let second = ends.last_to_callee("INVITE");
        assert_ne!(second.branch(), first.branch());
        // The part that tells a loop is the same in both, and stands in all four.
        let digest = |text: &Text| text.branch()[39..].to_owned();
        assert_eq!((digest(&second), digest(&first).len()), (digest(&first), 8));
        ends.callee_answers("INVITE", 180);
        ends.caller_says(&like(&invite, "CANCEL", None));
        assert_eq!(ends.last_to_callee("CANCEL").list("Via"), second.list("Via")[..1]);
        ends.callee_answers("CANCEL", 200);
        ends.callee_says(&response(&second, 487, "callee"));
        assert_eq!(ends.last_to_callee("ACK").list("Via"), second.list("Via")[..1]);
        assert_eq!(ends.callee_heard_at("ACK").len(), 2);
    }
}
