//! What [`super::parse`] leaves to the reader of a field, checked at once: all the grammar a proxy depends on.

use super::field::FieldError;
use super::header::{Header, Method};
use super::parse::ParseErrorKind;
use super::scan;
use super::uri::{self, Scheme, Uri};
use super::{Message, StartLine};

/// The magic cookie that begins the branches of RFC 3261 (§8.1.1.7).
const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

/// Checks the fields a proxy routes and matches by (RFC 3261 §16.3, step 1): for a request the Request-URI, the top
/// Via, From, To, Call-ID, Max-Forwards, Route, and that `Contact: *` stays in REGISTER; for a response the top Via.
/// Fields it does not need may be malformed and pass (a bad Date, RFC 4475 §3.1.2.12).
///
/// The Request-URI's scheme is none of its business: an unknown one is a 416, not a 400.
pub fn check(message: Message<'_>) -> Result<(), ParseErrorKind> {
    let via = message.top_via().map_err(kind_of)?;
    let StartLine::Request { method, uri, .. } = message.start_line() else {
        return Ok(());
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
    for route in message.name_addrs(Header::Route) {
        let route = route.map_err(kind_of)?;
        match Uri::parse(route.uri) {
            Ok(uri) if !uri::has_repeated_param(&uri) => {}
            Ok(_) | Err(_) => return Err(ParseErrorKind::Malformed(Header::Route)),
        }
    }
    if method != Method::Register
        && message
            .lines_of(Header::Contact)
            .any(|line| scan::split_list(line.value).0 == b"*")
    {
        return Err(ParseErrorKind::ContactStar);
    }
    Ok(())
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
