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
            let repeats = matches!(server.state, ServerState::Completed);
            if repeats && server.response.is_empty() {
                fault(format!("{} has no response to repeat", name()));
            }
        }
        for (key, client) in &self.clients {
            let name = || format!("client transaction {:?} in {:?}", client.method, client.state);
            let letters: &[Letter] = match (client.state, client.is_invite(), client.flow.transport.is_reliable()) {
                (ClientState::Calling, _, true) => &[Letter::B],
                (ClientState::Calling, _, false) => &[Letter::A, Letter::B],
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
