//! What goes wrong around referee but in the network: peers that crash, connections that break, slow stores and names, and
//! those who speak in the name of others.

use super::peer::Path;
use super::peer::text::Text;
use super::tally::Fault;
use super::{Event, PeerId, World};
use crate::shard::Ticket;
use crate::timer::Instant;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How a peer that is down takes what is sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// Not at all.
    Silent,
    /// Its port is closed: the sender is told (RFC 1122 §3.2.2.1).
    Refusing,
}

/// How slow what stands behind referee is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Troubles {
    /// Until then; from then on all is quick.
    pub until: Instant,
    /// How long the store takes, at least and at most.
    pub store: [Duration; 2],
    pub lookup: [Duration; 2],
    /// Out of a thousand look-ups so many find nothing.
    pub lookups_fail: u64,
}

impl Troubles {
    /// None but the time a store takes.
    pub fn with_store(store: [Duration; 2]) -> Troubles {
        Troubles {
            until: Instant::from_micros(u64::MAX),
            store,
            lookup: [Duration::from_millis(5); 2],
            lookups_fail: 0,
        }
    }
}

/// A datagram of a peer that somebody has recorded.
#[derive(Clone, Debug)]
pub(super) struct Overheard {
    peer: PeerId,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// Datagrams that are remembered, the oldest forgotten first.
const OVERHEARD_MAX: usize = 64;
/// What takes longer than this is slow.
const SLOW: Duration = Duration::from_millis(500);

impl World {
    /// Sets what stands behind referee.
    pub fn trouble(&mut self, troubles: Troubles) {
        self.troubles = troubles;
    }

    // ---- peers ----

    /// A peer loses all it knows and is gone until then.
    pub fn crash(&mut self, id: PeerId, how: Down, until: Instant) {
        if self.down[id.0].is_some() {
            return;
        }
        self.tally.note(Fault::Crash);
        let name = self.peers[id.0].name.clone();
        self.ladder.note(self.now, &name, &name, "crashes", "");
        self.peers[id.0].crash();
        self.break_connections(id);
        self.down[id.0] = Some(how);
        self.plan(until, Event::Restarts(id));
    }

    pub fn is_down(&self, id: PeerId) -> bool {
        self.down[id.0].is_some()
    }

    pub(super) fn restart(&mut self, id: PeerId) {
        self.tally.note(Fault::Restart);
        let name = self.peers[id.0].name.clone();
        self.ladder.note(self.now, &name, &name, "is back", "");
        self.down[id.0] = None;
    }

    /// A datagram reaches a peer's host.
    pub(super) fn arrive(&mut self, peer: PeerId, path: Path, bytes: &[u8], ticket: Option<(usize, Ticket)>) {
        match self.down[peer.0] {
            None => {
                self.peers[peer.0].receive(bytes, path, self.now);
                self.drain_peer(peer);
            }
            Some(Down::Silent) => self.tally.note(Fault::Silence),
            Some(Down::Refusing) => {
                self.tally.note(Fault::Refusal);
                if let Some((shard, ticket)) = ticket {
                    if let Ok(text) = Text::read(bytes) {
                        self.check.send_failed(&text);
                    }
                    let at = self.now + self.network.latency(self.now);
                    self.plan(at, Event::SendFailed { shard, ticket });
                }
            }
        }
    }

    // ---- connections ----

    /// Closes every connection of a peer; what is under way arrives.
    pub fn close_connections(&mut self, id: PeerId) {
        for link in self.links.iter_mut().filter(|link| link.peer == id) {
            link.is_open = false;
        }
    }

