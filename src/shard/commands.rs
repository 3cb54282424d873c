//! What the control API asks for: calls and transfers to look at, verbs to run, calls to end.

use super::attended::Aside;
use super::own::{DEFAULT_HOOK, ip_of, refer_lines};
use super::{Output, Shard, TimerKey, Unrecorded, is_live};
use crate::application::admit_relayed;
use crate::call::{Call, CallKey, CallState, Party, Trait, TransferKey};
use crate::command::{CallSelector, CallView, Command, Refusal, Reply};
use crate::config::{Side, TrunkId};
use crate::destination::{default_referred_by, destination_allowed, refer_to_value, referred_by_value, replacing};
use crate::identifiers::TransferId;
use crate::message::{NameAddr, Uri};
use crate::timer::Instant;
use crate::transaction::ServerKey;
use crate::transfer::report::CallFacts;
use crate::transfer::{Cause, Transfer};
use crate::verb::{HookTarget, Leg, OtherDialog, Replaces, SipRefer, Verb, VerbError};
use crate::webhook::resolve_target;
use slotmap::SlotMap;

/// Hook settings as they hold for one trunk.
pub(super) struct HookSettings {
    pub base_url: Option<String>,
    pub secret: Option<String>,
    pub jambonz_secret: Option<String>,
}

/// A `sip:refer` found valid for a call.
pub(super) struct Prepared {
    party: Party,
    pub refer_to: String,
    referred_by: String,
}

/// Verbs of a call that wait behind a pause or a transfer: two of the longest lists.
const VERBS_WAITING_MAX: usize = 128;

impl Shard {
    pub(super) fn on_command(&mut self, ticket: u64, command: Command, now: Instant) {
        let reply = match command {
            Command::Verbs { call, verbs, dry_run } => {
                let list = Aside::Command {
                    ticket,
                    call,
                    verbs,
                    dry_run,
                };
                let Some(Aside::Command { call, verbs, .. }) = self.with_dialogs(list, now) else {
                    return;
                };
                match self.on_verbs(&call, verbs, dry_run, now) {
                    Ok(reply @ Reply::Accepted { .. }) if self.setup.records => {
                        return self.record(Unrecorded::Reply { ticket, reply });
                    }
                    Ok(reply) => reply,
                    Err(refusal) => Reply::Refused(refusal),
                }
            }
            Command::Call { call } => match self.find_call(&call) {
                Ok(key) => Reply::Call(Box::new(self.view(&self.calls[key]))),
                Err(refusal) => Reply::Refused(refusal),
            },
            Command::Hangup { call } => match self.find_call(&call) {
                Ok(key) => self.on_hangup(key, &[], now),
                Err(refusal) => Reply::Refused(refusal),
            },
            Command::Update { call, update } => match self.find_call(&call) {
                Ok(key) => self.on_call_update(key, update, now),
                Err(refusal) => Reply::Refused(refusal),
            },
            Command::Calls { after, limit } => self.list_calls(after, limit),
            Command::Transfer { id } => match self.transfer_by_number.get(&id.number) {
                Some(key) => Reply::Transfer(Box::new(self.transfers[*key].view(|at| self.wall(at)))),
                None => Reply::Refused(refusal(404, "not_found", None, "There is no such transfer.")),
            },
            Command::Trunks => Reply::Trunks(self.trunk_views(now)),
            Command::Ladder { of } => match self.ladder_view(&of) {
                Ok(ladder) => Reply::Ladder(Box::new(ladder)),
                Err(refusal) => Reply::Refused(refusal),
            },
            Command::Listen => {
                self.on_listen(now);
                Reply::Done
            }
            Command::Transfers { limit } => {
                let running = self.transfers.keys().filter(|key| !self.transfers[*key].is_over());
                let keys: Vec<_> = running
                    .chain(self.remembered.iter().rev().copied())
                    .take(limit)
                    .collect();
                Reply::Transfers(
                    keys.into_iter()
                        .map(|key| self.transfers[key].view(|at| self.wall(at)))
                        .collect(),
                )
            }
        };
        self.effects.push_back(Output::Reply { ticket, reply });
    }

