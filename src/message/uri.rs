//! sip, sips and tel URIs (RFC 3261 §19.1, RFC 3966) as views; equality of §19.1.4.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use super::class::run_grammar;
use super::scan::{self, short_name};

/// A URI taken apart. Nothing is decoded: every part is the bytes as received.
///
/// ```
/// use referee::message::uri::{Host, Scheme, Uri, UriError};
///
/// let uri = Uri::parse(b"sip:alice%40home:pw@[2001:db8::9]:5070;transport=tcp;lr?Subject=a%20b").unwrap();
/// assert_eq!((uri.scheme, uri.user), (Scheme::Sip, Some(&b"alice%40home:pw"[..])));
/// assert_eq!((uri.host, uri.port), (Host::Address("2001:db8::9".parse().unwrap()), Some(5070)));
/// assert_eq!((uri.param("Transport"), uri.param("lr")), (Some(Some(&b"tcp"[..])), Some(None)));
/// assert!(uri.headers().eq([(&b"Subject"[..], Some(&b"a%20b"[..]))]));
///
/// let equal = Uri::parse(b"SIP:%61lice@EXAMPLE.com;x=1").unwrap();
/// assert!(equal.equals(&Uri::parse(b"sip:alice@example.com").unwrap()));
/// assert_eq!(Uri::parse(b"sip:alice@2001:db8::9"), Err(UriError::Host));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// What stands before the first colon.
    pub scheme: Scheme<'a>,
    /// Everything between the scheme and the `@` before the host, password included; `None` without `@`. It may hold
    /// `;`, `?` and the like, and further `@` if a peer forgot to escape them. For tel: the number; for another
    /// scheme: all that follows the colon.
    pub user: Option<&'a [u8]>,
    /// The host; for tel and other schemes `Host::Name(b"")`.
    pub host: Host<'a>,
    /// The port if one is written (1 to 65535); an absent port is not the same as the default one.
    pub port: Option<u16>,
    /// From the first `;` (included) to `?`; empty without.
    pub params: &'a [u8],
    /// After `?`; empty without.
    pub headers: &'a [u8],
}

/// A URI's scheme, compared without regard to case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme<'a> {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:` (RFC 3966)
    Tel,
    /// Any other, as received.
    Other(&'a [u8]),
}

/// An address or a name, as in hostport. IPv6 without its brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// An IPv4 or IPv6 address.
    Address(IpAddr),
    /// A host name as received; it compares without regard to case.
    Name(&'a [u8]),
}

impl<'a> Host<'a> {
    /// An address (IPv6 with or without brackets) or else a name; `None` for empty text.
    pub fn parse(text: &'a [u8]) -> Option<Host<'a>> {
        let bare = text
            .strip_prefix(b"[")
            .and_then(|rest| rest.strip_suffix(b"]"))
            .unwrap_or(text);
        match std::str::from_utf8(bare).ok().and_then(|text| text.parse().ok()) {
            Some(address) => Some(Host::Address(address)),
            None if text.is_empty() => None,
            None => Some(Host::Name(text)),
        }
    }

    /// Names without regard to case, addresses as numbers.
    pub fn equals(&self, other: &Host<'_>) -> bool {
        match (self, other) {
            (Host::Address(one), Host::Address(two)) => one == two,
            (Host::Name(one), Host::Name(two)) => one.eq_ignore_ascii_case(two),
            (Host::Address(_), Host::Name(_)) | (Host::Name(_), Host::Address(_)) => false,
        }
    }
}

/// Why bytes are not a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriError {
    /// No scheme and colon at the front.
    Scheme,
    /// An `@` with nothing before it, or a byte that no user part may have.
    User,
    /// No host, or one that is neither name nor address; an IPv6 address without brackets.
    Host,
    /// Not a number from 1 to 65535.
    Port,
    /// White space, a control byte, a quote or an angle bracket, or anything else behind the host that is neither
    /// parameters nor headers.
    Characters,
    /// A tel number with no digit or with bytes RFC 3966 does not have.
    Number,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UriError::Scheme => "no scheme and colon at the front",
            UriError::User => "nothing before the `@`, or what no user part may have",
            UriError::Host => "no host, or none that is a name or an address",
            UriError::Port => "a port that is no number from 1 to 65535",
            UriError::Characters => "characters that no URI has there",
            UriError::Number => "a tel number without a digit, or with what RFC 3966 does not have",
        })
    }
}

