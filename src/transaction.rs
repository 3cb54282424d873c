//! Transactions: which message belongs to which (RFC 3261 §17.1.3, §17.2.3), retransmission, and their ends.
//!
//! The layer above writes messages into the outbox and hands their range over; this layer sends, keeps what must be sent
//! again, and tells what came of it. A client transaction's branch carries its own key, so a response finds it without a
//! search; a server transaction is found by a keyed 128-bit hash over branch, sent-by and method.

#[cfg(feature = "sim")]
mod audit;
pub mod client;
pub mod server;

use crate::buffer::Buffers;
use crate::config::SipTimers;
use crate::coverage::Coverage;
use crate::identifiers::{Random, from_hex16, hex16};
use crate::message::edit::RequestWriter;
use crate::message::{FieldError, Header, Index, Message, Method, Via, parse};
use crate::timer::{Instant, Timers};
use crate::transport::{Flow, OutRange, Outbox, Ticket};
use client::{Client, ClientState, OnResponse};
use hashbrown::HashMap;
use server::{Server, ServerState};
use siphasher::sip128::{Hasher128, SipHasher13};
use slotmap::{Key, KeyData, SlotMap, new_key_type};
use std::hash::Hasher;
use std::time::Duration;

new_key_type! {
    /// A server transaction; a stale key finds nothing.
    pub struct ServerKey;
    /// A client transaction; a stale key finds nothing.
    pub struct ClientKey;
}

/// The timers of RFC 3261 §17 and RFC 6026, by their letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Letter {
    /// INVITE client: resend.
    A,
    /// INVITE client: give up.
    B,
    /// INVITE client: absorb repeated finals.
    D,
    /// Non-INVITE client: resend. Non-INVITE server: the client's has reached T2, so that a 100 is due.
    E,
    /// Non-INVITE client: give up.
    F,
    /// INVITE server: resend the final response.
    G,
    /// INVITE server: no ACK came.
    H,
    /// INVITE server: absorb repeated ACKs.
    I,
    /// Non-INVITE server: answer repeats.
    J,
    /// Non-INVITE client: absorb repeated finals.
    K,
    /// INVITE server after a 2xx: absorb repeated INVITEs.
    L,
    /// INVITE client after a 2xx: take further ones.
    M,
}

impl Letter {
    fn as_str(self) -> &'static str {
        match self {
            Letter::A => "Timer A",
            Letter::B => "Timer B",
            Letter::D => "Timer D",
            Letter::E => "Timer E",
            Letter::F => "Timer F",
            Letter::G => "Timer G",
            Letter::H => "Timer H",
            Letter::I => "Timer I",
            Letter::J => "Timer J",
            Letter::K => "Timer K",
            Letter::L => "Timer L",
            Letter::M => "Timer M",
        }
    }
}

/// A transaction's deadline, as the timers carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deadline {
    Server(ServerKey, Letter),
    Client(ClientKey, Letter),
}

/// What a timer or a failed send came to, for the layer above.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended<S, C> {
    /// Timer B or F: no final response came. The transaction is gone.
    ClientTimeout(C),
    /// The request could not be sent. The transaction is gone.
    ClientTransportFailed(C),
    /// Timer H: no ACK came for the non-2xx final response (RFC 3261 §17.2.1). The transaction is gone; what it was known by.
    ServerTimeout(S, u128),
    /// The transaction did its duty and is gone.
    Client(C),
    Server(S),
    /// Nothing has ended: a non-INVITE has had no response for so long that it is to get a 100 (RFC 4320 §4.1).
    TryingIsDue(ServerKey),
}

/// A response that found its client transaction and must be acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    pub client: ClientKey,
    pub code: u16,
}

/// The branch of a client transaction, as it stands in Via.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    text: [u8; BRANCH_LEN + LOOP_DIGEST_LEN],
    length: usize,
}

const MAGIC: &[u8; 7] = b"z9hG4bK";
const BRANCH_LEN: usize = 7 + 16 + 16;
const LOOP_DIGEST_LEN: usize = 8;

impl Branch {
    fn new(key: ClientKey, random: u64, loop_digest: Option<u32>) -> Branch {
        let mut text = [0; BRANCH_LEN + LOOP_DIGEST_LEN];
        text[..7].copy_from_slice(MAGIC);
        text[7..23].copy_from_slice(&hex16(key.data().as_ffi()));
        text[23..BRANCH_LEN].copy_from_slice(&hex16(random));
        let mut length = BRANCH_LEN;
        if let Some(digest) = loop_digest {
            text[BRANCH_LEN..].copy_from_slice(&hex16(digest.into())[16 - LOOP_DIGEST_LEN..]);
            length = text.len();
        }
        Branch { text, length }
    }

