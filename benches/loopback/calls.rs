//! The calls: caller and answerer of each, every message checked against what it belongs to.
//!
//! ```text
//!  caller        answerer        with `refer`, after the ACK (here the answerer transfers)
//!    ├──INVITE─────►│                │◄──REFER─────┤
//!    │◄─100,180,200─┤                ├──202───────►│
//!    ├──ACK────────►│                ├──NOTIFY────►│ 100 Trying
//!    ├──BYE────────►│                │◄──200───────┤
//!    │◄─200─────────┤                ├──NOTIFY────►│ 200 OK, terminated
//!                                    │◄──200, BYE──┤
//!                                    ├──200───────►│
//! ```

use crate::received::{Method, Received, Start, read, tag};
use crate::write::{Answer, COOKIE, Party, Request, Writer};
use memchr::memmem;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;

/// What a call consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// INVITE, 100, 180, 200, ACK, BYE, 200.
    Invite,
    /// The same, and between ACK and BYE a REFER with 202 and two NOTIFYs with 200.
    Refer,
    /// OPTIONS, 200.
    Options,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub started: u64,
    pub answered: u64,
    pub completed: u64,
    pub failed: u64,
    /// Requests, and responses to an INVITE, that had to be sent again.
    pub retransmissions: u64,
    /// Messages that came again.
    pub repeats: u64,
    /// Messages that belong to nothing or are not what they should be.
    pub unexpected: u64,
}

/// All calls of a run.
pub struct Calls {
    writer: Writer,
    mode: Mode,
    refer_by: Party,
    /// Answered calls stay until [`Calls::hang_up`].
    holds: bool,
    /// `127.0.0.1:5060`: what each of its Routes must name.
    proxy: Vec<u8>,
    /// A ring: call number `n` is at `n & (len - 1)`.
    calls: Vec<Call>,
    next: u64,
    active: u64,
    timers: [VecDeque<Timer>; RETRANSMISSIONS],
    pub out: [Outbox; 2],
    pub counts: Counts,
    /// INVITE to 200 in microseconds.
    pub setup_times: Vec<u32>,
    complaints: u32,
}

/// What a socket has to send.
#[derive(Debug, Default)]
pub struct Outbox {
    pub bytes: Vec<u8>,
    pub datagrams: Vec<Range<usize>>,
}

#[derive(Debug, Default)]
struct Call {
    /// Zero: no call yet.
    number: u64,
    over: bool,
    answered: bool,
    acknowledged: bool,
    bye_answered: bool,
    started: u64,
    sides: [Side; 2],
    /// The 200 to the INVITE, repeated until the ACK.
    answer: Vec<u8>,
}

/// One party's end of the dialog.
#[derive(Debug, Default)]
struct Side {
    /// Of the last request sent.
    cseq: u32,
    /// That of the last request received.
    remote_cseq: u32,
    /// The request that waits for its final response: not more than one at a time.
    open: Option<Method>,
    provisional: bool,
    notifies: u8,
    /// The route set, as Route lines.
    routes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    at: u64,
    call: u64,
    party: Party,
    /// Of the request; zero: the answer that waits for its ACK.
    cseq: u32,
}

/// Microseconds until the first retransmission (RFC 3261 §17.1.1.1, T1); each next one waits twice as long.
const T1: u64 = 500_000;

/// After these a call has failed: 7.5 s after the request.
const RETRANSMISSIONS: usize = 4;

/// Wrong messages that are shown.
const COMPLAINTS_MAX: u32 = 5;

impl Calls {
    /// Room for `room` calls at a time, rounded up to a power of two.
    pub fn new(writer: Writer, mode: Mode, refer_by: Party, proxy: SocketAddr, holds: bool, room: usize) -> Calls {
        let mut calls = Vec::new();
        calls.resize_with(room.next_power_of_two(), Call::default);
        Calls {
            writer,
            mode,
            refer_by,
            holds,
            proxy: proxy.to_string().into_bytes(),
            calls,
            next: 1,
            active: 0,
            timers: Default::default(),
            out: Default::default(),
            counts: Counts::default(),
            setup_times: Vec::new(),
            complaints: 0,
        }
    }

    /// Calls that are neither completed nor failed.
    pub fn active(&self) -> u64 {
        self.active
    }

