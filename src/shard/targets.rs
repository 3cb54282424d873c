//! A new request's branches: the attempts of its route, the start of each, and the search from one to the next
//! (RFC 3261 §16.6, RFC 3263 §4.3).

use super::arrival::Arrival;
use super::relay::Changes;
use super::response::BranchFailure;
use super::route::{NoFlow, retarget, values_named};
use super::{Shard, TimerKey, Waiting};
use crate::call::{CallState, Party};
use crate::config::{Route, RouteMode, RouteTarget, TrunkId};
use crate::health::Failure;
use crate::message::{Header, Message, Method, Uri};
use crate::proxy::context::{Branch, BranchNumber, ContextKey};
use crate::proxy::search::{Attempt, Cause, Search};
use crate::proxy::{self, Refused};
use crate::route_set::Text;
use crate::timer::Instant;
use crate::transaction::Branch as ViaBranch;
use crate::transaction::client::ClientState;
use crate::traversal::Traversal;
use smallvec::SmallVec;
use std::time::Duration;

/// The attempts of a request, in order.
pub(super) type Attempts = SmallVec<[Attempt; 4]>;

impl Shard {
    /// What is the same each time a request comes by that would be routed alike (RFC 5393 §4.2.1): its Request-URI and Routes,
    /// the headers that routes match on, and the trunk it comes from. Not the method: an INVITE's CANCEL and ACK have its branch.
    fn loop_digest(&self, message: Message<'_>, from: TrunkId) -> u32 {
        let from = [from.0];
        let mut parts: SmallVec<[&[u8]; 16]> = SmallVec::new();
        parts.extend([message.request_uri(), &from]);
        parts.extend(message.lines_of(Header::Route).map(|line| line.value));
        let headers = self
            .config()
            .routes
            .iter()
            .filter_map(|route| route.matches.header.as_ref());
        for (name, _) in headers {
            parts.push(name.as_bytes());
            parts.extend(values_named(message, name));
        }
        self.setup.secret.mac(b'l', &parts) as u32
    }

    /// Whether a request has been here before and would take the same way again (RFC 5393 §4.2.2). One that was changed on its
    /// way round is a spiral and goes on.
    pub(super) fn is_loop(&self, message: Message<'_>, from: TrunkId) -> bool {
        let vias = message.vias().map_while(Result::ok);
        let mut digests = vias.filter_map(|via| ViaBranch::loop_digest(via.branch?));
        // Few requests have been here before: the digest of the others is not asked for.
        let Some(first) = digests.next() else { return false };
        let own = self.loop_digest(message, from);
        std::iter::once(first).chain(digests).any(|digest| digest == own)
    }

    /// The attempts of a route: the addresses of its trunks that may be used now, in order or as drawn by weight. Where none
    /// may be used all are tried that are but dead: better a try than a refusal.
    ///
    /// # Errors
    /// All have asked to be left alone (RFC 3261 §21.5.4), so long at least.
    pub(super) fn attempts(&mut self, route: &Route, now: Instant) -> Result<Attempts, Duration> {
        let all = self.all_attempts(route);
        let of = |fits: &dyn Fn(&Attempt) -> bool| {
            let mut attempts: Attempts = all.iter().copied().filter(|attempt| fits(attempt)).collect();
            let mut before = None;
            for attempt in &mut attempts {
                attempt.leads = before.replace(attempt.trunk) != Some(attempt.trunk);
            }
            attempts
        };
        let wait = |attempt: &Attempt| self.address_wait(attempt.trunk, attempt.address.into(), now);
        let usable = of(&|attempt| self.is_usable(attempt.trunk, attempt.address.into(), now));
        if !usable.is_empty() || all.is_empty() {
            return Ok(usable);
        }
        let dead = of(&|attempt| wait(attempt).is_zero());
        match dead.is_empty() {
            false => Ok(dead),
            true => Err(all.iter().map(wait).min().unwrap_or_default()),
        }
    }

