//! The table of counts: lines of words, comments on top.

use std::fmt;

/// One count, of one stage on one message in one build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The features of referee, or `default`.
    pub build: String,
    pub stage: String,
    pub message: String,
    /// `None` where only a limit is known yet.
    pub count: Option<u64>,
    /// The cell as it stands; empty without a limit.
    pub at_most: String,
}

impl Row {
    /// Whether both count the same thing.
    pub fn is_of(&self, other: &Row) -> bool {
        (&self.build, &self.stage, &self.message) == (&other.build, &other.stage, &other.message)
    }

    /// The row with another limit.
    pub fn with_limit(&self, at_most: &str) -> Row {
        Row {
            at_most: at_most.to_owned(),
            ..self.clone()
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let line = format!(
            "{:<12} {:<6} {:<15} {count:>12}  {:>8}",
            self.build, self.stage, self.message, self.at_most
        );
        f.write_str(line.trim_end())
    }
}

/// The whole file.
#[derive(Debug)]
pub struct Table {
    comments: Vec<String>,
    rows: Vec<Row>,
}

const COUNTED_WITH: &str = "# Counted with: ";

impl Table {
    /// Reads the file; the error says which line is none.
    pub fn read(text: &str) -> Result<Table, String> {
        let mut table = Table {
            comments: Vec::new(),
            rows: Vec::new(),
        };
        for line in text.lines() {
            if line.starts_with('#') || line.trim().is_empty() {
                table.comments.push(line.to_owned());
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let (build, stage, message, count, at_most) = match words[..] {
                [build, stage, message, count] => (build, stage, message, count, ""),
                [build, stage, message, count, at_most] => (build, stage, message, count, at_most),
                _ => return Err(format!("not a row: {line}")),
            };
            let count = match count {
                "-" => None,
                number => Some(number.parse().map_err(|_| format!("not a count: {line}"))?),
            };
            table.rows.push(Row {
                build: build.to_owned(),
                stage: stage.to_owned(),
                message: message.to_owned(),
                count,
                at_most: at_most.to_owned(),
            });
        }
        Ok(table)
    }

    /// The row that counts the same thing.
    pub fn row(&self, of: &Row) -> Option<&Row> {
        self.rows.iter().find(|row| row.is_of(of))
    }

    /// The rows of one build.
    pub fn rows_of<'t>(&'t self, build: &'t str) -> impl Iterator<Item = &'t Row> {
        self.rows.iter().filter(move |row| row.build == build)
    }

    /// What the comments say the counts were made with.
    pub fn counted_with(&self) -> Option<&str> {
        self.comments.iter().find_map(|line| line.strip_prefix(COUNTED_WITH))
    }

    /// Puts the rows of a build in the place of those there were; limits stay.
    pub fn replace(&mut self, build: &str, counted: &[Row]) {
        let counted: Vec<Row> = counted
            .iter()
            .map(|row| row.with_limit(self.row(row).map_or("", |known| &known.at_most)))
            .collect();
        let place = self.rows.iter().position(|row| row.build == build);
        self.rows.retain(|row| row.build != build);
        let place = place.unwrap_or(self.rows.len());
        self.rows.splice(place..place, counted);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.comments.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# Counted with: a compiler
default      index  invite                  6419      3100
default      index  200                     5459
portable     view   invite                     -     10600
";

    #[test]
    fn a_table_is_written_as_it_was_read() {
        let table = Table::read(TEXT).unwrap();
        assert_eq!(table.to_string(), TEXT);
        assert_eq!(table.counted_with(), Some("a compiler"));
        assert_eq!(table.rows_of("default").count(), 2);
        assert!(Table::read("default index\n").is_err());
        assert!(Table::read("default index invite many\n").is_err());
    }

    #[test]
    fn new_counts_keep_the_limits() {
        let mut table = Table::read(TEXT).unwrap();
        let mut row = table.rows[0].with_limit("");
        row.count = Some(3_000);
        table.replace("default", &[row]);
        let rows: Vec<_> = table.rows.iter().map(|row| (row.count, row.at_most.as_str())).collect();
        assert_eq!(rows, [(Some(3_000), "3100"), (None, "10600")]);
    }
}
