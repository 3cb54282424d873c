//! One execution of `sip:refer`: from the REFER to the final NOTIFY (RFC 3515, 6665, 7647), ended truthfully on every path.
//!
//! ```text
//!            2xx               NOTIFY 1xx                final 2xx            T_linger, hook answered
//!  Sending ───────► Waiting ─────────────► Progress ─────────────────► Lingering ─────────► Done (call ended)
//!   │  │ 491, 500: Backoff ─► Sending        │   │ final 3xx–6xx
//!   │  │                                     │   └──────────────► Done (call goes on)
//!   │  └─ 3xx–6xx, T_tx ──► Done            └─ BYE ─► ByeGrace ─ final NOTIFY or T_bye_grace ─► Done
//!   └─ NOTIFY before the 2xx: reported at once, its verdict waits for the 2xx
//! ```
//!
//! The first verdict stands; each execution gives exactly one action. A final NOTIFY after the verdict is reported as a late
//! event. Any 2xx counts as accepted: RFC 7647 forbids the 202 that RFC 3515 asked for, and both are seen.

pub mod report;
mod rows;
mod terms;

pub use terms::{Answer, Cause, Notification, Outcome, Status, Step, Steps, TransferTimer, Verdict};

use crate::call::{CallKey, Party};
use crate::config::{ApplicationId, ByeMeansSuccess, ReferMode, ReferRules, TrunkId};
use crate::identifiers::TransferId;
use crate::timer::Instant;
use crate::verb::SipRefer;
use report::CallFacts;
use rows::Rows;
use smallvec::smallvec;
use std::time::Duration;

/// One execution.
#[derive(Debug)]
pub struct Transfer {
    pub id: TransferId,
    pub call: CallKey,
    /// Who receives the REFER, and the trunk behind which it is.
    pub party: Party,
    pub trunk: TrunkId,
    pub verb: Box<SipRefer>,
    /// Values of Refer-To and Referred-By as sent.
    pub refer_to: String,
    pub referred_by: String,
    pub started: Instant,
    pub ended: Option<Instant>,
    /// Of a call that an application leads: whose hooks it has, and the base of relative ones.
    pub application: Option<(ApplicationId, String)>,
    /// What hooks say of the call; the shard keeps its status true.
    pub facts: Box<CallFacts>,
    /// Its action is posted, and what came of that is not known yet.
    pub awaits_outcome: bool,
    /// Its REFER has left in a dialog of its own: the digest of that dialog's Call-ID.
    pub outside: Option<u64>,
    rules: ReferRules,
    state: State,
    /// REFERs sent.
    attempts: u32,
    refer_status: Option<Status>,
    /// The last NOTIFY status, and whether one was final.
    last_event: Option<Status>,
    final_status: Option<Status>,
    verdict: Option<Verdict>,
    /// Statuses of NOTIFYs in order, at most [`EVENTS_KEPT`].
    events: Vec<u16>,
    notify_count: u32,
    notify_highest: Option<u32>,
    /// `reason` of a Subscription-State that ended without a final status.
    subscription_reason: Option<String>,
    bye_reason: Option<String>,
    /// The first Contact of a 3xx to the REFER.
    redirected_to: Option<String>,
    late_status: Option<u16>,
    retries_491: u8,
    retried_500: bool,
    other_party_gone: bool,
    call_gone: bool,
    /// A timer that fires at another time than this is an old one.
    deadlines: [Option<Instant>; TIMERS],
    rows: Rows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sending,
    Backoff,
    Waiting,
    Progress,
    ByeGrace,
    Lingering,
    Done,
}

impl State {
    #[cfg(feature = "sim")]
    fn as_str(self) -> &'static str {
        match self {
            State::Sending => "Sending",
            State::Backoff => "Backoff",
            State::Waiting => "Waiting",
            State::Progress => "Progress",
            State::ByeGrace => "ByeGrace",
            State::Lingering => "Lingering",
            State::Done => "Done",
        }
    }
}

