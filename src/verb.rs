//! Verbs as JSON: their types and their validation, each error with the field it is about. Nothing is executed here.

use serde_json::{Map, Value};
use std::time::Duration;

/// One instruction of an application or of the control API.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    SipRefer(Box<SipRefer>),
    /// Ends the call; the headers go on the BYE.
    Hangup {
        id: Option<String>,
        headers: Vec<(String, String)>,
    },
    /// Correlation data that hooks return as `customerData`.
    Tag {
        id: Option<String>,
        data: Map<String, Value>,
    },
    Pause {
        id: Option<String>,
        length: Duration,
    },
}

/// `sip:refer`: transfers the call.
#[derive(Clone, Debug, PartialEq)]
pub struct SipRefer {
    pub refer_to: String,
    pub id: Option<String>,
    pub referred_by: Option<String>,
    pub referred_by_display_name: Option<String>,
    /// `None`: the default word `refer`.
    pub action_hook: Option<HookTarget>,
    pub event_hook: Option<HookTarget>,
    /// On the REFER, in the order given.
    pub headers: Vec<(String, String)>,
    pub leg: Option<Leg>,
    pub timeout: Option<Duration>,
}

/// Where a hook goes, as the verb has it: an absolute URL, a path, or a bare word; with its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookTarget {
    pub url: String,
    pub basic_auth: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    Caller,
    Callee,
}

/// What is wrong with a verb and where: `field` is a path such as `headers.X-A` or `[1].referTo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerbError {
    pub field: String,
    pub message: String,
}
