//! Messages of referee's own making, taken from flows in which it makes each kind: REFER, BYE, ACK, CANCEL, and its responses.

use super::dialog::answer;
use super::lines::{Lines, find, is_token_of_ours, name_addr, params_of, split_list, text};
use super::setting::*;
use referee::sim::scene::TWO_SIDES;
use referee::sim::wire::{Sent, Wire};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

const CALL_ID: &str = "generated@198.51.100.10";

/// The names that messages of ours may have, as the RFCs spell them.
const NAMES: [&str; 19] = [
    "Via",
    "Max-Forwards",
    "Route",
    "From",
    "To",
    "Call-ID",
    "CSeq",
    "Contact",
    "Allow",
    "Allow-Events",
    "Refer-To",
    "Referred-By",
    "Supported",
    "Unsupported",
    "Retry-After",
    "Reason",
    "Timestamp",
    "Content-Length",
    "X-Of-The-Verb",
];

/// A call whose ends write everything in the oddest form that is allowed; all that referee made itself until it is over.
#[derive(Debug)]
struct Flow {
    wire: Wire,
    made: Vec<Sent>,
}

impl Flow {
    fn new() -> Flow {
        let mut wire = Wire::new(TWO_SIDES);
        wire.resolve_all_to(&[at(CARRIER).ip()]);
        Flow { wire, made: Vec::new() }
    }

    /// The INVITE of the carrier with compact names, folds and URIs that need their brackets; what the platform gets.
    fn invite(&mut self) -> Vec<u8> {
        let odd = invite(&[
            ("Via: ", "v :\r\n "),
            (
                "From: \"Alice\" <sip:alice@atlanta.example>;tag=",
                "f:\r\n\t\"A, l\" <sip:a,l;i?c=e@atlanta.example>\r\n ; TAG = ",
            ),
            ("To: \"Bob\" ", "t:\r\n \"Bob\"\r\n "),
            (
                "Call-ID: a84b4c76e66710@pc33.atlanta.example",
                &format!("i:\r\n {CALL_ID}"),
            ),
            ("CSeq: 314159 INVITE", "cSEQ: 0009\r\n INVITE"),
            (
                "Contact: <sip:alice@pc33.atlanta.example>",
                "Timestamp: 54\r\nm:\r\n <sip:a,l;i?c=e@198.51.100.10:5060;p=1,2>",
            ),
        ]);
        let sent = self.carrier(odd.as_bytes());
        let (_, relayed) = outcome(&sent);
        relayed[0].bytes.clone()
    }

    fn answered(&mut self) -> (Vec<String>, Vec<u8>) {
        let heard = self.invite();
        let ok = answer(&heard, "200 OK", "platform-tag", "m: <sip:bot@10.0.0.5:5060;x=1>\r\n");
        let sent = self.platform(&ok);
        let mut routes = Lines::read(&sent[0].bytes).list("record-route");
        routes.reverse();
        let route: String = routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
        let ack = format!(
            "ACK sip:bot@10.0.0.5:5060;x=1 SIP/2.0\r\nv: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKack\r\n{route}\
             f: <sip:a@h>;tag=1928301774\r\nt: <sip:bob@biloxi.example>;tag=platform-tag\r\ni: {CALL_ID}\r\nCSeq: 9 ACK\r\n\
             l: 0\r\n\r\n"
        );
        assert_eq!(self.carrier(ack.as_bytes()).len(), 1);
        (routes, heard)
    }

    fn carrier(&mut self, bytes: &[u8]) -> Vec<Sent> {
        let sent = self.wire.datagram(at(CARRIER), at(PUBLIC), bytes);
        self.note(sent, bytes)
    }

    fn platform(&mut self, bytes: &[u8]) -> Vec<Sent> {
        let sent = self.wire.datagram(at(PLATFORM), at(PRIVATE), bytes);
        self.note(sent, bytes)
    }

    /// What answers a request, or is a request of ours; not what is passed on.
    fn note(&mut self, sent: Vec<Sent>, came: &[u8]) -> Vec<Sent> {
        let first = |bytes: &[u8]| text(bytes).split(' ').next().unwrap().to_owned();
        let is_passed_on = |sent: &&Sent| first(&sent.bytes) == first(came);
        self.made
            .extend(sent.iter().filter(|sent| !is_passed_on(sent)).cloned());
        sent
    }
}