const TIMERS: usize = 7;
/// Statuses remembered for the control API; a NOTIFY every second for a minute.
const EVENTS_KEPT: usize = 64;
/// A second try at 491 and a third; more would only prolong a glare that the peer does not resolve.
const TRIES_491: u8 = 2;

impl Transfer {
    /// A new execution whose REFER is about to be sent. The steps arm its timers.
    #[expect(clippy::too_many_arguments, reason = "each is a fact of its own, given once")]
    pub fn new(
        id: TransferId,
        call: CallKey,
        party: Party,
        trunk: TrunkId,
        verb: Box<SipRefer>,
        refer_to: String,
        referred_by: String,
        facts: Box<CallFacts>,
        rules: ReferRules,
        now: Instant,
    ) -> (Transfer, Steps) {
        let mut rules = rules;
        verb.timers.apply(&mut rules);
        let total = rules.total_timeout;
        let transfer = Transfer {
            id,
            call,
            party,
            trunk,
            verb,
            refer_to,
            referred_by,
            started: now,
            ended: None,
            application: None,
            facts,
            awaits_outcome: false,
            outside: None,
            rules,
            state: State::Sending,
            attempts: 0,
            refer_status: None,
            last_event: None,
            final_status: None,
            verdict: None,
            events: Vec::new(),
            notify_count: 0,
            notify_highest: None,
            subscription_reason: None,
            bye_reason: None,
            redirected_to: None,
            late_status: None,
            retries_491: 0,
            retried_500: false,
            other_party_gone: false,
            call_gone: false,
            deadlines: [None; TIMERS],
            rows: Rows::default(),
        };
        (transfer, smallvec![Step::Arm(TransferTimer::Total, total)])
    }

    /// A REFER left.
    pub fn sent(&mut self) -> Steps {
        self.rows.enter(self.state, "REFER sent");
        self.wait_for_response()
    }

    /// The REFER was challenged, and has left once more with credentials.
    pub fn challenged(&mut self) -> Steps {
        self.rows.enter(self.state, "401, 407 answered");
        self.wait_for_response()
    }

    fn wait_for_response(&mut self) -> Steps {
        self.attempts += 1;
        let wait = self.rules.response_timeout;
        wait.map(|wait| Step::Arm(TransferTimer::Response, wait))
            .into_iter()
            .collect()
    }

    /// The shard armed a timer; an earlier deadline of the same timer is void.
    pub fn armed(&mut self, timer: TransferTimer, at: Instant) {
        self.deadlines[timer as usize] = Some(at);
    }

    pub fn is_over(&self) -> bool {
        self.verdict.is_some()
    }

    /// Whether the call is still to be ended for this transfer.
    pub fn is_lingering(&self) -> bool {
        self.state == State::Lingering
    }

    /// Its trunk's rules, with what its verb sets.
    pub fn rules(&self) -> &ReferRules {
        &self.rules
    }

    /// Whether its REFER is still to be sent, or to be answered: nobody has hung up, and no final response has come.
    pub fn is_sending(&self) -> bool {
        self.state == State::Sending
    }

