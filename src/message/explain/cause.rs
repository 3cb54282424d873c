//! Where within a value a grammar gave up, and why: asked only of values that are known to be malformed.

use std::borrow::Cow;

use super::super::field::PARAMS_MAX;
use super::super::scan::{self, generic_param, lws, separator, skip_lws, token};
use super::super::uri::{self, Uri, UriError};

/// A place within a value, or the message once [`Cause::from`] has moved it, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) at: usize,
    pub(super) why: Cow<'static, str>,
}

impl Cause {
    pub(super) fn new(at: usize, why: impl Into<Cow<'static, str>>) -> Cause {
        Cause { at, why: why.into() }
    }

    /// The same, counted from where the value's offset counts from.
    pub(super) fn from(self, start: usize) -> Cause {
        Cause {
            at: self.at + start,
            ..self
        }
    }
}

/// How far `rest`, a tail of `value`, lies in it.
fn at(value: &[u8], rest: &[u8]) -> usize {
    value.len() - rest.len()
}

/// What is wrong with a Via value.
pub(super) fn via(value: &[u8]) -> Cause {
    let mut rest = value;
    for _ in 0..2 {
        let Ok((after, _)) = token(rest) else {
            return Cause::new(at(value, rest), "a Via begins with SIP/2.0/ and a transport");
        };
        let Ok((after, ())) = separator(b'/')(after) else {
            return Cause::new(at(value, after), "a Via begins with SIP/2.0/ and a transport");
        };
        rest = after;
    }
    let Ok((rest, _)) = token(rest) else {
        return Cause::new(at(value, rest), "the transport is missing");
    };
    let Ok((rest, ())) = lws(rest) else {
        return Cause::new(at(value, rest), "white space and sent-by must follow the transport");
    };
    let Ok((after_host, _)) = scan::host(rest) else {
        return Cause::new(
            at(value, rest),
            "sent-by is neither a name nor an address; IPv6 needs brackets",
        );
    };
    let Ok((rest, _)) = scan::host_and_port(rest) else {
        return Cause::new(at(value, after_host), "the port is not a number from 1 to 65535");
    };
    params(value, rest, |name, found| {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        let number = |max| found.and_then(|digits| scan::decimal_value(digits, max));
        if (is("branch") || is("received")) && found.is_none() {
            Some("this parameter needs a value")
        } else if is("rport") && found.is_some() && number(0xffff).is_none() {
            Some("rport is not a port")
        } else if is("ttl") && number(255).is_none() {
            Some("ttl is not a number from 0 to 255")
        } else if is("maddr") && found.and_then(scan::whole_host).is_none() {
            Some("maddr is not a host")
        } else {
            None
        }
    })
}

/// What is wrong with a name-addr; `bracketed` if its URI must stand in angle brackets.
pub(super) fn name_addr(value: &[u8], bracketed: bool) -> Cause {
    let uri = match value.first() {
        None => return Cause::new(0, "a value is empty"),
        Some(b'"') => match scan::quoted_string(value) {
            Ok((rest, _)) => skip_lws(rest),
            Err(_) => return Cause::new(0, "this quote is never closed"),
        },
        Some(_) => {
            let length = scan::run_over_folds(value, scan::DISPLAY);
            match value.get(length) {
                Some(b'<') => &value[length..],
                _ if memchr::memchr(b'<', &value[length..]).is_some() && !value[..length].contains(&b':') => {
                    return Cause::new(length, "a display name with this byte must stand in quotes");
                }
                _ => value,
            }
        }
    };
    let start = at(value, uri);
    let (inside, rest) = match uri.strip_prefix(b"<") {
        Some(inside) => {
            let length = scan::run(inside, scan::URI);
            match inside.get(length) {
                Some(b'>') => (&inside[..length], &inside[length + 1..]),
                Some(b'<' | b'"' | b' ' | b'\t' | b'\r') if memchr::memchr(b'>', inside).is_some() => {
                    return Cause::new(start + 1 + length, "this byte cannot stand in a URI");
                }
                _ => return Cause::new(start, "this angle bracket is never closed"),
            }
        }
        None if value.first() == Some(&b'"') => {
            return Cause::new(start, "a URI in angle brackets must follow a display name");
        }
        None => uri.split_at(scan::run(uri, scan::BARE_URI)),
    };
    let has_brackets = uri.starts_with(b"<");
    let scheme = scan::run(inside, scan::SCHEME);
    if scheme == 0 || inside.get(scheme) != Some(&b':') || inside.len() == scheme + 1 {
        return Cause::new(
            start + usize::from(has_brackets),
            "this is no URI: a scheme, a colon and more",
        );
    }
    if bracketed && !has_brackets {
        return Cause::new(start, "the URI must stand in angle brackets");
    }
    if !has_brackets && rest.starts_with(b"?") {
        return Cause::new(
            at(value, rest),
            "a URI with a question mark must stand in angle brackets (RFC 3261 §20.10)",
        );
    }
    params(value, rest, |name, found| {
        (name.eq_ignore_ascii_case(b"tag") && found.is_none()).then_some("a tag needs a value")
    })
}

