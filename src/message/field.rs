//! Field values of RFC 3261, read by nom grammars when someone asks. Spans are offsets in the whole message.

use std::net::IpAddr;
use std::ops::Range;

use nom::Parser;
use nom::sequence::terminated;

use super::Message;
use super::class::run_grammar;
use super::header::{Header, Method};
use super::scan::{self, Parsed, end_of_value, lws, next_param, separator, short_name, span_in, sws, taken, token};
use super::uri::Host;

/// Why a field gives no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// The message has no such header.
    Missing(Header),
    /// The value does not follow its grammar, or a parameter that stands once stands twice (RFC 3261 §7.3.1).
    Malformed(Header),
}

/// One Via value (RFC 3261 §20.42). LWS round `/`, `:`, `;`, `=` is allowed and gone from the parts.
///
/// [`Message::top_via`] and [`Message::vias`] give it; [`super::edit::ViaStamp`] writes `received` and `rport` into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// The transport token as received ("UDP").
    pub transport: &'a [u8],
    /// sent-by as received, for transaction matching ("host:port").
    pub sent_by: &'a [u8],
    /// The host of sent-by.
    pub host: Host<'a>,
    /// The port of sent-by; `None` means the transport's default.
    pub port: Option<u16>,
    /// The branch as received.
    pub branch: Option<&'a [u8]>,
    /// `received` as received, with brackets if it came with them (RFC 5118 §4.5); see [`Via::received_address`].
    pub received: Option<&'a [u8]>,
    /// `None`: no rport; `Some(None)`: asked for; `Some(Some(p))`: filled in (RFC 3581).
    pub rport: Option<Option<u16>>,
    /// Where the client wants the response instead of sent-by (§18.2.2), as received; see [`Via::maddr_host`].
    pub maddr: Option<&'a [u8]>,
    /// Time to live of a multicast packet.
    pub ttl: Option<u8>,
    /// The whole value.
    pub span: Span,
    /// The `rport` parameter with its value, without the semicolon; for writing the port in.
    pub rport_span: Option<Span>,
    /// The `received` parameter with its value.
    pub received_span: Option<Span>,
}

/// Where something lies in its message, in half the room of two offsets: a Via has three, and is moved about whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u16,
    end: u16,
}

impl Span {
    /// Where `part`, a slice of `message`, lies in it.
    #[inline(always)]
    fn of(part: &[u8], message: &[u8]) -> Span {
        let Range { start, end } = span_in(message, part);
        // A message is no larger; of a value that stands alone and is, nobody asks where its parts lie.
        Span {
            start: start as u16,
            end: end as u16,
        }
    }

    /// The offsets.
    pub fn range(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }
}

impl<'a> Via<'a> {
    /// The host in `maddr`.
    pub fn maddr_host(&self) -> Option<Host<'a>> {
        scan::whole_host(self.maddr?)
    }

    /// The address in `received`; IPv6 with or without brackets. `None` without one or where it is no address.
    pub fn received_address(&self) -> Option<IpAddr> {
        match scan::whole_host(self.received?)? {
            Host::Address(address) => Some(address),
            Host::Name(_) => None,
        }
    }
}

/// A name-addr or addr-spec with its header parameters (From, To, Contact, Route, Refer-To, Referred-By …).
///
/// ```
/// use referee::message::NameAddr;
///
/// let from = NameAddr::parse(br#""Bell, A. <x>" <sip:agb@bell.example;lr>;tag=a48s;x"#).unwrap();
/// assert_eq!((from.display, from.uri), (&br#""Bell, A. <x>""#[..], &b"sip:agb@bell.example;lr"[..]));
/// assert_eq!((from.tag, from.param("X")), (Some(&b"a48s"[..]), Some(None)));
/// // Without brackets a parameter is the header's, not the URI's.
/// let bare = NameAddr::parse(b"sip:agb@bell.example;lr").unwrap();
/// assert_eq!((bare.uri, bare.params), (&b"sip:agb@bell.example"[..], &b";lr"[..]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// Quotes kept; empty without one.
    pub display: &'a [u8],
    /// The URI without angle brackets; without brackets, parameters belong to the header (RFC 3261 §20.10).
    pub uri: &'a [u8],
    /// Whether the URI stands in angle brackets.
    pub bracketed: bool,
    /// Everything after the URI, from the first semicolon on.
    pub params: &'a [u8],
    /// The tag parameter.
    pub tag: Option<&'a [u8]>,
    /// The whole value.
    pub span: Range<usize>,
}

