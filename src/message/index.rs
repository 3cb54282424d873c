//! Where everything lies in a message: what [`super::parse()`] leaves behind.

use std::fmt;
use std::ops::Range;

use super::header::{Header, Method};
use super::scan;

/// The most header lines a message may have. Long routes have some tens; RFC 4475's longest message has 47.
pub const HEADER_LINES_MAX: usize = 128;

/// What the pass found. Reused from message to message: [`super::parse()`] clears and fills it.
///
/// Offsets are `u16` because a message has at most [`super::parse::MESSAGE_BYTES_MAX`] bytes. Nothing here is on the
/// heap.
#[derive(Clone)]
pub struct Index {
    /// The header of each line, as numbers. Only the first `count` are of this message, likewise in `lines`.
    ids: [u8; HEADER_LINES_MAX],
    lines: [Line; HEADER_LINES_MAX],
    /// The first line of each header; valid only for headers in `seen`, so that it needs no clearing.
    first: [u8; 256],
    /// The headers there are, and those there are more than once: one bit each.
    seen: u64,
    repeated: u64,
    count: usize,
    pub(super) start: Start,
    /// `start line end == headers_start <= headers_end <= body_start <= total_len`
    headers_start: u16,
    headers_end: u16,
    body_start: u16,
    total_len: u16,
    pub(super) content_length: Option<u16>,
    pub(super) cseq: Option<CSeqPlace>,
}

/// What the start line says, by its places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Unknown,
    Request {
        method: Method,
        token_end: u16,
        uri: (u16, u16),
    },
    Response {
        code: u16,
        reason: (u16, u16),
    },
}

/// Where one header line lies. `start < value.0 <= value.1 <= end of the line`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(align(8))]
pub(super) struct Line {
    pub(super) start: u16,
    /// The value with the white space behind it, which hardly any has and hardly anybody asks for.
    pub(super) value: (u16, u16),
}

/// The CSeq value, read while the index is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CSeqPlace {
    pub(super) number: u32,
    pub(super) digits: (u16, u16),
    pub(super) token: (u16, u16),
    pub(super) method: Method,
}

/// Headers every message has (RFC 3261 §8.1.1, §8.2.6.2). Not Max-Forwards: it is younger than some clients
/// (RFC 4475 §3.4.1).
pub(super) const MANDATORY: [Header; 5] = [Header::Via, Header::From, Header::To, Header::CallId, Header::CSeq];

/// A set of headers, one bit each.
pub(super) const fn set(headers: &[Header]) -> u64 {
    let mut bits = 0;
    let mut i = 0;
    while i < headers.len() {
        bits |= headers[i].bit();
        i += 1;
    }
    bits
}

#[inline]
pub(super) fn range(place: (u16, u16)) -> Range<usize> {
    usize::from(place.0)..usize::from(place.1)
}

impl Index {
    /// An index of nothing.
    pub fn new() -> Index {
        Index {
            ids: [0; HEADER_LINES_MAX],
            lines: [Line::default(); HEADER_LINES_MAX],
            first: [0; 256],
            seen: 0,
            repeated: 0,
            count: 0,
            start: Start::Unknown,
            headers_start: 0,
            headers_end: 0,
            body_start: 0,
            total_len: 0,
            content_length: None,
            cseq: None,
        }
    }

    /// Whether a response can be built from what was found: it is a request, and all that a response copies is there
    /// (RFC 3261 §8.2.6.2).
    pub fn answerable(&self) -> bool {
        self.is_request() && self.has_all(const { set(&MANDATORY) })
    }

    /// Whether the start line was one of a request, even a malformed one.
    pub fn is_request(&self) -> bool {
        matches!(self.start, Start::Request { .. })
    }

    pub(super) fn clear(&mut self) {
        self.seen = 0;
        self.repeated = 0;
        self.count = 0;
        self.start = Start::Unknown;
        self.headers_start = 0;
        self.headers_end = 0;
        self.body_start = 0;
        self.total_len = 0;
        self.content_length = None;
        self.cseq = None;
    }

    pub(super) fn set_headers_start(&mut self, offset: usize) {
        self.headers_start = offset as u16;
        self.set_head_end(offset, offset);
    }

    pub(super) fn set_head_end(&mut self, headers_end: usize, body_start: usize) {
        self.headers_end = headers_end as u16;
        self.body_start = body_start as u16;
        self.total_len = body_start as u16;
    }

    pub(super) fn set_total_len(&mut self, length: usize) {
        self.total_len = length as u16;
    }

    /// Whether none of a set of headers is missing.
    pub(super) fn has_all(&self, headers: u64) -> bool {
        self.seen & headers == headers
    }

    /// Whether any of a set of headers stands on more than one line.
    pub(super) fn repeats_any(&self, headers: u64) -> bool {
        self.repeated & headers != 0
    }

