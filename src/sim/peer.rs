//! A scripted user agent (RFC 3261 §8, §12 to §17), written apart from the core: its messages are plain text, its reading is
//! [`text`]'s. It follows the rules itself and records every breach of them that reaches it.
//!
//! It is a pure machine: bytes and time go in, packets come out.

pub mod script;
pub mod text;

mod dialog;

use crate::timer::Instant;
use crate::transport::Transport;
use dialog::{Dialog, DialogState};
use script::{Act, Manners, Reaction, Steps, respond, steps};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;
use text::{Text, host_port, param, reason, uri_of, uri_param};

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

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
    /// By Call-ID.
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
    /// Branches of what it put on the wire as it was.
    unjudged: BTreeSet<String>,
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
    acknowledged: bool,
    interval: Duration,
}

type Key = (String, String);

#[derive(Debug)]
enum Due {
    Act {
        call_id: String,
        server: Option<Key>,
        act: Act,
    },
    Resend(Key),
    GiveUp(Key),
    /// A final response to an INVITE, again.
    Repeat(Key),
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
            unjudged: BTreeSet::new(),
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
        );
        self.dialogs.insert(call_id.clone(), dialog);
        let mut lines = self.manners.headers.clone();
        lines.extend(
            headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string())),
        );
        self.send_request(&call_id, "INVITE", &lines, OFFER, now);
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

    /// Puts bytes on the wire as they are; what answers them is heard and not judged.
    pub fn say(&mut self, bytes: &[u8]) {
        if let Ok(text) = Text::read_any_length(bytes) {
            self.unjudged.insert(text.branch());
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

    /// Calls it takes for being set up or up.
    pub fn live_calls(&self) -> Vec<String> {
        let live = |dialog: &&Dialog| matches!(dialog.state, DialogState::Early | DialogState::Confirmed);
        self.dialogs
            .values()
            .filter(live)
            .map(|dialog| dialog.call_id.clone())
            .collect()
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
                Due::Repeat(key) => self.repeat(key, now),
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
        format!("{}-tag{count}", self.name)
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
            Act::Request { method, headers, body } => {
                let is_up = self.is_up(call_id) || method == "PRACK";
                if is_up {
                    self.send_request(call_id, &method, &headers, &body, now);
                }
            }
            Act::Notify { status, state } => {
                let Some(dialog) = self.dialogs.get(call_id) else {
                    return;
                };
                let event = match (dialog.refers, dialog.refer_number) {
                    // RFC 3515 §2.4.6: from the second REFER on the id is a must.
                    (0 | 1, _) => "refer".to_owned(),
                    (_, number) => format!("refer;id={number}"),
                };
                let mut headers = vec![
                    ("Event".to_owned(), event),
                    ("Subscription-State".to_owned(), state),
                    ("Contact".to_owned(), dialog.contact.clone()),
                ];
                let mut body = String::new();
                if !status.is_empty() {
                    headers.push(("Content-Type".into(), "message/sipfrag;version=2.0".into()));
                    body = format!("SIP/2.0 {status}\r\n");
                }
                self.send_request(call_id, "NOTIFY", &headers, &body, now);
            }
            Act::Again { method, headers } => self.send_request(call_id, &method, &headers, "", now),
            Act::Cancel => self.cancel(call_id, now),
            Act::Move { contact } => {
                if let Some(dialog) = self.dialogs.get_mut(call_id) {
                    dialog.show(contact);
                }
            }
        }
    }

    // ---- requests of its own ----

    fn send_request(&mut self, call_id: &str, method: &str, headers: &[(String, String)], body: &str, now: Instant) {
        let branch = self.new_branch();
        let (follows, transport) = (self.manners.follows_routes, self.manners.transport);
        let Some(dialog) = self.dialogs.get_mut(call_id) else {
            return;
        };
        dialog.local_number += 1;
        let number = dialog.local_number;
        let path = dialog.next_path(follows, transport);
        let mut lines = dialog.head(method, number, follows);
        lines.push(("Contact".into(), dialog.contact.clone()));
        lines.retain(|(name, _)| name != "Contact" || !headers.iter().any(|(other, _)| other == "Contact"));
        lines.extend(headers.iter().cloned());
        if !body.is_empty() && !lines.iter().any(|(name, _)| name == "Content-Type") {
            lines.push(("Content-Type".into(), "application/sdp".into()));
        }
        if method == "BYE" {
            dialog.state = DialogState::Ended;
        }
        let first = format!("{method} {} SIP/2.0", dialog.request_uri(follows));
        let from = dialog.local();
        let bytes = self.write(&first, Some((&branch, path)), &lines, body);
        let key = (branch, method.to_owned());
        self.put(path, bytes.clone(), now);
        if path.transport == Transport::Udp {
            self.plan(now + T1, Due::Resend(key.clone()));
        }
        self.plan(now + 64 * T1, Due::GiveUp(key.clone()));
        if method == "INVITE"
            && let Some(dialog) = self.dialogs.get_mut(call_id)
        {
            dialog.invite = Some(key.clone());
        }
        self.clients.insert(
            key,
            Client {
                call_id: call_id.into(),
                number,
                from,
                bytes,
                path,
                interval: T1,
                state: ClientState::Calling,
                final_code: None,
                ack: None,
                cancel_wanted: false,
            },
        );
    }

    fn write(&self, first: &str, via: Option<(&str, Path)>, lines: &[(String, String)], body: &str) -> Vec<u8> {
        let mut text = format!("{first}\r\n");
        if let Some((branch, path)) = via {
            let transport = path.transport.via_token();
            text += &format!("Via: SIP/2.0/{transport} {};branch={branch};rport\r\n", self.address);
        }
        for (name, value) in lines {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        text.into_bytes()
    }

    fn cancel(&mut self, call_id: &str, now: Instant) {
        let Some(key) = self.dialogs.get(call_id).and_then(|dialog| dialog.invite.clone()) else {
            return;
        };
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        match client.state {
            // RFC 3261 §9.1: not before a provisional response.
            ClientState::Calling => client.cancel_wanted = true,
            ClientState::Proceeding => self.send_cancel(&key, now),
            ClientState::Done | ClientState::TimedOut => {}
        }
    }

    fn send_cancel(&mut self, key: &Key, now: Instant) {
        let Some(client) = self.clients.get(key) else { return };
        let Ok(invite) = Text::read(&client.bytes) else { return };
        let (path, number, call_id, from) = (client.path, client.number, client.call_id.clone(), client.from.clone());
        let bytes = self.like(&invite, "CANCEL", invite.header("To").unwrap_or_default());
        let cancel = (key.0.clone(), "CANCEL".to_owned());
        if self.clients.contains_key(&cancel) {
            return;
        }
        self.put(path, bytes.clone(), now);
        if path.transport == Transport::Udp {
            self.plan(now + T1, Due::Resend(cancel.clone()));
        }
        self.plan(now + 64 * T1, Due::GiveUp(cancel.clone()));
        self.clients.insert(
            cancel,
            Client {
                call_id,
                number,
                from,
                bytes,
                path,
                interval: T1,
                state: ClientState::Calling,
                final_code: None,
                ack: None,
                cancel_wanted: false,
            },
        );
    }

    /// A CANCEL, or the ACK for a non-2xx: the INVITE's own head with another method (RFC 3261 §9.1, §17.1.1.3).
    fn like(&self, invite: &Text, method: &str, to: &str) -> Vec<u8> {
        let first = format!("{method} {} SIP/2.0", invite.request_uri());
        let mut lines = Vec::new();
        for (name, value) in &invite.headers {
            let value = match name.as_str() {
                "Via" | "Route" | "From" | "Call-ID" | "Max-Forwards" => value.clone(),
                "To" => to.to_owned(),
                "CSeq" => format!("{} {method}", invite.cseq().0),
                _ => continue,
            };
            lines.push((name.clone(), value));
        }
        self.write(&first, None, &lines, "")
    }

    fn resend(&mut self, key: Key, now: Instant) {
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        let is_invite = key.1 == "INVITE";
        match client.state {
            ClientState::Calling => client.interval *= 2,
            ClientState::Proceeding if !is_invite => client.interval = T2,
            ClientState::Proceeding | ClientState::Done | ClientState::TimedOut => return,
        }
        if !is_invite {
            client.interval = client.interval.min(T2);
        }
        let (path, bytes, wait) = (client.path, client.bytes.clone(), client.interval);
        self.put(path, bytes, now);
        self.plan(now + wait, Due::Resend(key));
    }

    fn give_up(&mut self, key: &Key) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let waits = match client.state {
            ClientState::Calling => true,
            // RFC 3261 §17.1.1.2: Timer B ends with the first provisional response.
            ClientState::Proceeding => key.1 != "INVITE",
            ClientState::Done | ClientState::TimedOut => false,
        };
        if !waits {
            return;
        }
        client.state = ClientState::TimedOut;
        let call_id = client.call_id.clone();
        if let Some(dialog) = self.dialogs.get_mut(&call_id)
            && dialog.state == DialogState::Early
            && key.1 == "INVITE"
        {
            dialog.state = DialogState::Ended;
        }
    }

    // ---- responses ----

    fn on_response(&mut self, text: Text, now: Instant) {
        let (number, method) = text.cseq();
        let key = (text.branch(), method.to_owned());
        let code = text.code();
        if self.unjudged.contains(&key.0) {
            return;
        }
        let Some(client) = self.clients.get_mut(&key) else {
            return self.violation(format!("`{}` answers nothing it sent", text.label()));
        };
        let mut faults = Vec::new();
        if text.list("Via").len() != 1 {
            faults.push("has other Vias than its own");
        }
        if number != client.number {
            faults.push("has another CSeq number than its request");
        }
        if text.header("From") != Some(client.from.as_str()) {
            faults.push("has another From than its request");
        }
        if text.call_id() != client.call_id {
            faults.push("has another Call-ID than its request");
        }
        if code > 100 && text.tag("To").is_none() {
            faults.push("has no To tag");
        }
        let (was, call_id) = (client.state, client.call_id.clone());
        let cancel_now = code < 200 && std::mem::take(&mut client.cancel_wanted);
        match was {
            ClientState::Calling | ClientState::Proceeding if code < 200 => client.state = ClientState::Proceeding,
            ClientState::Calling | ClientState::Proceeding => {
                client.state = ClientState::Done;
                client.final_code = Some(code);
            }
            ClientState::Done if code >= 200 && method == "INVITE" => {
                // Only what was there before: a repeat, ACKed again.
                if client.final_code != Some(code) {
                    faults.push("comes after another final response");
                }
                if let Some((path, bytes)) = client.ack.clone() {
                    self.put(path, bytes, now);
                }
            }
            ClientState::Done | ClientState::TimedOut => {}
        }
        for fault in faults {
            self.violation(format!("`{}` {fault}", text.label()));
        }
        if !matches!(was, ClientState::Calling | ClientState::Proceeding) {
            return;
        }
        if cancel_now {
            self.send_cancel(&key, now);
        }
        match method {
            "INVITE" => self.on_invite_answered(&key, &call_id, &text, now),
            "REFER" | "UPDATE" | "NOTIFY" if (200..300).contains(&code) => self.refresh_target(&call_id, &text),
            _ => {}
        }
    }

    fn on_invite_answered(&mut self, key: &Key, call_id: &str, text: &Text, now: Instant) {
        let code = text.code();
        let follows = self.manners.follows_routes;
        let Some(dialog) = self.dialogs.get_mut(call_id) else {
            return;
        };
        if code > 100 && code < 300 {
            if !dialog.learn_callee(text) {
                let fault = format!("`{}` has another To than the dialog", text.label());
                return self.violation(fault);
            }
            if follows {
                self.refresh_target(call_id, text);
            }
        }
        let Some(dialog) = self.dialogs.get_mut(call_id) else {
            return;
        };
        match code {
            100..=199 => {
                if let Some(sequence) = text.header("RSeq") {
                    let rack = ("RAck".to_owned(), format!("{sequence} {} INVITE", text.cseq().0));
                    self.send_request(call_id, "PRACK", &[rack], "", now);
                }
            }
            200..=299 => {
                if dialog.state == DialogState::Early {
                    dialog.state = DialogState::Confirmed;
                }
                self.send_ack(key, call_id, now);
            }
            _ => {
                if dialog.state == DialogState::Early {
                    dialog.state = DialogState::Ended;
                }
                let Some(client) = self.clients.get(key) else { return };
                let Ok(invite) = Text::read(&client.bytes) else { return };
                let path = client.path;
                let ack = self.like(&invite, "ACK", text.header("To").unwrap_or_default());
                self.put(path, ack.clone(), now);
                if let Some(client) = self.clients.get_mut(key) {
                    client.ack = Some((path, ack));
                }
            }
        }
    }

    /// The ACK for a 2xx: a request of its own, by the route set (RFC 3261 §13.2.2.4).
    fn send_ack(&mut self, key: &Key, call_id: &str, now: Instant) {
        let branch = self.new_branch();
        let (follows, transport) = (self.manners.follows_routes, self.manners.transport);
        let Some(number) = self.clients.get(key).map(|client| client.number) else {
            return;
        };
        let Some(dialog) = self.dialogs.get(call_id) else {
            return;
        };
        let path = dialog.next_path(follows, transport);
        let lines = dialog.head("ACK", number, follows);
        let first = format!("ACK {} SIP/2.0", dialog.request_uri(follows));
        let bytes = self.write(&first, Some((&branch, path)), &lines, "");
        self.put(path, bytes.clone(), now);
        if let Some(client) = self.clients.get_mut(key) {
            client.ack = Some((path, bytes));
        }
    }

    fn refresh_target(&mut self, call_id: &str, text: &Text) {
        let referee = [self.manners.referee];
        let Some(contact) = text.header("Contact").map(str::to_owned) else {
            return;
        };
        let (host, port) = host_port(uri_of(&contact));
        if referee
            .iter()
            .any(|address| address.ip().to_string() == host && address.port() == port)
        {
            self.violation(format!("`{}` shows referee's own Contact", text.label()));
        }
        if let Some(dialog) = self.dialogs.get_mut(call_id) {
            dialog.target = uri_of(&contact).to_owned();
        }
    }

    // ---- requests that come ----

    fn on_request(&mut self, text: Text, path: Path, now: Instant) {
        let method = text.method().to_owned();
        let key = (text.branch(), method.clone());
        if !key.0.starts_with("z9hG4bK") {
            self.violation(format!("`{}` has the branch `{}`", text.label(), key.0));
        }
        if method == "ACK" {
            return self.on_ack(&text);
        }
        if let Some(server) = self.servers.get(&key) {
            let (path, response) = (server.path, server.response.clone());
            if let Some(response) = response {
                self.put(path, response, now);
            }
            return;
        }
        let call_id = text.call_id().to_owned();
        let has_tag = text.tag("To").is_some();
        let tag = match self.dialogs.get(&call_id) {
            Some(dialog) => dialog.local_tag.clone(),
            None => self.new_tag(),
        };
        self.servers.insert(
            key.clone(),
            Server {
                call_id: call_id.clone(),
                request: text.clone(),
                path: reply_path(&text, path),
                tag: tag.clone(),
                response: None,
                final_code: None,
                acknowledged: false,
                interval: T1,
            },
        );
        self.check_request(&text, path);
        if method == "CANCEL" {
            return self.on_cancel(&key, now);
        }
        if has_tag {
            if !self.take_in_dialog(&key, &text, now) {
                return;
            }
        } else if method == "INVITE" {
            let contact = self.contact("user");
            let number = self.manners.first_cseq;
            self.dialogs
                .insert(call_id.clone(), Dialog::of_callee(&text, tag, contact, number, path));
        }
        let place = self.reactions.iter().position(|reaction| reaction.method == method);
        let planned = match place {
            Some(place) => self.reactions.remove(place).steps,
            None => default_steps(&method, has_tag),
        };
        for (wait, act) in planned {
            if wait.is_zero() {
                self.perform(&call_id, Some(key.clone()), act, now);
            } else {
                let due = Due::Act {
                    call_id: call_id.clone(),
                    server: Some(key.clone()),
                    act,
                };
                self.plan(now + wait, due);
            }
        }
    }

    /// What holds for every request.
    fn check_request(&mut self, text: &Text, path: Path) {
        let mut faults = Vec::new();
        if text.header("Route").is_some() {
            faults.push("arrives with a Route".to_owned());
        }
        match text.header("Max-Forwards").map(str::parse::<u8>) {
            Some(Ok(0..=70)) => {}
            other => faults.push(format!("has Max-Forwards {other:?}")),
        }
        let top = text.list("Via").into_iter().next().unwrap_or_default();
        if !top.contains(path.transport.via_token()) {
            faults.push(format!("came by {} with the Via `{top}`", path.transport));
        }
        if text.method() == "REFER" {
            for name in ["Refer-To", "Referred-By", "Contact"] {
                if text.list(name).len() != 1 {
                    faults.push(format!("has not one {name}"));
                }
            }
        }
        for fault in faults {
            self.violation(format!("`{}` {fault}", text.label()));
        }
    }

    /// A request of a dialog. `false`: it was answered with an error.
    fn take_in_dialog(&mut self, key: &Key, text: &Text, now: Instant) -> bool {
        let call_id = text.call_id();
        let (in_order, follows) = (self.manners.in_order, self.manners.follows_routes);
        let Some(dialog) = self.dialogs.get_mut(call_id) else {
            self.violation(format!("`{}` is of no dialog", text.label()));
            self.send_response(key, 481, &[], now);
            return false;
        };
        if !dialog.has_remote_tag() {
            // It has overtaken the response that makes the dialog, or that one is lost.
            self.send_response(key, 481, &[], now);
            return false;
        }
        let mut faults = Vec::new();
        if text.tag("To").as_deref() != Some(dialog.local_tag.as_str()) {
            faults.push("has another To tag than its own".to_owned());
        }
        if text.header("From") != Some(dialog.remote().as_str()) {
            faults.push(format!("has another From than `{}`", dialog.remote()));
        }
        if follows && !dialog.shown.iter().any(|contact| uri_of(contact) == text.request_uri()) {
            faults.push(format!("is for `{}`, which it never showed", text.request_uri()));
        }
        let (number, method) = text.cseq();
        if method != text.method() {
            faults.push("has another method in CSeq".to_owned());
        }
        let is_ended = dialog.state == DialogState::Ended;
        let taken = dialog.remote_numbers.insert(number, key.0.clone());
        if taken.is_some() && !is_ended {
            faults.push(format!("has the CSeq number {number} of an earlier one"));
        }
        let is_old = dialog.remote_number.is_some_and(|last| number < last);
        if is_old && in_order {
            faults.push(format!("has the CSeq number {number} after {:?}", dialog.remote_number));
        }
        dialog.remote_number = dialog.remote_number.max(Some(number));
        let code = match text.method() {
            _ if is_ended => Some(481),
            // A BYE that was overtaken still ends the dialog.
            "BYE" => None,
            _ if is_old => Some(500),
            _ => None,
        };
        if code.is_none() {
            match text.method() {
                "REFER" => {
                    dialog.refers += 1;
                    dialog.refer_number = number;
                }
                "PRACK" => {
                    let acked = text.header("RAck").unwrap_or_default().to_owned();
                    let invite = dialog.last_invite;
                    if !acked.ends_with(&format!(" {invite} INVITE")) {
                        faults.push(format!("has the RAck `{acked}` for INVITE {invite}"));
                    }
                }
                "INVITE" => dialog.last_invite = number,
                _ => {}
            }
            if matches!(text.method(), "INVITE" | "UPDATE" | "REFER" | "NOTIFY" | "SUBSCRIBE") && follows {
                self.refresh_target(call_id, text);
            }
        }
        for fault in faults {
            self.violation(format!("`{}` {fault}", text.label()));
        }
        match code {
            Some(code) => {
                self.send_response(key, code, &[], now);
                false
            }
            None => true,
        }
    }

    fn on_cancel(&mut self, key: &Key, now: Instant) {
        let invite = (key.0.clone(), "INVITE".to_owned());
        let Some(server) = self.servers.get(&invite) else {
            self.violation("a CANCEL matches no INVITE".into());
            return self.send_response(key, 481, &[], now);
        };
        let is_open = server.final_code.is_none();
        self.send_response(key, 200, &[], now);
        if is_open {
            self.send_response(&invite, 487, &[], now);
        }
    }

    fn on_ack(&mut self, text: &Text) {
        let number = text.cseq().0;
        let of_invite = |(key, server): &(&Key, &mut Server)| {
            key.1 == "INVITE" && server.call_id == text.call_id() && server.request.cseq().0 == number
        };
        let Some((key, server)) = self.servers.iter_mut().find(of_invite) else {
            return self.violation(format!("an ACK has the CSeq number {number} of no INVITE"));
        };
        let mut faults = Vec::new();
        match server.final_code {
            Some(code) if code >= 300 && key.0 != text.branch() => {
                faults.push("the ACK of a non-2xx has another branch than the INVITE")
            }
            Some(_) => {}
            None => faults.push("an ACK comes before any final response"),
        }
        if text.header("Route").is_some() {
            faults.push("an ACK arrives with a Route");
        }
        server.acknowledged = true;
        for fault in faults {
            self.violation(fault.into());
        }
    }

    // ---- responses of its own ----

    fn send_response(&mut self, key: &Key, code: u16, headers: &[(String, String)], now: Instant) {
        let (is_invite, follows) = (key.1 == "INVITE", self.manners.follows_routes);
        let Some(server) = self.servers.get_mut(key) else {
            return;
        };
        if server.final_code.is_some() {
            return;
        }
        let request = &server.request;
        let mut lines: Vec<(String, String)> = Vec::new();
        for (name, value) in &request.headers {
            let copied = match name.as_str() {
                "Via" | "From" | "Call-ID" | "CSeq" => value.clone(),
                "To" if code == 100 || param(value, "tag").is_some() => value.clone(),
                "To" => format!("{value};tag={}", server.tag),
                "Record-Route" if follows && code > 100 && code < 300 => value.clone(),
                _ => continue,
            };
            lines.push((name.clone(), copied));
        }
        let call_id = server.call_id.clone();
        let path = server.path;
        if code >= 200 {
            server.final_code = Some(code);
        }
        let dialog = self.dialogs.get_mut(&call_id);
        let says = |name: &str| headers.iter().any(|(other, _)| other == name);
        if let Some(dialog) = dialog {
            let makes_dialog = matches!(key.1.as_str(), "INVITE" | "REFER" | "UPDATE") && code > 100 && code < 300;
            if makes_dialog && !says("Contact") {
                lines.push(("Contact".into(), dialog.contact.clone()));
            }
            if key.1 == "BYE" && (200..300).contains(&code) {
                dialog.state = DialogState::Ended;
            }
            if is_invite && code >= 200 && dialog.state == DialogState::Early {
                dialog.state = if code < 300 {
                    DialogState::Confirmed
                } else {
                    DialogState::Ended
                };
            }
        }
        if is_invite && code > 100 && code < 300 {
            lines.extend(self.manners.headers.iter().cloned());
        }
        lines.extend(headers.iter().cloned());
        let body = if is_invite && (200..300).contains(&code) {
            OFFER
        } else {
            ""
        };
        if !body.is_empty() {
            lines.push(("Content-Type".into(), "application/sdp".into()));
        }
        let bytes = self.write(&format!("SIP/2.0 {code} {}", reason(code)), None, &lines, body);
        if let Some(server) = self.servers.get_mut(key) {
            server.response = Some(bytes.clone());
        }
        self.put(path, bytes, now);
        if is_invite && code >= 200 {
            // RFC 3261 §13.3.1.4: a 2xx is repeated on any transport, a non-2xx where the transport may lose it.
            if code < 300 || path.transport == Transport::Udp {
                self.plan(now + T1, Due::Repeat(key.clone()));
            }
            self.plan(now + 64 * T1, Due::NoAck(key.clone()));
        }
    }

    fn repeat(&mut self, key: Key, now: Instant) {
        let Some(server) = self.servers.get_mut(&key).filter(|server| !server.acknowledged) else {
            return;
        };
        let Some(response) = server.response.clone() else {
            return;
        };
        server.interval = (server.interval * 2).min(T2);
        let (path, wait) = (server.path, server.interval);
        if wait > 64 * T1 {
            return;
        }
        self.put(path, response, now);
        self.plan(now + wait, Due::Repeat(key));
    }

    fn no_ack(&mut self, key: &Key, now: Instant) {
        let Some(server) = self.servers.get_mut(key).filter(|server| !server.acknowledged) else {
            return;
        };
        // Nothing is repeated any more.
        server.acknowledged = true;
        let (call_id, code) = (server.call_id.clone(), server.final_code);
        if code.is_some_and(|code| code < 300) && self.is_up(&call_id) {
            self.send_request(&call_id, "BYE", &[], "", now);
        }
    }
}

/// Where responses go (RFC 3261 §18.2.2, RFC 3581 §4).
fn reply_path(request: &Text, path: Path) -> Path {
    if path.transport == Transport::Tcp {
        return path;
    }
    let top = request.list("Via").into_iter().next().unwrap_or_default();
    let sent_by = top.split_whitespace().nth(1).and_then(|rest| rest.split(';').next());
    let port = match param(&top, "rport") {
        Some(_) => path.far.port(),
        None => host_port(sent_by.unwrap_or_default()).1,
    };
    Path {
        far: SocketAddr::new(path.far.ip(), port),
        ..path
    }
}

fn default_steps(method: &str, in_dialog: bool) -> Steps {
    match method {
        "INVITE" if !in_dialog => steps([(100, respond(180)), (1_000, respond(200))]),
        "REFER" => steps([(0, respond(603))]),
        _ => steps([(0, respond(200))]),
    }
}

/// The transport a URI asks for.
fn transport_of(uri: &str) -> Option<Transport> {
    Transport::from_token(uri_param(uri, "transport")?.as_bytes())
}

const OFFER: &str =
    "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
