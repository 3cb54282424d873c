//! A call led by an application: which verbs its lists may hold, what is waited for, and what an answer of the application means.
//!
//! ```text
//!   call hook ─► list ─► verb ─► verb ─► … ─► end: BYE, or 603 where nobody answered the call
//!                 ▲       │ takes time: a reply, the ACK, a response, a pause, a transfer
//!                 └───────┘ a reply that is a list replaces what is left
//! ```
//!
//! Nothing is sent here and no time passes: the shard carries out what runs next.

use crate::config::MediaVerbs;
use crate::verb::{Leg, Verb, VerbError};

/// What a verb that takes time waits for, besides a pause and a transfer, which the call itself knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The application's answer to the question of this number.
    Reply { question: u32, asked: Asked },
    /// The ACK of our 2xx.
    Ack,
    /// The response to a request of the application's own.
    Response { request: u32 },
    /// The dialog of another call that the list of this number names.
    Dialog { list: u32 },
}

/// Why the application was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The call came in: without a list it is refused.
    CallHook,
    /// A `redirect`.
    Redirect,
    /// What a request of its own came to was told.
    Result,
}

/// The verb that runs, as events name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub name: &'static str,
    pub id: Option<String>,
}

/// Where the list of one call stands.
#[derive(Debug, Default)]
pub struct Program {
    waits_for: Option<Wait>,
    running: Option<Running>,
    /// The application wants to hear of each verb.
    pub notify_events: bool,
    questions: u32,
    requests: u32,
    lists: u32,
}

impl Program {
    pub fn waits_for(&self) -> Option<Wait> {
        self.waits_for
    }

    /// Waits for the ACK of our 2xx before the next verb runs.
    pub fn wait_for_ack(&mut self) {
        self.waits_for = Some(Wait::Ack);
    }

    /// A new question, whose answer is waited for; `None`: this call has asked [`QUESTIONS_MAX`].
    pub fn ask(&mut self, asked: Asked) -> Option<u32> {
        let question = Some(self.questions).filter(|number| *number < QUESTIONS_MAX)?;
        self.questions += 1;
        self.waits_for = Some(Wait::Reply { question, asked });
        Some(question)
    }

    /// A new request of the application's own, whose response is waited for.
    pub fn request(&mut self) -> u32 {
        self.requests += 1;
        let request = self.requests;
        self.waits_for = Some(Wait::Response { request });
        request
    }

    /// A list is to run once the dialogs that it names are known; its number.
    pub fn look_for_dialogs(&mut self) -> u32 {
        self.lists += 1;
        self.waits_for = Some(Wait::Dialog { list: self.lists });
        self.lists
    }

    /// The dialogs of this list are known: whether it is still to run.
    pub fn dialogs_found(&mut self, list: u32) -> bool {
        let is_open = self.waits_for == Some(Wait::Dialog { list });
        if is_open {
            self.waits_for = None;
        }
        is_open
    }

    /// An answer to this question is there: why it was asked, if it is still waited for.
    pub fn replied(&mut self, question: u32) -> Option<Asked> {
        match self.waits_for {
            Some(Wait::Reply { question: open, asked }) if open == question => {
                self.waits_for = None;
                Some(asked)
            }
            _ => None,
        }
    }

    /// This request has its response: whether that is still waited for.
    pub fn responded(&mut self, request: u32) -> bool {
        let is_open = self.waits_for == Some(Wait::Response { request });
        if is_open {
            self.waits_for = None;
        }
        is_open
    }

    /// What was told meanwhile is not waited for: only this is.
    pub fn wait_again(&mut self, wait: Option<Wait>) {
        self.waits_for = wait;
    }

    /// The ACK is there.
    pub fn acked(&mut self) {
        if self.waits_for == Some(Wait::Ack) {
            self.waits_for = None;
        }
    }

