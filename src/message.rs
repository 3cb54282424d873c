//! A SIP message as it was received: its bytes, an index over its header lines, and typed fields read when asked for.
//!
//! Nothing is copied and nothing is allocated to look at a message. [`parse()`] makes one pass over the bytes and
//! fills an [`Index`]; [`Message`] is a view over both; [`MessageBuf`] owns both, for the few messages that must wait.
//! What leaves is written by [`edit`]: splices over the received bytes, or messages of our own.
//!
//! | to | use |
//! |---|---|
//! | cut a stream into messages | [`framing::Framer`] |
//! | index a message, and know whether it is one | [`parse()`] |
//! | know whether a proxy can work with it | [`check()`] |
//! | read a field | the methods of [`Message`], beside the grammar of their header in [`field`], [`refer`], [`identity`] … |
//! | read a value that stands alone, such as one from JSON | `parse` of its type: [`Uri::parse`], [`NameAddr::parse`] … |
//! | relay it with changes, or answer it | [`edit::Editor`], [`edit::write_response`] |
//! | tell a person what is in it and what is wrong | [`explain::explain`] |
//!
//! Three words are used throughout. A *value* is what stands behind a header's colon, or one element of it where the
//! header is a comma list. A *span* is a range of offsets into the whole message. *As received* means bytes of the message:
//! escapes, quotes and folds are still in them.
//!
//! Malformed is said late and locally: [`parse()`] refuses what could be read in two ways, [`check()`] what a proxy
//! routes by, and each accessor its own field ([`FieldError`]), so that a bad Date never ends a call.

pub mod authentication;
#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
mod avx2;
#[cfg(not(all(target_arch = "x86_64", not(feature = "portable"))))]
#[path = "message/no_avx2.rs"]
mod avx2;
pub mod check;
mod class;
pub mod dialog_reference;
pub mod edit;
pub mod explain;
pub mod field;
pub mod framing;
pub mod header;
pub mod identity;
mod index;
mod lines;
pub mod media;
pub mod parse;
#[cfg(any(test, feature = "sim"))]
pub mod properties;
pub mod reason;
pub mod refer;
pub(crate) mod scan;
pub mod sdp;
pub mod time;
pub mod uri;
pub mod value;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

pub use check::check;
pub use field::{CSeq, FieldError, NameAddr, RAck, Span, Via};
pub use header::{Header, Method};
pub use parse::{Index, ParseError, ParseErrorKind, parse};
pub use uri::{Host, Uri};
pub use value::{Params, Text};

use class::run_grammar;
use index::{Start, range};

/// A view over a received message: its bytes and their index. Cheap to copy, borrows both.
///
/// ```
/// use referee::message::{FieldError, Header, MessageBuf};
///
/// let notify = MessageBuf::parse("NOTIFY sip:a@a.example SIP/2.0\r\nv: SIP/2.0/TCP b.example;branch=z9hG4bK1\r\n\
///     f: <sip:b@b.example>;tag=2\r\nt: <sip:a@a.example>;tag=1\r\ni: x@a.example\r\nCSeq: 2 NOTIFY\r\n\
///     o: refer;id=93809824\r\nRoute: <sip:p1;lr>, <sip:p2;lr>\r\nExpires: soon\r\n\r\n")?;
/// let notify = notify.as_message();
/// // Compact and long names are one header.
/// assert_eq!(notify.to_tag(), Some(&b"1"[..]));
/// assert_eq!(notify.event().unwrap().unwrap().id_number(), Some(93_809_824));
/// // Lists are walked over all lines of their header.
/// assert_eq!(notify.name_addrs(Header::Route).flatten().map(|route| route.uri).last(), Some(&b"sip:p2;lr"[..]));
/// // Absent and malformed are told apart, and only by who asks.
/// assert_eq!(notify.session_expires(), Ok(None));
/// assert_eq!(notify.expires(), Err(FieldError::Malformed(Header::Expires)));
/// # Ok::<(), referee::message::ParseError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    index: &'a Index,
}

