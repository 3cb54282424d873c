//! What a peer reads of a received message. Written apart from the library's parser, so that the one checks the other.

use memchr::memchr;
use std::ops::Range;

/// Lines that a response repeats (RFC 3261 §8.2.6): Via and Record-Route, From, To, Call-ID, CSeq.
const ECHO_MAX: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Refer,
    Notify,
    Options,
}

impl Method {
    pub const fn name(self) -> &'static str {
        match self {
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Refer => "REFER",
            Method::Notify => "NOTIFY",
            Method::Options => "OPTIONS",
        }
    }

    fn of(name: &[u8]) -> Option<Method> {
        use Method::*;
        [Invite, Ack, Bye, Refer, Notify, Options]
            .into_iter()
            .find(|method| method.name().as_bytes() == name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    Request { method: Method, uri: &'a [u8] },
    Response { code: u16 },
}

/// A received message with the values that are checked.
#[derive(Debug)]
pub struct Received<'a> {
    pub bytes: &'a [u8],
    pub start: Start<'a>,
    pub top_via: &'a [u8],
    pub vias: usize,
    pub max_forwards: Option<u32>,
    pub from: &'a [u8],
    pub to: &'a [u8],
    pub call_id: &'a [u8],
    pub cseq: u32,
    pub cseq_method: Method,
    pub contact: &'a [u8],
    /// Route values that are left.
    pub routes: usize,
    pub is_terminated: bool,
    echo: [(u32, u32); ECHO_MAX],
    echoes: usize,
    record_routes: [(u32, u32); 4],
    record_route_lines: usize,
}

/// Reads a message; the reason if there is anything wrong with it.
pub fn read(bytes: &[u8]) -> Result<Received<'_>, &'static str> {
    let (first, mut at) = line(bytes, 0).ok_or("no start line")?;
    let start = start_line(&bytes[first]).ok_or("start line")?;
    let mut received = Received {
        bytes,
        start,
        top_via: b"",
        vias: 0,
        max_forwards: None,
        from: b"",
        to: b"",
        call_id: b"",
        cseq: 0,
        cseq_method: Method::Ack,
        contact: b"",
        routes: 0,
        is_terminated: false,
        echo: [(0, 0); ECHO_MAX],
        echoes: 0,
        record_routes: [(0, 0); 4],
        record_route_lines: 0,
    };
    let mut body = None;
    let mut has_cseq = false;
    loop {
        let (range, next) = line(bytes, at).ok_or("no end of headers")?;
        if range.is_empty() {
            at = next;
            break;
        }
        let text = &bytes[range.clone()];
        let colon = memchr(b':', text).ok_or("header without colon")?;
        let value = text[colon + 1..].trim_ascii();
        let mut is_echoed = true;
        match &text[..colon] {
            b"Via" => {
                if received.vias == 0 {
                    received.top_via = value;
                }
                received.vias += 1;
            }
            b"Record-Route" => {
                let place = received
                    .record_routes
                    .get_mut(received.record_route_lines)
                    .ok_or("too many Record-Routes")?;
                let start = range.end - text[colon + 1..].trim_ascii_start().len();
                *place = (start as u32, range.end as u32);
                received.record_route_lines += 1;
            }
            b"From" => received.from = value,
            b"To" => received.to = value,
            b"Call-ID" => received.call_id = value,
            b"CSeq" => {
                let space = memchr(b' ', value).ok_or("CSeq")?;
                received.cseq = number(&value[..space]).ok_or("CSeq number")?;
                received.cseq_method = Method::of(value[space..].trim_ascii()).ok_or("CSeq method")?;
                has_cseq = true;
            }
            other => {
                is_echoed = false;
                match other {
                    b"Max-Forwards" => received.max_forwards = Some(number(value).ok_or("Max-Forwards")?),
                    b"Contact" => received.contact = value,
                    b"Route" => received.routes += 1,
                    b"Subscription-State" => received.is_terminated = value.starts_with(b"terminated"),
                    b"Content-Length" => body = Some(number(value).ok_or("Content-Length")? as usize),
                    _ => {}
                }
            }
        }
        if is_echoed {
            let place = received
                .echo
                .get_mut(received.echoes)
                .ok_or("too many lines to repeat")?;
            *place = (range.start as u32, next as u32);
            received.echoes += 1;
        }
        at = next;
    }
    if body != Some(bytes.len() - at) {
        return Err("body and Content-Length differ");
    }
    if received.vias == 0 || !has_cseq || received.from.is_empty() || received.to.is_empty() {
        return Err("a header is missing");
    }
    if let Start::Request { method, .. } = start
        && method != received.cseq_method
    {
        return Err("CSeq of another method");
    }
    Ok(received)
}

impl<'a> Received<'a> {
    /// The lines a response repeats, in order, whole.
    pub fn echo(&self) -> impl Iterator<Item = &'a [u8]> {
        let bytes = self.bytes;
        let lines = self.echo;
        (0..self.echoes).map(move |i| &bytes[lines[i].0 as usize..lines[i].1 as usize])
    }

    /// The Record-Route values, in order.
    pub fn record_routes(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        let bytes = self.bytes;
        let lines = self.record_routes;
        // A comma inside of angle brackets would be part of a URI; nobody here writes such.
        (0..self.record_route_lines)
            .flat_map(move |i| bytes[lines[i].0 as usize..lines[i].1 as usize].split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
    }
}

/// The tag of a From or To value.
pub fn tag(value: &[u8]) -> Option<&[u8]> {
    let after = memchr::memmem::find(value, b">;tag=")? + 6;
    let rest = &value[after..];
    Some(&rest[..memchr(b';', rest).unwrap_or(rest.len())])
}

fn start_line(text: &[u8]) -> Option<Start<'_>> {
    if let Some(rest) = text.strip_prefix(b"SIP/2.0 ") {
        let code = number(rest.get(..3)?)? as u16;
        return (rest.get(3) == Some(&b' ')).then_some(Start::Response { code });
    }
    let rest = text.strip_suffix(b" SIP/2.0")?;
    let space = memchr(b' ', rest)?;
    let method = Method::of(&rest[..space])?;
    Some(Start::Request {
        method,
        uri: &rest[space + 1..],
    })
}

/// The line that starts at `at`, without its CRLF, and where the next one starts.
fn line(bytes: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    let end = at + memchr(b'\n', bytes.get(at..)?)?;
    (end > at && bytes[end - 1] == b'\r').then_some((at..end - 1, end + 1))
}

fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 9 {
        return None;
    }
    text.iter().try_fold(0, |sum: u32, byte| {
        byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0'))
    })
}
