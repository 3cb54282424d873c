//! A dialog as one of its two user agents keeps it (RFC 3261 §12).

use super::text::{Text, host_port, uri_of};
use super::{Path, transport_of};
use crate::timer::Instant;
use crate::transport::Transport;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialogState {
    Early,
    Confirmed,
    Ended,
}

#[derive(Clone, Debug)]
pub struct Dialog {
    pub call_id: String,
    pub state: DialogState,
    pub local_tag: String,
    /// From or To of its own, without the tag.
    local_value: String,
    /// The other's, with its tag once it has one.
    remote_value: String,
    remote_has_tag: bool,
    /// The number of its last request.
    pub local_number: u32,
    /// The highest number of the other.
    pub remote_number: Option<u32>,
    /// Numbers the other has used, with their branches.
    pub remote_numbers: BTreeMap<u32, String>,
    /// Route values in order, without that of the proxy before it.
    routes: Vec<String>,
    /// That one.
    pub proxy: Option<String>,
    pub target: String,
    /// The Contact it says now, and every one that it has said where it counts.
    pub contact: String,
    pub shown: Vec<String>,
    /// Where it called to, or was called from.
    path: Path,
    /// The Request-URI of one that follows no route sets.
    flat_uri: String,
    pub invite: Option<(String, String)>,
    /// The CSeq number of the other's last INVITE.
    pub last_invite: u32,
    /// Those of all its INVITEs.
    pub invites: BTreeSet<u32>,
    /// Tags of the callees that have answered its INVITE, where it is the caller's.
    pub callees: BTreeSet<String>,
    pub is_callers: bool,
    /// Provisional responses that it has acknowledged, by RSeq and To.
    pub acked: BTreeSet<String>,
    /// A provisional response of its own was acknowledged.
    pub was_acked: bool,
    /// Since when it has a BYE of referee's own, which it need not have accepted.
    pub given_up: Option<Instant>,
    /// REFERs that came, in order.
    pub refers: Vec<Refer>,
}

#[derive(Clone, Debug)]
pub struct Refer {
    /// Its CSeq number.
    pub number: u32,
    /// The branch of whoever sent it.
    pub origin: String,
    /// A NOTIFY has ended its subscription.
    pub has_ended: bool,
    /// It has a 2xx: there is a subscription.
    pub is_accepted: bool,
}

impl Dialog {
    #[expect(clippy::too_many_arguments, reason = "each is a fact of its own, given once")]
    pub fn of_caller(
        call_id: &str,
        tag: String,
        identity: &str,
        uri: &str,
        contact: String,
        first: u32,
        path: Path,
        proxy: Option<String>,
    ) -> Dialog {
        Dialog {
            call_id: call_id.into(),
            state: DialogState::Early,
            local_tag: tag,
            local_value: identity.into(),
            remote_value: format!("<{uri}>"),
            remote_has_tag: false,
            local_number: first - 1,
            remote_number: None,
            remote_numbers: BTreeMap::new(),
            routes: Vec::new(),
            proxy,
            target: uri.into(),
            shown: vec![contact.clone()],
            contact,
            path,
            flat_uri: uri.into(),
            invite: None,
            last_invite: 0,
            invites: BTreeSet::new(),
            callees: BTreeSet::new(),
            is_callers: true,
            acked: BTreeSet::new(),
            was_acked: false,
            given_up: None,
            refers: Vec::new(),
        }
    }

    pub fn of_callee(
        invite: &Text,
        tag: String,
        contact: String,
        first: u32,
        path: Path,
        proxy: Option<String>,
    ) -> Dialog {
        let number = invite.cseq().0;
        let value = |name: &str| invite.header(name).unwrap_or_default().to_owned();
        Dialog {
            call_id: invite.call_id().into(),
            state: DialogState::Early,
            local_tag: tag,
            local_value: value("To"),
            remote_value: value("From"),
            remote_has_tag: true,
            local_number: first - 1,
            remote_number: Some(number),
            remote_numbers: BTreeMap::from([(number, invite.branch())]),
            // RFC 3261 §12.1.1: in order.
            routes: invite.list("Record-Route"),
            proxy,
            target: uri_of(&value("Contact")).into(),
            shown: vec![contact.clone()],
            contact,
            path,
            flat_uri: format!("sip:peer@{}", path.far),
            invite: None,
            last_invite: number,
            invites: BTreeSet::from([number]),
            callees: BTreeSet::new(),
            is_callers: false,
            acked: BTreeSet::new(),
            was_acked: false,
            given_up: None,
            refers: Vec::new(),
        }
    }

