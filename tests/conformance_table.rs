//! `CONFORMANCE.md` as a table: its form, that what it names exists, and that no section is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A rule and what is said of it.
struct Row {
    rfc: u32,
    /// Each section by its numbers, in the order in which they stand there.
    sections: Vec<Vec<u32>>,
    rule: String,
    state: String,
    tests: Vec<String>,
    line: usize,
}

/// The rows below one heading after another.
fn tables() -> Vec<Vec<Row>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("CONFORMANCE.md")).unwrap();
    let mut tables = Vec::new();
    for (number, line) in text.lines().enumerate() {
        match line {
            "| RFC | section | rule | state | test |" => tables.push(Vec::new()),
            "|---|---|---|---|---|" => {}
            _ if line.contains('|') => {
                let table: &mut Vec<Row> = tables.last_mut().expect("a row stands below a heading");
                table.push(read(number + 1, line));
            }
            _ => {}
        }
    }
    assert!(tables.iter().map(Vec::len).sum::<usize>() > 350);
    tables
}

fn rows() -> Vec<Row> {
    tables().into_iter().flatten().collect()
}

fn read(line: usize, text: &str) -> Row {
    let cells: Vec<&str> = text.split('|').map(str::trim).collect();
    let ["", rfc, section, rule, state, tests, ""] = cells[..] else {
        panic!("{line}: five cells are expected: {text}");
    };
    let number = |text: &str| {
        text.parse::<u32>()
            .unwrap_or_else(|_| panic!("{line}: {text} is no number"))
    };
    let sections = section.split([',', '-']);
    let sections = sections.map(|section| section.trim().split('.').map(number).collect());
    let tests = tests
        .split(',')
        .map(str::trim)
        .filter(|test| !test.is_empty())
        .map(|test| {
            let name = test.strip_prefix('`').and_then(|test| test.strip_suffix('`'));
            name.unwrap_or_else(|| panic!("{line}: {test} is no name")).to_owned()
        });
    assert!(!rule.is_empty(), "{line}");
    Row {
        rfc: number(rfc),
        sections: sections.collect(),
        rule: rule.to_owned(),
        state: state.to_owned(),
        tests: tests.collect(),
        line,
    }
}

#[test]
fn a_rule_holds_or_does_not_for_a_reason() {
    for Row { state, tests, line, .. } in rows() {
        let (state, reason) = state.split_once(": ").unwrap_or((&state, ""));
        let is_sound = match state {
            "holds" => reason.is_empty() && !tests.is_empty(),
            "deviates" => !reason.is_empty() && !tests.is_empty(),
            "n/a" => !reason.is_empty(),
            _ => false,
        };
        assert!(
            is_sound,
            "{line}: {state}, for the reason {reason:?}, shown by {} tests",
            tests.len()
        );
    }
}

#[test]
fn rules_are_sorted_and_each_is_said_once() {
    for table in tables() {
        for pair in table.windows(2) {
            let order = |row: &Row| (row.rfc, row.sections.clone());
            assert!(order(&pair[0]) <= order(&pair[1]), "{}: stands too late", pair[1].line);
        }
    }
    let mut said = BTreeMap::new();
    for row in rows() {
        let before = said.insert(row.rule.to_lowercase(), row.line);
        assert_eq!(before, None, "{}: the rule is said already", row.line);
    }
}

/// What a proxy and its transactions, and a user agent for what referee is one in, cannot do without.
const OF_RFC_3261: &[&str] = &[
    "8.1", "8.2", "9.1", "9.2", "12.1", "12.2", "13.2", "13.3", "14.1", "14.2", "15.1", "16.2", "16.3", "16.4", "16.5",
    "16.6", "16.7", "16.8", "16.9", "16.10", "16.11", "16.12", "17.1.1", "17.1.2", "17.1.3", "17.1.4", "17.2.1",
    "17.2.2", "17.2.3", "17.2.4", "18.1.1", "18.1.2", "18.2.1", "18.2.2", "18.3", "18.4",
];

const RFCS: &[u32] = &[
    3261, 3262, 3263, 3264, 3311, 3325, 3326, 3515, 3581, 3891, 3892, 4028, 4320, 4475, 5057, 5118, 5393, 5589, 5626,
    5658, 6026, 6665, 7616, 7647, 8760,
];

#[test]
fn no_section_with_rules_is_left_out() {
    let rows = rows();
    for section in OF_RFC_3261 {
        let numbers: Vec<u32> = section.split('.').map(|part| part.parse().unwrap()).collect();
        let is_of_it = |row: &Row| row.rfc == 3261 && row.sections.iter().any(|found| found.starts_with(&numbers));
        assert!(rows.iter().any(is_of_it), "no rule of RFC 3261 §{section}");
    }
    for rfc in RFCS {
        assert!(rows.iter().any(|row| row.rfc == *rfc), "no rule of RFC {rfc}");
    }
}

/// The names of all functions below a folder that are tests.
fn tests_below(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names.extend(tests_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                match line.strip_prefix("fn ") {
                    Some(function) if is_test => {
                        names.insert(function.split('(').next().unwrap_or_default().to_owned());
                        is_test = false;
                    }
                    // Further attributes may stand between.
                    _ => is_test = line == "#[test]" || (is_test && line.starts_with("#[")),
                }
            }
        }
    }
    names
}

#[test]
fn every_test_that_is_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = tests_below(&root.join("tests"));
    tests.extend(tests_below(&root.join("src")));
    for row in rows() {
        for test in row.tests {
            assert!(tests.contains(&test), "{}: no test {test}", row.line);
        }
    }
}

#[test]
fn every_torture_message_has_its_row() {
    let rows = rows();
    for rfc in ["4475", "5118"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/torture/rfc{rfc}"));
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy();
            // `test` is no message of the RFC; `-terminated` is one message in another form.
            let name = name.trim_end_matches("-terminated");
            let has_row = rows
                .iter()
                .any(|row| row.rfc.to_string() == rfc && row.rule.starts_with(&format!("`{name}`: ")));
            assert!(has_row || name == "test", "no row for {name} of RFC {rfc}");
        }
    }
}
