//! What [`super::parse()`] leaves to the reader of a field, checked at once: all the grammar a proxy depends on.

use super::field::{FieldError, Via};
use super::header::{Header, Method};
use super::parse::{HEADER_LINES_MAX, MESSAGE_BYTES_MAX, ParseErrorKind};
use super::uri::{self, Scheme, Uri};
use super::{Message, StartLine};

/// The magic cookie that begins the branches of RFC 3261 (§8.1.1.7).
const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

/// A proxy takes its own Routes off and goes to the next one; those behind it are another's to read.
const ROUTES_USED_MAX: usize = 8;
/// The most bytes of a request that is relayed: with what a hop puts in, it still fits into a datagram.
pub const RELAYED_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 2_048;
/// The most header lines of a request that is relayed: with those a hop puts in (a Via, two Record-Routes, Routes,
/// Max-Forwards and Content-Length) it can still be read again, to write its ACK or CANCEL.
pub const RELAYED_LINES_MAX: usize = HEADER_LINES_MAX - 8;

/// Checks the fields a proxy routes and matches by (RFC 3261 §16.3, step 1): for a request the Request-URI, the top
/// Via, From, To, Call-ID, Max-Forwards, Route, and that `Contact: *` stays in REGISTER; for a response the top Via.
/// Fields it does not need may be malformed and pass (a bad Date, RFC 4475 §3.1.2.12).
///
/// The Request-URI's scheme is none of its business: an unknown one is a 416, not a 400.
///
/// ```
/// use referee::message::{Header, MessageBuf, ParseErrorKind, check};
///
/// let text = "BYE sip:b@b SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>;tag=2\r\n\
///     Call-ID: c\r\nCSeq: 2 BYE\r\nDate: yesterday\r\n\r\n";
/// assert_eq!(check(MessageBuf::parse(text)?.as_message()), Ok(()));
/// let broken = MessageBuf::parse(text.replace("UDP a", "UDP"))?;
/// assert_eq!(check(broken.as_message()), Err(ParseErrorKind::Malformed(Header::Via)));
/// # Ok::<(), referee::message::ParseError>(())
/// ```
pub fn check(message: Message<'_>) -> Result<(), ParseErrorKind> {
    checked_via(message).map(|_| ())
}

