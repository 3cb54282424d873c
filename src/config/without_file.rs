//! Configurations that need no file, and what the environment puts over any.

use super::parse::BINDS_MAX;
use super::value;
use super::{Bind, Config, Destination, InboundRefer, Network, ReferRules, Route, SHARDS_MAX, Side, Trunk, TrunkId};
use crate::spelling::shown;
use crate::transport::Transport;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A `REFEREE_…` variable that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentError {
    pub variable: &'static str,
    pub message: String,
}

impl fmt::Display for EnvironmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.message)
    }
}

impl std::error::Error for EnvironmentError {}

impl Config {
    /// Answers OPTIONS and has a call for nobody: what runs when nothing says where calls go.
    ///
    /// # Errors
    ///
    /// One sentence: too many addresses, or one twice.
    pub fn without_routes(listen: &[SocketAddr]) -> Result<Config, String> {
        let mut binds: Vec<Bind> = Vec::new();
        for &address in listen {
            if binds.iter().any(|bind| bind.address == address) {
                return Err(format!("{address} is given twice"));
            }
            binds.extend([Transport::Udp, Transport::Tcp].map(|transport| Bind {
                listen: LISTENER.to_owned(),
                transport,
                address,
                advertise: None,
            }));
        }
        if binds.len() > BINDS_MAX {
            return Err(format!("more than {} addresses to listen on", BINDS_MAX / 2));
        }
        Ok(Config {
            binds,
            ..Config::default()
        })
    }

    /// Relays every call to one peer, `HOST:PORT` or with a transport in front, over UDP and TCP.
    ///
    /// Trunk `caller` (side carrier) is whoever calls, trunk `callee` (side platform) is the peer. Sources overlap, since
    /// the callee may call from the address of a caller: a new request is of the first trunk that has its source, `caller`.
    /// Nothing tells the addresses behind a name, so a callee given by name may speak from any.
    ///
    /// # Errors
    ///
    /// One sentence: no such peer, or it is one of `listen` itself.
    pub fn relay_all(listen: &[SocketAddr], to: &str) -> Result<Config, String> {
        let address = value::address(to)?;
        let ip = address.host.parse::<IpAddr>().ok();
        let to_ourselves = |own: &SocketAddr| {
            own.port() == address.port
                && ip.is_some_and(|ip| ip == own.ip() || (own.ip().is_unspecified() && ip.is_loopback()))
        };
        if listen.iter().any(to_ourselves) {
            return Err(format!(
                "calls to {} would come back here, where referee listens itself",
                shown(to)
            ));
        }
        let anyone = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
            .map(|address| Network { address, prefix: 0 });
        let trunk = |name: &str, side, addresses, sources| Trunk {
            name: name.to_owned(),
            side: Some(side),
            listen: LISTENER.to_owned(),
            addresses,
            sources,
            hooks_base_url: None,
            hooks_secret: None,
            hooks_jambonz_secret: None,
            inbound_refer: InboundRefer::Relay,
            source_rate: None,
            refer: ReferRules {
                destinations: vec![Destination::Any],
                ..ReferRules::default()
            },
            health: None,
            calls_max: None,
            calls_per_second_max: None,
            auth: None,
        };
        let callee_sources = ip.map_or_else(|| anyone.to_vec(), |ip| vec![Network::host(ip)]);
        Ok(Config {
            trunks: vec![
                trunk("caller", Side::Carrier, Vec::new(), anyone.to_vec()),
                trunk("callee", Side::Platform, vec![address], callee_sources),
            ],
            routes: vec![Route::to_one(TrunkId(0), TrunkId(1))],
            ..Config::without_routes(listen)?
        })
    }

