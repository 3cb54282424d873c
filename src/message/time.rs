//! Fields that say when and for how long: Expires, Min-Expires, Retry-After, Date and Timestamp (RFC 3261), and
//! Session-Expires with Min-SE (RFC 4028).

use std::time::Duration;

use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::{tag, tag_no_case};
use nom::combinator::{map_opt, opt, value};
use nom::sequence::{preceded, terminated};

use super::Message;
use super::field::FieldError;
use super::header::Header;
use super::scan::{self, Parsed, lws, sws, token};
use super::value::{Params, delta_seconds, params};

/// The least session interval a session timer may have unless Min-SE says more (RFC 4028 §4, §5), in seconds.
pub const SESSION_INTERVAL_MIN: u32 = 90;

/// Session-Expires (RFC 4028 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExpires<'a> {
    /// The session interval in seconds; less than [`SESSION_INTERVAL_MIN`] is the sender's mistake.
    pub seconds: u32,
    /// Who refreshes the session; `None` where that is left to the other side.
    pub refresher: Option<Refresher>,
    /// All parameters.
    pub params: Params<'a>,
}

/// The side that refreshes a session (RFC 4028 §4): of this transaction, not of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    /// `uac`: who sent the request.
    Uac,
    /// `uas`: who answers it.
    Uas,
}

/// Retry-After (RFC 3261 §20.33).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter<'a> {
    /// Seconds to wait; clamped to `u32`.
    pub seconds: u32,
    /// The comment, in its parentheses; empty without one.
    pub comment: &'a [u8],
    /// For how long it will then be there, in seconds.
    pub duration: Option<u32>,
    /// All parameters.
    pub params: Params<'a>,
}

/// Date (RFC 3261 §20.17), always GMT. The day of the week is not compared with the date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// Four digits.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to the last of the month.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60: there are leap seconds.
    pub second: u8,
}

impl Date {
    /// Reads a value that stands alone.
    ///
    /// ```
    /// use referee::message::time::Date;
    ///
    /// let date = Date::parse(b"Sat, 13 Nov 2010 23:29:00 GMT").unwrap();
    /// assert_eq!((date.year, date.month, date.unix_seconds()), (2010, 11, 1_289_690_940));
    /// assert_eq!(Date::parse(b"Sat, 13 Nov 2010 23:29:00 EST"), None);
    /// ```
    pub fn parse(value: &[u8]) -> Option<Date> {
        super::value::whole(date, value)
    }

    /// Seconds since 1970-01-01 00:00:00 UTC, before which they are negative.
    pub fn unix_seconds(&self) -> i64 {
        // Days since 0000-03-01: years that begin in March have their leap day last.
        let (month, year) = match self.month {
            1 | 2 => (i64::from(self.month) + 9, i64::from(self.year) - 1),
            _ => (i64::from(self.month) - 3, i64::from(self.year)),
        };
        let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
        let days = 365 * year + leap_days + (153 * month + 2) / 5 + i64::from(self.day) - 1;
        const DAYS_TO_1970: i64 = 719_468;
        let (hour, minute, second) = (i64::from(self.hour), i64::from(self.minute), i64::from(self.second));
        (days - DAYS_TO_1970) * 86_400 + hour * 3_600 + minute * 60 + second
    }
}

/// Timestamp (RFC 3261 §20.38).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp<'a> {
    /// When the request was sent, on a clock that only the sender knows; to be copied as it is (§8.2.6.1).
    pub sent: &'a [u8],
    /// What the server says to have taken before it answered.
    pub delay: Option<Duration>,
}

// ---- grammars ----

/// ```text
/// Session-Expires = ("Session-Expires" / "x") HCOLON delta-seconds *(SEMI se-params)
/// se-params       = refresher-param / generic-param
/// refresher-param = "refresher" EQUAL ("uas" / "uac")
/// ```
fn session_expires(input: &[u8]) -> Parsed<'_, SessionExpires<'_>> {
    map_opt((delta_seconds, params), |(seconds, params)| {
        let refresher = match params.text("refresher")? {
            Some(side) if side.is("uac") => Some(Refresher::Uac),
            Some(side) if side.is("uas") => Some(Refresher::Uas),
            Some(_) => return None,
            None => None,
        };
        Some(SessionExpires {
            seconds,
            refresher,
            params,
        })
    })
    .parse(input)
}

/// `Min-SE = "Min-SE" HCOLON delta-seconds *(SEMI generic-param)`
fn min_se(input: &[u8]) -> Parsed<'_, u32> {
    terminated(delta_seconds, params).parse(input)
}

