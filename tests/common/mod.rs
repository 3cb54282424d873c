//! What the tests in virtual time share: a configuration, its peers, ladders kept as files.

use referee::config::{self, Config};
use referee::sim::peer::Peer;
use referee::sim::peer::script::Manners;
use referee::sim::{PeerId, World};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// The address of each side of referee.
pub const PUBLIC: &str = "203.0.113.7:5060";
pub const PRIVATE: &str = "10.0.0.1:5060";
pub const CARRIER: &str = "198.51.100.10:5060";
pub const PLATFORM: &str = "10.0.0.5:5060";

/// A carrier on one listener, a platform on another, either may call the other.
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

pub fn config(text: &str) -> Config {
    config::parse(text, &|_| None).unwrap_or_else(|errors| panic!("{errors:?}"))
}

pub fn carrier() -> Peer {
    let identity = "\"Alice\" <sip:+4917012345@carrier.example>";
    Peer::new("carrier", CARRIER, Manners::new(PUBLIC, identity))
}

pub fn platform() -> Peer {
    let identity = "<sip:bot@platform.example>";
    Peer::new("platform", PLATFORM, Manners::new(PRIVATE, identity))
}

/// One shard between a carrier and a platform.
pub struct Pair {
    pub world: World,
    pub carrier: PeerId,
    pub platform: PeerId,
}

impl Pair {
    pub fn new() -> Pair {
        Pair::with(TWO_SIDES, carrier(), platform())
    }

    pub fn with(text: &str, carrier: Peer, platform: Peer) -> Pair {
        let mut world = World::new(1, 1, config(text), None);
        let (carrier, platform) = (world.add(carrier), world.add(platform));
        Pair {
            world,
            carrier,
            platform,
        }
    }

    /// The carrier calls.
    pub fn call(&mut self) -> String {
        self.world.call(self.carrier, "sip:+4930123456@203.0.113.7", &[])
    }

    /// The carrier calls and the platform has answered, at 2 s.
    #[allow(dead_code, reason = "not every test binary needs an answered call")]
    pub fn answered(&mut self) -> String {
        let call = self.call();
        self.world.run_for(Duration::from_secs(2));
        call
    }

    /// Lets verbs run on a call.
    #[allow(dead_code, reason = "not every test binary runs verbs")]
    pub fn verbs(&mut self, call: &str, verbs: Value) -> u64 {
        self.world.verbs(call, &verbs).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn run_for_millis(&mut self, millis: u64) {
        self.world.run_for(Duration::from_millis(millis));
    }
}

/// Compares a run with the ladder kept under this name; `REFEREE_BLESS=1` writes it anew.
pub fn assert_ladder(name: &str, world: &World) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/ladders/{name}.txt"));
    let drawn = world.ladder().to_string();
    #[expect(
        clippy::disallowed_methods,
        reason = "the switch that rewrites expected text is the tester's"
    )]
    let bless = std::env::var("REFEREE_BLESS").is_ok_and(|value| value == "1");
    if bless {
        std::fs::write(&path, &drawn).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == drawn,
        "{name} is kept as\n{kept}\nand drew\n{drawn}\nREFEREE_BLESS=1 keeps what it drew"
    );
}
