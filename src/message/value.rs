//! What the grammars of many fields share: text that may be quoted, parameters, lists, values that stand once.
//!
//! A grammar is a function from the rest of a value to what it read. `whole` runs one over a value that stands alone,
//! `Message::one_value` over the only line of a header, `Message::list` over all values of all its lines.

use std::borrow::Cow;
use std::fmt;

use nom::Parser;
use nom::combinator::{map, map_opt, verify};
use nom::sequence::terminated;

use super::Message;
use super::field::FieldError;
use super::header::Header;
use super::scan::{self, Parsed, end_of_value, generic_param, next_param, separator, taken, token};

/// A token or a quoted-string as received (RFC 3261 §25.1). It is compared and read without its quotes and backslashes.
///
/// ```
/// use referee::message::Text;
///
/// let text = Text::new(br#""Say \"hello\"""#);
/// assert_eq!(text.decoded(), &br#"Say "hello""#[..]);
/// assert_eq!(Text::new(br#""atlanta.example""#), Text::new(b"atlanta.example"));
/// ```
#[derive(Clone, Copy)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// Text as it stands in a message: quoted if it begins with a quote.
    pub fn new(received: &'a [u8]) -> Text<'a> {
        Text(received)
    }

    /// The bytes as received, quotes included.
    pub fn as_received(self) -> &'a [u8] {
        self.0
    }

    /// What it says, byte by byte: without quotes, each quoted-pair as its second byte, a fold as one SP.
    pub fn bytes(self) -> impl Iterator<Item = u8> + Clone + use<'a> {
        let inside = self
            .0
            .strip_prefix(b"\"")
            .map(|rest| rest.strip_suffix(b"\"").unwrap_or(rest));
        let is_quoted = inside.is_some();
        let mut rest = inside.unwrap_or(self.0);
        std::iter::from_fn(move || {
            let byte = match *rest {
                [b'\\', byte, ref after @ ..] if is_quoted => {
                    rest = after;
                    byte
                }
                [b'\r', b'\n', ..] => {
                    rest = scan::skip_lws(rest);
                    b' '
                }
                [byte, ref after @ ..] => {
                    rest = after;
                    byte
                }
                [] => return None,
            };
            Some(byte)
        })
    }

    /// What it says; copied only where a quoted-pair or a fold makes that necessary.
    pub fn decoded(self) -> Cow<'a, [u8]> {
        let plain = match self.0.strip_prefix(b"\"") {
            Some(rest) => rest.strip_suffix(b"\"").unwrap_or(rest),
            None => return Cow::Borrowed(self.0),
        };
        match memchr::memchr2(b'\\', b'\r', plain) {
            None => Cow::Borrowed(plain),
            Some(_) => Cow::Owned(self.bytes().collect()),
        }
    }

    /// Whether it says this, without regard to case.
    pub fn is(self, word: &str) -> bool {
        let lower = |byte: u8| byte.to_ascii_lowercase();
        self.bytes().map(lower).eq(word.bytes().map(lower))
    }

    /// Whether it stands in quotes.
    pub fn is_quoted(self) -> bool {
        self.0.starts_with(b"\"")
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Text<'_>) -> bool {
        self.bytes().eq(other.bytes())
    }
}

impl Eq for Text<'_> {}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({})", self.0.escape_ascii())
    }
}

/// Parameters as received, in order: those behind a value (`*( SEMI generic-param )`), or the comma list of a challenge.
/// Names compare without regard to case.
///
/// The getters of one parameter give `None` where RFC 3261 §7.3.1 is broken, a name that stands twice, or where the
/// value is not of that kind; and `Some(None)` where there is no such parameter.
///
/// ```
/// use referee::message::reason::Reason;
///
/// let reason = Reason::parse(br#"Q.850;cause=16;text="Terminated";x-hop"#).unwrap();
/// assert_eq!(reason.params.iter().count(), 3);
/// assert_eq!(reason.params.flag("X-Hop"), Some(true));
/// assert_eq!(reason.params.number("cause"), Some(Some(16)));
/// assert_eq!(reason.params.number("text"), None);
/// assert_eq!(reason.params.number("expires"), Some(None));
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Params<'a>(&'a [u8]);

