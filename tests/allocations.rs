//! Reading and editing a message allocates nothing once buffers are warm, and what is dropped leaves nothing: counted at the
//! allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use referee::command::Command;
use referee::config::{Health, TrunkId};
use referee::health::{Failure, Table};
use referee::message::edit::{Editor, Response, ViaStamp, write_response};
use referee::message::properties::malformed_fields;
use referee::message::{Index, Message, check, parse};
use referee::shard::{Input, Output, Setup, Shard};
use referee::sim::peer::script::request;
use referee::sim::scene::{self, Scene, TWO_SIDES, carrier, platform};
use referee::timer::Instant;
use referee::transport::{BindId, Flow, LocalId, Transport};
use referee::usage::{Places, Usage};

#[path = "../benches/parse/messages.rs"]
mod messages;
#[path = "../benches/instructions/src/relayed.rs"]
mod relayed;
#[path = "../benches/parse/view.rs"]
mod view;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` or `realloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as for `dealloc`, and the caller's promise about `size` is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_of(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn reading_any_message_of_a_call_allocates_nothing() {
    let mut index = Index::new();
    for (name, bytes) in messages::MESSAGES {
        let count = allocations_of(|| {
            parse(bytes, &mut index).unwrap();
            let message = Message::new(bytes, &index);
            check(message).unwrap();
            view::proxy_view(message).unwrap();
            assert_eq!(malformed_fields(message), []);
        });
        assert_eq!(count, 0, "{name}");
    }
}

#[test]
fn relaying_any_message_allocates_nothing_once_warm() {
    let mut index = Index::new();
    let mut editor = Editor::new();
    let mut out = Vec::new();
    let mut relay_all = || {
        for (name, bytes) in messages::MESSAGES {
            parse(bytes, &mut index).unwrap();
            view::relay(Message::new(bytes, &index), &mut editor, &mut out).unwrap();
            assert_ne!(out, bytes, "{name}");
        }
    };
    relay_all();
    assert_eq!(allocations_of(relay_all), 0);
}

#[test]
fn answering_allocates_nothing_once_warm() {
    let mut index = Index::new();
    let mut out = Vec::new();
    let response = Response {
        code: 100,
        reason: "Trying",
        to_tag: None,
        copy_record_route: false,
        extra: &[],
        content_type: None,
        body: b"",
    };
    let mut answer_all = || {
        for (_, bytes) in messages::MESSAGES {
            parse(bytes, &mut index).unwrap();
            let message = Message::new(bytes, &index);
            if message.is_request() {
                let stamp = ViaStamp::of(&message.top_via().unwrap(), ([192, 0, 2, 1], 5060).into());
                out.clear();
                write_response(message, stamp, &response, &mut out);
                black_box(&out);
            }
        }
    };
    answer_all();
    assert_eq!(allocations_of(answer_all), 0);
}

/// Through a whole shard that has had such calls for longer than their transactions last: what is within a dialog allocates
/// nothing, but for the first REFER, which is remembered so that its NOTIFYs are known.
#[test]
fn what_passes_within_a_dialog_allocates_nothing() {
    for step in relayed::STEPS {
        let most = match step {
            // State of the call and its first transactions; the early dialog.
            "invite" => 11,
            "180" => 2,
            "refer" => 1,
            // A hook leaves with it.
            "own_notify" => continue,
            _ => 0,
        };
        let mut call = relayed::Relayed::before(step);
        assert!(!call.bytes().is_empty());
        let mut sends = 0;
        let count = allocations_of(|| sends = call.relay());
        assert!(
            sends > 0 && count <= most,
            "{step}: {count} allocations, {sends} messages left"
        );
    }
}

fn shard() -> Shard {
    let config = Arc::new(scene::config(TWO_SIDES));
    Shard::new(Setup {
        usage: Usage::new(&config).into(),
        config,
        shard: 0,
        shards: 1,
        secret: referee::identifiers::Secret([7; 16]),
        seed: [9; 16],
        wall_clock_at_start: Duration::ZERO,
        records: false,
        locals: Arc::default(),
    })
}

fn udp(bind: u8, ip: [u8; 4]) -> Flow {
    Flow {
        bind: BindId(bind),
        transport: Transport::Udp,
        local: LocalId::ANY,
        peer: (ip, 5060).into(),
        connection: None,
    }
}

