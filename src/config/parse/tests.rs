mod hints;
mod mistakes;
mod reference;
mod timeouts;

use super::*;
use crate::config::{ByeMeansSuccess, HookBodies, Limits, OnReferTimeout, ReferMode, SessionTimers, SipTimers};
use crate::config::{Destination, pattern_matches};
use crate::transport::Transport;

const EXAMPLE: &str = r#"[[listen]]
name = "public"
bind = ["udp:0.0.0.0:5060", "tcp:0.0.0.0:5060"]
advertise = "203.0.113.7"                      # what Via and Record-Route say
[[listen]]
name = "private"
bind = ["udp:10.0.0.1:5060"]

[control]
listen = "127.0.0.1:8080"

[hooks]
base_url = "https://app.example.com"
secret = "${env:HOOK_SECRET}"

[[trunk]]
name = "carrier"
side = "carrier"                               # or "platform"
listen = "public"
addresses = ["udp:198.51.100.10:5060"]
sources = ["198.51.100.0/24"]
[trunk.refer]
bare_number = "sip:{number}@trunk.example.net"
destinations = ["+49*", "sip:*@example.com"]

[[trunk]]
name = "platform"
side = "platform"
listen = "private"
addresses = ["udp:10.0.0.5:5060", "udp:10.0.0.6:5060"]

[[route]]
from = "carrier"
match = { user = "+4930*" }
to = "platform"
"#;

fn environment(name: &str) -> Option<String> {
    (name == "HOOK_SECRET").then(|| "whsec_c2VjcmV0".to_owned())
}

fn errors(text: &str) -> Vec<String> {
    match parse(text, &environment) {
        Ok(_) => Vec::new(),
        Err(errors) => errors
            .iter()
            .map(|e| format!("{}:{}: {}", e.line, e.column, e.message))
            .collect(),
    }
}

#[test]
fn the_example_file_has_the_values_it_says() {
    let config = parse(EXAMPLE, &environment).unwrap();
    let udp = |host: &str| Address {
        transport: Some(Transport::Udp),
        host: host.to_owned(),
        port: 5060,
    };
    let bind = |listen: &str, transport, address: &str, advertise: Option<&str>| Bind {
        listen: listen.to_owned(),
        transport,
        address: address.parse().unwrap(),
        advertise: advertise.map(str::to_owned),
    };
    let defaults = Config::default();
    let expected = Config {
        binds: vec![
            bind("public", Transport::Udp, "0.0.0.0:5060", Some("203.0.113.7")),
            bind("public", Transport::Tcp, "0.0.0.0:5060", Some("203.0.113.7")),
            bind("private", Transport::Udp, "10.0.0.1:5060", None),
        ],
        hooks: Hooks {
            base_url: Some("https://app.example.com".into()),
            secret: Some("whsec_c2VjcmV0".into()),
            ..defaults.hooks
        },
        trunks: vec![
            Trunk {
                name: "carrier".into(),
                side: Some(Side::Carrier),
                listen: "public".into(),
                addresses: vec![udp("198.51.100.10")],
                sources: vec![value::network("198.51.100.0/24").unwrap()],
                hooks_base_url: None,
                hooks_secret: None,
                hooks_jambonz_secret: None,
                inbound_refer: InboundRefer::Reject,
                source_rate: None,
                refer: ReferRules {
                    bare_number: Some("sip:{number}@trunk.example.net".into()),
                    destinations: vec![
                        Destination::Number("+49*".into()),
                        Destination::Sip {
                            secure: false,
                            user: Some("*".into()),
                            host: "example.com".into(),
                            port: None,
                        },
                    ],
                    ..ReferRules::default()
                },
                health: None,
                calls_max: None,
                calls_per_second_max: None,
                auth: None,
            },
            Trunk {
                name: "platform".into(),
                side: Some(Side::Platform),
                listen: "private".into(),
                addresses: vec![udp("10.0.0.5"), udp("10.0.0.6")],
                sources: vec![value::network("10.0.0.5").unwrap(), value::network("10.0.0.6").unwrap()],
                hooks_base_url: None,
                hooks_secret: None,
                hooks_jambonz_secret: None,
                inbound_refer: InboundRefer::Relay,
                source_rate: None,
                refer: ReferRules::default(),
                health: None,
                calls_max: None,
                calls_per_second_max: None,
                auth: None,
            },
        ],
        routes: vec![Route {
            matches: RouteMatch {
                user: Some("+4930*".into()),
                ..RouteMatch::default()
            },
            ..Route::to_one(TrunkId(0), TrunkId(1))
        }],
        ..defaults
    };
    assert_eq!(config, expected);
    assert!(pattern_matches(
        config.routes[0].matches.user.as_deref().unwrap(),
        "+4930123"
    ));
}

