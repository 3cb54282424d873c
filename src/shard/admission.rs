//! Which new requests are taken up when there is more to do than can be done in time.
//!
//! Calls in progress come first: a request within a dialog, an ACK, a CANCEL is served while there is any room. A new request
//! is shed when a table is full, when its source asks too often, or when messages wait too long before they are handled.
//!
//! How long they wait is judged as by CoDel (RFC 8289): not a queue is bad but one that never empties. While even the
//! least wait within an interval is above the target, what has waited for twice the target is shed. Shedding is cheap, so
//! that the queue falls to that length and stays there: as much is taken up as can be done, and what is taken up is done
//! soon. CoDel proper drops ever more often, which makes a sender of TCP slow down; callers do not slow down.

use super::arrival::Arrival;
use super::{Setup, Shard};
use crate::config::{Config, InDialogSources, Limits, TrunkId, UnknownSource};
use crate::identifiers::Secret;
use crate::message::edit::decimal;
use crate::message::{Message, Method, Uri};
use crate::proxy::Refused;
use crate::rate::Rate;
use crate::rate::sources::Sources;
use crate::timer::Instant;
use crate::transport::{BindId, Flow};
use std::net::IpAddr;
use std::time::Duration;

/// Why a new request gets 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shed {
    Draining,
    TransactionsFull,
    CallsFull,
    /// It has waited too long, and so does everything else.
    Delay,
    /// Its source sends more new requests than its trunk allows.
    SourceRate,
    /// It is of a call in progress, but there is no room at all.
    InDialog,
}

/// How long the messages of each socket wait before they are handled.
#[derive(Debug)]
pub(super) struct QueueDelays {
    target: Duration,
    interval: Duration,
    /// By bind: a flood on one socket sheds nothing on another.
    queues: Vec<Queue>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    /// The least wait seen in the running interval, and how many messages were.
    least: Duration,
    seen: u32,
    /// When the running interval ends.
    until: Instant,
    /// In the interval before it even the least wait was above the target.
    is_behind: bool,
}

/// With fewer messages in an interval there was no queue: a machine that was stopped for a moment is no overload.
const SEEN_MIN: u32 = 16;

impl QueueDelays {
    pub fn new(binds: usize, limits: &Limits) -> QueueDelays {
        QueueDelays {
            target: limits.queue_delay_target,
            interval: limits.queue_delay_interval,
            queues: vec![Queue::default(); binds],
        }
    }

    /// A message on this socket had waited for so long when it was handled, at `now`.
    pub fn observe(&mut self, bind: BindId, waited: Duration, now: Instant) {
        let Some(queue) = self.queues.get_mut(usize::from(bind.0)) else {
            return;
        };
        if now >= queue.until {
            // If this one came a whole interval after the last, the queue was empty between.
            let is_recent = now <= queue.until + self.interval + waited;
            queue.is_behind = is_recent && queue.seen >= SEEN_MIN && queue.least > self.target;
            (queue.least, queue.seen, queue.until) = (waited, 0, now + self.interval);
        }
        queue.least = queue.least.min(waited);
        queue.seen += 1;
    }

    /// Whether a new request on this socket that waited for so long is shed.
    pub fn is_late(&self, bind: BindId, waited: Duration) -> bool {
        waited > 2 * self.target
            && self
                .queues
                .get(usize::from(bind.0))
                .is_some_and(|queue| queue.is_behind)
    }
}

/// What was shed a moment ago: without its transaction nothing else would know a repeat of it, and once there is room again that
/// would ring somewhere for a caller who has given up. The oldest is written over.
#[derive(Debug, Default)]
pub(super) struct ShedLately {
    /// By the lower bits of the identity its upper half; empty as long as nothing was ever shed.
    places: Box<[u64]>,
    /// When the last repeat of the last one may come.
    until: Instant,
}

/// Half a megabyte, once anything is shed: six seconds of 10,000 a second, after which an INVITE is sent for the fourth time.
const SHED_PLACES: usize = 1 << 16;

/// RFC 3261 §17.1.1.2: no request is sent again later.
const REPEATS_FOR: Duration = Duration::from_secs(32);

