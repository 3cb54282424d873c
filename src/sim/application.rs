//! The application behind the hooks: HTTP endpoints that answer as they are told or as the dice fall, late if need be.

use super::dice::Dice;
use super::tally::{Fault, Tally};
use crate::timer::Instant;
use crate::webhook::{ActionOutcome, Failure, Hook, HookKind, HookSettings, Job, Outcome};
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;

/// A hook as the application got it.
#[derive(Clone, Debug)]
pub struct Posted {
    pub at: Instant,
    pub kind: HookKind,
    /// What it is about, as text.
    pub subject: String,
    pub url: String,
    pub webhook_id: String,
    /// 1 for the first.
    pub attempt: u32,
    /// It has an Authorization.
    pub has_credentials: bool,
    pub settings: HookSettings,
    /// It was answered with 2xx.
    pub is_taken: bool,
    /// The status of its answer, if it has one.
    pub status: Option<u16>,
    /// The body as sent, and read.
    pub text: String,
    pub body: Value,
}

impl Posted {
    pub fn is_action(&self) -> bool {
        self.kind == HookKind::Action
    }
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

/// How endpoints answer that nobody told how.
#[derive(Debug)]
pub struct Mood {
    pub dice: Dice,
    /// Until then; from then on all is answered 200 at once.
    pub until: Instant,
    /// The longest time an answer takes.
    pub slow: Duration,
    /// Out of a thousand POSTs so many fail: an error, no answer, no connection.
    pub failing: u64,
    /// What an action may be answered with.
    pub replies: Vec<Value>,
    /// What a question may be answered with.
    pub lists: Vec<Value>,
}

/// All endpoints together.
#[derive(Debug, Default)]
pub struct Application {
    /// For the next actions in order; then as the mood is, or [`Answer::default`].
    answers: VecDeque<Answer>,
    /// For the next questions in order; then [`Answer::default`], which is no list.
    lists: VecDeque<Answer>,
    posted: Vec<Posted>,
    mood: Option<Mood>,
}

impl Application {
    /// Answers the next action so; several calls are for the first, second, …
    pub fn answer_action(&mut self, answer: Answer) {
        self.answers.push_back(answer);
    }

    /// Answers the next question so: a call hook, a redirect.
    pub fn answer_question(&mut self, answer: Answer) {
        self.lists.push_back(answer);
    }

    /// Answers as the dice of this mood fall.
    pub fn set_mood(&mut self, mood: Mood) {
        self.mood = Some(mood);
    }

    /// What was posted, in order.
    pub fn posted(&self) -> &[Posted] {
        &self.posted
    }

    /// Takes a hook. For an action or a question: when its outcome is known, counted from now, and what it is.
    pub fn take(&mut self, hook: &Hook, now: Instant) -> Option<(Duration, ActionOutcome)> {
        let answer = match hook.kind {
            HookKind::Event => Answer::default(),
            HookKind::Action => self.answers.pop_front().unwrap_or_default(),
            HookKind::Question => self.lists.pop_front().unwrap_or_default(),
        };
        let is_taken = (200..=299).contains(&answer.status);
        self.posted.push(Posted {
            at: now,
            kind: hook.kind,
            subject: hook.subject.to_string(),
            url: hook.url.clone(),
            webhook_id: hook.webhook_id.clone(),
            attempt: 1,
            has_credentials: hook.basic_auth.is_some(),
            settings: hook.settings.clone(),
            is_taken,
            status: Some(answer.status),
            text: hook.body.clone(),
            body: serde_json::from_str(&hook.body).unwrap_or(Value::Null),
        });
        if hook.kind == HookKind::Event {
            return None;
        }
        let outcome = match is_taken {
            true => ActionOutcome::Delivered { reply: answer.reply },
            false => ActionOutcome::Failed,
        };
        Some((answer.after, outcome))
    }

