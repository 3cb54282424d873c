//! CONFIGURATION.md names every key that the reader knows and no other, each with its default.

use super::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

const REFERENCE: &str = include_str!("../../../../CONFIGURATION.md");

/// Every table there is, with what it cannot be read without.
const TABLES: &[(&str, &str)] = &[
    ("", ""),
    (
        "[[listen]]",
        "name = \"l\"\nbind = [\"udp:127.0.0.1:5060\", \"tcp:127.0.0.1:5060\"]",
    ),
    ("[control]", ""),
    ("[hooks]", ""),
    ("[access]", ""),
    ("[limits]", ""),
    ("[timers]", ""),
    ("[transfer]", ""),
    ("[refer]", ""),
    ("[[application]]", "name = \"a\"\ncall_hook = \"http://a\""),
    (
        "[[trunk]]",
        "name = \"t\"\nlisten = \"l\"\naddresses = [\"127.0.0.1:5070\"]",
    ),
    ("[trunk.health]", ""),
    ("[trunk.auth]", "username = \"u\"\npassword = \"p\""),
    ("[trunk.hooks]", ""),
    ("[trunk.refer]", ""),
    ("[[route]]", "from = \"t\"\nto = \"t\""),
    ("[route.match.header]", "name = \"X\"\nvalue = \"*\""),
];

/// The rows of each table: key and default.
fn rows() -> BTreeMap<String, Vec<(String, String)>> {
    let mut rows: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut tables: Vec<String> = Vec::new();
    for line in REFERENCE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let name = |part: &str| match part.split(" of ").next().unwrap_or_default() {
                "The top" => String::new(),
                name => name.to_owned(),
            };
            tables = heading.split(", ").map(name).collect();
        } else if let Some(row) = line.strip_prefix("| `") {
            let (key, rest) = row.split_once("` | ").expect("a key stands alone in its cell");
            let default = rest.split(" | ").next().unwrap_or_default();
            for table in &tables {
                let row = (key.to_owned(), default.to_owned());
                rows.entry(table.clone()).or_default().push(row);
            }
        }
    }
    rows.remove("Environment");
    rows
}

fn text(defaults: &BTreeMap<String, Vec<(String, String)>>) -> String {
    let mut text = String::new();
    for (table, required) in TABLES {
        text += &format!("{table}\n{required}\n");
        let name = if table.is_empty() {
            String::new()
        } else {
            format!("`{table}`")
        };
        for (key, default) in defaults.get(&name).into_iter().flatten() {
            if let Some(default) = default.strip_prefix('`') {
                text += &format!("{key} = {}\n", default.strip_suffix('`').expect("a value alone"));
            }
        }
    }
    text
}

#[test]
fn the_reference_has_the_keys_that_are_read_and_no_others() {
    let text = text(&BTreeMap::new());
    let document = Document::new(&text, &environment);
    file(
        &document,
        Table::root(&document, DeTable::parse(&text).unwrap().get_ref()),
    );
    // A table that is missing above would be among them.
    let known = document.keys();
    let named = rows().into_iter().flat_map(|(table, rows)| {
        let keys = rows.into_iter().map(|(key, _)| key);
        keys.map(move |key| (table.clone(), key)).collect::<Vec<_>>()
    });
    let named: BTreeSet<_> = named.collect();
    let without = |a: &BTreeSet<(String, String)>, b| a.difference(b).cloned().collect::<Vec<_>>();
    assert_eq!(without(&known, &named), [], "read, and not named");
    assert_eq!(without(&named, &known), [], "named, and not read");
    assert!(known.len() > 120, "{} keys", known.len());
}

#[test]
fn the_reference_has_the_defaults_that_hold() {
    let rows = rows();
    let literals = rows.values().flatten().filter(|(_, default)| default.starts_with('`'));
    assert!(literals.count() > 70);
    let with_defaults = text(&rows);
    let parsed = parse(&with_defaults, &environment).unwrap_or_else(|errors| panic!("{errors:#?}\n{with_defaults}"));
    assert_eq!(parsed, parse(&text(&BTreeMap::new()), &environment).unwrap());
    // Where a key has no value of its own, the words for that are not forgotten either.
    for (key, default) in rows.values().flatten() {
        assert!(!default.is_empty(), "{key} has no default");
    }
}

#[test]
fn the_reference_has_the_variables_that_are_read() {
    let asked = RefCell::new(BTreeSet::from(["REFEREE_LOG".to_owned()]));
    let note = |name: &str| {
        asked.borrow_mut().insert(name.to_owned());
        None
    };
    Config::default().apply_environment(&note).unwrap();
    let environment = REFERENCE.split("## Environment").nth(1).unwrap();
    let rows = environment.lines().filter_map(|line| line.strip_prefix("| `REFEREE_"));
    let named: BTreeSet<_> = rows
        .map(|row| format!("REFEREE_{}", row.split('`').next().unwrap()))
        .collect();
    assert_eq!(asked.into_inner(), named);
}
