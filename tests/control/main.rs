//! The control API over real sockets, before shards that the test plays itself.

#![cfg(feature = "io")]
#![expect(
    clippy::disallowed_methods,
    reason = "the client of a socket test needs sockets and threads"
)]

mod rig;
mod shown;
mod stream;

use referee::command::{AddressView, CallSelector, Command, Refusal, Reply, TrunkView};
use referee::identifiers::{CallId, TransferId};
use referee::verb::{Leg, Verb};
use rig::{JSON, Rig, accepted, call_view, refused, request, transfer_view};
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;
use std::thread;

#[test]
fn a_call_is_found_by_id_and_by_any_call_id() {
    let rig = Rig::start();
    let id = CallId { shard: 1, number: 7 };
    let by_id = (1, CallSelector::Id(id));
    let by_call_id = |text: &str| (0, CallSelector::SipCallId(text.as_bytes().to_vec()));
    for (path, (shard, call)) in [
        (format!("/v1/calls/{id}"), by_id),
        ("/v1/calls/abc@host".to_owned(), by_call_id("abc@host")),
        ("/v1/calls/a%2Fb%25c%40d+e".to_owned(), by_call_id("a/b%c@d+e")),
        ("/v1/calls/call-1".to_owned(), by_call_id("call-1")),
        ("/v1/calls/%C3%A4".to_owned(), by_call_id("ä")),
    ] {
        let answer = rig.ask("GET", &path, &[], "");
        let asked = rig.asked();
        assert_eq!(asked.shard, shard, "{path}");
        assert!(
            matches!(&asked.command, Command::Call { call: asked } if *asked == call),
            "{path}: {asked:?}"
        );
        asked.answer(Reply::Call(Box::new(call_view("call-x"))));
        let answer = answer.join().unwrap();
        assert_eq!((answer.status, &answer.json()["id"]), (200, &json!("call-x")));
        assert_eq!(answer.json().get("transfer"), None);
    }
}

#[test]
fn verbs_are_taken_with_202_and_the_ids() {
    let rig = Rig::start();
    for (body, ids) in [
        (json!({"verb": "sip:refer", "referTo": "+491"}), true),
        (json!([{"verb": "hangup"}]), false),
    ] {
        let answer = rig.ask("POST", "/v1/calls/abc/verbs", JSON, &body.to_string());
        let asked = rig.asked();
        let Command::Verbs {
            verbs, dry_run: false, ..
        } = &asked.command
        else {
            panic!("{asked:?}")
        };
        assert_eq!(verbs.len(), 1);
        let (call, transfer) = (CallId { shard: 0, number: 1 }, TransferId { shard: 0, number: 2 });
        asked.answer(Reply::Accepted {
            call,
            transfer: ids.then_some(transfer),
        });
        let expected = match ids {
            true => json!({"call": call.to_string(), "transfer": transfer.to_string()}),
            false => json!({"call": call.to_string()}),
        };
        let answer = answer.join().unwrap();
        assert_eq!((answer.status, answer.json()), (202, expected));
        assert_eq!(answer.header("content-type"), "application/json");
    }
}

#[test]
fn the_short_form_refers_a_leg() {
    let rig = Rig::start();
    let body = json!({"target_uri": "sip:a@example.com", "leg": "callee"}).to_string();
    let answer = rig.ask("POST", "/v1/calls/abc/refer", JSON, &body);
    let asked = rig.asked();
    let Command::Verbs { verbs, .. } = &asked.command else {
        panic!("{asked:?}")
    };
    let [Verb::SipRefer(refer)] = &verbs[..] else {
        panic!("{verbs:?}")
    };
    assert_eq!(
        (refer.refer_to.as_deref(), refer.leg),
        (Some("sip:a@example.com"), Some(Leg::Callee))
    );
    asked.answer(accepted(1));
    assert_eq!(answer.join().unwrap().status, 202);

    for (body, field) in [
        (json!({"target_uri": 1}), "target_uri"),
        (json!({"leg": "caller"}), "target_uri"),
        (json!({"target_uri": "+49", "leg": "both"}), "leg"),
        (json!({"target_uri": "+49", "headers": {}}), "headers"),
    ] {
        let answer = rig.get("POST", "/v1/calls/abc/refer", JSON, &body.to_string());
        answer.is_problem(422, "invalid");
        assert_eq!(answer.json()["field"], field, "{body}");
    }
}

