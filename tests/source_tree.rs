//! The layers as they are written down: which module may use which, and which may touch the operating system.
//!
//! Calls go down, values come up: what stands below never knows who is above. The core is a pure machine; only `io` and what
//! stands on it know sockets, threads and clocks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the core with the modules of this crate that it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("message", &[]),
    ("timer", &[]),
    ("identifiers", &[]),
    ("buffer", &[]),
    ("sequence", &[]),
    ("spelling", &[]),
    ("coverage", &[]),
    ("ladder", &[]),
    ("rate", &["identifiers", "timer", "transport"]),
    ("stun", &[]),
    ("transport", &[]),
    ("config", &["spelling", "transport"]),
    ("next_hop", &["message", "transport"]),
    ("health", &["config", "timer"]),
    ("usage", &["config", "health", "identifiers", "rate", "timer"]),
    ("verb", &["config", "message", "spelling", "destination"]),
    ("destination", &["config", "message", "verb"]),
    ("webhook", &["config", "identifiers", "timer"]),
    ("command", &["identifiers", "verb"]),
    ("event", &["command"]),
    (
        "transaction",
        &[
            "buffer",
            "config",
            "coverage",
            "identifiers",
            "message",
            "timer",
            "transport",
        ],
    ),
    (
        "call",
        &[
            "config",
            "digest",
            "identifiers",
            "message",
            "sequence",
            "timer",
            "transaction",
            "transport",
            "usage",
            "verb",
        ],
    ),
    ("application", &["config", "verb"]),
    ("offer_answer", &["message"]),
    ("dialog_usage", &["message"]),
    ("digest", &["config", "identifiers", "message"]),
    ("route_set", &["message"]),
    ("session_timer", &["message", "timer"]),
    ("traversal", &["call", "config", "identifiers"]),
    (
        "proxy",
        &[
            "call",
            "config",
            "digest",
            "message",
            "session_timer",
            "timer",
            "transaction",
            "transport",
            "traversal",
        ],
    ),
    (
        "transfer",
        &[
            "call",
            "command",
            "config",
            "coverage",
            "digest",
            "identifiers",
            "message",
            "timer",
            "transaction",
            "verb",
        ],
    ),
];

/// Above the core: these may use anything but what is named.
const MAY_NOT_USE: &[(&str, &[&str])] = &[
    ("shard", &["command_line", "demo", "io", "sim"]),
    ("sim", &["command_line", "demo", "io"]),
    ("io", &["sim"]),
    ("demo", &["sim"]),
    ("command_line", &["sim"]),
    ("bench", &["sim"]),
    ("main", &["sim"]),
];

/// Who may name the operating system and the crates that reach it.
const OF_THE_SYSTEM: &[&str] = &["io", "demo", "bench", "command_line", "main"];

/// Paths that begin so belong to them alone.
const SYSTEM: &[&str] = &[
    "mio::",
    "socket2::",
    "crossbeam::",
    "ureq::",
    "axum::",
    "tokio::",
    "libc::",
    "hickory_resolver::",
    "std::thread",
    "std::process",
    "std::fs",
    "std::time::Instant",
    "std::time::SystemTime",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
];

struct Source {
    path: PathBuf,
    /// The first component below `src`, without its ending.
    module: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src is part of the package") {
            let path = entry.expect("an entry of src").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let below = path.strip_prefix(&root).expect("found below src");
                let first = below.iter().next().expect("a file has a name").to_string_lossy();
                sources.push(Source {
                    module: first.trim_end_matches(".rs").to_owned(),
                    text: fs::read_to_string(&path).expect("source is text"),
                    path,
                });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 40, "only {} files below src", sources.len());
    sources
}

/// The code of a file: no comments, and no unit tests, which stand at the bottom.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let of_tests = text.find("\n#[cfg(test)]\nmod tests").unwrap_or(text.len());
    text[..of_tests]
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
}

/// Modules of this crate that a line names by their full path.
fn named(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, start) in line.match_indices("crate::") {
        // `$crate::` of a macro and a path of another crate that ends so do not count.
        let before = line[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &line[at + start.len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let list = list.split('}').next().unwrap_or_default();
            let first = |item: &str| item.trim().split("::").next().unwrap_or_default().to_owned();
            names.extend(list.split(',').map(first).filter(|name| !name.is_empty()));
        } else {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            names.push(rest.split(|c| !is_part(c)).next().unwrap_or_default().to_owned());
        }
    }
    names
}

#[test]
fn every_module_uses_only_what_stands_below_it() {
    let lower: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let upper: BTreeMap<_, _> = MAY_NOT_USE.iter().copied().collect();
    let mut faults = Vec::new();
    for source in sources() {
        let module = source.module.as_str();
        if module == "lib" {
            continue;
        }
        for (number, line) in code(&source.text).enumerate() {
            for name in named(line) {
                let allowed = match (lower.get(module), upper.get(module)) {
                    _ if name == module => true,
                    (Some(may), _) => may.contains(&name.as_str()),
                    (None, Some(may_not)) => !may_not.contains(&name.as_str()),
                    (None, None) => panic!("{module} stands in no table: say what it may use"),
                };
                if !allowed {
                    faults.push(format!(
                        "{}:{}: {module} uses {name}",
                        source.path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_tables_name_only_what_there_is() {
    let modules: Vec<String> = sources().into_iter().map(|source| source.module).collect();
    for (module, uses) in MAY_USE {
        for name in std::iter::once(module).chain(*uses) {
            assert!(modules.iter().any(|module| module == name), "there is no module {name}");
        }
    }
}

#[test]
fn the_core_names_nothing_of_the_operating_system() {
    let mut faults = Vec::new();
    for source in sources() {
        if OF_THE_SYSTEM.contains(&source.module.as_str()) {
            continue;
        }
        for (number, line) in code(&source.text).enumerate() {
            for name in SYSTEM.iter().filter(|name| line.contains(**name)) {
                faults.push(format!("{}:{}: names {name}", source.path.display(), number + 1));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_file_opens_with_what_it_is() {
    for source in sources() {
        assert!(
            source.text.starts_with("//! ") || source.path.ends_with("tests.rs"),
            "{} does not say what it is",
            source.path.display()
        );
    }
}

#[test]
fn no_file_outgrows_one_question() {
    for source in sources() {
        let lines = source.text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", source.path.display());
    }
}

/// About what a reader holds in one reading; a file that passes it has a second question to hand on.
const LINES_MAX: usize = 950;