impl<'a> NameAddr<'a> {
    /// Parses a value that stands alone (spans count from its start). The header in the error is `Other`.
    pub fn parse(value: &'a [u8]) -> Result<NameAddr<'a>, FieldError> {
        match run_grammar(
            #[inline(always)]
            || name_addr(value, scan::trim(value)),
        ) {
            Ok(([], name_addr)) => Ok(name_addr),
            _ => Err(FieldError::Malformed(Header::Other)),
        }
    }

    /// Parses the first value of a comma-separated list (spans count from its start). The header in the error is `Other`.
    pub fn first_of(list: &'a [u8]) -> Result<NameAddr<'a>, FieldError> {
        NameAddr::parse(scan::split_list(list).0)
    }

    /// The tag of a value that stands alone; `None` without one, or where the value is malformed before it.
    pub fn tag_of(value: &'a [u8]) -> Option<&'a [u8]> {
        tag(scan::trim(value))
    }

    /// A header parameter by name without regard to case: `None` absent, `Some(None)` without value. Quotes kept.
    pub fn param(&self, name: &str) -> Option<Option<&'a [u8]>> {
        scan::find_param(self.params, name)
    }
}

/// CSeq (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Less than 2^31.
    pub number: u32,
    /// The method.
    pub method: Method,
    /// The method's token as received.
    pub token: &'a [u8],
    /// Where the digits lie: start and end.
    pub number_span: (usize, usize),
}

/// RAck of PRACK (RFC 3262 §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RAck<'a> {
    /// The RSeq it acknowledges.
    pub rseq: u32,
    /// The CSeq number of the request that was answered.
    pub cseq: u32,
    /// The method of that request, as received.
    pub token: &'a [u8],
    /// Where the digits of the CSeq number lie: start and end.
    pub cseq_span: (usize, usize),
}

/// The most values of one list header that are read. A route set or a registration comes to some tens; beyond that a list
/// only costs, and the value past the last one is malformed.
pub const VALUES_MAX: usize = 64;
/// The most parameters of one value: a contact's feature tags (RFC 3840) come to some tens.
pub const PARAMS_MAX: usize = 64;

/// Walks the values of a list header: over its lines and, within a line, from comma to comma.
pub(super) struct Values<'a, G> {
    message: Message<'a>,
    header: Header,
    /// Reads one value; its first argument is the whole message, for spans.
    grammar: G,
    /// The line of the value to read next.
    place: Option<usize>,
    /// Where that value begins, if it is not the first one of the line.
    rest: Option<&'a [u8]>,
    /// How many were read.
    count: usize,
}

impl<'a, T, G> Values<'a, G>
where
    G: Fn(&'a [u8], &'a [u8]) -> Parsed<'a, T>,
{
    #[inline]
    pub(super) fn new(message: Message<'a>, header: Header, grammar: G) -> Values<'a, G> {
        Values {
            message,
            header,
            grammar,
            place: message.index().first(header),
            rest: None,
            count: 0,
        }
    }
}

impl<'a, T, G> Iterator for Values<'a, G>
where
    G: Fn(&'a [u8], &'a [u8]) -> Parsed<'a, T>,
{
    type Item = Result<T, FieldError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let place = self.place?;
        run_grammar(
            #[inline(always)]
            || Some(self.read(place)),
        )
    }
}

impl<'a, T, G> Values<'a, G>
where
    G: Fn(&'a [u8], &'a [u8]) -> Parsed<'a, T>,
{
    #[inline(always)]
    fn read(&mut self, place: usize) -> Result<T, FieldError> {
        self.count += 1;
        if self.count > VALUES_MAX {
            self.place = None;
            return Err(FieldError::Malformed(self.header));
        }
        let message = self.message;
        let input = self.rest.unwrap_or_else(|| message.to_the_end(place));
        match (self.grammar)(message.bytes(), input) {
            Ok((rest, value)) => {
                // A grammar stops at the end or at a comma; white space may follow the comma, and a value must.
                self.rest = rest.strip_prefix(b",").map(scan::skip_lws);
                if self.rest.is_none() {
                    self.place = message.index().next(self.header, place);
                }
                Ok(value)
            }
            Err(_) => {
                self.rest = None;
                self.place = message.index().next(self.header, place);
                Err(FieldError::Malformed(self.header))
            }
        }
    }
}

