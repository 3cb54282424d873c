//! A TOML document read with places: typed getters that write down every mistake and what they were asked for, so that
//! what was never asked for is an unknown key.

use super::parse::ConfigError;
use super::value;
use crate::spelling::{self, shown};
use std::cell::RefCell;
#[cfg(test)]
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The text and the mistakes found in it so far.
pub(super) struct Document<'a> {
    text: &'a str,
    environment: &'a dyn Fn(&str) -> Option<String>,
    mistakes: RefCell<Vec<(usize, String)>>,
    /// Table and key of each value, to which the reference is held.
    #[cfg(test)]
    keys: RefCell<BTreeSet<(String, String)>>,
}

/// A value with the byte offset of its first character.
#[derive(Clone, Debug)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

/// One table of the document.
pub(super) struct Table<'a> {
    document: &'a Document<'a>,
    entries: &'a DeTable<'a>,
    /// As people write it: `[[trunk]]`; empty for the document itself.
    name: String,
    /// Where its mistakes are shown that have no place of their own.
    at: usize,
    asked_for: RefCell<Vec<&'static str>>,
}

impl<'a> Document<'a> {
    pub(super) fn new(text: &'a str, environment: &'a dyn Fn(&str) -> Option<String>) -> Document<'a> {
        Document {
            text,
            environment,
            mistakes: RefCell::default(),
            #[cfg(test)]
            keys: RefCell::default(),
        }
    }

    /// All keys that were asked for, with the tables they are in, but for those that are tables themselves.
    #[cfg(test)]
    pub(super) fn keys(self) -> BTreeSet<(String, String)> {
        self.keys.into_inner()
    }

    /// Records a mistake at a byte offset.
    pub(super) fn mistake(&self, at: usize, message: impl Into<String>) {
        self.mistakes.borrow_mut().push((at, message.into()));
    }

    pub(super) fn environment(&self, name: &str) -> Option<String> {
        (self.environment)(name)
    }

    /// All mistakes in the order of the text.
    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort_by_key(|(at, _)| *at);
        mistakes
            .into_iter()
            .map(|(at, message)| {
                let (line, column) = place(self.text.as_bytes(), at);
                ConfigError { line, column, message }
            })
            .collect()
    }
}

/// Line and column of a byte offset, both from 1; columns count characters.
pub(super) fn place(text: &[u8], at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    // Bytes 10xxxxxx continue a character.
    let column = before[line_start..].iter().filter(|byte| **byte & 0xC0 != 0x80).count() + 1;
    (line, column)
}

