//! The leaves of every grammar in this module: runs of one class, white space, quoted strings, hosts, parameters.
//!
//! All of them take a fold (CRLF followed by SP or HTAB) for the white space it is, and a CRLF that is none for the end:
//! what they read may be a value alone or all of a message from the value on, since a message that was parsed has CR and
//! LF nowhere in its head but in line ends and folds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use nom::Parser;
use nom::sequence::separated_pair;

use super::avx2::Avx2;
pub(crate) use super::class::{
    BARE_URI, BRACKETED, Class, DISPLAY, HOST, LISTED, PARAMS, QUOTED, SCHEME, TOKEN, URI, USER, VALUE, is, run,
};
use super::uri::Host;

/// What a grammar of this module returns. The error says nothing because it sits on the normal path of alternatives.
pub(crate) type Parsed<'a, T> = nom::IResult<&'a [u8], T, ()>;

/// Without the white space and folds at the front, of which there mostly are none or is one SP.
#[inline(always)]
pub(crate) fn skip_lws(bytes: &[u8]) -> &[u8] {
    match bytes {
        [] | [b'!'..=0xff, ..] => bytes,
        [b' ', rest @ ..] if rest.first().is_some_and(|&next| next > b' ') => rest,
        [b'\r', b'\n', b'\r' | b'!'..=0xff, ..] => bytes,
        _ => skip_lws_run(bytes),
    }
}

#[cold]
#[inline(never)]
fn skip_lws_run(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let [b' ' | b'\t', after @ ..] | [b'\r', b'\n', b' ' | b'\t', after @ ..] = rest {
        rest = after;
    }
    rest
}

/// Whether this is a `token`: not empty, nothing but token characters.
#[inline]
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && run(bytes, TOKEN) == bytes.len()
}

/// Whether a byte is SP, HTAB or one of a line end.
#[inline]
pub(crate) fn is_lws(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// How long the fold is that stands at the front: CRLF and the SP or HTAB behind it.
#[inline(always)]
fn fold(bytes: &[u8]) -> Option<usize> {
    matches!(bytes, [b'\r', b'\n', b' ' | b'\t', ..]).then_some(3)
}

/// A run of a class in which folds count as members.
#[inline(always)]
pub(crate) fn run_over_folds(bytes: &[u8], class: Class) -> usize {
    let mut length = run(bytes, class);
    while let Some(fold) = fold(&bytes[length..]) {
        length += fold;
        length += run(&bytes[length..], class);
    }
    length
}

/// Without white space, folds and line ends at either end.
#[inline]
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&byte| !is_lws(byte)).unwrap_or(bytes.len());
    let bytes = &bytes[start..];
    let end = bytes.iter().rposition(|&byte| !is_lws(byte)).map_or(0, |last| last + 1);
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
#[inline(always)]
pub(crate) fn run1<'a>(class: Class) -> impl Fn(&'a [u8]) -> Parsed<'a, &'a [u8]> {
    #[inline(always)]
    move |input| match run(input, class) {
        0 => failed(),
        length => {
            let (taken, rest) = input.split_at(length);
            Ok((rest, taken))
        }
    }
}

/// `token`
#[inline(always)]
pub(crate) fn token(input: &[u8]) -> Parsed<'_, &[u8]> {
    run1(TOKEN)(input)
}

/// `1*DIGIT`
#[inline]
pub(crate) fn digits(input: &[u8]) -> Parsed<'_, &[u8]> {
    nom::combinator::recognize(number).parse(input)
}

