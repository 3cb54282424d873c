use super::*;
use serde_json::json;

/// The example of the verb's documentation.
const EXAMPLE: &str = r#"{
  "verb": "sip:refer",
  "referTo": "+49XXXXXXXXXXX",
  "id": "unique-id-123",
  "referredBy": "sip:caller@example.com",
  "actionHook": {
    "url": "/action",
    "referStatus": "202",
    "final_referred_call_status": "200",
    "eventHook": {
      "event": "transfer-status",
      "call_status": "180"
    }
  },
  "eventHook": "/event",
  "headers": {
    "X-Custom-Header": "Value"
  }
}"#;

fn hook(url: &str) -> HookTarget {
    HookTarget {
        url: url.to_owned(),
        basic_auth: None,
    }
}

fn plain_refer(refer_to: &str) -> SipRefer {
    SipRefer {
        refer_to: Some(refer_to.to_owned()),
        replaces: None,
        id: None,
        referred_by: None,
        referred_by_display_name: None,
        action_hook: None,
        event_hook: None,
        headers: Vec::new(),
        leg: None,
        subscription: true,
        timers: ReferTimers::default(),
    }
}

fn errors(value: &Value) -> Vec<String> {
    parse(value)
        .err()
        .unwrap_or_default()
        .iter()
        .map(VerbError::to_string)
        .collect()
}

#[test]
fn the_documented_example_is_read_as_it_stands() {
    let verbs = parse(&serde_json::from_str(EXAMPLE).unwrap()).unwrap();
    let expected = SipRefer {
        id: Some("unique-id-123".into()),
        referred_by: Some("sip:caller@example.com".into()),
        action_hook: Some(hook("/action")),
        event_hook: Some(hook("/event")),
        headers: vec![("X-Custom-Header".into(), "Value".into())],
        ..plain_refer("+49XXXXXXXXXXX")
    };
    assert_eq!(verbs, [Verb::SipRefer(Box::new(expected))]);
}

#[test]
fn long_and_short_forms_and_arrays_say_the_same() {
    let expected = [Verb::SipRefer(Box::new(plain_refer("+49")))];
    for value in [
        json!({"verb": "sip:refer", "referTo": "+49"}),
        json!({"sip:refer": {"referTo": "+49"}}),
        json!([{"verb": "sip:refer", "referTo": "+49"}]),
        json!([{"sip:refer": {"referTo": "+49", "_": {"any": "remark"}}}]),
    ] {
        assert_eq!(parse(&value).as_deref(), Ok(&expected[..]), "{value}");
    }
}

#[test]
fn every_verb_of_a_relayed_call_has_its_properties() {
    let value = json!([
        {
            "verb": "sip:refer",
            "referTo": "sip:b@example.com",
            "referredByDisplayName": "",
            "leg": "callee",
            "timeout": 1.5,
            "responseTimeout": 1.25,
            "notifyTimeout": 1,
            "resultTimeout": 1.5,
            "byeDelay": 0,
            "byeGrace": 2.5,
            "retryAfterMax": 3,
            "glareWait": 0,
            "queueTimeout": 4,
            "tombstone": 5,
            "hookTimeout": 0.5,
            "eventsWait": 6,
            "subscription": false,
            "headers": {"X-B": 7, "X-A": "a"},
            "actionHook": "refer",
            "eventHook": {"url": "https://app.example.com/e", "method": "post", "basicAuth": {"username": "u", "password": ""}},
        },
        {"verb": "hangup", "id": "h", "headers": {"Reason": "SIP;cause=200"}},
        {"hangup": {}},
        {"tag": {"data": {"a": [1, null]}}},
        {"pause": {"length": 0.25, "id": "p"}},
    ]);
    let Value::Object(data) = json!({"a": [1, null]}) else {
        unreachable!("an object is written")
    };
    let expected = [
        Verb::SipRefer(Box::new(SipRefer {
            referred_by_display_name: Some(String::new()),
            leg: Some(Leg::Callee),
            timers: ReferTimers {
                timeout: Some(Duration::from_millis(1_500)),
                response_timeout: Some(Duration::from_millis(1_250)),
                notify_timeout: Some(Duration::from_secs(1)),
                result_timeout: Some(Duration::from_millis(1_500)),
                bye_delay: Some(Duration::ZERO),
                bye_grace: Some(Duration::from_millis(2_500)),
                retry_after_max: Some(Duration::from_secs(3)),
                glare_wait: Some(Duration::ZERO),
                queue_timeout: Some(Duration::from_secs(4)),
                tombstone: Some(Duration::from_secs(5)),
                hook_timeout: Some(Duration::from_millis(500)),
                events_wait: Some(Duration::from_secs(6)),
            },
            subscription: false,
            headers: vec![("X-A".into(), "a".into()), ("X-B".into(), "7".into())],
            action_hook: Some(hook("refer")),
            event_hook: Some(HookTarget {
                url: "https://app.example.com/e".into(),
                basic_auth: Some(("u".into(), String::new())),
            }),
            ..plain_refer("sip:b@example.com")
        })),
        Verb::Hangup {
            id: Some("h".into()),
            headers: vec![("Reason".into(), "SIP;cause=200".into())],
        },
        Verb::Hangup {
            id: None,
            headers: Vec::new(),
        },
        Verb::Tag { id: None, data },
        Verb::Pause {
            id: Some("p".into()),
            length: Duration::from_millis(250),
        },
    ];
    assert_eq!(parse(&value).as_deref(), Ok(&expected[..]));
}