    /// Lays the `REFEREE_…` variables over these values: `REFEREE_CONTROL_LISTEN` (`off` for none),
    /// `REFEREE_CONTROL_TOKEN`, `REFEREE_HOOKS_BASE_URL`, `REFEREE_HOOKS_SECRET`, `REFEREE_SHARDS`. An empty one counts as
    /// not set.
    ///
    /// # Errors
    ///
    /// Every variable that cannot be used; its value is left as it was.
    pub fn apply_environment(
        &mut self,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), Vec<EnvironmentError>> {
        let mut errors = Vec::new();
        let mut apply = |variable: &'static str, apply: &mut dyn FnMut(&str) -> Result<(), String>| {
            if let Some(text) = environment(variable).filter(|text| !text.is_empty())
                && let Err(message) = apply(&text)
            {
                errors.push(EnvironmentError { variable, message });
            }
        };
        apply("REFEREE_CONTROL_LISTEN", &mut |text| {
            self.control.listen = value::control_listen(text)?;
            Ok(())
        });
        apply("REFEREE_CONTROL_TOKEN", &mut |text| {
            self.control.token = Some(value::secret(text)?);
            Ok(())
        });
        apply("REFEREE_HOOKS_BASE_URL", &mut |text| {
            self.hooks.base_url = Some(value::base_url(text)?);
            Ok(())
        });
        apply("REFEREE_HOOKS_SECRET", &mut |text| {
            self.hooks.secret = Some(value::secret(text)?);
            Ok(())
        });
        apply("REFEREE_SHARDS", &mut |text| {
            let shards = text.parse().ok().filter(|shards| (1..=SHARDS_MAX).contains(shards));
            self.shards = Some(shards.ok_or_else(|| format!("`{}` is no number from 1 to {SHARDS_MAX}", shown(text)))?);
            Ok(())
        });
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

/// The name of the one listener.
const LISTENER: &str = "public";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Address, Control};

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn relaying_everything_takes_any_caller_to_one_callee() {
        let config = Config::relay_all(&addresses(&["127.0.0.1:5060", "[::1]:5060"]), "127.0.0.1:5070").unwrap();
        let binds: Vec<String> = config
            .binds
            .iter()
            .map(|bind| format!("{} {}:{}", bind.listen, bind.transport, bind.address))
            .collect();
        assert_eq!(
            binds,
            [
                "public udp:127.0.0.1:5060",
                "public tcp:127.0.0.1:5060",
                "public udp:[::1]:5060",
                "public tcp:[::1]:5060"
            ]
        );
        let [caller, callee] = &config.trunks[..] else {
            panic!("{:?}", config.trunks)
        };
        assert_eq!(
            (caller.name.as_str(), caller.side, caller.addresses.len()),
            ("caller", Some(Side::Carrier), 0)
        );
        assert!(
            ["192.0.2.1", "2001:db8::1"]
                .iter()
                .all(|ip| caller.sources.iter().any(|n| n.contains(ip.parse().unwrap())))
        );
        assert_eq!((callee.name.as_str(), callee.side), ("callee", Some(Side::Platform)));
        assert_eq!(callee.sources, [Network::host(Ipv4Addr::LOCALHOST.into())]);
        let host = "127.0.0.1".to_owned();
        assert_eq!(
            callee.addresses,
            [Address {
                transport: None,
                host,
                port: 5070
            }]
        );
        for trunk in [caller, callee] {
            assert_eq!(trunk.inbound_refer, InboundRefer::Relay);
            assert_eq!(trunk.refer.destinations, [Destination::Any]);
        }
        let [route] = &config.routes[..] else {
            panic!("{:?}", config.routes)
        };
        assert_eq!(*route, Route::to_one(TrunkId(0), TrunkId(1)));
    }

    #[test]
    fn a_callee_given_by_name_may_speak_from_anywhere() {
        let config = Config::relay_all(&addresses(&["127.0.0.1:5060"]), "tcp:sip.example.net").unwrap();
        assert_eq!(config.trunks[1].addresses[0].transport, Some(Transport::Tcp));
        assert_eq!(config.trunks[1].sources, config.trunks[0].sources);
    }

    #[test]
    fn a_relay_to_itself_or_to_nowhere_is_refused() {
        for (listen, to, part) in [
            ("127.0.0.1:5060", "127.0.0.1:5060", "come back"),
            ("0.0.0.0:5060", "127.0.0.1:5060", "come back"),
            ("0.0.0.0:5060", "127.0.0.1", "come back"),
            ("127.0.0.1:5060", "nowhere:0", "no port"),
            ("127.0.0.1:5060", "tls:example.com", "not supported"),
        ] {
            let message = Config::relay_all(&addresses(&[listen]), to).unwrap_err();
            assert!(message.contains(part), "{listen} {to}: {message}");
        }
        let many: Vec<SocketAddr> = (1..=33)
            .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .collect();
        assert!(Config::without_routes(&many).is_err());
        assert!(Config::without_routes(&many[..32]).is_ok());
        assert!(Config::without_routes(&[many[0], many[0]]).is_err());
    }

    #[test]
    fn the_environment_lies_over_the_file() {
        let variables = [
            ("REFEREE_CONTROL_LISTEN", "off"),
            ("REFEREE_CONTROL_TOKEN", "t0ken"),
            ("REFEREE_HOOKS_BASE_URL", "https://app.example.com"),
            ("REFEREE_HOOKS_SECRET", ""),
            ("REFEREE_SHARDS", "4"),
        ];
        let environment = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let mut config = Config::default();
        config.hooks.secret = Some("from the file".into());
        config.apply_environment(&environment).unwrap();
        let token = Some("t0ken".to_owned());
        assert_eq!(
            config.control,
            Control {
                listen: None,
                token,
                ..Control::default()
            }
        );
        assert_eq!(config.hooks.base_url.as_deref(), Some("https://app.example.com"));
        assert_eq!(config.hooks.secret.as_deref(), Some("from the file"));
        assert_eq!(config.shards, Some(4));
    }

    #[test]
    fn each_unusable_variable_is_named_and_changes_nothing() {
        let mut config = Config::default();
        let errors = config.apply_environment(&|_| Some("no good".into())).unwrap_err();
        let named: Vec<&str> = errors.iter().map(|error| error.variable).collect();
        assert_eq!(
            named,
            [
                "REFEREE_CONTROL_LISTEN",
                "REFEREE_CONTROL_TOKEN",
                "REFEREE_HOOKS_BASE_URL",
                "REFEREE_HOOKS_SECRET",
                "REFEREE_SHARDS"
            ]
        );
        assert_eq!(config, Config::default());
        for shards in ["0", "257", "-1", "70000"] {
            assert!(
                config
                    .apply_environment(&|name| (name == "REFEREE_SHARDS").then(|| shards.into()))
                    .is_err()
            );
        }
    }
}