/// `1*DIGIT` and its value, which is `u64::MAX` where that cannot hold it.
#[inline(always)]
pub(crate) fn number(input: &[u8]) -> Parsed<'_, u64> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    if let Some(word) = input.first_chunk::<8>() {
        // Digits become 0 to 9; the lowest high bit set behind that is of the first byte that is no digit.
        let word = u64::from_le_bytes(*word) ^ (ONES * b'0' as u64);
        let others = (word.wrapping_add(ONES * 0x76) | word) & (ONES * 0x80);
        let count = others.trailing_zeros() / 8;
        if (1..8).contains(&count) {
            // The first digit is the lowest byte. Moved to the top they are a number of eight digits with zeros in
            // front, of which neighbours are joined in pairs, the pairs in pairs, and those once more.
            let word = word << (64 - 8 * count);
            let pairs = word.wrapping_mul(10 << 8 | 1) >> 8 & 0x00ff_00ff_00ff_00ff;
            let fours = pairs.wrapping_mul(100 << 16 | 1) >> 16 & 0x0000_ffff_0000_ffff;
            let value = fours.wrapping_mul(10_000 << 32 | 1) >> 32;
            return Ok((&input[count as usize..], value));
        }
    }
    match input {
        [digit @ b'0'..=b'9', b'\r', ..] => Ok((&input[1..], u64::from(digit - b'0'))),
        _ => number_by_digits(input),
    }
}

#[inline(never)]
pub(super) fn number_by_digits(input: &[u8]) -> Parsed<'_, u64> {
    let mut value = 0u64;
    let mut rest = input;
    while let [digit @ b'0'..=b'9', after @ ..] = rest {
        value = value.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
        rest = after;
    }
    match rest.len() == input.len() {
        true => failed(),
        false => Ok((rest, value)),
    }
}

/// `SWS`: white space or none.
#[inline(always)]
pub(crate) fn sws(input: &[u8]) -> Parsed<'_, ()> {
    Ok((skip_lws(input), ()))
}

/// `LWS`: white space, at least one.
#[inline(always)]
pub(crate) fn lws(input: &[u8]) -> Parsed<'_, ()> {
    match skip_lws(input) {
        rest if rest.len() < input.len() => Ok((rest, ())),
        _ => failed(),
    }
}

/// `SWS byte SWS`: SLASH, COLON, SEMI, EQUAL and COMMA of the grammar.
#[inline(always)]
pub(crate) fn separator<'a>(byte: u8) -> impl Fn(&'a [u8]) -> Parsed<'a, ()> {
    #[inline(always)]
    move |input| match input {
        // Nearly always there is no white space.
        [first, rest @ ..] if *first == byte => Ok((skip_lws(rest), ())),
        [b'!'..=0xff, ..] | [b'\r', b'\n', b'\r' | b'!'..=0xff, ..] => failed(),
        _ => separator_with_white_space(input, byte),
    }
}

#[inline(never)]
fn separator_with_white_space(input: &[u8], byte: u8) -> Parsed<'_, ()> {
    match skip_lws(input) {
        [first, rest @ ..] if *first == byte => Ok((skip_lws(rest), ())),
        _ => failed(),
    }
}

/// The end of a value: nothing more, or the comma before the next one; either stays.
#[inline(always)]
pub(crate) fn end_of_value(input: &[u8]) -> Parsed<'_, ()> {
    let rest = skip_lws(input);
    match rest {
        [] | [b',' | b'\r', ..] => Ok((rest, ())),
        _ => failed(),
    }
}

/// Whether nothing more stands here: the bytes or the line end.
#[inline]
pub(crate) fn at_end(input: &[u8]) -> bool {
    matches!(input, [] | [b'\r', ..])
}

/// Whether a value ends here, but for white space.
#[inline(always)]
pub(crate) fn nothing_follows(input: &[u8]) -> bool {
    match input {
        [b'\r', b'\n', b'\r' | b'!'..=0xff, ..] => true,
        _ => at_end(skip_lws(input)),
    }
}

/// `quoted-string`, quotes kept: it ends at the first quote that no backslash escapes.
#[inline(always)]
pub(crate) fn quoted_string(input: &[u8]) -> Parsed<'_, &[u8]> {
    if input.first() != Some(&b'"') {
        return failed();
    }
    let mut at = 1;
    loop {
        at += run_over_folds(&input[at..], QUOTED);
        match input[at..] {
            [b'"', ..] => return Ok((&input[at + 1..], &input[..at + 1])),
            // quoted-pair: any byte but CR and LF, control bytes included.
            [b'\\', escaped, ..] if !matches!(escaped, b'\r' | b'\n') => at += 2,
            // A backslash before a fold escapes nothing.
            [b'\\', ..] if fold(&input[at + 1..]).is_some() => at += 1,
            _ => return failed(),
        }
    }
}

