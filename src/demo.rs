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
mod credentials;
mod ladder;
mod scenarios;
mod script;
mod sip;
mod trace;
mod verdict;

use crate::config::{self, Config};
use crate::io;
use agent::{Agent, Input};
use application::Application;
use credentials::{PASSWORD, REALM, USERNAME};
use scenarios::{Asked, Target, Transfer};
pub use scenarios::{SCENARIOS, Scenario};
use script::{Entry, Step, Told};
use serde_json::Value;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Scope};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use trace::{Column, Event, Trace};
use verdict::Check;

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
    verb: String,
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
        match self.scenario.is_led {
            true => writeln!(f, "The verbs, with which the application answers the call hook:\n")?,
            false => writeln!(f, "The verb, as the application posts it to the control API:\n")?,
        }
        indented(f, &self.verb)?;
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
    let agent = |column, user| {
        Agent::start(column, user, &trace, PATIENCE).map_err(|error| format!("the {}: {error}", column.name()))
    };
    let mut carrier = agent(Column::Carrier, "+491512345678")?;
    let mut platform = agent(Column::Platform, "bot")?;
    // The second call of an attended transfer: the platform's other line, and the target, a phone of the carrier's.
    let mut consulting = agent(Column::Platform, "second-line")?;
    let mut target = agent(Column::Carrier, "target")?;
    let ids = [new_call_id("call"), new_call_id("consultation")];
    let mut verbs: Vec<String> = (0..)
        .zip(scenario.transfers)
        .map(|(i, transfer)| verb(i, transfer, &ids[1]))
        .collect();
    let mut replies: Vec<String> = (1..)
        .zip(scenario.transfers)
        .map(|(next, _)| match scenario.transfers.get(next) {
            Some(transfer) if transfer.asked == Asked::ByReply => verbs[next].clone(),
            _ => String::new(),
        })
        .collect();
    if scenario.is_led {
        verbs[0] = format!("{ANSWER}, {}", verbs[0]);
        replies.insert(0, verbs[0].clone());
    }
    let application = Application::start(&trace, replies).map_err(|error| format!("the application: {error}"))?;
    let stage = configuration(&application.base_url(), target.address(), platform.address(), scenario)?;
    let running = io::start(stage).map_err(|error| format!("referee does not start: {error}"))?;
    let [public, private] = running.addresses() else {
        return Err("referee does not listen on both sides".into());
    };
    let control = running.control_address().ok_or("the control API listens nowhere")?;

    let inboxes = [&carrier, &platform, &consulting, &target].map(Agent::inbox);
    let whom_to_join = target.inbox();
    let agents = (&mut carrier, &mut platform, &mut consulting, &mut target);
    let mut problems = Vec::new();
    thread::scope(|scope| {
        let all = |input: fn() -> Input| {
            for inbox in &inboxes {
                // A peer that has given up says so itself.
                let _ = inbox.send(input());
            }
        };
        let conduct = || -> Result<(), String> {
            let (carrier, platform, consulting, target) = agents;
            let enter = |agent, entry, steps| enter(scope, agent, entry, steps, whom_to_join.clone());
            let mut told = vec![enter(carrier, Entry::Calls(&ids[0], public.address), scenario.carrier)];
            if !scenario.is_led {
                told.push(enter(platform, Entry::Answers, scenario.platform));
            }
            await_ready(&told, &trace)?;
            if scenario.consults {
                let consultation = [
                    enter(target, Entry::Answers, &[Step::AwaitJoin, Step::HangUp]),
                    enter(consulting, Entry::Calls(&ids[1], private.address), &[Step::AwaitBye]),
                ];
                await_ready(&consultation, &trace)?;
                told.extend(consultation);
            }
            for (i, transfer) in scenario.transfers.iter().enumerate() {
                if transfer.asked == Asked::ByApi {
                    if i > 0 {
                        await_ready(&told[..2], &trace)?;
                    }
                    application.post_verb(control, &ids[0], &verbs[i])?;
                }
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
    let mut checks = verdict::judge(&events, scenario, &ids, [SECRET.as_bytes(), JAMBONZ_SECRET.as_bytes()]);
    checks.insert(
        0,
        Check {
            claim: "everyone could play their part to the end",
            problems,
        },
    );
    Ok(Performance {
        scenario,
        verb: match (scenario.is_led, verbs.into_iter().next()) {
            (true, Some(list)) => format!("[{list}]"),
            (_, verb) => verb.unwrap_or_default(),
        },
        events,
        checks,
        lasted: trace.now(),
    })
}

/// Lets a peer play its part.
fn enter<'scope>(
    scope: &'scope Scope<'scope, '_>,
    agent: &'scope mut Agent,
    entry: Entry<'scope>,
    steps: &'scope [Step],
    whom_to_join: Sender<Input>,
) -> Receiver<Told> {
    let (tell, told) = channel();
    scope.spawn(move || script::play(agent, &entry, steps, &whom_to_join, &tell));
    told
}

/// The verb of the transfer with this number, counted from 0. A verb with the same id twice would be one transfer.
fn verb(number: usize, transfer: &Transfer, consultation: &str) -> String {
    let target = match transfer.target {
        Target::Named(refer_to, _) => format!(r#""referTo": "{refer_to}""#),
        Target::Consulted => format!(r#""replaces": {{"call": "{consultation}"}}"#),
    };
    VERB.replace(r#""referTo": "+49XXXXXXXXXXX""#, &target)
        .replace("unique-id-123", &format!("unique-id-{}", 123 + number))
}

fn await_ready(peers: &[Receiver<Told>], trace: &Trace) -> Result<(), String> {
    for peer in peers {
        match peer.recv_timeout(PATIENCE.saturating_sub(trace.now())) {
            Ok(Told::Ready) => {}
            Ok(Told::Done(result)) => return result.and(Err("a peer's script ended too early".into())),
            Err(_) => return Err("a peer was not ready in time".into()),
        }
    }
    Ok(())
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
fn configuration(
    hooks: &str,
    carrier: SocketAddr,
    platform: SocketAddr,
    scenario: &Scenario,
) -> Result<Config, String> {
    let total_timeout = scenario.total_timeout;
    let way = match scenario.is_led {
        true => r#"application = "ivr""#,
        false => r#"to = "platform""#,
    };
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
        [trunk.auth]
        username = "{USERNAME}"
        password = "{PASSWORD}"
        realms = ["{REALM}"]

        [[trunk]]
        name = "platform"
        side = "platform"
        listen = "private"
        addresses = ["udp:{platform}"]

        [[application]]
        name = "ivr"
        call_hook = "{hooks}/call"
        call_status_hook = "/status"

        [[route]]
        from = "carrier"
        {way}

        [[route]]
        from = "platform"
        to = "carrier"
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
fn new_call_id(kind: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{kind}-{:x}-{:x}@127.0.0.1", std::process::id(), now.as_nanos())
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

/// Before it, where the application leads the call.
const ANSWER: &str = r#"{"verb": "answer"}"#;

/// What the verb becomes on the wire; of its target see [`Target`].
const REFERRED_BY: &str = "<sip:caller@example.com>";
const CUSTOM_HEADER: (&str, &str) = ("X-Custom-Header", "Value");

const SECRET: &str = "secret-of-the-demonstration";
const JAMBONZ_SECRET: &str = "secret-of-its-own";

/// Nobody waits longer than this after the start.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long nothing must happen at the end.
const QUIET: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use scenarios::SUCCESS;

    #[test]
    fn a_verb_has_its_own_id_and_target() {
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let named = Target::Named("sip:a@b", "<sip:a@b>");
        for (number, target, referred, replaced) in [
            (0, named, "sip:a@b".into(), Value::Null),
            (1, Target::Consulted, Value::Null, "x@y".into()),
        ] {
            let transfer = Transfer { target, ..SUCCESS };
            let verb = read(&verb(number, &transfer, "x@y"));
            assert_eq!(verb["id"], format!("unique-id-{}", 123 + number));
            assert_eq!((&verb["referTo"], &verb["replaces"]["call"]), (&referred, &replaced));
        }
        assert_eq!(verb(0, &SUCCESS, ""), VERB);
    }

    #[test]
    fn the_configuration_is_one_that_a_file_could_have() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 5070));
        for scenario in SCENARIOS {
            let config = configuration("http://127.0.0.1:9000", address, address, scenario).unwrap();
            assert_eq!(
                (config.binds.len(), config.trunks.len(), config.routes.len()),
                (2, 2, 2)
            );
            assert_eq!(config.routes[0].application.is_some(), scenario.is_led);
        }
    }
}