/// Calls that come in a flood, from a trunk and from strangers, and STUN: once the buffers are warm none of it allocates.
#[test]
fn what_is_shed_and_what_strangers_send_allocates_nothing_once_warm() {
    let mut shard = shard();
    let (carrier, stranger) = (udp(0, [198, 51, 100, 10]), udp(0, [192, 0, 2, 66]));
    let stun = *b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl";
    let mut index = Index::new();
    let invites: Vec<String> = (0..200)
        .map(|number| {
            format!(
                "INVITE sip:+49@203.0.113.7 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK{number};rport\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: {number}\r\nCSeq: 1 INVITE\r\n\
                 Contact: <sip:a@198.51.100.10>\r\nContent-Length: 0\r\n\r\n"
            )
        })
        .collect();
    shard.handle(Input::Drain, Instant::START);
    let mut answers = 0;
    let mut flood = |shard: &mut Shard, from: u64| {
        for (millis, invite) in (from..).zip(&invites) {
            let now = Instant::from_millis(millis);
            parse(invite.as_bytes(), &mut index).unwrap();
            for flow in [carrier, stranger] {
                let message = Message::new(invite.as_bytes(), &index);
                let waited = Duration::ZERO;
                shard.handle(Input::Received { flow, message, waited }, now);
                shard.handle(Input::Stun { flow, datagram: &stun }, now);
                while let Some(output) = shard.poll_output() {
                    assert!(matches!(output, Output::Send { ticket: None, .. }));
                    answers += 1;
                }
                shard.end_batch();
            }
        }
    };
    flood(&mut shard, 1_000);
    let count = allocations_of(|| flood(&mut shard, 2_000));
    assert_eq!(count, 0);
    assert!(shard.is_empty());
    assert_eq!(shard.counters().shed_draining_total, 400);
    // All of the trunk's; of the stranger's ten and some in each fifth of a second.
    assert!((820..840).contains(&answers), "{answers}");
}

/// RFC 6026 §7.3: after a restart, or at another shard's, responses to what nobody sent here make no state.
#[test]
fn stray_responses_allocate_nothing() {
    let mut shard = shard();
    let flow = udp(2, [10, 0, 0, 5]);
    let mut index = Index::new();
    let strays: Vec<String> = (0..100)
        .map(|number| {
            format!(
                "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK{number:032x};rport\r\n\
                 Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n\
                 Call-ID: {number}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
            )
        })
        .collect();
    let count = allocations_of(|| {
        for stray in &strays {
            parse(stray.as_bytes(), &mut index).unwrap();
            let message = Message::new(stray.as_bytes(), &index);
            let waited = Duration::ZERO;
            shard.handle(Input::Received { flow, message, waited }, Instant::from_millis(1));
            assert!(shard.poll_output().is_none() && shard.next_timeout().is_none());
        }
    });
    assert_eq!(count, 0);
    assert_eq!(shard.counters().stray_responses_total, 100);
    assert!(shard.is_empty());
}

/// What a call asks and tells of its trunks.
#[test]
fn trunks_are_asked_and_told_without_an_allocation() {
    let mut config = scene::config(TWO_SIDES);
    config.trunks[0].calls_max = Some(2);
    config.trunks[0].calls_per_second_max = Some(1_000);
    config.trunks[0].health = Some(Health::default());
    let usage = Arc::new(Usage::new(&config));
    let mut table = Table::new(&config, 0, 1);
    let trunk = TrunkId(0);
    let count = allocations_of(|| {
        for millis in 1..100 {
            let now = Instant::from_millis(millis);
            let mut places = Places::of_caller(usage.take(trunk, now).ok());
            places.add(usage.take(trunk, now).unwrap());
            assert!(usage.take(trunk, now).is_err());
            black_box(table.is_usable(trunk, 0, now));
            black_box(table.on_failure(trunk, 0, Failure::Timeout, now));
            black_box(table.on_success(trunk, 0, now));
            black_box(table.on_retry_after(trunk, 0, 5, now));
        }
    });
    assert_eq!((count, usage.calls(trunk)), (0, 0));
}

/// Events of calls and ladders: where nobody listens and no call is transferred, a call costs what it costs without them.
#[test]
fn what_nobody_watches_costs_nothing() {
    let of_a_call = |text: &str, listens: bool| {
        let mut scene = Scene::with(&format!("[control]\n{text}\n{TWO_SIDES}"), carrier(), platform());
        if listens {
            scene.world.command(Command::Listen);
        }
        allocations_of(|| {
            let call = scene.answered();
            scene.carrier_does(&call, request("INFO"));
            scene.run(1_000);
            scene.carrier_does(&call, request("BYE"));
            scene.run(60_000);
        })
    };
    let without = of_a_call("listen = \"off\"", false);
    assert_eq!(of_a_call("", false), without);
    assert!(of_a_call("", true) > without);
    assert!(of_a_call("ladders = \"all\"", false) > without);
}
