//! Outbound bytes: splices over a received message, and messages of our own. Nothing is re-printed that was received.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use smallvec::SmallVec;

use super::field::Span;
use super::header::Header;
use super::uri::Host;
use super::{Message, Via, scan};

/// A list of splices over one message, kept and reused so that editing allocates nothing once warm.
///
/// Positions are offsets in the received message. Splices are written in the order of their positions, those at one
/// position in the order of the calls.
///
/// ```
/// use referee::message::{Header, MessageBuf, edit::Editor};
///
/// let received = MessageBuf::parse("BYE sip:b@b SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nRoute: <sip:us;lr>, <sip:next;lr>\r\n\
///     From: <sip:a@a>;tag=1\r\nTo: <sip:b@b>;tag=2\r\nCall-ID: c\r\nCSeq: 2 BYE\r\n\r\n")?;
/// let mut editor = Editor::new();
/// editor.remove_first_values(received.as_message(), Header::Route, 1);
/// editor.insert(received.as_message().headers_end(), &[b"X-Hop: ", b"1", b"\r\n"]);
/// let mut out = Vec::new();
/// editor.write(received.as_message(), &mut out);
/// let text = String::from_utf8(out).unwrap();
/// assert!(text.contains("Route: <sip:next;lr>\r\n") && text.ends_with("CSeq: 2 BYE\r\nX-Hop: 1\r\n\r\n"));
/// # Ok::<(), referee::message::ParseError>(())
/// ```
#[derive(Debug, Default)]
pub struct Editor {
    /// In the order of `at`, equal ones in the order of the calls.
    splices: Vec<Splice>,
    /// The bytes to put in, one splice's after the other's.
    inserted: Vec<u8>,
    /// How many values of a list header are to go.
    removed: Vec<(Header, usize)>,
}

/// Bytes `at..end` of the message give way to `from..to` of the inserted bytes.
#[derive(Clone, Copy, Debug)]
struct Splice {
    at: usize,
    end: usize,
    from: usize,
    to: usize,
    /// Set for what removes values of a list, so that it can be worked out anew.
    list: Option<Header>,
}

impl Editor {
    /// An editor without splices.
    pub fn new() -> Editor {
        Editor::default()
    }

    /// Forgets all splices.
    pub fn clear(&mut self) {
        self.splices.clear();
        self.inserted.clear();
        self.removed.clear();
    }

    /// Puts bytes before offset `at`; several at one place keep the order of the calls.
    pub fn insert(&mut self, at: usize, parts: &[&[u8]]) {
        self.replace(at..at, parts);
    }

    /// Leaves bytes out.
    pub fn delete(&mut self, span: Range<usize>) {
        self.replace(span, &[]);
    }

    /// Puts bytes in the place of others.
    pub fn replace(&mut self, span: Range<usize>, parts: &[&[u8]]) {
        let from = self.inserted.len();
        for part in parts {
            self.inserted.extend_from_slice(part);
        }
        self.push(Splice {
            at: span.start,
            end: span.end.max(span.start),
            from,
            to: self.inserted.len(),
            list: None,
        });
    }

    fn push(&mut self, splice: Splice) {
        // Nearly always from the front to the back.
        if self.splices.last().is_none_or(|last| last.at <= splice.at) {
            return self.splices.push(splice);
        }
        let place = self
            .splices
            .iter()
            .rposition(|other| other.at <= splice.at)
            .map_or(0, |before| before + 1);
        self.splices.insert(place, splice);
    }

    /// Writes the edited message (only `total_len` bytes of it) behind what `out` holds. Spans must not overlap, which
    /// is asserted in debug builds; in release builds bytes that two splices claim are left out once.
    pub fn write(&mut self, message: Message<'_>, out: &mut Vec<u8>) {
        let bytes = &message.bytes()[..message.total_len()];
        let mut copied = 0;
        let mut last_at = 0;
        for splice in &self.splices {
            debug_assert!(
                splice.at >= copied || (splice.at == splice.end && splice.at == last_at),
                "overlapping splices: {splice:?} after a copy up to {copied}"
            );
            debug_assert!(splice.end <= bytes.len(), "a splice beyond the message: {splice:?}");
            let at = splice.at.min(bytes.len());
            if at > copied {
                out.extend_from_slice(&bytes[copied..at]);
            }
            out.extend_from_slice(&self.inserted[splice.from..splice.to]);
            copied = copied.max(splice.end.min(bytes.len())).max(at);
            last_at = splice.at;
        }
        out.extend_from_slice(&bytes[copied..]);
    }