    /// Whether it succeeded and its call is ended for that, or was.
    pub fn ends_call(&self) -> bool {
        let is_success = self.verdict.is_some_and(|verdict| verdict.result == Outcome::Success);
        is_success && self.rules.bye_on_success
    }

    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// A response to the REFER.
    pub fn on_response(&mut self, answer: Answer<'_>, now: Instant) -> Steps {
        self.rows.enter(self.state, answer.kind());
        if answer.code < 200 || self.is_over() {
            return Steps::new();
        }
        self.deadlines[TransferTimer::Response as usize] = None;
        if let Some(status) = &mut self.refer_status {
            // Later than T_tx, after NOTIFYs that told as much.
            if status.is_local && answer.code < 300 {
                *status = Status::new(answer.code, answer.reason);
            }
            return Steps::new();
        }
        if !matches!(self.state, State::Sending | State::ByeGrace) {
            return Steps::new();
        }
        if self.final_status.is_some() && matches!(answer.code, 491 | 500 | 503) {
            // It was carried out, as a NOTIFY has told: another one would be a second transfer.
            self.refer_status = Some(Status::new(answer.code, answer.reason));
            return self.conclude_by_status(now);
        }
        if self.state == State::Sending {
            // RFC 3261 §14.1: glare. The dialog's other usage is busy for a moment.
            if answer.code == 491 && self.retries_491 < TRIES_491 {
                self.retries_491 += 1;
                return self.back_off(answer.glare_wait);
            }
            let wait = answer.retry_after.map(|seconds| Duration::from_secs(seconds.into()));
            let wait = wait.filter(|wait| *wait <= self.rules.retry_after_max);
            if matches!(answer.code, 500 | 503) && !self.retried_500 {
                if let Some(wait) = wait {
                    self.retried_500 = true;
                    return self.back_off(wait);
                }
                // RFC 3261 §12.2.2: a lower CSeq than the last gets 500; ours was overtaken on the way.
                if answer.code == 500 && answer.retry_after.is_none() && answer.overtaken {
                    self.retried_500 = true;
                    return self.back_off(Duration::ZERO);
                }
            }
        }
        if self.state == State::ByeGrace && answer.code >= 300 && self.final_status.is_none() {
            // A party that hangs up knows no dialog any more: that its REFER is refused then says nothing of the target.
            return self.conclude_by_bye(now);
        }
        self.refer_status = Some(Status::new(answer.code, answer.reason));
        self.redirected_to = answer
            .contact
            .map(|contact| String::from_utf8_lossy(contact).into_owned());
        match answer.code {
            200 | 201 | 203..=299 if self.rules.only_202 => self.conclude(Outcome::Failed, Cause::Rejected, now),
            200..=299 => self.on_accepted(answer, now),
            300..=399 => self.conclude(Outcome::Failed, Cause::Redirected, now),
            401 | 407 => self.conclude(Outcome::Failed, Cause::Unauthorized, now),
            408 => self.conclude(Outcome::Failed, Cause::Timeout, now),
            429 => self.conclude(Outcome::Failed, Cause::ReferrerIdentity, now),
            481 => {
                let mut steps = self.conclude(Outcome::Failed, Cause::NoDialog, now);
                // Outside the call's dialog it says nothing of that.
                if self.rules.refer_mode == ReferMode::InDialog {
                    steps.push(Step::Suspect);
                }
                steps
            }
            _ => self.conclude(Outcome::Failed, Cause::Rejected, now),
        }
    }

    fn on_accepted(&mut self, answer: Answer<'_>, now: Instant) -> Steps {
        if self.final_status.is_some() {
            return self.conclude_by_status(now);
        }
        if self.state == State::ByeGrace {
            // The BYE overtook the 2xx; the grace goes on and tells what it meant.
            return Steps::new();
        }
        if answer.refer_sub_false && self.notify_count == 0 {
            return self.conclude(Outcome::Success, Cause::AcceptedNoSubscription, now);
        }
        if self.subscription_reason.is_some() {
            return self.on_subscribed();
        }
        let mut steps = Steps::new();
        // T_total is absolute: it is only ever made shorter.
        if let Some(wait) = self.rules.result_timeout
            && self.deadlines[TransferTimer::Total as usize].is_some_and(|total| now + wait < total)
        {
            steps.push(Step::Arm(TransferTimer::Total, wait));
        }
        if self.last_event.is_some() {
            self.state = State::Progress;
            return steps;
        }
        self.state = State::Waiting;
        if let Some(wait) = self.rules.notify_timeout {
            steps.push(Step::Arm(TransferTimer::FirstNotify, wait));
        }
        steps
    }

    /// NOTIFYs have told of a REFER whose response comes only now, or not at all: they go on, unless the last has been.
    fn on_subscribed(&mut self) -> Steps {
        self.state = State::Progress;
        match self.subscription_reason {
            Some(_) => smallvec![Step::Arm(TransferTimer::Grace, self.rules.bye_grace)],
            None => Steps::new(),
        }
    }