    /// The loop digest in a branch of ours; `None`: it has none, or is not ours.
    pub fn loop_digest(text: &[u8]) -> Option<u32> {
        Branch::read(text)?.loop_digest
    }

    /// A branch no transaction stands behind: an ACK for a 2xx is forwarded without one. `number` must be the same for each
    /// repeat and differ between requests (RFC 3261 §16.11).
    pub fn without_transaction(number: u64) -> Branch {
        Branch::new(ClientKey::null(), number, None)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }

    fn read(text: &[u8]) -> Option<BranchParts> {
        let rest = text.strip_prefix(MAGIC)?;
        let (numbers, digest) = rest.split_at_checked(32)?;
        let loop_digest = match digest.len() {
            0 => None,
            LOOP_DIGEST_LEN => {
                let mut padded = [b'0'; 16];
                padded[16 - LOOP_DIGEST_LEN..].copy_from_slice(digest);
                Some(from_hex16(&padded)? as u32)
            }
            _ => return None,
        };
        Some(BranchParts {
            key: KeyData::from_ffi(from_hex16(&numbers[..16])?).into(),
            random: from_hex16(&numbers[16..])?,
            loop_digest,
        })
    }
}

/// What stands in a branch of ours.
struct BranchParts {
    key: ClientKey,
    random: u64,
    loop_digest: Option<u32>,
}

/// All transactions of one shard.
#[derive(Debug)]
pub struct Transactions<S, C> {
    servers: SlotMap<ServerKey, Server<S>>,
    clients: SlotMap<ClientKey, Client<C>>,
    by_identity: HashMap<u128, ServerKey, foldhash::fast::FixedState>,
    buffers: Buffers,
    /// For requests of ours that are read again.
    scratch: Box<Index>,
    /// The request that was answered last with 401 or 407; else empty.
    challenged: Vec<u8>,
    coverage: Coverage,
    hash_key: [u8; 16],
    t1: Duration,
    t2: Duration,
    t4: Duration,
}

impl<S: Copy, C: Copy> Transactions<S, C> {
    pub fn new(timers: SipTimers, hash_key: [u8; 16]) -> Transactions<S, C> {
        Transactions {
            servers: SlotMap::with_key(),
            clients: SlotMap::with_key(),
            by_identity: HashMap::with_hasher(foldhash::fast::FixedState::default()),
            buffers: Buffers::default(),
            scratch: Box::default(),
            challenged: Vec::new(),
            coverage: Coverage::default(),
            hash_key,
            t1: timers.t1,
            t2: timers.t2,
            t4: timers.t4,
        }
    }

