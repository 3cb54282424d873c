//! What referee itself says: valid by two readers that share no code, and nobody's value becomes a line of it.
//!
//! The simulator holds every message against our own strict reading. `REFEREE_MESSAGES=<folder>` has the messages written
//! there with the fields we read in them, for `tests/interop/own-messages` to compare with what Sofia-SIP reads.

use proptest::prelude::*;
use proptest::sample::select;
use referee::command::{CallSelector, Command, Reply};
use referee::config;
use referee::message::{Header, Message, MessageBuf, Method, StartLine};
use referee::sim::REFEREE;
use referee::sim::peer::script::{Act, notify, request, respond, respond_with, steps};
use referee::sim::scene::{Scene, TWO_SIDES, carrier, platform};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

/// A request outside a dialog, without a body.
fn outside(method: &str, name: &str, lines: &str) -> String {
    format!(
        "{method} sip:+4930123456@203.0.113.7 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK{name};rport\r\nMax-Forwards: 70\r\n\
         From: \"C, \\\"c\\\"\" <sip:c@h>;tag=1\r\nTo: <sip:+4930123456@203.0.113.7>\r\nCall-ID: {name}\r\n\
         CSeq: 1 {method}\r\n{lines}Content-Length: 0\r\n\r\n"
    )
}

/// Runs in which referee makes every kind of message that it makes.
fn scenes() -> Vec<Scene> {
    let mut scenes = Vec::new();
    let mut run = |begin: &mut dyn FnMut(&mut Scene)| {
        let mut scene = Scene::default();
        begin(&mut scene);
        scene.world.finish();
        scenes.push(scene);
    };

    // A transfer that succeeds: REFER, 200 to each NOTIFY, BYE to both sides.
    let verb = json!({
        "verb": "sip:refer",
        "referTo": "\"Bob, \\\"the\\\" builder\" <sip:bob@example.com;transport=tcp?Replaces=7%40x%3Bto-tag%3D1%3Bfrom-tag%3D2>",
        "referredBy": "+4917012345",
        "referredByDisplayName": "Ali\\ce \"A\"",
        "headers": {"X-Note": "a, b; \"c\"", "User-to-User": "00ff;encoding=hex", "P-Empty": ""},
    });
    run(&mut |scene| {
        let course = steps([
            (10, respond(202)),
            (20, notify("100 Trying", "active;expires=60")),
            (900, notify("200 OK", "terminated;reason=noresource")),
        ]);
        scene.world.peer_mut(scene.carrier).on("REFER", course);
        let call = scene.answered();
        let reply = scene.verbs(&call, verb.clone());
        assert!(matches!(reply, Reply::Accepted { .. }), "{reply:?}");
    });
    // A call that the callee ends.
    run(&mut |scene| {
        let call = scene.answered();
        scene.platform_does(&call, request("BYE"));
    });
    // An INVITE that is refused, one that is cancelled, one that nobody answers, one that finds the callee full.
    run(&mut |scene| {
        let busy = steps([(50, respond(180)), (800, respond(486))]);
        scene.world.peer_mut(scene.platform).on("INVITE", busy);
        scene.call();
    });
    run(&mut |scene| {
        scene
            .world
            .peer_mut(scene.platform)
            .on("INVITE", steps([(50, respond(180))]));
        let call = scene.call();
        scene.run(2_000);
        scene.carrier_does(&call, Act::Cancel);
    });
    run(&mut |scene| {
        scene.world.network.lose("referee", "platform", "INVITE", 100);
        scene.call();
    });
    run(&mut |scene| {
        let full = steps([(10, respond_with(503, &[("Retry-After", "5 (full)")]))]);
        scene.world.peer_mut(scene.platform).on("INVITE", full);
        scene.call();
    });
    // What is answered here.
    for request in [
        outside("OPTIONS", "o", "").replace("sip:+4930123456@203.0.113.7 SIP", "sip:203.0.113.7 SIP"),
        outside("REFER", "r", "Refer-To: <sip:x@y>\r\n"),
        outside("BYE", "b", ""),
        outside("MESSAGE", "p", "Proxy-Require: magic, wand\r\n"),
        outside("MESSAGE", "f", "").replace("Max-Forwards: 70", "Max-Forwards: 0"),
        outside("MESSAGE", "u", "").replace("sip:+4930123456@203.0.113.7", "tel:+49301"),
        outside("MESSAGE", "c", "").replace("CSeq: 1 MESSAGE", "CSeq: 1 INFO"),
        outside("MESSAGE", "v", "").replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"),
        outside("CANCEL", "x", ""),
    ] {
        run(&mut |scene| scene.world.say(scene.carrier, &request));
    }
    // A NOTIFY after the end of the call, of a package that nobody asked for.
    run(&mut |scene| {
        let refused = steps([
            (10, respond(603)),
            (
                5_000,
                Act::Again {
                    method: "NOTIFY".into(),
                    headers: vec![
                        ("Event".into(), "presence".into()),
                        ("Subscription-State".into(), "active".into()),
                    ],
                },
            ),
        ]);
        scene.world.peer_mut(scene.carrier).on("REFER", refused);
        let call = scene.answered();
        scene.verbs(&call, verb.clone());
        scene.run(1_000);
        scene.verbs(&call, json!({"verb": "hangup"}));
    });
    // OPTIONS to the addresses of a trunk, and a call that a full trunk does not take.
    let platforms = r#"
sources = ["10.0.0.5"]
addresses = ["udp:10.0.0.5:5060", "tcp:10.0.0.5:5060", "tcp:p.example.net", "udp:[2001:db8::5]:5060"]
calls_max = 1
health = { period = "10s" }"#;
    let text = TWO_SIDES
        .replace("\naddresses = [\"udp:10.0.0.5:5060\"]", platforms)
        .replace(
            "\"tcp:10.0.0.1:5060\"",
            "\"tcp:10.0.0.1:5060\", \"udp:[2001:db8::1]:5060\"",
        );
    let mut scene = Scene::with(&text, carrier(), platform());
    let call = scene.answered();
    scene.call();
    scene.run(500);
    scene.carrier_does(&call, request("BYE"));
    scene.world.drain();
    scene.world.finish();
    scenes.push(scene);
    // A REFER by a route set. Where its first proxy is there is the carrier itself, which takes it for a fault: no `finish`.
    let mut proxied = carrier();
    let routes = "<sip:198.51.100.10;lr>, \"P, 2\" <sip:p2.example:5070;lr;x=%22>";
    proxied.manners.headers.push(("Record-Route".into(), routes.into()));
    let mut scene = Scene::with(TWO_SIDES, proxied, platform());
    let call = scene.answered();
    scene.verbs(&call, verb);
    scene.run(1_000);
    scenes.push(scene);
    scenes
}