#[test]
fn a_dry_run_shows_the_message() {
    let rig = Rig::start();
    let body = json!({"verb": "sip:refer", "referTo": "+491", "id": "x"}).to_string();
    for _ in 0..2 {
        let answer = rig.ask("POST", "/v1/calls/abc/verbs?dry_run=true", JSON, &body);
        let asked = rig.asked();
        assert!(
            matches!(asked.command, Command::Verbs { dry_run: true, .. }),
            "{asked:?}"
        );
        asked.answer(Reply::WouldSend {
            message: "REFER sip:a SIP/2.0\r\n".to_owned(),
        });
        let answer = answer.join().unwrap();
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"message": "REFER sip:a SIP/2.0\r\n"}))
        );
    }
    let answer = rig.get("POST", "/v1/calls/abc/verbs?dry_run=perhaps", JSON, &body);
    answer.is_problem(400, "invalid");
}

#[test]
fn a_repeat_with_the_same_key_executes_nothing() {
    let id = CallId { shard: 0, number: 1 };
    let by_id = format!("/v1/calls/{id}/verbs");
    let with_id = json!([{"verb": "tag", "data": {}, "id": "t"}, {"verb": "sip:refer", "referTo": "+491", "id": "r"}]);
    let key = &[("Content-Type", "application/json"), ("Idempotency-Key", "k1")][..];
    for (headers, body) in [(JSON, with_id), (key, json!({"verb": "sip:refer", "referTo": "+491"}))] {
        let rig = Rig::start();
        let first = rig.ask("POST", &by_id, headers, &body.to_string());
        rig.asked().answer(accepted(5));
        let first = first.join().unwrap();
        assert_eq!(first.status, 202);
        let spaced = serde_json::to_string_pretty(&body).unwrap();
        let second = rig.get("POST", &by_id, headers, &spaced);
        assert_eq!((second.status, second.json()), (202, first.json()));

        // By its other name it is still the same call.
        let by_name = rig.ask("POST", "/v1/calls/abc/verbs", headers, &body.to_string());
        let asked = rig.asked();
        assert!(matches!(asked.command, Command::Call { .. }), "{asked:?}");
        asked.answer(Reply::Call(Box::new(call_view(&id.to_string()))));
        assert_eq!(by_name.join().unwrap().json(), first.json());
        // From now on without asking: the call may have ended.
        assert_eq!(
            rig.get("POST", "/v1/calls/abc/verbs", headers, &body.to_string())
                .json(),
            first.json()
        );

        let mut other = body.clone();
        match other.as_array_mut() {
            Some(verbs) => verbs[1]["referTo"] = json!("+492"),
            None => other["referTo"] = json!("+492"),
        }
        rig.get("POST", &by_id, headers, &other.to_string())
            .is_problem(422, "key_reused");

        let elsewhere = format!("/v1/calls/{}/verbs", CallId { shard: 0, number: 2 });
        let elsewhere = rig.ask("POST", &elsewhere, headers, &body.to_string());
        rig.asked().answer(accepted(6));
        assert_eq!(elsewhere.join().unwrap().status, 202);
        rig.asks_nothing();
    }
}

#[test]
fn a_repeat_during_the_first_waits_for_its_answer() {
    let rig = Rig::start();
    let path = format!("/v1/calls/{}/verbs", CallId { shard: 0, number: 1 });
    let body = json!({"verb": "sip:refer", "referTo": "+491", "id": "r"}).to_string();
    let first = rig.ask("POST", &path, JSON, &body);
    let asked = rig.asked();
    let second = rig.ask("POST", &path, JSON, &body);
    // This one passes through after the second was read: the runtime has one thread.
    rig.get("GET", "/livez", &[], "");
    asked.answer(accepted(5));
    let (first, second) = (first.join().unwrap(), second.join().unwrap());
    assert_eq!((first.status, first.json()), (second.status, second.json()));
    rig.asks_nothing();
}

#[test]
fn a_client_that_hangs_up_still_finds_its_answer() {
    let rig = Rig::start();
    let path = format!("/v1/calls/{}/verbs", CallId { shard: 0, number: 1 });
    let body = json!({"verb": "sip:refer", "referTo": "+491", "id": "r"}).to_string();
    let mut impatient = TcpStream::connect(rig.control.address()).unwrap();
    impatient
        .write_all(request("POST", &path, JSON, &body).as_bytes())
        .unwrap();
    let asked = rig.asked();
    drop(impatient);
    rig.get("GET", "/livez", &[], "");
    asked.answer(accepted(5));
    let transfer = TransferId { shard: 0, number: 5 };
    let repeat = rig.get("POST", &path, JSON, &body);
    assert_eq!(repeat.json()["transfer"], transfer.to_string());
    rig.asks_nothing();
}

