//! The messages of RFC 4475 and RFC 5118 as they pass, or do not.

use super::dialog::{Call, Names, asked, graft};
use super::lines::{Hop, Lines, assert_answers, assert_relayed, find, name_addr, text};
use super::setting::*;
use referee::sim::wire::Sent;
use std::time::Duration;

/// What a proxy does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It goes on, with so many Record-Route lines of ours.
    Relayed(usize),
    /// It is answered so and goes no further.
    Refused(&'static str),
    /// Nothing leaves.
    Dropped,
}
use Fate::{Dropped, Refused, Relayed};

/// What becomes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    /// It fares as the datagram does, and the stream goes on.
    Same,
    /// It fares as the datagram does, and the stream is closed.
    Closed,
    /// It fares otherwise, and the stream is closed.
    Other(Fate),
    /// It is not whole yet: what follows belongs to it.
    Waits,
}
use Stream::{Closed, Other, Same, Waits};

type Row = (&'static str, &'static str, Fate, Stream);

/// Lets each message of a table come in all ways and looks at what leaves.
fn fares_as_the_table_says(folder: &str, table: &[Row]) {
    for (name, section, fate, stream) in table {
        let bytes = load(folder, &format!("{name}.dat"));
        for delivery in DELIVERIES {
            let what = format!("{name}, section {section}, {delivery:?}");
            let is_stream = delivery != Delivery::Datagram;
            if *stream == Waits && delivery == Delivery::Coalesced {
                // What stands behind it in the same read is taken for the rest of it.
                continue;
            }
            let delivered = deliver(&mut wire(), delivery, &bytes);
            let (fate, is_open) = match stream {
                _ if !is_stream => (*fate, true),
                Same => (*fate, true),
                Closed => (*fate, false),
                Other(fate) => (*fate, false),
                Waits => (Dropped, true),
            };
            assert_eq!(delivered.is_open, is_open, "{what}");
            assert_fate(&what, &bytes, &delivered.sent, fate, delivery.source());
        }
        if let Relayed(record_routes) = fate {
            let sent = deliver(&mut wire_to_stream(), Delivery::Datagram, &bytes).sent;
            let what = format!("{name}, section {section}, on to a stream");
            assert_fate(&what, &bytes, &sent, Relayed(*record_routes), CARRIER);
        }
    }
}

fn assert_fate(what: &str, bytes: &[u8], sent: &[Sent], fate: Fate, source: &str) {
    let (codes, relayed) = outcome(sent);
    match fate {
        Relayed(record_routes) => {
            assert_eq!((codes.len(), relayed.len()), (0, 1), "{what}");
            let hop = Hop {
                transport: via_token(relayed[0]),
                sent_by: PRIVATE,
                source,
                record_routes,
                own_routes: 0,
            };
            let came = Lines::read(bytes);
            let body = came.counted_body().len();
            let length = bytes.len() - came.body.len() + body;
            assert_relayed(what, &bytes[..length], &relayed[0].bytes, hop);
            // RFC 3261 §16.2: an INVITE has its 100 at once, and nothing else has.
            let trying = sent
                .iter()
                .filter(|sent| sent.bytes.starts_with(b"SIP/2.0 100 Trying\r\n"));
            assert_eq!(trying.count() + 1, sent.len(), "{what}");
            assert_eq!(sent.len() == 2, came.method() == "INVITE", "{what}");
        }
        Refused(status) => {
            assert_eq!(sent.len(), 1, "{what}: {sent:?}");
            assert_eq!(sent[0].flow.peer.ip(), at(CARRIER).ip(), "{what}");
            assert_answers(what, &readable(bytes), &sent[0].bytes, status, source);
        }
        Dropped => assert!(sent.is_empty(), "{what}: {}", text(&sent[0].bytes)),
    }
}

/// A message that ends before its empty line, with one.
fn readable(bytes: &[u8]) -> Vec<u8> {
    match super::lines::find(bytes, b"\r\n\r\n") {
        Some(_) => bytes.to_vec(),
        None => [bytes, b"\r\n"].concat(),
    }
}

fn names(folder: &str, tables: &[&[Row]], others: &[&str]) {
    let mut named: Vec<String> = tables
        .iter()
        .flat_map(|table| table.iter())
        .map(|row| format!("{}.dat", row.0))
        .collect();
    named.extend(others.iter().map(|name| format!("{name}.dat")));
    named.sort();
    assert_eq!(named, files(folder), "every file stands in a table");
}

