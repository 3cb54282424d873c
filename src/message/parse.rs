//! One pass from bytes to an index: where the start line ends, where each header line lies, where the body starts.
//!
//! The pass goes from line end to line end and stops at the empty line; the body is never looked at. Whatever a wrong
//! guess would turn into two readings of one message (framing, singletons, control bytes) is decided here; the grammar of
//! other values is read when somebody asks ([`super::field`]), or by [`super::check()`] for all that a proxy depends on.

use std::fmt;
use std::ops::Range;

use super::avx2::{Avx2, LINES_MAX};
use super::header::{Header, Method};
use super::index::{CSeqPlace, Line, Lines, MANDATORY, Start, range, set};
use super::lines::{LineEnd, LineEnds, Plain, Search};
use super::scan;

pub use super::index::{HEADER_LINES_MAX, Index};

/// The largest message: the largest datagram (RFC 3261 §18.1.1), and the same bound on a stream.
pub const MESSAGE_BYTES_MAX: usize = 65_535;

/// Why bytes are not a message, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// Where it was found: an offset into the bytes.
    pub offset: u16,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.kind.reason(), self.offset)
    }
}

impl std::error::Error for ParseError {}

/// What is wrong with a message. Those down to `CSeqMethod` come from [`parse()`], the others from [`super::check()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseErrorKind {
    /// The first line is neither a Request-Line nor a Status-Line.
    NotSip,
    /// The Request-Line is not Method SP Request-URI SP SIP-Version (RFC 3261 §7.1), or the method is not a token.
    RequestLine,
    /// A SIP version other than 2.0: 505 (RFC 3261 §21.5.6).
    Version,
    /// The status code is not three digits from 100 to 699 (RFC 3261 §7.2).
    StatusCode,
    /// A continuation line straight after the start line.
    FoldedStartLine,
    /// A header line has no colon.
    NoColon,
    /// A header name is not a token.
    HeaderName,
    /// A CR that no LF follows.
    BareCr,
    /// An LF that follows no CR.
    BareLf,
    /// NUL, DEL or another control byte outside a quoted-pair.
    ControlByte,
    /// The bytes end before the empty line.
    NoEmptyLine,
    /// More than [`HEADER_LINES_MAX`] header lines.
    TooManyLines,
    /// More than [`MESSAGE_BYTES_MAX`] bytes.
    TooLarge,
    /// Content-Length is not a number of digits, or larger than any message (RFC 3261 §20.14).
    ContentLength,
    /// Two Content-Length lines that disagree (RFC 4475 §3.3.9).
    ContentLengthsDiffer,
    /// Fewer bytes follow the empty line than Content-Length says (RFC 3261 §18.3).
    BodyTooShort,
    /// A mandatory header is missing (RFC 3261 §8.1.1).
    Missing(Header),
    /// A header of one value stands twice (RFC 4475 §3.3.8).
    Repeated(Header),
    /// CSeq is not a number and a method (RFC 3261 §20.16).
    CSeq,
    /// The sequence number is 2^31 or more (RFC 3261 §8.1.1.5).
    CSeqNumber,
    /// CSeq has another method than the request line.
    CSeqMethod,
    /// The Request-URI follows no grammar of its scheme, stands in angle brackets, or has headers (RFC 3261 §19.1.1).
    RequestUri,
    /// A value does not follow its grammar.
    Malformed(Header),
    /// The top Via's branch is the magic cookie and nothing else (RFC 4475 §3.2.1).
    Branch,
    /// `Contact: *` outside REGISTER (RFC 3261 §10.2.2).
    ContactStar,
}

impl ParseErrorKind {
    /// The status code this deserves when it is a request that can be answered.
    pub fn status(self) -> u16 {
        use ParseErrorKind::*;
        match self {
            Version => 505,
            TooManyLines | TooLarge => 513,
            NotSip | RequestLine | StatusCode | FoldedStartLine | NoColon | HeaderName | BareCr | BareLf
            | ControlByte | NoEmptyLine | ContentLength | ContentLengthsDiffer | BodyTooShort | Missing(_)
            | Repeated(_) | CSeq | CSeqNumber | CSeqMethod | RequestUri | Malformed(_) | Branch | ContactStar => 400,
        }
    }

