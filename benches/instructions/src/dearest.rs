//! Looks for the input that costs the most instructions a byte to read, check and ask: for what a
//! proxy reads, or for every field there is.
//!
//! ```text
//! cargo run --release --manifest-path benches/instructions/Cargo.toml --features search --bin dearest -- \
//!     proxy|fields [ROUNDS SEED]
//! ```
//!
//! Inputs are written from a plan: header lines of a start, a part that repeats, and an end. Each round changes the
//! dearest plans known, counts all of them under callgrind, and keeps the dearest. Writes those above the limit to the standard
//! output; those worth keeping belong in `src/worst.rs`.

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{fs, io};

use referee::message::parse::MESSAGE_BYTES_MAX;
use referee::message::properties::malformed_fields;
use referee::message::{Index, Message, check, parse};
use referee_instructions::read_as_a_proxy;

/// How many plans a round counts, and how many live on of those that begin with the same header.
const PLANS: usize = 160;
const KEPT_OF_A_NAME: usize = 2;
/// Long enough for what grows with the square of the length to show, short enough to be counted often.
const BYTES_MAX: usize = 4_000;
const LINES_MAX: usize = 5;
/// Instructions a byte that no input is to cost more than.
const LIMIT: f64 = 40.0;
/// How much of an input is printed.
const SHOWN: usize = 300;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["--count", work, file] => Work::of(work).map(|work| count_all(work, Path::new(file))),
        [work] => Work::of(work).map(|_| search(work, 20, 1)),
        [work, rounds, seed] => match (Work::of(work), rounds.parse(), seed.parse()) {
            (Some(_), Ok(rounds), Ok(seed)) => Some(search(work, rounds, seed)),
            _ => None,
        },
        _ => None,
    };
    match outcome {
        None => {
            eprintln!("usage: dearest proxy|fields [ROUNDS SEED]");
            ExitCode::from(2)
        }
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What is done with an input.
#[derive(Clone, Copy)]
enum Work {
    /// What a proxy does with each message.
    Proxy,
    /// Every field there is, one after the other, each from its bytes.
    Fields,
}

impl Work {
    fn of(word: &str) -> Option<Work> {
        match word {
            "proxy" => Some(Work::Proxy),
            "fields" => Some(Work::Fields),
            _ => None,
        }
    }
}

/// What callgrind counts: it dumps what it has whenever this is left.
#[inline(never)]
fn counted(work: Work, bytes: &[u8], index: &mut Index) {
    if let Work::Proxy = work {
        return read_as_a_proxy(bytes, index);
    }
    if parse(black_box(bytes), index).is_ok() {
        let message = Message::new(bytes, index);
        let _ = black_box(check(message));
        black_box(malformed_fields(message));
    }
}

/// Under callgrind: reads each input of a file.
fn count_all(work: Work, file: &Path) -> io::Result<()> {
    let bytes = fs::read(file)?;
    let mut index = Index::new();
    let mut rest = &bytes[..];
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (input, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        // Once before, so that what the program finds out once is known.
        if rest.len() == bytes.len() {
            let _ = parse(input, &mut index);
        }
        counted(work, input, &mut index);
        rest = after;
    }
    Ok(())
}

/// Instructions for each input.
fn counts(work: &str, inputs: &[Vec<u8>]) -> io::Result<Vec<u64>> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/dearest");
    // What an earlier round left must not pass for what this one counted.
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    fs::create_dir_all(&home)?;
    let (file, profile) = (home.join("inputs"), home.join("profile"));
    let written: Vec<u8> = inputs
        .iter()
        .flat_map(|input| [&(input.len() as u32).to_le_bytes()[..], input].concat())
        .collect();
    fs::write(&file, written)?;
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--toggle-collect=dearest::counted",
            "--dump-after=dearest::counted",
        ])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(std::env::current_exe()?)
        .args(["--count", work])
        .arg(&file)
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    (1..=inputs.len())
        .map(|number| {
            let path = home.join(format!("profile.{number}"));
            let text = fs::read_to_string(&path)?;
            let count = text
                .lines()
                .find_map(|line| line.strip_prefix("summary: ")?.trim().parse().ok());
            count.ok_or_else(|| io::Error::other(format!("{}: no summary", path.display())))
        })
        .collect()
}