/// RFC 4475 §3.1.1 and §3.4.1. wsinv is a request within a dialog; see below.
const VALID: &[Row] = &[
    ("wsinv", "3.1.1.1", Refused("481 Call/Transaction Does Not Exist"), Same),
    ("intmeth", "3.1.1.2", Relayed(2), Same),
    ("esc01", "3.1.1.3", Relayed(2), Same),
    ("escnull", "3.1.1.4", Relayed(0), Same),
    // Not REGISTER, so it may open a dialog for all we know.
    ("esc02", "3.1.1.5", Relayed(2), Same),
    ("lwsdisp", "3.1.1.6", Relayed(0), Same),
    ("longreq", "3.1.1.7", Relayed(2), Same),
    ("semiuri", "3.1.1.9", Relayed(0), Same),
    ("transports", "3.1.1.10", Relayed(0), Same),
    ("mpart01", "3.1.1.11", Relayed(0), Same),
    // A stream needs the Content-Length that RFC 2543 let peers leave out.
    (
        "inv2543",
        "3.4.1",
        Relayed(2),
        Other(Refused("400 Missing Header Field")),
    ),
];

/// RFC 4475 §3.1.2: no more than one answer, and none to an answer.
const INVALID: &[Row] = &[
    ("badinv01", "3.1.2.1", Refused("400 Malformed Via"), Same),
    (
        "clerr",
        "3.1.2.2",
        Refused("400 Body Shorter Than Content-Length"),
        Waits,
    ),
    ("ncl", "3.1.2.3", Refused("400 Malformed Content-Length"), Closed),
    ("scalar02", "3.1.2.4", Refused("400 CSeq Number Too Large"), Closed),
    ("scalarlg", "3.1.2.5", Dropped, Closed),
    ("quotbal", "3.1.2.6", Refused("400 Malformed To"), Same),
    ("ltgtruri", "3.1.2.7", Refused("400 Malformed Request-URI"), Same),
    ("lwsruri", "3.1.2.8", Refused("400 Malformed Request Line"), Closed),
    ("lwsstart", "3.1.2.9", Refused("400 Malformed Request Line"), Closed),
    ("trws", "3.1.2.10", Refused("400 Malformed Request Line"), Closed),
    ("escruri", "3.1.2.11", Refused("400 Malformed Request-URI"), Same),
    // Neither the Date nor the Contact of a REGISTER is a proxy's to judge (RFC 3261 §16.3).
    ("baddate", "3.1.2.12", Relayed(2), Same),
    ("regbadct", "3.1.2.13", Relayed(0), Same),
    ("badaspec", "3.1.2.14", Refused("400 Malformed To"), Same),
    ("baddn", "3.1.2.15", Refused("400 Missing Empty Line"), Waits),
    ("baddn-terminated", "3.1.2.15", Refused("400 Malformed From"), Same),
    ("badvers", "3.1.2.16", Refused("505 Version Not Supported"), Closed),
    ("mismatch01", "3.1.2.17", Refused("400 CSeq Method Mismatch"), Closed),
    ("mismatch02", "3.1.2.18", Refused("501 Not Implemented"), Closed),
    ("bigcode", "3.1.2.19", Dropped, Closed),
];

/// RFC 4475 §3.2 and §3.3.
const WELL_FORMED: &[Row] = &[
    ("badbranch", "3.2.1", Refused("400 Malformed Via Branch"), Same),
    ("insuf", "3.3.1", Refused("400 Missing From"), Closed),
    ("unkscm", "3.3.2", Refused("416 Unsupported URI Scheme"), Same),
    ("novelsc", "3.3.3", Refused("416 Unsupported URI Scheme"), Same),
    ("unksm2", "3.3.4", Relayed(0), Same),
    ("bext01", "3.3.5", Refused("420 Bad Extension"), Same),
    ("invut", "3.3.6", Relayed(2), Same),
    ("regaut01", "3.3.7", Relayed(0), Same),
    // Several fields stand twice; which of them is named is no matter.
    ("multi01", "3.3.8", Refused("400 Repeated"), Closed),
    ("mcl01", "3.3.9", Refused("400 Differing Content-Length"), Closed),
    ("bcast", "3.3.10", Dropped, Same),
    ("zeromf", "3.3.11", Refused("483 Too Many Hops"), Same),
    ("cparam01", "3.3.12", Relayed(0), Same),
    ("cparam02", "3.3.13", Relayed(0), Same),
    ("regescrt", "3.3.14", Relayed(0), Same),
    ("sdp01", "3.3.15", Relayed(2), Same),
];