/// ```text
/// via-parm      = sent-protocol LWS sent-by *( SEMI via-params )
/// via-params    = via-ttl / via-maddr / via-received / via-branch / response-port / via-extension
/// sent-protocol = protocol-name SLASH protocol-version SLASH transport
/// sent-by       = host [ COLON port ]
/// response-port = "rport" [EQUAL 1*DIGIT]
/// ```
///
/// RFC 3261 §25.1, RFC 3581 §4 (`response-port`).
#[inline(always)]
pub(super) fn via<'a>(message: &'a [u8], input: &'a [u8]) -> Parsed<'a, Via<'a>> {
    let (rest, ()) = protocol(input)?;
    let (rest, transport) = token(rest)?;
    let (sent_by, ()) = lws(rest)?;
    let (mut rest, (host, port)) = scan::host_and_port(sent_by)?;
    let sent_by = taken(sent_by, rest);

    let mut via = Via {
        transport,
        sent_by,
        host,
        port,
        branch: None,
        received: None,
        rport: None,
        maddr: None,
        ttl: None,
        span: Span::default(),
        rport_span: None,
        received_span: None,
    };
    let mut count = 0;
    while let Ok((param, ())) = separator(b';')(rest) {
        count += 1;
        if count > PARAMS_MAX {
            return Err(nom::Err::Error(()));
        }
        let (after, (name, value)) = scan::generic_param(param)?;
        via.param(name, value, || Span::of(taken(param, after), message))
            .ok_or(nom::Err::Error(()))?;
        rest = after;
    }
    via.span = Span::of(taken(input, rest), message);
    let (rest, ()) = end_of_value(rest)?;
    Ok((rest, via))
}

/// `protocol-name SLASH protocol-version SLASH`
#[inline(always)]
fn protocol(input: &[u8]) -> Parsed<'_, ()> {
    const SIP_2_0: u64 = u64::from_le_bytes(*b"SIP/2.0/");
    match input.split_first_chunk::<8>() {
        // Nearly always; the grammar also has white space round the slashes, and other names.
        Some((front, rest)) if u64::from_le_bytes(*front) == SIP_2_0 => Ok((scan::skip_lws(rest), ())),
        _ => (token, separator(b'/'), token, separator(b'/'))
            .map(|_| ())
            .parse(input),
    }
}

impl<'a> Via<'a> {
    /// Takes in one parameter; `None` if it stands a second time or has a value it cannot have.
    #[inline(always)]
    fn param(&mut self, name: &'a [u8], value: Option<&'a [u8]>, span: impl Fn() -> Span) -> Option<()> {
        fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
            place.replace(value).is_none().then_some(())
        }
        const BRANCH: u64 = short_name(b"branch");
        const RPORT: u64 = short_name(b"rport");
        const RECEIVED: u64 = short_name(b"received");
        const MADDR: u64 = short_name(b"maddr");
        const TTL: u64 = short_name(b"ttl");
        match short_name(name) {
            BRANCH => once(&mut self.branch, value?),
            RPORT => {
                self.rport_span = Some(span());
                let port = match value {
                    Some(digits) => Some(scan::decimal_value(digits, u32::from(u16::MAX))? as u16),
                    None => None,
                };
                once(&mut self.rport, port)
            }
            RECEIVED => {
                self.received_span = Some(span());
                once(&mut self.received, value?)
            }
            MADDR => {
                scan::whole_host(value?)?;
                once(&mut self.maddr, value?)
            }
            TTL => once(&mut self.ttl, scan::decimal_value(value?, 255)? as u8),
            _ => Some(()),
        }
    }
}

