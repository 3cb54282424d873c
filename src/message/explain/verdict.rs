//! What a proxy does with a message (RFC 3261 §16): forward it and with what changes, keep it, answer it or drop it.

use super::super::check::{RELAYED_BYTES_MAX, RELAYED_LINES_MAX, check};
use super::super::header::{Header, Method};
use super::super::{FieldError, Message, ParseErrorKind};
use super::show::show;
use super::{Fault, Problem, Verdict, field, rule};

/// What a proxy does with it; `error` is what `parse()` said, and `problems` may know more of it.
pub(super) fn verdict(message: Message<'_>, error: Option<ParseErrorKind>, problems: &[Problem]) -> Verdict {
    let error = error.or_else(|| check(message).err());
    let why = |kind: ParseErrorKind| {
        let known = problems.iter().find(|problem| problem.fault == Fault::Message(kind));
        known.map_or_else(
            || rule::text(kind).to_owned(),
            |problem| problem.why.clone().into_owned(),
        )
    };
    let Some(method) = message.method() else {
        return match error {
            Some(kind) if message.status().is_none() => Verdict::Drop(why(kind)),
            Some(kind) => Verdict::Drop(format!("{}, and a response gets no answer", why(kind))),
            None => of_response(message),
        };
    };
    if let Some(kind) = error {
        return if method == Method::Ack {
            Verdict::Drop(format!("{}, and an ACK gets no answer", why(kind)))
        } else if message.count(Header::Via) == 0 {
            Verdict::Drop(format!("{}, and without a Via no answer finds its sender", why(kind)))
        } else if (kind, method) == (ParseErrorKind::CSeqMethod, Method::Other) {
            let why = format!("{}, and nobody here knows it (RFC 4475 §3.1.2.18)", why(kind));
            Verdict::Answer(501, "Not Implemented", why)
        } else {
            Verdict::Answer(kind.status(), kind.reason(), why(kind))
        };
    }
    let refusal = refusal(message);
    match (refusal, method) {
        (Some((_, reason, _)), Method::Ack) => Verdict::Drop(format!("{reason}, and an ACK gets no answer")),
        (Some((code, reason, why)), _) => Verdict::Answer(code, reason, why.to_owned()),
        (None, Method::Cancel) => Verdict::Keep(
            "CANCEL goes hop by hop: 200 here, and a CANCEL of its own to where the INVITE went (RFC 3261 §16.10)",
        ),
        (None, _) => Verdict::Forward(changes_of_request(message, method)),
    }
}

/// The refusals of RFC 3261 §16.3 that a message of good grammar may get.
fn refusal(message: Message<'_>) -> Option<(u16, &'static str, &'static str)> {
    let is_sip = message
        .request_uri()
        .get(..4)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"sip:"));
    if message.total_len() > RELAYED_BYTES_MAX || message.line_count() > RELAYED_LINES_MAX {
        Some((
            513,
            "Message Too Large",
            "it leaves no room for what a hop puts in (RFC 3261 §21.5.7)",
        ))
    } else if message.max_forwards() == Ok(Some(0)) {
        Some((483, "Too Many Hops", "Max-Forwards is 0 (RFC 3261 §16.3)"))
    } else if !is_sip {
        Some((
            416,
            "Unsupported URI Scheme",
            "the Request-URI is no sip: URI, and nothing here resolves another (RFC 3261 §16.3)",
        ))
    } else if message.count(Header::ProxyRequire) > 0 && message.method() != Some(Method::Ack) {
        Some((
            420,
            "Bad Extension",
            "Proxy-Require asks for what this proxy does not do (RFC 3261 §16.3)",
        ))
    } else {
        None
    }
}

fn of_response(message: Message<'_>) -> Verdict {
    let vias = message.value_count(Header::Via);
    if message.status() == Some(100) {
        Verdict::Keep("100 goes one hop only (RFC 3261 §16.7)")
    } else if vias < 2 {
        Verdict::Keep("there is no second Via: it answers a request of the proxy's own (RFC 3261 §16.7)")
    } else {
        let next = match message.vias().nth(1) {
            Some(Ok(via)) => format!("to {}", field::response_target(&via)),
            _ => "to where the request came from".to_owned(),
        };
        Verdict::Forward(vec![format!(
            "Via: its own on top comes off, and the response goes {next} (RFC 3261 §16.7)"
        )])
    }
}

fn changes_of_request(message: Message<'_>, method: Method) -> Vec<String> {
    let mut changes = Vec::new();
    let rport = match message.top_via() {
        Ok(via) if via.rport.is_some() => "; received and rport filled in below it (RFC 3581)",
        _ => "; received below it if sent-by is not the source (RFC 3261 §18.2.1)",
    };
    changes.push(format!("Via: its own on top{rport}"));
    changes.push(match message.max_forwards() {
        Ok(Some(hops)) => format!("Max-Forwards: {hops} becomes {}", hops.saturating_sub(1)),
        Ok(None) | Err(FieldError::Missing(_) | FieldError::Malformed(_)) => {
            "Max-Forwards: 70, which is missing".to_owned()
        }
    });
    if let Some(Ok(route)) = message.name_addrs(Header::Route).next() {
        let next = match message.value_count(Header::Route) {
            0 | 1 => "the Request-URI leads on",
            _ => "the next of them leads on",
        };
        changes.push(format!(
            "Route: {} comes off if it names this proxy, and {next}; else the request goes there",
            show(route.uri)
        ));
    }
    let is_in_dialog = message.to_tag().is_some();
    let opens = matches!(
        method,
        Method::Invite | Method::Subscribe | Method::Refer | Method::Notify | Method::Other
    );
    if opens && !is_in_dialog {
        changes.push("Record-Route: its own on top, to stay on the way (RFC 3261 §16.6)".to_owned());
    }
    changes
}