impl<'a> Params<'a> {
    /// As received, with the first semicolon.
    pub fn as_received(self) -> &'a [u8] {
        self.0
    }

    /// Names and values in order.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], Option<Text<'a>>)> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            // Only the first of a comma list has nothing before it.
            let param = match skip_separator(rest) {
                Some(param) => param,
                None => rest,
            };
            let (after, (name, value)) = generic_param(param).ok()?;
            rest = after;
            Some((name, value.map(Text)))
        })
    }

    /// The one parameter of this name, with or without a value.
    fn only(self, name: &str) -> Option<Option<Option<Text<'a>>>> {
        let mut found = self
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(Some(value)),
            (None, _) => Some(None),
            (Some(_), Some(_)) => None,
        }
    }

    /// A parameter that is there or not and has no value.
    pub fn flag(self, name: &str) -> Option<bool> {
        match self.only(name)? {
            Some(Some(_)) => None,
            Some(None) => Some(true),
            None => Some(false),
        }
    }

    /// A parameter with any value.
    pub fn text(self, name: &str) -> Option<Option<Text<'a>>> {
        match self.only(name)? {
            Some(Some(value)) => Some(Some(value)),
            Some(None) => None,
            None => Some(None),
        }
    }

    /// A parameter whose value is a token.
    pub fn token(self, name: &str) -> Option<Option<&'a [u8]>> {
        match self.text(name)? {
            Some(Text(value)) if scan::is_token(value) => Some(Some(value)),
            Some(_) => None,
            None => Some(None),
        }
    }

    /// A parameter whose value is a number; one too large for `u32` is `u32::MAX`.
    pub fn number(self, name: &str) -> Option<Option<u32>> {
        match self.text(name)? {
            Some(Text(value)) => scan::decimal_clamped(value).map(Some),
            None => Some(None),
        }
    }

    /// Whether one of the first `most` parameters has the name of another, or there are more than that.
    pub(super) fn has_repeated(self, most: usize) -> bool {
        self.iter().nth(most).is_some()
            || self.iter().enumerate().any(|(place, (name, _))| {
                self.iter()
                    .take(place)
                    .any(|(other, _)| other.eq_ignore_ascii_case(name))
            })
    }
}

impl fmt::Debug for Params<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Params({})", self.0.escape_ascii())
    }
}

fn skip_separator(input: &[u8]) -> Option<&[u8]> {
    let (rest, ()) = separator(b';')(input).or_else(|_| separator(b',')(input)).ok()?;
    Some(rest)
}

// ---- grammars ----

/// `*( SEMI generic-param )`
pub(super) fn params(input: &[u8]) -> Parsed<'_, Params<'_>> {
    let mut rest = input;
    while let Ok((after, _)) = next_param(rest) {
        rest = after;
    }
    Ok((rest, Params(scan::trim(taken(input, rest)))))
}

/// `auth-param *( COMMA auth-param )`, `auth-param = auth-param-name EQUAL ( token / quoted-string )`
pub(super) fn comma_params(input: &[u8]) -> Parsed<'_, Params<'_>> {
    // A token68 such as `dXNlcg==` (RFC 7235 §2.1) ends in a second `=`, and is no parameter.
    let is_value = |value: &[u8]| value != b"=";
    let param = |input| {
        verify(generic_param, |(_, value): &(_, Option<&[u8]>)| {
            value.is_some_and(is_value)
        })
        .parse(input)
    };
    let (mut rest, _) = param(input)?;
    while let Ok((after, ())) = separator(b',')(rest) {
        (rest, _) = param(after)?;
    }
    Ok((rest, Params(scan::trim(taken(input, rest)))))
}

/// `token / quoted-string`
pub(super) fn text(input: &[u8]) -> Parsed<'_, Text<'_>> {
    map(|input| token(input).or_else(|_| scan::quoted_string(input)), Text).parse(input)
}

/// `delta-seconds = 1*DIGIT`; a number too large for `u32` is `u32::MAX`, 136 years (RFC 3261 §20.19 goes no further).
pub(super) fn delta_seconds(input: &[u8]) -> Parsed<'_, u32> {
    map_opt(scan::digits, scan::decimal_clamped).parse(input)
}

/// `callid = word [ "@" word ]`, and what peers put there beyond `word`: anything that ends no value.
pub(super) fn callid(input: &[u8]) -> Parsed<'_, &[u8]> {
    let ends = |byte: u8| byte <= b' ' || matches!(byte, b';' | b',' | 0x7f);
    match input.iter().position(|byte| ends(*byte)).unwrap_or(input.len()) {
        0 => Err(nom::Err::Error(())),
        length => Ok((&input[length..], &input[..length])),
    }
}

