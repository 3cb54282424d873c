//! Hooks: what is posted, in which order, how often, and when it is given up. No sockets and no clock here.
//!
//! [`Lanes`] decides what to send and when; a driver sends it and says what came of it. [`signature`] proves to the
//! receiver who sent it; [`resolve_target`] says where it goes.

mod endpoint;
mod job;
mod lanes;
pub mod signature;

pub use job::{Failure, Job, JobId, Outcome};
pub use lanes::{Counters, Lanes, Report};

use crate::config::Hooks;
use crate::identifiers::{CallId, TransferId};
use std::fmt;
use std::time::Duration;

/// One POST to an application.
#[derive(Clone, PartialEq, Eq)]
pub struct Hook {
    /// What it is about; hooks of one subject keep their order.
    pub subject: Subject,
    pub kind: HookKind,
    /// Absolute, http or https.
    pub url: String,
    /// User name and password for the `Authorization` header.
    pub basic_auth: Option<(String, String)>,
    /// Nobody asked for this hook: its target is the word `refer` that stands in when a verb names none. Where nobody
    /// answers to it (404, 405, no connection) that is no failure, and it is not tried again.
    pub default_word: bool,
    /// The same for every attempt: made of the subject, the kind, and the NOTIFY's CSeq or a number that counts.
    pub webhook_id: String,
    /// A JSON object. For the action of a transfer, the number of events given up is added as `missed` when it leaves.
    pub body: String,
    pub settings: HookSettings,
}

/// How hooks are sent, as it holds for those of a trunk, an application, or a transfer.
#[derive(Clone, PartialEq, Eq)]
pub struct HookSettings {
    /// Where relative hooks go.
    pub base_url: Option<String>,
    /// Standard Webhooks secret.
    pub secret: Option<String>,
    /// `Jambonz-Signature` secret.
    pub jambonz_secret: Option<String>,
    /// How long one attempt may take (T_hook).
    pub timeout: Duration,
    /// How long an action waits for the events before it (T_evt).
    pub events_wait: Duration,
}

/// Without secrets.
impl fmt::Debug for HookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookSettings")
            .field("base_url", &self.base_url)
            .field("timeout", &self.timeout)
            .field("events_wait", &self.events_wait)
            .finish_non_exhaustive()
    }
}

impl HookSettings {
    /// Those of `[hooks]`.
    pub fn of(hooks: &Hooks) -> HookSettings {
        HookSettings {
            base_url: hooks.base_url.clone(),
            secret: hooks.secret.clone(),
            jambonz_secret: hooks.jambonz_secret.clone(),
            timeout: hooks.timeout,
            events_wait: hooks.events_wait,
        }
    }
}

/// Without credentials and secrets, and without the body, which tells who called whom.
impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook")
            .field("subject", &self.subject)
            .field("kind", &self.kind)
            .field("webhook_id", &self.webhook_id)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// What hooks are about: those of one keep their order and never wait for those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// One execution of `sip:refer`.
    Transfer(TransferId),
    /// How a call goes on.
    Status(CallId),
    /// What an application is asked about a call, counted from 0.
    Question(CallId, u32),
}

impl Subject {
    /// The shard that waits for what comes of it.
    pub fn shard(self) -> u16 {
        match self {
            Subject::Transfer(transfer) => transfer.shard,
            Subject::Status(call) | Subject::Question(call, _) => call.shard,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Transfer(transfer) => write!(f, "{transfer}"),
            Subject::Status(call) => write!(f, "{call}-status"),
            Subject::Question(call, number) => write!(f, "{call}-question-{number}"),
        }
    }
}

/// What a hook tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookKind {
    /// Something has happened: a NOTIFY with a readable status, a change of a call.
    Event,
    /// The end of one execution: one per execution, and last but for late events. Also what a request of a verb came to.
    Action,
    /// What becomes of a call: the reply is wanted now or not at all, so there is one attempt.
    Question,
}

