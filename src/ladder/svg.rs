//! A ladder as SVG: one file, without scripts, styles or anything from elsewhere.

use super::{Ladder, NAME_MAX, Rung, left_out, plain, seconds, shortened};
use std::fmt::Write;

/// The ladder as an SVG document of its own.
pub fn svg(ladder: &Ladder) -> String {
    let columns = ladder.parties.len();
    let width = x(columns.saturating_sub(1)) + MARGIN_RIGHT;
    let mut y = TOP;
    let mut body = String::new();
    for (rung, silence) in ladder.with_silences() {
        if silence {
            y += SILENCE;
        }
        match rung {
            Rung::Arrow { at, from, to, label } => {
                let (start, end) = (x(*from), x(*to));
                let (left, right) = (start.min(end), start.max(end));
                // The label stands above its line, as wide as that.
                let label = shortened(&plain(label), (right - left) / CHARACTER - 2);
                let head = if end > start { end - HEAD } else { end + HEAD };
                let _ = writeln!(
                    body,
                    "<text x=\"{TIME_X}\" y=\"{y}\" text-anchor=\"end\" fill=\"#777\">{time}</text>\
                     <text x=\"{middle}\" y=\"{above}\" text-anchor=\"middle\">{label}</text>\
                     <path stroke=\"#246\" fill=\"none\" d=\"M{start} {y}H{end}M{head} {up}L{end} {y}L{head} {down}\"/>",
                    time = seconds(*at),
                    middle = (left + right) / 2,
                    above = y - 4,
                    label = escaped(&label),
                    up = y - HEAD / 2,
                    down = y + HEAD / 2,
                );
            }
            Rung::LeftOut(count) => {
                let text = left_out(*count);
                let _ = writeln!(
                    body,
                    "<text x=\"{}\" y=\"{y}\" fill=\"#777\">{}</text>",
                    x(0) + 8,
                    text.trim()
                );
            }
        }
        y += STEP;
    }
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{y}\" viewBox=\"0 0 {width} {y}\" \
         font-family=\"monospace\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"{width}\" height=\"{y}\" fill=\"#fff\"/>\n<g stroke=\"#bbb\">\n"
    );
    // Writing to a String does not fail.
    for column in 0..columns {
        let _ = writeln!(
            svg,
            "<path d=\"M{at} {start}V{y}\"/>",
            at = x(column),
            start = TOP - STEP
        );
    }
    svg.push_str("</g>\n");
    for (column, name) in ladder.parties.iter().enumerate() {
        let name = escaped(&shortened(&plain(name), NAME_MAX));
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"20\" text-anchor=\"middle\" font-weight=\"bold\">{name}</text>",
            x(column)
        );
    }
    svg.push_str(&body);
    svg.push_str("</svg>\n");
    svg
}

/// Text between two tags, or in a value between quotes (XML 1.0 §2.4). The text is [`plain`] already, which leaves no
/// character that XML forbids.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn x(column: usize) -> usize {
    TIME_X + 40 + column * DISTANCE
}

const TIME_X: usize = 60;
const DISTANCE: usize = 230;
const MARGIN_RIGHT: usize = 100;
const TOP: usize = 60;
const STEP: usize = 24;
const SILENCE: usize = 16;
const HEAD: usize = 8;
/// A monospaced character of 12 pixels is some 7.2 wide.
const CHARACTER: usize = 8;

#[cfg(test)]
mod tests {
    use super::super::tests::{arrow, ladder};
    use super::*;

    #[test]
    fn what_peers_send_stays_text() {
        let mut drawn = ladder(vec![
            arrow(0, 0, 1, "</text><script>alert('1')</script>&amp;\"\u{0}\u{ffff}"),
            arrow(900, 1, 3, "POST /action"),
            Rung::LeftOut(3),
        ]);
        drawn.parties[3] = "<&>\"'".to_owned();
        let svg = svg(&drawn);
        assert!(svg.contains("&lt;/text&gt;&lt;script&gt;"), "{svg}");
        assert!(svg.contains(">&lt;&amp;&gt;&quot;&#39;</text>"), "{svg}");
        assert!(!svg.contains("<script") && !svg.contains('\u{0}') && svg.contains("3 messages left out"));
        // Every tag that is opened is one of these, and closed.
        for tag in svg.split('<').skip(1) {
            let name = tag
                .trim_start_matches('/')
                .split([' ', '>', '/'])
                .next()
                .unwrap_or_default();
            assert!(["svg", "rect", "g", "path", "text"].contains(&name), "{name}");
        }
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
    }
}