#[test]
fn the_credentials_of_a_hook_have_three_spellings() {
    for object in [
        json!({"url": "/a", "username": "u", "password": "p"}),
        json!({"url": "/a", "basicAuth": {"username": "u", "password": "p"}}),
        json!({"url": "/a", "auth": {"username": "u", "password": "p"}}),
    ] {
        let verbs = parse(&json!({"verb": "sip:refer", "referTo": "1", "actionHook": object})).unwrap();
        let Verb::SipRefer(refer) = &verbs[0] else {
            panic!("{verbs:?}")
        };
        let basic_auth = Some(("u".into(), "p".into()));
        let url = "/a".into();
        assert_eq!(refer.action_hook, Some(HookTarget { url, basic_auth }));
    }
}

#[test]
fn each_mistake_names_its_field() {
    for (value, expected) in [
        (json!([]), &["is an empty array; at least one verb is needed"][..]),
        (json!(null), &["is null, must be an object"]),
        (json!([1]), &["[0]: is a number, must be an object"]),
        (json!({}), &["verb: is missing"]),
        (json!([{}]), &["[0].verb: is missing"]),
        (json!({"referTo": "+49"}), &["verb: is missing"]),
        (json!({"verb": 1}), &["verb: is a number, must be a string"]),
        (
            json!({"verb": "sy", "text": "x"}),
            &[
                "verb: `sy` is no verb; verbs are sip:refer, hangup, tag, pause, answer, sip:decline, redirect, config, sip:request",
            ],
        ),
        (
            json!([{"sip:refr": {}}]),
            &[
                "[0]: `sip:refr` is no verb; verbs are sip:refer, hangup, tag, pause, answer, sip:decline, redirect, config, sip:request; did you mean `sip:refer`?",
            ],
        ),
        (json!({"verb": "sip:refer"}), &["referTo: is missing"]),
        (
            json!([{"sip:refer": {}}, {"verb": "sip:refer"}]),
            &["[0].sip:refer.referTo: is missing", "[1].referTo: is missing"],
        ),
        (
            json!({"verb": "hangup", "reason": "x"}),
            &["reason: is no property of this verb"],
        ),
        (
            json!({"verb": "hangup", "header": {}}),
            &["header: is no property of this verb; did you mean `headers`?"],
        ),
        (
            json!({"verb": "hangup", "id": 7}),
            &["id: is a number, must be a string: put it in quotes"],
        ),
        (json!({"verb": "hangup", "id": ""}), &["id: is empty"]),
        (
            json!({"verb": "hangup", "headers": []}),
            &["headers: is an array, must be an object"],
        ),
        (json!({"verb": "tag"}), &["data: is missing"]),
        (
            json!({"verb": "tag", "data": "x"}),
            &["data: is a string, must be an object"],
        ),
        (
            json!({"verb": "tag", "data": {"x": "y".repeat(16_384)}}),
            &["data: is longer than 16384 bytes as JSON"],
        ),
        (json!({"verb": "pause"}), &["length: is missing"]),
        (
            json!({"verb": "pause", "length": "1"}),
            &["length: is a string, must be a number of seconds"],
        ),
        (
            json!({"verb": "pause", "length": -1}),
            &["length: is -1, must be 0 to 3600 seconds"],
        ),
        (
            json!({"verb": "pause", "length": 1e300}),
            &["length: is 1e+300, must be 0 to 3600 seconds"],
        ),
    ] {
        assert_eq!(errors(&value), expected, "{value}");
    }
    assert_eq!(
        errors(&json!(vec![json!({"hangup": {}}); 65])),
        ["is an array of 65 verbs; at most 64 are taken"]
    );
}

