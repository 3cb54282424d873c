//! What referee answers by itself as a proxy: what a response of its own is made of (RFC 3261 §8.2.6), and what causes one, or
//! none (§16.3, §16.5, §8.2.2.3).

use super::ends::{Ends, like, lines, response};
use referee::sim::peer::text::Text;
use referee::sim::scene::{CARRIER, PLATFORM, TWO_SIDES};
use referee::sim::wire::Sent;
use referee::transport::Transport;

// ---- what a response is made of ----

/// Fields with all that may stand in them and means nothing; the Vias are three in two lines.
const VIAS: [&str; 2] = [
    "SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK-odd , SIP / 2.0 / TCP  p2.example : 5070;branch=z9hG4bKp2;received=192.0.2.1",
    "SIP/2.0/TLS [2001:db8::9]:5061;x=\"a, b\" ;branch=z9hG4bKp3",
];
const FROM: &str = "\"A. \\\"B\\\", C\"   <sip:alice@carrier.example;x=1> ; y=\"2\";tag=From-Tag";
const TO: &str = "Bob  <sip:+4930123456@203.0.113.7;user=phone>;z=%41";
const CALL_ID: &str = "Odd-%41!*@[2001:db8::9]";

fn odd(ends: &Ends, method: &str, to: &str, more: &str) -> String {
    let plain = Text::read(ends.request(method, "odd").as_bytes()).unwrap();
    let uri = plain.request_uri();
    format!(
        "{method} {uri} SIP/2.0\r\nv: {}\r\nMax-Forwards: 70\r\nVia: {}\r\nf: {FROM}\r\nTo: {to}\r\ni: {CALL_ID}\r\n\
         CSeq: 0007   {method}\r\n{more}Contact: <sip:alice@{CARRIER}>\r\nContent-Length: 0\r\n\r\n",
        VIAS[0], VIAS[1]
    )
}

/// RFC 3261 §8.2.6.2. `has_tag_of_ours`: one is put behind the To.
fn assert_copies(what: &str, sent: &Sent, method: &str, to: &str, has_tag_of_ours: bool) {
    let text = std::str::from_utf8(&sent.bytes).unwrap();
    let values = |names: [&str; 2]| -> Vec<&str> {
        let lines = text.split("\r\n").filter_map(|line| line.split_once(": "));
        lines
            .filter(|(name, _)| names.contains(name))
            .map(|(_, value)| value)
            .collect()
    };
    assert_eq!(values(["Via", "v"]), VIAS, "{what}");
    assert_eq!(values(["From", "f"]), [FROM], "{what}");
    assert_eq!(values(["Call-ID", "i"]), [CALL_ID], "{what}");
    assert_eq!(values(["CSeq", "CSeq"]), [format!("0007   {method}")], "{what}");
    let answered = values(["To", "t"]);
    let [answered] = answered[..] else {
        panic!("{what}: {text}")
    };
    let tag = answered
        .strip_prefix(to)
        .unwrap_or_else(|| panic!("{what}: {answered}"));
    match has_tag_of_ours {
        true => assert!(tag.len() > 12 && tag.starts_with(";tag="), "{what}: {answered}"),
        false => assert_eq!(tag, "", "{what}"),
    }
}

