//! Ladders, the page and the description; calls changed as applications of jambonz do; the manners of HTTP.

use crate::rig::{JSON, Rig, refused};
use referee::command::{
    CallSelector, CallView, Command, LadderOf, LadderView, LeftOutView, MessageView, Reply, Update,
};
use referee::identifiers::TransferId;
use serde_json::{Value, json};

fn ladder() -> Reply {
    let message = |from, to, label: &str| MessageView {
        at: 1.5,
        from,
        to,
        kind: "request",
        method: Some("REFER".to_owned()),
        cseq: Some(1),
        status: None,
        repeat: false,
        label: label.to_owned(),
    };
    Reply::Ladder(Box::new(LadderView {
        call_id: "abc".to_owned(),
        parties: ["carrier", "referee", "platform"].map(str::to_owned).into(),
        started_at: 1,
        messages: vec![message(0, 1, "INVITE #1"), message(1, 0, "</svg><REFER\u{1b}")],
        left_out: Some(LeftOutView { before: 1, count: 7 }),
    }))
}

#[test]
fn a_ladder_comes_as_the_client_likes_it() {
    let rig = Rig::start();
    let transfer = TransferId { shard: 1, number: 3 };
    for (path, shard) in [
        ("/v1/calls/abc/ladder".to_owned(), 0),
        (format!("/v1/transfers/{transfer}/ladder"), 1),
    ] {
        for (query, accept, content_type, part) in [
            ("", "*/*", "text/plain; charset=utf-8", "7 messages left out"),
            ("", "text/plain", "text/plain; charset=utf-8", "─ INVITE #1 ─"),
            ("", "image/svg+xml", "image/svg+xml", "&lt;/svg&gt;&lt;REFER?"),
            (
                "",
                "application/json",
                "application/json",
                "\"left_out\":{\"before\":1,\"count\":7}",
            ),
            ("?format=svg", "text/plain", "image/svg+xml", "<svg "),
            ("?format=json", "text/html", "application/json", "\"method\":\"REFER\""),
            ("?format=text", "text/html", "text/plain; charset=utf-8", "referee"),
        ] {
            let answer = rig.ask("GET", &format!("{path}{query}"), &[("Accept", accept)], "");
            let asked = rig.asked();
            let of = match &asked.command {
                Command::Ladder { of } => of,
                other => panic!("{other:?}"),
            };
            match of {
                LadderOf::Call(CallSelector::SipCallId(call)) => {
                    assert_eq!((asked.shard, &call[..]), (shard, &b"abc"[..]))
                }
                LadderOf::Transfer(id) => assert_eq!((asked.shard, *id), (shard, transfer)),
                LadderOf::Call(CallSelector::Id(_)) => panic!("{of:?}"),
            }
            asked.answer(ladder());
            let answer = answer.join().unwrap();
            assert_eq!(
                (answer.status, answer.header("content-type")),
                (200, content_type),
                "{path}{query}"
            );
            assert!(answer.body.contains(part), "{}", answer.body);
            assert_eq!(answer.header("content-security-policy"), "default-src 'none'; sandbox");
            assert_eq!(
                (answer.header("vary"), answer.header("x-content-type-options")),
                ("accept", "nosniff")
            );
        }
        rig.get("GET", &path, &[("Accept", "text/html")], "")
            .is_problem(406, "not_acceptable");
        rig.get("GET", &format!("{path}?format=png"), &[], "")
            .is_problem(400, "invalid");
        let answer = rig.ask("GET", &path, &[], "");
        rig.asked().answer(refused(404, "not_kept"));
        answer.join().unwrap().is_problem(404, "not_kept");
    }
    rig.get("GET", "/v1/transfers/x/ladder", &[], "")
        .is_problem(404, "not_found");
    rig.asks_nothing();
}