    /// All addresses of a route's trunks.
    fn all_attempts(&mut self, route: &Route) -> Attempts {
        let mut targets: SmallVec<[RouteTarget; 4]> = SmallVec::from_slice(&route.to);
        if route.mode == RouteMode::Weighted {
            for place in 0..targets.len() {
                let sum: u64 = targets[place..].iter().map(|target| u64::from(target.weight)).sum();
                let mut drawn = self.random.below(sum);
                let chosen = targets[place..].iter().position(|target| {
                    let is_it = drawn < u64::from(target.weight);
                    drawn = drawn.saturating_sub(u64::from(target.weight));
                    is_it
                });
                targets.swap(place, place + chosen.unwrap_or_default());
            }
        }
        let mut attempts = Attempts::new();
        for RouteTarget { trunk, .. } in targets {
            let addresses = self.config().trunk(trunk).addresses.len();
            attempts.extend((0..=u8::MAX).take(addresses).map(|address| Attempt {
                trunk,
                address,
                leads: address == 0,
            }));
        }
        attempts
    }

    /// Sends a new request to the only address there is, or begins the search for one of several that takes it.
    pub(super) fn relay_new(
        &mut self,
        key: ContextKey,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        route: &Route,
        attempts: Attempts,
        now: Instant,
    ) {
        let breadth = proxy::max_breadth(message);
        let is_invite = arrival.method == Method::Invite;
        let answer_timeout = route.answer_timeout.filter(|_| is_invite);
        if let ([only], None) = (&attempts[..], answer_timeout) {
            let number = self.begin_branch(key, Branch::to(*only, breadth));
            if let Err(failure) = self.start_branch(key, number, message, arrival, now) {
                self.on_branch_failed(key, number, failure, now);
            }
            return;
        }
        // RFC 3261 §16.7 step 5, RFC 4320: forking a request that opens no call gains nothing and may be acted on twice.
        let mode = if is_invite { route.mode } else { RouteMode::Weighted };
        let mut search = Box::new(Search::new(attempts, mode, breadth));
        // RFC 4320 §4.1: nobody may say 100 to it before Timer E has come to T2.
        let least = if is_invite {
            Duration::ZERO
        } else {
            8 * self.config().timers.t1
        };
        search.response_timeout = route.response_timeout.max(least);
        search.answer_timeout = answer_timeout;
        if let Some(context) = self.contexts.get_mut(key) {
            context.search = Some(search);
        }
        self.try_due(key, message, arrival, now);
        self.conclude_if_ended(key, now);
    }

    fn begin_branch(&mut self, key: ContextKey, branch: Branch) -> BranchNumber {
        self.contexts.get_mut(key).map_or(0, |context| context.begin(branch))
    }

    /// Starts branches for the attempts whose turn it is; those that cannot even be started let the next be due.
    fn try_due(&mut self, key: ContextKey, message: Message<'_>, arrival: &Arrival<'_>, now: Instant) {
        while let Some(context) = self.contexts.get_mut(key)
            && let Some(search) = &mut context.search
            && let Some((attempt, breadth)) = search.take_due()
        {
            let number = context.begin(Branch::to(attempt, breadth));
            if let Err(failure) = self.start_branch(key, number, message, arrival, now) {
                self.close_branch(key, number, failure.code(), None);
                if let Some(search) = self.contexts.get_mut(key).and_then(|context| context.search.as_mut()) {
                    search.go_on(attempt, failure.cause());
                }
            }
        }
    }

    /// As [`Shard::try_due`], with the request as its server transaction has it.
    pub(super) fn search_on(&mut self, key: ContextKey, now: Instant) {
        let Some(context) = self.contexts.get(key) else { return };
        if context.search.as_ref().is_some_and(|search| search.has_due()) {
            self.with_request_of(key, |shard, message, arrival| {
                shard.try_due(key, message, arrival, now);
            });
        }
        self.keep_places(key);
        self.conclude_if_ended(key, now);
    }

