//! The form of a message (RFC 3261 §7, §18.3, §25.1): its lines, their names, and where it ends; each rule by what passes the
//! shard and what does not.

use super::dialog::{Call, NAMES, answer, asked, graft};
use super::fate::{fares, fate, fate_of};
use super::lines::{COMPACT, Hop, Lines, assert_relayed, find, text};
use super::setting::*;
use referee::message::{Header, MessageBuf, Method};

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

    // Routes of ours are taken off as values, whatever name they are given.
    let mut call = Call::set_up(referee::sim::scene::TWO_SIDES, &NAMES);
    let [one, two] = &call.callee_routes[..] else {
        panic!("two routes")
    };
    let named = format!("Route: \"a, <b>\\\" ,\" {one} , \"c, d\" {two}, <sip:p,q@198.51.100.77;lr>\r\n");
    let plain = format!("Route: {one}\r\nRoute: {two}\r\n");
    let bye = call.of_platform(&NAMES, "BYE", 8, "");
    assert!(bye.contains(&plain));
    let sent = call.platform_says(bye.replace(&plain, &named).as_bytes());
    assert_eq!(sent[0].flow.peer, at("198.51.100.77:5060"));
    assert_eq!(
        Lines::read(&sent[0].bytes).list("route"),
        ["<sip:p,q@198.51.100.77;lr>"]
    );
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
    // At once, not after as many octets as the first one says.
    let first_larger = invite(&[("Content-Length: 4", "Content-Length: 9999\r\nl: 4")]);
    for delivery in STREAMS {
        assert_eq!(
            fate_of(first_larger.as_bytes(), delivery),
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
    assert_eq!(fate(&sized(63_487)), "relayed");
    assert_eq!(fate(&sized(63_488)), "513 Message Too Large");
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
    // The parameters of a URI are one look; those of a field are counted.
    let params = |count: usize| ";p=1".repeat(count);
    let uri = format!("biloxi.example{} SIP", params(10_000));
    let tag = |count: usize| format!(";tag=1928301774{}", params(count - 1));
    let branch = |count: usize| format!("{};branch=", params(count - 1));
    fares(&[
        ("biloxi.example SIP", &uri, "relayed"),
        (";tag=1928301774", &tag(64), "relayed"),
        (";tag=1928301774", &tag(65), "400 Malformed From"),
        (";branch=", &branch(64), "relayed"),
        (";branch=", &branch(65), "400 Malformed Via"),
    ]);
    // So are the values of a list that is read.
    let routes = |count: usize| format!("Route: {}\r\nContact", vec!["<sip:203.0.113.77;lr>"; count].join(","));
    fares(&[
        ("Contact", &routes(64), "relayed"),
        ("Contact", &routes(65), "400 Malformed Route"),
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
    // RFC 5626 §4.4.1, §8: a STUN Binding Request is answered as such; this one is not whole.
    for bytes in [
        &b"\r\n\r\n"[..],
        b"\r\n",
        b"\0",
        b"",
        b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijk",
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