/// One `sip:refer` that is right but for `properties`.
fn refer_errors(properties: Value) -> Vec<String> {
    let mut refer = json!({"verb": "sip:refer", "referTo": "+49"});
    for (name, value) in properties.as_object().unwrap() {
        refer[name] = value.clone();
    }
    errors(&refer)
}

#[test]
fn each_mistake_of_a_refer_names_its_field() {
    for (properties, expected) in [
        (
            json!({"referTo": 49}),
            &["referTo: is a number, must be a string: put it in quotes"][..],
        ),
        (json!({"referTo": ""}), &["referTo: is empty"]),
        (json!({"timeout": 10, "notifyTimeout": 10}), &[]),
        (json!({"notifyTimeout": 200}), &[]),
        (
            json!({"timeout": 10, "notifyTimeout": 200}),
            &["notifyTimeout: is longer than `timeout`"],
        ),
        (
            json!({"timeout": 10, "responseTimeout": 11, "resultTimeout": 12}),
            &[
                "responseTimeout: is longer than `timeout`",
                "resultTimeout: is longer than `timeout`",
            ],
        ),
        (
            json!({"hookTimeout": 0}),
            &["hookTimeout: is 0, must be 0.1 to 60 seconds"],
        ),
        (json!({"hookTimeout": 0.1}), &[]),
        (json!({"referTo": "  "}), &["referTo: is empty"]),
        (
            json!({"referTo": "+49\r\nX: y"}),
            &["referTo: holds line breaks or other control characters"],
        ),
        (
            json!({"referTo": "+49\u{0}"}),
            &["referTo: holds line breaks or other control characters"],
        ),
        (
            json!({"referTo": "9".repeat(2_049)}),
            &["referTo: is longer than 2048 bytes"],
        ),
        (json!({"referredBy": null}), &["referredBy: is null, must be a string"]),
        (
            json!({"referredBy": "a\nb"}),
            &["referredBy: holds line breaks or other control characters"],
        ),
        (
            json!({"referredByDisplayName": "a\tb"}),
            &["referredByDisplayName: holds line breaks or other control characters"],
        ),
        (
            json!({"referredByDisplayName": "a".repeat(257)}),
            &["referredByDisplayName: is longer than 256 bytes"],
        ),
        (
            json!({"refer_to": "+49"}),
            &["refer_to: is no property of this verb; did you mean `referTo`?"],
        ),
        (json!({"leg": "both"}), &["leg: must be \"caller\" or \"callee\""]),
        (
            json!({"leg": 1}),
            &["leg: is a number, must be a string: put it in quotes"],
        ),
        (
            json!({"timeout": "10"}),
            &["timeout: is a string, must be a number of seconds"],
        ),
        (json!({"timeout": 0}), &["timeout: must be more than 0 seconds"]),
        (json!({"timeout": 301}), &["timeout: is 301, must be 0 to 300 seconds"]),
        (
            json!({"actionHook": 1}),
            &["actionHook: is a number, must be a URL or an object with a `url`"],
        ),
        (json!({"actionHook": ""}), &["actionHook: is empty"]),
        (
            json!({"actionHook": "ws://h/x"}),
            &["actionHook: is no http or https URL with a host and without credentials in it"],
        ),
        (
            json!({"actionHook": "http://u:p@h/x"}),
            &["actionHook: is no http or https URL with a host and without credentials in it"],
        ),
        (
            json!({"actionHook": "//evil.example/x"}),
            &["actionHook: is neither an http or https URL nor a path"],
        ),
        (
            json!({"actionHook": "a b"}),
            &["actionHook: holds white space or control characters"],
        ),
        (json!({"eventHook": {}}), &["eventHook.url: is missing"]),
        (
            json!({"eventHook": {"url": 1}}),
            &["eventHook.url: is a number, must be a string: put it in quotes"],
        ),
        (
            json!({"eventHook": {"url": "/e", "method": "GET"}}),
            &["eventHook.method: must be \"POST\": hooks carry a JSON body"],
        ),
        (
            json!({"eventHook": {"url": "/e", "username": "u"}}),
            &["eventHook.password: is missing"],
        ),
        (
            json!({"eventHook": {"url": "/e", "basicAuth": "u:p"}}),
            &["eventHook.basicAuth: is a string, must be an object"],
        ),
        (
            json!({"eventHook": {"url": "/e", "auth": {"username": "a:b", "password": 1}}}),
            &[
                "eventHook.auth.password: is a number, must be a string: put it in quotes",
                "eventHook.auth.username: holds a colon",
            ],
        ),
        (
            json!({"eventHook": {
                "url": "/e",
                "auth": {"username": "u", "password": "p"},
                "basicAuth": {"username": "u", "password": "p"},
            }}),
            &["eventHook: has credentials twice"],
        ),
        (json!({"headers": {"X A": "1"}}), &["headers.X A: is no header name"]),
        (json!({"headers": {"": "1"}}), &["headers.: is no header name"]),
        (json!({"headers": {"X-A:": "1"}}), &["headers.X-A:: is no header name"]),
        (
            json!({"headers": {"X-A": null}}),
            &["headers.X-A: is null, must be a string or a number"],
        ),
        (
            json!({"headers": {"X-A": "a\r\nVia: b"}}),
            &["headers.X-A: holds line breaks or other control characters"],
        ),
        (
            json!({"headers": {"X-A": "a".repeat(4_097)}}),
            &["headers.X-A: is longer than 4096 bytes"],
        ),
        (
            json!({"headers": {"x\r\ny": "1"}}),
            &["headers.x\\r\\ny: is no header name"],
        ),
    ] {
        assert_eq!(refer_errors(properties.clone()), expected, "{properties}");
    }
}