    /// Removes the first `count` values of a comma-list header over all its lines, a whole line where none of its
    /// values stays. A further call for the same header removes the values after those (a double Record-Route pops
    /// two Routes). Commas inside quotes and angle brackets separate nothing.
    pub fn remove_first_values(&mut self, message: Message<'_>, header: Header, count: usize) {
        let total = match self.removed.iter_mut().find(|(removed, _)| *removed == header) {
            Some((_, total)) => {
                *total += count;
                // A line that lost one value before may lose its last one now, and then goes as a whole.
                self.splices.retain(|splice| splice.list != Some(header));
                *total
            }
            None => {
                self.removed.push((header, count));
                count
            }
        };
        let mut left = total;
        for place in message.index().places_of(header) {
            if left == 0 {
                break;
            }
            let value = message.index().value_at(message.bytes(), place);
            let mut rest = Some(&message.bytes()[value.clone()]);
            while let Some(list) = rest
                && left > 0
            {
                rest = scan::split_list(list).1;
                left -= 1;
            }
            let span = match rest {
                None => message.index().line_at(place),
                Some(kept) => value.start..scan::span_in(message.bytes(), scan::trim(kept)).start,
            };
            self.push(Splice {
                at: span.start,
                end: span.end,
                from: 0,
                to: 0,
                list: Some(header),
            });
        }
    }
}

/// Decimal digits of a number, without allocating: `decimal(n).as_bytes()`.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: [u8; 10],
    start: usize,
}

impl Decimal {
    /// The digits, without leading zeros; "0" for zero.
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

/// The decimal digits of a number.
pub fn decimal(n: u32) -> Decimal {
    let mut digits = [b'0'; 10];
    let mut start = digits.len();
    let mut left = n;
    loop {
        start -= 1;
        digits[start] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            return Decimal { digits, start };
        }
    }
}

/// The digits of each octet, and how many they are.
static OCTETS: [[u8; 4]; 256] = {
    let mut table = [[0; 4]; 256];
    let mut octet = 0;
    while octet < 256 {
        let (a, b, c) = (
            b'0' + (octet / 100) as u8,
            b'0' + (octet / 10 % 10) as u8,
            b'0' + (octet % 10) as u8,
        );
        table[octet] = match octet {
            0..10 => [c, 0, 0, 1],
            10..100 => [b, c, 0, 2],
            _ => [a, b, c, 3],
        };
        octet += 1;
    }
    table
};

/// The text of an address, without allocating; IPv6 as RFC 5952 writes it, without brackets.
#[derive(Clone, Copy)]
struct AddressText {
    text: [u8; 45],
    length: usize,
}

impl AddressText {
    fn new(address: IpAddr) -> AddressText {
        let mut text = AddressText {
            text: [0; 45],
            length: 0,
        };
        // 45 bytes hold every address, so this cannot fail.
        let written = match address {
            // Nearly all are of this kind, and the formatter takes a thousand instructions for one.
            IpAddr::V4(address) => {
                text.write_octets(address.octets());
                Ok(())
            }
            IpAddr::V6(address) => write!(text, "{address}"),
        };
        debug_assert!(written.is_ok());
        text
    }

    fn write_octets(&mut self, octets: [u8; 4]) {
        for octet in octets {
            let [a, b, c, length] = OCTETS[usize::from(octet)];
            self.text[self.length..self.length + 4].copy_from_slice(&[a, b, c, b'.']);
            self.text[self.length + usize::from(length)] = b'.';
            self.length += usize::from(length) + 1;
        }
        self.length -= 1;
    }

    fn write_bytes(&mut self, part: &[u8]) -> fmt::Result {
        let end = self.length + part.len();
        self.text
            .get_mut(self.length..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(part);
        self.length = end;
        Ok(())
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }
}

impl fmt::Write for AddressText {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.write_bytes(part.as_bytes())
    }
}