/// What a message is, for people: `REFER`, `200 OPTIONS`.
fn label(message: Message<'_>) -> String {
    let method = message
        .cseq()
        .map(|cseq| String::from_utf8_lossy(cseq.token).into_owned());
    let method = method.unwrap_or_default();
    message
        .status()
        .map_or(method.clone(), |status| format!("{status} {method}"))
}

/// The fields of a message, one a line, as `tests/interop/sofia_fields.c` prints them too.
fn fields(message: Message<'_>) -> String {
    let mut out = String::new();
    let mut put = |name: &str, value: &[u8]| {
        let _ = writeln!(out, "{name}\t{}", String::from_utf8_lossy(value));
    };
    let number = |number: u32| number.to_string().into_bytes();
    match message.start_line() {
        StartLine::Request { token, uri, .. } => {
            put("method", token);
            put("uri", uri);
        }
        StartLine::Response { code, reason } => {
            put("status", &number(code.into()));
            put("reason", reason);
        }
    }
    for via in message.vias().map(Result::unwrap) {
        put("via-branch", via.branch.unwrap_or_default());
        put("via-sent-by", via.sent_by);
        put("via-received", via.received.unwrap_or_default());
    }
    for (name, value) in [("from", message.from().unwrap()), ("to", message.to().unwrap())] {
        put(&format!("{name}-display"), value.display);
        put(&format!("{name}-uri"), value.uri);
        put(&format!("{name}-tag"), value.tag.unwrap_or_default());
    }
    put("call-id", message.call_id().unwrap());
    let cseq = message.cseq().unwrap();
    put(
        "cseq",
        format!("{} {}", cseq.number, String::from_utf8_lossy(cseq.token)).as_bytes(),
    );
    if let Some(hops) = message.max_forwards().unwrap() {
        put("max-forwards", &number(hops.into()));
    }
    for (name, header) in [
        ("route", Header::Route),
        ("record-route", Header::RecordRoute),
        ("contact", Header::Contact),
    ] {
        for value in message.name_addrs(header).map(Result::unwrap) {
            put(name, value.uri);
        }
    }
    if let Ok(refer_to) = message.refer_to() {
        put("refer-to", refer_to.uri);
    }
    if let Some(referred_by) = message.referred_by().unwrap() {
        put("referred-by", referred_by.referrer.uri);
    }
    for (name, header) in [
        ("allow", Header::Allow),
        ("supported", Header::Supported),
        ("unsupported", Header::Unsupported),
    ] {
        for token in message.tokens(header).map(Result::unwrap) {
            put(name, token);
        }
    }
    if let Some(event) = message.event().unwrap() {
        put("event", event.package);
    }
    if let Some(wait) = message.retry_after().unwrap() {
        put("retry-after", &number(wait.seconds));
    }
    put("body", &number(message.body().len() as u32));
    out
}

