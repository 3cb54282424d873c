//! The rules of a message's form (RFC 3261 §7, §18.3, §19.1, §20, §25.1), each by what passes the shard and what does not.

use super::dialog::{Call, NAMES, answer, asked, graft};
use super::lines::{COMPACT, Hop, Lines, assert_answers, assert_relayed, find, text};
use super::setting::*;
use referee::message::{Header, MessageBuf, Method};
use referee::sim::wire::Wire;

/// What becomes of a request that comes as a datagram: `relayed`, the status of its refusal, or nothing. What is relayed or
/// refused is looked at as a whole.
fn fate(request: &str) -> String {
    fate_of(request.as_bytes(), Delivery::Datagram).0
}

fn fate_of(request: &[u8], delivery: Delivery) -> (String, bool) {
    let what = request.escape_ascii().to_string();
    let delivered = deliver(&mut wire(), delivery, request);
    let (codes, relayed) = outcome(&delivered.sent);
    let fate = match (&codes[..], &relayed[..]) {
        ([], []) => String::new(),
        ([], [relayed]) => {
            let came = Lines::read(request);
            let hop = Hop {
                transport: via_token(relayed),
                sent_by: PRIVATE,
                source: delivery.source(),
                record_routes: find(&relayed.bytes, b"\r\nRecord-Route: <sip:10.0.0.1:5060;lr;r=").map_or(0, |_| 2),
                own_routes: 0,
            };
            let length = request.len() - came.body.len() + came.counted_body().len();
            assert_relayed(&what, &request[..length], &relayed.bytes, hop);
            "relayed".to_owned()
        }
        ([_], []) => {
            let left = &delivered.sent[0].bytes;
            let status = text(&Lines::read(left).first)["SIP/2.0 ".len()..].to_owned();
            if find(request, b"\r\n\r\n").is_some() && !status.contains("Bare") {
                assert_answers(&what, request, left, &status, delivery.source());
            }
            status
        }
        _ => panic!("{what}: {codes:?} and {} relayed", relayed.len()),
    };
    (fate, delivered.is_open)
}

fn fares(cases: &[(&str, &str, &str)]) {
    for (from, to, expected) in cases {
        assert_eq!(fate(&invite(&[(from, to)])), *expected, "{from:?} -> {to:?}");
    }
}

/// A response to a request of ours of this method; what goes up for it.
fn passed_up(method: &str, response: &[u8]) -> Vec<Vec<u8>> {
    let (mut wire, via) = asked(method);
    let sent = deliver(&mut wire, Delivery::Datagram, &graft(response, &via)).sent;
    sent.into_iter()
        .filter(|sent| sent.flow.peer == at(PLATFORM))
        .map(|sent| sent.bytes)
        .collect()
}

fn response(first: &str, more: &str) -> String {
    format!(
        "{first}\r\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKlower\r\nFrom: <sip:b@b>;tag=1\r\nTo: <sip:a@a>;tag=2\r\n\
         Call-ID: x\r\nCSeq: 7 INVITE\r\n{more}Content-Length: 0\r\n\r\n"
    )
}

const CONTACT: &str = "Contact: <sip:alice@pc33.atlanta.example>\r\n";

#[test]
fn a_message_is_a_start_line_headers_an_empty_line_and_perhaps_a_body() {
    assert_eq!(fate(INVITE), "relayed");
    assert_eq!(fate(&invite(&[("Length: 4", "Length: 0"), ("v=0\n", "")])), "relayed");
    assert_eq!(fate(&invite(&[("Content-Length: 4\r\n", "")])), "relayed");
    let cut = INVITE.strip_suffix("\r\nv=0\n").unwrap();
    assert_eq!(fate(cut), "400 Missing Empty Line");
    // On a stream it is only not whole yet.
    assert_eq!(fate_of(cut.as_bytes(), Delivery::Whole), (String::new(), true));
}

#[test]
fn the_parts_of_a_request_line_have_one_space_between_them() {
    fares(&[
        ("INVITE sip", "INVITE  sip", "400 Malformed Request Line"),
        ("INVITE sip", "INVITE\tsip", "400 Malformed Request Line"),
        ("example SIP", "example  SIP", "400 Malformed Request Line"),
        ("SIP/2.0\r\nVia", "SIP/2.0 \r\nVia", "400 Malformed Request Line"),
        ("sip:bob@", "sip:bob @", "400 Malformed Request Line"),
    ]);
}

#[test]
fn methods_are_compared_with_case_and_unknown_ones_are_relayed() {
    for method in ["invite", "Invite", "RE%47ISTER", "x!%*_+`'~.-"] {
        let mut wire = wire();
        let sent = deliver(&mut wire, Delivery::Datagram, plain(method, &[]).as_bytes()).sent;
        // No 100 and no call: it is no INVITE.
        assert_eq!((sent.len(), wire.shard().counters().calls_total), (1, 0), "{method}");
        assert_eq!(Lines::read(&sent[0].bytes).method(), method);
    }
    assert_eq!(fate(&plain("IN(VITE", &[])), "400 Malformed Request Line");
    // The method of CSeq is compared with case, too.
    assert_eq!(
        fate(&invite(&[("314159 INVITE", "314159 invite")])),
        "400 CSeq Method Mismatch"
    );
    // RFC 4475 §3.1.2.18: of an unknown method that is said first.
    assert_eq!(
        fate(&plain("NEW", &[("314159 NEW", "314159 OLD")])),
        "501 Not Implemented"
    );
}

#[test]
fn the_version_is_read_in_any_case_and_sent_in_upper_case() {
    for version in ["sip/2.0", "Sip/2.0", "SIP/2.0"] {
        assert_eq!(fate(&INVITE.replacen("SIP/2.0", version, 1)), "relayed", "{version}");
        let came = response(&format!("{version} 180 Ringing"), "");
        let left = passed_up("INVITE", came.as_bytes());
        assert_eq!(text(&left[0]), came.replacen(version, "SIP/2.0", 1), "{version}");
    }
    for version in ["SIP/3.0", "SIP/2.1", "SIP/2.00", "SIP/20", "SIP/7"] {
        assert_eq!(
            fate(&INVITE.replacen("SIP/2.0", version, 1)),
            "505 Version Not Supported",
            "{version}"
        );
        let came = response(&format!("{version} 180 Ringing"), "");
        assert!(passed_up("INVITE", came.as_bytes()).is_empty(), "{version}");
    }
}

