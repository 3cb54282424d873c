//! What a final response to a request within a dialog ends besides its transaction (RFC 5057 §5.1).
//!
//! A dialog may be shared by the session that an INVITE has made and by subscriptions, those of REFERs included. Most refusals
//! are about the one request; a few say that the other end has lost one of these usages, or the dialog with all of them.

use crate::message::Method;

/// What is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// The session that the INVITE has made; subscriptions go on.
    InviteUsage,
    /// The subscription that the request belongs to; the session goes on.
    Subscription,
    /// The dialog, with all that shares it.
    Dialog,
}

/// What a final response with this code to a request of this method ends; `None`: nothing but the transaction. No response at
/// all counts as 408 (RFC 3261 §8.1.3.1).
///
/// 403, 405 and 501 to a re-INVITE are taken for refusals of the one request, though RFC 5057 has them end the session: a party that does not let itself be put on hold stays on the line. So is any answer to a REFER, in which 404 and 484
/// speak of the target; and a BYE ends the session whatever is said to it.
pub fn ends(method: Method, code: u16) -> Option<Ends> {
    match (method, code) {
        (Method::Refer | Method::Bye | Method::Ack | Method::Cancel, _) => None,
        (_, 404 | 410 | 416 | 482 | 484 | 485 | 502 | 604) => Some(Ends::Dialog),
        // RFC 6665 §4.1.2.2, §4.2.2 name these.
        (Method::Subscribe | Method::Notify, 405 | 408 | 480 | 481 | 483 | 489 | 501) => Some(Ends::Subscription),
        (Method::Invite | Method::Update | Method::Info | Method::Prack, 408 | 480 | 481) => Some(Ends::InviteUsage),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_ends_what_rfc_5057_says() {
        for (method, code, expected) in [
            (Method::Invite, 481, Some(Ends::InviteUsage)),
            (Method::Update, 408, Some(Ends::InviteUsage)),
            (Method::Info, 481, Some(Ends::InviteUsage)),
            (Method::Prack, 480, Some(Ends::InviteUsage)),
            (Method::Invite, 404, Some(Ends::Dialog)),
            (Method::Info, 604, Some(Ends::Dialog)),
            (Method::Notify, 410, Some(Ends::Dialog)),
            (Method::Notify, 481, Some(Ends::Subscription)),
            (Method::Notify, 501, Some(Ends::Subscription)),
            (Method::Subscribe, 489, Some(Ends::Subscription)),
            (Method::Info, 489, None),
            // They belong to no usage.
            (Method::Options, 481, None),
            (Method::Message, 481, None),
            (Method::Message, 410, Some(Ends::Dialog)),
            (Method::Bye, 481, None),
        ] {
            assert_eq!(ends(method, code), expected, "{code} to {method:?}");
        }
        for code in [
            200, 302, 400, 401, 403, 405, 407, 415, 420, 422, 483, 486, 487, 488, 491, 500, 501, 503, 504, 603, 606,
        ] {
            for method in [Method::Invite, Method::Info, Method::Other] {
                assert_eq!(ends(method, code), None, "{code} to {method:?}");
            }
        }
        for code in 300..=699 {
            assert_eq!(ends(Method::Refer, code), None);
        }
    }
}
