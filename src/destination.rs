//! What `referTo` and `referredBy` become on the wire, and whether a trunk lets a call go there.

use crate::config::value::{DISPLAY_NAME_BYTES_MAX, has_no_control, host_and_port};
use crate::config::{Destination, ReferRules, pattern_matches};
use crate::message::uri::{Scheme, Unescaped};
use crate::message::{Host, NameAddr, Uri};
use crate::verb::{OtherDialog, VerbError};
use std::fmt::Write as _;
use std::net::IpAddr;

/// The value of the Refer-To header field (RFC 3515 §2.1) for a verb's `referTo`.
///
/// A name-addr is kept as it is; a sip:, sips: or tel: URI gets its angle brackets; a bare number or user goes into
/// [`ReferRules::bare_number`], or becomes a user at `peer_host`, which is what a URI has there: a host, IPv6 in brackets,
/// with a port or without.
///
/// # Errors
///
/// What is neither of these, or does not follow the grammar, as an error about `referTo`.
pub fn refer_to_value(refer_to: &str, rules: &ReferRules, peer_host: &str) -> Result<String, VerbError> {
    let of_field = |problem: Problem| problem.of("referTo");
    Ok(match read_target(refer_to).map_err(of_field)? {
        Target::NameAddr(text) => text.to_owned(),
        Target::Uri(uri) => format!("<{uri}>"),
        Target::Bare(bare) => format!(
            "<{}>",
            bare.uri(rules.bare_number.as_deref(), peer_host).map_err(of_field)?
        ),
    })
}

/// A Refer-To that makes the INVITE replace a dialog of its recipient (RFC 5589 §7.3): `refer_to` with Replaces among the
/// headers of its URI, and Require, since a recipient that does not know Replaces would just ring.
///
/// # Errors
///
/// An error about `referTo` for a tel: URI, which has no headers (RFC 3966 §3), and for one that names a dialog already.
pub fn replacing(refer_to: &str, dialog: &OtherDialog, early_only: bool) -> Result<String, VerbError> {
    let target = NameAddr::parse(refer_to.as_bytes()).map_or(refer_to.as_bytes(), |name_addr| name_addr.uri);
    let wrong = |problem: &str| Err(Problem(problem.into()).of("referTo"));
    match Uri::parse(target) {
        Ok(uri) if matches!(uri.scheme, Scheme::Tel) => {
            return wrong("becomes a tel: URI, which cannot name a dialog to be replaced: give a sip: URI");
        }
        Ok(uri) if has_header(&uri, b"replaces") => return wrong("has Replaces already, beside `replaces`"),
        _ => {}
    }
    let (uri, rest) = match refer_to.rsplit_once('>') {
        Some((uri, rest)) => (uri, format!(">{rest}")),
        None => (refer_to, String::new()),
    };
    let headers = if uri.rsplit_once('<').map_or(uri, |(_, uri)| uri).contains('?') {
        "&"
    } else {
        "?"
    };
    let early = if early_only { ";early-only" } else { "" };
    let replaces = format!(
        "{};to-tag={};from-tag={}{early}",
        dialog.call_id, dialog.to_tag, dialog.from_tag
    );
    let mut value = String::with_capacity(replaces.len());
    for byte in replaces.bytes() {
        // hnv-unreserved would do for some more, but not in every parser.
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            value.push(char::from(byte));
        } else {
            let _ = write!(value, "%{byte:02X}");
        }
    }
    Ok(format!("{uri}{headers}Replaces={value}&Require=replaces{rest}"))
}

/// The value of the Referred-By header field (RFC 3892 §2.1) for a verb's `referredBy`.
///
/// As [`refer_to_value`], but a bare value becomes a user at [`ReferRules::referred_by_host`] if there is one. The display
/// name, or else the trunk's, goes in front of URIs and bare values; a name-addr has its own.
///
/// # Errors
///
/// An error about `referredBy` or `referredByDisplayName`.
pub fn referred_by_value(
    referred_by: &str,
    display_name: Option<&str>,
    rules: &ReferRules,
    peer_host: &str,
) -> Result<String, VerbError> {
    let of_field = |problem: Problem| problem.of("referredBy");
    let uri = match read_target(referred_by).map_err(of_field)? {
        Target::NameAddr(text) => return Ok(text.to_owned()),
        Target::Uri(uri) => uri.to_owned(),
        Target::Bare(bare) => match &rules.referred_by_host {
            Some(host) => bare.uri(None, host),
            // Who refers may be a user without a number, even where numbers become tel: URIs.
            None if bare.number.is_none() => bare.uri(
                rules
                    .bare_number
                    .as_deref()
                    .filter(|template| !template.starts_with("tel:")),
                peer_host,
            ),
            None => bare.uri(rules.bare_number.as_deref(), peer_host),
        }
        .map_err(of_field)?,
    };
    named(&uri, display_name.or(rules.referred_by_display_name.as_deref()))
}

