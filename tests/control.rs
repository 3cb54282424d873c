//! The control API over real sockets, before shards that the test plays itself.

#![cfg(feature = "io")]
#![expect(
    clippy::disallowed_methods,
    reason = "the client of a socket test needs sockets and threads"
)]

use referee::command::{AddressView, CallSelector, CallView, Command, Refusal, Reply, TransferView, TrunkView};
use referee::config;
use referee::identifiers::{CallId, TransferId};
use referee::io::control::{Busy, Control, Replies, Shards};
use referee::verb::{Leg, Verb};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

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
    let trunk = json!({"name": "carrier", "side": "carrier", "calls": 3, "calls_max": 30, "addresses": [address]});
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
    assert_eq!((answer.status, answer.body.as_str()), (200, "referee_up 1\n"));
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

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn accepted(transfer: u64) -> Reply {
    Reply::Accepted {
        call: CallId { shard: 0, number: 1 },
        transfer: Some(TransferId {
            shard: 0,
            number: transfer,
        }),
    }
}

fn refused(status: u16, code: &'static str) -> Reply {
    Reply::Refused(Refusal {
        status,
        code,
        field: None,
        detail: "No.".to_owned(),
    })
}

fn call_view(id: &str) -> CallView {
    CallView {
        id: id.to_owned(),
        call_id: "abc".to_owned(),
        state: "in-progress",
        from: "sip:a@x".to_owned(),
        to: "sip:b@x".to_owned(),
        from_trunk: "carrier".to_owned(),
        to_trunk: "platform".to_owned(),
        created_at: 1,
        answered_at: Some(2),
        transfer: None,
        customer_data: serde_json::Map::new(),
    }
}

fn transfer_view(created_at: u64) -> TransferView {
    TransferView {
        id: "transfer-x".to_owned(),
        call: "call-x".to_owned(),
        call_id: "abc".to_owned(),
        state: "done",
        verb_id: None,
        refer_to: "sip:c@x".to_owned(),
        referred_by: "sip:a@x".to_owned(),
        refer_status: Some(202),
        final_referred_call_status: Some(200),
        refer_result: Some("success"),
        refer_cause: Some("notify_final"),
        events: vec![100, 180, 200],
        late_status: None,
        created_at,
        ended_at: None,
    }
}

/// Two shards played by the test, and the API before them.
struct Rig {
    control: Control,
    asked: Receiver<Asked>,
    full: Arc<Mutex<bool>>,
}

/// A command that reached a shard.
struct Asked {
    shard: u16,
    ticket: u64,
    command: Command,
    replies: Replies,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "shard {}: {:?}", self.shard, self.command)
    }
}

impl Asked {
    fn answer(&self, reply: Reply) {
        self.replies.reply(self.ticket, reply);
    }
}

struct Played {
    asked: Mutex<Sender<Asked>>,
    replies: Replies,
    full: Arc<Mutex<bool>>,
}

impl Shards for Played {
    fn count(&self) -> u16 {
        2
    }

    fn owner(&self, _: &[u8]) -> u16 {
        0
    }

    fn send(&self, shard: u16, ticket: u64, command: Command) -> Result<(), Busy> {
        if shard == 1 && *self.full.lock().unwrap() {
            return Err(Busy);
        }
        let replies = self.replies.clone();
        let asked = Asked {
            shard,
            ticket,
            command,
            replies,
        };
        self.asked.lock().unwrap().send(asked).map_err(|_| Busy)
    }
}

impl Rig {
    fn start() -> Rig {
        Rig::with_token(None)
    }

    fn with_token(token: Option<&str>) -> Rig {
        let (sender, asked) = mpsc::channel();
        let (replies, full) = (Replies::new(), Arc::new(Mutex::new(false)));
        let shards = Played {
            asked: Mutex::new(sender),
            replies: replies.clone(),
            full: Arc::clone(&full),
        };
        let config = config::Control {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            token: token.map(str::to_owned),
        };
        let metrics = Arc::new(|| "referee_up 1\n".to_owned());
        let control = Control::start(&config, Arc::new(shards), replies, metrics).unwrap();
        Rig { control, asked, full }
    }

    /// Sends a request and reads its answer in a thread, so that the test can be the shard meanwhile.
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> JoinHandle<Answer> {
        let mut stream = TcpStream::connect(self.control.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // A server that refuses a large body closes while it is still being written.
        let _ = stream.write_all(request(method, path, headers, body).as_bytes());
        thread::spawn(move || Answer::read(stream))
    }

    fn get(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.ask(method, path, headers, body).join().unwrap()
    }

    fn asked(&self) -> Asked {
        self.asked.recv_timeout(PATIENCE).expect("a command")
    }

    fn asks_nothing(&self) {
        if let Ok(asked) = self.asked.try_recv() {
            panic!("unexpected: {asked:?}");
        }
    }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    if headers.iter().all(|(name, _)| *name != "Host") {
        text.push_str("Host: localhost\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    format!("{text}\r\n{body}")
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(stream: TcpStream) -> Answer {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(
                reader.read_line(&mut head).expect("an answer"),
                0,
                "closed after {head:?}"
            );
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer {
            status,
            head,
            body: String::new(),
        };
        let length = answer.header("content-length").parse().unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    #[track_caller]
    fn is_problem(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status, self.header("content-type")),
            (status, "application/problem+json"),
            "{}",
            self.body
        );
        let body = self.json();
        assert_eq!((&body["status"], &body["code"]), (&json!(status), &json!(code)));
        assert!(body["title"].is_string() && body["detail"].is_string() && body["type"].is_string());
    }
}
