//! Whether every transaction can still move: for the simulator.

use super::client::ClientState;
use super::server::ServerState;
use super::{Client, ClientKey, Deadline, Letter, Server, ServerKey, Transactions};
use crate::message::Method;

impl<S: Copy, C: Copy> Transactions<S, C> {
    pub fn servers(&self) -> impl Iterator<Item = (ServerKey, &Server<S>)> {
        self.servers.iter()
    }

    pub fn clients(&self) -> impl Iterator<Item = (ClientKey, &Client<C>)> {
        self.clients.iter()
    }

    /// What is wrong with the tables, where `is_armed` tells which deadlines are still to fire. That a transaction without a
    /// deadline of its own is waited for by someone is for the layer above to tell: an INVITE client that has a provisional
    /// response, and a server without a final one.
    pub fn audit(&self, is_armed: impl Fn(Deadline) -> bool, faults: &mut Vec<String>) {
        let mut fault = |what: String| faults.push(what);
        if self.by_identity.len() != self.servers.len() {
            fault(format!(
                "{} identities of {} server transactions",
                self.by_identity.len(),
                self.servers.len()
            ));
        }
        for (key, server) in &self.servers {
            let name = || format!("server transaction {:?} in {:?}", server.method, server.state);
            if self.by_identity.get(&server.identity) != Some(&key) {
                fault(format!("{} is not found by its identity", name()));
            }
            let letters: &[Letter] = match server.state {
                ServerState::Trying | ServerState::Proceeding => &[],
                ServerState::Completed if !server.is_invite() => &[Letter::J],
                ServerState::Completed if server.reply_to.transport.is_reliable() => &[Letter::H],
                ServerState::Completed => &[Letter::G, Letter::H],
                ServerState::Confirmed => &[Letter::I],
                ServerState::Accepted => &[Letter::L],
            };
            for letter in letters {
                if !is_armed(Deadline::Server(key, *letter)) {
                    fault(format!("{} has no {}", name(), letter.as_str()));
                }
            }
            if server.is_waiting() && server.request.is_empty() {
                fault(format!("{} has no request to answer", name()));
            }
            // A non-INVITE may have ended without one (RFC 4320 §4.2).
            let repeats = server.is_invite() && server.state == ServerState::Completed;
            if repeats && server.response.is_empty() {
                fault(format!("{} has no response to repeat", name()));
            }
        }
        for (key, client) in &self.clients {
            let name = || format!("client transaction {:?} in {:?}", client.method, client.state);
            let letters: &[Letter] = match (client.state, client.is_invite(), client.flow.transport.is_reliable()) {
                (ClientState::Calling, _, true) => &[Letter::B],
                (ClientState::Calling, _, false) | (ClientState::Proceeding, true, _) if client.is_quiet => {
                    &[Letter::B]
                }
                (ClientState::Calling, _, false) => &[Letter::A, Letter::B],
                (ClientState::Trying | ClientState::Proceeding, false, false) if client.is_quiet => &[Letter::F],
                (ClientState::Trying, _, true) => &[Letter::F],
                (ClientState::Trying, _, false) => &[Letter::E, Letter::F],
                (ClientState::Proceeding, true, _) => &[],
                (ClientState::Proceeding, false, true) => &[Letter::F],
                (ClientState::Proceeding, false, false) => &[Letter::E, Letter::F],
                (ClientState::Completed, true, _) => &[Letter::D],
                (ClientState::Completed, false, _) => &[Letter::K],
                (ClientState::Accepted, _, _) => &[Letter::M],
            };
            for letter in letters {
                if !is_armed(Deadline::Client(key, *letter)) {
                    fault(format!("{} has no {}", name(), letter.as_str()));
                }
            }
            let repeats = client.is_waiting() || (client.state == ClientState::Completed && client.is_invite());
            if repeats && client.request.is_empty() {
                fault(format!("{} has nothing to send again", name()));
            }
            if let Some(cancel) = client.cancel.and_then(|cancel| self.clients.get(cancel))
                && (cancel.method != Method::Cancel || cancel.random != client.random)
            {
                fault(format!("{} has a CANCEL that is another's", name()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Branch, Index, Instant, Outbox, SipTimers, Timers};
    use super::*;
    use crate::identifiers::Random;
    use crate::message::{MessageBuf, parse};
    use crate::transport::{BindId, Flow, LocalId, Transport};
    use std::time::Duration;

    const NOW: Instant = Instant::START;

    struct Table {
        transactions: Transactions<(), ()>,
        timers: Timers<Deadline>,
        outbox: Outbox,
        flow: Flow,
    }

    impl Table {
        fn new(transport: Transport) -> Table {
            let timers = SipTimers {
                t1: Duration::from_millis(500),
                t2: Duration::from_secs(4),
                t4: Duration::from_secs(5),
                timer_c: Duration::from_secs(190),
            };
            Table {
                transactions: Transactions::new(timers, [7; 16]),
                timers: Timers::default(),
                outbox: Outbox::default(),
                flow: Flow {
                    bind: BindId(0),
                    transport,
                    local: LocalId::ANY,
                    peer: ([192, 0, 2, 1], 5060).into(),
                    connection: None,
                },
            }
        }

        /// What is missing where no timer is armed.
        fn faults(&self) -> Vec<String> {
            let mut faults = Vec::new();
            self.transactions.audit(|_| false, &mut faults);
            faults
        }

        /// The letters of the timers that are missing, as one word.
        fn letters(&self) -> String {
            let letter = |fault: &String| fault.split_once(" has no Timer ").map(|(_, letter)| letter.to_owned());
            self.faults().iter().filter_map(letter).collect()
        }

        fn server(&mut self, method: Method, name: &str) -> ServerKey {
            let request = MessageBuf::parse(text(&format!("{name} sip:b@b SIP/2.0"), name, b"z9hG4bK1")).unwrap();
            self.transactions
                .open_server(1, request.as_message(), method, self.flow, 5060, ())
        }

        fn respond(&mut self, key: ServerKey, code: u16) {
            self.outbox.bytes.extend_from_slice(b"a response");
            let bytes = self.outbox.since(self.outbox.bytes.len() - 10);
            let (outbox, timers) = (&mut self.outbox, &mut self.timers);
            assert!(self.transactions.respond(key, code, bytes, outbox, timers, NOW));
        }

        fn client(&mut self, method: Method, name: &str) -> (ClientKey, Branch) {
            let mut random = Random::new([3; 16]);
            let (key, branch) = self.transactions.open_client(method, self.flow, (), None, &mut random);
            let start = self.outbox.bytes.len();
            let request = text(&format!("{name} sip:b@b SIP/2.0"), name, branch.as_bytes());
            self.outbox.bytes.extend_from_slice(&request);
            let bytes = self.outbox.since(start);
            self.transactions
                .start(key, bytes, &mut self.outbox, &mut self.timers, NOW);
            (key, branch)
        }

        fn answer(&mut self, branch: &Branch, name: &str, code: u16) {
            let response = text(&format!("SIP/2.0 {code} X"), name, branch.as_bytes());
            let mut index = Index::new();
            parse(&response, &mut index).unwrap();
            let (outbox, timers) = (&mut self.outbox, &mut self.timers);
            let message = crate::message::Message::new(&response, &index);
            let answered = self.transactions.on_response(message, |_, _| true, outbox, timers, NOW);
            assert!(answered.unwrap().is_some());
        }
    }

    fn text(first: &str, method: &str, branch: &[u8]) -> Vec<u8> {
        let branch = String::from_utf8_lossy(branch);
        format!(
            "{first}\r\nVia: SIP/2.0/UDP a;branch={branch}\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>;tag=2\r\n\
             Call-ID: c\r\nCSeq: 1 {method}\r\n\r\n"
        )
        .into_bytes()
    }

    const UDP: Transport = Transport::Udp;
    const TCP: Transport = Transport::Tcp;

    #[test]
    fn a_server_transaction_that_cannot_move_is_a_fault() {
        for (transport, after_486) in [(UDP, "GH"), (TCP, "H")] {
            let mut table = Table::new(transport);
            let key = table.server(Method::Invite, "INVITE");
            assert_eq!(table.faults(), [""; 0]);
            table.respond(key, 486);
            assert_eq!(table.letters(), after_486);
            assert!(table.transactions.on_ack(key, &mut table.timers, NOW));
            assert_eq!(table.letters(), "I");

            let mut table = Table::new(transport);
            let key = table.server(Method::Invite, "INVITE");
            table.respond(key, 200);
            assert_eq!(table.letters(), "L");

            let mut table = Table::new(transport);
            let key = table.server(Method::Bye, "BYE");
            assert_eq!(table.faults(), [""; 0]);
            table.respond(key, 200);
            assert_eq!(table.letters(), "J");
        }
    }

    #[test]
    fn a_client_transaction_that_cannot_move_is_a_fault() {
        let invite = (Method::Invite, "INVITE");
        let bye = (Method::Bye, "BYE");
        for (transport, (method, name), code, expected) in [
            (UDP, invite, None, "AB"),
            (TCP, invite, None, "B"),
            (UDP, invite, Some(180), ""),
            (UDP, invite, Some(486), "D"),
            (TCP, invite, Some(200), "M"),
            (UDP, bye, None, "EF"),
            (TCP, bye, None, "F"),
            (UDP, bye, Some(100), "EF"),
            (TCP, bye, Some(100), "F"),
            (UDP, bye, Some(200), "K"),
        ] {
            let mut table = Table::new(transport);
            let (_, branch) = table.client(method, name);
            if let Some(code) = code {
                table.answer(&branch, name, code);
            }
            assert_eq!(table.letters(), expected, "{code:?} to {name} by {transport}");
            assert_eq!(table.faults().len(), expected.len());
        }
    }

    /// What no course of events may lead to, made by hand.
    #[test]
    fn a_table_that_contradicts_itself_is_a_fault() {
        let faults_after = |breaks: fn(&mut Table)| {
            let mut table = Table::new(UDP);
            breaks(&mut table);
            let mut faults = Vec::new();
            table.transactions.audit(|_| true, &mut faults);
            faults
        };
        type Break = fn(&mut Table);
        let broken: [(Break, &[&str]); 7] = [
            (
                |table| {
                    table.server(Method::Bye, "BYE");
                    table.transactions.by_identity.clear();
                },
                &[
                    "0 identities of 1 server transactions",
                    "server transaction Bye in Trying is not found by its identity",
                ],
            ),
            (
                |table| {
                    let key = table.server(Method::Bye, "BYE");
                    table.transactions.servers[key].request.clear();
                },
                &["server transaction Bye in Trying has no request to answer"],
            ),
            (
                |table| {
                    let key = table.server(Method::Invite, "INVITE");
                    table.respond(key, 486);
                    table.transactions.servers[key].response.clear();
                },
                &["server transaction Invite in Completed has no response to repeat"],
            ),
            (
                |table| {
                    let (key, _) = table.client(Method::Bye, "BYE");
                    table.transactions.clients[key].request.clear();
                },
                &["client transaction Bye in Trying has nothing to send again"],
            ),
            (
                |table| {
                    let (key, branch) = table.client(Method::Invite, "INVITE");
                    table.answer(&branch, "INVITE", 486);
                    table.transactions.clients[key].request.clear();
                },
                &["client transaction Invite in Completed has nothing to send again"],
            ),
            // A CANCEL has the method and the branch of its own.
            (
                |table| {
                    let (key, branch) = table.client(Method::Invite, "INVITE");
                    table.answer(&branch, "INVITE", 180);
                    let (outbox, timers) = (&mut table.outbox, &mut table.timers);
                    table.transactions.cancel(key, (), None, outbox, timers, NOW);
                    let cancel = table.transactions.clients[key].cancel.unwrap();
                    table.transactions.clients[cancel].random ^= 1;
                },
                &["client transaction Invite in Proceeding has a CANCEL that is another's"],
            ),
            (
                |table| {
                    let (key, branch) = table.client(Method::Invite, "INVITE");
                    table.answer(&branch, "INVITE", 180);
                    let (outbox, timers) = (&mut table.outbox, &mut table.timers);
                    table.transactions.cancel(key, (), None, outbox, timers, NOW);
                },
                &[],
            ),
        ];
        for (breaks, expected) in broken {
            assert_eq!(faults_after(breaks), expected);
        }
    }

    #[test]
    fn all_transactions_are_listed() {
        let mut table = Table::new(UDP);
        let server = table.server(Method::Bye, "BYE");
        let (client, _) = table.client(Method::Bye, "BYE");
        let servers: Vec<_> = table.transactions.servers().map(|(key, _)| key).collect();
        let clients: Vec<_> = table.transactions.clients().map(|(key, _)| key).collect();
        assert_eq!((servers, clients), (vec![server], vec![client]));
    }
}
