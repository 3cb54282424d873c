//! A message explained to a person: what each line says, what is wrong and where, and what a proxy would do with it.
//!
//! Everything said here is read by the same grammars that the proxy reads with; nothing is decided twice but the three
//! refusals of RFC 3261 §16.3 that no grammar finds. Bytes in, a value out; [`std::fmt::Display`] writes it for a
//! terminal.

mod cause;
mod field;
mod rule;
mod show;
mod verdict;

use std::borrow::Cow;

use super::field::VALUES_MAX;
use super::header::{Header, Method};
use super::media::MediaType;
use super::refer::Sipfrag;
use super::sdp::Description;
use super::uri::{self, Scheme, Uri};
use super::{Index, Message, ParseError, ParseErrorKind, StartLine, check, parse, scan};
use cause::Cause;
use show::{flat, show};
use verdict::verdict;

/// What a message says, what is wrong with it, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation<'a> {
    /// All bytes given, with what stands before and behind the message.
    pub bytes: &'a [u8],
    /// What kind of message this is, in one line.
    pub summary: String,
    /// The start line and the header lines, in order.
    pub lines: Vec<Line>,
    /// What is known of the body, a line each; empty without one.
    pub body: Vec<String>,
    /// What is wrong, in the order of its places.
    pub problems: Vec<Problem>,
    /// What is odd about the bytes as a file, and how to mend it.
    pub hints: Vec<String>,
    /// What a proxy would do with the message as it is.
    pub verdict: Verdict,
    /// What it would do if all lines ended with CRLF; `Some` where they do not.
    pub with_crlf: Option<Verdict>,
}

/// One line of the head, with all that continue it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The number of its first line in the bytes given, from 1.
    pub number: usize,
    /// The line as received: folds as one SP, control bytes and those above ASCII escaped. A compact name is followed
    /// by the long one in parentheses.
    pub text: String,
    /// What is read in it, a line each; empty where the text says it all.
    pub readings: Vec<String>,
}

/// Where something stands in the bytes given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Bytes before it.
    pub offset: usize,
    /// Its line, from 1.
    pub line: usize,
    /// Its column, from 1, in bytes.
    pub column: usize,
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The message is refused for it.
    Message(ParseErrorKind),
    /// A field's value cannot be read; a proxy relays it all the same, for those to judge who need it.
    Field(Header),
    /// The body is not what its type says.
    Body,
}