fn search(work: &str, rounds: usize, seed: u64) -> io::Result<()> {
    let mut random = Random(seed.max(1));
    let mut known: Vec<(f64, Plan)> = Vec::new();
    for round in 1..=rounds {
        let mut plans = Vec::new();
        while plans.len() < PLANS {
            let plan = match known.is_empty() || random.below(6) == 0 {
                true => Plan::new(&mut random),
                false => {
                    // The dearer, the likelier.
                    let place = random.below(known.len()).min(random.below(known.len()));
                    let other = random.below(known.len());
                    known[place].1.changed(&known[other].1, &mut random)
                }
            };
            if plan.written().len() <= BYTES_MAX {
                plans.push(plan);
            }
        }
        let inputs: Vec<Vec<u8>> = plans.iter().map(Plan::written).collect();
        let counted = counts(work, &inputs)?;
        let costs = counted.iter().zip(&inputs).map(|(&count, input)| cost(count, input));
        known.extend(costs.zip(plans));
        known.sort_by(|one, other| other.0.total_cmp(&one.0));
        // Some of each kind live on, so that one dear header does not hide the others.
        let mut names: Vec<&str> = Vec::new();
        known.retain(|(_, plan)| {
            let name = plan.lines[0].name;
            names.push(name);
            names.iter().filter(|other| **other == name).count() <= KEPT_OF_A_NAME
        });
        if let Some((cost, _)) = known.first() {
            eprintln!("round {round}: {cost:.1} instructions a byte");
        }
    }
    let mut names: Vec<&str> = Vec::new();
    for (cost, plan) in &known {
        let name = plan.lines[0].name;
        if *cost > LIMIT && !names.contains(&name) {
            names.push(name);
            let text = plan.written();
            let shown = &text[..text.len().min(SHOWN)];
            println!(
                "{cost:.1} for {} bytes {:?}\n    {}",
                text.len(),
                plan.lines,
                shown.escape_ascii()
            );
        }
    }
    Ok(())
}

/// Instructions a byte, what every message may cost aside.
fn cost(count: u64, input: &[u8]) -> f64 {
    (count as f64 - 1_000.0) / input.len() as f64
}

/// How an input is written.
#[derive(Clone, Debug, PartialEq)]
struct Plan {
    lines: Vec<PlannedLine>,
}

#[derive(Clone, Debug, PartialEq)]
struct PlannedLine {
    name: &'static str,
    start: &'static str,
    /// Parts that repeat together.
    unit: Vec<&'static str>,
    times: usize,
    end: &'static str,
    /// How many such lines there are.
    lines: usize,
}

/// Those that every message has are replaced when a plan names them.
const OWN: [(&str, &str); 5] = [
    ("v", "SIP/2.0/UDP a"),
    ("f", "<a:b>"),
    ("t", "<a:b>"),
    ("i", "x"),
    ("CSeq", "1 A"),
];

const NAMES: [&str; 58] = [
    "v",
    "f",
    "t",
    "i",
    "CSeq",
    "m",
    "Route",
    "Record-Route",
    "Path",
    "Diversion",
    "History-Info",
    "Allow",
    "u",
    "e",
    "Proxy-Require",
    "Require",
    "k",
    "Unsupported",
    "WWW-Authenticate",
    "Proxy-Authenticate",
    "Authorization",
    "Proxy-Authorization",
    "P-Asserted-Identity",
    "P-Preferred-Identity",
    "Accept",
    "Reason",
    "Warning",
    "User-to-User",
    "Authentication-Info",
    "Content-Disposition",
    "c",
    "Date",
    "o",
    "Expires",
    "Max-Breadth",
    "Max-Forwards",
    "Min-Expires",
    "Min-SE",
    "Privacy",
    "RAck",
    "Refer-Sub",
    "r",
    "b",
    "Replaces",
    "Retry-After",
    "RSeq",
    "x",
    "Subscription-State",
    "Target-Dialog",
    "Timestamp",
    "s",
    "l",
    "X",
    "a",
    "Allow-Events",
    "Event",
    "Contact",
    "From",
];

