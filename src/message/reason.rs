//! Fields that say why: Reason (RFC 3326) and Warning (RFC 3261 §20.43).

use nom::Parser;
use nom::branch::alt;
use nom::combinator::{map_opt, recognize, value};
use nom::sequence::separated_pair;

use super::Message;
use super::field::FieldError;
use super::header::Header;
use super::scan::{self, Parsed, lws, token};
use super::value::{Params, Text, params, whole};

/// One value of Reason (RFC 3326 §2).
///
/// ```
/// use referee::message::reason::Reason;
///
/// let reason = Reason::parse(br#"SIP ;cause=200 ;text="Call completed elsewhere""#).unwrap();
/// assert_eq!((reason.protocol, reason.cause), (&b"SIP"[..], Some(200)));
/// assert!(reason.text.is_some_and(|text| text.is("call completed elsewhere")));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason<'a> {
    /// What the cause is a code of: `SIP`, `Q.850` or another protocol, in any case.
    pub protocol: &'a [u8],
    /// The code.
    pub cause: Option<u32>,
    /// The same for people.
    pub text: Option<Text<'a>>,
    /// All parameters.
    pub params: Params<'a>,
}

impl<'a> Reason<'a> {
    /// Reads a value that stands alone.
    pub fn parse(value: &'a [u8]) -> Option<Reason<'a>> {
        whole(reason, value)
    }
}

/// One value of Warning (RFC 3261 §20.43).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warning<'a> {
    /// Three digits: 3xx for SIP, such as 380 (RFC 5630 §7) or 399.
    pub code: u16,
    /// Who warns: a host with or without port, or a made-up name.
    pub agent: &'a [u8],
    /// The warning for people.
    pub text: Text<'a>,
}

impl<'a> Warning<'a> {
    /// Reads a value that stands alone.
    pub fn parse(value: &'a [u8]) -> Option<Warning<'a>> {
        whole(warning, value)
    }
}

/// ```text
/// reason-value  = protocol *(SEMI reason-params)
/// protocol      = "SIP" / "Q.850" / token
/// reason-params = protocol-cause / reason-text / reason-extension
/// ```
fn reason(input: &[u8]) -> Parsed<'_, Reason<'_>> {
    map_opt((token, params), |(protocol, params)| {
        Some(Reason {
            protocol,
            cause: params.number("cause")?,
            text: params.text("text")?,
            params,
        })
    })
    .parse(input)
}

/// ```text
/// warning-value = warn-code SP warn-agent SP warn-text
/// warn-code     = 3DIGIT
/// warn-agent    = hostport / pseudonym
/// pseudonym     = token
/// warn-text     = quoted-string
/// ```
fn warning(input: &[u8]) -> Parsed<'_, Warning<'_>> {
    let code = map_opt(scan::digits, |digits: &[u8]| {
        (digits.len() == 3).then(|| scan::decimal_value(digits, 999))?
    });
    let host = value((), scan::host_and_port);
    // A name alone is both; only what follows it tells.
    let agent = alt((
        separated_pair(recognize(host), lws, scan::quoted_string),
        separated_pair(token, lws, scan::quoted_string),
    ));
    separated_pair(code, lws, agent)
        .map(|(code, (agent, text))| Warning {
            code: code as u16,
            agent,
            text: Text::new(text),
        })
        .parse(input)
}

impl<'a> Message<'a> {
    /// The values of Reason, in order. RFC 3326 §2 wants each protocol once; RFC 9366 lifts that for some, and it is not
    /// checked here.
    pub fn reasons(&self) -> impl Iterator<Item = Result<Reason<'a>, FieldError>> + use<'a> {
        self.list(Header::Reason, reason)
    }

    /// The values of Warning, in order.
    pub fn warnings(&self) -> impl Iterator<Item = Result<Warning<'a>, FieldError>> + use<'a> {
        self.list(Header::Warning, warning)
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::with;
    use super::*;

    #[test]
    fn reasons_are_read_with_cause_and_text() {
        let buf = with(
            "Reason: SIP ;cause=580 ;text=\"Precondition, Failure\", q.850;text=ended;cause=0016;location=LN\r\n\
             Reason: preemption\r\n",
        );
        let reasons: Vec<_> = buf.as_message().reasons().map(Result::unwrap).collect();
        assert_eq!(
            reasons
                .iter()
                .map(|reason| (reason.protocol, reason.cause))
                .collect::<Vec<_>>(),
            [(&b"SIP"[..], Some(580)), (b"q.850", Some(16)), (b"preemption", None)]
        );
        assert_eq!(reasons[0].text.unwrap().decoded(), &b"Precondition, Failure"[..]);
        assert_eq!(reasons[1].params.token("location"), Some(Some(&b"LN"[..])));
        for value in [
            "",
            ";cause=1",
            "SIP;cause",
            "SIP;cause=x",
            "SIP;cause=1;cause=1",
            "SIP;text",
            "SIP cause=1",
            "SIP;",
        ] {
            assert_eq!(Reason::parse(value.as_bytes()), None, "{value}");
            let buf = with(&format!("Reason: {value}\r\n"));
            let malformed = FieldError::Malformed(Header::Reason);
            assert_eq!(buf.as_message().reasons().next(), Some(Err(malformed)), "{value}");
        }
        assert_eq!(with("").as_message().reasons().count(), 0);
    }

    #[test]
    fn a_warning_has_three_digits_an_agent_and_text() {
        // RFC 3261 §20.43.
        let buf = with(
            "Warning: 307 isi.edu \"Session parameter 'foo' not understood\",\r\n 301 192.0.2.1:5060 \"a, \\\"b\\\"\"\r\n\
             Warning: 399 my+proxy  \"x\"\r\nWarning: 370 [2001:db8::1]:5060 \"y\"\r\n",
        );
        let warnings: Vec<_> = buf.as_message().warnings().map(Result::unwrap).collect();
        assert_eq!(
            warnings
                .iter()
                .map(|warning| (warning.code, warning.agent))
                .collect::<Vec<_>>(),
            [
                (307, &b"isi.edu"[..]),
                (301, b"192.0.2.1:5060"),
                (399, b"my+proxy"),
                (370, b"[2001:db8::1]:5060")
            ]
        );
        assert_eq!(warnings[1].text.decoded(), &b"a, \"b\""[..]);
        for value in [
            "",
            "30 a \"x\"",
            "1812 a \"x\"",
            "301 a",
            "301 a x",
            "301 \"x\"",
            "301a \"x\"",
            "301 a \"x\" y",
        ] {
            assert_eq!(Warning::parse(value.as_bytes()), None, "{value}");
            assert!(
                with(&format!("Warning: {value}\r\n"))
                    .as_message()
                    .warnings()
                    .next()
                    .unwrap()
                    .is_err()
            );
        }
    }
}