/// RFC 3261 §19.1.1 names six parameters, and peers add few. Above this many parameters (or headers) in one URI only identical ones count as equal, so that no pair of URIs
/// costs more than a fixed number of comparisons.
const COMPARED_PARTS_MAX: usize = 32;

/// A URI as a Request-URI has it: without headers and without `method` (RFC 3261 §19.1.1, table 1). What is no URI stays as it is.
///
/// ```
/// use referee::message::uri::request_uri;
///
/// assert_eq!(&request_uri(b"sip:a@b;method=BYE;lr?Route=%3Csip:c%3E")[..], b"sip:a@b;lr");
/// assert_eq!(&request_uri(b"sip:a;method=x@b")[..], b"sip:a;method=x@b");
/// ```
pub fn request_uri(text: &[u8]) -> Cow<'_, [u8]> {
    let Ok(uri) = Uri::parse(text) else {
        return Cow::Borrowed(text);
    };
    let without_headers = match uri.headers.len() {
        0 => text.strip_suffix(b"?").unwrap_or(text),
        headers => &text[..text.len() - headers - 1],
    };
    if !matches!(uri.scheme, Scheme::Sip | Scheme::Sips) || uri.param("method").is_none() {
        return Cow::Borrowed(without_headers);
    }
    let mut kept = without_headers[..without_headers.len() - uri.params.len()].to_vec();
    for (name, value) in uri.params().filter(|(name, _)| !name.eq_ignore_ascii_case(b"method")) {
        kept.push(b';');
        kept.extend_from_slice(name);
        if let Some(value) = value {
            kept.push(b'=');
            kept.extend_from_slice(value);
        }
    }
    Cow::Owned(kept)
}

impl<'a> Uri<'a> {
    /// Takes a URI apart. Schemes other than sip, sips and tel are taken as they are (RFC 4475 §3.3.2 to §3.3.4).
    pub fn parse(bytes: &'a [u8]) -> Result<Uri<'a>, UriError> {
        run_grammar(
            #[inline(always)]
            || Uri::any(bytes),
        )
    }

    #[inline(always)]
    fn any(bytes: &'a [u8]) -> Result<Uri<'a>, UriError> {
        match bytes {
            [b's' | b'S', b'i' | b'I', b'p' | b'P', b':', rest @ ..] => return Uri::sip(Scheme::Sip, rest),
            [b's' | b'S', b'i' | b'I', b'p' | b'P', b's' | b'S', b':', rest @ ..] => {
                return Uri::sip(Scheme::Sips, rest);
            }
            _ => {}
        }
        let colon = scan::run(bytes, scan::SCHEME);
        if !bytes.first().is_some_and(u8::is_ascii_alphabetic) || bytes.get(colon) != Some(&b':') {
            return Err(UriError::Scheme);
        }
        let (scheme, rest) = (&bytes[..colon], &bytes[colon + 1..]);
        if scan::run(rest, scan::URI) != rest.len() {
            return Err(UriError::Characters);
        }
        if scheme.eq_ignore_ascii_case(b"tel") {
            return Uri::tel(rest);
        }
        Ok(Uri {
            scheme: Scheme::Other(scheme),
            user: Some(rest),
            host: Host::Name(b""),
            port: None,
            params: b"",
            headers: b"",
        })
    }

    /// ```text
    /// SIP-URI        = "sip:" [ userinfo ] hostport uri-parameters [ headers ]
    /// SIPS-URI       = "sips:" [ userinfo ] hostport uri-parameters [ headers ]
    /// userinfo       = ( user / telephone-subscriber ) [ ":" password ] "@"
    /// hostport       = host [ ":" port ]
    /// uri-parameters = *( ";" uri-parameter )
    /// headers        = "?" header *( "&" header )
    /// ```
    ///
    /// RFC 3261 §25.1. The user part may hold any byte that a URI may: what its sender should have escaped is no reason to
    /// end a call.
    #[inline(always)]
    fn sip(scheme: Scheme<'a>, rest: &'a [u8]) -> Result<Uri<'a>, UriError> {
        let user_length = scan::run(rest, scan::USER);
        let (user, rest) = match rest[user_length..] {
            [] => (None, rest),
            [b'@', ..] => split_user(rest, user_length),
            _ => return Err(UriError::Characters),
        };
        if user.is_some_and(|user| user.is_empty() || user[0] == b':') {
            return Err(UriError::User);
        }
        let (rest, host) = scan::host(rest).map_err(|_| UriError::Host)?;
        let (rest, port) = match rest.strip_prefix(b":") {
            Some(digits) => scan::port(digits)
                .map(|(rest, port)| (rest, Some(port)))
                .map_err(|_| UriError::Port)?,
            None => (rest, None),
        };
        let (params, headers) = match rest.first() {
            None => (rest, rest),
            Some(b';' | b'?') => match rest.split_at(scan::run(rest, scan::PARAMS)) {
                (params, []) => (params, &b""[..]),
                (params, [b'?', headers @ ..]) if scan::run(headers, scan::URI) == headers.len() => (params, headers),
                _ => return Err(UriError::Characters),
            },
            Some(_) => return Err(UriError::Characters),
        };
        Ok(Uri {
            scheme,
            user,
            host,
            port,
            params,
            headers,
        })
    }

    /// ```text
    /// telephone-uri        = "tel:" telephone-subscriber
    /// telephone-subscriber = global-number / local-number
    /// global-number        = "+" *phonedigit DIGIT *phonedigit *par
    /// local-number         = *phonedigit-hex ( HEXDIG / "*" / "#" ) *phonedigit-hex *par context *par
    /// phonedigit           = DIGIT / visual-separator
    /// visual-separator     = "-" / "." / "(" / ")"
    /// ```
    ///
    /// RFC 3966 §3. A local number without its context is taken: many trunks send such.
    fn tel(rest: &'a [u8]) -> Result<Uri<'a>, UriError> {
        let (number, params) = rest.split_at(memchr::memchr(b';', rest).unwrap_or(rest.len()));
        let local = number.strip_prefix(b"+").unwrap_or(number);
        let is_digit = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'*' | b'#');
        if !local.iter().any(is_digit) || !local.iter().all(|byte| is_digit(byte) || is_visual_separator(*byte)) {
            return Err(UriError::Number);
        }
        Ok(Uri {
            scheme: Scheme::Tel,
            user: Some(number),
            host: Host::Name(b""),
            port: None,
            params,
            headers: b"",
        })
    }

    /// A URI parameter by name without regard to case: `None` absent, `Some(None)` without value.
    pub fn param(&self, name: &str) -> Option<Option<&'a [u8]>> {
        Parts::new(self.params, b';')
            .find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// The parameters in order, names and values as received.
    pub fn params(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        Parts::new(self.params, b';')
    }

    /// The header components in order: names and values as received, still escaped (RFC 3261 §19.1.1).
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        Parts::new(self.headers, b'&')
    }

