//! A neighbour that sends calls back where they come from, as one whose routes are wrong does: as they are, which makes a loop, or
//! changed, which makes a spiral (RFC 5393 §4). It is a proxy then, though one that answers with responses of its own making.

use super::text::Text;
use super::{Key, Path, Peer};
use crate::timer::Instant;

/// Users of calls that a neighbour sends back as they are, and of those that it sends on as this much closer to their end.
pub const LOOPING: &str = "+44loop";
pub const SPIRALLING: &str = "+44spiral";

impl Peer {
    /// Sends an INVITE back to referee, if it is for one of those users. `false`: it is not, or a spiral has come to its end.
    pub(super) fn sends_back(&mut self, key: &Key, text: &Text, now: Instant) -> bool {
        let uri = text.request_uri();
        let user = uri.trim_start_matches("sip:").split('@').next().unwrap_or_default();
        let next = match user.strip_prefix(SPIRALLING) {
            Some(rounds) => rounds
                .parse::<u32>()
                .ok()
                .and_then(|rounds| rounds.checked_sub(1))
                .map(|rounds| format!("{SPIRALLING}{rounds}")),
            None => (user == LOOPING).then(|| user.to_owned()),
        };
        let Some(next) = next else {
            let is_own = self.dialogs.get(text.call_id()).is_some_and(|dialog| dialog.is_callers);
            if is_own {
                // Its own call has come round.
                self.send_response(key, 480, &[], now);
            }
            return is_own;
        };
        self.send_response(key, 100, &[], now);
        let hops = text.header("Max-Forwards").and_then(|hops| hops.parse::<u32>().ok());
        let Some(hops) = hops.and_then(|hops| hops.checked_sub(1)) else {
            self.send_response(key, 483, &[], now);
            return true;
        };
        let path = Path {
            transport: self.manners.transport,
            far: self.manners.referee,
            link: None,
        };
        let branch = self.new_branch();
        let mut lines = text.headers.clone();
        lines.retain(|(name, _)| name != "Content-Length");
        for (name, value) in &mut lines {
            if name == "Max-Forwards" {
                *value = hops.to_string();
            }
        }
        let first = format!("INVITE sip:{next}@{} SIP/2.0", self.manners.referee);
        let bytes = self.write(&first, Some((&branch, path)), &lines, &text.body);
        self.sent_back.insert(branch, key.clone());
        self.put(path, bytes, now);
        true
    }

    /// A response to what it has sent back: acknowledged here, and its status passed on.
    pub(super) fn on_sent_back_answered(&mut self, key: &Key, text: &Text, now: Instant) {
        let code = text.code();
        let Some(asked) = self.sent_back.get(&key.0).cloned().filter(|_| code >= 300) else {
            return;
        };
        let said = self.said("INVITE").into_iter().find(|said| said.branch() == key.0);
        if let Some(invite) = said.cloned() {
            let top = invite.list("Via").into_iter().next().unwrap_or_default();
            let mut alone = invite;
            alone.headers.retain(|(name, _)| name != "Via");
            alone.headers.insert(0, ("Via".to_owned(), top));
            let ack = self.like(&alone, "ACK", text.header("To").unwrap_or_default());
            let path = Path {
                transport: self.manners.transport,
                far: self.manners.referee,
                link: None,
            };
            self.put(path, ack, now);
        }
        self.send_response(&asked, code, &[], now);
    }
}