/// Every kind of message that referee makes.
fn made() -> Vec<Sent> {
    let mut all = Vec::new();

    // A transfer that succeeds: REFER, 200 to the NOTIFY, BYE to both.
    let mut flow = Flow::new();
    let (routes, _) = flow.answered();
    let verb = json!({
        "verb": "sip:refer",
        "referTo": "sip:carol,x;y@target.example?Replaces=1%402%3Bto-tag%3D3",
        "referredBy": "sip:a;b?c@d.example",
        "referredByDisplayName": "A \"quoted\" name",
        "headers": {"X-Of-The-Verb": "1"},
    });
    let (sent, reply) = flow.wire.verbs(CALL_ID.as_bytes(), &json!([verb]));
    let refer = sent
        .first()
        .unwrap_or_else(|| panic!("no REFER: {reply:?}"))
        .bytes
        .clone();
    flow.made.extend(sent);
    flow.carrier(&answer(
        &refer,
        "202 Accepted",
        "x",
        "m: <sip:alice@198.51.100.10:5060>\r\n",
    ));
    let route: String = routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
    let notify = format!(
        "NOTIFY sip:bot@10.0.0.5:5060;x=1 SIP/2.0\r\nv: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKnotify\r\n{route}\
         f: <sip:a@h>;tag=1928301774\r\nt: <sip:bob@biloxi.example>;tag=platform-tag\r\ni: {CALL_ID}\r\nCSeq: 10 NOTIFY\r\n\
         o: refer\r\nSubscription-State: terminated\r\nc: message/sipfrag\r\nl: 16\r\n\r\nSIP/2.0 200 OK\r\n"
    );
    assert_eq!(flow.carrier(notify.as_bytes()).len(), 1);
    // The call ends once the action's first attempt had its time. What is sent again is no further message.
    let mut byes = flow.wire.wait(Duration::from_secs(40));
    byes.sort_by(|one, two| one.bytes.cmp(&two.bytes));
    byes.dedup_by(|one, two| one.bytes == two.bytes);
    assert_eq!(byes.len(), 2, "{byes:?}");
    flow.made.extend(byes);
    all.append(&mut flow.made);

    // A call that is refused, and one that is cancelled: ACK, CANCEL, 487.
    let mut flow = Flow::new();
    let heard = flow.invite();
    flow.platform(&answer(&heard, "486 Busy Here", "x", ""));
    all.append(&mut flow.made);
    let mut flow = Flow::new();
    let heard = flow.invite();
    flow.platform(&answer(&heard, "180 Ringing", "x", ""));
    let cancel = plain(
        "CANCEL",
        &[
            (";tag=1928301774", ";tag=1928301774\r\nReason: SIP;cause=200"),
            ("a84b4c76e66710@pc33.atlanta.example", CALL_ID),
            ("314159", "9"),
        ],
    );
    let sent = flow.carrier(cancel.as_bytes());
    assert_eq!(sent.len(), 2, "{sent:?}");
    // The CANCEL that goes on is of our making, though its name is that of what came.
    all.push(sent[1].clone());
    flow.made.extend(
        flow.wire
            .wait(Duration::from_secs(40))
            .into_iter()
            .filter(|sent| !sent.bytes.starts_with(b"INVITE")),
    );
    all.append(&mut flow.made);

    // Refusals, with the lines that some of them have.
    let mut flow = Flow::new();
    for (number, request) in [
        plain("OPTIONS", &[("bob@biloxi.example SIP", "203.0.113.7 SIP")]),
        plain(
            "MESSAGE",
            &[("Contact", "Proxy-Require: a, b\r\nProxy-Require:\r\n c\r\nContact")],
        ),
        plain("REFER", &[]),
        plain("BYE", &[]),
        plain("MESSAGE", &[("Forwards: 70", "Forwards: 0")]),
        plain("MESSAGE", &[("sip:bob@biloxi.example SIP", "tel:1 SIP")]),
        plain("MESSAGE", &[("SIP/2.0\r\n", "SIP/3.0\r\n")]),
        plain("MESSAGE", &[("\"Alice\"", "\"Al\n ice\"")]),
        plain("MESSAGE", &[("\"Alice\"", "\"Al\rice\"")]),
        plain("MESSAGE", &[("CSeq: 314159", "CSeq:")]),
        plain("MESSAGE", &[("Call-ID: a84b4c76e66710@pc33.atlanta.example\r\n", "")]),
    ]
    .into_iter()
    .enumerate()
    {
        let request = request.replacen("776asdhds", &format!("refused{number}"), 1);
        assert_eq!(flow.carrier(request.as_bytes()).len(), 1, "{request}");
    }
    let stranger = flow.wire.datagram(at("192.0.2.99:5060"), at(PUBLIC), INVITE.as_bytes());
    flow.made.extend(stranger);
    all.append(&mut flow.made);
    all
}

