//! RFC 4475, RFC 5118 and the flows of the transfer RFCs, read as a proxy reads them: each message is accepted with the
//! values a person reads in it, or refused with the answer the RFC wants.

use std::fs;
use std::path::{Path, PathBuf};

use referee::message::framing::{Frame, Framer, FramingError};
use referee::message::refer::Sipfrag;
use referee::message::uri::Scheme;
use referee::message::{
    FieldError, Header, Host, Index, Message, MessageBuf, Method, ParseErrorKind, StartLine, Uri, check, parse,
};

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// A proxy can work with it.
    Accepted,
    /// A request refused with this status code for this reason.
    Answered(u16, ParseErrorKind),
    /// Refused without an answer: a response, or nothing an answer could be built from.
    Dropped(ParseErrorKind),
}
use Outcome::{Accepted, Answered, Dropped};

fn outcome(bytes: &[u8]) -> Outcome {
    let mut index = Index::default();
    let read = parse(bytes, &mut index).map_err(|error| error.kind);
    match read.and_then(|()| check(Message::new(bytes, &index))) {
        Ok(()) => Accepted,
        // The Vias say where an answer goes; the rest it copies as far as it is there.
        Err(kind) if index.is_request() && Message::new(bytes, &index).count(Header::Via) > 0 => {
            Answered(kind.status(), kind)
        }
        Err(kind) => Dropped(kind),
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture").join(name)
}

fn load(folder_name: &str, name: &str) -> Vec<u8> {
    fs::read(folder(folder_name).join(name)).unwrap_or_else(|error| panic!("{folder_name}/{name}: {error}"))
}

fn accepted(folder_name: &str, name: &str) -> MessageBuf {
    let bytes = load(folder_name, name);
    assert_eq!(outcome(&bytes), Accepted, "{name}");
    MessageBuf::parse(bytes).expect("accepted a line ago")
}

fn files(folder_name: &str) -> Vec<String> {
    let entries = fs::read_dir(folder(folder_name)).expect("the folder is part of the repository");
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn agrees_with_table(folder_name: &str, table: &[(&str, &str, Outcome)]) {
    for (name, section, expected) in table {
        let bytes = load(folder_name, &format!("{name}.dat"));
        assert_eq!(&outcome(&bytes), expected, "{name}, section {section}");
    }
    let mut named: Vec<_> = table.iter().map(|(name, _, _)| format!("{name}.dat")).collect();
    named.sort();
    assert_eq!(named, files(folder_name), "every file stands in the table");
}

#[test]
fn each_message_of_rfc_4475_has_its_outcome() {
    use ParseErrorKind::*;
    let table = [
        ("wsinv", "3.1.1.1", Accepted),
        ("intmeth", "3.1.1.2", Accepted),
        ("esc01", "3.1.1.3", Accepted),
        ("escnull", "3.1.1.4", Accepted),
        ("esc02", "3.1.1.5", Accepted),
        ("lwsdisp", "3.1.1.6", Accepted),
        ("longreq", "3.1.1.7", Accepted),
        ("dblreq", "3.1.1.8", Accepted),
        ("semiuri", "3.1.1.9", Accepted),
        ("transports", "3.1.1.10", Accepted),
        ("mpart01", "3.1.1.11", Accepted),
        ("unreason", "3.1.1.12", Accepted),
        ("noreason", "3.1.1.13", Accepted),
        ("badinv01", "3.1.2.1", Answered(400, Malformed(Header::Via))),
        ("clerr", "3.1.2.2", Answered(400, BodyTooShort)),
        ("ncl", "3.1.2.3", Answered(400, ContentLength)),
        ("scalar02", "3.1.2.4", Answered(400, CSeqNumber)),
        ("scalarlg", "3.1.2.5", Dropped(CSeqNumber)),
        ("quotbal", "3.1.2.6", Answered(400, Malformed(Header::To))),
        ("ltgtruri", "3.1.2.7", Answered(400, RequestUri)),
        ("lwsruri", "3.1.2.8", Answered(400, RequestLine)),
        ("lwsstart", "3.1.2.9", Answered(400, RequestLine)),
        ("trws", "3.1.2.10", Answered(400, RequestLine)),
        ("escruri", "3.1.2.11", Answered(400, RequestUri)),
        // A date in no zone of ours concerns only who reads it.
        ("baddate", "3.1.2.12", Accepted),
        // The Contact concerns the registrar.
        ("regbadct", "3.1.2.13", Accepted),
        ("badaspec", "3.1.2.14", Answered(400, Malformed(Header::To))),
        ("baddn", "3.1.2.15", Answered(400, NoEmptyLine)),
        ("baddn-terminated", "3.1.2.15", Answered(400, Malformed(Header::From))),
        ("badvers", "3.1.2.16", Answered(505, Version)),
        ("mismatch01", "3.1.2.17", Answered(400, CSeqMethod)),
        // The shard says 501 of it, which concerns its unknown method.
        ("mismatch02", "3.1.2.18", Answered(400, CSeqMethod)),
        ("bigcode", "3.1.2.19", Dropped(StatusCode)),
        ("badbranch", "3.2.1", Answered(400, Branch)),
        ("insuf", "3.3.1", Answered(400, Missing(Header::From))),
        // Unknown schemes are read; 416 is the router's answer.
        ("unkscm", "3.3.2", Accepted),
        ("novelsc", "3.3.3", Accepted),
        ("unksm2", "3.3.4", Accepted),
        ("bext01", "3.3.5", Accepted),
        ("invut", "3.3.6", Accepted),
        ("regaut01", "3.3.7", Accepted),
        ("multi01", "3.3.8", Answered(400, Repeated(Header::CSeq))),
        ("mcl01", "3.3.9", Answered(400, ContentLengthsDiffer)),
        ("bcast", "3.3.10", Accepted),
        ("zeromf", "3.3.11", Accepted),
        ("cparam01", "3.3.12", Accepted),
        ("cparam02", "3.3.13", Accepted),
        ("regescrt", "3.3.14", Accepted),
        ("sdp01", "3.3.15", Accepted),
        ("inv2543", "3.4.1", Accepted),
        ("test", "appendix A", Dropped(NotSip)),
    ];
    agrees_with_table("rfc4475", &table);
}

#[test]
fn each_message_of_rfc_5118_has_its_outcome() {
    let table = [
        ("ipv6-good", "4.1", Accepted),
        ("ipv6-bad", "4.2", Answered(400, ParseErrorKind::RequestUri)),
        ("port-ambiguous", "4.3", Accepted),
        ("port-unambiguous", "4.4", Accepted),
        ("via-received-param-with-delim", "4.5", Accepted),
        ("via-received-param-no-delim", "4.5", Accepted),
        ("ipv6-in-sdp", "4.6", Accepted),
        ("mult-ip-in-header", "4.7", Accepted),
        ("mult-ip-in-sdp", "4.8", Accepted),
        ("ipv4-mapped-ipv6", "4.9", Accepted),
        (
            "ipv6-bug-abnf-3-colons",
            "4.10",
            Answered(400, ParseErrorKind::RequestUri),
        ),
        ("ipv6-correct-abnf-2-colons", "4.10", Accepted),
    ];
    agrees_with_table("rfc5118", &table);
}

#[test]
fn a_tortuous_invite_is_read_through_all_its_folds() {
    let buf = accepted("rfc4475", "wsinv.dat");
    let message = buf.as_message();
    assert_eq!(message.request_uri(), b"sip:vivekg@chair-dnrc.example.com;unknownparam");
    assert_eq!(message.max_forwards(), Ok(Some(68)));
    let to = message.to().unwrap();
    assert_eq!(
        (to.uri, to.tag),
        (&b"sip:vivekg@chair-dnrc.example.com"[..], Some(&b"1918181833n"[..]))
    );
    let from = message.from().unwrap();
    assert_eq!(from.display, br#""J Rosenberg \\\"""#);
    assert_eq!(from.tag, Some(&b"98asjd8"[..]));
    let cseq = message.cseq().unwrap();
    assert_eq!((cseq.number, cseq.method), (9, Method::Invite));

    let vias: Vec<_> = message.vias().map(Result::unwrap).collect();
    let read: Vec<_> = vias
        .iter()
        .map(|via| (via.transport, via.sent_by, via.branch.unwrap()))
        .collect();
    assert_eq!(
        read,
        [
            (&b"UDP"[..], &b"192.0.2.2"[..], &b"390skdjuw"[..]),
            (b"TCP", b"spindle.example.com", b"z9hG4bK9ikj8"),
            (b"UDP", b"192.168.255.111", b"z9hG4bK30239"),
        ]
    );
    let contact = message.contact().unwrap().unwrap();
    assert_eq!(contact.display, br#""Quoted string \"\"""#);
    assert_eq!(contact.param("newparam"), Some(Some(&b"newvalue"[..])));
    assert_eq!(contact.param("secondparam"), Some(None));
    assert_eq!(contact.param("q"), Some(Some(&b"0.33"[..])));
    let routes: Vec<_> = message
        .name_addrs(Header::Route)
        .map(|route| route.unwrap().uri)
        .collect();
    assert_eq!(
        routes,
        [b"sip:services.example.com;lr;unknownwith=value;unknown-no-value"]
    );
    assert_eq!(
        message
            .lines_named("UnknownHeaderWithUnusualValue")
            .next()
            .unwrap()
            .value,
        b";;,,;;,;"
    );
    assert_eq!(message.value(Header::Subject), Some(&b""[..]));
    assert_eq!(message.body().len(), 150);
}

#[test]
fn a_method_of_odd_token_characters_and_quoted_control_bytes_are_read() {
    let buf = accepted("rfc4475", "intmeth.dat");
    let message = buf.as_message();
    let token = b"!interesting-Method0123456789_*+`.%indeed'~";
    assert_eq!(
        (message.method(), message.method_token()),
        (Some(Method::Other), &token[..])
    );
    assert_eq!(message.cseq().unwrap().token, token);
    let uri = Uri::parse(message.request_uri()).unwrap();
    let user = b"1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)";
    assert_eq!((uri.user, uri.host), (Some(&user[..]), Host::Name(b"example.com")));
    assert_eq!((uri.params, uri.headers), (&b""[..], &b""[..]));
    assert_eq!(message.to().unwrap().display, b"\"BEL:\\\x07 NUL:\\\0 DEL:\\\x7f\"");
    let from = message.from().unwrap();
    assert_eq!(from.display, b"token1~` token2'+_ token3*%!.-");
    assert_eq!(from.tag, Some(&b"_token~1'+`*%!-."[..]));
    assert_eq!(message.top_via().unwrap().branch, Some(&b"z9hG4bK-.!%66*_+`'~"[..]));
}

#[test]
fn escapes_are_compared_decoded_once_and_kept_as_they_came() {
    let buf = accepted("rfc4475", "esc01.dat");
    let message = buf.as_message();
    let uri = Uri::parse(message.request_uri()).unwrap();
    assert_eq!(
        (uri.scheme, uri.user),
        (Scheme::Sip, Some(&b"sips%3Auser%40example.com"[..]))
    );
    let to = Uri::parse(message.to().unwrap().uri).unwrap();
    assert!(to.equals(&Uri::parse(b"sip:user@example.com").unwrap()));
    let contact = message.contact().unwrap().unwrap();
    let contact = Uri::parse(contact.uri).unwrap();
    assert!(contact.equals(&Uri::parse(b"sip:caller@host5.example.net;lr;name=value%2541").unwrap()));
    assert!(!contact.equals(&Uri::parse(b"sip:caller@host5.example.net;lr;name=valueA").unwrap()));

    let buf = accepted("rfc4475", "escnull.dat");
    let contacts: Vec<_> = buf
        .as_message()
        .name_addrs(Header::Contact)
        .map(|contact| contact.unwrap().uri)
        .collect();
    let uris: Vec<_> = contacts.iter().map(|uri| Uri::parse(uri).unwrap()).collect();
    assert_eq!((uris[0].user, uris[1].user), (Some(&b"%00"[..]), Some(&b"%00%00"[..])));
    assert!(!uris[0].equals(&uris[1]));

    let buf = accepted("rfc4475", "esc02.dat");
    assert_eq!(buf.as_message().method(), Some(Method::Other));
    assert_eq!(buf.as_message().count(Header::Contact), 2);

    let buf = accepted("rfc4475", "semiuri.dat");
    let uri = Uri::parse(buf.as_message().request_uri()).unwrap();
    assert_eq!(
        (uri.user, uri.params),
        (Some(&b"user;par=u%40example.net"[..]), &b""[..])
    );
    assert_eq!(uri.host, Host::Name(b"example.com"));
}

#[test]
fn display_names_long_values_and_many_transports_are_read() {
    let buf = accepted("rfc4475", "lwsdisp.dat");
    let from = buf.as_message().from().unwrap();
    assert_eq!(
        (from.display, from.uri),
        (&b"caller"[..], &b"sip:caller@example.com"[..])
    );

    let buf = accepted("rfc4475", "longreq.dat");
    let message = buf.as_message();
    let hosts: Vec<_> = message.vias().map(|via| via.unwrap().sent_by.to_vec()).collect();
    let expected: Vec<_> = (1..=33)
        .rev()
        .map(|n| format!("sip{n}.example.com").into_bytes())
        .collect();
    assert_eq!(hosts[..33], expected);
    assert_eq!((hosts.len(), &hosts[33][..]), (34, &b"host.example.com"[..]));
    assert!(
        message
            .lines()
            .any(|line| line.name.starts_with(b"Unknown-Long") && line.name.ends_with(b"-Name"))
    );

    let buf = accepted("rfc4475", "transports.dat");
    let transports: Vec<_> = buf
        .as_message()
        .vias()
        .map(|via| via.unwrap().transport.to_vec())
        .collect();
    assert_eq!(transports, [&b"UDP"[..], b"SCTP", b"TLS", b"UNKNOWN", b"TCP"]);
}

#[test]
fn what_follows_the_body_in_a_datagram_is_not_part_of_the_message() {
    let buf = accepted("rfc4475", "dblreq.dat");
    let message = buf.as_message();
    assert_eq!((message.method(), message.body()), (Some(Method::Register), &b""[..]));
    assert_eq!(message.bytes().len() - message.total_len(), 450);
}

#[test]
fn a_binary_body_is_left_alone() {
    let buf = accepted("rfc4475", "mpart01.dat");
    let body = buf.as_message().body();
    assert_eq!(body.iter().filter(|&&byte| byte == 0).count(), 2);
    assert_eq!(buf.as_message().total_len(), buf.as_message().bytes().len());
}

#[test]
fn reason_phrases_may_be_empty_or_not_ascii() {
    let buf = accepted("rfc4475", "unreason.dat");
    let StartLine::Response { code, reason } = buf.as_message().start_line() else {
        panic!("a response")
    };
    assert_eq!(code, 200);
    assert_eq!(reason, "= 2**3 * 5**2 но сто девяносто девять - простое".as_bytes());
    let buf = accepted("rfc4475", "noreason.dat");
    assert_eq!(
        buf.as_message().start_line(),
        StartLine::Response { code: 100, reason: b"" }
    );
}

#[test]
fn an_rfc_2543_request_needs_neither_branch_nor_tag_nor_content_length() {
    let buf = accepted("rfc4475", "inv2543.dat");
    let message = buf.as_message();
    assert_eq!(message.top_via().unwrap().branch, None);
    assert_eq!((message.from().unwrap().tag, message.max_forwards()), (None, Ok(None)));
    assert_eq!(message.to().unwrap().param("user"), Some(Some(&b"phone"[..])));
    assert!(message.body().starts_with(b"v=0") && message.body().ends_with(b"\r\n"));
}

#[test]
fn parameters_belong_to_the_header_without_brackets_and_to_the_uri_within() {
    let buf = accepted("rfc4475", "cparam01.dat");
    let contact = buf.as_message().contact().unwrap().unwrap();
    assert_eq!(contact.param("unknownparam"), Some(None));
    assert_eq!(contact.uri, b"sip:+19725552222@gw1.example.net");
    let buf = accepted("rfc4475", "cparam02.dat");
    let contact = buf.as_message().contact().unwrap().unwrap();
    assert_eq!(contact.param("unknownparam"), None);
    assert_eq!(Uri::parse(contact.uri).unwrap().param("unknownparam"), Some(None));
    // A question mark needs the brackets (RFC 3261 §20.10).
    let buf = accepted("rfc4475", "regbadct.dat");
    assert_eq!(buf.as_message().contact(), Err(FieldError::Malformed(Header::Contact)));
    let buf = accepted("rfc4475", "regescrt.dat");
    let contact = buf.as_message().contact().unwrap().unwrap();
    assert_eq!(
        Uri::parse(contact.uri).unwrap().headers,
        b"Route=%3Csip:sip.example.com%3E"
    );
}

#[test]
fn unknown_schemes_are_read_as_opaque() {
    let buf = accepted("rfc4475", "unkscm.dat");
    let uri = Uri::parse(buf.as_message().request_uri()).unwrap();
    assert_eq!(uri.scheme, Scheme::Other(b"nobodyKnowsThisScheme"));
    let buf = accepted("rfc4475", "novelsc.dat");
    assert_eq!(
        Uri::parse(buf.as_message().request_uri()).unwrap().scheme,
        Scheme::Other(b"soap.beep")
    );
    let buf = accepted("rfc4475", "unksm2.dat");
    assert_eq!(buf.as_message().to().unwrap().uri, b"isbn:2983792873");
}

#[test]
fn ipv6_is_read_in_every_place_it_may_stand() {
    let host = |text: &str| Host::Address(text.parse().unwrap());
    let buf = accepted("rfc5118", "port-ambiguous.dat");
    let uri = Uri::parse(buf.as_message().request_uri()).unwrap();
    assert_eq!((uri.host, uri.port), (host("2001:db8::10:5070"), None));
    let buf = accepted("rfc5118", "port-unambiguous.dat");
    let uri = Uri::parse(buf.as_message().request_uri()).unwrap();
    assert_eq!((uri.host, uri.port), (host("2001:db8::10"), Some(5070)));

    for name in ["via-received-param-with-delim.dat", "via-received-param-no-delim.dat"] {
        let buf = accepted("rfc5118", name);
        let received = buf.as_message().top_via().unwrap().received_address();
        assert_eq!(received, Some("2001:db8::9:255".parse().unwrap()), "{name}");
    }
    let buf = accepted("rfc5118", "mult-ip-in-header.dat");
    let vias: Vec<_> = buf.as_message().vias().map(Result::unwrap).collect();
    assert_eq!((vias[0].host, vias[0].port), (host("2001:db8::9:1"), Some(6050)));
    assert_eq!((vias[1].host, vias[1].port), (host("192.0.2.1"), None));
    assert_eq!(vias[2].received_address(), Some("192.0.2.200".parse().unwrap()));
    let buf = accepted("rfc5118", "ipv4-mapped-ipv6.dat");
    let via = buf.as_message().top_via().unwrap();
    assert_eq!((via.host, via.port), (host("::ffff:192.0.2.10"), Some(19823)));
    let contact = buf.as_message().contact().unwrap().unwrap();
    assert_eq!(Uri::parse(contact.uri).unwrap().host, host("::ffff:192.0.2.2"));
}

#[test]
fn every_message_of_the_transfer_rfcs_is_accepted_with_its_fields() {
    use ParseErrorKind::*;
    // Slips of the RFCs' print that no reader should take; tests/relayed_messages/transfer.rs says why for each.
    let refused = [
        ("rfc3911-8.1-1-invite.sip", Answered(400, Malformed(Header::From))),
        ("rfc3911-8.1-3-ack.sip", Answered(400, Malformed(Header::From))),
        ("rfc3911-8.1-5-invite.sip", Answered(400, CSeq)),
        ("rfc3911-8.1-6-200.sip", Dropped(CSeq)),
        ("rfc3911-8.1-10-refer.sip", Answered(400, Malformed(Header::From))),
        ("rfc3911-8.1-11-invite.sip", Answered(400, Malformed(Header::From))),
    ];
    // Slips in fields that a proxy passes on unread.
    let malformed = [
        ("rfc5359-2.4-f5-refer.sip", Header::ReferredBy),
        ("rfc5359-2.4-f11-invite.sip", Header::ReferredBy),
    ];
    for name in files("transfer") {
        if let Some((_, expected)) = refused.iter().find(|(refused, _)| *refused == name) {
            assert_eq!(&outcome(&load("transfer", &name)), expected, "{name}");
            continue;
        }
        let buf = accepted("transfer", &name);
        let message = buf.as_message();
        assert_eq!(message.total_len(), message.bytes().len(), "{name}");
        for via in message.vias() {
            assert!(via.is_ok_and(|via| via.branch.is_some()), "{name}");
        }
        for header in [Header::Contact, Header::Route, Header::RecordRoute, Header::ReferredBy] {
            for value in message.name_addrs(header) {
                let is_read = value.is_ok_and(|value| Uri::parse(value.uri).is_ok());
                assert_eq!(is_read, !malformed.contains(&(&name, header)), "{name}: {header:?}");
            }
        }
        if message
            .event()
            .unwrap_or_else(|error| panic!("{name}: {error:?}"))
            .is_some()
        {
            assert!(
                matches!(message.cseq().unwrap().method, Method::Notify | Method::Subscribe),
                "{name}"
            );
        }
        if message.method() == Some(Method::Notify) {
            assert!(message.subscription_state().unwrap().is_some(), "{name}");
            let content_type = message.value(Header::ContentType).unwrap_or_default();
            assert_eq!(
                Sipfrag::parse(message.body()).is_some(),
                content_type.starts_with(b"message/sipfrag"),
                "{name}"
            );
        }
    }
}

#[test]
fn transfers_no_rfc_prints_are_read() {
    let refer_to = |name: &str| {
        let buf = accepted("transfer", name);
        buf.as_message()
            .single_name_addr(Header::ReferTo)
            .map(|refer_to| refer_to.uri.to_vec())
    };
    assert_eq!(refer_to("12-refer-compact-forms.sip").unwrap(), b"sip:c@example.com");
    assert!(refer_to("13-refer-tel.sip").unwrap().starts_with(b"tel:"));
    assert_eq!(
        refer_to("09-refer-no-refer-to.sip"),
        Err(FieldError::Missing(Header::ReferTo))
    );
    assert_eq!(
        refer_to("11-refer-two-refer-to-comma.sip"),
        Err(FieldError::Malformed(Header::ReferTo))
    );
    assert_eq!(
        accepted("transfer", "10-refer-two-refer-to.sip")
            .as_message()
            .count(Header::ReferTo),
        2
    );
    // Unescaped, but what it means is plain: the header part begins at the question mark.
    let unescaped = refer_to("14-refer-replaces-unescaped.sip").unwrap();
    let uri = Uri::parse(&unescaped).unwrap();
    assert_eq!(
        (uri.host, uri.headers),
        (Host::Name(b"example.com"), &b"Replaces=7@x;to-tag=1;from-tag=2"[..])
    );

    let buf = accepted("transfer", "18-notify-refer-id.sip");
    let event = buf.as_message().event().unwrap().unwrap();
    assert!(event.is_refer() && event.id_number() == Some(102));
    let buf = accepted("transfer", "20-notify-final-no-reason.sip");
    let state = buf.as_message().subscription_state().unwrap().unwrap();
    assert!(state.terminated && state.reason.is_none());
    for (name, code) in [("19-notify-180.sip", 180), ("21-notify-sipfrag-no-crlf.sip", 486)] {
        assert_eq!(
            Sipfrag::parse(accepted("transfer", name).as_message().body())
                .unwrap()
                .code,
            code,
            "{name}"
        );
    }
}

#[test]
fn on_a_stream_the_messages_come_out_whole_and_broken_lengths_end_it() {
    // One flow on one connection, the pieces as small as they get.
    let stream: Vec<u8> = (1..=6)
        .flat_map(|n| {
            let kind = ["refer", "202", "notify", "200", "notify", "200"][n - 1];
            load("transfer", &format!("rfc3515-4.1-f{n}-{kind}.sip"))
        })
        .collect();
    let mut framer = Framer::new();
    let (mut start, mut lengths) = (0, Vec::new());
    for end in 0..=stream.len() {
        if let Frame::Message(length) = framer.next(&stream[start..end]).unwrap() {
            lengths.push(length);
            start += length;
        }
    }
    assert_eq!((lengths.len(), start), (6, stream.len()));

    for (name, error) in [
        ("ncl.dat", FramingError::BadContentLength),
        ("mcl01.dat", FramingError::ContentLengthsDiffer),
        ("inv2543.dat", FramingError::NoContentLength),
        ("test.dat", FramingError::NotSip),
    ] {
        let mut framer = Framer::new();
        assert_eq!(framer.next(&load("rfc4475", name)), Err(error), "{name}");
        assert_eq!(
            framer.next(b"OPTIONS sip:a SIP/2.0\r\nl: 0\r\n\r\n"),
            Err(error),
            "an error is final"
        );
    }
    assert_eq!(Framer::new().next(&load("rfc4475", "clerr.dat")), Ok(Frame::Incomplete));
}

#[test]
fn the_fuzzers_corpus_of_configurations_verbs_and_stun_keeps_its_properties() {
    let corpus = |target: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(!files.is_empty());
        files.into_iter().map(|path| fs::read(path).unwrap())
    };
    let texts = |target: &str| corpus(target).map(|bytes| String::from_utf8(bytes).unwrap());
    texts("config").for_each(|text| referee::config::parse::config_text(&text));
    texts("verb").for_each(|text| referee::verb::verb_json(&text));
    corpus("stun").for_each(|datagram| referee::stun::stun_answer(&datagram));
}