/// A qvalue in thousandths: `( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )`.
pub(super) fn qvalue(text: &[u8]) -> Option<u16> {
    let (&whole, fraction) = text.split_first()?;
    let digits = match fraction {
        [] => fraction,
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return None,
    };
    let mut thousandths = match whole {
        b'0' => 0,
        b'1' => 1000,
        _ => return None,
    };
    for (digit, weight) in digits.iter().zip([100, 10, 1]) {
        thousandths += u16::from(char::from(*digit).to_digit(10)? as u8) * weight;
    }
    (thousandths <= 1000).then_some(thousandths)
}

/// Runs a grammar over a value that stands alone; `None` unless it takes all of it.
pub(super) fn whole<'a, T>(grammar: impl Fn(&'a [u8]) -> Parsed<'a, T>, value: &'a [u8]) -> Option<T> {
    match grammar(scan::trim(value)) {
        Ok((rest, read)) if scan::skip_lws(rest).is_empty() => Some(read),
        Ok(_) | Err(_) => None,
    }
}

/// The values of one line, from comma to comma. One that is malformed is `None` and the last.
pub(super) struct Elements<'a, T> {
    rest: Option<&'a [u8]>,
    grammar: fn(&'a [u8]) -> Parsed<'a, T>,
}

impl<'a, T> Elements<'a, T> {
    pub(super) fn new(value: &'a [u8], grammar: fn(&'a [u8]) -> Parsed<'a, T>) -> Elements<'a, T> {
        let rest = Some(scan::trim(value));
        Elements { rest, grammar }
    }
}

impl<T> Iterator for Elements<'_, T> {
    type Item = Option<T>;

    fn next(&mut self) -> Option<Option<T>> {
        let input = self.rest.take()?;
        let Ok((rest, value)) = terminated(self.grammar, end_of_value).parse(input) else {
            return Some(None);
        };
        self.rest = rest.split_first().map(|(_comma, after)| scan::skip_lws(after));
        Some(Some(value))
    }
}

/// The tokens of a list such as Allow or Supported, up to the first that is none.
///
/// ```
/// use referee::message::value::{lists_token, tokens};
///
/// assert!(tokens(b"INVITE, ACK,BYE").eq([&b"INVITE"[..], b"ACK", b"BYE"]));
/// assert!(lists_token(b"timer, 100rel", "100REL"));
/// ```
pub fn tokens(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    Elements::new(list, token).map_while(|token| token)
}

/// Whether a list has this token, without regard to case: a peer that allows `notify` means NOTIFY.
pub fn lists_token(list: &[u8], wanted: &str) -> bool {
    tokens(list).any(|token| token.eq_ignore_ascii_case(wanted.as_bytes()))
}

impl<'a> Message<'a> {
    /// A field that stands once and has one value. A second line of it is malformed (RFC 3261 §7.3.1: only a field
    /// defined as a comma list may have several).
    pub(super) fn one_value<T>(
        &self,
        header: Header,
        grammar: impl Fn(&'a [u8]) -> Parsed<'a, T>,
    ) -> Result<Option<T>, FieldError> {
        let mut lines = self.lines_of(header);
        match (lines.next(), lines.next()) {
            (None, _) => Ok(None),
            (Some(line), None) => whole(grammar, line.value)
                .map(Some)
                .ok_or(FieldError::Malformed(header)),
            (Some(_), Some(_)) => Err(FieldError::Malformed(header)),
        }
    }

    /// The values of a comma list over all lines of the header. After an error the next value is that of the next line.
    pub(super) fn list<T: 'a>(
        &self,
        header: Header,
        grammar: fn(&'a [u8]) -> Parsed<'a, T>,
    ) -> impl Iterator<Item = Result<T, FieldError>> + use<'a, T> {
        // RFC 3261 §25.1: of these the list may be empty.
        let may_be_empty = matches!(header, Header::Accept | Header::Allow | Header::Supported);
        self.lines_of(header)
            .filter(move |line| !(may_be_empty && line.value.is_empty()))
            .flat_map(move |line| Elements::new(line.value, grammar))
            .map(move |value| value.ok_or(FieldError::Malformed(header)))
    }

    /// The tokens of a list: option tags of Require, Proxy-Require, Supported and Unsupported (RFC 3261 §20.32, §20.29,
    /// §20.37, §20.40), methods of Allow (§20.5), codings of Content-Encoding (§20.12), packages of Allow-Events
    /// (RFC 6665 §8.2.2).
    pub fn tokens(&self, header: Header) -> impl Iterator<Item = Result<&'a [u8], FieldError>> + use<'a> {
        self.list(header, token)
    }

