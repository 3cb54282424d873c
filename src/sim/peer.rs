//! A scripted user agent (RFC 3261 §8, §12 to §17), written apart from the core: its messages are plain text, its reading is
//! [`text`]'s. It follows the rules itself and records every breach of them that reaches it.
//!
//! It is a pure machine: bytes and time go in, packets come out.

pub mod detour;
pub mod gate;
pub mod instinct;
pub mod script;
pub mod text;

mod client;
mod dialog;
mod server;

use crate::timer::Instant;
use crate::transport::Transport;
use dialog::{Dialog, DialogState};
use gate::Gate;
use instinct::Instinct;
use script::{Act, EventIds, Manners, Reaction, Steps};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;
use text::{Text, uri_param};

/// What NOTIFYs of peers say of their REFER for the checks, whatever their Event says: the branch of whoever sent it.
pub const OF_REFER: &str = "X-Of-Refer";

/// Likewise, that the one before ended the subscription: there should be none more, and whose it is nobody can tell.
pub const AFTER_LAST: &str = "X-After-Last";

/// Where bytes go to or came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    pub transport: Transport,
    pub far: SocketAddr,
    /// The connection, if there is one.
    pub link: Option<u64>,
}

/// Bytes on their way out.
#[derive(Clone, Debug)]
pub struct Packet {
    pub path: Path,
    pub bytes: Vec<u8>,
}

/// A message a peer has heard or said.
#[derive(Clone, Debug)]
pub struct Heard {
    pub at: Instant,
    pub text: Text,
}

/// A scripted user agent.
#[derive(Debug)]
pub struct Peer {
    pub name: String,
    pub address: SocketAddr,
    pub manners: Manners,
    reactions: Vec<Reaction>,
    /// By Call-ID; a further one that an INVITE of its own has made also by the callee's tag, behind a space.
    dialogs: BTreeMap<String, Dialog>,
    /// By branch and method.
    clients: BTreeMap<(String, String), Client>,
    servers: BTreeMap<(String, String), Server>,
    agenda: BTreeMap<(Instant, u64), Due>,
    /// Names branches, tags and calls, and orders the agenda.
    counter: u64,
    outgoing: VecDeque<Packet>,
    heard: Vec<Heard>,
    said: Vec<Heard>,
    violations: Vec<String>,
    /// What it does where no reaction is told.
    pub instinct: Option<Instinct>,
    /// What it asks for before it does anything.
    pub gate: Option<Gate>,
    /// INVITEs that it has sent back to referee: by the branch of its own, what it was asked.
    sent_back: BTreeMap<String, Key>,
    /// Branches of what it put on the wire as it was, and of what others did in its name.
    unjudged: BTreeSet<String>,
    /// Branches and methods of requests that came again long after: they may be answered again, and otherwise.
    replayed: BTreeSet<String>,
    /// What it knew before it crashed: branches of its requests, Call-IDs and tags of its dialogs. And REFERs of [`Peer::may_hear_of`].
    past: BTreeSet<String>,
}

/// A client transaction; kept when it has ended, so that a late response is known.
#[derive(Debug)]
struct Client {
    call_id: String,
    number: u32,
    from: String,
    bytes: Vec<u8>,
    path: Path,
    interval: Duration,
    state: ClientState,
    final_code: Option<u16>,
    /// For an INVITE with a final response: the ACK for it.
    ack: Option<(Path, Vec<u8>)>,
    /// A CANCEL waits for a provisional response.
    cancel_wanted: bool,
}

