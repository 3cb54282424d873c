//! What passed in calls that people may want to see: one small entry per message, bounded per call and in total.
//!
//! Messages are taken where they come in and where they go out, so repeats and refusals are among them. Which call a message
//! is of is told by its Call-ID alone: a ladder is that of a Call-ID, with all calls that bear it. While nothing is to be
//! remembered, no message is looked at.

use super::Shard;
use super::commands::asked_for;
use crate::call::{CallKey, Party};
use crate::command::{CallSelector, LadderOf, LadderView, LeftOutView, MessageView, Refusal};
use crate::config::{Ladders as Wanted, TrunkId};
use crate::identifiers::{CallId, TransferId};
use crate::ladder::http_label;
use crate::message::refer::Sipfrag;
use crate::message::{Message, Method, StartLine, parse};
use crate::timer::Instant;
use crate::verb::Verb;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// The ladders of a shard.
#[derive(Debug, Default)]
pub(super) struct Ladders {
    /// By the digest of the Call-ID.
    by_digest: HashMap<u64, Remembered, FixedState>,
    /// The digests in the order in which ladders began.
    order: VecDeque<u64>,
    /// Digests by the numbers of the calls.
    by_call: HashMap<u64, u64, FixedState>,
    /// How many began so far.
    begun: u64,
}

/// What was known of a message before it was taken: an INVITE begins the ladder that it stands in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    is_remembered: bool,
    begun: u64,
}

/// The messages of one Call-ID: those in the middle are left out when there are too many.
#[derive(Debug)]
struct Remembered {
    call_id: Box<[u8]>,
    caller_tag: Box<[u8]>,
    /// Numbers of the calls that bear the Call-ID.
    calls: SmallVec<[u64; 1]>,
    trunks: [TrunkId; 2],
    started: Instant,
    /// The first half.
    first: Vec<Entry>,
    /// The last ones.
    last: VecDeque<Entry>,
    left_out: u64,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    /// The other end, and whether it has sent this.
    peer: Peer,
    is_inward: bool,
    what: What,
    /// Of its bytes: the same again is a repeat.
    digest: u64,
    is_repeat: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Party(Party),
    Application,
}

#[derive(Debug)]
enum What {
    /// A NOTIFY with a sipfrag has a status too.
    Request {
        method: Text<12>,
        number: u32,
        status: Option<(u16, Text<24>)>,
    },
    Response {
        method: Text<12>,
        number: u32,
        code: u16,
        reason: Text<24>,
    },
    Http(Box<str>),
}

/// Text of a peer, of which so much is kept within the entry; at most [`TEXT_BYTES_MAX`] in all.
type Text<const N: usize> = SmallVec<[u8; N]>;

/// A peer may write a whole datagram into a reason phrase.
const TEXT_BYTES_MAX: usize = 64;

/// How far back repeats are looked for.
const REPEATS_WITHIN: usize = 64;

impl Ladders {
    /// Whether any message is to be looked at.
    fn are_kept(&self) -> bool {
        !self.by_digest.is_empty()
    }
}

impl Remembered {
    fn put(&mut self, mut entry: Entry, messages_max: usize) {
        let earlier = self.first.iter().chain(&self.last).rev().take(REPEATS_WITHIN);
        let is_same = |other: &Entry| {
            other.digest == entry.digest && other.peer == entry.peer && other.is_inward == entry.is_inward
        };
        entry.is_repeat = entry.digest != 0 && earlier.into_iter().any(is_same);
        if self.first.len() < messages_max / 2 {
            return self.first.push(entry);
        }
        if self.last.len() >= messages_max - messages_max / 2 {
            self.last.pop_front();
            self.left_out += 1;
        }
        self.last.push_back(entry);
    }
}

fn text<const N: usize>(bytes: &[u8]) -> Text<N> {
    Text::from_slice(&bytes[..bytes.len().min(TEXT_BYTES_MAX)])
}