impl Fault {
    /// Whether a proxy refuses the message for it.
    pub fn stops_relaying(self) -> bool {
        matches!(self, Fault::Message(_))
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub fault: Fault,
    /// Where.
    pub place: Place,
    /// A short name for it, e.g. "Malformed Via".
    pub name: String,
    /// The reason for people.
    pub why: Cow<'static, str>,
    /// The section that says how it should be, e.g. "RFC 3261 §20.42".
    pub section: &'static str,
}

/// What a proxy that serves no domain of its own does with a message (RFC 3261 §16). What referee does besides depends on
/// its trunks and calls, which no message shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It forwards it, with these changes.
    Forward(Vec<String>),
    /// It takes it as its own and forwards nothing: why.
    Keep(&'static str),
    /// It answers with this code and reason phrase: why.
    Answer(u16, &'static str, String),
    /// It drops it without an answer: why.
    Drop(String),
}

impl Verdict {
    /// Whether the message does what it was sent for: it is forwarded, or was meant for the proxy.
    pub fn is_good(&self) -> bool {
        matches!(self, Verdict::Forward(_) | Verdict::Keep(_))
    }
}

/// Explains one message: a datagram, or what was captured of a stream from the first byte of a message on.
///
/// Empty lines before the start line are passed over (RFC 3261 §7.5). Where lines end with LF alone, as after an
/// editor, the fields are shown as if they ended with CRLF, and the verdict is given for both.
///
/// ```
/// use referee::message::explain::{Verdict, explain};
///
/// let refused = explain(b"OPTIONS sip:b@b.example SIP/2.0\r\nVia: SIP/2.0/UDP a.example;;branch=z9hG4bK1\r\n\
///     From: <sip:a@a.example>;tag=1\r\nTo: <sip:b@b.example>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n");
/// assert!(matches!(refused.verdict, Verdict::Answer(400, "Malformed Via", _)));
/// assert_eq!((refused.problems[0].place.line, refused.problems[0].place.column), (2, 28));
/// assert!(refused.to_string().contains("a parameter is empty"));
/// ```
pub fn explain(bytes: &[u8]) -> Explanation<'_> {
    let skipped = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let received = &bytes[skipped..];
    let mut index = Index::new();
    let error = parse(received, &mut index).err();
    let message = Message::new(received, &index);
    let kind = error.map(|error| error.kind);

    let lf_alone =
        memchr::memchr_iter(b'\n', &received[..message.headers_end()]).find(|at| *at == 0 || received[at - 1] != b'\r');
    let mut explanation = match lf_alone {
        None => {
            let source = Source::new(bytes, skipped, Vec::new());
            let mut explanation = Explainer::new(message, source).explanation(error);
            explanation.verdict = verdict(message, kind, &explanation.problems);
            explanation
        }
        Some(first) => {
            let (mended, inserted) = with_crlf(received);
            let mut mended_index = Index::new();
            let mended_error = parse(&mended, &mut mended_index).err();
            let mended_message = Message::new(&mended, &mended_index);
            let source = Source::new(bytes, skipped, inserted);
            let mut explanation = Explainer::new(mended_message, source).explanation(mended_error);
            let mended_kind = mended_error.map(|error| error.kind);
            explanation.with_crlf = Some(verdict(mended_message, mended_kind, &explanation.problems));
            explanation.verdict = verdict(message, kind, &[]);
            explanation.note_lf_alone(skipped + first);
            explanation
        }
    };
    if skipped > 0 {
        let lines = memchr::memchr_iter(b'\n', &bytes[..skipped]).count();
        explanation.hints.push(format!(
            "{lines} empty line{} before the message: passed over (RFC 3261 §7.5)",
            if lines == 1 { "" } else { "s" }
        ));
    }
    explanation
}

impl Explanation<'_> {
    fn note_lf_alone(&mut self, offset: usize) {
        let kind = ParseErrorKind::BareLf;
        let place = Source::new(self.bytes, 0, Vec::new()).place_of_original(offset);
        let line = place.line;
        let problem = Problem {
            fault: Fault::Message(kind),
            place,
            name: kind.reason().to_owned(),
            why: rule::text(kind).into(),
            section: rule::section(kind),
        };
        let position = self.problems.partition_point(|other| other.place < problem.place);
        self.problems.insert(position, problem);
        self.hints.push(format!(
            "line {line} ends with LF alone; SIP wants CRLF: unix2dos (the fields are shown as if all lines had it)"
        ));
    }
}

/// The bytes with a CR put before each LF that has none, and where in them those CRs are.
fn with_crlf(bytes: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let mut mended = Vec::with_capacity(bytes.len() + bytes.len() / 16);
    let mut inserted = Vec::new();
    for &byte in bytes {
        if byte == b'\n' && mended.last() != Some(&b'\r') {
            inserted.push(mended.len());
            mended.push(b'\r');
        }
        mended.push(byte);
    }
    (mended, inserted)
}

/// The bytes given, and how offsets of the message that was read map to theirs.
struct Source<'a> {
    bytes: &'a [u8],
    skipped: usize,
    /// Offsets of CRs in the message that the bytes given do not have, in order.
    inserted: Vec<usize>,
    /// Where the lines of the bytes given begin.
    starts: Vec<usize>,
}

