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

/// RFC 1035 §2.3.4: a longer one is no name that could be found, and names are remembered.
const NAME_BYTES_MAX: usize = 255;

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
            Host::Name(name) if (1..=NAME_BYTES_MAX).contains(&name.len()) => {
                HopHost::Name(String::from_utf8_lossy(name).to_ascii_lowercase())
            }
            Host::Name(_) => return Err(NoHop::Malformed),
        };
        Ok(NextHop {
            host,
            port: uri.port.unwrap_or(5060),
            transport,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_is_an_address_or_a_name_that_can_be_looked_up() {
        let long = format!("sip:a@{}example.com", "a.".repeat(200));
        for (uri, expected) in [
            ("sip:a@192.0.2.1", Ok(HopHost::Address("192.0.2.1".parse().unwrap()))),
            (
                "sip:a@example.com;maddr=192.0.2.2",
                Ok(HopHost::Address("192.0.2.2".parse().unwrap())),
            ),
            ("sip:a@Example.COM", Ok(HopHost::Name("example.com".into()))),
            ("sip:a@example.com;transport=sctp", Err(NoHop::Transport)),
            ("tel:+4930", Err(NoHop::Scheme)),
            (&long, Err(NoHop::Malformed)),
        ] {
            assert_eq!(NextHop::of_uri(uri.as_bytes()).map(|hop| hop.host), expected, "{uri}");
        }
    }
}