impl What {
    fn of(message: Message<'_>) -> Option<What> {
        let cseq = message.cseq().ok()?;
        let number = cseq.number;
        Some(match message.start_line() {
            StartLine::Request { .. } => {
                let is_notify = message.method() == Some(Method::Notify);
                let frag = is_notify.then(|| Sipfrag::parse(message.body())).flatten();
                What::Request {
                    method: text(message.method_token()),
                    number,
                    status: frag.map(|frag| (frag.code, text(frag.reason))),
                }
            }
            StartLine::Response { reason, .. } => What::Response {
                method: text(cseq.token),
                number,
                code: message.status()?,
                reason: text(reason),
            },
        })
    }
}

impl Shard {
    // ---- what is remembered ----

    /// A new call: where all are wanted its messages are remembered from now on.
    pub(super) fn ladder_of_call(&mut self, key: CallKey) {
        if self.config().control.ladders == Wanted::All {
            self.begin_ladder(key);
        }
    }

    /// A call is to be transferred: its messages are remembered from now on.
    pub(super) fn ladder_of_transfer(&mut self, key: CallKey) {
        if self.config().control.ladders != Wanted::Off {
            self.begin_ladder(key);
        }
    }

    fn begin_ladder(&mut self, key: CallKey) {
        let control = &self.config().control;
        let (ladders_max, is_off) = (control.ladders_max, control.listen.is_none());
        let Some(call) = self.calls.get(key).filter(|_| !is_off) else {
            return;
        };
        let (number, digest) = (call.id.number, self.call_id_digest(call.call_id()));
        if self.ladders.by_call.contains_key(&number) {
            return;
        }
        let trunks = [call.trunk(Party::Caller), call.trunk(Party::Callee)];
        if let Some(ladder) = self.ladders.by_digest.get_mut(&digest) {
            // A fork answers twice, a spiral passes twice.
            if ladder.calls.len() < CALLS_MAX {
                ladder.calls.push(number);
                self.ladders.by_call.insert(number, digest);
            }
            return;
        }
        let ladder = Remembered {
            call_id: call.call_id().into(),
            caller_tag: call.tag(Party::Caller).unwrap_or_default().into(),
            calls: SmallVec::from_slice(&[number]),
            trunks,
            started: self.now,
            first: Vec::new(),
            last: VecDeque::new(),
            left_out: 0,
        };
        self.ladders.by_digest.insert(digest, ladder);
        self.ladders.by_call.insert(number, digest);
        self.ladders.order.push_back(digest);
        self.ladders.begun += 1;
        while self.ladders.order.len() > ladders_max
            && let Some(oldest) = self.ladders.order.pop_front()
            && let Some(forgotten) = self.ladders.by_digest.remove(&oldest)
        {
            self.counters.ladders_forgotten_total += 1;
            for call in forgotten.calls {
                self.ladders.by_call.remove(&call);
            }
        }
    }

    /// A message is about to be taken.
    pub(super) fn remember_received(&mut self, message: Message<'_>) -> Taken {
        Taken {
            is_remembered: self.ladders.are_kept() && self.remember(message, true),
            begun: self.ladders.begun,
        }
    }

    /// A message has been taken, and what it brought about stands in the outbox from `mark` on.
    pub(super) fn remember_outcome(&mut self, message: Message<'_>, taken: Taken, mark: usize) {
        let begins = self.ladders.begun != taken.begun && !taken.is_remembered;
        if taken.is_remembered || begins && self.remember(message, true) {
            self.remember_sent(mark);
        }
    }

    /// What has been sent since `mark`.
    pub(super) fn remember_sent(&mut self, mark: usize) {
        if !self.ladders.are_kept() {
            return;
        }
        let mut index = std::mem::take(&mut self.ladder_scratch);
        let outbox = std::mem::take(&mut self.outbox);
        for send in outbox.sends_since(mark) {
            let bytes = outbox.get(&send.bytes);
            if !self.topology.is_itself(send.flow) && parse(bytes, &mut index).is_ok() {
                self.remember(Message::new(bytes, &index), false);
            }
        }
        self.outbox = outbox;
        self.ladder_scratch = index;
    }

