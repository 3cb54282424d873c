//! The flows of the transfer RFCs, message by message: read, relayed or refused.

use super::dialog::{Call, NAMES, asked, graft};
use super::lines::{Hop, Line, Lines, assert_answers, assert_relayed, find, name_addr, params_of, text};
use super::setting::*;
use referee::message::refer::Sipfrag;
use referee::message::{CSeq, Header, Message, MessageBuf, NameAddr, StartLine, check};
use referee::sim::scene::TWO_SIDES;
use referee::sim::wire::Sent;

/// Slips of print that no reader should take, each with why and with the answer it gets; the ACK and the response get none.
const REFUSED: [(&str, &str, Option<&str>); 6] = [
    (
        "rfc3911-8.1-1-invite.sip",
        "From and To name no scheme, and CSeq stands in the line of Call-ID",
        Some("400 Malformed From"),
    ),
    (
        "rfc3911-8.1-3-ack.sip",
        "From and To name no scheme, and CSeq stands in the line of Call-ID",
        None,
    ),
    (
        "rfc3911-8.1-5-invite.sip",
        "no space between the number and the method of CSeq",
        Some("400 Malformed CSeq"),
    ),
    (
        "rfc3911-8.1-6-200.sip",
        "no space between the number and the method of CSeq",
        None,
    ),
    (
        "rfc3911-8.1-10-refer.sip",
        "From and To name no scheme",
        Some("400 Malformed From"),
    ),
    (
        "rfc3911-8.1-11-invite.sip",
        "From names no scheme",
        Some("400 Malformed From"),
    ),
];

/// The names and bytes of all that can be read, of one kind.
fn messages(requests: bool) -> Vec<(String, Vec<u8>)> {
    let names = files("transfer")
        .into_iter()
        .filter(|name| REFUSED.iter().all(|(refused, _, _)| refused != name));
    let all = names.map(|name| (name.clone(), load("transfer", &name)));
    all.filter(|(_, bytes)| Lines::read(bytes).is_request() == requests)
        .collect()
}

#[test]
fn every_field_of_the_transfer_flows_is_read_as_a_second_reader_reads_it() {
    let mut count = 0;
    for (name, bytes) in messages(true).into_iter().chain(messages(false)) {
        let buf = MessageBuf::parse(bytes.clone()).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(check(buf.as_message()), Ok(()), "{name}");
        assert_read_alike(&name, buf.as_message(), &Lines::read(&bytes));
        count += 1;
    }
    assert_eq!(count, 204);
}

