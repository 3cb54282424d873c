//! More than can be done, and what was never meant well: floods, strangers, forged messages (RFC 3261 §26.1), all in virtual time.

mod common;

use common::assert_ladder;
use referee::command::{CallSelector, Command, Reply};
use referee::sequence::GAP_MAX;
use referee::sim::load::Pace;
use referee::sim::peer::Peer;
use referee::sim::peer::script::{Act, notify, request, respond, steps};
use referee::sim::peer::text::{Text, param};
use referee::sim::scene::{CARRIER, PLATFORM, PRIVATE, PUBLIC, Scene, TWO_SIDES, carrier, platform};
use referee::sim::wire::{Sent, Wire};
use referee::sim::{PeerId, World};
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

const BYE: &str = "BYE";

fn with_limits(keys: &str) -> Scene {
    Scene::with(&format!("{TWO_SIDES}\n[limits]\n{keys}\n"), carrier(), platform())
}

/// A peer that no trunk has.
fn stranger(address: &str) -> Peer {
    let mut stranger = carrier();
    stranger.name = "stranger".into();
    stranger.address = address.parse().unwrap();
    stranger
}

/// A peer beside the platform.
fn neighbour(address: &str) -> Peer {
    let mut neighbour = platform();
    neighbour.name = "neighbour".into();
    neighbour.address = address.parse().unwrap();
    neighbour
}

/// A request outside a dialog, to someone behind referee.
fn outside(method: &str, from: &str, name: &str) -> String {
    format!(
        "{method} sip:+4930123456@203.0.113.7 SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{name}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:c@h>;tag=1\r\nTo: <sip:+4930123456@203.0.113.7>\r\nCall-ID: {name}\r\n\
         CSeq: 1 {method}\r\nContact: <sip:c@{from}>\r\nContent-Length: 0\r\n\r\n"
    )
}

fn codes(world: &World, peer: PeerId) -> Vec<u16> {
    let heard = world.peer(peer).heard("");
    heard
        .iter()
        .map(|text| text.code())
        .filter(|code| *code >= 200)
        .collect()
}

// ---- more than can be done ----

#[test]
fn new_calls_are_shed_while_messages_wait_too_long_and_calls_in_progress_go_on() {
    let mut scene = Scene::default();
    let call = scene.answered();
    // A call takes four datagrams, so that 125 calls a second can be set up. 500 come.
    scene.world.pace = Some(Pace {
        relayed: Duration::from_millis(2),
        other: Duration::from_micros(100),
    });
    for number in 0..1_000 {
        scene.call();
        scene.run(2);
        if number % 100 == 99 {
            scene.carrier_does(&call, request("INFO"));
            scene.platform_does(&call, request("UPDATE"));
        }
    }
    scene.run(1_000);
    let counters = scene.world.shard(0).counters();
    let carrier = scene.world.peer(scene.carrier);
    let outcomes = carrier.outcomes("INVITE");
    let count = |code| outcomes.iter().filter(|outcome| **outcome == code).count();
    assert_eq!(count(200) + count(503), outcomes.len());
    assert!(count(200) > 180, "{} of 250 that can be done", count(200));
    assert_eq!(counters.shed_delay_total, counters.shed_total);
    assert!(counters.shed_total >= count(503) as u64);
    assert!(
        carrier
            .heard("503")
            .iter()
            .all(|text| text.header("Retry-After") == Some("2"))
    );
    // The call in progress, all ten times in both directions, and soon: nothing was sent again.
    assert_eq!(carrier.outcomes("INFO"), [200; 10]);
    let platform = scene.world.peer(scene.platform);
    assert_eq!(platform.outcomes("UPDATE"), [200; 10]);
    assert_eq!((platform.heard("INFO").len(), carrier.heard("UPDATE").len()), (10, 10));
    assert_eq!(counters.repeats_total, 0);
    // Once the flood is over all is as before.
    let next = scene.call();
    scene.run(3_000);
    assert!(scene.world.peer(scene.carrier).is_up(&next));
    scene.world.pace = None;
    for call in scene.world.peer(scene.carrier).live_calls() {
        scene.carrier_does(&call, request(BYE));
    }
    scene.world.finish();
}

#[test]
fn a_burst_that_waits_is_served_to_the_last() {
    let mut scene = Scene::default();
    scene.world.pace = Some(Pace {
        relayed: Duration::from_micros(500),
        other: Duration::from_micros(100),
    });
    // The last of the INVITEs waits 75 ms, far longer than the target; but then the queue is empty.
    for _ in 0..150 {
        scene.call();
    }
    scene.run(3_000);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INVITE"), [200; 150]);
    assert_eq!(scene.world.shard(0).counters().shed_total, 0);
    scene.world.pace = None;
    for call in scene.world.peer(scene.carrier).live_calls() {
        scene.carrier_does(&call, request(BYE));
    }
    scene.world.finish();
}

