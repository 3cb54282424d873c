//! Requests too large for a datagram (RFC 3261 §18.1.1): they leave by TCP, unless the next hop is pinned to UDP or is known to
//! refuse connections.

use super::Shard;
use crate::config::Address;
use crate::identifiers::Keyed;
use crate::message::{Header, Message, parse};
use crate::next_hop::NextHop;
use crate::timer::Instant;
use crate::transaction::ClientKey;
use crate::transport::{Flow, Ticket, Transport};
use hashbrown::HashMap;
use std::net::{IpAddr, SocketAddr};

/// RFC 3261 §18.1.1: the largest request that may go by UDP where the path's MTU is unknown.
const DATAGRAM_BYTES_MAX: usize = 1_300;

/// Next hops remembered; at the limit all are forgotten, which costs a refused connection each.
const REMEMBERED_MAX: usize = 10_000;

/// Next hops that refuse connections, as elements of RFC 2543 do that know UDP only.
#[derive(Debug)]
pub(super) struct Refusals {
    until: HashMap<SocketAddr, Instant, Keyed>,
}

impl Refusals {
    pub fn new(keyed: Keyed) -> Refusals {
        Refusals {
            until: HashMap::with_hasher(keyed),
        }
    }

    fn remember(&mut self, hop: SocketAddr, until: Instant) {
        if self.until.len() >= REMEMBERED_MAX && !self.until.contains_key(&hop) {
            self.until.clear();
        }
        self.until.insert(hop, until);
    }

    fn holds(&self, hop: SocketAddr, now: Instant) -> bool {
        self.until.get(&hop).is_some_and(|until| now < *until)
    }
}

impl Shard {
    /// The flow by which a request written from `start` on must leave instead of `flow`, for its size; then it is to be written
    /// for that one. Otherwise `None`.
    pub(super) fn flow_for_size(&mut self, start: usize, flow: Flow, now: Instant) -> Option<Flow> {
        if flow.transport != Transport::Udp || self.outbox.bytes.len() - start <= DATAGRAM_BYTES_MAX {
            return None;
        }
        // The same host and port is where both transports are (§18), so that nothing else in the message changes.
        let bind = self.topology.stream_beside(flow.bind)?;
        let stays = self.is_pinned(flow) || self.asks_for_udp(start) || self.refusals.holds(flow.peer, now);
        if stays {
            self.counters.large_datagrams_total += 1;
            return None;
        }
        Some(Flow {
            bind,
            transport: Transport::Tcp,
            connection: None,
            ..flow
        })
    }

    /// Whether the configuration says that UDP is what this peer speaks: its address does, or all addresses of its trunk do.
    fn is_pinned(&self, flow: Flow) -> bool {
        let Some(trunk) = self.topology.trunk_of(flow) else {
            return false;
        };
        let addresses = &self.config().trunk(trunk).addresses;
        let is_it = |address: &&Address| {
            address.port == flow.peer.port() && address.host.parse::<IpAddr>() == Ok(flow.peer.ip().to_canonical())
        };
        let says_udp = |address: &Address| address.transport == Some(Transport::Udp);
        match addresses.iter().find(is_it) {
            Some(address) => says_udp(address),
            None => !addresses.is_empty() && addresses.iter().all(says_udp),
        }
    }

    /// Whether the URI of the next hop has `transport=udp`.
    fn asks_for_udp(&mut self, start: usize) -> bool {
        let bytes = &self.outbox.bytes[start..];
        let index = &mut *self.large_scratch;
        if parse(bytes, index).is_err() {
            return false;
        }
        let message = Message::new(bytes, index);
        let route = message.name_addrs(Header::Route).next().and_then(Result::ok);
        let next = route.map_or(message.request_uri(), |route| route.uri);
        NextHop::of_uri(next).is_ok_and(|hop| hop.transport == Some(Transport::Udp))
    }

    /// A request leaves by TCP for its size; by UDP after all if TCP is refused.
    pub(super) fn lead_by_stream(&mut self, client: ClientKey, stream: Flow) {
        self.counters.large_requests_total += 1;
        self.transactions.lead_by_stream(client, stream);
    }

    /// A connection was refused.
    pub(super) fn on_connection_refused(&mut self, ticket: Ticket, now: Instant) {
        match self
            .transactions
            .fall_back(ticket, &mut self.outbox, &mut self.timers, now)
        {
            Some(refused) => {
                self.counters.large_requests_refused_total += 1;
                let kept = self.config().limits.tcp_refusal_kept;
                self.refusals.remember(refused.peer, now + kept);
            }
            None => {
                let ended = self.transactions.on_send_failed(ticket);
                self.on_transaction_ended(ended, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifiers::Random;
    use std::time::Duration;

    #[test]
    fn refusals_are_kept_for_their_time_and_no_more_than_the_limit() {
        let mut refusals = Refusals::new(Keyed::new(&mut Random::new([1; 16])));
        let hop = |i: u32| SocketAddr::new(IpAddr::from(i.to_be_bytes()), 5060);
        let until = Instant::START + Duration::from_secs(1);
        refusals.remember(hop(1), until);
        assert!(refusals.holds(hop(1), Instant::START) && !refusals.holds(hop(2), Instant::START));
        assert!(!refusals.holds(hop(1), until));
        for i in 0..3 * REMEMBERED_MAX as u32 {
            refusals.remember(hop(i), until);
            assert!(refusals.holds(hop(i), Instant::START) && refusals.until.len() <= REMEMBERED_MAX);
        }
    }
}