impl Client {
    /// One whose request goes out now.
    fn calling(call_id: &str, number: u32, from: String, path: Path, bytes: Vec<u8>, t1: Duration) -> Client {
        Client {
            call_id: call_id.to_owned(),
            number,
            from,
            bytes,
            path,
            interval: t1,
            state: ClientState::Calling,
            final_code: None,
            ack: None,
            cancel_wanted: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientState {
    Calling,
    Proceeding,
    Done,
    TimedOut,
}

#[derive(Debug)]
struct Server {
    call_id: String,
    request: Text,
    path: Path,
    tag: String,
    /// The last response.
    response: Option<Vec<u8>>,
    final_code: Option<u16>,
    /// When its final response left first.
    ended: Option<Instant>,
    acknowledged: bool,
    interval: Duration,
    /// Tags of others behind it that have answered, and whether a 2xx of theirs needs no ACK any more.
    others: BTreeMap<String, bool>,
}

type Key = (String, String);

/// What another one behind a callee answered with a 2xx, and until when that is repeated.
#[derive(Debug)]
struct OtherAnswer {
    tag: String,
    bytes: Vec<u8>,
    until: Instant,
}

#[derive(Debug)]
enum Due {
    Act {
        call_id: String,
        server: Option<Key>,
        act: Act,
    },
    Resend(Key),
    GiveUp(Key),
    GiveUpCancelled(Key),
    /// A final response to an INVITE, again.
    Repeat(Key),
    /// A reliable provisional response again, after so long.
    Reliable(Key, Duration),
    /// The 2xx of another one behind it again, after so long.
    RepeatOther(Key, OtherAnswer, Duration),
    /// No ACK came for a 2xx.
    NoAck(Key),
}

impl Peer {
    pub fn new(name: &str, address: &str, manners: Manners) -> Peer {
        Peer {
            name: name.into(),
            address: script::address(address),
            manners,
            reactions: Vec::new(),
            dialogs: BTreeMap::new(),
            clients: BTreeMap::new(),
            servers: BTreeMap::new(),
            agenda: BTreeMap::new(),
            counter: 0,
            outgoing: VecDeque::new(),
            heard: Vec::new(),
            said: Vec::new(),
            violations: Vec::new(),
            instinct: None,
            gate: None,
            sent_back: BTreeMap::new(),
            unjudged: BTreeSet::new(),
            replayed: BTreeSet::new(),
            past: BTreeSet::new(),
        }
    }

    // ---- what a script says ----

    /// Reacts so to the next request of this method; several calls for one method are for its first, second, … request.
    /// Without one an INVITE is answered 180 and 200, a REFER 603, anything else 200.
    pub fn on(&mut self, method: &str, steps: Steps) {
        self.reactions.push(Reaction {
            method: method.into(),
            steps,
        });
    }

    /// Calls this URI with these further header lines; gives back the Call-ID.
    pub fn call(&mut self, uri: &str, headers: &[(&str, &str)], now: Instant) -> String {
        let count = self.count();
        let call_id = format!("{}-call{count}@{}", self.name, self.address.ip());
        let path = Path {
            transport: self.manners.transport,
            far: self.manners.referee,
            link: None,
        };
        let identity = self.manners.identity.clone();
        let dialog = Dialog::of_caller(
            &call_id,
            self.new_tag(),
            &identity,
            uri,
            self.contact("user"),
            self.manners.first_cseq,
            path,
            self.manners.proxy.clone(),
        );
        self.dialogs.insert(call_id.clone(), dialog);
        let mut lines = self.manners.headers.clone();
        let proxy = self.manners.proxy.clone();
        lines.extend(proxy.map(|proxy| ("Record-Route".to_owned(), proxy)));
        lines.extend(
            headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string())),
        );
        let body = if self.manners.offers { OFFER } else { "" };
        self.send_request(&call_id, "INVITE", &lines, body, now);
        call_id
    }

    /// Does one thing now.
    pub fn act(&mut self, call_id: &str, act: Act, now: Instant) {
        self.perform(call_id, None, act, now);
    }

    /// Does one thing later.
    pub fn act_at(&mut self, call_id: &str, act: Act, at: Instant) {
        let call_id = call_id.to_owned();
        self.plan(
            at,
            Due::Act {
                call_id,
                server: None,
                act,
            },
        );
    }

    /// Somebody sends a request with this branch in its name: what answers it is heard and not judged.
    pub fn unjudge(&mut self, branch: String) {
        self.unjudged.insert(branch);
    }

    /// What its callee tells of this REFER of referee's may be taken for what it tells of one of its own.
    pub fn may_hear_of(&mut self, refer: String) {
        self.past.insert(refer);
    }

    /// A message that it has sent or that was sent to it comes again long after.
    pub fn replayed(&mut self, text: &Text) {
        self.replayed.insert(text.branch());
        self.replayed.insert(text.origin());
    }

    /// Loses all it knows.
    pub fn crash(&mut self) {
        let clients = std::mem::take(&mut self.clients);
        self.past.extend(clients.into_keys().map(|(branch, _)| branch));
        let dialogs = std::mem::take(&mut self.dialogs);
        for dialog in dialogs.into_values() {
            self.past.extend([dialog.call_id, dialog.local_tag]);
        }
        let servers = std::mem::take(&mut self.servers);
        for server in servers.into_values() {
            self.past.insert(real_call_id(&server.call_id).to_owned());
            // Those behind it lose their calls as well.
            self.past.extend(server.others.into_keys());
        }
        self.agenda.clear();
        self.outgoing.clear();
    }

    /// Puts bytes on the wire as they are; what answers them is heard and not judged.
    pub fn say(&mut self, bytes: &[u8]) {
        if let Ok(text) = Text::read_any_length(bytes) {
            self.unjudge(text.branch());
        }
        let path = Path {
            transport: self.manners.transport,
            far: self.manners.referee,
            link: None,
        };
        self.outgoing.push_back(Packet {
            path,
            bytes: bytes.to_vec(),
        });
    }

    // ---- what a test asks ----

    /// Every message heard whose label (see [`Text::label`]) begins so, in order.
    pub fn heard(&self, label: &str) -> Vec<&Text> {
        let of_label = |heard: &&Heard| heard.text.label().starts_with(label);
        self.heard.iter().filter(of_label).map(|heard| &heard.text).collect()
    }

    /// Likewise for what it said itself.
    pub fn said(&self, label: &str) -> Vec<&Text> {
        let of_label = |said: &&Heard| said.text.label().starts_with(label);
        self.said.iter().filter(of_label).map(|said| &said.text).collect()
    }

    /// When messages of this label were heard.
    pub fn heard_at(&self, label: &str) -> Vec<Instant> {
        let of_label = |heard: &&Heard| heard.text.label().starts_with(label);
        self.heard.iter().filter(of_label).map(|heard| heard.at).collect()
    }

    /// The final status of each of its requests of this method, in order; 408 for one that got none.
    pub fn outcomes(&self, method: &str) -> Vec<u16> {
        let mut of_method: Vec<_> = self.clients.iter().filter(|((_, known), _)| known == method).collect();
        of_method.sort_by_key(|(_, client)| (client.call_id.clone(), client.number));
        let code = |client: &Client| match client.state {
            ClientState::TimedOut => Some(408),
            _ => client.final_code,
        };
        of_method.iter().filter_map(|(_, client)| code(client)).collect()
    }

    /// Whether it takes this call for one that is up.
    pub fn is_up(&self, call_id: &str) -> bool {
        self.dialogs
            .get(call_id)
            .is_some_and(|dialog| dialog.state == DialogState::Confirmed)
    }

    /// Whether it has accepted a REFER in this call and not said yet what became of it: the last one (RFC 3515 §2.4.4).
    pub fn has_open_refer(&self, call_id: &str) -> bool {
        let last = self.dialogs.get(call_id).and_then(|dialog| dialog.refers.last());
        self.is_up(call_id) && last.is_some_and(|refer| !refer.has_ended && refer.is_accepted)
    }

    /// The CSeq number of the last REFER that it had in this call.
    pub fn last_refer(&self, call_id: &str) -> Option<u32> {
        Some(self.dialogs.get(call_id)?.refers.last()?.number)
    }

    /// The CSeq number of its next request in this call.
    pub fn next_number(&self, call_id: &str) -> Option<u32> {
        Some(self.dialogs.get(call_id)?.local_number + 1)
    }

    /// Whether a request of this method fits the state of the dialog: only some before the answer (RFC 3261 §15, RFC 3311 §5.1,
    /// RFC 3262 §3).
    fn may_send(&self, call_id: &str, method: &str) -> bool {
        let Some(dialog) = self.dialogs.get(call_id) else {
            return false;
        };
        match dialog.state {
            DialogState::Confirmed => true,
            DialogState::Early => matches!(method, "PRACK" | "UPDATE" | "INFO") && dialog.has_remote_tag(),
            DialogState::Ended => false,
        }
    }

    /// Calls it takes for being set up or up.
    pub fn live_calls(&self) -> Vec<String> {
        let live = |dialog: &Dialog| matches!(dialog.state, DialogState::Early | DialogState::Confirmed);
        let named = self.dialogs.iter().filter(|(_, dialog)| live(dialog));
        named.map(|(name, _)| name.clone()).collect()
    }

    /// The rules that were broken towards it.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    // ---- the machine ----

    pub fn poll(&mut self) -> Option<Packet> {
        self.outgoing.pop_front()
    }

    pub fn next_timeout(&self) -> Option<Instant> {
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Due::Act { call_id, server, act } => self.perform(&call_id, server, act, now),
                Due::Resend(key) => self.resend(key, now),
                Due::GiveUp(key) => self.give_up(&key),
                Due::GiveUpCancelled(key) => self.give_up_cancelled(&key),
                Due::Repeat(key) => self.repeat(key, now),
                Due::Reliable(key, wait) => self.repeat_reliable(key, wait, now),
                Due::RepeatOther(key, other, wait) => self.repeat_other(key, other, wait, now),
                Due::NoAck(key) => self.no_ack(&key, now),
            }
        }
    }

    /// Takes what came by `path`; for a datagram its far side is the source.
    pub fn receive(&mut self, bytes: &[u8], path: Path, now: Instant) {
        let text = match Text::read(bytes) {
            Ok(text) => text,
            Err(fault) => return self.violation(format!("a message {fault}")),
        };
        self.heard.push(Heard {
            at: now,
            text: text.clone(),
        });
        if text.is_request() {
            self.on_request(text, path, now);
        } else {
            self.on_response(text, now);
        }
    }

    fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn new_tag(&mut self) -> String {
        let count = self.count();
        match &self.manners.tag {
            Some(tag) => tag.clone(),
            None => format!("{}-tag{count}", self.name),
        }
    }

    fn new_branch(&mut self) -> String {
        let count = self.count();
        format!("z9hG4bK-{}-{count}", self.name)
    }

    fn contact(&self, user: &str) -> String {
        let host = match &self.manners.contact_host {
            Some(host) => host.clone(),
            None => self.address.to_string(),
        };
        let transport = match self.manners.transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
        };
        format!("<sip:{user}@{host}{transport}>")
    }

    fn plan(&mut self, at: Instant, due: Due) {
        let place = self.count();
        self.agenda.insert((at, place), due);
    }

    fn put(&mut self, path: Path, bytes: Vec<u8>, now: Instant) {
        if let Ok(text) = Text::read(&bytes) {
            self.said.push(Heard { at: now, text });
        }
        self.outgoing.push_back(Packet { path, bytes });
    }

    fn perform(&mut self, call_id: &str, server: Option<Key>, act: Act, now: Instant) {
        match act {
            Act::Respond { code, headers } => {
                if let Some(key) = server {
                    self.send_response(&key, code, &headers, now);
                }
            }
            Act::RespondAsOther { code, other } => {
                if let Some(key) = server {
                    self.respond_as_other(&key, code, other, now);
                }
            }
            Act::Request { method, headers, body } => {
                if self.may_send(call_id, &method) {
                    self.send_request(call_id, &method, &headers, &body, now);
                }
            }
            Act::Notify { place, status, state } => {
                let Some(dialog) = self.dialogs.get_mut(call_id) else {
                    return;
                };
                let number = server.and_then(|key| Some(self.servers.get(&key)?.request.cseq().0));
                let refer = match number {
                    Some(number) => dialog.refers.iter().position(|refer| refer.number == number),
                    None => place.or(dialog.refers.len().checked_sub(1)),
                };
                let refer = refer.filter(|place| *place < dialog.refers.len());
                let is_named = match self.manners.event_ids {
                    EventIds::Always => true,
                    EventIds::FromTheSecond => refer.is_some_and(|place| place > 0),
                    EventIds::Never => false,
                };
                if number.is_some() && refer.is_none() {
                    // It was another target's, which is not spoken to any more.
                    return;
                }
                let refer = refer.map(|place| &mut dialog.refers[place]);
                let event = match refer.as_ref().filter(|_| is_named) {
                    Some(refer) => format!("refer;id={}", refer.number),
                    None => "refer".to_owned(),
                };
                let mut headers = vec![
                    ("Event".to_owned(), event),
                    ("Contact".to_owned(), dialog.contact.clone()),
                ];
                if let Some(refer) = refer {
                    headers.push((OF_REFER.to_owned(), refer.origin.clone()));
                    if refer.has_ended {
                        headers.push((AFTER_LAST.to_owned(), "yes".to_owned()));
                    }
                    refer.has_ended |= state.starts_with("terminated");
                }
                headers.push(("Subscription-State".to_owned(), state));
                let mut body = String::new();
                if !status.is_empty() {
                    headers.push(("Content-Type".into(), "message/sipfrag;version=2.0".into()));
                    body = format!("SIP/2.0 {status}\r\n");
                }
                self.send_request(call_id, "NOTIFY", &headers, &body, now);
            }
            Act::Again { method, headers } => self.send_request(call_id, &method, &headers, "", now),
            Act::Cancel => self.cancel(call_id, now),
            Act::Decline => {
                let is_open = |(key, server): &(&Key, &Server)| {
                    key.1 == "INVITE" && server.call_id == call_id && server.final_code.is_none()
                };
                let open: Vec<Key> = self
                    .servers
                    .iter()
                    .filter(is_open)
                    .map(|(key, _)| key.clone())
                    .collect();
                for key in open {
                    self.send_response(&key, 480, &[], now);
                }
            }
            Act::Move { contact } => {
                if let Some(dialog) = self.dialogs.get_mut(call_id) {
                    dialog.contact = contact;
                }
            }
        }
    }
}

/// The Call-ID of a dialog by its name.
fn real_call_id(name: &str) -> &str {
    name.split(' ').next().unwrap_or(name)
}

/// The transport a URI asks for.
fn transport_of(uri: &str) -> Option<Transport> {
    Transport::from_token(uri_param(uri, "transport")?.as_bytes())
}

const OFFER: &str =
    "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
