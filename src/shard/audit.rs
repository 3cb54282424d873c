//! Whether all that is alive can still end: for the simulator, which asks while it runs.
//!
//! Every entry of every table must have a timer that is armed or an input that is on its way, and all indices must agree. What
//! is checked here is too much for each input of a debug build; `Shard::check_invariants` has the cheap part.

use super::attended::Aside;
use super::{ClientOwner, ServerOwner, Shard, TimerKey, Unrecorded, Waiting};
use crate::application::Wait;
use crate::call::{Call, CallKey, CallState, Party};
use crate::config::TrunkId;
use crate::proxy::context::{BranchNumber, ContextKey};
use crate::timer::Instant;
use crate::transaction::ServerKey;
use crate::transaction::client::ClientState;
use crate::webhook::Subject;
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

/// Inputs that the driver owes a shard.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    /// Look-ups that are not answered.
    pub lookups: usize,
    /// Records that are not acknowledged.
    pub records: usize,
    /// Actions and questions whose outcome is not known.
    pub outcomes: Vec<Subject>,
}

/// When each armed timer fires last.
type Armed = HashMap<TimerKey, Instant, FixedState>;

/// What the tables refer to.
struct Known {
    armed: Armed,
    /// Server transactions of requests that wait for their turn, a name or the store.
    waiting: HashSet<ServerKey, FixedState>,
    /// Branches that wait for a name.
    branches: HashSet<(ContextKey, BranchNumber), FixedState>,
}

impl Shard {
    /// What is wrong; empty: nothing.
    pub fn audit(&self, pending: &Pending) -> Vec<String> {
        let mut faults = Vec::new();
        let known = self.known();
        self.transactions.audit(
            |deadline| known.armed.contains_key(&TimerKey::from(deadline)),
            &mut faults,
        );
        self.audit_owners(&known, &mut faults);
        self.audit_contexts(&known, &mut faults);
        self.audit_calls(&known, pending, &mut faults);
        self.audit_places(&mut faults);
        self.audit_served(&known, pending, &mut faults);
        self.audit_transfers(&known, &mut faults);
        self.audit_probes(&known, &mut faults);
        self.audit_bounds(&mut faults);
        for number in self.asides.keys() {
            if !known.armed.contains_key(&TimerKey::Aside(*number)) {
                faults.push(format!("list {number} may wait for another shard for ever"));
            }
        }
        if self.names.open() != pending.lookups {
            faults.push(format!(
                "{} names wait for {} answers",
                self.names.open(),
                pending.lookups
            ));
        }
        if self.unrecorded.len() != pending.records {
            faults.push(format!(
                "{} wait for {} records",
                self.unrecorded.len(),
                pending.records
            ));
        }
        faults
    }

    /// The arrows its transactions and transfers have taken.
    pub fn coverage(&self) -> crate::coverage::Coverage {
        let mut all = self.coverage.clone();
        all.add(self.transactions.coverage());
        for transfer in self.transfers.values() {
            all.add(&transfer.coverage());
        }
        all
    }

    fn known(&self) -> Known {
        let mut armed = Armed::default();
        for (at, key) in self.timers.entries() {
            let last = armed.entry(*key).or_insert(at);
            *last = at.max(*last);
        }
        let mut waiting: HashSet<ServerKey, FixedState> = HashSet::default();
        let mut branches: HashSet<(ContextKey, BranchNumber), FixedState> = HashSet::default();
        for lookup in self.names.waiting() {
            match lookup {
                Waiting::Request { server, .. } => waiting.extend(*server),
                Waiting::Branch(context, number) => drop(branches.insert((*context, *number))),
                Waiting::Refer(_)
                | Waiting::Bye(..)
                | Waiting::Probe(_)
                | Waiting::Refresh(_)
                | Waiting::OwnRequest(..) => {}
            }
        }
        waiting.extend(self.unrecorded.values().filter_map(|unrecorded| match unrecorded {
            Unrecorded::Response { server, .. } => Some(*server),
            Unrecorded::Reply { .. } => None,
        }));
        let extras = self.calls.values().filter_map(Call::extra);
        waiting.extend(extras.flat_map(|extra| extra.held.iter().map(|held| held.server)));
        Known {
            armed,
            waiting,
            branches,
        }
    }

