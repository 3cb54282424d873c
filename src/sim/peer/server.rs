//! What a peer is asked: requests that come, what is checked in them, and its responses (RFC 3261 §8.2, §12.2.2, §13.3, §17.2).

use super::dialog::{Dialog, DialogState, Refer};
use super::script::{Manners, Steps, respond, steps};
use super::text::{Text, host_port, param, reason, uri_of};
use super::{
    AFTER_LAST, Client, ClientState, Due, Key, OF_REFER, OFFER, OtherAnswer, Path, Peer, Server, real_call_id,
};
use crate::timer::Instant;
use crate::transport::Transport;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

impl Peer {
    // ---- requests that come ----

    pub(super) fn on_request(&mut self, text: Text, path: Path, now: Instant) {
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
        let call_id = self.dialog_name(&text);
        let has_tag = text.tag("To").is_some();
        let tag = match self.dialogs.get(&call_id) {
            Some(dialog) if has_tag || method != "INVITE" => dialog.local_tag.clone(),
            Some(_) | None => self.new_tag(),
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
                ended: None,
                acknowledged: false,
                interval: self.manners.t1,
                others: BTreeMap::new(),
            },
        );
        self.check_request(&text, path);
        if method == "CANCEL" {
            return self.on_cancel(&key, now);
        }
        if method == "INVITE" && !has_tag && self.sends_back(&key, &text, now) {
            return;
        }
        if has_tag {
            if !self.take_in_dialog(&call_id, &key, &text, now) {
                return;
            }
        } else if method == "INVITE" {
            // RFC 3261 §8.2.2.2: the same once more, on another way or by somebody who recorded it.
            let known = self.dialogs.get(&call_id).map(|dialog| dialog.last_invite);
            if self.manners.refuses_merged && known.is_some_and(|number| number >= text.cseq().0) {
                return self.send_response(&key, 482, &[], now);
            }
            let contact = self.contact("user");
            let number = self.manners.first_cseq;
            // One that copies no Record-Route has none of the proxy before it either.
            let proxy = self.manners.proxy.clone().filter(|_| self.manners.follows_routes);
            let dialog = Dialog::of_callee(&text, tag, contact, number, path, proxy);
            if let Some(before) = self.dialogs.insert(call_id.clone(), dialog) {
                // Of an INVITE that was challenged; requests of its early dialog may still come.
                self.past.insert(before.local_tag);
            }
        }
        if let Some(gate) = &mut self.gate {
            let judged = gate.judge(&text, now);
            if !self.replayed.contains(&text.origin()) {
                self.violations.extend(judged.faults);
            }
            if let Some(challenge) = judged.challenge {
                let code = gate.code;
                return self.send_response(&key, code, &challenge, now);
            }
        }
        let place = self.reactions.iter().position(|reaction| reaction.method == method);
        let planned = match place {
            Some(place) => self.reactions.remove(place).steps,
            None => match &mut self.instinct {
                Some(instinct) => instinct.react(&method, has_tag, now),
                None => default_steps(&method, has_tag),
            },
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

    /// The name of the dialog that a request is of.
    fn dialog_name(&self, text: &Text) -> String {
        let name = format!("{} {}", text.call_id(), text.tag("From").unwrap_or_default());
        match self.dialogs.contains_key(&name) {
            true => name,
            false => text.call_id().to_owned(),
        }
    }

    /// What holds for every request.
    pub(super) fn check_request(&mut self, text: &Text, path: Path) {
        let mut faults = Vec::new();
        faults.extend(self.has_other_routes(text));
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
        if let Some(refer) = text.header(OF_REFER)
            && text.header(AFTER_LAST).is_none()
            && !self.clients.contains_key(&(refer.to_owned(), "REFER".to_owned()))
            && !self.past.contains(refer)
        {
            faults.push("is of a REFER that it has not sent".to_owned());
        }
        // RFC 3515 §2.4.6.
        if let Some(refer) = text
            .header(OF_REFER)
            .map(|refer| (refer.to_owned(), "REFER".to_owned()))
            && let Some(refer) = self.clients.get(&refer)
            && let Some(id) = text.header("Event").and_then(|event| param(event, "id"))
            && id != refer.number.to_string()
        {
            faults.push(format!("has the id {id} for its REFER {}", refer.number));
        }
        for fault in faults {
            self.violation(format!("`{}` {fault}", text.label()));
        }
    }

    /// RFC 3261 §12.2.1.1: what is of a dialog goes by the proxy before a peer, and by nothing else.
    fn has_other_routes(&self, text: &Text) -> Option<String> {
        let invite = (text.branch(), "INVITE".to_owned());
        let invite = self.servers.get(&invite).map(|server| &server.request);
        let routes = match (text.method(), invite, self.dialogs.get(text.call_id())) {
            // RFC 3261 §9.1, §17.1.1.3.
            ("ACK" | "CANCEL", Some(invite), _) => invite.list("Route"),
            (_, _, Some(dialog)) if text.tag("To").is_some() => dialog.proxy.iter().cloned().collect(),
            // It knows nothing of it any more.
            (_, _, None) if text.tag("To").is_some() && self.past.contains(text.call_id()) => return None,
            _ => Vec::new(),
        };
        let has = text.list("Route");
        (has != routes).then(|| format!("arrives with the Routes {has:?} and not {routes:?}"))
    }

    /// A request of a dialog. `false`: it was answered with an error.
    pub(super) fn take_in_dialog(&mut self, call_id: &str, key: &Key, text: &Text, now: Instant) -> bool {
        let (in_order, follows) = (self.manners.in_order, self.manners.follows_routes);
        let is_waiting = |client: &Client| matches!(client.state, ClientState::Calling | ClientState::Proceeding);
        let own_invite = self.dialogs.get(call_id).and_then(|dialog| dialog.invite.as_ref());
        let is_glare = own_invite.and_then(|key| self.clients.get(key)).is_some_and(is_waiting);
        if let Some(other) = self.other_of(call_id, text) {
            return self.take_for_other(key, text, &other, now);
        }
        if text.tag("To").is_some_and(|tag| self.past.contains(&tag)) {
            self.send_response_bare(key, 481, now);
            return false;
        }
        let Some(dialog) = self.dialogs.get_mut(call_id) else {
            if !self.past.contains(text.call_id()) {
                self.violation(format!("`{}` is of no dialog", text.label()));
            }
            self.send_response(key, 481, &[], now);
            return false;
        };
        let from_tag = text.tag("From").unwrap_or_default();
        if dialog.is_callers && !dialog.remote().ends_with(&format!(";tag={from_tag}")) {
            // Another one that its INVITE has reached, which it knows from a provisional response, or not yet.
            let code = if dialog.callees.contains(&from_tag) { 200 } else { 481 };
            self.send_response_bare(key, code, now);
            return false;
        }
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
        if text.method() == "BYE" && text.list("Via").len() == 1 {
            dialog.given_up.get_or_insert(now);
        }
        // A BYE that it challenges ends the call all the same for referee, which knows its numbers for so long.
        let is_forgotten = dialog.given_up.is_some_and(|at| now >= at + 64 * self.manners.t1);
        let taken = dialog.remote_numbers.insert(number, text.origin());
        if taken.is_some() && !is_ended && !is_forgotten && !self.replayed.contains(&text.origin()) {
            faults.push(format!("has the CSeq number {number} of an earlier one"));
        }
        let is_old = dialog.remote_number.is_some_and(|last| number < last);
        if is_old && in_order && !is_forgotten {
            faults.push(format!("has the CSeq number {number} after {:?}", dialog.remote_number));
        }
        dialog.remote_number = dialog.remote_number.max(Some(number));
        let code = match text.method() {
            _ if is_ended => Some(481),
            // A BYE that was overtaken still ends the dialog.
            "BYE" => None,
            _ if is_old || taken.is_some() => Some(500),
            // RFC 3261 §14.2.
            "INVITE" if is_glare => Some(491),
            _ => None,
        };
        if code.is_none() {
            match text.method() {
                "REFER" => {
                    let origin = text.origin();
                    dialog.refers.push(Refer {
                        number,
                        origin,
                        has_ended: false,
                        is_accepted: false,
                    });
                }
                "PRACK" => {
                    dialog.was_acked = true;
                    let acked = text.header("RAck").unwrap_or_default().to_owned();
                    // Of an earlier one where it was challenged.
                    let invites = &dialog.invites;
                    if !invites
                        .iter()
                        .any(|invite| acked.ends_with(&format!(" {invite} INVITE")))
                    {
                        faults.push(format!("has the RAck `{acked}` for INVITE {invites:?}"));
                    }
                }
                "INVITE" => {
                    dialog.last_invite = number;
                    dialog.invites.insert(number);
                }
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

    pub(super) fn on_cancel(&mut self, key: &Key, now: Instant) {
        let invite = (key.0.clone(), "INVITE".to_owned());
        let Some(server) = self.servers.get(&invite) else {
            let is_past = self
                .servers
                .get(key)
                .is_some_and(|server| self.past.contains(real_call_id(&server.call_id)));
            if !is_past {
                self.violation("a CANCEL matches no INVITE".into());
            }
            return self.send_response(key, 481, &[], now);
        };
        let is_open = server.final_code.is_none();
        self.send_response(key, 200, &[], now);
        if is_open {
            self.send_response(&invite, 487, &[], now);
        }
    }

    pub(super) fn on_ack(&mut self, text: &Text) {
        if self.replayed.contains(&text.origin()) {
            return;
        }
        let number = text.cseq().0;
        let routes = self.has_other_routes(text).map(|what| format!("an ACK {what}"));
        let of_invite = |(key, server): &(&Key, &Server)| {
            let invite = &server.request;
            let is_of_dialog = invite.call_id() == text.call_id() && invite.tag("From") == text.tag("From");
            key.1 == "INVITE" && is_of_dialog && invite.cseq().0 == number
        };
        // That of a non-2xx has the branch of its INVITE (RFC 3261 §17.1.1.3); that of a 2xx has its number.
        let own = (text.branch(), "INVITE".to_owned());
        let found = match self.servers.contains_key(&own) {
            true => Some(own),
            false => self.servers.iter().find(of_invite).map(|(key, _)| key.clone()),
        };
        let Some((key, server)) = found.and_then(|key| self.servers.get_mut(&key).map(|server| (key, server))) else {
            if !self.past.contains(text.call_id()) {
                self.violation(format!("an ACK has the CSeq number {number} of no INVITE"));
            }
            return;
        };
        let to = text.tag("To");
        if to.is_some_and(|tag| tag != server.tag && self.past.contains(&tag)) {
            // It has taken the same INVITE before it crashed, and somebody has recorded what it answered then.
            return;
        }
        if let (Some(gate), Some(200..=299)) = (&self.gate, server.final_code)
            && gate.lines(text) != gate.lines(&server.request)
        {
            self.violations
                .push(format!("the ACK of INVITE {number} has other credentials"));
        }
        if let Some(is_acknowledged) = text.tag("To").and_then(|tag| server.others.get_mut(&tag)) {
            *is_acknowledged = true;
            return;
        }
        let mut faults = Vec::from_iter(routes);
        match server.final_code {
            Some(code) if code >= 300 && key.0 != text.branch() => {
                faults.push("the ACK of a non-2xx has another branch than the INVITE".to_owned());
            }
            Some(_) => {}
            None => faults.push("an ACK comes before any final response".to_owned()),
        }
        server.acknowledged = true;
        for fault in faults {
            self.violation(fault);
        }
    }

    // ---- others behind it ----

    /// The tag of another one behind it, if a request is for that one.
    fn other_of(&self, call_id: &str, text: &Text) -> Option<String> {
        let to = text.tag("To")?;
        let mut of_call = self.servers.values().filter(|server| server.call_id == call_id);
        of_call.any(|server| server.others.contains_key(&to)).then_some(to)
    }

    /// Another one behind it knows no more than that it has a call, and takes its end. Always `false`: it is answered.
    fn take_for_other(&mut self, key: &Key, text: &Text, tag: &str, now: Instant) -> bool {
        if let Some(server) = self.servers.get_mut(key) {
            server.tag = tag.to_owned();
        }
        let code = match text.method() {
            "BYE" | "INFO" | "PRACK" | "NOTIFY" => 200,
            "REFER" => 603,
            _ => 488,
        };
        self.send_response_bare(key, code, now);
        false
    }

    /// A response that tells nothing of a dialog.
    fn send_response_bare(&mut self, key: &Key, code: u16, now: Instant) {
        let Some(server) = self.servers.get_mut(key) else {
            return;
        };
        let lines = copied(&server.request, code, &server.tag, false);
        let path = server.path;
        server.final_code = Some(code);
        server.ended.get_or_insert(now);
        let bytes = self.write(&format!("SIP/2.0 {code} {}", reason(code)), None, &lines, "");
        if let Some(server) = self.servers.get_mut(key) {
            server.response = Some(bytes.clone());
        }
        self.put(path, bytes, now);
    }

    /// Another one behind it answers an INVITE: an early dialog of its own, or a second call.
    pub(super) fn respond_as_other(&mut self, key: &Key, code: u16, other: u8, now: Instant) {
        let contact = self.contact(&format!("other{other}"));
        let follows = self.manners.follows_routes;
        let Some(server) = self.servers.get_mut(key) else {
            return;
        };
        let is_over = server
            .final_code
            .is_some_and(|final_code| final_code >= 300 || !(200..300).contains(&code));
        if is_over || key.1 != "INVITE" {
            return;
        }
        let tag = format!("{}-other{other}", server.tag);
        let mut lines: Vec<_> = recorded(&self.manners, &server.request, code).into_iter().collect();
        lines.extend(copied(&server.request, code, &tag, follows));
        lines.push(("Contact".into(), contact));
        server.others.insert(tag.clone(), code < 200);
        let (path, call_id, is_first) = (server.path, server.call_id.clone(), server.final_code.is_none());
        let body = if code >= 200 {
            lines.push(("Content-Type".into(), "application/sdp".into()));
            OFFER
        } else {
            ""
        };
        if code >= 200 {
            // Its own does not answer any more: the call is the other's.
            server.final_code = Some(code);
            server.acknowledged |= is_first;
            if is_first
                && let Some(dialog) = self.dialogs.get_mut(&call_id)
                && dialog.state == DialogState::Early
            {
                dialog.state = DialogState::Ended;
            }
        }
        let bytes = self.write(&format!("SIP/2.0 {code} {}", reason(code)), None, &lines, body);
        self.put(path, bytes.clone(), now);
        if code >= 200 {
            let until = now + 64 * self.manners.t1;
            let other = OtherAnswer { tag, bytes, until };
            self.plan(
                now + self.manners.t1,
                Due::RepeatOther(key.clone(), other, self.manners.t1),
            );
        }
    }

    /// The 2xx of another one behind it again, until its ACK comes or 64·T1 are over (RFC 3261 §13.3.1.4).
    pub(super) fn repeat_other(&mut self, key: Key, other: OtherAnswer, wait: Duration, now: Instant) {
        let Some(server) = self.servers.get(&key) else { return };
        if server.others.get(&other.tag) != Some(&false) || now >= other.until {
            return;
        }
        self.put(server.path, other.bytes.clone(), now);
        let wait = (2 * wait).min(self.manners.t2);
        self.plan(now + wait, Due::RepeatOther(key, other, wait));
    }

    // ---- responses of its own ----

    pub(super) fn send_response(&mut self, key: &Key, code: u16, headers: &[(String, String)], now: Instant) {
        let (is_invite, follows) = (key.1 == "INVITE", self.manners.follows_routes);
        let Some(server) = self.servers.get_mut(key) else {
            return;
        };
        if server.final_code.is_some() {
            return;
        }
        let mut lines: Vec<_> = recorded(&self.manners, &server.request, code).into_iter().collect();
        lines.extend(copied(&server.request, code, &server.tag, follows));
        let call_id = server.call_id.clone();
        let path = server.path;
        let interval = server.request.header("Session-Expires").map(str::to_owned);
        if code >= 200 {
            server.final_code = Some(code);
            server.ended = Some(now);
        }
        let (number, dialog) = (server.request.cseq().0, self.dialogs.get_mut(&call_id));
        let says = |name: &str| headers.iter().any(|(other, _)| other == name);
        if let Some(dialog) = dialog {
            let makes_dialog = matches!(key.1.as_str(), "INVITE" | "REFER" | "UPDATE") && code > 100 && code < 300;
            if makes_dialog && !says("Contact") {
                lines.push(("Contact".into(), dialog.contact.clone()));
                dialog.shows();
            }
            if key.1 == "REFER" && (200..300).contains(&code) {
                let accepted = dialog.refers.iter_mut().filter(|refer| refer.number == number);
                accepted.for_each(|refer| refer.is_accepted = true);
            }
            if key.1 == "BYE" && ((200..300).contains(&code) || code == 481) {
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
        // RFC 4028 §9: the refreshes are the caller's.
        let agrees = self.manners.agrees_to_intervals && is_invite && (200..300).contains(&code);
        if let Some(interval) = interval.filter(|_| agrees) {
            lines.push(("Session-Expires".into(), format!("{interval};refresher=uac")));
            lines.push(("Require".into(), "timer".into()));
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
        if is_invite && code < 200 && says("RSeq") {
            self.plan(now + self.manners.t1, Due::Reliable(key.clone(), self.manners.t1));
        }
        if is_invite && code >= 200 {
            // RFC 3261 §13.3.1.4: a 2xx is repeated on any transport, a non-2xx where the transport may lose it.
            if code < 300 || path.transport == Transport::Udp {
                self.plan(now + self.manners.t1, Due::Repeat(key.clone()));
            }
            self.plan(now + 64 * self.manners.t1, Due::NoAck(key.clone()));
        }
    }

    /// A reliable provisional response again, until its PRACK or a final response (RFC 3262 §3).
    pub(super) fn repeat_reliable(&mut self, key: Key, wait: Duration, now: Instant) {
        let Some(server) = self.servers.get(&key) else { return };
        let (Some(response), false) = (&server.response, server.final_code.is_some()) else {
            return;
        };
        let is_acked = self.dialogs.get(&server.call_id).is_none_or(|dialog| dialog.was_acked);
        if is_acked || wait > 32 * self.manners.t1 {
            return;
        }
        self.put(server.path, response.clone(), now);
        self.plan(now + 2 * wait, Due::Reliable(key, 2 * wait));
    }

    pub(super) fn repeat(&mut self, key: Key, now: Instant) {
        let t2 = self.manners.t2;
        let Some(server) = self.servers.get_mut(&key).filter(|server| !server.acknowledged) else {
            return;
        };
        let Some(response) = server.response.clone() else {
            return;
        };
        server.interval = (server.interval * 2).min(t2);
        let (path, wait) = (server.path, server.interval);
        self.put(path, response, now);
        self.plan(now + wait, Due::Repeat(key));
    }

    pub(super) fn no_ack(&mut self, key: &Key, now: Instant) {
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

/// What a response copies of its request.
fn copied(request: &Text, code: u16, tag: &str, record_route: bool) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for (name, value) in &request.headers {
        let copied = match name.as_str() {
            "Via" | "From" | "Call-ID" | "CSeq" => value.clone(),
            "To" if code == 100 || param(value, "tag").is_some() => value.clone(),
            "To" => format!("{value};tag={tag}"),
            "Record-Route" if record_route && code > 100 && code < 300 => value.clone(),
            _ => continue,
        };
        lines.push((name.clone(), copied));
    }
    lines
}

/// What the proxy before a callee has put into the request that opens a dialog, and so stands in its responses.
fn recorded(manners: &Manners, request: &Text, code: u16) -> Option<(String, String)> {
    let opens = request.method() == "INVITE" && request.tag("To").is_none() && code > 100 && code < 300;
    let proxy = manners.proxy.clone().filter(|_| opens && manners.follows_routes);
    proxy.map(|proxy| ("Record-Route".to_owned(), proxy))
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
