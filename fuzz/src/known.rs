//! Where ezk-sip-types 0.6.5 is known to disagree with referee, and why that is so. What is not here is a finding.
//!
//! Both take values written in the plainest form, so that where a rule speaks of odd values, one in plain form is still a
//! finding: a name of letters, a `sip` URI of letters and digits, parameters that differ.

use referee::message::{Header, Index, Message, ParseErrorKind, StartLine, parse};

use crate::differential::Disagreement::{self, Differ, TheyRefuse, WeRefuse};
use crate::facts::Field;

/// A known difference: the reason, and whether it explains a disagreement on a message.
type Rule = (&'static str, fn(&Case<'_>, Disagreement) -> bool);

/// What rules look at.
struct Case<'a> {
    bytes: &'a [u8],
    message: Message<'a>,
}

const RULES: [Rule; 17] = [
    (
        "an LF alone ends a line for it, so that its head may end elsewhere",
        |case, found| matches!(found, WeRefuse(_)) && case.has_bare_lf(),
    ),
    (
        "its start line may have white space, folds and tabs anywhere",
        |_, found| {
            matches!(
                found,
                WeRefuse(ParseErrorKind::RequestLine | ParseErrorKind::FoldedStartLine)
            )
        },
    ),
    ("folds in its start line may hide the version", |case, found| {
        found == WeRefuse(ParseErrorKind::NotSip) && case.start_line_is_folded()
    }),
    (
        "its status line needs no SP behind the version and takes any number",
        |_, found| matches!(found, WeRefuse(ParseErrorKind::Version | ParseErrorKind::StatusCode)),
    ),
    (
        "control bytes are as good as others to it (RFC 3261 §25.1 has none)",
        |_, found| found == WeRefuse(ParseErrorKind::ControlByte),
    ),
    ("it has no bound on size and lines", |_, found| {
        matches!(found, WeRefuse(ParseErrorKind::TooLarge | ParseErrorKind::TooManyLines))
    }),
    (
        "its header names may be empty and of letters beyond ASCII",
        |_, found| found == WeRefuse(ParseErrorKind::HeaderName),
    ),
    (
        "a fold may stand between its header names and the colon",
        |case, found| found == WeRefuse(ParseErrorKind::NoColon) && contains(case.bytes, b"\r\n"),
    ),
    (
        "of lines that must not repeat it takes the first (RFC 4475 §3.3.8, §3.3.9)",
        |_, found| {
            matches!(
                found,
                WeRefuse(ParseErrorKind::Repeated(_) | ParseErrorKind::ContentLengthsDiffer)
            )
        },
    ),
    (
        "its Content-Length may have a plus sign, and a second line is not looked at",
        |case, found| {
            found == WeRefuse(ParseErrorKind::ContentLength)
                && (contains(case.bytes, b"+") || case.message.count(Header::ContentLength) > 1)
        },
    ),
    (
        "its CSeq needs no white space, has 32 bits, and no method to agree with (RFC 3261 §8.1.1.5)",
        |_, found| {
            use ParseErrorKind::{CSeq, CSeqMethod, CSeqNumber};
            matches!(found, WeRefuse(CSeq | CSeqMethod | CSeqNumber))
        },
    ),
    ("it is not asked for what else a proxy checks", |_, found| {
        use ParseErrorKind::{Branch, ContactStar, Malformed};
        matches!(
            found,
            WeRefuse(Branch | ContactStar | Malformed(Header::Route | Header::MaxForwards))
        )
    }),
    (
        "its Call-ID is any text, white space and nothing at all included",
        |case, found| {
            found == WeRefuse(ParseErrorKind::Malformed(Header::CallId))
                && case
                    .values(Header::CallId)
                    .any(|value| value.is_empty() || value.iter().any(u8::is_ascii_whitespace))
        },
    ),
    (
        "its URIs may have headers and repeated parameters (RFC 3261 §19.1.1), and have fewer schemes and signs",
        |case, found| {
            matches!(
                found,
                WeRefuse(ParseErrorKind::RequestUri) | TheyRefuse(Field::StartLine) | Differ(Field::RequestUri)
            ) && !case.start_line_is_plain()
        },
    ),
    (
        "its values may have other signs, repeated and empty parameters, and escapes in them are gone",
        |case, found| {
            let header = match found {
                WeRefuse(ParseErrorKind::Malformed(header)) => header,
                TheyRefuse(Field::Via) => Header::Via,
                TheyRefuse(Field::From) | Differ(Field::From) => Header::From,
                TheyRefuse(Field::To) | Differ(Field::To) => Header::To,
                _ => return false,
            };
            match header {
                Header::Via => !case.values(Header::Via).all(is_plain_via),
                Header::From | Header::To => !case.values(header).all(is_plain_name_addr),
                _ => false,
            }
        },
    ),
    ("its head is text of UTF-8", |case, found| {
        found == TheyRefuse(Field::Lines) && std::str::from_utf8(&case.bytes[..case.message.headers_end()]).is_err()
    }),
    (
        "a method that begins like one it knows is that one to it",
        |case, found| {
            matches!(found, Differ(Field::StartLine | Field::CSeq))
                && case
                    .message
                    .cseq()
                    .is_ok_and(|cseq| begins_like_a_known_method(cseq.token))
        },
    ),
];