const LISTEN: &str = "[[listen]]\nname = \"l\"\nbind = [\"udp:127.0.0.1:5060\", \"tcp:127.0.0.1:5060\"]\n";

#[test]
fn every_key_has_its_place_in_the_values() {
    let text = format!(
        r#"shards = 2
{LISTEN}
[control]
listen = "off"
[hooks]
jambonz_secret = "j"
timeout = "5s"
events_wait = "1s"
threads = 32
queue_max = 1_000
per_endpoint_max = 4
action_retry_for = "1h"
status_format = "string"
[access]
unknown_source = "silent"
unknown_source_rate = 12
source_rate = 13
dialog_secret = "sixteen bytes..."
stun = false
in_dialog_sources = "any"
[limits]
calls_max = 1
transactions_max = 2
held_per_call_max = 3
lookups_max = 4
transfers_remembered = 5
connections_max = 6
write_queue_bytes_max = 70000
idle_timeout = "8m"
partial_message_timeout = "9s"
handoff_max = 10
bounced_rate = 19
ring_max = "4m"
call_max = "2h"
tcp_refusal_kept = "13s"
queue_delay_target = "14ms"
queue_delay_interval = "150ms"
retry_after = "16s"
sources_max = 17
connections_per_source_max = 18
stranger_connections_max = 0
retry_after_max = "12s"
nap = "11us"
[timers]
t1 = "100ms"
t2 = "200ms"
t4 = "300ms"
timer_c = "5m"
session_expires = "30m"
min_se = "2m"
[transfer]
hold = "2s"
per_call_max = 3
total_timeout_max = "4m"
[[trunk]]
name = "t"
listen = "l"
addresses = ["127.0.0.1:5070"]
inbound_refer = "reject"
source_rate = 19
calls_max = 13
calls_per_second_max = 14
[trunk.health]
period = "7s"
timeout = "6s"
failures = 5
successes = 4
[trunk.hooks]
base_url = "http://h"
secret = "s"
jambonz_secret = "js"
[trunk.refer]
bare_number = "tel:{{number}}"
destinations = []
success_codes = [410]
bye_means_success = "never"
on_refer_timeout = "bye"
bye_on_success = false
bye_delay = "0s"
bye_grace = "2s"
response_timeout = "8s"
notify_timeout = "32s"
result_timeout = "50s"
total_timeout = "1m"
retry_after_max = "7s"
glare_wait = "1s"
queue_timeout = "5s"
tombstone = "6s"
hook_timeout = "9s"
events_wait = "0s"
referred_by_host = "Trunk.example.net"
referred_by_display_name = "Ann, \"B\""
refer_mode = "out-of-dialog"
only_202 = true
hook_bodies = "jambonz"
[[route]]
from = "t"
match = {{ host = "Example.com", header = {{ name = "X-Line", value = "a*" }} }}
to = "t"
"#
    );
    let config = parse(&text, &environment).unwrap();
    let (ms, s) = (Duration::from_millis, Duration::from_secs);
    assert_eq!(config.shards, Some(2));
    assert_eq!(config.control.listen, None);
    assert_eq!(
        config.hooks,
        Hooks {
            base_url: None,
            secret: None,
            jambonz_secret: Some("j".into()),
            timeout: s(5),
            events_wait: s(1),
            threads: 32,
            queue_max: 1_000,
            per_endpoint_max: 4,
            action_retry_for: s(3_600),
            status_as_string: true,
        }
    );
    assert_eq!(
        config.access,
        Access {
            unknown_source: UnknownSource::Silent,
            unknown_source_rate: 12,
            in_dialog_sources: InDialogSources::Any,
            dialog_secret: value::dialog_secret("sixteen bytes...").ok(),
            source_rate: Some(13),
            stun: false,
        }
    );
    assert_eq!(
        config.limits,
        Limits {
            calls_max: 1,
            transactions_max: 2,
            queue_delay_target: ms(14),
            queue_delay_interval: ms(150),
            retry_after: s(16),
            sources_max: 17,
            held_per_call_max: 3,
            lookups_max: 4,
            transfers_remembered: 5,
            connections_max: 6,
            connections_per_source_max: 18,
            stranger_connections_max: 0,
            write_queue_bytes_max: 70_000,
            idle_timeout: s(480),
            partial_message_timeout: s(9),
            handoff_max: 10,
            bounced_rate: 19,
            ring_max: s(240),
            call_max: s(7_200),
            tcp_refusal_kept: s(13),
            retry_after_max: s(12),
            nap: Duration::from_micros(11),
        }
    );
    let timers = SipTimers {
        t1: ms(100),
        t2: ms(200),
        t4: ms(300),
        timer_c: s(300),
    };
    assert_eq!(config.timers, timers);
    let session = SessionTimers {
        expires: Some(s(1_800)),
        min_se: Some(s(120)),
    };
    assert_eq!(config.session, session);
    assert_eq!(
        config.transfer,
        TransferTimers {
            hold: s(2),
            per_call_max: 3,
            total_timeout_max: s(240),
        }
    );
    let trunk = &config.trunks[0];
    assert_eq!((trunk.side, trunk.inbound_refer), (None, InboundRefer::Reject));
    assert_eq!(trunk.source_rate, Some(19));
    assert_eq!(trunk.hooks_base_url.as_deref(), Some("http://h"));
    assert_eq!(trunk.hooks_secret.as_deref(), Some("s"));
    assert_eq!(trunk.hooks_jambonz_secret.as_deref(), Some("js"));
    assert_eq!(
        trunk.refer,
        ReferRules {
            bare_number: Some("tel:{number}".into()),
            destinations: Vec::new(),
            success_codes: vec![410],
            bye_means_success: ByeMeansSuccess::Never,
            on_refer_timeout: OnReferTimeout::Bye,
            bye_on_success: false,
            bye_delay: s(0),
            bye_grace: s(2),
            response_timeout: Some(s(8)),
            notify_timeout: Some(s(32)),
            result_timeout: Some(s(50)),
            total_timeout: s(60),
            retry_after_max: s(7),
            glare_wait: Some(s(1)),
            queue_timeout: s(5),
            tombstone: s(6),
            hook_timeout: Some(s(9)),
            events_wait: Some(s(0)),
            referred_by_host: Some("trunk.example.net".into()),
            referred_by_display_name: Some("Ann, \"B\"".into()),
            refer_mode: ReferMode::OutOfDialog,
            only_202: true,
            hook_bodies: HookBodies::Jambonz,
        }
    );
    let expected = RouteMatch {
        user: None,
        host: Some("example.com".into()),
        header: Some(("X-Line".into(), "a*".into())),
    };
    assert_eq!(config.routes[0].matches, expected);
}

