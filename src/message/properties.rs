//! What must hold for any bytes: the bodies of the fuzz targets, run by plain tests over their corpus too.
//!
//! A property that does not hold is a panic that says which.

#[cfg(test)]
mod near;
mod relay;
mod twins;

pub use relay::relay_properties;
pub use twins::twin_properties;

use super::dialog_reference::Replaces;
use super::edit::{Editor, Response, ViaStamp, write_response};
use super::explain::{Fault, explain};
use super::framing::{Frame, Framer, FramingError};
use super::refer::Sipfrag;
use super::sdp::Description;
use super::{FieldError, Header, Index, Message, NameAddr, ParseError, StartLine, Uri, check, parse, scan};

/// For any bytes: reading does not panic, everything shown lies where it is said to lie, the index is what reading line
/// by line finds, with vector instructions and without, a stream would end the message at the same byte, and what is
/// edited or answered reads back as meant.
pub fn parse_properties(bytes: &[u8]) {
    twin_properties(bytes);
    let mut index = Index::new();
    let result = parse(bytes, &mut index);
    let message = Message::new(bytes, &index);
    reading_is_sound(message);
    let checked = check(message);
    explanation_is_sound(bytes, result.is_ok() && checked.is_ok());
    assert_eq!(
        parse(bytes, &mut index.clone()),
        result,
        "a used index gives the same result"
    );
    if let Err(ParseError { offset, kind }) = result {
        assert!(usize::from(offset) <= bytes.len(), "the error lies in the message");
        assert!((400..600).contains(&kind.status()) && !kind.reason().is_empty());
        if index.answerable() {
            answer_reads_back(message, false);
        }
        return;
    }

    lines_tile_the_head(message);
    assert_eq!(
        known_lines(message),
        naive_lines(bytes),
        "the index is what a naive reader finds"
    );
    if message.value(Header::ContentLength).is_some() {
        let frame = Framer::new().next(&bytes[..message.total_len()]);
        assert_eq!(
            frame,
            Ok(Frame::Message(message.total_len())),
            "a stream is cut where the message ends"
        );
    }
    edits_read_back(message);
    answer_reads_back(message, checked.is_ok());
}

/// For any bytes as a stream: however they are cut, the same frames come out, in bounds; and whatever a frame holds
/// that is a message has the length of its frame.
pub fn framing_properties(bytes: &[u8]) {
    let whole = frames(bytes, |_| usize::MAX);
    assert_eq!(frames(bytes, |_| 1), whole, "byte by byte");
    assert_eq!(
        frames(bytes, |at| 1 + usize::from(bytes[at % bytes.len()] % 64)),
        whole,
        "in pieces"
    );

    let mut at = 0;
    let mut index = Index::new();
    for &frame in &whole.0 {
        let (Frame::Message(length) | Frame::Ping(length) | Frame::Skip(length)) = frame else {
            panic!("an incomplete frame takes nothing");
        };
        let content = &bytes[at..at + length];
        match frame {
            Frame::Message(_) => {
                if parse(content, &mut index).is_ok() {
                    assert_eq!(
                        Message::new(content, &index).total_len(),
                        length,
                        "parser and framer agree"
                    );
                }
            }
            Frame::Ping(_) | Frame::Skip(_) => assert!(content.iter().all(|byte| matches!(byte, b'\r' | b'\n'))),
            Frame::Incomplete => {}
        }
        at += length;
    }
}

