//! `referee demo`: a carrier, a platform, an application and a transferred call within one process, over real loopback
//! sockets and through the same code as `referee run`; drawn as a ladder, and judged.
//!
//! ```text
//!  carrier ◄── UDP ──► referee ◄── UDP ──► platform          script.rs says what each does, agent.rs how
//!                       │   ▲
//!                 hooks ▼   │ verb
//!                     application                             application.rs
//! ```
//! Every message is recorded where it is sent or received (`trace.rs`); `ladder.rs` draws the record and `verdict.rs` checks it.

#![expect(
    clippy::disallowed_methods,
    reason = "carrier, platform and application are programs of their own, with clock, sockets and threads"
)]

mod agent;
mod application;
mod ladder;
mod script;
mod sip;
mod trace;
mod verdict;

use crate::config::{self, Config};
use crate::io;
use agent::{Agent, Input};
use application::Application;
use script::{Step, Told};
use serde_json::Value;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use trace::{Column, Event, Trace};
use verdict::Check;

/// A story that the demonstration can play.
#[derive(Debug)]
pub struct Scenario {
    /// What `--scenario` takes.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    carrier: &'static [Step],
    platform: &'static [Step],
    transfers: &'static [Transfer],
    ending: Ending,
    /// The trunk's `total_timeout`, in seconds.
    total_timeout: u32,
}

/// How one transfer has to end.
#[derive(Debug)]
struct Transfer {
    refer_status: u16,
    notified: &'static [u16],
    final_status: Option<u16>,
    result: &'static str,
    cause: &'static str,
}

/// Who ends the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
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
        transfers: &[Transfer {
            refer_status: 202,
            notified: &[100, 486],
            final_status: Some(486),
            result: "failed",
            cause: "notify_final",
        }],
        ending: Ending::Platform,
        total_timeout: LONG,
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
        platform: &[Step::AwaitBye],
        transfers: &[REFUSED],
        ending: Ending::Carrier,
        total_timeout: LONG,
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
        platform: &[Step::AwaitBye],
        transfers: &[Transfer {
            refer_status: 202,
            notified: &[],
            final_status: None,
            result: "unknown",
            cause: "no_notify",
        }],
        ending: Ending::Carrier,
        total_timeout: 2,
    },
    Scenario {
        name: "bye-after-202",
        summary: "the carrier accepts the REFER and hangs up without any NOTIFY, as many do when it worked",
        carrier: &[Step::AnswerRefer("202 Accepted"), Step::Ring(RING), Step::HangUp],
        platform: &[Step::AwaitBye],
        transfers: &[Transfer {
            refer_status: 202,
            notified: &[],
            final_status: None,
            result: "success",
            cause: "bye_after_accept",
        }],
        ending: Ending::Carrier,
        total_timeout: LONG,
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
        platform: &[Step::AwaitBye],
        transfers: &[Transfer {
            refer_status: 202,
            notified: &[100, 180],
            final_status: None,
            result: "unknown",
            cause: "bye_while_ringing",
        }],
        ending: Ending::Carrier,
        total_timeout: LONG,
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
        platform: &[Step::AwaitBye],
        transfers: &[SUCCESS],
        ending: Ending::Referee,
        total_timeout: LONG,
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
        platform: &[Step::AwaitBye],
        transfers: &[SUCCESS],
        ending: Ending::Carrier,
        total_timeout: LONG,
    },
    Scenario {
        name: "cseq-after-failure",
        summary: "a refused transfer, a re-INVITE of the platform, and a second transfer that succeeds",
        carrier: &[
            Step::AnswerRefer("603 Decline"),
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
        ending: Ending::Referee,
        total_timeout: LONG,
    },
];

const SUCCESS: Transfer = Transfer {
    refer_status: 202,
    notified: &[100, 180, 200],
    final_status: Some(200),
    result: "success",
    cause: "notify_final",
};

const REFUSED: Transfer = Transfer {
    refer_status: 603,
    notified: &[],
    final_status: None,
    result: "failed",
    cause: "rejected",
};