#[test]
fn a_trunks_rules_start_from_those_of_all_and_then_from_its_preset() {
    let rules = |text: &str| {
        let listen = "[[listen]]\nname = \"l\"\nbind = [\"udp:127.0.0.1:5060\"]\n";
        let trunk = "[[trunk]]\nname = \"t\"\nlisten = \"l\"\nsources = [\"10.0.0.1\"]\n";
        let config = parse(&format!("{listen}{}", text.replace("TRUNK\n", trunk)), &environment).unwrap();
        config.trunks[0].refer.clone()
    };
    let s = Duration::from_secs;
    let of_all = "[refer]\nbye_grace = \"3s\"\nsuccess_codes = [480]\nnotify_timeout = \"20s\"\n";
    let all = rules(&format!("{of_all}TRUNK\n"));
    assert_eq!(
        (all.bye_grace, &all.success_codes[..], all.notify_timeout),
        (s(3), &[480][..], Some(s(20)))
    );
    let one = rules(&format!("{of_all}TRUNK\n[trunk.refer]\nbye_grace = \"4s\"\n"));
    assert_eq!(
        one,
        ReferRules {
            bye_grace: s(4),
            ..all.clone()
        }
    );

    let preset = |name: &str| rules(&format!("TRUNK\n[trunk.refer]\npreset = \"{name}\"\n"));
    let default = ReferRules::default();
    let twilio = ReferRules {
        bye_delay: Duration::from_millis(100),
        ..default.clone()
    };
    assert_eq!(preset("twilio"), twilio);
    let telnyx = ReferRules {
        bare_number: Some("sip:{number}@sip.telnyx.com".into()),
        ..default.clone()
    };
    assert_eq!(preset("telnyx"), telnyx);
    let cognigy = ReferRules {
        success_codes: vec![410],
        ..default.clone()
    };
    assert_eq!(preset("cognigy"), cognigy);
    let jambonz = ReferRules {
        only_202: true,
        result_timeout: Some(s(15)),
        hook_bodies: HookBodies::Jambonz,
        ..default.clone()
    };
    assert_eq!(preset("jambonz"), jambonz);
    // Whatever the others wait for a first NOTIFY, there is none before the target answers.
    let oracle = rules(&format!("{of_all}TRUNK\n[trunk.refer]\npreset = \"oracle\"\n"));
    assert_eq!(
        (oracle.notify_timeout, oracle.total_timeout, oracle.bye_grace),
        (None, s(180), s(3))
    );
    // What the table says itself counts more.
    let own = rules("TRUNK\n[trunk.refer]\npreset = \"cognigy\"\nsuccess_codes = []\n");
    assert_eq!(own, default);
}