#[test]
fn what_was_refused_may_be_asked_again() {
    let rig = Rig::start();
    let path = format!("/v1/calls/{}/verbs", CallId { shard: 0, number: 1 });
    let body = json!({"verb": "sip:refer", "referTo": "+491", "id": "r"}).to_string();
    let first = rig.ask("POST", &path, JSON, &body);
    rig.asked().answer(refused(409, "busy"));
    first.join().unwrap().is_problem(409, "busy");
    let other = json!({"verb": "sip:refer", "referTo": "+492", "id": "r"}).to_string();
    let second = rig.ask("POST", &path, JSON, &other);
    rig.asked().answer(accepted(5));
    assert_eq!(second.join().unwrap().status, 202);
}

#[test]
fn refusals_of_a_shard_are_problems() {
    let rig = Rig::start();
    let answer = rig.ask("DELETE", "/v1/calls/abc", &[], "");
    let asked = rig.asked();
    assert!(matches!(asked.command, Command::Hangup { .. }));
    asked.answer(Reply::Refused(Refusal {
        status: 409,
        code: "ambiguous",
        field: Some("call".to_owned()),
        detail: "Two calls have this Call-ID.".to_owned(),
    }));
    let answer = answer.join().unwrap();
    answer.is_problem(409, "ambiguous");
    let expected = json!({
        "type": "about:blank", "title": "Conflict", "status": 409, "code": "ambiguous",
        "detail": "Two calls have this Call-ID.", "field": "call",
    });
    assert_eq!(answer.json(), expected);

    let answer = rig.ask("DELETE", "/v1/calls/abc", &[], "");
    rig.asked().answer(Reply::Done);
    let answer = answer.join().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
}

#[test]
fn calls_are_listed_over_all_shards_page_by_page() {
    let rig = Rig::start();
    let mut pages = Vec::new();
    let mut cursor = String::new();
    // Shard 0 has three calls in slots 4, 5 and 9, shard 1 has one.
    for (steps, names) in [
        (vec![(0, None, 2, vec!["a", "b"], Some(5))], vec!["a", "b"]),
        (
            vec![(0, Some(5), 2, vec!["c"], None), (1, None, 1, vec!["d"], None)],
            vec!["c", "d"],
        ),
    ] {
        let answer = rig.ask("GET", &format!("/v1/calls?limit=2{cursor}"), &[], "");
        for (shard, after, limit, calls, next) in steps {
            let asked = rig.asked();
            assert_eq!(asked.shard, shard);
            let Command::Calls { after: a, limit: l } = asked.command else {
                panic!("{asked:?}")
            };
            assert_eq!((a, l), (after, limit));
            let calls = calls.into_iter().map(call_view).collect();
            asked.answer(Reply::Calls { calls, next });
        }
        let page = answer.join().unwrap().json();
        let ids: Vec<_> = page["calls"]
            .as_array()
            .unwrap()
            .iter()
            .map(|call| call["id"].clone())
            .collect();
        assert_eq!(ids, names);
        if let Some(next) = page["next"].as_str() {
            cursor = format!("&cursor={next}");
        }
        pages.push(page["next"].is_null());
    }
    assert_eq!(pages, [false, true]);
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=nonsense"] {
        rig.get("GET", &format!("/v1/calls?{query}"), &[], "")
            .is_problem(400, "invalid");
    }
}