#[test]
fn the_flows_make_every_kind_of_message() {
    let kinds: BTreeSet<String> = made()
        .iter()
        .map(|sent| match sent.bytes.starts_with(b"SIP/2.0 ") {
            true => Lines::read(&sent.bytes).code().to_string(),
            false => Lines::read(&sent.bytes).method(),
        })
        .collect();
    let expected = [
        "100", "200", "400", "403", "416", "420", "481", "483", "487", "505", "603", "ACK", "BYE", "CANCEL", "REFER",
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn messages_of_our_making_have_crlf_line_ends_and_the_names_of_the_rfcs() {
    for sent in made() {
        let shown = text(&sent.bytes);
        let end = find(&sent.bytes, b"\r\n\r\n").unwrap();
        let head = &sent.bytes[..end + 4];
        for (at, byte) in head.iter().enumerate() {
            match byte {
                b'\r' => assert_eq!(head.get(at + 1), Some(&b'\n'), "{shown:?}"),
                b'\n' => assert_eq!(head.get(at.wrapping_sub(1)), Some(&b'\r'), "{shown:?}"),
                byte => assert!(*byte >= b' ' || *byte == b'\t', "{shown:?}"),
            }
        }
        let lines = Lines::read(&sent.bytes);
        let first = text(&lines.first);
        assert!(first.starts_with("SIP/2.0 ") || first.ends_with(" SIP/2.0"), "{first}");
        for line in &lines.headers {
            let (name, rest) = text(&line.raw)
                .split_once(':')
                .map(|(name, rest)| (name.to_owned(), rest.to_owned()))
                .unwrap();
            assert!(NAMES.contains(&name.as_str()), "{name}");
            assert!(rest.starts_with(' '), "{shown}");
        }
        for name in ["From", "Call-ID", "CSeq", "To", "Max-Forwards", "Content-Length"] {
            assert!(lines.all(name).len() <= 1, "{name}: {shown}");
        }
        assert_eq!(
            lines.one("content-length"),
            Some(lines.body.len().to_string()),
            "{shown}"
        );
    }
}

#[test]
fn branches_and_tags_of_our_making_differ_by_more_than_case() {
    let mut seen = BTreeSet::new();
    for sent in made() {
        let lines = Lines::read(&sent.bytes);
        if lines.is_request() {
            let via = lines.one("via").unwrap();
            let branch = params_of(&via[via.find(';').unwrap()..])["branch"].clone();
            assert!(is_token_of_ours(branch.strip_prefix("z9hG4bK").unwrap()), "{branch}");
            // An ACK and a CANCEL share that of their INVITE (RFC 3261 §9.1, §17.1.1.3).
            let is_new = seen.insert(branch.to_ascii_lowercase());
            assert!(
                is_new || matches!(lines.method().as_str(), "ACK" | "CANCEL"),
                "{branch}"
            );
        } else if let Some(to) = lines.one("to") {
            let tag = name_addr(&to).2.get("tag").cloned();
            match (lines.code(), tag) {
                (100, tag) => assert_eq!(tag, None),
                // The tag of the request's own To stays as it came.
                (_, Some(tag)) => assert!(is_token_of_ours(&tag) || tag == "platform-tag", "{tag}"),
                (code, None) => panic!("{code} without a tag"),
            }
        }
    }
}

#[test]
fn uris_of_our_making_stand_in_brackets() {
    let mut bracketed = 0;
    for sent in made() {
        let lines = Lines::read(&sent.bytes);
        if !lines.is_request() {
            continue;
        }
        for name in ["from", "to", "contact", "refer-to", "referred-by", "route"] {
            for value in lines.list(name) {
                // RFC 8217 §3: a comma, a semicolon or a question mark in a bare URI would be the header's.
                let (_, uri, _) = name_addr(&value);
                assert!(value.contains(&format!("<{uri}>")), "{name}: {value}");
                bracketed += usize::from(uri.contains([',', ';', '?']));
            }
        }
    }
    assert!(bracketed >= 8, "{bracketed}");
    let refer = made()
        .into_iter()
        .find(|sent| sent.bytes.starts_with(b"REFER "))
        .unwrap();
    let lines = Lines::read(&refer.bytes);
    assert_eq!(
        lines.one("refer-to").unwrap(),
        "<sip:carol,x;y@target.example?Replaces=1%402%3Bto-tag%3D3>"
    );
    assert_eq!(
        lines.one("referred-by").unwrap(),
        "\"A \\\"quoted\\\" name\" <sip:a;b?c@d.example>"
    );
    // One name, one URI: nothing of it separates anything.
    assert_eq!(split_list(&lines.one("referred-by").unwrap()).len(), 1);
}

#[test]
fn a_request_of_ours_has_what_rfc_3261_8_1_1_wants_unfolded() {
    let all = made();
    let requests: Vec<_> = all
        .iter()
        .map(|sent| Lines::read(&sent.bytes))
        .filter(Lines::is_request)
        .collect();
    for lines in &requests {
        for name in ["Via", "Max-Forwards", "From", "To", "Call-ID", "CSeq", "Content-Length"] {
            assert_eq!(lines.all(name).len(), 1, "{name}");
        }
        assert!(lines.headers.iter().all(|line| find(&line.raw, b"\r\n").is_none()));
        assert_eq!(lines.cseq_method(), lines.method());
        assert_eq!(lines.one("call-id").unwrap(), CALL_ID);
    }
    assert!(requests.len() >= 5);
}
