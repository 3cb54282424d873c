//! What carrier and platform do in a scenario: steps, and how an agent takes them.

use super::agent::{Agent, Input};
use super::credentials;
use super::scenarios::RING;
use super::sip::{self, Message};
use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// One step of a peer's script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Waits for a REFER and answers it.
    AnswerRefer(&'static str),
    /// Waits for a REFER, and reports this status of the transfer target before it answers.
    NotifyThenAnswerRefer(&'static str, &'static str),
    /// Waits for a REFER and asks for credentials; the next one must have them.
    ChallengeRefer,
    /// Reports a status of the transfer target.
    Notify(&'static str),
    /// Reports that the target rings and answers if it is one of the carrier's domain, else 403.
    TryTarget,
    /// The transferred phone takes the other party's place in the target's call.
    JoinTarget,
    /// Waits until the transferred phone has done that here.
    AwaitJoin,
    /// The transfer target takes its time.
    Ring(Duration),
    /// Waits until the application has its actionHook.
    AwaitAction,
    /// Asks for a change of the session.
    Reinvite,
    /// Waits for the other party's re-INVITE.
    AwaitReinvite,
    /// Sends an INFO.
    Info,
    /// Tells the demonstration to ask for the next transfer.
    Ready,
    HangUp,
    /// Waits until the call is ended by the other side.
    AwaitBye,
}

/// What a peer tells the demonstration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The call is up, as this peer sees it; or it is ready for the next transfer.
    Ready,
    /// The script is over; what went wrong, if something did.
    Done(Result<(), String>),
}

/// How a peer comes into its call.
#[derive(Debug)]
pub enum Entry<'a> {
    /// It calls, with this Call-ID and through this address.
    Calls(&'a str, SocketAddr),
    /// It is called.
    Answers,
}

/// A peer's part: its call comes up, then it does what the scenario says. `target`: the inbox of whom it may join.
pub fn play(agent: &mut Agent, entry: &Entry<'_>, steps: &[Step], target: &Sender<Input>, tell: &Sender<Told>) {
    let begun = match entry {
        Entry::Calls(call_id, proxy) => agent.invite(NUMBER, call_id, *proxy),
        Entry::Answers => answer(agent),
    };
    let result = begun.and_then(|()| {
        // Nobody listens any more if the demonstration has given up; the script then ends by its own deadline.
        let _ = tell.send(Told::Ready);
        follow(agent, steps, target, tell)
    });
    let name = agent.name();
    let _ = tell.send(Told::Done(result.map_err(|problem| format!("{name}: {problem}"))));
    agent.serve_for(Duration::MAX);
}

fn answer(agent: &mut Agent) -> Result<(), String> {
    let invite = agent.await_request("INVITE")?;
    agent.respond(&invite, "100 Trying", &[], "");
    agent.take_call(&invite);
    agent.respond(&invite, "180 Ringing", &[], "");
    agent.serve_for(RING);
    let sdp = agent.sdp();
    let extra = [
        ("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO"),
        ("Content-Type", "application/sdp"),
    ];
    agent.respond(&invite, "200 OK", &extra, &sdp);
    agent.await_request("ACK").map(|_| ())
}

fn follow(agent: &mut Agent, steps: &[Step], target: &Sender<Input>, tell: &Sender<Told>) -> Result<(), String> {
    let mut referred = Referred::default();
    for step in steps {
        match *step {
            Step::AnswerRefer(status) => {
                referred.take(agent.await_request("REFER")?)?;
                agent.respond(&referred.refer, status, &[], "");
            }
            Step::NotifyThenAnswerRefer(early, status) => {
                referred.take(agent.await_request("REFER")?)?;
                referred.notify(agent, early)?;
                agent.respond(&referred.refer, status, &[], "");
            }
            Step::ChallengeRefer => {
                let refer = agent.await_request("REFER")?;
                let challenge = credentials::challenge();
                agent.respond(&refer, "401 Unauthorized", &[("WWW-Authenticate", &challenge)], "");
                referred.is_challenged = true;
            }
            Step::Notify(status) => referred.notify(agent, status)?,
            Step::TryTarget => match sip::host_of(referred.target()) {
                credentials::REALM => {
                    referred.notify(agent, "180 Ringing")?;
                    agent.serve_for(RING);
                    referred.notify(agent, "200 OK")?;
                }
                _ => referred.notify(agent, "403 Forbidden")?,
            },
            Step::JoinTarget => {
                let dialog = sip::replaces_of(referred.target()).ok_or("its REFER has no Replaces")?;
                // A target that has given up says so itself.
                let _ = target.send(Input::Replace(dialog));
            }
            Step::AwaitJoin => agent.await_replace()?,
            Step::Ring(time) => agent.serve_for(time),
            Step::AwaitAction => agent.await_cue()?,
            Step::Reinvite => {
                let sdp = agent.sdp();
                agent.transact("INVITE", &[("Content-Type", "application/sdp")], &sdp)?;
                let cseq = agent.local_cseq();
                agent.acknowledge(cseq)?;
            }
            Step::AwaitReinvite => {
                let invite = agent.await_request("INVITE")?;
                agent.serve(&invite);
            }
            Step::Info => {
                agent.transact("INFO", &[], "")?;
            }
            Step::Ready => {
                let _ = tell.send(Told::Ready);
            }
            Step::HangUp => agent.hang_up()?,
            Step::AwaitBye => agent.await_bye()?,
        }
    }
    Ok(())
}

/// The REFER that a peer carries out.
#[derive(Debug, Default)]
struct Referred {
    refer: Message,
    /// How many came, without those that were challenged.
    count: u32,
    is_challenged: bool,
}

impl Referred {
    fn take(&mut self, refer: Message) -> Result<(), String> {
        if std::mem::take(&mut self.is_challenged) {
            credentials::verify(refer.header("Authorization").unwrap_or_default(), "REFER")?;
        }
        self.refer = refer;
        self.count += 1;
        Ok(())
    }

    fn target(&self) -> &str {
        self.refer.header("Refer-To").unwrap_or_default()
    }

    fn notify(&self, agent: &mut Agent, status: &str) -> Result<(), String> {
        // The first REFER of a dialog needs no id, later ones do (RFC 3515 §2.4.6).
        let (number, _) = self.refer.cseq().unwrap_or_default();
        let event = match self.count {
            1 => "refer".to_owned(),
            _ => format!("refer;id={number}"),
        };
        notify(agent, &event, status)
    }
}

fn notify(agent: &mut Agent, event: &str, status: &str) -> Result<(), String> {
    let is_final = !status.starts_with('1');
    let state = if is_final {
        "terminated;reason=noresource"
    } else {
        "active;expires=60"
    };
    let headers = [
        ("Event", event),
        ("Subscription-State", state),
        ("Content-Type", "message/sipfrag;version=2.0"),
    ];
    agent
        .transact("NOTIFY", &headers, &format!("SIP/2.0 {status}\r\n"))
        .map(|_| ())
}

/// Who is called: a number that the platform serves.
const NUMBER: &str = "+4930111222";