#[test]
fn transfers_of_all_shards_come_newest_first() {
    let rig = Rig::start();
    let answer = rig.ask("GET", "/v1/transfers?limit=3", &[], "");
    for (shard, created) in [(0, [50, 10]), (1, [40, 30])] {
        let asked = rig.asked();
        assert!(matches!(asked.command, Command::Transfers { limit: 3 }), "{asked:?}");
        assert_eq!(asked.shard, shard);
        asked.answer(Reply::Transfers(created.map(transfer_view).into()));
    }
    let answer = answer.join().unwrap().json();
    let created: Vec<_> = answer["transfers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["created_at"].clone())
        .collect();
    assert_eq!(created, [50, 40, 30]);

    let id = TransferId { shard: 1, number: 3 };
    let answer = rig.ask("GET", &format!("/v1/transfers/{id}"), &[], "");
    let asked = rig.asked();
    assert_eq!(asked.shard, 1);
    assert!(
        matches!(asked.command, Command::Transfer { id: asked } if asked == id),
        "{asked:?}"
    );
    asked.answer(Reply::Transfer(Box::new(transfer_view(7))));
    assert_eq!(answer.join().unwrap().json()["created_at"], 7);
}

#[test]
fn what_is_not_there_is_404_without_asking() {
    let rig = Rig::start();
    let (call, transfer) = (CallId { shard: 9, number: 1 }, TransferId { shard: 9, number: 1 });
    for path in [
        format!("/v1/calls/{call}"),
        format!("/v1/transfers/{transfer}"),
        "/v1/transfers/x".to_owned(),
        "/v1/calls/".to_owned(),
        "/v1/calls/a/b".to_owned(),
        "/nowhere".to_owned(),
    ] {
        rig.get("GET", &path, &[], "").is_problem(404, "not_found");
    }
    rig.get("GET", "/v1/calls/%FF", &[], "").is_problem(400, "malformed");
    rig.asks_nothing();
}

#[test]
fn a_wrong_method_is_told_the_right_one() {
    let rig = Rig::start();
    for (method, path, allowed) in [
        ("PUT", "/v1/calls/abc", "GET,HEAD,DELETE"),
        ("GET", "/v1/calls/abc/verbs", "POST"),
        ("POST", "/livez", "GET,HEAD"),
    ] {
        let answer = rig.get(method, path, &[], "");
        answer.is_problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), allowed, "{method} {path}");
    }
}

#[test]
fn bad_bodies_are_named() {
    let rig = Rig::start();
    let verbs = |headers: &[(&str, &str)], body: &str| rig.get("POST", "/v1/calls/abc/verbs", headers, body);
    let answer = verbs(JSON, "[\n  {\"verb\": }\n]");
    answer.is_problem(400, "malformed");
    assert_eq!(
        (&answer.json()["line"], &answer.json()["column"]),
        (&json!(2), &json!(12))
    );
    for number in ["+4930123", "004930123", "  +49"] {
        let answer = verbs(JSON, &format!("{{\n\"verb\": \"sip:refer\", \"referTo\": {number}}}"));
        answer.is_problem(400, "malformed");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.ends_with("A telephone number must be in quotes."), "{detail}");
    }
    let answer = verbs(JSON, "{\"verb\": \"sip:refer\", \"referTo\": 4930123}");
    assert_eq!(
        answer.json()["errors"][0]["message"],
        "is a number, must be a string: put it in quotes"
    );
    verbs(JSON, "").is_problem(400, "malformed");
    verbs(JSON, &format!("\"{}\"", "x".repeat(70_000))).is_problem(413, "too_large");
    verbs(JSON, &"[".repeat(10_000)).is_problem(400, "malformed");
    verbs(&[("Content-Type", "text/plain")], "{}").is_problem(415, "unsupported_media_type");
    verbs(&[], "{}").is_problem(415, "unsupported_media_type");

    let body = r#"[{"verb":"hangup"},{"verb":"sip:refer","referTo":1},{"verb":"sip:refer"}]"#;
    let answer = verbs(JSON, body);
    answer.is_problem(422, "invalid");
    let errors = answer.json()["errors"].clone();
    let fields: Vec<_> = errors.as_array().unwrap().iter().map(|error| &error["field"]).collect();
    assert_eq!(fields, ["[1].referTo", "[2].referTo"]);
    assert!(errors[0]["message"].is_string());
    assert_eq!(answer.json()["field"], "[1].referTo");

    let long = "k".repeat(256);
    let headers = [JSON[0], ("Idempotency-Key", &long)];
    verbs(&headers, r#"{"verb":"hangup"}"#).is_problem(400, "invalid");
    rig.asks_nothing();
}

