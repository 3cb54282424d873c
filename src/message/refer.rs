//! Field values of transfers: Refer-To (RFC 3515), Referred-By (RFC 3892), Refer-Sub (RFC 4488), Event and
//! Subscription-State (RFC 6665), and sipfrag bodies (RFC 3420).

use std::ops::Range;

use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::tag_no_case;
use nom::combinator::{map_opt, value};

use super::Message;
use super::field::{FieldError, NameAddr, name_addr};
use super::header::Header;
use super::scan::{self, Parsed, next_param, span_in, token};
use super::value::{Params, Text, params};

/// Referred-By (RFC 3892 §3): who asks for the transfer.
///
/// ```
/// use referee::message::refer::ReferredBy;
///
/// let read = ReferredBy::parse(br#"<sip:referrer@a.example>;cid="20398823.2UWQFN309shb3@referrer.example""#).unwrap();
/// assert_eq!(read.referrer.uri, b"sip:referrer@a.example");
/// assert!(read.cid.is_some_and(|cid| cid.is("20398823.2uwqfn309shb3@referrer.example")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferredBy<'a> {
    /// The referrer's URI.
    pub referrer: NameAddr<'a>,
    /// The Content-ID of the body part that proves it (RFC 3892 §4).
    pub cid: Option<Text<'a>>,
}

impl<'a> ReferredBy<'a> {
    /// Reads a value that stands alone (spans count from its start).
    pub fn parse(value: &'a [u8]) -> Option<ReferredBy<'a>> {
        super::value::whole(|input| referred_by(value, input), value)
    }
}

/// ```text
/// Referred-By         = ("Referred-By" / "b") HCOLON referrer-uri *(SEMI (referredby-id-param / generic-param))
/// referrer-uri        = (name-addr / addr-spec)
/// referredby-id-param = "cid" EQUAL sip-clean-msg-id
/// sip-clean-msg-id    = LDQUOT dot-atom "@" (dot-atom / host) RDQUOT
/// ```
fn referred_by<'a>(message: &'a [u8], input: &'a [u8]) -> Parsed<'a, ReferredBy<'a>> {
    map_opt(
        move |input| name_addr(message, input),
        |referrer| {
            let cid = params(referrer.params).ok()?.1.text("cid")?;
            let is_message_id =
                |cid: Text<'_>| cid.is_quoted() && cid.bytes().filter(|&byte| byte == b'@').count() == 1;
            let fits = cid.is_none_or(is_message_id);
            fits.then_some(ReferredBy { referrer, cid })
        },
    )
    .parse(input)
}

/// Refer-Sub (RFC 4488 §4): whether the REFER makes a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReferSub<'a> {
    /// `false` in a REFER asks for none, in the 2xx it says that there is none.
    pub subscribes: bool,
    /// All parameters.
    pub params: Params<'a>,
}

/// ```text
/// Refer-Sub       = "Refer-Sub" HCOLON refer-sub-value *(SEMI exten)
/// refer-sub-value = "true" / "false"
/// exten           = generic-param
/// ```
fn refer_sub(input: &[u8]) -> Parsed<'_, ReferSub<'_>> {
    let yes = value(true, tag_no_case(&b"true"[..]));
    let no = value(false, tag_no_case(&b"false"[..]));
    (alt((yes, no)), params)
        .map(|(subscribes, params)| ReferSub { subscribes, params })
        .parse(input)
}

impl<'a> Message<'a> {
    /// Refer-To (RFC 3515 §2.1): one value, or the REFER is answered 400 (§2.4.2).
    ///
    /// # Errors
    /// [`FieldError::Missing`] without one; malformed if there are two, in two lines or in a list.
    pub fn refer_to(&self) -> Result<NameAddr<'a>, FieldError> {
        let message = self.bytes();
        self.one_value(Header::ReferTo, |input| name_addr(message, input))?
            .ok_or(FieldError::Missing(Header::ReferTo))
    }

    /// Referred-By (RFC 3892 §3); two are malformed (§2.1).
    pub fn referred_by(&self) -> Result<Option<ReferredBy<'a>>, FieldError> {
        let message = self.bytes();
        self.one_value(Header::ReferredBy, |input| referred_by(message, input))
    }

    /// Refer-Sub (RFC 4488 §4).
    pub fn refer_sub(&self) -> Result<Option<ReferSub<'a>>, FieldError> {
        self.one_value(Header::ReferSub, refer_sub)
    }
}

