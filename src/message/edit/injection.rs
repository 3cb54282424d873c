//! Whatever bytes come in as a value, what comes out is an error or a message with exactly the lines that were meant.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::{Message, MessageBuf, check};
use super::*;

const REQUEST: &str = "OPTIONS sip:b@b.example SIP/2.0\r\n\
    Via: SIP/2.0/UDP a.example;branch=z9hG4bK1;rport\r\n\
    From: <sip:a@a.example>;tag=1\r\n\
    To: <sip:b@b.example>\r\n\
    Call-ID: x@a.example\r\n\
    CSeq: 7 OPTIONS\r\n\
    Content-Length: 0\r\n\r\n";

/// Bytes of which many end lines, begin headers, or look as if they did.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&[u8]> = vec![
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n ",
        b"\n\t",
        b"\r\n\r\n",
        b"\0",
        b"\x01",
        b"\x7f",
        b"\x0b",
        b"\x85",
        b"Via: SIP/2.0/UDP x",
        b"l: 5",
        b": ",
        b"\"",
        b"\\",
        b"<sip:x>",
        b"%0d%0a",
        b" ",
        b"\t",
        b"a",
        b"SIP/2.0",
        b"\xe2\x80\xa8",
        b";tag=9",
        b",",
    ];
    let piece = prop_oneof![4 => select(pieces).prop_map(<[u8]>::to_vec), 1 => vec(any::<u8>(), 0..4)];
    vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// The lines of a message, names and values, without what RFC 3261 §7.3.1 says means nothing: folds and outer white space.
fn lines(message: Message<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    message
        .lines()
        .map(|line| (line.name.to_vec(), unfolded(line.value).concat()))
        .collect()
}

fn trimmed(value: &[u8]) -> Vec<u8> {
    scan::trim(value).to_vec()
}