    /// Starts a call.
    pub fn start(&mut self, now: u64) {
        let number = self.next;
        self.next += 1;
        self.counts.started += 1;
        let place = self.place(number);
        let call = &mut self.calls[place];
        if call.number != 0 && !call.over {
            // As many calls as there is room for are open.
            self.counts.failed += 1;
            return;
        }
        call.number = number;
        (call.over, call.answered, call.acknowledged, call.bye_answered) = (false, false, false, false);
        call.started = now;
        for side in &mut call.sides {
            side.routes.clear();
            *side = Side {
                routes: std::mem::take(&mut side.routes),
                ..Side::default()
            };
        }
        self.active += 1;
        let method = match self.mode {
            Mode::Invite | Mode::Refer => Method::Invite,
            Mode::Options => Method::Options,
        };
        self.request(number, Party::Caller, method, now);
    }

    /// Ends the call with this number, counted from 1, if it is established.
    pub fn hang_up(&mut self, number: u64, now: u64) {
        let call = &self.calls[self.place(number)];
        if call.number == number && !call.over && call.answered {
            self.request(number, Party::Caller, Method::Bye, now);
        }
    }

    /// Takes what `party` received.
    pub fn on_datagram(&mut self, party: Party, bytes: &[u8], now: u64) {
        let taken = match read(bytes) {
            Ok(received) => self.on_message(party, &received, now),
            Err(problem) => Err(problem),
        };
        if let Err(problem) = taken {
            self.counts.unexpected += 1;
            if self.complaints < COMPLAINTS_MAX {
                self.complaints += 1;
                eprintln!("{party:?}: {problem}:\n{}", String::from_utf8_lossy(bytes));
            }
        }
    }

    /// Sends again what is due, and gives up what was sent often enough.
    pub fn on_time(&mut self, now: u64) {
        for attempt in 0..RETRANSMISSIONS {
            while let Some(&timer) = self.timers[attempt].front().filter(|timer| timer.at <= now) {
                self.timers[attempt].pop_front();
                self.on_timer(timer, attempt, now);
            }
        }
    }

    fn on_timer(&mut self, timer: Timer, attempt: usize, now: u64) {
        let call = &self.calls[self.place(timer.call)];
        let side = &call.sides[timer.party as usize];
        let waits = match timer.cseq {
            0 => !call.acknowledged,
            cseq => side.cseq == cseq && side.open.is_some(),
        };
        if call.number != timer.call || call.over || !waits {
            return;
        }
        let Some(next) = self.timers.get_mut(attempt + 1) else {
            return self.fail(timer.call);
        };
        next.push_back(Timer {
            at: now + (T1 << (attempt + 1)),
            ..timer
        });
        let place = self.place(timer.call);
        let call = &self.calls[place];
        match (timer.cseq, call.sides[timer.party as usize].open) {
            (0, _) => {
                self.counts.retransmissions += 1;
                self.send_answer(place);
            }
            // RFC 3261 §17.1.1.2: a provisional response ends the retransmissions of an INVITE.
            (_, Some(Method::Invite)) if call.sides[timer.party as usize].provisional => {}
            (_, Some(method)) => {
                self.counts.retransmissions += 1;
                self.write(timer.call, timer.party, method);
            }
            (_, None) => {}
        }
    }

    fn place(&self, number: u64) -> usize {
        number as usize & (self.calls.len() - 1)
    }

    fn fail(&mut self, number: u64) {
        let place = self.place(number);
        self.calls[place].over = true;
        self.active -= 1;
        self.counts.failed += 1;
    }

    // ---- sending ----

    fn request(&mut self, number: u64, party: Party, method: Method, now: u64) {
        let place = self.place(number);
        let side = &mut self.calls[place].sides[party as usize];
        side.cseq += 1;
        side.open = Some(method);
        side.provisional = false;
        let cseq = side.cseq;
        self.write(number, party, method);
        self.timers[0].push_back(Timer {
            at: now + T1,
            call: number,
            party,
            cseq,
        });
    }

    fn write(&mut self, number: u64, party: Party, method: Method) {
        let side = &self.calls[self.place(number)].sides[party as usize];
        let request = Request {
            call: number,
            party,
            method,
            cseq: if method == Method::Ack { 1 } else { side.cseq },
            // The ACK to a 2xx is a transaction of its own.
            branch: if method == Method::Ack { 0 } else { side.cseq },
            routes: &side.routes,
            is_last_notify: side.notifies == 2,
        };
        let writer = &self.writer;
        self.out[party as usize].add(|out| writer.request(&request, out));
    }

