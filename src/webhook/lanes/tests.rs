use super::*;
use crate::identifiers::{CallId, TransferId};
use crate::webhook::{Failure, HookSettings, signature};
use proptest::prelude::*;
use std::collections::HashSet;

fn transfer(number: u64) -> Subject {
    Subject::Transfer(TransferId { shard: 0, number })
}

fn number_of(subject: Subject) -> u64 {
    match subject {
        Subject::Transfer(transfer) => transfer.number,
        other => panic!("{other}"),
    }
}

fn hook(number: u64, kind: HookKind, url: &str, id: &str) -> Hook {
    Hook {
        subject: transfer(number),
        kind,
        url: url.to_owned(),
        basic_auth: None,
        default_word: false,
        webhook_id: id.to_owned(),
        body: r#"{"a":1}"#.to_owned(),
        settings: HookSettings::of(&Hooks::default()),
    }
}

fn event(number: u64, id: &str) -> Hook {
    hook(number, HookKind::Event, "http://app/event", id)
}

fn action(number: u64, id: &str) -> Hook {
    hook(number, HookKind::Action, "http://app/action", id)
}

fn lanes() -> Lanes {
    lanes_with(Hooks::default())
}

fn lanes_with(config: Hooks) -> Lanes {
    Lanes::new(&config, Random::new([3; 16]))
}

fn answered(status: u16) -> Outcome {
    Outcome::Answered {
        status,
        retry_after: None,
        reply: None,
    }
}

const FAILED: ActionOutcome = ActionOutcome::Failed;
const DELIVERED: ActionOutcome = ActionOutcome::Delivered { reply: None };

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn id(job: &Job) -> &str {
    &job.hook.webhook_id
}

/// Lets time pass until a job comes; panics if none ever does.
fn next_job(lanes: &mut Lanes, now: &mut Instant) -> Job {
    loop {
        if let Some(job) = lanes.poll_job(*now) {
            return job;
        }
        *now = lanes.next_deadline().expect("something is due");
        lanes.handle_timeout(*now);
    }
}

/// Lets time pass until nothing waits for it.
fn run_out(lanes: &mut Lanes, now: &mut Instant) {
    while let Some(deadline) = lanes.next_deadline() {
        *now = deadline.max(*now);
        lanes.handle_timeout(*now);
    }
}

#[test]
fn hooks_of_a_transfer_go_one_after_another_and_the_action_last() {
    let mut lanes = lanes();
    let now = at(0);
    lanes.submit(event(1, "e1"), now);
    lanes.submit(event(1, "e2"), now);
    lanes.submit(action(1, "a"), now);
    for expected in ["e1", "e2", "a"] {
        let job = lanes.poll_job(now).unwrap();
        assert_eq!(id(&job), expected);
        assert!(lanes.poll_job(now).is_none());
        assert_eq!(lanes.poll_report(), None);
        lanes.finished(job.id, answered(200), now);
    }
    let delivered = Report {
        subject: transfer(1),
        outcome: DELIVERED,
    };
    assert_eq!(lanes.poll_report(), Some(delivered));
    assert_eq!(lanes.poll_report(), None);
    assert!(lanes.is_idle());
    assert_eq!(lanes.next_deadline(), None);
    assert_eq!(lanes.counters().endpoints, 0);
}