/// Reads every typed field there is, one that is missing aside, and names those that are malformed.
pub fn malformed_fields(message: Message<'_>) -> Vec<Header> {
    let mut malformed = Vec::new();
    let mut note = |result: Result<(), FieldError>| {
        if let Err(FieldError::Malformed(header)) = result {
            malformed.push(header);
        }
    };
    message.vias().for_each(|via| note(via.map(drop)));
    for header in [
        Header::Route,
        Header::RecordRoute,
        Header::Path,
        Header::Diversion,
        Header::HistoryInfo,
    ] {
        message.name_addrs(header).for_each(|value| note(value.map(drop)));
    }
    for header in [
        Header::Allow,
        Header::AllowEvents,
        Header::ContentEncoding,
        Header::ProxyRequire,
        Header::Require,
        Header::Supported,
        Header::Unsupported,
    ] {
        message.tokens(header).for_each(|token| note(token.map(drop)));
    }
    for header in [Header::WwwAuthenticate, Header::ProxyAuthenticate] {
        message.challenges(header).for_each(|one| note(one.map(drop)));
    }
    for header in [Header::Authorization, Header::ProxyAuthorization] {
        message.credentials(header).for_each(|one| note(one.map(drop)));
    }
    for header in [Header::PAssertedIdentity, Header::PPreferredIdentity] {
        note(message.identities(header).map(drop));
    }
    if !message.contact_is_star() {
        message.contacts().for_each(|contact| note(contact.map(drop)));
    }
    message.accept().for_each(|range| note(range.map(drop)));
    message.reasons().for_each(|reason| note(reason.map(drop)));
    message.warnings().for_each(|warning| note(warning.map(drop)));
    message.user_to_user().for_each(|value| note(value.map(drop)));
    note(message.authentication_info().map(drop));
    note(message.call_id().map(drop));
    note(message.content_disposition().map(drop));
    note(message.content_type().map(drop));
    note(message.cseq().map(drop));
    note(message.date().map(drop));
    note(message.event().map(drop));
    note(message.expires().map(drop));
    note(message.from().map(drop));
    note(message.max_breadth().map(drop));
    note(message.max_forwards().map(drop));
    note(message.min_expires().map(drop));
    note(message.min_se().map(drop));
    note(message.privacy().map(drop));
    note(message.rack().map(drop));
    note(message.refer_sub().map(drop));
    note(message.refer_to().map(drop));
    note(message.referred_by().map(drop));
    note(message.replaces().map(drop));
    note(message.retry_after().map(drop));
    note(message.rseq().map(drop));
    note(message.session_expires().map(drop));
    note(message.subscription_state().map(drop));
    note(message.target_dialog().map(drop));
    note(message.timestamp().map(drop));
    note(message.to().map(drop));
    malformed
}

/// An explanation shows nothing a terminal would act on, and names a reason if and only if a proxy refuses the message.
fn explanation_is_sound(bytes: &[u8], is_accepted: bool) {
    let explanation = explain(bytes);
    let text = explanation.to_string();
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    // Empty lines at the front are passed over by who explains and cut off before who parses.
    if !matches!(bytes.first(), Some(b'\r' | b'\n')) {
        let mut faults = explanation.problems.iter().map(|problem| problem.fault);
        assert_eq!(is_accepted, !faults.any(Fault::stops_relaying), "{text}");
        assert!(is_accepted || !explanation.verdict.is_good(), "{text}");
    }
}

/// Feeds a stream in pieces and takes out what is whole: the frames, and the error that ended it.
fn frames(stream: &[u8], piece: impl Fn(usize) -> usize) -> (Vec<Frame>, Option<FramingError>) {
    let mut framer = Framer::new();
    let mut frames = Vec::new();
    let (mut start, mut received) = (0, 0);
    while received < stream.len() {
        received = received.saturating_add(piece(received)).min(stream.len());
        loop {
            match framer.next(&stream[start..received]) {
                Ok(Frame::Incomplete) => break,
                Ok(frame @ (Frame::Message(length) | Frame::Ping(length) | Frame::Skip(length))) => {
                    assert!(length > 0 && start + length <= received, "a frame is of bytes received");
                    start += length;
                    frames.push(frame);
                }
                Err(error) => {
                    assert_eq!(framer.next(&stream[start..received]), Err(error), "errors are final");
                    return (frames, Some(error));
                }
            }
        }
    }
    (frames, None)
}

