//! Character classes of RFC 3261 §25.1 and the search for delimiters.
//!
//! The leaves of every grammar in this module: runs of one class, white space, quoted strings, hosts, parameters.
//! All of them take a fold (CRLF followed by SP or HTAB) for the white space it is: a message that was parsed has CR
//! and LF nowhere in its head but in line ends and folds, so inside a value both simply are white space.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use nom::Parser;
use nom::sequence::{preceded, separated_pair};

use super::uri::Host;

/// What a grammar of this module returns. The error says nothing because it sits on the normal path of alternatives.
pub(crate) type Parsed<'a, T> = nom::IResult<&'a [u8], T, ()>;

/// `token` of RFC 3261 §25.1.
pub(crate) const TOKEN: u8 = 1;
/// SP, HTAB and the bytes of a fold.
pub(crate) const LWS: u8 = 1 << 1;
/// Letters, digits, `-`, `.` and the underscore that hosts in the field do have.
pub(crate) const HOST: u8 = 1 << 2;
/// What may stand in a URI: everything visible but `<`, `>` and `"`; bytes above ASCII pass for the sake of user parts.
pub(crate) const URI: u8 = 1 << 3;
/// What may stand in an unquoted parameter value: a token, a host, and what peers put there that separates nothing.
pub(crate) const VALUE: u8 = 1 << 4;
/// What may stand in a display name without quotes: tokens, white space, bytes above ASCII and signs that separate
/// nothing. No comma: `Bell, Alexander <sip:...>` is two broken values (RFC 4475 §3.1.2.15).
pub(crate) const DISPLAY: u8 = 1 << 5;
/// A bare addr-spec: a URI without comma, semicolon and question mark (RFC 3261 §20.10).
pub(crate) const BARE_URI: u8 = 1 << 6;
/// Letters, digits, `+`, `-`, `.`.
pub(crate) const SCHEME: u8 = 1 << 7;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let byte = i as u8;
        let mut class = 0;
        if byte.is_ascii_alphanumeric() {
            class |= TOKEN | HOST | URI | VALUE | DISPLAY | BARE_URI | SCHEME;
        } else if byte.is_ascii_graphic() {
            if matches!(
                byte,
                b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~'
            ) {
                class |= TOKEN | DISPLAY;
            }
            if matches!(byte, b'-' | b'.' | b'_') {
                class |= HOST;
            }
            if matches!(byte, b'+' | b'-' | b'.') {
                class |= SCHEME;
            }
            if !matches!(byte, b'<' | b'>' | b'"') {
                class |= URI;
                if !matches!(byte, b',' | b';') {
                    class |= VALUE;
                    if byte != b'?' {
                        class |= BARE_URI;
                    }
                }
            }
            if matches!(byte, b'(' | b')' | b'@' | b'/' | b'&' | b'=' | b'$' | b'#' | b'|') {
                class |= DISPLAY;
            }
        } else if byte >= 0x80 {
            class |= URI | VALUE | DISPLAY | BARE_URI;
        }
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            class |= LWS | DISPLAY;
        }
        table[i] = class;
        i += 1;
    }
    table
}

/// Whether `byte` is of `class`.
#[inline]
pub(crate) fn is(byte: u8, class: u8) -> bool {
    CLASS[usize::from(byte)] & class != 0
}

/// How many bytes at the front are of `class`.
#[inline]
pub(crate) fn run(bytes: &[u8], class: u8) -> usize {
    // Four bytes a round cost three instructions each, one byte a round six.
    let mut rest = bytes;
    while let Some((four, after)) = rest.split_first_chunk::<4>() {
        if let Some(length) = four.iter().position(|&byte| !is(byte, class)) {
            return bytes.len() - rest.len() + length;
        }
        rest = after;
    }
    bytes.len() - rest.len() + rest.iter().position(|&byte| !is(byte, class)).unwrap_or(rest.len())
}

/// Without the white space and folds at the front, of which there mostly are none.
#[inline]
pub(crate) fn skip_lws(bytes: &[u8]) -> &[u8] {
    match bytes {
        [0..=b' ', ..] => skip_lws_run(bytes),
        _ => bytes,
    }
}

#[inline(never)]
fn skip_lws_run(bytes: &[u8]) -> &[u8] {
    &bytes[run(bytes, LWS)..]
}

/// Whether this is a `token`: not empty, nothing but token characters.
#[inline]
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && run(bytes, TOKEN) == bytes.len()
}

