//! What was received: parsed, then fed to the shard that owns its call, ours or another worker's.

use crate::identifiers::Secret;
use crate::io::clock::{Arrivals, Clock};
use crate::io::counters::Counters;
use crate::io::handoff::{Bounce, Handoff, Letter};
use crate::message::framing::FramingError;
use crate::message::{Message, ParseError, parse};
use crate::rate::{Bucket, Rate};
use crate::shard::{Input, Shard, Ticket};
use crate::timer::Instant;
use crate::transport::Flow;
use std::time::Duration;

/// A shard with everything between it and the sockets of its worker.
#[derive(Debug)]
pub struct Intake {
    pub shard: Shard,
    pub handoff: Handoff,
    pub ledger: Ledger,
    me: u16,
    shards: u16,
    secret: Secret,
    /// Bounces that may still be passed on.
    bounces: Bucket,
    bounced_rate: Rate,
    /// Every message is parsed into this letter's index, so that a message that has to travel takes it along.
    letter: Box<Letter>,
}

/// What a turn goes by and what it notes down.
#[derive(Debug)]
pub struct Ledger {
    /// When the turn began: the one clock reading of the turn.
    pub now: Instant,
    /// How long what is being fed had waited at `now`.
    pub waited: Duration,
    arrivals: Arrivals,
    pub counters: Counters,
    /// Sends that did not happen, with the shard that asked for them; reported at the end of the turn.
    pub failed: Vec<(u16, Ticket)>,
    /// Likewise those whose connection was refused.
    pub refused: Vec<(u16, Ticket)>,
}

impl Ledger {
    /// What is fed next has this stamp of the kernel's; without one it counts as just come.
    pub fn arrived(&mut self, stamp: Option<Duration>) {
        self.waited = stamp.map_or(Duration::ZERO, |stamp| self.arrivals.waited(stamp, self.now));
    }
}

/// What became of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Fed to our shard, on the way to its owner, or not worth it.
    Yes,
    /// They do not parse; the shard was told.
    Malformed,
    /// The ring to the owner is full; nothing happened.
    RingFull,
}

impl Intake {
    /// `shard` is number `me` of `shards`, which share `secret` and together pass on `bounced_rate` bounces a second.
    pub fn new(
        shard: Shard,
        mut handoff: Handoff,
        (me, shards): (u16, u16),
        secret: Secret,
        bounced_rate: u32,
        clock: Clock,
    ) -> Intake {
        assert!(me < shards);
        let letter = handoff.letter();
        Intake {
            shard,
            handoff,
            ledger: Ledger {
                now: Instant::START,
                waited: Duration::ZERO,
                arrivals: Arrivals::new(clock),
                counters: Counters::default(),
                failed: Vec::new(),
                refused: Vec::new(),
            },
            me,
            shards,
            secret,
            bounces: Bucket::default(),
            bounced_rate: Rate::per_second(bounced_rate / u32::from(shards)),
            letter,
        }
    }

    /// Which worker this is.
    pub fn me(&self) -> u16 {
        self.me
    }

    /// How many workers there are.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// Feeds a datagram of STUN.
    pub fn stun(&mut self, flow: Flow, datagram: &[u8]) {
        self.shard.handle(Input::Stun { flow, datagram }, self.ledger.now);
    }

    /// Feeds one whole message.
    pub fn message(&mut self, flow: Flow, bytes: &[u8]) -> Taken {
        if !self.shard.is_heard(flow, bytes, self.ledger.now) {
            return Taken::Yes;
        }
        if let Err(error) = parse(bytes, &mut self.letter.index) {
            self.feed_malformed(flow, bytes, error);
            return Taken::Malformed;
        }
        let message = Message::new(bytes, &self.letter.index);
        // A message without a Call-ID does not parse: whatever comes out here is for the local shard to refuse.
        let owner = message
            .call_id()
            .map_or(self.me, |call_id| self.secret.owner(call_id, self.shards));
        if owner == self.me || self.shard.answers_here(flow, message) {
            self.shard.handle(
                Input::Received {
                    flow,
                    message,
                    waited: self.ledger.waited,
                },
                self.ledger.now,
            );
            return Taken::Yes;
        }
        let blank = self.handoff.letter();
        let mut letter = std::mem::replace(&mut self.letter, blank);
        letter.fill(flow, None, bytes);
        letter.arrived = self.ledger.now - self.ledger.waited;
        match self.handoff.pass(owner, letter) {
            Ok(()) => {
                self.ledger.counters.handoff_passed += 1;
                Taken::Yes
            }
            Err(letter) => {
                self.handoff.keep(letter);
                Taken::RingFull
            }
        }
    }

    /// Passes on an ICMP error that is about no send of ours. Anyone can send one, and each is work for all workers: the rate
    /// bounds it. What is not passed on the timers of its transaction find out.
    pub fn pass_bounce(&mut self, bounce: Bounce) {
        if self.shards > 1 {
            self.ledger.counters.bounces_dropped += match self.bounces.take(self.bounced_rate, self.ledger.now) {
                true => self.handoff.spread(bounce),
                false => 1,
            };
        }
    }

    /// Feeds the front of a stream that cannot be framed, with whatever can be found in it.
    pub fn malformed(&mut self, flow: Flow, bytes: &[u8], error: FramingError) {
        let error = error.read_front(bytes, &mut self.letter.index);
        self.feed_malformed(flow, bytes, error);
    }

    fn feed_malformed(&mut self, flow: Flow, bytes: &[u8], error: ParseError) {
        self.ledger.counters.unparsable += 1;
        tracing::debug!(peer = %flow.peer, transport = %flow.transport, ?error, "received bytes do not parse");
        let index = &self.letter.index;
        self.shard.handle(
            Input::Malformed {
                flow,
                bytes,
                index,
                error,
            },
            self.ledger.now,
        );
    }
}