/// What a property may be.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Text of so many bytes at most; `false`: it may be empty.
    Line(usize, bool),
    Flag,
    /// Seconds up to this; `false`: 0 will do.
    Seconds(f64, bool),
    Hook,
    Headers,
    Leg,
    Object,
    Status,
}

/// Every property of every verb, but for those whose content is not looked at.
const PROPERTIES: &[(&str, &str, Kind)] = &[
    ("sip:refer", "referTo", Kind::Line(2_048, true)),
    ("sip:refer", "id", Kind::Line(255, true)),
    ("sip:refer", "referredBy", Kind::Line(2_048, true)),
    ("sip:refer", "referredByDisplayName", Kind::Line(256, false)),
    ("sip:refer", "actionHook", Kind::Hook),
    ("sip:refer", "eventHook", Kind::Hook),
    ("sip:refer", "headers", Kind::Headers),
    ("sip:refer", "leg", Kind::Leg),
    ("sip:refer", "timeout", Kind::Seconds(300.0, true)),
    ("sip:refer", "notifyTimeout", Kind::Seconds(300.0, true)),
    ("sip:refer", "responseTimeout", Kind::Seconds(32.0, true)),
    ("sip:refer", "resultTimeout", Kind::Seconds(300.0, true)),
    ("sip:refer", "retryAfterMax", Kind::Seconds(60.0, false)),
    ("sip:refer", "glareWait", Kind::Seconds(32.0, false)),
    ("sip:refer", "queueTimeout", Kind::Seconds(32.0, false)),
    ("sip:refer", "tombstone", Kind::Seconds(300.0, false)),
    ("sip:refer", "hookTimeout", Kind::Seconds(60.0, true)),
    ("sip:refer", "eventsWait", Kind::Seconds(60.0, false)),
    ("sip:refer", "byeDelay", Kind::Seconds(32.0, false)),
    ("sip:refer", "byeGrace", Kind::Seconds(32.0, false)),
    ("sip:refer", "subscription", Kind::Flag),
    ("sip:refer", "replaces", Kind::Object),
    ("sip:refer", "replaces.call", Kind::Line(2_048, true)),
    ("sip:refer", "replaces.leg", Kind::Leg),
    ("sip:refer", "replaces.earlyOnly", Kind::Flag),
    ("hangup", "id", Kind::Line(255, true)),
    ("hangup", "headers", Kind::Headers),
    ("tag", "id", Kind::Line(255, true)),
    ("tag", "data", Kind::Object),
    ("pause", "id", Kind::Line(255, true)),
    ("pause", "length", Kind::Seconds(3_600.0, false)),
    ("answer", "id", Kind::Line(255, true)),
    ("sip:decline", "id", Kind::Line(255, true)),
    ("sip:decline", "status", Kind::Status),
    ("sip:decline", "reason", Kind::Line(128, false)),
    ("sip:decline", "headers", Kind::Headers),
    ("redirect", "id", Kind::Line(255, true)),
    ("redirect", "actionHook", Kind::Hook),
    ("redirect", "statusHook", Kind::Hook),
    ("config", "id", Kind::Line(255, true)),
    ("config", "notifyEvents", Kind::Flag),
    ("config", "sipRequestWithinDialogHook", Kind::Hook),
    ("sip:request", "id", Kind::Line(255, true)),
    ("sip:request", "method", Kind::Line(64, true)),
    ("sip:request", "headers", Kind::Headers),
    ("sip:request", "actionHook", Kind::Hook),
];