#[test]
fn what_is_shed_costs_no_state_and_its_ack_and_repeats_are_known() {
    let mut scene = with_limits("calls_max = 1");
    let call = scene.answered();
    let before = scene.world.shard(0).counters();
    let shed = scene.call();
    scene.run(100);
    let after = scene.world.shard(0).counters();
    assert_eq!((after.transactions, after.calls), (before.transactions, before.calls));
    assert_eq!(
        (after.shed_calls_total, after.stray_acks_total),
        (1, before.stray_acks_total)
    );
    assert!(!scene.world.peer(scene.carrier).is_up(&shed));
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert_ladder("shed", &scene.world);
}

#[test]
fn acks_of_requests_that_a_full_table_has_refused_go_no_further() {
    // RFC 3261 §17.1.1.3: the ACK of a refusal is hop by hop. Within a dialog nothing but its branch tells it from that of a 2xx.
    let mut scene = with_limits("transactions_max = 1");
    let call = scene.answered();
    let acks = |scene: &Scene| scene.world.peer(scene.platform).heard("ACK").len();
    assert_eq!(acks(&scene), 1);
    for _ in 0..3 {
        scene.carrier_does(&call, request("INVITE"));
    }
    scene.run(1_000);
    assert_eq!(scene.world.peer(scene.carrier).heard("503").len(), 3);
    let counters = scene.world.shard(0).counters();
    assert_eq!((counters.absorbed_acks_total, acks(&scene)), (3, 1));
    // Once there is room, one is taken and its ACK as well.
    scene.run(60_000);
    scene.carrier_does(&call, request("INVITE"));
    scene.run(1_000);
    assert_eq!(
        scene.world.peer(scene.carrier).outcomes("INVITE"),
        [200, 503, 503, 503, 200]
    );
    assert_eq!(acks(&scene), 2);
    scene.run(60_000);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

#[test]
fn an_invite_that_is_taken_when_it_comes_again_has_its_ack() {
    // RFC 2543 peers give the ACK of a 2xx the Via of its INVITE.
    let mut wire = Wire::new(&format!("{TWO_SIDES}\n[limits]\ntransactions_max = 1\n"));
    let (caller, callee) = (CARRIER.parse().unwrap(), PLATFORM.parse().unwrap());
    let (public, private): (SocketAddr, SocketAddr) = (PUBLIC.parse().unwrap(), PRIVATE.parse().unwrap());
    let answered = |wire: &mut Wire, sent: &[Sent]| {
        let is_invite = |sent: &&Sent| sent.bytes.starts_with(b"INVITE");
        let invite = Text::read(&sent.iter().find(is_invite).expect("it is not relayed").bytes).unwrap();
        let answer = answer(&invite, "200 OK").replace(";tag=callee;tag=callee", ";tag=callee");
        wire.datagram(callee, private, answer.as_bytes())
    };
    let invite = outside("INVITE", CARRIER, "old");
    let sent = wire.datagram(caller, public, invite.as_bytes());
    let sent = answered(&mut wire, &sent);
    let route = Text::read(&sent[0].bytes).unwrap().list("Record-Route");
    let again = invite
        .replace(";branch=z9hG4bKold", "")
        .replacen("sip:+4930123456@203.0.113.7", "sip:callee@10.0.0.5", 1)
        .replace("7>\r\nCall", "7>;tag=callee\r\nCall")
        .replace("CSeq: 1", "CSeq: 2")
        .replace(
            "Max-",
            &format!(
                "Route: {}\r\nMax-",
                route.iter().rev().cloned().collect::<Vec<_>>().join(", ")
            ),
        );
    let refused = wire.datagram(caller, public, again.as_bytes());
    assert!(refused[0].bytes.starts_with(b"SIP/2.0 503 "));
    wire.wait(Duration::from_secs(60));
    let sent = wire.datagram(caller, public, again.as_bytes());
    assert_eq!(answered(&mut wire, &sent).len(), 1);
    let ack = again.replace("INVITE", "ACK");
    let sent = wire.datagram(caller, public, ack.as_bytes());
    assert!(sent.len() == 1 && sent[0].bytes.starts_with(b"ACK "));
}

#[test]
fn a_full_table_sheds_new_requests_and_serves_those_of_calls() {
    let mut scene = with_limits("transactions_max = 6\nretry_after = \"7s\"");
    let call = scene.answered();
    scene.run(40_000);
    for number in 0..20 {
        let message = outside("MESSAGE", CARRIER, &format!("m{number}"));
        scene.world.say(scene.carrier, &message);
    }
    // Whoever asks whether referee lives is told that it does.
    let options = outside("OPTIONS", CARRIER, "o").replace("sip:+4930123456@203.0.113.7", "sip:203.0.113.7");
    scene.world.say(scene.carrier, &options);
    scene.run(10);
    let counters = scene.world.shard(0).counters();
    assert_eq!((counters.shed_transactions_total, counters.shed_total), (17, 17));
    let shed = scene.world.peer(scene.carrier).heard("503");
    assert!(shed.iter().all(|text| text.header("Retry-After") == Some("7")));
    assert_eq!(scene.world.peer(scene.carrier).heard("200 OK (OPTIONS)").len(), 1);
    scene.platform_does(&call, request("INFO"));
    scene.run(100);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.platform).outcomes("INFO"), [200]);
    assert_eq!(scene.world.peer(scene.carrier).outcomes(BYE), [200]);
}

