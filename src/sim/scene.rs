//! A world to begin with: referee between a carrier and a platform.

use super::peer::Peer;
use super::peer::script::{Act, Manners};
use super::{PeerId, World};
use crate::command::Reply;
use crate::config::{self, Config};
use serde_json::Value;
use std::time::Duration;

/// referee's address on the side of the carrier.
pub const PUBLIC: &str = "203.0.113.7:5060";
/// referee's address on the side of the platform.
pub const PRIVATE: &str = "10.0.0.1:5060";
pub const CARRIER: &str = "198.51.100.10:5060";
pub const PLATFORM: &str = "10.0.0.5:5060";

/// A carrier on one listener, a platform on another; either may call the other.
pub const TWO_SIDES: &str = r#"
[[listen]]
name = "public"
bind = ["udp:203.0.113.7:5060", "tcp:203.0.113.7:5060"]
[[listen]]
name = "private"
bind = ["udp:10.0.0.1:5060", "tcp:10.0.0.1:5060"]
[hooks]
base_url = "https://app.example.com"
[[trunk]]
name = "carrier"
side = "carrier"
listen = "public"
addresses = ["udp:198.51.100.10:5060"]
sources = ["198.51.100.0/24"]
[trunk.refer]
bare_number = "sip:{number}@trunk.example.net"
destinations = ["*"]
[[trunk]]
name = "platform"
side = "platform"
listen = "private"
addresses = ["udp:10.0.0.5:5060"]
[trunk.refer]
destinations = ["*"]
[[route]]
from = "carrier"
to = "platform"
[[route]]
from = "platform"
to = "carrier"
"#;

/// Reads a configuration that is part of a test.
///
/// # Panics
/// If it has a mistake.
pub fn config(text: &str) -> Config {
    config::parse(text, &|_| None).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// A caller on the public side.
pub fn carrier() -> Peer {
    let identity = "\"Alice\" <sip:+4917012345@carrier.example>";
    Peer::new("carrier", CARRIER, Manners::new(PUBLIC, identity))
}

/// A callee on the private side.
pub fn platform() -> Peer {
    let identity = "<sip:bot@platform.example>";
    Peer::new("platform", PLATFORM, Manners::new(PRIVATE, identity))
}

/// referee between a carrier and a platform.
#[derive(Debug)]
pub struct Scene {
    pub world: World,
    pub carrier: PeerId,
    pub platform: PeerId,
}

impl Default for Scene {
    fn default() -> Scene {
        Scene::with(TWO_SIDES, carrier(), platform())
    }
}

impl Scene {
    /// One shard with this configuration between these two.
    pub fn with(text: &str, carrier: Peer, platform: Peer) -> Scene {
        let mut world = World::new(1, 1, config(text), None);
        let (carrier, platform) = (world.add(carrier), world.add(platform));
        Scene {
            world,
            carrier,
            platform,
        }
    }

    /// The carrier calls; gives back the Call-ID.
    pub fn call(&mut self) -> String {
        self.world.call(self.carrier, "sip:+4930123456@203.0.113.7", &[])
    }

    /// The carrier calls and the platform has answered: it is 2 s.
    pub fn answered(&mut self) -> String {
        let call = self.call();
        self.run(2_000);
        call
    }

    /// Lets so many milliseconds pass.
    pub fn run(&mut self, millis: u64) {
        self.world.run_for(Duration::from_millis(millis));
    }

    /// The carrier does something in its call.
    pub fn carrier_does(&mut self, call: &str, act: Act) {
        self.world.act(self.carrier, call, act);
    }

    /// The platform does something in its call.
    pub fn platform_does(&mut self, call: &str, act: Act) {
        self.world.act(self.platform, call, act);
    }

    /// Runs verbs on a call and gives back the reply, which is there at once where there is no store.
    ///
    /// # Panics
    /// If the verbs are not valid, or there is no reply.
    pub fn verbs(&mut self, call: &str, verbs: Value) -> Reply {
        let ticket = self.world.verbs(call, &verbs).unwrap_or_else(|error| panic!("{error}"));
        let reply = self.world.reply(ticket);
        reply.cloned().unwrap_or_else(|| panic!("{verbs} got no reply"))
    }
}