/// Appends `rest` to a listener of three lines, so that `rest` starts at line 4.
#[track_caller]
fn check_after_listener(rest: &str, expected: &[&str]) {
    assert_eq!(errors(&format!("{LISTEN}{rest}")), expected, "{rest}");
}

#[test]
fn a_file_without_a_listener_is_refused() {
    for text in ["", "[hooks]\n"] {
        assert_eq!(
            errors(text),
            ["1:1: there is no `[[listen]]`, so nothing could be received"]
        );
    }
    assert_eq!(
        errors("listen = 1"),
        ["1:10: `listen` is an integer, must be tables, each headed `[[listen]]`"]
    );
}

#[test]
fn a_trunk_needs_a_socket_to_send_from() {
    let text = "[[listen]]\nname = \"l\"\nbind = [\"udp:127.0.0.1:5060\"]\n\
                [[trunk]]\nname = \"t\"\nlisten = \"l\"\naddresses = [\"tcp:127.0.0.1\", \"127.0.0.1\", \"127.0.0.1:5060\"]\n";
    assert_eq!(
        errors(text),
        [
            "7:14: the listener `l` binds no tcp address to send from",
            "7:44: this address is there already"
        ]
    );
}

fn trunk(name: &str, sources: &str) -> String {
    format!("[[trunk]]\nname = \"{name}\"\nlisten = \"l\"\nsources = [{sources}]\n")
}

#[test]
fn two_trunks_of_a_listener_may_not_share_a_source() {
    let text = trunk("a", "\"198.51.100.0/24\", \"10.0.0.1\"") + &trunk("b", "\"192.0.2.1\", \"198.51.100.7\"");
    check_after_listener(
        &text,
        &["11:25: the source 198.51.100.7/32 overlaps 198.51.100.0/24 of trunk `a` on the same listener"],
    );
    // The addresses stand in for missing sources.
    let text =
        trunk("a", "\"0.0.0.0/0\"") + "[[trunk]]\nname = \"b\"\nlisten = \"l\"\naddresses = [\"127.0.0.1:5070\"]\n";
    check_after_listener(
        &text,
        &["11:14: the source 127.0.0.1/32 overlaps 0.0.0.0/0 of trunk `a` on the same listener"],
    );
    // Another family or another listener is apart.
    check_after_listener(&(trunk("a", "\"0.0.0.0/0\"") + &trunk("b", "\"::/0\"")), &[]);
    let other = "[[listen]]\nname = \"m\"\nbind = [\"udp:127.0.0.2:5060\"]\n";
    let text = trunk("a", "\"0.0.0.0/0\"") + other + &trunk("b", "\"0.0.0.0/0\"").replace("\"l\"", "\"m\"");
    check_after_listener(&text, &[]);
}

