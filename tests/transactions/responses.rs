//! What a response is on its way back: without our Via, and else as the callee wrote it (RFC 3261 §16.7, §8.1.3.3, §18.3).

use super::ends::{Ends, TRANSPORTS, like, response};
use referee::sim::peer::text::Text;
use referee::sim::scene::CARRIER;
use referee::transport::Transport;
use serde_json::json;

/// The bytes that went to the caller last.
fn last(ends: &Ends) -> String {
    let of_caller = ends.sent().iter().rfind(|sent| sent.bytes.starts_with(b"SIP/2.0"));
    String::from_utf8(of_caller.unwrap().bytes.clone()).unwrap()
}

#[test]
fn a_relayed_response_leaves_without_our_via_and_else_byte_for_byte() {
    // Of our Record-Routes one may stand in an odd place by now; a proxy behind us has put its own above and below.
    let routes = |ours: &[String]| {
        format!(
            "Record-Route: <sip:p9.example;lr>;x=\"1, 2\" ,{}\r\nX-Between: 1\r\nRecord-Route:   {}\r\nrecord-route: <sip:p1.example>\r\n",
            ours[0], ours[1]
        )
    };
    let to = "\"B, b\"  <sip:+4930123456@203.0.113.7>";
    for (code, tag) in [
        (180, ";tag=One"),
        (183, " ; x=1 ;tag=Two;y"),
        // RFC 3261 §16.7: a proxy puts in none, though the callee is one of RFC 2543.
        (180, ""),
        (200, ""),
        (200, ";TAG=Three"),
        (486, ";tag=Four"),
        (486, ""),
    ] {
        let mut ends = Ends::over_udp();
        let invite = ends.request("INVITE", "a");
        ends.caller_says(&invite);
        let arrived = ends.last_to_callee("INVITE");
        let vias = arrived.list("Via");
        let ours = arrived.list("Record-Route");
        let rest = format!(
            "{}t: {to}{tag}\r\nFrom: {}\r\nCall-ID: {}\r\nCSeq:  7  INVITE\r\nm: <sip:callee@10.0.0.5>\r\nContent-Length: 3\r\n\r\n\0\r\n",
            routes(&ours),
            arrived.header("From").unwrap(),
            arrived.call_id()
        );
        ends.callee_says(&format!(
            "SIP/2.0 {code} As I  like\r\nVia: {}\r\nVia: {}\r\n{rest}",
            vias[0], vias[1]
        ));
        assert_eq!(
            last(&ends),
            format!("SIP/2.0 {code} As I  like\r\nVia: {}\r\n{rest}", vias[1]),
            "{code}{tag}"
        );
    }
}

/// RFC 3261 §8.1.3.3: more than one Via says that it is somebody else's. Each of these is sent again as if nothing had come.
#[test]
fn a_response_to_a_request_of_ours_with_a_second_via_is_dropped() {
    let second = |response: &str, number: usize| {
        let other = format!("SIP/2.0/UDP {CARRIER};branch=z9hG4bK-other");
        match number {
            0 => response.replacen("From: ", &format!("Via: {other}\r\nFrom: "), 1),
            _ => response.replacen(";rport", &format!(";rport, {other}"), 1),
        }
    };
    for number in 0..2 {
        // The CANCEL of an INVITE.
        let mut ends = Ends::over_udp();
        let invite = ends.request("INVITE", "a");
        ends.caller_says(&invite);
        ends.callee_answers("INVITE", 180);
        ends.caller_says(&like(&invite, "CANCEL", None));
        let ok = response(&ends.last_to_callee("CANCEL"), 200, "callee");
        ends.callee_says(&second(&ok, number));
        ends.run_to(600);
        assert_eq!(ends.callee_heard_at("CANCEL"), [0, 500]);
        ends.callee_says(&ok);
        ends.run_to(10_000);
        assert_eq!(ends.callee_heard_at("CANCEL").len(), 2);
        // A REFER, within the dialog of an answered call.
        let mut ends = Ends::over_udp();
        ends.caller_says(&invite);
        ends.callee_answers("INVITE", 200);
        let ok = ends.last_to_caller("200");
        let routes: Vec<String> = ok.list("Record-Route").into_iter().rev().collect();
        ends.caller_says(
            &like(&invite, "ACK", ok.header("To"))
                .replace("bK-a", "bK-ack")
                .replace("Max-Forwards", &format!("Route: {}\r\nMax-Forwards", routes.join(", "))),
        );
        let verbs = json!([{"verb": "sip:refer", "referTo": "sip:bob@example.com"}]);
        let (sent, _) = ends.wire.verbs(ok.call_id().as_bytes(), &verbs);
        let refer = Text::read(&sent[0].bytes).unwrap();
        assert_eq!(refer.method(), "REFER");
        let accepted = response(&refer, 202, "x");
        ends.caller_says(&second(&accepted, number));
        ends.run_to(600);
        assert_eq!(ends.caller_heard_at("REFER"), [500]);
        ends.caller_says(&accepted);
        ends.run_to(10_000);
        assert_eq!(ends.caller_heard_at("REFER"), [500]);
    }
}

/// RFC 3261 §18.3, §20.14: a datagram ends a message by itself, a stream does not.
#[test]
fn what_came_in_a_datagram_without_a_content_length_has_one_on_a_stream() {
    let body = "nine\r\n\r\nby";
    for (from, to) in TRANSPORTS
        .iter()
        .flat_map(|from| TRANSPORTS.iter().map(move |to| (*from, *to)))
    {
        let mut ends = Ends::over(from, to);
        let without = |text: String| text.replace("Content-Length: 0\r\n\r\n", &format!("\r\n{body}"));
        let with =
            |text: String| text.replace("Content-Length: 0\r\n\r\n", &format!("l: {}\r\n\r\n{body}", body.len()));
        let length = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            assert!(text.ends_with(&format!("\r\n\r\n{body}")), "{text}");
            let lines = text.split("\r\n").take_while(|line| !line.is_empty());
            let lengths = lines.filter(|line| line.starts_with("Content-Length:") || line.starts_with("l:"));
            lengths.map(str::to_owned).collect::<Vec<_>>()
        };
        let expected = |from: Transport, to: Transport| match (from, to) {
            // What has one keeps it as it is.
            (Transport::Tcp, _) => vec![format!("l: {}", body.len())],
            (Transport::Udp, Transport::Tcp) => vec![format!("Content-Length: {}", body.len())],
            (Transport::Udp, Transport::Udp) => vec![],
        };
        let request = ends.request("MESSAGE", "a");
        ends.caller_says(&if from == Transport::Udp {
            without(request)
        } else {
            with(request)
        });
        let arrived = ends.sent().last().unwrap().clone();
        assert_eq!(length(&arrived.bytes), expected(from, to));
        let read = Text::read_any_length(&arrived.bytes).unwrap();
        let answer = response(&read, 200, "callee");
        ends.callee_says(&if to == Transport::Udp {
            without(answer)
        } else {
            with(answer)
        });
        assert_eq!(length(&ends.sent().last().unwrap().bytes), expected(to, from));
    }
}