/// What the first attempt of an action or of a question came to; later attempts only inform.
#[derive(Clone, Debug, PartialEq)]
pub enum ActionOutcome {
    /// 2xx.
    Delivered {
        /// The body if it was a JSON array, as received.
        reply: Option<serde_json::Value>,
    },
    /// Anything else, or no answer in time.
    Failed,
}

impl ActionOutcome {
    /// The list that it was answered with: no list, and an empty one, say nothing.
    pub fn into_list(self) -> Option<serde_json::Value> {
        match self {
            ActionOutcome::Delivered { reply } => {
                reply.filter(|reply| reply.as_array().is_some_and(|list| !list.is_empty()))
            }
            ActionOutcome::Failed => None,
        }
    }
}

/// Why a hook's target is no URL to post to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// A path or a word, and there is no base URL to resolve it against.
    NoBase,
    /// A URL of a scheme other than http and https.
    NotHttp,
    /// Credentials within the URL: they would end up in logs and traces.
    Credentials,
    /// Empty, without a host, with a port that is none, or with characters no URL has (RFC 3986 §2).
    Malformed,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TargetError::NoBase => "is relative, and no hooks.base_url is configured to resolve it against",
            TargetError::NotHttp => "must be an http or https URL, a path or a word",
            TargetError::Credentials => "must not contain credentials: use username and password of the hook object",
            TargetError::Malformed => "is not a valid URL",
        })
    }
}

impl std::error::Error for TargetError {}

/// Where a hook goes: an absolute URL is kept; a path (`/action`) and a bare word (`refer`) go to the origin of
/// `base_url`, whose own path is not used. A fragment is dropped, since it is never sent (RFC 9110 §7.1).
///
/// # Errors
/// [`TargetError`] when there is no base, the scheme is another, or the text is no URL.
pub fn resolve_target(target: &str, base_url: Option<&str>) -> Result<String, TargetError> {
    let target = target.split('#').next().unwrap_or_default();
    if target.is_empty() {
        return Err(TargetError::Malformed);
    }
    if has_scheme(target) {
        origin(target)?;
        return Ok(target.to_owned());
    }
    // RFC 3986 §2 and appendix A: what may stand in a URL; everything else has to be percent-encoded.
    if !target.bytes().all(is_url_byte) {
        return Err(TargetError::Malformed);
    }
    let base = origin(base_url.ok_or(TargetError::NoBase)?)?;
    let slash = if target.starts_with('/') { "" } else { "/" };
    Ok(format!("{}{slash}{target}", base.as_written))
}

/// Whether two absolute URLs have the same scheme, host and port (RFC 6454 §5).
pub fn is_same_origin(a: &str, b: &str) -> bool {
    matches!((origin(a), origin(b)), (Ok(a), Ok(b)) if a.key() == b.key())
}

/// `scheme ":"` (RFC 3986 §3.1) at the start.
fn has_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    })
}

fn is_url_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// Scheme, host and port of a URL (RFC 6454 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin<'a> {
    /// The same text as in the URL: `https://Host:8443`.
    as_written: &'a str,
    secure: bool,
    host: &'a str,
    port: u16,
}

impl Origin<'_> {
    /// One text for one endpoint: without case, with the port always there.
    fn key(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.host.to_ascii_lowercase(), self.port)
    }
}