/// The value of Referred-By where the verb names nobody: the identity of the party that gets the REFER, at the trunk's own
/// host if it has one, behind its own display name where neither verb nor trunk has one.
///
/// # Errors
///
/// An error about `referredByDisplayName`.
pub fn default_referred_by(
    identity: &str,
    own_name: Option<&str>,
    display_name: Option<&str>,
    rules: &ReferRules,
) -> Result<String, VerbError> {
    let of_trunk = rules.referred_by_display_name.as_deref();
    // What the verb or the trunk may not say is left out where a party says it.
    let own_name = own_name.filter(|name| has_no_control(name) && name.len() <= DISPLAY_NAME_BYTES_MAX);
    let display_name = display_name.or(of_trunk).or(own_name);
    let user = match (&rules.referred_by_host, Uri::parse(identity.as_bytes())) {
        (Some(host), Ok(uri)) => uri.user.map(|user| (host, String::from_utf8_lossy(user))),
        _ => None,
    };
    match user {
        Some((host, user)) => named(&format!("sip:{user}@{host}"), display_name),
        None => named(identity, display_name),
    }
}

/// A URI behind a display name.
fn named(uri: &str, display_name: Option<&str>) -> Result<String, VerbError> {
    let Some(display_name) = display_name.filter(|name| !name.is_empty()) else {
        return Ok(format!("<{uri}>"));
    };
    if !has_no_control(display_name) {
        return Err(Problem("holds control characters".into()).of("referredByDisplayName"));
    }
    // quoted-string (RFC 3261 §25.1): these two are escaped.
    let quoted = display_name.replace('\\', "\\\\").replace('"', "\\\"");
    Ok(format!("\"{quoted}\" <{uri}>"))
}

/// Whether the trunk's `destinations` let a call go to `refer_to`: the value of a Refer-To, or its URI alone.
///
/// The user part is compared with each `%HH` decoded once, a tel: number without its visual separators (RFC 3966 §5.1.1).
/// What would lead a call elsewhere than the host that is compared, or is read differently by different parsers, is let
/// pass by `*` alone: `maddr`, a Route in the URI's headers, a `;` or `?` in the user part.
pub fn destination_allowed(refer_to: &str, rules: &ReferRules, peer_host: &str) -> bool {
    let uri = if refer_to.contains('<') {
        let Ok(name_addr) = NameAddr::parse(refer_to.as_bytes()) else {
            return false;
        };
        name_addr.uri
    } else {
        refer_to.as_bytes()
    };
    let Ok(uri) = Uri::parse(uri) else {
        return false;
    };
    let decoded = uri.user.map(|user| String::from_utf8(Unescaped(user).collect()));
    let Ok(user) = decoded.transpose() else {
        // No pattern can name what is not text, but `*` takes it.
        return !matches!(uri.scheme, Scheme::Other(_)) && rules.destinations.contains(&Destination::Any);
    };
    rules
        .destinations
        .iter()
        .any(|destination| allows(destination, &uri, user.as_deref(), rules, peer_host))
}

