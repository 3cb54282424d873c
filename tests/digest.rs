//! Trunks with credentials, in virtual time: what they challenge is answered here (RFC 3261 §22, RFC 7616, RFC 8760). The peers
//! behind them judge each set of credentials by their own arithmetic, and each number by their own count.

mod common;

use common::assert_ladder;
use referee::command::{CallSelector, Command, Reply};
use referee::shard::Counters;
use referee::sim::World;
use referee::sim::application::Posted;
use referee::sim::peer::Peer;
use referee::sim::peer::gate::{Gate, Refuses};
use referee::sim::peer::script::{
    Act, EventIds, Manners, Steps, notify, request, request_with, respond, respond_as_other, respond_with, steps,
};
use referee::sim::scene::{PRIVATE, Scene, TWO_SIDES, carrier, config, platform};
use referee::transport::Transport;
use referee::webhook::HookKind;
use serde_json::json;
use std::time::Duration;

const REALM: &str = "trunk.example";
const AUTH: &str = "[trunk.auth]\nusername = \"referee\"\npassword = \"hush hush\"\n";

/// TWO_SIDES, where the platform's trunk has credentials, or the carrier's, or both.
fn text(platform: &str, carrier: &str) -> String {
    let text = TWO_SIDES.replacen("[[route]]", &format!("{platform}[[route]]"), 1);
    text.replacen(
        "[[trunk]]\nname = \"platform\"",
        &format!("{carrier}[[trunk]]\nname = \"platform\""),
        1,
    )
}

fn gate(code: u16) -> Gate {
    Gate::new(code, REALM, "referee", "hush hush")
}

/// The platform asks for credentials, and its trunk has them.
fn scene(gate: Gate) -> Scene {
    let mut scene = Scene::with(&text(AUTH, ""), carrier(), platform());
    scene.world.peer_mut(scene.platform).gate = Some(gate);
    scene
}

fn counters(scene: &Scene) -> Counters {
    scene.world.shard(0).counters()
}

/// Challenges answered, rejected, and left to others.
fn challenges(scene: &Scene) -> [u64; 3] {
    let counters = counters(scene);
    [
        counters.challenges_answered_total,
        counters.challenges_rejected_total,
        counters.challenges_unanswered_total,
    ]
}

/// Methods that the platform has let pass, in order.
fn passed(scene: &Scene) -> Vec<String> {
    let gate = scene.world.peer(scene.platform).gate.as_ref();
    gate.map_or_else(Vec::new, |gate| gate.passed.clone())
}

/// Numbers of the requests of a method that the platform has had.
fn numbers(scene: &Scene, method: &str) -> Vec<u32> {
    let heard = scene.world.peer(scene.platform).heard("");
    let of_method = heard.iter().filter(|text| text.is_request() && text.method() == method);
    of_method.map(|text| text.cseq().0).collect()
}

fn outcomes(scene: &Scene, method: &str) -> Vec<u16> {
    scene.world.peer(scene.carrier).outcomes(method)
}

/// Either does something in an answered call, and then hangs up.
fn talk(scene: &mut Scene, call: &str) {
    for method in ["INFO", "INVITE"] {
        scene.carrier_does(call, request(method));
        scene.run(1_500);
        scene.platform_does(call, request(method));
        scene.run(1_500);
    }
    scene.carrier_does(call, request("BYE"));
    scene.world.finish();
    for peer in [scene.carrier, scene.platform] {
        for method in ["INFO", "INVITE", "BYE"] {
            let outcomes = scene.world.peer(peer).outcomes(method);
            assert!(
                outcomes.iter().all(|code| *code == 200),
                "{method}: {outcomes:?}\n{}",
                scene.world.ladder()
            );
        }
    }
}

// ---- calls ----

