//! Stream connections between peers and referee: bytes in order, cut anywhere, lost by nothing but a break.

use super::peer::Path;
use super::{Event, PeerId, World};
use crate::message::framing::{Frame, Framer};
use crate::shard::{Input, Ticket};
use crate::timer::Instant;
use crate::transport::{BindId, ConnectionId, Flow, LocalId, Transport};
use std::net::SocketAddr;
use std::time::Duration;

/// A stream connection between a peer and referee.
#[derive(Debug)]
pub(super) struct Link {
    pub peer: PeerId,
    /// The peer's end.
    pub far: SocketAddr,
    pub bind: BindId,
    owner: u16,
    pub is_open: bool,
    framer: Framer,
    /// Bytes on their way in that are no whole message yet, in each direction.
    inward: Vec<u8>,
    outward: Vec<u8>,
    /// When the last bytes of each direction arrive: later ones do not come before.
    pub inward_at: Instant,
    pub outward_at: Instant,
    /// Requests that were sent on it, and when: their shards are told if it breaks.
    pub tickets: Vec<(Instant, usize, Ticket, Vec<u8>)>,
}

impl Link {
    /// Where what comes in by it comes from; `number` is its own.
    fn flow(&self, number: usize) -> Flow {
        Flow {
            bind: self.bind,
            transport: Transport::Tcp,
            local: LocalId::ANY,
            peer: self.far,
            connection: Some(ConnectionId {
                worker: self.owner,
                slot: number as u32,
                generation: 0,
            }),
        }
    }
}

impl World {
    pub(super) fn on_stream(&mut self, number: usize, bytes: &[u8]) {
        self.links[number].inward.extend_from_slice(bytes);
        loop {
            let link = &mut self.links[number];
            if !link.is_open {
                return;
            }
            match link.framer.next(&link.inward) {
                Ok(Frame::Message(length)) => {
                    let message: Vec<u8> = link.inward.drain(..length).collect();
                    let flow = link.flow(number);
                    if !self.deliver(flow, &message, Duration::ZERO) {
                        self.links[number].is_open = false;
                    }
                }
                Ok(Frame::Ping(length) | Frame::Skip(length)) => {
                    link.inward.drain(..length);
                }
                Ok(Frame::Incomplete) => return,
                Err(error) => {
                    let flow = link.flow(number);
                    let bytes = std::mem::take(&mut link.inward);
                    let mut index = std::mem::take(&mut self.index);
                    let error = error.read_front(&bytes, &mut index);
                    let input = Input::Malformed {
                        flow,
                        bytes: &bytes,
                        index: &index,
                        error,
                    };
                    self.feed(0, input);
                    self.index = index;
                    self.links[number].is_open = false;
                }
            }
        }
    }

    pub(super) fn open(&mut self, peer: PeerId, far: SocketAddr, bind: BindId, owner: u16) -> usize {
        self.links.push(Link {
            peer,
            far,
            bind,
            owner,
            is_open: true,
            framer: Framer::new(),
            inward: Vec::new(),
            outward: Vec::new(),
            inward_at: self.now,
            outward_at: self.now,
            tickets: Vec::new(),
        });
        self.links.len() - 1
    }

    /// Cuts bytes of a stream anywhere: segments are not messages.
    pub(super) fn cut(&mut self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let at = self.dice.below(bytes.len() as u64 + 1) as usize;
        let (front, back) = bytes.split_at(at);
        [front, back]
            .into_iter()
            .filter(|part| !part.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    }

    /// Puts bytes of a peer on a connection of its to this address of referee's: the named one if it is open, else any, else a
    /// new one.
    pub(super) fn stream_in(&mut self, id: PeerId, path: Path, bytes: Vec<u8>) {
        let Some(bind) = self.bind_at(Transport::Tcp, path.far) else {
            return;
        };
        let named = path
            .link
            .map(|link| link as usize)
            .filter(|link| self.links[*link].is_open);
        let fits = |link: &Link| link.is_open && link.peer == id && link.bind == bind;
        let link = match named.or_else(|| self.links.iter().position(fits)) {
            Some(link) => link,
            None => {
                let owner = self.dice.below(self.shards.len() as u64) as u16;
                let port = 40_000 + self.links.len() as u16;
                let far = SocketAddr::new(self.peers[id.0].address.ip(), port);
                self.open(id, far, bind, owner)
            }
        };
        let at = (self.now + self.network.latency(self.now)).max(self.links[link].inward_at);
        self.links[link].inward_at = at;
        for bytes in self.cut(bytes) {
            self.plan(at, Event::Stream { link, bytes });
        }
    }

    pub(super) fn on_stream_outward(&mut self, number: usize, bytes: &[u8]) {
        let link = &mut self.links[number];
        let peer = link.peer;
        if self.down[peer.0].is_some() {
            return;
        }
        link.outward.extend_from_slice(bytes);
        let path = Path {
            transport: Transport::Tcp,
            far: self.config.bind(link.bind).address,
            link: Some(number as u64),
        };
        while let Some(length) = whole_message(&self.links[number].outward) {
            let message: Vec<u8> = self.links[number].outward.drain(..length).collect();
            self.peers[peer.0].receive(&message, path, self.now);
            self.drain_peer(peer);
        }
    }
}

/// The length of the message at the front of a stream, by its Content-Length.
fn whole_message(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or_default();
    (bytes.len() >= head + length).then_some(head + length)
}
