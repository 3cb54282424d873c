//! The searches of this layer over 32 and 64 bytes at a time, for processors with AVX2.
//!
//! Each has a plain twin that says what it does ([`super::class::plain_run`], [`super::lines`]). Here is all unsafe code
//! of the layer. It rests on two facts: an [`Avx2`] exists only where the processor has the instructions, and bytes are
//! read through references to arrays of the length that is read.
#![expect(unsafe_code, reason = "intrinsics; every other file of the layer is safe")]

use std::arch::x86_64::*;
use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU8, Ordering};

use super::class::{self, CLASS_COUNT, Class, TOKEN};
use super::header::{Header, Spellings};
use super::lines::{LineEnd, Name, Plain, Search};
use super::parse::{MESSAGE_BYTES_MAX, ParseErrorKind};

/// The knowledge that this processor has AVX2, BMI1 and BMI2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

/// What was found out about the processor.
static DETECTED: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const ABSENT: u8 = 1;
const PRESENT: u8 = 2;

impl Avx2 {
    /// Whether this processor has what is needed.
    #[inline(always)]
    pub(crate) fn detect() -> Option<Avx2> {
        match DETECTED.load(Ordering::Relaxed) {
            PRESENT => Some(Avx2(())),
            _ => Avx2::ask(),
        }
    }

    #[cold]
    fn ask() -> Option<Avx2> {
        if DETECTED.load(Ordering::Relaxed) == UNKNOWN {
            let present = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2");
            DETECTED.store(if present { PRESENT } else { ABSENT }, Ordering::Relaxed);
        }
        (DETECTED.load(Ordering::Relaxed) == PRESENT).then_some(Avx2(()))
    }

    /// Runs a job, compiled for this processor: searches become part of it instead of calls.
    #[inline(always)]
    pub(crate) fn run_job<R>(self, job: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,bmi1,bmi2")]
        fn with_features<R>(job: impl FnOnce() -> R) -> R {
            job()
        }
        // SAFETY: `self` says that the processor has these features.
        unsafe { with_features(job) }
    }

    /// Where the lines of a head end, all with CRLF, the empty line last. `None` where the head is odd: a line does not
    /// end with CRLF, a control byte other than HTAB stands in it, the empty line is missing, or the lines are too many.
    #[inline(always)]
    pub(super) fn line_ends(self, bytes: &[u8], room: &mut [u16; LINES_MAX]) -> Option<impl Iterator<Item = LineEnd>> {
        // SAFETY: `self` says that the processor has these features.
        let count = unsafe { line_ends(bytes, room) }?;
        Some(room[..count].iter().map(|&at| {
            let at = usize::from(at);
            LineEnd { at, next: at + 2 }
        }))
    }

    /// The IPv4 address at the front and its length; `None` where there is none, or one that is not all of what looks
    /// like it.
    #[inline(always)]
    pub(super) fn ipv4(self, front: &[u8; 16]) -> Option<(Ipv4Addr, usize)> {
        // SAFETY: `self` says that the processor has these features.
        unsafe { ipv4(front) }
    }

    /// How many bytes at the front are of a class.
    #[inline(always)]
    pub(crate) fn run(self, bytes: &[u8], class: Class) -> usize {
        // SAFETY: `self` says that the processor has these features.
        unsafe { run(bytes, halves(class)) }
    }
}

/// A class as its members' low and high halves: a byte is a member if the entries of its two halves have a bit in common.
///
/// Each of the high halves 0 and 2 to 7 has a bit of its own; those from 8, the bytes above ASCII, which are in a class
/// all or none, share the bit that 1 would have, which is in no class.
#[derive(Clone, Copy, Debug)]
struct Halves {
    low: [u8; 16],
}

/// The bits of the high halves.
const HIGH_HALVES: [u8; 16] = {
    let mut bits = [1 << 1; 16];
    let mut half = 0;
    while half < 8 {
        bits[half] = if half == 1 { 0 } else { 1 << half };
        half += 1;
    }
    bits
};

