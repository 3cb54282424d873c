//! From one thread to another: rings of parcels between workers, and the bells that wake a sleeping one.
//!
//! There is one ring for each ordered pair of workers, so that what one worker sends to another stays in order, and with
//! it the messages of one source. A message travels with the index that was filled for it; its [`Letter`] goes back
//! empty the same way, so that nothing is allocated once the rings are warm.

use crate::health::News;
use crate::message::Index;
use crate::shard::Inquiry;
use crate::shard::Ticket;
use crate::timer::Instant;
use crate::transport::{BindId, ConnectionId, Flow, LocalId, Transport};
use crossbeam::queue::ArrayQueue;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Wakes one worker, and costs a system call only when that worker may be asleep.
#[derive(Debug)]
pub struct Doorbell {
    waker: mio::Waker,
    sleeping: AtomicBool,
}

impl Doorbell {
    /// A bell that makes `poll` return with an event of `token`.
    ///
    /// # Errors
    /// The kernel has no more event descriptors.
    pub fn new(poll: &mio::Poll, token: mio::Token) -> io::Result<Doorbell> {
        Ok(Doorbell {
            waker: mio::Waker::new(poll.registry(), token)?,
            sleeping: AtomicBool::new(false),
        })
    }

    /// Call after something was put where the worker looks for it.
    pub fn ring(&self) {
        // Pairs with the fence in `may_sleep`: either the worker sees what was put there before it sleeps, or we see here that it may.
        fence(Ordering::SeqCst);
        if self.sleeping.swap(false, Ordering::Relaxed)
            && let Err(error) = self.waker.wake()
        {
            // An event descriptor that cannot be written to is a bug; the worker still wakes at its next deadline.
            tracing::error!(%error, "cannot wake a worker");
        }
    }

    /// The worker's half: announces sleep. Whoever calls it looks at every queue once more before it sleeps.
    pub fn may_sleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The worker's half: awake, no system call needed to reach it.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }
}

/// Bytes on the way between workers, with the index that was filled from them.
#[derive(Debug)]
pub struct Letter {
    /// Where the bytes came from, or where they go.
    pub flow: Flow,
    /// When a received message arrived at the machine.
    pub arrived: Instant,
    /// The ticket of bytes to write.
    pub ticket: Option<Ticket>,
    pub bytes: Vec<u8>,
    /// Of a received message; without meaning for bytes to write.
    pub index: Index,
}

impl Letter {
    fn blank() -> Box<Letter> {
        Box::new(Letter {
            flow: Flow {
                bind: BindId(0),
                transport: Transport::Udp,
                local: LocalId::ANY,
                peer: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                connection: None,
            },
            arrived: Instant::START,
            ticket: None,
            bytes: Vec::new(),
            index: Index::default(),
        })
    }

    /// Puts a copy of `bytes` in.
    pub fn fill(&mut self, flow: Flow, ticket: Option<Ticket>, bytes: &[u8]) {
        self.flow = flow;
        self.ticket = ticket;
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
    }
}

/// What one worker passes to another.
#[derive(Debug)]
pub enum Parcel {
    /// A message whose call the receiver's shard owns.
    Received(Box<Letter>),
    /// Bytes for a connection that the receiver owns.
    Write(Box<Letter>),
    /// A send that the receiver's shard asked for did not happen.
    Failed(Ticket),
    /// A send whose connection was refused.
    Refused(Ticket),
    /// Close a connection that the receiver owns once what was sent on it is written.
    Close(ConnectionId),
    /// What the sender's shard tells the receiver's. Rare, so that a box costs less than larger rings.
    News(Box<News>),
    /// What the sender's shard asks or answers the receiver's.
    Inquiry(Box<Inquiry>),
}

/// One worker's ends of the rings to and from all others.
#[derive(Debug)]
pub struct Handoff {
    /// By worker; `None` at our own place.
    links: Vec<Option<Link>>,
    #[expect(
        clippy::vec_box,
        reason = "a letter holds an index of 1 KB and more: it moves as a pointer"
    )]
    empty: Vec<Box<Letter>>,
}

#[derive(Debug)]
struct Link {
    outgoing: Arc<ArrayQueue<Parcel>>,
    incoming: Arc<ArrayQueue<Parcel>>,
    /// Letters of ours that come back empty.
    returned: Arc<ArrayQueue<Box<Letter>>>,
    /// Letters of theirs that we give back.
    returning: Arc<ArrayQueue<Box<Letter>>>,
    /// What found `outgoing` full and must not be lost. While there is anything, all else queues behind it.
    waiting: VecDeque<Parcel>,
    bell: Arc<Doorbell>,
    rings: bool,
}

/// Parcels other than received messages that wait for room in a ring: bytes for a connection, failures, closings.
/// As many as the responses of some thousand calls in one turn; when more wait, the receiver has stood still for long.
const WAITING_MAX: usize = 16_384;

/// Empty letters kept at hand. One turn takes at most a few batches of them.
const EMPTY_MAX: usize = 1_024;