/// `user` is that of `uri`, decoded.
fn allows(destination: &Destination, uri: &Uri<'_>, user: Option<&str>, rules: &ReferRules, peer_host: &str) -> bool {
    let secure = match uri.scheme {
        Scheme::Other(_) => return false,
        Scheme::Tel => {
            return match destination {
                Destination::Any => true,
                Destination::Number(pattern) => {
                    let number = user.unwrap_or_default().replace(['-', '.', '(', ')'], "");
                    pattern_matches(pattern, &number)
                }
                Destination::Sip { .. } => false,
            };
        }
        Scheme::Sip => false,
        Scheme::Sips => true,
    };
    match destination {
        Destination::Any => true,
        Destination::Number(pattern) => {
            let own = match rules.bare_number.as_deref() {
                Some(template) => template_host(template),
                None => host_and_port(peer_host).ok(),
            };
            leads_to_its_host(uri)
                && own.is_some_and(|(host, port)| same_host(&uri.host, &host) && uri.port == port)
                && user.is_some_and(|user| pattern_matches(pattern, user))
        }
        Destination::Sip {
            secure: wanted,
            user: pattern,
            host,
            port,
        } => {
            leads_to_its_host(uri)
                && secure == *wanted
                && same_host(&uri.host, host)
                && uri.port == *port
                && match (pattern, user) {
                    (Some(pattern), Some(user)) => pattern_matches(pattern, user),
                    (None, None) => true,
                    (Some(_), None) | (None, Some(_)) => false,
                }
        }
    }
}

/// That nothing in the URI sends a request elsewhere (RFC 3261 §19.1.1: maddr overrides the host; §19.1.5: a Route header
/// is dangerous) and that its user part ends where anyone would see it end.
fn leads_to_its_host(uri: &Uri<'_>) -> bool {
    !uri.params().any(|(name, _)| is_named(name, b"maddr"))
        && !has_header(uri, b"route")
        && !uri
            .user
            .is_some_and(|user| user.iter().any(|byte| b";?".contains(byte)))
}

/// Whether the headers of a URI have one of this name, in lower case.
fn has_header(uri: &Uri<'_>, name: &[u8]) -> bool {
    uri.headers().any(|(found, _)| is_named(found, name))
}

fn is_named(found: &[u8], name: &[u8]) -> bool {
    let found = Unescaped(found).map(|byte| byte.to_ascii_lowercase());
    found.eq(name.iter().copied())
}

fn same_host(host: &Host<'_>, wanted: &str) -> bool {
    match host {
        Host::Address(ip) => wanted.parse::<IpAddr>() == Ok(*ip),
        Host::Name(name) => name.eq_ignore_ascii_case(wanted.as_bytes()),
    }
}

/// Host and port of a `bare_number`; `None` for tel:.
fn template_host(template: &str) -> Option<(String, Option<u16>)> {
    let rest = template
        .strip_prefix("sip:")
        .or_else(|| template.strip_prefix("sips:"))?;
    let (_, host) = rest.rsplit_once('@')?;
    host_and_port(host.split([';', '?']).next()?).ok()
}

/// The ways in which a verb names a party.
enum Target<'a> {
    /// With angle brackets.
    NameAddr(&'a str),
    /// sip:, sips: or tel:.
    Uri(&'a str),
    Bare(Bare<'a>),
}

/// A number or a user without scheme and host.
struct Bare<'a> {
    text: &'a str,
    /// The number without separators, if it is one.
    number: Option<String>,
}

fn read_target(text: &str) -> Result<Target<'_>, Problem> {
    let text = text.trim_matches(' ');
    if text.is_empty() {
        return Err(Problem("is empty".into()));
    }
    if !has_no_control(text) {
        return Err(Problem("holds control characters".into()));
    }
    if text.contains(['<', '"']) {
        let name_addr = NameAddr::parse(text.as_bytes())
            .ok()
            .filter(|name_addr| name_addr.bracketed);
        let Some(name_addr) = name_addr else {
            return Err(Problem(
                "is no single URI in angle brackets, with or without a display name".into(),
            ));
        };
        check_uri(name_addr.uri)?;
        return Ok(Target::NameAddr(text));
    }
    let scheme = text.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    if scheme.is_some() {
        check_uri(text.as_bytes())?;
        return Ok(Target::Uri(text));
    }
    if text.contains(['@', ':', '[', ']']) || text.parse::<IpAddr>().is_ok() {
        return Err(Problem(
            "has a host but no scheme: write it as a URI, such as sip:alice@example.com".into(),
        ));
    }
    let is_number = text.bytes().any(|b| b.is_ascii_digit())
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || b"+*#".contains(&b) || is_separator(b));
    let number = is_number.then(|| {
        text.chars()
            .filter(|c| !c.is_ascii() || !is_separator(*c as u8))
            .collect()
    });
    Ok(Target::Bare(Bare { text, number }))
}

