//! The delivery machine: a lane per subject, a fair queue per endpoint, retries, and the bound on all of it.
//!
//! ```text
//!                         ┌────────── retry ◄── Backoff ◄──┐ failed, worth another attempt
//!                         ▼                                │
//!  submit ──► waiting ──► Ready ──► poll_job ──► UnderWay ─┴──► delivered, refused or given up ──► next of the lane
//!                         its endpoint's turn
//! ```
//!
//! - Within a lane hooks go one after another, in the order they were submitted; lanes never wait for each other.
//! - An endpoint has a bounded number of attempts at a time and is suspended after five failures in a row. Endpoints
//!   take turns. An attempt that is slow gives its place among [`Hooks::threads`] to a spare sender, so that endpoints
//!   which hang do not use up the places of those which answer.
//! - When an action is submitted, the events before it get [`HookSettings::events_wait`](super::HookSettings::events_wait) more. Then they are given up, one that
//!   is under way included, and counted in the action's `missed`; the receiver may still have got that one.
//! - Every action is reported exactly once: when its first attempt ends, or `events_wait + timeout` after it was submitted
//!   if that comes first (its endpoint may be suspended), or at once if there is no room for it.
//! - A question has one attempt, and its outcome is reported [`HookSettings::timeout`](super::HookSettings::timeout) after it was submitted at the latest.
//! - Everything ends: an event is given up [`EVENT_RETRY_FOR`] after its turn came, an action
//!   [`Hooks::action_retry_for`] after it was submitted.

use super::endpoint::{Endpoint, doubled, jitter};
use super::job::{Job, JobId, Outcome, Verdict};
use super::{ActionOutcome, Hook, HookKind, Subject, origin};
use crate::config::Hooks;
use crate::identifiers::Random;
use crate::timer::Instant;
use foldhash::quality::FixedState;
use hashbrown::HashMap;
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Decides what is posted when. Feed [`Lanes::submit`], [`Lanes::finished`] and [`Lanes::handle_timeout`] with a time
/// that never goes back; after each, drain [`Lanes::poll_job`] and [`Lanes::poll_report`].
#[derive(Debug)]
pub struct Lanes {
    limits: Limits,
    random: Random,
    lanes: Slab<Lane>,
    by_subject: HashMap<Subject, usize, FixedState>,
    endpoints: Slab<Endpoint>,
    by_key: HashMap<String, usize, FixedState>,
    /// Endpoints that may have something to start, each once, in turn.
    ring: VecDeque<usize>,
    attempts: Slab<Attempt>,
    /// At most one entry per lane, endpoint and attempt: the `deadline` that it has.
    deadlines: BTreeSet<(Instant, Owner)>,
    /// Events that are not under way, oldest first, with their lanes: what makes room for an action.
    droppable: BTreeMap<u64, usize>,
    reports: VecDeque<Report>,
    /// Numbers hooks, attempts and turns.
    sequence: u64,
    /// Lanes without hooks, kept because an action will have to say what was missed.
    remembered: usize,
    /// Attempts that take a place among `threads`: those not slow.
    brisk: usize,
    counters: Counters,
}

/// What the first attempt of an action or a question came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub subject: Subject,
    pub outcome: ActionOutcome,
}

/// Plain numbers. At any time, over events, actions and questions: submitted = delivered + given up + dropped + unanswered defaults +
/// held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub events_submitted: u64,
    pub actions_submitted: u64,
    pub questions_submitted: u64,
    /// Answered with 2xx.
    pub events_delivered: u64,
    pub actions_delivered: u64,
    pub questions_delivered: u64,
    /// Refused with a final status, or not delivered in their time.
    pub events_given_up: u64,
    pub actions_given_up: u64,
    pub questions_given_up: u64,
    /// No room.
    pub events_dropped: u64,
    pub actions_dropped: u64,
    pub questions_dropped: u64,
    /// Hooks to the default word that nobody answers to.
    pub defaults_unanswered: u64,
    pub attempts: u64,
    /// Without an answer, or with 408, 429 or 5xx.
    pub attempts_failed: u64,
    /// Gauge: hooks waiting or under way.
    pub held: u64,
    /// Gauge: attempts under way.
    pub under_way: u64,
    /// Gauge: endpoints that have hooks or have failed lately.
    pub endpoints: u64,
    /// Gauge: those of them that get one probe at a time.
    pub endpoints_suspended: u64,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    action_retry_for: Duration,
    threads: usize,
    queue_max: usize,
    /// Room for events: the rest is for actions.
    events_room: usize,
    per_endpoint_max: usize,
}