/// Plays a scenario and prints it. The exit code is 0 if all that had to happen happened, 1 if not, 2 if there is no such
/// scenario.
pub fn run(scenario: &str) -> ExitCode {
    let Some(scenario) = SCENARIOS.iter().find(|known| known.name == scenario) else {
        eprintln!(
            "referee demo: there is no scenario `{scenario}`; these are:\n{}",
            scenario_list()
        );
        return ExitCode::from(2);
    };
    match perform(scenario) {
        Ok(performance) => {
            // A reader that has gone away (`| head`) is no failure of the demonstration.
            let _ = std::io::stdout().write_all(performance.to_string().as_bytes());
            if performance.is_success() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(problem) => {
            eprintln!("referee demo: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// One line per scenario: its name and what happens.
pub fn scenario_list() -> String {
    let mut text = String::new();
    for scenario in SCENARIOS {
        let _ = writeln!(text, "  {:<20}{}", scenario.name, scenario.summary);
    }
    text
}

/// A scenario as it was played; its text is what `referee demo` prints.
#[derive(Debug)]
pub struct Performance {
    scenario: &'static Scenario,
    events: Vec<Event>,
    checks: Vec<Check>,
    lasted: Duration,
}

impl Performance {
    /// Whether all that had to happen happened.
    pub fn is_success(&self) -> bool {
        self.problems().next().is_none()
    }

    /// What is missing or wrong, one sentence each.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.checks.iter().flat_map(|check| &check.problems).map(String::as_str)
    }

    /// The ladder alone.
    pub fn ladder(&self) -> String {
        ladder::draw(&self.events)
    }
}

impl fmt::Display for Performance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { name, summary, .. } = self.scenario;
        writeln!(f, "Scenario {name}: {summary}.\n")?;
        writeln!(f, "The verb, as the application posts it to the control API:\n")?;
        indented(f, VERB)?;
        writeln!(
            f,
            "\nWhat happened. Time in seconds; `#` is the CSeq number, which rises with each request of a party in the call.\n"
        )?;
        f.write_str(&self.ladder())?;
        let refer = self
            .events
            .iter()
            .filter_map(Event::sip)
            .find(|message| message.method() == Some("REFER"));
        if let Some(refer) = refer {
            writeln!(f, "\nThe REFER, as the carrier received it:\n")?;
            indented(f, &String::from_utf8_lossy(&refer.to_bytes()))?;
        }
        writeln!(f, "\nThe hooks, as the application received them:")?;
        let hooks = self
            .events
            .iter()
            .filter(|event| event.from == Column::Referee)
            .filter_map(|event| Some((event.at, event.http().filter(|http| http.start.starts_with("POST "))?)));
        for (at, hook) in hooks {
            writeln!(f, "\n{:.3}  {}", at.as_secs_f64(), hook.start)?;
            let pretty = serde_json::from_str::<Value>(&hook.body)
                .and_then(|body| serde_json::to_string_pretty(&body))
                .unwrap_or_else(|_| hook.body.clone());
            indented(f, &pretty)?;
        }
        writeln!(f, "\nChecked:\n")?;
        for check in &self.checks {
            let mark = if check.problems.is_empty() { "ok" } else { "NO" };
            writeln!(f, "  {mark}  {}", check.claim)?;
            for problem in &check.problems {
                writeln!(f, "        {problem}")?;
            }
        }
        let failed = self.checks.iter().filter(|check| !check.problems.is_empty()).count();
        let (count, seconds) = (self.checks.len(), self.lasted.as_secs_f64());
        match failed {
            0 => writeln!(f, "\n{name}: as it should be ({count} checks, {seconds:.1} s)"),
            _ => writeln!(f, "\n{name}: FAILED ({failed} of {count} checks, {seconds:.1} s)"),
        }
    }
}

fn indented(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for line in text.trim_end().lines() {
        writeln!(f, "    {line}")?;
    }
    Ok(())
}

/// Plays a scenario to its end, in at most about ten seconds.
///
/// # Errors
/// The stage cannot be set: no socket, no thread, or referee does not start.
pub fn perform(scenario: &'static Scenario) -> Result<Performance, String> {
    let trace = Trace::start();
    let application = Application::start(&trace).map_err(|error| format!("the application: {error}"))?;
    let agent = |column, user| {
        Agent::start(column, user, &trace, PATIENCE).map_err(|error| format!("the {}: {error}", column.name()))
    };
    let mut carrier = agent(Column::Carrier, "+491512345678")?;
    let mut platform = agent(Column::Platform, "bot")?;
    let stage = configuration(
        &application.base_url(),
        carrier.address(),
        platform.address(),
        scenario.total_timeout,
    )?;
    let running = io::start(stage).map_err(|error| format!("referee does not start: {error}"))?;
    let public = running.addresses().first().map(|bind| bind.address);
    let proxy = public.ok_or("referee listens nowhere")?;
    let control = running.control_address().ok_or("the control API listens nowhere")?;
    let call_id = new_call_id();

    let inboxes = [carrier.inbox(), platform.inbox()];
    let ((tell_carrier, carrier_told), (tell_platform, platform_told)) = (channel(), channel());
    let told = [carrier_told, platform_told];
    let mut problems = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| script::play_carrier(&mut carrier, &call_id, proxy, scenario.carrier, &tell_carrier));
        scope.spawn(|| script::play_platform(&mut platform, scenario.platform, &tell_platform));
        let all = |input: fn() -> Input| {
            for inbox in &inboxes {
                // A peer that has given up says so itself.
                let _ = inbox.send(input());
            }
        };
        let conduct = || -> Result<(), String> {
            for peer in &told {
                await_ready(peer, &trace)?;
            }
            for (i, _) in scenario.transfers.iter().enumerate() {
                if i > 0 {
                    await_ready(&told[1], &trace)?;
                }
                application.post_verb(control, &call_id, &verb(i))?;
                await_action(&application.hooks, &trace)?;
                all(|| Input::Cue);
            }
            for peer in &told {
                await_done(peer, &trace)?;
            }
            // What should not come has the time to come.
            while application.hooks.recv_timeout(QUIET).is_ok() {}
            Ok(())
        };
        problems.extend(conduct().err());
        all(|| Input::End);
    });
    running.stop();
    let events = trace.events();
    let mut checks = verdict::judge(&events, scenario, [SECRET.as_bytes(), JAMBONZ_SECRET.as_bytes()]);
    checks.insert(
        0,
        Check {
            claim: "everyone could play their part to the end",
            problems,
        },
    );
    Ok(Performance {
        scenario,
        events,
        checks,
        lasted: trace.now(),
    })
}