/// The parser and the second reader see the same.
fn assert_read_alike(name: &str, message: Message<'_>, lines: &Lines) {
    match message.start_line() {
        StartLine::Request { token, uri, .. } => {
            assert_eq!(
                (text(token), text(uri)),
                (lines.method(), lines.request_uri()),
                "{name}"
            );
        }
        StartLine::Response { code, reason } => {
            assert_eq!(code, lines.code(), "{name}");
            assert_eq!(format!("SIP/2.0 {code} {}", text(reason)), text(&lines.first), "{name}");
        }
    }
    let read: Vec<_> = message.lines().map(|line| text(line.value)).collect();
    let expected: Vec<_> = lines.headers.iter().map(|line| text(&line.value)).collect();
    assert_eq!(read, expected, "{name}");
    assert_eq!(message.body(), lines.counted_body(), "{name}");

    let CSeq { number, token, .. } = message.cseq().unwrap();
    assert_eq!(
        format!("{number} {}", text(token)),
        lines.one("cseq").unwrap(),
        "{name}"
    );
    let expected = lines.one("call-id").unwrap();
    match message.call_id() {
        Ok(call_id) => assert_eq!(text(call_id), expected, "{name}"),
        // That of the slips of print above, in the response to them.
        Err(_) => assert!(!message.is_request() && expected.contains(' '), "{name}"),
    }
    assert_eq!(
        message.max_forwards().unwrap().map(|hops| hops.to_string()),
        lines.one("max-forwards"),
        "{name}"
    );

    let vias = lines.list("via");
    assert_eq!(message.vias().count(), vias.len(), "{name}");
    for (via, expected) in message.vias().zip(&vias) {
        let via = via.unwrap();
        let (front, params) = expected.split_once(';').unwrap_or((expected, ""));
        let (protocol, sent_by) = front.split_once(' ').unwrap();
        let params = params_of(&format!(";{params}"));
        assert_eq!(format!("SIP/2.0/{}", text(via.transport)), protocol, "{name}");
        assert_eq!(text(via.sent_by), sent_by.trim(), "{name}");
        assert_eq!(via.branch.map(text), params.get("branch").cloned(), "{name}");
        assert_eq!(via.received.map(text), params.get("received").cloned(), "{name}");
    }
    for header in [Header::From, Header::To] {
        let expected = lines.one(header.name()).unwrap();
        match message.single_name_addr(header) {
            Ok(value) => assert_name_addr(name, &value, &expected),
            // A proxy reads neither in a response, and no URI is to be read here.
            Err(_) => assert!(!message.is_request() && !expected.contains(':'), "{name}: {expected}"),
        }
    }
    for header in [
        Header::Contact,
        Header::Route,
        Header::RecordRoute,
        Header::ReferTo,
        Header::ReferredBy,
    ] {
        let values = lines.list(header.name());
        assert_eq!(message.name_addrs(header).count(), values.len(), "{name}: {header:?}");
        for (value, expected) in message.name_addrs(header).zip(&values) {
            match value {
                Ok(value) => assert_name_addr(name, &value, expected),
                // A name and no URI: passed on unread.
                Err(_) => assert!(!expected.contains(':'), "{name}: {expected}"),
            }
        }
    }
    let event = message.event().unwrap();
    let expected = lines.one("event");
    assert_eq!(event.is_some(), expected.is_some(), "{name}");
    if let (Some(event), Some(expected)) = (event, expected) {
        let (package, params) = expected.split_once(';').unwrap_or((&expected, ""));
        assert_eq!(text(event.package), package.trim(), "{name}");
        assert_eq!(
            event.id.map(text),
            params_of(&format!(";{params}")).get("id").cloned(),
            "{name}"
        );
    }
    let state = message.subscription_state().unwrap();
    let expected = lines.one("subscription-state");
    assert_eq!(state.is_some(), expected.is_some(), "{name}");
    if let (Some(state), Some(expected)) = (state, expected) {
        let (word, params) = expected.split_once(';').unwrap_or((&expected, ""));
        let params = params_of(&format!(";{params}"));
        assert_eq!(text(state.state), word.trim(), "{name}");
        assert_eq!(
            state.expires.map(|seconds| seconds.to_string()),
            params.get("expires").cloned(),
            "{name}"
        );
        assert_eq!(state.reason.map(text), params.get("reason").cloned(), "{name}");
    }
    if lines
        .one("content-type")
        .is_some_and(|kind| kind.starts_with("message/sipfrag"))
        && lines.is_request()
    {
        let body = text(lines.counted_body());
        let first = body.lines().next().unwrap();
        let frag = Sipfrag::parse(message.body()).unwrap_or_else(|| panic!("{name}: {first}"));
        assert_eq!(
            format!("SIP/2.0 {} {}", frag.code, text(frag.reason)).trim(),
            first.trim(),
            "{name}"
        );
    }
}

fn assert_name_addr(name: &str, read: &NameAddr<'_>, expected: &str) {
    let (display, uri, params) = name_addr(expected);
    assert_eq!(
        (text(read.display), text(read.uri)),
        (display, uri),
        "{name}: {expected}"
    );
    assert_eq!(read.tag.map(text), params.get("tag").cloned(), "{name}: {expected}");
    for (param, value) in params {
        let found = read
            .param(&param)
            .unwrap_or_else(|| panic!("{name}: {param} of {expected}"));
        assert_eq!(found.map(text).unwrap_or_default(), value, "{name}: {expected}");
    }
}