#[derive(Debug)]
struct Lane {
    subject: Subject,
    /// The head is what `state` is about. Empty only while `missed` is to be remembered.
    waiting: VecDeque<Entry>,
    state: LaneState,
    /// Events of this transfer that were not delivered and whose action has not left yet.
    missed: u64,
    /// When the events before the action are given up.
    events_until: Option<Instant>,
    /// When an empty lane is forgotten.
    forget_at: Option<Instant>,
    deadline: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LaneState {
    Empty,
    /// In its endpoint's queue under this number.
    Ready {
        turn: u64,
    },
    Backoff {
        until: Instant,
    },
    UnderWay,
}

#[derive(Debug)]
struct Entry {
    sequence: u64,
    hook: Arc<Hook>,
    endpoint: usize,
    attempts: u32,
    /// When it is given up; for an event known once its turn has come.
    expires: Option<Instant>,
    /// Until when its outcome must be reported, while that is owed.
    report_by: Option<Instant>,
}

#[derive(Debug)]
struct Attempt {
    number: u64,
    lane: usize,
    /// Of the hook; if it is no longer its lane's head, it was given up meanwhile.
    sequence: u64,
    endpoint: usize,
    /// When it gives up its place to a spare sender; `None` once it has.
    slow_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Lane(usize),
    Endpoint(usize),
    Attempt(usize),
}

impl Lanes {
    /// `random` is for jitter and for hash keys.
    pub fn new(config: &Hooks, mut random: Random) -> Lanes {
        let threads = config.threads.max(1);
        let queue_max = config.queue_max.max(1);
        let hasher = FixedState::with_seed(random.next_u64());
        Lanes {
            limits: Limits {
                action_retry_for: config.action_retry_for,
                threads,
                queue_max,
                events_room: queue_max - queue_max.div_ceil(10),
                // Never all threads for one endpoint.
                per_endpoint_max: config.per_endpoint_max.min(threads.div_ceil(2)).max(1),
            },
            random,
            lanes: Slab::new(),
            by_subject: HashMap::with_hasher(hasher.clone()),
            endpoints: Slab::new(),
            by_key: HashMap::with_hasher(hasher),
            ring: VecDeque::new(),
            attempts: Slab::new(),
            deadlines: BTreeSet::new(),
            droppable: BTreeMap::new(),
            reports: VecDeque::new(),
            sequence: 0,
            remembered: 0,
            brisk: 0,
            counters: Counters::default(),
        }
    }

    /// The most attempts under way at a time: [`Hooks::threads`] and the spares for slow ones.
    pub fn under_way_max(&self) -> usize {
        self.limits.threads * (1 + SPARES_PER_THREAD)
    }

    /// Takes a hook. It may be dropped at once when there is no room; the report of an action then says so.
    pub fn submit(&mut self, hook: Hook, now: Instant) {
        let subject = hook.subject;
        let kind = hook.kind;
        *self.counters.submitted(kind) += 1;
        let Ok(key) = origin(&hook.url).map(|origin| origin.key()) else {
            *self.counters.given_up(kind) += 1;
            return self.refuse(subject, kind, now);
        };
        let room = match kind {
            HookKind::Event => self.held() < self.limits.events_room,
            HookKind::Action | HookKind::Question => self.held() < self.limits.queue_max || self.drop_oldest_event(now),
        };
        if !room {
            *self.counters.dropped(kind) += 1;
            return self.refuse(subject, kind, now);
        }
        let lane = self.lane_of(subject);
        if kind == HookKind::Event {
            self.make_room_in_lane(lane, now);
        }
        let endpoint = self.endpoint_of(key);
        self.endpoints[endpoint].hooks += 1;
        self.counters.held += 1;
        let sequence = self.next_number();
        let (timeout, events_wait) = (hook.settings.timeout, hook.settings.events_wait);
        let (report_by, expires) = match kind {
            HookKind::Event => (None, None),
            HookKind::Action => {
                let report_by = now + events_wait + timeout;
                // The first attempt is made even if no other shall follow.
                (Some(report_by), Some(report_by.max(now + self.limits.action_retry_for)))
            }
            HookKind::Question => (Some(now + timeout), Some(now + timeout)),
        };
        self.lanes[lane].waiting.push_back(Entry {
            sequence,
            hook: Arc::new(hook),
            endpoint,
            attempts: 0,
            expires,
            report_by,
        });
        if kind == HookKind::Event {
            self.droppable.insert(sequence, lane);
        } else if self.lanes[lane]
            .waiting
            .front()
            .is_some_and(|head| head.hook.kind == HookKind::Event)
        {
            let until = now + events_wait;
            self.lanes[lane].events_until.get_or_insert(until);
        }
        if self.lanes[lane].state == LaneState::Empty {
            self.begin_head(lane, now);
        }
        self.settle_lane(lane, now);
    }

