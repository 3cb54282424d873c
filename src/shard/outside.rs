//! A REFER outside the call's dialog (RFC 7647 §4), for a party whose Contact is a GRUU: it makes a dialog of its own, is
//! authorised by Target-Dialog (RFC 4538), and its NOTIFYs come here by the Contact.

use super::arrival::Arrival;
use super::notify::is_of_refer;
use super::refer::refer_lines;
use super::saying::{Unsent, begin};
use super::{ClientOwner, Shard};
use crate::call::{Call, Party, Trait, TransferKey};
use crate::config::ReferMode;
use crate::digest::{Request, Sessions};
use crate::identifiers::hex16;
use crate::message::edit::{Injection, RequestWriter, decimal};
use crate::message::uri::request_uri;
use crate::message::{Message, Method, NameAddr};
use crate::proxy::Refused;
use crate::timer::Instant;
use crate::transaction::ClientKey;
use crate::transport::Flow;

/// A dialog of a REFER's own (RFC 3515 §2.4.4).
#[derive(Debug)]
pub(super) struct Outside {
    pub transfer: TransferKey,
    call_id: [u8; 16],
    /// Ours.
    tag: [u8; 16],
    /// CSeq of the last REFER.
    pub number: u32,
    pub sessions: Sessions,
}

/// A REFER to a party of a call, as the other one.
struct OutsideRefer<'a> {
    call: &'a Call,
    party: Party,
    dialog: &'a Outside,
    flow: Flow,
    sent_by: &'a [u8],
    branch: &'a [u8],
    lines: &'a [(&'a str, &'a [u8])],
}

impl OutsideRefer<'_> {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), Injection> {
        let (call, speaker, dialog) = (self.call, self.party.other(), self.dialog);
        let identity = |party| NameAddr::first_of(call.get(party, Trait::Identity)).map_or(&b""[..], |value| value.uri);
        let tag = |party| call.tag(party).unwrap_or_default();
        let mut writer = RequestWriter::new(out, "REFER", &request_uri(call.target(self.party)));
        begin(&mut writer, self.flow.transport, self.sent_by, self.branch)
            .header("From", &[b"<", identity(speaker), b">;tag=", &dialog.tag])
            .header("To", &[b"<", identity(self.party), b">"])
            .header("Call-ID", &[&dialog.call_id])
            .header("CSeq", &[decimal(dialog.number).as_bytes(), b" REFER"])
            .header(
                "Contact",
                &[b"<sip:", self.sent_by, transport_parameter(self.flow), b">"],
            )
            .header("Allow", &[b"NOTIFY"])
            .header(
                "Target-Dialog",
                &[
                    call.call_id(),
                    b";local-tag=",
                    tag(self.party),
                    b";remote-tag=",
                    tag(speaker),
                ],
            )
            .header("Require", &[b"tdialog"]);
        for (name, value) in self.lines {
            writer.header(name, &[value]);
        }
        writer.finish(None, b"").map(|_| ())
    }
}

fn transport_parameter(flow: Flow) -> &'static [u8] {
    match flow.transport {
        crate::transport::Transport::Udp => b"",
        crate::transport::Transport::Tcp => b";transport=tcp",
    }
}