#[test]
fn a_source_that_sends_more_new_requests_than_its_trunk_allows_gets_503() {
    let config = TWO_SIDES.replacen("side = \"carrier\"", "side = \"carrier\"\nsource_rate = 5", 1);
    let mut scene = Scene::with(&config, carrier(), platform());
    let other = scene.world.add(stranger("198.51.100.77:5060"));
    for number in 0..9 {
        scene
            .world
            .say(scene.carrier, &outside("MESSAGE", CARRIER, &format!("m{number}")));
        scene
            .world
            .say(other, &outside("MESSAGE", "198.51.100.77:5060", &format!("n{number}")));
    }
    scene.run(100);
    for peer in [scene.carrier, other] {
        let heard = codes(&scene.world, peer);
        let shed = heard.iter().filter(|code| **code == 503).count();
        assert_eq!((shed, heard.len()), (4, 9));
    }
    assert_eq!(scene.world.shard(0).counters().shed_source_rate_total, 8);
    scene.run(1_000);
    // Requests within a dialog are not counted, and the platform has no limit.
    let call = scene.answered();
    for _ in 0..20 {
        scene.carrier_does(&call, request("INFO"));
    }
    scene.run(100);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INFO"), [200; 20]);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

#[test]
fn one_call_id_has_no_more_passes_than_a_loop_that_will_end() {
    let mut scene = Scene::default();
    for number in 0..40 {
        let invite = outside("INVITE", CARRIER, "same").replace("z9hG4bKsame", &format!("z9hG4bK{number}"));
        scene.world.say(scene.carrier, &invite);
    }
    scene.run(10);
    assert_eq!(scene.world.shard(0).counters().loops_total, 8);
    // The callee itself answers all but the first: it is asked the same by several ways (RFC 3261 §8.2.2.2).
    assert_eq!(scene.world.peer(scene.platform).heard("INVITE").len(), 32);
}

// ---- strangers ----

#[test]
fn a_stranger_gets_so_many_answers_a_second_and_then_silence() {
    let mut scene = Scene::default();
    let address = "192.0.2.66:5060";
    let stranger = scene.world.add(stranger(address));
    for round in 1..=3 {
        for number in 0..50 {
            let name = format!("{round}-{number}");
            scene.world.say(stranger, &outside("REGISTER", address, &name));
        }
        scene.run(2_000);
        assert_eq!(codes(&scene.world, stranger), vec![403; 10 * round]);
    }
    let counters = scene.world.shard(0).counters();
    assert_eq!(
        (counters.refused_source_total, counters.unanswered_rate_total),
        (150, 120)
    );
    assert_eq!((counters.transactions, counters.calls), (0, 0));
    // Meanwhile the carrier calls as ever.
    let call = scene.answered();
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INVITE"), [200]);
}

/// What may come from someone who means no good: every message of the torture tests and the fronts of each, and some that are
/// short for what they would get copied into an answer.
fn odd_messages() -> Vec<Vec<u8>> {
    let folders = ["rfc4475", "rfc5118", "transfer"];
    let mut messages: Vec<Vec<u8>> = Vec::new();
    for folder in folders {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture").join(folder);
        for entry in std::fs::read_dir(path).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            messages.extend((0..bytes.len()).step_by(37).map(|end| bytes[..end].to_vec()));
            messages.push(bytes);
        }
    }
    for via in [
        "",
        "a",
        "SIP/2.0/UDP a",
        "SIP/2.0/UDP a;rport",
        "SIP/2.0/UDP a;rport;received=1",
    ] {
        for (method, version) in [
            ("A", "SIP/2.0"),
            ("INVITE", "SIP/2.0"),
            ("OPTIONS", "SIP/3.0"),
            ("ACK", "SIP/2.0"),
        ] {
            for rest in [
                "",
                "\r\n",
                "f:a\r\nt:a\r\ni:a\r\nCSeq:1 A\r\n\r\n",
                "f:<a:b>;tag=a\r\nt:<a:b>\r\ni:a\r\nCSeq:1 A\r\n\r\n",
            ] {
                for vias in [1, 2, 400] {
                    let vias = format!("v:{via}\r\n").repeat(vias);
                    messages.push(format!("{method} sip:a {version}\r\n{vias}{rest}").into_bytes());
                }
            }
        }
    }
    messages
}

const NO_TRUNKS: &str = "[[listen]]\nname = \"l\"\nbind = [\"udp:203.0.113.7:5060\", \"udp:[2001:db8::7]:5060\"]\n";

const ANY_IN_DIALOG: &str = "\n[access]\nin_dialog_sources = \"any\"\n";