/// Visual separators of RFC 3966 §5.1.1, and what people write besides.
fn is_separator(byte: u8) -> bool {
    b"-.() /".contains(&byte)
}

impl Bare<'_> {
    fn uri(&self, template: Option<&str>, host: &str) -> Result<String, Problem> {
        let uri = match (template, &self.number) {
            (Some(template), Some(number)) if template.starts_with("tel:") => fill(template, number),
            (Some(template), None) if template.starts_with("tel:") => {
                return Err(Problem(
                    "is no phone number, and this trunk turns bare values into tel: URIs".into(),
                ));
            }
            (Some(template), _) => fill(template, &self.user()),
            (None, _) => format!("sip:{}@{host}", self.user()),
        };
        check_uri(uri.as_bytes())?;
        Ok(uri)
    }

    /// What stands before the `@`, with what may not stand there percent-encoded. What is encoded already stays.
    fn user(&self) -> String {
        let text = self.number.as_deref().unwrap_or(self.text);
        let bytes = text.as_bytes();
        let mut user = String::with_capacity(text.len());
        for (at, &byte) in bytes.iter().enumerate() {
            let escaped = byte == b'%'
                && bytes
                    .get(at + 1..at + 3)
                    .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
            // unreserved (RFC 3261 §25.1) and `+`. The rest of user-unreserved has a meaning of its own in many parsers.
            if byte.is_ascii_alphanumeric() || b"-_.!~*'()+".contains(&byte) || escaped {
                user.push(char::from(byte));
            } else {
                let _ = write!(user, "%{byte:02X}");
            }
        }
        user
    }
}

/// A template with its number. `+{number}` does not double the `+` of a number that has one.
fn fill(template: &str, number: &str) -> String {
    let number = if template.contains("+{number}") {
        number.strip_prefix('+').unwrap_or(number)
    } else {
        number
    };
    template.replace("{number}", number)
}

/// That a URI is one we send: sip, sips or tel, in the grammar of RFC 3261 §25.1, since a peer may refuse what is not.
fn check_uri(bytes: &[u8]) -> Result<(), Problem> {
    let uri = Uri::parse(bytes).map_err(|error| Problem(format!("is no URI that SIP could use: {error}")))?;
    if let Scheme::Other(scheme) = uri.scheme {
        let scheme = String::from_utf8_lossy(scheme);
        return Err(Problem(format!(
            "has the scheme `{}`; only sip, sips and tel can be called",
            scheme.escape_debug()
        )));
    }
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(b'%', rest) {
        if !rest
            .get(at + 1..at + 3)
            .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
        {
            return Err(Problem("has a `%` that no two hexadecimal digits follow".into()));
        }
        rest = &rest[at + 3..];
    }
    if !bytes.is_ascii() {
        return Err(Problem("has characters that must be percent-encoded in a URI".into()));
    }
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()%&=+$,;?/:".contains(byte);
    if !matches!(uri.scheme, Scheme::Tel) && !uri.user.unwrap_or_default().iter().all(fits) {
        return Err(Problem(
            "has characters before the `@` that must be percent-encoded in a URI".into(),
        ));
    }
    Ok(())
}

/// What is wrong, as the end of a sentence about a field.
struct Problem(String);

