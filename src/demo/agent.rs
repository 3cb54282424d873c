//! A SIP user agent over UDP, as a carrier's or a platform's would be: transactions that are repeated until answered, one
//! dialog with its route set, and the rule that CSeq rises (RFC 3261 §12, §13, §17).

use super::sip::{self, Message};
use super::trace::{Column, Event, Trace, What};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What an agent's inbox takes.
#[derive(Debug)]
pub enum Input {
    Datagram {
        at: Duration,
        bytes: Vec<u8>,
        source: SocketAddr,
    },
    /// The demonstration's word to go on with the script.
    Cue,
    /// Somebody takes the other party's place in this dialog: Call-ID, to-tag, from-tag (RFC 3891 §3).
    Replace([String; 3]),
    /// The demonstration is over.
    End,
}

/// What an agent heard that is its script's business.
#[derive(Debug)]
pub enum Heard {
    Request(Message),
    Response(Message),
    Cue,
    End,
}

/// One user agent with at most one call.
#[derive(Debug)]
pub struct Agent {
    column: Column,
    user: &'static str,
    socket: UdpSocket,
    address: SocketAddr,
    inbox: Receiver<Input>,
    inbox_in: Sender<Input>,
    reader: Option<JoinHandle<()>>,
    trace: Trace,
    give_up_at: Duration,
    dialog: Option<Dialog>,
    branches: u32,
    /// Requests of ours without a final response, and 2xx of ours without their ACK.
    open: Vec<Open>,
    /// Requests answered, by branch and method; `None`: not yet.
    served: Vec<Served>,
    /// ACKs of 2xx, by CSeq number: a repeated 2xx gets the same again.
    acks: Vec<(u32, Vec<u8>, SocketAddr)>,
    cues: u32,
    replaced: Option<[String; 3]>,
    ended: bool,
}

/// The state of RFC 3261 §12.
#[derive(Clone, Debug)]
struct Dialog {
    call_id: String,
    /// From and To of our requests, with their tags.
    local: String,
    remote: String,
    remote_target: String,
    routes: Vec<String>,
    local_cseq: u32,
    remote_cseq: Option<u32>,
}

/// What is sent again until it is answered.
#[derive(Clone, Debug)]
struct Open {
    branch: String,
    request: Message,
    bytes: Vec<u8>,
    hop: SocketAddr,
    /// `None`: a provisional response came, which stops an INVITE.
    resend_at: Option<Duration>,
    interval: Duration,
    is_response: bool,
}

#[derive(Debug)]
struct Served {
    branch: String,
    method: String,
    source: SocketAddr,
    response: Option<Vec<u8>>,
}

