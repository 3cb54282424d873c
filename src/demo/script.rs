//! What carrier and platform do in a scenario: steps, and how an agent takes them.

use super::agent::Agent;
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
    /// Reports a status of the transfer target.
    Notify(&'static str),
    /// The transfer target takes its time.
    Ring(Duration),
    /// Waits until the application has its actionHook.
    AwaitAction,
    /// Asks for a change of the session.
    Reinvite,
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

/// The carrier: calls the platform, then does what the scenario says.
pub fn play_carrier(agent: &mut Agent, call_id: &str, proxy: SocketAddr, steps: &[Step], tell: &Sender<Told>) {
    let result = agent.invite(NUMBER, call_id, proxy).and_then(|()| {
        // Nobody listens any more if the demonstration has given up; the script then ends by its own deadline.
        let _ = tell.send(Told::Ready);
        follow(agent, steps, tell)
    });
    let _ = tell.send(Told::Done(result.map_err(|problem| format!("carrier: {problem}"))));
    agent.serve_for(Duration::MAX);
}

/// The platform: answers the call, then does what the scenario says.
pub fn play_platform(agent: &mut Agent, steps: &[Step], tell: &Sender<Told>) {
    let result = answer(agent).and_then(|()| {
        let _ = tell.send(Told::Ready);
        follow(agent, steps, tell)
    });
    let _ = tell.send(Told::Done(result.map_err(|problem| format!("platform: {problem}"))));
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

fn follow(agent: &mut Agent, steps: &[Step], tell: &Sender<Told>) -> Result<(), String> {
    // The first REFER of a dialog needs no id, later ones do (RFC 3515 §2.4.6).
    let mut refers = 0;
    let mut event = "refer".to_owned();
    for step in steps {
        match *step {
            Step::AnswerRefer(status) | Step::NotifyThenAnswerRefer(_, status) => {
                let refer = agent.await_request("REFER")?;
                refers += 1;
                if refers > 1 {
                    let (number, _) = refer.cseq().unwrap_or_default();
                    event = format!("refer;id={number}");
                }
                if let Step::NotifyThenAnswerRefer(early, _) = *step {
                    notify(agent, &event, early)?;
                }
                agent.respond(&refer, status, &[], "");
            }
            Step::Notify(status) => notify(agent, &event, status)?,
            Step::Ring(time) => agent.serve_for(time),
            Step::AwaitAction => agent.await_cue()?,
            Step::Reinvite => {
                let sdp = agent.sdp();
                agent.transact("INVITE", &[("Content-Type", "application/sdp")], &sdp)?;
                let cseq = agent.local_cseq();
                agent.acknowledge(cseq)?;
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
/// Long enough to be seen on the ladder.
const RING: Duration = Duration::from_millis(150);
