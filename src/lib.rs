//! referee: a SIP edge proxy that transfers live calls.
//!
//! The program stands on a core that owns no socket, clock or thread; without default features the crate is that core
//! alone. The part that is useful by itself is [`message`]: SIP as it is on the wire, read without copying, and edited
//! by splices so that all that is not understood stays as it was.
//!
//! ```
//! use referee::message::edit::Editor;
//! use referee::message::{Header, Index, Message, Method, ParseErrorKind, Uri, check, parse};
//!
//! let invite = b"INVITE sip:+4930123456@edge.example;user=phone SIP/2.0\r\n\
//!     Via: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK-524287-1\r\n\
//!     Max-Forwards: 70\r\n\
//!     From: \"Doe, John\" <sip:jdoe@carrier.example>;tag=as58f4\r\n\
//!     To: <sip:+4930123456@edge.example>\r\n\
//!     Call-ID: 3848276298220188511@198.51.100.7\r\n\
//!     CSeq: 314159 INVITE\r\n\
//!     X-Account: 4711\r\n\r\n";
//!
//! // One pass finds the lines; the index is reused from message to message.
//! let mut index = Index::new();
//! parse(invite, &mut index)?;
//! let message = Message::new(invite, &index);
//! assert_eq!(check(message), Ok(()));
//!
//! // Fields are read when they are asked for.
//! assert_eq!(message.method(), Some(Method::Invite));
//! assert_eq!(message.top_via().unwrap().branch, Some(&b"z9hG4bK-524287-1"[..]));
//! let from = message.from().unwrap();
//! assert_eq!((from.display, from.tag), (&b"\"Doe, John\""[..], Some(&b"as58f4"[..])));
//! assert_eq!(Uri::parse(message.request_uri()).unwrap().user, Some(&b"+4930123456"[..]));
//! assert_eq!(message.lines_named("x-account").next().unwrap().value, b"4711");
//!
//! // Relayed: a Via on top and one hop less; every other byte is the one that came.
//! let mut editor = Editor::new();
//! editor.insert(message.headers_start(), &[b"Via: SIP/2.0/UDP edge.example;branch=z9hG4bKours\r\n"]);
//! let hops = message.lines_of(Header::MaxForwards).next().unwrap();
//! editor.replace(hops.value_span, &[b"69"]);
//! let mut relayed = Vec::new();
//! editor.write(message, &mut relayed);
//! let relayed = String::from_utf8(relayed).unwrap();
//! assert!(relayed.contains("Via: SIP/2.0/UDP edge.example;branch=z9hG4bKours\r\nVia: SIP/2.0/UDP 198.51.100.7"));
//! assert!(relayed.contains("Max-Forwards: 69\r\n") && relayed.ends_with("X-Account: 4711\r\n\r\n"));
//!
//! // What a proxy cannot work with is refused, with the answer it deserves.
//! let malformed = relayed.replace("314159 INVITE", "314159 BYE");
//! let error = parse(malformed.as_bytes(), &mut index).unwrap_err();
//! assert_eq!(error.kind, ParseErrorKind::CSeqMethod);
//! assert_eq!((error.kind.status(), error.kind.reason()), (400, "CSeq Method Mismatch"));
//! # Ok::<(), referee::message::ParseError>(())
//! ```

#![deny(unsafe_code)]
#![warn(missing_debug_implementations, clippy::iter_over_hash_type)]

pub mod application;
pub mod buffer;
pub mod call;
pub mod command;
pub mod command_line;
pub mod config;
pub mod coverage;
#[cfg(feature = "io")]
pub mod demo;
pub mod destination;
pub mod dialog_usage;
pub mod digest;
pub mod event;
pub mod health;
pub mod identifiers;
#[cfg(feature = "io")]
pub mod io;
pub mod ladder;
pub mod message;
pub mod next_hop;
pub mod offer_answer;
pub mod proxy;
pub mod rate;
pub mod route_set;
pub mod sequence;
pub mod session_timer;
pub mod shard;
#[cfg(feature = "sim")]
pub mod sim;
pub mod spelling;
pub mod stun;
pub mod timer;
pub mod transaction;
pub mod transfer;
pub mod transport;
pub mod traversal;
pub mod usage;
pub mod verb;
pub mod webhook;