    /// What to send now; `None`: nothing, or no sender is free. Each job must come back by [`Lanes::finished`].
    pub fn poll_job(&mut self, now: Instant) -> Option<Job> {
        while self.brisk < self.limits.threads && self.attempts.len() < self.under_way_max() {
            let endpoint = self.ring.pop_front()?;
            self.endpoints[endpoint].in_ring = false;
            if self.endpoints[endpoint].may_start(self.limits.per_endpoint_max, now)
                && let Some((_, lane)) = self.endpoints[endpoint].ready.pop_first()
            {
                let job = self.start(lane, endpoint, now);
                self.settle_endpoint(endpoint, now);
                self.settle_lane(lane, now);
                return Some(job);
            }
            self.settle_endpoint(endpoint, now);
        }
        None
    }

    /// Takes what an attempt came to.
    pub fn finished(&mut self, job: JobId, outcome: Outcome, now: Instant) {
        if self
            .attempts
            .get(job.slot)
            .is_none_or(|attempt| attempt.number != job.number)
        {
            debug_assert!(false, "a job came back twice");
            return;
        }
        let attempt = self.attempts.remove(job.slot);
        if let Some(at) = attempt.slow_at {
            self.deadlines.remove(&(at, Owner::Attempt(job.slot)));
            self.brisk -= 1;
        }
        let endpoint = &mut self.endpoints[attempt.endpoint];
        endpoint.under_way -= 1;
        self.counters.endpoints_suspended -= u64::from(endpoint.is_suspended());
        if outcome.says_alive() {
            endpoint.on_alive();
        } else {
            endpoint.on_failure(&mut self.random, now);
            self.counters.attempts_failed += 1;
        }
        self.counters.endpoints_suspended += u64::from(endpoint.is_suspended());
        let is_head = self.lanes.get(attempt.lane).is_some_and(|lane| {
            lane.state == LaneState::UnderWay
                && lane
                    .waiting
                    .front()
                    .is_some_and(|head| head.sequence == attempt.sequence)
        });
        if is_head {
            self.on_outcome(attempt.lane, outcome, now);
            self.settle_lane(attempt.lane, now);
        }
        self.settle_endpoint(attempt.endpoint, now);
    }

    /// When to call [`Lanes::handle_timeout`]; `None`: nothing waits for time.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Carries out what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, owner)) = self.deadlines.first().copied()
            && at <= now
        {
            self.deadlines.pop_first();
            match owner {
                Owner::Lane(lane) => {
                    self.lanes[lane].deadline = None;
                    self.on_lane_due(lane, now);
                    self.settle_lane(lane, now);
                }
                Owner::Endpoint(endpoint) => {
                    self.endpoints[endpoint].deadline = None;
                    self.settle_endpoint(endpoint, now);
                }
                Owner::Attempt(slot) => {
                    self.attempts[slot].slow_at = None;
                    self.brisk -= 1;
                }
            }
        }
        self.check_invariants();
    }