#[test]
fn a_status_code_has_three_digits_from_100_to_699() {
    for first in [
        "099 x",
        "700 x",
        "20 x",
        "2000 x",
        "2x0 x",
        "-200 x",
        " 200 x",
        "4294967301 x",
    ] {
        let came = response(&format!("SIP/2.0 {first}"), "");
        assert!(passed_up("INVITE", came.as_bytes()).is_empty(), "{first}");
    }
    for first in ["101 x", "200 x", "699 x"] {
        let came = response(&format!("SIP/2.0 {first}"), "");
        assert_eq!(passed_up("INVITE", came.as_bytes()), [came.as_bytes()], "{first}");
    }
}

#[test]
fn a_reason_phrase_is_passed_on_and_decides_nothing() {
    for first in [
        "183 ",
        "183",
        "183 \u{43d}\u{43e}",
        "183  two  spaces ",
        "486 OK",
        "200 Busy Here",
    ] {
        let came = response(&format!("SIP/2.0 {first}"), "");
        assert_eq!(passed_up("INVITE", came.as_bytes()), [came.as_bytes()], "{first}");
    }
    // An octet that is no UTF-8 passes as well.
    let came = response("SIP/2.0 183 \u{1}", "").replace('\u{1}', "@").into_bytes();
    let came: Vec<u8> = came
        .iter()
        .map(|&byte| if byte == b'@' { 0xe9 } else { byte })
        .collect();
    assert_eq!(passed_up("INVITE", &came), [came]);
    // 486 is a refusal, whatever it calls itself: it has an ACK of this hop.
    let (mut wire, via) = asked("INVITE");
    let came = graft(response("SIP/2.0 486 OK", "").as_bytes(), &via);
    let sent = deliver(&mut wire, Delivery::Datagram, &came).sent;
    assert!(sent.iter().any(|sent| sent.bytes.starts_with(b"ACK ")), "{sent:?}");
}

#[test]
fn names_of_headers_and_parameters_are_compared_without_case() {
    let odd = invite(&[
        ("Via:", "vIa:"),
        (";branch=", ";BRANCH="),
        ("Max-Forwards:", "mAX-fORWARDS:"),
        ("From:", "FROM:"),
        (";tag=", ";Tag="),
        ("To:", "tO:"),
        ("Call-ID:", "CALL-id:"),
        ("CSeq:", "cseQ:"),
        ("Contact:", "cONTACT:"),
        ("Content-Type:", "CONTENT-type:"),
        ("Content-Length:", "CONTENT-length:"),
    ]);
    for delivery in DELIVERIES {
        assert_eq!(
            fate_of(odd.as_bytes(), delivery),
            ("relayed".into(), true),
            "{delivery:?}"
        );
    }
    let buf = MessageBuf::parse(odd).unwrap();
    let message = buf.as_message();
    assert_eq!(message.from_tag(), Some(&b"1928301774"[..]));
    assert_eq!(message.top_via().unwrap().branch, Some(&b"z9hG4bK776asdhds"[..]));
    assert_eq!((message.max_forwards(), message.body()), (Ok(Some(70)), &b"v=0\n"[..]));
    // A TAG in To makes it a request of a dialog.
    fares(&[(
        "biloxi.example>\r\n",
        "biloxi.example>;TAG=x\r\n",
        "481 Call/Transaction Does Not Exist",
    )]);
}

#[test]
fn compact_and_long_names_are_one_header() {
    for (letter, long) in COMPACT {
        for name in [letter.to_owned(), letter.to_ascii_uppercase()] {
            let header = Header::from_name(name.as_bytes());
            assert_eq!(header.name().to_ascii_lowercase(), long, "{name}");
            assert_eq!(header, Header::from_name(long.as_bytes()), "{name}");
        }
    }
    let compact = invite(&[
        ("Via:", "v:"),
        ("From:", "f:"),
        ("To:", "t:"),
        ("Call-ID:", "i:"),
        ("Contact:", "m:"),
        ("Content-Type:", "c:"),
        ("Content-Length:", "l:"),
    ]);
    for delivery in DELIVERIES {
        assert_eq!(
            fate_of(compact.as_bytes(), delivery),
            ("relayed".into(), true),
            "{delivery:?}"
        );
    }
    // Each letter alone among long names.
    for (long, letter) in [
        ("Via", "v"),
        ("From", "f"),
        ("To", "t"),
        ("Call-ID", "i"),
        ("Contact", "m"),
    ] {
        fares(&[(&format!("{long}: "), &format!("{letter}: "), "relayed")]);
    }
    // Both forms are one list, in the order they came in, and once too often is once too often.
    let second = "v: SIP/2.0/UDP two;branch=z9hG4bK2\r\nVia: SIP/2.0/UDP three;branch=z9hG4bK3\r\nMax-Forwards";
    let mixed = invite(&[("Max-Forwards", second)]);
    assert_eq!(fate(&mixed), "relayed");
    let buf = MessageBuf::parse(mixed).unwrap();
    let hosts: Vec<_> = buf.as_message().vias().map(|via| text(via.unwrap().sent_by)).collect();
    assert_eq!(hosts, ["pc33.atlanta.example:5060", "two", "three"]);
    fares(&[
        ("CSeq", "f: <sip:x@y>;tag=1\r\nCSeq", "400 Repeated From"),
        ("CSeq", "i: other\r\nCSeq", "400 Repeated Call-ID"),
        ("\r\n\r\nv=0", "\r\nl: 5\r\n\r\nv=0", "400 Differing Content-Length"),
    ]);
}

#[test]
fn white_space_may_stand_before_and_behind_the_colon() {
    fares(&[
        ("Call-ID: ", "Call-ID\t :", "relayed"),
        ("Via: ", "Via   :   ", "relayed"),
        ("Content-Length: 4", "l:4", "relayed"),
        ("Content-Length: 4", "L \t:\t4", "relayed"),
        ("Max-Forwards: 70", "Max-Forwards :70", "relayed"),
    ]);
    let spaced = invite(&[("Content-Length: 4", "Content-Length  :  4  "), ("From: ", "From :")]);
    for delivery in DELIVERIES {
        assert_eq!(
            fate_of(spaced.as_bytes(), delivery),
            ("relayed".into(), true),
            "{delivery:?}"
        );
    }
}

