//! Every typed field of a message as text, a line each; and what a person reads in the valid messages of RFC 4475.

use super::setting::*;
use referee::message::{Header, Host, Message, MessageBuf, NameAddr, StartLine, Uri, Via, check};
use std::fmt::Write as _;

/// All that can be read of a message, a line each. Values are as received but for folds, which are shown as one SP.
pub fn fields(message: Message<'_>) -> String {
    let mut out = String::new();
    match message.start_line() {
        StartLine::Request { token, uri, .. } => writeln!(out, "{} {}", shown(token), shown(uri)).unwrap(),
        StartLine::Response { code, reason } => writeln!(out, "{code} {}", shown(reason)).unwrap(),
    }
    for via in message.vias() {
        writeln!(out, "via {}", via.map_or("malformed".into(), |via| via_text(&via))).unwrap();
    }
    for (name, value) in [("from", message.from()), ("to", message.to())] {
        writeln!(
            out,
            "{name} {}",
            value.map_or("malformed".into(), |value| name_addr_text(&value))
        )
        .unwrap();
    }
    writeln!(out, "call-id {}", message.call_id().map_or("malformed".into(), shown)).unwrap();
    if let Ok(cseq) = message.cseq() {
        writeln!(out, "cseq {} {}", cseq.number, shown(cseq.token)).unwrap();
    }
    if let Ok(Some(hops)) = message.max_forwards() {
        writeln!(out, "max-forwards {hops}").unwrap();
    }
    for header in [
        Header::Contact,
        Header::Route,
        Header::RecordRoute,
        Header::ReferTo,
        Header::ReferredBy,
    ] {
        for value in message.name_addrs(header) {
            let value = value.map_or("malformed".into(), |value| name_addr_text(&value));
            writeln!(out, "{} {value}", header.name().to_ascii_lowercase()).unwrap();
        }
    }
    if let Ok(Some(event)) = message.event() {
        writeln!(out, "event {} id {:?}", shown(event.package), event.id.map(shown)).unwrap();
    }
    if let Ok(Some(state)) = message.subscription_state() {
        writeln!(
            out,
            "subscription-state {} {:?} {:?}",
            shown(state.state),
            state.expires,
            state.retry_after
        )
        .unwrap();
    }
    if let Some(kind) = message.value(Header::ContentType) {
        writeln!(out, "content-type {}", unfolded(kind)).unwrap();
    }
    let others = message
        .lines_of(Header::Other)
        .map(|line| format!("{}: {}", shown(line.name), unfolded(line.value)));
    others.for_each(|line| writeln!(out, "{line}").unwrap());
    writeln!(out, "body {}", message.body().len()).unwrap();
    out
}

fn unfolded(value: &[u8]) -> String {
    shown(value).split("\r\n").map(str::trim).collect::<Vec<_>>().join(" ")
}

fn via_text(via: &Via<'_>) -> String {
    let host = match via.host {
        Host::Address(ip) => format!("address {ip}"),
        Host::Name(name) => format!("name {}", shown(name)),
    };
    let mut out = format!(
        "{} {} = {host} port {:?}",
        shown(via.transport),
        unfolded(via.sent_by),
        via.port
    );
    write!(out, " branch {}", via.branch.map_or("none".into(), shown)).unwrap();
    if let Some(received) = via.received {
        write!(out, " received {} = {:?}", shown(received), via.received_address()).unwrap();
    }
    if let Some(rport) = via.rport {
        write!(out, " rport {rport:?}").unwrap();
    }
    if let Some(maddr) = via.maddr_host() {
        write!(out, " maddr {maddr:?}").unwrap();
    }
    if let Some(ttl) = via.ttl {
        write!(out, " ttl {ttl}").unwrap();
    }
    out
}

fn name_addr_text(value: &NameAddr<'_>) -> String {
    let mut out = format!("[{}] {}", shown(value.display), shown(value.uri));
    match Uri::parse(value.uri) {
        Ok(uri) => write!(out, " = {}", uri_text(&uri)).unwrap(),
        Err(error) => write!(out, " = {error:?}").unwrap(),
    }
    if let Some(tag) = value.tag {
        write!(out, " tag {}", shown(tag)).unwrap();
    }
    let params = unfolded(value.params);
    let params: String = params.chars().filter(|c| !c.is_whitespace()).collect();
    if !params.is_empty() {
        write!(out, " params {params}").unwrap();
    }
    out
}

fn uri_text(uri: &Uri<'_>) -> String {
    let host = match uri.host {
        Host::Address(ip) => format!("address {ip}"),
        Host::Name(name) => shown(name),
    };
    let mut out = format!("{:?} {} at {host}", uri.scheme, uri.user.map_or("nobody".into(), shown));
    if let Some(port) = uri.port {
        write!(out, " port {port}").unwrap();
    }
    for (name, part) in [("params", uri.params), ("headers", uri.headers)] {
        if !part.is_empty() {
            write!(out, " {name} {}", shown(part)).unwrap();
        }
    }
    out
}

/// Bytes for a person: text as it is, all else escaped.
fn shown(bytes: &[u8]) -> String {
    let escape = |c: char| match c.is_control() || c == char::REPLACEMENT_CHARACTER {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    String::from_utf8_lossy(bytes).chars().map(escape).collect()
}

/// The messages of RFC 4475 §3.1.1, and that of §3.4.1.
const VALID: &str =
    "wsinv intmeth esc01 escnull esc02 lwsdisp longreq dblreq semiuri transports mpart01 unreason noreason inv2543";

#[test]
fn every_field_of_the_valid_torture_messages_is_right() {
    for name in VALID.split(' ') {
        let buf = MessageBuf::parse(load("rfc4475", &format!("{name}.dat"))).unwrap();
        assert_eq!(check(buf.as_message()), Ok(()), "{name}");
        // What a person reads in it is kept beside it.
        let expected = load("rfc4475-read", &format!("{name}.txt"));
        assert_eq!(fields(buf.as_message()), String::from_utf8(expected).unwrap(), "{name}");
    }
}
