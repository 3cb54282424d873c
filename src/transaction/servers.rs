//! The server half of the table: requests coming in, and the responses to them.

use super::branch::MAGIC;
use super::server::{Server, ServerState};
use super::{Deadline, Ended, Letter, ServerKey, Transactions, class_of};
use crate::message::{FieldError, Index, Message, Method, Via, parse};
use crate::timer::{Instant, Timers};
use crate::transport::{Flow, OutRange, Outbox};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;
use std::time::Duration;

impl<S: Copy, C: Copy> Transactions<S, C> {
    pub fn server(&self, key: ServerKey) -> Option<&Server<S>> {
        self.servers.get(key)
    }

    pub fn server_mut(&mut self, key: ServerKey) -> Option<&mut Server<S>> {
        self.servers.get_mut(key)
    }

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
            // RFC 2543 peers: Request-URI, tags, Call-ID, CSeq number and top Via. Of an INVITE the To tag is left out: its ACK carries
            // the tag of our response where it had none.
            _ => {
                write_part(&mut hasher, message.request_uri());
                if method != Method::Invite {
                    write_part(&mut hasher, message.to_tag().unwrap_or_default());
                }
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

    /// Opens the server transaction of a new request. `reply_to` is where its responses go, `source_port` where it came from.
    pub fn open_server(
        &mut self,
        identity: u128,
        message: Message<'_>,
        method: Method,
        reply_to: Flow,
        source_port: u16,
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
            source_port,
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

    /// Completes a server transaction without a response: a non-INVITE that nobody has answered, or only with a 408, which RFC 4320
    /// §4.2 forbids. Repeats get the last 100, or each would be taken for a new request: for 64·T1 where `is_repeated`, that is where
    /// its sender may not have given up yet, else for as long as one may be on its way, T4.
    pub fn complete_unanswered<K: From<Deadline>>(
        &mut self,
        key: ServerKey,
        is_repeated: bool,
        timers: &mut Timers<K>,
        now: Instant,
    ) {
        let Some(server) = self.servers.get_mut(key).filter(|server| server.is_waiting()) else {
            return;
        };
        let before = server.state;
        server.state = ServerState::Completed;
        self.coverage
            .take(|| server.arrow(before, "given up", Some(server.state)));
        self.buffers.release(std::mem::take(&mut server.request));
        let wait = match (server.reply_to.transport.is_reliable(), is_repeated) {
            (true, _) => Duration::ZERO,
            (false, true) => 64 * self.t1,
            (false, false) => self.t4,
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

    pub(super) fn on_server_deadline<K: From<Deadline>>(
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
}

fn write_part(hasher: &mut SipHasher13, part: &[u8]) {
    hasher.write_u32(part.len() as u32);
    hasher.write(part);
}