    /// Live transactions.
    pub fn len(&self) -> usize {
        self.servers.len() + self.clients.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn server(&self, key: ServerKey) -> Option<&Server<S>> {
        self.servers.get(key)
    }

    pub fn server_mut(&mut self, key: ServerKey) -> Option<&mut Server<S>> {
        self.servers.get_mut(key)
    }

    pub fn client(&self, key: ClientKey) -> Option<&Client<C>> {
        self.clients.get(key)
    }

    /// The arrows that transactions have taken.
    #[cfg(feature = "sim")]
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    // ---- requests coming in ----

    /// What a request's server transaction is known by (RFC 3261 §17.2.3). An ACK is known as its INVITE; a CANCEL asks for
    /// its INVITE with `method` INVITE and is a transaction of its own otherwise.
    pub fn identity(&self, message: Message<'_>, via: &Via<'_>, method: Method) -> Result<u128, FieldError> {
        let mut hasher = SipHasher13::new_with_key(&self.hash_key);
        let method = if method == Method::Ack { Method::Invite } else { method };
        hasher.write_u8(method as u8);
        if method == Method::Other {
            write_part(&mut hasher, message.method_token());
        }
        match via.branch {
            Some(branch)
                if branch
                    .get(..MAGIC.len())
                    .is_some_and(|cookie| cookie.eq_ignore_ascii_case(MAGIC)) =>
            {
                write_part(&mut hasher, branch);
                write_part(&mut hasher, via.sent_by);
            }
            // RFC 2543 peers: Request-URI, From tag, Call-ID, CSeq number and top Via. The To tag is left out: an ACK carries
            // the tag of our response where the INVITE had none.
            _ => {
                write_part(&mut hasher, message.request_uri());
                write_part(&mut hasher, message.from()?.tag.unwrap_or_default());
                write_part(&mut hasher, message.call_id()?);
                hasher.write_u32(message.cseq()?.number);
                write_part(&mut hasher, &message.bytes()[via.span.range()]);
            }
        }
        Ok(hasher.finish128().as_u128())
    }

    pub fn find_server(&self, identity: u128) -> Option<ServerKey> {
        self.by_identity.get(&identity).copied()
    }

    /// Opens the server transaction of a new request. `reply_to` is where its responses go.
    pub fn open_server(
        &mut self,
        identity: u128,
        message: Message<'_>,
        method: Method,
        reply_to: Flow,
        owner: S,
    ) -> ServerKey {
        let request = self.buffers.copy(&message.bytes()[..message.total_len()]);
        let key = self.servers.insert(Server {
            method,
            state: if method == Method::Invite {
                ServerState::Proceeding
            } else {
                ServerState::Trying
            },
            reply_to,
            owner,
            identity,
            request,
            response: Vec::new(),
            interval: self.t1,
        });
        let previous = self.by_identity.insert(identity, key);
        debug_assert!(previous.is_none(), "a request opened its transaction twice");
        key
    }

    /// Has a 100 become due if a non-INVITE has no response by the time its sender's Timer E reaches T2: not before, where each
    /// repeat would be answered, and not later (RFC 4320 §4.1).
    pub fn watch_trying<K: From<Deadline>>(&mut self, key: ServerKey, timers: &mut Timers<K>, now: Instant) {
        let (mut wait, mut interval) = (self.t1, self.t1 * 2);
        while interval < self.t2 {
            wait += interval;
            interval *= 2;
        }
        timers.arm(now, wait, Deadline::Server(key, Letter::E).into());
    }

    /// A repeat of the request: the last response again, if there is one.
    pub fn on_repeat(&mut self, key: ServerKey, outbox: &mut Outbox) {
        let Some(server) = self.servers.get(key) else { return };
        self.coverage
            .take(|| server.arrow(server.state, "request", Some(server.state)));
        if !server.response.is_empty() {
            outbox.send_copy(server.reply_to, &server.response, None);
        }
    }

    /// An ACK that matches an INVITE. `true`: it was for a non-2xx and is used up (RFC 3261 §17.2.1).
    pub fn on_ack<K: From<Deadline>>(&mut self, key: ServerKey, timers: &mut Timers<K>, now: Instant) -> bool {
        let Some(server) = self.servers.get_mut(key) else {
            return false;
        };
        let before = server.state;
        if before == ServerState::Completed {
            server.state = ServerState::Confirmed;
        }
        self.coverage.take(|| server.arrow(before, "ACK", Some(server.state)));
        match before {
            ServerState::Completed => {
                self.buffers.release(std::mem::take(&mut server.response));
                let wait = if server.reply_to.transport.is_reliable() {
                    Duration::ZERO
                } else {
                    self.t4
                };
                timers.arm(now, wait, Deadline::Server(key, Letter::I).into());
                true
            }
            ServerState::Confirmed => true,
            ServerState::Trying | ServerState::Proceeding | ServerState::Accepted => false,
        }
    }

    /// The request a server transaction still holds, parsed again: for responses of our own.
    pub fn request_of<'a>(&'a self, key: ServerKey, index: &'a mut Index) -> Option<Message<'a>> {
        let server = self.servers.get(key)?;
        parse(&server.request, index).ok()?;
        Some(Message::new(&server.request, index))
    }

    /// Lends the request out, so that it can be sent to a further target; [`Self::return_request`] must follow. `None`: it was
    /// answered and is not kept any more.
    pub fn lend_request(&mut self, key: ServerKey) -> Option<Vec<u8>> {
        let request = &mut self.servers.get_mut(key)?.request;
        (!request.is_empty()).then(|| std::mem::take(request))
    }

    pub fn return_request(&mut self, key: ServerKey, request: Vec<u8>) {
        match self.servers.get_mut(key) {
            Some(server) => server.request = request,
            None => self.buffers.release(request),
        }
    }

    /// Whether a response with this code may still be sent; one that may not is discarded.
    pub fn may_send(&mut self, key: ServerKey, code: u16) -> bool {
        let Some(server) = self.servers.get(key) else {
            return false;
        };
        let may = server.may_send(code);
        if !may {
            self.coverage
                .take(|| server.arrow(server.state, "response discarded", Some(server.state)));
        }
        may
    }

    /// Sends a response that is written in the outbox. `false`: the transaction may not send it any more.
    pub fn respond<K: From<Deadline>>(
        &mut self,
        key: ServerKey,
        code: u16,
        bytes: OutRange,
        outbox: &mut Outbox,
        timers: &mut Timers<K>,
        now: Instant,
    ) -> bool {
        if !self.may_send(key, code) {
            return false;
        }
        let Some(server) = self.servers.get_mut(key) else {
            return false;
        };
        let first_final = code >= 200 && server.is_waiting();
        let before = server.state;
        server.on_send(code);
        self.coverage
            .take(|| server.arrow(before, class_of(code, server.is_invite()), Some(server.state)));
        let reliable = server.reply_to.transport.is_reliable();
        if server.state == ServerState::Accepted {
            self.buffers.release(std::mem::take(&mut server.response));
        } else {
            self.buffers.replace(&mut server.response, outbox.get(&bytes));
        }
        outbox.send(server.reply_to, bytes, None);
        if !first_final {
            return true;
        }
        self.buffers.release(std::mem::take(&mut server.request));
        let mut arm = |wait, letter| {
            timers.arm(now, wait, Deadline::Server(key, letter).into());
        };
        match (server.state, server.is_invite()) {
            (ServerState::Accepted, _) => arm(64 * self.t1, Letter::L),
            (_, true) => {
                if !reliable {
                    arm(self.t1, Letter::G);
                }
                arm(64 * self.t1, Letter::H);
            }
            (_, false) => arm(if reliable { Duration::ZERO } else { 64 * self.t1 }, Letter::J),
        }
        true
    }

    /// Completes a server transaction without a response: a non-INVITE whose answer never came (RFC 4320 §4.2 forbids a 408). Its
    /// sender has given up by now; repeats that are still on their way get the last 100, or each would be taken for a new request.
    pub fn complete_unanswered<K: From<Deadline>>(&mut self, key: ServerKey, timers: &mut Timers<K>, now: Instant) {
        let Some(server) = self.servers.get_mut(key).filter(|server| server.is_waiting()) else {
            return;
        };
        let before = server.state;
        server.state = ServerState::Completed;
        self.coverage
            .take(|| server.arrow(before, "given up", Some(server.state)));
        self.buffers.release(std::mem::take(&mut server.request));
        let wait = match server.reply_to.transport.is_reliable() {
            true => Duration::ZERO,
            false => self.t4,
        };
        timers.arm(now, wait, Deadline::Server(key, Letter::J).into());
    }

    fn remove_server(&mut self, key: ServerKey, on: &'static str) -> Option<S> {
        let server = self.servers.remove(key)?;
        self.coverage.take(|| server.arrow(server.state, on, None));
        self.by_identity.remove(&server.identity);
        self.buffers.release(server.request);
        self.buffers.release(server.response);
        Some(server.owner)
    }

    // ---- requests going out ----

    /// Opens a client transaction; its request is written next, with the branch given back, and sent by [`Self::start`].
    /// `loop_digest`: the part of the branch that is the same each time a request comes by unchanged (RFC 5393 §4.2.1).
    pub fn open_client(
        &mut self,
        method: Method,
        flow: Flow,
        owner: C,
        loop_digest: Option<u32>,
        random: &mut Random,
    ) -> (ClientKey, Branch) {
        let number = random.next_u64();
        let key = self.clients.insert(Client {
            method,
            state: if method == Method::Invite {
                ClientState::Calling
            } else {
                ClientState::Trying
            },
            flow,
            fallback: None,
            owner,
            random: number,
            loop_digest,
            request: Vec::new(),
            interval: self.t1,
            is_resent: false,
            is_quiet: false,
            attempt: 0,
            cancel: None,
        });
        (key, Branch::new(key, number, loop_digest))
    }

    /// Opens the client transaction of a challenged request that is sent once more: for the same owner, to the same hop. The
    /// challenged one is `left`'s from now on. `None`: there is no such transaction.
    pub fn open_again(&mut self, key: ClientKey, left: C, random: &mut Random) -> Option<(ClientKey, Branch, Flow)> {
        let client = self.clients.get_mut(key)?;
        debug_assert!(!client.is_waiting());
        let owner = std::mem::replace(&mut client.owner, left);
        let (method, flow, loop_digest, attempt) = (client.method, client.hop(), client.loop_digest, client.attempt);
        let (again, branch) = self.open_client(method, flow, owner, loop_digest, random);
        self.clients[again].attempt = attempt.saturating_add(1);
        Some((again, branch, flow))
    }

    /// Lends out the request that has just been answered with 401 or 407, as it was sent; [`Self::return_challenged`] must
    /// follow.
    pub fn lend_challenged(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.challenged)
    }

