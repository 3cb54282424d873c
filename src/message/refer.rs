//! Field values of transfers: Event and Subscription-State (RFC 6665), and sipfrag bodies (RFC 3420).
//!
//! Refer-To, Referred-By and Replaces are name-addrs and parameters: see [`super::field::NameAddr`].

use std::ops::Range;

use super::scan::{self, next_param, span_in, token};

/// Event (RFC 6665 §8.2.1).
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

/// `event-type *( SEMI event-param )`
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

/// The status line of a message/sipfrag body, read leniently: LF alone, no reason, no version parameter in the content
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
    use super::*;

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
