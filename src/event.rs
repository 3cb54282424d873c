//! What happens, for those who listen: values that leave a shard and cross threads. Nothing is decided by them.

use crate::command::{CallView, TransferView};
use serde::Serialize;
use std::time::Duration;

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    #[serde(flatten)]
    pub what: What,
    /// Milliseconds since the Unix epoch.
    pub at: u64,
}

/// The views are those of the control API, as of that moment.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum What {
    /// A call came into a state; the last is `completed`.
    Call(CallView),
    /// A transfer has gone a step further.
    Transfer(Box<Stepped>),
    /// An address of a trunk has changed its state, as the shard that judges it found.
    Trunk {
        trunk: String,
        address: String,
        /// `unknown`, `alive`, `dead`.
        state: &'static str,
    },
    /// A verb begins or has ended.
    #[serde(rename = "verb:status")]
    Verb(VerbStatus),
}

/// A step of a transfer.
#[derive(Clone, Debug, Serialize)]
pub struct Stepped {
    pub step: Step,
    /// The REFER's status with `accepted`, the target's with `event` and `late`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(flatten)]
    pub transfer: TransferView,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// A REFER left; again if it had to be sent again.
    Sent,
    /// The REFER got a 2xx.
    Accepted,
    /// A NOTIFY with a status.
    Event,
    /// The end.
    Verdict,
    /// A final status after the end.
    Late,
}

/// A verb as the `verb:status` of jambonz has it.
#[derive(Clone, Debug, Serialize)]
pub struct VerbStatus {
    /// The id of the call.
    pub call: String,
    /// Its SIP Call-ID.
    pub call_id: String,
    /// The `id` that the verb was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The name of the verb, `sip:refer` for example.
    pub verb: &'static str,
    /// `starting` or `finished`.
    pub event: &'static str,
}

impl What {
    /// The name by which listeners choose.
    pub fn name(&self) -> &'static str {
        match self {
            What::Call(_) => "call",
            What::Transfer(_) => "transfer",
            What::Trunk { .. } => "trunk",
            What::Verb(_) => "verb:status",
        }
    }

    /// The id of the call and its SIP Call-ID, if it is about one.
    pub fn call(&self) -> Option<(&str, &str)> {
        match self {
            What::Call(call) => Some((&call.id, &call.call_id)),
            What::Transfer(stepped) => Some((&stepped.transfer.call, &stepped.transfer.call_id)),
            What::Verb(verb) => Some((&verb.call, &verb.call_id)),
            What::Trunk { .. } => None,
        }
    }

    /// The id of the transfer, if it is about one.
    pub fn transfer(&self) -> Option<&str> {
        match self {
            What::Transfer(stepped) => Some(&stepped.transfer.id),
            What::Call(_) | What::Trunk { .. } | What::Verb(_) => None,
        }
    }
}

/// All names that [`What::name`] gives.
pub const NAMES: [&str; 4] = ["call", "transfer", "trunk", "verb:status"];

/// How long a shard makes events of calls after [`Command::Listen`](crate::command::Command::Listen): a listener that comes
/// back within that time has missed none.
pub const LISTENED_FOR: Duration = Duration::from_secs(90);