/// Event (RFC 6665 §8.2.1).
///
/// ```
/// use referee::message::refer::Event;
///
/// let event = Event::parse(b"REFER;id=93809824").unwrap();
/// assert!(event.is_refer());
/// assert_eq!(event.id_number(), Some(93_809_824));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The event package as received, with its templates.
    pub package: &'a [u8],
    /// The value of `id`.
    pub id: Option<&'a [u8]>,
    /// Where that value lies in the message.
    pub id_span: Option<Range<usize>>,
}

impl<'a> Event<'a> {
    /// Parses a value that stands alone (the span counts from its start).
    pub fn parse(value: &'a [u8]) -> Option<Event<'a>> {
        event(value, scan::trim(value))
    }

    /// Whether it is the event of a REFER (RFC 3515 §3.1); peers write it in odd case.
    pub fn is_refer(&self) -> bool {
        self.package.eq_ignore_ascii_case(b"refer")
    }

    /// The id as a number: for a REFER the CSeq number of that request (RFC 3515 §2.4.6).
    pub fn id_number(&self) -> Option<u32> {
        scan::decimal_value(self.id?, u32::MAX)
    }
}

/// ```text
/// Event          = ( "Event" / "o" ) HCOLON event-type *( SEMI event-param )
/// event-type     = event-package *( "." event-template )
/// event-param    = generic-param / ( "id" EQUAL token )
/// ```
///
/// RFC 6665 §8.4.
pub(super) fn event<'a>(message: &[u8], value: &'a [u8]) -> Option<Event<'a>> {
    let (mut rest, package) = token(value).ok()?;
    let mut id = None;
    while let Ok((after, (name, value))) = next_param(rest) {
        if name.eq_ignore_ascii_case(b"id") && id.replace(value?).is_some() {
            return None;
        }
        rest = after;
    }
    scan::trim(rest).is_empty().then(|| Event {
        package,
        id,
        id_span: id.map(|id| span_in(message, id)),
    })
}

/// Subscription-State (RFC 6665 §8.2.3).
///
/// ```text
/// Subscription-State   = "Subscription-State" HCOLON substate-value *( SEMI subexp-params )
/// substate-value       = "active" / "pending" / "terminated" / extension-substate
/// subexp-params        = ("reason" EQUAL event-reason-value) / ("expires" EQUAL delta-seconds)
///                        / ("retry-after" EQUAL delta-seconds) / generic-param
/// ```
///
/// ```
/// use referee::message::refer::SubscriptionState;
///
/// let state = SubscriptionState::parse(b"terminated;reason=noresource").unwrap();
/// assert!(state.terminated);
/// assert_eq!((state.reason, state.expires), (Some(&b"noresource"[..]), None));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionState<'a> {
    /// The state's token as received.
    pub state: &'a [u8],
    /// Whether it is `terminated`, in any case.
    pub terminated: bool,
    /// Why the subscription ended.
    pub reason: Option<&'a [u8]>,
    /// Seconds; clamped to `u32`.
    pub expires: Option<u32>,
    /// Seconds; clamped to `u32`.
    pub retry_after: Option<u32>,
    /// The whole value as received.
    pub value: &'a [u8],
}

