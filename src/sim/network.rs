//! A network that loses, doubles, delays and reorders datagrams as the dice fall. Time is an argument.

use super::dice::Dice;
use super::tally::{Fault, Tally};
use crate::timer::Instant;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::time::Duration;

/// How datagrams fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Out of a thousand datagrams so many are lost, and so many arrive twice.
    pub loss: u64,
    pub duplication: u64,
    /// Each takes at least and at most so long; where the two differ, one may overtake another.
    pub delay_min: Duration,
    pub delay_max: Duration,
}

impl Weather {
    /// Nothing is lost and all takes one millisecond.
    pub const CALM: Weather = Weather {
        loss: 0,
        duplication: 0,
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(1),
    };
}

/// Something that befalls chosen messages whatever the weather.
#[derive(Clone, Debug)]
struct Rule {
    from: String,
    to: String,
    /// What the message's label begins with.
    label: String,
    left: usize,
    fate: Fate,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Lost,
    Delayed(Duration),
}

/// Nothing passes from one node to another for a while.
#[derive(Clone, Debug)]
struct Partition {
    nodes: [String; 2],
    /// Nor back.
    both_ways: bool,
    from: Instant,
    until: Instant,
}

/// The network between all nodes.
#[derive(Debug)]
pub struct Network {
    dice: Dice,
    weather: Weather,
    /// From then on the weather is calm.
    calm_from: Option<Instant>,
    rules: Vec<Rule>,
    partitions: Vec<Partition>,
    /// By sender and receiver, when the last datagram so far arrives.
    last: BTreeMap<(String, String), Instant>,
    pub(super) tally: Tally,
}

/// When the copies of a datagram arrive, counted from its sending; none: it is lost.
pub type Arrivals = SmallVec<[Duration; 2]>;

