//! The response context of a relayed request (RFC 3261 §16.2): its branches, and what becomes of each.

use super::search::{Attempt, Search};
use crate::call::{CallKey, Party};
use crate::digest::Sessions;
use crate::message::Method;
use crate::session_timer::Pass;
use crate::timer::Instant;
use crate::transaction::{ClientKey, ServerKey};
use crate::transport::Flow;
use slotmap::new_key_type;
use smallvec::SmallVec;

new_key_type! {
    /// A response context; a stale key finds nothing.
    pub struct ContextKey;
}

/// One request being relayed, between its server transaction and the client transactions of its branches.
#[derive(Debug)]
pub struct Context {
    pub server: ServerKey,
    pub method: Method,
    /// Where the request came from.
    pub arrived: Flow,
    pub call: Option<CallKey>,
    /// It is a BYE that came by the token of this call, in a dialog of it that is none of a call yet, and a digest of the callee's
    /// tag.
    pub ends_early: Option<(CallKey, u64)>,
    /// Who sent the request.
    pub from: Party,
    /// It opened the call.
    pub is_initial: bool,
    /// The CSeq number as received, where the far side sees another.
    pub cseq: Option<u32>,
    /// The number with which the branches of a new request leave at first, where it is another than it came with.
    pub starts_at: Option<u32>,
    /// In the order they were begun. One that has ended stays: responses may still come for it.
    pub branches: SmallVec<[Branch; 1]>,
    /// Where more than one target may be tried. `None`: the only branch's final response is the request's.
    pub search: Option<Box<Search>>,
    /// When an INVITE has rung for long enough, whatever provisional responses come.
    pub rings_until: Instant,
    /// What is asked for of its session's interval.
    pub session: Pass,
    pub server_gone: bool,
    /// A target had no room for the call, by a cap of its trunk's.
    pub found_full: bool,
    /// Digests of the To tags whose 2xx has made a further call: a repeat does not bring back one that has ended.
    further_calls: SmallVec<[u64; 1]>,
}

/// Further calls of one INVITE: more than a person has phones. The dialog of one more is relayed by its token alone.
const FURTHER_CALLS_MAX: usize = 16;

impl Context {
    /// The context of a request of `from`, without a branch yet, whose targets may ring until then.
    pub fn new(server: ServerKey, method: Method, arrived: Flow, from: Party, rings_until: Instant) -> Context {
        Context {
            server,
            method,
            arrived,
            call: None,
            ends_early: None,
            from,
            is_initial: false,
            cseq: None,
            starts_at: None,
            branches: SmallVec::new(),
            search: None,
            rings_until,
            session: Pass::default(),
            server_gone: false,
            found_full: false,
            further_calls: SmallVec::new(),
        }
    }

    /// Adds a branch and gives back its number.
    pub fn begin(&mut self, branch: Branch) -> BranchNumber {
        self.branches.push(branch);
        (self.branches.len() - 1) as BranchNumber
    }

    pub fn branch(&self, number: BranchNumber) -> Option<&Branch> {
        self.branches.get(usize::from(number))
    }

    pub fn branch_mut(&mut self, number: BranchNumber) -> Option<&mut Branch> {
        self.branches.get_mut(usize::from(number))
    }

    /// The branches without a final response.
    pub fn pending(&self) -> impl Iterator<Item = BranchNumber> + use<'_> {
        let numbered = self.branches.iter().enumerate();
        numbered
            .filter(|(_, branch)| !branch.has_ended)
            .map(|(number, _)| number as BranchNumber)
    }

    /// Notes the dialog of a further 2xx. `true`: it is a new one, and there is room for it.
    pub fn is_new_answer(&mut self, to_tag: u64) -> bool {
        let is_new = !self.further_calls.contains(&to_tag) && self.further_calls.len() < FURTHER_CALLS_MAX;
        if is_new {
            self.further_calls.push(to_tag);
        }
        is_new
    }

    /// Whether all its transactions have ended, so that nothing can come for it any more (RFC 3261 §16.7).
    pub fn is_over(&self) -> bool {
        self.server_gone && self.branches.iter().all(|branch| branch.is_gone)
    }
}

/// Which branch of a context, from 0; at most [`super::search::ATTEMPTS_MAX`].
pub type BranchNumber = u8;

/// One client transaction of a context.
#[derive(Debug, Default)]
pub struct Branch {
    /// `None` while it waits for a name.
    pub client: Option<ClientKey>,
    /// Where it leads, unless the request itself says so.
    pub target: Option<Attempt>,
    /// It is to end: the caller gave up, another branch has the call, or it took too long.
    pub cancelled: Option<Cancelled>,
    /// When Timer C fires, for an INVITE.
    pub timer_c: Option<Instant>,
    /// It has a final response, or will never have one.
    pub has_ended: bool,
    /// Its client transaction is gone, or there never was one.
    pub is_gone: bool,
    /// That it says nothing was told of its address already.
    pub silence_told: bool,
    /// What it has of the request's Max-Breadth (RFC 5393 §5.3.3).
    pub breadth: u8,
    /// A new request that leaves with another number than it came with, since it or one before it was sent again: the number, and
    /// the credentials it has.
    pub again: Option<Box<(u32, Sessions)>>,
}

impl Branch {
    /// One that leads to a target of a route.
    pub fn to(target: Attempt, breadth: u8) -> Branch {
        Branch {
            target: Some(target),
            breadth,
            ..Branch::default()
        }
    }
}

/// How far the cancelling of a branch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// RFC 3261 §9.1: not before a provisional response. Holds the Reason to copy.
    Wanted(Option<Box<[u8]>>),
    Sent,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{BindId, LocalId, Transport};

    fn context() -> Context {
        let arrived = Flow {
            bind: BindId(0),
            transport: Transport::Udp,
            local: LocalId::ANY,
            peer: ([192, 0, 2, 1], 5060).into(),
            connection: None,
        };
        let server = ServerKey::default();
        Context::new(server, Method::Invite, arrived, Party::Caller, Instant::START)
    }

    /// RFC 3261 §13.2.2.4: each 2xx with another To tag makes a dialog, a repeat none.
    #[test]
    fn each_further_answer_is_new_once_and_there_is_room_for_so_many() {
        let mut context = context();
        for tag in 0..FURTHER_CALLS_MAX as u64 {
            assert!(context.is_new_answer(tag));
            assert!(!context.is_new_answer(tag));
        }
        assert!(!context.is_new_answer(FURTHER_CALLS_MAX as u64));
        assert!(!context.is_new_answer(0));
    }

    #[test]
    fn nothing_comes_for_a_context_once_all_its_transactions_are_gone() {
        let mut context = context();
        let (first, second) = (context.begin(Branch::default()), context.begin(Branch::default()));
        assert_eq!((first, second), (0, 1));
        context.branches[0].has_ended = true;
        assert_eq!(context.pending().collect::<Vec<_>>(), [second]);
        context.branches[0].is_gone = true;
        context.server_gone = true;
        assert!(!context.is_over());
        context.branches[1].is_gone = true;
        assert!(context.is_over());
        context.server_gone = false;
        assert!(!context.is_over());
    }
}