static HALVES: [Halves; CLASS_COUNT] = {
    let mut tables = [Halves { low: [0; 16] }; CLASS_COUNT];
    let mut class = 0;
    while class < CLASS_COUNT {
        let mut byte = 0;
        while byte < 256 {
            let member = class::classes_of(byte as u8) >> class & 1 != 0;
            assert!(!member || byte >> 4 != 1, "no class has such control bytes");
            assert!(
                byte < 0x80 || member == (class::classes_of(0x80) >> class & 1 != 0),
                "all bytes above ASCII or none"
            );
            if member {
                tables[class].low[byte & 0xf] |= HIGH_HALVES[byte >> 4];
            }
            byte += 1;
        }
        class += 1;
    }
    tables
};

#[inline(always)]
fn halves(class: Class) -> &'static Halves {
    &HALVES[usize::from(class.bit)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the reference is to 32 bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// The same 16 bytes in both halves.
#[inline]
#[target_feature(enable = "avx2")]
fn load_twice(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: the reference is to 16 bytes, and the load asks for no alignment.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// A bit for each byte that is not of the class.
#[inline]
#[target_feature(enable = "avx2")]
fn others(text: __m256i, class: &Halves) -> u32 {
    let half = _mm256_set1_epi8(0x0f);
    let low = _mm256_shuffle_epi8(load_twice(&class.low), _mm256_and_si256(text, half));
    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(text), half);
    let high = _mm256_shuffle_epi8(load_twice(&HIGH_HALVES), high);
    let others = _mm256_cmpeq_epi8(_mm256_and_si256(low, high), _mm256_setzero_si256());
    _mm256_movemask_epi8(others) as u32
}

/// Small, so that it becomes part of the grammars that run under [`Avx2::run_job`]: nearly all runs end within 64 bytes.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn run(bytes: &[u8], class: &Halves) -> usize {
    let Some((block, rest)) = bytes.split_first_chunk::<32>() else {
        return long_run(bytes, class, 0);
    };
    let first = others(load(block), class);
    if first != 0 {
        return first.trailing_zeros() as usize;
    }
    let Some((block, rest)) = rest.split_first_chunk::<32>() else {
        return long_run(rest, class, 32);
    };
    match others(load(block), class) {
        0 => long_run(rest, class, 64),
        second => 32 + second.trailing_zeros() as usize,
    }
}

/// What follows the `ran` bytes that are known to be of the class; returns the length of all.
#[inline(never)]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn long_run(bytes: &[u8], class: &Halves, mut ran: usize) -> usize {
    let mut rest = bytes;
    while let Some((block, after)) = rest.split_first_chunk::<32>() {
        let others = others(load(block), class);
        if others != 0 {
            return ran + others.trailing_zeros() as usize;
        }
        ran += block.len();
        rest = after;
    }
    // Two loads that overlap cover what is left; a byte in both says the same twice.
    let length = rest.len();
    let others = if let (Some(first), Some(last)) = (rest.first_chunk::<16>(), rest.last_chunk::<16>()) {
        let text = load(&join(first, last));
        let others = others(text, class);
        others & 0xffff | others >> 16 << (length - 16)
    } else {
        let word = if let (Some(first), Some(last)) = (rest.first_chunk::<8>(), rest.last_chunk::<8>()) {
            u128::from(u64::from_le_bytes(*first)) | u128::from(u64::from_le_bytes(*last)) << (8 * (length - 8))
        } else if let (Some(first), Some(last)) = (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
            u128::from(u32::from_le_bytes(*first)) | u128::from(u32::from_le_bytes(*last)) << (8 * (length - 4))
        } else if let (Some(first), Some(last)) = (rest.first_chunk::<2>(), rest.last_chunk::<2>()) {
            u128::from(u16::from_le_bytes(*first)) | u128::from(u16::from_le_bytes(*last)) << (8 * (length - 2))
        } else {
            u128::from(rest.first().copied().unwrap_or_default())
        };
        others(load(&join(&word.to_le_bytes(), &[0; 16])), class)
    };
    ran + (others | 1 << length).trailing_zeros() as usize
}

