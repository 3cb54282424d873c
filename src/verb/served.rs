//! Verbs that only a call led by an application takes: their properties, and the names of those that need more than signalling.

use super::{Fields, SipRequest, Verb};
use crate::config::value::is_token;
use serde_json::Value;

pub(super) fn sip_decline(fields: &Fields<'_>) -> Option<Verb> {
    fields.require("status");
    let status = fields.whole("status", 400..=699);
    let reason = fields.line("reason", REASON_BYTES_MAX);
    let (id, headers) = (fields.id(), fields.headers());
    Some(Verb::SipDecline {
        id,
        status: status?,
        reason,
        headers,
    })
}

pub(super) fn sip_request(fields: &Fields<'_>) -> Option<SipRequest> {
    fields.require("method");
    let method = fields.line("method", METHOD_BYTES_MAX);
    if let Some(method) = &method {
        if !is_token(method) {
            fields.wrong("method", "is no method");
        } else if METHODS_DENIED.iter().any(|denied| method.eq_ignore_ascii_case(denied)) {
            fields.wrong(
                "method",
                "is a method that referee sends itself where the call needs it",
            );
        }
    }
    let body = fields.text("body", BODY_BYTES_MAX).unwrap_or_default();
    let (id, action_hook) = (fields.id(), fields.hook("actionHook"));
    let headers = fields.headers_but(&OF_A_BODY_OR_EVENT);
    Some(SipRequest {
        id,
        method: method?,
        headers,
        body,
        action_hook,
    })
}

impl Fields<'_> {
    /// A string with anything in it.
    fn text(&self, field: &'static str, bytes_max: usize) -> Option<String> {
        match self.ask(field)? {
            Value::String(text) if text.len() > bytes_max => {
                self.wrong(field, format!("is longer than {bytes_max} bytes"));
                None
            }
            Value::String(text) => Some(text.clone()),
            other => {
                self.wrong_type(field, other, "a string");
                None
            }
        }
    }

    fn whole(&self, field: &'static str, range: std::ops::RangeInclusive<u16>) -> Option<u16> {
        let value = self.ask(field)?;
        if !value.is_number() {
            self.wrong_type(field, value, "a number");
            return None;
        }
        let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            self.wrong(field, format!("is {value}, must be {least} to {most}"));
        }
        number
    }
}

/// All that are carried out here.
pub(super) const VERBS: [&str; 9] = [
    "sip:refer",
    "hangup",
    "tag",
    "pause",
    "answer",
    "sip:decline",
    "redirect",
    "config",
    "sip:request",
];

/// Verbs that voice platforms have besides: they need media or a second call.
pub(super) const MEDIA_VERBS: [&str; 24] = [
    "say",
    "play",
    "gather",
    "dial",
    "conference",
    "enqueue",
    "dequeue",
    "leave",
    "listen",
    "stream",
    "transcribe",
    "record",
    "dtmf",
    "dub",
    "alert",
    "message",
    "lex",
    "dialogflow",
    "rasa",
    "llm",
    "pipeline",
    "agent",
    "voicebot",
    "transfer",
];

/// Settings of `config` that are about media, or that nothing here asks for: taken and passed over.
pub(super) const CONFIG_IGNORED: [&str; 21] = [
    "synthesizer",
    "recognizer",
    "bargeIn",
    "ttsStream",
    "record",
    "listen",
    "stream",
    "transcribe",
    "amd",
    "fillerNoise",
    "notifySttLatency",
    "reset",
    "onHoldMusic",
    "actionHookDelayAction",
    "referHook",
    "boostAudioSignal",
    "vad",
    "earlyMedia",
    "autoStreamTts",
    "disableTtsCache",
    "trackTtsPlayout",
];

/// They make, move, refresh or end a dialog or a subscription, whose state is not the application's.
const METHODS_DENIED: [&str; 10] = [
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "PRACK",
    "UPDATE",
    "REFER",
    "SUBSCRIBE",
    "REGISTER",
    "PUBLISH",
];

/// What a request of an application's own may say of its body and its event.
const OF_A_BODY_OR_EVENT: [&str; 7] = [
    "Content-Type",
    "c",
    "Content-Encoding",
    "e",
    "Event",
    "o",
    "Subscription-State",
];

const REASON_BYTES_MAX: usize = 128;
const METHOD_BYTES_MAX: usize = 64;
/// With headers as long as they may be, within one datagram.
const BODY_BYTES_MAX: usize = 16 * 1_024;