    /// Another list replaces the one that runs: no answer to what was asked counts any more. The ACK is waited for all the same.
    pub fn replaced(&mut self) {
        self.waits_for = self.waits_for.filter(|wait| *wait == Wait::Ack);
    }

    /// A verb begins.
    pub fn begin(&mut self, verb: &Verb) {
        self.running = Some(Running {
            name: verb.name(),
            id: verb.id().map(str::to_owned),
        });
    }

    /// The verb that ran has ended.
    pub fn end(&mut self) -> Option<Running> {
        self.running.take()
    }

    pub fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }
}

/// A list that may run.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    pub verbs: Vec<Verb>,
    /// Verbs that were left out since they need media.
    pub skipped: usize,
}

/// Whether a list may run on a call led by an application. One bad verb refuses the whole.
///
/// # Errors
/// The first verb that may not, and why.
pub fn admit(verbs: Vec<Verb>, is_answered: bool, media: MediaVerbs) -> Result<Admitted, VerbError> {
    let single = verbs.len() == 1;
    let mut is_first = true;
    let mut admitted = Vec::with_capacity(verbs.len());
    let count = verbs.len();
    for (place, verb) in verbs.into_iter().enumerate() {
        let wrong = |field: &str, message: String| {
            let field = if single {
                field.to_owned()
            } else {
                format!("[{place}].{field}")
            };
            Err(VerbError { field, message })
        };
        match &verb {
            Verb::Media { name, .. } if media == MediaVerbs::Reject => {
                return wrong(
                    "verb",
                    format!("`{name}` needs media or a second call, and referee has neither"),
                );
            }
            Verb::Media { .. } => continue,
            Verb::SipDecline { .. } if is_answered => {
                return wrong("verb", "`sip:decline` refuses a call, and this one is answered".into());
            }
            Verb::SipDecline { .. } if !is_first => {
                return wrong("verb", "`sip:decline` must come first: it ends the call".into());
            }
            Verb::SipRefer(refer) if refer.leg == Some(Leg::Callee) => {
                return wrong("leg", "must be \"caller\": there is no other party".into());
            }
            _ => {}
        }
        is_first &= matches!(verb, Verb::Tag { .. } | Verb::Config { .. });
        admitted.push(verb);
    }
    Ok(Admitted {
        skipped: count - admitted.len(),
        verbs: admitted,
    })
}

/// Whether a list may run on a relayed call, whose session is the parties' own.
///
/// # Errors
/// The first verb that may not.
pub fn admit_relayed(verbs: &[Verb]) -> Result<(), VerbError> {
    let unfit = verbs.iter().position(|verb| !FOR_RELAYED.contains(&verb.name()));
    let Some(place) = unfit else { return Ok(()) };
    let field = if verbs.len() == 1 {
        "verb".to_owned()
    } else {
        format!("[{place}].verb")
    };
    let name = verbs[place].name();
    let message = format!(
        "`{name}` is no verb a relayed call takes; it takes {}",
        FOR_RELAYED.join(", ")
    );
    Err(VerbError { field, message })
}

/// What a list of this text would do to a call: the reply to a hook, read and admitted.
///
/// # Errors
/// All that is wrong with it as verbs, or the first verb that may not run.
pub fn read(reply: &serde_json::Value, is_answered: bool, media: MediaVerbs) -> Result<Admitted, VerbError> {
    let verbs = crate::verb::parse(reply).map_err(|errors| errors.into_iter().next().unwrap_or_else(no_error))?;
    admit(verbs, is_answered, media)
}

fn no_error() -> VerbError {
    debug_assert!(false, "a refusal without an error");
    VerbError {
        field: String::new(),
        message: "is refused".into(),
    }
}

const FOR_RELAYED: [&str; 4] = ["sip:refer", "hangup", "tag", "pause"];