/// What a server writes into the top Via of a request (RFC 3261 §18.2.1, RFC 3581 §4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViaStamp {
    /// The address the request came from.
    pub received: Option<IpAddr>,
    /// The port it came from.
    pub rport: Option<u16>,
}

impl ViaStamp {
    /// From the top Via and the source it came from: `received` when sent-by is a name or another address, or when
    /// rport was asked for. A value the client made up is overwritten. An IPv4 address that a socket for both families
    /// shows as a mapped one is written as the IPv4 address it is.
    pub fn of(via: &Via<'_>, source: SocketAddr) -> ViaStamp {
        let address = source.ip().to_canonical();
        let sent_by_is_source = match via.host {
            Host::Address(sent_by) => sent_by.to_canonical() == address,
            Host::Name(_) => false,
        };
        // RFC 3581 §4: with rport, received is written even if it says what sent-by says.
        let received = !sent_by_is_source || via.rport.is_some() || via.received.is_some();
        ViaStamp {
            received: received.then_some(address),
            rport: via.rport.map(|_| source.port()),
        }
    }

    /// Adds the splices that write it into the top Via of a message.
    pub fn apply(self, via: &Via<'_>, editor: &mut Editor) {
        self.splice(via, |span, parts| editor.replace(span, parts));
    }

    /// Calls `replace` for each place to change, from front to back.
    fn splice(self, via: &Via<'_>, mut replace: impl FnMut(Range<usize>, &[&[u8]])) {
        // Parameters that are there keep their place; those that are not go behind the last one, received first.
        let end = via.span.range().end;
        let place = |span: Option<Span>| span.map_or((&b";"[..], end..end), |span| (b"", span.range()));
        let (received, rport) = (place(via.received_span), place(via.rport_span));
        let rport_stands_first = rport.1.start < received.1.start;
        for is_rport in [rport_stands_first, !rport_stands_first] {
            match (self.rport, self.received) {
                (Some(port), _) if is_rport => {
                    let (separator, span) = rport.clone();
                    replace(span, &[separator, b"rport=", decimal(u32::from(port)).as_bytes()]);
                }
                (_, Some(address)) if !is_rport => {
                    let (separator, span) = received.clone();
                    replace(span, &[separator, b"received=", AddressText::new(address).as_bytes()]);
                }
                _ => {}
            }
        }
    }
}

/// A response of our own to a request; see [`write_response`].
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// 100 to 699.
    pub code: u16,
    /// The reason phrase.
    pub reason: &'a str,
    /// The tag for a To that has none; none in a 100 (RFC 3261 §8.2.6.2).
    pub to_tag: Option<&'a [u8]>,
    /// Whether the Record-Route lines of the request are copied, as a response that makes a dialog needs (§12.1.1).
    pub copy_record_route: bool,
    /// Further header lines: names and values.
    pub extra: &'a [(&'a str, &'a [u8])],
    /// The type of the body; written only with a body.
    pub content_type: Option<&'a str>,
    /// The body, which may be empty.
    pub body: &'a [u8],
}

