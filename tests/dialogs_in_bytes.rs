//! Dialogs in bytes, of ends that the simulated peers are not: of parties without tags (RFC 3261 §12.1), and older than the process.

use referee::sim::peer::text::Text;
use referee::sim::scene::{CARRIER, PLATFORM, PRIVATE, PUBLIC, TWO_SIDES};
use referee::sim::wire::Wire;
use serde_json::json;

const CALLER: usize = 0;
const CALLEE: usize = 1;
const CONTACTS: [&str; 2] = ["sip:caller@198.51.100.10", "sip:callee@10.0.0.5"];

/// The two parties of a call, and what they know of each other.
struct Parties {
    /// From or To of each.
    identities: [String; 2],
    call_id: String,
    /// The route set of each.
    routes: [Vec<String>; 2],
}

fn says(wire: &mut Wire, party: usize, bytes: &str) -> Vec<Text> {
    let (from, to) = [(CARRIER, PUBLIC), (PLATFORM, PRIVATE)][party];
    let sent = wire.datagram(from.parse().unwrap(), to.parse().unwrap(), bytes.as_bytes());
    sent.iter().map(|sent| Text::read(&sent.bytes).unwrap()).collect()
}

/// A 200 to a request, with this To and these lines.
fn ok(request: &Text, to: &str, lines: &str) -> String {
    let is_copied = |name: &str| matches!(name, "Via" | "Record-Route" | "From" | "Call-ID" | "CSeq");
    let copied = request.headers.iter().filter(|(name, _)| is_copied(name));
    let copied: String = copied.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("SIP/2.0 200 OK\r\n{copied}To: {to}\r\n{lines}Content-Length: 0\r\n\r\n")
}

impl Parties {
    /// A call between parties with these tags: INVITE, 200 and ACK.
    fn call(wire: &mut Wire, call_id: &str, tags: [&str; 2]) -> Parties {
        let mut parties = Parties {
            identities: [
                format!("<sip:caller@carrier.example>{}", tags[CALLER]),
                "<sip:+4930123456@203.0.113.7>".to_owned(),
            ],
            call_id: call_id.to_owned(),
            routes: Default::default(),
        };
        let invite = parties.request(CALLER, "INVITE", 1, "sip:+4930123456@203.0.113.7");
        let sent = says(wire, CALLER, &invite);
        let invite = sent.iter().find(|text| text.is_request()).unwrap();
        parties.identities[CALLEE] += tags[CALLEE];
        let contact = format!("Contact: <{}>\r\n", CONTACTS[CALLEE]);
        let answer = says(wire, CALLEE, &ok(invite, &parties.identities[CALLEE], &contact)).remove(0);
        assert_eq!(answer.code(), 200);
        parties.routes = [answer.list("Record-Route"), invite.list("Record-Route")];
        parties.routes[CALLER].reverse();
        let ack = parties.says(wire, CALLER, "ACK", 1);
        assert_eq!((ack[0].method(), ack[0].request_uri()), ("ACK", CONTACTS[CALLEE]));
        parties
    }

    fn request(&self, party: usize, method: &str, number: u32, uri: &str) -> String {
        let (from, to) = (&self.identities[party], &self.identities[1 - party]);
        let routes: String = self.routes[party]
            .iter()
            .map(|route| format!("Route: {route}\r\n"))
            .collect();
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP here;branch=z9hG4bK{method}{number};rport\r\nMax-Forwards: 70\r\n{routes}\
             From: {from}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\nContact: <{}>\r\nContent-Length: 0\r\n\r\n",
            self.call_id, CONTACTS[party]
        )
    }

    /// Says something within the dialog; what leaves for it.
    fn says(&self, wire: &mut Wire, party: usize, method: &str, number: u32) -> Vec<Text> {
        says(wire, party, &self.request(party, method, number, CONTACTS[1 - party]))
    }

    /// Says something that the other party hears and answers with 200, which comes back.
    fn ask(&self, wire: &mut Wire, party: usize, method: &str, number: u32) {
        let heard = self.says(wire, party, method, number);
        let what = format!("{method} of {:?}", self.identities[party]);
        let request = heard.iter().find(|text| text.is_request());
        let request = request.unwrap_or_else(|| panic!("{what}: {heard:?}"));
        assert_eq!((request.method(), request.request_uri()), (method, CONTACTS[1 - party]));
        let answer = says(wire, 1 - party, &ok(request, &self.identities[1 - party], ""));
        assert_eq!((answer[0].code(), answer[0].cseq()), (200, (number, method)), "{what}");
    }
}

