//! Requests that come back (RFC 3261 §16.3 step 4, RFC 5393 §4.2): what would be sent the same way again is a loop and goes no further,
//! what was changed on its way round is a spiral and goes on.

use super::Faults;
use crate::config::Config;
use crate::sim::peer::text::{Text, param};
use crate::transport::Flow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// By what a request is routed here: the trunk that it comes from, its Request-URI and its Routes.
type Way = (Option<usize>, String, Vec<String>);

#[derive(Debug)]
pub(super) struct Loops {
    config: Arc<Config>,
    /// By the branch of whoever sent it here, the ways of new requests.
    came: BTreeMap<String, Way>,
    /// By referee's branch, that with which a new request came.
    sent: BTreeMap<String, String>,
    loops: BTreeSet<String>,
}

impl Loops {
    pub fn new(config: Arc<Config>) -> Loops {
        Loops {
            config,
            came: BTreeMap::new(),
            sent: BTreeMap::new(),
            loops: BTreeSet::new(),
        }
    }

    /// A request came.
    pub fn request(&mut self, text: &Text, flow: Flow) {
        if text.tag("To").is_some() || matches!(text.method(), "ACK" | "CANCEL") {
            return;
        }
        let listen = &self.config.bind(flow.bind).listen;
        let of_trunk = |trunk: &crate::config::Trunk| {
            trunk.listen == *listen && trunk.sources.iter().any(|source| source.contains(flow.peer.ip()))
        };
        let trunk = self.config.trunks.iter().position(of_trunk);
        let way = (trunk, text.request_uri().to_owned(), text.list("Route"));
        let branches = text
            .list("Via")
            .into_iter()
            .skip(1)
            .filter_map(|via| param(&via, "branch"));
        let before = |branch: String| self.came.get(self.sent.get(&branch)?);
        if branches.filter_map(before).any(|before| *before == way) {
            self.loops.insert(text.branch());
        }
        self.came.entry(text.branch()).or_insert(way);
    }

    /// A request leaves.
    pub fn sent_request(&mut self, text: &Text, faults: &mut Faults) {
        let Some(below) = text.list("Via").get(1).and_then(|via| param(via, "branch")) else {
            return;
        };
        if text.tag("To").is_some() || matches!(text.method(), "ACK" | "CANCEL") {
            return;
        }
        if self.loops.contains(&below) {
            faults.push(format!(
                "`{}` of {} is a loop, and goes on",
                text.label(),
                text.call_id()
            ));
        }
        self.sent.insert(text.branch(), below);
    }

    /// A response of referee's own leaves.
    pub fn sent_own(&self, text: &Text, faults: &mut Faults) {
        let (code, branch) = (text.code(), text.branch());
        let is_loop = self.loops.contains(&branch);
        let is_new = self.came.contains_key(&branch) && text.method() != "CANCEL";
        // For want of room it is not looked at.
        if is_loop && code >= 200 && !matches!(code, 482 | 503) {
            faults.push(format!("`{}` of {} answers a loop", text.label(), text.call_id()));
        }
        let reason = text.first.trim_start_matches("SIP/2.0 ");
        if is_new && !is_loop && reason == "482 Loop Detected" && text.list("Via").len() > 1 {
            faults.push(format!("`{}` of {} answers a spiral", text.label(), text.call_id()));
        }
    }
}