/// Questions of one call. A list that asks again and again, once in nine seconds, reaches it after a day.
pub const QUESTIONS_MAX: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn admitted(list: Value, is_answered: bool, media: MediaVerbs) -> Result<(Vec<&'static str>, usize), String> {
        match read(&list, is_answered, media) {
            Ok(admitted) => Ok((admitted.verbs.iter().map(Verb::name).collect(), admitted.skipped)),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn one_verb_that_may_not_run_refuses_its_list() {
        use MediaVerbs::{Reject, Skip};
        let refer = json!({"verb": "sip:refer", "referTo": "+49"});
        let decline = json!({"sip:decline": {"status": 486}});
        for (list, is_answered, media, expected) in [
            (
                json!([{"verb": "answer"}, refer]),
                false,
                Reject,
                Ok((vec!["answer", "sip:refer"], 0)),
            ),
            (
                json!([{"verb": "say", "text": "x"}, refer]),
                false,
                Reject,
                Err("[0].verb: `say` needs media or a second call, and referee has neither"),
            ),
            (
                json!([{"verb": "say", "text": "x"}, refer]),
                true,
                Skip,
                Ok((vec!["sip:refer"], 1)),
            ),
            (json!([{"verb": "play"}]), true, Skip, Ok((vec![], 1))),
            (decline.clone(), false, Reject, Ok((vec!["sip:decline"], 0))),
            (
                json!([{"tag": {"data": {}}}, {"config": {"notifyEvents": true}}, decline]),
                false,
                Reject,
                Ok((vec!["tag", "config", "sip:decline"], 0)),
            ),
            (
                decline.clone(),
                true,
                Reject,
                Err("verb: `sip:decline` refuses a call, and this one is answered"),
            ),
            (
                json!([{"verb": "answer"}, decline]),
                false,
                Reject,
                Err("[1].verb: `sip:decline` must come first: it ends the call"),
            ),
            (
                json!([{"verb": "sip:refer", "referTo": "+49", "leg": "callee"}]),
                false,
                Reject,
                Err("leg: must be \"caller\": there is no other party"),
            ),
            (
                json!([{"verb": "answer"}, {"verb": "answr"}]),
                false,
                Reject,
                Err("[1].verb: `answr` is no verb"),
            ),
        ] {
            let found = admitted(list.clone(), is_answered, media);
            match expected {
                Ok(expected) => assert_eq!(found, Ok(expected), "{list}"),
                Err(expected) => assert!(found.clone().unwrap_err().starts_with(expected), "{list}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_relayed_call_takes_four_verbs() {
        let verbs = |list: Value| crate::verb::parse(&list).unwrap();
        let all = json!([{"verb": "tag", "data": {}}, {"verb": "pause", "length": 1}, {"verb": "hangup"}]);
        assert_eq!(admit_relayed(&verbs(all)), Ok(()));
        let error = admit_relayed(&verbs(json!([{"verb": "hangup"}, {"verb": "answer"}]))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "[1].verb: `answer` is no verb a relayed call takes; it takes sip:refer, hangup, tag, pause"
        );
        assert_eq!(admit_relayed(&verbs(json!({"verb": "say"}))).unwrap_err().field, "verb");
    }

    #[test]
    fn only_the_answer_that_is_waited_for_counts() {
        let mut program = Program::default();
        assert_eq!(program.ask(Asked::CallHook), Some(0));
        program.replaced();
        assert_eq!((program.replied(0), program.waits_for()), (None, None));
        assert_eq!(program.ask(Asked::Redirect), Some(1));
        assert_eq!(program.replied(0), None);
        assert_eq!(program.replied(1), Some(Asked::Redirect));
        assert_eq!(program.replied(1), None);
        let request = program.request();
        assert!(!program.responded(request + 1) && program.responded(request) && !program.responded(request));
        program.wait_for_ack();
        program.replaced();
        assert_eq!(program.waits_for(), Some(Wait::Ack));
        program.acked();
        assert_eq!(program.waits_for(), None);
        program.questions = QUESTIONS_MAX;
        assert_eq!(program.ask(Asked::Redirect), None);
    }
}
