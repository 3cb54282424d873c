//! A message on its whole way through a proxy: cut from a stream, read, checked, changed, written and read again.

use super::{malformed_fields, values};
use crate::message::edit::{Editor, ViaStamp, decimal};
use crate::message::field::PARAMS_MAX;
use crate::message::framing::{Frame, Framer};
use crate::message::parse::HEADER_LINES_MAX;
use crate::message::{Header, HeaderLine, Index, Message, Via, check, parse};

const VIA: &[u8] = b"SIP/2.0/UDP 203.0.113.5:5060;branch=z9hG4bK7c0001f2a3b4;rport";
const RECORD_ROUTE: &[u8] = b"<sip:203.0.113.5:5060;lr;r=7c0001f2a3b4>";

/// Room for what a proxy adds: a message this close to the largest may become too large.
const ADDED_MAX: usize = 400;

/// For any bytes as a stream: every message in it can be read, and one that passes [`check()`], relayed as RFC 3261 §16.6
/// and §16.7 say, is a good message again that differs only in what a proxy owns: its Via on top, `received` and
/// `rport` in the Via below, Max-Forwards, the first Route, its Record-Route; in a response the top Via.
pub fn relay_properties(stream: &[u8]) {
    let mut framer = Framer::new();
    let mut index = Index::new();
    let mut rest = stream;
    while let Ok(Frame::Message(length) | Frame::Ping(length) | Frame::Skip(length)) = framer.next(rest) {
        let (frame, after) = rest.split_at(length);
        rest = after;
        relay_one(frame, &mut index);
    }
    // What is left is no message of a stream, but may be a datagram: one needs no Content-Length.
    relay_one(rest, &mut index);
}

fn relay_one(bytes: &[u8], index: &mut Index) {
    let parsed = parse(bytes, index);
    let message = Message::new(bytes, index);
    let malformed = malformed_fields(message);
    if parsed.is_err() || check(message).is_err() {
        return;
    }
    for header in [Header::Via, Header::From, Header::To, Header::CallId, Header::CSeq] {
        let of_no_concern = match header {
            // Only the top Via is a proxy's, and of a response nothing else.
            Header::Via => message.vias().next().is_some_and(|via| via.is_ok()),
            _ => !message.is_request(),
        };
        assert!(of_no_concern || !malformed.contains(&header), "{header:?} was checked");
    }
    if message.lines().count() + 3 > HEADER_LINES_MAX || message.total_len() + ADDED_MAX > u16::MAX.into() {
        return;
    }
    // A control byte is allowed behind a backslash in quotes. The values before it may go, and with them the quote
    // that was its own: such a line is no proxy's to cut.
    let has_odd_bytes = bytes[..message.headers_end()]
        .iter()
        .any(|&byte| byte == 0x7f || (byte < b' ' && !matches!(byte, b'\t' | b'\r' | b'\n')));
    if has_odd_bytes || has_full_via(message) {
        return;
    }
    let mut out = Vec::new();
    let mut relayed_index = Index::new();
    let via = message.top_via().expect("checked");
    if message.is_request() {
        let stamp = ViaStamp::of(&via, ([198, 51, 100, 20], 5070).into());
        relay_request(message, &via, stamp, &mut out);
        assert_eq!(parse(&out, &mut relayed_index), Ok(()), "a relayed request is one");
        let relayed = Message::new(&out, &relayed_index);
        assert_eq!(check(relayed), Ok(()), "what passed passes relayed");
        request_is_relayed(message, relayed, &via, stamp);
    } else if message.vias().nth(1).is_some() {
        let mut editor = Editor::new();
        editor.remove_first_values(message, Header::Via, 1);
        editor.write(message, &mut out);
        assert_eq!(parse(&out, &mut relayed_index), Ok(()), "a relayed response is one");
        let relayed = Message::new(&out, &relayed_index);
        assert_eq!(values(relayed, Header::Via), values(message, Header::Via)[1..]);
        rest_is_the_same(message, relayed, &[Header::Via]);
    }
}

