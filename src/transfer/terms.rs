//! What goes into one execution and what comes out of it: responses, NOTIFYs and timers; steps, a verdict and its cause.

use crate::message::refer::SubscriptionState;
use smallvec::SmallVec;
use std::time::Duration;

/// A SIP status with its reason phrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: u16,
    pub reason: String,
    /// We chose it: no response exists.
    pub is_local: bool,
}

impl Status {
    pub(super) fn new(code: u16, reason: &[u8]) -> Status {
        Status {
            code,
            reason: String::from_utf8_lossy(reason).into_owned(),
            is_local: false,
        }
    }

    pub(super) fn local(code: u16, reason: &str) -> Status {
        Status {
            code,
            reason: reason.into(),
            is_local: true,
        }
    }
}

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub result: Outcome,
    pub cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failed,
    Unknown,
    Canceled,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Failed => "failed",
            Outcome::Unknown => "unknown",
            Outcome::Canceled => "canceled",
        }
    }
}

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why an execution ended as it did.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Cause { $($(#[$doc])* $name,)* }
        impl Cause {
            pub fn as_str(self) -> &'static str {
                match self { $(Cause::$name => $text,)* }
            }
        }
    };
}

causes! {
    /// A NOTIFY with a final status.
    NotifyFinal = "notify_final",
    /// The 2xx said `Refer-Sub: false` (RFC 4488): no NOTIFY will come.
    AcceptedNoSubscription = "accepted_no_subscription",
    /// The REFER got 4xx to 6xx.
    Rejected = "rejected",
    /// The REFER got 3xx; it is not followed.
    Redirected = "redirected",
    /// The REFER was challenged and there are no credentials, or they are not wanted.
    Unauthorized = "unauthorized",
    /// The REFER got 429 (RFC 3892).
    ReferrerIdentity = "referrer_identity",
    /// The REFER got 481.
    NoDialog = "no_dialog",
    /// The REFER got no response, or 408.
    Timeout = "timeout",
    /// The REFER could not be sent.
    Transport = "transport",
    /// A 2xx, then no NOTIFY in T_first.
    NoNotify = "no_notify",
    /// Provisional NOTIFYs, then nothing until T_total.
    RingTimeout = "ring_timeout",
    /// The subscription was terminated without a final status.
    SubscriptionTerminated = "subscription_terminated",
    /// The subscription ran out without a final status.
    SubscriptionExpired = "subscription_expired",
    /// BYE after a 2xx without any NOTIFY: how many carriers say that it worked.
    ByeAfterAccept = "bye_after_accept",
    /// BYE after provisional NOTIFYs: the caller may simply have hung up.
    ByeWhileRinging = "bye_while_ringing",
    /// The call ended first.
    CallEnded = "call_ended",
    /// Ended by the control API.
    Hangup = "hangup",
    /// The CSeq numbers of the dialog are used up, or the REFER cannot be built.
    Unsendable = "unsendable",
    /// The verb asks for what is not allowed: nothing was sent.
    InvalidTarget = "invalid_target",
    /// Another transfer of the call is under way: nothing was sent.
    Busy = "busy",
    /// The call has no answer, and gets none: nothing was sent.
    NotAnswered = "not_answered",
    /// The call had no answer: its caller was sent to the target with a 302.
    CallerRedirected = "caller_redirected",
    /// Another list of verbs took the place of its own.
    Replaced = "replaced",
}

/// A transfer's own timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransferTimer {
    /// T_tx: from a REFER to its final response.
    Response,
    /// T_first: from the 2xx to the first NOTIFY.
    FirstNotify,
    /// T_total: from the REFER to the end.
    Total,
    /// T_bye_grace: a racing NOTIFY may still come.
    Grace,
    /// T_linger: from the final 2xx to our BYE.
    Linger,
    /// The wait before the REFER is sent again.
    Backoff,
    /// The subscription's own `expires`.
    Subscription,
}

impl TransferTimer {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            TransferTimer::Response => "T_tx",
            TransferTimer::FirstNotify => "T_first",
            TransferTimer::Total => "T_total",
            TransferTimer::Grace => "T_bye_grace",
            TransferTimer::Linger => "T_linger",
            TransferTimer::Backoff => "backoff over",
            TransferTimer::Subscription => "subscription expires",
        }
    }
}

/// What the shard carries out for a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Arm(TransferTimer, Duration),
    /// Send the REFER again with a fresh CSeq.
    Resend,
    /// Post an event. `late`: after the verdict.
    Event {
        status: Status,
        cseq: u32,
        subscription_state: Option<String>,
        late: bool,
    },
    /// Post the action.
    Action,
    /// BYE both legs.
    EndCall,
    /// The dialog is doubtful: the other usage goes on, but a further 481 ends it.
    Suspect,
}

/// Steps of one input.
pub type Steps = SmallVec<[Step; 4]>;

/// A response to our REFER.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub code: u16,
    pub reason: &'a [u8],
    /// It says `Refer-Sub: false`.
    pub refer_sub_false: bool,
    pub retry_after: Option<u32>,
    /// The URI of the first Contact of a 3xx.
    pub contact: Option<&'a [u8]>,
    /// A request of the party we speak for went out with a higher CSeq meanwhile.
    pub overtaken: bool,
    /// The wait that RFC 3261 §14.1 asks for after a 491, chosen by the caller.
    pub glare_wait: Duration,
}

impl Answer<'_> {
    /// As the rows of the state machine name it.
    pub(super) fn kind(&self) -> &'static str {
        match self.code {
            ..=199 => "1xx",
            200..=299 if self.refer_sub_false => "2xx with Refer-Sub: false",
            200..=299 => "2xx",
            300..=399 => "3xx",
            401 | 407 => "401, 407",
            408 => "408",
            429 => "429",
            481 => "481",
            491 => "491",
            500 | 503 if self.retry_after.is_some() => "500, 503 with Retry-After",
            500 if self.overtaken => "500, overtaken",
            _ => "other 4xx-6xx",
        }
    }
}

/// A NOTIFY of our subscription.
#[derive(Clone, Debug)]
pub struct Notification<'a> {
    pub cseq: u32,
    pub status: Option<(u16, &'a [u8])>,
    pub subscription: Option<SubscriptionState<'a>>,
}

impl Notification<'_> {
    /// As the rows of the state machine name it.
    pub(super) fn kind(&self, is_old: bool) -> &'static str {
        match (&self.status, &self.subscription) {
            (Some((200.., _)), _) if is_old => "NOTIFY final, overtaken",
            (Some((200.., _)), _) => "NOTIFY final",
            _ if is_old => "NOTIFY not final, overtaken",
            (_, Some(state)) if state.terminated => "NOTIFY terminated, not final",
            (Some(_), _) => "NOTIFY 1xx",
            (None, _) => "NOTIFY without a status",
        }
    }
}