impl Kind {
    /// Values that it is not.
    fn wrong(self) -> Vec<Value> {
        let text = |bytes: usize| json!("a".repeat(bytes));
        let mut wrong = vec![json!(null), json!([]), json!([1])];
        match self {
            Kind::Line(bytes_max, is_needed) => {
                wrong.extend([json!(true), json!(491), json!(-1.5), json!({}), text(bytes_max + 1)]);
                wrong.extend(["a\r\nb", "a\u{0}", "\u{7f}", "a\u{85}b"].map(Value::from));
                wrong.extend(is_needed.then(|| json!("")));
            }
            Kind::Flag => wrong.extend([json!(1), json!("true"), json!({})]),
            Kind::Seconds(most, is_some) => {
                wrong.extend([
                    json!(true),
                    json!("1"),
                    json!({}),
                    json!(-1),
                    json!(most + 0.5),
                    json!(1e300),
                ]);
                wrong.extend(is_some.then(|| json!(0)));
            }
            Kind::Hook => {
                wrong.extend([
                    json!(true),
                    json!(1),
                    json!(""),
                    json!("a b"),
                    json!("ftp://h/x"),
                    json!("/a\n"),
                    text(2_049),
                ]);
                let with = |name: &str, value: Value| json!({"url": "/a", name: value});
                wrong.extend([
                    json!({}),
                    json!({"url": 1}),
                    with("method", json!("PUT")),
                    with("method", json!(1)),
                    with("username", json!("u")),
                    with("password", json!("p")),
                    with("basicAuth", json!({"username": "u"})),
                    with("auth", json!({"username": "u", "password": "p\n"})),
                    with("auth", json!({"username": "u", "password": "p", "realm": "r"})),
                    with("usrname", json!("u")),
                ]);
            }
            Kind::Headers => {
                wrong.extend([json!(true), json!(1), json!("X: y")]);
                let names = ["", "X Y", "X:", "X\r\nY", "Via", "é"];
                wrong.extend(names.map(|name| json!({name: "v"})));
                wrong.extend(
                    [json!(null), json!(true), json!([]), json!({}), json!("a\nb")].map(|value| json!({"X-A": value})),
                );
                wrong.push(json!({"X-A": "a".repeat(4_097)}));
            }
            Kind::Leg => wrong.extend([
                json!(1),
                json!(true),
                json!({}),
                json!(""),
                json!("Caller"),
                json!("both"),
            ]),
            Kind::Object => wrong.extend([json!(true), json!(1), json!("x")]),
            Kind::Status => wrong.extend([
                json!("486"),
                json!(true),
                json!({}),
                json!(399),
                json!(700),
                json!(486.5),
                json!(-486),
            ]),
        }
        wrong
    }