#[test]
fn a_line_that_begins_with_white_space_continues_the_one_before() {
    let folded = invite(&[
        (
            "Via: SIP/2.0/UDP pc33.atlanta.example:5060;",
            "Via:\r\n SIP/2.0/UDP\r\n\tpc33.atlanta.example:5060 ;\r\n ",
        ),
        ("From: \"Alice\" ", "From: \"Alice\"\r\n  "),
        (";tag=1", "\r\n ;\r\n tag\r\n =\r\n 1"),
        ("CSeq: 314159 INVITE", "CSeq:\r\n 314159\r\n INVITE"),
        ("Content-Length: 4", "Content-Length:\r\n 4"),
        (
            "Max-Forwards: 70",
            "Route: <sip:p1.example;lr>\r\n , \r\n <sip:p2.example;lr>\r\nMax-Forwards:\r\n\t70",
        ),
    ]);
    for delivery in DELIVERIES {
        assert_eq!(
            fate_of(folded.as_bytes(), delivery),
            ("relayed".into(), true),
            "{delivery:?}"
        );
    }
    let (folded, flat) = (MessageBuf::parse(folded).unwrap(), MessageBuf::parse(INVITE).unwrap());
    let (folded, flat) = (folded.as_message(), flat.as_message());
    assert_eq!(folded.from_tag(), flat.from_tag());
    assert_eq!(
        folded.cseq().map(|cseq| (cseq.number, cseq.method)),
        Ok((314_159, Method::Invite))
    );
    let (one, two) = (folded.top_via().unwrap(), flat.top_via().unwrap());
    assert_eq!(
        (one.branch, one.sent_by, one.transport),
        (two.branch, two.sent_by, two.transport)
    );
    let routes: Vec<_> = folded
        .name_addrs(Header::Route)
        .map(|route| text(route.unwrap().uri))
        .collect();
    assert_eq!(routes, ["sip:p1.example;lr", "sip:p2.example;lr"]);
    // Not behind the start line: there is nothing to continue.
    fares(&[("SIP/2.0\r\nVia", "SIP/2.0\r\n X: y\r\nVia", "400 Folded Start Line")]);
}

#[test]
fn lines_of_a_list_header_and_commas_are_one_list_in_order() {
    let values = [
        "SIP/2.0/UDP a;branch=z9hG4bKa",
        "SIP/2.0/TCP b;branch=z9hG4bKb",
        "SIP/2.0/UDP c;branch=z9hG4bKc",
    ];
    let addresses = ["<sip:a;lr>", "\"x, y\" <sip:b;lr;p=1,2>", "<sip:c;lr>"];
    for separators in [["\r\n", "\r\n"], [", ", ","], ["\r\n", " , "], [" ,\r\n ", "\r\n"]] {
        let list = |name: &str, values: [&str; 3]| {
            let mut lines = format!("{name}: {}", values[0]);
            for (separator, value) in separators.iter().zip(&values[1..]) {
                lines += separator;
                if *separator == "\r\n" {
                    lines += &format!("{name}: ");
                }
                lines += value;
            }
            lines + "\r\n"
        };
        let lists = ["Route", "Record-Route", "Contact"]
            .map(|name| list(name, addresses))
            .concat();
        let request = invite(&[
            (
                "Via: SIP/2.0/UDP pc33.atlanta.example:5060;branch=z9hG4bK776asdhds\r\n",
                &list("Via", values),
            ),
            (CONTACT, &lists),
        ]);
        let buf = MessageBuf::parse(request.clone()).unwrap();
        let message = buf.as_message();
        let vias: Vec<_> = message.vias().map(|via| text(via.unwrap().branch.unwrap())).collect();
        assert_eq!(vias, ["z9hG4bKa", "z9hG4bKb", "z9hG4bKc"], "{request}");
        for header in [Header::Route, Header::RecordRoute, Header::Contact] {
            let uris: Vec<_> = message
                .name_addrs(header)
                .map(|value| text(value.unwrap().uri))
                .collect();
            assert_eq!(uris, ["sip:a;lr", "sip:b;lr;p=1,2", "sip:c;lr"], "{request}");
        }
        assert_eq!(fate(&request), "relayed");
    }
    // A Via is taken off a response as a value, whatever shares its line.
    let (mut wire, via) = asked("INVITE");
    let lower = "Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKlower";
    let came = response("SIP/2.0 180 Ringing", "");
    let joined = came.replacen("Via: ", &format!("Via: {via} , "), 1);
    let sent = deliver(&mut wire, Delivery::Datagram, joined.as_bytes()).sent;
    assert!(came.contains(lower));
    assert_eq!(text(&sent[0].bytes), came);
}

#[test]
fn digest_headers_are_neither_split_nor_joined() {
    let lines = "Authorization: Digest username=\"a, b\", realm=\"x\", nonce=\"1\", response=\"2\"\r\n\
                 Proxy-Authorization: Digest username=\"c\", realm=\"y\", qop=auth, nc=00000001\r\n\
                 Proxy-Authorization: Digest username=\"d\", realm=\"z\"\r\n";
    fares(&[("Contact", &format!("{lines}Contact"), "relayed")]);
    let challenges = "Proxy-Authenticate: Digest realm=\"x\", nonce=\"1\", qop=\"auth,auth-int\"\r\n\
                      Proxy-Authenticate: Digest realm=\"y\", nonce=\"2\"\r\nWWW-Authenticate: Digest realm=\"z\", nonce=\"3\"\r\n";
    let came = response("SIP/2.0 407 Proxy Authentication Required", challenges);
    assert_eq!(passed_up("INVITE", came.as_bytes()), [came.as_bytes()]);
}

#[test]
fn what_stands_in_quotes_or_brackets_separates_nothing() {
    let contact = "Contact: \"a, b;c <x>\\\" ,\" <sip:x@y;p=1,2>;q=0.5, <sip:z@y>\r\n";
    let request = invite(&[(CONTACT, contact), ("\"Alice\"", "\"A;tag=no, <sip:b>\\\";tag=no\"")]);
    assert_eq!(fate(&request), "relayed");
    let buf = MessageBuf::parse(request).unwrap();
    let message = buf.as_message();
    let uris: Vec<_> = message
        .name_addrs(Header::Contact)
        .map(|value| text(value.unwrap().uri))
        .collect();
    assert_eq!(uris, ["sip:x@y;p=1,2", "sip:z@y"]);
    assert_eq!(message.from_tag(), Some(&b"1928301774"[..]));
}