#[test]
fn every_kind_of_message_is_made_and_valid() {
    let mut labels = BTreeSet::new();
    let mut messages = Vec::new();
    for scene in scenes() {
        for bytes in scene.world.ladder().messages_of(REFEREE) {
            let message = MessageBuf::parse(bytes.to_vec()).unwrap();
            labels.insert(label(message.as_message()));
            messages.push(message);
        }
    }
    for label in [
        "INVITE",
        "ACK",
        "BYE",
        "CANCEL",
        "REFER",
        "OPTIONS",
        "100 INVITE",
        "180 INVITE",
        "200 INVITE",
        "408 INVITE",
        "486 INVITE",
        "487 INVITE",
        "500 INVITE",
        "503 INVITE",
        "200 BYE",
        "200 CANCEL",
        "200 NOTIFY",
        "200 OPTIONS",
        "400 INFO",
        "416 MESSAGE",
        "420 MESSAGE",
        "481 BYE",
        "481 CANCEL",
        "483 MESSAGE",
        "489 NOTIFY",
        "505 MESSAGE",
        "603 REFER",
    ] {
        assert!(labels.contains(label), "no {label} among {labels:?}");
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "where the messages are to be written is the tester's"
    )]
    let folder = std::env::var("REFEREE_MESSAGES").map(PathBuf::from);
    let mut count = BTreeMap::<String, u32>::new();
    for message in &messages {
        let message = message.as_message();
        let label = label(message).replace(' ', "-");
        let number = count.entry(label.clone()).or_default();
        *number += 1;
        let fields = fields(message);
        if let Ok(folder) = &folder {
            let name = format!("{label}-{number}");
            std::fs::write(folder.join(format!("{name}.sip")), message.bytes()).unwrap();
            std::fs::write(folder.join(format!("{name}.fields")), fields).unwrap();
        }
    }
}