    /// Starts to take in lines.
    #[inline(always)]
    pub(super) fn lines_mut(&mut self) -> Lines<'_> {
        Lines { count: 0, index: self }
    }

    /// The number of header lines.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn has(&self, header: Header) -> bool {
        self.seen & header.bit() != 0
    }

    /// The number of the first line of a header.
    #[inline]
    pub(super) fn first(&self, header: Header) -> Option<usize> {
        self.has(header)
            .then(|| usize::from(self.first[usize::from(header as u8)]))
    }

    /// The number of the next line of a header after line `place`.
    #[inline]
    pub(super) fn next(&self, header: Header, place: usize) -> Option<usize> {
        if self.repeated & header.bit() == 0 {
            return None;
        }
        let following = self.ids.get(place + 1..self.count)?;
        following
            .iter()
            .position(|&id| id == header as u8)
            .map(|distance| place + 1 + distance)
    }

    pub(super) fn places_of(&self, header: Header) -> impl Iterator<Item = usize> {
        std::iter::successors(self.first(header), move |&place| self.next(header, place))
    }

    pub(super) fn header_at(&self, place: usize) -> Header {
        Header::from_number(self.ids[place])
    }

    /// Where the value of a line begins.
    #[inline]
    pub(super) fn value_start(&self, place: usize) -> usize {
        usize::from(self.lines[place].value.0)
    }

    /// Where the value of a line lies, without white space at either end.
    #[inline]
    pub(super) fn value_at(&self, bytes: &[u8], place: usize) -> Range<usize> {
        let mut value = range(self.lines[place].value);
        while let [.., b' ' | b'\t' | b'\r' | b'\n'] = bytes[value.clone()] {
            value.end -= 1;
        }
        value
    }

    /// Where the name of a line lies.
    pub(super) fn name_at(&self, bytes: &[u8], place: usize) -> Range<usize> {
        let line = self.lines[place];
        let start = usize::from(line.start);
        start..start + scan::run(&bytes[start..usize::from(line.value.0)], scan::TOKEN)
    }

    /// A whole line with its CRLF and all lines that continue it.
    pub(super) fn line_at(&self, place: usize) -> Range<usize> {
        let end = match self.lines[..self.count].get(place + 1) {
            Some(next) => next.start,
            None => self.headers_end,
        };
        usize::from(self.lines[place].start)..usize::from(end)
    }

    pub(super) fn headers(&self) -> Range<usize> {
        range((self.headers_start, self.headers_end))
    }

    pub(super) fn body(&self) -> Range<usize> {
        range((self.body_start, self.total_len))
    }
}

/// The lines of an index while they are found.
pub(super) struct Lines<'i> {
    /// Apart from the index so that it can stay in a register.
    count: usize,
    index: &'i mut Index,
}

impl Lines<'_> {
    /// Adds a line; `false` if there is no room for it.
    #[inline(always)]
    pub(super) fn push(&mut self, header: Header, line: Line) -> bool {
        let (Some(id), Some(slot)) = (self.index.ids.get_mut(self.count), self.index.lines.get_mut(self.count)) else {
            return false;
        };
        *id = header as u8;
        *slot = line;
        self.count += 1;
        true
    }

    /// All lines are in: notes which headers there are. In a loop of its own it costs half of what it does in the one
    /// that finds the lines, which has no register to spare.
    #[inline(always)]
    pub(super) fn finish(self) {
        let Index { ids, first, .. } = self.index;
        let (mut seen, mut repeated) = (0, 0);
        // From the last to the first, so that the first one stays.
        for (place, &id) in ids[..self.count].iter().enumerate().rev() {
            first[usize::from(id)] = place as u8;
            let bit = 1 << (id & 63);
            repeated |= seen & bit;
            seen |= bit;
        }
        self.index.seen = seen;
        self.index.repeated = repeated;
        self.index.count = self.count;
    }
}

impl Default for Index {
    fn default() -> Index {
        Index::new()
    }
}

/// Whether two indexes say the same. What earlier messages left behind in them counts for nothing.
#[cfg(any(test, feature = "sim"))]
impl PartialEq for Index {
    fn eq(&self, other: &Index) -> bool {
        // Taken apart, so that a new field is not forgotten here.
        let Index {
            ids,
            lines,
            first: _,
            seen,
            repeated,
            count,
            start,
            headers_start,
            headers_end,
            body_start,
            total_len,
            content_length,
            cseq,
        } = self;
        let same_first = |&id: &u8| self.first[usize::from(id)] == other.first[usize::from(id)];
        (seen, repeated, count, start) == (&other.seen, &other.repeated, &other.count, &other.start)
            && (headers_start, headers_end) == (&other.headers_start, &other.headers_end)
            && (body_start, total_len) == (&other.body_start, &other.total_len)
            && (content_length, cseq) == (&other.content_length, &other.cseq)
            && ids[..*count] == other.ids[..*count]
            && lines[..*count] == other.lines[..*count]
            && ids[..*count].iter().all(same_first)
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("start", &self.start)
            .field("lines", &self.count)
            .field("headers", &self.headers())
            .field("body", &self.body())
            .finish_non_exhaustive()
    }
}
