//! Verbs of a call: which runs next, and how an execution of `sip:refer` begins or is refused.

use super::commands::refusal;
use super::transfers::DEFAULT_HOOK;
use super::{Shard, TimerKey};
use crate::call::{Call, CallKey, CallState, Party, Trait, TransferKey};
use crate::command::Refusal;
use crate::config::{Side, TrunkId};
use crate::destination::{default_referred_by, destination_allowed, refer_to_value, referred_by_value, replacing};
use crate::identifiers::TransferId;
use crate::message::value::Text;
use crate::message::{NameAddr, Uri};
use crate::timer::Instant;
use crate::transfer::report::CallFacts;
use crate::transfer::{Cause, Transfer};
use crate::transport::Flow;
use crate::verb::{HookTarget, Leg, OtherDialog, Replaces, SipRefer, Verb, VerbError};
use crate::webhook::{HookSettings, resolve_target};
use slotmap::SlotMap;

/// A `sip:refer` found valid for a call.
pub(super) struct Prepared {
    pub party: Party,
    pub refer_to: String,
    pub referred_by: String,
}

impl Shard {
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
            Some(replaces) => {
                replacing(&refer_to, other_dialog(call, replaces)?, replaces.early_only).map_err(invalid)?
            }
            None => refer_to,
        };
        let display_name = refer.referred_by_display_name.as_deref();
        let referred_by = match &refer.referred_by {
            Some(value) => referred_by_value(value, display_name, rules, &host),
            None => {
                let (identity, own_name) = identity_of(call, party);
                default_referred_by(&identity, own_name.as_deref(), display_name, rules)
            }
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
        let all = HookSettings::of(hooks);
        HookSettings {
            base_url: trunk.hooks_base_url.clone().or(all.base_url),
            secret: trunk.hooks_secret.clone().or(all.secret),
            jambonz_secret: trunk.hooks_jambonz_secret.clone().or(all.jambonz_secret),
            ..all
        }
    }

    pub(super) fn facts_of(&self, call: &Call) -> CallFacts {
        let caller = self.config().trunk(call.trunk(Party::Caller));
        let (status, sip_status) = standing_of(call);
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
            status,
            sip_status,
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

/// How a call stands, in the words of hooks, and what its INVITE was answered with so far.
pub(super) fn standing_of(call: &Call) -> (&'static str, (u16, &'static str)) {
    match call.state {
        CallState::Trying => ("trying", (100, "Trying")),
        CallState::Ringing => ("ringing", (180, "Ringing")),
        CallState::Answered => ("in-progress", (200, "OK")),
        CallState::Ending | CallState::Ended => ("completed", (200, "OK")),
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

/// The party's own identity, what it asserted of itself, else its From or To without the tag (RFC 3892 §2.1); and the display
/// name beside it, where that is a text.
fn identity_of(call: &Call, party: Party) -> (String, Option<String>) {
    let asserted = call.get(party, Trait::Asserted);
    // A list may hold a sip: and a tel: URI; the first is the one.
    let value = if asserted.is_empty() {
        call.get(party, Trait::Identity)
    } else {
        asserted
    };
    let Ok(value) = NameAddr::first_of(value) else {
        return (String::new(), None);
    };
    let name = String::from_utf8(Text::new(value.display).bytes().collect()).ok();
    (text(value.uri), name.map(|name| name.trim().to_owned()))
}

pub(super) fn uri_of(value: &[u8]) -> String {
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

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A flow as hooks name it.
fn ip_of(flow: Flow) -> String {
    flow.peer.ip().to_canonical().to_string()
}