    /// What the first attempt of an action came to, oldest first.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.held() == 0 && self.attempts.is_empty()
    }

    pub fn counters(&self) -> Counters {
        Counters {
            under_way: self.attempts.len() as u64,
            endpoints: self.endpoints.len() as u64,
            ..self.counters
        }
    }

    fn held(&self) -> usize {
        self.counters.held as usize
    }

    fn next_number(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn lane_of(&mut self, subject: Subject) -> usize {
        if let Some(&lane) = self.by_subject.get(&subject) {
            return lane;
        }
        let lane = self.lanes.insert(Lane {
            subject,
            waiting: VecDeque::new(),
            state: LaneState::Empty,
            missed: 0,
            events_until: None,
            forget_at: None,
            deadline: None,
        });
        self.by_subject.insert(subject, lane);
        lane
    }

    fn endpoint_of(&mut self, key: String) -> usize {
        if let Some(&endpoint) = self.by_key.get(&key) {
            return endpoint;
        }
        let endpoint = self.endpoints.insert(Endpoint::new(key.clone()));
        self.by_key.insert(key, endpoint);
        endpoint
    }

    /// A hook was not taken: an action is reported, an event is missing from its transfer.
    fn refuse(&mut self, subject: Subject, kind: HookKind, now: Instant) {
        match kind {
            HookKind::Action | HookKind::Question => self.reports.push_back(Report {
                subject,
                outcome: ActionOutcome::Failed,
            }),
            HookKind::Event => {
                let lane = self.lane_of(subject);
                self.lanes[lane].miss();
                self.settle_lane(lane, now);
            }
        }
    }

    /// Drops the event that has waited longest, whosever it is. False: there is none.
    fn drop_oldest_event(&mut self, now: Instant) -> bool {
        let Some((&sequence, &lane)) = self.droppable.first_key_value() else {
            return false;
        };
        self.drop_event(lane, sequence, now);
        self.settle_lane(lane, now);
        true
    }

    /// Keeps the events of one transfer below their bound: the newest tell most, so the oldest goes.
    fn make_room_in_lane(&mut self, lane: usize, now: Instant) {
        if self.lanes[lane].waiting.len() < EVENTS_PER_TRANSFER_MAX {
            return;
        }
        let oldest = self.lanes[lane].waiting.iter().map(|entry| entry.sequence);
        if let Some(sequence) = oldest
            .into_iter()
            .find(|sequence| self.droppable.contains_key(sequence))
        {
            self.drop_event(lane, sequence, now);
        }
    }

    fn drop_event(&mut self, lane: usize, sequence: u64, now: Instant) {
        let position = self.lanes[lane]
            .waiting
            .iter()
            .position(|entry| entry.sequence == sequence);
        let Some(position) = position else { return };
        self.counters.events_dropped += 1;
        self.remove_missed(lane, position, now);
        if position == 0 {
            self.begin_head(lane, now);
        }
    }

    /// Takes a hook out of its lane, whatever it was doing.
    fn remove(&mut self, lane_index: usize, position: usize, now: Instant) {
        let lane = &mut self.lanes[lane_index];
        let Some(entry) = lane.waiting.remove(position) else {
            return;
        };
        self.counters.held -= 1;
        self.droppable.remove(&entry.sequence);
        let endpoint = &mut self.endpoints[entry.endpoint];
        endpoint.hooks -= 1;
        if position == 0 {
            if let LaneState::Ready { turn } = lane.state {
                endpoint.ready.remove(&turn);
            }
            lane.state = LaneState::Empty;
        }
        self.settle_endpoint(entry.endpoint, now);
    }

    /// The same for a hook that was not delivered: an event is missed, unless its action is before it.
    fn remove_missed(&mut self, lane_index: usize, position: usize, now: Instant) {
        let lane = &mut self.lanes[lane_index];
        let mut up_to_it = lane.waiting.iter().take(position + 1);
        if up_to_it.all(|entry| entry.hook.kind == HookKind::Event) {
            lane.miss();
        }
        self.remove(lane_index, position, now);
    }

    /// The head of a lane has changed: its turn has come.
    fn begin_head(&mut self, lane: usize, now: Instant) {
        let expires = now + EVENT_RETRY_FOR;
        let Some(head) = self.lanes[lane].waiting.front_mut() else {
            self.lanes[lane].events_until = None;
            return;
        };
        if head.hook.kind != HookKind::Event {
            self.lanes[lane].events_until = None;
        } else {
            head.expires.get_or_insert(expires);
        }
        self.make_ready(lane, now);
    }

    fn make_ready(&mut self, lane: usize, now: Instant) {
        let turn = self.next_number();
        let Some(head) = self.lanes[lane].waiting.front() else {
            return;
        };
        let endpoint = head.endpoint;
        self.lanes[lane].state = LaneState::Ready { turn };
        self.endpoints[endpoint].ready.insert(turn, lane);
        self.settle_endpoint(endpoint, now);
    }

    fn start(&mut self, lane_index: usize, endpoint: usize, now: Instant) -> Job {
        let number = self.next_number();
        let lane = &mut self.lanes[lane_index];
        let has_action = lane.has_action();
        let head = lane.waiting.front_mut().expect("a lane that is ready has a head");
        debug_assert!(matches!(lane.state, LaneState::Ready { .. }));
        lane.state = LaneState::UnderWay;
        if head.hook.kind == HookKind::Action && head.attempts == 0 && has_action {
            // Once and for all: a repeat has the same id, so it must have the same body.
            let hook = Arc::make_mut(&mut head.hook);
            add_missed(&mut hook.body, std::mem::take(&mut lane.missed));
        }
        head.attempts += 1;
        self.droppable.remove(&head.sequence);
        let slow_at = now + SLOW_AFTER;
        let slot = self.attempts.insert(Attempt {
            number,
            lane: lane_index,
            sequence: head.sequence,
            endpoint,
            slow_at: Some(slow_at),
        });
        self.deadlines.insert((slow_at, Owner::Attempt(slot)));
        self.brisk += 1;
        self.endpoints[endpoint].under_way += 1;
        self.counters.attempts += 1;
        Job {
            id: JobId { slot, number },
            attempt: head.attempts,
            endpoint,
            hook: Arc::clone(&head.hook),
        }
    }

    fn on_outcome(&mut self, lane_index: usize, outcome: Outcome, now: Instant) {
        let lane = &mut self.lanes[lane_index];
        let subject = lane.subject;
        let Some(head) = lane.waiting.front_mut() else { return };
        let kind = head.hook.kind;
        let verdict = match outcome.verdict(head.hook.default_word) {
            Verdict::Again { .. } if kind == HookKind::Question => Verdict::GivenUp,
            verdict => verdict,
        };
        let delivered = matches!(verdict, Verdict::Delivered(_));
        let owed = head.report_by.take().is_some();
        let mut reply = None;
        match verdict {
            Verdict::Again { not_before } => {
                let (base, most) = match kind {
                    HookKind::Event => (EVENT_RETRY_BASE, EVENT_RETRY_MAX),
                    HookKind::Action | HookKind::Question => (ACTION_RETRY_BASE, ACTION_RETRY_MAX),
                };
                let delay = jitter(&mut self.random, doubled(base, head.attempts - 1, most));
                let until = now + delay.max(not_before.unwrap_or_default().min(most));
                if head.expires.is_some_and(|expires| until < expires) {
                    lane.state = LaneState::Backoff { until };
                    if kind == HookKind::Event {
                        self.droppable.insert(head.sequence, lane_index);
                    }
                } else {
                    *self.counters.given_up(kind) += 1;
                    self.remove_missed(lane_index, 0, now);
                    self.begin_head(lane_index, now);
                }
            }
            Verdict::Delivered(value) => {
                reply = value;
                *self.counters.delivered(kind) += 1;
                self.remove(lane_index, 0, now);
                self.begin_head(lane_index, now);
            }
            Verdict::Unanswered => {
                self.counters.defaults_unanswered += 1;
                self.remove(lane_index, 0, now);
                self.begin_head(lane_index, now);
            }
            Verdict::GivenUp => {
                *self.counters.given_up(kind) += 1;
                self.remove_missed(lane_index, 0, now);
                self.begin_head(lane_index, now);
            }
        }
        if owed {
            let outcome = match delivered {
                true => ActionOutcome::Delivered { reply },
                false => ActionOutcome::Failed,
            };
            self.reports.push_back(Report { subject, outcome });
        }
    }

    fn on_lane_due(&mut self, lane_index: usize, now: Instant) {
        let lane = &mut self.lanes[lane_index];
        for entry in &mut lane.waiting {
            if entry.report_by.is_some_and(|by| by <= now) {
                entry.report_by = None;
                self.reports.push_back(Report {
                    subject: lane.subject,
                    outcome: ActionOutcome::Failed,
                });
            }
        }
        if lane.events_until.is_some_and(|until| until <= now) {
            while let Some(head) = self.lanes[lane_index].waiting.front()
                && head.hook.kind == HookKind::Event
            {
                self.counters.events_given_up += 1;
                self.remove_missed(lane_index, 0, now);
            }
            return self.begin_head(lane_index, now);
        }
        let Some(head) = lane.waiting.front() else { return };
        let expired = head.expires.is_some_and(|expires| expires <= now);
        match lane.state {
            // Its outcome is still wanted: what was tried may succeed.
            LaneState::UnderWay | LaneState::Empty => {}
            LaneState::Ready { .. } | LaneState::Backoff { .. } if expired => {
                *self.counters.given_up(head.hook.kind) += 1;
                self.remove_missed(lane_index, 0, now);
                self.begin_head(lane_index, now);
            }
            LaneState::Backoff { until } if until <= now => self.make_ready(lane_index, now),
            LaneState::Ready { .. } | LaneState::Backoff { .. } => {}
        }
    }

    /// Brings a lane's deadline up to date, or removes a lane that nobody needs.
    fn settle_lane(&mut self, index: usize, now: Instant) {
        let lane = &mut self.lanes[index];
        if lane.waiting.is_empty() {
            let due = lane.forget_at.is_some_and(|at| at <= now);
            let full = lane.forget_at.is_none() && self.remembered >= self.limits.queue_max;
            if lane.missed == 0 || due || full {
                if let Some(at) = lane.deadline {
                    self.deadlines.remove(&(at, Owner::Lane(index)));
                }
                self.remembered -= usize::from(lane.forget_at.is_some());
                let lane = self.lanes.remove(index);
                self.by_subject.remove(&lane.subject);
                return;
            }
            if lane.forget_at.is_none() {
                lane.forget_at = Some(now + MISSED_REMEMBERED_FOR);
                self.remembered += 1;
            }
        } else if lane.forget_at.take().is_some() {
            self.remembered -= 1;
        }
        let deadline = lane.next_deadline();
        move_deadline(&mut self.deadlines, &mut lane.deadline, deadline, Owner::Lane(index));
    }

    /// Puts an endpoint into the ring if it may start something, brings its deadline up to date, or forgets it.
    fn settle_endpoint(&mut self, index: usize, now: Instant) {
        // The hook that kept it may have been the last: then it is settled already.
        let Some(endpoint) = self.endpoints.get_mut(index) else {
            return;
        };
        let is_used = endpoint.hooks > 0 || endpoint.under_way > 0;
        if is_used {
            endpoint.forget_at = None;
        } else {
            // Its failures are worth remembering for a while: the next hook need not find out again.
            let forget_at = *endpoint.forget_at.get_or_insert(now + ENDPOINT_REMEMBERED_FOR);
            if !endpoint.has_failed() || forget_at <= now {
                if let Some(at) = endpoint.deadline {
                    self.deadlines.remove(&(at, Owner::Endpoint(index)));
                }
                if endpoint.in_ring {
                    self.ring.retain(|&other| other != index);
                }
                let endpoint = self.endpoints.remove(index);
                self.counters.endpoints_suspended -= u64::from(endpoint.is_suspended());
                self.by_key.remove(&endpoint.key);
                return;
            }
        }
        let may_start = !endpoint.ready.is_empty() && endpoint.may_start(self.limits.per_endpoint_max, now);
        if may_start && !endpoint.in_ring {
            endpoint.in_ring = true;
            self.ring.push_back(index);
        }
        let probe = endpoint.probe_deadline().filter(|_| !may_start);
        let deadline = endpoint.forget_at.or(probe);
        move_deadline(
            &mut self.deadlines,
            &mut endpoint.deadline,
            deadline,
            Owner::Endpoint(index),
        );
    }

    fn check_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        assert!(self.held() <= self.limits.queue_max);
        assert!(self.attempts.len() <= self.under_way_max());
        assert!(self.brisk <= self.limits.threads);
        assert_eq!(self.lanes.len(), self.by_subject.len());
        assert_eq!(self.endpoints.len(), self.by_key.len());
        assert!(self.deadlines.len() <= self.lanes.len() + self.endpoints.len() + self.attempts.len());
    }
}