    fn right(self) -> Value {
        match self {
            Kind::Line(..) => json!("INFO"),
            Kind::Flag => json!(true),
            Kind::Seconds(..) => json!(1.5),
            Kind::Hook => json!({"url": "/a", "method": "post", "referStatus": "202", "eventHook": {"event": "x"}}),
            Kind::Headers => json!({"X-A": "v", "X-B": 1}),
            Kind::Leg => json!("callee"),
            Kind::Object => json!({"call": "a@b"}),
            Kind::Status => json!(486),
        }
    }
}

/// A verb with what it must have, and one property set to this.
fn with_property(verb: &str, property: &str, value: Value) -> Value {
    let mut whole = match verb {
        "sip:refer" => json!({"referTo": "+491"}),
        "tag" => json!({"data": {}}),
        "pause" => json!({"length": 1}),
        "sip:decline" => json!({"status": 486}),
        "redirect" => json!({"actionHook": "/a"}),
        "sip:request" => json!({"method": "INFO"}),
        _ => json!({}),
    };
    whole["verb"] = json!(verb);
    match property.split_once('.') {
        Some((outer, inner)) => {
            whole[outer] = json!({"call": "a@b"});
            whole[outer][inner] = value;
        }
        None => whole[property] = value,
    }
    whole
}

#[test]
fn every_property_refuses_what_it_is_not_by_its_name_and_the_whole_list_with_it() {
    for (verb, property, kind) in PROPERTIES {
        let right = with_property(verb, property, kind.right());
        assert_eq!(errors(&right), [""; 0], "{right}");
        for value in kind.wrong() {
            let wrong = with_property(verb, property, value);
            let list = json!([{"verb": "hangup"}, wrong]);
            let found = parse(&list).err().unwrap_or_default();
            assert!(!found.is_empty(), "{wrong}");
            for error in found {
                let field = error.field.strip_prefix("[1].").unwrap_or_default();
                let is_of_it = field == *property || field.starts_with(&format!("{property}."));
                assert!(is_of_it, "{wrong}: {error}");
            }
        }
    }
}

#[test]
fn a_number_where_text_belongs_is_to_be_put_in_quotes() {
    for (verb, property, kind) in PROPERTIES {
        if let Kind::Line(..) = kind {
            let found = errors(&with_property(verb, property, json!(49_301_234)));
            assert_eq!(
                found,
                [format!("{property}: is a number, must be a string: put it in quotes")]
            );
        }
    }
}

#[test]
fn headers_that_make_the_request_are_refused_in_any_spelling() {
    for name in [
        "Via",
        "VIA",
        "v",
        "V",
        "from",
        "F",
        "to",
        "t",
        "Call-Id",
        "I",
        "cseq",
        "max-forwards",
        "route",
        "Record-Route",
        "contact",
        "m",
        "content-length",
        "L",
        "content-type",
        "C",
        "refer-to",
        "R",
        "referred-by",
        "B",
        "authorization",
        "proxy-authorization",
        "event",
        "O",
        "subscription-state",
        "refer-sub",
        "require",
        "content-encoding",
        "E",
        "session-expires",
        "X",
        "min-se",
        "allow",
        "Target-Dialog",
    ] {
        let expected = [format!("headers.{name}: is a header that referee writes itself")];
        assert_eq!(refer_errors(json!({"headers": {name: "x"}})), expected);
    }
    for name in ["X-Via", "User-to-User", "Subject", "s"] {
        assert_eq!(refer_errors(json!({"headers": {name: "x"}})), [""; 0]);
    }
}

/// What a message of ours says is well formed (RFC 3261 §25.1).
#[test]
fn a_header_that_sip_knows_has_a_value_that_it_may_have() {
    for (name, value, is_right) in [
        ("P-Asserted-Identity", "<sip:+4930123@example.com>", true),
        ("P-Asserted-Identity", "+4930123", false),
        ("Diversion", "<sip:a@example.com>;reason=no-answer", true),
        ("Diversion", "nobody", false),
        ("Content-Disposition", ";;", false),
        ("Expires", "x y", false),
        ("Reason", "Q.850;cause=16", true),
        ("Reason", ";", false),
        ("X-Anything", ";;, \"", true),
    ] {
        let errors = refer_errors(json!({"headers": {name: value}}));
        let expected = format!("headers.{name}: is malformed: ");
        assert_eq!(errors.is_empty(), is_right, "{errors:?}");
        assert!(errors.iter().all(|error| error.starts_with(&expected)), "{errors:?}");
    }
}