/// Whether the top Via may have no room for the two parameters of a stamp among those that are read.
pub(super) fn has_full_via(message: Message<'_>) -> bool {
    let via = message.value(Header::Via).unwrap_or_default();
    memchr::memchr_iter(b';', via).count() + 2 > PARAMS_MAX
}

/// As `benches/parse/view.rs` and the proxy do.
fn relay_request(message: Message<'_>, via: &Via<'_>, stamp: ViaStamp, out: &mut Vec<u8>) {
    let mut editor = Editor::new();
    let top = message.headers_start();
    editor.insert(top, &[b"Via: ", VIA, b"\r\n"]);
    editor.insert(top, &[b"Record-Route: ", RECORD_ROUTE, b"\r\n"]);
    stamp.apply(via, &mut editor);
    match message.lines_of(Header::MaxForwards).next() {
        Some(line) => {
            let left = hops_left(message);
            editor.replace(line.value_span, &[decimal(left.into()).as_bytes()]);
        }
        None => editor.insert(top, &[b"Max-Forwards: 70\r\n"]),
    }
    editor.remove_first_values(message, Header::Route, 1);
    editor.write(message, out);
}

fn hops_left(message: Message<'_>) -> u8 {
    let hops = message.max_forwards().expect("checked");
    hops.map_or(70, |hops| hops.saturating_sub(1))
}

fn request_is_relayed(message: Message<'_>, relayed: Message<'_>, via: &Via<'_>, stamp: ViaStamp) {
    assert_eq!(relayed.start_line(), message.start_line());
    assert_eq!(relayed.max_forwards(), Ok(Some(hops_left(message))));

    let (vias, before) = (values(relayed, Header::Via), values(message, Header::Via));
    assert_eq!((vias[0], &vias[2..]), (VIA, &before[1..]), "the Vias of others");
    let stamped = relayed
        .vias()
        .nth(1)
        .expect("one was added")
        .expect("as good as it was");
    assert_eq!(
        (
            stamped.transport,
            stamped.sent_by,
            stamped.branch,
            stamped.maddr,
            stamped.ttl
        ),
        (via.transport, via.sent_by, via.branch, via.maddr, via.ttl)
    );
    assert_eq!(stamped.rport.flatten(), stamp.rport);
    assert_eq!(stamped.rport.is_some(), via.rport.is_some());
    match stamp.received {
        Some(address) => assert_eq!(stamped.received_address(), Some(address)),
        None => assert_eq!(vias[1], before[0], "nothing to write, nothing written"),
    }

    assert_eq!(
        values(relayed, Header::Route),
        values(message, Header::Route).get(1..).unwrap_or_default(),
        "the first Route is gone"
    );
    let record_routes = values(relayed, Header::RecordRoute);
    assert_eq!(record_routes[0], RECORD_ROUTE);
    assert_eq!(record_routes[1..], values(message, Header::RecordRoute));
    let owned = [Header::Via, Header::Route, Header::RecordRoute, Header::MaxForwards];
    rest_is_the_same(message, relayed, &owned);
}

/// All lines of other headers are there as they were, byte for byte and in their order, and so is the body.
fn rest_is_the_same(message: Message<'_>, relayed: Message<'_>, owned: &[Header]) {
    let others = |of: Message<'_>| -> Vec<Vec<u8>> {
        let is_other = |line: &HeaderLine<'_>| !owned.contains(&line.header);
        let lines = of.lines().filter(is_other);
        lines.map(|line| of.bytes()[line.line_span].to_vec()).collect()
    };
    assert_eq!(others(relayed), others(message));
    assert_eq!(relayed.body(), message.body());
    assert_eq!(
        relayed.total_len(),
        relayed.bytes().len(),
        "nothing follows what was relayed"
    );
}
