//! Offers and answers of one dialog, as a user agent without media of its own makes them (RFC 3264, RFC 3261 §13.2.1, §14).
//!
//! ```text
//!          offer of the peer, answered at once
//!           ┌──────┐
//!           ▼      │     our offer                  an answer, or none will come
//!          Idle ───┴───────────────► Offered ─────────────────────────────────► Idle
//!                                     an offer of the peer: not now
//! ```
//!
//! What was last said stays what holds until an exchange is whole; one that fails changes nothing (RFC 3261 §14.1).

pub mod body;

use crate::message::sdp::{Description, Refusal, SdpError, Session};
use std::net::{IpAddr, SocketAddr};

/// Both descriptions of a session, as far as this side keeps them.
#[derive(Clone, Debug)]
pub struct OfferAnswer {
    session: Session,
    media: Option<SocketAddr>,
    /// Our last description: the base of the next.
    last: Option<Box<str>>,
    /// Media of an offer of ours that has no answer yet.
    offered: Option<usize>,
}

/// Why an offer gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswerable {
    /// It is no session description.
    Malformed(SdpError),
    /// Nothing of what it offers can be taken.
    Refused(Refusal),
    /// An offer of ours is open.
    Pending,
}

impl OfferAnswer {
    /// `id`: of the session, the same for its life. `address`: of who describes, and of media that flow nowhere. `media`: where
    /// somebody takes them instead.
    pub fn new(id: u64, address: IpAddr, media: Option<SocketAddr>) -> OfferAnswer {
        OfferAnswer {
            // RFC 3264 §5 and erratum: numbers that fit a signed 64-bit integer.
            session: Session {
                id: id >> 1,
                version: 1,
                address,
            },
            media,
            last: None,
            offered: None,
        }
    }

    /// Whether an offer of ours has no answer yet.
    pub fn awaits_answer(&self) -> bool {
        self.offered.is_some()
    }

    /// Answers an offer. The version of our description rises when it changes (RFC 3264 §8).
    ///
    /// # Errors
    /// Why there is no answer; then nothing has changed.
    pub fn answer(&mut self, offer: &[u8]) -> Result<String, Unanswerable> {
        let (text, session) = self.answer_to(offer)?;
        self.session = session;
        self.last = Some(text.as_str().into());
        Ok(text)
    }