/// Writes a response of our own to `request` behind what `out` holds (RFC 3261 §8.2.6): all Vias in order (the top one
/// with received and rport as in `stamp`), From, To (with `to_tag` added where it has none and one is given), Call-ID,
/// CSeq, in a 100 also Timestamp; then Record-Route if wanted, the `extra` lines, Content-Type, Content-Length and the
/// body. Values copied from the request are its bytes, folds included.
///
/// An extra line whose name is no token or whose value holds a control byte is left out, and so is the rest of a reason
/// phrase from such a byte on: no caller's value becomes a line of its own. A fold in a value becomes one SP.
pub fn write_response(request: Message<'_>, stamp: ViaStamp, response: &Response<'_>, out: &mut Vec<u8>) {
    let put = |out: &mut Vec<u8>, parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    let copy = |out: &mut Vec<u8>, header: Header| {
        for line in request.lines_of(header) {
            put(out, &[header.name().as_bytes(), b": ", line.value, b"\r\n"]);
        }
    };

    let reason = response.reason.as_bytes();
    let reason = &reason[..reason.iter().position(is_control).unwrap_or(reason.len())];
    put(
        out,
        &[
            b"SIP/2.0 ",
            decimal(u32::from(response.code)).as_bytes(),
            b" ",
            reason,
            b"\r\n",
        ],
    );

    for (position, line) in request.lines_of(Header::Via).enumerate() {
        put(out, &[b"Via: "]);
        let mut copied = line.value_span.start;
        if position == 0
            && let Ok(via) = request.top_via()
        {
            stamp.splice(&via, |span, parts| {
                put(out, &[&request.bytes()[copied..span.start]]);
                put(out, parts);
                copied = span.end;
            });
        }
        put(out, &[&request.bytes()[copied..line.value_span.end], b"\r\n"]);
    }
    copy_first(request, Header::From, out);
    copy_first(request, Header::To, out);
    debug_assert!(response.to_tag.is_none_or(scan::is_token), "a tag is a token");
    if let (Ok(to), Some(tag)) = (request.to(), response.to_tag.filter(|tag| scan::is_token(tag)))
        && to.tag.is_none()
    {
        // Behind the value, before the CRLF that ends it.
        out.truncate(out.len() - 2);
        put(out, &[b";tag=", tag, b"\r\n"]);
    }
    copy_first(request, Header::CallId, out);
    copy_first(request, Header::CSeq, out);
    if response.code == 100 {
        copy(out, Header::Timestamp);
    }
    if response.copy_record_route {
        copy(out, Header::RecordRoute);
    }
    for (name, value) in response.extra {
        let parts = unfolded(value);
        if scan::is_token(name.as_bytes()) && !parts.iter().any(|part| part.iter().any(is_control)) {
            put(out, &[name.as_bytes(), b": "]);
            put(out, &parts);
            put(out, &[b"\r\n"]);
        }
    }
    if let Some(content_type) = response.content_type
        && !response.body.is_empty()
        && !content_type.as_bytes().iter().any(is_control)
    {
        put(out, &[b"Content-Type: ", content_type.as_bytes(), b"\r\n"]);
    }
    put(
        out,
        &[
            b"Content-Length: ",
            decimal(response.body.len() as u32).as_bytes(),
            b"\r\n\r\n",
            response.body,
        ],
    );
}

/// Copies the one line of a header that stands once; of a request that broke the rule the first.
fn copy_first(request: Message<'_>, header: Header, out: &mut Vec<u8>) {
    if let Some(value) = request.value(header) {
        for part in [header.name().as_bytes(), b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}

/// A control byte but HTAB: RFC 3261 §25.1 has none outside quoted-pairs, and CR and LF not even there.
fn is_control(byte: &u8) -> bool {
    byte.is_ascii_control() && *byte != b'\t'
}

/// A value in parts that are one after the other what it says: each fold in it (CRLF and white space) as one SP
/// (RFC 3261 §7.3.1).
fn unfolded(value: &[u8]) -> SmallVec<[&[u8]; 8]> {
    let mut parts = SmallVec::new();
    let mut rest = value;
    let is_fold = |at: &[u8]| at[..2] == *b"\r\n" && matches!(at[2], b' ' | b'\t');
    while let Some(end) = rest.windows(3).position(is_fold) {
        parts.extend([&rest[..end], &b" "[..]]);
        rest = &rest[end + 3..];
        let blank = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        rest = &rest[blank..];
    }
    parts.push(rest);
    parts
}

/// A value for a message of our own holds a control byte, which might end its line; or a method, a Request-URI or a
/// header name is not what may stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injection {
    /// The line it was meant for: 0 is the Request-Line, 1 the first header line.
    pub line: usize,
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value for line {} holds a byte that must not be there", self.line)
    }
}

impl std::error::Error for Injection {}

/// A request of our own, line by line into `out`. Values are checked where they enter: after a control byte in one,
/// [`RequestWriter::finish`] is an error and nothing is left in `out`.
#[derive(Debug)]
#[must_use = "nothing is kept of a request that is not finished"]
pub struct RequestWriter<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    lines: usize,
    injection: Option<Injection>,
}