/// RFC 3261 §12.1.1, §12.1.2: of a party of RFC 2543 the tag is null.
#[test]
fn the_dialogs_of_parties_without_tags_are_dialogs() {
    for tags in [["", ""], ["", ";tag=u"], [";tag=c", ""], [";tag=c", ";tag=u"]] {
        for party in [CALLER, CALLEE] {
            let mut wire = Wire::new(TWO_SIDES);
            let parties = Parties::call(&mut wire, "call", tags);
            parties.ask(&mut wire, 1 - party, "INFO", 2);
            assert_eq!(wire.shard().counters().calls, 1);
            parties.ask(&mut wire, party, "BYE", 3);
            assert_eq!(wire.shard().counters().calls, 0, "{tags:?} {party}");
        }
    }
}

/// RFC 3261 §12.2: a target refresh moves the target and nothing else; the route set stays as the first INVITE has made it.
#[test]
fn a_record_route_within_a_dialog_changes_no_route_set() {
    let proxies = ["<sip:198.51.100.10:5070;lr>", "<sip:10.0.0.5:5070;lr>"];
    for party in [CALLER, CALLEE] {
        let mut wire = Wire::new(TWO_SIDES);
        let parties = Parties::call(&mut wire, "call", [";tag=c", ";tag=u"]);
        let reinvite = parties.request(party, "INVITE", 5, CONTACTS[1 - party]);
        let moved = ["sip:moved@198.51.100.10", "sip:moved@10.0.0.5"];
        let said = format!("Record-Route: {}\r\nContact: <{}>", proxies[party], moved[party]);
        let contact = format!("Contact: <{}>", CONTACTS[party]);
        let heard = says(&mut wire, party, &reinvite.replace(&contact, &said));
        let request = heard.iter().find(|text| text.is_request()).unwrap();
        let lines = format!(
            "Record-Route: {}\r\nContact: <{}>\r\n",
            proxies[1 - party],
            moved[1 - party]
        );
        says(
            &mut wire,
            1 - party,
            &ok(request, &parties.identities[1 - party], &lines),
        );
        says(&mut wire, party, &parties.request(party, "ACK", 5, moved[1 - party]));
        let (sent, _) = wire.verbs(b"call", &json!([{"verb": "hangup"}]));
        let byes: Vec<Text> = sent.iter().map(|sent| Text::read(&sent.bytes).unwrap()).collect();
        let mut uris: Vec<&str> = byes.iter().map(Text::request_uri).collect();
        uris.sort_unstable();
        assert_eq!(uris, [moved[CALLEE], moved[CALLER]]);
        assert!(
            byes.iter()
                .all(|bye| bye.method() == "BYE" && bye.header("Route").is_none())
        );
    }
}

/// RFC 3261 §16.5: who takes us for the other party is led to it.
#[test]
fn a_request_uri_that_names_us_within_a_dialog_stands_for_the_other_party() {
    for party in [CALLER, CALLEE] {
        let mut wire = Wire::new(TWO_SIDES);
        let parties = Parties::call(&mut wire, "call", [";tag=c", ";tag=u"]);
        let ours = ["sip:callee@203.0.113.7", "sip:caller@10.0.0.1:5060"][party];
        for method in ["INFO", "BYE"] {
            let heard = says(&mut wire, party, &parties.request(party, method, 3, ours));
            let request = heard.iter().find(|text| text.is_request());
            let request = request.unwrap_or_else(|| panic!("{method} {party}: {heard:?}"));
            assert_eq!((request.method(), request.request_uri()), (method, CONTACTS[1 - party]));
            let answer = says(&mut wire, 1 - party, &ok(request, &parties.identities[1 - party], ""));
            assert_eq!(answer[0].code(), 200);
        }
        assert_eq!(wire.shard().counters().calls, 0);
    }
}