const PARTS: [&str; 62] = [
    ";",
    ",",
    "=",
    "\"",
    "\\\"",
    "\"\"",
    "<",
    ">",
    "<a:b>",
    "<sip:a@b>",
    "<sip:a;b>",
    "a",
    "b",
    "0",
    "9",
    "1.1.1.1",
    "[::1]",
    ":",
    "/",
    "@",
    " ",
    "\t",
    "\r\n ",
    "(",
    ")",
    "\\(",
    "?",
    "&",
    "%41",
    ";a",
    ";b=c",
    ";lr",
    ";tag=a",
    ";q=0.1",
    ";branch=z9hG4bK",
    ";received=1.1.1.1",
    ";rport",
    ";x=\"\"",
    ",a",
    ",<a:b>",
    ", ",
    "SIP/2.0/UDP a",
    ",SIP/2.0/UDP a",
    "Digest a=b",
    ",a=b",
    ",a=\"b\"",
    "nonce=\"\"",
    "SIP;cause=200",
    ";text=\"a\"",
    "307 a \"b\"",
    "a/b",
    "*/*",
    ";index=1",
    "sip:a@b",
    "tel:1",
    "a@b",
    ";to-tag=a;from-tag=b",
    "00;encoding=hex",
    "\u{e9}",
    "Sat, 13 Nov 2010 23:29:00 GMT",
    "active",
    "1 1 A",
];

impl Plan {
    fn new(random: &mut Random) -> Plan {
        let lines = (0..=random.below(2)).map(|_| PlannedLine::new(random)).collect();
        Plan { lines }
    }

    fn changed(&self, other: &Plan, random: &mut Random) -> Plan {
        let mut plan = self.clone();
        for _ in 0..=random.below(3) {
            let place = random.below(plan.lines.len());
            match random.below(8) {
                0 if plan.lines.len() < LINES_MAX => plan.lines.push(PlannedLine::new(random)),
                1 if plan.lines.len() < LINES_MAX => {
                    plan.lines.push(other.lines[random.below(other.lines.len())].clone())
                }
                2 if plan.lines.len() > 1 => drop(plan.lines.remove(place)),
                _ => plan.lines[place].change(random),
            }
        }
        plan
    }

    fn written(&self) -> Vec<u8> {
        let mut text = "A a:b SIP/2.0\r\n".to_owned();
        for (name, value) in OWN {
            if !self.lines.iter().any(|line| line.name == name) {
                text += &format!("{name}:{value}\r\n");
            }
        }
        for line in &self.lines {
            let value = format!("{}{}{}", line.start, line.unit.concat().repeat(line.times), line.end);
            text += &format!("{}:{value}\r\n", line.name).repeat(line.lines);
            // What is too long is refused below.
            if text.len() > MESSAGE_BYTES_MAX {
                break;
            }
        }
        text += "\r\n";
        text.into_bytes()
    }
}

impl PlannedLine {
    fn new(random: &mut Random) -> PlannedLine {
        let mut line = PlannedLine {
            name: random.one_of(&NAMES),
            start: "",
            unit: (0..=random.below(3)).map(|_| random.one_of(&PARTS)).collect(),
            times: 1 << random.below(10),
            end: "",
            lines: 1,
        };
        line.start = line.usual_start();
        line
    }

    /// How a good value of the header begins.
    fn usual_start(&self) -> &'static str {
        match self.name {
            "v" => "SIP/2.0/UDP a",
            "f" | "t" | "m" | "Contact" | "From" | "Route" | "Record-Route" | "Path" | "r" | "b" | "Diversion" => {
                "<a:b>"
            }
            "History-Info" => "<a:b>;index=1",
            "CSeq" => "1 A",
            "WWW-Authenticate" | "Proxy-Authenticate" | "Authorization" | "Proxy-Authorization" => "Digest a=b",
            "Warning" => "307 a \"b\"",
            _ => "a",
        }
    }

    fn change(&mut self, random: &mut Random) {
        let place = random.below(self.unit.len());
        match random.below(10) {
            0 => self.name = random.one_of(&NAMES),
            1 => self.start = random.one_of(&PARTS),
            2 => self.start = self.usual_start(),
            3 => self.end = random.one_of(&PARTS),
            4 => self.times = (self.times * 2).min(2_048),
            5 => self.times = (self.times / 2).max(1),
            6 => self.lines = [1, 2, 8, 30, 100][random.below(5)],
            7 if self.unit.len() > 1 => drop(self.unit.remove(place)),
            8 if self.unit.len() < 6 => self.unit.insert(place, random.one_of(&PARTS)),
            _ => self.unit[place] = random.one_of(&PARTS),
        }
    }
}

/// Numbers made from a seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound.max(1)
    }

    fn one_of(&mut self, parts: &[&'static str]) -> &'static str {
        parts[self.below(parts.len())]
    }
}