    /// RFC 3261 §19.1.4; for tel RFC 3966 §4; other schemes are equal if their bytes are.
    pub fn equals(&self, other: &Uri<'_>) -> bool {
        match (self.scheme, other.scheme) {
            (Scheme::Sip, Scheme::Sip) | (Scheme::Sips, Scheme::Sips) => self.equals_sip(other),
            (Scheme::Tel, Scheme::Tel) => self.equals_tel(other),
            (Scheme::Other(one), Scheme::Other(two)) => one.eq_ignore_ascii_case(two) && self.user == other.user,
            _ => false,
        }
    }

    fn equals_sip(&self, other: &Uri<'_>) -> bool {
        let users_equal = match (self.user, other.user) {
            (Some(one), Some(two)) => Compared::new(one).eq(Compared::new(two)),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        // In only one of the two, these five make them differ; any other parameter is then ignored.
        let counts = |name: &[u8]| {
            ["user", "ttl", "method", "maddr", "transport"]
                .iter()
                .any(|one| name.eq_ignore_ascii_case(one.as_bytes()))
        };
        // How the values of a header compare depends on the header: byte for byte is never wrong.
        let with_case = |_: &[u8], one: &[u8], two: &[u8]| Compared::new(one).eq(Compared::new(two));
        users_equal
            && self.port == other.port
            && self.host.equals(&other.host)
            && parts_equal(self.params, other.params, b';', counts, |_, one, two| {
                equal_ignoring_case(one, two)
            })
            && parts_equal(self.headers, other.headers, b'&', |_| true, with_case)
    }

    /// RFC 3966 §4: numbers by their digits, both global or both local; every parameter in both, in any order; the
    /// context as a number if it is one, else as a host name.
    fn equals_tel(&self, other: &Uri<'_>) -> bool {
        let digits_equal = |one: &[u8], two: &[u8]| {
            let digits = |number: &[u8]| -> smallvec::SmallVec<[u8; 32]> {
                let digits = number.iter().filter(|byte| !is_visual_separator(**byte));
                digits.map(u8::to_ascii_lowercase).collect()
            };
            digits(one) == digits(two)
        };
        let values_equal = |name: &[u8], one: &[u8], two: &[u8]| {
            let is_number = one.starts_with(b"+") && name.eq_ignore_ascii_case(b"phone-context");
            match is_number || name.eq_ignore_ascii_case(b"ext") {
                true => digits_equal(one, two),
                false => equal_ignoring_case(one, two),
            }
        };
        digits_equal(self.user.unwrap_or_default(), other.user.unwrap_or_default())
            && parts_equal(self.params, other.params, b';', |_| true, values_equal)
    }
}

/// User part and the rest. The first `@` ends the user part, whatever stands before it (a user may hold `;` and `?`);
/// further ones before parameters and headers belong to a user part that was not escaped.
fn split_user(rest: &[u8], first: usize) -> (Option<&[u8]>, &[u8]) {
    let (user, after) = (&rest[..first], &rest[first + 1..]);
    if scan::run(after, scan::USER) == after.len() {
        return (Some(user), after);
    }
    let end = memchr::memchr2(b';', b'?', &rest[first..]).map_or(rest.len(), |length| first + length);
    let last = memchr::memrchr(b'@', &rest[first..end]).map_or(first, |at| first + at);
    (Some(&rest[..last]), &rest[last + 1..])
}

fn is_visual_separator(byte: u8) -> bool {
    matches!(byte, b'-' | b'.' | b'(' | b')')
}

/// `name=value` parts between separators, empty ones passed over.
struct Parts<'a> {
    rest: &'a [u8],
    separator: u8,
}

