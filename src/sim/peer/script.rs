//! What a peer is told to do: how it behaves, what it does when a request comes, what it does of itself.

use crate::transport::Transport;
use std::net::SocketAddr;
use std::time::Duration;

/// One thing a peer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Answers the request that is reacted to, with further header lines.
    Respond { code: u16, headers: Vec<(String, String)> },
    /// Answers an INVITE as another of those behind it does (RFC 3261 §12.1: a dialog of its own); a 2xx makes that one's
    /// dialog a second one.
    RespondAsOther { code: u16, other: u8 },
    /// Sends a request within the dialog.
    Request {
        method: String,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// Sends a NOTIFY of the REFER at this place among those of the dialog, else of that which is reacted to, else of the last one: the
    /// first line of the sipfrag without its version (`180 Ringing`; empty: no body), and the Subscription-State.
    Notify {
        place: Option<usize>,
        status: String,
        state: String,
    },
    /// Sends a request in a dialog whatever its state: a challenged BYE again.
    Again {
        method: String,
        headers: Vec<(String, String)>,
    },
    /// Gives up its own INVITE.
    Cancel,
    /// Declines an INVITE of this dialog that it has not answered.
    Decline,
    /// Shows this Contact from now on.
    Move { contact: String },
}

/// A response without further header lines.
pub fn respond(code: u16) -> Act {
    Act::Respond {
        code,
        headers: Vec::new(),
    }
}

/// A response of another one behind the callee.
pub fn respond_as_other(code: u16, other: u8) -> Act {
    Act::RespondAsOther { code, other }
}

/// A response with header lines.
pub fn respond_with(code: u16, headers: &[(&str, &str)]) -> Act {
    Act::Respond {
        code,
        headers: owned(headers),
    }
}

/// A request within the dialog.
pub fn request(method: &str) -> Act {
    request_with(method, &[], "")
}

/// A request within the dialog with header lines and a body.
pub fn request_with(method: &str, headers: &[(&str, &str)], body: &str) -> Act {
    Act::Request {
        method: method.into(),
        headers: owned(headers),
        body: body.into(),
    }
}

/// A NOTIFY of the REFER that is reacted to, or of the last one.
pub fn notify(status: &str, state: &str) -> Act {
    Act::Notify {
        place: None,
        status: status.into(),
        state: state.into(),
    }
}

/// A NOTIFY of the REFER at this place among those of the dialog.
pub fn notify_of(place: usize, status: &str, state: &str) -> Act {
    Act::Notify {
        place: Some(place),
        status: status.into(),
        state: state.into(),
    }
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Steps, each so long after the request came.
pub type Steps = Vec<(Duration, Act)>;

/// Steps from milliseconds.
pub fn steps(steps: impl IntoIterator<Item = (u64, Act)>) -> Steps {
    steps
        .into_iter()
        .map(|(millis, act)| (Duration::from_millis(millis), act))
        .collect()
}

/// What a peer does when a request of this method comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reaction {
    pub method: String,
    pub steps: Steps,
}

/// When NOTIFYs of a REFER have an id (RFC 3515 §2.4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventIds {
    Always,
    /// From the second REFER of a dialog on, which is a must.
    FromTheSecond,
    /// Against the rule, as agents do that know of one subscription only.
    Never,
}

/// What a peer does with a connection to its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    Taken,
    /// It speaks no TCP: a reset.
    Refused,
    /// A firewall in front of it says nothing.
    Ignored,
}

/// How a peer is and behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manners {
    /// Where it sends its calls, and over what.
    pub referee: SocketAddr,
    pub transport: Transport,
    /// Who it is: a name-addr without a tag.
    pub identity: String,
    /// Its tag in every dialog, where it does not make one up.
    pub tag: Option<String>,
    /// Header lines of its INVITEs and of its responses to them.
    pub headers: Vec<(String, String)>,
    /// Whether it copies Record-Route and builds route sets (RFC 3261 §12). Stock SIPp does not.
    pub follows_routes: bool,
    /// A proxy before it at the same address, as it names itself in Record-Route: what is sent in a dialog has to go by it.
    pub proxy: Option<String>,
    /// The host and port of its Contact, where it is not its address.
    pub contact_host: Option<String>,
    /// The CSeq number of its first INVITE; a callee's first request has one more.
    pub first_cseq: u32,
    /// When its NOTIFYs of a REFER have an id.
    pub event_ids: EventIds,
    /// Whether it refuses an INVITE that it has had already, with another branch (RFC 3261 §8.2.2.2).
    pub refuses_merged: bool,
    /// Whether referee may be the other party of its calls, with a Contact of its own.
    pub calls_applications: bool,
    /// Whether its INVITEs offer; otherwise it answers the other's offer with its ACK.
    pub offers: bool,
    /// Whether it does: an ACK without an answer is a fault.
    pub answers_offers: bool,
    /// Whether a challenged request comes again with credentials.
    pub has_credentials: bool,
    /// Whether it agrees to a session interval that is asked for (RFC 4028 §9).
    pub agrees_to_intervals: bool,
    /// Its timers of RFC 3261 §17.
    pub t1: Duration,
    pub t2: Duration,
    /// Why it gives up its calls, as its CANCELs say (RFC 3326).
    pub cancel_reason: Option<String>,
    /// Whether it hangs up on all targets that answer its call but the first.
    pub hangs_up_on_forks: bool,
    /// What it does with connections that referee opens.
    pub streams: Streams,
    /// Whether the network keeps order, so that a CSeq that falls is a fault of referee's.
    pub in_order: bool,
}

impl Manners {
    /// A well-behaved peer behind this address of referee's.
    pub fn new(referee: &str, identity: &str) -> Manners {
        Manners {
            referee: address(referee),
            transport: Transport::Udp,
            identity: identity.into(),
            tag: None,
            headers: vec![("Allow".into(), "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO".into())],
            follows_routes: true,
            proxy: None,
            contact_host: None,
            first_cseq: 1,
            event_ids: EventIds::FromTheSecond,
            refuses_merged: false,
            calls_applications: false,
            offers: true,
            answers_offers: true,
            has_credentials: false,
            agrees_to_intervals: false,
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            cancel_reason: None,
            hangs_up_on_forks: true,
            streams: Streams::Taken,
            in_order: true,
        }
    }
}

/// An address literal.
pub(crate) fn address(text: &str) -> SocketAddr {
    match text.parse() {
        Ok(address) => address,
        Err(_) => panic!("`{text}` is no address with a port"),
    }
}
