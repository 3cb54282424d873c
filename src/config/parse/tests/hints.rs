//! What a mistake says beside its place: how to write it instead, and what of the text it repeats.

use super::*;

#[test]
fn a_value_of_the_wrong_type_gets_a_hint_how_it_is_written() {
    for (rest, expected) in [
        (
            "[hooks]\ntimeout = 5\nsecret = true\n",
            &[
                "5:11: `timeout` is an integer, must be a string such as \"5s\"",
                "6:10: `secret` is a boolean, must be a string: put it in quotes",
            ][..],
        ),
        (
            "[refer]\ndestinations = [+49, 1.5]\nbye_delay = [1]\n",
            &[
                "5:17: each of `destinations` is an integer, must be a string: put it in quotes",
                "5:22: each of `destinations` is a float, must be a string: put it in quotes",
                "6:13: `bye_delay` is an array, must be a string such as \"5s\"",
            ],
        ),
        (
            "[refer]\nbare_number = {}\ndestinations = 49\n",
            &[
                "5:15: `bare_number` is a table, must be a string",
                "6:16: `destinations` is an integer, must be an array of strings",
            ],
        ),
    ] {
        check_after_listener(rest, expected);
    }
}

#[test]
fn a_duplicate_key_is_named() {
    check_after_listener("[limits]\n[hooks]\n[limits]\n", &["6:2: duplicate key `limits`"]);
    check_after_listener(
        "[hooks]\n\"a\\u001bb\" = 1\n\"a\\u001bb\" = 2\n",
        &["6:1: duplicate key `\"a\\u001bb\"`"],
    );
    check_after_listener("x = { y = 1, y = 2 }\n", &["4:14: duplicate key `y`"]);
}

#[test]
fn what_is_repeated_of_the_text_is_one_line_and_cut() {
    let long = "x".repeat(5_000);
    let cut = format!("{}…", "x".repeat(64));
    check_after_listener(
        &format!("[hooks]\nbase_url = \"{long}\"\n{long} = 1\n[timers]\nt1 = \"\\u001b[31m1s\\n\"\n"),
        &[
            &format!("5:12: `{cut}` is no http:// or https:// URL"),
            &format!("6:1: unknown key `{cut}` in `[hooks]`"),
            "8:6: `\\u{1b}[31m1s\\n` is no duration: write a whole number and a unit, such as \"500ms\", \"1s\" or \"2m\"",
        ],
    );
}

#[test]
fn names_have_no_control_characters() {
    check_after_listener(
        "[[listen]]\nname = \"a\\tb\"\nbind = [\"udp:127.0.0.1:5061\"]\n\
         [[trunk]]\nname = \"a\\u007f\"\nlisten = \"l\"\nsources = [\"10.0.0.0/8\"]\n\
         [[application]]\nname = \"\\n\"\ncall_hook = \"http://a\"\n",
        &[
            "5:8: `name` holds control characters",
            "8:8: `name` holds control characters",
            "12:8: `name` holds control characters",
        ],
    );
}

#[test]
fn no_string_of_any_key_breaks_a_line_of_what_is_said() {
    // Wherever a string can stand, one that would colour a terminal.
    let hostile = "\\u001b[31m\\n".to_owned() + &"y".repeat(1_000);
    let text = super::EXAMPLE
        .lines()
        .map(|line| match line.split_once('"') {
            Some((before, rest)) => {
                let after = rest.split_once('"').map_or("", |(_, after)| after);
                format!("{before}\"{hostile}\"{after}\n")
            }
            None => format!("{line}\n"),
        })
        .collect::<String>();
    let errors = errors(&text);
    assert!(errors.len() > 15, "{errors:#?}");
    for error in errors {
        assert!(
            !error.contains(char::is_control) && error.chars().count() < 400,
            "{error}"
        );
    }
}