/// Letters that grew beyond this are not kept: a flood of the largest messages must not stay in memory for ever.
const LETTER_BYTES_KEPT: usize = 8 * 1024;

impl Handoff {
    /// The ends of all rings between as many workers as there are bells, `capacity` parcels each (at least one).
    pub fn mesh(bells: &[Arc<Doorbell>], capacity: usize) -> Vec<Handoff> {
        let capacity = capacity.max(1);
        let count = bells.len();
        let rings = grid::<Parcel>(count, capacity);
        let back = grid::<Box<Letter>>(count, capacity);
        (0..count)
            .map(|me| Handoff {
                links: (0..count)
                    .map(|other| {
                        (other != me).then(|| Link {
                            outgoing: Arc::clone(&rings[me][other]),
                            incoming: Arc::clone(&rings[other][me]),
                            returned: Arc::clone(&back[me][other]),
                            returning: Arc::clone(&back[other][me]),
                            waiting: VecDeque::new(),
                            bell: Arc::clone(&bells[other]),
                            rings: false,
                        })
                    })
                    .collect(),
                empty: Vec::new(),
            })
            .collect()
    }

    /// An empty letter: one that came back, or a new one while the rings are cold.
    pub fn letter(&mut self) -> Box<Letter> {
        if let Some(letter) = self.empty.pop() {
            return letter;
        }
        self.links
            .iter()
            .flatten()
            .find_map(|link| link.returned.pop())
            .unwrap_or_else(Letter::blank)
    }

    /// Passes a received message to the worker that owns its call.
    ///
    /// # Errors
    /// Gives the letter back when the ring is full.
    pub fn pass(&mut self, to: u16, letter: Box<Letter>) -> Result<(), Box<Letter>> {
        let link = self.link(to);
        link.push_waiting();
        if !link.waiting.is_empty() {
            return Err(letter);
        }
        match link.outgoing.push(Parcel::Received(letter)) {
            Ok(()) => {
                link.rings = true;
                Ok(())
            }
            Err(Parcel::Received(letter)) => Err(letter),
            Err(
                Parcel::Write(_)
                | Parcel::Failed(_)
                | Parcel::Refused(_)
                | Parcel::Close(_)
                | Parcel::News(_)
                | Parcel::Inquiry(_),
            ) => {
                unreachable!("a ring gives back what it was given")
            }
        }
    }

    /// Passes what must not be lost; it waits here while the ring is full.
    ///
    /// # Errors
    /// Gives the parcel back when too much waits already.
    pub fn post(&mut self, to: u16, parcel: Parcel) -> Result<(), Parcel> {
        let link = self.link(to);
        if link.waiting.len() >= WAITING_MAX {
            return Err(parcel);
        }
        link.waiting.push_back(parcel);
        link.push_waiting();
        Ok(())
    }

    /// The next parcel from one other worker.
    pub fn receive(&mut self, from: u16) -> Option<Parcel> {
        self.links.get(usize::from(from))?.as_ref()?.incoming.pop()
    }

    /// Gives a letter back to the worker it came from.
    pub fn give_back(&mut self, from: u16, mut letter: Box<Letter>) {
        if letter.bytes.capacity() > LETTER_BYTES_KEPT {
            letter.bytes = Vec::new();
        }
        // A full ring means that the sender has more than enough of them: this one is freed.
        let _ = self.link(from).returning.push(letter);
    }

    /// Keeps a letter that was not sent after all.
    pub fn keep(&mut self, mut letter: Box<Letter>) {
        if letter.bytes.capacity() > LETTER_BYTES_KEPT {
            letter.bytes = Vec::new();
        }
        if self.empty.len() < EMPTY_MAX {
            self.empty.push(letter);
        }
    }

    /// Ends a turn: tries again what waits, then wakes whoever was sent something, each at most once.
    pub fn flush(&mut self) {
        for link in self.links.iter_mut().flatten() {
            link.push_waiting();
            if std::mem::take(&mut link.rings) {
                link.bell.ring();
            }
        }
    }

    /// Whether another worker has sent something that was not taken yet.
    pub fn has_mail(&self) -> bool {
        self.links.iter().flatten().any(|link| !link.incoming.is_empty())
    }

    /// Whether something waits for room in a ring: whoever sleeps then must look again soon.
    pub fn has_waiting(&self) -> bool {
        self.links.iter().flatten().any(|link| !link.waiting.is_empty())
    }

    fn link(&mut self, worker: u16) -> &mut Link {
        match self.links.get_mut(usize::from(worker)) {
            Some(Some(link)) => link,
            Some(None) | None => panic!("no other worker has number {worker}"),
        }
    }
}

impl Link {
    fn push_waiting(&mut self) {
        while let Some(parcel) = self.waiting.pop_front() {
            match self.outgoing.push(parcel) {
                Ok(()) => self.rings = true,
                Err(parcel) => {
                    self.waiting.push_front(parcel);
                    return;
                }
            }
        }
    }
}