    /// Remembers a message if its call is one of those. Returns whether it is.
    fn remember(&mut self, message: Message<'_>, is_inward: bool) -> bool {
        let Ok(call_id) = message.call_id() else { return false };
        let digest = self.call_id_digest(call_id);
        let messages_max = self.config().control.ladder_messages_max;
        // The REFER of a call that has a dialog of its own, and what is said in that.
        let beside = self.outside.get(&digest);
        let beside = beside.and_then(|dialog| self.transfers.get(dialog.transfer));
        let beside = beside.and_then(|transfer| Some((self.calls.get(transfer.call)?, transfer.party)));
        let (call_id, digest, party) = match beside {
            Some((call, party)) => (call.call_id(), self.call_id_digest(call.call_id()), Some(party)),
            None => (call_id, digest, None),
        };
        let Some(ladder) = self.ladders.by_digest.get_mut(&digest) else {
            return false;
        };
        if *ladder.call_id != *call_id {
            return false;
        }
        let Some(what) = What::of(message) else { return true };
        // A request comes from the party in From or goes to the other; a response goes the way back.
        let of_caller = message.from_tag().unwrap_or_default() == &*ladder.caller_tag;
        let peer = match of_caller == (message.is_request() == is_inward) {
            true => Party::Caller,
            false => Party::Callee,
        };
        let before = ladder.left_out;
        let entry = Entry {
            at: self.now,
            peer: Peer::Party(party.unwrap_or(peer)),
            is_inward,
            what,
            // 0 stands for none.
            digest: self.setup.secret.mac(b'l', &[message.bytes()]) | 1,
            is_repeat: false,
        };
        ladder.put(entry, messages_max);
        self.counters.ladder_messages_left_out_total += ladder.left_out - before;
        true
    }

    /// A hook, or what its receiver says or asks: `start` is `POST /path` or a status, `body` JSON.
    pub(super) fn remember_http(&mut self, key: CallKey, is_inward: bool, start: &str, body: &str) {
        let number = self.calls.get(key).map(|call| call.id.number);
        let messages_max = self.config().control.ladder_messages_max;
        let digest = number.and_then(|number| self.ladders.by_call.get(&number));
        let Some(ladder) = digest.and_then(|digest| self.ladders.by_digest.get_mut(digest)) else {
            return;
        };
        let label: String = http_label(start, body).chars().take(HTTP_CHARS_MAX).collect();
        let before = ladder.left_out;
        let entry = Entry {
            at: self.now,
            peer: Peer::Application,
            is_inward,
            what: What::Http(label.into()),
            digest: 0,
            is_repeat: false,
        };
        ladder.put(entry, messages_max);
        self.counters.ladder_messages_left_out_total += ladder.left_out - before;
    }

    /// What the application has answered to the action of a transfer.
    pub(super) fn remember_answer(&mut self, transfer: TransferId, is_failed: bool, verbs: &[Verb]) {
        let key = self.transfer_by_number.get(&transfer.number);
        let Some(call) = key
            .and_then(|key| self.transfers.get(*key))
            .map(|transfer| transfer.call)
        else {
            return;
        };
        if self.has_ladder(call) {
            let said = match (is_failed, verbs.is_empty()) {
                (true, _) => "no good answer".to_owned(),
                (false, true) => "taken".to_owned(),
                (false, false) => asked_for(verbs),
            };
            self.remember_http(call, true, &said, "");
        }
    }

    /// Whether messages of a call are remembered.
    pub(super) fn has_ladder(&self, key: CallKey) -> bool {
        let call = self.calls.get(key);
        call.is_some_and(|call| self.ladders.by_call.contains_key(&call.id.number))
    }

    // ---- what is shown ----

