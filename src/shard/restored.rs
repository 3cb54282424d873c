//! What others have made of a request's Request-URI on its way here is undone before anything else is asked (RFC 3261 §16.4).

use super::Shard;
use crate::message::uri::{Scheme, Uri};
use crate::message::{Host, Message, MessageBuf};
use crate::route_set::from_strict_router;
use crate::transport::{Flow, Transport};
use crate::traversal::{PARAMETER, TOKEN_LEN, Traversal};

impl Shard {
    /// The request as it would have come past loose routers and without a `maddr` that leads here. `None`: as it did come.
    pub(super) fn restored(&mut self, flow: Flow, message: Message<'_>) -> Option<MessageBuf> {
        let uri = message.request_uri();
        if ends_with_token(uri) {
            let call_id = message.call_id().ok()?;
            Traversal::read(&uri[uri.len() - TOKEN_LEN..], call_id, &self.setup.secret)?;
            return from_strict_router(message, &mut self.editor);
        }
        if !may_have_maddr(uri) {
            return None;
        }
        let stripped = self.without_own_maddr(flow, &Uri::parse(uri).ok()?)?;
        self.editor.clear();
        self.editor.replace(message.request_uri_span(), &[&stripped]);
        let mut bytes = Vec::with_capacity(message.total_len());
        self.editor.write(message, &mut bytes);
        MessageBuf::parse(bytes).ok()
    }

    /// A Request-URI without its `maddr`, port and transport, if these are what the request has come by: they are not of the
    /// resource that it names.
    fn without_own_maddr(&self, flow: Flow, uri: &Uri<'_>) -> Option<Vec<u8>> {
        let transport = match uri.param("transport") {
            Some(value) => Transport::from_token(value?)?,
            None => Transport::Udp,
        };
        let here = Uri {
            host: Host::parse(uri.param("maddr")??)?,
            ..uri.clone()
        };
        let is_here = transport == flow.transport && self.topology.names_us_at_port_of(flow.bind, &here);
        if uri.scheme != Scheme::Sip || !is_here {
            return None;
        }
        let mut text = b"sip:".to_vec();
        if let Some(user) = uri.user {
            text.extend_from_slice(user);
            text.push(b'@');
        }
        match uri.host {
            Host::Name(name) => text.extend_from_slice(name),
            Host::Address(std::net::IpAddr::V6(ip)) => text.extend_from_slice(format!("[{ip}]").as_bytes()),
            Host::Address(ip) => text.extend_from_slice(ip.to_string().as_bytes()),
        }
        let is_of_the_way =
            |name: &[u8]| name.eq_ignore_ascii_case(b"maddr") || name.eq_ignore_ascii_case(b"transport");
        for (name, value) in uri.params().filter(|(name, _)| !is_of_the_way(name)) {
            text.push(b';');
            text.extend_from_slice(name);
            if let Some(value) = value {
                text.push(b'=');
                text.extend_from_slice(value);
            }
        }
        Some(text)
    }
}

/// Whether a URI may be a Record-Route value of ours, whose last parameter is the token. A strict router copies it as it is.
pub(super) fn ends_with_token(uri: &[u8]) -> bool {
    let rest = uri.len().checked_sub(TOKEN_LEN).map(|at| &uri[..at]);
    rest.and_then(|rest| rest.strip_suffix(b"="))
        .and_then(|rest| rest.strip_suffix(PARAMETER.as_bytes()))
        .is_some_and(|rest| rest.ends_with(b";"))
}

fn may_have_maddr(uri: &[u8]) -> bool {
    const NAME: &[u8] = b"maddr";
    let is_it = |at: usize| {
        let name = uri.get(at + 1..at + 1 + NAME.len());
        name.is_some_and(|name| name.eq_ignore_ascii_case(NAME))
    };
    memchr::memchr_iter(b';', uri).any(is_it)
}