/// Where the first byte below SP is, at `from` or behind it; the end if there is none.
#[inline]
pub(crate) fn next_below_space(bytes: &[u8], from: usize) -> usize {
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

const ONES: u64 = 0x0101_0101_0101_0101;

#[inline]
fn words(block: &[u8; 32]) -> [u64; 4] {
    let (words, _) = block.as_chunks::<8>();
    std::array::from_fn(|position| u64::from_le_bytes(words[position]))
}

/// The first colon. A name is short: eight bytes at a time are done before a call of memchr has begun.
#[inline]
pub(crate) fn find_colon(line: &[u8]) -> Option<usize> {
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

/// Without white space and folds at either end.
#[inline]
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let bytes = skip_lws(bytes);
    let end = bytes
        .iter()
        .rposition(|&byte| !is(byte, LWS))
        .map_or(0, |last| last + 1);
    &bytes[..end]
}

/// Where `part`, a slice of `whole`, lies in it.
#[inline]
pub(crate) fn span_in(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    debug_assert!(start + part.len() <= whole.len(), "not a part of it");
    start..start + part.len()
}

/// The part of `before` that a grammar took to get to `after`.
#[inline]
pub(crate) fn taken<'a>(before: &'a [u8], after: &[u8]) -> &'a [u8] {
    &before[..before.len() - after.len()]
}

/// A number of digits only, as large as it may be: `None` above `max`, without digits, or with anything else.
#[inline]
pub(crate) fn decimal_value(digits: &[u8], max: u32) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    let mut number = 0u64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
        if number > u64::from(max) {
            return None;
        }
    }
    Some(number as u32)
}

/// As [`decimal_value`], but a number too large is `u32::MAX`: for durations, where a century and more are all the same.
pub(crate) fn decimal_clamped(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(decimal_value(digits, u32::MAX).unwrap_or(u32::MAX))
}

#[inline]
fn failed<'a, T>() -> Parsed<'a, T> {
    Err(nom::Err::Error(()))
}

/// A run of at least one byte of a class.
#[inline]
pub(crate) fn run1<'a>(class: u8) -> impl Fn(&'a [u8]) -> Parsed<'a, &'a [u8]> {
    move |input| match run(input, class) {
        0 => failed(),
        length => {
            let (taken, rest) = input.split_at(length);
            Ok((rest, taken))
        }
    }
}

/// `token`
#[inline]
pub(crate) fn token(input: &[u8]) -> Parsed<'_, &[u8]> {
    run1(TOKEN)(input)
}

/// `1*DIGIT`
#[inline]
pub(crate) fn digits(input: &[u8]) -> Parsed<'_, &[u8]> {
    match input
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(input.len())
    {
        0 => failed(),
        length => Ok((&input[length..], &input[..length])),
    }
}

/// `SWS`: white space or none.
#[inline]
pub(crate) fn sws(input: &[u8]) -> Parsed<'_, ()> {
    Ok((skip_lws(input), ()))
}

/// `LWS`: white space, at least one.
#[inline]
pub(crate) fn lws(input: &[u8]) -> Parsed<'_, ()> {
    match run(input, LWS) {
        0 => failed(),
        length => Ok((&input[length..], ())),
    }
}

/// `SWS byte SWS`: SLASH, COLON, SEMI, EQUAL and COMMA of the grammar.
#[inline]
pub(crate) fn separator<'a>(byte: u8) -> impl Fn(&'a [u8]) -> Parsed<'a, ()> {
    #[inline(always)]
    move |input| match skip_lws(input) {
        [first, rest @ ..] if *first == byte => Ok((skip_lws(rest), ())),
        _ => failed(),
    }
}

/// The end of a value: nothing more, or the comma before the next one, which stays.
#[inline]
pub(crate) fn end_of_value(input: &[u8]) -> Parsed<'_, ()> {
    let rest = skip_lws(input);
    match rest.first() {
        None | Some(b',') => Ok((rest, ())),
        Some(_) => failed(),
    }
}

/// `quoted-string`, quotes kept: it ends at the first quote that no backslash escapes.
pub(crate) fn quoted_string(input: &[u8]) -> Parsed<'_, &[u8]> {
    if input.first() != Some(&b'"') {
        return failed();
    }
    let mut at = 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &input[at..]) {
        at += found + 1;
        if input[at - 1] == b'"' {
            return Ok((&input[at..], &input[..at]));
        }
        at += 1;
        if at >= input.len() {
            break;
        }
    }
    failed()
}

/// `generic-param`: a name and, after EQUAL, a token, host or quoted string.
#[inline]
pub(crate) fn generic_param(input: &[u8]) -> Parsed<'_, (&[u8], Option<&[u8]>)> {
    let (rest, name) = token(input)?;
    match separator(b'=')(rest) {
        Ok((rest, ())) => {
            let (rest, value) = param_value(rest)?;
            Ok((rest, (name, Some(value))))
        }
        Err(_) => Ok((rest, (name, None))),
    }
}