/// Display name, URI, and whether it stands in brackets:
///
/// ```text
/// name-addr / addr-spec
/// name-addr    = [ display-name ] LAQUOT addr-spec RAQUOT
/// display-name = *(token LWS) / quoted-string
/// ```
///
/// RFC 3261 §25.1, with §20.10 for an addr-spec that holds a comma, semicolon or question mark: it needs the brackets.
#[inline(always)]
fn address(input: &[u8]) -> Parsed<'_, (&[u8], &[u8], bool)> {
    let (rest, display, uri, bracketed) = match input.first() {
        Some(b'<') => {
            let (rest, uri) = bracketed_uri(input)?;
            (rest, &b""[..], uri, true)
        }
        Some(b'"') => {
            let (rest, display) = scan::quoted_string(input)?;
            let (rest, ()) = sws(rest)?;
            let (rest, uri) = bracketed_uri(rest)?;
            (rest, display, uri, true)
        }
        _ => {
            // Only the `<` behind it tells a display name from a URI.
            let length = scan::run_over_folds(input, scan::DISPLAY);
            match input.get(length) {
                Some(b'<') => {
                    let (rest, uri) = bracketed_uri(&input[length..])?;
                    (rest, scan::trim(&input[..length]), uri, true)
                }
                _ => {
                    let (rest, uri) = scan::run1(scan::BARE_URI)(input)?;
                    (rest, &b""[..], uri, false)
                }
            }
        }
    };
    match has_scheme(uri) {
        true => Ok((rest, (display, uri, bracketed))),
        false => Err(nom::Err::Error(())),
    }
}

const TAG: u64 = short_name(b"tag");

/// `address *( SEMI generic-param )`, of which only the tag is wanted: nothing behind it is read.
#[inline(always)]
pub(super) fn tag(input: &[u8]) -> Option<&[u8]> {
    let (mut rest, _) = address(input).ok()?;
    for _ in 0..PARAMS_MAX {
        let (after, (name, value)) = next_param(rest).ok()?;
        if short_name(name) == TAG {
            return value;
        }
        rest = after;
    }
    None
}

/// `address *( SEMI generic-param )`
#[inline(always)]
pub(super) fn name_addr<'a>(message: &'a [u8], input: &'a [u8]) -> Parsed<'a, NameAddr<'a>> {
    let (mut rest, (display, uri, bracketed)) = address(input)?;
    let before_params = rest;
    let mut tag = None;
    let mut left = PARAMS_MAX;
    while let Ok((after, (name, value))) = next_param(rest) {
        left = left.checked_sub(1).ok_or(nom::Err::Error(()))?;
        if short_name(name) == TAG {
            // RFC 3261 §7.3.1: a parameter stands once; a tag without value is none.
            if tag.is_some() || value.is_none() {
                return Err(nom::Err::Error(()));
            }
            tag = value;
        }
        rest = after;
    }
    let params = scan::skip_lws(taken(before_params, rest));
    let span = span_in(message, taken(input, rest));
    let (rest, ()) = end_of_value(rest)?;
    Ok((
        rest,
        NameAddr {
            display,
            uri,
            bracketed,
            params,
            tag,
            span,
        },
    ))
}

/// Whether a URI begins with a scheme, a colon and something behind it.
#[inline(always)]
fn has_scheme(uri: &[u8]) -> bool {
    const SIP: u32 = u32::from_le_bytes(*b"sip:");
    match uri.split_first_chunk::<4>() {
        Some((front, [_, ..])) if u32::from_le_bytes(*front) == SIP => true,
        _ => has_other_scheme(uri),
    }
}

#[inline(never)]
fn has_other_scheme(uri: &[u8]) -> bool {
    // A scheme has few bytes.
    let scheme = uri.iter().take_while(|&&byte| scan::is(byte, scan::SCHEME)).count();
    scheme > 0 && uri.get(scheme) == Some(&b':') && uri.len() > scheme + 1
}

/// `LAQUOT addr-spec RAQUOT`; commas, semicolons and question marks inside belong to the URI.
#[inline(always)]
fn bracketed_uri(input: &[u8]) -> Parsed<'_, &[u8]> {
    let Some(inside) = input.strip_prefix(b"<") else {
        return Err(nom::Err::Error(()));
    };
    let (rest, uri) = scan::run1(scan::URI)(inside)?;
    match rest.strip_prefix(b">") {
        Some(rest) => Ok((rest, uri)),
        None => Err(nom::Err::Error(())),
    }
}