impl Agent {
    /// Binds to a free port of the loopback interface. Nothing is waited for beyond `give_up_at`.
    pub fn start(column: Column, user: &'static str, trace: &Trace, give_up_at: Duration) -> io::Result<Agent> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let address = socket.local_addr()?;
        let (inbox_in, inbox) = channel();
        let (reading, clock, sender) = (socket.try_clone()?, trace.clone(), inbox_in.clone());
        let reader = thread::Builder::new()
            .name(format!("demo-{}", column.name()))
            .spawn(move || {
                let mut buffer = vec![0; 65_535];
                while let Ok((len, source)) = reading.recv_from(&mut buffer) {
                    let (at, bytes) = (clock.now(), buffer[..len].to_vec());
                    // An empty datagram of its own ends the reader.
                    let is_end = len == 0 && source == address;
                    if is_end || sender.send(Input::Datagram { at, bytes, source }).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Agent {
            column,
            user,
            socket,
            address,
            inbox,
            inbox_in,
            reader: Some(reader),
            trace: trace.clone(),
            give_up_at,
            dialog: None,
            branches: 0,
            open: Vec::new(),
            served: Vec::new(),
            acks: Vec::new(),
            cues: 0,
            replaced: None,
            ended: false,
        })
    }

    /// Whose it is.
    pub fn name(&self) -> &'static str {
        self.column.name()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where cues and the end are put.
    pub fn inbox(&self) -> Sender<Input> {
        self.inbox_in.clone()
    }

    pub fn contact(&self) -> String {
        format!("<sip:{}@{}>", self.user, self.address)
    }

    /// A session without media: this demonstration has signalling only.
    pub fn sdp(&self) -> String {
        let (ip, port) = (self.address.ip(), 20_000);
        format!(
            "v=0\r\no={} 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8 0\r\n",
            self.user
        )
    }

    // ---- a call of ours ----

    /// Calls `number` through `proxy` and acknowledges the answer.
    pub fn invite(&mut self, number: &str, call_id: &str, proxy: SocketAddr) -> Result<(), String> {
        const CSEQ: u32 = 314;
        let mut request = Message::new(format!("INVITE sip:{number}@{proxy} SIP/2.0"));
        let local = format!("<sip:{}@{}>;tag={}-tag", self.user, self.address.ip(), self.user);
        let branch = self.next_branch();
        request.push("Via", self.via(&branch));
        request.push("Max-Forwards", "70");
        request.push("From", local.as_str());
        request.push("To", format!("<sip:{number}@{}>", proxy.ip()));
        request.push("Call-ID", call_id);
        request.push("CSeq", format!("{CSEQ} INVITE"));
        request.push("Contact", self.contact());
        request.push("Allow", "INVITE, ACK, CANCEL, BYE, REFER, NOTIFY, OPTIONS");
        request.push("Supported", "replaces");
        request.push("Content-Type", "application/sdp");
        request.body = self.sdp();
        self.send_request(&branch, request, proxy);
        let response = self.await_response(&branch, "INVITE")?;
        let mut routes: Vec<String> = response.values("Record-Route").into_iter().map(str::to_owned).collect();
        // RFC 3261 §12.1.2: the caller's route set is the reverse of what the answer shows.
        routes.reverse();
        self.dialog = Some(Dialog {
            call_id: call_id.to_owned(),
            local,
            remote: response.header("To").unwrap_or_default().to_owned(),
            remote_target: sip::uri_of(response.header("Contact").unwrap_or_default()).to_owned(),
            routes,
            local_cseq: CSEQ,
            remote_cseq: None,
        });
        self.acknowledge(CSEQ)
    }

    /// Takes the call that `invite` asks for: from now on it is this agent's dialog.
    pub fn take_call(&mut self, invite: &Message) {
        let header = |name| invite.header(name).unwrap_or_default();
        self.dialog = Some(Dialog {
            call_id: header("Call-ID").to_owned(),
            local: format!("{};tag={}-tag", header("To"), self.user),
            remote: header("From").to_owned(),
            remote_target: sip::uri_of(header("Contact")).to_owned(),
            // RFC 3261 §12.1.1: the callee's route set is in the order of the request.
            routes: invite.values("Record-Route").into_iter().map(str::to_owned).collect(),
            local_cseq: 0,
            remote_cseq: invite.cseq().map(|(number, _)| number),
        });
    }

    // ---- requests within the dialog ----

    /// Sends a request in the dialog and waits for its final response; serves what arrives meanwhile.
    pub fn transact(&mut self, method: &str, extra: &[(&str, &str)], body: &str) -> Result<Message, String> {
        let dialog = self.dialog.as_mut().ok_or("there is no call")?;
        dialog.local_cseq += 1;
        let cseq = dialog.local_cseq;
        let branch = self.next_branch();
        let (mut request, hop) = self.in_dialog(method, cseq, &branch)?;
        for (name, value) in extra {
            request.push(name, *value);
        }
        request.body = body.to_owned();
        self.send_request(&branch, request, hop);
        let response = self.await_response(&branch, method)?;
        if response.cseq() != Some((cseq, method)) {
            return Err(format!(
                "{method} with CSeq {cseq} was answered with CSeq {}",
                response.header("CSeq").unwrap_or("none")
            ));
        }
        Ok(response)
    }

    /// Sends the ACK of a 2xx (RFC 3261 §13.2.2.4).
    pub fn acknowledge(&mut self, cseq: u32) -> Result<(), String> {
        let branch = self.next_branch();
        let (ack, hop) = self.in_dialog("ACK", cseq, &branch)?;
        let bytes = ack.to_bytes();
        self.acks.push((cseq, bytes.clone(), hop));
        self.send(ack, bytes, hop, false);
        Ok(())
    }

    /// Ends the call.
    pub fn hang_up(&mut self) -> Result<(), String> {
        self.transact("BYE", &[], "")?;
        self.ended = true;
        Ok(())
    }

    /// The last CSeq number used.
    pub fn local_cseq(&self) -> u32 {
        self.dialog.as_ref().map_or(0, |dialog| dialog.local_cseq)
    }

    fn in_dialog(&self, method: &str, cseq: u32, branch: &str) -> Result<(Message, SocketAddr), String> {
        let dialog = self.dialog.as_ref().ok_or("there is no call")?;
        let mut routes: Vec<&str> = dialog.routes.iter().map(String::as_str).collect();
        let mut request_uri = dialog.remote_target.as_str();
        let hop = routes.first().map_or(request_uri, |route| sip::uri_of(route));
        // RFC 3261 §12.2.1.1: a first hop without lr is a strict router: it wants its own URI on top and the target last.
        let target = format!("<{}>", dialog.remote_target);
        if let Some(first) = routes
            .first()
            .copied()
            .filter(|route| !sip::is_loose(sip::uri_of(route)))
        {
            request_uri = sip::uri_of(first);
            routes.remove(0);
            routes.push(&target);
        }
        let hop = sip::address_of(hop).ok_or_else(|| format!("`{hop}` leads nowhere"))?;
        let mut request = Message::new(format!("{method} {request_uri} SIP/2.0"));
        request.push("Via", self.via(branch));
        request.push("Max-Forwards", "70");
        for route in routes {
            request.push("Route", route);
        }
        request.push("From", dialog.local.as_str());
        request.push("To", dialog.remote.as_str());
        request.push("Call-ID", dialog.call_id.as_str());
        request.push("CSeq", format!("{cseq} {method}"));
        if !matches!(method, "ACK" | "BYE") {
            request.push("Contact", self.contact());
        }
        Ok((request, hop))
    }

    fn send_request(&mut self, branch: &str, request: Message, hop: SocketAddr) {
        let bytes = request.to_bytes();
        self.open.push(Open {
            branch: branch.to_owned(),
            request: request.clone(),
            bytes: bytes.clone(),
            hop,
            resend_at: Some(self.trace.now() + T1),
            interval: T1,
            is_response: false,
        });
        self.send(request, bytes, hop, false);
    }

    fn await_response(&mut self, branch: &str, method: &str) -> Result<Message, String> {
        loop {
            match self.next(self.give_up_at) {
                Some(Heard::Response(response)) if response.branch() == Some(branch) => {
                    let status = response.status().unwrap_or_default();
                    if status < 200 {
                        continue;
                    }
                    if method == "INVITE" && status >= 300 {
                        return Err(format!("its INVITE was answered {}", response.status_text()));
                    }
                    return Ok(response);
                }
                Some(Heard::Request(request)) => self.serve(&request),
                Some(Heard::Response(_) | Heard::Cue) => {}
                Some(Heard::End) | None => return Err(format!("its {method} was not answered")),
            }
        }
    }

    // ---- requests to us ----

    /// Answers a request. A 2xx to an INVITE is repeated until its ACK comes.
    pub fn respond(&mut self, request: &Message, status: &str, extra: &[(&str, &str)], body: &str) {
        let mut response = Message::new(format!("SIP/2.0 {status}"));
        for name in ["Via", "Record-Route"] {
            for value in request.lines(name) {
                response.push(name, value);
            }
        }
        let to = request.header("To").unwrap_or_default();
        let own_tag = self.dialog.as_ref().map(|dialog| dialog.local.clone());
        let is_trying = status.starts_with("100");
        response.push("From", request.header("From").unwrap_or_default());
        match own_tag {
            Some(local) if sip::parameter(to, "tag").is_none() && !is_trying => response.push("To", local),
            _ => response.push("To", to),
        }
        for name in ["Call-ID", "CSeq"] {
            response.push(name, request.header(name).unwrap_or_default());
        }
        let (number, method) = request.cseq().unwrap_or_default();
        if matches!(method, "INVITE" | "REFER") && !is_trying {
            response.push("Contact", self.contact());
        }
        for (name, value) in extra {
            response.push(name, *value);
        }
        response.body = body.to_owned();
        let bytes = response.to_bytes();
        let branch = request.branch().unwrap_or_default().to_owned();
        let Some(served) = self
            .served
            .iter_mut()
            .find(|served| served.branch == branch && served.method == method)
        else {
            return;
        };
        served.response = Some(bytes.clone());
        let hop = served.source;
        if method == "INVITE" && status.starts_with('2') {
            self.open.push(Open {
                branch: format!("ack-{number}"),
                request: request.clone(),
                bytes: bytes.clone(),
                hop,
                resend_at: Some(self.trace.now() + T1),
                interval: T1,
                is_response: true,
            });
        }
        self.send(response, bytes, hop, false);
    }

    /// What every user agent does without being told: takes re-INVITEs and BYEs, and confirms what is told to it.
    pub fn serve(&mut self, request: &Message) {
        match request.method() {
            Some("ACK") => {}
            Some("INVITE") => {
                let sdp = self.sdp();
                self.respond(request, "200 OK", &[("Content-Type", "application/sdp")], &sdp);
            }
            Some("BYE") => {
                self.respond(request, "200 OK", &[], "");
                self.ended = true;
            }
            Some("REFER") => self.respond(request, "603 Decline", &[], ""),
            Some(_) => self.respond(request, "200 OK", &[], ""),
            None => {}
        }
    }

    /// Waits for a request; serves all others.
    pub fn await_request(&mut self, method: &str) -> Result<Message, String> {
        loop {
            match self.next(self.give_up_at) {
                Some(Heard::Request(request)) if request.method() == Some(method) => return Ok(request),
                Some(Heard::Request(request)) => self.serve(&request),
                Some(Heard::Response(_) | Heard::Cue) => {}
                Some(Heard::End) | None => return Err(format!("no {method} came")),
            }
        }
    }

    /// Waits until the call has been ended by the other side.
    pub fn await_bye(&mut self) -> Result<(), String> {
        while !self.ended {
            match self.next(self.give_up_at) {
                Some(Heard::Request(request)) => self.serve(&request),
                Some(Heard::Response(_) | Heard::Cue) => {}
                Some(Heard::End) | None => return Err("no BYE came".into()),
            }
        }
        Ok(())
    }

    /// Waits for the demonstration's cue, which may have come already.
    pub fn await_cue(&mut self) -> Result<(), String> {
        while self.cues == 0 {
            match self.next(self.give_up_at) {
                Some(Heard::Request(request)) => self.serve(&request),
                Some(Heard::Response(_) | Heard::Cue) => {}
                Some(Heard::End) | None => return Err("the cue to go on did not come".into()),
            }
        }
        self.cues -= 1;
        Ok(())
    }

    /// Waits until somebody takes the other party's place in the dialog, which must be this one.
    pub fn await_replace(&mut self) -> Result<(), String> {
        let replaced = loop {
            if let Some(dialog) = self.replaced.take() {
                break dialog;
            }
            match self.next(self.give_up_at) {
                Some(Heard::Request(request)) => self.serve(&request),
                Some(Heard::Response(_) | Heard::Cue) => {}
                Some(Heard::End) | None => return Err("nobody joined its call".into()),
            }
        };
        let dialog = self.dialog.as_ref().ok_or("there is no call")?;
        let tag = |name| sip::parameter(name, "tag").unwrap_or_default().to_owned();
        // RFC 3891 §3: the to-tag is the one of whoever receives the Replaces.
        let own = [dialog.call_id.clone(), tag(&dialog.local), tag(&dialog.remote)];
        match replaced == own {
            true => Ok(()),
            false => Err(format!("the dialog to be replaced is {replaced:?}, not {own:?}")),
        }
    }

    /// Serves what comes for this long.
    pub fn serve_for(&mut self, time: Duration) {
        let until = self.trace.now().saturating_add(time).min(self.give_up_at);
        while let Some(heard) = self.next(until) {
            match heard {
                Heard::Request(request) => self.serve(&request),
                Heard::Response(_) | Heard::Cue => {}
                Heard::End => return,
            }
        }
    }

    // ---- the loop ----

    /// What is heard next until then. Repeats are dealt with here.
    fn next(&mut self, until: Duration) -> Option<Heard> {
        loop {
            let now = self.trace.now();
            self.send_again(now);
            let due = self.open.iter().filter_map(|open| open.resend_at).min();
            let wake = due.map_or(until, |due| due.min(until));
            match self.inbox.recv_timeout(wake.saturating_sub(now)) {
                Ok(Input::Datagram { at, bytes, source }) => {
                    if let Some(heard) = self.take(at, &bytes, source) {
                        return Some(heard);
                    }
                }
                Ok(Input::Cue) => {
                    self.cues += 1;
                    return Some(Heard::Cue);
                }
                Ok(Input::Replace(dialog)) => {
                    self.replaced = Some(dialog);
                    return Some(Heard::Cue);
                }
                Ok(Input::End) => return Some(Heard::End),
                Err(RecvTimeoutError::Timeout) if self.trace.now() < until => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn take(&mut self, at: Duration, bytes: &[u8], source: SocketAddr) -> Option<Heard> {
        let message = Message::parse(bytes)?;
        match message.status() {
            Some(status) => self.take_response(at, message, status),
            None => self.take_request(at, message, source),
        }
    }

    fn take_response(&mut self, at: Duration, response: Message, status: u16) -> Option<Heard> {
        let branch = response.branch()?.to_owned();
        let (number, method) = response.cseq().map(|(number, method)| (number, method.to_owned()))?;
        let found = self
            .open
            .iter()
            .position(|open| open.branch == branch && !open.is_response);
        self.record(at, &response, false, found.is_none());
        let Some(index) = found else {
            if method == "INVITE" && (200..300).contains(&status) {
                let again = self.acks.iter().find(|(cseq, ..)| *cseq == number).cloned();
                if let Some((_, bytes, hop)) = again
                    && let Some(ack) = Message::parse(&bytes)
                {
                    self.send(ack, bytes, hop, true);
                }
            }
            return None;
        };
        if status < 200 {
            let open = &mut self.open[index];
            if method == "INVITE" {
                open.resend_at = None;
            } else {
                // RFC 3261 §17.1.2.2: in Proceeding the interval is T2.
                open.interval = T2;
            }
            return Some(Heard::Response(response));
        }
        let open = self.open.remove(index);
        if method == "INVITE" && status >= 300 {
            self.acknowledge_failure(&open, &response);
        }
        if method == "INVITE"
            && status < 300
            && let (Some(contact), Some(dialog)) = (response.header("Contact"), &mut self.dialog)
        {
            dialog.remote_target = sip::uri_of(contact).to_owned();
        }
        Some(Heard::Response(response))
    }

    /// The ACK of a failure belongs to the INVITE's transaction (RFC 3261 §17.1.1.3).
    fn acknowledge_failure(&mut self, invite: &Open, response: &Message) {
        let mut ack = Message::new(format!("ACK {} SIP/2.0", invite.request.request_uri()));
        let header = |name| invite.request.header(name).unwrap_or_default().to_owned();
        ack.push("Via", header("Via"));
        ack.push("Max-Forwards", "70");
        for route in invite.request.lines("Route") {
            ack.push("Route", route);
        }
        ack.push("From", header("From"));
        ack.push("To", response.header("To").unwrap_or_default());
        ack.push("Call-ID", header("Call-ID"));
        ack.push("CSeq", header("CSeq").replace("INVITE", "ACK"));
        let bytes = ack.to_bytes();
        self.send(ack, bytes, invite.hop, false);
    }

    fn take_request(&mut self, at: Duration, request: Message, source: SocketAddr) -> Option<Heard> {
        let branch = request.branch()?.to_owned();
        let (number, method) = request.cseq().map(|(number, method)| (number, method.to_owned()))?;
        let earlier = self
            .served
            .iter()
            .find(|served| served.branch == branch && served.method == method)
            .map(|served| (served.source, served.response.clone()));
        self.record(at, &request, false, earlier.is_some());
        if let Some((source, response)) = earlier {
            if let Some(bytes) = response
                && let Some(response) = Message::parse(&bytes)
            {
                self.send(response, bytes, source, true);
            }
            return None;
        }
        // RFC 3581 §4: the answer goes to the source port if asked for, else to the port that Via names.
        let via = request.values("Via").first().copied().unwrap_or_default();
        let reply_to = match (sip::parameter(via, "rport"), sent_by_port(via)) {
            (None, Some(port)) => SocketAddr::new(source.ip(), port),
            _ => source,
        };
        self.served.push(Served {
            branch,
            method: method.clone(),
            source: reply_to,
            response: None,
        });
        if method == "ACK" {
            self.open.retain(|open| open.branch != format!("ack-{number}"));
            return Some(Heard::Request(request));
        }
        if sip::parameter(request.header("To").unwrap_or_default(), "tag").is_some() {
            let Some(dialog) = self
                .dialog
                .as_mut()
                .filter(|dialog| request.header("Call-ID") == Some(&dialog.call_id))
            else {
                self.respond(&request, "481 Call/Transaction Does Not Exist", &[], "");
                return None;
            };
            // RFC 3261 §12.2.2: a number that does not rise is out of order.
            if dialog.remote_cseq.is_some_and(|last| number <= last) {
                self.respond(&request, "500 CSeq Out of Order", &[], "");
                return None;
            }
            dialog.remote_cseq = Some(number);
            if let Some(contact) = request.header("Contact")
                && matches!(method.as_str(), "INVITE" | "UPDATE" | "REFER")
            {
                dialog.remote_target = sip::uri_of(contact).to_owned();
            }
        }
        Some(Heard::Request(request))
    }

    fn send_again(&mut self, now: Duration) {
        let mut again = Vec::new();
        for open in &mut self.open {
            if open.resend_at.is_some_and(|at| at <= now) {
                open.interval = (open.interval * 2).min(T2);
                open.resend_at = Some(now + open.interval);
                again.push((open.bytes.clone(), open.hop));
            }
        }
        for (bytes, hop) in again {
            if let Some(message) = Message::parse(&bytes) {
                self.send(message, bytes, hop, true);
            }
        }
    }

    fn send(&self, message: Message, bytes: Vec<u8>, hop: SocketAddr, repeat: bool) {
        self.record(self.trace.now(), &message, true, repeat);
        // A datagram that cannot be sent is as good as one that was lost: it is repeated, and then missed.
        let _ = self.socket.send_to(&bytes, hop);
    }

    fn record(&self, at: Duration, message: &Message, outward: bool, repeat: bool) {
        let (from, to) = match outward {
            true => (self.column, Column::Referee),
            false => (Column::Referee, self.column),
        };
        self.trace.add(Event {
            at,
            from,
            to,
            what: What::Sip(message.clone()),
            repeat,
        });
    }

    fn next_branch(&mut self) -> String {
        self.branches += 1;
        format!("z9hG4bK-{}-{}", self.user, self.branches)
    }

    fn via(&self, branch: &str) -> String {
        format!("SIP/2.0/UDP {};rport;branch={branch}", self.address)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.socket.send_to(&[], self.address).is_ok()
            && let Some(reader) = self.reader.take()
        {
            // It ends at the datagram; a panic of its own has been printed.
            let _ = reader.join();
        }
    }
}

/// The port of a Via's sent-by.
fn sent_by_port(via: &str) -> Option<u16> {
    let sent_by = via.split(';').next()?.split(' ').nth(1)?;
    sent_by.rsplit_once(':')?.1.parse().ok()
}

/// RFC 3261 §17: the first repetition comes after T1, the interval doubles up to T2.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
