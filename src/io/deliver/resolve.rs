//! Names of endpoints: looked up once in a while, not once per request, and without a thread per lookup.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// A cache in front of the system's resolver, shared by all clones.
///
/// A lookup blocks the sender that needs it, as long as the system takes; an endpoint has a bounded number of senders, so
/// a name server that does not answer costs its own endpoints only. When it fails, what it last said is used on.
#[derive(Clone, Default)]
pub(super) struct CachingResolver {
    /// By `host:port`.
    known: Arc<Mutex<BTreeMap<String, Known>>>,
}

/// What is known of a name; no addresses: that there are none.
#[derive(Clone, Debug)]
struct Known {
    addresses: Vec<SocketAddr>,
    fresh_until: Instant,
    usable_until: Instant,
}

impl fmt::Debug for CachingResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CachingResolver")
    }
}

impl Resolver for CachingResolver {
    fn resolve(&self, uri: &Uri, config: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let authority = uri
            .authority()
            .ok_or_else(|| ureq::Error::BadUri("no host".to_owned()))?;
        let default_port = match uri.scheme_str() {
            Some("https") => 443,
            _ => 80,
        };
        let name = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(default_port));
        let addresses = match name.parse() {
            Ok(address) => vec![address],
            Err(_) => self.look_up(name, Instant::now(), |name| {
                name.to_socket_addrs().map(Iterator::collect)
            }),
        };
        let mut resolved = self.empty();
        // As many as ureq has room for.
        for address in config.ip_family().keep_wanted(addresses.into_iter()).take(16) {
            resolved.push(address);
        }
        if resolved.is_empty() {
            return Err(ureq::Error::HostNotFound);
        }
        Ok(resolved)
    }
}

impl CachingResolver {
    fn look_up<F>(&self, name: String, now: Instant, ask: F) -> Vec<SocketAddr>
    where
        F: FnOnce(&str) -> std::io::Result<Vec<SocketAddr>>,
    {
        let old = self.lock().get(&name).cloned();
        if let Some(known) = &old
            && now < known.fresh_until
        {
            return known.addresses.clone();
        }
        // Not under the lock: other names must not wait for this one.
        let known = match (ask(&name), old) {
            (Ok(addresses), _) if !addresses.is_empty() => Known {
                addresses,
                fresh_until: now + FRESH_FOR,
                usable_until: now + USABLE_FOR,
            },
            (_, Some(old)) if now < old.usable_until => Known {
                fresh_until: now + FAILED_FOR,
                ..old
            },
            _ => Known {
                addresses: Vec::new(),
                fresh_until: now + FAILED_FOR,
                usable_until: now,
            },
        };
        let addresses = known.addresses.clone();
        let mut all = self.lock();
        if all.len() >= NAMES_MAX {
            all.retain(|_, known| now < known.fresh_until);
        }
        if all.len() < NAMES_MAX {
            all.insert(name, known);
        }
        addresses
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The system's resolver does not tell how long an answer is valid; this is what cloud load balancers use.
const FRESH_FOR: Duration = Duration::from_secs(30);

/// How long an answer serves while no new one can be had.
const USABLE_FOR: Duration = Duration::from_secs(3600);

const FAILED_FOR: Duration = Duration::from_secs(5);

/// Endpoints are few; an application that makes up names gets no cache.
const NAMES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_asked_for_once_and_outlives_its_server() {
        let resolver = CachingResolver::default();
        let start = Instant::now();
        let address: SocketAddr = "192.0.2.1:80".parse().unwrap();
        let found = |_: &str| Ok(vec![address]);
        let failed = |_: &str| Err(std::io::ErrorKind::NotFound.into());
        let unasked = |_: &str| panic!("asked although known");
        let look_up = |millis, ask: &dyn Fn(&str) -> std::io::Result<Vec<SocketAddr>>| {
            resolver.look_up("app:80".to_owned(), start + Duration::from_millis(millis), ask)
        };
        assert_eq!(look_up(0, &failed), []);
        assert_eq!(look_up(4_999, &unasked), [], "that there is none is remembered too");
        assert_eq!(look_up(5_000, &found), [address]);
        assert_eq!(look_up(34_999, &unasked), [address]);
        assert_eq!(look_up(35_000, &failed), [address], "the old answer serves");
        assert_eq!(look_up(39_999, &unasked), [address]);
        assert_eq!(look_up(3_605_000, &failed), [], "but not for ever");
    }

    #[test]
    fn made_up_names_do_not_fill_memory() {
        let resolver = CachingResolver::default();
        let now = Instant::now();
        for number in 0..NAMES_MAX + 10 {
            resolver.look_up(format!("{number}:80"), now, |_| Ok(Vec::new()));
        }
        assert_eq!(resolver.lock().len(), NAMES_MAX);
    }
}