    /// Its own From or To value.
    pub fn local(&self) -> String {
        format!("{};tag={}", self.local_value, self.local_tag)
    }

    /// The other's.
    pub fn remote(&self) -> String {
        self.remote_value.clone()
    }

    /// Whether the other's tag is known: before that a request of its is of no dialog.
    pub fn has_remote_tag(&self) -> bool {
        self.remote_has_tag
    }

    /// It has said its Contact where that moves the target (RFC 3261 §12.2).
    pub fn shows(&mut self) {
        if !self.shown.contains(&self.contact) {
            self.shown.push(self.contact.clone());
        }
    }

    /// Takes what a response to its INVITE says of the callee. `false`: it is of another dialog. Before the answer the dialog
    /// is whichever target spoke last (RFC 3261 §12.1.2, §13.2.2.4).
    pub fn learn_callee(&mut self, text: &Text) -> bool {
        let value = text.header("To").unwrap_or_default();
        self.callees.extend(text.tag("To"));
        if self.remote_has_tag && self.remote_value != value && self.state == DialogState::Confirmed {
            return false;
        }
        if self.remote_value != value {
            // Each callee has numbers of its own.
            self.remote_number = None;
            self.remote_numbers.clear();
            self.refers.clear();
        }
        self.remote_value = value.to_owned();
        self.remote_has_tag = true;
        // Also once another target has hung up before its answer was seen: each has a route set of its own.
        if self.state != DialogState::Confirmed {
            // RFC 3261 §12.1.2: reversed.
            self.routes = text.list("Record-Route");
            self.routes.reverse();
            self.routes.retain(|route| Some(route) != self.proxy.as_ref());
        }
        true
    }

    /// Its INVITE was challenged and comes again: no dialog has come of it yet.
    pub fn begin_again(&mut self) {
        self.state = DialogState::Early;
        self.remote_has_tag = false;
        self.remote_value = format!("<{}>", self.flat_uri);
        self.routes.clear();
        self.target = self.flat_uri.clone();
    }

    /// The dialog that another 2xx to the same INVITE makes. Its numbers go on from where they are: it may have been spoken in
    /// before the answer.
    pub fn another(&self, text: &Text) -> Dialog {
        let mut another = Dialog {
            state: DialogState::Early,
            remote_number: None,
            remote_numbers: BTreeMap::new(),
            invite: None,
            refers: Vec::new(),
            ..self.clone()
        };
        another.learn_callee(text);
        another.target = uri_of(text.header("Contact").unwrap_or_default()).to_owned();
        another.state = DialogState::Confirmed;
        another
    }

    pub fn request_uri(&self, follows_routes: bool) -> &str {
        if follows_routes { &self.target } else { &self.flat_uri }
    }

    /// The head of a request within the dialog, Via and Contact left out.
    pub fn head(&self, method: &str, number: u32, follows_routes: bool) -> Vec<(String, String)> {
        let mut lines = vec![("Max-Forwards".to_owned(), "70".to_owned())];
        if follows_routes {
            lines.extend(self.routes.iter().map(|route| ("Route".to_owned(), route.clone())));
        }
        lines.push(("From".into(), self.local()));
        lines.push(("To".into(), self.remote()));
        lines.push(("Call-ID".into(), self.call_id.clone()));
        lines.push(("CSeq".into(), format!("{number} {method}")));
        lines
    }

    /// Where its next request goes: to the first Route, else to the remote target; without route sets to where the call
    /// came from or went to.
    pub fn next_path(&self, follows_routes: bool, transport: Transport) -> Path {
        let Some(route) = self.routes.first().filter(|_| follows_routes) else {
            return self.path;
        };
        let uri = uri_of(route);
        let (host, port) = host_port(uri);
        let far: Result<SocketAddr, _> = format!("{host}:{port}").parse();
        let transport = match transport_of(uri) {
            Some(transport) => transport,
            None if transport == Transport::Tcp => Transport::Udp,
            None => transport,
        };
        match far {
            Ok(far) => Path {
                transport,
                far,
                // The connection the call came by, if it leads there.
                link: self
                    .path
                    .link
                    .filter(|_| self.path.far == far && self.path.transport == transport),
            },
            Err(_) => self.path,
        }
    }
}