#[inline]
fn param_value(input: &[u8]) -> Parsed<'_, &[u8]> {
    match input.first() {
        Some(b'"') => quoted_string(input),
        _ => run1(VALUE)(input),
    }
}

/// A parameter name of up to eight bytes as one number, in lower case, for matching it against constants; 0 for a
/// longer one.
#[inline]
pub(crate) const fn short_name(name: &[u8]) -> u64 {
    // Two loads that overlap cover every length: where both have a byte it is the same one.
    let word = if let (Some(first), Some(last)) = (name.first_chunk::<4>(), name.last_chunk::<4>())
        && name.len() <= 8
    {
        u32::from_le_bytes(*first) as u64 | (u32::from_le_bytes(*last) as u64) << (8 * (name.len() - 4))
    } else if let (Some(first), Some(last)) = (name.first_chunk::<2>(), name.last_chunk::<2>())
        && name.len() < 4
    {
        u16::from_le_bytes(*first) as u64 | (u16::from_le_bytes(*last) as u64) << (8 * (name.len() - 2))
    } else if let [letter] = name {
        *letter as u64
    } else {
        0
    };
    lower(word)
}

/// Sets bit 5 of the bytes that have bit 6: letters become lower case, and no other byte becomes one or a `-`.
#[inline]
pub(crate) const fn lower(word: u64) -> u64 {
    word | ((word & 0x4040_4040_4040_4040) >> 1)
}

/// `SEMI generic-param`
#[inline]
pub(crate) fn next_param(input: &[u8]) -> Parsed<'_, (&[u8], Option<&[u8]>)> {
    preceded(separator(b';'), generic_param).parse(input)
}

/// Looks for a parameter by name, without regard to case, in a run of `;name=value`.
pub(crate) fn find_param<'a>(params: &'a [u8], wanted: &str) -> Option<Option<&'a [u8]>> {
    let mut rest = params;
    while let Ok((after, (name, value))) = next_param(rest) {
        if name.eq_ignore_ascii_case(wanted.as_bytes()) {
            return Some(value);
        }
        rest = after;
    }
    None
}

/// `host`: a name, an IPv4 address, or an IPv6 address in brackets.
///
/// A name whose last label is all digits is neither a name nor an address (`toplabel` starts with a letter; hosts
/// that start with a digit but are no number are taken, containers have such names).
pub(crate) fn host(input: &[u8]) -> Parsed<'_, Host<'_>> {
    if let Some(inside) = input.strip_prefix(b"[") {
        // The longest text form of an IPv6 address has 45 bytes.
        let end = inside.iter().take(46).position(|&byte| byte == b']');
        let address = end.and_then(|end| ipv6(&inside[..end]).map(|address| (end, address)));
        return match address {
            Some((end, address)) => Ok((&inside[end + 1..], Host::Address(IpAddr::V6(address)))),
            None => failed(),
        };
    }
    if let Some((address, rest)) = ipv4(input)
        && !rest.first().is_some_and(|&byte| is(byte, HOST))
    {
        return Ok((rest, Host::Address(IpAddr::V4(address))));
    }
    let (text, rest) = input.split_at(run(input, HOST));
    let name = text.strip_suffix(b".").unwrap_or(text);
    let last_label = name.iter().rev().take_while(|&&byte| byte != b'.');
    if text.is_empty() || last_label.clone().next().is_none() || last_label.clone().all(u8::is_ascii_digit) {
        return failed();
    }
    Ok((rest, Host::Name(text)))
}

/// `hostport`, with white space round the colon as a sent-by may have it.
#[inline]
pub(crate) fn host_and_port(input: &[u8]) -> Parsed<'_, (Host<'_>, Option<u16>)> {
    let (rest, host) = host(input)?;
    match separator(b':')(rest) {
        Ok((rest, ())) => {
            let (rest, port) = port(rest)?;
            Ok((rest, (host, Some(port))))
        }
        Err(_) => Ok((rest, (host, None))),
    }
}

/// `port`: 1 to 65535.
#[inline]
pub(crate) fn port(input: &[u8]) -> Parsed<'_, u16> {
    let (rest, digits) = digits(input)?;
    match decimal_value(digits, u32::from(u16::MAX)) {
        Some(port) if port > 0 => Ok((rest, port as u16)),
        _ => failed(),
    }
}

/// A host that stands alone, as in `maddr` and `received`; IPv6 also without brackets (RFC 5118 §4.5).
pub(crate) fn whole_host(text: &[u8]) -> Option<Host<'_>> {
    match host(text) {
        Ok(([], host)) => Some(host),
        _ => ipv6(text).map(|address| Host::Address(IpAddr::V6(address))),
    }
}