impl<'o> RequestWriter<'o> {
    /// Begins behind what `out` holds.
    pub fn new(out: &'o mut Vec<u8>, method: &str, uri: &[u8]) -> RequestWriter<'o> {
        let start = out.len();
        let mut writer = RequestWriter {
            out,
            start,
            lines: 0,
            injection: None,
        };
        if !scan::is_token(method.as_bytes()) || uri.is_empty() || scan::run(uri, scan::URI) != uri.len() {
            writer.injection = Some(Injection { line: 0 });
        } else {
            for part in [method.as_bytes(), b" ", uri, b" SIP/2.0\r\n"] {
                writer.out.extend_from_slice(part);
            }
        }
        writer
    }

    /// Writes one header line whose value is `parts` one after the other. Remembers the first injection.
    pub fn header(&mut self, name: &str, parts: &[&[u8]]) -> &mut Self {
        self.line(name, parts, is_control)
    }

    /// Writes one header line whose value was received and read by [`super::parse()`]: a fold in it becomes one SP, and a
    /// control byte stands in a quoted-pair, where it may (RFC 4475 §3.1.1.1). CR and LF are in neither.
    pub fn copied(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.line(name, &unfolded(value), |byte| matches!(byte, b'\r' | b'\n'))
    }

    fn line(&mut self, name: &str, parts: &[&[u8]], breaks: fn(&u8) -> bool) -> &mut Self {
        self.lines += 1;
        if parts.iter().any(|part| part.iter().any(breaks)) || !scan::is_token(name.as_bytes()) {
            self.injection.get_or_insert(Injection { line: self.lines });
        } else if self.injection.is_none() {
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(b": ");
            for part in parts {
                self.out.extend_from_slice(part);
            }
            self.out.extend_from_slice(b"\r\n");
        }
        self
    }

    /// Writes Content-Type (with a body), Content-Length, the empty line and the body; where the request lies in `out`.
    /// After an injection `out` is as it was before.
    pub fn finish(mut self, content_type: Option<&str>, body: &[u8]) -> Result<Range<usize>, Injection> {
        if let Some(content_type) = content_type
            && !body.is_empty()
        {
            self.header("Content-Type", &[content_type.as_bytes()]);
        }
        self.header("Content-Length", &[decimal(body.len() as u32).as_bytes()]);
        match self.injection {
            Some(injection) => {
                self.out.truncate(self.start);
                Err(injection)
            }
            None => {
                self.out.extend_from_slice(b"\r\n");
                self.out.extend_from_slice(body);
                Ok(self.start..self.out.len())
            }
        }
    }
}

#[cfg(test)]
mod injection;

#[cfg(test)]
mod tests {
    use super::super::MessageBuf;
    use super::*;

    const REQUEST: &str = "OPTIONS sip:b@b.example SIP/2.0\r\n\
        v: SIP/2.0/UDP a.example:5060;branch=z9hG4bK1;rport;x , SIP/2.0/TCP lower.example;branch=z9hG4bK0\r\n\
        Via: SIP/2.0/UDP lowest.example\r\n  ;branch=z9hG4bK00\r\n\
        From: <sip:a@a.example>;tag=1\r\n\
        t: \"B, b\" <sip:b@b.example>\r\n\
        Call-ID: x@a.example\r\n\
        CSeq: 007  OPTIONS\r\n\
        Max-Forwards: 70\r\n\
        Timestamp: 54\r\n\
        Record-Route: <sip:p1;lr>\r\n\
        Route: <sip:r1;lr,x>, \"a, b\" <sip:r2;lr>\r\n\
        Route: <sip:r3;lr>\r\n\
        route: <sip:r4;lr> ,\r\n <sip:r5;lr>\r\n\
        l: 4\r\n\r\nbodytail";

    fn request() -> MessageBuf {
        MessageBuf::parse(REQUEST).unwrap()
    }