#[test]
fn no_message_of_a_stranger_is_answered_with_more_than_three_times_its_bytes() {
    let v6 = TWO_SIDES.replacen(
        "[\"udp:203.0.113.7:5060\"",
        "[\"udp:[2001:db8::7]:5060\", \"udp:203.0.113.7:5060\"",
        1,
    );
    let (mut answered, mut silent) = (0, 0);
    for config in [v6.clone(), v6.clone() + ANY_IN_DIALOG, NO_TRUNKS.to_owned()] {
        for (from, to) in [
            ("192.0.2.66:65535", PUBLIC),
            ("[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[2001:db8::7]:5060"),
        ] {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let mut wire = Wire::new(&config);
            for message in odd_messages() {
                let mut sent = wire.datagram(from, to, &message);
                // Nothing is sent again, ever.
                sent.extend(wire.wait(Duration::from_secs(1)));
                let bytes: usize = sent.iter().map(|sent| sent.bytes.len()).sum();
                assert!(
                    sent.len() <= 1 && bytes <= 3 * message.len(),
                    "{}",
                    message.escape_ascii()
                );
                for Sent { flow, .. } in &sent {
                    assert_eq!(flow.peer.ip(), from.ip());
                }
                answered += sent.len();
            }
            silent += wire.shard().counters().unanswered_size_total;
            assert!(wire.shard().is_empty());
        }
    }
    assert!(
        answered > 1_000 && silent > 0,
        "{answered} answered, {silent} not for the size"
    );
}

#[test]
fn stun_is_answered_beside_sip_and_under_the_rate_of_strangers() {
    let request = *b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl";
    let (from, to) = ("192.0.2.1:32853".parse().unwrap(), PUBLIC.parse().unwrap());
    let mut wire = Wire::new(TWO_SIDES);
    let options = outside("OPTIONS", CARRIER, "o").replace("sip:+4930123456@203.0.113.7", "sip:203.0.113.7");
    let sip = wire.datagram(CARRIER.parse().unwrap(), to, options.as_bytes());
    assert!(sip[0].bytes.starts_with(b"SIP/2.0 200 "));
    let answers: Vec<Sent> = (0..15).flat_map(|_| wire.datagram(from, to, &request)).collect();
    assert_eq!(answers.len(), 10);
    for answer in &answers {
        assert_eq!(answer.flow.peer, from);
        // RFC 8489 §14.2, the port and the address of RFC 5769 §2.2.
        let expected = [
            &b"\x01\x01\x00\x0c\x21\x12\xa4\x42abcdefghijkl"[..],
            b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43",
        ];
        assert_eq!(answer.bytes, expected.concat());
    }
    // A source of a trunk has no such rate; what is no request gets no answer.
    let carrier = CARRIER.parse().unwrap();
    assert!((0..100).all(|_| wire.datagram(carrier, to, &request).len() == 1));
    assert!(wire.datagram(carrier, to, &request[..19]).is_empty());
    let counters = wire.shard().counters();
    assert_eq!(
        (
            counters.stun_total,
            counters.unanswered_rate_total,
            counters.stun_unanswered_total
        ),
        (110, 5, 1)
    );
    for keys in ["stun = false", "unknown_source = \"silent\""] {
        let mut wire = Wire::new(&format!("{TWO_SIDES}\n[access]\n{keys}\n"));
        assert!(wire.datagram(from, to, &request).is_empty(), "{keys}");
        assert_eq!(wire.shard().counters().stun_unanswered_total, 1);
    }
}

// ---- forged ----

/// A request within the dialog of a message, in the name of whoever sent that.
fn within(of: &Text, method: &str, number: u32) -> String {
    let routes: String = of
        .list("Route")
        .iter()
        .map(|route| format!("Route: {route}\r\n"))
        .collect();
    let of = |name| of.header(name).unwrap();
    let uri = "sip:user@10.0.0.5:5060";
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {CARRIER};branch=z9hG4bK-forged-{method}-{number}\r\n\
         Max-Forwards: 70\r\n{routes}From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\n\
         Contact: <sip:evil@{CARRIER}>\r\nEvent: presence\r\nRefer-To: <sip:x@y>\r\nContent-Length: 0\r\n\r\n",
        of("From"),
        of("To"),
        of("Call-ID")
    )
}

/// Without its Routes, and so without a token.
fn without_route(request: &str) -> String {
    let kept = request
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("Route:"));
    kept.collect()
}