/// Calls everything there is to call. Slices are compared with what their spans say.
fn reading_is_sound(message: Message<'_>) {
    let bytes = message.bytes();
    assert!(message.headers_start() <= message.headers_end() && message.headers_end() <= message.total_len());
    assert!(message.total_len() <= bytes.len());
    match message.start_line() {
        StartLine::Request { token, uri, .. } => {
            assert_eq!(&bytes[message.request_uri_span()], uri);
            assert_eq!(token, message.method_token());
            assert_eq!(message.status(), None);
        }
        StartLine::Response { code, .. } => assert!(code == 0 || (100..700).contains(&code)),
    }
    uri_is_sound(message.request_uri());

    for via in message.vias().flatten() {
        let value = &bytes[via.span.range()];
        assert!(contains(value, via.sent_by) && contains(value, via.transport));
        if let Some(span) = &via.rport_span {
            assert!(bytes[span.range()][..5].eq_ignore_ascii_case(b"rport"));
        }
        if let Some(span) = &via.received_span {
            assert!(bytes[span.range()].ends_with(via.received.unwrap_or_default()));
        }
        let _ = via.received_address();
        let stamp = ViaStamp::of(&via, ([192, 0, 2, 1], 5060).into());
        stamp.apply(&via, &mut Editor::new());
    }
    for header in [Header::From, Header::To, Header::ReferTo, Header::ReferredBy] {
        if let Ok(value) = message.single_name_addr(header) {
            name_addr_is_sound(bytes, &value);
        }
    }
    for header in [
        Header::Contact,
        Header::Route,
        Header::RecordRoute,
        Header::PAssertedIdentity,
    ] {
        for value in message.name_addrs(header).flatten() {
            name_addr_is_sound(bytes, &value);
        }
    }
    if let Ok(cseq) = message.cseq() {
        let digits = &bytes[cseq.number_span.0..cseq.number_span.1];
        assert_eq!(scan::decimal_value(digits, u32::MAX >> 1), Some(cseq.number));
    }
    if let Ok(Some(rack)) = message.rack() {
        assert_eq!(
            scan::decimal_value(&bytes[rack.cseq_span.0..rack.cseq_span.1], u32::MAX),
            Some(rack.cseq)
        );
    }
    if let Ok(Some(event)) = message.event() {
        assert_eq!(event.id_span.clone().map(|span| &bytes[span]), event.id);
        let _ = event.id_number();
    }
    for header in malformed_fields(message) {
        let is_there = match header {
            Header::Other => message.lines_named("Authentication-Info").count(),
            header => message.count(header),
        };
        assert!(is_there > 0, "{header:?} is malformed and there");
    }
    let _ = (
        Sipfrag::parse(message.body()),
        Description::parse(message.body()),
        message.contact(),
        format!("{message:?}"),
    );
}

fn name_addr_is_sound(bytes: &[u8], value: &NameAddr<'_>) {
    let whole = &bytes[value.span.clone()];
    assert!(whole.ends_with(value.params) && contains(whole, value.uri) && contains(whole, value.display));
    let again = NameAddr::parse(whole).expect("a value reads the same when it stands alone");
    assert_eq!(
        (again.uri, again.tag, again.params),
        (value.uri, value.tag, value.params)
    );
    assert_eq!(value.param("tag").flatten(), value.tag);
    assert_eq!(NameAddr::tag_of(whole), value.tag, "the tag alone is the same");
    uri_is_sound(value.uri);
}

fn uri_is_sound(bytes: &[u8]) {
    if let Ok(uri) = Uri::parse(bytes) {
        assert!(uri.equals(&uri), "a URI equals itself");
        let _ = (uri.param("transport"), uri.headers().count(), Replaces::value_in(&uri));
    }
}

/// Whether `part` is a slice of `whole`, by its place; an empty one is one of everything.
fn contains(whole: &[u8], part: &[u8]) -> bool {
    let (whole, part) = (whole.as_ptr_range(), part.as_ptr_range());
    part.start == part.end || (whole.start <= part.start && part.end <= whole.end)
}