/// Not of the RFC's text: a stray file of its archive that is no SIP.
const STRAY: &[Row] = &[("test", "appendix A", Dropped, Closed)];

/// RFC 5118 §4. Two are requests within a dialog; see below.
const IPV6: &[Row] = &[
    ("ipv6-good", "4.1", Relayed(0), Same),
    ("ipv6-bad", "4.2", Refused("400 Malformed Request-URI"), Same),
    ("port-ambiguous", "4.3", Relayed(0), Same),
    ("port-unambiguous", "4.4", Relayed(0), Same),
    (
        "via-received-param-with-delim",
        "4.5",
        Refused("481 Call/Transaction Does Not Exist"),
        Same,
    ),
    ("via-received-param-no-delim", "4.5", Relayed(0), Same),
    ("ipv6-in-sdp", "4.6", Relayed(2), Same),
    (
        "mult-ip-in-header",
        "4.7",
        Refused("481 Call/Transaction Does Not Exist"),
        Same,
    ),
    ("mult-ip-in-sdp", "4.8", Relayed(2), Same),
    ("ipv4-mapped-ipv6", "4.9", Relayed(2), Same),
    // Three colons follow no grammar of an address: a clean refusal is the stricter choice.
    (
        "ipv6-bug-abnf-3-colons",
        "4.10",
        Refused("400 Malformed Request-URI"),
        Same,
    ),
    ("ipv6-correct-abnf-2-colons", "4.10", Relayed(0), Same),
];

#[test]
fn valid_torture_messages_are_relayed_unchanged() {
    fares_as_the_table_says("rfc4475", VALID);
}

#[test]
fn invalid_torture_messages_are_refused_or_passed_by() {
    fares_as_the_table_says("rfc4475", INVALID);
    fares_as_the_table_says("rfc4475", STRAY);
}

#[test]
fn torture_messages_of_the_transaction_and_application_layers_get_a_proxys_answer() {
    fares_as_the_table_says("rfc4475", WELL_FORMED);
    // RFC 3261 §16.3 step 5: the 420 names what the proxy does not know.
    let bytes = load("rfc4475", "bext01.dat");
    let sent = deliver(&mut wire(), Delivery::Datagram, &bytes).sent;
    let asked = Lines::read(&bytes).list("proxy-require");
    assert_eq!(
        (asked.len(), Lines::read(&sent[0].bytes).list("unsupported")),
        (2, asked)
    );
}

#[test]
fn ipv6_torture_messages_are_relayed_or_refused() {
    fares_as_the_table_says("rfc5118", IPV6);
}

#[test]
fn every_torture_file_stands_in_a_table() {
    names(
        "rfc4475",
        &[VALID, INVALID, WELL_FORMED, STRAY],
        &["dblreq", "unreason", "noreason"],
    );
    names("rfc5118", &[IPV6], &[]);
}

#[test]
fn two_requests_in_one_datagram_are_one_and_on_a_stream_two() {
    let bytes = load("rfc4475", "dblreq.dat");
    let end = find(&bytes, b"\r\n\r\n").unwrap() + 4;
    // RFC 3261 §18.3: what follows the body in a datagram is thrown away.
    let sent = deliver(&mut wire(), Delivery::Datagram, &bytes).sent;
    assert_fate("dblreq", &bytes, &sent, Relayed(0), CARRIER);
    let whole = text(&sent[0].bytes);
    assert!(!whole.contains("joe@example.com"), "{whole}");
    for delivery in [Delivery::Whole, Delivery::ByteByByte] {
        let delivered = deliver(&mut wire(), delivery, &bytes);
        let (first, second) = delivered.sent.split_at(1);
        assert_fate("dblreq, its first", &bytes[..end], first, Relayed(0), CARRIER_STREAM);
        // RFC 3261 §7.5: empty lines before a start line are skipped.
        let end = end + bytes[end..].iter().position(|byte| !b"\r\n".contains(byte)).unwrap();
        // Its own Content-Length is less than what is there, and the rest begins no message.
        let invite = Lines::read(&bytes[end..]);
        let length = bytes.len() - invite.body.len() + invite.counted_body().len();
        assert_fate(
            "dblreq, its second",
            &bytes[end..length],
            second,
            Relayed(2),
            CARRIER_STREAM,
        );
        assert_eq!(delivered.is_open, length == bytes.len());
    }
}