/// A ring for each ordered pair.
fn grid<T>(count: usize, capacity: usize) -> Vec<Vec<Arc<ArrayQueue<T>>>> {
    let row = || (0..count).map(|_| Arc::new(ArrayQueue::new(capacity))).collect();
    (0..count).map(|_| row()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn mesh(workers: usize, capacity: usize) -> (Vec<mio::Poll>, Vec<Handoff>) {
        let polls: Vec<_> = (0..workers).map(|_| mio::Poll::new().unwrap()).collect();
        let bells: Vec<_> = polls
            .iter()
            .map(|poll| Arc::new(Doorbell::new(poll, mio::Token(0)).unwrap()))
            .collect();
        (polls, Handoff::mesh(&bells, capacity))
    }

    fn number(letter: &Letter) -> u8 {
        letter.bytes[0]
    }

    #[test]
    fn parcels_arrive_in_order_and_letters_come_back() {
        let (_polls, mut ends) = mesh(3, 4);
        let flow = ends[0].letter().flow;
        for round in 0..3 {
            for i in 0..4 {
                let mut letter = ends[0].letter();
                letter.fill(flow, None, &[i]);
                ends[0].pass(2, letter).unwrap();
            }
            let mut full = ends[0].letter();
            full.fill(flow, None, &[9]);
            let full = ends[0].pass(2, full).unwrap_err();
            ends[0].keep(full);
            for i in 0..4 {
                let Some(Parcel::Received(letter)) = ends[2].receive(0) else {
                    panic!("nothing came")
                };
                assert_eq!(number(&letter), i, "round {round}");
                ends[2].give_back(0, letter);
            }
            assert!(ends[2].receive(0).is_none() && ends[2].receive(1).is_none() && ends[2].receive(2).is_none());
        }
    }

    #[test]
    fn what_must_not_be_lost_waits_and_holds_back_what_comes_after() {
        let (_polls, mut ends) = mesh(2, 2);
        for i in 0..5 {
            ends[0].post(1, Parcel::Failed(Ticket(i))).unwrap();
        }
        assert!(ends[0].has_waiting() && ends[1].has_mail());
        let letter = ends[0].letter();
        assert!(ends[0].pass(1, letter).is_err());
        let mut seen = Vec::new();
        for _ in 0..5 {
            while let Some(parcel) = ends[1].receive(0) {
                seen.push(match parcel {
                    Parcel::Failed(ticket) => ticket.0,
                    other => panic!("{other:?}"),
                });
            }
            ends[0].flush();
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        assert!(!ends[0].has_waiting());
        for i in 0..2 + WAITING_MAX as u64 {
            ends[0].post(1, Parcel::Failed(Ticket(i))).unwrap();
        }
        assert!(ends[0].post(1, Parcel::Failed(Ticket(0))).is_err());
    }

    #[test]
    fn a_sleeping_worker_is_woken_once_and_an_awake_one_not_at_all() {
        let (mut polls, mut ends) = mesh(2, 8);
        let mut events = mio::Events::with_capacity(8);
        let mut woken = |polls: &mut Vec<mio::Poll>| {
            polls[1].poll(&mut events, Some(Duration::ZERO)).unwrap();
            events.iter().count()
        };
        ends[0].post(1, Parcel::Failed(Ticket(1))).unwrap();
        ends[0].flush();
        assert_eq!(woken(&mut polls), 0);
        let bell = Arc::clone(&ends[0].links[1].as_ref().unwrap().bell);
        bell.may_sleep();
        ends[0].flush();
        assert_eq!(woken(&mut polls), 0, "nothing new was sent");
        for i in 0..3 {
            ends[0].post(1, Parcel::Failed(Ticket(i))).unwrap();
            ends[0].flush();
        }
        assert_eq!(woken(&mut polls), 1);
        assert_eq!(woken(&mut polls), 0);
    }

    #[test]
    fn two_threads_pass_everything_whatever_their_pace() {
        const PARCELS: u64 = 20_000;
        let (mut polls, mut ends) = mesh(2, 16);
        let mut receiver = ends.pop().unwrap();
        let mut sender = ends.pop().unwrap();
        let mut poll = polls.pop().unwrap();
        let bell = Arc::clone(&sender.links[1].as_ref().unwrap().bell);
        let thread = std::thread::spawn(move || {
            let mut expected = 0;
            let mut events = mio::Events::with_capacity(1);
            while expected < PARCELS {
                bell.may_sleep();
                let wait = if receiver.has_mail() {
                    Duration::ZERO
                } else {
                    Duration::from_secs(30)
                };
                poll.poll(&mut events, Some(wait)).unwrap();
                bell.awake();
                while let Some(Parcel::Failed(ticket)) = receiver.receive(0) {
                    assert_eq!(ticket.0, expected);
                    expected += 1;
                }
            }
        });
        for i in 0..PARCELS {
            let mut parcel = Parcel::Failed(Ticket(i));
            while let Err(back) = sender.post(1, parcel) {
                parcel = back;
                sender.flush();
            }
            if i % 7 == 0 {
                sender.flush();
            }
        }
        while sender.has_waiting() {
            sender.flush();
            std::hint::spin_loop();
        }
        sender.flush();
        thread.join().unwrap();
    }
}