    pub(super) fn find_call(&self, selector: &CallSelector) -> Result<CallKey, Refusal> {
        let not_found = || refusal(404, "not_found", None, "There is no such call.");
        match selector {
            CallSelector::Id(id) => self.by_number.get(&id.number).copied().ok_or_else(not_found),
            CallSelector::SipCallId(call_id) => {
                let keys = self
                    .by_call_id
                    .get(&self.call_id_digest(call_id))
                    .ok_or_else(not_found)?;
                // One that has ended is found only where no other bears the name.
                let named = || {
                    keys.iter()
                        .filter(|key| self.calls[**key].call_id() == call_id.as_slice())
                };
                let is_live = |key: &&CallKey| self.calls[**key].state != CallState::Ended;
                let live = named().filter(is_live).count();
                let mut found = named().filter(|key| live == 0 || is_live(key));
                let key = found.next().ok_or_else(not_found)?;
                if found.next().is_some() {
                    let ids: Vec<_> = keys.iter().map(|key| self.calls[*key].id.to_string()).collect();
                    let detail = format!("The Call-ID names several calls: {}.", ids.join(", "));
                    return Err(refusal(409, "ambiguous", None, &detail));
                }
                Ok(*key)
            }
        }
    }

    // ---- verbs ----

    fn on_verbs(
        &mut self,
        selector: &CallSelector,
        verbs: Vec<Verb>,
        dry_run: bool,
        now: Instant,
    ) -> Result<Reply, Refusal> {
        let key = self.find_call(selector)?;
        let call = &self.calls[key];
        let is_served = call.application.is_some();
        match call.state {
            CallState::Answered if call.extra().is_some_and(|extra| extra.end_after_ack) => {
                return Err(refusal(409, "busy", None, "The call is about to be ended."));
            }
            CallState::Answered => {}
            CallState::Trying | CallState::Ringing if is_served => {}
            CallState::Trying | CallState::Ringing => {
                return Err(refusal(409, "not_answered", None, "The call is not answered yet."));
            }
            CallState::Ending | CallState::Ended => {
                return Err(refusal(404, "not_found", None, "The call has ended."));
            }
        }
        if !is_served {
            admit_relayed(&verbs).map_err(|error| refusal(422, "invalid", Some(&error.field), &error.message))?;
        }
        let single = verbs.len() == 1;
        let mut first = None;
        for (i, verb) in verbs.iter().enumerate() {
            if let Verb::SipRefer(refer) = verb {
                let at = |field: &str| {
                    if single {
                        field.to_owned()
                    } else {
                        format!("[{i}].{field}")
                    }
                };
                // On a call that an application leads the list takes the place of what runs.
                let queued = is_served || first.is_some();
                let prepared = self.prepare(call, refer, queued, now).map_err(|mut refusal| {
                    refusal.field = refusal.field.map(|field| at(&field));
                    refusal
                })?;
                first.get_or_insert((refer.clone(), prepared));
            }
        }
        let call_id = call.id;
        if dry_run {
            let Some((refer, prepared)) = first else {
                return Err(refusal(
                    422,
                    "invalid",
                    Some("verb"),
                    "A dry run shows a sip:refer; there is none.",
                ));
            };
            let lines = refer_lines(&prepared.refer_to, &prepared.referred_by, &refer);
            let message = self.preview_refer(key, prepared.party, &lines);
            let Some(message) = message else {
                return Err(refusal(422, "invalid", Some("referTo"), "The REFER cannot be built."));
            };
            return Ok(Reply::WouldSend {
                message: String::from_utf8_lossy(&message).into_owned(),
            });
        }
        if is_served {
            return self.on_rest_verbs(key, verbs, now);
        }
        let has_refer = first.is_some();
        let asked = asked_for(&verbs);
        let before = self.transfers_of(key);
        let extra = self.calls[key].extra_mut();
        if extra.verbs.len() + verbs.len() > VERBS_WAITING_MAX {
            return Err(refusal(
                409,
                "busy",
                None,
                "Too many verbs of this call wait for their turn.",
            ));
        }
        if extra.verbs.is_empty() && extra.transfer.is_none() {
            // What is accepted runs: a reply to the last action comes too late to take its place.
            extra.awaits_reply = false;
        }
        extra.verbs.extend(verbs);
        if has_refer {
            self.ladder_of_transfer(key);
        }
        self.remember_http(key, true, &asked, "");
        self.run_verbs(key, now);
        let transfer = if has_refer && self.transfers_of(key) > before {
            self.last_transfer_of(key)
        } else {
            None
        };
        Ok(Reply::Accepted {
            transfer,
            call: call_id,
        })
    }

