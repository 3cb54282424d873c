//! What hooks and the control API are told of a transfer: JSON bodies and the view.

use super::{Status, Transfer};
use crate::command::TransferView;
use crate::config::HookBodies;
use serde_json::{Map, Value, json};

/// What every hook says of the call.
#[derive(Clone, Debug)]
pub struct CallFacts {
    /// The call's id.
    pub call: String,
    /// The SIP Call-ID.
    pub call_id: String,
    /// `inbound`: the carrier called; `outbound`: the platform did.
    pub direction: &'static str,
    pub from: String,
    pub to: String,
    /// `trying`, `ringing`, `in-progress` or `completed`.
    pub status: &'static str,
    /// What the INVITE was answered with so far.
    pub sip_status: (u16, &'static str),
    /// The application that leads it.
    pub application: Option<String>,
    pub originating_ip: String,
    pub originating_trunk: String,
    pub customer_data: Map<String, Value>,
    /// Statuses of the follow-on call as JSON strings instead of numbers.
    pub status_as_string: bool,
}

impl CallFacts {
    /// The fields that every hook about a call has.
    pub fn base(&self) -> Map<String, Value> {
        let (sip_status, sip_reason) = self.sip_status;
        let body = json!({
            "call_sid": self.call,
            "direction": self.direction,
            "from": self.from,
            "to": self.to,
            "call_id": self.call_id,
            "sip_status": sip_status,
            "sip_reason": sip_reason,
            "call_status": self.status,
            "originating_sip_ip": self.originating_ip,
            "originating_sip_trunk_name": self.originating_trunk,
        });
        let Value::Object(mut body) = body else {
            return Map::new();
        };
        self.add_application(&mut body);
        body
    }

    fn add_application(&self, body: &mut Map<String, Value>) {
        if let Some(application) = &self.application {
            body.insert("application_sid".into(), application.clone().into());
        }
    }

    fn status_value(&self, code: u16) -> Value {
        if self.status_as_string {
            Value::String(code.to_string())
        } else {
            Value::from(code)
        }
    }
}

impl Transfer {
    /// The body of an eventHook.
    pub fn event_body(&self, status: &Status, subscription_state: Option<&str>, late: bool) -> String {
        let call = &*self.facts;
        if self.rules.hook_bodies == HookBodies::Jambonz {
            let mut body = json!({ "event": "transfer-status", "call_status": call.status_value(status.code) });
            if late {
                body["late"] = true.into();
            }
            return body.to_string();
        }
        let mut body = json!({
            "event": "transfer-status",
            "call_status": call.status_value(status.code),
            "call_sid": call.call,
            "direction": call.direction,
            "from": call.from,
            "to": call.to,
            "call_id": call.call_id,
            "trace_id": self.id.to_string(),
            "verb": "sip:refer",
            "call_state": call.status,
            "notify_reason": status.reason,
            "notify_seq": self.notify_count,
            "customerData": call.customer_data,
        });
        if let Value::Object(body) = &mut body {
            self.add_verb_id(body);
            call.add_application(body);
            if let Some(state) = subscription_state {
                body.insert("subscription_state".into(), state.into());
            }
            if late {
                body.insert("late".into(), true.into());
            }
        }
        body.to_string()
    }

    /// The body of the actionHook. The verdict is there.
    pub fn action_body(&self) -> String {
        let call = &*self.facts;
        let mut body = call.base();
        body.insert("trace_id".into(), self.id.to_string().into());
        if let Some(status) = &self.refer_status {
            body.insert("refer_status".into(), status.code.into());
        }
        if let Some(status) = &self.final_status {
            body.insert("final_referred_call_status".into(), call.status_value(status.code));
        }
        match self.rules.hook_bodies {
            HookBodies::All => self.add_all(&mut body),
            HookBodies::Jambonz => {
                if let Some(id) = &self.verb.id {
                    body.insert("verb_id".into(), id.clone().into());
                }
                if !call.customer_data.is_empty() {
                    body.insert("customerData".into(), call.customer_data.clone().into());
                }
            }
        }
        Value::Object(body).to_string()
    }

    /// What only our own hooks tell.
    fn add_all(&self, body: &mut Map<String, Value>) {
        let call = &*self.facts;
        let known = json!({
            "customerData": call.customer_data,
            "verb": "sip:refer",
            "refer_to": self.refer_to,
            "referred_by": self.referred_by,
            "refer_attempts": self.attempts,
            "notify_count": self.notify_count,
            "refer_duration_ms": self.ended.unwrap_or(self.started).since(self.started).as_millis() as u64,
        });
        if let Value::Object(known) = known {
            body.extend(known);
        }
        self.add_verb_id(body);
        if let Some(status) = &self.refer_status {
            body.insert("referStatus".into(), status.code.to_string().into());
            body.insert("refer_reason".into(), status.reason.clone().into());
            if status.is_local {
                body.insert("refer_status_source".into(), "local".into());
            }
            if matches!(status.code, 405 | 501) && !status.is_local {
                body.insert("refer_supported".into(), false.into());
            }
        }
        if let Some(status) = &self.final_status {
            body.insert("final_referred_call_reason".into(), status.reason.clone().into());
        }
        if let Some(status) = &self.last_event {
            body.insert("event".into(), "transfer-status".into());
            body.insert(
                "eventHook".into(),
                json!({ "event": "transfer-status", "call_status": status.code.to_string() }),
            );
        }
        if let Some(verdict) = self.verdict {
            body.insert("refer_result".into(), verdict.result.as_str().into());
            body.insert("refer_cause".into(), verdict.cause.as_str().into());
        }
        if let Some(reason) = self.subscription_reason.as_ref().filter(|reason| !reason.is_empty()) {
            body.insert("subscription_reason".into(), reason.clone().into());
        }
        if let Some(contact) = &self.redirected_to {
            body.insert("refer_contact".into(), contact.clone().into());
        }
        if let Some(reason) = &self.bye_reason {
            body.insert("bye_reason".into(), reason.clone().into());
        }
    }

    fn add_verb_id(&self, body: &mut Map<String, Value>) {
        if let Some(id) = &self.verb.id {
            body.insert("verb_id".into(), id.clone().into());
            body.insert("id".into(), id.clone().into());
        }
    }

    /// As the control API shows it; `wall` turns our time into milliseconds since the Unix epoch.
    pub fn view(&self, wall: impl Fn(crate::timer::Instant) -> u64) -> TransferView {
        TransferView {
            id: self.id.to_string(),
            call: self.facts.call.clone(),
            call_id: self.facts.call_id.clone(),
            state: self.state_name(),
            verb_id: self.verb.id.clone(),
            refer_to: self.refer_to.clone(),
            referred_by: self.referred_by.clone(),
            refer_status: self.refer_status.as_ref().map(|status| status.code),
            final_referred_call_status: self.final_status.as_ref().map(|status| status.code),
            refer_result: self.verdict.map(|verdict| verdict.result.as_str()),
            refer_cause: self.verdict.map(|verdict| verdict.cause.as_str()),
            events: self.events.clone(),
            late_status: self.late_status,
            created_at: wall(self.started),
            ended_at: self.ended.map(wall),
        }
    }
}
