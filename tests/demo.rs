//! Every scenario of `referee demo`, over real sockets: it must come out as its own checks say, and its ladder must show the
//! steps that make it what it is, in this order.
#![cfg(feature = "io")]

use referee::demo::{self, SCENARIOS};

/// Plays a scenario and looks for the steps on successive lines of its ladder.
fn plays(name: &str, steps: &[&str]) {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap();
    let performance = demo::perform(scenario).unwrap();
    assert!(performance.is_success(), "{performance}");
    let ladder = performance.ladder();
    let mut lines = ladder.lines();
    for step in steps {
        assert!(
            lines.any(|line| line.contains(step)),
            "`{step}` is missing or too early in\n{ladder}"
        );
    }
    assert!(ladder.lines().all(|line| line.chars().count() <= 110), "{ladder}");
}

const SET_UP: [&str; 5] = [
    "INVITE #314 ",
    "180 Ringing · INVITE #314",
    "200 OK · INVITE #314",
    "ACK #314",
    "sip:refer to +49XXXXXXXXXXX",
];

fn plays_after_set_up(name: &str, steps: &[&str]) {
    plays(name, &[&SET_UP[..], steps].concat());
}

#[test]
fn a_successful_transfer_ends_the_call_on_both_legs() {
    plays_after_set_up(
        "success",
        &[
            "REFER #1 ",
            "202 Accepted · REFER #1",
            "NOTIFY #315: 100 Trying",
            "NOTIFY #316: 180 Ringing",
            "NOTIFY #317: 200 OK",
            "POST /event · 200 OK",
            "POST /action · success: notify_final, 202 then 200",
            "BYE #",
            "200 OK · BYE #",
        ],
    );
}

#[test]
fn a_busy_target_leaves_the_call_alive_and_its_sequence_whole() {
    plays_after_set_up(
        "busy",
        &[
            "REFER #1 ",
            "NOTIFY #316: 486 Busy Here",
            "POST /action · failed: notify_final, 202 then 486",
            "─ INVITE #1 ",
            "─ INVITE #2 ",
            "200 OK · INVITE #2",
            "200 OK · INVITE #1",
            "ACK #1 ",
            "ACK #2 ",
            "BYE #2 ",
            "BYE #3 ",
        ],
    );
}

#[test]
fn a_refused_transfer_leaves_the_call_to_its_parties() {
    plays_after_set_up(
        "refused",
        &[
            "603 Decline · REFER #1",
            "POST /action · failed: rejected, 603",
            "BYE #315 ",
        ],
    );
}

#[test]
fn a_silent_carrier_gives_an_unknown_result_in_time() {
    plays_after_set_up(
        "no-notify",
        &[
            "202 Accepted · REFER #1",
            "POST /action · unknown: no_notify, 202",
            "BYE #315 ",
        ],
    );
}

#[test]
fn a_bye_after_the_202_is_a_success() {
    plays_after_set_up(
        "bye-after-202",
        &[
            "202 Accepted · REFER #1",
            "BYE #315 ",
            "POST /action · success: bye_after_accept, 202",
        ],
    );
}

#[test]
fn a_bye_while_the_target_rings_tells_nothing() {
    plays_after_set_up(
        "bye-while-ringing",
        &[
            "NOTIFY #316: 180 Ringing",
            "BYE #317 ",
            "POST /action · unknown: bye_while_ringing, 202",
        ],
    );
}

#[test]
fn a_notify_before_the_202_is_reported() {
    plays_after_set_up(
        "notify-before-202",
        &[
            "REFER #1 ",
            "NOTIFY #315: 100 Trying",
            "202 Accepted · REFER #1",
            "NOTIFY #317: 200 OK",
            "POST /action · success: notify_final, 202 then 200",
            "BYE #",
        ],
    );
}

