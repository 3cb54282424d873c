//! What a peer asks: its requests, their repeats, and the responses to them (RFC 3261 §8.1, §9.1, §13.2, §17.1).

use super::dialog::DialogState;
use super::text::{Text, host_port, uri_of};
use super::{Client, ClientState, Due, Key, OFFER, Path, Peer, real_call_id};
use crate::timer::Instant;
use crate::transport::Transport;

impl Peer {
    // ---- requests of its own ----

    pub(super) fn send_request(
        &mut self,
        call_id: &str,
        method: &str,
        headers: &[(String, String)],
        body: &str,
        now: Instant,
    ) {
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
        lines.retain(|(name, _)| !headers.iter().any(|(other, _)| other == name));
        lines.extend(headers.iter().cloned());
        if !body.is_empty() && !lines.iter().any(|(name, _)| name == "Content-Type") {
            lines.push(("Content-Type".into(), "application/sdp".into()));
        }
        if method == "BYE" {
            dialog.state = DialogState::Ended;
        }
        if matches!(method, "INVITE" | "UPDATE" | "SUBSCRIBE" | "NOTIFY" | "REFER") {
            dialog.shows();
        }
        let first = format!("{method} {} SIP/2.0", dialog.request_uri(follows));
        let from = dialog.local();
        let bytes = self.write(&first, Some((&branch, path)), &lines, body);
        let key = (branch, method.to_owned());
        if method == "INVITE"
            && let Some(dialog) = self.dialogs.get_mut(call_id)
        {
            dialog.invite = Some(key.clone());
        }
        let t1 = self.manners.t1;
        self.start(key, Client::calling(call_id, number, from, path, bytes, t1), now);
    }

    /// Sends a request for the first time, and sees to what comes of it (RFC 3261 §17.1).
    fn start(&mut self, key: Key, client: Client, now: Instant) {
        self.put(client.path, client.bytes.clone(), now);
        if client.path.transport == Transport::Udp {
            self.plan(now + self.manners.t1, Due::Resend(key.clone()));
        }
        self.plan(now + 64 * self.manners.t1, Due::GiveUp(key.clone()));
        self.clients.insert(key, client);
    }