#[test]
fn a_token_is_asked_for_when_there_is_one() {
    let rig = Rig::with_token(Some("s3cret"));
    for headers in [&[][..], &[("Authorization", "Bearer wrong")]] {
        for path in ["/v1/calls", "/metrics", "/nowhere"] {
            let answer = rig.get("GET", path, headers, "");
            answer.is_problem(401, "unauthorized");
            assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"referee\"");
        }
    }
    let token = &[("Authorization", "Bearer s3cret")];
    assert_eq!(rig.get("GET", "/metrics", token, "").status, 200);
    assert_eq!(rig.get("GET", "/livez", &[], "").status, 200);
    rig.asks_nothing();
}

#[test]
fn a_web_page_under_another_name_gets_nothing() {
    let rig = Rig::start();
    let answer = rig.get("GET", "/v1/calls", &[("Host", "evil.example")], "");
    answer.is_problem(421, "misdirected");
    rig.asks_nothing();
}

#[test]
fn probes_tell_the_phase() {
    let rig = Rig::start();
    rig.get("GET", "/readyz", &[], "").is_problem(503, "starting");
    rig.control.set_ready();
    assert_eq!(rig.get("GET", "/readyz", &[], "").status, 200);
    rig.control.set_draining();
    rig.control.set_ready();
    let answer = rig.get("GET", "/readyz", &[], "");
    answer.is_problem(503, "draining");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(rig.get("GET", "/livez", &[], "").status, 200);
}

#[test]
fn trunks_are_shown_as_any_shard_knows_them() {
    let rig = Rig::start();
    let answer = rig.ask("GET", "/v1/trunks", &[], "");
    let asked = rig.asked();
    assert!(matches!(asked.command, Command::Trunks), "{asked:?}");
    let trunk = TrunkView {
        name: "carrier".into(),
        side: Some("carrier"),
        calls: 3,
        calls_max: Some(30),
        calls_per_second_max: None,
        refer: "unsupported",
        addresses: vec![AddressView {
            address: "udp:192.0.2.1:5060".into(),
            state: "dead",
            since: 5,
            probed_at: Some(7),
            probe_result: Some("timeout".into()),
            round_trip_ms: None,
            retry_after_until: Some(9),
        }],
    };
    asked.answer(Reply::Trunks(vec![trunk]));
    let answer = answer.join().unwrap();
    let address = json!({
        "address": "udp:192.0.2.1:5060", "state": "dead", "since": 5, "probed_at": 7, "probe_result": "timeout",
        "retry_after_until": 9,
    });
    let trunk = json!({"name": "carrier", "side": "carrier", "calls": 3, "calls_max": 30, "refer": "unsupported", "addresses": [address]});
    assert_eq!((answer.status, answer.json()), (200, json!({"trunks": [trunk]})));
    rig.ask("POST", "/v1/trunks", JSON, "{}")
        .join()
        .unwrap()
        .is_problem(405, "method_not_allowed");
    rig.asks_nothing();
}

#[test]
fn metrics_are_shown_as_given() {
    let rig = Rig::start();
    let answer = rig.get("GET", "/metrics", &[], "");
    assert_eq!(answer.status, 200);
    // Those of the control API itself follow.
    assert!(answer.body.starts_with("referee_up 1\n#"), "{}", answer.body);
    assert_eq!(
        answer.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
}

#[test]
fn a_shard_that_is_full_or_silent_is_503() {
    let rig = Rig::start();
    // In shard 0 of two; the rig's shard 1 refuses while this is set.
    *rig.full.lock().unwrap() = true;
    let path = format!("/v1/calls/{}", CallId { shard: 1, number: 1 });
    let answer = rig.get("GET", &path, &[], "");
    answer.is_problem(503, "busy");
    assert_eq!(answer.header("retry-after"), "1");
    let metrics = rig.get("GET", "/metrics", &[], "").body;
    assert!(metrics.contains("\nreferee_control_busy_total 1\n"), "{metrics}");
    let answer = rig.ask("GET", "/v1/calls/abc", &[], "");
    let unanswered = rig.asked();
    answer.join().unwrap().is_problem(503, "timeout");
    // Too late, and nobody minds.
    unanswered.answer(Reply::Done);
}

#[test]
fn stopping_answers_what_was_asked() {
    let rig = Rig::start();
    let answer = rig.ask("GET", "/v1/calls/abc", &[], "");
    let asked = rig.asked();
    let control = rig.control;
    let stopped = thread::spawn(move || control.stop());
    asked.answer(Reply::Call(Box::new(call_view("x"))));
    assert_eq!(answer.join().unwrap().status, 200);
    stopped.join().unwrap();
}