impl<'a> Parts<'a> {
    fn new(rest: &'a [u8], separator: u8) -> Parts<'a> {
        Parts { rest, separator }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let end = memchr::memchr(self.separator, self.rest).unwrap_or(self.rest.len());
            let part = &self.rest[..end];
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if !part.is_empty() {
                return Some(match memchr::memchr(b'=', part) {
                    Some(equals) => (&part[..equals], Some(&part[equals + 1..])),
                    None => (part, None),
                });
            }
        }
        None
    }
}

/// Whether two lists of `name=value` say the same in any order. A part that stands in only one of them makes them
/// differ if `counts` says so; `values_equal` is asked with the name and both values.
fn parts_equal(
    one: &[u8],
    two: &[u8],
    separator: u8,
    counts: impl Fn(&[u8]) -> bool,
    values_equal: impl Fn(&[u8], &[u8], &[u8]) -> bool,
) -> bool {
    if one == two {
        return true;
    }
    let too_many = |parts: &[u8]| Parts::new(parts, separator).nth(COMPARED_PARTS_MAX).is_some();
    if too_many(one) || too_many(two) {
        return false;
    }
    let agree = |from: &[u8], with: &[u8]| {
        Parts::new(from, separator).all(|(name, value)| {
            match Parts::new(with, separator).find(|(found, _)| equal_ignoring_case(found, name)) {
                Some((_, found)) => match (value, found) {
                    (Some(value), Some(found)) => values_equal(name, value, found),
                    (None, None) => true,
                    (Some(_), None) | (None, Some(_)) => false,
                },
                None => !counts(name),
            }
        })
    };
    agree(one, two) && agree(two, one)
}

fn equal_ignoring_case(one: &[u8], two: &[u8]) -> bool {
    let lower = |character: Character| match character {
        Character::Plain(byte) => Character::Plain(byte.to_ascii_lowercase()),
        escaped => escaped,
    };
    Compared::new(one).map(lower).eq(Compared::new(two).map(lower))
}

/// A character of a URI as RFC 3261 §19.1.4 compares it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Character {
    /// Itself, or the `%HH` of one that is not reserved: both are the same.
    Plain(u8),
    /// The `%HH` of a reserved character, which is not that character: `;` ends what `%3B` does not.
    Escaped(u8),
}

/// The characters of a part of a URI, for comparing.
struct Compared<'a>(&'a [u8]);

impl<'a> Compared<'a> {
    fn new(part: &'a [u8]) -> Compared<'a> {
        Compared(part)
    }
}

impl Iterator for Compared<'_> {
    type Item = Character;