    fn back_off(&mut self, wait: Duration) -> Steps {
        if wait.is_zero() {
            return smallvec![Step::Resend];
        }
        self.state = State::Backoff;
        smallvec![Step::Arm(TransferTimer::Backoff, wait)]
    }

    /// No response to the REFER within 64·T1.
    pub fn on_no_response(&mut self, now: Instant) -> Steps {
        self.rows.enter(self.state, "no response");
        self.on_unsent(408, "Request Timeout", Cause::Timeout, now)
    }

    /// The REFER could not be sent.
    pub fn on_transport_failed(&mut self, now: Instant) -> Steps {
        self.rows.enter(self.state, "transport error");
        self.on_unsent(503, "Service Unavailable", Cause::Transport, now)
    }

    /// The REFER could not be built.
    pub fn on_unsendable(&mut self, now: Instant) -> Steps {
        self.rows.enter(self.state, "unsendable");
        self.on_unsent(500, "Server Internal Error", Cause::Unsendable, now)
    }

    /// The execution is refused here; nothing is sent.
    pub fn on_refused(&mut self, code: u16, reason: &str, cause: Cause, now: Instant) -> Steps {
        self.rows.enter(self.state, "refused here");
        self.on_unsent(code, reason, cause, now)
    }

    fn on_unsent(&mut self, code: u16, reason: &str, cause: Cause, now: Instant) -> Steps {
        if self.is_over() || self.refer_status.is_some() {
            return Steps::new();
        }
        self.refer_status = Some(Status::local(code, reason));
        if self.final_status.is_some() {
            // NOTIFYs came, so the REFER was accepted; only its response was lost.
            return self.conclude_by_status(now);
        }
        if self.state == State::ByeGrace {
            return self.conclude(Outcome::Canceled, Cause::CallEnded, now);
        }
        if self.is_known_accepted() && matches!(cause, Cause::Timeout | Cause::Transport) {
            // The target may ring already: the NOTIFYs go on telling.
            return self.on_subscribed();
        }
        self.conclude(Outcome::Failed, cause, now)
    }

    /// Whether NOTIFYs tell that the REFER was accepted, though its response was lost.
    fn is_known_accepted(&self) -> bool {
        self.last_event.is_some()
    }

    /// A NOTIFY of our subscription. `Err`: it is older than one already seen and says nothing final (RFC 3261 §12.2.2).
    pub fn on_notify(&mut self, notify: Notification<'_>, now: Instant) -> Result<Steps, Overtaken> {
        let repeated = self.notify_highest == Some(notify.cseq);
        let is_final = notify.status.is_some_and(|(code, _)| code >= 200);
        let is_old = self.notify_highest.is_some_and(|highest| notify.cseq < highest);
        self.rows.enter(self.state, notify.kind(is_old));
        if is_old && !(is_final && self.final_status.is_none()) {
            return Err(Overtaken);
        }
        if repeated {
            return Ok(Steps::new());
        }
        self.notify_highest = self.notify_highest.max(Some(notify.cseq));
        self.notify_count += 1;
        let mut steps = Steps::new();
        if let Some((code, reason)) = notify.status {
            let status = Status::new(code, reason);
            let late = self.is_over();
            let is_news = !late || (is_final && self.final_status.is_none());
            if is_news {
                if self.events.len() < EVENTS_KEPT {
                    self.events.push(code);
                }
                steps.push(Step::Event {
                    status: status.clone(),
                    cseq: notify.cseq,
                    subscription_state: notify
                        .subscription
                        .as_ref()
                        .map(|state| String::from_utf8_lossy(state.value).into_owned()),
                    late,
                });
                if late {
                    return Ok(self.on_late_final(status, steps));
                }
                self.last_event = Some(status.clone());
                if is_final {
                    self.final_status = Some(status);
                }
            }
        }
        if self.is_over() {
            return Ok(steps);
        }
        self.deadlines[TransferTimer::FirstNotify as usize] = None;
        if self.final_status.is_some() {
            // Before the response to the REFER it waits for that, so that the action can tell it.
            if !matches!(self.state, State::Sending | State::Backoff) && self.refer_status.is_some() {
                steps.extend(self.conclude_by_status(now));
            }
            return Ok(steps);
        }
        if self.state == State::Waiting {
            self.state = State::Progress;
        }
        if let Some(state) = notify.subscription {
            if state.terminated {
                self.subscription_reason = Some(
                    state
                        .reason
                        .map(|reason| String::from_utf8_lossy(reason).into_owned())
                        .unwrap_or_default(),
                );
                steps.push(Step::Arm(TransferTimer::Grace, self.rules.bye_grace));
            } else if let Some(seconds) = state.expires {
                let wait = Duration::from_secs(seconds.into());
                self.deadlines[TransferTimer::Subscription as usize] = None;
                // T_total ends it first otherwise: a timer as long as a peer pleases would only lie about.
                if self.deadlines[TransferTimer::Total as usize].is_some_and(|total| now + wait < total) {
                    steps.push(Step::Arm(TransferTimer::Subscription, wait));
                }
            }
        }
        Ok(steps)
    }