/// [`check()`], and the top Via it has read: the longest field there is to read.
pub fn checked_via(message: Message<'_>) -> Result<Via<'_>, ParseErrorKind> {
    let via = message.top_via().map_err(kind_of)?;
    let StartLine::Request { method, uri, .. } = message.start_line() else {
        return Ok(via);
    };
    if via
        .branch
        .is_some_and(|branch| branch.eq_ignore_ascii_case(MAGIC_COOKIE))
    {
        return Err(ParseErrorKind::Branch);
    }
    check_request_uri(uri)?;
    message.from().map_err(kind_of)?;
    message.to().map_err(kind_of)?;
    message.call_id().map_err(kind_of)?;
    message.max_forwards().map_err(kind_of)?;
    for (position, route) in message.name_addrs(Header::Route).enumerate() {
        let route = route.map_err(kind_of)?;
        if position >= ROUTES_USED_MAX {
            continue;
        }
        match Uri::parse(route.uri) {
            Ok(uri) if !uri::has_repeated_param(&uri) => {}
            Ok(_) | Err(_) => return Err(ParseErrorKind::Malformed(Header::Route)),
        }
    }
    if method != Method::Register && message.has_contact_star() {
        return Err(ParseErrorKind::ContactStar);
    }
    Ok(via)
}

fn check_request_uri(bytes: &[u8]) -> Result<(), ParseErrorKind> {
    let uri = Uri::parse(bytes).map_err(|_| ParseErrorKind::RequestUri)?;
    match uri.scheme {
        // RFC 3261 §19.1.1: no headers part here; escaped headers must not become real ones (RFC 4475 §3.1.2.11).
        Scheme::Sip | Scheme::Sips if !uri.headers.is_empty() || uri::has_repeated_param(&uri) => {
            Err(ParseErrorKind::RequestUri)
        }
        Scheme::Sip | Scheme::Sips | Scheme::Tel | Scheme::Other(_) => Ok(()),
    }
}

fn kind_of(error: FieldError) -> ParseErrorKind {
    match error {
        FieldError::Missing(header) => ParseErrorKind::Missing(header),
        FieldError::Malformed(header) => ParseErrorKind::Malformed(header),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Index, parse};
    use super::*;

    fn outcome(changes: &[(&str, &str)]) -> Result<(), ParseErrorKind> {
        let mut text = "INVITE sip:b@b.example SIP/2.0\r\n\
            Via: SIP/2.0/UDP a.example;branch=z9hG4bK1\r\n\
            From: <sip:a@a.example>;tag=1\r\n\
            To: <sip:b@b.example>\r\n\
            Call-ID: x@a.example\r\n\
            CSeq: 1 INVITE\r\n\
            Max-Forwards: 70\r\n\
            Contact: <sip:a@192.0.2.1>\r\n\r\n"
            .to_owned();
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        let mut index = Index::new();
        parse(text.as_bytes(), &mut index).map_err(|error| error.kind)?;
        check(Message::new(text.as_bytes(), &index))
    }

    #[test]
    fn what_a_proxy_depends_on_is_checked() {
        use ParseErrorKind::*;
        let uri = "sip:b@b.example SIP";
        let cases = [
            (&[][..], Ok(())),
            (&[(uri, "tel:+4930123456 SIP")], Ok(())),
            (&[(uri, "unknown:anything SIP")], Ok(())),
            (&[(uri, "sip:b@[2001:db8::1]:5060;lr SIP")], Ok(())),
            (&[(uri, "<sip:b@b.example> SIP")], Err(RequestUri)),
            (&[(uri, "sip:b@b.example?Route=x SIP")], Err(RequestUri)),
            (&[(uri, "sip:b@2001:db8::1 SIP")], Err(RequestUri)),
            (&[(uri, "sip:@b.example SIP")], Err(RequestUri)),
            (&[(uri, "sip:b@b.example:70000 SIP")], Err(RequestUri)),
            (&[(uri, "sip:b@b.example;lr;LR SIP")], Err(RequestUri)),
            (&[(uri, "b@b.example SIP")], Err(RequestUri)),
            (&[("SIP/2.0/UDP a", "SIP/2.0 a")], Err(Malformed(Header::Via))),
            (&[("z9hG4bK1", "z9hG4bK")], Err(Branch)),
            (&[("z9hG4bK1", "1")], Ok(())),
            (&[(";tag=1", ";tag=1;tag=2")], Err(Malformed(Header::From))),
            (&[(";tag=1", "")], Ok(())),
            (
                &[("<sip:b@b.example>", "<sip:b@b>, <sip:c@c>")],
                Err(Malformed(Header::To)),
            ),
            (&[("x@a.example", "x @a.example")], Err(Malformed(Header::CallId))),
            (&[("x@a.example", "")], Err(Malformed(Header::CallId))),
            (&[("70", "256")], Err(Malformed(Header::MaxForwards))),
            (&[("70", "-1")], Err(Malformed(Header::MaxForwards))),
            (&[("Max-Forwards: 70\r\n", "")], Ok(())),
            (&[("<sip:a@192.0.2.1>", "*")], Err(ContactStar)),
            (
                &[
                    ("<sip:a@192.0.2.1>", "*"),
                    ("INVITE", "REGISTER"),
                    ("1 INVITE", "1 REGISTER"),
                ],
                Ok(()),
            ),
            (&[("Contact", "Route: <sip:p;lr>\r\nContact")], Ok(())),
            (
                &[("Contact", "Route: sip:p;lr\r\nContact")],
                Err(Malformed(Header::Route)),
            ),
            (
                &[("Contact", "Route: <sip:p;lr;lr>\r\nContact")],
                Err(Malformed(Header::Route)),
            ),
            (&[("Contact", "Date: yesterday\r\nContact")], Ok(())),
        ];
        for (changes, expected) in cases {
            assert_eq!(outcome(changes), expected, "{changes:?}");
        }
    }

    #[test]
    fn of_a_response_only_the_top_via_is_checked() {
        let response = ("INVITE sip:b@b.example SIP/2.0", "SIP/2.0 200 OK");
        assert_eq!(outcome(&[response, ("<sip:b@b.example>", "rubbish")]), Ok(()));
        let broken = outcome(&[response, ("a.example;", "a.example;;")]);
        assert_eq!(broken, Err(ParseErrorKind::Malformed(Header::Via)));
    }
}