    /// Sends the request of a context by one of its branches; one whose name must be looked up waits for it.
    fn start_branch(
        &mut self,
        key: ContextKey,
        number: BranchNumber,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        now: Instant,
    ) -> Result<(), BranchFailure> {
        let config = self.setup.config.clone();
        let Some(context) = self.contexts.get(key) else {
            return Err(BranchFailure::Transport);
        };
        let Some((target, breadth)) = context
            .branch(number)
            .and_then(|branch| Some((branch.target?, branch.breadth)))
        else {
            return Err(BranchFailure::Transport);
        };
        let (call, server, session) = (context.call, context.server, context.session);
        let address = &config.trunk(target.trunk).addresses[usize::from(target.address)];
        let flow = match self.flow_to_address(target.trunk, address, arrival.flow.transport, now) {
            Ok(flow) => flow,
            Err(NoFlow::Name(name)) => {
                return match self.wait_for(&name, Waiting::Branch(key, number)) {
                    Ok(()) => Ok(()),
                    Err(_) => Err(BranchFailure::Transport),
                };
            }
            Err(NoFlow::Unreachable) => {
                self.counters.unroutable_total += 1;
                self.note_failure(key, number, Failure::Transport, now);
                return Err(BranchFailure::Transport);
            }
        };
        self.take_place_of_callee(key, target.trunk, now)?;
        // Whoever rings already is the callee, though the first target's name took longer to be found.
        let call_so_far = call.and_then(|call| self.calls.get_mut(call));
        if let Some(call) = call_so_far.filter(|call| number == 0 && call.state == CallState::Trying) {
            call.set_callee(target.trunk, flow);
        }
        let from = match call.and_then(|call| self.calls.get(call)) {
            Some(call) => call.trunk(Party::Caller),
            None => self.topology.trunk_of(arrival.flow).unwrap_or(target.trunk),
        };
        let mut record_routes = SmallVec::<[Text; 2]>::new();
        if proxy::opens_dialog(arrival.method) {
            let from_tag = message.from_tag().unwrap_or_default();
            let traversal = Traversal::new(
                call.unwrap_or_default(),
                from,
                target.trunk,
                from_tag,
                &self.setup.secret,
            );
            record_routes = self.record_routes(&traversal, message.call_id().unwrap_or_default(), arrival.flow, flow);
        }
        let values: SmallVec<[&[u8]; 2]> = record_routes.iter().map(SmallVec::as_slice).collect();
        let uri = Uri::parse(message.request_uri()).ok();
        let request_uri = uri
            .filter(|uri| self.topology.is_addressed_to_us(uri))
            .map(|uri| retarget(&uri, flow, &address.host));
        let cseq = self.number_branch(key, number, message);
        let changes = Changes {
            cseq,
            request_uri: request_uri.as_deref(),
            record_routes: &values,
            own_routes: arrival.own.count,
            loop_digest: Some(self.loop_digest(message, from)),
            max_breadth: Some(breadth),
            session,
            ..Changes::default()
        };
        debug_assert_eq!(arrival.server, Some(server));
        self.send_branch(key, number, message, arrival, flow, &changes, now);
        if let Some(search) = self.contexts.get(key).and_then(|context| context.search.as_deref()) {
            let no_response = search.has_other(target).then_some(search.response_timeout);
            let no_answer = search.answer_timeout;
            if let Some(wait) = no_response {
                self.arm(now, wait, TimerKey::NoResponse(key, number));
            }
            if let Some(wait) = no_answer {
                self.arm(now, wait, TimerKey::NoAnswer(key, number));
            }
        }
        Ok(())
    }

    /// A branch's name was looked up.
    pub(super) fn resume_branch(&mut self, key: ContextKey, number: BranchNumber, now: Instant) {
        let Some(context) = self.contexts.get(key) else { return };
        let Some(branch) = context.branch(number).filter(|branch| !branch.has_ended) else {
            return;
        };
        debug_assert!(branch.client.is_none());
        let mut started = Err(BranchFailure::Transport);
        self.with_request_of(key, |shard, message, arrival| {
            started = shard.start_branch(key, number, message, arrival, now);
        });
        if let Err(failure) = started {
            self.on_branch_failed(key, number, failure, now);
        }
    }