    /// Whether an offer could be answered now.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(&self, offer: &[u8]) -> Result<(), Unanswerable> {
        self.answer_to(offer).map(|_| ())
    }

    fn answer_to(&self, offer: &[u8]) -> Result<(String, Session), Unanswerable> {
        if self.awaits_answer() {
            return Err(Unanswerable::Pending);
        }
        let offer = Description::parse(offer).map_err(Unanswerable::Malformed)?;
        let write = |session: &Session| session.answer(&offer, self.media).map_err(Unanswerable::Refused);
        let text = write(&self.session)?;
        if self.last.as_deref().is_none_or(|last| last == text) {
            return Ok((text, self.session));
        }
        let session = Session {
            version: self.session.version + 1,
            ..self.session
        };
        Ok((write(&session)?, session))
    }

    /// An offer of ours: what holds, unchanged, or the first of the dialog.
    pub fn offer(&mut self) -> String {
        let text = match &self.last {
            Some(last) => last.to_string(),
            None => self.session.offer(self.media),
        };
        let media = Description::parse(text.as_bytes()).map_or(0, |description| description.media.len());
        self.offered = Some(media);
        text
    }

    /// Takes what answers our offer. `false`: it is no answer (RFC 3264 §6: as many media as were offered).
    pub fn take_answer(&mut self, answer: &[u8]) -> bool {
        let Some(offered) = self.offered.take() else {
            return true;
        };
        let is_answer = Description::parse(answer).is_ok_and(|answer| answer.media.len() == offered);
        if is_answer && self.last.is_none() {
            self.last = Some(self.session.offer(self.media).into());
        }
        is_answer
    }

    /// No answer will come.
    pub fn give_up_offer(&mut self) {
        self.offered = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agent() -> OfferAnswer {
        OfferAnswer::new(84, IpAddr::from([198, 51, 100, 9]), None)
    }

    fn offer(version: u32, media: &str) -> String {
        format!("v=0\r\no=- 7 {version} IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{media}")
    }

    fn version(text: &str) -> u64 {
        let origin = Description::parse(text.as_bytes()).unwrap().origin;
        std::str::from_utf8(origin.version).unwrap().parse().unwrap()
    }

    const AUDIO: &str = "m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";

    #[test]
    fn the_version_steps_when_the_answer_changes_and_only_then() {
        let mut agent = agent();
        let first = agent.answer(offer(1, AUDIO).as_bytes()).unwrap();
        // Hold and resume do not change what is inactive anyway.
        let hold = agent
            .answer(offer(2, &format!("{AUDIO}a=sendonly\r\n")).as_bytes())
            .unwrap();
        assert_eq!((first.as_str(), version(&first)), (hold.as_str(), 1));
        let video = agent
            .answer(offer(3, &format!("{AUDIO}m=video 4002 RTP/AVP 96\r\n")).as_bytes())
            .unwrap();
        assert_eq!(version(&video), 2);
        assert!(video.contains("m=video 0 RTP/AVP 96\r\n"));
        assert_eq!(agent.offer(), video, "an offer repeats what holds");
    }

    #[test]
    fn with_a_media_address_hold_and_resume_are_mirrored() {
        let mut agent = OfferAnswer::new(84, IpAddr::from([198, 51, 100, 9]), "192.0.2.9:4000".parse().ok());
        for (offered, expected, stepped) in [
            ("", "a=sendrecv\r\n", 1),
            ("a=sendonly\r\n", "a=recvonly\r\n", 2),
            ("a=sendonly\r\n", "a=recvonly\r\n", 2),
            ("a=inactive\r\n", "a=inactive\r\n", 3),
            ("a=sendrecv\r\n", "a=sendrecv\r\n", 4),
        ] {
            let answer = agent.answer(offer(1, &format!("{AUDIO}{offered}")).as_bytes()).unwrap();
            assert!(answer.ends_with(expected), "{offered}: {answer}");
            assert_eq!(version(&answer), stepped);
        }
    }

    #[test]
    fn an_offer_that_fails_leaves_the_session_as_it_was() {
        let mut agent = agent();
        let first = agent.answer(offer(1, AUDIO).as_bytes()).unwrap();
        let refused = agent.answer(offer(2, "m=audio 4000 RTP/SAVP 0\r\n").as_bytes());
        assert_eq!(refused, Err(Unanswerable::Refused(Refusal::Transport)));
        assert!(matches!(agent.answer(b"v=1\r\n"), Err(Unanswerable::Malformed(_))));
        assert_eq!(agent.offer(), first);
    }

    #[test]
    fn while_our_offer_is_open_no_other_is_answered() {
        let mut agent = agent();
        let ours = agent.offer();
        assert!(ours.contains("m=audio 9 RTP/AVP 0 8 101\r\n") && ours.ends_with("a=inactive\r\n"));
        assert_eq!(agent.answer(offer(1, AUDIO).as_bytes()), Err(Unanswerable::Pending));
        assert!(!agent.take_answer(b""), "nothing is no answer");
        assert!(!agent.awaits_answer());
        agent.offer();
        let two = format!("{AUDIO}{AUDIO}");
        assert!(
            !agent.take_answer(offer(1, &two).as_bytes()),
            "more media than were offered"
        );
        agent.offer();
        assert!(agent.take_answer(offer(1, "m=audio 0 RTP/AVP 0\r\n").as_bytes()));
        assert_eq!(agent.offer(), ours);
        agent.give_up_offer();
        assert!(agent.answer(offer(2, AUDIO).as_bytes()).is_ok());
    }

    /// Media lines as offers have them, good and odd.
    fn media() -> impl Strategy<Value = String> {
        let kind = prop::sample::select(vec!["audio", "audio", "video", "image", "application"]);
        let protocol = prop::sample::select(vec!["RTP/AVP", "RTP/AVP", "RTP/AVPF", "RTP/SAVP", "udptl"]);
        let formats = prop::collection::vec(prop::sample::select(vec!["0", "8", "18", "96", "101", "9"]), 1..5);
        let attributes = prop::sample::subsequence(
            vec![
                "a=rtpmap:96 PCMA/8000",
                "a=rtpmap:101 telephone-event/8000",
                "a=fmtp:101 0-15",
                "a=sendonly",
                "a=inactive",
                "a=ice-ufrag:x",
                "a=bundle-only",
                "c=IN IP4 0.0.0.0",
            ],
            0..5,
        );
        (kind, 0u16..3, protocol, formats, attributes).prop_map(|(kind, port, protocol, formats, attributes)| {
            let port = [0, 9, 4_000][usize::from(port)];
            let mut text = format!("m={kind} {port} {protocol} {}\r\n", formats.join(" "));
            for attribute in attributes {
                text += &format!("{attribute}\r\n");
            }
            text
        })
    }

    proptest! {
        /// RFC 3264 §6: every answer in a row of offers has the offer's media in number and order, formats that were offered,
        /// ports of 0 where they were 0, the directions that fit, and a version that rises exactly when it changes.
        #[test]
        fn answers_are_valid(
            offers in prop::collection::vec(prop::collection::vec(media(), 0..5), 1..4),
            with_media in any::<bool>(),
        ) {
            let place = with_media.then(|| "192.0.2.9:4000".parse().unwrap());
            let mut agent = OfferAnswer::new(84, IpAddr::from([198, 51, 100, 9]), place);
            let mut last: Option<String> = None;
            for (number, media) in offers.iter().enumerate() {
                let text = offer(number as u32, &media.concat());
                let offered = Description::parse(text.as_bytes()).unwrap();
                let Ok(answer) = agent.answer(text.as_bytes()) else {
                    continue;
                };
                let read = Description::parse(answer.as_bytes()).unwrap();
                prop_assert_eq!(&read.timing, &offered.timing);
                prop_assert_eq!(read.media.len(), offered.media.len());
                let mut taken = 0;
                for (ours, theirs) in read.media.iter().zip(&offered.media) {
                    prop_assert_eq!((ours.kind, ours.protocol), (theirs.kind, theirs.protocol));
                    let formats = |media: &crate::message::sdp::Media<'_>| -> Vec<Vec<u8>> {
                        media.formats.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect()
                    };
                    let known = formats(theirs);
                    prop_assert!(formats(ours).iter().all(|format| known.contains(format)));
                    if ours.port != 0 {
                        taken += 1;
                        let is_bundled = theirs.attributes().any(|(name, _)| name == b"bundle-only");
                        prop_assert!(theirs.port != 0 || is_bundled);
                        let fits = match with_media {
                            true => read.direction(ours) == offered.direction(theirs).reversed(),
                            false => ours.port == 9
                                && read.direction(ours) == crate::message::sdp::Direction::Inactive,
                        };
                        prop_assert!(fits);
                    }
                }
                prop_assert!(taken <= 1);
                let strip = |text: &str| text.lines().filter(|line| !line.starts_with("o=")).collect::<Vec<_>>().join("\n");
                if let Some(last) = &last {
                    let changed = strip(last) != strip(&answer);
                    prop_assert_eq!(version(&answer), version(last) + u64::from(changed));
                }
                last = Some(answer.clone());
            }
        }
    }
}