#[test]
fn slips_of_print_are_refused_for_their_reason() {
    for (name, reason, status) in REFUSED {
        let bytes = load("transfer", name);
        for delivery in DELIVERIES {
            let what = format!("{name}: {reason}, {delivery:?}");
            let sent = deliver(&mut wire(), delivery, &bytes).sent;
            match status {
                Some(status) => {
                    assert_eq!(sent.len(), 1, "{what}");
                    assert_answers(&what, &bytes, &sent[0].bytes, status, delivery.source());
                }
                None => assert!(sent.is_empty(), "{what}"),
            }
        }
    }
}

/// What a request of no call comes to here: the status of its refusal, or the number of Record-Routes it leaves with.
fn outside(lines: &Lines) -> Result<usize, Option<&'static str>> {
    let has_tag = name_addr(&lines.one("to").unwrap()).2.contains_key("tag");
    match lines.method().as_str() {
        "ACK" => Err(None),
        // RFC 3261 §12.2.2, §9.2.
        _ if has_tag => Err(Some("481 Call/Transaction Does Not Exist")),
        "BYE" | "CANCEL" => Err(Some("481 Call/Transaction Does Not Exist")),
        "REFER" => Err(Some("603 Decline")),
        // There is no TLS to go on by.
        _ if lines.request_uri().starts_with("sips:") => Err(Some("416 Unsupported URI Scheme")),
        _ => Ok(2),
    }
}

#[test]
fn requests_of_the_transfer_flows_outside_a_dialog_are_relayed_unchanged_or_refused() {
    let mut relayed_count = 0;
    for (name, bytes) in messages(true) {
        let lines = Lines::read(&bytes);
        for delivery in DELIVERIES {
            let what = format!("{name}, {delivery:?}");
            let delivered = deliver(&mut wire(), delivery, &bytes);
            assert!(delivered.is_open, "{what}");
            match outside(&lines) {
                Ok(record_routes) => {
                    relayed_count += 1;
                    assert_goes_on(&what, &bytes, &delivered.sent, delivery.source(), record_routes);
                }
                Err(Some(status)) => {
                    assert_eq!(delivered.sent.len(), 1, "{what}");
                    assert_answers(&what, &bytes, &delivered.sent[0].bytes, status, delivery.source());
                }
                Err(None) => assert!(delivered.sent.is_empty(), "{what}"),
            }
        }
        // What only its scheme keeps back: the same message with another one in the Request-URI, and there alone.
        if outside(&lines) == Err(Some("416 Unsupported URI Scheme")) {
            let bytes = with_sip_uri(&bytes);
            for delivery in DELIVERIES {
                let what = format!("{name} to a sip: URI, {delivery:?}");
                let sent = deliver(&mut wire(), delivery, &bytes).sent;
                assert_goes_on(&what, &bytes, &sent, delivery.source(), 2);
                relayed_count += 1;
            }
        }
    }
    assert_eq!(relayed_count, 4 * 40);
}

fn assert_goes_on(what: &str, bytes: &[u8], sent: &[Sent], source: &str, record_routes: usize) {
    let (codes, relayed) = outcome(sent);
    assert_eq!((codes.len(), relayed.len()), (0, 1), "{what}");
    let hop = Hop {
        transport: "UDP",
        sent_by: PRIVATE,
        source,
        record_routes,
        own_routes: 0,
    };
    assert_relayed(what, bytes, &relayed[0].bytes, hop);
}

fn with_sip_uri(bytes: &[u8]) -> Vec<u8> {
    match find(bytes, b" sips:") {
        Some(at) if at < find(bytes, b"\r\n").unwrap() => [&bytes[..at], b" sip:", &bytes[at + 6..]].concat(),
        _ => bytes.to_vec(),
    }
}