impl ShedLately {
    fn note(&mut self, identity: u128, now: Instant) {
        if self.places.is_empty() {
            self.places = vec![0; SHED_PLACES].into_boxed_slice();
        }
        self.until = now + REPEATS_FOR;
        self.places[identity as usize % SHED_PLACES] = (identity >> 64) as u64;
    }

    fn has(&self, identity: u128, now: Instant) -> bool {
        now < self.until && self.places.get(identity as usize % SHED_PLACES) == Some(&((identity >> 64) as u64))
    }
}

/// How often sources that are no trunk's may ask. They are answered by the shard that receives them: the kernel gives one all that
/// comes from a source.
#[derive(Debug)]
pub(super) struct Strangers {
    sources: Sources,
    rate: Rate,
    secret: Secret,
    /// Before then some source may have no answer left: only then it is worth looking whose a datagram is before it is read.
    exhausted_until: Instant,
}

impl Strangers {
    pub fn new(config: &Config, secret: Secret) -> Strangers {
        Strangers {
            sources: Sources::new(config.limits.sources_max),
            rate: Rate::per_second(config.access.unknown_source_rate),
            secret,
            exhausted_until: Instant::START,
        }
    }

    /// Takes one answer; `false`: there is none left. Where as many sources as are remembered have asked just now a further one
    /// gets none, so that a flood of made-up sources makes no flood of answers.
    pub fn answers(&mut self, ip: IpAddr, now: Instant) -> bool {
        let answers = self.sources.take(&self.secret, ip, self.rate, now) == Some(true);
        if !answers {
            self.exhausted_until = now + Duration::from_secs(1);
        }
        answers
    }

    /// Whether [`Strangers::answers`] would say so.
    fn has_answer(&self, ip: IpAddr, now: Instant) -> bool {
        self.sources.has_one(&self.secret, ip, self.rate, now)
    }
}

impl Shard {
    /// Whether a source is no trunk's.
    pub fn is_stranger(&self, flow: Flow) -> bool {
        self.topology.trunk_of(flow).is_none()
    }

    /// Whether a message is for the shard that receives it, whatever its Call-ID: a request of a source that is no trunk's gets
    /// its one answer at once, and takes no room in the rings between shards.
    pub fn answers_here(&self, flow: Flow, message: Message<'_>) -> bool {
        message.is_request() && !self.may_have_token() && self.is_stranger(flow)
    }

    fn may_have_token(&self) -> bool {
        !self.config().trunks.is_empty() && self.config().access.in_dialog_sources == InDialogSources::Any
    }

    /// Whether a source that is no trunk's may have something to say that is served: a token of a dialog, or anything where no
    /// trunk is configured. A driver takes no connection from one otherwise.
    pub fn serves_strangers(&self) -> bool {
        self.config().trunks.is_empty() || self.may_have_token()
    }

    /// Whether a datagram is worth reading: `false` for requests of a source that is no trunk's and has had its answers.
    pub fn is_heard(&mut self, flow: Flow, datagram: &[u8], now: Instant) -> bool {
        if now >= self.strangers.exhausted_until {
            return true;
        }
        let is_response = datagram
            .get(..4)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"));
        let is_heard = is_response
            || self.may_have_token()
            || !self.is_stranger(flow)
            || self.strangers.has_answer(flow.peer.ip(), now);
        if !is_heard {
            self.counters.refused_source_total += 1;
            self.counters.unanswered_rate_total += 1;
        }
        is_heard
    }

    /// Refuses a request of a source that is no trunk's, without a transaction.
    pub(super) fn refuse_stranger(&mut self, flow: Flow, message: Message<'_>, now: Instant) {
        self.counters.refused_source_total += 1;
        if message.method() == Some(Method::Ack) || self.config().access.unknown_source == UnknownSource::Silent {
            self.counters.dropped_total += 1;
            return;
        }
        self.refuse_stateless(flow, message, Refused::new(403, "Forbidden"), &[], now);
    }