#[test]
fn a_challenged_invite_is_sent_again_and_its_caller_hears_nothing_of_that() {
    let mut scene = scene(gate(407));
    let call = scene.answered();
    talk(&mut scene, &call);
    assert_ladder("challenged", &scene.world);
    assert_eq!(scene.world.peer(scene.carrier).heard("407").len(), 0);
    assert_eq!(
        challenges(&scene),
        [1, 0, 0],
        "what follows has credentials from the first"
    );
    assert_eq!(passed(&scene), ["INVITE", "INFO", "INVITE", "BYE"]);
    assert_eq!(
        (numbers(&scene, "INVITE"), numbers(&scene, "BYE")),
        (vec![1, 2, 4], vec![5])
    );
    // The ACK of a challenge has none; that of a 2xx has those of its INVITE.
    let heard = |method: &str| {
        let mut heard = scene.world.peer(scene.platform).heard("");
        heard.retain(|text| text.is_request() && text.method() == method);
        heard
    };
    let (invites, acks) = (heard("INVITE"), heard("ACK"));
    let credentials = |text: &referee::sim::peer::text::Text| text.header("Proxy-Authorization").map(str::to_owned);
    assert_eq!(acks.iter().map(|ack| ack.cseq().0).collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(credentials(acks[0]), None);
    for place in [1, 2] {
        assert!(credentials(acks[place]).is_some());
        assert_eq!(credentials(acks[place]), credentials(invites[place]));
    }
    // All else is as it was.
    let strip = |text: &referee::sim::peer::text::Text| {
        let mut headers = text.headers.clone();
        headers.retain(|(name, _)| !["Via", "CSeq", "Proxy-Authorization"].contains(&name.as_str()));
        (text.request_uri().to_owned(), headers, text.body.clone())
    };
    assert_eq!(strip(invites[0]), strip(invites[1]));
    assert_ne!(invites[0].branch(), invites[1].branch());
}

#[test]
fn every_form_of_digest_is_answered() {
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for code in [401, 407] {
        for (algorithms, qop, userhash) in [
            (named(&["SHA-512-256", "SHA-256", "MD5"]), Some("auth"), false),
            (named(&["SHA-256"]), Some("auth,auth-int"), true),
            (named(&["MD5"]), Some("auth-int"), false),
            (named(&["MD5"]), None, false),
            (named(&[""]), None, true),
            (named(&["AKAv1-MD5", "MD5-sess"]), Some("auth"), false),
            (named(&["SHA-256-sess"]), Some("auth-int"), false),
        ] {
            let mut gate = gate(code);
            (gate.algorithms, gate.userhash) = (algorithms.clone(), userhash);
            gate.qop = qop.map(str::to_owned);
            let mut scene = scene(gate);
            let call = scene.answered();
            talk(&mut scene, &call);
            assert_eq!(
                passed(&scene),
                ["INVITE", "INFO", "INVITE", "BYE"],
                "{algorithms:?} {qop:?}"
            );
            assert_eq!(challenges(&scene), [1, 0, 0], "{algorithms:?} {qop:?}");
            let best = algorithms.iter().find(|name| !name.starts_with("AKA")).unwrap();
            let header = if code == 401 {
                "Authorization"
            } else {
                "Proxy-Authorization"
            };
            let value = scene.world.peer(scene.platform).heard("INVITE")[1]
                .header(header)
                .unwrap()
                .to_owned();
            assert!(
                best.is_empty() || value.contains(&format!("algorithm={best}")),
                "{value}"
            );
        }
    }
}

#[test]
fn nonces_that_are_good_for_one_request_cost_a_challenge_each() {
    let mut gate = gate(407);
    gate.uses = 1;
    let mut scene = scene(gate);
    let call = scene.answered();
    talk(&mut scene, &call);
    assert_ladder("challenged_each_time", &scene.world);
    assert_eq!(challenges(&scene), [4, 0, 0]);
    assert_eq!(numbers(&scene, "INVITE"), [1, 2, 5, 6]);
    assert_eq!(numbers(&scene, "INFO"), [3, 4]);
    assert_eq!(numbers(&scene, "BYE"), [7, 8]);
    assert_eq!(numbers(&scene, "ACK"), [1, 2, 5, 6]);
}

#[test]
fn rejected_credentials_go_no_second_time_and_stale_ones_no_third() {
    for (refuses, sent, counted) in [(Refuses::AsWrong, 2, [1, 1, 0]), (Refuses::AsStale, 3, [2, 1, 0])] {
        let mut gate = gate(401);
        gate.refuses = Some(refuses);
        let mut scene = scene(gate);
        scene.call();
        scene.world.finish();
        assert_eq!(numbers(&scene, "INVITE"), (1..=sent).collect::<Vec<_>>());
        assert_eq!(outcomes(&scene, "INVITE"), [401]);
        assert_eq!(challenges(&scene), counted);
        let passed_on = scene.world.peer(scene.carrier).heard("401")[0];
        assert!(passed_on.header("WWW-Authenticate").is_some() && passed_on.cseq().0 == 1);
    }
}

/// RFC 3261 §15.1.1: whoever sends a BYE is gone, also where nobody takes it.
#[test]
fn a_bye_that_is_challenged_and_comes_no_more_ends_the_call_after_64_t1() {
    let mut scene = Scene::default();
    let mut byes = gate(401);
    byes.lets_pass = ["INVITE", "ACK"].map(String::from).into();
    scene.world.peer_mut(scene.platform).gate = Some(byes);
    let call = scene.answered();
    scene.carrier_does(&call, request("BYE"));
    scene.run(1_000);
    assert_eq!(outcomes(&scene, "BYE"), [401]);
    let live = |scene: &mut Scene| {
        let ticket = scene.world.command(Command::Calls { after: None, limit: 10 });
        match scene.world.reply(ticket) {
            Some(Reply::Calls { calls, .. }) => calls.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(live(&mut scene), 1);
    scene.run(33_000);
    assert_eq!(live(&mut scene), 0);
    scene.world.finish();
}

#[test]
fn what_a_dialog_has_learned_is_forgotten_once_it_is_not_wanted() {
    let mut scene = scene(gate(407));
    let call = scene.answered();
    scene.world.peer_mut(scene.platform).gate.as_mut().unwrap().refuses = Some(Refuses::AsWrong);
    scene.carrier_does(&call, request("INFO"));
    scene.run(1_000);
    // With what it knew, and once more with what it was told.
    assert_eq!(
        (numbers(&scene, "INFO"), outcomes(&scene, "INFO")),
        (vec![3, 4], vec![407])
    );
    scene.world.peer_mut(scene.platform).gate.as_mut().unwrap().refuses = None;
    scene.carrier_does(&call, request("INFO"));
    scene.run(1_000);
    assert_eq!(
        (numbers(&scene, "INFO"), outcomes(&scene, "INFO")),
        (vec![3, 4, 5, 6], vec![407, 200])
    );
    assert_eq!(
        scene.world.peer(scene.platform).heard("INFO")[2].header("Proxy-Authorization"),
        None
    );
    scene.carrier_does(&call, request("BYE"));
    scene.world.finish();
}

#[test]
fn challenges_that_are_not_for_the_trunk_go_to_the_caller() {
    let digest = format!("Digest realm=\"{REALM}\", nonce=\"n\"");
    let limited = |realm: &str| format!("{AUTH}realms = [\"{realm}\"]\n");
    for (auth, challenge, answered) in [
        (AUTH.to_owned(), "Digest realm=\"trunk.example\"".to_owned(), false),
        (AUTH.to_owned(), "Basic realm=\"trunk.example\"".to_owned(), false),
        (AUTH.to_owned(), format!("{digest}, algorithm=SHA-1024"), false),
        (AUTH.to_owned(), format!("{digest}, qop=\"auth-conf\""), false),
        (limited("other.example"), digest.clone(), false),
        (limited(REALM), digest.clone(), true),
        (String::new(), digest, false),
    ] {
        let mut scene = Scene::with(&text(&auth, ""), carrier(), platform());
        let challenged = respond_with(407, &[("Proxy-Authenticate", &challenge)]);
        scene
            .world
            .peer_mut(scene.platform)
            .on("INVITE", steps([(10, challenged)]));
        let call = scene.answered();
        let expected = if answered { 200 } else { 407 };
        assert_eq!(outcomes(&scene, "INVITE"), [expected], "{challenge}");
        assert_eq!(numbers(&scene, "INVITE").len(), 1 + usize::from(answered));
        let unanswered = u64::from(!answered && !auth.is_empty());
        assert_eq!(challenges(&scene), [u64::from(answered), 0, unanswered], "{challenge}");
        if !answered {
            let passed_on = scene.world.peer(scene.carrier).heard("407")[0];
            assert_eq!(passed_on.header("Proxy-Authenticate"), Some(&*challenge));
        }
        scene.carrier_does(&call, request("BYE"));
        scene.world.finish();
    }
}

/// RFC 3261 §22.2, §22.3: a 401 or a 407 challenges. The same header in another refusal asks for nothing.
#[test]
fn no_other_refusal_is_a_challenge() {
    for (code, sent) in [(403, 1), (488, 1), (407, 2)] {
        let mut scene = Scene::with(&text(AUTH, ""), carrier(), platform());
        let challenge = format!("Digest realm=\"{REALM}\", nonce=\"n\", qop=\"auth\"");
        for _ in 0..2 {
            let refusal = respond_with(code, &[("Proxy-Authenticate", &challenge)]);
            scene
                .world
                .peer_mut(scene.platform)
                .on("INVITE", steps([(10, refusal)]));
        }
        scene.call();
        scene.world.finish();
        assert_eq!(numbers(&scene, "INVITE").len(), sent, "{code}");
        assert_eq!(outcomes(&scene, "INVITE"), [code]);
    }
}

#[test]
fn credentials_of_the_caller_stay_and_their_challenges_are_its_own() {
    let own = |realm: &str| {
        format!("Digest username=\"alice\", realm=\"{realm}\", nonce=\"x\", uri=\"sip:x\", response=\"0f\"")
    };
    let call_with = |scene: &mut Scene, headers: &[(&str, &str)]| {
        scene.world.call(scene.carrier, "sip:+4930123456@203.0.113.7", headers);
        scene.run(2_000);
    };
    // Of another realm, and Authorization whatever its realm: they are left as they are, and ours stand beside them.
    let mut other = scene(gate(407));
    call_with(
        &mut other,
        &[("Proxy-Authorization", &own("b")), ("Authorization", &own(REALM))],
    );
    assert_eq!((outcomes(&other, "INVITE"), challenges(&other)), (vec![200], [1, 0, 0]));
    let again = other.world.peer(other.platform).heard("INVITE")[1].clone();
    let of = |name: &str| {
        again
            .headers
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("Authorization"), [own(REALM)]);
    assert_eq!(
        (of("Proxy-Authorization").len(), of("Proxy-Authorization")[0]),
        (2, &*own("b"))
    );

    let mut same = scene(gate(407));
    call_with(&mut same, &[("Proxy-Authorization", &own(REALM))]);
    assert_eq!((outcomes(&same, "INVITE"), challenges(&same)), (vec![407], [0, 0, 0]));
    same.world.finish();
}

#[test]
fn a_caller_that_answers_a_challenge_itself_has_numbers_of_its_own() {
    // The first realm is ours, the second the caller's.
    let mut scene = Scene::with(
        &text(&format!("{AUTH}realms = [\"{REALM}\"]\n"), ""),
        carrier(),
        platform(),
    );
    let peer = scene.world.peer_mut(scene.platform);
    peer.gate = Some(gate(407));
    peer.on(
        "INVITE",
        steps([(
            10,
            respond_with(401, &[("WWW-Authenticate", "Digest realm=\"b\", nonce=\"n\"")]),
        )]),
    );
    peer.manners.refuses_merged = true;
    scene.world.peer_mut(scene.carrier).manners.has_credentials = true;
    let call = scene.answered();
    assert_eq!(outcomes(&scene, "INVITE"), [401, 200]);
    assert_eq!(numbers(&scene, "INVITE"), [1, 2, 3, 4]);
    scene.carrier_does(&call, request("BYE"));
    scene.world.finish();
    assert_eq!(
        (numbers(&scene, "ACK"), numbers(&scene, "BYE")),
        (vec![1, 2, 3, 4], vec![5])
    );
}

#[test]
fn two_challenges_of_one_response_are_answered_at_once_and_two_servers_one_after_the_other() {
    let challenge = |realm: &str| format!("Digest realm=\"{realm}\", nonce=\"n-{realm}\", qop=\"auth\"");
    let credentials = |scene: &Scene, place: usize| {
        let invite = scene.world.peer(scene.platform).heard("INVITE")[place].clone();
        let lines = invite
            .headers
            .iter()
            .filter(|(name, _)| name.ends_with("Authorization"));
        let short = |(name, value): &(String, String)| {
            let realm = value.split("realm=\"").nth(1).unwrap().split('"').next().unwrap();
            let count = value.split("nc=").nth(1).unwrap().split(',').next().unwrap();
            format!("{name} {realm} {count}")
        };
        lines.map(short).collect::<Vec<_>>()
    };
    let (a, b) = (challenge("a"), challenge("b"));
    let mut both = Scene::with(&text(AUTH, ""), carrier(), platform());
    let lines = [("Proxy-Authenticate", &*a), ("WWW-Authenticate", &*b)];
    both.world
        .peer_mut(both.platform)
        .on("INVITE", steps([(10, respond_with(407, &lines))]));
    both.answered();
    assert_eq!(outcomes(&both, "INVITE"), [200]);
    assert_eq!(
        credentials(&both, 1),
        ["Authorization b 00000001", "Proxy-Authorization a 00000001"]
    );

    let mut chain = Scene::with(&text(AUTH, ""), carrier(), platform());
    for lines in [("Proxy-Authenticate", &*a), ("Proxy-Authenticate", &*b)] {
        let challenged = respond_with(407, &[lines]);
        chain
            .world
            .peer_mut(chain.platform)
            .on("INVITE", steps([(10, challenged)]));
    }
    let call = chain.answered();
    assert_eq!(outcomes(&chain, "INVITE"), [200]);
    assert_eq!(credentials(&chain, 1), ["Proxy-Authorization a 00000001"]);
    assert_eq!(
        credentials(&chain, 2),
        ["Proxy-Authorization a 00000002", "Proxy-Authorization b 00000001"]
    );
    chain.carrier_does(&call, request("BYE"));
    chain.world.finish();
    assert_eq!(numbers(&chain, "BYE"), [4]);
}

#[test]
fn a_prack_names_the_invite_that_was_sent_last() {
    let mut scene = scene(gate(407));
    scene.world.peer_mut(scene.carrier).manners.first_cseq = 41;
    let reliable = respond_with(183, &[("RSeq", "7"), ("Require", "100rel")]);
    let answer = steps([(100, reliable), (1_000, request("UPDATE")), (2_000, respond(200))]);
    scene.world.peer_mut(scene.platform).on("INVITE", answer);
    let call = scene.call();
    scene.run(5_000);
    // In an early dialog nothing is known yet of what its callee has accepted: the PRACK is challenged, too.
    assert_eq!(
        (numbers(&scene, "INVITE"), numbers(&scene, "PRACK")),
        (vec![41, 42], vec![43, 44])
    );
    for prack in scene.world.peer(scene.platform).heard("PRACK") {
        assert_eq!(prack.header("RAck"), Some("7 42 INVITE"));
    }
    assert_eq!(outcomes(&scene, "PRACK"), [200]);
    assert_eq!(numbers(&scene, "ACK"), [41, 42]);
    scene.carrier_does(&call, request("BYE"));
    scene.world.finish();
    assert_eq!((numbers(&scene, "BYE"), outcomes(&scene, "BYE")), (vec![45], vec![200]));
}

#[test]
fn what_is_late_in_a_dialog_of_an_invite_that_was_sent_again_and_refused_goes_by_no_other_numbers() {
    // RFC 3261 §12.2.1.1: the callee has had the INVITE as 2, and an INFO as 3.
    for fails in [false, true] {
        let mut scene = scene(gate(407));
        let rings = match fails {
            true => steps([(50, respond(180)), (800, respond(486))]),
            false => steps([(50, respond(180))]),
        };
        scene.world.peer_mut(scene.platform).on("INVITE", rings);
        let call = scene.call();
        scene.run(400);
        scene.carrier_does(&call, request("INFO"));
        scene.run(200);
        scene.carrier_does(&call, Act::Cancel);
        scene.run(1_000);
        let before = numbers(&scene, "INFO");
        assert_eq!(before[0], 3);
        let late = Act::Again {
            method: "INFO".into(),
            headers: Vec::new(),
        };
        scene.carrier_does(&call, late);
        scene.run(100);
        assert_eq!(numbers(&scene, "INFO"), before);
        assert_eq!(outcomes(&scene, "INFO"), [200, 481]);
        scene.world.finish();
        assert_eq!(counters(&scene).calls, 0);
    }
}

#[test]
fn a_call_that_ends_before_its_answer_is_seen_keeps_its_numbers() {
    // RFC 3261 §13.2.2.4: the ACK has the number of the INVITE, which the callee has had as 2. Its 200 is lost, and it hangs up.
    let mut scene = scene(gate(407));
    scene.world.network.lose("platform", "referee", "200 OK (INVITE)", 1);
    let rings = steps([(50, respond(180)), (100, respond(200)), (300, request("BYE"))]);
    scene.world.peer_mut(scene.platform).on("INVITE", rings);
    scene.call();
    scene.world.finish();
    assert_eq!(numbers(&scene, "INVITE"), [1, 2]);
    let acks = numbers(&scene, "ACK");
    assert_eq!((acks[0], acks.last()), (1, Some(&2)), "{acks:?}");
}

#[test]
fn a_call_that_is_given_up_is_not_tried_again() {
    // Before the challenge comes; before what answers it rings; while that rings.
    for (cancel_at, branches) in [(50, 1), (260, 2), (700, 2)] {
        let mut scene = Scene::with(&text(AUTH, ""), carrier(), platform());
        let challenge = format!("Digest realm=\"{REALM}\", nonce=\"n\"");
        let challenged = respond_with(407, &[("Proxy-Authenticate", &challenge)]);
        let peer = scene.world.peer_mut(scene.platform);
        peer.on("INVITE", steps([(200, challenged)]));
        peer.on("INVITE", steps([(300, respond(180))]));
        let call = scene.call();
        scene.run(cancel_at);
        scene.carrier_does(&call, Act::Cancel);
        scene.world.finish();
        assert_eq!(
            outcomes(&scene, "INVITE"),
            [487],
            "{cancel_at}\n{}",
            scene.world.ladder()
        );
        let heard = scene.world.peer(scene.platform).heard("INVITE");
        let mut sent: Vec<_> = heard.iter().map(|invite| invite.branch()).collect();
        sent.dedup();
        assert_eq!(sent.len(), branches, "{cancel_at}");
        assert_eq!(counters(&scene).calls, 0);
    }
}

#[test]
fn a_challenge_that_is_repeated_is_acknowledged_again_and_no_more() {
    let mut scene = scene(gate(407));
    scene.world.network.lose("referee", "platform", "ACK", 2);
    let call = scene.answered();
    assert_eq!(numbers(&scene, "INVITE"), [1, 2]);
    assert!(scene.world.peer(scene.platform).said("407").len() >= 2);
    assert_eq!((challenges(&scene), outcomes(&scene, "INVITE")), ([1, 0, 0], vec![200]));
    scene.carrier_does(&call, request("BYE"));
    scene.world.finish();
}

#[test]
fn a_challenge_over_tcp_and_a_request_that_outgrows_udp_are_answered_too() {
    let by_tcp = text(AUTH, "").replace("udp:10.0.0.5:5060", "tcp:10.0.0.5:5060");
    let mut platform = platform();
    platform.manners.transport = Transport::Tcp;
    platform.gate = Some(gate(401));
    let mut scene = Scene::with(&by_tcp, carrier(), platform);
    let call = scene.answered();
    talk(&mut scene, &call);
    assert_eq!((challenges(&scene), passed(&scene).len()), ([1, 0, 0], 4));

    // Its credentials make it larger than 1,300 bytes.
    let any = text(AUTH, "").replace("udp:10.0.0.5:5060", "10.0.0.5:5060");
    let mut large = Scene::with(&any, carrier(), self::platform());
    large.world.peer_mut(large.platform).gate = Some(gate(401));
    let filler = "x".repeat(450);
    let call = large
        .world
        .call(large.carrier, "sip:+4930123456@203.0.113.7", &[("X-Filler", &filler)]);
    large.run(2_000);
    let invites = large.world.peer(large.platform).heard("INVITE");
    let via: Vec<_> = invites
        .iter()
        .map(|invite| invite.list("Via")[0][..11].to_owned())
        .collect();
    assert_eq!(via, ["SIP/2.0/UDP", "SIP/2.0/TCP"], "\n{}", large.world.ladder());
    assert_eq!(outcomes(&large, "INVITE"), [200]);
    large.carrier_does(&call, request("BYE"));
    large.world.finish();
}

#[test]
fn a_request_outside_a_dialog_is_answered_for_too() {
    for method in ["MESSAGE", "OPTIONS", "SUBSCRIBE"] {
        let mut scene = scene(gate(401));
        let request = format!(
            "{method} sip:+4930123456@203.0.113.7 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKx\r\n\
             Max-Forwards: 70\r\nFrom: <sip:c@h>;tag=1\r\nTo: <sip:+4930123456@203.0.113.7>\r\nCall-ID: x\r\n\
             CSeq: 7 {method}\r\nContact: <sip:c@198.51.100.10>\r\nContent-Length: 5\r\n\r\nhello"
        );
        scene.world.say(scene.carrier, &request);
        scene.world.finish();
        assert_eq!(
            (numbers(&scene, method), challenges(&scene)),
            (vec![7, 8], [1, 0, 0]),
            "{method}"
        );
        let answer = scene.world.peer(scene.carrier).heard("200")[0];
        assert_eq!((answer.cseq().0, answer.list("Via").len()), (7, 1));
    }
}

#[test]
fn requests_of_the_callee_to_a_caller_that_challenges_are_answered_for() {
    let mut scene = Scene::with(&text("", AUTH), carrier(), platform());
    let mut gate = gate(407);
    gate.uses = 2;
    scene.world.peer_mut(scene.carrier).gate = Some(gate);
    let call = scene.answered();
    for method in ["INFO", "UPDATE", "INVITE", "BYE"] {
        scene.platform_does(&call, request(method));
        scene.run(2_000);
        scene.carrier_does(&call, request("INFO"));
        scene.run(500);
        assert_eq!(
            scene.world.peer(scene.platform).outcomes(method),
            [200],
            "{method}\n{}",
            scene.world.ladder()
        );
    }
    scene.world.finish();
    let gate = scene.world.peer(scene.carrier).gate.clone().unwrap();
    assert_eq!(gate.passed, ["INFO", "UPDATE", "INVITE", "BYE"]);
    assert_eq!(challenges(&scene), [2, 0, 0]);
}

#[test]
fn requests_that_cross_keep_apart() {
    // The re-INVITE is challenged when an INFO has left behind it.
    let mut gate = gate(407);
    gate.uses = 1;
    let mut scene = scene(gate);
    let call = scene.answered();
    scene.carrier_does(&call, request("INVITE"));
    scene.carrier_does(&call, request("INFO"));
    scene.run(3_000);
    assert_eq!(
        (outcomes(&scene, "INVITE"), outcomes(&scene, "INFO")),
        (vec![200, 200], vec![200])
    );
    assert_eq!(
        (numbers(&scene, "INVITE"), numbers(&scene, "INFO")),
        (vec![1, 2, 3, 5], vec![4, 6])
    );
    assert_eq!(numbers(&scene, "ACK"), [1, 2, 3, 5]);
    scene.platform_does(&call, request("BYE"));
    scene.world.finish();
}

// ---- forks ----

/// A caller, and two trunks behind one route, each with credentials and a realm of its own.
fn fork(mode: &str) -> (World, [referee::sim::PeerId; 3]) {
    let auth =
        |name: &str| format!("[trunk.auth]\nusername = \"{name}\"\npassword = \"of {name}\"\nrealms = [\"{name}\"]\n");
    let trunk = |name: &str, ip: &str| {
        format!(
            "[[trunk]]\nname = \"{name}\"\nside = \"platform\"\nlisten = \"private\"\naddresses = [\"udp:{ip}:5060\"]\n{}",
            auth(name)
        )
    };
    let from = TWO_SIDES.find("[[trunk]]\nname = \"platform\"").unwrap();
    let (a, b) = (trunk("a", "10.0.0.10"), trunk("b", "10.0.0.20"));
    let text = format!(
        "{}{a}{b}[[route]]\nfrom = \"carrier\"\nto = [\"a\", \"b\"]\nmode = \"{mode}\"\n",
        &TWO_SIDES[..from]
    );
    let mut world = World::new(1, 1, config(&text), None);
    let caller = world.add(carrier());
    let callee = |name: &str, ip: &str| {
        let mut peer = Peer::new(
            name,
            ip,
            Manners::new(PRIVATE, &format!("<sip:{name}@platform.example>")),
        );
        peer.gate = Some(Gate::new(407, name, name, &format!("of {name}")));
        peer
    };
    let (a, b) = (
        world.add(callee("a", "10.0.0.10:5060")),
        world.add(callee("b", "10.0.0.20:5060")),
    );
    (world, [caller, a, b])
}

#[test]
fn each_branch_of_a_fork_answers_for_itself() {
    let (mut world, [caller, a, b]) = fork("parallel");
    let seconds = |at: u64, code: u16| steps([(100, respond(180)), (at, respond(code))]);
    world.peer_mut(a).on("INVITE", seconds(3_000, 486));
    world.peer_mut(b).on("INVITE", seconds(1_000, 200));
    let call = world.call(caller, "sip:+4930123456@203.0.113.7", &[]);
    world.run_for(Duration::from_secs(2));
    world.act(caller, &call, request("INFO"));
    world.run_for(Duration::from_secs(2));
    world.act(caller, &call, request("BYE"));
    world.finish();
    assert_ladder("challenged_fork", &world);
    for (peer, realm) in [(a, "a"), (b, "b")] {
        let invites = world.peer(peer).heard("INVITE");
        assert_eq!(invites.iter().map(|invite| invite.cseq().0).collect::<Vec<_>>(), [1, 2]);
        let shown = invites[1].header("Proxy-Authorization").unwrap();
        assert!(
            shown.contains(&format!("username=\"{realm}\", realm=\"{realm}\"")),
            "{shown}"
        );
    }
    assert_eq!(world.peer(caller).outcomes("INVITE"), [200]);
    assert_eq!(world.peer(b).heard("BYE")[0].cseq().0, 4);
    assert_eq!(world.shard(0).counters().challenges_answered_total, 2);
}

#[test]
fn a_search_goes_on_from_what_a_challenged_target_answers_in_the_end() {
    let (mut world, [caller, a, b]) = fork("sequential");
    world.peer_mut(a).on("INVITE", steps([(100, respond(486))]));
    let call = world.call(caller, "sip:+4930123456@203.0.113.7", &[]);
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.peer(caller).outcomes("INVITE"), [200], "\n{}", world.ladder());
    assert_eq!(
        (world.peer(a).heard("INVITE").len(), world.peer(b).heard("INVITE").len()),
        (2, 2)
    );
    world.act(caller, &call, request("BYE"));
    world.finish();
}

#[test]
fn each_dialog_of_a_fork_has_its_own_numbers() {
    // `a` is challenged, `b` lets INVITEs pass: the caller's numbers mean other numbers to each.
    let (mut world, [caller, a, b]) = fork("parallel");
    world.peer_mut(b).gate.as_mut().unwrap().lets_pass = vec!["INVITE".into(), "PRACK".into()];
    let reliable = |sequence: &str| respond_with(183, &[("RSeq", sequence), ("Require", "100rel")]);
    world
        .peer_mut(a)
        .on("INVITE", steps([(100, reliable("5")), (3_000, respond(200))]));
    world
        .peer_mut(b)
        .on("INVITE", steps([(500, reliable("6")), (3_003, respond(200))]));
    let call = world.call(caller, "sip:+4930123456@203.0.113.7", &[]);
    world.run_for(Duration::from_secs(5));
    let rack = |peer| {
        let pracks = world.peer(peer).heard("PRACK");
        pracks
            .iter()
            .map(|prack| (prack.cseq().0, prack.header("RAck").unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        rack(a),
        [(3, "5 2 INVITE".into()), (4, "5 2 INVITE".into())],
        "\n{}",
        world.ladder()
    );
    assert_eq!(rack(b), [(3, "6 1 INVITE".into())]);
    // Both have answered: the one that came second is hung up on.
    assert_eq!(world.peer(caller).outcomes("BYE"), [200]);
    world.act(caller, &call, request("INFO"));
    world.run_for(Duration::from_secs(1));
    world.act(caller, &call, request("BYE"));
    world.finish();
    assert_eq!(world.peer(caller).outcomes("INFO"), [200]);
}

#[test]
fn a_target_that_answers_when_the_call_of_another_is_over_keeps_its_numbers() {
    // RFC 3261 §13.2.2.4: the one that hangs up at once had the INVITE as 1, the other has it as 2, and so its ACK. An INVITE within
    // the dialog of the first changes nothing of that.
    for at_once in [
        steps([(20, respond(200)), (40, request("BYE"))]),
        steps([(20, respond(200)), (40, request("INVITE")), (60, request("BYE"))]),
    ] {
        let (mut world, [caller, a, b]) = fork("parallel");
        world.peer_mut(a).gate = None;
        world.peer_mut(a).on("INVITE", at_once);
        world.peer_mut(b).on("INVITE", steps([(100, respond(200))]));
        world.call(caller, "sip:+4930123456@203.0.113.7", &[]);
        world.finish();
        for (peer, expected) in [(a, vec![1]), (b, vec![1, 2])] {
            let acks = world.peer(peer).heard("ACK");
            let numbers: Vec<u32> = acks.iter().map(|ack| ack.cseq().0).collect();
            assert_eq!(numbers, expected, "\n{}", world.ladder());
        }
    }
}

#[test]
fn another_callee_behind_the_trunk_that_answers_too_has_the_numbers_of_the_invite_sent_last() {
    let mut scene = scene(gate(407));
    let answer: Steps = steps([
        (100, respond(180)),
        (500, respond(200)),
        (600, respond_as_other(200, 1)),
    ]);
    scene.world.peer_mut(scene.platform).on("INVITE", answer);
    let call = scene.answered();
    scene.carrier_does(&call, request("BYE"));
    scene.world.finish();
    // Its ACK has the credentials of the INVITE as well, which the platform has looked at.
    assert_eq!(numbers(&scene, "ACK"), [1, 2, 2]);
    assert_eq!(outcomes(&scene, "BYE"), [200, 200]);
}

// ---- requests of our own ----

fn refer() -> serde_json::Value {
    json!({"verb": "sip:refer", "referTo": "+4930111", "actionHook": "/action", "eventHook": "/event"})
}

/// The carrier asks for credentials, and its trunk has them.
fn transfer_scene(refuses: Option<Refuses>) -> (Scene, String) {
    let mut scene = Scene::with(&text("", AUTH), carrier(), platform());
    let mut gate = gate(407);
    gate.refuses = refuses;
    scene.world.peer_mut(scene.carrier).gate = Some(gate);
    let call = scene.answered();
    (scene, call)
}

fn action(scene: &Scene) -> (u64, String, String) {
    let is_action = |posted: &&Posted| posted.kind == HookKind::Action;
    let actions: Vec<_> = scene.world.application.posted().iter().filter(is_action).collect();
    let [action] = actions[..] else { panic!("{actions:?}") };
    let text = |name: &str| action.body[name].as_str().unwrap_or_default().to_owned();
    (
        action.body["refer_status"].as_u64().unwrap_or_default(),
        text("refer_result"),
        text("refer_cause"),
    )
}

fn carrier_numbers(scene: &Scene, method: &str) -> Vec<u32> {
    let heard = scene.world.peer(scene.carrier).heard(method);
    heard.iter().map(|text| text.cseq().0).collect()
}

#[test]
fn a_refer_of_ours_is_sent_again_with_credentials() {
    let (mut scene, call) = transfer_scene(None);
    let course = steps([
        (10, respond(202)),
        (20, notify("100 Trying", "active;expires=60")),
        (3_000, notify("200 OK", "terminated;reason=noresource")),
    ]);
    scene.world.peer_mut(scene.carrier).on("REFER", course);
    assert!(matches!(scene.verbs(&call, refer()), Reply::Accepted { .. }));
    scene.world.finish();
    assert_ladder("challenged_transfer", &scene.world);
    assert_eq!(action(&scene), (202, "success".into(), "notify_final".into()));
    assert_eq!(carrier_numbers(&scene, "REFER"), [1, 2]);
    // Its BYE has credentials from the first; the platform, which asks for none, gets none.
    assert_eq!(carrier_numbers(&scene, "BYE"), [3]);
    assert_eq!(
        scene.world.peer(scene.platform).heard("BYE")[0].header("Proxy-Authorization"),
        None
    );
    assert_eq!(challenges(&scene), [1, 0, 0]);
    let refers = scene.world.peer(scene.carrier).heard("REFER");
    assert_eq!(refers[0].header("Refer-To"), refers[1].header("Refer-To"));
}

#[test]
fn notifies_of_either_attempt_are_of_the_transfer() {
    for id in [1, 2] {
        let (mut scene, call) = transfer_scene(None);
        scene
            .world
            .peer_mut(scene.carrier)
            .on("REFER", steps([(10, respond(202))]));
        scene.verbs(&call, refer());
        scene.run(500);
        let event = format!("refer;id={id}");
        let headers = [
            ("Event", &*event),
            ("Subscription-State", "terminated;reason=noresource"),
            ("Content-Type", "message/sipfrag"),
        ];
        scene.carrier_does(&call, request_with("NOTIFY", &headers, "SIP/2.0 486 Busy Here\r\n"));
        scene.run(500);
        assert_eq!(outcomes(&scene, "NOTIFY"), [200], "{id}");
        assert_eq!(action(&scene), (202, "failed".into(), "notify_final".into()), "{id}");
        scene.carrier_does(&call, request("BYE"));
        scene.world.finish();
    }
}

/// RFC 3515 §2.4.6: the id of a NOTIFY is the number of its REFER, as the notifier has it; its sender knows another.
#[test]
fn notifies_of_a_partys_refer_that_was_sent_again_are_its_own_and_end_its_subscription() {
    let (mut scene, call) = transfer_scene(None);
    let accepts = steps([(10, respond(202))]);
    scene.world.peer_mut(scene.carrier).on("REFER", accepts);
    let headers = [("Refer-To", "<sip:x@y>"), ("Referred-By", "<sip:bot@platform.example>")];
    scene.platform_does(&call, request_with("REFER", &headers, ""));
    scene.run(500);
    assert_eq!(carrier_numbers(&scene, "REFER"), [1, 2]);
    assert_eq!(scene.world.peer(scene.platform).outcomes("REFER"), [202]);
    let headers = [
        ("Event", "refer;id=2"),
        ("Subscription-State", "terminated;reason=noresource"),
        ("Content-Type", "message/sipfrag"),
    ];
    scene.carrier_does(&call, request_with("NOTIFY", &headers, "SIP/2.0 486 Busy Here\r\n"));
    scene.run(500);
    let heard = scene.world.peer(scene.platform).heard("NOTIFY");
    assert_eq!(
        heard.last().and_then(|notify| notify.header("Event")),
        Some("refer;id=1")
    );
    // A transfer of referee's own may follow.
    assert!(matches!(scene.verbs(&call, refer()), Reply::Accepted { .. }));
    scene.run(500);
    scene.platform_does(&call, request("BYE"));
    scene.world.finish();
}

#[test]
fn notifies_of_a_challenged_refer_have_its_senders_id_before_the_answer_is_seen_too() {
    let mut scene = Scene::with(&text("", AUTH), carrier(), platform());
    let peer = scene.world.peer_mut(scene.carrier);
    peer.gate = Some(gate(407));
    peer.manners.event_ids = EventIds::Always;
    let course = steps([
        (10, respond(202)),
        (20, notify("100 Trying", "active;expires=60")),
        (100, notify("486 Busy Here", "terminated;reason=noresource")),
    ]);
    peer.on("REFER", course);
    scene.world.network.lose("platform", "referee", "200 OK (INVITE)", 1);
    let call = scene.call();
    scene.run(1_100);
    let headers = [("Refer-To", "<sip:x@y>"), ("Referred-By", "<sip:bot@platform.example>")];
    scene.platform_does(&call, request_with("REFER", &headers, ""));
    scene.run(300);
    assert!(outcomes(&scene, "INVITE").is_empty());
    assert_eq!(carrier_numbers(&scene, "REFER"), [1, 2]);
    let heard = scene.world.peer(scene.platform).heard("NOTIFY");
    let events: Vec<_> = heard.iter().map(|notify| notify.header("Event")).collect();
    assert_eq!(events, [Some("refer;id=1"); 2]);
    scene.run(1_000);
    scene.platform_does(&call, request("BYE"));
    scene.world.finish();
    assert_eq!(outcomes(&scene, "INVITE"), [200]);
}

#[test]
fn a_refer_whose_credentials_are_not_wanted_has_failed() {
    for (refuses, sent) in [(Refuses::AsWrong, vec![1, 2]), (Refuses::AsStale, vec![1, 2, 3])] {
        let (mut scene, call) = transfer_scene(Some(refuses));
        scene.verbs(&call, refer());
        scene.run(3_000);
        assert_eq!(action(&scene), (407, "failed".into(), "unauthorized".into()));
        assert_eq!(carrier_numbers(&scene, "REFER"), sent);
        // The call goes on, with the numbers that are left.
        scene.world.peer_mut(scene.carrier).gate = None;
        scene.platform_does(&call, request("INFO"));
        scene.run(1_000);
        assert_eq!(scene.world.peer(scene.platform).outcomes("INFO"), [200]);
        scene.carrier_does(&call, request("BYE"));
        scene.world.finish();
    }
}

#[test]
fn a_refer_without_credentials_or_by_their_hangup_is_not_sent_again() {
    let challenge = format!("Digest realm=\"{REALM}\", nonce=\"n\"");
    let challenged = || respond_with(401, &[("WWW-Authenticate", &challenge)]);
    // The trunk has none.
    let mut scene = Scene::default();
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", steps([(10, challenged())]));
    let call = scene.answered();
    scene.verbs(&call, refer());
    scene.run(1_000);
    assert_eq!(action(&scene), (401, "failed".into(), "unauthorized".into()));
    assert_eq!(carrier_numbers(&scene, "REFER"), [1]);
    scene.carrier_does(&call, request("BYE"));
    scene.world.finish();
    // The carrier has hung up meanwhile.
    let mut scene = Scene::with(&text("", AUTH), carrier(), platform());
    let course = steps([(10, request("BYE")), (100, challenged())]);
    scene.world.peer_mut(scene.carrier).on("REFER", course);
    let call = scene.answered();
    scene.verbs(&call, refer());
    scene.world.finish();
    assert_eq!(carrier_numbers(&scene, "REFER"), [1]);
    assert_eq!(action(&scene).2, "call_ended");
}

#[test]
fn a_bye_of_ours_is_answered_for_once() {
    for (refuses, sent, counted) in [
        (None, vec![1, 2], [1, 0, 0]),
        (Some(Refuses::AsStale), vec![1, 2], [1, 1, 0]),
    ] {
        let (mut scene, call) = transfer_scene(refuses);
        let call = CallSelector::SipCallId(call.into_bytes());
        scene.world.command(Command::Hangup { call });
        scene.world.finish();
        assert_eq!(carrier_numbers(&scene, "BYE"), sent);
        assert_eq!(challenges(&scene), counted);
        assert_eq!(counters(&scene).calls, 0);
    }
}
