//! What those get who are no trunk's: one final response at most, made from nothing but their request, and not much longer
//! than it, so that nobody can be flooded in their name. A response that answers nothing causes nothing, whoever sends it.

use super::Faults;
use crate::config::{Config, InDialogSources, UnknownSource};
use crate::sim::peer::text::Text;
use crate::transport::Flow;
use std::net::IpAddr;
use std::sync::Arc;

/// A response may be so many times as long as the request that it answers.
const AMPLIFICATION_MAX: usize = 3;

#[derive(Debug)]
pub(super) struct Strangers {
    config: Arc<Config>,
    /// The request of a stranger that is being dealt with.
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    ip: IpAddr,
    bytes: usize,
    is_request: bool,
    answers: usize,
}

impl Strangers {
    pub fn new(config: Arc<Config>) -> Strangers {
        Strangers { config, current: None }
    }

    /// `is_known`: a response with a branch of ours, which is all that is asked of one.
    pub fn received(&mut self, flow: Flow, text: Option<&Text>, is_known: bool, bytes: usize) {
        // A token of ours may be all that is asked for.
        let any = self.config.access.in_dialog_sources == InDialogSources::Any;
        let may_have_token = any && text.is_some_and(|text| text.header("Route").is_some());
        let is_request = text.is_none_or(Text::is_request);
        let is_judged = match is_request {
            true => self.is_stranger(flow) && !may_have_token,
            false => !is_known,
        };
        self.current = is_judged.then(|| Current {
            ip: flow.peer.ip(),
            bytes,
            is_request,
            answers: 0,
        });
    }

    pub fn taken(&mut self) {
        self.current = None;
    }

    pub fn sent(&mut self, flow: Flow, text: &Text, bytes: usize, faults: &mut Faults) {
        let label = text.label();
        if let Some(current) = &mut self.current {
            current.answers += 1;
            let most = usize::from(self.config.access.unknown_source != UnknownSource::Silent);
            if current.answers > most || !current.is_request {
                faults.push(format!("`{label}` is more than a stranger may cause"));
            }
            if flow.peer.ip() != current.ip {
                faults.push(format!("`{label}` goes to {} because of {}", flow.peer, current.ip));
            }
            if bytes > AMPLIFICATION_MAX * current.bytes {
                faults.push(format!(
                    "`{label}` has {bytes} bytes for {} of a stranger",
                    current.bytes
                ));
            }
            if text.is_request() || text.code() < 200 {
                faults.push(format!("`{label}` goes to a stranger"));
            }
        } else if self.is_stranger(flow) && self.config.access.in_dialog_sources == InDialogSources::Trunk {
            faults.push(format!("`{label}` goes to the stranger {}", flow.peer));
        }
    }

    /// Whether no trunk of the listener has this source or address.
    pub fn is_stranger(&self, flow: Flow) -> bool {
        let listen = &self.config.bind(flow.bind).listen;
        let ip = flow.peer.ip();
        !self.config.trunks.iter().any(|trunk| {
            let is_address = trunk.addresses.iter().any(|address| address.host == ip.to_string());
            trunk.listen == *listen && (is_address || trunk.sources.iter().any(|source| source.contains(ip)))
        })
    }
}