impl<'a> Table<'a> {
    pub(super) fn root(document: &'a Document<'a>, entries: &'a DeTable<'a>) -> Table<'a> {
        Table::new(document, entries, String::new(), 0)
    }

    fn new(document: &'a Document<'a>, entries: &'a DeTable<'a>, name: String, at: usize) -> Table<'a> {
        Table {
            document,
            entries,
            name,
            at,
            asked_for: RefCell::default(),
        }
    }

    /// Where this table starts.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// How many elements the array under `key` has; `None`: it is not there, or no array.
    pub(super) fn array_len(&self, key: &str) -> Option<usize> {
        Some(self.entries.get(key)?.get_ref().as_array()?.len())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Where the value of `key` is; without it, where the table starts.
    pub(super) fn at_value(&self, key: &str) -> usize {
        self.entries.get(key).map_or(self.at, |value| value.span().start)
    }

    pub(super) fn mistake(&self, at: usize, message: impl Into<String>) {
        self.document.mistake(at, message);
    }

    /// Records a missing key unless it is there, right or wrong.
    pub(super) fn require(&self, key: &'static str) {
        if !self.has(key) {
            let name = &self.name;
            self.mistake(self.at, format!("{name} lacks `{key}`"));
        }
    }

    /// Call once everything was asked for: what is left is unknown.
    pub(super) fn finish(self) {
        let asked_for = self.asked_for.take();
        for key in self.entries.keys() {
            let name: &str = key.get_ref();
            if !asked_for.contains(&name) {
                let suggestion = spelling::suggestion(name, asked_for.iter().copied());
                let of = if self.name.is_empty() {
                    String::new()
                } else {
                    format!(" in {}", self.name)
                };
                self.mistake(
                    key.span().start,
                    format!("unknown key `{}`{of}{suggestion}", shown(name)),
                );
            }
        }
    }

    pub(super) fn text(&self, key: &'static str) -> Option<Placed<String>> {
        self.value(key, |text| Ok(text.to_owned()))
    }

    /// A string that must not be empty.
    pub(super) fn some_text(&self, key: &'static str) -> Option<Placed<String>> {
        self.value(key, |text| match text {
            "" => Err(format!("`{key}` is empty")),
            text => Ok(text.to_owned()),
        })
    }

    /// A name: it will stand in logs, metrics and JSON.
    pub(super) fn name(&self, key: &'static str) -> Option<Placed<String>> {
        self.value(key, |text| value::name(key, text))
    }

    /// A string and what it means.
    pub(super) fn value<T>(&self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Placed<T>> {
        let value = self.ask(key)?;
        self.parse_string(value, &format!("`{key}`"), STRING, &parse)
    }

    /// Strings and what they mean; the wrong ones are recorded and left out. `None`: no such key, or no array.
    pub(super) fn values<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<Placed<T>>> {
        let value = self.ask(key)?;
        let DeValue::Array(elements) = value.get_ref() else {
            self.wrong_type(value, &format!("`{key}`"), "an array of strings");
            return None;
        };
        let each = format!("each of `{key}`");
        Some(
            elements
                .iter()
                .filter_map(|element| self.parse_string(element, &each, STRING, &parse))
                .collect(),
        )
    }

    /// [`Table::values`], and at least one.
    pub(super) fn some_values<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<Placed<T>>> {
        let values = self.values(key, parse)?;
        if self
            .entries
            .get(key)
            .and_then(|value| value.get_ref().as_array())
            .is_some_and(|array| array.is_empty())
        {
            self.mistake(self.at_value(key), format!("`{key}` is empty"));
        }
        Some(values)
    }

    /// Overwrites `target` with an integer within `range` if the key is there.
    pub(super) fn number<T: TryFrom<u64>>(&self, key: &'static str, range: RangeInclusive<u64>, target: &mut T) {
        let Some(value) = self.ask(key) else { return };
        if let Some(number) = self.parse_number(value, &format!("`{key}`"), &range) {
            *target = number;
        }
    }

    /// Integers within `range`; `None`: no such key, or no array.
    pub(super) fn numbers<T: TryFrom<u64>>(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<Vec<T>> {
        let value = self.ask(key)?;
        let DeValue::Array(elements) = value.get_ref() else {
            self.wrong_type(value, &format!("`{key}`"), "an array of integers");
            return None;
        };
        let each = format!("each of `{key}`");
        Some(
            elements
                .iter()
                .filter_map(|element| self.parse_number(element, &each, &range))
                .collect(),
        )
    }

    pub(super) fn flag(&self, key: &'static str, target: &mut bool) {
        let Some(value) = self.ask(key) else { return };
        match value.get_ref() {
            DeValue::Boolean(flag) => *target = *flag,
            _ => self.wrong_type(value, &format!("`{key}`"), "true or false"),
        }
    }

    pub(super) fn duration(&self, key: &'static str, range: RangeInclusive<Duration>, target: &mut Duration) {
        let parse = |text: &str| {
            let duration = value::duration(text)?;
            if range.contains(&duration) {
                return Ok(duration);
            }
            let (least, most) = (value::duration_text(*range.start()), value::duration_text(*range.end()));
            Err(format!("`{key}` is {}, must be {least} to {most}", shown(text)))
        };
        let Some(value) = self.ask(key) else { return };
        if let Some(duration) = self.parse_string(value, &format!("`{key}`"), DURATION, &parse) {
            *target = duration.value;
        }
    }

    /// One word of a few.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)], target: &mut T) {
        let parse = |text: &str| {
            words
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, meaning)| *meaning)
                .ok_or_else(|| {
                    let known: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                    let suggestion = spelling::suggestion(text, words.iter().map(|(word, _)| *word));
                    let known = known.join(" or ");
                    format!("`{key}` is \"{}\", must be {known}{suggestion}", shown(text))
                })
        };
        if let Some(choice) = self.value(key, parse) {
            *target = choice.value;
        }
    }

    /// The table under `key`, shown as `name`.
    pub(super) fn table(&self, key: &'static str, name: &str) -> Option<Table<'a>> {
        let value = self.ask(key)?;
        match value.get_ref() {
            DeValue::Table(entries) => Some(Table::new(
                self.document,
                entries,
                format!("`{name}`"),
                value.span().start,
            )),
            DeValue::Array(_) => {
                self.mistake(
                    value.span().start,
                    format!("there is one `{name}` only, with single brackets"),
                );
                None
            }
            _ => {
                self.wrong_type(value, &format!("`{key}`"), "a table");
                None
            }
        }
    }

    /// The tables `[[key]]`.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Table<'a>> {
        let Some(value) = self.ask(key) else {
            return Vec::new();
        };
        let name = format!("`[[{key}]]`");
        let DeValue::Array(elements) = value.get_ref() else {
            if value.get_ref().is_table() {
                self.mistake(
                    value.span().start,
                    format!("there may be several, so write {name} with double brackets"),
                );
            } else {
                self.wrong_type(value, &format!("`{key}`"), &format!("tables, each headed {name}"));
            }
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(elements.len());
        for element in elements.iter() {
            match element.get_ref() {
                DeValue::Table(entries) => {
                    tables.push(Table::new(self.document, entries, name.clone(), element.span().start));
                }
                _ => self.wrong_type(element, &format!("each of `{key}`"), "a table"),
            }
        }
        tables
    }

    fn ask(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked_for.borrow_mut().push(key);
        let value = self.entries.get(key);
        #[cfg(test)]
        if !value.is_some_and(|value| is_made_of_tables(value.get_ref())) {
            let of = (self.name.clone(), key.to_owned());
            self.document.keys.borrow_mut().insert(of);
        }
        value
    }

    fn parse_string<T>(
        &self,
        value: &Spanned<DeValue<'_>>,
        what: &str,
        wanted: &str,
        parse: &impl Fn(&str) -> Result<T, String>,
    ) -> Option<Placed<T>> {
        let DeValue::String(text) = value.get_ref() else {
            self.wrong_type(value, what, wanted);
            return None;
        };
        let at = value.span().start;
        match value::substitute(text, self.document.environment).and_then(|text| parse(&text)) {
            Ok(value) => Some(Placed { value, at }),
            Err(message) => {
                self.mistake(at, message);
                None
            }
        }
    }

    fn parse_number<T: TryFrom<u64>>(
        &self,
        value: &Spanned<DeValue<'_>>,
        what: &str,
        range: &RangeInclusive<u64>,
    ) -> Option<T> {
        let DeValue::Integer(integer) = value.get_ref() else {
            self.wrong_type(value, what, "an integer");
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|number| range.contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            self.mistake(
                value.span().start,
                format!("{what} is {}, must be {least} to {most}", shown(&integer.to_string())),
            );
        }
        number
    }

    fn wrong_type(&self, value: &Spanned<DeValue<'_>>, what: &str, wanted: &str) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let hint = match value.get_ref() {
            DeValue::Array(_) | DeValue::Table(_) => "",
            // Of all that can go wrong with a telephone number this is the first.
            _ if wanted == STRING => ": put it in quotes",
            _ => "",
        };
        self.mistake(value.span().start, format!("{what} is {found}, must be {wanted}{hint}"));
    }
}

#[cfg(test)]
fn is_made_of_tables(value: &DeValue<'_>) -> bool {
    let is_first_a_table =
        |array: &toml::de::DeArray<'_>| array.first().is_some_and(|value| value.get_ref().is_table());
    value.is_table() || value.as_array().is_some_and(is_first_a_table)
}

const STRING: &str = "a string";
const DURATION: &str = "a string such as \"5s\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let text = "a\nüb\r\n\nc";
        for (at, expected) in [
            (0, (1, 1)),
            (1, (1, 2)),
            (2, (2, 1)),
            (4, (2, 2)),
            (5, (2, 3)),
            (7, (3, 1)),
            (8, (4, 1)),
            (9, (4, 2)),
            (1_000, (4, 2)),
        ] {
            assert_eq!(place(text.as_bytes(), at), expected, "byte {at}");
        }
    }
}