    fn on_late_final(&mut self, status: Status, mut steps: Steps) -> Steps {
        self.late_status = Some(status.code);
        let success = self.is_success(status.code);
        self.final_status = Some(status);
        if success && self.rules.bye_on_success && !self.call_gone && self.state == State::Done {
            steps.push(Step::EndCall);
            self.call_gone = true;
        }
        steps
    }

    /// A BYE ended the call, or is about to: the party that got the REFER, or the one we speak for.
    pub fn on_bye(&mut self, from: Party, reason: Option<&[u8]>, now: Instant) -> Steps {
        let of_notifier = from == self.party;
        self.rows.enter(
            self.state,
            if of_notifier {
                "BYE of the notifier"
            } else {
                "BYE of the other party"
            },
        );
        if self.call_gone {
            return Steps::new();
        }
        if let Some(reason) = reason {
            self.bye_reason = Some(String::from_utf8_lossy(reason).into_owned());
        }
        self.call_gone = true;
        if from != self.party {
            self.other_party_gone = true;
        }
        match self.state {
            // A final NOTIFY has told how it ended; only the response to the REFER is still to come.
            State::Sending if from != self.party && self.final_status.is_some() => Steps::new(),
            State::Sending | State::Backoff if from != self.party || self.state == State::Backoff => {
                self.refer_status = Some(Status::local(487, "Request Terminated"));
                if self.final_status.is_some() {
                    return self.conclude_by_status(now);
                }
                self.conclude(Outcome::Canceled, Cause::CallEnded, now)
            }
            // What the party we speak for does says nothing of the transfer: the NOTIFYs still tell, until T_total.
            State::Waiting | State::Progress if from != self.party => Steps::new(),
            State::Sending | State::Waiting | State::Progress => {
                self.state = State::ByeGrace;
                smallvec![Step::Arm(TransferTimer::Grace, self.rules.bye_grace)]
            }
            State::Lingering => {
                self.state = State::Done;
                Steps::new()
            }
            State::Backoff | State::ByeGrace | State::Done => Steps::new(),
        }
    }

    /// We end the call ourselves: by the control API, or because another transfer or a lost dialog asks for it.
    pub fn on_ended_here(&mut self, cause: Cause, now: Instant) -> Steps {
        self.rows.enter(self.state, "call ended here");
        self.call_gone = true;
        if self.is_over() {
            self.state = State::Done;
            return Steps::new();
        }
        if self.refer_status.is_none() {
            self.refer_status = Some(Status::local(487, "Request Terminated"));
        }
        if self.final_status.is_some() {
            // It had ended; only the response to the REFER was still to come.
            return self.conclude_by_status(now);
        }
        self.conclude(Outcome::Canceled, cause, now)
    }