/// For the lengths of four numbers, two bits each, where their digits are: hundreds, tens, units and nothing, four times.
/// 0x80 is where no digit is.
static DIGITS: [[u8; 16]; 256] = {
    let mut table = [[0x80; 16]; 256];
    let mut lengths = 0;
    while lengths < 256 {
        let (mut start, mut number) = (0, 0);
        while number < 4 {
            let length = lengths >> (2 * number) & 3;
            let mut digit = 0;
            while digit < length {
                table[lengths][4 * number + 3 - length + digit] = (start + digit) as u8;
                digit += 1;
            }
            start += length + 1;
            number += 1;
        }
        lengths += 1;
    }
    table
};

#[target_feature(enable = "avx2,bmi1,bmi2")]
fn ipv4(front: &[u8; 16]) -> Option<(Ipv4Addr, usize)> {
    // SAFETY: the reference is to 16 bytes, and the load asks for no alignment.
    let text = unsafe { _mm_loadu_si128(front.as_ptr().cast()) };
    let digits = _mm_sub_epi8(text, _mm_set1_epi8(b'0' as i8));
    let is_digit = _mm_cmpeq_epi8(_mm_min_epu8(digits, _mm_set1_epi8(9)), digits);
    let is_dot = _mm_cmpeq_epi8(text, _mm_set1_epi8(b'.' as i8));
    let length = (!_mm_movemask_epi8(_mm_or_si128(is_digit, is_dot))).trailing_zeros();
    let dots = _bzhi_u32(_mm_movemask_epi8(is_dot) as u32, length);
    let (first, after_first) = (dots.trailing_zeros(), dots & dots.wrapping_sub(1));
    let (second, after_second) = (after_first.trailing_zeros(), after_first & after_first.wrapping_sub(1));
    let (third, after_third) = (
        after_second.trailing_zeros(),
        after_second & after_second.wrapping_sub(1),
    );
    // With fewer than three dots a length is out of range.
    let lengths = [
        first,
        second.wrapping_sub(first + 1),
        third.wrapping_sub(second + 1),
        length.wrapping_sub(third + 1),
    ];
    let in_range = lengths.iter().all(|&length| length.wrapping_sub(1) < 3);
    if length > 15 || after_third != 0 || !in_range {
        return None;
    }
    let place = lengths[0] | lengths[1] << 2 | lengths[2] << 4 | lengths[3] << 6;
    // SAFETY: the reference is to 16 bytes, and the load asks for no alignment.
    let order = unsafe { _mm_loadu_si128(DIGITS[place as usize & 0xff].as_ptr().cast()) };
    let weights = _mm_set1_epi32(i32::from_le_bytes([100, 10, 1, 0]));
    let numbers = _mm_maddubs_epi16(_mm_shuffle_epi8(digits, order), weights);
    let numbers = _mm_madd_epi16(numbers, _mm_set1_epi16(1));
    if _mm_movemask_epi8(_mm_cmpgt_epi32(numbers, _mm_set1_epi32(255))) != 0 {
        return None;
    }
    let octets = _mm_packus_epi16(_mm_packus_epi32(numbers, numbers), numbers);
    let octets = _mm_cvtsi128_si32(octets) as u32;
    Some((Ipv4Addr::from(octets.to_le_bytes()), length as usize))
}

#[inline]
fn join(first: &[u8; 16], last: &[u8; 16]) -> [u8; 32] {
    let mut both = [0; 32];
    both[..16].copy_from_slice(first);
    both[16..].copy_from_slice(last);
    both
}

impl Search for Avx2 {
    #[inline(always)]
    fn run(self, bytes: &[u8], class: Class) -> usize {
        Avx2::run(self, bytes, class)
    }

    #[inline(always)]
    fn name(self, bytes: &[u8], start: usize, length: usize) -> Result<Name, ParseErrorKind> {
        if start + 32 <= bytes.len() {
            // SAFETY: 32 bytes from `start` lie in `bytes`, and `self` says that the processor has these features.
            let name = unsafe { name(&*bytes.as_ptr().add(start).cast(), length) };
            return match name {
                Some(name) => Ok(name),
                None => self.rare_name(bytes, start, length),
            };
        }
        self.late_name(bytes, start, length)
    }
}

