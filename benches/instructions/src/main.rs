//! Counts instructions and compares them with `counts.txt`; a difference beyond the slack is a failure.
//!
//! ```text
//! cargo run --release --manifest-path benches/instructions/Cargo.toml -- [--features LIST] [--at-most] [--bless]
//! ```
//!
//! `--features` are those of referee to build with; their rows have a name of their own in the table. `--at-most` also
//! holds the counts to the column of that name, `--bless` writes what was counted into the table.

mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{fs, io};

use referee_instructions::{bytes_of, relayed, usual, worst};
use table::{Row, Table};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// What a count may be above the table's. A changed function order moves counts by less; a lost optimisation by more.
const ABOVE: f64 = 0.03;
/// What it may be below: more, and the table is no longer what the code does.
const BELOW: f64 = 0.05;

struct Arguments {
    features: Option<String>,
    at_most: bool,
    bless: bool,
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("usage: referee-instructions [--features LIST] [--at-most] [--bless]");
        return ExitCode::from(2);
    };
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Option<Arguments> {
    let mut read = Arguments {
        features: None,
        at_most: false,
        bless: false,
    };
    let mut left = std::env::args().skip(1);
    while let Some(argument) = left.next() {
        match argument.as_str() {
            "--features" => read.features = Some(left.next()?),
            "--at-most" => read.at_most = true,
            "--bless" => read.bless = true,
            _ => return None,
        }
    }
    Some(read)
}

fn run(arguments: &Arguments) -> io::Result<bool> {
    let path = Path::new(CRATE).join("counts.txt");
    let mut table = Table::read(&fs::read_to_string(&path)?).map_err(io::Error::other)?;
    let build = arguments.features.clone().unwrap_or_else(|| "default".to_owned());
    let counted = counted(arguments.features.as_deref(), &build)?;

    let mut failures = Vec::new();
    for row in &counted {
        failures.extend(judged(row, &table, &counted, arguments.at_most));
    }
    for gone in table
        .rows_of(&build)
        .filter(|known| !counted.iter().any(|row| row.is_of(known)))
    {
        failures.push(format!(
            "{} {} is in the table and is not counted",
            gone.stage, gone.message
        ));
    }
    print(&counted, &table);
    if arguments.bless {
        table.replace(&build, &counted);
        fs::write(&path, table.to_string())?;
        println!("\nwritten: {}", path.display());
        return Ok(true);
    }
    for failure in &failures {
        eprintln!("{failure}");
    }
    if !failures.is_empty() {
        eprintln!(
            "\n{} failures in {} rows. The table was counted with: {}; here is {}.",
            failures.len(),
            counted.len(),
            table.counted_with().unwrap_or("nobody knows what"),
            rustc()?
        );
    }
    Ok(failures.is_empty())
}

/// How far above its ceiling a count may be: another build of the C library or of the compiler moves it by some
/// instructions.
const OVER_LIMIT: f64 = 0.01;

/// What is wrong with a count, if anything is.
fn judged(row: &Row, table: &Table, counted: &[Row], at_most: bool) -> Vec<String> {
    let mut failures = Vec::new();
    let Some(count) = row.count else {
        return failures;
    };
    let known = table.row(row);
    let name = format!("{} {} ({})", row.stage, row.message, row.build);
    let line = |known: Option<&Row>| {
        let limit = known.map_or("", |known| &known.at_most);
        format!("  commit if meant: {}", row.with_limit(limit))
    };
    match known.and_then(|known| known.count) {
        None => failures.push(format!(
            "{name}: {count} instructions, not in the table\n{}",
            line(known)
        )),
        Some(before) => {
            let change = count as f64 / before as f64 - 1.0;
            if !(-BELOW..=ABOVE).contains(&change) {
                failures.push(format!(
                    "{name}: {count} instructions, {:+.1} % against {before}\n{}",
                    change * 100.0,
                    line(known)
                ));
            }
        }
    }
    if at_most
        && let Some(limit) = known.and_then(|known| limit(known, counted))
        && count as f64 > limit as f64 * (1.0 + OVER_LIMIT)
    {
        failures.push(format!("{name}: {count} instructions, at most {limit} wanted"));
    }
    failures
}