#[test]
fn headers_are_bounded_in_number_and_length() {
    let many = |count: usize, length: usize| {
        let headers: Map<String, Value> = (0..count)
            .map(|n| (format!("X-{n:03}"), json!("a".repeat(length))))
            .collect();
        refer_errors(json!({ "headers": headers }))
    };
    assert_eq!(many(64, 1), [""; 0]);
    assert_eq!(many(65, 1), ["headers: are 65, at most 64 are taken"]);
    assert_eq!(many(8, 4_000), [""; 0]);
    assert_eq!(many(9, 4_000), ["headers: are longer than 32768 bytes together"]);
}

#[test]
fn a_header_that_is_a_list_of_tokens_holds_one() {
    for name in ["Supported", "K", "allow-events", "u"] {
        for value in ["a,", "a b", "a;b", "\u{e9}"] {
            let errors = refer_errors(json!({"headers": {name: value}}));
            let expected = format!("headers.{name}: is malformed: ");
            assert!(
                errors.len() == 1 && errors[0].starts_with(&expected),
                "{value:?}: {errors:?}"
            );
        }
        assert!(refer_errors(json!({"headers": {name: "tdialog , norefersub"}})).is_empty());
    }
}

#[test]
fn all_mistakes_of_all_verbs_come_in_one_pass() {
    let value = json!([
        {"verb": "sip:refer", "referTo": "", "timeout": true, "headers": {"To": "x", "X-A": []}, "zzz": 1},
        {"verb": "dail"},
        {"verb": "hangup"},
    ]);
    assert_eq!(
        errors(&value),
        [
            "[0].referTo: is empty",
            "[0].timeout: is a boolean, must be a number of seconds",
            "[0].headers.To: is a header that referee writes itself",
            "[0].headers.X-A: is an array, must be a string or a number",
            "[0].zzz: is no property of this verb",
            "[1].verb: `dail` is no verb; verbs are sip:refer, hangup, tag, pause, answer, sip:decline, redirect, config, sip:request",
        ]
    );
}

#[test]
fn an_error_repeats_little_of_what_it_is_about() {
    let name = "n".repeat(100_000);
    for value in [
        json!({"verb": name}),
        json!({"verb": "hangup", &name: 1}),
        json!({"hangup": {"headers": {&name: 1}}}),
    ] {
        for error in parse(&value).err().unwrap_or_default() {
            assert!(error.to_string().len() < 300);
        }
    }
}

proptest::proptest! {
    #[test]
    fn a_damaged_example_is_refused_or_safe(
        cuts in proptest::collection::vec((0usize..600, 0usize..12, "\\PC{0,6}|[\n\"\\[\\]{},:0-9]{0,4}"), 1..4)
    ) {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for (at, length, put_in) in cuts {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, put_in.chars());
        }
        verb_json(&text.into_iter().collect::<String>());
    }

    #[test]
    fn any_party_is_refused_or_safe(
        refer_to in "\\PC{0,30}|(sip:|sips:|tel:|<sip:|\"a\" <)?[a-z0-9%@:;?=<>\"\\[\\]+.,# -]{0,25}>?",
        referred_by in "[ -~]{1,20}|\\PC{1,20}",
        display in "\\PC{0,20}",
    ) {
        let verb = json!({
            "sip:refer": {"referTo": refer_to, "referredBy": referred_by, "referredByDisplayName": display}
        });
        verb_json(&verb.to_string());
    }

    #[test]
    fn any_properties_are_refused_or_safe(
        verb in "sip:refer|hangup|tag|pause|say",
        properties in proptest::collection::vec(
            (
                "referTo|id|headers|actionHook|eventHook|leg|timeout|length|data|_|\\PC{0,5}",
                "null|true|[0-9]{1,4}|-1e9|\"\\PC{0,9}\"|\\{\\}|\\[\\]|\\{\"(url|X-A|via)\": (1|\"[a-z:/]{0,9}\")\\}",
            ),
            0..5,
        ),
    ) {
        let properties: Vec<String> = properties.iter().map(|(name, value)| format!(", {}: {value}", json!(name))).collect();
        verb_json(&format!("[{{\"verb\": \"{verb}\"{}}}]", properties.concat()));
    }
}