    /// A short reason phrase for that response, e.g. "Missing Call-ID".
    pub fn reason(self) -> &'static str {
        use ParseErrorKind::*;
        match self {
            NotSip => "Not SIP",
            RequestLine => "Malformed Request Line",
            Version => "Version Not Supported",
            StatusCode => "Malformed Status Code",
            FoldedStartLine => "Folded Start Line",
            NoColon => "Header Line Without Colon",
            HeaderName => "Malformed Header Name",
            BareCr => "Bare CR",
            BareLf => "Bare LF",
            ControlByte => "Control Byte",
            NoEmptyLine => "Missing Empty Line",
            TooManyLines => "Too Many Header Lines",
            TooLarge => "Message Too Large",
            ContentLength => "Malformed Content-Length",
            ContentLengthsDiffer => "Differing Content-Length",
            BodyTooShort => "Body Shorter Than Content-Length",
            Missing(Header::Via) => "Missing Via",
            Missing(Header::From) => "Missing From",
            Missing(Header::To) => "Missing To",
            Missing(Header::CallId) => "Missing Call-ID",
            Missing(Header::CSeq) => "Missing CSeq",
            Missing(_) => "Missing Header Field",
            Repeated(Header::From) => "Repeated From",
            Repeated(Header::To) => "Repeated To",
            Repeated(Header::CallId) => "Repeated Call-ID",
            Repeated(Header::CSeq) => "Repeated CSeq",
            Repeated(Header::MaxForwards) => "Repeated Max-Forwards",
            Repeated(_) => "Repeated Header Field",
            CSeq => "Malformed CSeq",
            CSeqNumber => "CSeq Number Too Large",
            CSeqMethod => "CSeq Method Mismatch",
            RequestUri => "Malformed Request-URI",
            Malformed(Header::Via) => "Malformed Via",
            Malformed(Header::From) => "Malformed From",
            Malformed(Header::To) => "Malformed To",
            Malformed(Header::CallId) => "Malformed Call-ID",
            Malformed(Header::Contact) => "Malformed Contact",
            Malformed(Header::Route) => "Malformed Route",
            Malformed(Header::MaxForwards) => "Malformed Max-Forwards",
            Malformed(_) => "Malformed Header Field",
            Branch => "Malformed Via Branch",
            ContactStar => "Contact Star Outside REGISTER",
        }
    }
}

/// Headers that stand once. Content-Length is apart: lines that agree do no harm.
const SINGLETONS: [Header; 5] = [
    Header::From,
    Header::To,
    Header::CallId,
    Header::CSeq,
    Header::MaxForwards,
];

/// Fills `index` from one whole message (a datagram, or what [`super::framing`] cut from a stream).
///
/// ```text
/// generic-message = start-line *message-header CRLF [ message-body ]
/// Request-Line    = Method SP Request-URI SP SIP-Version CRLF
/// Status-Line     = SIP-Version SP Status-Code SP Reason-Phrase CRLF
/// message-header  = field-name HCOLON field-value CRLF
/// ```
///
/// RFC 3261 §7, §25.1. A field-value goes on over each line that begins with SP or HTAB (§7.3.1).
///
/// On an error the lines found so far stay in the index, so that a 400 can be built from it where Via, From, To,
/// Call-ID and CSeq are there ([`Index::answerable`]). Of several errors it is the one that stands first.
pub fn parse(bytes: &[u8], index: &mut Index) -> Result<(), ParseError> {
    match Avx2::detect() {
        Some(avx2) => avx2.run_job(
            #[inline(always)]
            || parse_wide(avx2, bytes, index),
        ),
        None => parse_plain(bytes, index),
    }
}

/// [`parse()`] without vector instructions.
pub(super) fn parse_plain(bytes: &[u8], index: &mut Index) -> Result<(), ParseError> {
    let mut pass = Pass::new(bytes, index);
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(ParseError {
            kind: ParseErrorKind::TooLarge,
            offset: u16::MAX,
        });
    }
    let mut line_ends = LineEnds::new(bytes);
    let head_end = pass.head(Plain, &mut line_ends);
    if line_ends.is_odd(head_end) {
        pass.odd_bytes(head_end);
    }
    pass.whole(Plain)
}

