//! What the control API asks of a shard, and what it gets back. Plain values: they cross threads.

use crate::identifiers::{CallId, TransferId};
use crate::verb::{HookTarget, Verb};
use serde::Serialize;

/// A live call as a client names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallSelector {
    Id(CallId),
    /// Its SIP Call-ID; ambiguous if the call passes referee more than once.
    SipCallId(Vec<u8>),
}

/// Whose ladder is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LadderOf {
    /// Of a call, and all that have its SIP Call-ID: a call that passes referee twice is drawn as one.
    Call(CallSelector),
    /// Of the call of a transfer.
    Transfer(TransferId),
}

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// An answered call is ended.
    Completed,
    /// A call that is not answered is given up.
    NoAnswer,
    /// The hook is asked, and the verbs of its reply run on the call.
    Hook(HookTarget),
}

#[derive(Clone, Debug)]
pub enum Command {
    /// Executes verbs on a call. `dry_run`: only shows the REFER that would be sent.
    Verbs {
        call: CallSelector,
        verbs: Vec<Verb>,
        dry_run: bool,
    },
    Call {
        call: CallSelector,
    },
    /// BYE on both legs; before answer CANCEL downstream and 487 upstream.
    Hangup {
        call: CallSelector,
    },
    /// Changes a call as applications of jambonz do.
    Update {
        call: CallSelector,
        update: Update,
    },
    /// Live calls of this shard in the order of opening, from `after` (exclusive) on, at most `limit`.
    Calls {
        after: Option<u64>,
        limit: usize,
    },
    Transfer {
        id: TransferId,
    },
    /// Transfers of this shard, newest first.
    Transfers {
        limit: usize,
    },
    /// All trunks and how their addresses stand; every shard knows the same, as far as news travel.
    Trunks,
    /// What passed in a live or recent call.
    Ladder {
        of: LadderOf,
    },
    /// Somebody listens to events of calls for the next [`LISTENED_FOR`](crate::event::LISTENED_FOR).
    Listen,
}

#[derive(Clone, Debug)]
pub enum Reply {
    /// The verbs were taken; the id of the transfer if one of them is `sip:refer`.
    Accepted {
        transfer: Option<TransferId>,
        call: CallId,
    },
    /// What a dry run would send.
    WouldSend {
        message: String,
    },
    Refused(Refusal),
    Call(Box<CallView>),
    /// `next`: where the next page starts, `None` at the end.
    Calls {
        calls: Vec<CallView>,
        next: Option<u64>,
    },
    Transfer(Box<TransferView>),
    Transfers(Vec<TransferView>),
    /// In the order of the configuration.
    Trunks(Vec<TrunkView>),
    Ladder(Box<LadderView>),
    Done,
}

/// Why a command was not carried out, as problem+json has it (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status: 404, 409, 422, 503.
    pub status: u16,
    /// For programs: `not_found`, `busy`, `not_answered`, `ambiguous`, `invalid`, `destination_not_allowed` …
    pub code: &'static str,
    /// The verb's field, when it is about one.
    pub field: Option<String>,
    /// For people: one sentence.
    pub detail: String,
}

/// A live call as the control API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct CallView {
    pub id: String,
    /// The SIP Call-ID.
    pub call_id: String,
    /// `trying`, `ringing`, `in-progress`, `ending`, `completed`.
    pub state: &'static str,
    pub from: String,
    pub to: String,
    pub from_trunk: String,
    /// Absent where an application leads the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_trunk: Option<String>,
    /// The application that leads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub created_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<u64>,
    /// The transfer under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer: Option<String>,
    pub customer_data: serde_json::Map<String, serde_json::Value>,
}

/// A transfer as the control API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct TransferView {
    pub id: String,
    pub call: String,
    pub call_id: String,
    /// `sending`, `accepted`, `progress`, `done`.
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verb_id: Option<String>,
    pub refer_to: String,
    pub referred_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refer_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_referred_call_status: Option<u16>,
    /// `success`, `failed`, `unknown`, `canceled`; absent while under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refer_result: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refer_cause: Option<&'static str>,
    /// The status of every NOTIFY that had one, in order.
    pub events: Vec<u16>,
    /// A final status that came after the verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_status: Option<u16>,
    /// Milliseconds since the Unix epoch.
    pub created_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<u64>,
}

/// A trunk as the control API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct TrunkView {
    pub name: String,
    /// `carrier` or `platform`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<&'static str>,
    /// Calls from and to it now, over all shards.
    pub calls: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_per_second_max: Option<u32>,
    /// Whether its peers take REFERs, as the last of referee's own shows: `unknown`, `supported`, `unsupported` (405, 501).
    pub refer: &'static str,
    pub addresses: Vec<AddressView>,
}

/// An address of a trunk as the control API shows it. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Serialize)]
pub struct AddressView {
    /// As the configuration has it.
    pub address: String,
    /// `unknown`, `alive`, `dead`; always `unknown` without `[trunk.health]`.
    pub state: &'static str,
    /// When it came into this state.
    pub since: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probed_at: Option<u64>,
    /// The status that the last OPTIONS got, or `timeout` or `unreachable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_result: Option<String>,
    /// From the last OPTIONS to its final response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
    /// It asked for no requests until then (503 with Retry-After).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_until: Option<u64>,
}

/// A ladder as the control API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct LadderView {
    /// The SIP Call-ID.
    pub call_id: String,
    /// The columns, from left to right: names of trunks, `referee`, `application`.
    pub parties: Vec<String>,
    /// When it begins, in milliseconds since the Unix epoch.
    pub started_at: u64,
    /// Oldest first.
    pub messages: Vec<MessageView>,
    /// Messages that are left out because there were too many: before the one with this index in `messages`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOutView>,
}

/// A part of a ladder that is not kept.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LeftOutView {
    pub before: usize,
    pub count: u64,
}

/// A message as a ladder shows it.
#[derive(Clone, Debug, Serialize)]
pub struct MessageView {
    /// Milliseconds since the ladder began.
    pub at: f64,
    /// Index into `parties`.
    pub from: usize,
    pub to: usize,
    /// `request`, `response`, or `http`.
    pub kind: &'static str,
    /// The method of a request or of what a response answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cseq: Option<u32>,
    /// Of a response, or within a NOTIFY of a transfer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The same bytes went the same way before.
    pub repeat: bool,
    /// In one line.
    pub label: String,
}