#[test]
fn torture_messages_within_a_dialog_pass_once_the_dialog_is_there() {
    for (folder, name) in [
        ("rfc4475", "wsinv.dat"),
        ("rfc5118", "via-received-param-with-delim.dat"),
        ("rfc5118", "mult-ip-in-header.dat"),
    ] {
        let bytes = load(folder, name);
        let lines = Lines::read(&bytes);
        let tag = |name: &str| name_addr(&lines.one(name).unwrap()).2["tag"].clone();
        let names = Names {
            call_id: &lines.one("call-id").unwrap(),
            caller: &tag("from"),
            callee: &tag("to"),
            // The Request-URI is that of a peer that follows no route sets: it must be what the dialog says.
            callee_contact: &format!("<{}>", lines.request_uri()),
            number: 1,
        };
        for delivery in DELIVERIES {
            let mut call = Call::set_up(&six(), &names);
            let what = format!("{name}, {delivery:?}");
            let sent = deliver(&mut call.wire, delivery, &bytes).sent;
            let (codes, _) = outcome(&sent);
            assert!(codes.is_empty(), "{what}: {codes:?}");
            let relayed = sent.last().unwrap();
            let six = relayed.flow.peer.is_ipv6();
            assert_eq!(
                relayed.flow.peer,
                at(if six { "[2001:db8::10]:5060" } else { PLATFORM }),
                "{what}"
            );
            let hop = Hop {
                transport: "UDP",
                sent_by: if six { "[2001:db8:1::1]:5060" } else { PRIVATE },
                source: delivery.source(),
                record_routes: 0,
                own_routes: 0,
            };
            assert_relayed(&what, &bytes, &relayed.bytes, hop);
            // RFC 5118 §4.5: with or without brackets it came, it never leaves with them.
            assert!(
                find(&relayed.bytes, b";received=[").is_none() || !name.starts_with("via"),
                "{what}"
            );
        }
    }
}

/// The usual configuration with an IPv6 socket towards the platform.
fn six() -> String {
    referee::sim::scene::TWO_SIDES.replace(
        "\"udp:10.0.0.1:5060\"",
        "\"udp:10.0.0.1:5060\", \"udp:[2001:db8:1::1]:5060\"",
    )
}

#[test]
fn torture_responses_are_passed_up_unchanged_or_dropped() {
    // Each answers a request of ours: our Via stands on top of it, all else is as archived.
    for (name, method, is_passed) in [
        ("unreason", "INVITE", true),
        // A 100 goes no further (RFC 3261 §16.7 step 5).
        ("noreason", "INVITE", false),
        ("scalarlg", "OPTIONS", false),
        ("bigcode", "INVITE", false),
        ("bcast", "INVITE", true),
    ] {
        let bytes = load("rfc4475", &format!("{name}.dat"));
        for delivery in DELIVERIES {
            let what = format!("{name}, {delivery:?}");
            let (mut wire, via) = asked(method);
            let sent = deliver(&mut wire, delivery, &graft(&bytes, &via)).sent;
            if is_passed {
                assert_eq!(sent.len(), 1, "{what}");
                // bcast: to where the request came from, whatever the Vias say (RFC 4475 §3.3.10).
                assert_eq!(sent[0].flow.peer, at(PLATFORM), "{what}");
                assert_eq!(text(&sent[0].bytes), text(&bytes), "{what}");
            } else {
                assert!(sent.is_empty(), "{what}");
            }
            if name == "noreason" {
                // But it was understood: the INVITE is not sent again.
                assert!(wire.wait(Duration::from_secs(20)).is_empty(), "{what}");
            }
        }
        // Without such a request nothing is passed on (RFC 6026 §7.3).
        assert!(
            deliver(&mut wire(), Delivery::Datagram, &bytes).sent.is_empty(),
            "{name}"
        );
    }
}
