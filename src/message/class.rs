//! Character classes of RFC 3261 §25.1, and how far a run of one class goes.

use super::avx2::Avx2;

/// A set of bytes that a grammar takes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    /// Its bit in [`CLASSES`].
    pub(super) bit: u8,
}

/// `token` of RFC 3261 §25.1.
pub(crate) const TOKEN: Class = Class { bit: 0 };
/// What stands for itself in a quoted string: anything but the quote, the backslash and control bytes.
pub(crate) const QUOTED: Class = Class { bit: 1 };
/// Letters, digits, `-`, `.` and the underscore that hosts in the field do have.
pub(crate) const HOST: Class = Class { bit: 2 };
/// What may stand in a URI: everything visible but `<`, `>` and `"`; bytes above ASCII pass for the sake of user parts.
pub(crate) const URI: Class = Class { bit: 3 };
/// What may stand in an unquoted parameter value: a token, a host, and what peers put there that separates nothing.
pub(crate) const VALUE: Class = Class { bit: 4 };
/// What may stand in a display name without quotes: tokens, SP, HTAB, bytes above ASCII and signs that separate
/// nothing. No comma: `Bell, Alexander <sip:...>` is two broken values (RFC 4475 §3.1.2.15).
pub(crate) const DISPLAY: Class = Class { bit: 5 };
/// A bare addr-spec: a URI without comma, semicolon and question mark (RFC 3261 §20.10).
pub(crate) const BARE_URI: Class = Class { bit: 6 };
/// Letters, digits, `+`, `-`, `.`.
pub(crate) const SCHEME: Class = Class { bit: 7 };
/// What may stand in a URI but `@`, which ends the user part.
pub(crate) const USER: Class = Class { bit: 8 };
/// What may stand in a URI but `?`, which ends the parameters.
pub(crate) const PARAMS: Class = Class { bit: 9 };
/// What neither separates the values of a list nor hides a comma: anything but `,`, `"`, `<` and control bytes.
pub(crate) const LISTED: Class = Class { bit: 10 };

/// What may stand between `<` and `>`, be it a URI or not.
pub(crate) const BRACKETED: Class = Class { bit: 11 };

/// Each has a bit.
pub(super) const CLASS_COUNT: usize = 12;
const _: () = assert!(CLASS_COUNT <= 16);

/// All classes.
#[cfg(any(test, feature = "sim"))]
pub(super) const ALL: [Class; CLASS_COUNT] = [
    TOKEN, QUOTED, HOST, URI, VALUE, DISPLAY, BARE_URI, SCHEME, USER, PARAMS, LISTED, BRACKETED,
];

/// The classes of each byte, one bit each.
static CLASSES: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = classes_of(byte as u8);
        byte += 1;
    }
    table
};

pub(super) const fn classes_of(byte: u8) -> u16 {
    const fn bit(class: Class) -> u16 {
        1 << class.bit
    }
    let mut classes = 0;
    if byte.is_ascii_alphanumeric() {
        classes |= bit(TOKEN) | bit(HOST) | bit(URI) | bit(VALUE) | bit(DISPLAY) | bit(BARE_URI) | bit(SCHEME);
    } else if byte.is_ascii_graphic() {
        if matches!(
            byte,
            b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~'
        ) {
            classes |= bit(TOKEN) | bit(DISPLAY);
        }
        if matches!(byte, b'-' | b'.' | b'_') {
            classes |= bit(HOST);
        }
        if matches!(byte, b'+' | b'-' | b'.') {
            classes |= bit(SCHEME);
        }
        if !matches!(byte, b'<' | b'>' | b'"') {
            classes |= bit(URI);
            if !matches!(byte, b',' | b';') {
                classes |= bit(VALUE);
                if byte != b'?' {
                    classes |= bit(BARE_URI);
                }
            }
        }
        if matches!(byte, b'(' | b')' | b'@' | b'/' | b'&' | b'=' | b'$' | b'#' | b'|') {
            classes |= bit(DISPLAY);
        }
    } else if byte >= 0x80 {
        classes |= bit(URI) | bit(VALUE) | bit(DISPLAY) | bit(BARE_URI);
    }
    if matches!(byte, b' ' | b'\t') {
        classes |= bit(DISPLAY);
    }
    if matches!(byte, b'\t' | b' '..=b'~' | 0x80..) {
        if !matches!(byte, b'"' | b'\\') {
            classes |= bit(QUOTED);
        }
        if !matches!(byte, b'"' | b',' | b'<') {
            classes |= bit(LISTED);
        }
        if byte != b'>' {
            classes |= bit(BRACKETED);
        }
    }
    if classes & bit(URI) != 0 {
        if byte != b'@' {
            classes |= bit(USER);
        }
        if byte != b'?' {
            classes |= bit(PARAMS);
        }
    }
    classes
}

/// Whether `byte` is of `class`.
#[inline]
pub(crate) fn is(byte: u8, class: Class) -> bool {
    CLASSES[usize::from(byte)] >> class.bit & 1 != 0
}

/// How many bytes at the front are of `class`.
#[inline(always)]
pub(crate) fn run(bytes: &[u8], class: Class) -> usize {
    match Avx2::detect() {
        Some(avx2) => avx2.run(bytes, class),
        None => plain_run(bytes, class),
    }
}

/// Runs a grammar, compiled for the processor at hand where that helps.
#[inline(always)]
pub(super) fn run_grammar<R>(grammar: impl FnOnce() -> R) -> R {
    match Avx2::detect() {
        Some(avx2) => avx2.run_job(grammar),
        None => grammar(),
    }
}

/// [`run`] byte by byte.
#[inline(never)]
pub(super) fn plain_run(bytes: &[u8], class: Class) -> usize {
    // Eight bytes a round cost two instructions each, one byte a round six.
    let bit = 1 << class.bit;
    let mut rest = bytes;
    while let Some((eight, after)) = rest.split_first_chunk::<8>() {
        let classes = eight
            .iter()
            .fold(bit, |classes, &byte| classes & CLASSES[usize::from(byte)]);
        if classes == 0 {
            break;
        }
        rest = after;
    }
    bytes.len() - rest.len() + rest.iter().position(|&byte| !is(byte, class)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_at_the_first_byte_of_another_class_wherever_it_stands() {
        for class in ALL {
            let member = (0..=255).find(|&byte| is(byte, class)).expect("a class has a member");
            for length in 0..100 {
                let text = vec![member; length];
                assert_eq!((run(&text, class), plain_run(&text, class)), (length, length));
                for at in 0..length {
                    for byte in 0..=255 {
                        let mut text = text.clone();
                        text[at] = byte;
                        let expected = if is(byte, class) { length } else { at };
                        assert_eq!(run(&text, class), expected, "{class:?}: {byte} at {at} of {length}");
                    }
                }
            }
        }
    }
}