    fn edited(change: impl FnOnce(Message<'_>, &mut Editor)) -> String {
        let buf = request();
        let mut editor = Editor::new();
        change(buf.as_message(), &mut editor);
        let mut out = b"before".to_vec();
        editor.write(buf.as_message(), &mut out);
        String::from_utf8(out)
            .unwrap()
            .strip_prefix("before")
            .unwrap()
            .to_owned()
    }

    #[test]
    fn without_splices_the_message_leaves_as_it_came_but_for_what_follows_it() {
        assert_eq!(edited(|_, _| {}), REQUEST.strip_suffix("tail").unwrap());
    }

    #[test]
    fn splices_apply_by_position_and_at_one_position_by_call() {
        let text = edited(|message, editor| {
            let end = message.headers_end();
            editor.insert(end, &[b"Last: 1\r\n"]);
            editor.replace(message.request_uri_span(), &[b"sip:", b"new"]);
            editor.insert(message.headers_start(), &[b"First: 1\r\n"]);
            editor.insert(end, &[b"Last: 2\r\n"]);
            let max_forwards = message.lines_of(Header::MaxForwards).next().unwrap();
            editor.replace(max_forwards.value_span, &[b"69"]);
            let timestamp = message.lines_of(Header::Timestamp).next().unwrap().line_span;
            editor.insert(timestamp.start, &[b"In-Place: 1\r\n"]);
            editor.delete(timestamp.clone());
            editor.insert(timestamp.end, &[b"Behind: 1\r\n"]);
            editor.insert(message.headers_start(), &[b"Second: 1\r\n"]);
        });
        let expected = REQUEST
            .replace(
                "sip:b@b.example SIP/2.0\r\n",
                "sip:new SIP/2.0\r\nFirst: 1\r\nSecond: 1\r\n",
            )
            .replace("Forwards: 70", "Forwards: 69")
            .replace("Timestamp: 54\r\n", "In-Place: 1\r\nBehind: 1\r\n")
            .replace("\r\n\r\nbodytail", "\r\nLast: 1\r\nLast: 2\r\n\r\nbody");
        assert_eq!(text, expected);
    }

    #[test]
    fn an_editor_is_empty_again_after_clear() {
        let text = edited(|message, editor| {
            editor.insert(0, &[b"x"]);
            editor.remove_first_values(message, Header::Route, 2);
            editor.clear();
            editor.remove_first_values(message, Header::Route, 1);
        });
        assert!(text.starts_with("OPTIONS") && text.contains("r2"));
    }

    #[test]
    #[should_panic(expected = "overlapping splices")]
    #[cfg(debug_assertions)]
    fn overlapping_splices_are_a_bug_of_the_caller() {
        edited(|_, editor| {
            editor.delete(3..9);
            editor.insert(5, &[b"x"]);
        });
    }

    #[test]
    fn values_are_removed_from_the_front_of_a_list_over_its_lines() {
        let routes = |counts: &[usize]| {
            let text = edited(|message, editor| {
                for &count in counts {
                    editor.remove_first_values(message, Header::Route, count);
                }
            });
            let lines: Vec<_> = text
                .split("\r\n")
                .skip_while(|line| !line.starts_with("Record-Route"))
                .collect();
            let end = lines.iter().position(|line| line.starts_with("l:")).unwrap();
            lines[1..end].join("|")
        };
        let all = "Route: <sip:r1;lr,x>, \"a, b\" <sip:r2;lr>|Route: <sip:r3;lr>|route: <sip:r4;lr> ,| <sip:r5;lr>";
        assert_eq!(routes(&[]), all);
        assert_eq!(routes(&[0]), all);
        let without_one = "Route: \"a, b\" <sip:r2;lr>|Route: <sip:r3;lr>|route: <sip:r4;lr> ,| <sip:r5;lr>";
        assert_eq!(routes(&[1]), without_one);
        let without_two = "Route: <sip:r3;lr>|route: <sip:r4;lr> ,| <sip:r5;lr>";
        assert_eq!(routes(&[2]), without_two);
        assert_eq!(routes(&[1, 1]), without_two);
        assert_eq!(routes(&[1, 1, 1]), "route: <sip:r4;lr> ,| <sip:r5;lr>");
        assert_eq!(routes(&[4]), "route: <sip:r5;lr>");
        assert_eq!(routes(&[3, 1]), "route: <sip:r5;lr>");
        assert_eq!(routes(&[5]), "");
        assert_eq!(routes(&[2, 40]), "");
    }

    #[test]
    fn a_top_via_is_removed_as_a_value() {
        let text = edited(|message, editor| editor.remove_first_values(message, Header::Via, 1));
        assert!(
            text.contains("\r\nv: SIP/2.0/TCP lower.example;branch=z9hG4bK0\r\n"),
            "{text}"
        );
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 9, 10, 70, 5060, u32::MAX] {
            assert_eq!(decimal(number).as_bytes(), number.to_string().as_bytes());
        }
    }

