//! The stories: what each side does in them, and what has to become of it.

use super::script::Step;
use std::time::Duration;

/// A story that the demonstration can play.
#[derive(Debug)]
pub struct Scenario {
    /// What `--scenario` takes.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    pub(super) carrier: &'static [Step],
    pub(super) platform: &'static [Step],
    /// In the order in which they end.
    pub(super) transfers: &'static [Transfer],
    pub(super) ending: Ending,
    /// The trunk's `total_timeout`, in seconds.
    pub(super) total_timeout: u32,
    /// Before the first transfer the platform calls its target and talks to it (RFC 5589 §7.1).
    pub(super) consults: bool,
    /// The call is led by the application, and nobody else is called.
    pub(super) is_led: bool,
}

/// How one transfer comes about, and how it has to end.
#[derive(Debug)]
pub(super) struct Transfer {
    pub asked: Asked,
    pub target: Target,
    /// The carrier asks for the credentials of its REFER.
    pub is_challenged: bool,
    pub refer_status: u16,
    pub notified: &'static [u16],
    pub final_status: Option<u16>,
    pub result: &'static str,
    pub cause: &'static str,
}

/// Where the application asks for a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    ByApi,
    /// In its reply to the actionHook of the transfer before, or to the call hook.
    ByReply,
}

/// Who the caller is to have instead of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// As `referTo`, and what becomes of it on the wire.
    Named(&'static str, &'static str),
    /// Whom the consultation call reached: `replaces`.
    Consulted,
}

/// Who ends the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// After a success, with a BYE on each leg.
    Referee,
    Carrier,
    /// After a re-INVITE that shows that the call is alive.
    Platform,
}

/// All scenarios; the first is the default.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "success",
        summary: "the transfer target rings and answers; referee then ends the call on both legs",
        ..USUAL
    },
    Scenario {
        name: "busy",
        summary: "the transfer target is busy; the call goes on as if nothing had happened",
        carrier: &[
            Step::AnswerRefer("202 Accepted"),
            Step::Notify("100 Trying"),
            Step::Ring(RING),
            Step::Notify("486 Busy Here"),
            Step::AwaitBye,
        ],
        platform: &[Step::AwaitAction, Step::Reinvite, Step::Ring(RING), Step::HangUp],
        transfers: &[BUSY],
        ending: Ending::Platform,
        ..USUAL
    },
    Scenario {
        name: "refused",
        summary: "the carrier refuses the REFER; the call goes on until the carrier hangs up",
        carrier: &[
            Step::AnswerRefer("603 Decline"),
            Step::AwaitAction,
            Step::Ring(RING),
            Step::HangUp,
        ],
        transfers: &[REFUSED],
        ending: Ending::Carrier,
        ..USUAL
    },
    Scenario {
        name: "challenge",
        summary: "the carrier asks for credentials; referee sends the REFER again with them and with the next number",
        carrier: &[
            Step::ChallengeRefer,
            Step::AnswerRefer("202 Accepted"),
            Step::Notify("100 Trying"),
            Step::Ring(RING),
            Step::Notify("180 Ringing"),
            Step::Ring(RING),
            Step::Notify("200 OK"),
            Step::AwaitBye,
        ],
        transfers: &[Transfer {
            is_challenged: true,
            ..SUCCESS
        }],
        ..USUAL
    },
    Scenario {
        name: "no-notify",
        summary: "the carrier accepts the REFER and then says nothing; the verdict comes when the time is up",
        carrier: &[
            Step::AnswerRefer("202 Accepted"),
            Step::AwaitAction,
            Step::Ring(RING),
            Step::HangUp,
        ],
        transfers: &[Transfer {
            notified: &[],
            final_status: None,
            result: "unknown",
            cause: "no_notify",
            ..SUCCESS
        }],
        ending: Ending::Carrier,
        total_timeout: 2,
        ..USUAL
    },
    Scenario {
        name: "bye-after-202",
        summary: "the carrier accepts the REFER and hangs up without any NOTIFY, as many do when it worked",
        carrier: &[Step::AnswerRefer("202 Accepted"), Step::Ring(RING), Step::HangUp],
        transfers: &[Transfer {
            notified: &[],
            final_status: None,
            cause: "bye_after_accept",
            ..SUCCESS
        }],
        ending: Ending::Carrier,
        ..USUAL
    },
    Scenario {
        name: "bye-while-ringing",
        summary: "the carrier hangs up while the transfer target rings: nobody can tell what became of it",
        carrier: &[
            Step::AnswerRefer("202 Accepted"),
            Step::Notify("100 Trying"),
            Step::Ring(RING),
            Step::Notify("180 Ringing"),
            Step::Ring(RING),
            Step::HangUp,
        ],
        transfers: &[Transfer {
            notified: &[100, 180],
            final_status: None,
            result: "unknown",
            cause: "bye_while_ringing",
            ..SUCCESS
        }],
        ending: Ending::Carrier,
        ..USUAL
    },
    Scenario {
        name: "notify-before-202",
        summary: "the first NOTIFY overtakes the answer to the REFER",
        carrier: &[
            Step::NotifyThenAnswerRefer("100 Trying", "202 Accepted"),
            Step::Ring(RING),
            Step::Notify("180 Ringing"),
            Step::Ring(RING),
            Step::Notify("200 OK"),
            Step::AwaitBye,
        ],
        ..USUAL
    },
    Scenario {
        name: "notify-after-bye",
        summary: "the carrier hangs up first and reports the final status right after",
        carrier: &[
            Step::AnswerRefer("202 Accepted"),
            Step::Notify("100 Trying"),
            Step::Ring(RING),
            Step::Notify("180 Ringing"),
            Step::Ring(RING),
            Step::HangUp,
            Step::Ring(RING),
            Step::Notify("200 OK"),
        ],
        ending: Ending::Carrier,
        ..USUAL
    },
    Scenario {
        name: "target-rewritten",
        summary: "a number at the wrong host: the carrier says 202 and then 403; with a URI of the carrier's domain it works",
        carrier: &[
            Step::AnswerRefer("202 Accepted"),
            Step::TryTarget,
            Step::Ready,
            Step::AnswerRefer("202 Accepted"),
            Step::TryTarget,
            Step::AwaitBye,
        ],
        platform: &[Step::AwaitAction, Step::Ready, Step::AwaitBye],
        transfers: &[
            Transfer {
                notified: &[403],
                final_status: Some(403),
                result: "failed",
                ..SUCCESS
            },
            Transfer {
                target: AT_DOMAIN,
                notified: &[180, 200],
                ..SUCCESS
            },
        ],
        ..USUAL
    },
    Scenario {
        name: "cseq-after-failure",
        summary: "a refused transfer, requests of both parties, and a second transfer that succeeds",
        carrier: &[
            Step::AnswerRefer("603 Decline"),
            Step::AwaitReinvite,
            Step::Info,
            Step::Ready,
            Step::AnswerRefer("202 Accepted"),
            Step::Notify("100 Trying"),
            Step::Ring(RING),
            Step::Notify("180 Ringing"),
            Step::Ring(RING),
            Step::Notify("200 OK"),
            Step::AwaitBye,
        ],
        platform: &[
            Step::AwaitAction,
            Step::Reinvite,
            Step::Ring(RING),
            Step::Ready,
            Step::AwaitBye,
        ],
        transfers: &[REFUSED, SUCCESS],
        ..USUAL
    },
    Scenario {
        name: "backup-target",
        summary: "the first target is busy, and the reply to the actionHook names a second one, which answers",
        carrier: &[
            Step::AnswerRefer("202 Accepted"),
            Step::Notify("100 Trying"),
            Step::Ring(RING),
            Step::Notify("486 Busy Here"),
            Step::AnswerRefer("202 Accepted"),
            Step::Notify("100 Trying"),
            Step::Ring(RING),
            Step::Notify("180 Ringing"),
            Step::Ring(RING),
            Step::Notify("200 OK"),
            Step::AwaitBye,
        ],
        transfers: &[
            BUSY,
            Transfer {
                asked: Asked::ByReply,
                target: Target::Named("+49YYYYYYYYYYY", "<sip:+49YYYYYYYYYYY@127.0.0.1>"),
                ..SUCCESS
            },
        ],
        ..USUAL
    },
    Scenario {
        name: "attended",
        summary: "the platform talks to the target first; the caller then takes the platform's place in that call",
        carrier: &[
            Step::AnswerRefer("202 Accepted"),
            Step::Notify("100 Trying"),
            Step::JoinTarget,
            Step::Notify("200 OK"),
            Step::AwaitBye,
        ],
        transfers: &[Transfer {
            target: Target::Consulted,
            notified: &[100, 200],
            ..SUCCESS
        }],
        consults: true,
        ..USUAL
    },
    Scenario {
        name: "application",
        summary: "there is no platform: the application has the call answered and transferred by its reply to the call hook",
        transfers: &[Transfer {
            asked: Asked::ByReply,
            ..SUCCESS
        }],
        is_led: true,
        ..USUAL
    },
];