/// The message as one of the dialog `NAMES`: Call-ID and tags are the dialog's, our Routes stand on top, a sips: Request-URI is
/// a sip: one. All else is as the file has it.
fn within_dialog(bytes: &[u8], routes: &[String], from_tag: &str, to_tag: &str) -> Vec<u8> {
    let bytes = with_sip_uri(bytes);
    let lines = Lines::read(&bytes);
    let mut out = lines.first.clone();
    out.extend_from_slice(b"\r\n");
    for route in routes {
        out.extend_from_slice(format!("Route: {route}\r\n").as_bytes());
    }
    for line in &lines.headers {
        let line = match line.name.as_str() {
            "call-id" => with_value(line, NAMES.call_id),
            "from" => with_value(line, &with_tag(&text(&line.value), from_tag)),
            "to" => with_value(line, &with_tag(&text(&line.value), to_tag)),
            _ => line.raw.clone(),
        };
        out.extend_from_slice(&line);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&lines.body);
    out
}

fn with_value(line: &Line, value: &str) -> Vec<u8> {
    [&line.raw[..line.raw.len() - line.value.len()], value.as_bytes()].concat()
}

fn with_tag(value: &str, tag: &str) -> String {
    match value.find(";tag=") {
        Some(at) => {
            let end = value[at + 1..].find(';').map_or(value.len(), |end| at + 1 + end);
            format!("{};tag={tag}{}", &value[..at], &value[end..])
        }
        None => format!("{value};tag={tag}"),
    }
}

/// Where requests to names go on the side of the carrier.
const BEYOND: &str = "198.51.100.77";

#[test]
fn requests_of_the_transfer_flows_within_a_dialog_are_relayed_unchanged() {
    let mut methods = std::collections::BTreeSet::new();
    for (name, bytes) in messages(true) {
        let lines = Lines::read(&bytes);
        let method = lines.method();
        // NOTIFYs come from who got a REFER; a CANCEL is of no dialog.
        if matches!(method.as_str(), "NOTIFY" | "CANCEL") {
            continue;
        }
        methods.insert(method.clone());
        let mut call = Call::set_up(TWO_SIDES, &NAMES);
        call.wire.resolve_all_to(&[BEYOND.parse().unwrap()]);
        let bytes = within_dialog(&bytes, &call.callee_routes, NAMES.callee, NAMES.caller);
        let sent = call.platform_says(&bytes);
        let relayed: Vec<_> = sent.iter().filter(|sent| !sent.bytes.starts_with(b"SIP/2.0")).collect();
        assert_eq!(relayed.len(), 1, "{name}: {sent:?}");
        assert!(sent.len() == 1 || method == "INVITE", "{name}");
        let hop = Hop {
            transport: via_token(relayed[0]),
            sent_by: PUBLIC,
            source: PLATFORM,
            record_routes: 0,
            own_routes: 2,
        };
        assert_relayed(&name, &bytes, &relayed[0].bytes, hop);
        // A carrier may not transfer the platform's calls.
        if method == "REFER" {
            let bytes = load("transfer", &name);
            let mut call = Call::set_up(TWO_SIDES, &NAMES.numbered_as(&bytes));
            let bytes = within_dialog(&bytes, &call.caller_routes, NAMES.caller, NAMES.callee);
            for delivery in [Delivery::Datagram, Delivery::Whole] {
                let sent = deliver(&mut call.wire, delivery, &bytes).sent;
                assert!(sent[0].bytes.starts_with(b"SIP/2.0 603 Decline\r\n"), "{name}");
                assert_eq!(sent.len(), 1, "{name}");
            }
        }
    }
    assert_eq!(
        methods.into_iter().collect::<Vec<_>>(),
        ["ACK", "BYE", "INVITE", "REFER", "SUBSCRIBE"]
    );
}