    fn stamp(via: &str, source: &str) -> (ViaStamp, String) {
        let text = REQUEST.replacen("a.example:5060;branch=z9hG4bK1;rport;x", via, 1);
        let buf = MessageBuf::parse(text).unwrap();
        let via = buf.as_message().top_via().unwrap();
        let stamp = ViaStamp::of(&via, source.parse().unwrap());
        let mut editor = Editor::new();
        stamp.apply(&via, &mut editor);
        let mut out = Vec::new();
        editor.write(buf.as_message(), &mut out);
        let out = String::from_utf8(out).unwrap();
        let line = out.split("\r\n").nth(1).unwrap();
        let value = line
            .strip_prefix("v: SIP/2.0/UDP ")
            .unwrap()
            .split(" ,")
            .next()
            .unwrap();
        (stamp, value.to_owned())
    }

    #[test]
    fn the_source_is_written_into_the_top_via_where_the_rfcs_want_it() {
        for (via, source, expected) in [
            ("192.0.2.1;branch=b", "192.0.2.1:5060", "192.0.2.1;branch=b"),
            ("192.0.2.1;branch=b", "192.0.2.1:9999", "192.0.2.1;branch=b"),
            (
                "192.0.2.1;branch=b",
                "192.0.2.2:5060",
                "192.0.2.1;branch=b;received=192.0.2.2",
            ),
            (
                "a.example;branch=b",
                "192.0.2.2:5060",
                "a.example;branch=b;received=192.0.2.2",
            ),
            (
                "192.0.2.1;rport;branch=b",
                "192.0.2.1:9",
                "192.0.2.1;rport=9;branch=b;received=192.0.2.1",
            ),
            (
                "a;rport=1;received=10.0.0.1;x",
                "192.0.2.2:9",
                "a;rport=9;received=192.0.2.2;x",
            ),
            (
                "192.0.2.1;received=10.0.0.1",
                "192.0.2.1:9",
                "192.0.2.1;received=192.0.2.1",
            ),
            (
                "192.0.2.1;RPort = 5;x",
                "[::ffff:192.0.2.1]:9",
                "192.0.2.1;rport=9;x;received=192.0.2.1",
            ),
            ("192.0.2.1;x", "[::ffff:192.0.2.1]:9", "192.0.2.1;x"),
            ("[2001:db8::1]", "[2001:db8::1]:9", "[2001:db8::1]"),
            (
                "[2001:db8:0::1];rport",
                "[2001:db8::2]:9",
                "[2001:db8:0::1];rport=9;received=2001:db8::2",
            ),
        ] {
            assert_eq!(stamp(via, source).1, expected, "{via} from {source}");
        }
    }

    const OK: Response<'_> = Response {
        code: 200,
        reason: "OK",
        to_tag: Some(b"new"),
        copy_record_route: false,
        extra: &[],
        content_type: None,
        body: b"",
    };

