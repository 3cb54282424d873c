//! Attended transfer (RFC 5589 §7): the dialog of another call that the transfer target is to replace, wherever that call is.
//!
//! The other call may be another shard's. Then the list of verbs that names it is put aside until that shard has told of the
//! dialog, and goes on from its beginning with that filled in.

use super::{Output, Shard, TimerKey};
use crate::call::{CallKey, CallState};
use crate::command::{CallSelector, Command};
use crate::identifiers::{CallId, TransferId};
use crate::message::uri::request_uri;
use crate::timer::Instant;
use crate::verb::{Leg, OtherDialog, Replaces, Verb};
use std::time::Duration;

/// What a shard asks another, and what it is told.
#[derive(Clone, Debug)]
pub enum Inquiry {
    /// Which dialog is that?
    Asked {
        from: u16,
        number: u64,
        call: CallSelector,
        leg: Option<Leg>,
        early_only: bool,
    },
    Told {
        number: u64,
        /// Or why there is none, as the end of a sentence about the call.
        dialog: Result<OtherDialog, String>,
    },
}

/// A list of verbs that waits for a dialog.
#[derive(Debug)]
pub(super) enum Aside {
    /// Of the control API.
    Command {
        ticket: u64,
        call: CallSelector,
        verbs: Vec<Verb>,
        dry_run: bool,
    },
    /// What an action was answered with.
    Reply { transfer: TransferId, verbs: Vec<Verb> },
    /// What the hook of an update was answered with.
    Update { call: CallKey, verbs: Vec<Verb> },
    /// Of an application that leads a call, by its number there.
    List {
        call: CallKey,
        number: u32,
        verbs: Vec<Verb>,
    },
}

impl Aside {
    fn verbs(&mut self) -> &mut [Verb] {
        match self {
            Aside::Command { verbs, .. }
            | Aside::Reply { verbs, .. }
            | Aside::Update { verbs, .. }
            | Aside::List { verbs, .. } => verbs,
        }
    }
}

/// Another shard answers within a turn of its worker; after this time the question was lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Lists that wait at a time; a further one is told that the call is not to be had.
const ASIDE_MAX: usize = 1_024;

impl Shard {
    /// Fills in the dialogs that a list names. `None`: another shard is asked for one, and the list goes on with that.
    pub(super) fn with_dialogs(&mut self, mut list: Aside, now: Instant) -> Option<Aside> {
        while let Some(replaces) = first_open(list.verbs()) {
            let (owner, call) = self.owner_of(&replaces.call);
            let (leg, early_only) = (replaces.leg, replaces.early_only);
            let is_asked = owner != self.setup.shard && owner < self.setup.shards;
            if is_asked && self.asides.len() < ASIDE_MAX {
                self.next_aside += 1;
                let number = self.next_aside;
                let from = self.setup.shard;
                let inquiry = Box::new(Inquiry::Asked {
                    from,
                    number,
                    call,
                    leg,
                    early_only,
                });
                self.asides.insert(number, list);
                self.effects.push_back(Output::Inquire { to: owner, inquiry });
                self.arm(now, ANSWER_WITHIN, TimerKey::Aside(number));
                return None;
            }
            replaces.dialog = Some(if is_asked {
                Err("cannot be looked for: too many lists of verbs wait for other calls".into())
            } else if owner == self.setup.shard {
                self.dialog_of_call(&call, leg, early_only)
            } else {
                Err("is no call of this referee".into())
            });
        }
        Some(list)
    }

    pub(super) fn on_inquiry(&mut self, inquiry: Inquiry, now: Instant) {
        match inquiry {
            Inquiry::Asked {
                from,
                number,
                call,
                leg,
                early_only,
            } => {
                let dialog = self.dialog_of_call(&call, leg, early_only);
                let inquiry = Box::new(Inquiry::Told { number, dialog });
                self.effects.push_back(Output::Inquire { to: from, inquiry });
            }
            Inquiry::Told { number, dialog } => self.on_dialog_told(number, dialog, now),
        }
    }

    pub(super) fn on_aside_over(&mut self, number: u64, now: Instant) {
        self.on_dialog_told(
            number,
            Err("could not be looked for: its worker did not answer".into()),
            now,
        );
    }

    fn on_dialog_told(&mut self, number: u64, dialog: Result<OtherDialog, String>, now: Instant) {
        let Some(mut aside) = self.asides.remove(&number) else {
            return;
        };
        if let Some(replaces) = first_open(aside.verbs()) {
            replaces.dialog = Some(dialog);
        }
        match aside {
            Aside::Command {
                ticket,
                call,
                verbs,
                dry_run,
            } => self.on_command(ticket, Command::Verbs { call, verbs, dry_run }, now),
            Aside::Reply { transfer, verbs } => self.on_reply(transfer, verbs, now),
            Aside::Update { call, verbs } => self.run_update(call, verbs, now),
            Aside::List { call, number, verbs } => self.run_numbered(call, number, verbs, now),
        }
    }

    /// Whose call that is: a name is the call's id or its SIP Call-ID.
    fn owner_of(&self, name: &str) -> (u16, CallSelector) {
        match name.parse::<CallId>() {
            Ok(id) => (id.shard, CallSelector::Id(id)),
            Err(_) => {
                let call_id = name.as_bytes().to_vec();
                let owner = self.setup.secret.owner(&call_id, self.setup.shards);
                (owner, CallSelector::SipCallId(call_id))
            }
        }
    }

    /// The dialog of a call as the party sees it that is the transfer target: to-tag is that party's own (RFC 3891 §3).
    fn dialog_of_call(&self, call: &CallSelector, leg: Option<Leg>, early_only: bool) -> Result<OtherDialog, String> {
        let key = self.find_call(call).map_err(|refusal| match refusal.code {
            "ambiguous" => "is a Call-ID that names several calls".to_owned(),
            _ => "is no live call".to_owned(),
        })?;
        let call = &self.calls[key];
        match call.state {
            CallState::Answered => {}
            CallState::Trying | CallState::Ringing if early_only => {}
            CallState::Trying | CallState::Ringing => return Err("is a call that is not answered yet".into()),
            CallState::Ending | CallState::Ended => return Err("is a call that has ended".into()),
        }
        let party = self
            .leg_of(call, leg)
            .map_err(|_| "is a call of which not exactly one side is a carrier's: say replaces.leg".to_owned())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (Some(to_tag), Some(from_tag)) = (call.tag(party), call.tag(party.other())) else {
            return Err("is a call without both its tags".into());
        };
        Ok(OtherDialog {
            call_id: text(call.call_id()),
            to_tag: text(to_tag),
            from_tag: text(from_tag),
            target: text(&request_uri(call.target(party))),
        })
    }
}

/// The first dialog that is still to be found.
fn first_open(verbs: &mut [Verb]) -> Option<&mut Replaces> {
    verbs.iter_mut().find_map(|verb| match verb {
        Verb::SipRefer(refer) => refer.replaces.as_mut().filter(|replaces| replaces.dialog.is_none()),
        _ => None,
    })
}