/// The number behind a cell of the column `at most`: a number, `40/B` (40 for each byte and 1,000), `1.5index` (one and a
/// half of what the index of the message costs), or `1.1as_refer` (a tenth more than the row `as_refer` of the stage).
fn limit(row: &Row, counted: &[Row]) -> Option<u64> {
    match row.at_most.as_str() {
        "" | "-" => None,
        "40/B" => Some(40 * bytes_of(&row.message)?.len() as u64 + 1_000),
        "1.5index" => {
            let of_message = |other: &&Row| other.stage == "index" && other.message == row.message;
            Some(counted.iter().find(of_message)?.count? * 3 / 2)
        }
        other => {
            let end = other.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(other.len());
            let (factor, message) = other.split_at(end);
            let of_stage = |row_of: &&Row| row_of.stage == row.stage && row_of.message == message;
            match message {
                "" => factor.parse().ok(),
                _ => Some((factor.parse::<f64>().ok()? * counted.iter().find(of_stage)?.count? as f64) as u64),
            }
        }
    }
}

fn print(counted: &[Row], table: &Table) {
    println!("build        stage  message          bytes  instructions  per byte   table  at most");
    for row in counted {
        let bytes = match row.stage.as_str() {
            "relay" => relayed::Relayed::before(&row.message).bytes().len(),
            _ => bytes_of(&row.message).map_or(0, |bytes| bytes.len()),
        };
        let count = row.count.unwrap_or_default();
        let known = table.row(row);
        println!(
            "{:<12} {:<6} {:<15} {bytes:>6} {count:>13} {:>9.1} {:>7} {:>8}",
            row.build,
            row.stage,
            row.message,
            count as f64 / bytes as f64,
            known
                .and_then(|known| known.count)
                .map_or_else(|| "-".to_owned(), |before| before.to_string()),
            known
                .and_then(|known| limit(known, counted))
                .map_or_else(|| "-".to_owned(), |limit| limit.to_string()),
        );
    }
}

/// Runs the counter and reads what callgrind wrote, in the order of the table.
fn counted(features: Option<&str>, build: &str) -> io::Result<Vec<Row>> {
    let home = Path::new(CRATE).join("target/counts");
    // What an earlier run left must not pass for what this one counted.
    match fs::remove_dir_all(&home) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut command = Command::new(env!("CARGO"));
    command.args(["bench", "--quiet", "--bench", "count", "--manifest-path"]);
    command.arg(Path::new(CRATE).join("Cargo.toml"));
    for feature in features.into_iter().flat_map(|features| features.split(',')) {
        command.args(["--features", &format!("referee/{feature}")]);
    }
    command.args(["--", "--parallel=auto", "--home"]).arg(&home);
    let output = command.output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!(
            "counting failed: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )));
    }

    let usual = ["index", "check", "view", "edit"]
        .into_iter()
        .flat_map(|stage| usual().map(move |message| ("usual", stage, message)));
    let worst = ["index", "check", "view"]
        .into_iter()
        .flat_map(|stage| worst().map(move |message| ("worst", stage, message)));
    let through = relayed::STEPS.into_iter().map(|step| ("through", "relay", step));
    usual
        .chain(worst)
        .chain(through)
        .map(|(group, stage, message)| {
            let path = counted_file(&home, group, stage, message);
            Ok(Row {
                build: build.to_owned(),
                stage: stage.to_owned(),
                message: message.to_owned(),
                count: Some(instructions(&path)?),
                at_most: String::new(),
            })
        })
        .collect()
}

/// Where gungraun puts the profile of one row.
fn counted_file(home: &Path, group: &str, stage: &str, message: &str) -> PathBuf {
    let function = match group {
        "worst" => format!("worst_{stage}"),
        _ => stage.to_owned(),
    };
    // A name in Rust begins with no digit.
    let prefix = if message.starts_with(|first: char| first.is_ascii_digit()) {
        "_"
    } else {
        ""
    };
    home.join(format!(
        "referee-instructions/count/{group}/{function}.{prefix}{message}/callgrind.{function}.{prefix}{message}.out"
    ))
}

fn instructions(profile: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(profile)
        .map_err(|error| io::Error::other(format!("{}: {error}; is it in benches/count.rs?", profile.display())))?;
    text.lines()
        .find_map(|line| line.strip_prefix("summary: "))
        .and_then(|counts| counts.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| io::Error::other(format!("{}: no summary", profile.display())))
}

fn rustc() -> io::Result<String> {
    let output = Command::new("rustc").arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