    pub(super) fn write(
        &self,
        first: &str,
        via: Option<(&str, Path)>,
        lines: &[(String, String)],
        body: &str,
    ) -> Vec<u8> {
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

    pub(super) fn cancel(&mut self, call_id: &str, now: Instant) {
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

    pub(super) fn send_cancel(&mut self, key: &Key, now: Instant) {
        let Some(client) = self.clients.get(key) else { return };
        let Ok(invite) = Text::read(&client.bytes) else { return };
        let (path, number, call_id, from) = (client.path, client.number, client.call_id.clone(), client.from.clone());
        let mut bytes = self.like(&invite, "CANCEL", invite.header("To").unwrap_or_default());
        if let Some(reason) = &self.manners.cancel_reason {
            let line = format!("\r\nReason: {reason}\r\n");
            let end = bytes.windows(2).position(|end| end == b"\r\n").unwrap_or_default();
            bytes.splice(end..end + 2, line.into_bytes());
        }
        let cancel = (key.0.clone(), "CANCEL".to_owned());
        if self.clients.contains_key(&cancel) {
            return;
        }
        let t1 = self.manners.t1;
        // A hop that gives up at the same time has its say first.
        self.plan(now + 66 * t1, Due::GiveUpCancelled(key.clone()));
        self.start(cancel, Client::calling(&call_id, number, from, path, bytes, t1), now);
    }

    /// A CANCEL, or the ACK for a non-2xx: the INVITE's own head with another method (RFC 3261 §9.1, §17.1.1.3).
    pub(super) fn like(&self, invite: &Text, method: &str, to: &str) -> Vec<u8> {
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

    pub(super) fn resend(&mut self, key: Key, now: Instant) {
        let t2 = self.manners.t2;
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        let is_invite = key.1 == "INVITE";
        match client.state {
            ClientState::Calling => client.interval *= 2,
            ClientState::Proceeding if !is_invite => client.interval = t2,
            ClientState::Proceeding | ClientState::Done | ClientState::TimedOut => return,
        }
        if !is_invite {
            client.interval = client.interval.min(t2);
        }
        let (path, bytes, wait) = (client.path, client.bytes.clone(), client.interval);
        self.put(path, bytes, now);
        self.plan(now + wait, Due::Resend(key));
    }

    /// RFC 3261 §9.1: some time after a CANCEL its INVITE counts as ended.
    pub(super) fn give_up_cancelled(&mut self, key: &Key) {
        if let Some(client) = self.clients.get_mut(key)
            && matches!(client.state, ClientState::Calling | ClientState::Proceeding)
        {
            client.state = ClientState::Calling;
            self.give_up(key);
        }
    }

    pub(super) fn give_up(&mut self, key: &Key) {
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

    pub(super) fn on_response(&mut self, text: Text, now: Instant) {
        let (number, method) = text.cseq();
        let key = (text.branch(), method.to_owned());
        let code = text.code();
        if self.unjudged.contains(&key.0) {
            return;
        }
        if self.sent_back.contains_key(&key.0) {
            return self.on_sent_back_answered(&key, &text, now);
        }
        if self.is_of_another_target(&key, &text) {
            return self.on_another_answer(&key, &text, now);
        }
        let Some(client) = self.clients.get_mut(&key) else {
            if !self.past.contains(&key.0) {
                self.violation(format!("`{}` answers nothing it sent", text.label()));
            }
            return;
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
        if text.call_id() != real_call_id(&client.call_id) {
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
                if client.final_code != Some(code) && !self.replayed.contains(&key.0) {
                    faults.push("comes after another final response");
                }
                // RFC 6026 §7.2: what is Accepted takes no refusal, and its ACK is that of a 2xx.
                let is_of_class = client.final_code.is_some_and(|first| (first < 300) == (code < 300));
                if let Some((path, bytes)) = client.ack.clone().filter(|_| is_of_class) {
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
            "REFER" | "UPDATE" | "NOTIFY" if (200..300).contains(&code) => {
                // Not by an early dialog that another target's answer has left behind.
                let dialog = self.dialogs.get(&call_id);
                if dialog.is_some_and(|dialog| text.header("To") == Some(dialog.remote().as_str())) {
                    self.refresh_target(&call_id, &text);
                }
            }
            _ => {}
        }
        if matches!(code, 401 | 407) && self.manners.has_credentials {
            self.try_again(&key, &call_id, now);
        }
    }

    /// A challenged request comes once more, with credentials (RFC 3261 §22.2).
    fn try_again(&mut self, key: &Key, call_id: &str, now: Instant) {
        let Some(client) = self.clients.get(key) else { return };
        let Ok(request) = Text::read(&client.bytes) else { return };
        if request.header("Authorization").is_some() || key.1 == "CANCEL" {
            return;
        }
        // RFC 3262 §4: what it acknowledges is of an INVITE that was challenged since, and of no dialog that it has.
        let is_of_invite = |rack: &str| {
            let invite = self.dialogs.get(call_id).and_then(|dialog| dialog.invite.as_ref());
            let invite = invite.and_then(|invite| self.clients.get(invite));
            invite.is_none_or(|invite| rack.ends_with(&format!(" {} INVITE", invite.number)))
        };
        if request.header("RAck").is_some_and(|rack| !is_of_invite(rack)) {
            return;
        }
        let of_head = [
            "Via",
            "Route",
            "From",
            "To",
            "Call-ID",
            "CSeq",
            "Max-Forwards",
            "Contact",
            "Content-Length",
        ];
        let mut lines = request.headers.clone();
        lines.retain(|(name, _)| !of_head.contains(&name.as_str()));
        lines.push(("Authorization".into(), "Digest username=\"u\", response=\"00\"".into()));
        if request.tag("To").is_none()
            && let Some(dialog) = self.dialogs.get_mut(call_id)
        {
            dialog.begin_again();
        }
        self.send_request(call_id, &key.1, &lines, &request.body, now);
    }

    /// Whether a response is a 2xx of another target than the one whose 2xx came first.
    fn is_of_another_target(&self, key: &Key, text: &Text) -> bool {
        let is_answered = |client: &Client| matches!(client.final_code, Some(200..=299));
        let dialog = self.dialogs.get(text.call_id());
        (200..300).contains(&text.code())
            && key.1 == "INVITE"
            && self.clients.get(key).is_some_and(is_answered)
            && dialog.is_some_and(|dialog| text.header("To") != Some(dialog.remote().as_str()))
    }

    /// RFC 3261 §13.2.2.4: each 2xx is acknowledged, and whoever is one too many is hung up on.
    fn on_another_answer(&mut self, key: &Key, text: &Text, now: Instant) {
        let name = format!("{} {}", text.call_id(), text.tag("To").unwrap_or_default());
        let (Some(client), Some(first)) = (self.clients.get(key), self.dialogs.get(text.call_id())) else {
            return;
        };
        let ack_of_first = client.ack.clone();
        let another = first.another(text);
        let is_new = !self.dialogs.contains_key(&name);
        if is_new {
            self.dialogs.insert(name.clone(), another);
        }
        self.send_ack(key, &name, now);
        if let Some(client) = self.clients.get_mut(key) {
            client.ack = ack_of_first;
        }
        if is_new && self.manners.hangs_up_on_forks {
            self.send_request(&name, "BYE", &[], "", now);
        }
    }

    pub(super) fn on_invite_answered(&mut self, key: &Key, call_id: &str, text: &Text, now: Instant) {
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
                if let Some(sequence) = text.header("RSeq")
                    && dialog
                        .acked
                        .insert(format!("{sequence} {}", text.header("To").unwrap_or_default()))
                {
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
    pub(super) fn send_ack(&mut self, key: &Key, call_id: &str, now: Instant) {
        let branch = self.new_branch();
        let (follows, transport) = (self.manners.follows_routes, self.manners.transport);
        let Some(number) = self.clients.get(key).map(|client| client.number) else {
            return;
        };
        let Some(dialog) = self.dialogs.get(call_id) else {
            return;
        };
        let path = dialog.next_path(follows, transport);
        let mut lines = dialog.head("ACK", number, follows);
        let first = format!("ACK {} SIP/2.0", dialog.request_uri(follows));
        let has_offered = self.manners.offers || !self.manners.answers_offers;
        let body = if has_offered { "" } else { OFFER };
        if !body.is_empty() {
            lines.push(("Content-Type".into(), "application/sdp".into()));
        }
        let bytes = self.write(&first, Some((&branch, path)), &lines, body);
        self.put(path, bytes.clone(), now);
        if let Some(client) = self.clients.get_mut(key) {
            client.ack = Some((path, bytes));
        }
    }

    pub(super) fn refresh_target(&mut self, call_id: &str, text: &Text) {
        let referee = [self.manners.referee];
        let Some(contact) = text.header("Contact").map(str::to_owned) else {
            return;
        };
        let (host, port) = host_port(uri_of(&contact));
        if !self.manners.calls_applications
            && referee
                .iter()
                .any(|address| address.ip().to_string() == host && address.port() == port)
        {
            self.violation(format!("`{}` shows referee's own Contact", text.label()));
        }
        if let Some(dialog) = self.dialogs.get_mut(call_id) {
            dialog.target = uri_of(&contact).to_owned();
        }
    }
}