/// What the control API shows of a call.
fn view(scene: &mut Scene, call: &str) -> serde_json::Value {
    let call = CallSelector::SipCallId(call.as_bytes().to_vec());
    let ticket = scene.world.command(Command::Call { call });
    match scene.world.reply(ticket) {
        Some(Reply::Call(view)) => serde_json::to_value(view).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn forged_requests_within_a_dialog_change_nothing() {
    let methods = [
        BYE,
        "INVITE",
        "UPDATE",
        "INFO",
        "REFER",
        "NOTIFY",
        "SUBSCRIBE",
        "PRACK",
        "FOO",
    ];
    let mut scene = Scene::default();
    let stranger = scene.world.add(stranger("192.0.2.66:5060"));
    let call = scene.answered();
    scene.carrier_does(&call, request("INFO"));
    scene.run(40_000);
    let before = view(&mut scene, &call);
    let ack = scene.world.peer(scene.carrier).said("ACK")[0].clone();
    let tag = |name: &str| ack.tag(name).unwrap();
    let (carrier, platform) = (scene.carrier, scene.platform);
    for method in methods {
        let plain = |number| within(&ack, method, number);
        let forged_token = |text: String| {
            let token = text.split(";r=").nth(1).unwrap()[..28].to_owned();
            let other = if token.starts_with("AQAA") { "AQAB" } else { "AQAA" };
            let forged = [other, &token[4..]].concat();
            text.replace(&token, &forged).replace(&tag("To"), "wrong")
        };
        for (what, who, text, code) in [
            (
                "a wrong To tag",
                carrier,
                without_route(&plain(3)).replace(&tag("To"), "wrong"),
                481,
            ),
            (
                "a wrong From tag",
                carrier,
                without_route(&plain(4)).replace(&tag("From"), "wrong"),
                481,
            ),
            (
                "no To tag of this dialog, and a forged token",
                carrier,
                forged_token(plain(5)),
                481,
            ),
            ("from a source that is no trunk's", stranger, plain(6), 403),
            ("from the other side's source", platform, plain(7), 403),
            ("a CSeq below the last", carrier, plain(1), 500),
            ("a CSeq far above the last", carrier, plain(2 + GAP_MAX), 500),
            ("the highest CSeq there is", carrier, plain((1 << 31) - 1), 500),
        ] {
            // Whether an old NOTIFY still has something to say is for the party to decide.
            if method == "NOTIFY" && what == "a CSeq below the last" {
                continue;
            }
            let heard = scene.world.peer(platform).heard("").len();
            let answers = codes(&scene.world, who).len();
            scene.world.say(who, &text);
            scene.run(1_100);
            assert_eq!(codes(&scene.world, who).get(answers), Some(&code), "{method}: {what}");
            let reached = scene.world.peer(platform).heard("");
            let reached = reached[heard..].iter().filter(|text| text.is_request());
            assert_eq!(reached.count(), 0, "{method}: {what}");
            // An INVITE's refusal is repeated until its ACK.
            scene.run(if method == "INVITE" { 33_000 } else { 0 });
        }
    }
    assert_eq!(view(&mut scene, &call), before);
    assert!(scene.world.application.posted().is_empty());
    // The dialog goes on as its parties know it, and there is room for a REFER in its numbers.
    for _ in 0..2 {
        scene.carrier_does(&call, request("INFO"));
        scene.run(100);
        scene.platform_does(&call, request("INFO"));
        scene.run(100);
    }
    assert_eq!(scene.world.peer(platform).outcomes("INFO"), [200, 200]);
    let taken = steps([
        (5, respond(202)),
        (10, notify("200 OK", "terminated;reason=noresource")),
    ]);
    scene.world.peer_mut(carrier).on("REFER", taken);
    scene.verbs(&call, json!({"verb": "sip:refer", "referTo": "+491"}));
    scene.world.finish();
    assert_eq!(scene.world.peer(carrier).heard("REFER").len(), 1);
    assert_eq!(scene.world.shard(0).counters().transfers_success_total, 1);
}

#[test]
fn a_token_of_another_call_opens_no_dialog() {
    let mut scene = Scene::default();
    let (first, second) = (scene.answered(), scene.answered());
    let acks = scene.world.peer(scene.carrier).said("ACK");
    let (own, other) = (within(acks[0], BYE, 5), within(acks[1], BYE, 5));
    let token = |text: &str| text.split(";r=").nth(1).unwrap()[..28].to_owned();
    let forged = own
        .replace(&token(&own), &token(&other))
        .replace(&acks[0].tag("To").unwrap(), "wrong");
    scene.world.say(scene.carrier, &forged);
    scene.run(100);
    assert_eq!(scene.world.peer(scene.carrier).heard("481").len(), 1);
    for call in [first, second] {
        assert!(scene.world.peer(scene.platform).is_up(&call));
        scene.carrier_does(&call, request(BYE));
    }
    scene.world.finish();
}

#[test]
fn gaps_in_cseq_are_no_fault() {
    let mut scene = Scene::default();
    let call = scene.answered();
    scene.run(100);
    let ack = scene.world.peer(scene.carrier).said("ACK")[0].clone();
    let mut number = 1;
    for gap in [1, 2, 1_000, GAP_MAX - 1] {
        number += gap;
        scene.world.say(scene.carrier, &within(&ack, "FOO", number));
        scene.run(100);
    }
    assert_eq!(scene.world.peer(scene.carrier).heard("200 OK (FOO)").len(), 4);
    assert_eq!(scene.world.shard(0).counters().out_of_order_total, 0);
    scene.platform_does(&call, request(BYE));
    scene.world.finish();
}

#[test]
fn another_forks_numbers_do_not_count_against_the_one_that_answers() {
    let mut scene = Scene::default();
    // Two callees behind the platform ring with tags of their own; the first to ring answers.
    scene.world.peer_mut(scene.platform).on("INVITE", steps([]));
    scene.call();
    scene.run(10);
    let invite = scene.world.peer(scene.platform).heard("INVITE")[0].clone();
    let contact = "Contact: <sip:user@10.0.0.5:5060>\r\nContent-Length";
    let answered = |status: &str, tag: &str| {
        let answer = answer(&invite, status).replace("Content-Length", contact);
        answer.replace(";tag=callee", &format!(";tag={tag}"))
    };
    let carrier = scene.carrier;
    for (status, tag) in [("180 Ringing", "one"), ("180 Ringing", "two")] {
        scene.world.say(scene.platform, &answered(status, tag));
        scene.run(10);
    }
    let ringing = scene.world.peer(carrier).heard("180")[1].clone();
    let mut dialog = ringing.clone();
    let routes: Vec<String> = ringing.list("Record-Route").into_iter().rev().collect();
    dialog
        .headers
        .extend(routes.into_iter().map(|route| ("Route".into(), route)));
    // The caller has more to say to the second.
    for number in 2..9 {
        scene.world.say(carrier, &within(&dialog, "FOO", number));
        scene.run(10);
    }
    assert_eq!(scene.world.peer(scene.platform).heard("FOO").len(), 7);
    scene.world.say(scene.platform, &answered("200 OK", "one"));
    scene.run(10);
    let to_first = within(&dialog, BYE, 2).replace(";tag=two", ";tag=one");
    scene.world.say(carrier, &to_first);
    scene.run(1_000);
    assert_eq!(scene.world.peer(scene.platform).heard(BYE).len(), 1);
    assert_eq!(scene.world.shard(0).counters().out_of_order_total, 0);
}

#[test]
fn a_cancel_or_an_ack_from_another_hop_touches_no_transaction() {
    let mut scene = Scene::default();
    scene
        .world
        .peer_mut(scene.platform)
        .on("INVITE", steps([(50, respond(180))]));
    scene.world.network.lose("carrier", "referee", "ACK", 100);
    let call = scene.call();
    scene.run(1_000);
    let invite = scene.world.peer(scene.carrier).said("INVITE")[0].clone();
    let like = |method: &str, to: &str| {
        let of = |name| invite.header(name).unwrap();
        format!(
            "{method} {} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: 1 {method}\r\n\
             Content-Length: 0\r\n\r\n",
            invite.request_uri(),
            of("Via"),
            of("From"),
            of("Call-ID")
        )
    };
    let cancel = like("CANCEL", invite.header("To").unwrap());
    // The platform's network, which is not where the INVITE came from.
    scene.world.say(scene.platform, &cancel);
    scene.run(100);
    assert_eq!(codes(&scene.world, scene.platform), [481]);
    assert!(scene.world.peer(scene.platform).heard("CANCEL").is_empty());
    // The true one is none the less the first of its transaction.
    scene.carrier_does(&call, Act::Cancel);
    scene.run(1_000);
    let refused = scene.world.peer(scene.carrier).heard("487");
    let ack = like("ACK", refused[0].header("To").unwrap());
    let repeats = refused.len();
    scene.world.say(scene.platform, &ack);
    scene.run(8_000);
    let heard = scene.world.peer(scene.carrier).heard("487").len();
    assert!(heard > repeats + 1, "it is repeated until its own ACK");
    scene.world.run_until_quiet(Duration::from_secs(3_600));
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INVITE"), [487]);
}

#[test]
fn forged_responses_are_dropped() {
    let mut scene = Scene::default();
    let another = scene.world.add(neighbour("10.0.0.6:5060"));
    let stranger = scene.world.add(stranger("192.0.2.66:5060"));
    scene
        .world
        .peer_mut(scene.platform)
        .on("INVITE", steps([(50, respond(180)), (20_000, respond(486))]));
    scene.call();
    scene.run(1_000);
    let invite = scene.world.peer(scene.platform).heard("INVITE")[0].clone();
    let real = answer(&invite, "200 OK");
    let branch = invite.branch();
    // Its key with another random part, its key alone, and another method under the same branch.
    let other_branch = [
        &branch[..branch.len() - 1],
        if branch.ends_with('0') { "1" } else { "0" },
    ]
    .concat();
    let own = "SIP/2.0/UDP 10.0.0.1:5060";
    let platform = scene.platform;
    for (what, who, text) in [
        ("another branch", platform, real.replacen(&branch, &other_branch, 1)),
        ("no branch of ours", platform, real.replacen(&branch, "z9hG4bK1", 1)),
        (
            "another sent-by",
            platform,
            real.replacen(own, "SIP/2.0/UDP 10.0.0.9:5060", 1),
        ),
        (
            "the other side's sent-by",
            platform,
            real.replacen(own, "SIP/2.0/UDP 203.0.113.7:5060", 1),
        ),
        ("another method", platform, real.replace("1 INVITE", "1 BYE")),
        ("no Via below ours", platform, {
            let lines = real
                .split_inclusive("\r\n")
                .filter(|line| !line.contains(CARRIER) || !line.starts_with("Via"));
            lines.collect()
        }),
        ("from a source that is no trunk's", stranger, real.clone()),
        ("from a neighbour of whom was asked", another, real.clone()),
        ("from the side that asks", scene.carrier, real.clone()),
    ] {
        let strays = scene.world.shard(0).counters().stray_responses_total;
        scene.world.say(who, &text);
        scene.run(100);
        assert_eq!(
            scene.world.shard(0).counters().stray_responses_total,
            strays + 1,
            "{what}"
        );
        assert!(scene.world.peer(scene.carrier).heard("200").is_empty(), "{what}");
    }
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INVITE"), [486]);
}

#[test]
fn a_callee_that_answers_with_ever_new_tags_makes_few_calls() {
    let mut scene = Scene::default();
    scene.world.peer_mut(scene.platform).on("INVITE", steps([]));
    scene.world.say(scene.carrier, &outside("INVITE", CARRIER, "i"));
    scene.run(10);
    let invite = scene.world.peer(scene.platform).heard("INVITE")[0].clone();
    let contact = "Contact: <sip:user@10.0.0.5:5060>\r\nContent-Length";
    for number in 0..100 {
        let ok = answer(&invite, "200 OK").replace("Content-Length", contact);
        scene
            .world
            .say(scene.platform, &ok.replace(";tag=callee", &format!(";tag={number}")));
    }
    scene.run(10);
    // Each is passed on, for only the caller knows what it wants of them (RFC 3261 §13.2.2.4).
    assert_eq!(scene.world.peer(scene.carrier).heard("200").len(), 100);
    assert!((1..=17).contains(&scene.world.shard(0).counters().calls));
}

#[test]
fn a_response_may_come_from_another_address_of_the_trunk() {
    let config = TWO_SIDES.replace(
        "addresses = [\"udp:10.0.0.5:5060\"]",
        "addresses = [\"udp:10.0.0.5:5060\"]\nsources = [\"10.0.0.0/24\"]",
    );
    let mut scene = Scene::with(&config, carrier(), platform());
    let another = scene.world.add(neighbour("10.0.0.6:5060"));
    scene.world.peer_mut(scene.platform).on("MESSAGE", steps([]));
    scene.world.say(scene.carrier, &outside("MESSAGE", CARRIER, "m"));
    scene.run(10);
    let message = scene.world.peer(scene.platform).heard("MESSAGE")[0].clone();
    scene.world.say(another, &answer(&message, "200 OK"));
    scene.run(10);
    assert_eq!(scene.world.peer(scene.carrier).heard("200 OK (MESSAGE)").len(), 1);
}

#[test]
fn what_was_shed_stays_shed_when_there_is_room_again() {
    let mut scene = with_limits("calls_max = 1");
    let call = scene.answered();
    let invite = outside("INVITE", CARRIER, "late");
    scene.world.say(scene.carrier, &invite);
    scene.run(100);
    scene.carrier_does(&call, request(BYE));
    scene.run(1_000);
    // Its repeat was on the way when the 503 came.
    scene.world.say(scene.carrier, &invite);
    scene.run(100);
    assert_eq!(scene.world.peer(scene.carrier).heard("503").len(), 2);
    let next = scene.answered();
    scene.carrier_does(&next, request(BYE));
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.platform).heard("INVITE").len(), 2);
}