    fn next(&mut self) -> Option<Character> {
        let mut unescaped = Unescaped(self.0);
        let byte = unescaped.next()?;
        let is_escaped = self.0.len() - unescaped.0.len() > 1;
        self.0 = unescaped.0;
        // RFC 2396 §2.2; RFC 3986 §2.2 has the brackets too.
        let is_reserved = b";/?:@&=+$,[]".contains(&byte);
        Some(match is_escaped && is_reserved {
            true => Character::Escaped(byte),
            false => Character::Plain(byte),
        })
    }
}

/// The bytes with each `%HH` decoded, once (RFC 3261 §19.1.2).
pub(crate) struct Unescaped<'a>(pub(crate) &'a [u8]);

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let hex = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        if let [b'%', high, low, rest @ ..] = self.0
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            self.0 = rest;
            return Some(high << 4 | low);
        }
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }
}

/// Whether one of the parameters of RFC 3261 §19.1.1 stands twice in a URI.
pub(crate) fn has_repeated_param(uri: &Uri<'_>) -> bool {
    const LR: u64 = short_name(b"lr");
    const MADDR: u64 = short_name(b"maddr");
    const METHOD: u64 = short_name(b"method");
    const TTL: u64 = short_name(b"ttl");
    const USER: u64 = short_name(b"user");
    // One parameter, as most have, cannot stand twice.
    if memchr::memrchr(b';', uri.params).is_none_or(|last| last == 0) {
        return false;
    }
    let mut seen = [false; 6];
    uri.params().any(|(name, _)| {
        let position = match short_name(name) {
            LR => 0,
            MADDR => 1,
            METHOD => 2,
            TTL => 3,
            USER => 4,
            _ if name.eq_ignore_ascii_case(b"transport") => 5,
            _ => return false,
        };
        std::mem::replace(&mut seen[position], true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Uri<'_> {
        Uri::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error:?}"))
    }

    #[test]
    fn uris_are_taken_apart() {
        let uri = parse("sips:alice:pw@Example.COM:5061;transport=tcp;lr?Subject=a&X=b%3D");
        assert_eq!((uri.scheme, uri.user), (Scheme::Sips, Some(&b"alice:pw"[..])));
        assert_eq!((uri.host, uri.port), (Host::Name(b"Example.COM"), Some(5061)));
        assert_eq!(
            (uri.params, uri.headers),
            (&b";transport=tcp;lr"[..], &b"Subject=a&X=b%3D"[..])
        );
        assert_eq!(
            (uri.param("Transport"), uri.param("LR"), uri.param("x")),
            (Some(Some(&b"tcp"[..])), Some(None), None)
        );
        let headers: Vec<_> = uri.headers().collect();
        assert_eq!(headers, [(&b"Subject"[..], Some(&b"a"[..])), (b"X", Some(b"b%3D"))]);

        assert_eq!(parse("sip:example.com").user, None);
        let uri = parse("sip:user;par=u%40h?x@[2001:db8::1];lr");
        assert_eq!((uri.user, uri.params), (Some(&b"user;par=u%40h?x"[..]), &b";lr"[..]));
        // Not escaped by its sender: all but the last is the user.
        let uri = parse("sip:a@b@c.example;x=y?h=d@e");
        assert_eq!((uri.user, uri.host), (Some(&b"a@b"[..]), Host::Name(b"c.example")));
        let uri = parse("tel:+1-201-555-0123;phone-context=example.com");
        assert_eq!((uri.scheme, uri.user), (Scheme::Tel, Some(&b"+1-201-555-0123"[..])));
        assert_eq!(uri.param("phone-context"), Some(Some(&b"example.com"[..])));
        let uri = parse("http://x/?y;z");
        assert_eq!((uri.scheme, uri.user), (Scheme::Other(b"http"), Some(&b"//x/?y;z"[..])));
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for (text, error) in [
            ("", UriError::Scheme),
            ("alice", UriError::Scheme),
            (":a", UriError::Scheme),
            ("1sip:a", UriError::Scheme),
            ("<sip:a>", UriError::Scheme),
            ("sip:a b", UriError::Characters),
            ("sip:a@b>", UriError::Characters),
            ("sip:\"a\"@b", UriError::Characters),
            ("sip:a\u{0}@b", UriError::Characters),
            ("sip:@b", UriError::User),
            ("sip::pw@b", UriError::User),
            ("sip:", UriError::Host),
            ("sip:a@", UriError::Host),
            ("sip:a@;lr", UriError::Host),
            ("sip:a@[::1", UriError::Host),
            ("sip:a@[2001:db8:::1]", UriError::Host),
            ("sip:a@1.2.3", UriError::Host),
            ("sip:2001:db8::1", UriError::Host),
            ("sip:a@b:", UriError::Port),
            ("sip:a@b:0", UriError::Port),
            ("sip:a@b:65536", UriError::Port),
            ("sip:a@b/x", UriError::Characters),
            ("sip:a@b:5060x", UriError::Characters),
            ("tel:", UriError::Number),
            ("tel:+", UriError::Number),
            ("tel:alice", UriError::Number),
        ] {
            assert_eq!(Uri::parse(text.as_bytes()), Err(error), "{text}");
        }
    }

    #[test]
    fn equality_is_that_of_rfc_3261_19_1_4() {
        let equal = [
            (
                "sip:%61lice@atlanta.com;transport=TCP",
                "sip:alice@AtlanTa.CoM;Transport=tcp",
            ),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;security=off"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
            ("sip:a@[2001:db8::1]", "sip:a@[2001:DB8:0::1]"),
            // Escaped or not, and in any case of the digits, where nothing is reserved; a reserved one only escaped.
            ("sip:%41%6C%6c@b", "sip:All@b"),
            ("sip:a%3bb@c", "sip:a%3Bb@c"),
            ("sip:a@b;x=%61%3F", "sip:a@b;X=A%3f"),
            ("sip:a:pw%21@b", "sip:a:pw!@b"),
            // RFC 3966 §4.
            ("tel:+1-201-555-0123", "tel:+12015550123"),
            ("tel:+1(201)555.0123", "tel:+1-201-5550123"),
            (
                "tel:7042;phone-context=Example.COM",
                "tel:70-42;Phone-Context=example.com",
            ),
            (
                "tel:863-1234;phone-context=+1-914-555",
                "tel:8631234;phone-context=+1914555",
            ),
            ("tel:+1201;ext=1-2;isub=9", "tel:+1201;isub=9;ext=12"),
            ("tel:aB*#;phone-context=x", "tel:Ab*#;phone-context=X"),
            ("TEL:+12015550123;a=b;c=d", "tel:+12015550123;C=D;a=b"),
            ("http://x", "HTTP://x"),
        ];
        let different = [
            (
                "SIP:ALICE@AtLanTa.CoM;Transport=udp",
                "sip:alice@AtLanTa.CoM;Transport=UDP",
            ),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;newparam=6"),
            (
                "sip:carol@chicago.com;security=on",
                "sip:carol@chicago.com;security=off",
            ),
            ("sip:a@b", "sips:a@b"),
            ("sip:a@b", "sip:b"),
            ("sip:a@b", "sip:A@b"),
            ("sip:a:pw@b", "sip:a:PW@b"),
            ("sip:a:pw@b", "sip:a@b"),
            ("sip:a%3Bb@c", "sip:a;b@c"),
            ("sip:a%40b@c", "sip:a@b@c"),
            ("sip:a@b;ttl=1", "sip:a@b"),
            ("sip:a@b;method=INVITE", "sip:a@b"),
            ("sip:a@b;lr", "sip:a@b;lr=1"),
            ("sip:a@b?x=1", "sip:a@b?x=1&y=2"),
            ("sip:a@b;user=phone", "sip:a@b"),
            ("sip:a@b;maddr=192.0.2.1", "sip:a@b"),
            ("sip:a%2541@b", "sip:aA@b"),
            ("tel:+12015550123", "tel:12015550123"),
            ("tel:+12015550123;ext=1", "tel:+12015550123"),
            (
                "tel:7042;phone-context=example.com",
                "tel:7042;phone-context=example.org",
            ),
            ("tel:7042;phone-context=+1914", "tel:7042;phone-context=1914"),
            ("tel:+12015550123", "sip:+12015550123@b;user=phone"),
        ];
        for (one, two) in equal {
            assert!(
                parse(one).equals(&parse(two)) && parse(two).equals(&parse(one)),
                "{one} {two}"
            );
        }
        for (one, two) in different {
            assert!(
                !parse(one).equals(&parse(two)) && !parse(two).equals(&parse(one)),
                "{one} {two}"
            );
        }
    }

    #[test]
    fn comparing_many_parameters_does_not_take_many_times_many_steps() {
        let many = |last: &str| format!("sip:a@b{};{last}", ";p".repeat(10_000));
        let (one, two) = (many("x=1"), many("x=2"));
        assert!(parse(&one).equals(&parse(&one)));
        assert!(!parse(&one).equals(&parse(&two)));
    }
}