    /// Transactions that have no deadline of their own.
    fn audit_owners(&self, known: &Known, faults: &mut Vec<String>) {
        for (key, server) in self.transactions.servers() {
            let is_served = match server.owner {
                ServerOwner::Local => known.waiting.contains(&key),
                ServerOwner::Application(call) => self.calls.get(call).is_some_and(|call| call.invite == Some(key)),
                ServerOwner::Relay(context) => {
                    let pending = self.contexts.get(context).map(|context| context.pending().count());
                    pending.is_some_and(|pending| pending > 0)
                }
            };
            if server.is_waiting() && !is_served {
                faults.push(format!("nobody will answer {:?} in {:?}", server.method, server.state));
            }
        }
        for (key, client) in self.transactions.clients() {
            let is_invite = client.method == crate::message::Method::Invite;
            if client.state != ClientState::Proceeding || !is_invite || client.is_quiet {
                continue;
            }
            if let ClientOwner::Refresh(call) = client.owner {
                let refresh = self.served.get(&call).and_then(|served| served.refresh.as_ref());
                if refresh.is_none_or(|refresh| refresh.client != key) {
                    faults.push("nothing ends a refresh that has a provisional response".into());
                }
                continue;
            }
            let ClientOwner::Relay(context, branch) = client.owner else {
                faults.push("an INVITE of nobody's".into());
                continue;
            };
            let ends = [TimerKey::TimerC(context, branch), TimerKey::CancelWait(context, branch)];
            if !ends.iter().any(|timer| known.armed.contains_key(timer)) {
                faults.push(format!(
                    "nothing ends the INVITE {key:?} that has a provisional response"
                ));
            }
        }
    }

    fn audit_contexts(&self, known: &Known, faults: &mut Vec<String>) {
        for (key, context) in &self.contexts {
            let method = context.method;
            if self.transactions.server(context.server).is_some() == context.server_gone {
                faults.push(format!("a context of {method:?}: server gone {}", context.server_gone));
            }
            if context.is_over() {
                faults.push(format!("a context of {method:?} whose transactions have all ended"));
            }
            for (number, branch) in context.branches.iter().enumerate() {
                // One that has ended meanwhile takes no notice of its answer.
                let waits = !branch.has_ended && known.branches.contains(&(key, number as BranchNumber));
                let client = branch.client.and_then(|client| self.transactions.client(client));
                let is_pending = waits || client.is_some_and(|client| client.is_waiting());
                if is_pending == branch.has_ended || (client.is_some() || waits) == branch.is_gone {
                    faults.push(format!(
                        "a branch of {method:?}: pending {is_pending}, ended {}, gone {}",
                        branch.has_ended, branch.is_gone
                    ));
                }
            }
        }
    }

    fn audit_calls(&self, known: &Known, pending: &Pending, faults: &mut Vec<String>) {
        let listed: usize = self.by_call_id.values().map(smallvec::SmallVec::len).sum();
        if [listed, self.by_number.len(), self.by_order.len()] != [self.calls.len(); 3] {
            faults.push(format!("{} calls, {listed} by Call-ID", self.calls.len()));
        }
        for (key, call) in &self.calls {
            let digest = self.call_id_digest(call.call_id());
            let is_found = self.by_call_id.get(&digest).is_some_and(|keys| keys.contains(&key))
                && self.by_number.get(&call.id.number) == Some(&key)
                && self.by_order.get(&call.order) == Some(&key);
            if !is_found {
                faults.push(format!("{} is not found by all its names", call.id));
            }
            let problem = match call.state {
                CallState::Trying | CallState::Ringing => {
                    let invite = call.invite.and_then(|invite| self.transactions.server(invite));
                    (!invite.is_some_and(|invite| invite.is_waiting())).then_some("its INVITE does not wait")
                }
                CallState::Answered => {
                    (!known.armed.contains_key(&TimerKey::Lifetime(key))).then_some("nothing looks whether it is over")
                }
                CallState::Ending => (self.byes_open(key) == 0).then_some("no BYE of ours is open"),
                CallState::Ended => (!known.armed.contains_key(&TimerKey::Forget(key))).then_some("nothing forgets it"),
            };
            if let Some(problem) = problem {
                faults.push(format!("a call in {:?}: {problem}", call.state));
            }
            self.audit_extra(key, call, known, pending, faults);
        }
    }

