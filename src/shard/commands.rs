//! What the control API asks for: calls and transfers to look at, verbs to run, calls to end.

use super::attended::Aside;
use super::refer::refer_lines;
use super::verbs::{text, uri_of};
use super::{Output, Shard, Unrecorded, is_live};
use crate::application::admit_relayed;
use crate::call::{Call, CallKey, CallState, Party, Trait};
use crate::command::{CallSelector, CallView, Command, Refusal, Reply};
use crate::identifiers::TransferId;
use crate::timer::Instant;
use crate::transaction::ServerKey;
use crate::verb::Verb;

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

pub(super) fn refusal(status: u16, code: &'static str, field: Option<&str>, detail: &str) -> Refusal {
    Refusal {
        status,
        code,
        field: field.map(str::to_owned),
        detail: detail.to_owned(),
    }
}