impl Lane {
    /// Whether an action will come that says what was missed.
    fn has_action(&self) -> bool {
        matches!(self.subject, Subject::Transfer(_))
    }

    fn miss(&mut self) {
        self.missed += u64::from(self.has_action());
    }

    fn next_deadline(&self) -> Option<Instant> {
        let reports = self.waiting.iter().filter_map(|entry| entry.report_by).min();
        let expires = self.waiting.front().and_then(|head| head.expires);
        let (until, expires) = match self.state {
            LaneState::Ready { .. } => (None, expires),
            LaneState::Backoff { until } => (Some(until), expires),
            LaneState::UnderWay | LaneState::Empty => (None, None),
        };
        [reports, until, expires, self.events_until, self.forget_at]
            .into_iter()
            .flatten()
            .min()
    }
}

fn move_deadline(
    deadlines: &mut BTreeSet<(Instant, Owner)>,
    current: &mut Option<Instant>,
    wanted: Option<Instant>,
    owner: Owner,
) {
    if *current == wanted {
        return;
    }
    if let Some(at) = current.take() {
        deadlines.remove(&(at, owner));
    }
    if let Some(at) = wanted {
        deadlines.insert((at, owner));
    }
    *current = wanted;
}

impl Counters {
    fn submitted(&mut self, kind: HookKind) -> &mut u64 {
        match kind {
            HookKind::Event => &mut self.events_submitted,
            HookKind::Action => &mut self.actions_submitted,
            HookKind::Question => &mut self.questions_submitted,
        }
    }