    /// Calls that an application leads: each waits for something that comes or is armed.
    fn audit_served(&self, known: &Known, pending: &Pending, faults: &mut Vec<String>) {
        let is_armed = |timer| known.armed.contains_key(&timer);
        let led = self
            .calls
            .iter()
            .filter(|(_, call)| call.application.is_some() && call.state != CallState::Ended);
        let mut count = 0;
        for (key, call) in led {
            count += 1;
            let Some(served) = self.served.get(&key) else {
                faults.push(format!("a call in {:?} has lost its application", call.state));
                continue;
            };
            let mut fault = |what: &str| faults.push(format!("a call of an application in {:?} {what}", call.state));
            let is_open = matches!(call.state, CallState::Trying | CallState::Ringing);
            if is_open && !is_armed(TimerKey::Unanswered(key)) {
                fault("may stay without an answer for ever");
            }
            if served.answer.is_some() && !is_armed(TimerKey::Repeat(key)) {
                fault("does not repeat its answer");
            }
            if served.provisional.is_some() && !is_armed(TimerKey::Reliable(key)) {
                fault("does not repeat its provisional response");
            }
            if call.state == CallState::Ending {
                continue;
            }
            if served.look_at.is_some() && !is_armed(TimerKey::Session(key)) {
                fault("does not look at its session");
            }
            let extra = call.extra();
            let last = extra.and_then(|extra| self.transfers.get(extra.last_transfer?));
            let runs = extra.is_some_and(|extra| extra.transfer.is_some() || extra.awaits_reply || extra.end_after_ack);
            let goes_on = match served.program.waits_for() {
                Some(Wait::Reply { question, .. }) => pending.outcomes.contains(&Subject::Question(call.id, question)),
                Some(Wait::Ack) => served.answer.is_some(),
                Some(Wait::Dialog { list }) => {
                    let mut asides = self.asides.values();
                    asides.any(
                        |aside| matches!(aside, Aside::List { call, number, .. } if (*call, *number) == (key, list)),
                    )
                }
                Some(Wait::Response { request }) => served.requests.iter().any(|(open, _)| *open == request),
                None => runs || last.is_some_and(|last| last.is_lingering()) || is_armed(TimerKey::Pause(key)),
            };
            if !goes_on {
                fault("waits for nothing");
            }
        }
        if count != self.served.len() {
            faults.push(format!(
                "{count} calls of applications, {} are served",
                self.served.len()
            ));
        }
    }

    fn byes_open(&self, key: CallKey) -> usize {
        let is_bye = |owner: ClientOwner| matches!(owner, ClientOwner::Bye(call, _) if call == key);
        let sent = self
            .transactions
            .clients()
            .filter(|(_, client)| client.is_waiting() && is_bye(client.owner));
        let waiting = self
            .names
            .waiting()
            .filter(|waiting| matches!(waiting, Waiting::Bye(call, _) if *call == key));
        sent.count() + waiting.count()
    }

    fn audit_extra(&self, key: CallKey, call: &Call, known: &Known, pending: &Pending, faults: &mut Vec<String>) {
        let Some(extra) = call.extra() else { return };
        let mut fault = |what: &str| faults.push(format!("a call in {:?} {what}", call.state));
        if let Some((_, until)) = extra.hold
            && known.armed.get(&TimerKey::Hold(key)).is_none_or(|at| *at < until)
        {
            fault("holds requests and no timer lets them go");
        }
        if !extra.held.is_empty() && extra.hold.is_none() {
            fault("has requests that wait for nothing");
        }
        if call.state == CallState::Ending && usize::from(extra.byes_open) != self.byes_open(key) {
            fault("counts its BYEs wrong");
        }
        if extra
            .transfer
            .is_some_and(|key| self.transfers.get(key).is_none_or(|transfer| transfer.is_over()))
        {
            fault("takes a transfer for one that runs");
        }
        let last = extra.last_transfer.and_then(|key| self.transfers.get(key));
        let is_aside = |id| {
            let mut asides = self.asides.values();
            asides.any(|aside| matches!(aside, Aside::Reply { transfer, .. } if *transfer == id))
        };
        let is_owed = |id| pending.outcomes.contains(&Subject::Transfer(id)) || is_aside(id);
        if extra.awaits_reply && last.is_none_or(|last| !is_owed(last.id)) {
            fault("waits for a reply that nobody owes");
        }
        let goes_on = extra.transfer.is_some()
            || extra.awaits_reply
            || last.is_some_and(|last| last.is_lingering())
            || known.armed.contains_key(&TimerKey::Pause(key));
        let is_answered = call.state == CallState::Answered && call.application.is_none();
        if is_answered && !extra.verbs.is_empty() && !goes_on {
            fault("has verbs that nothing runs");
        }
    }