fn lines_tile_the_head(message: Message<'_>) {
    let bytes = message.bytes();
    let mut at = message.headers_start();
    for line in message.lines() {
        assert_eq!(line.line_span.start, at, "no byte between two lines");
        assert!(line.line_span.start < line.value_span.start && line.value_span.end <= line.line_span.end);
        assert!(bytes[line.line_span.clone()].starts_with(line.name) && bytes[..line.line_span.end].ends_with(b"\r\n"));
        assert_eq!(
            (&bytes[line.value_span.clone()], scan::trim(line.value)),
            (line.value, line.value)
        );
        at = line.line_span.end;
    }
    assert_eq!(at, message.headers_end());
    assert!(bytes[at..].starts_with(b"\r\n"));
    for header in [Header::Via, Header::Route, Header::Contact, Header::From, Header::Other] {
        let of_header: Vec<_> = message.lines_of(header).collect();
        let filtered: Vec<_> = message.lines().filter(|line| line.header == header).collect();
        assert_eq!(of_header, filtered, "{header:?}");
        assert_eq!(message.count(header), filtered.len());
        assert_eq!(message.value(header), filtered.first().map(|line| line.value));
    }
}

type OwnedLine = (Vec<u8>, Vec<u8>);

fn known_lines(message: Message<'_>) -> Vec<OwnedLine> {
    message
        .lines()
        .map(|line| (line.name.to_vec(), line.value.to_vec()))
        .collect()
}

/// Header names and values by the book, one step after the other.
fn naive_lines(bytes: &[u8]) -> Vec<OwnedLine> {
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a message has an empty line");
    let head = String::from_utf8(bytes[..end].iter().flat_map(|byte| byte.escape_ascii()).collect()).expect("ASCII");
    // Escaped, so that a line end is the four characters \r\n and splitting is splitting text.
    let unescape = |text: &str| {
        let mut out = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, after @ ..] = rest {
            (out, rest) = match (first, after) {
                (b'\\', [b'x', high, low, after @ ..]) => {
                    let digit = |byte: u8| char::from(byte).to_digit(16).expect("written by escape_ascii") as u8;
                    ([out, vec![digit(*high) << 4 | digit(*low)]].concat(), after)
                }
                (b'\\', [b't', after @ ..]) => ([out, vec![b'\t']].concat(), after),
                (b'\\', [b'r', after @ ..]) => ([out, vec![b'\r']].concat(), after),
                (b'\\', [b'n', after @ ..]) => ([out, vec![b'\n']].concat(), after),
                (b'\\', [other, after @ ..]) => ([out, vec![*other]].concat(), after),
                (other, after) => ([out, vec![*other]].concat(), after),
            };
        }
        out
    };
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in head.split("\\r\\n").skip(1) {
        let line = unescape(line);
        if matches!(line.first(), Some(b' ' | b'\t')) {
            let last = lines.last_mut().expect("the first header line is no continuation");
            last.extend_from_slice(b"\r\n");
            last.extend_from_slice(&line);
        } else {
            lines.push(line);
        }
    }
    let split = |line: Vec<u8>| {
        let colon = line
            .iter()
            .position(|&byte| byte == b':')
            .expect("a header line has a colon");
        (
            line[..colon].trim_ascii_end().to_vec(),
            scan::trim(&line[colon + 1..]).to_vec(),
        )
    };
    lines.into_iter().map(split).collect()
}

