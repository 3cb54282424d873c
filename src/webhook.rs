//! Hooks: what is posted, in which order, how often, and when it is given up. No sockets and no clock here.

use crate::identifiers::TransferId;

/// One POST to an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    pub transfer: TransferId,
    pub kind: HookKind,
    /// Absolute, http or https.
    pub url: String,
    pub basic_auth: Option<(String, String)>,
    /// The same for every attempt and after a restart: derived from the transfer, the kind and the NOTIFY's CSeq.
    pub webhook_id: String,
    /// A JSON object. For an action, the number of events given up is added as `missed` when it leaves.
    pub body: String,
    /// Standard Webhooks secret and `Jambonz-Signature` secret, resolved for the trunk.
    pub secret: Option<String>,
    pub jambonz_secret: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookKind {
    /// One NOTIFY with a readable status.
    Event,
    /// The end of one execution: one per execution, and last but for late events.
    Action,
}

/// What the first attempt of an action came to; later attempts only inform.
#[derive(Clone, Debug, PartialEq)]
pub enum ActionOutcome {
    /// 2xx. The body if it was a JSON array, as received.
    Delivered {
        reply: Option<serde_json::Value>,
    },
    Failed,
}