/// The first line of a message (RFC 3261 §7.1, §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine<'a> {
    /// A request.
    Request {
        /// Its method.
        method: Method,
        /// The method's token as received.
        token: &'a [u8],
        /// The Request-URI as received.
        uri: &'a [u8],
    },
    /// A response.
    Response {
        /// 100 to 699; 0 only where the start line could not be read and [`parse()`] said so.
        code: u16,
        /// The reason phrase, which may be empty.
        reason: &'a [u8],
    },
}

/// One header line of the index: where it lies in the message's bytes.
///
/// `line_span.start < value_span.start <= value_span.end <= line_span.end`; the line includes the CRLF that ends it and
/// all lines that continue it; the value has no white space at either end but may hold folds (CRLF followed by SP or
/// HTAB) inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderLine<'a> {
    /// Which header it is, by its long or its compact name.
    pub header: Header,
    /// The name as received, without the white space before the colon.
    pub name: &'a [u8],
    /// The value as received.
    pub value: &'a [u8],
    /// The whole line.
    pub line_span: Range<usize>,
    /// The value.
    pub value_span: Range<usize>,
}

impl<'a> Message<'a> {
    /// Puts a view together from bytes and the index [`parse()`] filled from these very bytes. After an error the view
    /// shows what was found before it.
    pub fn new(bytes: &'a [u8], index: &'a Index) -> Message<'a> {
        debug_assert!(index.body().end <= bytes.len(), "the index is of other bytes");
        Message { bytes, index }
    }

    /// All bytes, with what follows the body in a datagram.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn index(&self) -> &'a Index {
        self.index
    }

    /// The start line.
    pub fn start_line(&self) -> StartLine<'a> {
        match self.index.start {
            Start::Request { method, token_end, uri } => StartLine::Request {
                method,
                token: &self.bytes[..usize::from(token_end)],
                uri: &self.bytes[range(uri)],
            },
            Start::Response { code, reason } => StartLine::Response {
                code,
                reason: &self.bytes[range(reason)],
            },
            Start::Unknown => StartLine::Response { code: 0, reason: b"" },
        }
    }

    /// Whether this is a request.
    pub fn is_request(&self) -> bool {
        self.index.is_request()
    }

    /// The request's method; `None` for a response.
    pub fn method(&self) -> Option<Method> {
        match self.index.start {
            Start::Request { method, .. } => Some(method),
            Start::Response { .. } | Start::Unknown => None,
        }
    }

    /// The method's token as received (case kept); empty for a response.
    pub fn method_token(&self) -> &'a [u8] {
        match self.index.start {
            Start::Request { token_end, .. } => &self.bytes[..usize::from(token_end)],
            Start::Response { .. } | Start::Unknown => b"",
        }
    }

    /// The Request-URI as received; empty for a response.
    pub fn request_uri(&self) -> &'a [u8] {
        &self.bytes[self.request_uri_span()]
    }

    /// Where the Request-URI lies, for replacing it.
    pub fn request_uri_span(&self) -> Range<usize> {
        match self.index.start {
            Start::Request { uri, .. } => range(uri),
            Start::Response { .. } | Start::Unknown => 0..0,
        }
    }

    /// The response's status code; `None` for a request.
    pub fn status(&self) -> Option<u16> {
        match self.index.start {
            Start::Response { code, .. } => Some(code),
            Start::Request { .. } | Start::Unknown => None,
        }
    }

    /// Offset of the first byte after the start line: where a header line is put on top.
    pub fn headers_start(&self) -> usize {
        self.index.headers().start
    }

    /// Offset of the CRLF of the empty line: where a header line is put last.
    pub fn headers_end(&self) -> usize {
        self.index.headers().end
    }

    /// The body (RFC 3261 §18.3: cut to Content-Length; without one, all that follows the empty line).
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[self.index.body()]
    }

    /// How long the message is without what follows its body in a datagram.
    pub fn total_len(&self) -> usize {
        self.index.body().end
    }

    /// How many header lines there are.
    pub fn line_count(&self) -> usize {
        self.index.len()
    }

    fn line(&self, place: usize) -> HeaderLine<'a> {
        let value_span = self.index.value_at(self.bytes, place);
        HeaderLine {
            header: self.index.header_at(place),
            name: &self.bytes[self.index.name_at(self.bytes, place)],
            value: &self.bytes[value_span.clone()],
            line_span: self.index.line_at(place),
            value_span,
        }
    }

    /// All header lines in order.
    pub fn lines(&self) -> impl Iterator<Item = HeaderLine<'a>> + use<'a> {
        let message = *self;
        (0..message.index.len()).map(move |place| message.line(place))
    }

    /// The lines of one known header, long and compact names alike, in order.
    pub fn lines_of(&self, header: Header) -> impl Iterator<Item = HeaderLine<'a>> + use<'a> {
        let message = *self;
        message.index.places_of(header).map(move |place| message.line(place))
    }

    /// The lines of a header the index does not know, by its name without regard to case.
    pub fn lines_named<'n>(&self, name: &'n str) -> impl Iterator<Item = HeaderLine<'a>> + use<'a, 'n> {
        self.lines_of(Header::Other)
            .filter(move |line| line.name.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The value of the first line of a known header.
    #[inline]
    pub fn value(&self, header: Header) -> Option<&'a [u8]> {
        self.index
            .first(header)
            .map(|place| &self.bytes[self.index.value_at(self.bytes, place)])
    }

    /// The bytes from the value of a line to the end of the message: what a grammar reads, which finds the end of the line
    /// by itself.
    #[inline]
    fn to_the_end(self, place: usize) -> &'a [u8] {
        &self.bytes[self.index.value_start(place)..]
    }

    /// How many lines of this header there are.
    pub fn count(&self, header: Header) -> usize {
        self.index.places_of(header).count()
    }

    /// The top Via: the first value of the first Via line.
    pub fn top_via(&self) -> Result<Via<'a>, FieldError> {
        let place = self.index.first(Header::Via).ok_or(FieldError::Missing(Header::Via))?;
        run_grammar(
            #[inline(always)]
            || match field::via(self.bytes, self.to_the_end(place)) {
                Ok((_, via)) => Ok(via),
                Err(_) => Err(FieldError::Malformed(Header::Via)),
            },
        )
    }

    /// Whether the top Via is the only value.
    pub fn is_via_alone(&self, top: &Via<'_>) -> bool {
        let mut lines = self.lines_of(Header::Via);
        let line_end = lines.next().map_or(0, |line| line.value_span.end);
        let behind = self.bytes.get(top.span.range().end..line_end).unwrap_or_default();
        lines.next().is_none() && !behind.contains(&b',')
    }

    /// Every Via value in order, comma lists taken apart. After an error the next value is that of the next line.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'a>, FieldError>> + use<'a> {
        field::Values::new(
            *self,
            Header::Via,
            #[inline(always)]
            |message, input| field::via(message, input),
        )
    }

    /// Where the value of the first line of a known header lies, for replacing it.
    pub fn value_span(&self, header: Header) -> Option<Range<usize>> {
        self.index
            .first(header)
            .map(|place| self.index.value_at(self.bytes, place))
    }

    /// Whether a Contact line begins with `*` as a value of its own (RFC 3261 §20.10).
    pub(crate) fn has_contact_star(&self) -> bool {
        let mut places = self.index.places_of(Header::Contact);
        places.any(|place| match self.to_the_end(place) {
            [b'*', rest @ ..] => scan::end_of_value(rest).is_ok(),
            _ => false,
        })
    }

    /// How many values a header that is a comma list has over all its lines, without reading them.
    pub fn value_count(&self, header: Header) -> usize {
        run_grammar(
            #[inline(always)]
            || {
                let mut count = 0;
                let mut next = self.index.first(header);
                while let Some(place) = next {
                    let value = &self.bytes[self.index.value_at(self.bytes, place)];
                    // Most values stand alone on their line.
                    count += match memchr::memchr(b',', value) {
                        None => 1,
                        Some(_) => scan::count_values(value),
                    };
                    next = self.index.next(header, place);
                }
                count
            },
        )
    }

    /// From (RFC 3261 §20.20).
    pub fn from(&self) -> Result<NameAddr<'a>, FieldError> {
        self.single_name_addr(Header::From)
    }

    /// To (RFC 3261 §20.39).
    pub fn to(&self) -> Result<NameAddr<'a>, FieldError> {
        self.single_name_addr(Header::To)
    }

    /// The tag of From; `None` without one, or where From is malformed before it.
    pub fn from_tag(&self) -> Option<&'a [u8]> {
        self.tag(Header::From)
    }

    /// The tag of To; `None` without one, or where To is malformed before it.
    pub fn to_tag(&self) -> Option<&'a [u8]> {
        self.tag(Header::To)
    }

    fn tag(&self, header: Header) -> Option<&'a [u8]> {
        let place = self.index.first(header)?;
        run_grammar(
            #[inline(always)]
            || field::tag(self.to_the_end(place)),
        )
    }

    /// The value of a header that holds one name-addr and no list (From, To, Refer-To, Referred-By).
    pub fn single_name_addr(&self, header: Header) -> Result<NameAddr<'a>, FieldError> {
        let place = self.index.first(header).ok_or(FieldError::Missing(header))?;
        run_grammar(
            #[inline(always)]
            || match field::name_addr(self.bytes, self.to_the_end(place)) {
                Ok((rest, name_addr)) if scan::at_end(rest) => Ok(name_addr),
                _ => Err(FieldError::Malformed(header)),
            },
        )
    }

    /// Call-ID: one word without white space (RFC 3261 §20.8).
    pub fn call_id(&self) -> Result<&'a [u8], FieldError> {
        let place = self
            .index
            .first(Header::CallId)
            .ok_or(FieldError::Missing(Header::CallId))?;
        let value = &self.bytes[self.index.value_at(self.bytes, place)];
        // Nearly always it is made of what a URI is made of. A fold has SP or HTAB too.
        let plain = scan::run(self.to_the_end(place), scan::URI);
        if value.is_empty() || (plain < value.len() && memchr::memchr2(b' ', b'\t', value).is_some()) {
            return Err(FieldError::Malformed(Header::CallId));
        }
        Ok(value)
    }

    /// CSeq (RFC 3261 §20.16), which [`parse()`] has read already.
    pub fn cseq(&self) -> Result<CSeq<'a>, FieldError> {
        match self.index.cseq {
            Some(cseq) => Ok(CSeq {
                number: cseq.number,
                method: cseq.method,
                token: &self.bytes[range(cseq.token)],
                number_span: (usize::from(cseq.digits.0), usize::from(cseq.digits.1)),
            }),
            None if self.index.has(Header::CSeq) => Err(FieldError::Malformed(Header::CSeq)),
            None => Err(FieldError::Missing(Header::CSeq)),
        }
    }

    /// Max-Forwards: 0 to 255, leading zeros allowed (RFC 3261 §20.22).
    pub fn max_forwards(&self) -> Result<Option<u8>, FieldError> {
        let Some(place) = self.index.first(Header::MaxForwards) else {
            return Ok(None);
        };
        match scan::number(self.to_the_end(place)) {
            Ok((rest, hops @ 0..=255)) if scan::nothing_follows(rest) => Ok(Some(hops as u8)),
            _ => Err(FieldError::Malformed(Header::MaxForwards)),
        }
    }

    /// The first Contact value (RFC 3261 §20.10); `Ok(None)` without one. `*` is no name-addr and so malformed.
    pub fn contact(&self) -> Result<Option<NameAddr<'a>>, FieldError> {
        self.name_addrs(Header::Contact).next().transpose()
    }

    /// Every value of a list header made of name-addrs (Contact, Route, Record-Route, P-Asserted-Identity …) in order.
    /// Those of Route, Record-Route and Path must stand in angle brackets. After an error the next value is that of
    /// the next line.
    pub fn name_addrs(&self, header: Header) -> impl Iterator<Item = Result<NameAddr<'a>, FieldError>> + use<'a> {
        let must_be_bracketed = matches!(header, Header::Route | Header::RecordRoute | Header::Path);
        field::Values::new(
            *self,
            header,
            #[inline(always)]
            move |message, input| match field::name_addr(message, input) {
                Ok((_, value)) if must_be_bracketed && !value.bracketed => Err(nom::Err::Error(())),
                read => read,
            },
        )
    }

    /// RAck of a PRACK (RFC 3262 §7.2).
    pub fn rack(&self) -> Result<Option<RAck<'a>>, FieldError> {
        let Some(value) = self.value(Header::RAck) else {
            return Ok(None);
        };
        field::rack(self.bytes, value)
            .map(Some)
            .ok_or(FieldError::Malformed(Header::RAck))
    }

    /// Event (RFC 6665 §8.2.1).
    pub fn event(&self) -> Result<Option<refer::Event<'a>>, FieldError> {
        let Some(value) = self.value(Header::Event) else {
            return Ok(None);
        };
        refer::event(self.bytes, value)
            .map(Some)
            .ok_or(FieldError::Malformed(Header::Event))
    }

    /// Subscription-State (RFC 6665 §8.2.3).
    pub fn subscription_state(&self) -> Result<Option<refer::SubscriptionState<'a>>, FieldError> {
        let Some(value) = self.value(Header::SubscriptionState) else {
            return Ok(None);
        };
        refer::SubscriptionState::parse(value)
            .map(Some)
            .ok_or(FieldError::Malformed(Header::SubscriptionState))
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first_line = &self.bytes[..self.headers_start()];
        write!(
            f,
            "Message({} bytes: {})",
            self.total_len(),
            scan::trim(first_line).escape_ascii()
        )
    }
}