impl Avx2 {
    /// A name in the last bytes of the message, as Content-Length often is.
    #[inline(never)]
    fn late_name(self, bytes: &[u8], start: usize, length: usize) -> Result<Name, ParseErrorKind> {
        let mut front = [0; 32];
        front[..bytes.len() - start].copy_from_slice(&bytes[start..]);
        // SAFETY: `self` says that the processor has these features.
        match unsafe { name(&front, length) } {
            Some(name) => Ok(name),
            None => self.rare_name(bytes, start, length),
        }
    }

    /// A name that is long, is none, or has white space behind it; or an empty value.
    #[cold]
    #[inline(never)]
    fn rare_name(self, bytes: &[u8], start: usize, length: usize) -> Result<Name, ParseErrorKind> {
        Plain.name(bytes, start, length)
    }
}

/// The name in the first bytes of a line; `None` for what is rare.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn name(front: &[u8; 32], length: usize) -> Option<Name> {
    let text = load(front);
    let colons = _mm256_movemask_epi8(_mm256_cmpeq_epi8(text, _mm256_set1_epi8(b':' as i8))) as u32;
    let colon = colons.trailing_zeros();
    // Bytes above SP; the comparison is signed, so that those above ASCII are told by their high bits. The value is to
    // begin with one, right behind the colon or one byte later.
    let above_space = _mm256_cmpgt_epi8(text, _mm256_set1_epi8(b' ' as i8));
    let visible = _mm256_movemask_epi8(_mm256_or_si256(above_space, text)) as u32;
    let value = match u64::from(visible) >> (colon + 1) & 3 {
        // An empty value; without a colon in the 32 bytes, the place behind them means nothing.
        0 if colon < 32 && colon as usize + 1 == length => colon + 1,
        0 => return None,
        2 => colon + 2,
        _ => colon + 1,
    };
    // Letters to lower case. The other bytes of known names, digits and `-`, stay; CR alone would become one of them, and
    // it is in no line here.
    let lower = _mm256_or_si256(text, _mm256_set1_epi8(0x20));
    let first = _mm_cvtsi128_si64(_mm256_castsi256_si128(lower)) as u64;
    let (spelling, _, header) = Spellings::candidate(_bzhi_u64(first, 8 * colon), colon as usize);
    let same = _mm256_movemask_epi8(_mm256_cmpeq_epi8(lower, load(spelling))) as u32;
    // The colon must be the same too, so that no spelling is taken for a longer one; without a colon all 32 bytes must,
    // and no spelling has so many.
    let header = if _bzhi_u32(!same, colon + 1) == 0 {
        header
    } else if colon > 0 && (colon as usize) < length && others(text, halves(TOKEN)).trailing_zeros() == colon {
        Header::Other
    } else {
        return None;
    };
    Some(Name {
        header,
        value: value as usize,
    })
}

/// The most lines, continuations and the empty line among them, of a head that is read here.
pub(super) const LINES_MAX: usize = 144;

/// How many bytes are looked at in one round.
const BLOCK: usize = 64;