    /// Another list of verbs takes the place of its own. The REFER cannot be withdrawn: its NOTIFYs are still answered, and a
    /// success that comes late still ends the call.
    pub fn on_replaced(&mut self, now: Instant) -> Steps {
        self.rows.enter(self.state, "replaced");
        if self.is_over() {
            return Steps::new();
        }
        if self.refer_status.is_none() {
            self.refer_status = Some(Status::local(487, "Request Terminated"));
        }
        if self.final_status.is_some() {
            return self.conclude_by_status(now);
        }
        self.conclude(Outcome::Canceled, Cause::Replaced, now)
    }

    /// The caller of a call without an answer was sent to the target: what becomes of that is not seen here.
    pub fn on_caller_redirected(&mut self, now: Instant) -> Steps {
        self.rows.enter(self.state, "caller redirected");
        self.call_gone = true;
        self.refer_status = Some(Status::local(302, "Moved Temporarily"));
        self.conclude(Outcome::Unknown, Cause::CallerRedirected, now)
    }

    /// The first attempt of the action is over: what the application wants is known.
    pub fn on_action_outcome(&mut self) -> Steps {
        self.rows.enter(self.state, "action answered");
        if self.state == State::Lingering {
            self.state = State::Done;
            self.call_gone = true;
            return smallvec![Step::EndCall];
        }
        Steps::new()
    }

    /// A timer fired that was armed for `at`.
    pub fn on_timer(&mut self, timer: TransferTimer, at: Instant, now: Instant) -> Steps {
        if self.deadlines[timer as usize] != Some(at) {
            return Steps::new();
        }
        self.rows.enter(self.state, timer.as_str());
        self.deadlines[timer as usize] = None;
        match (timer, self.state) {
            (TransferTimer::Response, State::Sending) => self.on_unsent(408, "Request Timeout", Cause::Timeout, now),
            (TransferTimer::FirstNotify, State::Waiting) => self.conclude(Outcome::Unknown, Cause::NoNotify, now),
            (TransferTimer::Total, State::Sending | State::Backoff) => {
                if self.refer_status.is_none() {
                    self.refer_status = Some(Status::local(408, "Request Timeout"));
                }
                if self.final_status.is_some() {
                    return self.conclude_by_status(now);
                }
                if self.is_known_accepted() {
                    return self.conclude(Outcome::Unknown, Cause::RingTimeout, now);
                }
                self.conclude(Outcome::Failed, Cause::Timeout, now)
            }
            (TransferTimer::Total, State::Waiting | State::Progress) => {
                let cause = if self.other_party_gone {
                    Cause::CallEnded
                } else if self.last_event.is_some() {
                    Cause::RingTimeout
                } else {
                    Cause::NoNotify
                };
                self.conclude(Outcome::Unknown, cause, now)
            }
            // NOTIFYs without a status start the grace anew; T_total ends that.
            (TransferTimer::Grace | TransferTimer::Total, State::ByeGrace) => self.conclude_by_bye(now),
            (TransferTimer::Grace, State::Waiting | State::Progress) => {
                self.conclude(Outcome::Unknown, Cause::SubscriptionTerminated, now)
            }
            (TransferTimer::Subscription, State::Waiting | State::Progress) => {
                self.conclude(Outcome::Unknown, Cause::SubscriptionExpired, now)
            }
            (TransferTimer::Backoff, State::Backoff) => {
                // It may still have to wait for an INVITE.
                self.state = State::Sending;
                smallvec![Step::Resend]
            }
            (TransferTimer::Linger, State::Lingering) => {
                self.state = State::Done;
                self.call_gone = true;
                smallvec![Step::EndCall]
            }
            _ => Steps::new(),
        }
    }

