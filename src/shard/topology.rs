//! The configuration as the data path asks it: texts parsed and names compared once, when the shard is made.

use crate::config::{Config, Network, TrunkId};
use crate::message::uri::Scheme;
use crate::message::{Host, Uri, Via};
use crate::transport::{BindId, Flow, LocalId, Locals, Transport};
use smallvec::SmallVec;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Our sockets and the trunks behind them.
#[derive(Debug)]
pub(super) struct Topology {
    binds: Vec<Own>,
    trunks: Vec<Peers>,
    locals: Arc<Locals>,
}

/// One socket of ours.
#[derive(Debug)]
struct Own {
    /// Binds of the same `[[listen]]` have the same number.
    listener: usize,
    transport: Transport,
    address: SocketAddr,
    /// What it advertises, where that is an address, and where it is a name.
    advertised: Option<IpAddr>,
    name: Option<String>,
    /// `host:port`, as Via and Record-Route say it.
    sent_by: Vec<u8>,
    /// Where it sends to itself.
    itself: SocketAddr,
}

impl Own {
    /// Whether a host and port, by default 5060, are this socket's; of one that is bound to all addresses, those of `locals` too.
    fn is_at(&self, host: Host<'_>, port: Option<u16>, locals: &Locals) -> bool {
        let is_one_of =
            |ip: IpAddr| self.address.ip().is_unspecified() && ip.is_ipv4() == self.address.is_ipv4() && locals.has(ip);
        self.address.port() == port.unwrap_or(5060)
            && match host {
                Host::Address(ip) => ip == self.address.ip() || self.advertised == Some(ip) || is_one_of(ip),
                Host::Name(name) => self
                    .name
                    .as_ref()
                    .is_some_and(|own| own.as_bytes().eq_ignore_ascii_case(name)),
            }
    }
}

/// One trunk's peers.
#[derive(Debug)]
struct Peers {
    listener: usize,
    addresses: SmallVec<[SocketAddr; 2]>,
    sources: Vec<Network>,
}

impl Topology {
    pub fn new(config: &Config, locals: Arc<Locals>) -> Topology {
        let listener = |name: &str| {
            config
                .binds
                .iter()
                .position(|bind| bind.listen == name)
                .unwrap_or(usize::MAX)
        };
        let own = |bind: &crate::config::Bind| {
            let advertised = bind
                .advertise
                .as_deref()
                .and_then(|host| host.trim_matches(['[', ']']).parse().ok());
            Own {
                listener: listener(&bind.listen),
                transport: bind.transport,
                address: bind.address,
                advertised,
                name: bind.advertise.clone().filter(|_| advertised.is_none()),
                sent_by: format!("{}:{}", bind.sent_by_host(), bind.address.port()).into_bytes(),
                itself: SocketAddr::new(advertised.unwrap_or(bind.address.ip()), bind.address.port()),
            }
        };
        let peers = |trunk: &crate::config::Trunk| {
            let address = |address: &crate::config::Address| {
                let ip: IpAddr = address.host.parse().ok()?;
                Some(SocketAddr::new(ip.to_canonical(), address.port))
            };
            Peers {
                listener: listener(&trunk.listen),
                addresses: trunk.addresses.iter().filter_map(address).collect(),
                sources: trunk.sources.clone(),
            }
        };
        Topology {
            binds: config.binds.iter().map(own).collect(),
            trunks: config.trunks.iter().map(peers).collect(),
            locals,
        }
    }

    fn own(&self, bind: BindId) -> &Own {
        &self.binds[usize::from(bind.0)]
    }

    /// `host:port` of a bind.
    pub fn sent_by(&self, bind: BindId) -> &[u8] {
        &self.own(bind).sent_by
    }

    /// The trunk a flow speaks as: by its address and port, else by its sources.
    pub fn trunk_of(&self, flow: Flow) -> Option<TrunkId> {
        let listener = self.own(flow.bind).listener;
        let ip = flow.peer.ip().to_canonical();
        let peer = SocketAddr::new(ip, flow.peer.port());
        let here = || {
            self.trunks
                .iter()
                .enumerate()
                .filter(|(_, trunk)| trunk.listener == listener)
        };
        here()
            .find(|(_, trunk)| trunk.addresses.contains(&peer))
            .or_else(|| here().find(|(_, trunk)| trunk.sources.iter().any(|source| source.contains(ip))))
            .map(|(i, _)| TrunkId(i as u8))
    }

    /// Whether a flow may speak as this trunk.
    pub fn may_speak_as(&self, flow: Flow, trunk: TrunkId) -> bool {
        self.trunks.get(usize::from(trunk.0)).is_some_and(|trunk| {
            trunk.listener == self.own(flow.bind).listener
                && trunk.sources.iter().any(|source| source.contains(flow.peer.ip()))
        })
    }

    /// Whether what comes by one flow may be of whoever stands behind the other: of the same address, or of the same trunk.
    pub fn are_one_peer(&self, a: Flow, b: Flow) -> bool {
        let same_address = || a.peer.ip().to_canonical() == b.peer.ip().to_canonical();
        same_address() || self.trunk_of(a).is_some_and(|trunk| self.may_speak_as(b, trunk))
    }