#[test]
fn a_quoted_string_ends_at_a_quote_that_no_backslash_escapes() {
    let quoted = |inside: &str, expected: &str| {
        let request = invite(&[("\"Alice\"", &format!("\"{inside}\""))]);
        assert_eq!(fate(&request), expected, "{inside:?}");
    };
    quoted("a\\\\\\\"", "relayed");
    quoted("a\\\\", "relayed");
    quoted("NUL \\\0 BEL \\\u{7} DEL \\\u{7f}", "relayed");
    quoted("tab\there", "relayed");
    quoted("a\\", "400 Malformed From");
    quoted("a\\\"", "relayed");
    quoted("NUL \0", "400 Control Byte");
    fares(&[
        ("\"Alice\"", "\"Alice", "400 Malformed From"),
        ("\"Bob\"", "Bob\"", "400 Malformed To"),
    ]);
}

#[test]
fn a_quoted_nul_is_copied_into_every_message_of_ours() {
    // RFC 3261 §25.1 lets a quoted pair hold it; ACK and CANCEL copy the header.
    let name = "\"NUL \\\0\"";
    let request = invite(&[("\"Alice\"", name), ("\"Bob\"", name)]);
    let mut wire = wire();
    let sent = deliver(&mut wire, Delivery::Datagram, request.as_bytes()).sent;
    let busy = answer(&sent[1].bytes, "486 Busy Here", "x", "");
    let sent = wire.datagram(at(PLATFORM), at(PRIVATE), &busy);
    let ack = sent
        .iter()
        .find(|sent| sent.bytes.starts_with(b"ACK "))
        .expect("an ACK");
    let lines = Lines::read(&ack.bytes);
    assert!(lines.one("from").unwrap().starts_with(name));
    assert!(lines.one("to").unwrap().starts_with(name));
}

#[test]
fn unknown_header_fields_pass_unread() {
    for line in [
        "X: ;;,,;;,;",
        "UnknownHeaderWithUnusualValue: \"unbalanced <",
        "!%*_+`'~.-: x",
        "X-Empty:",
        "X-\u{0}: x",
    ] {
        let expected = if line.contains('\0') {
            "400 Malformed Header Name"
        } else {
            "relayed"
        };
        fares(&[("Contact", &format!("{line}\r\nContact"), expected)]);
    }
    let latin = invite(&[("Contact", "X-Latin: @@\r\nContact")]);
    let latin: Vec<u8> = latin.bytes().collect();
    let at = find(&latin, b"@@").unwrap();
    let latin = [&latin[..at], b"\xe9\xff", &latin[at + 2..]].concat();
    assert_eq!(fate_of(&latin, Delivery::Datagram).0, "relayed");
}

#[test]
fn a_name_that_is_no_token_makes_no_header_line() {
    fares(&[
        ("Contact", "X Y: z\r\nContact", "400 Malformed Header Name"),
        ("Contact", "X;Y: z\r\nContact", "400 Malformed Header Name"),
        ("Contact", ": z\r\nContact", "400 Malformed Header Name"),
        ("Contact", "no colon\r\nContact", "400 Header Line Without Colon"),
        ("Contact", "From X: z\r\nContact", "400 Malformed Header Name"),
    ]);
}

#[test]
fn a_header_in_a_message_it_does_not_belong_to_is_passed_on_and_ignored() {
    fares(&[(
        CONTACT,
        &format!("{CONTACT}Refer-To: <sip:x@y>\r\nRSeq: 1\r\nWarning: 1\r\n"),
        "relayed",
    )]);
    let came = response(
        "SIP/2.0 180 Ringing",
        "Max-Forwards: 0\r\nRoute: <sip:203.0.113.7;lr>\r\nRefer-To: x\r\n",
    );
    assert_eq!(passed_up("INVITE", came.as_bytes()), [came.as_bytes()]);
}

#[test]
fn a_parameter_stands_once_in_a_value() {
    fares(&[
        (";tag=1928301774", ";tag=1;tag=2", "400 Malformed From"),
        (";tag=1928301774", ";tag=1;TAG=1", "400 Malformed From"),
        (
            ";branch=z9hG4bK776asdhds",
            ";branch=z9hG4bK1;branch=z9hG4bK2",
            "400 Malformed Via",
        ),
        (
            ";branch=",
            ";received=1.2.3.4;received=1.2.3.4;branch=",
            "400 Malformed Via",
        ),
        (";branch=", ";rport;rport=5;branch=", "400 Malformed Via"),
        (
            "biloxi.example SIP",
            "biloxi.example;lr;lr SIP",
            "400 Malformed Request-URI",
        ),
        (
            "Contact",
            "Route: <sip:p;lr;transport=udp;Transport=udp>\r\nContact",
            "400 Malformed Route",
        ),
        // What nobody here acts on may.
        ("Contact", "X: a;b=1;b=2\r\nContact", "relayed"),
        ("biloxi.example SIP", "biloxi.example;x;x SIP", "relayed"),
    ]);
}

#[test]
fn malformed_fields_that_a_proxy_does_not_need_pass_on() {
    for line in [
        "Date: Fri, 01 Jan 2010 16:00:00 EST",
        "Warning: overload",
        "Accept: ///",
        "Expires: 99999999999999999999999999",
        "Retry-After: soon",
        "Refer-To: <<<",
        "Referred-By: \"",
        "Event: ;",
        "Subscription-State:",
        "Record-Route: sip:no-brackets",
        "RAck: 1",
        "Min-SE: x",
    ] {
        fares(&[("Content-Type", &format!("{line}\r\nContent-Type"), "relayed")]);
    }
    fares(&[
        (CONTACT, "Contact: <sip:broken\r\n", "relayed"),
        (CONTACT, "Contact: sip:a?b=c\r\n", "relayed"),
    ]);
}

#[test]
fn a_request_without_a_mandatory_field_is_refused_as_far_as_it_can_be() {
    for (name, expected) in [
        ("From", "400 Missing From"),
        ("To", "400 Missing To"),
        ("Call-ID", "400 Missing Call-ID"),
        ("CSeq", "400 Missing CSeq"),
        // There is nobody to answer.
        ("Via", ""),
    ] {
        let at = INVITE.find(&format!("{name}: ")).unwrap();
        let end = at + INVITE[at..].find("\r\n").unwrap() + 2;
        let without = format!("{}{}", &INVITE[..at], &INVITE[end..]);
        assert_eq!(fate(&without), expected, "{name}");
        for delivery in STREAMS {
            assert_eq!(
                fate_of(without.as_bytes(), delivery),
                (expected.to_owned(), false),
                "{name}"
            );
        }
        // An ACK is never answered, and a response not at all.
        assert_eq!(fate(&without.replace("INVITE", "ACK")), "", "{name}");
    }
    // Max-Forwards is younger than RFC 2543: it is put in.
    fares(&[("Max-Forwards: 70\r\n", "", "relayed")]);
}