/// `RAck-value = response-num LWS CSeq-num LWS Method` (RFC 3262 §10)
pub(super) fn rack<'a>(message: &[u8], value: &'a [u8]) -> Option<RAck<'a>> {
    let (rest, (rseq, (cseq, number, token))) = (terminated(scan::number, lws), scan::number_then_token)
        .parse(value)
        .ok()?;
    let span = span_in(message, cseq);
    rest.is_empty().then_some(RAck {
        rseq: u32::try_from(rseq).ok()?,
        cseq: u32::try_from(number).ok()?,
        token,
        cseq_span: (span.start, span.end),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_via(value: &str) -> Option<Via<'_>> {
        match via(value.as_bytes(), value.as_bytes()) {
            Ok(([], via)) => Some(via),
            _ => None,
        }
    }

    #[test]
    fn white_space_and_folds_in_a_via_are_gone_from_its_parts() {
        let via =
            read_via("SIP  /   2.0\r\n /\tUDP\r\n    192.0.2.2 : 5060 ;\r\n branch = z9hG4bK1 ; rport ;x= \"a;b,c\"")
                .unwrap();
        assert_eq!(
            (via.transport, via.port, via.rport),
            (&b"UDP"[..], Some(5060), Some(None))
        );
        assert_eq!(via.host, Host::Address("192.0.2.2".parse().unwrap()));
        assert_eq!(via.branch, Some(&b"z9hG4bK1"[..]));
        assert_eq!(via.sent_by, b"192.0.2.2 : 5060");
    }

    #[test]
    fn via_parameters_are_read_in_any_case_and_order() {
        let value =
            "SIP/2.0/TLS [2001:db8::1]:5061;TTL=1;Received=[2001:db8::2];RPORT=4711;MADDR=[ff02::1];BRANCH=b;x;y=z";
        let via = read_via(value).unwrap();
        assert_eq!(via.host, Host::Address("2001:db8::1".parse().unwrap()));
        assert_eq!(
            (via.ttl, via.rport, via.branch),
            (Some(1), Some(Some(4711)), Some(&b"b"[..]))
        );
        assert_eq!(via.maddr_host(), Some(Host::Address("ff02::1".parse().unwrap())));
        assert_eq!(via.received_address(), Some("2001:db8::2".parse().unwrap()));
        assert_eq!(&value[via.rport_span.unwrap().range()], "RPORT=4711");
        assert_eq!(&value[via.received_span.unwrap().range()], "Received=[2001:db8::2]");
        assert_eq!(via.span.range(), 0..value.len());
    }

    #[test]
    fn what_is_no_via_is_refused() {
        for value in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0 a.example",
            "SIP/2.0/UDPa.example;x y",
            "SIP/2.0/UDP a.example:",
            "SIP/2.0/UDP a.example:0",
            "SIP/2.0/UDP a.example:70000",
            "SIP/2.0/UDP 2001:db8::1",
            "SIP/2.0/UDP [2001:db8::1",
            "SIP/2.0/UDP a.example;;branch=x",
            "SIP/2.0/UDP a.example;branch=x;",
            "SIP/2.0/UDP a.example;branch",
            "SIP/2.0/UDP a.example;branch=",
            "SIP/2.0/UDP a.example;branch=x;Branch=y",
            "SIP/2.0/UDP a.example;rport;rport=1",
            "SIP/2.0/UDP a.example;rport=x",
            "SIP/2.0/UDP a.example;ttl=256",
            "SIP/2.0/UDP a.example;received=a;received=b",
            "SIP/2.0/UDP a.example;maddr=300.1.1.1",
            "SIP/2.0/UDP a.example;x=\"open",
        ] {
            assert_eq!(read_via(value), None, "{value}");
        }
    }

    #[test]
    fn name_addrs_are_read_with_and_without_brackets() {
        // value, display, uri, tag
        let cases: [(&str, &str, &str, Option<&str>); 12] = [
            ("<sip:a@b>", "", "sip:a@b", None),
            ("sip:a@b;tag=x", "", "sip:a@b", Some("x")),
            ("sip:a@b ; Tag = x ", "", "sip:a@b", Some("x")),
            ("<sip:a@b;tag=uri>;tag=x", "", "sip:a@b;tag=uri", Some("x")),
            ("caller<sip:a@b>", "caller", "sip:a@b", None),
            (
                "A. G.\r\n Bell   <sip:a@b>\r\n ;tag=x",
                "A. G.\r\n Bell",
                "sip:a@b",
                Some("x"),
            ),
            (
                "\"a, b;tag=no <x> \\\" \\\\\" <sip:a@b>;tag=x",
                "\"a, b;tag=no <x> \\\" \\\\\"",
                "sip:a@b",
                Some("x"),
            ),
            ("\"\"<sip:a@b?c=d,e>", "\"\"", "sip:a@b?c=d,e", None),
            ("Jos\u{e9} <sip:a@b>", "Jos\u{e9}", "sip:a@b", None),
            ("John (Sales) <sip:a@b>", "John (Sales)", "sip:a@b", None),
            (
                "<tel:+1-201-555-0123;phone-context=x>",
                "",
                "tel:+1-201-555-0123;phone-context=x",
                None,
            ),
            ("<sip:a@b>;x=\"tag=y;z\";tag=1", "", "sip:a@b", Some("1")),
        ];
        for (value, display, uri, tag) in cases {
            let read = NameAddr::parse(value.as_bytes()).unwrap_or_else(|error| panic!("{value}: {error:?}"));
            assert_eq!(read.display, display.as_bytes(), "{value}");
            assert_eq!(read.uri, uri.as_bytes(), "{value}");
            assert_eq!(read.tag, tag.map(str::as_bytes), "{value}");
        }
    }

    #[test]
    fn what_is_no_name_addr_is_refused() {
        for value in [
            "",
            "*",
            "sip:",
            "<>",
            "<sip:a@b",
            "sip:a@b>",
            "< sip:a@b >",
            "<a@b>",
            "\"open <sip:a@b>",
            "Bell, Alexander <sip:a@b>",
            "<sip:a@b>;tag=1;tag=2",
            "<sip:a@b>;tag",
            "<sip:a@b>;tag=",
            "<sip:a@b>;;",
            "<sip:a@b>;",
            "<sip:a@b> x",
            "<sip:a@b>, <sip:c@d>",
            "sip:a@b?Route=x",
            "sip:a b",
        ] {
            assert_eq!(
                NameAddr::parse(value.as_bytes()),
                Err(FieldError::Malformed(Header::Other)),
                "{value}"
            );
        }
    }

    #[test]
    fn parameters_of_a_contact_keep_their_quotes() {
        let value = b"<sip:a@b>;+sip.instance=\"<urn:uuid:0>\";q=0.5;isfocus;expires = 60";
        let contact = NameAddr::parse(value).unwrap();
        assert_eq!(contact.param("+SIP.instance"), Some(Some(&b"\"<urn:uuid:0>\""[..])));
        assert_eq!(contact.param("isfocus"), Some(None));
        assert_eq!(contact.param("expires"), Some(Some(&b"60"[..])));
        assert_eq!(contact.param("exp"), None);
    }

    #[test]
    fn lists_go_on_over_lines_and_after_a_broken_one() {
        let bytes = "OPTIONS sip:b SIP/2.0\r\n\
            Route: <sip:1;lr>,<sip:2;lr> ,\r\n <sip:3;lr>\r\n\
            Via: SIP/2.0/UDP a\r\nFrom: <sip:a>\r\nTo: <sip:b>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\
            Route: <sip:4;lr>, sip:bare;lr, <sip:never;lr>\r\n\
            route: <sip:5;lr>,\r\n\
            ROUTE: <sip:6;lr>\r\n\r\n";
        let buf = super::super::MessageBuf::parse(bytes).unwrap();
        let routes: Vec<_> = buf
            .as_message()
            .name_addrs(Header::Route)
            .map(|route| route.map(|route| route.uri))
            .collect();
        let broken = Err(FieldError::Malformed(Header::Route));
        assert_eq!(
            routes,
            [
                Ok(&b"sip:1;lr"[..]),
                Ok(b"sip:2;lr"),
                Ok(b"sip:3;lr"),
                Ok(b"sip:4;lr"),
                broken,
                Ok(b"sip:5;lr"),
                broken,
                Ok(b"sip:6;lr")
            ]
        );
    }

    #[test]
    fn rack_has_two_numbers_and_a_method() {
        let value = b"776656 1\r\n INVITE";
        let read = rack(value, value).unwrap();
        assert_eq!(
            (read.rseq, read.cseq, read.token, read.cseq_span),
            (776_656, 1, &b"INVITE"[..], (7, 8))
        );
        for value in ["1 INVITE", "1 2", "1 2 INVITE x", "4294967296 1 INVITE", ""] {
            assert_eq!(rack(value.as_bytes(), value.as_bytes()), None, "{value}");
        }
    }
}