#[test]
fn a_call_is_changed_in_the_form_of_jambonz() {
    let rig = Rig::start();
    let path = "/v1/Accounts/9351f46a-678c-43f5-b8a6-d4eb58d131af/Calls/a%40b";
    for method in ["PUT", "POST"] {
        for (body, expected) in [
            (json!({"call_status": "completed"}), "Completed"),
            (json!({"call_status": "no-answer"}), "NoAnswer"),
            (json!({"call_hook": "/next"}), "/next"),
            (
                json!({"call_hook": {"url": "https://app.example.com/n", "basicAuth": {"username": "u", "password": "p"}}}),
                "https://app.example.com/n",
            ),
        ] {
            let answer = rig.ask(method, path, JSON, &body.to_string());
            let asked = rig.asked();
            let Command::Update {
                call: CallSelector::SipCallId(call),
                update,
            } = &asked.command
            else {
                panic!("{asked:?}")
            };
            assert_eq!(call, b"a@b");
            let text = match update {
                Update::Completed => "Completed",
                Update::NoAnswer => "NoAnswer",
                Update::Hook(target) => &target.url,
            };
            assert_eq!(text, expected);
            asked.answer(Reply::Done);
            let answer = answer.join().unwrap();
            assert_eq!((answer.status, answer.body.as_str()), (202, ""));
        }
    }
    let answer = rig.ask("PUT", path, JSON, r#"{"call_status": "completed"}"#);
    rig.asked().answer(refused(422, "ended"));
    answer.join().unwrap().is_problem(422, "ended");
    for (body, status, code, field) in [
        (json!([]), 400, "invalid", json!(null)),
        (json!({}), 400, "invalid", json!("call_hook")),
        (json!({"call_status": "busy"}), 400, "invalid", json!("call_status")),
        (json!({"call_status": 1}), 400, "invalid", json!("call_status")),
        (
            json!({"call_hook": "/a", "call_status": "completed"}),
            400,
            "invalid",
            json!("call_status"),
        ),
        (json!({"call_hok": "/a"}), 400, "invalid", json!("call_hok")),
        (json!({"call_hook": 1}), 422, "invalid", json!("call_hook")),
        (json!({"call_hook": ""}), 422, "invalid", json!("call_hook")),
        (
            json!({"call_hook": {"url": "ws://h/x"}}),
            422,
            "invalid",
            json!("call_hook.url"),
        ),
        (json!({"mute_status": "mute"}), 422, "unsupported", json!("mute_status")),
        (
            json!({"call_status": "completed", "whisper": {}}),
            422,
            "unsupported",
            json!("whisper"),
        ),
    ] {
        let answer = rig.get("PUT", path, JSON, &body.to_string());
        answer.is_problem(status, code);
        assert_eq!(answer.json().get("field").cloned().unwrap_or_default(), field, "{body}");
    }
    rig.get("PUT", path, &[], "{}")
        .is_problem(415, "unsupported_media_type");
    rig.asks_nothing();
}

#[test]
fn the_page_and_the_description_come_without_a_token_and_hold_nothing_of_a_call() {
    let rig = Rig::with_token(Some("s3cret"));
    let page = rig.get("GET", "/", &[], "");
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy");
    for part in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "connect-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    let description = rig.get("GET", "/openapi.json", &[], "");
    assert_eq!(
        (description.status, description.header("content-type")),
        (200, "application/json")
    );
    rig.asks_nothing();
}

/// Whatever the description names is there, under these methods and no others.
#[test]
fn every_path_of_the_description_is_there_with_its_methods() {
    let rig = Rig::with_token(Some("s3cret"));
    let token = &[("Authorization", "Bearer s3cret")];
    let description = rig.get("GET", "/openapi.json", &[], "").json();
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() > 15);
    for (path, operations) in paths {
        let path = path
            .replace("{call}", "abc")
            .replace("{transfer}", "x")
            .replace("{account}", "a");
        let mut described: Vec<String> = operations
            .as_object()
            .unwrap()
            .keys()
            .map(|name| name.to_uppercase())
            .collect();
        if described.contains(&"GET".to_owned()) {
            described.push("HEAD".to_owned());
        }
        described.sort();
        let options = rig.get("OPTIONS", &path, token, "");
        assert_eq!((options.status, options.body.as_str()), (204, ""), "{path}");
        let mut allowed: Vec<&str> = options.header("allow").split(',').collect();
        allowed.sort_unstable();
        assert_eq!(allowed, described, "{path}");
        let other = rig.get("PATCH", &path, token, "");
        other.is_problem(405, "method_not_allowed");
        assert_eq!(other.header("allow"), options.header("allow"));
    }
    rig.get("OPTIONS", "/nowhere", token, "").is_problem(404, "not_found");
    rig.asks_nothing();
}