fn origin(url: &str) -> Result<Origin<'_>, TargetError> {
    if !url.bytes().all(is_url_byte) {
        return Err(TargetError::Malformed);
    }
    let (scheme, rest) = url.split_once("://").ok_or(TargetError::NotHttp)?;
    let secure = match scheme {
        s if s.eq_ignore_ascii_case("http") => false,
        s if s.eq_ignore_ascii_case("https") => true,
        _ => return Err(TargetError::NotHttp),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(TargetError::Credentials);
    }
    // The colons of an IPv6 address are within brackets (RFC 3986 §3.2.2).
    let (host, port) = match authority.rfind(']') {
        Some(end) => authority.split_at(end + 1),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        // An empty port is the default one (RFC 3986 §3.2.3).
        None if port.is_empty() => None,
        Some("") => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => match digits.parse() {
            Ok(0) | Err(_) => return Err(TargetError::Malformed),
            Ok(port) => Some(port),
        },
        _ => return Err(TargetError::Malformed),
    };
    let host_is_good = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains(['[', ']']),
    };
    if !host_is_good {
        return Err(TargetError::Malformed);
    }
    Ok(Origin {
        as_written: &url[..scheme.len() + 3 + authority.len()],
        secure,
        host,
        port: port.unwrap_or(if secure { 443 } else { 80 }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_resolve_against_the_origin() {
        let base = Some("https://app.example.com:8443/prefix/call?x=1");
        for (target, base, expected) in [
            ("/action", base, Ok("https://app.example.com:8443/action")),
            ("refer", base, Ok("https://app.example.com:8443/refer")),
            ("a/b?c=d", base, Ok("https://app.example.com:8443/a/b?c=d")),
            (
                "/a?u=https://x/",
                base,
                Ok("https://app.example.com:8443/a?u=https://x/"),
            ),
            // Nothing relative leaves the origin.
            (
                "//evil.example/x",
                base,
                Ok("https://app.example.com:8443//evil.example/x"),
            ),
            ("http://other.example", base, Ok("http://other.example")),
            ("HTTP://[2001:db8::1]:81/x", None, Ok("HTTP://[2001:db8::1]:81/x")),
            (
                "https://other.example/x#rc=3&rp=all",
                None,
                Ok("https://other.example/x"),
            ),
            ("refer", None, Err(TargetError::NoBase)),
            ("/action", None, Err(TargetError::NoBase)),
            ("", base, Err(TargetError::Malformed)),
            ("#rc=1", base, Err(TargetError::Malformed)),
            ("two words", base, Err(TargetError::Malformed)),
            ("/a\r\nX: y", base, Err(TargetError::Malformed)),
            ("/ä", base, Err(TargetError::Malformed)),
            ("ws://app.example.com/x", base, Err(TargetError::NotHttp)),
            ("file:///etc/passwd", base, Err(TargetError::NotHttp)),
            ("javascript:x", base, Err(TargetError::NotHttp)),
            ("https://user:pass@host/", base, Err(TargetError::Credentials)),
            ("https://", base, Err(TargetError::Malformed)),
            ("https://:80/", base, Err(TargetError::Malformed)),
            ("https://host:0/", base, Err(TargetError::Malformed)),
            ("https://host:65536/", base, Err(TargetError::Malformed)),
            ("https://host:+80/", base, Err(TargetError::Malformed)),
            ("https://[::1/", base, Err(TargetError::Malformed)),
            ("https://[::1]x/", base, Err(TargetError::Malformed)),
            ("https://a\\b/", base, Err(TargetError::Malformed)),
            ("refer", Some("ftp://host"), Err(TargetError::NotHttp)),
        ] {
            assert_eq!(resolve_target(target, base).as_deref(), expected.as_deref(), "{target}");
        }
    }

    #[test]
    fn credentials_stay_within_one_origin() {
        let of = "https://app.example.com/call";
        for (url, expected) in [
            ("https://APP.example.com:443/x", true),
            ("http://app.example.com/call", false),
            ("https://app.example.com:8443/call", false),
            ("https://app.example.com.evil.example/", false),
            ("/call", false),
        ] {
            assert_eq!(is_same_origin(url, of), expected, "{url}");
        }
    }

    #[test]
    fn one_endpoint_has_one_key() {
        for (url, key) in [
            ("http://Host/a", "http://host:80"),
            ("HTTPS://host:443?x", "https://host:443"),
            ("https://host:/", "https://host:443"),
            ("http://[::1]:8080/x", "http://[::1]:8080"),
        ] {
            assert_eq!(origin(url).map(|origin| origin.key()), Ok(key.to_owned()), "{url}");
        }
    }
}