proptest! {
    #[test]
    fn a_request_has_the_lines_it_was_given_or_is_an_error(
        method in prop_oneof![3 => Just(b"REFER".to_vec()), 1 => hostile()],
        uri in prop_oneof![3 => Just(b"sip:b@b.example".to_vec()), 1 => hostile()],
        name in prop_oneof![3 => Just(b"X-Note".to_vec()), 1 => hostile()],
        value in hostile(),
        display in hostile(),
        content_type in prop_oneof![Just(b"text/plain".to_vec()), hostile()],
        body in hostile(),
    ) {
        let (Ok(method), Ok(name)) = (String::from_utf8(method), String::from_utf8(name)) else { return Ok(()) };
        let Ok(content_type) = String::from_utf8(content_type) else { return Ok(()) };
        let mut out = b"before".to_vec();
        let mut writer = RequestWriter::new(&mut out, &method, &uri);
        writer
            .header("Via", &[b"SIP/2.0/UDP a.example;branch=z9hG4bK1"])
            .header("From", &[b"<sip:a@a.example>;tag=1"])
            .header("To", &[b"<sip:b@b.example>"])
            .header("Call-ID", &[b"x@a.example"])
            .header("CSeq", &[b"7 ", method.as_bytes()])
            .header("Subject", &[b"<", &display, b">"])
            .header(&name, &[&value]);
        let Ok(span) = writer.finish(Some(&content_type), &body) else {
            prop_assert_eq!(out, b"before");
            return Ok(());
        };
        let mut meant: Vec<(Vec<u8>, Vec<u8>)> = vec![
            (b"Via".to_vec(), b"SIP/2.0/UDP a.example;branch=z9hG4bK1".to_vec()),
            (b"From".to_vec(), b"<sip:a@a.example>;tag=1".to_vec()),
            (b"To".to_vec(), b"<sip:b@b.example>".to_vec()),
            (b"Call-ID".to_vec(), b"x@a.example".to_vec()),
            (b"CSeq".to_vec(), [b"7 ", method.as_bytes()].concat()),
            (b"Subject".to_vec(), [b"<", &display[..], b">"].concat()),
            (name.into_bytes(), trimmed(&value)),
        ];
        if !body.is_empty() {
            meant.push((b"Content-Type".to_vec(), trimmed(content_type.as_bytes())));
        }
        meant.push((b"Content-Length".to_vec(), body.len().to_string().into_bytes()));
        let read = MessageBuf::parse(out[span].to_vec());
        // A method that is CSeq's too, a header that may stand once: what a name means is for those who choose names.
        let Ok(read) = read else {
            prop_assert!(meant[6].0 != b"X-Note", "{:?}: {}", read, out.escape_ascii());
            return Ok(());
        };
        let message = read.as_message();
        prop_assert_eq!((message.method_token(), message.request_uri()), (method.as_bytes(), &uri[..]));
        prop_assert_eq!(lines(message), meant);
        prop_assert_eq!(message.body(), &body[..]);
    }

    #[test]
    fn a_response_has_the_lines_it_was_given_or_fewer(
        reason in hostile(),
        name in prop_oneof![3 => Just(b"X-Note".to_vec()), 1 => hostile()],
        value in hostile(),
        content_type in prop_oneof![Just(b"text/plain".to_vec()), hostile()],
        body in hostile(),
    ) {
        let (Ok(reason), Ok(name)) = (String::from_utf8(reason), String::from_utf8(name)) else { return Ok(()) };
        let Ok(content_type) = String::from_utf8(content_type) else { return Ok(()) };
        let request = MessageBuf::parse(REQUEST).unwrap();
        let response = Response {
            code: 486,
            reason: &reason,
            to_tag: Some(b"ours"),
            copy_record_route: true,
            extra: &[(&name, &value), ("Retry-After", b"5")],
            content_type: Some(&content_type),
            body: &body,
        };
        let mut out = Vec::new();
        write_response(request.as_message(), ViaStamp::default(), &response, &mut out);
        let read = MessageBuf::parse(out.clone());
        let Ok(read) = read else {
            prop_assert!(name != "X-Note", "{:?}: {}", read, out.escape_ascii());
            return Ok(());
        };
        let message = read.as_message();
        prop_assert_eq!((message.status(), message.body()), (Some(486), &body[..]));
        let found = lines(message);
        let is_copied = |name: &[u8]| [&b"Via"[..], b"From", b"To", b"Call-ID", b"CSeq"].contains(&name);
        prop_assert!(found[..5].iter().all(|(name, _)| is_copied(name)));
        let mut further = found[5..].iter();
        let note = (name.into_bytes(), trimmed(&unfolded(&value).concat()));
        let mut next = further.next();
        if next == Some(&note) {
            next = further.next();
        } else {
            let refused = unfolded(&value).iter().any(|part| part.iter().any(is_control)) || !scan::is_token(&note.0);
            prop_assert!(refused, "a line is only left out for what is in it");
        }
        prop_assert_eq!(next, Some(&(b"Retry-After".to_vec(), b"5".to_vec())));
        let mut next = further.next();
        if next.is_some_and(|(name, _)| name == b"Content-Type") {
            next = further.next();
        }
        prop_assert_eq!(next, Some(&(b"Content-Length".to_vec(), body.len().to_string().into_bytes())));
        prop_assert_eq!(further.next(), None);
    }

    #[test]
    fn what_was_received_can_always_be_copied(display in hostile()) {
        let (before, after) = REQUEST.as_bytes().split_at(REQUEST.find("<sip:a@").unwrap());
        let text = [before, b"\"", &display, b"\" ", after].concat();
        let Ok(received) = MessageBuf::parse(text) else { return Ok(()) };
        let received = received.as_message();
        // Folds apart, a parsed line holds no CR and no LF: it always fits into one of ours.
        let mut out = Vec::new();
        let mut writer = RequestWriter::new(&mut out, "BYE", b"sip:b@b.example");
        for (header, name) in [(Header::Via, "Via"), (Header::From, "From"), (Header::To, "To"), (Header::CallId, "Call-ID")] {
            writer.copied(name, received.value(header).unwrap_or_default());
        }
        writer.header("CSeq", &[b"8 BYE"]);
        let span = writer.finish(None, b"");
        let written = MessageBuf::parse(out[span.unwrap()].to_vec()).unwrap();
        prop_assert_eq!(written.as_message().lines().count(), 6);
        if check(received).is_ok() {
            let (from, copied) = (received.from().unwrap(), written.as_message().from().unwrap());
            prop_assert_eq!((from.uri, from.tag), (copied.uri, copied.tag));
        }
    }
}

#[test]
fn a_quoted_control_byte_is_copied_but_not_written_anew() {
    let mut out = Vec::new();
    let mut writer = RequestWriter::new(&mut out, "BYE", b"sip:b");
    writer.copied("From", b"\"\\\0\"\r\n <sip:a>");
    assert!(writer.finish(None, b"").is_ok());
    assert!(out.windows(18).any(|part| part == b"From: \"\\\0\" <sip:a>"));
    for control in (0..0x20u8).chain([0x7f]).filter(|byte| *byte != b'\t') {
        let mut out = Vec::new();
        let mut writer = RequestWriter::new(&mut out, "BYE", b"sip:b");
        writer.header("X", &[b"\"\\", &[control], b"\""]);
        assert_eq!(writer.finish(None, b""), Err(Injection { line: 1 }));
    }
}
