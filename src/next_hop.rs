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

    /// RFC 3263 §4, §4.1, §4.2: maddr before host, the port of the URI before the default one, the transport of the URI or
    /// whatever the caller takes for it. Nothing but addresses is ever asked for.
    #[test]
    fn host_port_and_transport_are_those_of_the_uri_or_its_defaults() {
        use Transport::{Tcp, Udp};
        let address = |text: &str| HopHost::Address(text.parse().unwrap());
        let name = |text: &str| HopHost::Name(text.into());
        for (uri, host, port, transport) in [
            ("sip:a@192.0.2.1", address("192.0.2.1"), 5060, None),
            ("sip:a@192.0.2.1:5080", address("192.0.2.1"), 5080, None),
            ("sip:192.0.2.1;transport=UDP", address("192.0.2.1"), 5060, Some(Udp)),
            (
                "sip:a@[2001:db8::1]:5070;transport=tcp",
                address("2001:db8::1"),
                5070,
                Some(Tcp),
            ),
            ("sip:a@Example.COM", name("example.com"), 5060, None),
            (
                "sip:a@example.com:5080;transport=tcp",
                name("example.com"),
                5080,
                Some(Tcp),
            ),
            ("sip:a@example.com;transport", name("example.com"), 5060, None),
            ("sip:a@example.com;maddr=192.0.2.2", address("192.0.2.2"), 5060, None),
            (
                "sip:a@192.0.2.1:5080;maddr=[2001:db8::2];lr",
                address("2001:db8::2"),
                5080,
                None,
            ),
            ("sip:a@192.0.2.1;maddr=other.example", name("other.example"), 5060, None),
            ("sip:a@192.0.2.1;maddr", address("192.0.2.1"), 5060, None),
        ] {
            let expected = NextHop { host, port, transport };
            assert_eq!(NextHop::of_uri(uri.as_bytes()), Ok(expected), "{uri}");
        }
    }

    #[test]
    fn what_names_no_hop_that_can_be_reached_says_why() {
        let labels = format!("{}{}.example", "a.".repeat(120), "b".repeat(7));
        assert_eq!(labels.len(), NAME_BYTES_MAX);
        let host = |name: &str| NextHop::of_uri(format!("sip:a@{name}").as_bytes()).map(|hop| hop.host);
        assert_eq!(host(&labels), Ok(HopHost::Name(labels.clone())));
        assert_eq!(host(&format!("a{labels}")), Err(NoHop::Malformed));
        for (uri, why) in [
            ("sips:a@example.com", NoHop::Scheme),
            ("tel:+4930", NoHop::Scheme),
            ("http://example.com", NoHop::Scheme),
            ("sip:a@example.com;transport=sctp", NoHop::Transport),
            ("sip:a@example.com;maddr=", NoHop::Malformed),
            ("sip:a@example.com:70000", NoHop::Malformed),
            ("example.com", NoHop::Malformed),
        ] {
            assert_eq!(NextHop::of_uri(uri.as_bytes()), Err(why), "{uri}");
        }
    }
}