#[test]
fn a_route_leads_from_a_known_trunk_to_one_with_addresses() {
    let trunks = trunk("caller", "\"10.0.0.0/8\"")
        + "[[trunk]]\nname = \"callee\"\nlisten = \"l\"\naddresses = [\"127.0.0.1:5070\"]\n";
    for (route, expected) in [
        ("from = \"caller\"\nto = \"callee\"\n", &[][..]),
        (
            "from = \"caler\"\nto = \"nobody\"\n",
            &[
                "13:8: there is no `[[trunk]]` named `caler`; did you mean `caller`?",
                "14:6: there is no `[[trunk]]` named `nobody`",
            ],
        ),
        (
            "from = \"callee\"\nto = \"caller\"\n",
            &["14:6: calls cannot go to trunk `caller`: it has no `addresses`"],
        ),
        ("", &["12:1: `[[route]]` lacks `from`", "12:1: `[[route]]` lacks `to`"]),
        (
            "from = \"caller\"\napplication = \"ivr\"\n",
            &["14:15: there is no `[[application]]` named `ivr`"],
        ),
        (
            "from = \"caller\"\napplication = \"ivr\"\nto = \"callee\"\n[[application]]\nname = \"ivr\"\ncall_hook = \"http://a\"\n",
            &["15:6: `to` says how calls go to trunks: a route leads to an `application` or `to` trunks"],
        ),
        (
            "from = \"caller\"\nto = \"callee\"\nmatch = { usr = \"a\", header = { name = \"X Y\" } }\n",
            &[
                "15:11: unknown key `usr` in `match`; did you mean `user`?",
                "15:31: `header` lacks `value`",
                "15:40: `X Y` is no header name",
            ],
        ),
        (
            "from = \"caller\"\nto = \"callee\"\nmatch = \"+49*\"\n",
            &["15:9: `match` is a string, must be a table"],
        ),
        (
            "from = \"caller\"\nto = \"callee\"\n[[route]]\nfrom = \"caller\"\nto = \"callee\"\n",
            &["15:1: never reached: an earlier route takes every call from `caller`"],
        ),
    ] {
        check_after_listener(&format!("{trunks}[[route]]\n{route}"), expected);
    }
}

#[test]
fn the_counts_of_binds_and_trunks_are_bounded() {
    let binds: Vec<String> = (1..=65).map(|port| format!("\"udp:127.0.0.1:{port}\"")).collect();
    let text = |binds: &[String]| format!("[[listen]]\nname = \"l\"\nbind = [\n{}\n]\n", binds.join(",\n"));
    assert_eq!(errors(&text(&binds[..64])), [""; 0]);
    assert_eq!(errors(&text(&binds)), ["68:1: more than 64 addresses to bind"]);

    let trunks: Vec<String> = (0..257)
        .map(|n| trunk(&format!("t{n}"), &format!("\"10.0.{}.{}\"", n / 256, n % 256)))
        .collect();
    check_after_listener(&trunks[..256].concat(), &[]);
    check_after_listener(&trunks.concat(), &["1028:1: more than 256 trunks"]);
}

#[test]
fn a_token_may_come_from_the_environment() {
    let text = format!("{LISTEN}[control]\nlisten = \"0.0.0.0:8080\"\n");
    let with_token = |name: &str| (name == "REFEREE_CONTROL_TOKEN").then(|| "t".to_owned());
    let mut config = parse(&text, &with_token).unwrap();
    assert!(config.control.problem().is_some());
    config.apply_environment(&with_token).unwrap();
    assert_eq!(config.control.problem(), None);
}

#[test]
fn a_secret_is_never_repeated_in_a_message() {
    let text =
        format!("{LISTEN}[hooks]\nsecret = \"hush hush\"\njambonz_secret = 4711\n[control]\ntoken = \"${{env:T}}\"\n");
    let errors = parse(&text, &|_| Some("hush\n".into())).unwrap_err();
    assert_eq!(errors.len(), 3);
    for error in errors {
        assert!(
            !error.message.contains("hush") && !error.message.contains("4711"),
            "{error}"
        );
    }
}