/// ```text
/// Retry-After = "Retry-After" HCOLON delta-seconds [ comment ] *( SEMI retry-param )
/// retry-param = ("duration" EQUAL delta-seconds) / generic-param
/// ```
fn retry_after(input: &[u8]) -> Parsed<'_, RetryAfter<'_>> {
    map_opt(
        (delta_seconds, opt(preceded(sws, comment)), params),
        |(seconds, comment, params)| {
            Some(RetryAfter {
                seconds,
                comment: comment.unwrap_or_default(),
                duration: params.number("duration")?,
                params,
            })
        },
    )
    .parse(input)
}

/// `comment = LPAREN *(ctext / quoted-pair / comment) RPAREN`: parentheses nest and a backslash escapes one byte.
fn comment(input: &[u8]) -> Parsed<'_, &[u8]> {
    let mut depth = 0;
    let mut bytes = input.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'(' => depth += 1,
            b')' if depth == 1 => return Ok((&input[at + 1..], &input[..=at])),
            b')' if depth > 1 => depth -= 1,
            b'\\' if depth > 0 && bytes.next().is_some() => {}
            _ if depth > 0 => {}
            _ => break,
        }
    }
    Err(nom::Err::Error(()))
}

/// ```text
/// SIP-date     = rfc1123-date
/// rfc1123-date = wkday "," SP date1 SP time SP "GMT"
/// date1        = 2DIGIT SP month SP 4DIGIT
/// time         = 2DIGIT ":" 2DIGIT ":" 2DIGIT
/// ```
fn date(input: &[u8]) -> Parsed<'_, Date> {
    let date1 = (terminated(number::<2>, lws), terminated(month, lws), number::<4>);
    let colon = || tag(&b":"[..]);
    let time = (
        terminated(number::<2>, colon()),
        terminated(number::<2>, colon()),
        number::<2>,
    );
    let gmt = preceded(lws, tag_no_case(&b"GMT"[..]));
    let parts = (wkday, tag(&b","[..]), lws, date1, lws, time, gmt);
    map_opt(parts, |(_, _, _, (day, month, year), _, (hour, minute, second), _)| {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let last_day = match month {
            2 => 28 + u16::from(is_leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let fits = (1..=last_day).contains(&day) && hour <= 23 && minute <= 59 && second <= 60;
        fits.then_some(Date {
            year,
            month,
            day: day as u8,
            hour: hour as u8,
            minute: minute as u8,
            second: second as u8,
        })
    })
    .parse(input)
}

/// `wkday = "Mon" / "Tue" / "Wed" / "Thu" / "Fri" / "Sat" / "Sun"`
fn wkday(input: &[u8]) -> Parsed<'_, u8> {
    name_of(&["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"])(input)
}

/// `month = "Jan" / "Feb" / "Mar" / "Apr" / …`
fn month(input: &[u8]) -> Parsed<'_, u8> {
    name_of(&[
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ])(input)
}

/// The place of a name in a list, counted from 1.
fn name_of<'a>(names: &'static [&'static str]) -> impl Fn(&'a [u8]) -> Parsed<'a, u8> {
    move |input| {
        let place = |name: &[u8]| names.iter().position(|one| name.eq_ignore_ascii_case(one.as_bytes()));
        map_opt(token, |name| Some(place(name)? as u8 + 1)).parse(input)
    }
}

/// A number of exactly `N` digits, at most four.
fn number<const N: usize>(input: &[u8]) -> Parsed<'_, u16> {
    map_opt(scan::digits, |digits: &[u8]| match digits.len() == N {
        true => scan::decimal_value(digits, 9_999).map(|number| number as u16),
        false => None,
    })
    .parse(input)
}

/// ```text
/// Timestamp = "Timestamp" HCOLON 1*(DIGIT) [ "." *(DIGIT) ] [ LWS delay ]
/// delay     = *(DIGIT) [ "." *(DIGIT) ]
/// ```
fn timestamp(input: &[u8]) -> Parsed<'_, Timestamp<'_>> {
    let dot = || alt((value(true, tag(&b"."[..])), value(false, |input| Ok((input, ())))));
    let digits = |input| scan::digits(input).or(Ok((input, &b""[..])));
    let (rest, _) = (scan::digits, dot(), digits).parse(input)?;
    let sent = scan::taken(input, rest);
    let delay = preceded(lws, (digits, dot(), digits));
    let (rest, delay) = opt(delay).parse(rest)?;
    let delay = delay.map(|(seconds, _, fraction)| {
        let nanoseconds = fraction.iter().chain([b'0'].iter().cycle()).take(9);
        let nanoseconds = nanoseconds.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        let seconds = scan::decimal_clamped(seconds).unwrap_or_default();
        Duration::new(seconds.into(), nanoseconds)
    });
    Ok((rest, Timestamp { sent, delay }))
}