const USUAL: Scenario = Scenario {
    name: "",
    summary: "",
    carrier: &[
        Step::AnswerRefer("202 Accepted"),
        Step::Notify("100 Trying"),
        Step::Ring(RING),
        Step::Notify("180 Ringing"),
        Step::Ring(RING),
        Step::Notify("200 OK"),
        Step::AwaitBye,
    ],
    platform: &[Step::AwaitBye],
    transfers: &[SUCCESS],
    ending: Ending::Referee,
    total_timeout: LONG,
    consults: false,
    is_led: false,
};

pub(super) const SUCCESS: Transfer = Transfer {
    asked: Asked::ByApi,
    target: Target::Named("+49XXXXXXXXXXX", "<sip:+49XXXXXXXXXXX@127.0.0.1>"),
    is_challenged: false,
    refer_status: 202,
    notified: &[100, 180, 200],
    final_status: Some(200),
    result: "success",
    cause: "notify_final",
};

const BUSY: Transfer = Transfer {
    notified: &[100, 486],
    final_status: Some(486),
    result: "failed",
    ..SUCCESS
};

const REFUSED: Transfer = Transfer {
    refer_status: 603,
    notified: &[],
    final_status: None,
    result: "failed",
    cause: "rejected",
    ..SUCCESS
};

/// What the carrier wants its targets to be.
const AT_DOMAIN: Target = Target::Named(
    "sip:+49XXXXXXXXXXX@carrier.example",
    "<sip:+49XXXXXXXXXXX@carrier.example>",
);

/// Long enough to be seen on the ladder.
pub(super) const RING: Duration = Duration::from_millis(150);
/// A `total_timeout` that no scenario reaches.
const LONG: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_have_names_of_their_own() {
        let mut names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENARIOS.len());
        assert!(!names.contains(&""));
    }
}
