//! The best of several final responses (RFC 3261 §16.7 steps 6 and 7).

use crate::message::{Header, Message};

/// The best final response so far, and the challenges of the others.
#[derive(Debug, Default)]
pub struct Best {
    best: Option<Final>,
    /// Whole header lines of the 401 and 407 that are not the best: the requester answers them all in one further request.
    challenges: Vec<u8>,
}

/// A final response to a branch.
#[derive(Debug)]
pub struct Final {
    pub code: u16,
    /// As received; `None`: the branch has ended without one.
    pub response: Option<Box<[u8]>>,
    /// The challenge lines in it.
    challenges: Vec<u8>,
}

impl Best {
    /// Takes a final response other than a 2xx; without `response`, the code that the end of a branch counts as: 408 or 503.
    pub fn offer(&mut self, code: u16, response: Option<Message<'_>>) {
        debug_assert!(code >= 300);
        let mut challenges = Vec::new();
        if let (401 | 407, Some(message)) = (code, response) {
            for header in [Header::WwwAuthenticate, Header::ProxyAuthenticate] {
                for line in message.lines_of(header) {
                    challenges.extend_from_slice(line.name);
                    challenges.extend_from_slice(b": ");
                    challenges.extend_from_slice(line.value);
                    challenges.extend_from_slice(b"\r\n");
                }
            }
        }
        let is_better = |best: &Final| rank(code, response.is_some()) < rank(best.code, best.response.is_some());
        if self.best.as_ref().is_none_or(is_better) {
            let offered = Final {
                code,
                response: response.map(|message| message.bytes()[..message.total_len()].into()),
                challenges,
            };
            if let Some(before) = self.best.replace(offered) {
                self.challenges.extend_from_slice(&before.challenges);
            }
        } else {
            self.challenges.extend_from_slice(&challenges);
        }
    }

    /// The best, with the challenge lines that belong into it beside its own.
    pub fn take(&mut self) -> Option<(Final, Vec<u8>)> {
        let best = self.best.take()?;
        let challenges = std::mem::take(&mut self.challenges);
        let is_challenge = matches!(best.code, 401 | 407);
        Some((best, if is_challenge { challenges } else { Vec::new() }))
    }
}

/// How good a final response is, least first. RFC 3261 §16.7 step 6: a 6xx before all; else the lowest class, among 4xx those
/// that say how to change the request; a 503 only where there is nothing else. A received one says more than a timeout.
fn rank(code: u16, is_received: bool) -> u16 {
    match code {
        600.. => 0,
        503 => 59,
        401 | 407 => 40,
        415 | 420 | 484 => 41,
        400..=499 if is_received => 42,
        400..=499 => 43,
        _ => code / 100 * 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Index, parse};

    fn response(code: u16, lines: &str) -> Vec<u8> {
        format!(
            "SIP/2.0 {code} X\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag={code}\r\n\
             Call-ID: x\r\nCSeq: 1 INVITE\r\n{lines}Content-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }

    fn best_of(offers: &[(u16, Option<&str>)]) -> (u16, Option<Box<[u8]>>, String) {
        let mut best = Best::default();
        for (code, lines) in offers {
            let bytes = lines.map(|lines| response(*code, lines));
            let mut index = Index::new();
            let message = bytes.as_ref().map(|bytes| {
                parse(bytes, &mut index).unwrap();
                Message::new(bytes, &index)
            });
            best.offer(*code, message);
        }
        let (best, challenges) = best.take().unwrap();
        (best.code, best.response, String::from_utf8(challenges).unwrap())
    }

    #[test]
    fn the_best_is_a_6xx_else_of_the_lowest_class_and_a_503_the_last() {
        for (codes, expected) in [
            (&[486, 404, 407][..], 407),
            (&[486, 401, 407], 401),
            (&[404, 484, 486], 484),
            (&[486, 415, 420], 415),
            (&[503, 486], 486),
            (&[302, 486], 302),
            (&[486, 603, 302], 603),
            (&[500, 404], 404),
            (&[503, 500], 500),
            (&[500, 503], 500),
            (&[503, 503], 503),
            (&[486, 404], 486),
            (&[504, 503, 501], 504),
        ] {
            let offers: Vec<_> = codes.iter().map(|code| (*code, Some(""))).collect();
            assert_eq!(best_of(&offers).0, expected, "{codes:?}");
        }
    }

    #[test]
    fn a_response_that_came_is_better_than_a_timeout_of_its_class() {
        assert_eq!(best_of(&[(408, None), (486, Some(""))]).0, 486);
        assert_eq!(best_of(&[(486, Some("")), (408, None)]).0, 486);
        // §16.7: of the lowest class all the same.
        assert_eq!(best_of(&[(408, None), (500, Some(""))]).0, 408);
        assert_eq!(best_of(&[(408, None), (503, None)]).0, 408);
    }

    #[test]
    fn the_challenges_of_all_branches_go_into_the_one_that_is_chosen() {
        let a = "Proxy-Authenticate: Digest realm=\"a\", nonce=\"1,2\"\r\n";
        let b = "WWW-Authenticate: Digest realm=\"b\", nonce=\"3\"\r\nWWW-Authenticate: Digest realm=\"b\", nonce=\"4\"\r\n";
        let (code, chosen, others) = best_of(&[(404, Some("")), (407, Some(a)), (486, Some("")), (401, Some(b))]);
        assert_eq!((code, others.as_str()), (407, b));
        assert_eq!(chosen.as_deref(), Some(&response(407, a)[..]));
        // None of them goes into another response.
        assert_eq!(best_of(&[(407, Some(a)), (603, Some(""))]).2, "");
    }
}
