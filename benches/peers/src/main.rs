//! How long referee and its peers take to read the same messages: in one process, interleaved, next to what memory allows.
//! Writes Markdown tables to the standard output; fails if referee itself reads a field wrong.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml [-- --quick]
//! ```

mod allocations;
mod field;
mod input;
#[path = "../../parse/messages.rs"]
mod messages;
#[path = "../../parse/mix.rs"]
mod mix;
mod read;
mod rows;

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use field::{EXPECTED, FIELDS};
use input::Input;
use rows::{LINE_ENDS, Row};

/// How long one row works in one round: so short that what disturbs a round disturbs all of its rows, so long that the
/// clock is not felt.
const BATCH: Duration = Duration::from_micros(150);

/// What one row took on one input.
struct Measured {
    nanoseconds_min: f64,
    /// Median over the rounds of its time by that of the line ends in the same round.
    by_line_ends: f64,
    allocations: f64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rounds = match &arguments[..] {
        [] => 301,
        [quick] if quick == "--quick" => 11,
        _ => {
            eprintln!("usage: referee-peers [--quick]");
            return ExitCode::from(2);
        }
    };
    let load_before = load();
    let inputs = input::all();
    let mut rows = rows::all();
    let measured = measure(&mut rows, &inputs, rounds);
    println!(
        "{}, {rounds} rounds, load {load_before} before and {} after",
        processor(),
        load()
    );

    table("Least ns a message", &rows, &inputs, |row, input| {
        format!("{:.0}", measured[input][row].nanoseconds_min)
    });
    table("Times the line ends", &rows, &inputs, |row, input| {
        format!("{:.1}", measured[input][row].by_line_ends)
    });
    table("Allocations a message", &rows, &inputs, |row, input| {
        let count = measured[input][row].allocations;
        if count.fract() == 0.0 {
            format!("{count}")
        } else {
            format!("{count:.1}")
        }
    });
    match fields(&rows) {
        0 => ExitCode::SUCCESS,
        wrong => {
            eprintln!("referee does not read {wrong} fields as they stand in the message");
            ExitCode::FAILURE
        }
    }
}

/// One row on one input, while it is measured.
struct Cell {
    /// How many messages a batch has.
    count: usize,
    /// Where the next batch begins.
    next: usize,
    /// Nanoseconds a message, of each round.
    times: Vec<f64>,
}

impl Cell {
    fn round(&mut self, row: &mut Row, input: &Input) {
        let took = self.timed(row, input);
        self.times.push(took.as_nanos() as f64 / self.count as f64);
    }

    /// Finds how many messages take a batch's time, which warms the row up. The least of some timings counts: one in
    /// which another process had the processor would make the batches short and cold for good.
    fn calibrated(row: &mut Row, input: &Input) -> Cell {
        let mut cell = Cell {
            count: 1,
            next: 0,
            times: Vec::new(),
        };
        loop {
            let timings = (0..8).map(|_| cell.timed(row, input));
            let took = timings.min().unwrap_or_default();
            if took >= BATCH {
                let exact = cell.count as f64 * BATCH.as_secs_f64() / took.as_secs_f64();
                cell.count = (exact as usize).max(1);
                return cell;
            }
            cell.count *= 2;
        }
    }

    #[expect(clippy::disallowed_methods, reason = "time is what is measured here")]
    fn timed(&mut self, row: &mut Row, input: &Input) -> Duration {
        let start = Instant::now();
        self.next = (row.batch)(&input.messages, self.next, self.count);
        start.elapsed()
    }
}

/// Measures each row on each input, which is the outer list. A round is over when all inputs had theirs, so that a slow
/// spell of the machine is no single input's.
fn measure(rows: &mut [Row], inputs: &[Input], rounds: usize) -> Vec<Vec<Measured>> {
    let mut cells: Vec<Vec<Cell>> = inputs
        .iter()
        .map(|input| rows.iter_mut().map(|row| Cell::calibrated(row, input)).collect())
        .collect();
    for round in 0..rounds {
        for (cells, input) in cells.iter_mut().zip(inputs) {
            for turn in 0..rows.len() {
                let place = (round + turn) % rows.len();
                cells[place].round(&mut rows[place], input);
            }
        }
    }
    let measured = |cells: &Vec<Cell>, input: &Input, place: usize, row: &mut Row| {
        let times = &cells[place].times;
        let floors = &cells[LINE_ENDS].times;
        let mut ratios: Vec<f64> = times.iter().zip(floors).map(|(own, floor)| own / floor).collect();
        ratios.sort_by(f64::total_cmp);
        let count = input.messages.len();
        let allocations = allocations::of(|| {
            (row.batch)(&input.messages, 0, count);
        });
        Measured {
            nanoseconds_min: times.iter().copied().fold(f64::INFINITY, f64::min),
            by_line_ends: ratios[ratios.len() / 2],
            allocations: allocations as f64 / count as f64,
        }
    };
    cells
        .iter()
        .zip(inputs)
        .map(|(cells, input)| {
            let rows = rows.iter_mut().enumerate();
            rows.map(|(place, row)| measured(cells, input, place, row)).collect()
        })
        .collect()
}

fn table(title: &str, rows: &[Row], inputs: &[Input], cell: impl Fn(usize, usize) -> String) {
    let names: Vec<&str> = inputs.iter().map(|input| input.name).collect();
    println!(
        "\n{title}\n\n| | | {} |\n|---|---|{}",
        names.join(" | "),
        "--:|".repeat(names.len())
    );
    for (place, row) in rows.iter().enumerate() {
        let cells: Vec<String> = (0..inputs.len()).map(|input| cell(place, input)).collect();
        println!("| {} | {} | {} |", row.name, row.does, cells.join(" | "));
    }
}

/// How many fields each row reads as they stand in the message, and which not. Returns how many referee does not.
fn fields(rows: &[Row]) -> usize {
    let names: Vec<&str> = EXPECTED.iter().map(|(name, _)| *name).collect();
    println!(
        "\nFields read right, of {}\n\n| | {} |\n|---|{}",
        FIELDS.len(),
        names.join(" | "),
        "--:|".repeat(names.len())
    );
    let mut notes = Vec::new();
    let mut missed_by_referee = 0;
    for row in rows {
        let Some(read) = row.fields else {
            continue;
        };
        let mut cells = Vec::new();
        let mut right_in_all = 0;
        for ((name, expected), (_, bytes)) in EXPECTED.iter().zip(messages::MESSAGES) {
            let Ok(seen) = read(bytes) else {
                cells.push("refused".to_owned());
                continue;
            };
            let mut right = 0;
            for (field, expected) in FIELDS.iter().zip(expected) {
                match seen.0.get(field) {
                    Some(text) if text == expected => right += 1,
                    Some(text) => notes.push(format!("{} {name}: {field:?} `{text}`, not `{expected}`", row.name)),
                    None => {}
                }
            }
            cells.push(right.to_string());
            right_in_all += right;
        }
        if row.name == "referee" {
            missed_by_referee = EXPECTED.len() * FIELDS.len() - right_in_all;
        }
        println!("| {} | {} |", row.name, cells.join(" | "));
    }
    if !notes.is_empty() {
        println!("\nWrong (a field that is not counted and not here is one the parser has no function for):\n");
        notes.iter().for_each(|note| println!("- {note}"));
    }
    missed_by_referee
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or("an unknown processor", |(_, name)| name).to_owned()
}