/// The verb of the transfer with this number, counted from 0. A verb with the same id twice would be one transfer.
fn verb(transfer: usize) -> String {
    match transfer {
        0 => VERB.to_owned(),
        _ => VERB.replace("unique-id-123", &format!("unique-id-{}", 123 + transfer)),
    }
}

fn await_ready(peer: &Receiver<Told>, trace: &Trace) -> Result<(), String> {
    match peer.recv_timeout(PATIENCE.saturating_sub(trace.now())) {
        Ok(Told::Ready) => Ok(()),
        Ok(Told::Done(result)) => result.and(Err("a peer's script ended too early".into())),
        Err(_) => Err("a peer was not ready in time".into()),
    }
}

fn await_done(peer: &Receiver<Told>, trace: &Trace) -> Result<(), String> {
    loop {
        match peer.recv_timeout((PATIENCE + QUIET).saturating_sub(trace.now())) {
            Ok(Told::Ready) => {}
            Ok(Told::Done(result)) => return result,
            Err(_) => return Err("a peer did not come to an end".into()),
        }
    }
}

fn await_action(hooks: &Receiver<String>, trace: &Trace) -> Result<(), String> {
    loop {
        match hooks.recv_timeout(PATIENCE.saturating_sub(trace.now())) {
            Ok(path) if path == "/action" => return Ok(()),
            Ok(_) => {}
            Err(_) => return Err("application: no actionHook came".into()),
        }
    }
}

/// What a file would say, but for the ports: those are free ones, which a file cannot ask for.
fn configuration(hooks: &str, carrier: SocketAddr, platform: SocketAddr, total_timeout: u32) -> Result<Config, String> {
    let text = format!(
        r#"
        [[listen]]
        name = "public"
        bind = ["udp:127.0.0.1:5060"]
        [[listen]]
        name = "private"
        bind = ["udp:127.0.0.1:5061"]

        [control]
        listen = "127.0.0.1:8080"

        [hooks]
        base_url = "{hooks}"
        secret = "{SECRET}"
        jambonz_secret = "{JAMBONZ_SECRET}"

        [[trunk]]
        name = "carrier"
        side = "carrier"
        listen = "public"
        addresses = ["udp:{carrier}"]
        [trunk.refer]
        bare_number = "sip:{{number}}@127.0.0.1"
        destinations = ["*"]
        total_timeout = "{total_timeout}s"

        [[trunk]]
        name = "platform"
        side = "platform"
        listen = "private"
        addresses = ["udp:{platform}"]

        [[route]]
        from = "carrier"
        to = "platform"
        "#
    );
    let mut config = config::parse(&text, &|_| None).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        format!("the configuration: {}", lines.join("; "))
    })?;
    for bind in &mut config.binds {
        bind.address.set_port(0);
    }
    config.control.listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    Ok(config)
}

/// Unlike that of any other run.
fn new_call_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("demo-{:x}-{:x}@127.0.0.1", std::process::id(), now.as_nanos())
}

/// The verb, as an application would send it: a bare number, hooks relative to the application, a header of its own, and
/// within `actionHook` the fields that the result will have, which say nothing in a request.
const VERB: &str = r#"{
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

/// What the verb becomes on the wire.
const REFER_TO: &str = "<sip:+49XXXXXXXXXXX@127.0.0.1>";
const REFERRED_BY: &str = "<sip:caller@example.com>";
const CUSTOM_HEADER: (&str, &str) = ("X-Custom-Header", "Value");

const SECRET: &str = "secret-of-the-demonstration";
const JAMBONZ_SECRET: &str = "secret-of-its-own";

/// Nobody waits longer than this after the start.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long nothing must happen at the end.
const QUIET: Duration = Duration::from_millis(250);
/// Long enough to be seen on the ladder.
const RING: Duration = Duration::from_millis(150);
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
    }

    #[test]
    fn the_second_transfer_has_an_id_of_its_own() {
        assert_eq!(verb(0), VERB);
        let second: Value = serde_json::from_str(&verb(1)).unwrap();
        assert_eq!(second["id"], "unique-id-124");
    }

    #[test]
    fn the_configuration_is_one_that_a_file_could_have() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 5070));
        let config = configuration("http://127.0.0.1:9000", address, address, 30).unwrap();
        assert_eq!(
            (config.binds.len(), config.trunks.len(), config.routes.len()),
            (2, 2, 1)
        );
    }
}