    pub(super) fn transfers_of(&self, key: CallKey) -> u32 {
        self.calls
            .get(key)
            .and_then(Call::extra)
            .map_or(0, |extra| extra.transfers)
    }

    pub(super) fn last_transfer_of(&self, key: CallKey) -> Option<TransferId> {
        let extra = self.calls.get(key)?.extra()?;
        let transfer = extra.transfer.or(extra.last_transfer)?;
        self.transfers.get(transfer).map(|transfer| transfer.id)
    }

    /// Runs verbs until one takes time.
    pub(super) fn run_verbs(&mut self, key: CallKey, now: Instant) {
        if self.served.contains_key(&key) {
            return self.run_program(key, now);
        }
        while let Some(call) = self.calls.get_mut(key) {
            if call.state != CallState::Answered {
                return;
            }
            let Some(extra) = call.extra_if_any() else { return };
            let is_ending = extra
                .last_transfer
                .is_some_and(|key| is_lingering(&self.transfers, key));
            let is_paused = extra.paused_until.is_some_and(|until| now < until);
            if extra.transfer.is_some() || extra.awaits_reply || is_ending || is_paused {
                return;
            }
            if extra.paused_until.take().is_some() {
                let id = extra.pause_id.take();
                self.tell_verb(key, "pause", id.as_deref(), "finished");
                continue;
            }
            let Some(verb) = extra.verbs.pop_front() else { return };
            self.tell_verb(key, verb.name(), verb.id(), "starting");
            match verb {
                Verb::Tag { id, data } => {
                    let fits = self.calls[key].extra_mut().tag(data);
                    self.counters.tags_refused_total += u64::from(!fits);
                    self.tell_verb(key, "tag", id.as_deref(), "finished");
                }
                Verb::Pause { id, length } => {
                    let extra = self.calls[key].extra_mut();
                    extra.paused_until = Some(now + length);
                    extra.pause_id = id;
                    self.timers.arm_once(now, length, TimerKey::Pause(key));
                    return;
                }
                Verb::Hangup { id, headers } => {
                    self.on_hangup(key, &headers, now);
                    self.tell_verb(key, "hangup", id.as_deref(), "finished");
                    return;
                }
                Verb::SipRefer(refer) => {
                    let prepared = self.prepare(&self.calls[key], &refer, true, now);
                    self.start_transfer(key, refer, prepared, now);
                    // Its end runs the next, also if it ended at once.
                    return;
                }
                Verb::Answer { .. }
                | Verb::SipDecline { .. }
                | Verb::Redirect { .. }
                | Verb::Config { .. }
                | Verb::SipRequest(_)
                | Verb::Media { .. } => debug_assert!(false, "a relayed call takes no such verb"),
            }
        }
    }

    /// Begins an execution. One that cannot run, in a list that came as a hook's reply or because things changed since it was
    /// taken, is an execution all the same: it ends at once, with a local status and its action.
    pub(super) fn start_transfer(
        &mut self,
        key: CallKey,
        verb: Box<SipRefer>,
        prepared: Result<Prepared, Refusal>,
        now: Instant,
    ) {
        let (prepared, refused) = match prepared {
            Ok(prepared) => (prepared, None),
            Err(refusal) => {
                let refer_to = verb.refer_to.clone().unwrap_or_default();
                let party = self.leg_of(&self.calls[key], verb.leg).unwrap_or(Party::Caller);
                let prepared = Prepared {
                    party,
                    refer_to,
                    referred_by: String::new(),
                };
                (prepared, Some(refusal))
            }
        };
        let transfer = self.enter_transfer(key, verb, prepared, now);
        match refused {
            None => self.send_refer(transfer, now),
            Some(refusal) => {
                let (code, cause) = match (refusal.code, refusal.status) {
                    ("not_answered", _) => (481, Cause::NotAnswered),
                    (_, 409) => (491, Cause::Busy),
                    _ => (400, Cause::InvalidTarget),
                };
                self.with_transfer(transfer, now, |transfer| {
                    transfer.on_refused(code, &refusal.detail, cause, now)
                });
            }
        }
    }