    /// A target has said nothing for long enough that another is tried. It may still answer: it is cancelled if it rings, and
    /// has the call if it answers first.
    pub(super) fn on_no_response(&mut self, key: ContextKey, number: BranchNumber, now: Instant) {
        let Some(client) = self
            .contexts
            .get(key)
            .and_then(|context| context.branch(number)?.client)
        else {
            return;
        };
        let is_silent = |state| matches!(state, ClientState::Calling | ClientState::Trying);
        // One that has challenged has said something.
        let client = self.transactions.client(client).filter(|client| client.attempt == 0);
        if client.is_some_and(|client| is_silent(client.state)) {
            self.note_failure(key, number, Failure::Timeout, now);
            self.give_up(key, number, Cause::NoUse, now);
        }
    }

    /// A target has rung for as long as it may.
    pub(super) fn on_no_answer(&mut self, key: ContextKey, number: BranchNumber, now: Instant) {
        self.give_up(key, number, Cause::Refused, now);
    }

    fn give_up(&mut self, key: ContextKey, number: BranchNumber, cause: Cause, now: Instant) {
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        let Some(branch) = context.branch(number).filter(|branch| !branch.has_ended) else {
            return;
        };
        let (Some(target), false) = (branch.target, branch.cancelled.is_some()) else {
            return;
        };
        if let Some(search) = &mut context.search {
            search.go_on(target, cause);
        }
        self.counters.branches_given_up_total += 1;
        self.cancel_branch(key, number, None, now);
        self.search_on(key, now);
    }

    /// A branch has its final response, or will have none: what it means for the search.
    pub(super) fn end_branch(
        &mut self,
        key: ContextKey,
        number: BranchNumber,
        code: u16,
        response: Option<Message<'_>>,
        cause: Cause,
        now: Instant,
    ) {
        let Some(was_cancelled) = self.close_branch(key, number, code, response) else {
            return;
        };
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        let target = context.branch(number).and_then(|branch| branch.target);
        if let (Some(search), Some(target)) = (&mut context.search, target) {
            match code {
                // RFC 3261 §16.7 step 5: nobody else is asked, and the others need not answer any more.
                600.. => search.stop(),
                // The caller has to answer the challenge first, or that target would never be had.
                401 | 407 => search.stop(),
                _ if was_cancelled => {}
                _ => search.go_on(target, cause),
            }
        }
        if code >= 600 {
            self.cancel_pending(key, None, now);
        }
        self.search_on(key, now);
    }

    /// Notes a branch's end; whether it had been cancelled. `None`: it had ended before.
    fn close_branch(
        &mut self,
        key: ContextKey,
        number: BranchNumber,
        code: u16,
        response: Option<Message<'_>>,
    ) -> Option<bool> {
        let context = self.contexts.get_mut(key)?;
        let branch = context
            .branches
            .get_mut(usize::from(number))
            .filter(|branch| !branch.has_ended)?;
        branch.has_ended = true;
        branch.is_gone |= branch.client.is_none();
        let was_cancelled = branch.cancelled.is_some();
        if let Some(search) = &mut context.search {
            search.give_back(branch.breadth);
            match code {
                // A 487 that we asked for says that the target took too long.
                487 if was_cancelled => search.best.offer(408, None),
                _ => search.best.offer(code, response),
            }
        }
        Some(was_cancelled)
    }

    /// Sends the best final response once all branches have ended (RFC 3261 §16.7 step 6).
    fn conclude_if_ended(&mut self, key: ContextKey, now: Instant) {
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        if context.pending().next().is_some() {
            return;
        }
        let (server, method) = (context.server, context.method);
        let Some(search) = context.search.as_mut().filter(|search| !search.is_answered) else {
            return self.leave_context(key, |_| {});
        };
        if search.has_due() {
            return;
        }
        search.is_answered = true;
        let best = search.best.take();
        let is_cancelled = search.is_cancelled;
        let code = best.as_ref().map_or(503, |(best, _)| best.code);
        match best.and_then(|(best, challenges)| Some((best.response?, challenges))) {
            _ if is_cancelled && code < 600 => self.answer_stored(server, Refused::new(487, "Request Terminated"), now),
            Some(_) if code == 408 && method != Method::Invite => self.answer_failed(key, code, true, now),
            Some((response, challenges)) if code != 503 => self.send_kept_response(key, &response, &challenges, now),
            Some(_) | None => self.answer_failed(key, code, false, now),
        }
        self.on_final(key, code, now);
        self.leave_context(key, |_| {});
    }
}