    fn conclude_by_bye(&mut self, now: Instant) -> Steps {
        if self.final_status.is_some() {
            // NOTIFYs came, so the REFER was accepted; only its response was lost.
            if self.refer_status.is_none() {
                self.refer_status = Some(Status::local(408, "Request Timeout"));
            }
            return self.conclude_by_status(now);
        }
        let accepted = match &self.refer_status {
            Some(status) if status.is_local => self.is_known_accepted(),
            Some(status) => (200..=299).contains(&status.code),
            None => false,
        };
        if !accepted {
            if self.refer_status.is_none() {
                self.refer_status = Some(Status::local(487, "Request Terminated"));
            }
            return self.conclude(Outcome::Canceled, Cause::CallEnded, now);
        }
        let rang = self.last_event.is_some();
        let success = match self.rules.bye_means_success {
            ByeMeansSuccess::Accepted => !rang,
            ByeMeansSuccess::Always => true,
            ByeMeansSuccess::Never => false,
        };
        let cause = if rang {
            Cause::ByeWhileRinging
        } else {
            Cause::ByeAfterAccept
        };
        self.conclude(if success { Outcome::Success } else { Outcome::Unknown }, cause, now)
    }

    fn conclude_by_status(&mut self, now: Instant) -> Steps {
        let code = self.final_status.as_ref().map(|status| status.code).unwrap_or_default();
        let outcome = if self.is_success(code) {
            Outcome::Success
        } else {
            Outcome::Failed
        };
        self.conclude(outcome, Cause::NotifyFinal, now)
    }

    fn is_success(&self, code: u16) -> bool {
        (200..=299).contains(&code) || self.rules.success_codes.contains(&code)
    }

    /// The verdict. The first stands.
    fn conclude(&mut self, result: Outcome, cause: Cause, now: Instant) -> Steps {
        debug_assert!(self.verdict.is_none(), "a second verdict");
        self.rows.verdict(cause.as_str());
        self.verdict = Some(Verdict { result, cause });
        self.ended = Some(now);
        self.deadlines = [None; TIMERS];
        self.state = State::Done;
        let mut steps: Steps = smallvec![Step::Action];
        if result == Outcome::Success && self.rules.bye_on_success && !self.call_gone {
            self.state = State::Lingering;
            steps.push(Step::Arm(TransferTimer::Linger, self.rules.bye_delay));
        }
        if cause == Cause::Timeout
            && self.rules.on_refer_timeout == crate::config::OnReferTimeout::Bye
            && !self.call_gone
        {
            self.call_gone = true;
            steps.push(Step::EndCall);
        }
        steps
    }

    /// The rows of the state machine it has gone through.
    #[cfg(feature = "sim")]
    pub fn coverage(&self) -> crate::coverage::Coverage {
        self.rows.taken(self.state)
    }

    /// Its timers that still count, and when they fire.
    #[cfg(feature = "sim")]
    pub fn deadlines(&self) -> impl Iterator<Item = (TransferTimer, Instant)> {
        use TransferTimer::*;
        let timers = [Response, FirstNotify, Total, Grace, Linger, Backoff, Subscription];
        timers
            .into_iter()
            .filter_map(|timer| Some((timer, self.deadlines[timer as usize]?)))
    }

    /// Whether it has the timers that its state needs, so that it ends whatever peers do.
    #[cfg(feature = "sim")]
    pub fn can_end(&self) -> bool {
        let waits_for = |timer: TransferTimer| self.deadlines[timer as usize].is_some();
        match self.state {
            State::Sending | State::Waiting | State::Progress => waits_for(TransferTimer::Total),
            State::Backoff => waits_for(TransferTimer::Total) && waits_for(TransferTimer::Backoff),
            State::ByeGrace => waits_for(TransferTimer::Grace),
            State::Lingering => waits_for(TransferTimer::Linger),
            State::Done => true,
        }
    }

    /// The state as the control API names it.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Sending | State::Backoff => "sending",
            State::Waiting => "accepted",
            State::Progress | State::ByeGrace => "progress",
            State::Lingering | State::Done => "done",
        }
    }
}

/// A NOTIFY that a later one has overtaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overtaken;