/// `generic-param`: a name and, after EQUAL, a token, host or quoted string.
#[inline(always)]
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

#[inline(always)]
fn param_value(input: &[u8]) -> Parsed<'_, &[u8]> {
    match input.first() {
        Some(b'"') => quoted_string(input),
        _ => run1(VALUE)(input),
    }
}

/// Up to eight bytes as one number, for comparing them with constants; 0 for more. Two texts without NUL give the same
/// number only if they are the same.
#[inline]
pub(crate) const fn word(text: &[u8]) -> u64 {
    // Two loads that overlap cover every length: where both have a byte it is the same one.
    if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>())
        && text.len() <= 8
    {
        u32::from_le_bytes(*first) as u64 | (u32::from_le_bytes(*last) as u64) << (8 * (text.len() - 4))
    } else if let (Some(first), Some(last)) = (text.first_chunk::<2>(), text.last_chunk::<2>())
        && text.len() < 4
    {
        u16::from_le_bytes(*first) as u64 | (u16::from_le_bytes(*last) as u64) << (8 * (text.len() - 2))
    } else if let [letter] = text {
        *letter as u64
    } else {
        0
    }
}

/// [`word`] of a name, in lower case.
#[inline]
pub(crate) const fn short_name(name: &[u8]) -> u64 {
    lower(word(name))
}

/// Sets bit 5 of the bytes that have bit 6: letters become lower case, and no other byte becomes one or a `-`.
#[inline]
pub(crate) const fn lower(word: u64) -> u64 {
    word | ((word & 0x4040_4040_4040_4040) >> 1)
}