impl Shard {
    /// Sends the REFER of a transfer in a dialog of its own, or once more in that.
    pub(super) fn send_outside(&mut self, key: TransferKey, now: Instant) -> Result<ClientKey, Unsent> {
        let Some(transfer) = self.transfers.get(key) else {
            return Err(Unsent::Never);
        };
        let (call, party, trunk) = (transfer.call, transfer.party, transfer.trunk);
        let (refer_to, referred_by) = (transfer.refer_to.clone(), transfer.referred_by.clone());
        let verb = transfer.verb.clone();
        let known = transfer.outside;
        let Some(to) = self.calls.get(call) else {
            return Err(Unsent::Never);
        };
        let uri = request_uri(to.target(party)).into_owned();
        let flow = self.flow_to_uri(to.target(party), trunk, Some(to.flow(party)), now)?;
        let digest = match known {
            Some(digest) => digest,
            None => self.open_outside(key),
        };
        let config = self.setup.config.clone();
        let Some(dialog) = self.outside.get_mut(&digest) else {
            return Err(Unsent::Never);
        };
        dialog.number += 1;
        let request = Request {
            method: b"REFER",
            uri: &uri,
            body: b"",
        };
        let credentials: Vec<_> = match &config.trunk(trunk).auth {
            Some(auth) => dialog.sessions.values(auth, &request, |_, _| false).collect(),
            None => Vec::new(),
        };
        let mut lines = refer_lines(&refer_to, &referred_by, &verb);
        lines.extend(credentials.iter().map(|(name, value)| (*name, &value[..])));
        let owner = ClientOwner::Refer(key);
        let (client, branch) = self
            .transactions
            .open_client(Method::Refer, flow, owner, None, &mut self.random);
        let start = self.outbox.bytes.len();
        let write = |shard: &mut Shard, flow: Flow| {
            let refer = OutsideRefer {
                call: shard.calls.get(call)?,
                party,
                dialog: shard.outside.get(&digest)?,
                flow,
                sent_by: shard.topology.sent_by(flow.bind),
                branch: branch.as_bytes(),
                lines: &lines,
            };
            refer.write(&mut shard.outbox.bytes).ok()
        };
        if write(self, flow).is_none() {
            self.transactions.drop_client(client);
            return Err(Unsent::Never);
        }
        if let Some(stream) = self.flow_for_size(start, flow, now) {
            self.outbox.bytes.truncate(start);
            let written = write(self, stream);
            debug_assert!(written.is_some(), "it was written before");
            self.lead_by_stream(client, stream);
        }
        let bytes = self.outbox.since(start);
        self.transactions
            .start(client, bytes, &mut self.outbox, &mut self.timers, now);
        Ok(client)
    }

    fn open_outside(&mut self, transfer: TransferKey) -> u64 {
        let (call_id, tag) = (self.own_call_id(), hex16(self.random.next_u64()));
        let digest = self.call_id_digest(&call_id);
        let dialog = Outside {
            transfer,
            call_id,
            tag,
            number: 0,
            sessions: Sessions::default(),
        };
        self.outside.insert(digest, dialog);
        self.transfers[transfer].outside = Some(digest);
        digest
    }

    /// What [`Shard::send_outside`] would send to a party now, but for the names of the dialog.
    pub(super) fn preview_outside(&self, call: &Call, party: Party, lines: &[(&str, &[u8])]) -> Option<Vec<u8>> {
        let dialog = Outside {
            transfer: TransferKey::default(),
            call_id: *b"a-new-Call-ID---",
            tag: *b"a-new-tag-------",
            number: 1,
            sessions: Sessions::default(),
        };
        let flow = call.flow(party);
        let refer = OutsideRefer {
            call,
            party,
            dialog: &dialog,
            flow,
            sent_by: self.topology.sent_by(flow.bind),
            branch: b"z9hG4bKdry-run",
            lines,
        };
        let mut out = Vec::new();
        refer.write(&mut out).ok()?;
        Some(out)
    }

    pub(super) fn refers_outside(&self, call: &Call, party: Party) -> bool {
        self.config().trunk(call.trunk(party)).refer.refer_mode == ReferMode::OutOfDialog
    }

    /// A request in a dialog that a REFER of ours has made. `true`: it was, and has its answer.
    pub(super) fn on_outside(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        to_tag: &[u8],
        now: Instant,
    ) -> bool {
        if arrival.method != Method::Notify || self.outside.is_empty() {
            return false;
        }
        let call_id = message.call_id().unwrap_or_default();
        let dialog = self.outside.get(&self.call_id_digest(call_id));
        let Some(dialog) = dialog.filter(|dialog| dialog.call_id == call_id && dialog.tag == to_tag) else {
            return false;
        };
        let key = dialog.transfer;
        let Some(transfer) = self.transfers.get(key) else {
            return false;
        };
        if !self.topology.may_speak_as(arrival.flow, transfer.trunk) {
            self.counters.refused_source_total += 1;
            self.refuse(message, arrival, Refused::new(403, "Forbidden"), &[], now);
        } else if !is_of_refer(message) {
            let answer = Refused::new(489, "Bad Event");
            self.refuse(message, arrival, answer, &[("Allow-Events", b"refer")], now);
        } else {
            self.hear(key, message, arrival, now);
        }
        true
    }
}
