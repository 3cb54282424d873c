//! Whose a NOTIFY of a REFER is (RFC 3515 §2.4.6): those of a party's REFER reach the party, those of referee's never do.

use super::Faults;
use crate::sim::peer::text::Text;
use crate::sim::peer::{AFTER_LAST, OF_REFER};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Notifies {
    /// Branches of the REFERs that peers sent, and of those that referee did.
    refers: BTreeSet<String>,
    own_refers: BTreeSet<String>,
    /// Those of referee's own by the Call-ID of the call that they are about.
    own_refers_of: BTreeMap<String, Vec<String>>,
    /// Those of either whose subscription need not be, by a response to the REFER, a NOTIFY that ends it or the action.
    doubted: BTreeSet<String>,
    /// By Call-ID, those of the REFERs that left, and of them those that are referee's.
    refers_of: BTreeMap<String, [BTreeSet<String>; 2]>,
    /// Those of referee's own for which a NOTIFY of another's may be taken, or the other way round, since it does not say
    /// of which it is.
    confused: BTreeSet<String>,
    /// By Call-ID, where one came that should not have been.
    misled: BTreeSet<String>,
    /// Branches of REFERs of peers that want no NOTIFY.
    without_notify: BTreeSet<String>,
    /// Branches of REFERs that have not arrived for all that referee was told, though one may have been read.
    unsent: BTreeSet<String>,
    /// Branches of REFERs whose last NOTIFY came.
    ended: BTreeSet<String>,
    /// NOTIFYs that came and said of which REFER they are, by the branch of their sender.
    notifies: BTreeMap<String, Notify>,
    /// Calls that somebody has sent a BYE for, and those of them that referee has ended itself.
    hung_up: BTreeSet<String>,
    ended_here: BTreeSet<String>,
    /// REFERs of referee's own whose final status was answered 200: an event must tell it.
    told: BTreeMap<String, Told>,
    /// REFERs of which a NOTIFY came again long after, so that it may have been the first to tell.
    replayed: BTreeSet<String>,
}

#[derive(Debug)]
struct Notify {
    /// The branch of the REFER's sender.
    refer: String,
    cseq: u32,
    /// The status of its body.
    status: Option<u16>,
    says_which: bool,
    /// One after the last is against the rules (RFC 6665 §4.2.2), and may be taken for another's.
    is_after_last: bool,
    is_last: bool,
    has_route: bool,
    was_relayed: bool,
}

/// A final status that referee has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub call_id: String,
    pub cseq: u32,
    pub status: u16,
}

impl Notifies {
    /// A request came.
    pub fn request(&mut self, text: &Text) {
        match text.method() {
            "REFER" => {
                self.refers.insert(text.origin());
                // RFC 7614, RFC 4488: no NOTIFY is to come, and none need be let through.
                if text.header("Require").is_some() || text.header("Refer-Sub").is_some() {
                    self.without_notify.insert(text.origin());
                }
            }
            "BYE" => {
                self.hung_up.insert(text.call_id().to_owned());
            }
            _ => {}
        }
        if let Some(refer) = text.header(OF_REFER) {
            let state = text.header("Subscription-State").unwrap_or_default();
            if self.notifies.contains_key(&text.origin()) {
                return;
            }
            if self.ended.contains(refer) {
                self.without_notify.insert(refer.to_owned());
            } else if state.starts_with("terminated") {
                self.ended.insert(refer.to_owned());
            }
            let says_which = text.header("Event").is_some_and(|event| event.contains("id="));
            if let Some([all, own]) = self.refers_of.get(text.call_id()).filter(|_| !says_which)
                && all.len() > 1
            {
                self.confused.extend(own.iter().cloned());
                if text.header(AFTER_LAST).is_some() {
                    // Whatever it is taken for may be sent again.
                    self.misled.insert(text.call_id().to_owned());
                }
            }
            self.notifies.entry(text.origin()).or_insert_with(|| Notify {
                refer: refer.to_owned(),
                cseq: text.cseq().0,
                status: text.fragment(),
                says_which,
                is_after_last: text.header(AFTER_LAST).is_some(),
                is_last: state.starts_with("terminated"),
                has_route: text.header("Route").is_some(),
                was_relayed: false,
            });
        }
    }

    pub fn send_failed(&mut self, text: &Text) {
        if text.method() == "REFER" {
            self.unsent.insert(text.branch());
        }
    }

    pub fn replayed(&mut self, text: &Text) {
        self.replayed.extend(text.header(OF_REFER).map(str::to_owned));
    }