impl<'a> Source<'a> {
    fn new(bytes: &'a [u8], skipped: usize, inserted: Vec<usize>) -> Source<'a> {
        let after = memchr::memchr_iter(b'\n', bytes).map(|at| at + 1);
        Source {
            bytes,
            skipped,
            inserted,
            starts: std::iter::once(0).chain(after).collect(),
        }
    }

    /// The place of an offset of the message.
    fn place(&self, offset: usize) -> Place {
        let inserted = self.inserted.partition_point(|cr| *cr < offset);
        self.place_of_original(self.skipped + offset - inserted)
    }

    fn place_of_original(&self, offset: usize) -> Place {
        let offset = offset.min(self.bytes.len());
        let line = self.starts.partition_point(|start| *start <= offset);
        Place {
            offset,
            line,
            column: offset - self.starts[line - 1] + 1,
        }
    }
}

struct Explainer<'m, 'a> {
    message: Message<'m>,
    source: Source<'a>,
    problems: Vec<Problem>,
    hints: Vec<String>,
}

impl<'m, 'a> Explainer<'m, 'a> {
    fn new(message: Message<'m>, source: Source<'a>) -> Explainer<'m, 'a> {
        Explainer {
            message,
            source,
            problems: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// All but the verdict, which the caller puts in.
    fn explanation(mut self, error: Option<ParseError>) -> Explanation<'a> {
        let is_sip = error.is_none_or(|error| !matches!(error.kind, ParseErrorKind::NotSip | ParseErrorKind::TooLarge));
        let mut lines = Vec::new();
        let mut body = Vec::new();
        if is_sip {
            lines.push(self.start_line());
            for line in self.message.lines() {
                lines.push(self.header_line(&line));
            }
            self.whole_message();
            body = self.body();
            self.what_follows();
        }
        // Whatever the two that decide have found is told, with the better place if it is known already.
        if let Some(ParseError { kind, offset }) = error {
            self.refused(kind, usize::from(offset), None);
        }
        if error.is_none()
            && let Err(kind) = check(self.message)
            && !matches!(kind, ParseErrorKind::Missing(_))
        {
            let at = self.place_of_check(kind);
            self.refused(kind, at, None);
        }
        self.problems.sort_by_key(|problem| problem.place);
        Explanation {
            bytes: self.source.bytes,
            summary: self.summary(is_sip),
            lines,
            body,
            problems: self.problems,
            hints: self.hints,
            verdict: Verdict::Drop(String::new()),
            with_crlf: None,
        }
    }

    fn summary(&self, is_sip: bool) -> String {
        let message = self.message;
        if !is_sip {
            return format!("no SIP message, {} bytes", message.bytes().len());
        }
        let what = match message.start_line() {
            StartLine::Request { token: [], .. } => "request".to_owned(),
            StartLine::Request { token, .. } => format!("{} request", show(token)),
            StartLine::Response { code, reason } => {
                let reason = show(scan::trim(reason));
                let of = message
                    .cseq()
                    .map_or_else(|_| String::new(), |cseq| format!(" to {}", show(cseq.token)));
                format!(
                    "{code} {reason}{}response{of}",
                    if reason.is_empty() { "" } else { " " }
                )
            }
        };
        let place = match message.to() {
            Ok(to) if message.is_request() && to.tag.is_some() => ", within a dialog",
            Ok(_) if message.is_request() => ", outside a dialog",
            _ => "",
        };
        format!(
            "{what}{place}: {} bytes, {} header lines, {} bytes of body",
            message.total_len(),
            message.lines().count(),
            message.body().len()
        )
    }

    /// Notes what the message is refused for, once.
    fn refused(&mut self, kind: ParseErrorKind, offset: usize, why: Option<String>) {
        let fault = Fault::Message(kind);
        if self.problems.iter().all(|problem| problem.fault != fault) {
            self.problems.push(Problem {
                fault,
                place: self.source.place(offset),
                name: match kind {
                    ParseErrorKind::Malformed(header) => format!("Malformed {}", header.name()),
                    ParseErrorKind::Missing(header) => format!("Missing {}", header.name()),
                    ParseErrorKind::Repeated(header) => format!("Repeated {}", header.name()),
                    kind => kind.reason().to_owned(),
                },
                why: why.map_or(rule::text(kind).into(), Cow::Owned),
                section: rule::section(kind),
            });
        }
    }

    fn malformed(&mut self, header: Header, name: &[u8], cause: Cause) {
        self.problems.push(Problem {
            fault: Fault::Field(header),
            place: self.source.place(cause.at),
            name: match header {
                Header::Other => format!("Malformed {}", show(name)),
                _ => format!("Malformed {}", header.name()),
            },
            why: cause.why,
            section: rule::section(ParseErrorKind::Malformed(header)),
        });
    }

    fn start_line(&mut self) -> Line {
        let message = self.message;
        let mut readings = Vec::new();
        if let StartLine::Request { uri, .. } = message.start_line()
            && !uri.is_empty()
        {
            let start = message.request_uri_span().start;
            let read = Uri::parse(uri);
            match &read {
                Ok(read) => readings.push(format!("Request-URI: {}", field::uri(read))),
                Err(_) => readings.push("Request-URI: not readable".to_owned()),
            }
            let is_sip = matches!(&read, Ok(uri) if matches!(uri.scheme, Scheme::Sip | Scheme::Sips));
            let has_headers = is_sip && read.as_ref().is_ok_and(|uri| !uri.headers.is_empty());
            let repeats = is_sip && read.as_ref().is_ok_and(uri::has_repeated_param);
            let line = &message.bytes()[..message.headers_start()];
            let line = line
                .strip_suffix(b"\n")
                .map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
            let white = uri.iter().position(|byte| matches!(byte, b' ' | b'\t'));
            let trailing = line
                .iter()
                .rev()
                .take_while(|byte| matches!(byte, b' ' | b'\t'))
                .count();
            if trailing > 0 {
                let why = "white space follows the last word of the line";
                self.refused(ParseErrorKind::RequestLine, line.len() - trailing, Some(why.to_owned()));
            } else if let Some(white) = white {
                let why = "white space where one SP stands between three words";
                self.refused(ParseErrorKind::RequestLine, start + white, Some(why.to_owned()));
            } else if read.is_err() || has_headers || repeats {
                let cause = cause::uri(uri, true).from(start);
                self.refused(ParseErrorKind::RequestUri, cause.at, Some(cause.why.into_owned()));
            }
        }
        Line {
            number: self.source.place(0).line,
            text: flat(scan::trim(&message.bytes()[..message.headers_start()])),
            readings,
        }
    }

    fn header_line(&mut self, line: &super::HeaderLine<'m>) -> Line {
        let message = self.message;
        let place = message
            .lines_of(line.header)
            .position(|other| other.line_span == line.line_span)
            .unwrap_or_default();
        let reading = field::read(message, line, place);
        if let Some(cause) = reading.fault {
            let is_needed = match line.header {
                Header::Via => place == 0 && message.top_via().is_err(),
                Header::From | Header::To | Header::CallId | Header::MaxForwards | Header::Route => {
                    message.is_request()
                }
                _ => false,
            };
            match line.header {
                Header::CSeq if message.cseq().is_err() => {
                    let number = scan::number(line.value).is_ok_and(|(_, number)| number >= 1 << 31);
                    let kind = if number && scan::number_then_token(line.value).is_ok() {
                        ParseErrorKind::CSeqNumber
                    } else {
                        ParseErrorKind::CSeq
                    };
                    self.refused(kind, cause.at, None);
                }
                Header::ContentLength => self.refused(ParseErrorKind::ContentLength, cause.at, None),
                header if is_needed => {
                    self.refused(
                        ParseErrorKind::Malformed(header),
                        cause.at,
                        Some(cause.why.into_owned()),
                    );
                }
                header => self.malformed(header, line.name, cause),
            }
        }
        let name = show(line.name);
        let long = match line.header {
            Header::Other => " (unknown: relayed as it is)".to_owned(),
            header if line.name.eq_ignore_ascii_case(header.name().as_bytes()) => String::new(),
            header => format!(" ({})", header.name()),
        };
        Line {
            number: self.source.place(line.line_span.start).line,
            text: format!("{name}{long}: {}", flat(line.value)),
            readings: reading.texts,
        }
    }

    /// What no single line shows: fields that are missing, stand twice or contradict each other.
    fn whole_message(&mut self) {
        use ParseErrorKind::{Branch, CSeqMethod, ContactStar, ContentLengthsDiffer, Missing, Repeated};
        let message = self.message;
        let has_whole_head = message
            .bytes()
            .get(message.headers_end()..)
            .is_some_and(|rest| !rest.is_empty());
        if has_whole_head {
            for header in [Header::Via, Header::From, Header::To, Header::CallId, Header::CSeq] {
                if message.count(header) == 0 {
                    self.refused(Missing(header), message.headers_end(), None);
                }
            }
        }
        for header in [
            Header::From,
            Header::To,
            Header::CallId,
            Header::CSeq,
            Header::MaxForwards,
        ] {
            if let Some(second) = message.lines_of(header).nth(1) {
                self.refused(Repeated(header), second.line_span.start, None);
            }
        }
        let mut lengths = message.lines_of(Header::ContentLength);
        let number = |line: &super::HeaderLine<'_>| scan::number(line.value).map(|(_, number)| number);
        if let Some(first) = lengths.next()
            && let Some(other) = lengths.find(|line| number(line) != number(&first))
        {
            self.refused(ContentLengthsDiffer, other.value_span.start, None);
        }
        if let (StartLine::Request { token, .. }, Ok(cseq)) = (message.start_line(), message.cseq())
            && token != cseq.token
        {
            let at = scan::span_in(message.bytes(), cseq.token).start;
            self.refused(CSeqMethod, at, None);
        }
        for header in ADDRESS_LISTS {
            let is_known = self.problems.iter().any(|problem| {
                matches!(problem.fault, Fault::Field(other) | Fault::Message(ParseErrorKind::Malformed(other)) if other == header)
            });
            // One by one they were good.
            if !is_known
                && message.value_count(header) > VALUES_MAX
                && let Some(line) = message.lines_of(header).next()
            {
                let cause = Cause::new(line.value_span.start, "more than 128 values");
                match header {
                    Header::Route if message.is_request() => {
                        self.refused(
                            ParseErrorKind::Malformed(header),
                            cause.at,
                            Some(cause.why.into_owned()),
                        );
                    }
                    _ => self.malformed(header, line.name, cause),
                }
            }
        }
        if !message.is_request() {
            return;
        }
        if let Some(branch) = message.top_via().ok().and_then(|via| via.branch)
            && branch.eq_ignore_ascii_case(b"z9hG4bK")
        {
            self.refused(Branch, scan::span_in(message.bytes(), branch).start, None);
        }
        if message.method() != Some(Method::Register)
            && let Some(line) = message
                .lines_of(Header::Contact)
                .find(|line| scan::split_list(line.value).0 == b"*")
        {
            self.problems
                .retain(|problem| problem.fault != Fault::Field(Header::Contact));
            self.refused(ContactStar, line.value_span.start, None);
        }
    }

    /// Where a fault that [`check()`] names begins, if nothing is known of it.
    fn place_of_check(&self, kind: ParseErrorKind) -> usize {
        let message = self.message;
        match kind {
            ParseErrorKind::Malformed(header) => {
                let line = message.lines_of(header).next();
                line.map_or(0, |line| line.value_span.start)
            }
            ParseErrorKind::RequestUri => message.request_uri_span().start,
            _ => 0,
        }
    }

    fn body(&mut self) -> Vec<String> {
        let message = self.message;
        let body = message.body();
        let mut texts = Vec::new();
        let length = message.value(Header::ContentLength);
        let said = length.and_then(|value| scan::number(value).ok()).map(|(_, said)| said);
        let there = message.bytes().len() - message.bytes().len().min(message.total_len() - body.len());
        match (length, said) {
            (None, _) if body.is_empty() => return texts,
            (None, _) => texts.push(format!(
                "{there} bytes, without Content-Length: in a datagram all that follows, on a stream not allowed (RFC 3261 §20.14)"
            )),
            (Some(_), Some(0)) if body.is_empty() => return texts,
            (Some(_), Some(said)) if said == body.len() as u64 => {
                texts.push(format!("{said} bytes, as Content-Length says"));
            }
            (Some(value), _) => texts.push(format!("Content-Length says {}, {there} bytes are there", flat(value))),
        }
        if body.is_empty() {
            return texts;
        }
        let Ok(Some(media)) = message.content_type() else {
            texts.push("of no type: without Content-Type nobody can read it (RFC 3261 §20.15)".to_owned());
            return texts;
        };
        let start = message.total_len() - body.len();
        texts.push(format!("type {}", field::media_type(&media)));
        if message.count(Header::ContentEncoding) > 0 {
            texts.push("encoded: not read further".to_owned());
        } else if media.is("message/sipfrag") {
            self.sipfrag(body, start, &mut texts);
        } else if media.is("application/sdp") {
            self.session(body, start, &mut texts);
        }
        texts
    }

    fn sipfrag(&mut self, body: &[u8], start: usize, texts: &mut Vec<String>) {
        let is_of_refer = self
            .message
            .event()
            .is_ok_and(|event| event.is_some_and(|event| event.is_refer()));
        match Sipfrag::parse(body) {
            Some(Sipfrag { code, reason }) => {
                let meaning = match code {
                    100..=199 => "the transfer is under way",
                    200..=299 => "the transfer succeeded",
                    _ => "the transfer failed",
                };
                let meaning = if is_of_refer {
                    format!(": {meaning}")
                } else {
                    String::new()
                };
                texts.push(format!("status {code} {}{meaning}", show(reason)));
            }
            None if is_of_refer => self.problems.push(Problem {
                fault: Fault::Body,
                place: self.source.place(start),
                name: "Malformed Body".to_owned(),
                why: "the body of a NOTIFY for a REFER begins with a status line".into(),
                section: "RFC 3515 §2.4.5",
            }),
            None => {}
        }
    }

    fn session(&mut self, body: &[u8], start: usize, texts: &mut Vec<String>) {
        match Description::parse(body) {
            Ok(description) => {
                for media in &description.media {
                    texts.push(field::session_medium(&description, media));
                }
            }
            Err(error) => {
                let ends = memchr::memchr_iter(b'\n', body).map(|at| at + 1);
                let line_start = std::iter::once(0).chain(ends).nth(error.line.saturating_sub(1));
                self.problems.push(Problem {
                    fault: Fault::Body,
                    place: self.source.place(start + line_start.unwrap_or_default()),
                    name: "Malformed Session Description".to_owned(),
                    why: rule::session(error.problem).into(),
                    section: "RFC 8866 §9",
                });
            }
        }
    }

    /// More than one message, or bytes that belong to none.
    fn what_follows(&mut self) {
        let message = self.message;
        let bytes = message.bytes();
        let rest = &bytes[message.total_len()..];
        let next = rest.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        if let Some(next) = next {
            let at = message.total_len() + next;
            let line = self.source.place(at).line;
            let count = rest.len();
            self.hints.push(if begins_a_message(&bytes[at..]) {
                format!("another message begins at line {line}; only the first is explained")
            } else {
                format!("{count} bytes from line {line} on are beyond Content-Length: a datagram's are ignored (RFC 3261 §18.3)")
            });
        }
        let holds_messages = message
            .content_type()
            .ok()
            .flatten()
            .is_some_and(|media: MediaType<'_>| {
                media.kind.eq_ignore_ascii_case(b"message") || media.kind.eq_ignore_ascii_case(b"multipart")
            });
        if message.count(Header::ContentLength) == 0 && !holds_messages {
            let start = message.total_len() - message.body().len();
            let ends = memchr::memchr_iter(b'\n', message.body()).map(|at| start + at + 1);
            if let Some(at) = std::iter::once(start)
                .chain(ends)
                .find(|at| begins_a_message(&bytes[*at..]))
            {
                let line = self.source.place(at).line;
                self.hints.push(format!(
                    "line {line} looks like the start of another message, which without Content-Length is body"
                ));
            }
        }
    }
}

/// Lists of which no more than [`VALUES_MAX`] values are read.
const ADDRESS_LISTS: [Header; 9] = [
    Header::Contact,
    Header::Diversion,
    Header::HistoryInfo,
    Header::PAssertedIdentity,
    Header::PPreferredIdentity,
    Header::Path,
    Header::RecordRoute,
    Header::Route,
    Header::Via,
];

/// Whether these bytes begin with what looks like a start line.
fn begins_a_message(bytes: &[u8]) -> bool {
    let end = memchr::memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
    bytes.starts_with(b"SIP/2.0 ") || bytes[..end].ends_with(b" SIP/2.0")
}