    fn respond(&mut self, to: &Received<'_>, answer: &Answer<'_>) {
        let writer = &self.writer;
        self.out[answer.party as usize].add(|out| writer.response(to, answer, out));
    }

    fn send_answer(&mut self, place: usize) {
        let answer = &self.calls[place].answer;
        self.out[Party::Callee as usize].add(|out| out.extend_from_slice(answer));
    }

    // ---- receiving ----

    fn on_message(&mut self, party: Party, received: &Received<'_>, now: u64) -> Result<(), &'static str> {
        let number = self.writer.call_of(received.call_id).ok_or("no call of ours")?;
        let place = self.place(number);
        if number == 0 || self.calls[place].number != number {
            return Err("an old call");
        }
        match received.start {
            Start::Request { method, uri } => self.on_request(party, number, method, uri, received, now),
            Start::Response { code } => self.on_response(party, number, code, received, now),
        }
    }

    fn on_request(
        &mut self,
        party: Party,
        number: u64,
        method: Method,
        uri: &[u8],
        received: &Received<'_>,
        now: u64,
    ) -> Result<(), &'static str> {
        let other = party.other();
        let opens = matches!(method, Method::Invite | Method::Options);
        if tag(received.from) != Some(&Writer::tag(number, other))
            || tag(received.to) != (!opens).then_some(&Writer::tag(number, party)[..])
        {
            return Err("tags");
        }
        // RFC 3261 §16.6: one hop less, one Via more, none of the proxy's Routes left, the Request-URI as it was.
        if received.max_forwards != Some(69) {
            return Err("Max-Forwards is not one less");
        }
        if received.vias != 2 {
            return Err("Vias");
        }
        if received.routes != 0 {
            return Err("a Route is left");
        }
        if !opens && uri != self.writer.contact_uri(party) {
            return Err("Request-URI is not the remote target");
        }
        if method == Method::Invite && received.contact != self.writer.contact(other) {
            return Err("Contact was changed");
        }
        let place = self.place(number);
        let call = &mut self.calls[place];
        let side = &mut call.sides[party as usize];
        if method == Method::Ack {
            if received.cseq != 1 {
                return Err("ACK of another CSeq");
            }
            if std::mem::replace(&mut call.acknowledged, true) {
                self.counts.repeats += 1;
            } else if self.mode == Mode::Refer && self.refer_by == party && !self.holds {
                self.request(number, party, Method::Refer, now);
            }
            return Ok(());
        }
        let is_repeat = received.cseq <= side.remote_cseq;
        if is_repeat {
            self.counts.repeats += 1;
        } else if received.cseq != side.remote_cseq + 1 {
            return Err("a CSeq number was left out");
        } else {
            side.remote_cseq = received.cseq;
        }
        let answer = |status| Answer {
            status,
            party,
            tag: None,
            has_contact: false,
            has_body: false,
        };
        let tag = Some(Writer::tag(number, party));
        match method {
            Method::Invite if is_repeat => self.send_answer(place),
            Method::Invite => {
                // RFC 3261 §12.1.1: the route set of the answerer, in order.
                route_lines(received.record_routes(), &self.proxy, &mut side.routes)?;
                self.respond(received, &answer(b"SIP/2.0 100 Trying\r\n"));
                let ringing = Answer {
                    tag,
                    has_contact: true,
                    ..answer(b"SIP/2.0 180 Ringing\r\n")
                };
                self.respond(received, &ringing);
                let ok = Answer {
                    status: OK,
                    has_body: true,
                    ..ringing
                };
                let mut bytes = std::mem::take(&mut self.calls[place].answer);
                bytes.clear();
                self.writer.response(received, &ok, &mut bytes);
                self.calls[place].answer = bytes;
                self.send_answer(place);
                self.timers[0].push_back(Timer {
                    at: now + T1,
                    call: number,
                    party,
                    cseq: 0,
                });
            }
            Method::Options => self.respond(received, &Answer { tag, ..answer(OK) }),
            Method::Refer => {
                let accepted = Answer {
                    has_contact: true,
                    ..answer(b"SIP/2.0 202 Accepted\r\n")
                };
                self.respond(received, &accepted);
                if !is_repeat {
                    self.notify(number, party, now);
                }
            }
            Method::Notify => {
                self.respond(received, &answer(OK));
                if !is_repeat && received.is_terminated {
                    self.request(number, party, Method::Bye, now);
                }
            }
            Method::Bye => self.respond(received, &answer(OK)),
            Method::Ack => {}
        }
        Ok(())
    }

