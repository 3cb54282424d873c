//! Challenges of trunks with credentials (RFC 3261 §22): the request is sent again with an answer, whoever's it is.
//!
//! ```text
//!  401, 407 ──► whose request? ──► digest::choose ──► next CSeq number ──► the request as it was sent, with credentials
//!               relayed, REFER or     └► nobody's: the response goes the way of any other
//!               BYE of ours
//! ```
//!
//! What a dialog has answered it remembers: its next request has credentials from the first.

use super::relay::own_request_uri;
use super::request::Dialog;
use super::saying::Saying;
use super::saying::room_behind;
use super::{ClientOwner, Shard, TimerKey};
use crate::call::refers::Referrer;
use crate::call::{Call, CallKey, CallState, Direction, Party};
use crate::config::TrunkId;
use crate::digest::{self, Asks, Request, Sessions, Unanswered};
use crate::event;
use crate::message::{Index, Message, Method, parse};
use crate::proxy::context::{BranchNumber, ContextKey};
use crate::proxy::search::Cause;
use crate::proxy::{self, Again, Refused};
use crate::sequence::{NUMBER_MAX, Sequence};
use crate::timer::Instant;
use crate::transaction::ClientKey;
use crate::transport::Flow;
use smallvec::SmallVec;

/// How often a challenged request is sent again. Once would do, but for a nonce that is stale by then, and for a second server
/// behind the first.
const ATTEMPTS_MAX: u8 = 2;

/// How often a BYE of ours is: the call is over, whatever becomes of it.
const BYE_ATTEMPTS_MAX: u8 = 1;

/// A request that was challenged.
struct Challenged<'a> {
    client: ClientKey,
    owner: ClientOwner,
    /// As it was sent.
    sent: Message<'a>,
    attempt: u8,
    trunk: TrunkId,
    place: Place,
    /// As a party sent it; `None`: it is ours.
    of_party: Option<Message<'a>>,
}

/// What becomes of a challenge.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The request was sent again.
    Answered,
    /// Nobody waits for the request any more.
    GivenUp,
    /// It goes the way of any response.
    Unanswered,
}

/// Where the numbers and sessions of a request are kept.
#[derive(Clone, Copy)]
enum Place {
    /// Those of a new request are its branch's.
    Branch(ContextKey, BranchNumber),
    /// Those within a dialog are of the one who speaks; the digest is that of the callee's tag.
    Dialog(Dialog, u64),
    /// Those of a REFER outside the call's dialog are its own.
    Outside(u64),
}

impl Shard {
    /// Sends a challenged request once more, with credentials. `true`: it did, and the challenge is nobody else's business.
    pub(super) fn answers_challenge(
        &mut self,
        client: ClientKey,
        owner: ClientOwner,
        response: Message<'_>,
        now: Instant,
    ) -> bool {
        if self.config().trunks.iter().all(|trunk| trunk.auth.is_none()) {
            return false;
        }
        let bytes = self.transactions.lend_challenged();
        let mut index = Box::<Index>::default();
        let answers = parse(&bytes, &mut index).is_ok() && {
            let sent = Message::new(&bytes, &index);
            self.answers(client, owner, sent, response, now)
        };
        self.transactions.return_challenged(bytes);
        answers
    }

