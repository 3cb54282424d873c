//! What listeners hear of: calls, transfers, trunks, verbs.
//!
//! Events of transfers, trunks and verbs are few and always made where there is a control listener. Those of calls come
//! with every call, so they are made only while somebody listens.

use super::{Output, Shard};
use crate::call::{Call, CallKey, TransferKey};
use crate::config::TrunkId;
use crate::event::{Event, LISTENED_FOR, Step, Stepped, VerbStatus, What};
use crate::health::State;
use crate::timer::Instant;

impl Shard {
    /// Somebody listens for a while.
    pub(super) fn on_listen(&mut self, now: Instant) {
        self.listened_until = now + LISTENED_FOR;
    }

    /// A call has come into its state.
    pub(super) fn tell_call(&mut self, key: CallKey) {
        if self.now < self.listened_until
            && let Some(call) = self.calls.get(key)
        {
            let view = self.view(call);
            self.tell_event(What::Call(view));
        }
    }

    /// As [`Shard::tell_call`], of one that is no longer in the tables.
    pub(super) fn tell_removed_call(&mut self, call: &Call) {
        if self.now < self.listened_until {
            let view = self.view(call);
            self.tell_event(What::Call(view));
        }
    }

    pub(super) fn tell_step(&mut self, key: TransferKey, step: Step, status: Option<u16>) {
        if self.has_listener()
            && let Some(transfer) = self.transfers.get(key)
        {
            let transfer = transfer.view(|at| self.wall(at));
            self.tell_event(What::Transfer(Box::new(Stepped { step, status, transfer })));
        }
    }

    pub(super) fn tell_address(&mut self, trunk: TrunkId, address: usize, state: State) {
        let trunk = self.config().trunk(trunk);
        if self.has_listener()
            && let Some(address) = trunk.addresses.get(address)
        {
            let (trunk, address) = (trunk.name.clone(), address.to_string());
            let state = state.word();
            self.tell_event(What::Trunk { trunk, address, state });
        }
    }

    /// A verb of a call is `starting` or has `finished`.
    pub(super) fn tell_verb(&mut self, key: CallKey, verb: &'static str, id: Option<&str>, event: &'static str) {
        if self.has_listener()
            && let Some(call) = self.calls.get(key)
        {
            let status = VerbStatus {
                call: call.id.to_string(),
                call_id: String::from_utf8_lossy(call.call_id()).into_owned(),
                id: id.map(str::to_owned),
                verb,
                event,
            };
            self.tell_event(What::Verb(status));
        }
    }

    /// Whether anybody could listen at all.
    fn has_listener(&self) -> bool {
        self.config().control.listen.is_some()
    }

    fn tell_event(&mut self, what: What) {
        let at = self.wall(self.now);
        self.effects.push_back(Output::Event(Box::new(Event { what, at })));
    }
}