    fn notify(&mut self, number: u64, party: Party, now: u64) {
        let place = self.place(number);
        self.calls[place].sides[party as usize].notifies += 1;
        self.request(number, party, Method::Notify, now);
    }

    fn on_response(
        &mut self,
        party: Party,
        number: u64,
        code: u16,
        received: &Received<'_>,
        now: u64,
    ) -> Result<(), &'static str> {
        let other = party.other();
        if received.vias != 1 {
            return Err("Vias");
        }
        let place = self.place(number);
        let call = &mut self.calls[place];
        let side = &mut call.sides[party as usize];
        // RFC 3261 §17.1.3: the branch and the method; here all else must be right as well.
        let parameters = received.top_via.strip_prefix(self.writer.via(party)).ok_or("Via")?;
        let branch = memmem::find(parameters, COOKIE).ok_or("no branch")? + COOKIE.len();
        let (branch, rest) = parameters[branch..]
            .split_at_checked(crate::write::BRANCH_LEN)
            .ok_or("short branch")?;
        if branch != self.writer.branch(number, party, received.cseq) || !(rest.is_empty() || rest[0] == b';') {
            return Err("branch");
        }
        if tag(received.from) != Some(&Writer::tag(number, party)) {
            return Err("From");
        }
        if code > 100 && tag(received.to) != Some(&Writer::tag(number, other)) {
            self.fail_unless_over(number);
            return Err("To");
        }
        let method = received.cseq_method;
        if side.open != Some(method) || side.cseq != received.cseq {
            if received.cseq > side.cseq {
                return Err("a response to nothing");
            }
            self.counts.repeats += 1;
            if method == Method::Invite && (200..300).contains(&code) && !call.over {
                self.write(number, party, Method::Ack);
            }
            return Ok(());
        }
        match code {
            100..=199 => {
                side.provisional = true;
                return Ok(());
            }
            200..=299 => side.open = None,
            _ => {
                self.fail_unless_over(number);
                return Err("refused");
            }
        }
        match method {
            Method::Invite => {
                if received.contact != self.writer.contact(other) {
                    return Err("Contact was changed");
                }
                // RFC 3261 §12.1.2: the route set of the caller, turned round.
                route_lines(received.record_routes().rev(), &self.proxy, &mut side.routes)?;
                call.answered = true;
                self.counts.answered += 1;
                let time = u32::try_from(now.saturating_sub(call.started)).unwrap_or(u32::MAX);
                self.setup_times.push(time);
                self.write(number, party, Method::Ack);
                if self.holds {
                    return Ok(());
                }
                if self.mode == Mode::Invite {
                    self.request(number, party, Method::Bye, now);
                } else if self.refer_by == party {
                    self.request(number, party, Method::Refer, now);
                }
            }
            Method::Notify if side.notifies == 1 => self.notify(number, party, now),
            Method::Bye => call.bye_answered = true,
            Method::Options => self.complete(place),
            Method::Notify | Method::Refer | Method::Ack => {}
        }
        let call = &self.calls[place];
        if call.bye_answered && call.sides.iter().all(|side| side.open.is_none()) && !call.over {
            self.complete(place);
        }
        Ok(())
    }

    fn fail_unless_over(&mut self, number: u64) {
        if !self.calls[self.place(number)].over {
            self.fail(number);
        }
    }

    fn complete(&mut self, place: usize) {
        self.calls[place].over = true;
        self.active -= 1;
        self.counts.completed += 1;
    }
}

impl Outbox {
    fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.datagrams.push(start..self.bytes.len());
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.datagrams.clear();
    }
}

/// Makes Route lines of Record-Route values. Each must be the proxy's and loose.
fn route_lines<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    proxy: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    for value in values {
        let host = value.strip_prefix(b"<sip:").ok_or("Record-Route is no SIP URI")?;
        let host = &host[memchr::memchr(b'@', host).map_or(0, |at| at + 1)..];
        if !host.starts_with(proxy) || !host.get(proxy.len()).is_some_and(|byte| matches!(byte, b';' | b'>')) {
            return Err("Record-Route of someone else");
        }
        if memmem::find(host, b";lr").is_none() {
            return Err("Record-Route without lr");
        }
        out.extend_from_slice(b"Route: ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    if out.is_empty() {
        return Err("no Record-Route");
    }
    Ok(())
}

const OK: &[u8] = b"SIP/2.0 200 OK\r\n";