    /// Whether a list of tokens has this one, without regard to case. What is malformed lists nothing.
    pub fn lists(&self, header: Header, wanted: &str) -> bool {
        self.tokens(header)
            .flatten()
            .any(|token| token.eq_ignore_ascii_case(wanted.as_bytes()))
    }
}

/// A message with these lines and nothing else of interest.
#[cfg(test)]
pub(super) fn with(lines: &str) -> super::MessageBuf {
    let text = format!(
        "OPTIONS sip:b SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nFrom: <sip:a>\r\nTo: <sip:b>\r\nCall-ID: c\r\n\
         CSeq: 1 OPTIONS\r\n{lines}\r\n"
    );
    super::MessageBuf::parse(text).expect("a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_says_what_its_escapes_stand_for() {
        for (received, said) in [
            (&br#""a b""#[..], &b"a b"[..]),
            (br#""""#, b""),
            (br#""\\\"\,""#, br#"\","#),
            (b"\"a\r\n  b\"", b"a b"),
            (b"a\\b", b"a\\b"),
            (b"\"\\\0\"", b"\0"),
        ] {
            let text = Text::new(received);
            assert_eq!(text.decoded(), said, "{text:?}");
            assert!(text.bytes().eq(said.iter().copied()), "{text:?}");
        }
        assert!(Text::new(br#""TRUE""#).is("true") && !Text::new(b"true ").is("true"));
        assert_eq!(format!("{:?}", Text::new(b"\"a\"")), r#"Text(\"a\")"#);
    }

    #[test]
    fn a_parameter_stands_once_and_is_of_its_kind() {
        let value = b"; a ; b = 5 ;C=\"x;a\";d=99999999999;e;E;f=[::1]";
        let (rest, params) = params(value).unwrap();
        assert_eq!(rest, b"");
        assert_eq!(
            (params.flag("A"), params.flag("b"), params.flag("x")),
            (Some(true), None, Some(false))
        );
        assert_eq!(
            (params.number("b"), params.number("d")),
            (Some(Some(5)), Some(Some(u32::MAX)))
        );
        assert_eq!(params.text("c"), Some(Some(Text::new(b"x;a"))));
        assert_eq!((params.token("c"), params.token("b")), (None, Some(Some(&b"5"[..]))));
        assert_eq!(
            (params.flag("e"), params.text("e"), params.number("e")),
            (None, None, None)
        );
        assert_eq!(
            (params.text("a"), params.text("z"), params.token("f")),
            (None, Some(None), None)
        );
    }

    #[test]
    fn a_list_goes_on_over_lines_and_stops_at_what_is_malformed() {
        let buf =
            with("Supported: timer,\r\n 100rel\r\nk: replaces, x y, never\r\nSupported:\r\nk: path\r\nAllow:\r\n");
        let message = buf.as_message();
        let bad = Err(FieldError::Malformed(Header::Supported));
        let read: Vec<_> = message.tokens(Header::Supported).collect();
        assert_eq!(
            read,
            [Ok(&b"timer"[..]), Ok(b"100rel"), Ok(b"replaces"), bad, Ok(b"path")]
        );
        assert!(message.lists(Header::Supported, "Path") && !message.lists(Header::Supported, "never"));
        assert_eq!(message.tokens(Header::Allow).count(), 0);
        for line in [
            "Require:",
            "Require: a,",
            "Require: ,a",
            "Require: a;b",
            "Unsupported: \"a\"",
        ] {
            let buf = with(&format!("{line}\r\n"));
            let header = buf.as_message().lines().last().unwrap().header;
            assert!(buf.as_message().tokens(header).any(|token| token.is_err()), "{line}");
        }
    }

    #[test]
    fn a_qvalue_has_at_most_three_digits_and_is_at_most_one() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1000)),
            ("0.", Some(0)),
            ("0.7", Some(700)),
            ("0.123", Some(123)),
            ("1.000", Some(1000)),
            ("1.001", None),
            ("2", None),
            // Its code less that of 0, in thousandths, is 464 in 16 bits.
            ("r", None),
            ("0.1234", None),
            (".5", None),
            ("0,5", None),
            ("-0", None),
            ("", None),
            ("0.x", None),
        ] {
            assert_eq!(qvalue(text.as_bytes()), expected, "{text}");
        }
    }
}
