//! What happens in a drawn world until it heals: calls and what their parties do, transfers, faults, outsiders.

use super::super::dice::Dice;
use super::super::peer::script::{Act, request, request_with};
use super::super::trouble::Down;
use super::super::{PeerId, REFEREE, World};
use super::forgery;
use super::setting::{Member, Setting};
use crate::command::{CallSelector, Command};
use crate::timer::Instant;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug)]
pub struct Course<'s> {
    dice: Dice,
    setting: &'s Setting,
    members: &'s [Member],
    /// Call-IDs in order, with their callers.
    calls: Vec<(String, PeerId)>,
    verbs: u64,
    draining: bool,
}

impl<'s> Course<'s> {
    pub fn new(dice: Dice, setting: &'s Setting, members: &'s [Member]) -> Course<'s> {
        Course {
            dice,
            setting,
            members,
            calls: Vec::new(),
            verbs: 0,
            draining: false,
        }
    }

    /// Lets it happen.
    pub fn run(&mut self, world: &mut World) {
        self.partitions(world);
        for _ in 0..2 + self.dice.below(3) {
            self.call(world);
        }
        let count = 40 + self.dice.below(40);
        for _ in 0..count {
            let pause = self.dice.one_of(&[0, 50, 500, 2_500]);
            world.run_for(self.dice.millis(pause + 1));
            if world.now() >= self.setting.heals {
                return;
            }
            self.event(world);
        }
    }

    fn partitions(&mut self, world: &mut World) {
        for _ in 0..self.dice.below(3) {
            let from = Instant::from_millis(self.dice.below(40_000));
            let until = (from + self.dice.millis(20_000)).min(self.setting.heals);
            let name = self.member().name.clone();
            match self.dice.below(3) {
                0 => world.network.part(REFEREE, &name, from, until),
                1 => world.network.part_one_way(REFEREE, &name, from, until),
                _ => world.network.part_one_way(&name, REFEREE, from, until),
            }
        }
    }

    fn member(&mut self) -> &'s Member {
        &self.members[self.dice.below(self.members.len() as u64) as usize]
    }

    fn call(&mut self, world: &mut World) {
        let member = self.member();
        if !self.setting.trunks[member.trunk].has_route || world.is_down(member.id) {
            return;
        }
        let user = self.dice.one_of(&["+4930123456", "+491701", "alice"]);
        let uri = self.setting.uri(member.trunk, user);
        let headers: &[(&str, &str)] = match self.dice.below(4) {
            0 => &[("P-Asserted-Identity", "<tel:+49301>")],
            1 => &[("Max-Breadth", "2")],
            2 => &[("Session-Expires", "90"), ("Supported", "timer")],
            _ => &[],
        };
        let call = world.call(member.id, &uri, headers);
        if self.dice.one_in(5) {
            let at = world.now() + self.dice.millis(2_500);
            world.peer_mut(member.id).act_at(&call, Act::Cancel, at);
        }
        self.calls.push((call, member.id));
    }

    /// A call, and one who is likely to be a party of it.
    fn party(&mut self, world: &World) -> Option<(String, PeerId)> {
        if self.calls.is_empty() {
            return None;
        }
        // The later ones are the likelier to be alive.
        let back = self
            .dice
            .below(self.calls.len() as u64)
            .min(self.dice.below(self.calls.len() as u64));
        let (call, caller) = self.calls[self.calls.len() - 1 - back as usize].clone();
        let callees = self.members.iter().map(|member| member.id).filter(|id| *id != caller);
        let callees: Vec<PeerId> = callees.filter(|id| world.peer(*id).is_up(&call)).collect();
        let party = match callees.is_empty() || self.dice.one_in(2) {
            true => caller,
            false => self.dice.one_of(&callees),
        };
        Some((call, party))
    }

    fn event(&mut self, world: &mut World) {
        let choice = self.dice.below(32);
        if self.setting.is_about_transfers && choice > 12 && !self.dice.one_in(3) {
            return self.verb(world);
        }
        match choice {
            0..=8 => self.verb(world),
            9..=12 => self.call(world),
            13..=20 => self.within(world),
            21 => self.crash(world),
            22 => {
                let id = self.member().id;
                world.break_connections(id);
            }
            23 | 24 => forgery::outsider(world, &mut self.dice, self.members),
            25 => forgery::replay(world, &mut self.dice),
            26 => self.ask(world),
            27 => self.hang_up(world),
            28 if self.dice.one_in(6) && !self.draining => {
                self.draining = true;
                world.drain();
            }
            29 => {
                let id = self.member().id;
                world.close_connections(id);
            }
            _ => {}
        }
    }

    /// One party does something in its call.
    fn within(&mut self, world: &mut World) {
        let Some((call, party)) = self.party(world) else { return };
        let act = match self.dice.below(16) {
            0..=2 => request("INFO"),
            3 | 4 => request("INVITE"),
            5 => request("UPDATE"),
            6 => request("MESSAGE"),
            7..=9 => self.refer(),
            10 => request("BYE"),
            11 => Act::Cancel,
            12 => Act::Move {
                contact: format!("<sip:moved@{}>", world.peer(party).address),
            },
            13 => request_with("SUBSCRIBE", &[("Event", "refer"), ("Expires", "30")], ""),
            14 => {
                // Both at once.
                for member in self.members {
                    world.act(member.id, &call, request("INVITE"));
                }
                return;
            }
            _ => request_with("BYE", &[("Reason", "Q.850;cause=16")], ""),
        };
        world.act(party, &call, act);
    }

    /// A REFER of a party's own.
    fn refer(&mut self) -> Act {
        let headers = [("Refer-To", "<sip:x@y>"), ("Referred-By", "<sip:p@example.com>")];
        match self.dice.below(4) {
            0 => request_with("REFER", &[headers[0], headers[1], ("Require", "nosub")], ""),
            1 => request_with("REFER", &[headers[0], headers[1], ("Refer-Sub", "false")], ""),
            _ => request_with("REFER", &headers, ""),
        }
    }

    fn verb(&mut self, world: &mut World) {
        let is_up = |call: &&(String, PeerId)| world.peer(call.1).is_up(&call.0);
        let up: Vec<String> = self.calls.iter().filter(is_up).map(|(call, _)| call.clone()).collect();
        let call = match (up.is_empty() || self.dice.one_in(5), self.party(world)) {
            (false, _) => up[self.dice.below(up.len() as u64) as usize].clone(),
            (true, Some((call, _))) => call,
            (true, None) => return,
        };
        let refer = self.sip_refer();
        let verbs = match self.dice.below(8) {
            0 => json!([{"verb": "tag", "data": {"n": 1}}, {"verb": "pause", "length": 1}, refer]),
            1 => {
                let second = self.sip_refer();
                json!([refer, second, {"verb": "hangup"}])
            }
            2 => json!([{"verb": "pause", "length": 3}]),
            _ => refer,
        };
        // Most are refused: the call is not answered, or over, or a transfer runs.
        if let Err(error) = world.verbs(&call, &verbs) {
            panic!("{error}");
        }
        if self.dice.one_in(3) {
            self.meanwhile(world, call);
        }
    }

    /// Something happens to a call while its transfer runs.
    fn meanwhile(&mut self, world: &mut World, call: String) {
        let soon = self.dice.one_of(&[20, 400, 2_500]);
        world.run_for(self.dice.millis(soon));
        let parties = self.members.iter().map(|member| member.id);
        let parties: Vec<PeerId> = parties.filter(|id| world.peer(*id).is_up(&call)).collect();
        if parties.is_empty() {
            return;
        }
        let party = self.dice.one_of(&parties);
        match self.dice.below(7) {
            6 => {
                // More than may wait for the response to the REFER.
                for _ in 0..3 {
                    world.act(party, &call, request("INFO"));
                }
            }
            0..=2 => world.act(party, &call, request("BYE")),
            3 => {
                let call = CallSelector::SipCallId(call.into_bytes());
                world.command(Command::Hangup { call });
            }
            4 => self.crash_of(world, party),
            _ => world.act(party, &call, request("INVITE")),
        }
    }

    fn sip_refer(&mut self) -> Value {
        self.verbs += 1;
        let to = self.dice.one_of(&[
            "+4930111",
            "+4930111",
            "sip:queue@backup.example",
            "tel:+493022",
            "+1555",
        ]);
        let action = self.dice.one_of(&["/a", "https://other.example/a"]);
        let mut verb = json!({"verb": "sip:refer", "id": format!("v{}", self.verbs), "referTo": to, "actionHook": action, "eventHook": "/e"});
        let mut set = |name: &str, value: Value| {
            if let Some(verb) = verb.as_object_mut() {
                verb.insert(name.into(), value);
            }
        };
        match self.dice.below(6) {
            0 => set("leg", "caller".into()),
            1 => set("leg", "callee".into()),
            2 => set("timeout", self.dice.one_of(&[1, 5, 30]).into()),
            3 => set("headers", json!({"X-Account": "4711"})),
            _ => {}
        }
        verb
    }

    fn hang_up(&mut self, world: &mut World) {
        let Some((call, _)) = self.party(world) else { return };
        let call = CallSelector::SipCallId(call.into_bytes());
        world.command(Command::Hangup { call });
    }

    /// Somebody looks at what there is.
    fn ask(&mut self, world: &mut World) {
        let shard = self.dice.below(world.shards().len() as u64) as usize;
        let command = match self.dice.below(3) {
            0 => Command::Calls { after: None, limit: 2 },
            1 => Command::Transfers { limit: 3 },
            _ => match self.party(world) {
                Some((call, _)) => Command::Call {
                    call: CallSelector::SipCallId(call.into_bytes()),
                },
                None => return,
            },
        };
        world.command_to(shard, command);
    }

    fn crash(&mut self, world: &mut World) {
        let id = self.member().id;
        self.crash_of(world, id);
    }

    fn crash_of(&mut self, world: &mut World, id: PeerId) {
        let how = match self.dice.one_in(2) {
            true => Down::Silent,
            false => Down::Refusing,
        };
        let most = self.setting.heals.since(world.now());
        let until = world.now() + self.dice.millis(15_000).min(most);
        world.crash(id, how, until.max(world.now() + Duration::from_millis(1)));
    }
}