#[test]
fn a_field_of_one_value_stands_once() {
    fares(&[
        ("CSeq", "To: <sip:x@y>\r\nCSeq", "400 Repeated To"),
        ("CSeq", "From: <sip:x@y>;tag=1\r\nCSeq", "400 Repeated From"),
        (
            "CSeq",
            "Call-ID: a84b4c76e66710@pc33.atlanta.example\r\nCSeq",
            "400 Repeated Call-ID",
        ),
        ("CSeq", "CSeq: 314159 INVITE\r\nCSeq", "400 Repeated CSeq"),
        ("CSeq", "Max-Forwards: 70\r\nCSeq", "400 Repeated Max-Forwards"),
        (
            "<sip:bob@biloxi.example>\r\n",
            "<sip:a@b>, <sip:b@c>\r\n",
            "400 Malformed To",
        ),
        (";tag=1928301774", ";tag=1, <sip:b@c>", "400 Malformed From"),
    ]);
}

#[test]
fn cseq_is_a_number_below_2_to_31_and_the_method_of_the_request() {
    fares(&[
        ("314159 INVITE", "0009 INVITE", "relayed"),
        ("314159 INVITE", "0 INVITE", "relayed"),
        ("314159 INVITE", "2147483647 INVITE", "relayed"),
        ("314159 INVITE", "2147483648 INVITE", "400 CSeq Number Too Large"),
        (
            "314159 INVITE",
            "36893488147419103232 INVITE",
            "400 CSeq Number Too Large",
        ),
        ("314159 INVITE", "-1 INVITE", "400 Malformed CSeq"),
        ("314159 INVITE", "314159INVITE", "400 Malformed CSeq"),
        ("314159 INVITE", "314159", "400 Malformed CSeq"),
        ("314159 INVITE", "314159 BYE", "400 CSeq Method Mismatch"),
    ]);
}

#[test]
fn call_ids_are_compared_byte_for_byte() {
    let mut wire = wire();
    for (call_id, branch) in [("AbC@h", "1"), ("aBc@h", "2")] {
        let request = invite(&[("a84b4c76e66710@pc33.atlanta.example", call_id), ("776asdhds", branch)]);
        let sent = deliver(&mut wire, Delivery::Datagram, request.as_bytes()).sent;
        let ok = answer(&sent[1].bytes, "200 OK", "t", "Contact: <sip:b@10.0.0.5>\r\n");
        wire.datagram(at(PLATFORM), at(PRIVATE), &ok);
    }
    assert_eq!(wire.shard().counters().calls_total, 2);
    let bye = |call_id: &str, branch: &str| {
        plain(
            "BYE",
            &[
                ("a84b4c76e66710@pc33.atlanta.example", call_id),
                ("776asdhds", branch),
                ("<sip:bob@biloxi.example>\r\n", "<sip:bob@biloxi.example>;tag=t\r\n"),
            ],
        )
    };
    let (codes, relayed) = (|sent: Vec<_>| (outcome(&sent).0, outcome(&sent).1.len()))(
        deliver(&mut wire, Delivery::Datagram, bye("ABC@h", "3").as_bytes()).sent,
    );
    assert_eq!((codes, relayed), (vec![481], 0));
    let sent = deliver(&mut wire, Delivery::Datagram, bye("AbC@h", "4").as_bytes()).sent;
    assert_eq!(outcome(&sent).1.len(), 1);
}

#[test]
fn a_content_length_that_cannot_be_read_is_a_framing_error() {
    let of = |value: &str| invite(&[("Content-Length: 4", &format!("Content-Length: {value}"))]);
    for value in [
        "five",
        "-1",
        "+4",
        "4 4",
        "",
        "0x4",
        "4294967300",
        "18446744073709551621",
        "99999999999999999999",
    ] {
        // Above what any message has it is too large on a stream, which would have to wait for it.
        let is_large = value.len() > 9;
        let on_a_stream = if is_large {
            "513 Message Too Large"
        } else {
            "400 Malformed Content-Length"
        };
        assert_eq!(fate(&of(value)), "400 Malformed Content-Length", "{value:?}");
        for delivery in STREAMS {
            assert_eq!(
                fate_of(of(value).as_bytes(), delivery),
                (on_a_stream.into(), false),
                "{value:?}"
            );
        }
    }
    let two = invite(&[("Content-Length: 4", "Content-Length: 4\r\nl: 5")]);
    assert_eq!(fate(&two), "400 Differing Content-Length");
    for delivery in STREAMS {
        assert_eq!(
            fate_of(two.as_bytes(), delivery),
            ("400 Differing Content-Length".into(), false)
        );
    }
    // Two that agree do no harm.
    let agree = invite(&[("Content-Length: 4", "Content-Length: 4\r\nl: 04")]);
    for delivery in DELIVERIES {
        assert_eq!(fate_of(agree.as_bytes(), delivery), ("relayed".into(), true));
    }
    // More than there is, and less.
    fares(&[
        ("Length: 4", "Length: 5", "400 Body Shorter Than Content-Length"),
        ("Length: 4", "Length: 3", "relayed"),
    ]);
}

#[test]
fn a_body_is_so_many_octets_of_any_kind() {
    let body: Vec<u8> = (0..=255).chain(*b"\r\n\r\nINVITE sip:x SIP/2.0\r\n\n\r\0").collect();
    let head = invite(&[
        ("Content-Length: 4", &format!("Content-Length: {}", body.len())),
        ("v=0\n", ""),
    ]);
    let bytes = [head.as_bytes(), &body].concat();
    for delivery in DELIVERIES {
        assert_eq!(fate_of(&bytes, delivery), ("relayed".into(), true), "{delivery:?}");
    }
    let sent = deliver(&mut wire_to_stream(), Delivery::ByteByByte, &bytes).sent;
    assert_eq!(Lines::read(&outcome(&sent).1[0].bytes).body, body);
}