    pub fn return_challenged(&mut self, request: Vec<u8>) {
        self.buffers.release(request);
    }

    /// Sends the request that is written in the outbox and starts its timers.
    pub fn start<K: From<Deadline>>(
        &mut self,
        key: ClientKey,
        bytes: OutRange,
        outbox: &mut Outbox,
        timers: &mut Timers<K>,
        now: Instant,
    ) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        client.request = self.buffers.copy(outbox.get(&bytes));
        outbox.send(client.flow, bytes, Some(ticket(key)));
        let (resend, give_up) = if client.is_invite() {
            (Letter::A, Letter::B)
        } else {
            (Letter::E, Letter::F)
        };
        if !client.flow.transport.is_reliable() {
            timers.arm(now, self.t1, Deadline::Client(key, resend).into());
        }
        timers.arm(now, 64 * self.t1, Deadline::Client(key, give_up).into());
    }

    /// Nobody wants a non-INVITE to be carried out any more: it is not sent again. Responses are still taken, until Timer F.
    pub fn stop_repeating(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key) {
            debug_assert!(!client.is_invite());
            client.is_quiet = true;
        }
    }

    /// Nobody waits for an INVITE any more, and what it was for has ended: it is not sent again, and a final response that comes
    /// within 64·T1 is acknowledged.
    pub fn leave_invite<K: From<Deadline>>(&mut self, key: ClientKey, timers: &mut Timers<K>, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        client.is_quiet = true;
        if client.state == ClientState::Proceeding {
            timers.arm(now, 64 * self.t1, Deadline::Client(key, Letter::B).into());
        }
    }

    /// Cancels an INVITE that has a provisional response (RFC 3261 §9.1); `extra` is copied into the CANCEL as it is.
    /// `owner` belongs to the CANCEL's own transaction. Without a provisional the caller must wait for one.
    pub fn cancel<K: From<Deadline>>(
        &mut self,
        key: ClientKey,
        owner: C,
        reason: Option<&[u8]>,
        outbox: &mut Outbox,
        timers: &mut Timers<K>,
        now: Instant,
    ) {
        let Some(client) = self.clients.get(key) else { return };
        debug_assert_eq!(client.state, ClientState::Proceeding);
        let index = &mut *self.scratch;
        if client.cancel.is_some() || parse(&client.request, index).is_err() {
            return;
        }
        let (flow, random, loop_digest) = (client.flow, client.random, client.loop_digest);
        let start = outbox.bytes.len();
        let to = Message::new(&client.request, index)
            .value(Header::To)
            .unwrap_or_default();
        write_cancel_or_ack(
            Message::new(&client.request, index),
            "CANCEL",
            to,
            reason,
            &mut outbox.bytes,
        );
        let cancel = self.clients.insert(Client {
            method: Method::Cancel,
            state: ClientState::Trying,
            flow,
            fallback: None,
            owner,
            random,
            loop_digest,
            request: Vec::new(),
            interval: self.t1,
            is_resent: false,
            is_quiet: false,
            attempt: 0,
            cancel: None,
        });
        let bytes = outbox.since(start);
        self.start(cancel, bytes, outbox, timers, now);
        if let Some(client) = self.clients.get_mut(key) {
            client.cancel = Some(cancel);
        }
    }

    // ---- responses coming in ----

    /// Takes a response to its client transaction. `None`: no such transaction, one that absorbs it, or one that it does not
    /// fit. `fits` is asked of the transaction and the top Via: whether sent-by is ours (RFC 3261 §18.1.2), and the like. After a 401
    /// or 407 comes [`Self::lend_challenged`].
    pub fn on_response<K: From<Deadline>>(
        &mut self,
        message: Message<'_>,
        fits: impl FnOnce(&Client<C>, &Via<'_>) -> bool,
        outbox: &mut Outbox,
        timers: &mut Timers<K>,
        now: Instant,
    ) -> Result<Option<Answered>, FieldError> {
        let code = message.status().unwrap_or_default();
        let via = message.top_via()?;
        let cseq = message.cseq()?;
        let Some(branch) = via.branch.and_then(Branch::read) else {
            return Ok(None);
        };
        let is_ours = |client: &&Client<C>| client.random == branch.random && client.loop_digest == branch.loop_digest;
        let Some(client) = self.clients.get(branch.key).filter(is_ours) else {
            return Ok(None);
        };
        let key = match (cseq.method, client.cancel) {
            // A CANCEL shares its INVITE's branch.
            (Method::Cancel, Some(cancel)) => cancel,
            _ => branch.key,
        };
        let Some(client) = self.clients.get_mut(key) else {
            return Ok(None);
        };
        if !client.answers(&cseq) || !fits(client, &via) {
            return Ok(None);
        }
        let before = client.state;
        let verdict = client.on_response(code);
        let on = class_of(code, client.is_invite());
        self.coverage.take(|| client.arrow(before, on, Some(client.state)));
        let reliable = client.flow.transport.is_reliable();
        if client.state != before && !client.is_waiting() {
            let (wait, letter) = match client.state {
                ClientState::Accepted => (64 * self.t1, Letter::M),
                _ if client.is_invite() => (
                    if reliable {
                        Duration::ZERO
                    } else {
                        (64 * self.t1).max(TIMER_D_MIN)
                    },
                    Letter::D,
                ),
                _ => (if reliable { Duration::ZERO } else { self.t4 }, Letter::K),
            };
            timers.arm(now, wait, Deadline::Client(key, letter).into());
        }
        match verdict {
            OnResponse::Absorb => return Ok(None),
            OnResponse::AckAgain => {
                outbox.send_copy(client.flow, &client.request, None);
                return Ok(None);
            }
            OnResponse::DeliverAndAck => {
                let start = outbox.bytes.len();
                if parse(&client.request, &mut self.scratch).is_ok() {
                    let request = Message::new(&client.request, &self.scratch);
                    // RFC 3261 §17.1.1.3: the To of the response, all else of the INVITE.
                    let to = message.value(Header::To).unwrap_or_default();
                    write_cancel_or_ack(request, "ACK", to, None, &mut outbox.bytes);
                    let bytes = outbox.since(start);
                    if is_challenge(code) {
                        let ack = self.buffers.copy(outbox.get(&bytes));
                        self.challenged = std::mem::replace(&mut client.request, ack);
                    } else {
                        self.buffers.replace(&mut client.request, outbox.get(&bytes));
                    }
                    outbox.send(client.flow, bytes, None);
                }
            }
            OnResponse::Deliver => {
                if !client.is_waiting() {
                    let request = std::mem::take(&mut client.request);
                    match is_challenge(code) {
                        true => self.challenged = request,
                        false => self.buffers.release(request),
                    }
                }
            }
        }
        Ok(Some(Answered { client: key, code }))
    }

    // ---- time and failures ----

    /// A timer of a transaction fired. `None`: nothing for the layer above.
    pub fn on_deadline<K: From<Deadline>>(
        &mut self,
        deadline: Deadline,
        outbox: &mut Outbox,
        timers: &mut Timers<K>,
        now: Instant,
    ) -> Option<Ended<S, C>> {
        match deadline {
            Deadline::Client(key, letter) => self.on_client_deadline(key, letter, outbox, timers, now),
            Deadline::Server(key, letter) => self.on_server_deadline(key, letter, outbox, timers, now),
        }
    }

    fn on_client_deadline<K: From<Deadline>>(
        &mut self,
        key: ClientKey,
        letter: Letter,
        outbox: &mut Outbox,
        timers: &mut Timers<K>,
        now: Instant,
    ) -> Option<Ended<S, C>> {
        let client = self.clients.get_mut(key)?;
        match (letter, client.state) {
            (Letter::A, ClientState::Calling) if !client.is_quiet => {
                self.coverage
                    .take(|| client.arrow(client.state, letter.as_str(), Some(client.state)));
                client.is_resent = true;
                client.interval *= 2;
                outbox.send_copy(client.flow, &client.request, Some(ticket(key)));
                timers.arm(now, client.interval, deadline_of(key, letter));
                None
            }
            (Letter::E, ClientState::Trying | ClientState::Proceeding) if !client.is_quiet => {
                self.coverage
                    .take(|| client.arrow(client.state, letter.as_str(), Some(client.state)));
                client.is_resent = true;
                client.interval = if client.state == ClientState::Proceeding {
                    self.t2
                } else {
                    (client.interval * 2).min(self.t2)
                };
                outbox.send_copy(client.flow, &client.request, Some(ticket(key)));
                timers.arm(now, client.interval, deadline_of(key, letter));
                None
            }
            (Letter::B, ClientState::Calling | ClientState::Proceeding) if client.is_quiet => {
                self.remove_client(key, letter.as_str()).map(Ended::Client)
            }
            (Letter::B, ClientState::Calling) | (Letter::F, ClientState::Trying | ClientState::Proceeding) => {
                self.remove_client(key, letter.as_str()).map(Ended::ClientTimeout)
            }
            (Letter::D, ClientState::Completed)
            | (Letter::K, ClientState::Completed)
            | (Letter::M, ClientState::Accepted) => self.remove_client(key, letter.as_str()).map(Ended::Client),
            // Armed in a state the transaction has left since.
            _ => None,
        }
    }

    fn on_server_deadline<K: From<Deadline>>(
        &mut self,
        key: ServerKey,
        letter: Letter,
        outbox: &mut Outbox,
        timers: &mut Timers<K>,
        now: Instant,
    ) -> Option<Ended<S, C>> {
        let server = self.servers.get_mut(key)?;
        match (letter, server.state) {
            (Letter::G, ServerState::Completed) => {
                self.coverage
                    .take(|| server.arrow(server.state, letter.as_str(), Some(server.state)));
                server.interval = (server.interval * 2).min(self.t2);
                outbox.send_copy(server.reply_to, &server.response, None);
                timers.arm(now, server.interval, Deadline::Server(key, letter).into());
                None
            }
            (Letter::H, ServerState::Completed) => {
                let identity = server.identity;
                let owner = self.remove_server(key, letter.as_str())?;
                Some(Ended::ServerTimeout(owner, identity))
            }
            (Letter::I, ServerState::Confirmed)
            | (Letter::J, ServerState::Completed)
            | (Letter::L, ServerState::Accepted) => self.remove_server(key, letter.as_str()).map(Ended::Server),
            (Letter::E, ServerState::Trying) => Some(Ended::TryingIsDue(key)),
            _ => None,
        }
    }

    /// A request that is written but not started leaves by `stream` instead, for its size.
    pub fn lead_by_stream(&mut self, key: ClientKey, stream: Flow) {
        if let Some(client) = self.clients.get_mut(key) {
            debug_assert!(client.request.is_empty() && stream.transport.is_reliable());
            client.fallback = Some(client.flow);
            client.flow = stream;
        }
    }

    /// The connection of the send with this ticket was refused. A request that left by TCP for its size alone goes by UDP now,
    /// as if it had from the first (RFC 3261 §18.1.1); gives back by what flow it was refused.
    pub fn fall_back<K: From<Deadline>>(
        &mut self,
        of: Ticket,
        outbox: &mut Outbox,
        timers: &mut Timers<K>,
        now: Instant,
    ) -> Option<Flow> {
        let key = ClientKey::from(KeyData::from_ffi(of.0));
        let client = self.clients.get_mut(key)?;
        if client.is_quiet || !matches!(client.state, ClientState::Calling | ClientState::Trying) {
            return None;
        }
        let refused = std::mem::replace(&mut client.flow, client.fallback.take()?);
        // Our Via is the first line; both tokens are of one length.
        let at = memchr::memmem::find(&client.request, VIA_OF_STREAM)?;
        client.request[at..at + VIA_OF_STREAM.len()].copy_from_slice(VIA_OF_DATAGRAM);
        outbox.send_copy(client.flow, &client.request, Some(ticket(key)));
        let resend = match client.method {
            Method::Invite => Letter::A,
            // It is not answered, and repeated by its sender.
            Method::Ack => return self.remove_client(key, TRANSPORT_ERROR).map(|_| refused),
            _ => Letter::E,
        };
        timers.arm(now, self.t1, Deadline::Client(key, resend).into());
        Some(refused)
    }

    /// A send with this ticket failed (RFC 3261 §18.4). Over UDP the first failure is let pass, since the request is sent again
    /// at T1 anyway and a peer that restarts is back by then. A transaction that has any response lives on: the answer may
    /// come another way (§18.2.2).
    pub fn on_send_failed(&mut self, ticket: Ticket) -> Option<Ended<S, C>> {
        let key = ClientKey::from(KeyData::from_ffi(ticket.0));
        let client = self.clients.get(key)?;
        let is_sent_again = !client.flow.transport.is_reliable() && !client.is_resent;
        match client.state {
            ClientState::Calling | ClientState::Trying if !is_sent_again => self
                .remove_client(key, TRANSPORT_ERROR)
                .map(Ended::ClientTransportFailed),
            ClientState::Calling
            | ClientState::Trying
            | ClientState::Proceeding
            | ClientState::Completed
            | ClientState::Accepted => {
                self.coverage
                    .take(|| client.arrow(client.state, TRANSPORT_ERROR, Some(client.state)));
                None
            }
        }
    }

    /// Ends a client transaction that was not started, an INVITE that was cancelled and never got its final response (RFC 3261
    /// §9.1), or one whose Timer C fired.
    pub fn drop_client(&mut self, key: ClientKey) {
        self.remove_client(key, "given up");
    }

    fn remove_client(&mut self, key: ClientKey, on: &'static str) -> Option<C> {
        let client = self.clients.remove(key)?;
        self.coverage.take(|| client.arrow(client.state, on, None));
        self.buffers.release(client.request);
        // The responses of a CANCEL are found by its INVITE, so it ends no later. It has nothing left to do.
        if let Some(cancel) = client.cancel {
            self.remove_client(cancel, "INVITE ended");
        }
        Some(client.owner)
    }
}