    fn answers(
        &mut self,
        client: ClientKey,
        owner: ClientOwner,
        sent: Message<'_>,
        response: Message<'_>,
        now: Instant,
    ) -> bool {
        let Some(attempt) = self.transactions.client(client).map(|client| client.attempt) else {
            return false;
        };
        match owner {
            ClientOwner::Relay(key, number) => {
                let mut outcome = Outcome::Unanswered;
                self.with_request_of(key, |shard, message, arrival| {
                    let Some(context) = shard.contexts.get(key) else { return };
                    let target = context.branch(number).and_then(|branch| branch.target);
                    let (place, trunk) = match (target, message.to_tag()) {
                        (Some(target), _) => (Place::Branch(key, number), target.trunk),
                        (None, Some(to_tag)) => {
                            let Some(dialog) = shard.dialog_of(message, arrival, to_tag) else {
                                return;
                            };
                            let Some(trunk) = shard.trunks_of(dialog).map(|(_, listener)| listener) else {
                                return;
                            };
                            (Place::Dialog(dialog, shard.callee_of(dialog, message)), trunk)
                        }
                        (None, None) => return,
                    };
                    let of_party = Some(message);
                    let challenged = Challenged {
                        client,
                        owner,
                        sent,
                        attempt,
                        trunk,
                        place,
                        of_party,
                    };
                    outcome = shard.answer(&challenged, response, now);
                });
                if outcome == Outcome::Unanswered {
                    return false;
                }
                let code = response.status().unwrap_or_default();
                self.note_response(key, number, response, code, now);
                if outcome == Outcome::GivenUp {
                    self.end_given_up(key, number, now);
                }
                true
            }
            ClientOwner::Refer(key) => {
                let transfer = self.transfers.get(key).filter(|transfer| transfer.is_sending());
                let to = transfer.map(|transfer| (transfer.call, transfer.party));
                to.is_some_and(|(call, party)| {
                    self.answers_own(client, owner, attempt, sent, call, party, response, now)
                })
            }
            ClientOwner::Bye(call, party) => self.answers_own(client, owner, attempt, sent, call, party, response, now),
            ClientOwner::Refresh(call) | ClientOwner::Request(call, _) => {
                self.answers_own(client, owner, attempt, sent, call, Party::Caller, response, now)
            }
            ClientOwner::Cancel | ClientOwner::Probe(_) | ClientOwner::LargeAck | ClientOwner::Challenged { .. } => {
                false
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "which request, whose, and the challenge")]
    fn answers_own(
        &mut self,
        client: ClientKey,
        owner: ClientOwner,
        attempt: u8,
        sent: Message<'_>,
        call: CallKey,
        party: Party,
        response: Message<'_>,
        now: Instant,
    ) -> bool {
        let Some(trunk) = self.calls.get(call).map(|call| call.trunk(party)) else {
            return false;
        };
        let outside = match owner {
            ClientOwner::Refer(key) => self.transfers.get(key).and_then(|transfer| transfer.outside),
            _ => None,
        };
        let place = outside.map_or(Place::Dialog(Dialog::Call(call, party.other()), 0), Place::Outside);
        let challenged = Challenged {
            client,
            owner,
            sent,
            attempt,
            trunk,
            place,
            of_party: None,
        };
        self.answer(&challenged, response, now) == Outcome::Answered
    }

    fn answer(&mut self, challenged: &Challenged<'_>, response: Message<'_>, now: Instant) -> Outcome {
        let config = self.setup.config.clone();
        let Some(auth) = config
            .trunks
            .get(usize::from(challenged.trunk.0))
            .and_then(|trunk| trunk.auth.as_ref())
        else {
            return Outcome::Unanswered;
        };
        if self.is_given_up(challenged) {
            return Outcome::GivenUp;
        }
        let Challenged { sent, attempt, .. } = *challenged;
        let of_party = |asks: Asks, realm: &[u8]| {
            challenged
                .of_party
                .is_some_and(|message| digest::has_credentials(message, asks, realm))
        };
        let was_answered = |asks: Asks, realm: &[u8]| attempt > 0 && digest::has_credentials(sent, asks, realm);
        let attempts_max = match challenged.owner {
            ClientOwner::Bye(..) => BYE_ATTEMPTS_MAX,
            _ => ATTEMPTS_MAX,
        };
        let chosen = match digest::choose(response, auth, of_party, was_answered, &mut self.random) {
            Ok(_) if attempt >= attempts_max => Err(Unanswered::Rejected),
            chosen => chosen,
        };
        let chosen = match chosen {
            Ok(chosen) => chosen,
            Err(unanswered) => {
                self.note_unanswered(challenged.place, unanswered);
                return Outcome::Unanswered;
            }
        };
        let own = challenged
            .of_party
            .and_then(|message| message.cseq().ok())
            .map(|cseq| cseq.number);
        let left = room_behind(sent.method().unwrap_or(Method::Other));
        let Some((cseq, sessions)) = self.next_of(challenged.place, own, left) else {
            return Outcome::Unanswered;
        };
        sessions.take(chosen);
        let request = Request {
            method: sent.method_token(),
            uri: sent.request_uri(),
            body: sent.body(),
        };
        let credentials = sessions.lines(auth, &request, of_party);
        if sent.method() == Some(Method::Invite) {
            // One of ours is counted as it leaves.
            sessions.keep_for_ack(own.unwrap_or(cseq), &credentials);
        }
        let held = sessions.clone();
        let is_ours = |asks: Asks, realm: &[u8]| held.is_of(asks, realm) && !of_party(asks, realm);
        let Some(client) = self.send_again(challenged, cseq, &credentials, is_ours, now) else {
            return Outcome::Unanswered;
        };
        self.counters.challenges_answered_total += 1;
        if let (Place::Branch(..), Some(message), Some(own)) = (challenged.place, challenged.of_party, own) {
            // The request may ring for long, and what comes of it then has to arrive.
            let until = now + config.limits.ring_max + 64 * config.timers.t1;
            self.renumbered.remember(self.sender_of(message), own, cseq, now, until);
        }
        self.note_again(challenged.owner, client, cseq, own, now);
        Outcome::Answered
    }

    /// Whether a relayed request was cancelled meanwhile, so that nobody wants it to be sent again. A search asks that itself.
    fn is_given_up(&self, challenged: &Challenged<'_>) -> bool {
        let ClientOwner::Relay(key, number) = challenged.owner else {
            return false;
        };
        let context = self.contexts.get(key);
        let branch = context.and_then(|context| context.branch(number));
        branch.is_some_and(|branch| branch.cancelled.is_some())
    }

    /// The challenge of a branch that was cancelled is the end of it.
    fn end_given_up(&mut self, key: ContextKey, number: BranchNumber, now: Instant) {
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        let server = context.server;
        if context.search.is_some() {
            return self.end_branch(key, number, 487, None, Cause::Refused, now);
        }
        if let Some(branch) = context.branch_mut(number) {
            branch.has_ended = true;
        }
        self.answer_stored(server, Refused::new(487, "Request Terminated"), now);
        self.on_final(key, 487, now);
    }

    /// The number of the request as it is sent again, and the sessions it is of. `own`: its number as its party counts. `left`: how
    /// many it leaves to others. `None`: it cannot be sent again.
    fn next_of(&mut self, place: Place, own: Option<u32>, left: u32) -> Option<(u32, &mut Sessions)> {
        match place {
            Place::Branch(key, number) => {
                let own = own?;
                let branch = self.contexts.get_mut(key)?.branch_mut(number)?;
                let (cseq, sessions) = &mut **branch.again.get_or_insert_with(|| Box::new((own, Sessions::default())));
                *cseq = Some(*cseq + 1).filter(|next| *next <= NUMBER_MAX - left)?;
                Some((*cseq, sessions))
            }
            Place::Dialog(dialog, callee) => {
                let is_ours = dialog.call().and_then(|key| self.calls.get(key));
                let is_ours = is_ours.is_some_and(|call| call.application.is_some());
                let Direction { sequence, sessions } = self.direction_mut(dialog, callee)?;
                let cseq = match own {
                    Some(own) => sequence.send_again(own, left)?,
                    None if is_ours => sequence.take()?,
                    None => sequence.insert(left)?,
                };
                Some((cseq, sessions.get_or_insert_default()))
            }
            Place::Outside(key) => {
                let dialog = self.outside.get_mut(&key)?;
                dialog.number += 1;
                Some((dialog.number, &mut dialog.sessions))
            }
        }
    }

    /// A challenge goes on to whoever sent the request. Credentials that are not wanted are not sent again of themselves.
    fn note_unanswered(&mut self, place: Place, unanswered: Unanswered) {
        match unanswered {
            Unanswered::OfParty => {}
            Unanswered::NotForUs => self.counters.challenges_unanswered_total += 1,
            Unanswered::Rejected => {
                self.counters.challenges_rejected_total += 1;
                let sessions = match place {
                    Place::Branch(..) => None,
                    Place::Dialog(dialog, callee) => self
                        .direction_mut(dialog, callee)
                        .and_then(|it| it.sessions.as_deref_mut()),
                    Place::Outside(key) => {
                        let dialog = self.outside.get_mut(&key);
                        dialog.map(|dialog| &mut dialog.sessions)
                    }
                };
                if let Some(sessions) = sessions {
                    sessions.forget();
                }
            }
        }
    }

    /// Writes and sends the request once more; gives back its transaction.
    fn send_again(
        &mut self,
        challenged: &Challenged<'_>,
        cseq: u32,
        credentials: &[u8],
        is_ours: impl Fn(Asks, &[u8]) -> bool,
        now: Instant,
    ) -> Option<ClientKey> {
        let left = ClientOwner::Challenged {
            relayed: matches!(challenged.owner, ClientOwner::Relay(..)),
        };
        let opened = self.transactions.open_again(challenged.client, left, &mut self.random);
        let (client, branch, flow) = opened?;
        let start = self.outbox.bytes.len();
        let write = |shard: &mut Shard, flow: Flow| {
            let again = Again {
                transport: flow.transport,
                sent_by: shard.topology.sent_by(flow.bind),
                branch: &branch,
                cseq,
                credentials,
            };
            let (editor, out) = (&mut shard.editor, &mut shard.outbox.bytes);
            proxy::write_again(challenged.sent, &again, &is_ours, editor, out);
        };
        write(self, flow);
        if let Some(stream) = self.flow_for_size(start, flow, now) {
            self.outbox.bytes.truncate(start);
            write(self, stream);
            self.lead_by_stream(client, stream);
        }
        let bytes = self.outbox.since(start);
        self.transactions
            .start(client, bytes, &mut self.outbox, &mut self.timers, now);
        Some(client)
    }

    /// What is kept of a request knows of its new transaction and number.
    fn note_again(&mut self, owner: ClientOwner, client: ClientKey, cseq: u32, own: Option<u32>, now: Instant) {
        let timer_c = self.config().timers.timer_c;
        let alive_until = Some(now + self.config().transfer.total_timeout_max);
        let hold = self.config().transfer.hold;
        match owner {
            ClientOwner::Relay(key, number) => {
                let Some(context) = self.contexts.get_mut(key) else {
                    return;
                };
                let deadline = (now + timer_c).min(context.rings_until);
                context.cseq = own;
                if let Some(branch) = context.branch_mut(number) {
                    branch.client = Some(client);
                    // Its timer is armed, and looks here when it fires.
                    branch.timer_c = branch.timer_c.map(|_| deadline);
                }
                let (method, call, referrer) = (context.method, context.call, Referrer::Party(context.server));
                let initial = call.filter(|_| context.is_initial);
                if let Some(call) = initial.and_then(|call| self.calls.get_mut(call)) {
                    call.is_renumbered = true;
                }
                if method == Method::Refer
                    && let Some(extra) = call.and_then(|call| self.calls.get_mut(call)?.extra_if_any())
                {
                    extra.refers.renumbered(referrer, cseq);
                }
            }
            ClientOwner::Refer(key) => {
                self.with_transfer(key, now, |transfer| transfer.challenged(client));
                let Some(transfer) = self.transfers.get(key) else {
                    return;
                };
                let (call, party) = (transfer.call, transfer.party);
                let is_within = transfer.outside.is_none();
                if let Some(of) = self.calls.get_mut(call).filter(|_| is_within) {
                    let after = of.sequence(party).highest();
                    let extra = of.extra_mut();
                    extra.refers.refused(Referrer::Referee(key));
                    extra
                        .refers
                        .left(Referrer::Referee(key), party, cseq, after, alive_until);
                    // What waits for its response waits for this one.
                    extra.hold = Some((party.other(), now + hold));
                    self.arm(now, hold, TimerKey::Hold(call));
                }
                self.tell_step(key, event::Step::Sent, None);
            }
            ClientOwner::Refresh(call) => {
                if let Some(refresh) = self.served.get_mut(&call).and_then(|served| served.refresh.as_mut()) {
                    refresh.client = client;
                }
            }
            ClientOwner::Bye(..)
            | ClientOwner::Request(..)
            | ClientOwner::Cancel
            | ClientOwner::Probe(_)
            | ClientOwner::LargeAck
            | ClientOwner::Challenged { .. } => {}
        }
    }

    // ---- the numbers of new requests ----

    fn sender_of(&self, message: Message<'_>) -> u64 {
        let call_id = message.call_id().unwrap_or_default();
        self.setup
            .secret
            .mac(b'n', &[call_id, message.from_tag().unwrap_or_default()])
    }

    /// The number with which a new request leaves, if it is another than its own: one before it was sent again.
    pub(super) fn number_of_new(&self, message: Message<'_>, now: Instant) -> Option<u32> {
        if self.renumbered.is_empty() {
            return None;
        }
        let number = message.cseq().ok()?.number;
        self.renumbered.of(self.sender_of(message), number, now)
    }

    /// The number of a branch that is about to leave, likewise.
    pub(super) fn number_branch(&mut self, key: ContextKey, number: BranchNumber, message: Message<'_>) -> Option<u32> {
        let context = self.contexts.get_mut(key)?;
        let starts_at = context.starts_at?;
        context.cseq = message.cseq().ok().map(|cseq| cseq.number);
        context.branch_mut(number)?.again = Some(Box::new((starts_at, Sessions::default())));
        if let Some(call) = context.call.and_then(|call| self.calls.get_mut(call)) {
            call.is_renumbered = true;
        }
        Some(starts_at)
    }

    // ---- what a dialog remembers ----

    /// The credentials with which a party's request leaves, as whole lines: of what its direction of the dialog has answered.
    pub(super) fn credentials_of(
        &mut self,
        dialog: Dialog,
        callee: u64,
        listener: TrunkId,
        message: Message<'_>,
        request_uri: Option<&[u8]>,
    ) -> Vec<u8> {
        let config = self.setup.config.clone();
        let auth = config.trunk(listener).auth.as_ref();
        let sessions = self
            .direction_mut(dialog, callee)
            .and_then(|direction| direction.sessions.as_mut());
        let (Some(auth), Some(sessions)) = (auth, sessions) else {
            return Vec::new();
        };
        let request = Request {
            method: message.method_token(),
            uri: request_uri.unwrap_or(message.request_uri()),
            body: message.body(),
        };
        let lines = sessions.lines(auth, &request, |asks, realm| {
            digest::has_credentials(message, asks, realm)
        });
        if let (Some(Method::Invite), Ok(cseq)) = (message.method(), message.cseq()) {
            sessions.keep_for_ack(cseq.number, &lines);
        }
        lines
    }

    /// Likewise for a request of ours to `party`, as names and values. Its body is empty.
    pub(super) fn credentials_of_own(
        &mut self,
        key: CallKey,
        party: Party,
        saying: &Saying<'_>,
    ) -> SmallVec<[(&'static str, Vec<u8>); 1]> {
        let config = self.setup.config.clone();
        let Some(call) = self.calls.get_mut(key) else {
            return SmallVec::new();
        };
        let auth = config.trunk(call.trunk(party)).auth.as_ref();
        let uri = own_request_uri(call, party);
        let sessions = call.direction_mut(party.other()).sessions.as_mut();
        let (Some(auth), Some(sessions)) = (auth, sessions) else {
            return SmallVec::new();
        };
        let request = Request {
            method: saying.token.as_bytes(),
            uri: &uri,
            body: saying.body,
        };
        sessions.values(auth, &request, |_, _| false).collect()
    }

    /// A response shows a dialog of an INVITE that was challenged: the dialog has the INVITE's number as it was sent last, and
    /// what it has answered.
    pub(super) fn learn_again(
        &mut self,
        key: ContextKey,
        number: BranchNumber,
        call: CallKey,
        response: Message<'_>,
        code: u16,
    ) {
        let Some(context) = self.contexts.get(key).filter(|_| matches!(code, 101..=299)) else {
            return;
        };
        let Some(own) = context
            .cseq
            .filter(|_| context.branch(number).is_some_and(|branch| branch.again.is_some()))
        else {
            return;
        };
        let (from_tag, to_tag) = (
            response.from_tag().unwrap_or_default(),
            response.to_tag().unwrap_or_default(),
        );
        let Some(traversal) = self.calls.get(call).map(|call| call.traversal) else {
            return;
        };
        let is_it =
            |call: &Call| call.traversal == traversal && !matches!(call.state, CallState::Trying | CallState::Ringing);
        let call_id = response.call_id().unwrap_or_default();
        if self.call_of(call_id, from_tag, to_tag, is_it).is_some() {
            return;
        }
        let callee = self.tag_digest(to_tag);
        let branch = self
            .contexts
            .get_mut(key)
            .and_then(|context| context.branch_mut(number));
        let again = branch.and_then(|branch| branch.again.as_mut());
        let (Some(again), Some(call)) = (again, self.calls.get_mut(call)) else {
            return;
        };
        let (cseq, sessions) = &mut **again;
        let caller = &mut call.early_mut().of(callee)[Party::Caller as usize];
        if caller.sequence.outward(own) != Some(*cseq) {
            let highest = caller.sequence.highest();
            caller.sequence = Sequence::of_invite(own, *cseq);
            if let Some(highest) = highest {
                caller.sequence.observe(highest);
            }
        }
        let taken = sessions.hand_over(code >= 200);
        caller.sessions.get_or_insert_default().inherit(taken);
    }
}