/// What is wrong with the parameters in `rest`, the tail of a value; `judge` knows which values they must have.
fn params(value: &[u8], rest: &[u8], judge: impl Fn(&[u8], Option<&[u8]>) -> Option<&'static str>) -> Cause {
    let mut rest = skip_lws(rest);
    let mut names: Vec<&[u8]> = Vec::new();
    while !rest.is_empty() {
        let Ok((param, ())) = separator(b';')(rest) else {
            return Cause::new(
                at(value, rest),
                match rest[0] {
                    b',' => "one value may stand here, not a list",
                    _ => "only parameters may follow, each after a semicolon",
                },
            );
        };
        let Ok((after, (name, found))) = generic_param(param) else {
            return Cause::new(
                at(value, param),
                match param.first() {
                    None | Some(b';' | b',') => "a parameter is empty",
                    Some(_) => "a parameter is a token, and perhaps `=` and a token, a host or a quoted string",
                },
            );
        };
        let is_repeated = names.iter().any(|other| other.eq_ignore_ascii_case(name));
        let why = judge(name, found).or(is_repeated.then_some("a parameter stands twice"));
        if let Some(why) = why {
            return Cause::new(at(value, param), why);
        }
        if names.len() == PARAMS_MAX {
            return Cause::new(at(value, param), "more than 64 parameters");
        }
        names.push(name);
        rest = skip_lws(after);
    }
    Cause::new(0, "it does not follow its grammar")
}

/// What is wrong with a URI; `is_request_uri` if it may have no headers part.
pub(super) fn uri(text: &[u8], is_request_uri: bool) -> Cause {
    if text.starts_with(b"<") {
        return Cause::new(0, "a Request-URI does not stand in angle brackets");
    }
    let plain = scan::run(text, scan::URI);
    if plain < text.len() {
        return Cause::new(plain, "this byte cannot stand in a URI");
    }
    let after_scheme = memchr::memchr(b':', text).map_or(0, |colon| colon + 1);
    let host = memchr::memchr(b'@', text).map_or(after_scheme, |at| at + 1);
    match Uri::parse(text) {
        Err(UriError::Scheme) => Cause::new(0, "a URI begins with a scheme and a colon"),
        Err(UriError::User) => Cause::new(after_scheme, "an @ with no user before it"),
        Err(UriError::Host) => Cause::new(host, "the host is neither a name nor an address; IPv6 needs brackets"),
        Err(error @ (UriError::Port | UriError::Characters)) => {
            let rest = scan::host(&text[host..]).map_or(0, |(rest, _)| rest.len());
            let at = if rest == 0 { host } else { text.len() - rest };
            Cause::new(
                at,
                match error {
                    UriError::Port => "the port is not a number from 1 to 65535",
                    _ => "only a port, parameters and headers may follow the host; IPv6 needs brackets",
                },
            )
        }
        Err(UriError::Number) => Cause::new(after_scheme, "this is no telephone number (RFC 3966 §3)"),
        Ok(read) if is_request_uri && !read.headers.is_empty() => {
            let at = text.len() - read.headers.len() - 1;
            Cause::new(
                at,
                "a Request-URI has no headers part: what stands here would become header fields",
            )
        }
        Ok(read) if uri::has_repeated_param(&read) => Cause::new(
            scan::span_in(text, read.params).start,
            "a URI parameter stands twice (RFC 3261 §19.1.1)",
        ),
        Ok(_) => Cause::new(0, "it does not follow its grammar"),
    }
}