#[test]
fn notifies_of_the_transfer_flows_are_relayed_unchanged() {
    let mut count = 0;
    for (name, bytes) in messages(true) {
        if Lines::read(&bytes).method() != "NOTIFY" {
            continue;
        }
        for delivery in DELIVERIES {
            let what = format!("{name}, {delivery:?}");
            let mut call = Call::set_up(TWO_SIDES, &NAMES.numbered_as(&bytes));
            let bytes = within_dialog(&bytes, &call.caller_routes, NAMES.caller, NAMES.callee);
            // Of a REFER that did not pass here, and then of one that did: whose it is, that party knows.
            let early = text(&bytes).replacen("branch=z9hG4bK", "branch=z9hG4bKearly", 1);
            let early: Vec<u8> = early.chars().map(|c| c as u8).collect();
            let mut pass = |call: &mut Call, delivery: Delivery, bytes: &[u8]| {
                let sent = deliver(&mut call.wire, delivery, bytes).sent;
                assert_eq!(sent.len(), 1, "{what}: {sent:?}");
                let hop = Hop {
                    transport: via_token(&sent[0]),
                    sent_by: PRIVATE,
                    source: delivery.source(),
                    record_routes: 0,
                    own_routes: 2,
                };
                assert_relayed(&what, bytes, &sent[0].bytes, hop);
                count += 1;
            };
            pass(&mut call, Delivery::Datagram, &early);
            let refer = call.of_platform(&NAMES, "REFER", 7, "Refer-To: <sip:carol@chicago.example>\r\n");
            assert_eq!(call.platform_says(refer.as_bytes()).len(), 1, "{what}");
            pass(&mut call, delivery, &bytes);
        }
    }
    assert!(count >= 8 * 20, "{count}");
}

#[test]
fn responses_of_the_transfer_flows_are_relayed_unchanged() {
    for (name, bytes) in messages(false) {
        let lines = Lines::read(&bytes);
        let method = lines.cseq_method();
        // The answer to a CANCEL goes no further than the hop that sent the CANCEL (RFC 3261 §9.1).
        let is_hop_by_hop = method == "CANCEL";
        for delivery in DELIVERIES {
            let what = format!("{name}, {delivery:?}");
            let (mut wire, via) = asked(if is_hop_by_hop { "INVITE" } else { &method });
            let delivered = deliver(&mut wire, delivery, &graft(&bytes, &via));
            assert!(delivered.is_open, "{what}");
            let up: Vec<_> = delivered
                .sent
                .iter()
                .filter(|sent| sent.flow.peer == at(PLATFORM))
                .collect();
            if is_hop_by_hop {
                assert!(delivered.sent.is_empty(), "{what}");
            } else {
                assert_eq!(up.len(), 1, "{what}");
                assert_eq!(text(&up[0].bytes), text(&bytes), "{what}");
                let is_acked = method == "INVITE" && lines.code() >= 300;
                assert_eq!(delivered.sent.len(), 1 + usize::from(is_acked), "{what}");
            }
        }
    }
}

#[test]
fn a_cancel_of_the_transfer_flows_ends_its_invite() {
    let invite = load("transfer", "rfc3891-7.1-1-invite.sip");
    let cancel = load("transfer", "rfc3891-7.1-5-cancel.sip");
    let branch = |bytes: &[u8]| {
        let via = Lines::read(bytes).one("via").unwrap();
        params_of(&via[via.find(';').unwrap()..])["branch"].clone()
    };
    // The branch is what names the INVITE (RFC 3261 §9.1); the file has one of its own.
    let cancel = text(&cancel).replacen(&branch(&cancel), &branch(&invite), 1);
    let via = |bytes: &[u8]| Lines::read(bytes).one("via").unwrap();
    assert_eq!(via(cancel.as_bytes()), via(&invite));
    for delivery in DELIVERIES {
        let mut wire = wire();
        let sent = deliver(&mut wire, Delivery::Datagram, &invite).sent;
        let ringing = super::dialog::answer(&sent[1].bytes, "180 Ringing", "x", "");
        assert_eq!(wire.datagram(at(PLATFORM), at(PRIVATE), &ringing).len(), 1);
        let sent = deliver(&mut wire, delivery, cancel.as_bytes()).sent;
        assert_eq!(sent.len(), 2, "{delivery:?}: {sent:?}");
        assert_answers(
            "the CANCEL",
            cancel.as_bytes(),
            &sent[0].bytes,
            "200 OK",
            delivery.source(),
        );
        let down = Lines::read(&sent[1].bytes);
        assert_eq!((down.method(), sent[1].flow.peer), ("CANCEL".into(), at(PLATFORM)));
    }
}
