//! The program: arguments → configuration → run. What the arguments mean is in [`referee::command_line`].

#![deny(unsafe_code)]

use clap::{Args, Parser, Subcommand};
use referee::command_line::{
    self, ControlListen, EXIT_BIND, EXIT_FAILED, EXIT_FINE, EXIT_USAGE, Effective, RunOptions,
};
use referee::config::Config;
use referee::io::{self, RunError};
use referee::message::parse::MESSAGE_BYTES_MAX;
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// A SIP edge proxy that transfers any live call with one JSON verb, sip:refer.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Without a command, referee runs.\n\
                  Exit codes: 0 fine, 1 failed while running (inspect: not forwarded), 2 usage or configuration, 3 could not bind."
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Relay calls until told to stop (default).
    Run(RunArguments),
    /// Check a configuration file: every mistake in one pass, with line and column.
    Check { file: PathBuf },
    /// Explain a captured SIP message: its fields, what is wrong and where, and what a proxy would do with it.
    ///
    /// Exit codes: 0 a proxy would forward it, 1 it would refuse or drop it, 2 it cannot be read.
    Inspect {
        /// A file that holds one message as it was on the wire; `-` for standard input.
        file: PathBuf,
    },
    /// Run a carrier, an application and a call inside this process, and show the transfer as a ladder.
    Demo {
        /// One of the scenarios; an unknown name lists them.
        #[arg(long, value_name = "NAME", default_value = referee::demo::SCENARIOS[0].name)]
        scenario: String,
        /// Print the scenarios' names and nothing else.
        #[arg(long)]
        list: bool,
    },
}

#[derive(Args, Debug)]
struct RunArguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Relay every call to this peer.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "config")]
    to: Option<String>,
    /// Listen here, over UDP and TCP; may be given several times [default: 0.0.0.0:5060].
    #[arg(long, value_name = "ADDR:PORT", conflicts_with = "config")]
    listen: Vec<SocketAddr>,
    /// Shards, one thread each [default: one per core].
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// Where the control API listens, or "off" [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR:PORT|off")]
    control: Option<ControlListen>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command.unwrap_or(Command::Run(arguments.run)) {
        Command::Run(arguments) => run(arguments),
        Command::Check { file } => check(&file),
        Command::Inspect { file } => inspect(&file),
        Command::Demo { list: true, .. } => {
            for scenario in referee::demo::SCENARIOS {
                println!("{}", scenario.name);
            }
            ExitCode::from(EXIT_FINE)
        }
        Command::Demo { scenario, .. } => referee::demo::run(&scenario),
    }
}

fn run(arguments: RunArguments) -> ExitCode {
    let RunArguments {
        config,
        to,
        listen,
        shards,
        control,
    } = arguments;
    let file = match config.map(|path| read(&path)).transpose() {
        Ok(file) => file,
        Err(message) => return refuse(&[message]),
    };
    let options = RunOptions {
        file,
        to,
        listen,
        shards,
        control,
    };
    let Effective { config, notice } = match command_line::effective(&options, &environment) {
        Ok(effective) => effective,
        Err(mistakes) => return refuse(&mistakes),
    };
    log_to_stderr();
    if let Some(notice) = notice {
        tracing::warn!("{notice}");
    }
    serve(config)
}

fn check(path: &Path) -> ExitCode {
    let checked = read(path).map_err(|message| vec![message]);
    match checked.and_then(|(name, bytes)| command_line::check(&name, &bytes, &environment)) {
        Ok(summary) => {
            print!("{summary}");
            ExitCode::from(EXIT_FINE)
        }
        Err(mistakes) => refuse(&mistakes),
    }
}

fn inspect(path: &Path) -> ExitCode {
    match read_message(path).and_then(|(name, bytes)| command_line::inspect(&name, &bytes)) {
        Ok((text, code)) => {
            // A reader such as `head` that has seen enough is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::from(code)
        }
        Err(mistake) => refuse(&[mistake]),
    }
}

/// Runs until told to stop.
fn serve(config: Config) -> ExitCode {
    let Err(error) = io::run(config) else {
        return ExitCode::from(EXIT_FINE);
    };
    tracing::error!("{error}");
    ExitCode::from(match error {
        RunError::Bind { .. } => EXIT_BIND,
        RunError::Config(_) => EXIT_USAGE,
        RunError::Other(_) => EXIT_FAILED,
    })
}

/// A file's name and what is in it.
fn read(path: &Path) -> Result<(String, Vec<u8>), String> {
    let name = path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => Ok((name, bytes)),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

/// The same for a message, of a file or of standard input (`-`): no more of it than it takes to see that it is too large.
fn read_message(path: &Path) -> Result<(String, Vec<u8>), String> {
    const READ_MAX: u64 = MESSAGE_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    let (name, read) = if path == Path::new("-") {
        let read = std::io::stdin().take(READ_MAX).read_to_end(&mut bytes);
        ("standard input".to_owned(), read)
    } else {
        let read = File::open(path).and_then(|file| file.take(READ_MAX).read_to_end(&mut bytes));
        (path.display().to_string(), read)
    };
    match read {
        Ok(_) => Ok((name, bytes)),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

fn refuse(mistakes: &[String]) -> ExitCode {
    for mistake in mistakes {
        eprintln!("{mistake}");
    }
    ExitCode::from(EXIT_USAGE)
}

#[expect(clippy::disallowed_methods, reason = "this is where the environment becomes a value")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// `REFEREE_LOG` selects what is logged (`debug`, `referee::io=trace`); info without it.
fn log_to_stderr() {
    let wanted = environment("REFEREE_LOG").filter(|text| !text.is_empty());
    let filter = wanted.as_deref().map_or_else(|| Ok(EnvFilter::new("info")), str::parse);
    let unusable = filter.as_ref().err().map(ToString::to_string);
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    if let Some(problem) = unusable {
        tracing::warn!("REFEREE_LOG: {problem}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_contradict_nothing() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn running_is_what_happens_without_a_command() {
        for line in [
            &[
                "referee",
                "--to",
                "127.0.0.1:5070",
                "--listen",
                "127.0.0.1:5060",
                "--listen",
                "[::1]:5060",
            ][..],
            &[
                "referee",
                "run",
                "--to",
                "127.0.0.1:5070",
                "--listen",
                "127.0.0.1:5060",
                "--listen",
                "[::1]:5060",
            ],
        ] {
            let arguments = Arguments::try_parse_from(line).unwrap();
            let run = match arguments.command {
                Some(Command::Run(run)) => run,
                None => arguments.run,
                Some(other) => panic!("{other:?}"),
            };
            assert_eq!(
                (run.to.as_deref(), run.listen.len(), run.shards),
                (Some("127.0.0.1:5070"), 2, None)
            );
        }
    }

    #[test]
    fn what_contradicts_itself_is_a_usage_error() {
        for line in [
            &["referee", "--to", "a:1", "--config", "f"][..],
            &["referee", "--listen", "127.0.0.1:1", "--config", "f"],
            &["referee", "--to", "a:1", "check", "f"],
            &["referee", "check"],
            &["referee", "--listen", "nowhere"],
            &["referee", "--control", "on"],
            &["referee", "inspect"],
        ] {
            let error = Arguments::try_parse_from(line).unwrap_err();
            assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{line:?}");
        }
    }
}