    /// A response came: a party that knows no subscription need not be told of it again.
    pub fn response(&mut self, text: &Text) {
        if text.method() == "REFER" && (text.code() >= 300 || text.header("Refer-Sub").is_some()) {
            self.doubted.insert(text.branch());
        }
        if text.method() == "NOTIFY"
            && text.code() == 481
            && let Some(notify) = self.notifies.get(&text.origin())
        {
            self.without_notify.insert(notify.refer.clone());
        }
    }

    /// A request leaves.
    pub fn sent(&mut self, text: &Text, faults: &mut Faults) {
        if let Some(notify) = self.notifies.get_mut(&text.origin()) {
            notify.was_relayed = true;
            // Where referee's own has not arrived the first that has is the party's, whose NOTIFYs need not say so.
            let [all, own] = self.refers_of.entry(text.call_id().to_owned()).or_default();
            let is_taken_for_partys =
                self.unsent.contains(&notify.refer) && !notify.says_which && all.len() > own.len();
            if !self.refers.contains(&notify.refer) && !notify.is_after_last && !is_taken_for_partys {
                faults.push(format!("`{}` of a REFER of referee's own is relayed", text.label()));
            }
        }
        if text.method() == "REFER" {
            self.refers_of.entry(text.call_id().to_owned()).or_default()[0].insert(text.origin());
        }
        if text.list("Via").len() == 1 {
            match text.method() {
                "BYE" => {
                    self.hung_up.insert(text.call_id().to_owned());
                    self.ended_here.insert(text.call_id().to_owned());
                }
                "REFER" if self.own_refers.insert(text.branch()) => {
                    self.refers_of.entry(text.call_id().to_owned()).or_default()[1].insert(text.branch());
                    let target = text.header("Target-Dialog").and_then(|target| target.split(';').next());
                    let call_id = target.unwrap_or(text.call_id()).to_owned();
                    self.own_refers_of.entry(call_id).or_default().push(text.branch());
                }
                _ => {}
            }
        }
    }

    /// An action tells how a transfer of this call has ended: what its REFER has made is not waited for any more.
    pub fn given_up(&mut self, call_id: &str) {
        self.doubted
            .extend(self.own_refers_of.get(call_id).into_iter().flatten().cloned());
    }

    /// A NOTIFY has its final response. That of a subscription of a party's is for that party to answer: a peer without route
    /// sets loses it with the call, and so do both when referee ends their call.
    pub fn answered(&mut self, text: &Text, faults: &mut Faults) {
        let Some(notify) = self.notifies.get(&text.origin()) else {
            return;
        };
        let is_lost = match notify.has_route {
            true => self.ended_here.contains(text.call_id()),
            false => self.hung_up.contains(text.call_id()),
        };
        // For want of room, of a next hop or of a number nothing is relayed.
        let is_shed = text.code() == 503
            || text.first.contains("Next Hop")
            || ["CSeq", "Numbers"].iter().any(|word| text.first.contains(word));
        let is_wanted = self.refers.contains(&notify.refer) && !self.without_notify.contains(&notify.refer);
        if is_wanted && !notify.was_relayed && !is_lost && !is_shed {
            faults.push(format!(
                "`{}` answers a NOTIFY of a party's REFER that was not relayed",
                text.label()
            ));
        }
        let is_misled = self.misled.contains(text.call_id());
        let is_clear = !is_misled && !self.confused.contains(&notify.refer) && !notify.is_after_last;
        let is_ours = is_clear && self.own_refers.contains(&notify.refer) && !notify.was_relayed;
        // RFC 6665 §4.4.1: it may come before the response to the REFER.
        let is_open = !self.doubted.contains(&notify.refer) && !self.hung_up.contains(text.call_id());
        if is_ours && is_open && text.code() == 481 {
            faults.push(format!(
                "`{}` answers a NOTIFY of a REFER of referee's own",
                text.label()
            ));
        }
        if notify.is_last || text.code() >= 300 {
            self.doubted.insert(notify.refer.clone());
        }
        if let Some(status) = notify.status.filter(|status| *status >= 200)
            && is_ours
            && text.code() == 200
            && !self.replayed.contains(&notify.refer)
        {
            self.told.entry(notify.refer.clone()).or_insert(Told {
                call_id: text.call_id().to_owned(),
                cseq: notify.cseq,
                status,
            });
        }
    }

    /// What referee has taken and must have told.
    pub fn unheard(&self) -> Vec<Told> {
        self.told.values().cloned().collect()
    }
}