#[test]
fn the_type_of_a_body_and_transfer_encodings_are_the_user_agents_business() {
    fares(&[
        ("Content-Type: application/sdp\r\n", "", "relayed"),
        ("Content-Type", "Transfer-Encoding: chunked\r\nContent-Type", "relayed"),
        ("application/sdp", "unknown/type;x=y", "relayed"),
    ]);
}

#[test]
fn without_brackets_parameters_are_the_headers_and_within_the_uris() {
    fares(&[
        (
            "\"Bob\" <sip:bob@biloxi.example>\r\n",
            "sip:bob@biloxi.example;tag=1\r\n",
            "481 Call/Transaction Does Not Exist",
        ),
        (
            "\"Bob\" <sip:bob@biloxi.example>\r\n",
            "<sip:bob@biloxi.example;tag=1>\r\n",
            "relayed",
        ),
        (
            "\"Bob\" <sip:bob@biloxi.example>\r\n",
            "\"x;tag=1\" <sip:b@c;tag=2>\r\n",
            "relayed",
        ),
        (
            "\"Bob\" <sip:bob@biloxi.example>\r\n",
            "sip:b@c;x=\";tag=1\"\r\n",
            "relayed",
        ),
    ]);
    for (header, value) in [
        (Header::Contact, "m"),
        (Header::ReferTo, "r"),
        (Header::ReferredBy, "b"),
    ] {
        let of = |text: &str| {
            let request = plain("REFER", &[(CONTACT, &format!("{value}: {text}\r\n"))]);
            let buf = MessageBuf::parse(request).unwrap();
            let read = buf.as_message().name_addrs(header).next().unwrap().unwrap();
            (self::text(read.uri), read.param("p").is_some())
        };
        assert_eq!(of("sip:a@b;p=1"), ("sip:a@b".into(), true), "{header:?}");
        assert_eq!(of("<sip:a@b;p=1>"), ("sip:a@b;p=1".into(), false), "{header:?}");
    }
}

#[test]
fn route_values_stand_in_brackets() {
    fares(&[
        ("Contact", "Route: sip:p.example;lr\r\nContact", "400 Malformed Route"),
        (
            "Contact",
            "Route: <sip:p.example;lr>, sip:q.example;lr\r\nContact",
            "400 Malformed Route",
        ),
        ("Contact", "Route: <sip:p.example;lr>\r\nContact", "relayed"),
        ("Contact", "Route: <p.example>\r\nContact", "400 Malformed Route"),
        (
            "Contact",
            "Route: <sip:@p.example;lr>\r\nContact",
            "400 Malformed Route",
        ),
    ]);
}

#[test]
fn a_display_name_may_touch_the_bracket() {
    fares(&[
        ("\"Alice\" <", "\"Alice\"<", "relayed"),
        ("\"Alice\" <", "Alice<", "relayed"),
        ("\"Alice\" <", "Alice of Wonderland <", "relayed"),
        // Not quoted and no tokens: such a name must not go on.
        ("\"Alice\" <", "Bell, Alexander <", "400 Malformed From"),
        ("\"Alice\" <", "\"Alice <", "400 Malformed From"),
    ]);
}

#[test]
fn a_contact_of_all_is_for_register_alone() {
    fares(&[(CONTACT, "Contact: *\r\n", "400 Contact Star Outside REGISTER")]);
    assert_eq!(
        fate(&plain("MESSAGE", &[(CONTACT, "m:*\r\n")])),
        "400 Contact Star Outside REGISTER"
    );
    assert_eq!(
        fate(&plain("REGISTER", &[(CONTACT, "Contact: *\r\nExpires: 0\r\n")])),
        "relayed"
    );
}

#[test]
fn numbers_do_not_overflow() {
    fares(&[
        ("Forwards: 70", "Forwards: 255", "relayed"),
        ("Forwards: 70", "Forwards: 0070", "relayed"),
        ("Forwards: 70", "Forwards: 256", "400 Malformed Max-Forwards"),
        ("Forwards: 70", "Forwards: 300", "400 Malformed Max-Forwards"),
        ("Forwards: 70", "Forwards: -1", "400 Malformed Max-Forwards"),
        (
            "Forwards: 70",
            "Forwards: 18446744073709551686",
            "400 Malformed Max-Forwards",
        ),
        ("Forwards: 70", "Forwards: 0", "483 Too Many Hops"),
        ("Forwards: 70", "Forwards: 00", "483 Too Many Hops"),
        ("biloxi.example SIP", "biloxi.example:65535 SIP", "relayed"),
        (
            "biloxi.example SIP",
            "biloxi.example:70000 SIP",
            "400 Malformed Request-URI",
        ),
        (
            "biloxi.example SIP",
            "biloxi.example:0 SIP",
            "400 Malformed Request-URI",
        ),
        (":5060;branch", ":70000;branch", "400 Malformed Via"),
        (";branch", ";rport=70000;branch", "400 Malformed Via"),
        (";branch", ";ttl=256;branch", "400 Malformed Via"),
        (";branch", ";ttl=255;branch", "relayed"),
        (
            "Contact: ",
            "Expires: 4294967296\r\nRetry-After: 99999999999\r\nContact: ",
            "relayed",
        ),
        (
            ".example>\r\nContent",
            ".example>;q=9;expires=99999999999\r\nContent",
            "relayed",
        ),
    ]);
}

#[test]
fn a_via_may_have_white_space_any_transport_and_any_kind_of_host() {
    let via = "SIP/2.0/UDP pc33.atlanta.example:5060;branch";
    fares(&[
        (via, "SIP / 2.0 / UDP  pc33.atlanta.example : 5060 ; branch", "relayed"),
        (via, "SIP/2.0/SCTP pc33.atlanta.example;branch", "relayed"),
        (via, "SIP/2.0/x!%*_+`'~.- pc33.atlanta.example;branch", "relayed"),
        (via, "SIP/2.0/UDP 192.0.2.1:5060;branch", "relayed"),
        (via, "SIP/2.0/UDP [2001:db8::1]:5061;branch", "relayed"),
        (via, "SIP/2.0/UDP [2001:db8::1];branch", "relayed"),
        (via, "SIP/2.0/UDP 2001:db8::1;branch", "400 Malformed Via"),
        (via, "SIP/2.0/UDP;branch", "400 Malformed Via"),
        (via, "SIP/2.0 pc33.atlanta.example;branch", "400 Malformed Via"),
    ]);
    // What it names is where nothing goes: an answer goes back to the host that asked.
    let request = plain(
        "BYE",
        &[("pc33.atlanta.example:5060", "255.255.255.255:9;maddr=239.0.0.1")],
    );
    let sent = deliver(&mut wire(), Delivery::Datagram, request.as_bytes()).sent;
    assert_eq!((sent.len(), sent[0].flow.peer), (1, at("198.51.100.10:9")));
}