    fn enter_transfer(&mut self, key: CallKey, verb: Box<SipRefer>, prepared: Prepared, now: Instant) -> TransferKey {
        let id = TransferId {
            shard: self.setup.shard,
            number: self.random.next_u64(),
        };
        let Prepared {
            party,
            refer_to,
            referred_by,
        } = prepared;
        let call = &self.calls[key];
        let trunk = call.trunk(party);
        let rules = self.config().trunk(trunk).refer.clone();
        let facts = Box::new(self.facts_of(call));
        let (mut transfer, steps) =
            Transfer::new(id, key, party, trunk, verb, refer_to, referred_by, facts, rules, now);
        transfer.application = self.base_of(key);
        self.begin_transfer(key, transfer, steps, now)
    }

    /// Whether a `sip:refer` can run on this call, and what its REFER says. `queued`: others of the same list run before it.
    pub(super) fn prepare(
        &self,
        call: &Call,
        refer: &SipRefer,
        queued: bool,
        now: Instant,
    ) -> Result<Prepared, Refusal> {
        if let Some(extra) = call.extra() {
            let is_ending = extra
                .last_transfer
                .is_some_and(|key| is_lingering(&self.transfers, key));
            if is_ending || !queued && extra.transfer.is_some() {
                return Err(refusal(409, "busy", None, "A transfer of this call is under way."));
            }
            if !queued && !extra.verbs.is_empty() {
                return Err(refusal(409, "busy", None, "Verbs of this call wait for their turn."));
            }
            if extra.refers.are_alive(now) {
                return Err(refusal(
                    409,
                    "busy",
                    None,
                    "A party of this call is transferring it itself.",
                ));
            }
            if extra.transfers >= self.config().transfer.per_call_max {
                return Err(refusal(
                    409,
                    "too_many_transfers",
                    None,
                    "This call has had as many transfers as are allowed.",
                ));
            }
        }
        let party = self.leg_of(call, refer.leg)?;
        let trunk = call.trunk(party);
        let peer = call.flow(party).peer;
        let rules = &self.config().trunk(trunk).refer.for_peer(peer);
        let host = match Uri::parse(call.target(party)) {
            Ok(uri) => host_text(&uri),
            Err(_) => peer.to_string(),
        };
        let invalid = |error: VerbError| refusal(422, "invalid", Some(&error.field), &error.message);
        let refer_to = match (&refer.refer_to, &refer.replaces) {
            (Some(value), _) => {
                let value = refer_to_value(value, rules, &host).map_err(invalid)?;
                if !destination_allowed(&value, rules, &host) {
                    let detail = format!("The trunk's destinations do not allow {value}.");
                    return Err(refusal(422, "destination_not_allowed", Some("referTo"), &detail));
                }
                value
            }
            // Nobody chose where that goes: it is a party of a call that our own routes let through.
            (None, Some(replaces)) => format!("<{}>", other_dialog(call, replaces)?.target),
            (None, None) => return Err(refusal(422, "invalid", Some("referTo"), "referTo is missing.")),
        };
        let refer_to = match &refer.replaces {
            Some(replaces) => replacing(&refer_to, other_dialog(call, replaces)?, replaces.early_only),
            None => refer_to,
        };
        let display_name = refer.referred_by_display_name.as_deref();
        let referred_by = match &refer.referred_by {
            Some(value) => referred_by_value(value, display_name, rules, &host),
            None => default_referred_by(&identity_of(call, party), display_name, rules),
        }
        .map_err(invalid)?;
        let base = match self.by_number.get(&call.id.number).and_then(|key| self.base_of(*key)) {
            Some((_, base_url)) => Some(base_url),
            None => self.hooks_of(trunk).base_url,
        };
        for (field, target) in [("actionHook", &refer.action_hook), ("eventHook", &refer.event_hook)] {
            if let Some(HookTarget { url, .. }) = target
                && let Err(error) = resolve_target(url, base.as_deref())
            {
                return Err(refusal(422, "invalid", Some(field), &format!("{field} {error}.")));
            }
        }
        debug_assert!(resolve_target(DEFAULT_HOOK, base.as_deref()).is_ok() == base.is_some());
        Ok(Prepared {
            party,
            refer_to,
            referred_by,
        })
    }

    /// Who gets the REFER: as the verb says, else the one party that is a carrier's.
    pub(super) fn leg_of(&self, call: &Call, leg: Option<Leg>) -> Result<Party, Refusal> {
        match leg {
            _ if call.application.is_some() => return Ok(Party::Caller),
            Some(Leg::Caller) => return Ok(Party::Caller),
            Some(Leg::Callee) => return Ok(Party::Callee),
            None => {}
        }
        let is_carrier = |party| self.config().trunk(call.trunk(party)).side == Some(Side::Carrier);
        match (is_carrier(Party::Caller), is_carrier(Party::Callee)) {
            (true, false) => Ok(Party::Caller),
            (false, true) => Ok(Party::Callee),
            _ => Err(refusal(
                422,
                "invalid",
                Some("leg"),
                "Not exactly one side of this call is a carrier's: say leg, \"caller\" or \"callee\".",
            )),
        }
    }

