//! Reads one message many times, for counting instructions: the difference of two runs, divided by the difference of
//! their rounds, is the cost of one round.
//!
//! ```text
//! cargo build --release --no-default-features --example parse_instructions
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null \
//!     target/release/examples/parse_instructions invite index 1010
//! ```

use std::hint::black_box;

use referee::message::{Index, Message, check, parse};

mod view;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, stage, rounds] = &arguments[..] else {
        eprintln!("usage: parse_instructions <message> <lines|index|check|view> <rounds>");
        std::process::exit(2);
    };
    let Some((_, bytes)) = view::MESSAGES.iter().find(|(known, _)| known == name) else {
        eprintln!("no message {name}");
        std::process::exit(2);
    };
    let rounds: usize = rounds.parse().expect("a number of rounds");
    let mut index = Index::new();
    for _ in 0..rounds {
        let bytes = black_box(*bytes);
        match stage.as_str() {
            "lines" => {
                let head = memchr::memmem::find(bytes, b"\r\n\r\n").expect("a message");
                black_box(memchr::memchr_iter(b'\n', &bytes[..head]).fold(0, |sum, at| sum ^ at));
            }
            "index" => parse(bytes, black_box(&mut index)).expect("a good message"),
            "check" => {
                parse(bytes, black_box(&mut index)).expect("a good message");
                check(Message::new(bytes, &index)).expect("a good message");
            }
            "view" => {
                parse(bytes, black_box(&mut index)).expect("a good message");
                view::proxy_view(Message::new(bytes, &index)).expect("a good message");
            }
            _ => {
                eprintln!("no stage {stage}");
                std::process::exit(2);
            }
        }
    }
}
