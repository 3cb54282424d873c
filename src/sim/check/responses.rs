//! What a server transaction may say (RFC 3261 §17.2, RFC 4320, RFC 6026).

use super::Faults;
use crate::identifiers::{Secret, hex16};
use crate::sim::peer::text::Text;
use std::collections::{BTreeMap, BTreeSet};

/// A server transaction as its client knows it: the peer, the branch and the method.
type Key = (String, String, String);

/// The responses to requests of peers.
#[derive(Debug)]
pub(super) struct Responses {
    secret: Secret,
    /// Requests that came, with the codes of the final responses they got, in order.
    requests: BTreeMap<Key, Vec<u16>>,
    /// Branches of requests that came again long after: their transactions may begin anew.
    replayed: BTreeSet<String>,
}

impl Responses {
    pub fn new(secret: Secret) -> Responses {
        Responses {
            secret,
            requests: BTreeMap::new(),
            replayed: BTreeSet::new(),
        }
    }

    pub fn request(&mut self, from: &str, text: &Text) {
        self.requests.entry(key(from, text)).or_default();
    }

    pub fn replayed(&mut self, text: &Text) {
        self.replayed.insert(text.branch());
    }

    /// A response leaves. `is_stateless`: by no transaction. `true`: it is the first final one of its code.
    pub fn sent(&mut self, to: &str, text: &Text, is_stateless: bool, faults: &mut Faults) -> bool {
        let label = text.label();
        let (code, method) = (text.code(), text.method());
        let Some(finals) = self.requests.get_mut(&key(to, text)) else {
            faults.push(format!("`{label}` to {to} answers nothing it sent"));
            return false;
        };
        if method == "ACK" {
            faults.push(format!("`{label}` to {to} answers an ACK"));
            return false;
        }
        if code < 200 {
            if method != "INVITE" && code != 100 {
                // RFC 4320 §4.1.
                faults.push(format!("`{label}` to {to} is provisional"));
            }
            if !finals.is_empty() && code != 100 && !self.replayed.contains(&text.branch()) {
                // RFC 3261 §17.2.1: nothing provisional behind a final response.
                faults.push(format!("`{label}` to {to} comes after {finals:?}"));
            }
            return false;
        }
        // One without a transaction binds nobody: the next repeat may find room.
        if finals.contains(&code) || is_stateless || self.replayed.contains(&text.branch()) {
            return false;
        }
        let is_further_2xx = code < 300 && finals.iter().all(|code| *code < 300);
        if !(finals.is_empty() || is_further_2xx && method == "INVITE") {
            faults.push(format!("`{label}` to {to} is final after {finals:?}"));
        }
        finals.push(code);
        true
    }

    /// Whether a response was sent without a transaction: by its To tag, or, where that is the dialog's, because there is no
    /// room for one.
    pub fn is_stateless(&self, text: &Text, is_full: bool) -> bool {
        let top = text.list("Via").into_iter().next().unwrap_or_default();
        let sent_by = top.split_whitespace().nth(1).and_then(|rest| rest.split(';').next());
        let parts = [
            text.branch(),
            sent_by.unwrap_or_default().to_owned(),
            text.call_id().to_owned(),
        ];
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        let tag = hex16(self.secret.mac(b's', &parts));
        text.tag("To").is_some_and(|known| known.as_bytes() == tag) || is_full && text.code() >= 300
    }
}

fn key(peer: &str, text: &Text) -> Key {
    (peer.to_owned(), text.branch(), text.cseq().1.to_owned())
}