impl<'a> SubscriptionState<'a> {
    /// Parses a value. Numbers that are none count as absent: the state is what matters.
    pub fn parse(value: &'a [u8]) -> Option<SubscriptionState<'a>> {
        let value = scan::trim(value);
        let (mut rest, state) = token(value).ok()?;
        let terminated = state.eq_ignore_ascii_case(b"terminated");
        let mut read = SubscriptionState {
            state,
            terminated,
            reason: None,
            expires: None,
            retry_after: None,
            value,
        };
        while let Ok((after, (name, value))) = next_param(rest) {
            if name.eq_ignore_ascii_case(b"reason") {
                read.reason = value;
            } else if name.eq_ignore_ascii_case(b"expires") {
                read.expires = value.and_then(scan::decimal_clamped);
            } else if name.eq_ignore_ascii_case(b"retry-after") {
                read.retry_after = value.and_then(scan::decimal_clamped);
            }
            rest = after;
        }
        scan::trim(rest).is_empty().then_some(read)
    }
}

/// The status line of a message/sipfrag body (RFC 3420 §2), read leniently: LF alone, no reason, no version parameter in the content
/// type, further header lines, no trailing CRLF, leading white lines are all taken; a code outside 100 to 699 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sipfrag<'a> {
    /// 100 to 699.
    pub code: u16,
    /// The reason phrase, which may be empty.
    pub reason: &'a [u8],
}