    /// Sheds a request if it is new and something stands against taking it up. `true`: it was. This is the first thing that is
    /// looked at, before the message is checked, since it has to cost little just when much comes.
    pub(super) fn sheds(
        &mut self,
        flow: Flow,
        message: Message<'_>,
        method: Method,
        waited: Duration,
        now: Instant,
    ) -> bool {
        let Some(reason) = self.pressure(flow, method, waited) else {
            return false;
        };
        if message.to_tag().is_some() || self.is_for_referee(message, method) {
            return false;
        }
        let Ok(via) = message.top_via() else { return false };
        let Ok(identity) = self.transactions.identity(message, &via, method) else {
            return false;
        };
        let is_repeat = self.transactions.find_server(identity).is_some();
        if !is_repeat {
            self.shed_without_state(flow, message, identity, reason, now);
        }
        !is_repeat
    }

    /// Sheds a request again that was shed a moment ago, though it would have room now. `true`: it was.
    pub(super) fn sheds_again(&mut self, arrival: &Arrival<'_>, message: Message<'_>, now: Instant) -> bool {
        let was_shed = self.shed_lately.has(arrival.identity, now);
        if was_shed {
            self.refuse_shed(arrival.flow, message, self.config().limits.retry_after, now);
        }
        was_shed
    }

    /// What stands against a new request of this method now, the rate of its source aside.
    fn pressure(&self, flow: Flow, method: Method, waited: Duration) -> Option<Shed> {
        let limits = &self.config().limits;
        let is_invite = method == Method::Invite;
        if matches!(method, Method::Ack | Method::Cancel) {
            None
        } else if is_invite && self.draining {
            Some(Shed::Draining)
        } else if self.transactions.len() >= limits.transactions_max {
            Some(Shed::TransactionsFull)
        } else if is_invite && self.calls.len() >= limits.calls_max {
            Some(Shed::CallsFull)
        } else if self.queue_delays.is_late(flow.bind, waited) {
            Some(Shed::Delay)
        } else {
            None
        }
    }

    /// OPTIONS for referee itself: whoever asks whether it lives gets an answer under any load.
    fn is_for_referee(&self, message: Message<'_>, method: Method) -> bool {
        method == Method::Options
            && Uri::parse(message.request_uri()).is_ok_and(|uri| uri.user.is_none() && self.topology.names_us(&uri))
    }

    /// Whether one more new request of this source is taken up; sheds it otherwise. A source for which there is no room to
    /// remember is not limited: those that are remembered may be of other trunks.
    pub(super) fn takes_new(
        &mut self,
        from: TrunkId,
        arrival: &Arrival<'_>,
        message: Message<'_>,
        now: Instant,
    ) -> bool {
        let Setup { usage, secret, .. } = &self.setup;
        let taken = usage.take_new(from, arrival.flow.peer.ip(), secret, now);
        self.counters.sources_full_total += u64::from(taken.is_none());
        let takes = taken != Some(false);
        if !takes {
            self.shed_without_state(arrival.flow, message, arrival.identity, Shed::SourceRate, now);
        }
        takes
    }

    pub(super) fn shed_without_state(
        &mut self,
        flow: Flow,
        message: Message<'_>,
        identity: u128,
        reason: Shed,
        now: Instant,
    ) {
        self.shed_lately.note(identity, now);
        self.counters.shed_total += 1;
        *match reason {
            Shed::Draining => &mut self.counters.shed_draining_total,
            Shed::TransactionsFull => &mut self.counters.shed_transactions_total,
            Shed::CallsFull => &mut self.counters.shed_calls_total,
            Shed::Delay => &mut self.counters.shed_delay_total,
            Shed::SourceRate => &mut self.counters.shed_source_rate_total,
            Shed::InDialog => &mut self.counters.shed_in_dialog_total,
        } += 1;
        let retry_after = match reason {
            // The successor may need a moment to come up.
            Shed::Draining => Duration::from_secs(10),
            _ => self.config().limits.retry_after,
        };
        self.refuse_shed(flow, message, retry_after, now);
    }

