//! What waits for the store: the 200 to a NOTIFY of ours and the reply to a verb leave once what they confirm is recorded.

use super::arrival::Arrival;
use super::{Output, Shard, Unrecorded};
use crate::message::Message;
use crate::message::edit::{Response, ViaStamp, write_response};
use crate::timer::Instant;
use crate::transaction::ServerKey;

impl Shard {
    /// 200 without a Contact: ours is not the remote target of this dialog. With a store it waits until the event is recorded.
    pub(super) fn answer_notify(
        &mut self,
        server: ServerKey,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        now: Instant,
    ) {
        let start = self.outbox.bytes.len();
        let response = Response {
            code: 200,
            reason: "OK",
            to_tag: None,
            copy_record_route: false,
            extra: &[],
            content_type: None,
            body: b"",
        };
        write_response(
            message,
            ViaStamp::of(&arrival.via, arrival.flow.peer),
            &response,
            &mut self.outbox.bytes,
        );
        let bytes = self.outbox.since(start);
        if self.setup.records {
            let bytes = self.outbox.get(&bytes).to_vec();
            self.outbox.bytes.truncate(start);
            self.record(Unrecorded::Response {
                server,
                code: 200,
                bytes,
            });
        } else {
            self.transactions
                .respond(server, 200, bytes, &mut self.outbox, &mut self.timers, now);
        }
    }

    /// Lets something wait until what was reported is durable.
    pub(super) fn record(&mut self, waiting: Unrecorded) {
        self.next_record += 1;
        self.unrecorded.insert(self.next_record, waiting);
        self.effects.push_back(Output::Record {
            ticket: self.next_record,
        });
    }

    pub(super) fn on_recorded(&mut self, ticket: u64, now: Instant) {
        match self.unrecorded.remove(&ticket) {
            Some(Unrecorded::Response { server, code, bytes }) => {
                let start = self.outbox.bytes.len();
                self.outbox.bytes.extend_from_slice(&bytes);
                let bytes = self.outbox.since(start);
                self.transactions
                    .respond(server, code, bytes, &mut self.outbox, &mut self.timers, now);
            }
            Some(Unrecorded::Reply { ticket, reply }) => self.effects.push_back(Output::Reply { ticket, reply }),
            None => {}
        }
    }
}
