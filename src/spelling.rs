//! What people typed, as messages repeat it: on one line and cut, and with "did you mean …?" where a known word is near.

/// The candidate that takes the fewest edits to become `word`, if it is near enough to be a slip of the keyboard:
/// one edit, two from six characters on. The first of several equally near ones.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(WORD_CHARS_MAX + 1).collect();
    if word.len() > WORD_CHARS_MAX {
        return None;
    }
    let edits_max = (word.len() / 3).clamp(1, 2);
    candidates
        .into_iter()
        .map(|candidate| (edits(&word, candidate), candidate))
        .filter(|(edits, _)| *edits <= edits_max)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean …?`, or nothing.
pub fn suggestion<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    closest(word, candidates).map_or_else(String::new, |candidate| {
        format!("; did you mean `{}`?", shown(candidate))
    })
}

/// Text from outside as a message repeats it: not longer than anyone reads, and on one line. What cannot be seen is escaped.
pub fn shown(text: &str) -> String {
    let mut shown = String::new();
    let mut left = SHOWN_CHARS_MAX;
    for c in text.chars() {
        // Two are those of `\"` and of `\n`, of which only the latter breaks a line; more are those of `\u{…}`.
        let escaped = c.escape_debug();
        let is_seen = !c.is_control() && escaped.len() <= 2;
        let needs = if is_seen { 1 } else { escaped.len() };
        if needs > left {
            shown.push('…');
            break;
        }
        left -= needs;
        if is_seen {
            shown.push(c);
        } else {
            shown.extend(escaped);
        }
    }
    shown
}

/// How many characters must be put in, left out or changed, case left aside; two swapped neighbours count as one.
fn edits(word: &[char], candidate: &str) -> usize {
    let candidate: Vec<char> = candidate.chars().collect();
    let mut before_last = vec![0; candidate.len() + 1];
    let mut last: Vec<usize> = (0..=candidate.len()).collect();
    let same = |a: char, b: char| a.eq_ignore_ascii_case(&b);
    for (i, &a) in word.iter().enumerate() {
        let mut row = Vec::with_capacity(candidate.len() + 1);
        row.push(i + 1);
        for (j, &b) in candidate.iter().enumerate() {
            let changed = last[j] + usize::from(!same(a, b));
            let mut least = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && same(a, candidate[j - 1]) && same(word[i - 1], b) {
                least = least.min(before_last[j - 1] + 1);
            }
            row.push(least);
        }
        before_last = last;
        last = row;
    }
    last[candidate.len()]
}

/// Longer words are no slip of anything known, and the comparison takes quadratic time.
const WORD_CHARS_MAX: usize = 64;
/// As long as most host names and targets.
const SHOWN_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_finds_none() {
        let known = ["name", "bind", "advertise"];
        for (word, expected) in [
            ("bnid", Some("bind")),
            ("binds", Some("bind")),
            ("Name", Some("name")),
            ("advertize", Some("advertise")),
            ("adverts", Some("advertise")),
            ("adventurer", None),
            ("port", None),
            ("", None),
        ] {
            assert_eq!(closest(word, known), expected, "{word}");
        }
        assert_eq!(closest(&"n".repeat(10_000), known), None);
    }

    #[test]
    fn what_is_repeated_is_one_line_that_ends() {
        for (text, expected) in [
            ("", ""),
            ("+49 30 \"grün\" \\ …", "+49 30 \"grün\" \\ …"),
            ("a\nb\0\u{7f}", "a\\nb\\0\\u{7f}"),
            // Colours and the direction of writing are commands to a terminal.
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("\u{202e}gnirts\u{200b}", "\\u{202e}gnirts\\u{200b}"),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert_eq!(shown(&"ü".repeat(64)), "ü".repeat(64));
        assert_eq!(shown(&"ü".repeat(65)), "ü".repeat(64) + "…");
        assert_eq!(suggestion("bind", ["bind\u{7}"]), "; did you mean `bind\\u{7}`?");
    }
}
