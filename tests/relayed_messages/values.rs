//! The values of a message's fields (RFC 3261 §19.1, §20, §25.1): each rule by what passes the shard and what does not.

use super::dialog::answer;
use super::fate::{fares, fate, fate_of};
use super::lines::{Lines, text};
use super::setting::*;
use referee::message::{Header, MessageBuf};
use referee::sim::wire::Wire;

const CONTACT: &str = "Contact: <sip:alice@pc33.atlanta.example>\r\n";

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
    let sent = deliver(&mut wire, Delivery::Datagram, bye("ABC@h", "3").as_bytes()).sent;
    assert_eq!((outcome(&sent).0, outcome(&sent).1.len()), (vec![481], 0));
    let sent = deliver(&mut wire, Delivery::Datagram, bye("AbC@h", "4").as_bytes()).sent;
    assert_eq!(outcome(&sent).1.len(), 1);
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