    /// Takes an attempt; what it comes to, and after what time.
    pub(super) fn attempt(&mut self, job: &Job, now: Instant, tally: &mut Tally) -> (Duration, Outcome) {
        let headers = job.headers(1_750_000_000);
        let webhook_id = headers.iter().find(|(name, _)| *name == "webhook-id");
        let webhook_id = webhook_id.map(|(_, id)| id.clone()).unwrap_or_default();
        let (after, outcome) = self.outcome_of(job, now, tally);
        self.posted.push(Posted {
            settings: job.settings().clone(),
            at: now,
            kind: job.kind(),
            subject: job.subject().to_string(),
            url: job.url().to_owned(),
            webhook_id,
            attempt: job.attempt,
            has_credentials: headers.iter().any(|(name, _)| *name == "authorization"),
            is_taken: matches!(outcome, Outcome::Answered { status: 200..=299, .. }),
            status: match outcome {
                Outcome::Answered { status, .. } => Some(status),
                Outcome::Failed(_) => None,
            },
            text: job.body().to_owned(),
            body: serde_json::from_str(job.body()).unwrap_or(Value::Null),
        });
        (after, outcome)
    }

    fn outcome_of(&mut self, job: &Job, now: Instant, tally: &mut Tally) -> (Duration, Outcome) {
        let answered = |status, reply| Outcome::Answered {
            status,
            retry_after: None,
            reply,
        };
        let told = match (job.wants_reply(), job.kind()) {
            (true, HookKind::Question) => self.lists.pop_front(),
            (true, _) => self.answers.pop_front(),
            (false, _) => None,
        };
        let mood = self.mood.as_mut().filter(|mood| now < mood.until && told.is_none());
        let Some(mood) = mood else {
            let answer = told.unwrap_or_default();
            return (answer.after, answered(answer.status, answer.reply));
        };
        let after = mood.dice.between(Duration::from_millis(1), mood.slow);
        if mood.dice.permille(mood.failing) {
            return match mood.dice.below(4) {
                0 => {
                    tally.note(Fault::HangingHook);
                    (job.settings().timeout, Outcome::Failed(Failure::Timeout))
                }
                1 => {
                    tally.note(Fault::RefusedHook);
                    (Duration::from_millis(1), Outcome::Failed(Failure::Connect))
                }
                _ => {
                    tally.note(Fault::FailedHook);
                    let status = mood.dice.one_of(&[500, 503, 429, 404, 302]);
                    (after, answered(status, None))
                }
            };
        }
        if after > Duration::from_millis(500) {
            tally.note(Fault::SlowHook);
        }
        let reply = match job.kind() {
            // What nobody answers is no call.
            HookKind::Question if !mood.dice.one_in(8) => Some(mood.dice.one_of(&mood.lists)),
            HookKind::Action if job.wants_reply() && mood.dice.one_in(3) => Some(mood.dice.one_of(&mood.replies)),
            HookKind::Event | HookKind::Action | HookKind::Question => None,
        };
        (after, answered(200, reply))
    }
}

/// What a hook says, for a ladder: the status of an event, result and cause of an action.
pub(super) fn summary(body: &Value) -> String {
    let of = |name: &str| body.get(name).map(|value| value.to_string().replace('"', ""));
    match (of("refer_result"), of("refer_cause")) {
        (Some(result), Some(cause)) => format!("{result} {cause}"),
        _ if body
            .get("event")
            .is_some_and(|event| event == "starting" || event == "finished") =>
        {
            format!("{} {}", of("event").unwrap_or_default(), of("verb").unwrap_or_default())
        }
        _ if body.get("result").is_some() => {
            let said = of("sip_status").filter(|_| body["result"] == "success");
            format!(
                "{} {}",
                of("verb").unwrap_or_default(),
                said.or(of("err")).unwrap_or_default()
            )
        }
        _ => {
            let late = if body.get("late").is_some() { " late" } else { "" };
            format!("{}{late}", of("call_status").unwrap_or_default())
        }
    }
}