    /// Whether a URI's host and port are one of our sockets'.
    pub fn names_us(&self, uri: &Uri<'_>) -> bool {
        self.binds.iter().any(|own| own.is_at(uri.host, uri.port, &self.locals))
    }

    /// Whether an address is one of our sockets'.
    pub fn is_at(&self, address: SocketAddr) -> bool {
        let host = Host::Address(address.ip().to_canonical());
        let mut binds = self.binds.iter();
        binds.any(|own| own.is_at(host, Some(address.port()), &self.locals))
    }

    /// Whether a Via's sent-by is what we write on this socket (RFC 3261 §18.1.2).
    pub fn is_sent_by(&self, bind: BindId, via: &Via<'_>) -> bool {
        let own = self.own(bind);
        own.sent_by == via.sent_by || own.is_at(via.host, via.port, &self.locals)
    }

    /// Whether a URI's host is ours, and its port that of this socket.
    pub fn names_us_at_port_of(&self, bind: BindId, uri: &Uri<'_>) -> bool {
        self.names_us(uri) && self.own(bind).address.port() == uri.port.unwrap_or(5060)
    }

    /// The flow from one of our sockets to itself, if a URI leads there.
    pub fn to_itself(&self, uri: &Uri<'_>) -> Option<Flow> {
        let transport = match uri.param("transport") {
            Some(value) => Transport::from_token(value?)?,
            None => Transport::Udp,
        };
        let fits = |own: &Own| own.transport == transport && own.is_at(uri.host, uri.port, &self.locals);
        let place = self.binds.iter().position(fits)?;
        Some(Flow {
            bind: BindId(place as u8),
            transport,
            local: LocalId::ANY,
            peer: self.binds[place].itself,
            connection: None,
        })
    }

    /// The TCP socket with the same name and port as this one.
    pub fn stream_beside(&self, bind: BindId) -> Option<BindId> {
        let own = self.own(bind);
        let is_beside = |other: &Own| {
            other.transport == Transport::Tcp && other.listener == own.listener && other.sent_by == own.sent_by
        };
        self.binds.iter().position(is_beside).map(|place| BindId(place as u8))
    }

    /// Whether a flow leads from one of our sockets to itself.
    pub fn is_itself(&self, flow: Flow) -> bool {
        flow.connection.is_none() && self.own(flow.bind).itself == flow.peer
    }

    /// Whether a Request-URI is ours to answer or to send elsewhere. One with another's `maddr` is that one's (RFC 3261 §16.5).
    pub fn is_addressed_to_us(&self, uri: &Uri<'_>) -> bool {
        let leads_elsewhere = uri.param("maddr").flatten().is_some_and(|maddr| {
            let host = Host::parse(maddr);
            !host.is_some_and(|host| self.names_us(&Uri { host, ..uri.clone() }))
        });
        matches!(uri.scheme, Scheme::Sip) && self.names_us(uri) && !leads_elsewhere
    }

    /// The socket to leave by towards `ip` on a trunk's side: `preferred` if it fits, else one of the trunk's listener.
    pub fn bind_of(
        &self,
        trunk: TrunkId,
        transport: Transport,
        ip: IpAddr,
        preferred: Option<BindId>,
    ) -> Option<BindId> {
        let fits = |own: &Own| own.transport == transport && own.address.is_ipv4() == ip.is_ipv4();
        let listener = self.trunks[usize::from(trunk.0)].listener;
        preferred.filter(|bind| fits(self.own(*bind))).or_else(|| {
            let position = self.binds.iter().position(|own| own.listener == listener && fits(own));
            position.map(|i| BindId(i as u8))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
[[listen]]
name = "public"
bind = ["udp:203.0.113.7:5060"]
[[listen]]
name = "private"
bind = ["udp:10.0.0.1:5060"]
[[trunk]]
name = "first"
listen = "public"
addresses = ["udp:198.51.100.20:5060"]
[[trunk]]
name = "second"
listen = "public"
addresses = ["udp:198.51.100.30:5070"]
[[trunk]]
name = "inside"
listen = "private"
addresses = ["udp:10.0.0.5:5060"]
"#;

    #[test]
    fn a_source_speaks_as_the_trunk_that_has_it_on_its_listener() {
        let config = crate::config::parse(CONFIG, &|_| None).unwrap();
        let topology = Topology::new(&config, Arc::default());
        let flow = |bind, peer: &str| Flow {
            bind: BindId(bind),
            transport: Transport::Udp,
            local: LocalId::ANY,
            peer: peer.parse().unwrap(),
            connection: None,
        };
        for (bind, peer, trunk) in [
            (0, "198.51.100.20:5060", Some(0)),
            (0, "198.51.100.20:5080", Some(0)),
            (0, "198.51.100.30:5060", Some(1)),
            (0, "[::ffff:198.51.100.30]:5070", Some(1)),
            (0, "198.51.100.21:5060", None),
            (1, "10.0.0.5:5061", Some(2)),
            // The right source at the wrong door.
            (0, "10.0.0.5:5060", None),
            (1, "198.51.100.20:5060", None),
        ] {
            let flow = flow(bind, peer);
            assert_eq!(topology.trunk_of(flow), trunk.map(TrunkId), "{bind} {peer}");
            let speaks = (0..3).find(|number| topology.may_speak_as(flow, TrunkId(*number)));
            assert_eq!(speaks, trunk, "{bind} {peer}");
        }
    }
}