#[test]
fn the_reply_of_the_first_attempt_is_reported() {
    let mut lanes = lanes();
    lanes.submit(action(1, "a"), at(0));
    let job = lanes.poll_job(at(0)).unwrap();
    assert!(job.wants_reply());
    assert_eq!(job.body(), r#"{"a":1,"missed":0}"#);
    let reply = Some(serde_json::json!([{"verb": "hangup"}]));
    let outcome = Outcome::Answered {
        status: 200,
        retry_after: None,
        reply: reply.clone(),
    };
    lanes.finished(job.id, outcome, at(10));
    assert_eq!(lanes.poll_report().unwrap().outcome, ActionOutcome::Delivered { reply });
}

#[test]
fn only_the_first_attempt_of_an_action_is_reported() {
    let mut lanes = lanes();
    let mut now = at(0);
    lanes.submit(action(1, "a"), now);
    let job = lanes.poll_job(now).unwrap();
    lanes.finished(job.id, answered(503), now);
    assert_eq!(lanes.poll_report().unwrap().outcome, FAILED);
    let job = next_job(&mut lanes, &mut now);
    assert_eq!((job.attempt, job.wants_reply()), (2, false));
    assert!(now <= at(500), "full jitter of 500 ms at most");
    lanes.finished(job.id, answered(200), now);
    assert_eq!(lanes.poll_report(), None);
    assert_eq!(lanes.counters().actions_delivered, 1);
}

#[test]
fn outcomes_decide_whether_there_is_another_attempt() {
    for (outcome, again) in [
        (answered(200), false),
        (answered(204), false),
        (answered(301), false),
        (answered(307), false),
        (answered(400), false),
        (answered(404), false),
        (answered(408), true),
        (answered(410), false),
        (answered(429), true),
        (answered(500), true),
        (answered(503), true),
        (Outcome::Failed(Failure::Connect), true),
        (Outcome::Failed(Failure::Timeout), true),
        (Outcome::Failed(Failure::Broken), true),
        (Outcome::Failed(Failure::Unsendable), false),
    ] {
        let mut lanes = lanes();
        lanes.submit(event(1, "e"), at(0));
        let job = lanes.poll_job(at(0)).unwrap();
        lanes.finished(job.id, outcome.clone(), at(0));
        assert_eq!(!lanes.is_idle(), again, "{outcome:?}");
    }
}

#[test]
fn a_default_word_that_nobody_answers_to_is_no_failure() {
    for outcome in [answered(404), answered(405), Outcome::Failed(Failure::Connect)] {
        let mut lanes = lanes();
        let mut hook = action(1, "a");
        hook.default_word = true;
        lanes.submit(hook, at(0));
        let job = lanes.poll_job(at(0)).unwrap();
        lanes.finished(job.id, outcome, at(0));
        assert_eq!(lanes.poll_report().unwrap().outcome, FAILED);
        assert!(lanes.is_idle());
        let counters = lanes.counters();
        assert_eq!((counters.defaults_unanswered, counters.actions_given_up), (1, 0));
    }
}

#[test]
fn retry_after_is_honoured_within_bounds() {
    for (kind, seconds, expected) in [
        (HookKind::Event, 2, 2_000),
        (HookKind::Event, 3_600, 5_000),
        (HookKind::Action, 30, 30_000),
        (HookKind::Action, 3_600, 60_000),
    ] {
        let mut lanes = lanes();
        let mut now = at(0);
        lanes.submit(hook(1, kind, "http://app/x", "x"), now);
        let job = lanes.poll_job(now).unwrap();
        let outcome = Outcome::Answered {
            status: 429,
            retry_after: Some(Duration::from_secs(seconds)),
            reply: None,
        };
        lanes.finished(job.id, outcome, now);
        next_job(&mut lanes, &mut now);
        assert_eq!(now, at(expected), "{kind:?} {seconds}");
    }
}

#[test]
fn events_get_two_seconds_once_the_action_is_there() {
    let mut lanes = lanes();
    let mut now = at(0);
    lanes.submit(event(1, "e1"), now);
    lanes.submit(event(1, "e2"), now);
    let hanging = lanes.poll_job(now).unwrap();
    lanes.submit(action(1, "a"), at(100));
    let job = next_job(&mut lanes, &mut now);
    assert_eq!((id(&job), job.body()), ("a", r#"{"a":1,"missed":2}"#));
    assert_eq!(now, at(2_100));
    // What became of the event no longer matters to anyone.
    lanes.finished(hanging.id, answered(200), now);
    assert!(lanes.poll_job(now).is_none());
    lanes.finished(job.id, answered(200), now);
    assert_eq!(lanes.poll_report().unwrap().outcome, DELIVERED);
    assert!(lanes.is_idle());
    assert_eq!(lanes.counters().events_given_up, 2);
}

#[test]
fn an_action_that_cannot_be_attempted_in_time_is_reported_and_still_goes() {
    let mut lanes = lanes();
    let mut now = at(0);
    for number in 0..5 {
        lanes.submit(action(number, "x"), now);
        let job = lanes.poll_job(now).unwrap();
        lanes.finished(job.id, Outcome::Failed(Failure::Timeout), now);
        assert_eq!(lanes.poll_report().unwrap().outcome, FAILED);
    }
    assert_eq!(lanes.counters().endpoints_suspended, 1);
    let probe = next_job(&mut lanes, &mut now);
    lanes.submit(action(9, "a"), now);
    assert!(lanes.poll_job(now).is_none(), "one probe at a time");
    let submitted = now;
    while lanes.reports.is_empty() {
        now = lanes.next_deadline().unwrap();
        lanes.handle_timeout(now);
    }
    assert_eq!(lanes.poll_report().unwrap().subject, transfer(9));
    assert_eq!(now, submitted + Duration::from_secs(12));
    lanes.finished(probe.id, answered(200), now);
    assert_eq!(lanes.counters().endpoints_suspended, 0);
    let mut left = HashSet::new();
    while !lanes.is_idle() {
        let job = next_job(&mut lanes, &mut now);
        left.insert(job.hook.subject);
        lanes.finished(job.id, answered(200), now);
    }
    assert!(left.contains(&transfer(9)));
    assert_eq!(lanes.poll_report(), None);
}

#[test]
fn endpoints_that_hang_leave_the_others_their_places() {
    let mut lanes = lanes_with(Hooks {
        threads: 4,
        per_endpoint_max: 8,
        ..Hooks::default()
    });
    for number in 0..20 {
        let url = format!("http://dead{}/x", number % 2);
        lanes.submit(hook(number, HookKind::Action, &url, "x"), at(0));
    }
    let mut hanging = Vec::new();
    while let Some(job) = lanes.poll_job(at(0)) {
        hanging.push(job);
    }
    assert_eq!(hanging.len(), 4, "two per endpoint, half of the threads");
    lanes.submit(action(100, "alive"), at(0));
    assert!(lanes.poll_job(at(0)).is_none());
    lanes.handle_timeout(at(1_000));
    assert_eq!(id(&lanes.poll_job(at(1_000)).unwrap()), "alive");
    assert!(
        lanes.poll_job(at(1_000)).is_none(),
        "the dead ones have all that they may have"
    );
}

#[test]
fn endpoints_take_turns() {
    let mut lanes = lanes_with(Hooks {
        threads: 1,
        ..Hooks::default()
    });
    let now = at(0);
    for number in 0..10 {
        lanes.submit(hook(number, HookKind::Event, "http://busy/", "busy"), now);
    }
    lanes.submit(hook(10, HookKind::Event, "http://quiet/", "quiet"), now);
    let mut order = Vec::new();
    while let Some(job) = lanes.poll_job(now) {
        order.push(id(&job).to_owned());
        lanes.finished(job.id, answered(200), now);
    }
    assert_eq!(order.iter().position(|id| id == "quiet"), Some(1), "{order:?}");
}

#[test]
fn when_full_events_are_dropped_and_actions_are_not() {
    let mut lanes = lanes_with(Hooks {
        queue_max: 20,
        ..Hooks::default()
    });
    let now = at(0);
    for number in 0..30 {
        lanes.submit(event(number, "e"), now);
    }
    let counters = lanes.counters();
    assert_eq!((counters.held, counters.events_dropped), (18, 12));
    for number in 0..20 {
        lanes.submit(action(number, "a"), now);
    }
    let counters = lanes.counters();
    assert_eq!(
        (counters.held, counters.events_dropped, counters.actions_dropped),
        (20, 30, 0)
    );
    lanes.submit(action(20, "a"), now);
    assert_eq!(lanes.counters().actions_dropped, 1);
    let report = lanes.poll_report().unwrap();
    assert_eq!((report.subject, report.outcome), (transfer(20), FAILED));
    let job = lanes.poll_job(now).unwrap();
    assert_eq!(job.body(), r#"{"a":1,"missed":1}"#, "a dropped event is missed");
}

#[test]
fn a_question_has_one_attempt_and_its_reply_is_wanted_now() {
    let call = CallId { shard: 2, number: 7 };
    let question = |number| Hook {
        subject: Subject::Question(call, number),
        kind: HookKind::Question,
        ..action(0, "q")
    };
    let now = Instant::START;
    // A 503 that asks for another attempt gets none.
    let mut lanes = lanes();
    lanes.submit(question(0), now);
    let job = lanes.poll_job(now).unwrap();
    assert!(
        job.wants_reply() && job.body() == r#"{"a":1}"#,
        "nothing is added to it"
    );
    lanes.finished(job.id, answered(503), now);
    let report = lanes.poll_report().unwrap();
    assert_eq!((report.subject.shard(), report.outcome), (2, FAILED));
    assert!(lanes.is_idle());
    assert_eq!(lanes.counters().questions_given_up, 1);
    // One that hangs is reported after the time of an attempt, without a wait for events.
    let mut lanes = self::lanes();
    let mut hasty = question(1);
    hasty.settings.timeout = Duration::from_secs(3);
    lanes.submit(hasty, now);
    let job = lanes.poll_job(now).unwrap();
    let late = now + Duration::from_secs(3);
    lanes.handle_timeout(late);
    assert_eq!(lanes.poll_report().unwrap().outcome, FAILED);
    lanes.finished(job.id, answered(200), late);
    assert!(lanes.poll_report().is_none() && lanes.is_idle());
}

#[test]
fn nothing_is_remembered_of_events_that_no_action_will_tell_of() {
    let mut lanes = lanes();
    let status = Hook {
        subject: Subject::Status(CallId { shard: 0, number: 1 }),
        ..event(0, "s")
    };
    lanes.submit(status, Instant::START);
    let job = lanes.poll_job(Instant::START).unwrap();
    lanes.finished(job.id, answered(403), Instant::START);
    assert_eq!((lanes.lanes.len(), lanes.remembered), (0, 0));
}

#[test]
fn a_transfer_cannot_fill_the_queue_alone() {
    let mut lanes = lanes();
    let mut now = at(0);
    for number in 0..200 {
        lanes.submit(event(1, &number.to_string()), now);
    }
    assert_eq!(lanes.counters().held, EVENTS_PER_TRANSFER_MAX as u64);
    let job = lanes.poll_job(now).unwrap();
    assert_eq!(id(&job), "136", "the newest are kept");
    lanes.submit(action(1, "a"), now);
    let job = next_job(&mut lanes, &mut now);
    assert_eq!(job.body(), r#"{"a":1,"missed":200}"#);
}

#[test]
fn an_event_after_the_action_follows_in_its_own_right() {
    let mut lanes = lanes();
    let now = at(0);
    lanes.submit(action(1, "a"), now);
    lanes.submit(event(1, "late"), now);
    let job = lanes.poll_job(now).unwrap();
    assert_eq!(id(&job), "a");
    lanes.finished(job.id, answered(200), now);
    let job = lanes.poll_job(now).unwrap();
    assert_eq!(id(&job), "late");
    lanes.finished(job.id, answered(200), now);
    assert!(lanes.is_idle());
}

#[test]
fn what_was_missed_is_remembered_until_the_action_comes() {
    let mut lanes = lanes();
    let mut now = at(0);
    lanes.submit(event(1, "e"), now);
    let job = lanes.poll_job(now).unwrap();
    lanes.finished(job.id, answered(403), now);
    assert!(lanes.is_idle());
    now = now + Duration::from_secs(120);
    lanes.handle_timeout(now);
    lanes.submit(action(1, "a"), now);
    assert_eq!(lanes.poll_job(now).unwrap().body(), r#"{"a":1,"missed":1}"#);
}

#[test]
fn a_url_that_is_none_is_given_up_at_once() {
    let mut lanes = lanes();
    lanes.submit(hook(1, HookKind::Action, "refer", "a"), at(0));
    assert_eq!(lanes.poll_report().unwrap().outcome, FAILED);
    assert!(lanes.is_idle());
}

#[test]
fn headers_are_signed_for_the_attempt() {
    let mut lanes = lanes();
    let mut hook = event(1, "transfer-1-e2");
    hook.settings.secret = Some("whsec_c2VjcmV0".to_owned());
    hook.settings.jambonz_secret = Some("other".to_owned());
    hook.basic_auth = Some(("Aladdin".to_owned(), "open sesame".to_owned()));
    lanes.submit(hook, at(0));
    let job = lanes.poll_job(at(0)).unwrap();
    let headers = job.headers(1_700_000_000);
    for (name, value) in [
        ("content-type", "application/json".to_owned()),
        ("webhook-id", "transfer-1-e2".to_owned()),
        ("webhook-timestamp", "1700000000".to_owned()),
        ("authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".to_owned()),
        (
            "webhook-signature",
            signature::standard("secret", "transfer-1-e2", 1_700_000_000, job.body()),
        ),
        (
            "jambonz-signature",
            signature::jambonz("other", 1_700_000_000, job.body()),
        ),
    ] {
        assert!(headers.contains(&(name, value)), "{name}");
    }
    let shown = format!("{job:?}");
    assert!(!shown.contains("c2VjcmV0") && !shown.contains("sesame"), "{shown}");
}

#[test]
fn missed_is_added_to_any_object() {
    for (body, expected) in [
        ("{}", r#"{"missed":3}"#),
        ("{ } \n", r#"{ "missed":3}"#),
        (r#"{"a":{}}"#, r#"{"a":{},"missed":3}"#),
    ] {
        let mut text = body.to_owned();
        add_missed(&mut text, 3);
        assert_eq!(text, expected);
    }
}

/// One step of a random run.
#[derive(Clone, Debug)]
enum Step {
    Submit {
        transfer: u64,
        action: bool,
        endpoint: u8,
    },
    /// Ends one of the attempts under way.
    Finish {
        which: usize,
        outcome: u8,
    },
    Pass {
        millis: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..12u64, any::<bool>(), 0..4u8)
            .prop_map(|(transfer, action, endpoint)| Step::Submit { transfer, action, endpoint }),
        4 => (any::<usize>(), 0..8u8).prop_map(|(which, outcome)| Step::Finish { which, outcome }),
        1 => (0..5_000u64).prop_map(|millis| Step::Pass { millis }),
    ];
    proptest::collection::vec(step, 0..200)
}

fn outcome(number: u8) -> Outcome {
    match number {
        0..=2 => answered(200),
        3 => answered(503),
        4 => answered(400),
        5 => Outcome::Failed(Failure::Connect),
        6 => Outcome::Failed(Failure::Timeout),
        _ => Outcome::Answered {
            status: 429,
            retry_after: Some(Duration::from_secs(7)),
            reply: None,
        },
    }
}

/// A run with its books: what was started in which lane, what is under way, what was reported.
struct Run {
    lanes: Lanes,
    now: Instant,
    under_way: Vec<Job>,
    /// Per transfer the sequence of its hooks as submitted: started ones never go back.
    last_started: HashMap<u64, u64>,
    actions: HashMap<u64, usize>,
    reported: HashMap<u64, usize>,
}

impl Run {
    fn drain(&mut self) {
        while let Some(job) = self.lanes.poll_job(self.now) {
            let number = number_of(job.hook.subject);
            let place: u64 = id(&job).parse().unwrap();
            let last = self.last_started.entry(number).or_insert(0);
            assert!(*last <= place, "order within transfer {number}");
            *last = place;
            let of_same = self
                .under_way
                .iter()
                .filter(|other| other.hook.subject == job.hook.subject);
            for other in of_same {
                assert_eq!(
                    other.hook.kind,
                    HookKind::Event,
                    "only a given-up event may still be under way"
                );
            }
            self.under_way.push(job);
        }
        assert!(self.under_way.len() <= self.lanes.under_way_max());
        while let Some(report) = self.lanes.poll_report() {
            *self.reported.entry(number_of(report.subject)).or_insert(0) += 1;
        }
        let c = self.lanes.counters();
        let gone = c.events_delivered + c.actions_delivered + c.events_given_up + c.actions_given_up;
        let dropped = c.events_dropped + c.actions_dropped + c.defaults_unanswered;
        assert_eq!(c.events_submitted + c.actions_submitted, gone + dropped + c.held);
        self.lanes.check_invariants();
    }
}

proptest! {
    #[test]
    fn whatever_happens_order_holds_actions_are_reported_once_and_it_ends(steps in steps(), seed in any::<[u8; 16]>()) {
        let config = Hooks { threads: 4, per_endpoint_max: 2, queue_max: 20, ..Hooks::default() };
        let mut run = Run {
            lanes: Lanes::new(&config, Random::new(seed)),
            now: Instant::START,
            under_way: Vec::new(),
            last_started: HashMap::new(),
            actions: HashMap::new(),
            reported: HashMap::new(),
        };
        for (place, step) in steps.into_iter().enumerate() {
            match step {
                Step::Submit { transfer, action, endpoint } => {
                    let kind = if action { HookKind::Action } else { HookKind::Event };
                    if action {
                        *run.actions.entry(transfer).or_insert(0) += 1;
                    }
                    let url = format!("http://app{endpoint}/");
                    run.lanes.submit(hook(transfer, kind, &url, &place.to_string()), run.now);
                }
                Step::Finish { which, outcome: number } => {
                    if !run.under_way.is_empty() {
                        let job = run.under_way.swap_remove(which % run.under_way.len());
                        run.lanes.finished(job.id, outcome(number), run.now);
                    }
                }
                Step::Pass { millis } => {
                    run.now = run.now + Duration::from_millis(millis);
                    run.lanes.handle_timeout(run.now);
                }
            }
            run.drain();
        }
        // From here on nothing answers: everything must still end.
        while !run.lanes.is_idle() {
            prop_assert!(run.now < at(3_600_000), "an hour is far more than any hook is tried");
            if let Some(job) = run.under_way.pop() {
                run.lanes.finished(job.id, Outcome::Failed(Failure::Timeout), run.now);
            } else {
                run.now = run.lanes.next_deadline().expect("what is held has a deadline");
                run.lanes.handle_timeout(run.now);
            }
            run.drain();
        }
        run_out(&mut run.lanes, &mut run.now);
        prop_assert!(run.lanes.lanes.is_empty() && run.lanes.endpoints.is_empty() && run.lanes.droppable.is_empty());
        prop_assert!(run.lanes.ring.is_empty() && run.lanes.brisk == 0 && run.lanes.remembered == 0);
        prop_assert_eq!(run.lanes.counters().endpoints_suspended, 0);
        prop_assert_eq!(run.actions, run.reported);
    }
}