/// A message that owns its bytes: for one that must wait (a name to resolve, a turn to take). A clone shares the bytes and
/// copies the index.
#[derive(Clone, Debug)]
pub struct MessageBuf {
    bytes: Bytes,
    index: Box<Index>,
}

impl MessageBuf {
    /// Copies a message out of the buffer it was received in, without what follows its body.
    pub fn copy_of(message: Message<'_>) -> MessageBuf {
        MessageBuf {
            bytes: Bytes::copy_from_slice(&message.bytes[..message.total_len()]),
            index: Box::new(message.index.clone()),
        }
    }

    /// Parses bytes; for tests, simulated peers and messages read from elsewhere.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<MessageBuf, ParseError> {
        let bytes = bytes.into();
        let mut index = Box::new(Index::new());
        parse(&bytes, &mut index)?;
        Ok(MessageBuf { bytes, index })
    }

    /// The view over it.
    pub fn as_message(&self) -> Message<'_> {
        Message::new(&self.bytes, &self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:+4930123456@192.0.2.9:5060;user=phone SIP/2.0\r\n\
        Via: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK-524287-1;rport, SIP/2.0/TCP a.example\r\n\
        v: SIP/2.0/UDP [2001:db8::9]:5070;branch=z9hG4bKx;received=2001:db8::8\r\n\
        Max-Forwards: 068\r\n\
        From: \"Doe, John; \\\"Jack\\\" <x>;tag=no\" <sip:jdoe@carrier.example;tag=uri>;x=y;Tag=as58f4\r\n\
        To: sip:+4930123456@192.0.2.9;user=phone\r\n\
        Call-ID: 3848276298220188511@198.51.100.7\r\n\
        CSeq: 0009\r\n  INVITE\r\n\
        Contact: \"a, b\" <sip:jdoe@198.51.100.7:5060;transport=udp;p=1,2>;q=0.5 , <sip:b@h>\r\n\
        m: <sip:c@h>\r\n\
        Route: <sip:p1.example;lr>,\r\n <sip:p2.example;lr>\r\n\
        X-Unknown: ;;,,;;\r\n\
        l: 4\r\n\
        \r\n\
        v=0\nTAIL";

    #[test]
    fn every_typed_field_of_an_invite_is_read() {
        let buf = MessageBuf::parse(INVITE).unwrap();
        let message = buf.as_message();
        assert_eq!(check(message), Ok(()));
        assert_eq!(message.method(), Some(Method::Invite));
        assert_eq!(message.request_uri(), b"sip:+4930123456@192.0.2.9:5060;user=phone");
        assert_eq!(message.status(), None);
        assert_eq!(message.body(), b"v=0\n");
        assert_eq!(message.total_len(), INVITE.len() - 4);

        let top = message.top_via().unwrap();
        assert_eq!((top.transport, top.sent_by), (&b"UDP"[..], &b"198.51.100.7:5060"[..]));
        assert_eq!(
            (top.branch, top.rport, top.port),
            (Some(&b"z9hG4bK-524287-1"[..]), Some(None), Some(5060))
        );
        assert_eq!(&message.bytes()[top.rport_span.unwrap().range()], b"rport");
        assert_eq!(
            &message.bytes()[top.span.range()],
            b"SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK-524287-1;rport"
        );
        let vias: Vec<_> = message.vias().map(Result::unwrap).collect();
        assert_eq!(vias.len(), 3);
        assert_eq!(vias[1].host, Host::Name(b"a.example"));
        assert_eq!(vias[2].received_address(), Some("2001:db8::8".parse().unwrap()));
        assert_eq!(message.count(Header::Via), 2);

        assert_eq!(message.max_forwards(), Ok(Some(68)));
        let from = message.from().unwrap();
        assert_eq!(from.tag, Some(&b"as58f4"[..]));
        assert_eq!(from.uri, b"sip:jdoe@carrier.example;tag=uri");
        assert_eq!(from.params, b";x=y;Tag=as58f4");
        let to = message.to().unwrap();
        assert_eq!(
            (to.tag, to.uri, to.bracketed),
            (None, &b"sip:+4930123456@192.0.2.9"[..], false)
        );
        assert_eq!(to.param("USER"), Some(Some(&b"phone"[..])));
        assert_eq!(message.call_id(), Ok(&b"3848276298220188511@198.51.100.7"[..]));
        let cseq = message.cseq().unwrap();
        assert_eq!(
            (cseq.number, cseq.method, cseq.token),
            (9, Method::Invite, &b"INVITE"[..])
        );
        assert_eq!(&message.bytes()[cseq.number_span.0..cseq.number_span.1], b"0009");

        let contacts: Vec<_> = message
            .name_addrs(Header::Contact)
            .map(|contact| contact.unwrap().uri)
            .collect();
        assert_eq!(
            contacts,
            [
                &b"sip:jdoe@198.51.100.7:5060;transport=udp;p=1,2"[..],
                b"sip:b@h",
                b"sip:c@h"
            ]
        );
        let routes: Vec<_> = message
            .name_addrs(Header::Route)
            .map(|route| route.unwrap().uri)
            .collect();
        assert_eq!(routes, [&b"sip:p1.example;lr"[..], b"sip:p2.example;lr"]);
        assert_eq!(message.lines_named("x-unknown").next().unwrap().value, b";;,,;;");
    }

    #[test]
    fn header_lines_tile_the_head() {
        let buf = MessageBuf::parse(INVITE).unwrap();
        let message = buf.as_message();
        let mut at = message.headers_start();
        for line in message.lines() {
            assert_eq!(line.line_span.start, at);
            assert!(message.bytes()[line.line_span.clone()].ends_with(b"\r\n"));
            assert_eq!(&message.bytes()[line.value_span.clone()], line.value);
            at = line.line_span.end;
        }
        assert_eq!(at, message.headers_end());
        assert!(message.bytes()[at..].starts_with(b"\r\n"));
    }
}
