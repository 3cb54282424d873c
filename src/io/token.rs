//! Which socket an event is about: one number for each thing that a worker polls.

use mio::Token;

/// The bell that other threads ring.
pub const BELL: Token = Token(0);

/// [`crate::config::Config::binds`] has at most this many.
pub const BINDS_MAX: usize = 64;

const UDP: usize = 1;
const LISTENER: usize = UDP + BINDS_MAX;
const CONNECTION: usize = LISTENER + BINDS_MAX;

/// What a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    Bell,
    /// The UDP socket of a bind.
    Udp(usize),
    /// The TCP listener of a bind.
    Listener(usize),
    /// The connection in a slot.
    Connection(usize),
}

/// The token of the UDP socket of a bind.
pub fn udp(bind: usize) -> Token {
    assert!(bind < BINDS_MAX);
    Token(UDP + bind)
}

/// The token of the TCP listener of a bind.
pub fn listener(bind: usize) -> Token {
    assert!(bind < BINDS_MAX);
    Token(LISTENER + bind)
}

/// The token of the connection in a slot.
pub fn connection(slot: usize) -> Token {
    Token(CONNECTION + slot)
}

/// What this token stands for.
pub fn polled(token: Token) -> Polled {
    match token.0 {
        0 => Polled::Bell,
        UDP..LISTENER => Polled::Udp(token.0 - UDP),
        LISTENER..CONNECTION => Polled::Listener(token.0 - LISTENER),
        CONNECTION.. => Polled::Connection(token.0 - CONNECTION),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_back_what_they_stand_for() {
        assert_eq!(polled(BELL), Polled::Bell);
        for bind in [0, BINDS_MAX - 1] {
            assert_eq!(polled(udp(bind)), Polled::Udp(bind));
            assert_eq!(polled(listener(bind)), Polled::Listener(bind));
        }
        for slot in [0, 1, 1 << 20] {
            assert_eq!(polled(connection(slot)), Polled::Connection(slot));
        }
    }
}