/// Text of which much would end a line, or looks as if it did.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = [
        "\r\n",
        "\n",
        "\r",
        "\r\n ",
        "\0",
        "\u{1}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "Via: SIP/2.0/UDP x",
        "l: 5",
        ": ",
        "\"",
        "\\",
        "<",
        ">",
        "sip:x@y",
        "@",
        ";tag=9",
        ",",
        "%0d%0a",
        " ",
        "\t",
        "a",
        "+4930",
        "?Route=x",
        ";lr",
        "é",
    ];
    let piece =
        prop_oneof![6 => select(pieces.to_vec()).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

/// Often something good, so that the rest of a case is looked at.
fn or_hostile(good: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![Just(good.to_owned()), hostile()]
}

/// The names of a REFER's lines, up to those of the verb.
fn names(message: Message<'_>) -> Vec<String> {
    message
        .lines()
        .map(|line| String::from_utf8_lossy(line.name).into_owned())
        .collect()
}

/// The REFER that a verb would send; `None` where it is refused.
fn preview(scene: &mut Scene, call: &str, verb: &Value) -> Option<String> {
    let verbs = referee::verb::parse(verb).ok()?;
    let ticket = scene.world.command(Command::Verbs {
        call: CallSelector::SipCallId(call.as_bytes().to_vec()),
        verbs,
        dry_run: true,
    });
    match scene.world.reply(ticket).cloned() {
        Some(Reply::WouldSend { message }) => Some(message),
        Some(Reply::Refused(_)) => None,
        other => panic!("{other:?}"),
    }
}

/// A REFER with these further lines and no other.
fn is_the_refer_meant(text: &str, further: &[String]) {
    let read = MessageBuf::parse(text.to_owned()).unwrap_or_else(|error| panic!("{error:?}: {text}"));
    let message = read.as_message();
    assert_eq!(referee::message::check(message), Ok(()), "{text}");
    assert_eq!(message.method(), Some(Method::Refer));
    let head = [
        "Via",
        "Max-Forwards",
        "From",
        "To",
        "Call-ID",
        "CSeq",
        "Contact",
        "Allow",
    ];
    let own = ["Refer-To", "Referred-By", "Supported"];
    let mut meant: Vec<String> = head.iter().chain(&own).map(|name| (*name).to_owned()).collect();
    meant.extend_from_slice(further);
    meant.push("Content-Length".into());
    assert_eq!(names(message), meant, "{text}");
    assert!(message.refer_to().is_ok_and(|value| value.bracketed), "{text}");
    assert!(message.referred_by().is_ok_and(|value| value.is_some()), "{text}");
    assert!(message.vias().count() == 1, "{text}");
    assert_eq!(message.body(), b"");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn no_value_of_a_verb_becomes_a_line(
        refer_to in or_hostile("sip:bob@example.com"),
        referred_by in or_hostile("<sip:alice@example.com>"),
        display_name in hostile(),
        name in or_hostile("X-Note"),
        value in hostile(),
    ) {
        let mut scene = Scene::default();
        let call = scene.answered();
        let verb = json!({
            "verb": "sip:refer",
            "referTo": refer_to,
            "referredBy": referred_by,
            "referredByDisplayName": display_name,
            "headers": {name.clone(): value},
        });
        if let Some(text) = preview(&mut scene, &call, &verb) {
            is_the_refer_meant(&text, std::slice::from_ref(&name));
        }
        let hangup = json!({"verb": "hangup", "headers": {name.clone(): value}});
        if scene.world.verbs(&call, &hangup).is_err() {
            scene.carrier_does(&call, request("BYE"));
        }
        scene.run(1_000);
        for peer in [scene.carrier, scene.platform] {
            for bye in scene.world.peer(peer).heard("BYE") {
                prop_assert!(bye.headers.iter().filter(|(other, _)| *other == name).count() <= 1);
                prop_assert_eq!(bye.body.as_str(), "");
            }
        }
        scene.world.finish();
    }

    #[test]
    fn no_value_of_the_configuration_becomes_a_line(
        bare_number in or_hostile("sip:{number}@trunk.example.net"),
        referred_by_host in or_hostile("refer.example.net"),
        advertise in or_hostile("sip.example.net"),
    ) {
        let quoted = |text: &str| Value::String(text.to_owned()).to_string();
        let text = TWO_SIDES
            .replace("\"sip:{number}@trunk.example.net\"", &quoted(&bare_number))
            .replace("[trunk.refer]\nbare", &format!("[trunk.refer]\nreferred_by_host = {}\nbare", quoted(&referred_by_host)))
            .replace("name = \"public\"", &format!("name = \"public\"\nadvertise = {}", quoted(&advertise)));
        if config::parse(&text, &|_| None).is_err() {
            return Ok(());
        }
        let mut scene = Scene::with(&text, carrier(), platform());
        let call = scene.answered();
        let verb = json!({"verb": "sip:refer", "referTo": "+4930111", "referredBy": "+4930222"});
        if let Some(text) = preview(&mut scene, &call, &verb) {
            is_the_refer_meant(&text, &[]);
        }
        scene.carrier_does(&call, request("BYE"));
        scene.world.finish();
    }

    #[test]
    fn no_name_of_a_party_becomes_a_line(display in hostile(), platform_display in hostile()) {
        // A peer that writes a line end there writes a line: that is its own.
        let quoted = |text: &str| {
            let text: String = text.chars().filter(|c| !c.is_control()).collect();
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        };
        let (mut carrier, mut platform) = (carrier(), platform());
        carrier.manners.identity = format!("{} <sip:+4917012345@carrier.example>", quoted(&display));
        platform.manners.identity = format!("{} <sip:bot@platform.example>", quoted(&platform_display));
        let mut scene = Scene::with(TWO_SIDES, carrier, platform);
        let call = scene.answered();
        let verb = json!({"verb": "sip:refer", "referTo": "+4930111"});
        if let Some(text) = preview(&mut scene, &call, &verb) {
            is_the_refer_meant(&text, &[]);
        }
        scene.verbs(&call, json!({"verb": "hangup"}));
        scene.world.finish();
    }
}
