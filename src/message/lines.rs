//! The two searches an index is made of: where lines end, and what a header line's name is.
//!
//! Here they are byte by byte and word by word, for any bytes and any processor. [`super::avx2`] has them many bytes at a
//! time, for heads in which every line ends with CRLF and nothing is odd; what it finds there is the same.

use super::class::{self, Class, TOKEN};
use super::header::Header;
use super::parse::ParseErrorKind;

/// How to look for things in the head of a message.
pub(super) trait Search: Copy {
    /// [`class::run`].
    fn run(self, bytes: &[u8], class: Class) -> usize;

    /// The name of the header line that begins at `start` and has `length` bytes without its end and without what
    /// continues it.
    fn name(self, bytes: &[u8], start: usize, length: usize) -> Result<Name, ParseErrorKind>;
}

/// Where a line's content ends, and where the next line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineEnd {
    pub(super) at: usize,
    pub(super) next: usize,
}

/// A header line's name, and where its value begins, counted from the start of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) header: Header,
    /// Where the value begins: the first byte behind the colon that is neither SP nor HTAB; the end of the line if there
    /// is none.
    pub(super) value: usize,
}

/// The searches without vector instructions and without unsafe code.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain;

impl Search for Plain {
    #[inline(always)]
    fn run(self, bytes: &[u8], class: Class) -> usize {
        class::plain_run(bytes, class)
    }

    #[inline(always)]
    fn name(self, bytes: &[u8], start: usize, length: usize) -> Result<Name, ParseErrorKind> {
        let line = &bytes[start..start + length];
        let colon = find_colon(line).ok_or(ParseErrorKind::NoColon)?;
        let mut name = &line[..colon];
        // RFC 3261 §25.1, HCOLON: SP and HTAB may stand before the colon.
        while let [shorter @ .., b' ' | b'\t'] = name {
            name = shorter;
        }
        let header = Header::from_name(name);
        if header == Header::Other && (name.is_empty() || class::plain_run(name, TOKEN) != name.len()) {
            return Err(ParseErrorKind::HeaderName);
        }
        let value = match line[colon + 1..] {
            // Nearly always one SP.
            [b' ', b'!'..=0xff, ..] => colon + 2,
            ref behind => colon + 1 + behind.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count(),
        };
        Ok(Name { header, value })
    }
}

/// The line ends from the front. A bare LF ends a line too.
pub(super) struct LineEnds<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether a control byte other than HTAB, or a CR or LF without the other, was met.
    is_odd: bool,
}

impl<'a> LineEnds<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> LineEnds<'a> {
        LineEnds {
            bytes,
            at: 0,
            is_odd: false,
        }
    }

    /// Whether in the bytes up to `end`, which is where the walk has come, there is one that no plain line has.
    pub(super) fn is_odd(&self, end: usize) -> bool {
        self.is_odd || memchr::memchr(0x7f, &self.bytes[..end]).is_some()
    }
}

impl Iterator for LineEnds<'_> {
    type Item = LineEnd;

    #[inline(always)]
    fn next(&mut self) -> Option<LineEnd> {
        loop {
            let at = next_below_space(self.bytes, self.at);
            self.at = at + 1;
            match self.bytes.get(at..)? {
                [b'\r', b'\n', ..] => {
                    self.at = at + 2;
                    return Some(LineEnd { at, next: at + 2 });
                }
                [] => return None,
                [b'\t', ..] => {}
                [b'\n', ..] => {
                    self.is_odd = true;
                    return Some(LineEnd { at, next: at + 1 });
                }
                _ => self.is_odd = true,
            }
        }
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// Where the first byte below SP is, at `from` or behind it; the end if there is none.
#[inline]
fn next_below_space(bytes: &[u8], from: usize) -> usize {
    // Sets the high bit of the lowest byte below 0x20, maybe of bytes above it, and of none if there is no such byte.
    let mark = |word: u64| word.wrapping_sub(ONES * b' ' as u64) & !word;
    const HIGH: u64 = ONES << 7;
    let mut rest = bytes.get(from..).unwrap_or_default();
    while let Some((block, after)) = rest.split_first_chunk::<32>() {
        let marks = words(block).map(mark);
        if (marks[0] | marks[1] | marks[2] | marks[3]) & HIGH != 0 {
            let bit = match marks.map(|mark| mark & HIGH) {
                [0, 0, 0, last] => 192 + last.trailing_zeros(),
                [0, 0, third, _] => 128 + third.trailing_zeros(),
                [0, second, _, _] => 64 + second.trailing_zeros(),
                [first, _, _, _] => first.trailing_zeros(),
            };
            return bytes.len() - rest.len() + (bit / 8) as usize;
        }
        rest = after;
    }
    let length = rest.iter().position(|&byte| byte < b' ').unwrap_or(rest.len());
    bytes.len() - rest.len() + length
}

#[inline]
fn words(block: &[u8; 32]) -> [u64; 4] {
    let (words, _) = block.as_chunks::<8>();
    std::array::from_fn(|position| u64::from_le_bytes(words[position]))
}

/// The first colon. A name is short: eight bytes at a time are done before a call of memchr has begun.
#[inline]
fn find_colon(line: &[u8]) -> Option<usize> {
    let mut rest = line;
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        // The lowest byte that is zero after the exclusive or is the first that has its high bit set after this.
        let word = u64::from_le_bytes(*word) ^ (ONES * b':' as u64);
        let zeros = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if zeros != 0 {
            return Some(line.len() - rest.len() + (zeros.trailing_zeros() / 8) as usize);
        }
        rest = after;
    }
    let at = rest.iter().position(|&byte| byte == b':')?;
    Some(line.len() - rest.len() + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_at_every_place() {
        let text: Vec<u8> = (0..64).map(|n| b"a ~\x80\xff\x7f@"[n % 7]).collect();
        for length in 0..text.len() {
            let text = &text[..length];
            assert_eq!((next_below_space(text, 0), find_colon(text)), (length, None));
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = text.to_vec();
                    text[at] = byte;
                    assert_eq!(
                        next_below_space(&text, 0),
                        if byte < b' ' { at } else { length },
                        "{byte} at {at}"
                    );
                    assert_eq!(find_colon(&text), (byte == b':').then_some(at), "{byte} at {at}");
                }
                let mut text = text.to_vec();
                text[at..].fill(0);
                assert_eq!(next_below_space(&text, 0), at);
                assert_eq!(next_below_space(&text, at + 1), (at + 1).min(length));
            }
        }
        assert_eq!(next_below_space(b"", 0), 0);
    }
}