#[test]
fn a_branch_that_is_the_cookie_alone_names_no_transaction() {
    fares(&[
        ("z9hG4bK776asdhds", "z9hG4bK", "400 Malformed Via Branch"),
        ("z9hG4bK776asdhds", "z9hg4bk", "400 Malformed Via Branch"),
        (";branch=z9hG4bK776asdhds", ";branch", "400 Malformed Via"),
        (";branch=z9hG4bK776asdhds", "", "relayed"),
        ("z9hG4bK776asdhds", "1", "relayed"),
    ]);
    // Two with one branch are two: each has its answer, of its own Call-ID.
    let mut wire = wire();
    for call_id in ["one", "two"] {
        let request = invite(&[
            ("z9hG4bK776asdhds", "z9hG4bK"),
            ("a84b4c76e66710@pc33.atlanta.example", call_id),
        ]);
        let sent = deliver(&mut wire, Delivery::Datagram, request.as_bytes()).sent;
        assert_eq!(Lines::read(&sent[0].bytes).one("call-id").as_deref(), Some(call_id));
    }
    // Without the cookie all that RFC 2543 has tells requests apart.
    for (call_id, copies) in [("three", 2), ("four", 2), ("three", 1)] {
        let request = invite(&[
            ("z9hG4bK776asdhds", "1"),
            ("a84b4c76e66710@pc33.atlanta.example", call_id),
        ]);
        let sent = deliver(&mut wire, Delivery::Datagram, request.as_bytes()).sent;
        assert_eq!(sent.len(), copies, "{call_id}");
    }
}

#[test]
fn uris_that_can_be_read_pass_and_others_do_not() {
    let uri = "sip:bob@biloxi.example SIP";
    fares(&[
        // The user ends at the last @, whatever stands in it.
        (uri, "sip:a;b?c&d=e+f$g,h/i@biloxi.example SIP", "relayed"),
        (uri, "sip:a:secret@biloxi.example SIP", "relayed"),
        (uri, "sip:biloxi.example SIP", "relayed"),
        (uri, "SIP:bob@BILOXI.example SIP", "relayed"),
        (uri, "sip:@biloxi.example SIP", "400 Malformed Request-URI"),
        (uri, "sip: SIP", "400 Malformed Request-URI"),
        (uri, "bob@biloxi.example SIP", "400 Malformed Request-URI"),
        (uri, "<sip:bob@biloxi.example> SIP", "400 Malformed Request-URI"),
        (
            uri,
            "sip:bob@biloxi.example?Route=%3Csip:x%3E SIP",
            "400 Malformed Request-URI",
        ),
        (uri, "sip:bob@2001:db8::1 SIP", "400 Malformed Request-URI"),
        (uri, "sip:bob@[2001:db8::1]:5060;lr SIP", "relayed"),
        // Escapes are no business of a hop; nor is there an end of text in %00.
        (uri, "sip:%62ob%00x%2541@biloxi.example;p=%3b SIP", "relayed"),
        // Parameters nobody knows stay.
        (uri, "sip:bob@biloxi.example;foo=1;bar;baz=%20 SIP", "relayed"),
        ("Contact", "Route: <sip:p.example;lr;foo=1;bar>\r\nContact", "relayed"),
    ]);
}

#[test]
fn a_request_uri_at_referee_keeps_user_and_parameters_when_it_is_retargeted() {
    let request = invite(&[(
        "sip:bob@biloxi.example SIP",
        "sip:b%6Fb;x@203.0.113.7;foo=1;bar;transport=udp SIP",
    )]);
    let sent = deliver(&mut wire(), Delivery::Datagram, request.as_bytes()).sent;
    assert_eq!(
        Lines::read(&sent[1].bytes).request_uri(),
        "sip:b%6Fb;x@10.0.0.5:5060;foo=1;bar"
    );
}

#[test]
fn other_schemes_are_read_and_only_that_of_the_request_uri_matters() {
    let uri = "sip:bob@biloxi.example SIP";
    fares(&[
        (uri, "tel:+4930123456 SIP", "416 Unsupported URI Scheme"),
        (uri, "sips:bob@biloxi.example SIP", "416 Unsupported URI Scheme"),
        (uri, "http://biloxi.example/ SIP", "416 Unsupported URI Scheme"),
        (uri, "soap.beep://192.0.2.103:3002 SIP", "416 Unsupported URI Scheme"),
        (
            "<sip:bob@biloxi.example>\r\n",
            "<tel:+4930123456;phone-context=x>\r\n",
            "relayed",
        ),
        (
            "<sip:alice@atlanta.example>",
            "<http://atlanta.example/?alice>",
            "relayed",
        ),
        ("<sip:alice@pc33", "<mailto:alice@pc33", "relayed"),
        (
            "<sip:alice@atlanta.example>",
            "<alice@atlanta.example>",
            "400 Malformed From",
        ),
    ]);
}

#[test]
fn addresses_are_written_as_rfc_5952_wants_and_received_without_brackets() {
    let config = referee::sim::scene::TWO_SIDES
        .replace(
            "\"udp:203.0.113.7:5060\"",
            "\"udp:203.0.113.7:5060\", \"udp:[2001:db8::7]:5060\"",
        )
        .replace("\"198.51.100.0/24\"", "\"198.51.100.0/24\", \"2001:db8:c::/48\"");
    let mut wire = Wire::new(&config);
    let from = at("[2001:0db8:000c:0:0:0:0:0001]:5060");
    let sent = wire.datagram(from, at("[2001:db8::7]:5060"), INVITE.as_bytes());
    let trying = Lines::read(&sent[0].bytes).one("via").unwrap();
    assert!(trying.ends_with(";received=2001:db8:c::1"), "{trying}");
    let invite = Lines::read(&sent[1].bytes);
    assert_eq!(invite.list("via")[1], trying);
    assert!(invite.list("record-route")[1].starts_with("<sip:[2001:db8::7]:5060;lr;r="));
}