impl Network {
    pub fn new(dice: Dice) -> Network {
        Network {
            dice,
            weather: Weather::CALM,
            calm_from: None,
            rules: Vec::new(),
            partitions: Vec::new(),
            last: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// Sets the weather, until `calm_from` if that is given.
    pub fn set_weather(&mut self, weather: Weather, calm_from: Option<Instant>) {
        assert!(
            weather.delay_min <= weather.delay_max,
            "the least delay is above the most"
        );
        self.weather = weather;
        self.calm_from = calm_from;
    }

    /// Loses the next `count` messages from one node to another whose label begins so.
    pub fn lose(&mut self, from: &str, to: &str, label: &str, count: usize) {
        self.rule(from, to, label, count, Fate::Lost);
    }

    /// Delays the next message from one node to another whose label begins so.
    pub fn delay(&mut self, from: &str, to: &str, label: &str, by: Duration) {
        self.rule(from, to, label, 1, Fate::Delayed(by));
    }

    /// Lets no datagram pass between two nodes for a while.
    pub fn part(&mut self, a: &str, b: &str, from: Instant, until: Instant) {
        self.partition([a, b], true, from, until);
    }

    /// Lets no datagram pass from one node to another for a while; back it is as ever.
    pub fn part_one_way(&mut self, sender: &str, receiver: &str, from: Instant, until: Instant) {
        self.partition([sender, receiver], false, from, until);
    }

    fn partition(&mut self, nodes: [&str; 2], both_ways: bool, from: Instant, until: Instant) {
        self.partitions.push(Partition {
            nodes: nodes.map(str::to_owned),
            both_ways,
            from,
            until,
        });
    }

    fn rule(&mut self, from: &str, to: &str, label: &str, left: usize, fate: Fate) {
        self.rules.push(Rule {
            from: from.into(),
            to: to.into(),
            label: label.into(),
            left,
            fate,
        });
    }

    /// What becomes of a datagram sent now.
    pub fn datagram(&mut self, now: Instant, from: &str, to: &str, label: &str) -> Arrivals {
        let mut arrivals = Arrivals::new();
        let delay = self.latency(now);
        let weather = self.weather_at(now);
        let rule = self
            .rules
            .iter_mut()
            .find(|rule| rule.left > 0 && rule.from == from && rule.to == to && label.starts_with(&rule.label));
        if let Some(rule) = rule {
            rule.left -= 1;
            match rule.fate {
                Fate::Lost => {}
                Fate::Delayed(by) => arrivals.push(delay + by),
            }
            return arrivals;
        }
        let parts = |partition: &&Partition| {
            let [a, b] = &partition.nodes;
            (partition.from..partition.until).contains(&now)
                && ((a == from && b == to) || (partition.both_ways && a == to && b == from))
        };
        if let Some(partition) = self.partitions.iter().find(parts) {
            self.tally.note(match partition.both_ways {
                true => Fault::Partition,
                false => Fault::OneWay,
            });
            return arrivals;
        }
        if self.dice.permille(weather.loss) {
            self.tally.note(Fault::Loss);
            return arrivals;
        }
        arrivals.push(delay);
        if self.dice.permille(weather.duplication) {
            self.tally.note(Fault::Duplicate);
            arrivals.push(self.latency(now));
        }
        let last = self.last.entry((from.to_owned(), to.to_owned())).or_default();
        for arrival in &arrivals {
            if now + *arrival < *last {
                self.tally.note(Fault::Overtaking);
            }
            *last = (now + *arrival).max(*last);
        }
        arrivals
    }

    /// How long bytes take now; those of a stream are lost by nothing, and the caller keeps their order.
    pub fn latency(&mut self, now: Instant) -> Duration {
        let weather = self.weather_at(now);
        self.dice.between(weather.delay_min, weather.delay_max)
    }

    fn weather_at(&self, now: Instant) -> Weather {
        match self.calm_from {
            Some(calm_from) if now >= calm_from => Weather::CALM,
            _ => self.weather,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        Network::new(Dice::of_seed(3, 1).remove(0))
    }

    #[test]
    fn a_seed_replays_and_the_weather_clears() {
        let weather = Weather {
            loss: 300,
            duplication: 200,
            delay_min: Duration::from_millis(1),
            delay_max: Duration::from_millis(50),
        };
        let run = || {
            let mut network = network();
            network.set_weather(weather, Some(Instant::from_millis(1_000)));
            (0..2_000)
                .map(|i| network.datagram(Instant::from_millis(i), "a", "b", "INVITE"))
                .collect::<Vec<_>>()
        };
        let arrivals = run();
        assert_eq!(arrivals, run());
        let lost = arrivals[..1_000].iter().filter(|arrivals| arrivals.is_empty()).count();
        let doubled = arrivals[..1_000].iter().filter(|arrivals| arrivals.len() == 2).count();
        assert!(
            (250..350).contains(&lost) && (90..200).contains(&doubled),
            "{lost} {doubled}"
        );
        assert!(
            arrivals[1_000..]
                .iter()
                .all(|arrivals| arrivals[..] == [Duration::from_millis(1)])
        );
    }

    #[test]
    fn rules_and_partitions_hit_what_they_name() {
        let mut network = network();
        network.lose("a", "b", "200", 1);
        network.part("a", "c", Instant::from_millis(5), Instant::from_millis(7));
        network.part_one_way("b", "c", Instant::from_millis(5), Instant::from_millis(7));
        assert_eq!(network.datagram(Instant::START, "a", "b", "INVITE").len(), 1);
        assert_eq!(network.datagram(Instant::START, "a", "b", "200 OK (INVITE)").len(), 0);
        assert_eq!(network.datagram(Instant::START, "a", "b", "200 OK (INVITE)").len(), 1);
        for (millis, passes) in [(4, true), (5, false), (6, false), (7, true)] {
            let arrivals = network.datagram(Instant::from_millis(millis), "c", "a", "BYE");
            assert_eq!(!arrivals.is_empty(), passes, "{millis}");
            let arrivals = network.datagram(Instant::from_millis(millis), "b", "c", "BYE");
            assert_eq!(!arrivals.is_empty(), passes, "{millis}");
            let back = network.datagram(Instant::from_millis(millis), "c", "b", "200");
            assert!(!back.is_empty(), "{millis}");
        }
    }
}
