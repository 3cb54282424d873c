//! The application behind the hooks: HTTP endpoints that answer as they are told, late if they are told to.

use crate::timer::Instant;
use crate::webhook::{ActionOutcome, Hook, HookKind};
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;

/// A hook as the application got it.
#[derive(Clone, Debug)]
pub struct Posted {
    pub at: Instant,
    pub kind: HookKind,
    pub transfer: String,
    pub url: String,
    pub webhook_id: String,
    /// The body as sent, and read.
    pub text: String,
    pub body: Value,
}

/// How a POST is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub after: Duration,
    pub status: u16,
    /// A JSON array of verbs.
    pub reply: Option<Value>,
}

impl Default for Answer {
    fn default() -> Answer {
        Answer {
            after: Duration::from_millis(1),
            status: 200,
            reply: None,
        }
    }
}

/// All endpoints together.
#[derive(Debug, Default)]
pub struct Application {
    /// For the next actions in order; then [`Answer::default`].
    answers: VecDeque<Answer>,
    posted: Vec<Posted>,
}

impl Application {
    /// Answers the next action so; several calls are for the first, second, …
    pub fn answer_action(&mut self, answer: Answer) {
        self.answers.push_back(answer);
    }

    /// What was posted, in order.
    pub fn posted(&self) -> &[Posted] {
        &self.posted
    }

    /// Takes a hook. For an action: when its outcome is known, counted from now, and what it is.
    pub fn take(&mut self, hook: &Hook, now: Instant) -> Option<(Duration, ActionOutcome)> {
        self.posted.push(Posted {
            at: now,
            kind: hook.kind,
            transfer: hook.transfer.to_string(),
            url: hook.url.clone(),
            webhook_id: hook.webhook_id.clone(),
            text: hook.body.clone(),
            body: serde_json::from_str(&hook.body).unwrap_or(Value::Null),
        });
        if hook.kind == HookKind::Event {
            return None;
        }
        let answer = self.answers.pop_front().unwrap_or_default();
        let outcome = match answer.status {
            200..=299 => ActionOutcome::Delivered { reply: answer.reply },
            _ => ActionOutcome::Failed,
        };
        Some((answer.after, outcome))
    }
}