/// `SEMI generic-param`
#[inline(always)]
pub(crate) fn next_param(input: &[u8]) -> Parsed<'_, (&[u8], Option<&[u8]>)> {
    let (rest, ()) = separator(b';')(input)?;
    generic_param(rest)
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
#[inline(always)]
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
#[inline(always)]
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
#[inline(always)]
pub(crate) fn port(input: &[u8]) -> Parsed<'_, u16> {
    match number(input)? {
        (rest, port @ 1..=0xffff) => Ok((rest, port as u16)),
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
#[inline(always)]
pub(super) fn ipv4(input: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let Some(avx2) = Avx2::detect() else {
        return plain_ipv4(input);
    };
    let found = match input.first_chunk::<16>() {
        Some(front) => avx2.ipv4(front),
        None => {
            let mut front = [0; 16];
            front[..input.len()].copy_from_slice(input);
            avx2.ipv4(&front)
        }
    };
    match found {
        Some((address, length)) => Some((address, &input[length..])),
        None => plain_ipv4(input),
    }
}

#[inline(never)]
pub(super) fn plain_ipv4(input: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    // Most hosts that are none are names.
    if !input.first()?.is_ascii_digit() {
        return None;
    }
    let mut octets = [0u8; 4];
    let mut rest = input;
    for (position, octet) in octets.iter_mut().enumerate() {
        if position > 0 {
            rest = rest.strip_prefix(b".")?;
        }
        let digit = |byte: u8| u16::from(byte.wrapping_sub(b'0'));
        let (value, length) = match *rest {
            [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => (digit(a) * 100 + digit(b) * 10 + digit(c), 3),
            [a @ b'0'..=b'9', b @ b'0'..=b'9', ..] => (digit(a) * 10 + digit(b), 2),
            [a @ b'0'..=b'9', ..] => (digit(a), 1),
            _ => return None,
        };
        *octet = u8::try_from(value).ok()?;
        rest = &rest[length..];
    }
    Some((Ipv4Addr::from(octets), rest))
}

/// Where the first value of a comma list ends: the first comma outside quotes and angle brackets, or the end of the line.
/// Works on values no grammar would accept: what is opened and not closed hides all that follows.
#[inline(always)]
fn end_of_first_value(list: &[u8]) -> usize {
    let mut at = 0;
    loop {
        at += run_over_folds(&list[at..], LISTED);
        at += match list[at..] {
            [b'"', ..] => match quoted_string(&list[at..]) {
                Ok((_, quoted)) => quoted.len(),
                Err(_) => return end_of_line(list),
            },
            [b'<', ref uri @ ..] => {
                let length = run_over_folds(uri, BRACKETED);
                match uri.get(length) {
                    Some(b'>') => 1 + length + 1,
                    _ => return end_of_line(list),
                }
            }
            _ => return at,
        };
    }
}

#[cold]
#[inline(never)]
fn end_of_line(list: &[u8]) -> usize {
    let line_ends = memchr::memchr_iter(b'\r', list).find(|&at| fold(&list[at..]).is_none());
    line_ends.unwrap_or(list.len())
}

/// Cuts the first value off a comma list: what lies before the comma that ends it, and what comes after that (`None`
/// without a comma).
pub(crate) fn split_list(list: &[u8]) -> (&[u8], Option<&[u8]>) {
    let (first, rest) = list.split_at(end_of_first_value(list));
    (trim(first), rest.strip_prefix(b","))
}

/// How many values a comma list has, up to the end of its line.
#[inline(always)]
pub(crate) fn count_values(list: &[u8]) -> usize {
    let mut count = 1;
    let mut rest = list;
    while let Some(after) = rest[end_of_first_value(rest)..].strip_prefix(b",") {
        count += 1;
        rest = after;
    }
    count
}

/// `1*DIGIT LWS token`, as in CSeq: the digits, their value, and the token.
#[inline]
pub(crate) fn number_then_token(input: &[u8]) -> Parsed<'_, (&[u8], u64, &[u8])> {
    let (rest, ((digits, value), token)) =
        separated_pair(nom::combinator::consumed(number), lws, token).parse(input)?;
    Ok((rest, (digits, value, token)))
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
    fn addresses_are_read_the_same_with_and_without_vectors() {
        let numbers = [
            "", "0", "7", "00", "09", "42", "000", "009", "099", "255", "256", "999", "1000",
        ];
        let behind = [
            "",
            ":",
            ".",
            "x",
            ";",
            ".example",
            "                ",
            "5",
            ":5060;branch=z9hG4bK",
        ];
        for a in numbers {
            for b in numbers {
                for (c, d) in numbers
                    .into_iter()
                    .zip(numbers)
                    .chain([("1", "255"), ("255", "1"), ("", "10")])
                {
                    for behind in behind {
                        let input = format!("{a}.{b}.{c}.{d}{behind}");
                        assert_eq!(ipv4(input.as_bytes()), plain_ipv4(input.as_bytes()), "{input}");
                    }
                }
            }
        }
        let input = b"198.51.100.20:5060;rport";
        assert_eq!(ipv4(input), Some((Ipv4Addr::new(198, 51, 100, 20), &input[13..])));
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
    fn numbers_of_any_length_are_read() {
        for text in [
            "0",
            "7",
            "42",
            "0009",
            "1234567",
            "12345678",
            "123456789",
            "18446744073709551615",
        ] {
            for behind in ["", " ", "x", "/", ":", "\u{e9}", " 123456789"] {
                let input = format!("{text}{behind}");
                let value = text.parse().unwrap();
                assert_eq!(number(input.as_bytes()), Ok((behind.as_bytes(), value)), "{input}");
            }
        }
        assert_eq!(number(b"18446744073709551616 "), Ok((&b" "[..], u64::MAX)));
        for input in ["", " ", "x1234567", "-1", "/1234567", ":1234567"] {
            assert!(number(input.as_bytes()).is_err(), "{input}");
        }
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