/// [`parse()`] with vector instructions, for heads without anything odd.
#[inline(always)]
fn parse_wide(avx2: Avx2, bytes: &[u8], index: &mut Index) -> Result<(), ParseError> {
    let mut room = [0; LINES_MAX];
    match avx2.line_ends(bytes, &mut room) {
        Some(mut line_ends) => {
            let mut pass = Pass::new(bytes, index);
            pass.head(avx2, &mut line_ends);
            pass.whole(avx2)
        }
        None => parse_rare(bytes, index),
    }
}

#[cold]
#[inline(never)]
fn parse_rare(bytes: &[u8], index: &mut Index) -> Result<(), ParseError> {
    parse_plain(bytes, index)
}

/// The pass itself: it goes on after an error, so that what can be answered is answered.
struct Pass<'b, 'i> {
    bytes: &'b [u8],
    index: &'i mut Index,
    error: Option<ParseError>,
    has_body: bool,
}

impl<'b, 'i> Pass<'b, 'i> {
    #[inline(always)]
    fn new(bytes: &'b [u8], index: &'i mut Index) -> Pass<'b, 'i> {
        index.clear();
        Pass {
            bytes,
            index,
            error: None,
            has_body: false,
        }
    }

    fn fail(&mut self, kind: ParseErrorKind, offset: usize) {
        fail(&mut self.error, kind, offset);
    }