#[test]
fn a_message_that_is_too_large_is_refused_with_513() {
    // More header lines than there is room for, ours included.
    let lines = |count: usize| invite(&[("Contact", &format!("{}Contact", "X: y\r\n".repeat(count - 9)))]);
    assert_eq!(fate(&lines(120)), "relayed");
    assert_eq!(fate(&lines(121)), "513 Message Too Large");
    assert_eq!(fate(&lines(129)), "513 Too Many Header Lines");
    for delivery in STREAMS {
        assert_eq!(
            fate_of(lines(129).as_bytes(), delivery),
            ("513 Too Many Header Lines".into(), false)
        );
    }
    // One that is relayed can be acknowledged and cancelled.
    let mut wire = wire();
    let sent = deliver(&mut wire, Delivery::Datagram, lines(120).as_bytes()).sent;
    let busy = answer(&sent[1].bytes, "486 Busy Here", "x", "");
    let sent = wire.datagram(at(PLATFORM), at(PRIVATE), &busy);
    assert!(sent.iter().any(|sent| sent.bytes.starts_with(b"ACK ")), "{sent:?}");
    // Bytes likewise: what just fits in a datagram has no room for what a hop adds.
    let sized = |bytes: usize| {
        invite(&[(
            "Contact",
            &format!("X: {}\r\nContact", "y".repeat(bytes - INVITE.len() - 5)),
        )])
    };
    assert_eq!(fate(&sized(63_000)), "relayed");
    assert_eq!(fate(&sized(65_500)), "513 Message Too Large");
    // A head, and a body, beyond the 65,535 bytes of any message; datagrams cannot hold so much.
    let head = invite(&[("Contact", &format!("X: {}\r\nContact", "y".repeat(70_000)))]);
    let body = invite(&[("Length: 4", "Length: 70000"), ("v=0\n", &"y".repeat(70_000))]);
    for request in [head, body] {
        for delivery in [Delivery::Whole, Delivery::Coalesced] {
            let delivered = deliver(&mut super::setting::wire(), delivery, request.as_bytes());
            assert_eq!(outcome(&delivered.sent).0, [513], "{delivery:?}");
            assert!(!delivered.is_open && outcome(&delivered.sent).1.is_empty());
        }
    }
    // A Request-URI has no limit of its own, so that there is no 414.
    let uri = format!("sip:{}@biloxi.example SIP", "b".repeat(50_000));
    fares(&[("sip:bob@biloxi.example SIP", &uri, "relayed")]);
    // Nor has a list: this many parameters are one look each.
    let params = ";p=1".repeat(10_000);
    fares(&[
        ("biloxi.example SIP", &format!("biloxi.example{params} SIP"), "relayed"),
        (";tag=1928301774", &format!(";tag=1928301774{params}"), "relayed"),
        (";branch=", &format!("{params};branch="), "relayed"),
    ]);
}

#[test]
fn a_bare_cr_or_lf_ends_no_line_and_goes_nowhere() {
    for (from, to) in [
        ("Max-Forwards: 70\r\n", "Max-Forwards: 70\n"),
        ("Max-Forwards: 70\r\n", "Max-Forwards: 70\r"),
        ("Contact: ", "X: a\nEvil: b\r\nContact: "),
        ("Contact: ", "X: a\rEvil: b\r\nContact: "),
        ("\"Alice\"", "\"Al\nEvil: x\""),
        ("\"Alice\"", "\"Al\rEvil: x\""),
        ("\"Alice\"", "\"Al\\\nEvil: x\""),
        ("\"Alice\"", "\"Al\n Evil: x\""),
        ("a84b4c76e66710@", "a84b\n c76e66710@"),
        (";branch=", ";x\n ;branch="),
    ] {
        let request = invite(&[(from, to)]);
        for delivery in DELIVERIES {
            let delivered = deliver(&mut wire(), delivery, request.as_bytes());
            let (codes, relayed) = outcome(&delivered.sent);
            assert_eq!((&codes[..], relayed.len()), (&[400][..], 0), "{request:?}");
            assert_eq!(delivered.is_open, delivery == Delivery::Datagram, "{request:?}");
            // Nor does the answer carry it on.
            let answer = text(&delivered.sent[0].bytes).replace("\r\n", "");
            assert!(!answer.contains(['\r', '\n']), "{answer:?}");
        }
    }
    // No message ends in bare LFs: over UDP it has no empty line, on a stream it never ends.
    let bare = INVITE.replace("\r\n", "\n");
    assert_eq!(fate(&bare), "400 Bare LF");
    assert_eq!(fate_of(bare.as_bytes(), Delivery::Whole), (String::new(), true));
}

#[test]
fn keepalives_and_other_protocols_are_no_messages() {
    // RFC 5626 §4.4.1 and RFC 5389: a STUN binding request on our port.
    for bytes in [
        &b"\r\n\r\n"[..],
        b"\r\n",
        b"\0",
        b"",
        b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        assert!(
            deliver(&mut wire(), Delivery::Datagram, bytes).sent.is_empty(),
            "{bytes:?}"
        );
    }
    // Before a start line empty lines are nothing (RFC 3261 §7.5).
    for delivery in [Delivery::Whole, Delivery::ByteByByte, Delivery::Coalesced] {
        let delivered = deliver(&mut wire(), delivery, format!("\r\n\r\n\r\n{INVITE}").as_bytes());
        assert_eq!(outcome(&delivered.sent).1.len(), 1, "{delivery:?}");
    }
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00",
        b"\x00\x01\x00\x00\x21\x12\xa4\x42",
    ] {
        let delivered = deliver(&mut wire(), Delivery::Whole, bytes);
        assert!(delivered.sent.is_empty() && !delivered.is_open, "{bytes:?}");
    }
}

#[test]
fn a_dialog_is_found_in_spite_of_the_form_its_request_has() {
    let mut call = Call::set_up(referee::sim::scene::TWO_SIDES, &NAMES);
    let bye = call.of_platform(&NAMES, "BYE", 8, "");
    let odd = bye
        .replace("From: ", "f:\r\n ")
        .replace(";tag=", " ; TAG =\r\n ")
        .replace("Call-ID:", "i :")
        .replace("Route: ", "ROUTE:");
    let sent = call.platform_says(odd.as_bytes());
    assert_eq!(Lines::read(&sent[0].bytes).method(), "BYE");
    let hop = Hop {
        transport: "UDP",
        sent_by: PUBLIC,
        source: PLATFORM,
        record_routes: 0,
        own_routes: 2,
    };
    assert_relayed("an odd BYE", odd.as_bytes(), &sent[0].bytes, hop);
}