#[test]
fn a_final_notify_right_after_the_bye_still_decides() {
    plays_after_set_up(
        "notify-after-bye",
        &[
            "BYE #317 ",
            "NOTIFY #318: 200 OK",
            "POST /event · 200 OK",
            "POST /action · success: notify_final, 202 then 200",
        ],
    );
}

#[test]
fn a_second_transfer_goes_on_from_the_numbers_of_the_first() {
    plays_after_set_up(
        "cseq-after-failure",
        &[
            "603 Decline · REFER #1",
            "POST /action · failed: rejected, 603",
            "─ INVITE #1 ",
            "─ INVITE #2 ",
            "─ INFO #315 ",
            "─ INFO #315 ",
            "sip:refer to +49XXXXXXXXXXX",
            "REFER #3 ",
            "POST /action · success: notify_final, 202 then 200",
            "BYE #4 ",
        ],
    );
}

#[test]
fn a_challenged_refer_comes_again_with_the_next_number() {
    plays_after_set_up(
        "challenge",
        &[
            "REFER #1 ",
            "401 Unauthorized · REF",
            "REFER #2 ",
            "202 Accepted · REFER #2",
            "POST /action · success: notify_final, 202 then 200",
            "BYE #3 ",
        ],
    );
}

#[test]
fn a_target_at_another_host_fails_and_one_of_the_domain_is_reached() {
    plays_after_set_up(
        "target-rewritten",
        &[
            "202 Accepted · REFER #1",
            "NOTIFY #315: 403 Forbidden",
            "POST /action · failed: notify_final, 202 then 403",
            "sip:refer to sip:+49XXXXX",
            "202 Accepted · REFER #2",
            "NOTIFY #317: 200 OK",
            "POST /action · success: notify_final, 202 then 200",
            "BYE #",
        ],
    );
}

#[test]
fn the_reply_to_a_failure_names_the_next_target() {
    plays_after_set_up(
        "backup-target",
        &[
            "NOTIFY #316: 486 Busy Here",
            "POST /action · failed: notify_final, 202 then 486",
            "200 OK · sip:refer to +49YYYYYYYYYYY",
            "REFER #2 ",
            "NOTIFY #319: 200 OK",
            "POST /action · success: notify_final, 202 then 200",
            "BYE #3 ",
        ],
    );
}

#[test]
fn the_caller_takes_the_place_of_the_platform_in_the_second_call() {
    plays(
        "attended",
        &[
            "INVITE #314 ",
            "ACK #314",
            // The consultation, from the platform to the target.
            "◄─────── INVITE #314 ─────────│",
            "◄─────── INVITE #314 ─────────│",
            "sip:refer to the second call",
            "REFER #1 ",
            "202 Accepted · REFER #1",
            "POST /action · success: notify_final, 202 then 200",
            "BYE #2 ",
        ],
    );
}

#[test]
fn an_application_has_the_call_answered_and_transferred() {
    plays(
        "application",
        &[
            "INVITE #314 ",
            "POST /call · trying",
            "200 OK · answer, sip:refer to +49XXXXXXXXXXX",
            "200 OK · INVITE #314",
            "ACK #314 ",
            "REFER #1 ",
            "NOTIFY #317: 200 OK",
            "POST /action · success: notify_final, 202 then 200",
            "BYE #2 ",
            "POST /status · completed",
        ],
    );
}

#[test]
fn the_printed_text_has_ladder_hooks_and_verdict() {
    let performance = demo::perform(&SCENARIOS[0]).unwrap();
    let text = performance.to_string();
    for part in [
        "\"referTo\": \"+49XXXXXXXXXXX\"",
        "Refer-To: <sip:+49XXXXXXXXXXX@127.0.0.1>",
        "Referred-By: <sip:caller@example.com>",
        "X-Custom-Header: Value",
        "\"final_referred_call_status\": 200",
        "\"referStatus\": \"202\"",
        "  ok  one actionHook per transfer",
        "success: as it should be",
    ] {
        assert!(text.contains(part), "`{part}` is missing in\n{text}");
    }
}