const TRANSPORT_ERROR: &str = "transport error";

/// Whether a response asks for credentials (RFC 3261 §22).
pub fn is_challenge(code: u16) -> bool {
    matches!(code, 401 | 407)
}

/// A response as the figures of RFC 3261 §17 name it.
fn class_of(code: u16, is_invite: bool) -> &'static str {
    match code {
        100..=199 => "1xx",
        _ if !is_invite => "200-699",
        200..=299 => "2xx",
        _ => "300-699",
    }
}
/// RFC 3261 §17.1.1.2: Timer D is the far side's Timer H, whose T1 is not known here.
const TIMER_D_MIN: Duration = Duration::from_secs(32);

/// How the top Via of a request begins.
const VIA_OF_STREAM: &[u8] = b"\r\nVia: SIP/2.0/TCP ";
const VIA_OF_DATAGRAM: &[u8] = b"\r\nVia: SIP/2.0/UDP ";

fn ticket(key: ClientKey) -> Ticket {
    Ticket(key.data().as_ffi())
}

fn deadline_of<K: From<Deadline>>(key: ClientKey, letter: Letter) -> K {
    Deadline::Client(key, letter).into()
}

fn write_part(hasher: &mut SipHasher13, part: &[u8]) {
    hasher.write_u32(part.len() as u32);
    hasher.write(part);
}