/// The changes a proxy makes, all at once, and then the message read again.
fn edits_read_back(message: Message<'_>) {
    let mut editor = Editor::new();
    let mut out = Vec::new();
    editor.write(message, &mut out);
    assert_eq!(out, &message.bytes()[..message.total_len()], "no splice, no change");

    // Two lines and some bytes are added; a quoted pair in a value that is cut may lose its quotes.
    let head = &message.bytes()[message.headers_start()..message.headers_end()];
    let has_quoted_controls = head
        .iter()
        .any(|&byte| byte == 0x7f || (byte < 0x20 && !scan::is_lws(byte)));
    if message.lines().count() + 2 > super::parse::HEADER_LINES_MAX || out.len() > 60_000 || has_quoted_controls {
        return;
    }
    const VIA: &[u8] = b"SIP/2.0/UDP proxy.example;branch=z9hG4bKproxy";
    editor.insert(message.headers_start(), &[b"Via: ", VIA, b"\r\n"]);
    editor.insert(message.headers_end(), &[b"X-Last: 1\r\n"]);
    let forwards = message.lines_of(Header::MaxForwards).next();
    if let Some(line) = &forwards {
        editor.replace(line.value_span.clone(), &[b"69"]);
    }
    editor.remove_first_values(message, Header::Route, 1);
    if message.is_request() {
        editor.replace(message.request_uri_span(), &[b"sip:new@target.example"]);
    }
    out.clear();
    editor.write(message, &mut out);

    let mut index = Index::new();
    assert_eq!(parse(&out, &mut index), Ok(()), "an edited message is one");
    let edited = Message::new(&out, &index);
    assert_eq!(edited.lines().next().map(|line| line.value), Some(VIA));
    assert_eq!(edited.lines().last().map(|line| line.name), Some(&b"X-Last"[..]));
    assert_eq!(
        edited.max_forwards().is_ok_and(|hops| hops == Some(69)),
        forwards.is_some()
    );
    assert_eq!(edited.body(), message.body());
    assert_eq!(values(edited, Header::Via)[1..], values(message, Header::Via));
    assert_eq!(
        values(edited, Header::Route),
        values(message, Header::Route).into_iter().skip(1).collect::<Vec<_>>()
    );
    if message.is_request() {
        assert_eq!(edited.request_uri(), b"sip:new@target.example");
    }
    let untouched = |line: &super::HeaderLine<'_>| {
        !matches!(line.header, Header::Via | Header::Route | Header::MaxForwards) && line.name != b"X-Last"
    };
    let before: Vec<_> = message
        .lines()
        .filter(untouched)
        .map(|line| (line.name, line.value))
        .collect();
    let after: Vec<_> = edited
        .lines()
        .filter(untouched)
        .map(|line| (line.name, line.value))
        .collect();
    assert_eq!(before, after, "what was not touched is as it was");
}

fn values(message: Message<'_>, header: Header) -> Vec<&[u8]> {
    let mut values = Vec::new();
    for line in message.lines_of(header) {
        let mut rest = Some(line.value);
        while let Some(list) = rest {
            let (value, after) = scan::split_list(list);
            values.push(value);
            rest = after;
        }
    }
    values
}