    fn response(response: &Response<'_>) -> String {
        let buf = request();
        let stamp = ViaStamp::of(&buf.as_message().top_via().unwrap(), "192.0.2.7:4711".parse().unwrap());
        let mut out = Vec::new();
        write_response(buf.as_message(), stamp, response, &mut out);
        let answer = MessageBuf::parse(out.clone()).unwrap();
        assert_eq!(answer.as_message().status(), Some(response.code));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_response_copies_what_rfc_3261_8_2_6_wants_byte_for_byte() {
        let copied = "Via: SIP/2.0/UDP a.example:5060;branch=z9hG4bK1;rport=4711;x;received=192.0.2.7 , \
                      SIP/2.0/TCP lower.example;branch=z9hG4bK0\r\n\
                      Via: SIP/2.0/UDP lowest.example\r\n  ;branch=z9hG4bK00\r\n\
                      From: <sip:a@a.example>;tag=1\r\n";
        assert_eq!(
            response(&OK),
            format!(
                "SIP/2.0 200 OK\r\n{copied}To: \"B, b\" <sip:b@b.example>;tag=new\r\nCall-ID: x@a.example\r\n\
                 CSeq: 007  OPTIONS\r\nContent-Length: 0\r\n\r\n"
            )
        );
        assert_eq!(
            response(&Response {
                code: 100,
                reason: "Trying",
                to_tag: None,
                ..OK
            }),
            format!(
                "SIP/2.0 100 Trying\r\n{copied}To: \"B, b\" <sip:b@b.example>\r\nCall-ID: x@a.example\r\n\
                 CSeq: 007  OPTIONS\r\nTimestamp: 54\r\nContent-Length: 0\r\n\r\n"
            )
        );
        let full = Response {
            copy_record_route: true,
            extra: &[
                ("Allow", b"ACK, BYE"),
                ("Evil", b"x\r\nInjected: y"),
                ("Supported", b""),
            ],
            content_type: Some("text/plain"),
            body: b"hi\n",
            reason: "OK\r\nInjected: z",
            ..OK
        };
        assert_eq!(
            response(&full),
            format!(
                "SIP/2.0 200 OK\r\n{copied}To: \"B, b\" <sip:b@b.example>;tag=new\r\nCall-ID: x@a.example\r\n\
                 CSeq: 007  OPTIONS\r\nRecord-Route: <sip:p1;lr>\r\nAllow: ACK, BYE\r\nSupported: \r\n\
                 Content-Type: text/plain\r\nContent-Length: 3\r\n\r\nhi\n"
            )
        );
    }

    #[test]
    fn a_to_tag_that_is_there_is_left_alone() {
        let text = REQUEST.replacen("<sip:b@b.example>\r\n", "<sip:b@b.example>;TAG=old;x\r\n", 1);
        let buf = MessageBuf::parse(text).unwrap();
        let mut out = Vec::new();
        write_response(buf.as_message(), ViaStamp::default(), &OK, &mut out);
        assert!(
            String::from_utf8(out)
                .unwrap()
                .contains("To: \"B, b\" <sip:b@b.example>;TAG=old;x\r\n")
        );
    }

    #[test]
    fn a_request_of_our_own_is_written_and_read_back() {
        let mut out = b"before".to_vec();
        let mut writer = RequestWriter::new(&mut out, "REFER", b"sip:b@b.example;x=y");
        writer.header("Via", &[b"SIP/2.0/UDP ", b"192.0.2.1", b";branch=z9hG4bK1"]);
        writer
            .header("From", &[b"<sip:a@a.example>;tag=1"])
            .header("To", &[b"<sip:b@b.example>"]);
        writer
            .header("Call-ID", &[b"x"])
            .header("CSeq", &[decimal(7).as_bytes(), b" REFER"]);
        let span = writer.finish(Some("text/plain"), b"body").unwrap();
        assert_eq!(span, 6..out.len());
        let buf = MessageBuf::parse(out[span].to_vec()).unwrap();
        assert_eq!(super::super::check(buf.as_message()), Ok(()));
        assert_eq!(
            (buf.as_message().body(), buf.as_message().cseq().unwrap().number),
            (&b"body"[..], 7)
        );
        assert_eq!(buf.as_message().value(Header::ContentType), Some(&b"text/plain"[..]));
    }

    #[test]
    fn nothing_is_written_of_a_request_with_an_injected_line() {
        type Write = fn(&mut RequestWriter<'_>);
        let cases: [(&str, &[u8], Write, usize); 6] = [
            ("OPTIONS x", b"sip:a", |_| {}, 0),
            ("OPTIONS", b"sip:a SIP/2.0\r\nX: y", |_| {}, 0),
            ("OPTIONS", b"", |_| {}, 0),
            (
                "OPTIONS",
                b"sip:a",
                |writer| {
                    writer.header("A", &[b"1"]).header("B", &[b"x", b"\r\nC: y"]);
                },
                2,
            ),
            (
                "OPTIONS",
                b"sip:a",
                |writer| {
                    writer.header("A", &[b"\x7f"]).header("B", &[b"\n"]);
                },
                1,
            ),
            (
                "OPTIONS",
                b"sip:a",
                |writer| {
                    writer.header("A: x\r\nB", &[b"y"]);
                },
                1,
            ),
        ];
        for (method, uri, write, line) in cases {
            let mut out = b"before".to_vec();
            let mut writer = RequestWriter::new(&mut out, method, uri);
            write(&mut writer);
            assert_eq!(writer.finish(None, b"body"), Err(Injection { line }));
            assert_eq!(out, b"before");
        }
    }
}