/// A CANCEL (RFC 3261 §9.1) or the ACK for a non-2xx (§17.1.1.3) from the INVITE as it was sent: its Request-URI, top Via,
/// Route, From, Call-ID and CSeq number.
fn write_cancel_or_ack(invite: Message<'_>, method: &str, to: &[u8], reason: Option<&[u8]>, out: &mut Vec<u8>) {
    let via = invite.top_via().map(|via| via.span.range()).unwrap_or_default();
    let number = invite.cseq().map(|cseq| cseq.number).unwrap_or_default();
    let mut writer = RequestWriter::new(out, method, invite.request_uri());
    writer.header("Via", &[&invite.bytes()[via]]);
    for line in invite.lines_of(Header::Route) {
        writer.copied("Route", line.value);
    }
    writer
        .header("Max-Forwards", &[b"70"])
        .copied("From", invite.value(Header::From).unwrap_or_default())
        .copied("To", to)
        .header("Call-ID", &[invite.call_id().unwrap_or_default()])
        .header(
            "CSeq",
            &[
                crate::message::edit::decimal(number).as_bytes(),
                b" ",
                method.as_bytes(),
            ],
        );
    if let Some(reason) = reason {
        writer.copied("Reason", reason);
    }
    let written = writer.finish(None, b"");
    debug_assert!(written.is_ok(), "a received value was refused");
}