impl Problem {
    fn of(self, field: &str) -> VerbError {
        VerbError {
            field: field.to_owned(),
            message: self.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value;

    fn rules(bare_number: Option<&str>, destinations: &[&str]) -> ReferRules {
        ReferRules {
            bare_number: bare_number.map(|template| value::bare_number(template).unwrap()),
            destinations: destinations
                .iter()
                .map(|text| value::destination(text).unwrap())
                .collect(),
            ..ReferRules::default()
        }
    }

    #[test]
    fn a_refer_to_that_replaces_reads_back_as_the_dialog() {
        use crate::message::dialog_reference::Replaces;
        let dialog = OtherDialog {
            call_id: "a+b=c;d%e@10.0.0.1".into(),
            to_tag: "t+1".into(),
            from_tag: "f=2".into(),
            target: "sip:bob@10.0.0.9".into(),
        };
        for (refer_to, early_only, start, end) in [
            (
                "<sip:bob@10.0.0.9>",
                false,
                "<sip:bob@10.0.0.9?Replaces=a%2Bb%3Dc%3Bd%25e%4010.0.0.1%3Bto-tag%3Dt%2B1",
                ">",
            ),
            (
                "\"B?\" <sips:bob@h;x>;y=z",
                true,
                "\"B?\" <sips:bob@h;x?Replaces=",
                ">;y=z",
            ),
            ("<sip:bob@h?Subject=a>", false, "<sip:bob@h?Subject=a&Replaces=", ">"),
        ] {
            let value = replacing(refer_to, &dialog, early_only).unwrap();
            assert!(
                value.starts_with(start) && value.ends_with(&format!("&Require=replaces{end}")),
                "{value}"
            );
            let name_addr = NameAddr::parse(value.as_bytes()).unwrap();
            let uri = Uri::parse(name_addr.uri).unwrap();
            let unescaped = Replaces::value_in(&uri).unwrap().unwrap();
            // The tags of this dialog are no tokens, which a parser may say; what counts is that the bytes are the same.
            let early = if early_only { ";early-only" } else { "" };
            let expected = format!("a+b=c;d%e@10.0.0.1;to-tag=t+1;from-tag=f=2{early}");
            assert_eq!(String::from_utf8(unescaped).unwrap(), expected);
        }
    }

    #[test]
    fn a_refer_to_becomes_one_uri_in_angle_brackets() {
        let plain = "198.51.100.10:5060";
        let sip = Some("sip:{number}@trunk.example.net;user=phone");
        let plus = Some("sip:+{number}@trunk.example.net");
        let tel = Some("tel:{number}");
        for (refer_to, template, expected) in [
            ("+4930123", None, Ok("<sip:+4930123@198.51.100.10:5060>")),
            ("+4930123", sip, Ok("<sip:+4930123@trunk.example.net;user=phone>")),
            ("+4930123", plus, Ok("<sip:+4930123@trunk.example.net>")),
            ("4930123", plus, Ok("<sip:+4930123@trunk.example.net>")),
            ("+4930123", tel, Ok("<tel:+4930123>")),
            (" +49 (30) 12-3.4 ", tel, Ok("<tel:+49301234>")),
            ("+49XXXXXXXXXXX", None, Ok("<sip:+49XXXXXXXXXXX@198.51.100.10:5060>")),
            ("*#06#", None, Ok("<sip:*%2306%23@198.51.100.10:5060>")),
            ("*#06#", tel, Ok("<tel:*#06#>")),
            ("alice", sip, Ok("<sip:alice@trunk.example.net;user=phone>")),
            ("alice smith", None, Ok("<sip:alice%20smith@198.51.100.10:5060>")),
            ("a%20b%", None, Ok("<sip:a%20b%25@198.51.100.10:5060>")),
            ("jürgen", None, Ok("<sip:j%C3%BCrgen@198.51.100.10:5060>")),
            ("a?Route=x;y", None, Ok("<sip:a%3FRoute%3Dx%3By@198.51.100.10:5060>")),
            ("sip:bob@example.com", None, Ok("<sip:bob@example.com>")),
            (
                "SIPS:bob@[::1]:5061;transport=tcp",
                None,
                Ok("<SIPS:bob@[::1]:5061;transport=tcp>"),
            ),
            ("tel:+49-30-123", None, Ok("<tel:+49-30-123>")),
            (
                "sip:example.com?Replaces=a%3Bto-tag%3Db",
                None,
                Ok("<sip:example.com?Replaces=a%3Bto-tag%3Db>"),
            ),
            ("<sip:bob@example.com>", None, Ok("<sip:bob@example.com>")),
            (
                "<sip:bob@example.com>;method=INVITE",
                None,
                Ok("<sip:bob@example.com>;method=INVITE"),
            ),
            (
                "\"Bob, <the> builder\" <sip:bob@example.com>",
                None,
                Ok("\"Bob, <the> builder\" <sip:bob@example.com>"),
            ),
            ("Bob <sip:bob@example.com>", None, Ok("Bob <sip:bob@example.com>")),
            ("", None, Err("is empty")),
            ("  ", None, Err("is empty")),
            ("a\r\nX: y", None, Err("control")),
            ("a\0", None, Err("control")),
            ("alice", tel, Err("is no phone number")),
            ("alice@example.com", None, Err("no scheme")),
            ("10.0.0.5", None, Err("no scheme")),
            ("[::1]", None, Err("no scheme")),
            ("http://example.com", None, Err("scheme `http`")),
            ("<http://example.com>", None, Err("scheme `http`")),
            ("file:///etc/passwd", None, Err("scheme `file`")),
            ("sip:", None, Err("no URI")),
            ("sip:bob@", None, Err("no URI")),
            ("sip:bob@example.com:99999", None, Err("no URI")),
            ("sip:b ob@example.com", None, Err("no URI")),
            ("sip:bob@evil.example@example.com", None, Err("before the `@`")),
            ("sip:b%zzb@example.com", None, Err("hexadecimal")),
            ("sip:jürgen@example.com", None, Err("percent-encoded")),
            ("tel:alice", None, Err("no URI")),
            ("<sip:a@example.com>, <sip:b@example.com>", None, Err("no single URI")),
            ("<sip:a@example.com", None, Err("no single URI")),
            ("\"Bob\"", None, Err("no single URI")),
            ("\"Bob\" sip:bob@example.com", None, Err("no single URI")),
        ] {
            match (refer_to_value(refer_to, &rules(template, &[]), plain), expected) {
                (Ok(value), Ok(expected)) => assert_eq!(value, expected, "{refer_to}"),
                (Err(error), Err(part)) => {
                    assert_eq!(error.field, "referTo");
                    assert!(error.message.contains(part), "{refer_to}: {}", error.message);
                }
                (result, _) => panic!("{refer_to}: {result:?}"),
            }
        }
    }

    #[test]
    fn a_referred_by_has_its_host_and_display_name() {
        let tel = Some("tel:{number}");
        for (referred_by, display, template, host, expected) in [
            ("sip:caller@example.com", None, None, None, "<sip:caller@example.com>"),
            (
                "sip:caller@example.com",
                Some(""),
                None,
                None,
                "<sip:caller@example.com>",
            ),
            (
                "sip:caller@example.com",
                Some("A \"B\" \\"),
                None,
                None,
                "\"A \\\"B\\\" \\\\\" <sip:caller@example.com>",
            ),
            (
                "<sip:caller@example.com>",
                Some("A"),
                None,
                None,
                "<sip:caller@example.com>",
            ),
            (
                "\"X\" <sip:caller@example.com>",
                Some("A"),
                None,
                None,
                "\"X\" <sip:caller@example.com>",
            ),
            ("+4930123", Some("A"), None, None, "\"A\" <sip:+4930123@192.0.2.1>"),
            ("+4930123", None, tel, None, "<tel:+4930123>"),
            ("caller", None, tel, None, "<sip:caller@192.0.2.1>"),
            (
                "+4930123",
                None,
                tel,
                Some("trunk.example.net"),
                "<sip:+4930123@trunk.example.net>",
            ),
        ] {
            let rules = ReferRules {
                referred_by_host: host.map(str::to_owned),
                ..rules(template, &[])
            };
            let value = referred_by_value(referred_by, display, &rules, "192.0.2.1");
            assert_eq!(value.as_deref(), Ok(expected), "{referred_by}");
        }
        for (referred_by, display, field) in [
            ("http://example.com", None, "referredBy"),
            ("", None, "referredBy"),
            ("caller", Some("a\r\nb"), "referredByDisplayName"),
        ] {
            let error = referred_by_value(referred_by, display, &rules(None, &[]), "192.0.2.1").unwrap_err();
            assert_eq!(error.field, field);
        }
    }

    #[test]
    fn nothing_is_allowed_unless_named() {
        for refer_to in [
            "sip:a@example.com",
            "tel:+49",
            "<sip:+49@192.0.2.1>",
            "sip:%aa@192.0.2.1",
        ] {
            assert!(!destination_allowed(refer_to, &rules(None, &[]), "192.0.2.1"));
            assert!(destination_allowed(refer_to, &rules(None, &["*"]), "192.0.2.1"));
        }
        for refer_to in [
            "http://example.com",
            "<http://example.com>",
            "",
            "alice",
            "<sip:a@example.com",
        ] {
            assert!(
                !destination_allowed(refer_to, &rules(None, &["*"]), "192.0.2.1"),
                "{refer_to}"
            );
        }
    }

    #[test]
    fn destinations_match_in_canonical_form() {
        let own = Some("sip:{number}@trunk.example.net:5080");
        for (destination, template, refer_to, expected) in [
            ("+49*", None, "tel:+4930123", true),
            ("+4930*", None, "tel:+49(30)-12.3", true),
            ("+49*", None, "tel:+48123", false),
            ("+49*", None, "tel:0049123", false),
            // At the trunk's own host: that of bare_number, else the peer's.
            ("+49*", None, "sip:+4930@192.0.2.1", true),
            ("+49*", None, "sip:%2B4930@192.0.2.1", true),
            ("+49*", None, "sip:%252B4930@192.0.2.1", false),
            ("+49*", None, "sip:+4930@192.0.2.2", false),
            ("+49*", None, "sip:+4930@192.0.2.1:5060", false),
            ("+49*", own, "sip:+4930@192.0.2.1", false),
            ("+49*", own, "<sip:+4930@TRUNK.example.net:5080;user=phone>", true),
            ("+49*", own, "sip:+4930@trunk.example.net", false),
            ("+49*", Some("tel:{number}"), "sip:+4930@192.0.2.1", false),
            ("+49*", Some("tel:{number}"), "tel:+4930", true),
            ("+49*", None, "sip:192.0.2.1", false),
            // A URI pattern.
            ("sip:*@example.com", None, "sip:alice@EXAMPLE.com", true),
            (
                "sip:*@example.com",
                None,
                "\"A\" <sip:alice@example.com;transport=tcp?Replaces=x>;a=b",
                true,
            ),
            ("sip:a*@example.com", None, "sip:%61lice@example.com", true),
            ("sip:a*@example.com", None, "sip:Alice@example.com", false),
            ("sip:*@example.com", None, "sip:alice@example.com:5060", false),
            ("sip:*@example.com:5060", None, "sip:alice@example.com:5060", true),
            ("sip:*@example.com", None, "sip:example.com", false),
            ("sip:example.com", None, "sip:example.com", true),
            ("sip:example.com", None, "sip:alice@example.com", false),
            ("sip:*@example.com", None, "sips:alice@example.com", false),
            ("sips:*@example.com", None, "sips:alice@example.com", true),
            ("sip:*@example.com", None, "sip:alice@example.com.evil.example", false),
            ("sip:*@example.com", None, "sip:evil.example;x=@example.com", false),
            ("sip:*@[2001:db8::1]", None, "sip:a@[2001:DB8:0::1]", true),
            ("sip:*@192.0.2.7", None, "sip:a@192.0.2.7", true),
            ("sip:*@example.com", None, "tel:+49", false),
            // What leads elsewhere.
            ("sip:*@example.com", None, "sip:a@example.com;maddr=192.0.2.66", false),
            ("sip:*@example.com", None, "sip:a@example.com;MADD%52=192.0.2.66", false),
            (
                "sip:*@example.com",
                None,
                "sip:a@example.com?Route=%3Csip:evil.example;lr%3E",
                false,
            ),
            (
                "sip:*@example.com",
                None,
                "sip:a@example.com?Subject=x&r%4fute=y",
                false,
            ),
            ("sip:*@example.com", None, "sip:evil.example?x=@example.com", false),
            ("sip:*@example.com", None, "sip:%ff@example.com", false),
        ] {
            let rules = rules(template, &[destination]);
            assert_eq!(
                destination_allowed(refer_to, &rules, "192.0.2.1"),
                expected,
                "{destination} and {refer_to}"
            );
        }
    }

    #[test]
    fn a_bare_number_is_compared_as_the_uri_it_becomes() {
        for template in [None, Some("sip:{number}@trunk.example.net"), Some("tel:{number}")] {
            let rules = rules(template, &["+4930*"]);
            for (number, expected) in [("+49 30 / 123-4", true), ("+49 30 123", true), ("+49 31 123", false)] {
                let value = refer_to_value(number, &rules, "[2001:db8::1]:5070").unwrap();
                assert_eq!(
                    destination_allowed(&value, &rules, "[2001:db8::1]:5070"),
                    expected,
                    "{value}"
                );
            }
        }
    }
}