impl<'a> Message<'a> {
    /// Session-Expires (RFC 4028 §4).
    pub fn session_expires(&self) -> Result<Option<SessionExpires<'a>>, FieldError> {
        self.one_value(Header::SessionExpires, session_expires)
    }

    /// Min-SE (RFC 4028 §5): the least session interval an element on the way takes, in seconds.
    pub fn min_se(&self) -> Result<Option<u32>, FieldError> {
        self.one_value(Header::MinSe, min_se)
    }

    /// Expires (RFC 3261 §20.19), in seconds.
    pub fn expires(&self) -> Result<Option<u32>, FieldError> {
        self.one_value(Header::Expires, delta_seconds)
    }

    /// Min-Expires of a 423 (RFC 3261 §20.23), in seconds.
    pub fn min_expires(&self) -> Result<Option<u32>, FieldError> {
        self.one_value(Header::MinExpires, delta_seconds)
    }

    /// Retry-After (RFC 3261 §20.33).
    pub fn retry_after(&self) -> Result<Option<RetryAfter<'a>>, FieldError> {
        self.one_value(Header::RetryAfter, retry_after)
    }

    /// Date (RFC 3261 §20.17). One that is malformed fails nothing but what needs it (RFC 4475 §3.1.2.12).
    pub fn date(&self) -> Result<Option<Date>, FieldError> {
        self.one_value(Header::Date, date)
    }

    /// Timestamp (RFC 3261 §20.38).
    pub fn timestamp(&self) -> Result<Option<Timestamp<'a>>, FieldError> {
        self.one_value(Header::Timestamp, timestamp)
    }

    /// RSeq of a reliable provisional response: 1 to 2^32 - 1 (RFC 3262 §7.1).
    pub fn rseq(&self) -> Result<Option<u32>, FieldError> {
        self.one_value(Header::RSeq, |input| {
            let number = |digits| scan::decimal_value(digits, u32::MAX).filter(|number| *number > 0);
            map_opt(scan::digits, number).parse(input)
        })
    }

    /// Max-Breadth (RFC 5393 §5.3): on how many branches a request may be at once; clamped to `u32`.
    pub fn max_breadth(&self) -> Result<Option<u32>, FieldError> {
        self.one_value(Header::MaxBreadth, delta_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::with;
    use super::*;

    /// What a reader makes of each of these values; `None` where it is an error.
    fn read<T: PartialEq + std::fmt::Debug>(
        name: &str,
        cases: &[(&str, Option<T>)],
        read: impl Fn(Message<'_>) -> Result<Option<T>, FieldError>,
    ) {
        for (value, expected) in cases {
            let buf = with(&format!("{name}: {value}\r\n"));
            match (read(buf.as_message()), expected) {
                (Ok(Some(got)), Some(expected)) => assert_eq!(&got, expected, "{name}: {value}"),
                (Err(error), None) => assert_eq!(error, FieldError::Malformed(Header::from_name(name.as_bytes()))),
                (got, expected) => panic!("{name}: {value}: {got:?}, not {expected:?}"),
            }
        }
        assert_eq!(read(with("").as_message()), Ok(None), "without {name}");
        let (value, _) = cases[0];
        let twice = with(&format!("{name}: {value}\r\n{name}: {value}\r\n"));
        assert!(read(twice.as_message()).is_err(), "{name} stands once");
    }

    #[test]
    fn numbers_of_seconds_are_clamped_and_nothing_else_is_taken() {
        let seconds = [
            ("3600", Some(3600)),
            ("0", Some(0)),
            ("007", Some(7)),
            ("99999999999999999999", Some(u32::MAX)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("1 2", None),
            ("1, 2", None),
            ("soon", None),
        ];
        read("Expires", &seconds, |message| message.expires());
        read("Min-Expires", &seconds, |message| message.min_expires());
        read("Max-Breadth", &seconds, |message| message.max_breadth());
        read("Min-SE", &seconds, |message| message.min_se());
        read("Min-SE", &[("90 ;x=y", Some(90)), ("90;", None)], |message| {
            message.min_se()
        });
        let rseq = [
            ("1", Some(1)),
            ("4294967295", Some(u32::MAX)),
            ("0", None),
            ("4294967296", None),
            ("1 x", None),
        ];
        read("RSeq", &rseq, |message| message.rseq());
    }

    #[test]
    fn a_session_interval_may_name_its_refresher() {
        let cases = [
            ("1800", Some((1800, None))),
            ("90;refresher=uac", Some((90, Some(Refresher::Uac)))),
            ("4000 ; x ; Refresher = UAS", Some((4000, Some(Refresher::Uas)))),
            ("1800;refresher", None),
            ("1800;refresher=both", None),
            ("1800;refresher=uac;refresher=uac", None),
            ("1800 refresher=uac", None),
            (";refresher=uac", None),
            ("", None),
        ];
        let of = |message: Message<'_>| Ok(message.session_expires()?.map(|read| (read.seconds, read.refresher)));
        read("Session-Expires", &cases, of);
        read("x", &cases[..1], of);
    }

    #[test]
    fn a_retry_after_may_have_a_comment_and_a_duration() {
        let cases = [
            ("18000;duration=3600", Some((18_000, "", Some(3600)))),
            ("120 (I'm in a meeting)", Some((120, "(I'm in a meeting)", None))),
            (
                "5(a (b\\) c) ;d)\r\n ;x;duration=1",
                Some((5, "(a (b\\) c) ;d)", Some(1))),
            ),
            ("99999999999", Some((u32::MAX, "", None))),
            ("5 (open", None),
            ("5 (open (one)", None),
            ("5 (end\\)", None),
            ("5 (a) (b)", None),
            ("5;duration=long", None),
            ("5;duration=1;duration=1", None),
            ("five", None),
            ("5s", None),
            ("", None),
        ];
        let cases = cases.map(|(value, read)| {
            (
                value,
                read.map(|(wait, comment, then)| (wait, comment.to_owned(), then)),
            )
        });
        read("Retry-After", &cases, |message| {
            let read = message.retry_after()?;
            let comment = |read: &RetryAfter<'_>| String::from_utf8(read.comment.to_vec()).unwrap();
            Ok(read.map(|read| (read.seconds, comment(&read), read.duration)))
        });
    }

    #[test]
    fn a_date_is_one_that_exists_in_gmt() {
        let cases = [
            ("Sat, 13 Nov 2010 23:29:00 GMT", Some(1_289_690_940)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Wed, 31 Dec 1969 23:59:59 GMT", Some(-1)),
            ("tue, 29 FEB 2000 12:00:00 gmt", Some(951_825_600)),
            ("Thu, 31 Dec 2015 23:59:60 GMT", Some(1_451_606_400)),
            ("Fri, 01 Jan 2010 16:00:00 EST", None),
            ("Fri, 01 Jan 2010 16:00:00", None),
            ("Fri, 1 Jan 2010 16:00:00 GMT", None),
            ("Fri, 01 Jan 10 16:00:00 GMT", None),
            ("Fri, 00 Jan 2010 16:00:00 GMT", None),
            ("Mon, 29 Feb 1900 16:00:00 GMT", None),
            ("Fri, 31 Apr 2010 16:00:00 GMT", None),
            ("Fri, 01 Foo 2010 16:00:00 GMT", None),
            ("Fri, 01 Jan 2010 24:00:00 GMT", None),
            ("Fri, 01 Jan 2010 16:60:00 GMT", None),
            ("Fri, 01 Jan 2010 16:00:61 GMT", None),
            ("Day, 01 Jan 2010 16:00:00 GMT", None),
            ("01 Jan 2010 16:00:00 GMT", None),
            ("", None),
        ];
        read("Date", &cases, |message| {
            Ok(message.date()?.map(|date| date.unix_seconds()))
        });
    }

    #[test]
    fn a_timestamp_keeps_its_bytes_and_tells_the_delay() {
        let cases = [
            ("54", Some(("54", None))),
            ("54.321 0.25", Some(("54.321", Some(Duration::from_millis(250))))),
            ("54. 1", Some(("54.", Some(Duration::from_secs(1))))),
            ("1 .0000000019", Some(("1", Some(Duration::from_nanos(1))))),
            ("1 99999999999", Some(("1", Some(Duration::from_secs(u32::MAX.into()))))),
            (".5", None),
            ("1.2.3", None),
            ("1 2 3", None),
            ("1s", None),
            ("", None),
        ];
        let cases = cases.map(|(value, read)| (value, read.map(|(sent, delay)| (sent.to_owned(), delay))));
        read("Timestamp", &cases, |message| {
            let read = message.timestamp()?;
            Ok(read.map(|read| (String::from_utf8(read.sent.to_vec()).unwrap(), read.delay)))
        });
    }
}