    /// An execution whose caller is sent to the target instead.
    pub(super) fn start_redirected(&mut self, key: CallKey, verb: Box<SipRefer>, prepared: Prepared, now: Instant) {
        let transfer = self.enter_transfer(key, verb, prepared, now);
        self.with_transfer(transfer, now, |transfer| transfer.on_caller_redirected(now));
    }

    pub(super) fn hooks_of(&self, trunk: TrunkId) -> HookSettings {
        let (hooks, trunk) = (&self.config().hooks, self.config().trunk(trunk));
        HookSettings {
            base_url: trunk.hooks_base_url.clone().or_else(|| hooks.base_url.clone()),
            secret: trunk.hooks_secret.clone().or_else(|| hooks.secret.clone()),
            jambonz_secret: trunk
                .hooks_jambonz_secret
                .clone()
                .or_else(|| hooks.jambonz_secret.clone()),
        }
    }

    // ---- ending a call ----

    pub(super) fn on_hangup(&mut self, key: CallKey, headers: &[(String, String)], now: Instant) -> Reply {
        let Some(call) = self.calls.get_mut(key) else {
            return Reply::Done;
        };
        let (state, invite) = (call.state, call.invite);
        if call.application.is_some() && matches!(state, CallState::Trying | CallState::Ringing) {
            self.refuse_call(key, (487, "Request Terminated"), &[], "no-answer", now);
            return Reply::Done;
        }
        if is_live(state) {
            let extra = call.extra_mut();
            extra.end_after_ack = true;
            extra.bye_headers = headers.to_vec();
            // What was still to run has no call to run on.
            extra.verbs.clear();
        }
        match state {
            // The 487 comes back from the callee, unless its answer crosses our CANCEL.
            CallState::Trying | CallState::Ringing => match invite.and_then(|invite| self.context_of(invite)) {
                Some(context) => self.cancel_relay(context, None, now),
                None => self.remove_call(key),
            },
            CallState::Answered if self.awaits_ack(key, now) => {}
            CallState::Answered => self.release_after_ack(key, now),
            CallState::Ending | CallState::Ended => {}
        }
        Reply::Done
    }

    pub(super) fn context_of(&self, server: ServerKey) -> Option<crate::proxy::context::ContextKey> {
        match self.transactions.server(server)?.owner {
            super::ServerOwner::Relay(context) => Some(context),
            super::ServerOwner::Local | super::ServerOwner::Application(_) => None,
        }
    }

    // ---- views ----

    /// A page in the order of opening; it looks at no more calls than its limit. Calls that have ended are left out.
    fn list_calls(&self, after: Option<u64>, limit: usize) -> Reply {
        let from = after.map_or(0, |after| after.saturating_add(1));
        let mut page = self.by_order.range(from..).take(limit.saturating_add(1));
        let calls = page
            .by_ref()
            .take(limit)
            .map(|(_, key)| &self.calls[*key])
            .filter(|call| call.state != CallState::Ended)
            .map(|call| self.view(call))
            .collect();
        let next = page.next().map(|(order, _)| order - 1);
        Reply::Calls { calls, next }
    }

    pub(super) fn view(&self, call: &Call) -> CallView {
        let state = match call.state {
            CallState::Trying => "trying",
            CallState::Ringing => "ringing",
            CallState::Answered => "in-progress",
            CallState::Ending => "ending",
            CallState::Ended => "completed",
        };
        let transfer = call
            .extra()
            .and_then(|extra| self.transfers.get(extra.transfer?))
            .map(|transfer| transfer.id.to_string());
        CallView {
            id: call.id.to_string(),
            call_id: text(call.call_id()),
            state,
            from: uri_of(call.get(Party::Caller, Trait::Identity)),
            to: uri_of(call.get(Party::Callee, Trait::Identity)),
            from_trunk: self.config().trunk(call.trunk(Party::Caller)).name.clone(),
            to_trunk: match call.application {
                Some(_) => None,
                None => Some(self.config().trunk(call.trunk(Party::Callee)).name.clone()),
            },
            application: call.application.map(|id| self.config().application(id).name.clone()),
            created_at: self.wall(call.created),
            answered_at: call.answered.map(|at| self.wall(at)),
            transfer,
            customer_data: call
                .extra()
                .map(|extra| extra.customer_data.clone())
                .unwrap_or_default(),
        }
    }

