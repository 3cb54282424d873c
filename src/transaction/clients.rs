//! The client half of the table: requests going out, and the responses to them.

use super::client::{Client, ClientState, OnResponse};
use super::{Answered, Branch, ClientKey, Deadline, Ended, Letter, Transactions, class_of, is_challenge};
use crate::identifiers::Random;
use crate::message::edit::RequestWriter;
use crate::message::{FieldError, Header, Message, Method, Via, parse};
use crate::timer::{Instant, Timers};
use crate::transport::{Flow, OutRange, Outbox, Ticket};
use slotmap::{Key, KeyData};
use std::time::Duration;

const TRANSPORT_ERROR: &str = "transport error";

/// RFC 3261 §17.1.1.2: Timer D is the far side's Timer H, whose T1 is not known here.
const TIMER_D_MIN: Duration = Duration::from_secs(32);

/// How the top Via of a request begins.
const VIA_OF_STREAM: &[u8] = b"\r\nVia: SIP/2.0/TCP ";
const VIA_OF_DATAGRAM: &[u8] = b"\r\nVia: SIP/2.0/UDP ";

impl<S: Copy, C: Copy> Transactions<S, C> {
    pub fn client(&self, key: ClientKey) -> Option<&Client<C>> {
        self.clients.get(key)
    }

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

    /// Nobody waits for the response any more: the request is not sent again. A final response is still taken, and that of an
    /// INVITE acknowledged, for 64·T1.
    pub fn leave<K: From<Deadline>>(&mut self, key: ClientKey, timers: &mut Timers<K>, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        client.is_quiet = true;
        if client.is_invite() && client.state == ClientState::Proceeding {
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

    pub(super) fn on_client_deadline<K: From<Deadline>>(
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

fn ticket(key: ClientKey) -> Ticket {
    Ticket(key.data().as_ffi())
}

fn deadline_of<K: From<Deadline>>(key: ClientKey, letter: Letter) -> K {
    Deadline::Client(key, letter).into()
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