#[test]
fn verbs_of_applications_are_read() {
    let verbs = parse(&json!([
        {"verb": "answer", "id": "a"},
        {"sip:decline": {"status": 486, "reason": "Off Today", "headers": {"X-A": 1}}},
        {"verb": "redirect", "actionHook": "/next", "statusHook": {"url": "/told"}},
        {"verb": "config", "notifyEvents": true, "sipRequestWithinDialogHook": "/said", "synthesizer": {"vendor": "x"}, "bargeIn": 7},
        {"verb": "sip:request", "method": "INFO", "body": "a\r\nb", "headers": {"Content-Type": "text/x", "Event": "y"}},
        {"verb": "say", "id": "s", "anything": [1]},
    ]))
    .unwrap();
    let names: Vec<_> = verbs.iter().map(|verb| (verb.name(), verb.id())).collect();
    let expected = [
        ("answer", Some("a")),
        ("sip:decline", None),
        ("redirect", None),
        ("config", None),
        ("sip:request", None),
        ("say", Some("s")),
    ];
    assert_eq!(names, expected);
    assert!(
        matches!(&verbs[1], Verb::SipDecline { status: 486, reason: Some(reason), headers, .. }
        if reason == "Off Today" && headers[0] == ("X-A".to_owned(), "1".to_owned()))
    );
    assert!(
        matches!(&verbs[2], Verb::Redirect { action_hook, status_hook: Some(told), .. }
        if action_hook.url == "/next" && told.url == "/told")
    );
    assert!(matches!(
        &verbs[3],
        Verb::Config {
            notify_events: Some(true),
            request_hook: Some(hook),
            ..
        } if hook.url == "/said"
    ));
    assert!(matches!(&verbs[4], Verb::SipRequest(request) if request.method == "INFO" && request.body == "a\r\nb"));
}

#[test]
fn mistakes_in_verbs_of_applications_name_their_field() {
    let long = "x".repeat(20_000);
    for (value, expected) in [
        (
            json!({"verb": "answer", "delay": 1}),
            &["delay: is no property of this verb"][..],
        ),
        (json!({"verb": "sip:decline"}), &["status: is missing"]),
        (
            json!({"verb": "sip:decline", "status": "486"}),
            &["status: is a string, must be a number"],
        ),
        (
            json!({"verb": "sip:decline", "status": 302}),
            &["status: is 302, must be 400 to 699"],
        ),
        (
            json!({"verb": "sip:decline", "status": 486.5}),
            &["status: is 486.5, must be 400 to 699"],
        ),
        (
            json!({"verb": "sip:decline", "status": 486, "reason": "a\r\nb", "headers": {"Contact": "x"}}),
            &[
                "reason: holds line breaks or other control characters",
                "headers.Contact: is a header that referee writes itself",
            ],
        ),
        (json!({"verb": "redirect"}), &["actionHook: is missing"]),
        (
            json!({"verb": "redirect", "actionHook": 7}),
            &["actionHook: is a number, must be a URL or an object with a `url`"],
        ),
        (
            json!({"verb": "config", "notifyEvents": "yes"}),
            &["notifyEvents: is a string, must be true or false"],
        ),
        (json!({"verb": "sip:request"}), &["method: is missing"]),
        (
            json!({"verb": "sip:request", "method": "IN FO"}),
            &["method: is no method"],
        ),
        (
            json!({"verb": "sip:request", "method": "bye"}),
            &["method: is a method that referee sends itself where the call needs it"],
        ),
        (
            json!({"verb": "sip:request", "method": "INFO", "body": long, "headers": {"Via": "x"}}),
            &[
                "body: is longer than 16384 bytes",
                "headers.Via: is a header that referee writes itself",
            ],
        ),
        (
            json!({"verb": "sip:request", "method": "INFO", "body": {}}),
            &["body: is an object, must be a string"],
        ),
    ] {
        assert_eq!(errors(&value), expected, "{value}");
    }
}