    pub(super) fn ladder_view(&self, of: &LadderOf) -> Result<LadderView, Refusal> {
        let refused = |code, detail: &str| Refusal {
            status: 404,
            code,
            field: None,
            detail: detail.to_owned(),
        };
        let digest = match of {
            LadderOf::Call(CallSelector::Id(id)) => self.ladders.by_call.get(&id.number).copied(),
            LadderOf::Call(CallSelector::SipCallId(call_id)) => {
                let digest = self.call_id_digest(call_id);
                let ladder = self.ladders.by_digest.get(&digest);
                ladder.filter(|ladder| *ladder.call_id == **call_id).map(|_| digest)
            }
            LadderOf::Transfer(id) => {
                let transfer = self.transfer_by_number.get(&id.number);
                let transfer = transfer.ok_or_else(|| refused("not_found", "There is no such transfer."))?;
                let call = self.transfers[*transfer].facts.call.parse::<CallId>().ok();
                call.and_then(|call| self.ladders.by_call.get(&call.number).copied())
            }
        };
        if let Some(ladder) = digest.and_then(|digest| self.ladders.by_digest.get(&digest)) {
            return Ok(self.draw(ladder));
        }
        let wanted = self.config().control.ladders;
        match of {
            LadderOf::Call(call) if wanted == Wanted::All || self.find_call(call).is_err() => Err(refused(
                "not_found",
                "There is no such call, or its messages have been forgotten.",
            )),
            LadderOf::Transfer(_) if wanted != Wanted::Off => {
                Err(refused("not_found", "The messages of this call have been forgotten."))
            }
            LadderOf::Call(_) | LadderOf::Transfer(_) => Err(refused(
                "not_kept",
                "Messages of this call are not kept: control.ladders says of which they are.",
            )),
        }
    }

    fn draw(&self, ladder: &Remembered) -> LadderView {
        let entries = || ladder.first.iter().chain(&ladder.last);
        // The call knows better which trunk its callee was found on.
        let live = ladder
            .calls
            .iter()
            .find_map(|number| self.calls.get(*self.by_number.get(number)?));
        let trunks = live.map_or(ladder.trunks, |call| {
            [call.trunk(Party::Caller), call.trunk(Party::Callee)]
        });
        let name = |trunk| self.config().trunk(trunk).name.clone();
        let mut parties = match trunks {
            [one, other] if one == other => vec!["caller".to_owned(), "referee".into(), "callee".into()],
            [caller, callee] => vec![name(caller), "referee".into(), name(callee)],
        };
        if entries().any(|entry| entry.peer == Peer::Application) {
            parties.push("application".to_owned());
        }
        LadderView {
            call_id: String::from_utf8_lossy(&ladder.call_id).into_owned(),
            parties,
            started_at: self.wall(ladder.started),
            messages: entries().map(|entry| entry.view(ladder.started)).collect(),
            left_out: (ladder.left_out > 0).then_some(LeftOutView {
                before: ladder.first.len(),
                count: ladder.left_out,
            }),
        }
    }
}

impl Entry {
    fn view(&self, started: Instant) -> MessageView {
        let readable = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (kind, method, cseq, status, label) = match &self.what {
            What::Request { method, number, status } => {
                let method = readable(method);
                let label = match status {
                    Some((code, reason)) => format!("{method} #{number}: {code} {}", readable(reason)),
                    None => format!("{method} #{number}"),
                };
                let status = status.as_ref().map(|(code, _)| *code);
                ("request", Some(method), Some(*number), status, label)
            }
            What::Response {
                method,
                number,
                code,
                reason,
            } => {
                let method = readable(method);
                let label = format!("{code} {} · {method} #{number}", readable(reason));
                ("response", Some(method), Some(*number), Some(*code), label)
            }
            What::Http(label) => ("http", None, None, None, label.to_string()),
        };
        let peer = match self.peer {
            Peer::Party(Party::Caller) => 0,
            Peer::Party(Party::Callee) => 2,
            Peer::Application => 3,
        };
        let (from, to) = if self.is_inward {
            (peer, REFEREE)
        } else {
            (REFEREE, peer)
        };
        MessageView {
            at: self.at.since(started).as_micros() as f64 / 1_000.0,
            from,
            to,
            kind,
            method,
            cseq,
            status,
            repeat: self.is_repeat,
            label: if self.is_repeat {
                format!("again: {label}")
            } else {
                label
            },
        }
    }
}

/// The column of referee.
const REFEREE: usize = 1;

/// Calls of one Call-ID that have its ladder.
const CALLS_MAX: usize = 16;

/// A path is as long as an application likes.
const HTTP_CHARS_MAX: usize = 120;

/// The path of an absolute URL, as a ladder shows it: without its query, which may hold what is secret.
pub(super) fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.find('/').map_or("/", |at| &rest[at..]);
    path.split('?').next().unwrap_or("/")
}