    fn audit_transfers(&self, known: &Known, faults: &mut Vec<String>) {
        if self.transfer_by_number.len() != self.transfers.len() {
            faults.push("transfers are not all found by their numbers".into());
        }
        let remembered: HashSet<_, FixedState> = self.remembered.iter().copied().collect();
        if remembered.len() != self.remembered.len() {
            faults.push("a transfer is remembered twice".into());
        }
        for (key, transfer) in &self.transfers {
            let state = transfer.state_name();
            if transfer.is_over() != remembered.contains(&key) {
                faults.push(format!(
                    "a transfer that is {state} is remembered: {}",
                    remembered.contains(&key)
                ));
            }
            for (timer, at) in transfer.deadlines() {
                let armed = known.armed.get(&TimerKey::Transfer(key, timer));
                if armed.is_none_or(|armed| *armed < at) {
                    faults.push(format!(
                        "a transfer that is {state} waits for {timer:?}, which is not armed"
                    ));
                }
            }
            if !transfer.can_end() {
                faults.push(format!("nothing ends a transfer that is {state}"));
            }
            let runs_on = self.calls.get(transfer.call).and_then(|call| call.extra()?.transfer);
            if !transfer.is_over() && runs_on != Some(key) {
                faults.push(format!("a transfer that is {state} runs on no call"));
            }
        }
    }

    fn audit_probes(&self, known: &Known, faults: &mut Vec<String>) {
        for (id, since) in self.probes_under_way() {
            let timer = match since {
                Some(since) => TimerKey::ProbeOver(id, since),
                None => TimerKey::Probe(id),
            };
            if !(known.armed.contains_key(&timer) || self.draining && since.is_none()) {
                faults.push(format!("nothing goes on with {id:?}, under way since {since:?}"));
            }
        }
    }

    /// A call has a place where it is and where it is tried, one on each trunk, and none once it has ended.
    fn audit_places(&self, faults: &mut Vec<String>) {
        let mut tried: HashMap<CallKey, Vec<TrunkId>, FixedState> = HashMap::default();
        for context in self.contexts.values().filter(|context| context.is_initial) {
            let targets = context.pending().filter_map(|number| context.branch(number)?.target);
            let of_call = tried.entry(context.call.unwrap_or_default()).or_default();
            of_call.extend(targets.map(|target| target.trunk));
        }
        for (key, call) in &self.calls {
            let mut fault = |what: &str| faults.push(format!("a call in {:?} {what}", call.state));
            let is_over = call.state == CallState::Ended;
            if is_over && call.places.has_from() {
                fault("keeps its caller's place");
            }
            let is_answered = !matches!(call.state, CallState::Trying | CallState::Ringing);
            let callee = Some(call.trunk(Party::Callee)).filter(|_| is_answered && !is_over);
            let tried = tried.get(&key).map_or(&[][..], Vec::as_slice);
            let mut had: Vec<TrunkId> = Vec::new();
            for trunk in call.places.tried() {
                if had.contains(&trunk) {
                    fault("has two places on a trunk");
                }
                had.push(trunk);
                if callee != Some(trunk) && !tried.contains(&trunk) {
                    fault("has a place where it is not tried any more");
                }
            }
        }
    }

    /// Places that calls have on a trunk.
    pub fn places_on(&self, trunk: TrunkId) -> usize {
        self.calls.values().map(|call| call.places.count_on(trunk)).sum()
    }

    fn audit_bounds(&self, faults: &mut Vec<String>) {
        let limits = self.config().limits;
        let mut at_most = |what: &str, count: usize, most: usize| {
            if count > most {
                faults.push(format!("{count} {what}, above {most}"));
            }
        };
        at_most("calls", self.calls.len(), limits.calls_max);
        at_most("names being looked up", self.names.open(), limits.lookups_max);
        for call in self.calls.values() {
            let held = call.extra().map_or(0, |extra| extra.held.len());
            at_most("held requests of a call", held, limits.held_per_call_max);
        }
        let is_kept = |key| {
            self.transfers
                .get(key)
                .is_some_and(|transfer| transfer.is_lingering() || transfer.awaits_outcome)
        };
        let kept = self.remembered.iter().filter(|key| is_kept(**key)).count();
        at_most(
            "transfers remembered",
            self.remembered.len(),
            limits.transfers_remembered + kept,
        );
        // Once there are twice as many, a request within a dialog is refused; the CANCEL of an INVITE that is there is not.
        let cancels = |method| method == crate::message::Method::Cancel;
        let asked = self
            .transactions
            .servers()
            .filter(|(_, server)| !cancels(server.method));
        let most = limits.transactions_max.saturating_mul(2);
        at_most("server transactions", asked.count(), most);
    }
}