#[test]
fn a_response_of_ours_has_all_vias_in_order_and_the_other_fields_byte_for_byte() {
    let full = format!("{TWO_SIDES}\n[limits]\ntransactions_max = 1\n");
    let in_dialog = format!("{TO};tag=To-Tag");
    let magic = "Proxy-Require: magic\r\n";
    // At once, when the time has come, after a CANCEL; and without a transaction, where its table is full.
    for (what, config, method, to, more, until, codes) in [
        ("at once", TWO_SIDES, "MESSAGE", TO, magic, 0, &[420][..]),
        ("an INVITE", TWO_SIDES, "INVITE", TO, magic, 0, &[420]),
        ("within a dialog", TWO_SIDES, "BYE", &*in_dialog, "", 0, &[481]),
        (
            "100 at once, 408 later",
            TWO_SIDES,
            "INVITE",
            TO,
            "",
            32_000,
            &[100, 408],
        ),
        ("100 later", TWO_SIDES, "MESSAGE", TO, "", 4_000, &[100]),
        ("without state", &*full, "MESSAGE", TO, "", 0, &[503]),
        ("an INVITE without state", &*full, "INVITE", TO, "", 0, &[503]),
        ("malformed", TWO_SIDES, "INVITE", TO, "Max-Forwards: 1\r\n", 0, &[400]),
    ] {
        let mut ends = Ends::with(config, Transport::Udp, Transport::Udp);
        if config == full {
            ends.caller_says(&ends.request("MESSAGE", "fills"));
        }
        ends.caller_says(&odd(&ends, method, to, more));
        ends.run_to(until);
        let to_caller = ends.sent().iter().filter(|sent| sent.bytes.starts_with(b"SIP/2.0 "));
        let to_caller: Vec<&Sent> = to_caller.collect();
        // Within the time some are sent again, as they were.
        let mut heard: Vec<u16> = to_caller
            .iter()
            .map(|sent| Text::read(&sent.bytes).unwrap().code())
            .collect();
        heard.dedup();
        assert_eq!(heard, codes, "{what}");
        for sent in to_caller {
            let has_tag_of_ours = to == TO && !sent.bytes.starts_with(b"SIP/2.0 100");
            assert_copies(what, sent, method, to, has_tag_of_ours);
        }
    }
    let mut ends = Ends::over_udp();
    let invite = odd(&ends, "INVITE", TO, "");
    ends.caller_says(&invite);
    ends.callee_answers("INVITE", 180);
    let cancel = odd(&ends, "CANCEL", TO, "");
    ends.caller_says(&cancel);
    let said = |start: &str| {
        ends.sent()
            .iter()
            .rfind(|sent| sent.bytes.starts_with(start.as_bytes()))
            .cloned()
    };
    assert_copies("to a CANCEL", &said("SIP/2.0 200").unwrap(), "CANCEL", TO, true);
    let before = ends.sent().len();
    ends.run_to(40_000);
    let refusal = ends.sent()[before..]
        .iter()
        .find(|sent| sent.bytes.starts_with(b"SIP/2.0 487"));
    assert_copies("after a CANCEL", refusal.unwrap(), "INVITE", TO, true);
}

// ---- what causes a response of ours, or none ----

#[test]
fn where_no_route_fits_the_answer_is_404() {
    let matching = |condition: &str| {
        TWO_SIDES.replacen(
            "to = \"platform\"",
            &format!("to = \"platform\"\nmatch = {condition}"),
            1,
        )
    };
    let none = TWO_SIDES.replacen("[[route]]\nfrom = \"carrier\"\nto = \"platform\"\n", "", 1);
    for (what, config, is_routed) in [
        ("the trunk has none", none, false),
        ("another user", matching("{ user = \"+49301*\" }"), true),
        ("another user", matching("{ user = \"+49302*\" }"), false),
        ("another host", matching("{ host = \"203.0.113.8\" }"), false),
        ("a name in other case", matching("{ host = \"Example.ORG\" }"), true),
        (
            "without the header",
            matching("{ header = { name = \"X-Stage\", value = \"*\" } }"),
            false,
        ),
    ] {
        for method in ["INVITE", "MESSAGE"] {
            let mut ends = Ends::with(&config, Transport::Udp, Transport::Udp);
            let mut request = ends.request(method, "a");
            if what == "a name in other case" {
                request = request.replacen("203.0.113.7", "eXample.org", 1);
            }
            ends.caller_says(&request);
            assert_eq!(ends.to_callee().len(), usize::from(is_routed), "{what}");
            if is_routed {
                continue;
            }
            assert_eq!(
                ends.to_caller(),
                lines(&[(0, &format!("404 Not Found ({method})"))]),
                "{what}"
            );
            let refusal = ends.last_to_caller("404");
            assert!(refusal.tag("To").is_some());
            if method == "INVITE" {
                ends.caller_says(&like(&request, "ACK", refusal.header("To")));
                ends.run_to(400);
                assert_eq!(ends.caller_heard_at("404"), [0], "the ACK is that of our 404");
            }
            ends.run_to(40_000);
            ends.assert_over();
        }
    }
}

/// A call, and an ACK for its 2xx with these header lines.
fn answered(ends: &mut Ends, hops: u8, more: &str) -> String {
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    ends.callee_answers("INVITE", 200);
    let ok = ends.last_to_caller("200");
    let routes: Vec<String> = ok.list("Record-Route").into_iter().rev().collect();
    let ack = format!(
        "ACK sip:callee@{PLATFORM} SIP/2.0\r\nVia: SIP/2.0/UDP {CARRIER};branch=z9hG4bK-ack\r\nRoute: {}\r\n\
         Max-Forwards: {hops}\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: 7 ACK\r\n{more}Content-Length: 0\r\n\r\n",
        routes.join(", "),
        ok.header("From").unwrap(),
        ok.header("To").unwrap(),
        ok.call_id()
    );
    ends.caller_says(&ack);
    ack
}