#[test]
fn a_trunk_has_credentials_for_all_realms_or_for_those_named() {
    let text = |auth: &str| {
        EXAMPLE.replacen(
            "\n[[trunk]]\nname = \"platform\"",
            &format!("{auth}\n[[trunk]]\nname = \"platform\""),
            1,
        )
    };
    let environment = |name: &str| match name {
        "PASSWORD" => Some("hush \"hush\"".to_owned()),
        other => environment(other),
    };
    let auth = |lines: &str| {
        parse(&text(&format!("[trunk.auth]\n{lines}")), &environment).map(|config| config.trunks[0].auth.clone())
    };
    assert_eq!(parse(EXAMPLE, &environment).unwrap().trunks[0].auth, None);
    let expected = |realms: &[&str]| {
        Ok(Some(Auth {
            username: "J\u{e4}s".into(),
            password: "hush \"hush\"".into(),
            realms: realms.iter().map(|realm| (*realm).to_owned()).collect(),
        }))
    };
    let both = "username = \"J\u{e4}s\"\npassword = \"${env:PASSWORD}\"\n";
    assert_eq!(auth(both), expected(&[]));
    assert_eq!(
        auth(&format!("{both}realms = [\"a\", \"b c\"]\n")),
        expected(&["a", "b c"])
    );

    let at = text("@").lines().position(|line| line == "@").unwrap_or_default() + 1;
    for (lines, expected) in [
        (
            "",
            &[
                "0:1: `[trunk.auth]` lacks `username`",
                "0:1: `[trunk.auth]` lacks `password`",
            ][..],
        ),
        (
            "username = \"a:b\"\npassword = \"\"\n",
            &["1:12: `username` has a colon", "2:12: `password` is empty"],
        ),
        (
            "username = \"a\"\npassword = \"hush\\nhush\"\nrealms = []\nrealm = \"a\"\n",
            &[
                "2:12: `password` holds control characters",
                "3:10: `realms` is empty",
                "4:1: unknown key `realm` in `[trunk.auth]`; did you mean `realms`?",
            ],
        ),
        (
            "username = 1\npassword = \"b\"\n",
            &["1:12: `username` is an integer, must be a string: put it in quotes"],
        ),
        (
            "username = \"a\"\npassword = \"b\"\nrealms = [\"\"]\n",
            &["3:11: `realm` is empty"],
        ),
    ] {
        let errors = auth(lines).expect_err(lines);
        let told: Vec<_> = errors
            .iter()
            .map(|error| format!("{}:{}: {}", error.line - at, error.column, error.message))
            .collect();
        assert_eq!(told, expected, "{lines}");
    }
}

#[test]
fn all_mistakes_come_in_one_pass_and_in_the_order_of_the_text() {
    let text = "shards = 0\n[hooks]\nthreads = 0\n[[route]]\nfrom = \"a\"\nto = \"b\"\n[[listen]]\nnmae = \"ü\"\n";
    assert_eq!(
        errors(text),
        [
            "1:10: `shards` is 0, must be 1 to 256",
            "3:11: `threads` is 0, must be 1 to 256",
            "5:8: there is no `[[trunk]]` named `a`",
            "6:6: there is no `[[trunk]]` named `b`",
            "7:1: `[[listen]]` lacks `name`",
            "7:1: `[[listen]]` lacks `bind`",
            "8:1: unknown key `nmae` in `[[listen]]`; did you mean `name`?",
        ]
    );
    assert_eq!(
        parse(text, &environment).unwrap_err()[0].to_string(),
        "line 1, column 10: `shards` is 0, must be 1 to 256"
    );
}

#[test]
fn bytes_that_are_no_text_have_a_place() {
    assert_eq!(decode("a = 'ü'".as_bytes()), Ok("a = 'ü'"));
    let error = decode(b"a = 1\nb = '\xff'").unwrap_err();
    assert_eq!((error.line, error.column), (2, 6));
}

proptest::proptest! {
    #[test]
    fn any_text_has_values_or_errors_within_it(text in "\\PC{0,200}") {
        config_text(&text);
    }

    #[test]
    fn a_damaged_example_has_values_or_errors_within_it(
        cuts in proptest::collection::vec((0usize..1_200, 0usize..20, "\\PC{0,6}|[\n\"\\[\\]=0-9]{0,4}"), 1..4)
    ) {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for (at, length, put_in) in cuts {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, put_in.chars());
        }
        config_text(&text.into_iter().collect::<String>());
    }
}