/// Why two readings of the same bytes disagree; `None` if nobody knows.
pub fn reason(bytes: &[u8], disagreement: Disagreement) -> Option<&'static str> {
    let mut index = Index::new();
    let _ = parse(bytes, &mut index);
    let message = Message::new(bytes, &index);
    let case = Case { bytes, message };
    RULES
        .iter()
        .find(|(_, explains)| explains(&case, disagreement))
        .map(|(reason, _)| *reason)
}

impl Case<'_> {
    fn has_bare_lf(&self) -> bool {
        let places = memchr::memchr_iter(b'\n', self.bytes);
        places.into_iter().any(|at| at == 0 || self.bytes[at - 1] != b'\r')
    }

    fn start_line_is_folded(&self) -> bool {
        let end = memchr::memmem::find(self.bytes, b"\r\n").unwrap_or(self.bytes.len());
        matches!(self.bytes[end..], [b'\r', b'\n', b' ' | b'\t', ..])
    }

    fn start_line_is_plain(&self) -> bool {
        match self.message.start_line() {
            StartLine::Request { uri, .. } => {
                is_plain_uri(uri) && self.bytes[..self.message.headers_start()].ends_with(b" SIP/2.0\r\n")
            }
            StartLine::Response { .. } => self.bytes.starts_with(b"SIP/2.0"),
        }
    }

    fn values(&self, header: Header) -> impl Iterator<Item = &[u8]> {
        self.message.lines_of(header).map(|line| line.value)
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(bytes, part).is_some()
}

fn begins_like_a_known_method(token: &[u8]) -> bool {
    const KNOWN: [&str; 14] = [
        "INVITE",
        "ACK",
        "CANCEL",
        "BYE",
        "REGISTER",
        "MESSAGE",
        "UPDATE",
        "PRACK",
        "OPTIONS",
        "SUBSCRIBE",
        "NOTIFY",
        "PUBLISH",
        "INFO",
        "REFER",
    ];
    KNOWN
        .iter()
        .any(|known| token.len() >= known.len() && token[..known.len()].eq_ignore_ascii_case(known.as_bytes()))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A name of words of which the last begins with a letter.
fn is_plain_host(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    host.split('.').all(is_word) && last.starts_with(|first: char| first.is_ascii_alphabetic())
}

/// A host, maybe a port of four digits.
fn is_plain_host_port(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "5060"));
    is_plain_host(host) && port.len() == 4 && port.parse().is_ok_and(|port: u16| port >= 1000)
}

fn is_plain_uri(uri: &[u8]) -> bool {
    let Ok(uri) = std::str::from_utf8(uri) else {
        return false;
    };
    let Some(rest) = uri.strip_prefix("sip:").or_else(|| uri.strip_prefix("sips:")) else {
        return false;
    };
    let (user, rest) = rest.split_once('@').unwrap_or(("user", rest));
    let (host, params) = rest.split_once(';').unwrap_or((rest, "lr"));
    is_word(user) && is_plain_host_port(host) && are_plain_params(params)
}

/// Parameters that differ, with the semicolons between them.
fn are_plain_params(params: &str) -> bool {
    let mut names = Vec::new();
    params.split(';').all(|param| {
        let (name, value) = param.split_once('=').unwrap_or((param, "1"));
        let is_new = !names.contains(&name);
        names.push(name);
        // Names that mean something have grammars of their own.
        let has_own_grammar = ["maddr", "ttl", "received", "rport"].contains(&name)
            || (["tag", "branch"].contains(&name) && !param.contains('='));
        // A name in other letters than small ones is another one to the other parser.
        is_new && !has_own_grammar && is_word(name) && name == name.to_ascii_lowercase() && is_word(value)
    })
}

fn is_plain_name_addr(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else {
        return false;
    };
    let Some((display, rest)) = value.split_once('<') else {
        return false;
    };
    let Some((uri, params)) = rest.split_once('>') else {
        return false;
    };
    let display = display.strip_suffix(' ').unwrap_or(display);
    (display.is_empty() || is_word(display))
        && is_plain_uri(uri.as_bytes())
        && params.strip_prefix(';').map_or(params.is_empty(), are_plain_params)
}

fn is_plain_via(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else {
        return false;
    };
    value.split(", ").all(|via| {
        let Some((transport, rest)) = via.strip_prefix("SIP/2.0/").and_then(|rest| rest.split_once(' ')) else {
            return false;
        };
        let (sent_by, params) = rest.split_once(';').unwrap_or((rest, "branch=1"));
        is_word(transport) && is_plain_host_port(sent_by) && are_plain_params(params)
    })
}