#[test]
fn an_ack_without_hops_left_is_dropped_without_an_answer() {
    for hops in [0, 1, 2] {
        let mut ends = Ends::over_udp();
        answered(&mut ends, hops, "");
        assert_eq!(ends.to_caller().len(), 2, "100 and 200: an ACK is never answered");
        assert_eq!(ends.callee_heard_at("ACK").len(), usize::from(hops > 0), "{hops}");
        if hops > 0 {
            let left = ends.last_to_callee("ACK");
            assert_eq!(left.header("Max-Forwards"), Some(&*(hops - 1).to_string()));
        }
    }
    // Nor one outside a dialog, and that of a refusal is ours whatever it says.
    let mut ends = Ends::over_udp();
    ends.caller_says(&ends.request("ACK", "b").replace("Max-Forwards: 70", "Max-Forwards: 0"));
    assert!(ends.sent().is_empty());
    let invite = ends
        .request("INVITE", "a")
        .replace("Max-Forwards: 70", "Max-Forwards: 0");
    ends.caller_says(&invite);
    let refusal = ends.last_to_caller("483");
    ends.caller_says(&like(&invite, "ACK", refusal.header("To")));
    ends.run_to(40_000);
    assert_eq!(ends.to_caller(), lines(&[(0, "483 Too Many Hops (INVITE)")]));
    assert!(ends.to_callee().is_empty());
}

#[test]
fn proxy_require_is_ignored_in_ack_and_cancel() {
    let magic = "Proxy-Require: magic\r\n";
    let with = |request: String| request.replace("Content-Length", &format!("{magic}Content-Length"));
    let mut ends = Ends::over_udp();
    answered(&mut ends, 70, magic);
    assert_eq!(ends.last_to_callee("ACK").header("Proxy-Require"), Some("magic"));
    assert_eq!(ends.to_caller().len(), 2);
    let mut ends = Ends::over_udp();
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    ends.callee_answers("INVITE", 180);
    ends.caller_says(&with(like(&invite, "CANCEL", None)));
    assert_eq!(ends.caller_heard_at("200 OK (CANCEL)"), [0]);
    assert!(ends.caller_heard_at("420").is_empty());
    // RFC 3261 §9.1: and none stands in a CANCEL of ours.
    assert_eq!(ends.last_to_callee("CANCEL").header("Proxy-Require"), None);
    ends.callee_says(&response(&ends.last_to_callee("INVITE"), 487, "callee"));
    let refusal = ends.last_to_caller("487");
    ends.caller_says(&with(like(&invite, "ACK", refusal.header("To"))));
    ends.run_to(600);
    assert_eq!(ends.caller_heard_at("487"), [0], "the ACK ends its repeats");
    // In any other request it counts, within a dialog too.
    let mut ends = Ends::over_udp();
    let ack = answered(&mut ends, 70, "");
    let info = ack
        .replace("ACK sip", "INFO sip")
        .replace("7 ACK", "8 INFO")
        .replace("bK-ack", "bK-info");
    ends.caller_says(&with(info));
    assert_eq!(ends.last_to_caller("420").header("Unsupported"), Some("magic"));
    assert!(ends.callee_heard_at("INFO").is_empty());
}

/// RFC 3261 §13.2.2.4: an ACK is of a final response. Of an early dialog there is none, nor of an INVITE that is still open.
#[test]
fn an_ack_before_there_is_anything_to_acknowledge_goes_nowhere() {
    let mut ends = Ends::over_udp();
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    ends.callee_answers("INVITE", 180);
    let ringing = ends.last_to_caller("180");
    let routes: Vec<String> = ringing.list("Record-Route").into_iter().rev().collect();
    let ack = like(&invite, "ACK", ringing.header("To")).replace("bK-a", "bK-early");
    ends.caller_says(&ack.replace("Max-Forwards", &format!("Route: {}\r\nMax-Forwards", routes.join(", "))));
    assert!(ends.callee_heard_at("ACK").is_empty());
    // The same within a call, with the branch of an INVITE that has no answer.
    let mut ends = Ends::over_udp();
    let ack = answered(&mut ends, 70, "");
    let again = ack.replace("ACK sip", "INVITE sip").replace("7 ACK", "8 INVITE");
    ends.caller_says(&again.replace("bK-ack", "bK-again"));
    assert_eq!(
        ends.callee_heard_at("re-INVITE").len() + ends.callee_heard_at("INVITE").len(),
        2
    );
    ends.caller_says(&ack.replace("7 ACK", "8 ACK").replace("bK-ack", "bK-again"));
    assert_eq!(ends.callee_heard_at("ACK").len(), 1);
    assert_eq!(ends.counters().stray_acks_total, 1);
}