    fn refuse_shed(&mut self, flow: Flow, message: Message<'_>, retry_after: Duration, now: Instant) {
        let seconds = decimal(retry_after.as_secs() as u32);
        let retry_after = [("Retry-After", seconds.as_bytes())];
        self.refuse_stateless(flow, message, Refused::SHED, &retry_after, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(20);
    const BIND: BindId = BindId(0);

    fn delays() -> QueueDelays {
        let limits = Limits {
            queue_delay_target: TARGET,
            queue_delay_interval: Duration::from_millis(100),
            ..Limits::default()
        };
        QueueDelays::new(2, &limits)
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// One message each millisecond of `from..to`, each of which waited as `waited` says.
    fn pass(delays: &mut QueueDelays, from: u64, to: u64, waited: impl Fn(u64) -> u64) {
        for at in from..to {
            delays.observe(BIND, millis(waited(at)), Instant::from_millis(at));
        }
    }

    #[test]
    fn a_queue_that_never_empties_is_late_after_an_interval_and_one_that_empties_once_is_not() {
        let mut delays = delays();
        pass(&mut delays, 1_000, 1_100, |_| 300);
        assert!(!delays.is_late(BIND, millis(300)), "it may be a burst");
        pass(&mut delays, 1_100, 1_101, |_| 300);
        assert!(delays.is_late(BIND, millis(300)) && delays.is_late(BIND, millis(41)));
        assert!(
            !delays.is_late(BIND, millis(40)),
            "twice the target is what is taken up"
        );
        assert!(!delays.is_late(BindId(1), millis(300)), "the other socket has no queue");
        // A single short wait within an interval: the queue was empty then.
        pass(&mut delays, 1_101, 1_201, |at| if at == 1_150 { 20 } else { 300 });
        assert!(!delays.is_late(BIND, millis(300)));
    }

    #[test]
    fn it_stays_late_while_shedding_keeps_the_queue_at_twice_the_target() {
        let mut delays = delays();
        pass(&mut delays, 0, 1_000, |at| if at < 100 { at } else { 40 });
        assert!(delays.is_late(BIND, millis(41)));
        pass(&mut delays, 1_000, 1_201, |_| 1);
        assert!(!delays.is_late(BIND, millis(41)));
    }

    #[test]
    fn a_machine_that_was_stopped_or_has_little_to_do_is_not_late() {
        let mut delays = delays();
        // Some messages an interval, each of which found the machine asleep for long.
        for at in (0..2_000).step_by(10) {
            delays.observe(BIND, millis(60), Instant::from_millis(at));
            assert!(!delays.is_late(BIND, millis(60)), "at {at}");
        }
        // A queue of long ago says nothing of now.
        pass(&mut delays, 3_000, 3_101, |_| 300);
        assert!(delays.is_late(BIND, millis(300)));
        pass(&mut delays, 9_000, 9_001, |_| 300);
        assert!(!delays.is_late(BIND, millis(300)));
        // But one that lasts through turns longer than an interval does.
        for turn in 40..60 {
            (0..SEEN_MIN).for_each(|_| delays.observe(BIND, millis(400), Instant::from_millis(turn * 250)));
        }
        assert!(delays.is_late(BIND, millis(400)));
    }

    #[test]
    fn a_server_of_fixed_pace_does_as_much_as_it_can_and_what_it_does_it_does_soon() {
        // 1 ms for each request that is served, a twentieth for one that is shed; three times as many as can be served.
        const OFFERED_EVERY: u64 = 333;
        let mut delays = delays();
        let (mut free_at, mut served, mut shed) = (0u64, 0u32, 0u32);
        let mut waits = Vec::new();
        for arrived in (0..10_000_000).step_by(OFFERED_EVERY as usize) {
            let begins = free_at.max(arrived);
            let waited = Duration::from_micros(begins - arrived);
            delays.observe(BIND, waited, Instant::from_micros(begins));
            if delays.is_late(BIND, waited) {
                shed += 1;
                free_at = begins + 50;
            } else {
                served += 1;
                free_at = begins + 1_000;
                if arrived > 1_000_000 {
                    waits.push(waited);
                }
            }
        }
        // Nine tenths of what it could do if shedding cost nothing: 10,000 in 10 s.
        assert!(served > 8_900, "{served} served, {shed} shed");
        assert!(waits.iter().all(|wait| *wait <= 2 * TARGET), "{:?}", waits.iter().max());
    }
}
