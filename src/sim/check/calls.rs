//! What applications are told of the calls they lead: how each ends, once and last, and each question once.

use super::Faults;
use crate::webhook::{Hook, Subject};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Calls {
    /// By id, what was last told of a call.
    statuses: BTreeMap<String, String>,
    questions: BTreeSet<String>,
    /// Verbs that have begun and not ended, by call.
    running: BTreeMap<String, String>,
}

impl Calls {
    pub fn handed(&mut self, hook: &Hook, body: &Value, faults: &mut Faults) {
        let call = body["call_sid"].as_str().unwrap_or_default().to_owned();
        match hook.subject {
            Subject::Question(..) => {
                if !self.questions.insert(hook.webhook_id.clone()) {
                    faults.push(format!("{} is asked twice", hook.webhook_id));
                }
            }
            Subject::Status(_) => self.status(&call, body, faults),
            Subject::Transfer(_) => {}
        }
    }

    fn status(&mut self, call: &str, body: &Value, faults: &mut Faults) {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let last = self.statuses.get(call).cloned().unwrap_or_default();
        if is_end(&last) {
            faults.push(format!("{call} is told {body} after {last}"));
        }
        match (text("event").as_str(), text("verb")) {
            ("starting", verb) => {
                if let Some(running) = self.running.insert(call.to_owned(), verb) {
                    faults.push(format!("{call}: a verb begins while {running} runs"));
                }
            }
            ("finished", verb) => {
                if self.running.remove(call).as_ref() != Some(&verb) {
                    faults.push(format!("{call}: {verb} ends and did not begin"));
                }
            }
            // What the caller has sent changes nothing.
            _ if body.get("sip_method").is_some() => {}
            _ => {
                let status = text("call_status");
                let follows = match status.as_str() {
                    "trying" => last.is_empty(),
                    "ringing" => last == "trying",
                    "in-progress" => matches!(last.as_str(), "trying" | "ringing"),
                    "completed" => last == "in-progress",
                    "failed" | "busy" | "no-answer" => matches!(last.as_str(), "trying" | "ringing"),
                    _ => false,
                };
                if !follows {
                    faults.push(format!("{call} is {status} after `{last}`"));
                }
                self.statuses.insert(call.to_owned(), status);
            }
        }
    }

    /// All is over: whoever heard that a call came has heard that it ended.
    pub fn over(&self, faults: &mut Faults) {
        for (call, status) in self.statuses.iter().filter(|(_, status)| !is_end(status)) {
            faults.push(format!("{call} was last told to be {status}"));
        }
    }
}

fn is_end(status: &str) -> bool {
    matches!(status, "completed" | "failed" | "busy" | "no-answer")
}