/// A callee that shows neither a Contact nor our Record-Route breaks RFC 3261 §12.1.1, and is called all the same (§16.6).
#[test]
fn a_callee_without_a_contact_is_found_by_the_request_uri_or_where_it_was_heard() {
    for has_routes in [false, true] {
        a_callee_without_a_contact(has_routes);
    }
}

fn a_callee_without_a_contact(has_routes: bool) {
    let mut wire = Wire::new(TWO_SIDES);
    let mut parties = Parties {
        identities: [
            "<sip:caller@carrier.example>;tag=c".into(),
            "<sip:+4930123456@203.0.113.7>".into(),
        ],
        call_id: "call".into(),
        routes: Default::default(),
    };
    let invite = parties.request(CALLER, "INVITE", 1, "sip:+4930123456@203.0.113.7");
    let sent = says(&mut wire, CALLER, &invite);
    let invite = sent.iter().find(|text| text.is_request()).unwrap();
    parties.identities[CALLEE] += ";tag=u";
    let bare: String = ok(invite, &parties.identities[CALLEE], "")
        .split_inclusive("\r\n")
        .filter(|line| has_routes || !line.starts_with("Record-Route"))
        .collect();
    let answer = says(&mut wire, CALLEE, &bare).remove(0);
    assert_eq!(answer.code(), 200);
    parties.routes[CALLER] = answer.list("Record-Route");
    parties.routes[CALLER].reverse();
    // With nothing else to go by it is the URI that was called, which is ours.
    let uri = if has_routes {
        "sip:+4930123456@203.0.113.7"
    } else {
        CONTACTS[CALLEE]
    };
    for (number, method) in [(1, "ACK"), (2, "BYE")] {
        let request = parties.request(CALLER, method, number, uri);
        let sent = wire.datagram(CARRIER.parse().unwrap(), PUBLIC.parse().unwrap(), request.as_bytes());
        let relayed = sent.iter().find(|sent| !sent.bytes.starts_with(b"SIP/2.0")).unwrap();
        assert_eq!(relayed.flow.peer, PLATFORM.parse().unwrap(), "{method}");
        let relayed = Text::read(&relayed.bytes).unwrap();
        assert_eq!((relayed.method(), relayed.request_uri()), (method, uri));
        if method == "BYE" {
            says(&mut wire, CALLEE, &ok(&relayed, &parties.identities[CALLEE], ""));
        }
    }
    assert_eq!(wire.shard().counters().calls, 0);
}

/// With the same secret (`dialog_secret`) another process takes over what is said in a dialog: by the token in the Route.
#[test]
fn a_dialog_outlives_the_process_where_the_secret_does() {
    let tags = [";tag=c", ";tag=u"];
    for has_calls in [false, true] {
        for party in [CALLER, CALLEE] {
            let mut before = Wire::new(TWO_SIDES);
            let parties = Parties::call(&mut before, "call", tags);
            let mut after = Wire::new(TWO_SIDES);
            // A call of the same place in the table is another one.
            let other = has_calls.then(|| Parties::call(&mut after, "other", tags));
            for (number, method) in [(7, "INFO"), (8, "UPDATE"), (9, "INVITE")] {
                parties.ask(&mut after, party, method, number);
            }
            let ack = parties.says(&mut after, party, "ACK", 9);
            assert_eq!((ack[0].method(), ack[0].request_uri()), ("ACK", CONTACTS[1 - party]));
            parties.ask(&mut after, 1 - party, "BYE", 4);
            after.wait(std::time::Duration::from_secs(60));
            let counters = after.shard().counters();
            assert_eq!(
                (counters.calls, counters.transactions, counters.contexts),
                (u64::from(has_calls), 0, 0)
            );
            if let Some(other) = other {
                other.ask(&mut after, CALLER, "BYE", 2);
            }
        }
    }
    // With another secret it is unknown; nobody is asked.
    let mut before = Wire::new(TWO_SIDES);
    let parties = Parties::call(&mut before, "call", tags);
    let mut after = Wire::with_seed(3, TWO_SIDES);
    let heard = parties.says(&mut after, CALLER, "BYE", 2);
    assert_eq!(heard.iter().map(Text::code).collect::<Vec<_>>(), [481]);
}