#[test]
fn head_has_the_head_and_no_body() {
    let rig = Rig::start();
    for path in ["/", "/openapi.json", "/metrics", "/livez"] {
        let answer = rig.head(path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("content-length").parse::<usize>().unwrap() > 0, "{path}");
    }
    assert_eq!(rig.head("/nowhere").status, 404);
}

#[test]
fn parameters_that_are_not_known_or_come_twice_are_named() {
    let rig = Rig::start();
    for (path, field) in [
        ("/v1/calls?limt=1", "limt"),
        ("/v1/calls?limit=1&limit=2", "limit"),
        ("/v1/calls?limit=%2B1", "limit"),
        ("/v1/calls?limit=-1", "limit"),
        ("/v1/transfers?cursor=0-", "cursor"),
        ("/v1/calls/abc/ladder?formt=svg", "formt"),
        ("/v1/events?call=", "call"),
    ] {
        let answer = rig.get("GET", path, &[], "");
        answer.is_problem(400, "invalid");
        assert_eq!(answer.json()["field"], field, "{path}");
    }
    let answer = rig.get("POST", "/v1/calls/abc/verbs?dryrun=true", JSON, r#"{"verb":"hangup"}"#);
    answer.is_problem(400, "invalid");
    let detail: Value = answer.json()["detail"].clone();
    assert_eq!(detail, "`dryrun` is no parameter of this path; did you mean `dry_run`?");
    rig.asks_nothing();
}

/// What a query that is not understood was to say is not guessed: a DELETE is no dry run.
#[test]
fn parameters_that_a_path_does_not_know_are_refused() {
    let rig = Rig::start();
    for (method, path, body) in [
        ("DELETE", "/v1/calls/abc?dry_run=true", ""),
        ("GET", "/v1/calls/abc?x=1", ""),
        ("GET", "/v1/transfers/transfer-00000000000000000000?x=1", ""),
        ("GET", "/v1/trunks?limit=3", ""),
        (
            "PUT",
            "/v1/Accounts/a/Calls/b?dry_run=true",
            r#"{"call_status": "completed"}"#,
        ),
    ] {
        rig.get(method, path, JSON, body).is_problem(400, "invalid");
    }
    rig.asks_nothing();
}

#[test]
fn calls_are_described_as_they_are_shown() {
    let rig = Rig::start();
    let description = rig.get("GET", "/openapi.json", &[], "").json();
    let schemas = &description["components"]["schemas"];
    let of_event = &schemas["Event"]["oneOf"][0];
    let mut view = CallView {
        id: "call-0".into(),
        call_id: "a".into(),
        state: "trying",
        from: "b".into(),
        to: "c".into(),
        from_trunk: "d".into(),
        to_trunk: Some("e".into()),
        application: None,
        created_at: 1,
        answered_at: Some(2),
        transfer: Some("t".into()),
        customer_data: serde_json::Map::new(),
    };
    for _ in 0..2 {
        let shown = json!(view);
        let shown = shown.as_object().unwrap();
        for (schema, besides) in [(&schemas["Call"], &[][..]), (of_event, &["type", "at"][..])] {
            for name in shown.keys() {
                assert!(schema["properties"].get(name).is_some(), "{name} is not described");
            }
            for required in schema["required"].as_array().unwrap() {
                let name = required.as_str().unwrap();
                assert!(
                    shown.contains_key(name) || besides.contains(&name),
                    "{name} is not always there"
                );
            }
        }
        // As an application leads it.
        (view.to_trunk, view.application, view.answered_at, view.transfer) = (None, Some("ivr".into()), None, None);
    }
}

#[test]
fn a_token_may_have_any_letters() {
    let rig = Rig::with_token(Some("pässwort"));
    let token = |token: &'static str| rig.get("GET", "/metrics", &[("Authorization", token)], "").status;
    assert_eq!(token("Bearer pässwort"), 200);
    assert_eq!(token("Bearer passwort"), 401);
}