    pub(super) fn facts_of(&self, call: &Call) -> CallFacts {
        let caller = self.config().trunk(call.trunk(Party::Caller));
        CallFacts {
            call: call.id.to_string(),
            call_id: text(call.call_id()),
            direction: if caller.side == Some(Side::Platform) {
                "outbound"
            } else {
                "inbound"
            },
            from: user_of(call.get(Party::Caller, Trait::Identity)),
            to: user_of(call.get(Party::Callee, Trait::Identity)),
            status: match call.state {
                CallState::Trying => "trying",
                CallState::Ringing => "ringing",
                CallState::Answered => "in-progress",
                CallState::Ending | CallState::Ended => "completed",
            },
            sip_status: match call.state {
                CallState::Trying => (100, "Trying"),
                CallState::Ringing => (180, "Ringing"),
                CallState::Answered | CallState::Ending | CallState::Ended => (200, "OK"),
            },
            application: call.application.map(|id| self.config().application(id).name.clone()),
            originating_ip: ip_of(call.flow(Party::Caller)),
            originating_trunk: caller.name.clone(),
            customer_data: call
                .extra()
                .map(|extra| extra.customer_data.clone())
                .unwrap_or_default(),
            status_as_string: self.config().hooks.status_as_string,
        }
    }
}

/// How a ladder shows verbs.
pub(super) fn asked_for(verbs: &[Verb]) -> String {
    match verbs {
        [Verb::SipRefer(refer)] => match &refer.refer_to {
            Some(target) => format!("sip:refer to {target}"),
            None => "sip:refer".to_owned(),
        },
        _ => verbs.iter().map(Verb::name).collect::<Vec<_>>().join(", "),
    }
}

/// The dialog that the target of a transfer of `call` is to replace.
fn other_dialog<'a>(call: &Call, replaces: &'a Replaces) -> Result<&'a OtherDialog, Refusal> {
    let of_field = |detail: &str| refusal(422, "invalid", Some("replaces.call"), detail);
    match &replaces.dialog {
        Some(Ok(dialog)) if dialog.call_id.as_bytes() != call.call_id() => Ok(dialog),
        Some(Ok(_)) => Err(of_field(
            "replaces.call names the call itself that is to be transferred.",
        )),
        Some(Err(why)) => Err(of_field(&format!("replaces.call {why}."))),
        None => Err(of_field("replaces.call was not looked for.")),
    }
}

/// Whether this transfer has succeeded and is about to end its call.
pub(super) fn is_lingering(transfers: &SlotMap<TransferKey, Transfer>, key: TransferKey) -> bool {
    transfers.get(key).is_some_and(Transfer::is_lingering)
}

pub(super) fn refusal(status: u16, code: &'static str, field: Option<&str>, detail: &str) -> Refusal {
    Refusal {
        status,
        code,
        field: field.map(str::to_owned),
        detail: detail.to_owned(),
    }
}

/// The party's own identity: what it asserted of itself, else its From or To without the tag (RFC 3892 §2.1).
fn identity_of(call: &Call, party: Party) -> String {
    let asserted = call.get(party, Trait::Asserted);
    // A list may hold a sip: and a tel: URI; the first is the one.
    let value = if asserted.is_empty() {
        call.get(party, Trait::Identity)
    } else {
        asserted
    };
    uri_of(value)
}

fn uri_of(value: &[u8]) -> String {
    NameAddr::first_of(value)
        .map(|value| text(value.uri))
        .unwrap_or_default()
}

/// The user part, which for a call is its number; the whole URI where there is none.
fn user_of(value: &[u8]) -> String {
    let Ok(value) = NameAddr::parse(value) else {
        return String::new();
    };
    match Uri::parse(value.uri).ok().and_then(|uri| uri.user) {
        Some(user) => text(user),
        None => text(value.uri),
    }
}

fn host_text(uri: &Uri<'_>) -> String {
    let host = match uri.host {
        crate::message::Host::Address(std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
        crate::message::Host::Address(ip) => ip.to_string(),
        crate::message::Host::Name(name) => text(name),
    };
    match uri.port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
