//! Which part of a body is the session description (RFC 3261 §7.4, §8.2.3, §20.11).

use crate::message::media::MediaType;
use crate::message::{Header, Message};

/// What a body says of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session<'a> {
    /// There is no body, or one that may be passed over.
    None,
    Description(&'a [u8]),
    /// A body of another type, which must be understood.
    Unknown,
    /// A body in an encoding that is not known.
    Encoded,
}

/// The session description of a message: its body, or the first such part of a body with several (RFC 5621 §3).
pub fn session(message: Message<'_>) -> Session<'_> {
    let body = message.body();
    if body.is_empty() {
        return Session::None;
    }
    let encoding = message.value(Header::ContentEncoding);
    if encoding.is_some_and(|encoding| !encoding.trim_ascii().eq_ignore_ascii_case(b"identity")) {
        return Session::Encoded;
    }
    let is_optional = matches!(message.content_disposition(), Ok(Some(disposition)) if disposition.optional);
    let media = message.content_type().ok().flatten();
    match media {
        Some(media) if media.is("application/sdp") => Session::Description(body),
        Some(media) if media.kind.eq_ignore_ascii_case(b"multipart") => match part_of(body, &media) {
            Some(description) => Session::Description(description),
            None if is_optional => Session::None,
            None => Session::Unknown,
        },
        _ if is_optional => Session::None,
        _ => Session::Unknown,
    }
}

/// The first part of a multipart body (RFC 2046 §5.1) that is a session description.
fn part_of<'a>(body: &'a [u8], media: &MediaType<'_>) -> Option<&'a [u8]> {
    let boundary = boundary_of(media)?;
    let delimiter = [b"--", &boundary[..]].concat();
    let finder = memchr::memmem::Finder::new(&delimiter);
    let mut starts = finder.find_iter(body).filter(|at| *at == 0 || body[at - 1] == b'\n');
    let mut start = starts.next()?;
    for next in starts.take(PARTS_MAX) {
        // The line end before a delimiter belongs to it.
        let part = &body[start + delimiter.len()..next];
        let part = part.strip_suffix(b"\n").unwrap_or(part);
        let part = part.strip_suffix(b"\r").unwrap_or(part);
        if let Some(description) = description_of(part) {
            return Some(description);
        }
        start = next;
    }
    None
}

/// RFC 2046 §5.1.1: at most 70 characters.
fn boundary_of(media: &MediaType<'_>) -> Option<Vec<u8>> {
    let value = media.params.text("boundary")??.decoded();
    (1..=70).contains(&value.len()).then(|| value.into_owned())
}

/// The content of a part that says it is a session description. It begins behind the rest of the delimiter's line.
fn description_of(part: &[u8]) -> Option<&[u8]> {
    let mut rest = &part[memchr::memchr(b'\n', part)? + 1..];
    let mut is_description = false;
    loop {
        let end = memchr::memchr(b'\n', rest)?;
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        rest = &rest[end + 1..];
        if line.is_empty() {
            return is_description.then_some(rest);
        }
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        if line[..colon].trim_ascii().eq_ignore_ascii_case(b"Content-Type") {
            let media = MediaType::parse(line[colon + 1..].trim_ascii());
            is_description = media.is_some_and(|media| media.is("application/sdp"));
        }
    }
}

/// Parts that are looked at; those of carriers have two.
const PARTS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageBuf;

    fn message(lines: &str, body: &str) -> MessageBuf {
        MessageBuf::parse(format!(
            "INVITE sip:b@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\n\
             Call-ID: c\r\nCSeq: 1 INVITE\r\n{lines}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .unwrap()
    }

    #[test]
    fn the_description_is_found_where_it_may_stand() {
        let parts = "--x y\r\nContent-Type: application/isup;version=itu-t92+\r\n\r\n\x01\x02\r\n--x y\r\n\
            content-type: Application/SDP\r\nContent-Disposition: session\r\n\r\nv=0\r\no=-\r\n--x y--\r\n";
        let mixed = "Content-Type: multipart/mixed;boundary=\"x y\"\r\n";
        for (lines, body, expected) in [
            ("", "", Session::None),
            ("c: application/sdp\r\n", "v=0\r\n", Session::Description(b"v=0\r\n")),
            (
                "c: application/sdp\r\ne: identity\r\n",
                "v=0\r\n",
                Session::Description(b"v=0\r\n"),
            ),
            ("c: application/sdp\r\ne: gzip\r\n", "v=0\r\n", Session::Encoded),
            ("c: text/plain\r\n", "hi", Session::Unknown),
            ("", "hi", Session::Unknown),
            (
                "c: text/plain\r\nContent-Disposition: icon;handling=optional\r\n",
                "hi",
                Session::None,
            ),
            (mixed, parts, Session::Description(b"v=0\r\no=-")),
            (mixed, &parts.replace("SDP", "SDQ"), Session::Unknown),
            (mixed, &parts.replace("--x y", "--z"), Session::Unknown),
            ("c: multipart/mixed\r\n", parts, Session::Unknown),
        ] {
            assert_eq!(session(message(lines, body).as_message()), expected, "{lines}{body}");
        }
    }
}