#[target_feature(enable = "avx2,bmi1,bmi2")]
fn line_ends(bytes: &[u8], found: &mut [u16; LINES_MAX]) -> Option<usize> {
    // Every byte but the first is looked at together with the one before it.
    if *bytes.first()? <= b' ' || bytes.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    let last = bytes.len().checked_sub(1 + BLOCK)?;
    let mut count = 0;
    // Bits for the places where an LF would be that of an empty line: two bytes behind another one.
    let mut after_line_feeds = 0;
    let mut odd = _mm256_setzero_si256();
    // Takes in a block, of which the first bytes may have been seen before; whether the head ends there, and is not odd.
    let mut block = |start: usize, seen_before: usize| {
        // SAFETY: `start <= last`, so that 1 + BLOCK bytes from there lie in `bytes`.
        let window: &[u8; 1 + BLOCK] = unsafe { &*bytes.as_ptr().add(start).cast() };
        let (line_feeds_one, odd_one) = look::<0>(window);
        let (line_feeds_two, odd_two) = look::<32>(window);
        let all = join_masks(line_feeds_one, line_feeds_two);
        let empty = all & (all << 2 | after_line_feeds << seen_before);
        let inside = empty ^ empty.wrapping_sub(1);
        let mut line_feeds = all & inside & u64::MAX << seen_before;
        while line_feeds != 0 {
            // A bit is the place of an LF in its block, which is that of its CR in the window.
            let Some(place) = found.get_mut(count) else {
                return ControlFlow::Break(None);
            };
            *place = start as u16 + line_feeds.trailing_zeros() as u16;
            count += 1;
            line_feeds &= line_feeds - 1;
        }
        if empty != 0 {
            let is_odd = join_masks(odd_one, odd_two) & inside != 0 || _mm256_testz_si256(odd, odd) == 0;
            return ControlFlow::Break((!is_odd).then_some(count));
        }
        after_line_feeds = all >> (BLOCK - 2);
        odd = _mm256_or_si256(odd, _mm256_or_si256(odd_one, odd_two));
        ControlFlow::Continue(())
    };
    let mut start = 0;
    while start <= last {
        if let ControlFlow::Break(count) = block(start, 0) {
            return count;
        }
        start += BLOCK;
    }
    // The last block begins early enough to be whole.
    match start - last {
        BLOCK => None,
        seen_before => block(last, seen_before).break_value()?,
    }
}

/// Where the LFs are in 32 bytes from the second byte on, and which bytes no plain line has: an LF without a CR before
/// it, another byte with one, and control bytes other than HTAB.
#[inline]
#[target_feature(enable = "avx2")]
fn look<const AT: usize>(window: &[u8; 1 + BLOCK]) -> (__m256i, __m256i) {
    const { assert!(AT + 1 + 32 <= 1 + BLOCK) };
    // SAFETY: both loads lie in the window, as the assertion shows, and ask for no alignment.
    let (preceding, text) = unsafe {
        let from = window.as_ptr().add(AT);
        (_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(1).cast()))
    };
    let is = |text, byte: u8| _mm256_cmpeq_epi8(text, _mm256_set1_epi8(byte as i8));
    let line_feeds = is(text, b'\n');
    let unpaired = _mm256_xor_si256(line_feeds, is(preceding, b'\r'));
    // HTAB, LF, CR, which are below SP and allowed, and DEL, which is neither; each at its low half. The first entry is
    // none of the bytes that look there.
    let known = load_twice(&[0xff, 0, 0, 0, 0, 0, 0, 0, 0, b'\t', b'\n', 0, 0, b'\r', 0, 0x7f]);
    let known = _mm256_cmpeq_epi8(_mm256_shuffle_epi8(known, text), text);
    let below_space = _mm256_cmpeq_epi8(_mm256_min_epu8(text, _mm256_set1_epi8(0x1f)), text);
    (
        line_feeds,
        _mm256_or_si256(unpaired, _mm256_xor_si256(known, below_space)),
    )
}

/// A bit for each byte of two vectors.
#[inline]
#[target_feature(enable = "avx2")]
fn join_masks(one: __m256i, two: __m256i) -> u64 {
    let mask = |vector| u64::from(_mm256_movemask_epi8(vector) as u32);
    mask(one) | mask(two) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_begins_where_the_plain_twin_has_it_begin_whatever_its_bytes() {
        let avx2 = Avx2::detect().expect("a processor with AVX2; without one, test with the feature portable");
        for name in ["v:", "Via:", "Contact:", "X-Note:", "X-Note :"] {
            for first in 0x20..=u8::MAX {
                for second in [b' ', b'\t', b'a', b':', 0x80, 0xff] {
                    let line = [name.as_bytes(), &[first, second], b"end"].concat();
                    let bytes = [&line[..], &[b'x'; 40]].concat();
                    let (found, expected) = (avx2.name(&bytes, 0, line.len()), Plain.name(&bytes, 0, line.len()));
                    assert_eq!(found, expected, "{}", line.escape_ascii());
                }
            }
        }
    }
}