    /// Start line and header lines. Returns where the head ends, as far as it could be read.
    #[inline(always)]
    fn head<S: Search>(&mut self, search: S, line_ends: &mut impl Iterator<Item = LineEnd>) -> usize {
        let bytes = self.bytes;
        let Some(first) = line_ends.next() else {
            self.fail(ParseErrorKind::NotSip, 0);
            return 0;
        };
        self.start_line(search, &bytes[..first.at]);
        let mut start = first.next;
        self.index.set_headers_start(start);
        let next_byte = |from: usize| bytes.get(from).copied().unwrap_or_default();
        let continues = |from: usize| matches!(next_byte(from), b' ' | b'\t');
        if continues(start) {
            self.fail(ParseErrorKind::FoldedStartLine, start);
        }

        let mut lines = self.index.lines_mut();
        let mut may_be_empty = true;
        let head_end = 'lines: loop {
            let Some(first) = line_ends.next() else {
                break start;
            };
            if may_be_empty && first.at == start {
                self.has_body = true;
                break first.next;
            }
            let mut last = first;
            // A line that does not begin with a visible byte continues this one or is the empty one.
            may_be_empty = next_byte(last.next) <= b' ';
            while may_be_empty && continues(last.next) {
                match line_ends.next() {
                    Some(continued) => last = continued,
                    // A line that does not end is none: grammars would read on into what continues it.
                    None => break 'lines start,
                }
            }
            if let Err(kind) = header_line(search, bytes, &mut lines, start, first.at, last.at) {
                fail(&mut self.error, kind, start);
                if kind == ParseErrorKind::TooManyLines {
                    break start;
                }
            }
            start = last.next;
        };
        lines.finish();
        self.index.set_head_end(start, head_end);
        if !self.has_body {
            // Nothing is known of where a body would start.
            self.fail(ParseErrorKind::NoEmptyLine, start);
        }
        head_end
    }

    /// What concerns the message as a whole: framing, and what must be there.
    #[inline(always)]
    fn whole<S: Search>(mut self, search: S) -> Result<(), ParseError> {
        self.content_length();
        self.cseq(search);
        if self.has_body {
            self.body();
            self.mandatory();
        }
        match self.error {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    #[inline(always)]
    fn start_line<S: Search>(&mut self, search: S, line: &[u8]) {
        if line.len() > 4 && line[..4].eq_ignore_ascii_case(b"SIP/") {
            return self.status_line(line);
        }
        let token_end = search.run(self.bytes, scan::TOKEN);
        let (kind, after_uri) = match line.split_last_chunk::<8>() {
            Some((before, version)) if scan::lower(u64::from_le_bytes(*version)) == VERSION => (None, before.len()),
            _ => match memchr::memrchr(b'/', line) {
                // Trailing white space and other versions alike end in SIP, slash and something.
                Some(slash) if slash >= 3 && line[slash - 3..slash].eq_ignore_ascii_case(b"SIP") => {
                    let version = &line[slash + 1..];
                    let is_version = version.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
                    let kind = if is_version && version != b"2.0" {
                        ParseErrorKind::Version
                    } else {
                        ParseErrorKind::RequestLine
                    };
                    (Some(kind), line.len().saturating_sub(8))
                }
                _ => return self.fail(ParseErrorKind::NotSip, 0),
            },
        };
        let method = Method::from_token(&line[..token_end]);
        let well_formed = token_end > 0 && line.get(token_end) == Some(&b' ') && token_end + 1 < after_uri;
        let uri = if well_formed {
            (token_end as u16 + 1, after_uri as u16)
        } else {
            (0, 0)
        };
        self.index.start = Start::Request {
            method,
            token_end: token_end as u16,
            uri,
        };
        if let Some(kind) = kind {
            self.fail(kind, 0);
            return;
        }
        // A URI has no white space; what else it must not have is found by its own grammar.
        let is_one_word = well_formed && {
            let uri = &line[token_end + 1..after_uri];
            let plain = search.run(&self.bytes[token_end + 1..], scan::URI);
            plain >= uri.len() || !holds_white_space(&uri[plain..])
        };
        if !is_one_word {
            self.fail(ParseErrorKind::RequestLine, token_end);
        }
    }

    fn status_line(&mut self, line: &[u8]) {
        if !line[4..].starts_with(b"2.0 ") {
            return self.fail(ParseErrorKind::Version, 0);
        }
        // The SP before an empty reason phrase is mandatory; peers leave it out.
        let digits = &line[8..line.len().min(11)];
        let code = if digits.len() == 3 {
            scan::decimal_value(digits, 699)
        } else {
            None
        };
        match (code, line.get(11)) {
            (Some(code @ 100..), None | Some(b' ')) => {
                let reason = (line.len().min(12) as u16, line.len() as u16);
                self.index.start = Start::Response {
                    code: code as u16,
                    reason,
                };
            }
            _ => self.fail(ParseErrorKind::StatusCode, 8),
        }
    }

    #[inline(always)]
    fn content_length(&mut self) {
        let mut next = self.index.first(Header::ContentLength);
        while let Some(place) = next {
            let start = self.index.value_start(place);
            match scan::number(&self.bytes[start..]) {
                Ok((rest, length)) if scan::nothing_follows(rest) && length <= MESSAGE_BYTES_MAX as u64 => {
                    match self.index.content_length {
                        Some(other) if u64::from(other) != length => {
                            self.fail(ParseErrorKind::ContentLengthsDiffer, start);
                        }
                        _ => self.index.content_length = Some(length as u16),
                    }
                }
                _ => self.fail(ParseErrorKind::ContentLength, start),
            }
            next = self.index.next(Header::ContentLength, place);
        }
    }

    #[inline(always)]
    fn cseq<S: Search>(&mut self, search: S) {
        let Some(place) = self.index.first(Header::CSeq) else {
            return;
        };
        let start = self.index.value_start(place);
        let Some((digits, number, token)) = cseq_value(search, &self.bytes[start..]) else {
            return self.fail(ParseErrorKind::CSeq, start);
        };
        if number > CSEQ_MAX {
            return self.fail(ParseErrorKind::CSeqNumber, start);
        }
        let token_start = scan::span_in(self.bytes, token).start as u16;
        self.index.cseq = Some(CSeqPlace {
            number: number as u32,
            digits: (start as u16, (start + digits.len()) as u16),
            token: (token_start, token_start + token.len() as u16),
            method: Method::from_token(token),
        });
    }

    /// Finds the first byte that has no business in the head: a CR or LF without the other, a control byte. Rare: only
    /// quoted pairs may hold one (RFC 4475 §3.1.1.2).
    #[cold]
    fn odd_bytes(&mut self, head_end: usize) {
        let head = &self.bytes[..head_end];
        let (mut in_quotes, mut comment_depth) = (false, 0usize);
        let mut at = 0;
        while let Some(&byte) = head.get(at) {
            match byte {
                b'\r' if head.get(at + 1) == Some(&b'\n') => {
                    at += 1;
                    if !matches!(head.get(at + 1), Some(b' ' | b'\t')) {
                        (in_quotes, comment_depth) = (false, 0);
                    }
                }
                b'\r' => return self.fail(ParseErrorKind::BareCr, at),
                b'\n' => return self.fail(ParseErrorKind::BareLf, at),
                b'\\' if (in_quotes || comment_depth > 0) && !matches!(head.get(at + 1), Some(b'\r' | b'\n')) => {
                    at += 1;
                }
                b'"' => in_quotes = !in_quotes,
                b'(' if !in_quotes => comment_depth += 1,
                b')' if !in_quotes => comment_depth = comment_depth.saturating_sub(1),
                b'\t' | b' '..=0x7e | 0x80.. => {}
                _ => return self.fail(ParseErrorKind::ControlByte, at),
            }
            at += 1;
        }
    }

    fn body(&mut self) {
        let body_start = self.index.body().start;
        let available = self.bytes.len() - body_start;
        let length = self.index.content_length.map_or(available, usize::from);
        self.index.set_total_len(body_start + length.min(available));
        if length > available {
            self.fail(ParseErrorKind::BodyTooShort, body_start);
        }
    }

    fn mandatory(&mut self) {
        if self.index.repeats_any(const { set(&SINGLETONS) }) {
            for header in SINGLETONS {
                let second = self.index.places_of(header).nth(1);
                if let Some(second) = second {
                    self.fail(ParseErrorKind::Repeated(header), self.index.line_at(second).start);
                }
            }
        }
        if !self.index.has_all(const { set(&MANDATORY) }) {
            for header in MANDATORY {
                if !self.index.has(header) {
                    self.fail(ParseErrorKind::Missing(header), self.index.headers().end);
                }
            }
        }
        if let (Start::Request { method, token_end, .. }, Some(cseq)) = (self.index.start, self.index.cseq) {
            let same = method == cseq.method
                && (method != Method::Other || self.bytes[..usize::from(token_end)] == self.bytes[range(cseq.token)]);
            if !same {
                self.fail(ParseErrorKind::CSeqMethod, usize::from(cseq.token.0));
            }
        }
    }
}

/// Notes an error unless there is one that stands before it.
#[cold]
#[inline(never)]
fn fail(error: &mut Option<ParseError>, kind: ParseErrorKind, offset: usize) {
    let offset = offset as u16;
    if error.is_none_or(|earlier| offset < earlier.offset) {
        *error = Some(ParseError { kind, offset });
    }
}

/// What stands behind a Request-URI: SP and SIP-Version, as a number in lower case.
const VERSION: u64 = scan::lower(u64::from_le_bytes(*b" SIP/2.0"));

/// Takes one line with all that continue it into the index.
#[inline(always)]
fn header_line<S: Search>(
    search: S,
    bytes: &[u8],
    lines: &mut Lines<'_>,
    start: usize,
    first_line_end: usize,
    end: usize,
) -> Result<(), ParseErrorKind> {
    let length = first_line_end - start;
    let name = search.name(bytes, start, length)?;
    let mut value = start + name.value..end;
    // Nearly all values begin on the first line.
    if name.value >= length {
        value = trimmed(bytes, value);
    }
    let line = Line {
        start: start as u16,
        value: (value.start as u16, value.end as u16),
    };
    match lines.push(name.header, line) {
        true => Ok(()),
        false => Err(ParseErrorKind::TooManyLines),
    }
}

/// `CSeq-num LWS Method`: the digits, their value and the token. It is every message's, and so the one field whose
/// grammar is not put together from the leaves of [`scan`] but made part of the pass.
#[inline(always)]
fn cseq_value<S: Search>(search: S, input: &[u8]) -> Option<(&[u8], u64, &[u8])> {
    let (rest, number) = scan::number(input).ok()?;
    let digits = scan::taken(input, rest);
    let token = scan::skip_lws(rest);
    let length = search.run(token, scan::TOKEN);
    let is_whole = token.len() < rest.len() && length > 0 && scan::nothing_follows(&token[length..]);
    is_whole.then(|| (digits, number, &token[..length]))
}

#[cold]
#[inline(never)]
fn holds_white_space(text: &[u8]) -> bool {
    memchr::memchr2(b' ', b'\t', text).is_some()
}

/// A value without the white space and folds round it; an empty one is where it ends.
#[cold]
#[inline(never)]
fn trimmed(bytes: &[u8], value: Range<usize>) -> Range<usize> {
    scan::span_in(bytes, scan::trim(&bytes[value]))
}

/// RFC 3261 §8.1.1.5: less than 2^31.
const CSEQ_MAX: u64 = (1 << 31) - 1;

#[cfg(test)]
mod tests {
    use super::super::{Message, StartLine};
    use super::*;

    const LINES: [&str; 5] = [
        "Via: SIP/2.0/UDP a.example;branch=z9hG4bK1",
        "From: <sip:a@a.example>;tag=1",
        "To: <sip:b@b.example>",
        "Call-ID: x@a.example",
        "CSeq: 1 OPTIONS",
    ];

    /// A message of the first line given, the mandatory ones, and the lines given.
    fn message(first_line: &str, more: &str) -> Vec<u8> {
        format!("{first_line}\r\n{}\r\n{more}\r\n", LINES.join("\r\n")).into_bytes()
    }

    fn request(more: &str) -> Vec<u8> {
        message("OPTIONS sip:b@b.example SIP/2.0", more)
    }

    fn outcome(bytes: &[u8]) -> Result<(), ParseErrorKind> {
        parse(bytes, &mut Index::new()).map_err(|error| error.kind)
    }

    #[test]
    fn start_lines_are_told_apart_and_checked() {
        use ParseErrorKind::*;
        let cases = [
            ("OPTIONS sip:b@b SIP/2.0", Ok(())),
            ("OPTIONS sip:b@b sip/2.0", Ok(())),
            ("OPTIONS tel:+1 SIP/2.0", Ok(())),
            ("SIP/2.0 200 OK", Ok(())),
            ("sip/2.0 200 OK", Ok(())),
            ("SIP/2.0 200 ", Ok(())),
            ("SIP/2.0 200", Ok(())),
            ("SIP/2.0 699 \u{2603}", Ok(())),
            ("OPTIONS  sip:b@b SIP/2.0", Err(RequestLine)),
            ("OPTIONS sip:b@b  SIP/2.0", Err(RequestLine)),
            ("OPTIONS sip:b@b SIP/2.0 ", Err(RequestLine)),
            ("OPTIONS\tsip:b@b SIP/2.0", Err(RequestLine)),
            ("OPTIONS sip:b @b SIP/2.0", Err(RequestLine)),
            ("OPTIONS SIP/2.0", Err(RequestLine)),
            ("OPTIONS  SIP/2.0", Err(RequestLine)),
            (" SIP/2.0", Err(RequestLine)),
            ("OPT:IONS sip:b@b SIP/2.0", Err(RequestLine)),
            ("OPTIONS sip:b@b SIP/3.0", Err(Version)),
            ("OPTIONS sip:b@b SIP/2.00", Err(Version)),
            ("SIP/2.1 200 OK", Err(Version)),
            ("SIP/2.0 099 OK", Err(StatusCode)),
            ("SIP/2.0 700 OK", Err(StatusCode)),
            ("SIP/2.0 20 OK", Err(StatusCode)),
            ("SIP/2.0 2000", Err(StatusCode)),
            ("SIP/2.0 2x0 OK", Err(StatusCode)),
            ("SIP/2.0  200 OK", Err(StatusCode)),
            ("OPTIONS sip:b@b", Err(NotSip)),
            ("GET / HTTP/1.1", Err(NotSip)),
            ("", Err(NotSip)),
            ("x", Err(NotSip)),
        ];
        for (line, expected) in cases {
            assert_eq!(outcome(&message(line, "")), expected, "{line:?}");
        }
    }

    #[test]
    fn header_lines_are_checked() {
        use ParseErrorKind::*;
        let cases = [
            ("X: y", Ok(())),
            ("X \t:y", Ok(())),
            ("X:", Ok(())),
            ("X:\r\n  folded\r\n\ttwice", Ok(())),
            ("X: a\r\n \r\n b", Ok(())),
            ("X: \u{e9}\u{4e2d}", Ok(())),
            ("X: tab\tinside", Ok(())),
            ("X: \"\\\u{0}\\\u{7}\"", Ok(())),
            ("User-Agent: x (\\\u{7})", Ok(())),
            ("no colon", Err(NoColon)),
            (":y", Err(HeaderName)),
            (" :y", Ok(())), // continues CSeq, which then has rubbish behind it; see below
            ("a b: y", Err(HeaderName)),
            ("a;b: y", Err(HeaderName)),
            ("\u{e9}: y", Err(HeaderName)),
            ("To\u{1}: y", Err(HeaderName)),
            ("X: a\rb", Err(BareCr)),
            ("X: a\r", Err(BareCr)),
            ("X: a\nY: b", Err(BareLf)),
            ("X: a\n b", Err(BareLf)),
            ("X: a\u{0}b", Err(ControlByte)),
            ("X: \u{7f}", Err(ControlByte)),
            ("X: \\\u{7}", Err(ControlByte)),
            ("X: \"\u{7}\"", Err(ControlByte)),
            ("X: \"a\\\r\n b\"", Ok(())),
        ];
        for (line, expected) in cases {
            let expected = if line == " :y" { Err(CSeq) } else { expected };
            assert_eq!(outcome(&request(&format!("{line}\r\n"))), expected, "{line:?}");
        }
        assert_eq!(
            outcome(b"OPTIONS sip:b@b SIP/2.0\r\n Via: x\r\n\r\n"),
            Err(FoldedStartLine)
        );
    }

    #[test]
    fn singletons_stand_once_and_mandatory_headers_are_there() {
        use ParseErrorKind::*;
        for (line, header) in [
            ("f: <sip:z@z>;tag=2", Header::From),
            ("TO: <sip:z@z>", Header::To),
            ("i: z", Header::CallId),
            ("cseq : 1 OPTIONS", Header::CSeq),
            ("Max-Forwards: 1\r\nMax-Forwards: 1", Header::MaxForwards),
        ] {
            assert_eq!(
                outcome(&request(&format!("{line}\r\n"))),
                Err(Repeated(header)),
                "{line}"
            );
        }
        for (left_out, header) in [Header::Via, Header::From, Header::To, Header::CallId, Header::CSeq]
            .into_iter()
            .enumerate()
        {
            let mut lines = LINES.to_vec();
            lines.remove(left_out);
            let bytes = format!("OPTIONS sip:b@b SIP/2.0\r\n{}\r\n\r\n", lines.join("\r\n"));
            let mut index = Index::new();
            assert_eq!(parse(bytes.as_bytes(), &mut index).unwrap_err().kind, Missing(header));
            assert!(!index.answerable());
        }
    }

    #[test]
    fn the_body_is_what_content_length_says() {
        use ParseErrorKind::*;
        let cases: [(&str, Result<&[u8], ParseErrorKind>); 14] = [
            ("\r\nbody", Ok(b"body")),
            ("l: 4\r\n\r\nbodytail", Ok(b"body")),
            ("l: 0004\r\n\r\nbody", Ok(b"body")),
            ("l: 4\r\nContent-Length:\r\n 4\r\n\r\nbody", Ok(b"body")),
            ("l: 0\r\n\r\nbody", Ok(b"")),
            ("l: 4\r\nl: 5\r\n\r\nbodyx", Err(ContentLengthsDiffer)),
            ("l: 5\r\n\r\nbody", Err(BodyTooShort)),
            ("l: -1\r\n\r\nbody", Err(ContentLength)),
            ("l: +4\r\n\r\nbody", Err(ContentLength)),
            ("l: 4 4\r\n\r\nbody", Err(ContentLength)),
            ("l: five\r\n\r\nbody", Err(ContentLength)),
            ("l:\r\n\r\nbody", Err(ContentLength)),
            ("l: 4294967300\r\n\r\nbody", Err(ContentLength)),
            ("l: 18446744073709551620\r\n\r\nbody", Err(ContentLength)),
        ];
        for (rest, expected) in cases {
            let bytes = format!("OPTIONS sip:b@b SIP/2.0\r\n{}\r\n{rest}", LINES.join("\r\n"));
            let mut index = Index::new();
            let read = parse(bytes.as_bytes(), &mut index).map_err(|error| error.kind);
            assert_eq!(
                read.map(|()| Message::new(bytes.as_bytes(), &index).body()),
                expected,
                "{rest:?}"
            );
        }
    }

    #[test]
    fn cseq_is_a_small_number_and_the_method_of_the_request() {
        use ParseErrorKind::*;
        let cases = [
            ("0009\r\n OPTIONS", Ok(())),
            ("0 OPTIONS", Ok(())),
            ("2147483647 OPTIONS", Ok(())),
            ("2147483648 OPTIONS", Err(CSeqNumber)),
            ("36893488147419103232 OPTIONS", Err(CSeqNumber)),
            ("1 options", Err(CSeqMethod)),
            ("1 INVITE", Err(CSeqMethod)),
            ("1OPTIONS", Err(CSeq)),
            ("1", Err(CSeq)),
            ("1 OPTIONS x", Err(CSeq)),
            ("-1 OPTIONS", Err(CSeq)),
            ("", Err(CSeq)),
        ];
        for (value, expected) in cases {
            let bytes = format!(
                "OPTIONS sip:b@b SIP/2.0\r\n{}\r\nCSeq: {value}\r\n\r\n",
                LINES[..4].join("\r\n")
            );
            assert_eq!(outcome(bytes.as_bytes()), expected, "{value:?}");
        }
        // In a response the method may be any.
        assert_eq!(outcome(&message("SIP/2.0 200 OK", "")), Ok(()));
    }

    #[test]
    fn every_cut_of_a_message_is_refused() {
        let whole = request("l: 5\r\n\r\nbod");
        for end in 0..whole.len() {
            assert!(outcome(&whole[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_line_whose_continuation_never_ends_is_none() {
        let head = "OPTIONS sip:b@b.example SIP/2.0\r\nFrom: <sip:a@a.example>;tag=1\r\nTo: <sip:b@b.example>\r\n\
            Call-ID: x@a.example\r\nCSeq: 1 OPTIONS\r\n";
        for last in [
            "Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\n ;received=192.0.2.1",
            "v: SIP/2.0/UDP a\r\n\t;x=\"",
        ] {
            for parse in [parse, parse_plain] {
                let bytes = format!("{head}{last}");
                let mut index = Index::new();
                let error = parse(bytes.as_bytes(), &mut index).unwrap_err();
                assert_eq!(
                    (error.kind, usize::from(error.offset)),
                    (ParseErrorKind::NoEmptyLine, head.len())
                );
                let message = Message::new(bytes.as_bytes(), &index);
                assert_eq!((message.vias().count(), index.answerable()), (0, false));
                assert_eq!(message.headers_end(), head.len());
            }
        }
    }

    #[test]
    fn limits_fail_closed() {
        let many = |count: usize| request(&"X: y\r\n".repeat(count));
        assert_eq!(outcome(&many(HEADER_LINES_MAX - LINES.len())), Ok(()));
        assert_eq!(
            outcome(&many(HEADER_LINES_MAX - LINES.len() + 1)),
            Err(ParseErrorKind::TooManyLines)
        );

        let mut largest = request("");
        largest.resize(MESSAGE_BYTES_MAX, b'x');
        let mut index = Index::new();
        assert_eq!(parse(&largest, &mut index), Ok(()));
        assert_eq!(Message::new(&largest, &index).total_len(), MESSAGE_BYTES_MAX);
        largest.push(b'x');
        let error = parse(&largest, &mut index).unwrap_err();
        assert_eq!((error.kind, error.kind.status()), (ParseErrorKind::TooLarge, 513));
        assert!(!index.answerable());

        // A head as long as a message may be, with a name longer than the index counts.
        let long_name = "X".repeat(300);
        let bytes = request(&format!("{long_name}: {}\r\n", "v".repeat(60_000)));
        parse(&bytes, &mut index).unwrap();
        assert_eq!(
            Message::new(&bytes, &index)
                .lines_named(&long_name)
                .next()
                .unwrap()
                .value
                .len(),
            60_000
        );
    }

    #[test]
    fn after_an_error_what_was_found_stays_for_the_answer() {
        let bytes = message("OPTIONS sip:b@b SIP/7.0", "bad line\r\nMax-Forwards: 3\r\n");
        let mut index = Index::new();
        let error = parse(&bytes, &mut index).unwrap_err();
        assert_eq!((error.kind, error.offset), (ParseErrorKind::Version, 0));
        assert!(index.answerable());
        let view = Message::new(&bytes, &index);
        assert_eq!(view.max_forwards(), Ok(Some(3)));
        assert_eq!(view.call_id(), Ok(&b"x@a.example"[..]));
        assert!(matches!(
            view.start_line(),
            StartLine::Request {
                method: Method::Options,
                ..
            }
        ));
        // The index is free of it afterwards.
        parse(&request(""), &mut index).unwrap();
        assert_eq!(index.len(), LINES.len());
    }
}