    fn delivered(&mut self, kind: HookKind) -> &mut u64 {
        match kind {
            HookKind::Event => &mut self.events_delivered,
            HookKind::Action => &mut self.actions_delivered,
            HookKind::Question => &mut self.questions_delivered,
        }
    }

    fn given_up(&mut self, kind: HookKind) -> &mut u64 {
        match kind {
            HookKind::Event => &mut self.events_given_up,
            HookKind::Action => &mut self.actions_given_up,
            HookKind::Question => &mut self.questions_given_up,
        }
    }

    fn dropped(&mut self, kind: HookKind) -> &mut u64 {
        match kind {
            HookKind::Event => &mut self.events_dropped,
            HookKind::Action => &mut self.actions_dropped,
            HookKind::Question => &mut self.questions_dropped,
        }
    }
}

/// Adds the member `missed` to a JSON object, without parsing it again.
fn add_missed(body: &mut String, missed: u64) {
    let Some(inside) = body.trim_end().strip_suffix('}') else {
        debug_assert!(false, "the body of an action is a JSON object");
        return;
    };
    let comma = if inside.trim_end().ends_with('{') { "" } else { "," };
    *body = format!("{inside}{comma}\"missed\":{missed}}}");
}

/// How long an event is tried once its turn came: it tells what happens now.
const EVENT_RETRY_FOR: Duration = Duration::from_secs(30);
const EVENT_RETRY_BASE: Duration = Duration::from_millis(100);
const EVENT_RETRY_MAX: Duration = Duration::from_secs(5);

const ACTION_RETRY_BASE: Duration = Duration::from_millis(500);
const ACTION_RETRY_MAX: Duration = Duration::from_secs(60);

/// Far above what a transfer has: a trying, some ringing, an end. More is a peer gone wild.
const EVENTS_PER_TRANSFER_MAX: usize = 64;

/// An answer usually takes milliseconds; what takes longer than this must not take a sender from others.
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// Spare senders for slow attempts, per thread. 64 threads in all still post about as much as 16 do.
const SPARES_PER_THREAD: usize = 3;

/// Longer than a transfer may last: then its action has come and said what was missed.
const MISSED_REMEMBERED_FOR: Duration = Duration::from_secs(600);

const ENDPOINT_REMEMBERED_FOR: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
