//! Where a request goes that names a host (RFC 3263 §4, RFC 7984 §3), and where all goes that belongs to it.

use super::ends::{Ends, like, response};
use referee::sim::peer::text::Text;
use referee::sim::scene::{PLATFORM, TWO_SIDES};
use referee::transport::{Flow, Transport};
use std::net::IpAddr;

/// Two addresses of the callee that nothing tells apart.
const EQUAL: [&str; 2] = ["10.0.0.5", "10.0.0.6"];

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// The callee's trunk by its name.
fn by_name(seed: u8) -> Ends {
    let config = TWO_SIDES.replace("udp:10.0.0.5:5060", "udp:callee.example:5060");
    let config = config.replace(
        "listen = \"private\"",
        "listen = \"private\"\nsources = [\"10.0.0.0/24\"]",
    );
    Ends::with_seed(&config, Transport::Udp, Transport::Udp, seed)
}

/// Where messages of this method went, in order.
fn flows(ends: &Ends, method: &str) -> Vec<Flow> {
    let of_method = ends
        .sent()
        .iter()
        .filter(|sent| sent.bytes.starts_with(method.as_bytes()));
    of_method.map(|sent| sent.flow).collect()
}

#[test]
fn an_invite_its_repeats_its_cancel_and_its_ack_go_to_one_of_two_equal_hosts() {
    let mut ends = by_name(1);
    ends.wire.resolve_all_to(&addresses(&EQUAL));
    let invite = ends.request("INVITE", "a");
    ends.caller_says(&invite);
    let chosen = flows(&ends, "INVITE")[0];
    ends.run_to(600);
    let heard = ends
        .sent()
        .iter()
        .find(|sent| sent.bytes.starts_with(b"INVITE"))
        .unwrap();
    let heard = Text::read(&heard.bytes).unwrap();
    ends.callee_says(&response(&heard, 180, "callee"));
    // By now the look-up is out of date and its answer would be another.
    ends.wire.resolve_all_to(&addresses(&[EQUAL[1], EQUAL[0]]));
    ends.run_to(100_000);
    ends.caller_says(&ends.request("MESSAGE", "m"));
    ends.caller_says(&like(&invite, "CANCEL", None));
    ends.callee_says(&response(&heard, 487, "callee"));
    assert_eq!(flows(&ends, "INVITE"), [chosen, chosen]);
    assert_eq!(flows(&ends, "CANCEL"), [chosen]);
    assert_eq!(flows(&ends, "ACK"), [chosen]);
    assert_ne!(flows(&ends, "MESSAGE"), [chosen], "it is a request of its own");
}

#[test]
fn what_is_forwarded_without_state_goes_the_same_way_each_time() {
    // RFC 3263 §4.4, for the ACK of a 2xx: on two nodes that have nothing in common but what they are asked.
    let mut chosen = Vec::new();
    for seed in [1, 2] {
        let mut ends = Ends::with_seed(TWO_SIDES, Transport::Udp, Transport::Udp, seed);
        ends.wire.resolve_all_to(&addresses(&EQUAL));
        let invite = ends.request("INVITE", "a");
        ends.caller_says(&invite);
        let heard = ends.last_to_callee("INVITE");
        let answer = response(&heard, 200, "callee").replace(PLATFORM, "callee.example");
        ends.callee_says(&answer);
        let routes = ends.last_to_caller("200").list("Record-Route");
        let route = format!("Route: {}, {}\r\nMax-", routes[1], routes[0]);
        let to = format!("{};tag=callee", heard.header("To").unwrap());
        let ack = like(&invite, "ACK", Some(&to)).replace("Max-", &route);
        let ack = ack.replace("ACK sip:+4930123456@203.0.113.7", "ACK sip:callee@callee.example");
        for _ in 0..3 {
            ends.caller_says(&ack);
        }
        chosen.push(flows(&ends, "ACK"));
    }
    assert!(chosen[0].iter().all(|flow| *flow == chosen[0][0]), "{chosen:?}");
    assert_eq!(chosen[0].len(), 3);
    assert_eq!(chosen[0], chosen[1]);
}

#[test]
fn an_address_that_no_socket_reaches_is_skipped_at_once() {
    for (first, expected) in [("2001:db8::5", "10.0.0.5"), ("10.0.0.6", "10.0.0.6")] {
        let mut ends = by_name(1);
        ends.wire.resolve_all_to(&addresses(&[first, "10.0.0.5"]));
        ends.caller_says(&ends.request("INVITE", "a"));
        let gone: Vec<IpAddr> = flows(&ends, "INVITE").iter().map(|flow| flow.peer.ip()).collect();
        assert_eq!(gone, addresses(&[expected]));
    }
    // None that is left is a refusal, not a wait.
    let mut ends = by_name(1);
    ends.wire.resolve_all_to(&addresses(&["2001:db8::5"]));
    ends.caller_says(&ends.request("INVITE", "a"));
    assert_eq!(ends.caller_heard_at("500"), [0]);
}

/// RFC 3263 §4.1: what the URI of the next hop says, else what the party behind it uses.
#[test]
fn requests_to_a_contact_go_by_its_transport_or_by_that_of_its_party() {
    for (callee, parameter, goes_by) in [
        (Transport::Udp, "", Transport::Udp),
        (Transport::Udp, ";transport=udp", Transport::Udp),
        (Transport::Udp, ";transport=tcp", Transport::Tcp),
        (Transport::Tcp, "", Transport::Tcp),
        (Transport::Tcp, ";transport=tcp", Transport::Tcp),
        (Transport::Tcp, ";transport=udp", Transport::Udp),
    ] {
        let mut ends = Ends::over(Transport::Udp, callee);
        let invite = ends.request("INVITE", "a");
        ends.caller_says(&invite);
        let heard = ends.last_to_callee("INVITE");
        let contact = format!("<sip:callee@{PLATFORM}{parameter}>");
        let answer = response(&heard, 200, "callee").replace(&format!("<sip:callee@{PLATFORM}>"), &contact);
        ends.callee_says(&answer);
        let routes = ends.last_to_caller("200").list("Record-Route");
        let to = format!("{};tag=callee", heard.header("To").unwrap());
        let ack =
            like(&invite, "ACK", Some(&to)).replace("Max-", &format!("Route: {}, {}\r\nMax-", routes[1], routes[0]));
        let uri = format!("ACK sip:callee@{PLATFORM}{parameter} SIP");
        ends.caller_says(&ack.replace("ACK sip:+4930123456@203.0.113.7 SIP", &uri));
        let by: Vec<Transport> = flows(&ends, "ACK").iter().map(|flow| flow.transport).collect();
        assert_eq!(by, [goes_by], "{callee} {parameter}");
        let via = format!("SIP/2.0/{} ", goes_by.via_token());
        assert!(ends.last_to_callee("ACK").list("Via")[0].starts_with(&via));
    }
}