    /// Breaks every connection of a peer: what is under way is lost, and whoever sent a request on one within 64·T1 is told.
    pub fn break_connections(&mut self, id: PeerId) {
        let open = |number: &usize| self.links[*number].is_open && self.links[*number].peer == id;
        let broken: Vec<usize> = (0..self.links.len()).filter(open).collect();
        let still = self.now - 64 * self.config.timers.t1;
        for number in broken {
            self.tally.note(Fault::Reset);
            let link = &mut self.links[number];
            link.is_open = false;
            let tickets = std::mem::take(&mut link.tickets);
            self.events.retain(|_, event| {
                !matches!(event, Event::Stream { link, .. } | Event::ArrivesOnStream { link, .. } if *link == number)
            });
            for (_, shard, ticket, bytes) in tickets.into_iter().filter(|(at, ..)| *at >= still) {
                self.tally.note(Fault::BrokenSend);
                if let Ok(text) = Text::read(&bytes) {
                    self.check.send_failed(&text);
                    if text.method() == "REFER" {
                        self.peers.iter_mut().for_each(|peer| peer.may_hear_of(text.branch()));
                    }
                }
                self.plan(self.now + Duration::from_millis(1), Event::SendFailed { shard, ticket });
            }
        }
    }

    // ---- what stands behind ----

    /// When a look-up that begins now is answered, and with what.
    pub(super) fn look_up(&mut self, name: &str) -> (Instant, Vec<IpAddr>) {
        let troubles = self.troubles;
        if self.now >= troubles.until {
            let addresses = self.names.get(name).cloned().unwrap_or_default();
            return (self.now + Duration::from_millis(5), addresses);
        }
        let wait = self.dice.between(troubles.lookup[0], troubles.lookup[1]);
        if wait > SLOW {
            self.tally.note(Fault::SlowName);
        }
        let fails = self.dice.permille(troubles.lookups_fail);
        let addresses = self.names.get(name).filter(|_| !fails).cloned().unwrap_or_default();
        if addresses.is_empty() {
            self.tally.note(Fault::NoName);
        }
        (self.now + wait, addresses)
    }

    /// When the store has recorded what it is given now: in order, as a store with one log does.
    pub(super) fn store(&mut self) -> Instant {
        let troubles = self.troubles;
        let wait = match self.now < troubles.until {
            true => self.dice.between(troubles.store[0], troubles.store[1]),
            false => troubles.store[0].min(SLOW),
        };
        if wait > SLOW {
            self.tally.note(Fault::SlowStore);
        }
        self.recorded_at = (self.now + wait).max(self.recorded_at);
        self.recorded_at
    }

    // ---- those who speak for others ----

    /// Somebody sends a datagram that says it is from this address. What answers it is not judged.
    pub fn forge(&mut self, fault: Fault, from: SocketAddr, to: SocketAddr, text: &str) {
        self.tally.note(fault);
        if let Ok(text) = Text::read_any_length(text.as_bytes()) {
            for peer in &mut self.peers {
                peer.unjudge(text.branch());
            }
        }
        self.ladder
            .note(self.now, &from.to_string(), super::REFEREE, fault.as_str(), "forged");
        let bytes = text.as_bytes().to_vec();
        self.plan(self.now + Duration::from_millis(1), Event::Datagram { from, to, bytes });
    }

    pub(super) fn overhear(&mut self, peer: PeerId, to: SocketAddr, bytes: &[u8]) {
        if self.overheard.len() == OVERHEARD_MAX {
            self.overheard.remove(0);
        }
        self.overheard.push(Overheard {
            peer,
            to,
            bytes: bytes.to_vec(),
        });
    }

    /// Somebody sends a datagram again that a peer has sent some time ago, from this address or the peer's own.
    pub fn replay(&mut self, which: u64, from: Option<SocketAddr>) {
        if self.overheard.is_empty() {
            return;
        }
        let Overheard { peer, to, bytes } = self.overheard[(which % self.overheard.len() as u64) as usize].clone();
        let address = from.unwrap_or(self.peers[peer.0].address);
        self.tally.note(Fault::Replay);
        if let Ok(text) = Text::read_any_length(&bytes) {
            self.check.replayed(&text);
            for peer in &mut self.peers {
                peer.replayed(&text);
            }
        }
        self.ladder.note(
            self.now,
            &address.to_string(),
            super::REFEREE,
            "a datagram of before",
            "replayed",
        );
        let at = self.now + Duration::from_millis(1);
        self.plan(
            at,
            Event::Datagram {
                from: address,
                to,
                bytes,
            },
        );
    }
}
