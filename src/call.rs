//! A call: one dialog with one pair of tags, seen from two sides (RFC 3261 §12). Where an application leads it, the callee is
//! referee itself, and its texts are our own.
//!
//! For each party referee keeps what it needs to speak to it as the other party: identity, remote target, route set, Allow,
//! flow, and the numbering of each direction. All text of a call lies in one allocation.

pub mod early;
pub mod refers;

use crate::config::{ApplicationId, TrunkId};
use crate::digest::Sessions;
use crate::identifiers::CallId;
use crate::message::{Header, Message, MessageBuf, NameAddr};
use crate::sequence::Sequence;
use crate::timer::Instant;
use crate::transaction::ServerKey;
use crate::transport::Flow;
use crate::usage::Places;
use crate::verb::Verb;
use early::EarlyDialogs;
use refers::Refers;
use slotmap::new_key_type;
use std::collections::VecDeque;
use std::time::Duration;

new_key_type! {
    /// A live call; a stale key finds nothing.
    pub struct CallKey;
    /// A transfer on a call; a stale key finds nothing.
    pub struct TransferKey;
}

/// One of the two parties of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    Caller,
    Callee,
}

impl Party {
    pub fn other(self) -> Party {
        match self {
            Party::Caller => Party::Callee,
            Party::Callee => Party::Caller,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallState {
    /// The INVITE has no answer but 100.
    Trying,
    /// A provisional response with a tag came.
    Ringing,
    /// A 2xx came.
    Answered,
    /// Our BYEs have left: a BYE is answered here, all else gets 481.
    Ending,
    /// Over; kept so that late NOTIFYs are still answered 200.
    Ended,
}

/// What a party has shown of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trait {
    /// Its From (caller) or To (callee) value, with its tag.
    Identity,
    /// Its last Contact value.
    Contact,
    /// The route set towards it, as Route values in order, comma-separated.
    Routes,
    /// Its last Allow value.
    Allow,
    /// The P-Asserted-Identity it came with.
    Asserted,
}

const TRAITS: usize = 5;
const TEXTS: usize = 1 + 2 * TRAITS;

/// A call.
#[derive(Debug)]
pub struct Call {
    pub id: CallId,
    /// It is led by this application: referee is the callee.
    pub application: Option<ApplicationId>,
    /// The key in the tokens of its INVITE: its own, or, where several targets have answered, that of the first.
    pub traversal: CallKey,
    pub state: CallState,
    /// The trunks of caller and callee.
    trunks: [TrunkId; 2],
    /// Where each party was last heard from.
    flows: [Flow; 2],
    /// The requests of each party.
    directions: [Direction; 2],
    texts: Texts,
    /// What was sent before the answer, and in dialogs that are no call.
    early: Option<Box<EarlyDialogs>>,
    pub created: Instant,
    pub answered: Option<Instant>,
    /// The caller's ACK of the answer has passed.
    pub is_acked: bool,
    /// A target has its INVITE under another number than the caller's: it was sent again, or an earlier one was.
    pub is_renumbered: bool,
    /// Until when the session may be alive without a refresh; `None`: the parties have agreed on no interval (RFC 4028 §8.2).
    pub session_until: Option<Instant>,
    /// Its place in the order of opening.
    pub order: u64,
    /// The transaction of the last INVITE that passed: the one that opened the call, or one within its dialog.
    pub invite: Option<ServerKey>,
    /// What it takes of its trunks, until it ends.
    pub places: Places,
    /// What few calls have.
    extra: Option<Box<Extra>>,
}

/// The requests of one party of a dialog.
#[derive(Debug, Default)]
pub struct Direction {
    pub sequence: Sequence,
    /// What the other party's trunk has accepted of referee; `None`: it has challenged nothing.
    pub sessions: Option<Box<Sessions>>,
}

/// What few calls have: transfers, requests that wait, data of the application.
#[derive(Debug, Default)]
pub struct Extra {
    /// The transfer under way.
    pub transfer: Option<TransferKey>,
    /// The last one that ended: its late NOTIFYs still inform.
    pub last_transfer: Option<TransferKey>,
    pub transfers: u32,
    /// The longest time that one of them says late NOTIFYs are to find their way (T_tomb).
    pub tombstone: Option<Duration>,
    /// Requests of a party that wait until ours has a response, in order.
    pub held: VecDeque<Held>,
    /// Until when, and whose.
    pub hold: Option<(Party, Instant)>,
    /// A Contact that changed where the other party could not see it: requests to the old URI go to the new one.
    pub retargets: [Option<Retarget>; 2],
    /// REFERs that passed within the dialog, ours and those of the parties: they tell whose a NOTIFY is.
    pub refers: Refers,
    pub customer_data: serde_json::Map<String, serde_json::Value>,
    /// Verbs that are still to run, in order.
    pub verbs: VecDeque<Verb>,
    /// The application is being told how a transfer ended: its reply decides what runs next.
    pub awaits_reply: bool,
    /// The last question of an update of the control API, and whether its answer is still waited for.
    pub updates: Option<u32>,
    pub awaits_update: bool,
    /// Until when a `pause` lasts.
    pub paused_until: Option<Instant>,
    /// Its `id`.
    pub pause_id: Option<String>,
    /// A party that answered a request of ours with 481: one more, and the call is over.
    pub suspect: Option<Party>,
    /// A party whose answer says that its side of the call is gone, and until when it may show that it is not.
    pub doubt: Option<(Party, Instant)>,
    /// A BYE has ended its dialog before the answer was seen here.
    pub is_over: bool,
    /// The call is to end: our BYEs follow the ACK of its answer.
    pub end_after_ack: bool,
    /// A REFER of ours that follows it, or the answer of an INVITE within the dialog: that until then at most (T_queue).
    pub refer_waits: Option<(TransferKey, Option<Instant>)>,
    /// Our BYEs have left.
    pub ended_here: bool,
    /// BYEs of ours that are not answered yet, and what goes on them.
    pub byes_open: u8,
    pub bye_headers: Vec<(String, String)>,
}

/// Each hook of a call carries all of it.
const CUSTOMER_DATA_BYTES_MAX: usize = 64 * 1_024;

impl Extra {
    /// Adds to what hooks return as `customerData`. `false`: it would be too long in all, and is as it was.
    pub fn tag(&mut self, data: serde_json::Map<String, serde_json::Value>) -> bool {
        let mut all = self.customer_data.clone();
        all.extend(data);
        let all = serde_json::Value::Object(all);
        let fits = all.to_string().len() <= CUSTOMER_DATA_BYTES_MAX;
        if let (true, serde_json::Value::Object(all)) = (fits, all) {
            self.customer_data = all;
        }
        fits
    }

    /// Whether a transfer runs, ours or a party's own: NOTIFYs are to come.
    pub fn is_referring(&self, now: Instant) -> bool {
        self.transfer.is_some() || self.refers.are_alive(now)
    }

    /// Whether a REFER passed here, or was to be sent: NOTIFYs may come late.
    pub fn has_referred(&self) -> bool {
        self.last_transfer.is_some() || !self.refers.is_empty()
    }
}

/// A remote target that moved unseen: what the other party still knows, and what holds now.
#[derive(Debug)]
pub struct Retarget {
    pub known: Box<[u8]>,
    pub now: Box<[u8]>,
}

/// A request that waits for its turn.
#[derive(Debug)]
pub struct Held {
    pub flow: Flow,
    pub message: MessageBuf,
    pub server: ServerKey,
}

impl Call {
    /// A call from its INVITE, which came by `flow`.
    /// Where the callee is to be had is not known before [`Call::set_callee`].
    pub fn new(id: CallId, invite: Message<'_>, flow: Flow, trunks: [TrunkId; 2], now: Instant) -> Call {
        let mut call = Call {
            id,
            application: None,
            traversal: CallKey::default(),
            state: CallState::Trying,
            trunks,
            flows: [flow, flow],
            directions: Default::default(),
            texts: Texts::default(),
            early: None,
            created: now,
            answered: None,
            is_acked: false,
            is_renumbered: false,
            session_until: None,
            order: 0,
            invite: None,
            places: Places::default(),
            extra: None,
        };
        call.texts.set(0, invite.call_id().unwrap_or_default());
        call.set(
            Party::Caller,
            Trait::Identity,
            invite.value(Header::From).unwrap_or_default(),
        );
        call.set(
            Party::Callee,
            Trait::Identity,
            invite.value(Header::To).unwrap_or_default(),
        );
        // RFC 3261 §12.1.1: for us the Record-Route of the INVITE, in order, leads to the caller.
        let mut routes = Vec::new();
        for line in invite.lines_of(Header::RecordRoute) {
            append_list(&mut routes, line.value);
        }
        call.set(Party::Caller, Trait::Routes, &routes);
        call.learn(Party::Caller, invite);
        call
    }

    /// The dialog that a further target of the same INVITE makes with its 2xx (RFC 3261 §13.2.2.4): the caller as it is, the
    /// callee still to be learned. `number` is the INVITE's CSeq.
    pub fn another(&self, id: CallId, number: u32, now: Instant) -> Call {
        let mut call = Call {
            id,
            application: self.application,
            traversal: self.traversal,
            state: CallState::Trying,
            trunks: self.trunks,
            flows: self.flows,
            directions: Default::default(),
            texts: self.texts.clone(),
            early: None,
            created: now,
            answered: None,
            is_acked: false,
            is_renumbered: false,
            session_until: None,
            order: 0,
            invite: self.invite,
            places: Places::default(),
            extra: None,
        };
        call.sequence_mut(Party::Caller).observe(number);
        for what in [
            Trait::Identity,
            Trait::Contact,
            Trait::Routes,
            Trait::Allow,
            Trait::Asserted,
        ] {
            call.set(Party::Callee, what, b"");
        }
        call
    }

    pub fn call_id(&self) -> &[u8] {
        self.texts.get(0)
    }

    pub fn get(&self, party: Party, what: Trait) -> &[u8] {
        self.texts.get(text_index(party, what))
    }

    pub fn set(&mut self, party: Party, what: Trait, value: &[u8]) {
        self.texts.set(text_index(party, what), value);
    }

    /// The parties that are not referee itself.
    pub fn others(&self) -> &'static [Party] {
        match self.application {
            Some(_) => &[Party::Caller],
            None => &[Party::Caller, Party::Callee],
        }
    }

    pub fn trunk(&self, party: Party) -> TrunkId {
        self.trunks[party as usize]
    }

    pub fn flow(&self, party: Party) -> Flow {
        self.flows[party as usize]
    }

    pub fn set_flow(&mut self, party: Party, flow: Flow) {
        self.flows[party as usize] = flow;
    }

    /// The callee is to be had there.
    pub fn set_callee(&mut self, trunk: TrunkId, flow: Flow) {
        self.trunks[Party::Callee as usize] = trunk;
        self.flows[Party::Callee as usize] = flow;
    }

    pub fn sequence(&self, party: Party) -> &Sequence {
        &self.directions[party as usize].sequence
    }

    pub fn sequence_mut(&mut self, party: Party) -> &mut Sequence {
        &mut self.directions[party as usize].sequence
    }

    /// The requests of `party` to the other one.
    pub fn direction(&self, party: Party) -> &Direction {
        &self.directions[party as usize]
    }

    /// As [`Call::direction`].
    pub fn direction_mut(&mut self, party: Party) -> &mut Direction {
        &mut self.directions[party as usize]
    }

    /// The dialogs before the answer, and those that are no call.
    pub fn early_mut(&mut self) -> &mut EarlyDialogs {
        self.early.get_or_insert_default()
    }

    /// As [`Call::early_mut`], but without making it.
    pub fn early_if_any(&mut self) -> Option<&mut EarlyDialogs> {
        self.early.as_deref_mut()
    }

    pub fn early(&self) -> Option<&EarlyDialogs> {
        self.early.as_deref()
    }

    /// An early dialog has become a call, this one or another.
    pub fn take_early(&mut self, callee: u64) -> Option<[Direction; 2]> {
        let early = self.early.as_mut()?;
        let taken = early.take(callee);
        if early.is_empty() {
            self.early = None;
        }
        taken
    }

    /// This call is what has become of an early dialog.
    pub fn continue_early(&mut self, early: Option<[Direction; 2]>) {
        let Some(mut early) = early else { return };
        for party in [Party::Caller, Party::Callee] {
            if let Some(number) = self.sequence(party).highest() {
                early[party as usize].sequence.observe(number);
            }
        }
        self.directions = early;
    }

    pub fn extra(&self) -> Option<&Extra> {
        self.extra.as_deref()
    }

    /// What few calls have; made when first asked for.
    pub fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// As [`Call::extra_mut`], but without making it.
    pub fn extra_if_any(&mut self) -> Option<&mut Extra> {
        self.extra.as_deref_mut()
    }

    /// A party has shown that it knows this call: whoever took it for lost was wrong.
    pub fn shows_life(&mut self, party: Party) {
        if let Some(extra) = self.extra_if_any() {
            extra.doubt = extra.doubt.filter(|(doubted, _)| *doubted != party);
            extra.suspect = extra.suspect.filter(|suspect| *suspect != party);
        }
    }

    /// The tag of a party; `None` before the callee has one.
    pub fn tag(&self, party: Party) -> Option<&[u8]> {
        NameAddr::tag_of(self.get(party, Trait::Identity))
    }

    /// The remote target: the URI of the party's last Contact, or of its identity if it showed none.
    pub fn target(&self, party: Party) -> &[u8] {
        uri_of(self.get(party, Trait::Contact))
            .unwrap_or_else(|| uri_of(self.get(party, Trait::Identity)).unwrap_or_default())
    }

    /// Takes what a message of `party` shows of it: Contact, Allow, P-Asserted-Identity.
    pub fn learn(&mut self, party: Party, message: Message<'_>) {
        for (what, header) in [
            (Trait::Contact, Header::Contact),
            (Trait::Allow, Header::Allow),
            (Trait::Asserted, Header::PAssertedIdentity),
        ] {
            if let Some(value) = message.value(header)
                && !value.is_empty()
                && value != self.get(party, what)
            {
                self.set(party, what, value);
            }
        }
    }

    /// As [`Call::learn`], from a message that the other party sees too: a Contact in it is no longer unseen.
    pub fn learn_seen(&mut self, party: Party, message: Message<'_>) {
        self.learn(party, message);
        if message.count(Header::Contact) > 0
            && let Some(extra) = self.extra_if_any()
        {
            extra.retargets[party as usize] = None;
        }
    }

    /// Takes the dialog from a response to the INVITE with a To tag. `is_own` tells the Record-Route URIs of this traversal; the
    /// values above those lead to the callee, nearest last (RFC 3261 §12.1.2).
    pub fn learn_callee(&mut self, response: Message<'_>, is_own: impl Fn(&[u8]) -> bool) {
        if let Some(to) = response.value(Header::To)
            && to != self.get(Party::Callee, Trait::Identity)
        {
            self.set(Party::Callee, Trait::Identity, to);
        }
        self.learn(Party::Callee, response);
        let above: smallvec::SmallVec<[&[u8]; 8]> = response
            .name_addrs(Header::RecordRoute)
            .map_while(|value| value.ok())
            .take_while(|value| !is_own(value.uri))
            .map(|value| &response.bytes()[value.span.clone()])
            .collect();
        let mut routes = Vec::new();
        for value in above.iter().rev() {
            append_list(&mut routes, value);
        }
        if routes != self.get(Party::Callee, Trait::Routes) {
            self.set(Party::Callee, Trait::Routes, &routes);
        }
    }

    /// Whether a request with these tags is of this dialog, and whose: by its From tag. Of a party of RFC 2543 the tag is null, here
    /// empty (RFC 3261 §12.1.1, §12.1.2), and a callee that has answered without one matches any; before that there is no dialog.
    pub fn sender(&self, from_tag: &[u8], to_tag: &[u8]) -> Option<Party> {
        let is_dialog = self.state != CallState::Trying;
        [Party::Caller, Party::Callee].into_iter().find(|party| {
            let listener = self.tag(party.other());
            let is_null = || is_dialog && from_tag.is_empty();
            self.tag(*party).map_or_else(is_null, |tag| tag == from_tag)
                && listener.map_or(is_dialog, |tag| tag == to_tag)
        })
    }

    /// Whether requests of ours stand in its numbering: then only this call knows the numbers of either side.
    pub fn is_shifted(&self) -> bool {
        let early = self.early.iter().flat_map(|early| early.directions());
        self.directions
            .iter()
            .chain(early)
            .any(|direction| direction.sequence.is_shifted())
    }
}

fn text_index(party: Party, what: Trait) -> usize {
    1 + party as usize * TRAITS + what as usize
}

fn append_list(list: &mut Vec<u8>, value: &[u8]) {
    if !list.is_empty() {
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(value);
}

fn uri_of(value: &[u8]) -> Option<&[u8]> {
    if value.is_empty() {
        return None;
    }
    crate::message::NameAddr::first_of(value)
        .ok()
        .map(|value| value.uri)
        .filter(|uri| !uri.is_empty())
}

/// Several texts in one allocation of their exact size.
#[derive(Clone, Debug, Default)]
struct Texts {
    bytes: Box<[u8]>,
    /// `ends[i]` is where text `i` ends; it starts where the one before ends. `ends` never falls.
    ends: [u32; TEXTS],
}

impl Texts {
    fn span(&self, i: usize) -> std::ops::Range<usize> {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        start as usize..self.ends[i] as usize
    }

    fn get(&self, i: usize) -> &[u8] {
        &self.bytes[self.span(i)]
    }

    fn set(&mut self, i: usize, value: &[u8]) {
        let span = self.span(i);
        if span.len() == value.len() {
            self.bytes[span].copy_from_slice(value);
            return;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len() - span.len() + value.len());
        bytes.extend_from_slice(&self.bytes[..span.start]);
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(&self.bytes[span.end..]);
        self.bytes = bytes.into_boxed_slice();
        for end in &mut self.ends[i..] {
            *end = *end - span.len() as u32 + value.len() as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_keep_apart_whatever_their_lengths() {
        let mut texts = Texts::default();
        let mut model = vec![Vec::new(); TEXTS];
        for step in 0..200usize {
            let i = (step * 7) % TEXTS;
            let value = vec![step as u8; (step * 31) % 50];
            texts.set(i, &value);
            model[i] = value;
            for (i, expected) in model.iter().enumerate() {
                assert_eq!(texts.get(i), expected.as_slice());
            }
        }
    }
}