/// A response to it is a response, and copies what it has to.
fn answer_reads_back(request: Message<'_>, well_formed: bool) {
    if !request.is_request() || request.bytes().len() > 60_000 || relay::has_full_via(request) {
        return;
    }
    let stamp = match request.top_via() {
        Ok(via) => ViaStamp::of(&via, ([192, 0, 2, 200], 40_000).into()),
        Err(_) => ViaStamp::default(),
    };
    let response = Response {
        code: 486,
        reason: "Busy Here",
        to_tag: Some(b"our-tag"),
        copy_record_route: true,
        extra: &[("Retry-After", b"5")],
        content_type: Some("text/plain"),
        body: b"busy",
    };
    let mut out = Vec::new();
    write_response(request, stamp, &response, &mut out);
    let mut index = Index::new();
    let read = parse(&out, &mut index);
    if well_formed {
        assert_eq!(read, Ok(()), "an answer to a good request is good");
        let answer = Message::new(&out, &index);
        assert_eq!(
            (answer.status(), answer.body(), answer.total_len()),
            (Some(486), &b"busy"[..], out.len())
        );
        assert_eq!(answer.count(Header::Via), request.count(Header::Via));
        assert_eq!(
            (answer.call_id(), answer.value(Header::CSeq)),
            (request.call_id(), request.value(Header::CSeq))
        );
        assert_eq!(answer.from().map(|from| from.uri), request.from().map(|from| from.uri));
        let tag = request.to().expect("checked").tag;
        assert_eq!(
            answer.to().expect("as good as the request's").tag,
            Some(tag.unwrap_or(b"our-tag"))
        );
        let via = answer.top_via().expect("as good as the request's");
        assert_eq!(via.received_address(), stamp.received);
        assert_eq!(via.rport.flatten(), stamp.rport);
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index as Choice, select};

    use super::*;

    pub(super) fn files(folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
            .into_iter()
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect()
    }

    pub(super) fn torture() -> Vec<(PathBuf, Vec<u8>)> {
        ["rfc4475", "rfc5118", "transfer"]
            .iter()
            .flat_map(|name| files(&format!("tests/torture/{name}")))
            .collect()
    }

    #[test]
    fn the_properties_hold_for_the_fuzz_corpus_and_the_torture_messages() {
        let datagrams = ["parse", "twins", "relay", "differential"];
        let datagrams = datagrams
            .iter()
            .flat_map(|target| files(&format!("fuzz/corpus/{target}")));
        for (path, bytes) in datagrams.chain(torture()) {
            println!("{}", path.display());
            parse_properties(&bytes);
        }
        for (path, bytes) in files("fuzz/corpus/framing").into_iter().chain(torture()) {
            println!("{}", path.display());
            framing_properties(&bytes);
        }
    }

    /// A message with some of its bytes changed: close to good ones is where readers go wrong.
    fn mutated() -> impl Strategy<Value = Vec<u8>> {
        let seeds: Vec<_> = torture().into_iter().map(|(_, bytes)| bytes).collect();
        let token: &[&[u8]] = &[
            b"\r\n",
            b"\n",
            b"\r",
            b" ",
            b"\r\n ",
            b"\t",
            b":",
            b",",
            b";",
            b"=",
            b"<",
            b">",
            b"\"",
            b"\\",
            b"\0",
            b"/",
            b"@",
            b"?",
            b"[",
            b"]",
            b"l: 3\r\n",
            b"v",
            b"SIP/2.0",
            b"\x7f",
            b"\xff",
            b"0",
            b"99999999999",
            b"\r\n\r\n",
            b"Route: <sip:a>,",
            b";tag=1",
            b"Via: ",
            b"%00",
            b"::",
        ];
        let change = (any::<Choice>(), 0..4usize, select(token));
        (select(seeds), vec(change, 0..6)).prop_map(|(mut bytes, changes)| {
            for (place, removed, inserted) in changes {
                let at = place.index(bytes.len() + 1);
                let end = (at + removed).min(bytes.len());
                bytes.splice(at..end, inserted.iter().copied());
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn the_properties_hold_for_any_bytes(bytes in vec(any::<u8>(), 0..400)) {
            parse_properties(&bytes);
            framing_properties(&bytes);
        }

        #[test]
        fn the_properties_hold_for_messages_with_some_bytes_changed(bytes in mutated()) {
            parse_properties(&bytes);
            framing_properties(&bytes);
        }

        #[test]
        fn streams_of_messages_and_noise_give_the_same_frames_however_cut(
            pieces in vec(prop_oneof![mutated(), Just(b"\r\n".to_vec()), Just(b"\r\n\r\n".to_vec())], 1..6),
        ) {
            framing_properties(&pieces.concat());
        }

        #[test]
        fn a_list_is_read_the_same_in_any_layout(
            hosts in vec("[a-z]{1,8}", 1..8),
            layout in vec((any::<bool>(), select(&[" ", "  ", "\t", "\r\n ", " \r\n\t "][..])), 8),
        ) {
            let mut text = "OPTIONS sip:b SIP/2.0\r\nv: SIP/2.0/UDP a\r\nf: <sip:a>\r\nt: <sip:b>\r\ni: c\r\n\
                CSeq: 1 OPTIONS".to_owned();
            for (position, (host, (new_line, space))) in hosts.iter().zip(&layout).enumerate() {
                text += if *new_line || position == 0 { "\r\nRoute:" } else { "," };
                text += &format!("{space}\"q, \\\"{host}\"{space}<sip:{host};lr;p=1,2>{space};");
                text += &format!("{space}x{space}={space}\"a,b\"");
            }
            text += "\r\n\r\n";
            let buf = super::super::MessageBuf::parse(text.clone()).unwrap();
            let read: Vec<_> = buf
                .as_message()
                .name_addrs(Header::Route)
                .map(|route| {
                    let route = route.unwrap();
                    assert_eq!(route.param("x"), Some(Some(&b"\"a,b\""[..])));
                    String::from_utf8(route.uri.to_vec()).unwrap()
                })
                .collect();
            let expected: Vec<_> = hosts.iter().map(|host| format!("sip:{host};lr;p=1,2")).collect();
            prop_assert_eq!(read, expected);
            parse_properties(text.as_bytes());
        }
    }
}