#[test]
fn forged_notifies_fire_no_hook() {
    let mut scene = Scene::default();
    let stranger = scene.world.add(stranger("192.0.2.66:5060"));
    let slow = steps([(5, respond(202)), (10, notify("100 Trying", "active;expires=60"))]);
    scene.world.peer_mut(scene.carrier).on("REFER", slow);
    let call = scene.answered();
    scene.carrier_does(&call, request("INFO"));
    scene.verbs(
        &call,
        json!({"verb": "sip:refer", "referTo": "+491", "eventHook": "/event", "actionHook": "/action"}),
    );
    scene.run(1_000);
    assert_eq!(scene.world.application.posted().len(), 1);
    let real = scene.world.peer(scene.carrier).said("NOTIFY")[0].clone();
    let number = real.cseq().0;
    let forged = |number: u32| {
        let body = "SIP/2.0 200 OK\r\n";
        let state = "Subscription-State: terminated\r\nContent-Type: message/sipfrag\r\n";
        within(&real, "NOTIFY", number)
            .replace("Event: presence", &format!("Event: {}", real.header("Event").unwrap()))
            .replace(
                "Content-Length: 0\r\n\r\n",
                &format!("{state}Content-Length: {}\r\n\r\n{body}", body.len()),
            )
    };
    let tag = |name: &str| real.tag(name).unwrap();
    let (carrier, platform) = (scene.carrier, scene.platform);
    for (who, text) in [
        (carrier, without_route(&forged(number + 1)).replace(&tag("To"), "wrong")),
        (
            carrier,
            without_route(&forged(number + 2)).replace(&tag("From"), "wrong"),
        ),
        (stranger, forged(number + 3)),
        (platform, forged(number + 4)),
        (carrier, forged(number + GAP_MAX)),
        (carrier, forged(number).replace("Event: refer", "Event: refer;id=77")),
    ] {
        scene.world.say(who, &text);
        scene.run(100);
        assert_eq!(scene.world.application.posted().len(), 1, "{text}");
    }
    scene
        .world
        .act(carrier, &call, notify("486 Busy Here", "terminated;reason=noresource"));
    scene.run(5_000);
    let posted: Vec<String> = scene
        .world
        .application
        .posted()
        .iter()
        .map(|hook| hook.body.to_string())
        .collect();
    assert_eq!(posted.len(), 3, "{posted:?}");
    assert!(posted[2].contains("\"final_referred_call_status\":486"), "{posted:?}");
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

// ---- where answers go ----

/// A response to a relayed request.
fn answer(relayed: &Text, status: &str) -> String {
    let is_copied = |name: &str| matches!(name, "Via" | "From" | "Call-ID" | "CSeq" | "Record-Route");
    let copied = relayed.headers.iter().filter(|(name, _)| is_copied(name));
    let copied: String = copied.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let to = relayed.header("To").unwrap();
    format!("SIP/2.0 {status}\r\n{copied}To: {to};tag=callee\r\nContent-Length: 0\r\n\r\n")
}

#[test]
fn answers_go_to_where_the_request_came_from_whatever_its_via_says() {
    let from: SocketAddr = "198.51.100.20:40001".parse().unwrap();
    let to = PUBLIC.parse().unwrap();
    let own = Some("198.51.100.20");
    for (via, port, received, rport) in [
        // RFC 3261 §18.2.2: received and the port of sent-by; RFC 3581 §4: the port it came from if that was asked for.
        ("198.51.100.20:5080", 5080, None, None),
        ("198.51.100.20", 5060, None, None),
        ("192.0.2.9:5080", 5080, own, None),
        ("pbx.example", 5060, own, None),
        ("198.51.100.20:5080;rport", 40001, own, Some("40001")),
        ("pbx.example;rport", 40001, own, Some("40001")),
        // What the sender made up is written over, and maddr would send it to whom the sender likes.
        ("192.0.2.9;received=192.0.2.8;rport=7", 40001, own, Some("40001")),
        ("192.0.2.9;maddr=192.0.2.8", 5060, own, None),
        ("192.0.2.9;maddr=224.0.1.75;ttl=9", 5060, own, None),
    ] {
        for transport in ["UDP", "TCP"] {
            let mut wire = Wire::new(TWO_SIDES);
            let request = outside("MESSAGE", "here", "v").replace(
                "Via: SIP/2.0/UDP here;branch=z9hG4bKv",
                &format!("Via: SIP/2.0/{transport} {via};branch=z9hG4bKv"),
            );
            let stream = (transport == "TCP").then(|| wire.connect(from, to));
            let relayed = match stream {
                Some(stream) => wire.segment(stream, request.as_bytes()),
                None => wire.datagram(from, to, request.as_bytes()),
            };
            let arrived = relayed[0].flow;
            let relayed = Text::read(&relayed[0].bytes).unwrap();
            let parameter = |name| param(&relayed.list("Via")[1], name);
            assert_eq!(parameter("received").as_deref(), received, "{transport} {via}");
            assert_eq!(parameter("rport").as_deref(), rport, "{transport} {via}");
            let ok = answer(&relayed, "200 OK");
            let sent = wire.datagram(arrived.peer, "10.0.0.1:5060".parse().unwrap(), ok.as_bytes());
            let flow = sent[0].flow;
            assert_eq!(flow.peer.ip(), from.ip(), "{transport} {via}");
            assert_eq!(flow.connection.is_some(), stream.is_some());
            // On a stream the port is for when the connection is gone, and then only that of sent-by has a listener.
            if stream.is_none() || rport.is_none() {
                assert_eq!(flow.peer.port(), port, "{transport} {via}");
            }
        }
    }
}

#[test]
fn an_answer_made_later_says_too_where_its_request_came_from() {
    let from: SocketAddr = "198.51.100.20:40001".parse().unwrap();
    let to = PUBLIC.parse().unwrap();
    for transport in ["UDP", "TCP"] {
        let mut wire = Wire::new(TWO_SIDES);
        let invite = outside("INVITE", "here", "v").replace(
            "Via: SIP/2.0/UDP here;branch=z9hG4bKv",
            &format!("Via: SIP/2.0/{transport} pbx.example:5080;branch=z9hG4bKv;rport"),
        );
        match transport {
            "TCP" => {
                let stream = wire.connect(from, to);
                wire.segment(stream, invite.as_bytes())
            }
            _ => wire.datagram(from, to, invite.as_bytes()),
        };
        // Nobody answers, and all that is left of the INVITE is what its transaction keeps.
        let sent = wire.wait(Duration::from_secs(40));
        let timeout = sent
            .iter()
            .map(|sent| Text::read(&sent.bytes).unwrap())
            .find(|text| text.code() == 408);
        let via = &timeout.unwrap().list("Via")[0];
        assert_eq!(param(via, "rport").as_deref(), Some("40001"), "{transport}");
        assert_eq!(param(via, "received").as_deref(), Some("198.51.100.20"), "{transport}");
    }
}