fn ipv6(text: &[u8]) -> Option<Ipv6Addr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Four numbers up to 255 at the front, and what follows them.
fn ipv4(input: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let mut octets = [0u8; 4];
    let mut rest = input;
    for (position, octet) in octets.iter_mut().enumerate() {
        if position > 0 {
            rest = rest.strip_prefix(b".")?;
        }
        let mut value = None;
        for _ in 0..3 {
            let Some((digit @ b'0'..=b'9', after)) = rest.split_first() else {
                break;
            };
            value = Some(value.unwrap_or(0) * 10 + u16::from(digit - b'0'));
            rest = after;
        }
        *octet = u8::try_from(value?).ok()?;
    }
    Some((Ipv4Addr::from(octets), rest))
}

/// Cuts the first value off a comma list: what lies before the first comma that is outside quotes and angle
/// brackets, and what comes after it (`None` without a comma). Works on values no grammar would accept.
pub(crate) fn split_list(list: &[u8]) -> (&[u8], Option<&[u8]>) {
    // Most values stand alone on their line, and a search for the comma is a tenth of the walk.
    let mut at = match memchr::memchr(b',', list) {
        Some(_) => 0,
        None => list.len(),
    };
    while let Some(&byte) = list.get(at) {
        match byte {
            b',' => return (trim(&list[..at]), Some(&list[at + 1..])),
            b'"' => match quoted_string(&list[at..]) {
                Ok((rest, _)) => at = list.len() - rest.len(),
                Err(_) => break,
            },
            b'<' => match memchr::memchr(b'>', &list[at..]) {
                Some(length) => at += length + 1,
                None => break,
            },
            _ => at += 1,
        }
    }
    (trim(list), None)
}

/// `a SEP b`, for the two-part fields.
#[inline]
pub(crate) fn number_then_token(input: &[u8]) -> Parsed<'_, (&[u8], &[u8])> {
    separated_pair(digits, lws, token).parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        type Case = (&'static [u8], Option<(Host<'static>, usize)>);
        let cases: [Case; 14] = [
            (b"example.com;x", Some((Host::Name(b"example.com"), 2))),
            (
                b"192.0.2.1:5060",
                Some((Host::Address("192.0.2.1".parse().unwrap()), 5)),
            ),
            (
                b"[2001:db8::1]:5060",
                Some((Host::Address("2001:db8::1".parse().unwrap()), 5)),
            ),
            (
                b"[::ffff:192.0.2.10]",
                Some((Host::Address("::ffff:192.0.2.10".parse().unwrap()), 0)),
            ),
            (b"host.example.", Some((Host::Name(b"host.example."), 0))),
            (b"3fa9c2b1", Some((Host::Name(b"3fa9c2b1"), 0))),
            (b"my_host", Some((Host::Name(b"my_host"), 0))),
            (b"256.1.1.1", None),
            (b"1.2.3", None),
            (b"[2001:db8:::1]", None),
            (b"[2001:db8::1", None),
            (b"[192.0.2.1]", None),
            (b"", None),
            (b".", None),
        ];
        for (input, expected) in cases {
            let got = host(input).ok().map(|(rest, host)| (host, rest.len()));
            assert_eq!(got, expected, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn a_quoted_string_ends_at_the_first_quote_not_escaped() {
        assert_eq!(quoted_string(br#""a" b"#), Ok((&b" b"[..], &b"\"a\""[..])));
        assert_eq!(quoted_string(br#""a\\" b"#).unwrap().0, b" b");
        assert_eq!(quoted_string(br#""a\"" b"#).unwrap().0, b" b");
        assert!(quoted_string(br#""a\""#).is_err());
        assert!(quoted_string(br#""a"#).is_err());
        assert!(quoted_string(b"\"a\\").is_err());
    }

    #[test]
    fn lists_are_cut_at_commas_that_separate() {
        let (first, rest) = split_list(br#""a, b;c" <sip:x@y;p=1,2> , <sip:z@y>"#);
        assert_eq!(first, br#""a, b;c" <sip:x@y;p=1,2>"#);
        assert_eq!(split_list(rest.unwrap()), (&b"<sip:z@y>"[..], None));
        assert_eq!(split_list(b"\"open, x"), (&b"\"open, x"[..], None));
        assert_eq!(split_list(b"<open, x"), (&b"<open, x"[..], None));
    }

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

    #[test]
    fn numbers_do_not_overflow() {
        assert_eq!(decimal_value(b"0000000000000000000000000255", 255), Some(255));
        assert_eq!(decimal_value(b"256", 255), None);
        assert_eq!(decimal_value(b"18446744073709551621", u32::MAX), None);
        assert_eq!(decimal_value(b"+5", 255), None);
        assert_eq!(decimal_value(b"", 255), None);
        assert_eq!(decimal_clamped(b"949302838503028349304023988"), Some(u32::MAX));
        assert_eq!(decimal_clamped(b"12x"), None);
    }
}
