//! Where a request goes next: host, port and transport of a URI (RFC 3261 §16.6 step 7, RFC 3263 for addresses and names).

use crate::message::{Host, Uri};
use crate::transport::Transport;
use std::net::IpAddr;

/// The next hop a URI names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    pub host: HopHost,
    pub port: u16,
    /// What the URI asks for; `None`: it leaves it open.
    pub transport: Option<Transport>,
}

/// An address, or a name to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HopHost {
    Address(IpAddr),
    Name(String),
}

/// Why a URI names no hop we can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHop {
    /// It is not a URI.
    Malformed,
    /// A scheme that is not routed: tel, sips, http.
    Scheme,
    /// A transport that is not spoken here.
    Transport,
}

impl NextHop {
    /// The hop of a Route value's or a Request-URI.
    pub fn of_uri(text: &[u8]) -> Result<NextHop, NoHop> {
        let uri = Uri::parse(text).map_err(|_| NoHop::Malformed)?;
        if !matches!(uri.scheme, crate::message::uri::Scheme::Sip) {
            return Err(NoHop::Scheme);
        }
        let transport = match uri.param("transport") {
            Some(Some(value)) => Some(Transport::from_token(value).ok_or(NoHop::Transport)?),
            _ => None,
        };
        // RFC 3263 §4: maddr is the target where it is present.
        let host = match uri.param("maddr").flatten().map(Host::parse) {
            Some(Some(host)) => host,
            Some(None) => return Err(NoHop::Malformed),
            None => uri.host,
        };
        let host = match host {
            Host::Address(address) => HopHost::Address(address),
            Host::Name(name) if !name.is_empty() => HopHost::Name(String::from_utf8_lossy(name).to_ascii_lowercase()),
            Host::Name(_) => return Err(NoHop::Malformed),
        };
        Ok(NextHop {
            host,
            port: uri.port.unwrap_or(5060),
            transport,
        })
    }
}