impl<'a> Sipfrag<'a> {
    /// Reads the body of a NOTIFY for a REFER (RFC 3515 §2.4.5). `None` if it does not begin with a status line.
    pub fn parse(body: &'a [u8]) -> Option<Sipfrag<'a>> {
        let start = body.iter().position(|&byte| !scan::is_lws(byte))?;
        let body = &body[start..];
        let end = memchr::memchr2(b'\r', b'\n', body).unwrap_or(body.len());
        let line = scan::trim(&body[..end]);
        if line.len() < 8 || !line[..7].eq_ignore_ascii_case(b"SIP/2.0") {
            return None;
        }
        let (rest, ()) = scan::lws(&line[7..]).ok()?;
        let (rest, digits) = scan::digits(rest).ok()?;
        let code = scan::decimal_value(digits, 699).filter(|code| digits.len() == 3 && *code >= 100)?;
        if !rest.is_empty() && scan::lws(rest).is_err() {
            return None;
        }
        Some(Sipfrag {
            code: code as u16,
            reason: scan::trim(rest),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::with;
    use super::*;

    #[test]
    fn a_refer_to_is_one_name_addr() {
        let uri = |lines: &str| with(lines).as_message().refer_to().map(|value| value.uri.to_vec());
        let bad = Err(FieldError::Malformed(Header::ReferTo));
        assert_eq!(uri(""), Err(FieldError::Missing(Header::ReferTo)));
        assert_eq!(uri("r: sip:a@b;x=y\r\n"), Ok(b"sip:a@b".to_vec()));
        let replaces = "sip:a@b?Replaces=c%3Bto-tag%3D1,2";
        assert_eq!(
            uri(&format!("Refer-To: \"B, b\" <{replaces}>;method=INVITE\r\n")),
            Ok(replaces.into())
        );
        assert_eq!(uri("Refer-To: <sip:a@b>\r\nRefer-To: <sip:a@b>\r\n"), bad);
        assert_eq!(uri("Refer-To: <sip:a@b>, <sip:c@d>\r\n"), bad);
        assert_eq!(uri("Refer-To: <sip:a@b\r\n"), bad);
        assert_eq!(uri("Refer-To: sip:a@b?Replaces=c\r\n"), bad);
        assert_eq!(uri("Refer-To:\r\n"), bad);
    }

    #[test]
    fn who_refers_stands_once_and_its_cid_is_a_message_id() {
        let read = ReferredBy::parse(b"\"R\" <sip:r@a>;x;cid=\"a@b\"").unwrap();
        assert_eq!(
            (read.referrer.uri, read.cid),
            (&b"sip:r@a"[..], Some(Text::new(b"\"a@b\"")))
        );
        assert_eq!(ReferredBy::parse(b"sip:r@a;y=z").unwrap().cid, None);
        for value in [
            "",
            "sip:r@a;cid=\"a\"",
            "sip:r@a;cid=a@b",
            "sip:r@a;cid",
            "sip:r@a;cid=\"a@b\";CID=\"a@b\"",
            "<sip:r@a>, <sip:s@a>",
            "r@a",
        ] {
            assert_eq!(ReferredBy::parse(value.as_bytes()), None, "{value}");
        }
        let one = "Referred-By: <sip:r@a>\r\n";
        assert_eq!(
            with(one).as_message().referred_by().unwrap().unwrap().referrer.uri,
            b"sip:r@a"
        );
        let twice = with(&format!("{one}b: <sip:r@a>\r\n"));
        assert_eq!(
            twice.as_message().referred_by(),
            Err(FieldError::Malformed(Header::ReferredBy))
        );
        assert_eq!(with("").as_message().referred_by(), Ok(None));
    }

    #[test]
    fn refer_sub_is_true_or_false() {
        let read = |value: &str| {
            let buf = with(&format!("Refer-Sub: {value}\r\n"));
            let read = buf.as_message().refer_sub();
            read.map(|read| read.map(|read| read.subscribes))
        };
        assert_eq!((read("true"), read("False ; x=y")), (Ok(Some(true)), Ok(Some(false))));
        for value in ["", "no", "falsey", "false true", "false,", "\"false\"", "false;"] {
            assert_eq!(read(value), Err(FieldError::Malformed(Header::ReferSub)), "{value}");
        }
        assert_eq!(with("").as_message().refer_sub(), Ok(None));
    }

    #[test]
    fn events_are_read_with_their_id() {
        let event = Event::parse(b" Refer ; id = 93809824").unwrap();
        assert!(event.is_refer());
        assert_eq!((event.id_number(), event.id_span), (Some(93_809_824), Some(14..22)));
        let event = Event::parse(b"presence.winfo;x=y").unwrap();
        assert_eq!(
            (event.package, event.is_refer(), event.id),
            (&b"presence.winfo"[..], false, None)
        );
        for value in ["", "refer;id", "refer;id=1;id=2", "refer;;", "refer x"] {
            assert_eq!(Event::parse(value.as_bytes()), None, "{value}");
        }
        assert_eq!(Event::parse(b"refer;id=99999999999").unwrap().id_number(), None);
    }

    #[test]
    fn subscription_states_are_read() {
        let state = SubscriptionState::parse(b"active;expires=60").unwrap();
        assert_eq!((state.terminated, state.expires), (false, Some(60)));
        let state = SubscriptionState::parse(b"Terminated ; reason=noresource;retry-after=99999999999").unwrap();
        assert!(state.terminated);
        assert_eq!(
            (state.reason, state.retry_after),
            (Some(&b"noresource"[..]), Some(u32::MAX))
        );
        assert!(SubscriptionState::parse(b"terminated").unwrap().terminated);
        assert_eq!(SubscriptionState::parse(b"pending;expires=soon").unwrap().expires, None);
        assert_eq!(SubscriptionState::parse(b""), None);
        assert_eq!(SubscriptionState::parse(b"active x"), None);
    }

    #[test]
    fn a_sipfrag_is_read_as_peers_write_it() {
        let cases: [(&str, Option<(u16, &str)>); 15] = [
            ("SIP/2.0 200 OK\r\n", Some((200, "OK"))),
            ("SIP/2.0 100 Trying", Some((100, "Trying"))),
            ("SIP/2.0 486 Busy Here\nWarning: x\n", Some((486, "Busy Here"))),
            (
                "SIP/2.0 503 Service Unavailable\r\nRetry-After: 5\r\n\r\nbody",
                Some((503, "Service Unavailable")),
            ),
            ("\r\n \r\nSIP/2.0 180 Ringing\r\n", Some((180, "Ringing"))),
            ("sip/2.0 200", Some((200, ""))),
            ("SIP/2.0 200 \r\n", Some((200, ""))),
            ("SIP/2.0  603  Declined ", Some((603, "Declined"))),
            ("SIP/2.0 099 No", None),
            ("SIP/2.0 700 No", None),
            ("SIP/2.0 2000 No", None),
            ("SIP/2.0", None),
            ("200 OK", None),
            ("INVITE sip:a SIP/2.0\r\n", None),
            ("", None),
        ];
        for (body, expected) in cases {
            let read = Sipfrag::parse(body.as_bytes());
            let expected = expected.map(|(code, reason)| Sipfrag {
                code,
                reason: reason.as_bytes(),
            });
            assert_eq!(read, expected, "{body:?}");
        }
    }
}
