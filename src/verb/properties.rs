//! What holds for any verb whatever the bytes: the body of a fuzz target, and of property tests.

use super::{VERBS_MAX, Verb, parse};
use crate::config::value::{has_no_control, is_token};
use crate::config::{Destination, ReferRules};
use crate::destination::{destination_allowed, refer_to_value, referred_by_value};
use crate::message::NameAddr;
use serde_json::Value;

/// Any text that is JSON: no panic, and what is accepted can stand in a message. The body of a fuzz target.
pub fn verb_json(text: &str) {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return;
    };
    let verbs = match parse(&value) {
        Ok(verbs) => verbs,
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                let within = match &value {
                    Value::Array(elements) => (0..elements.len()).any(|n| error.field.starts_with(&format!("[{n}]"))),
                    _ => true,
                };
                assert!(within || error.field.is_empty(), "{error}");
                assert!(has_no_control(&error.to_string()), "{error}");
            }
            return;
        }
    };
    assert!((1..=VERBS_MAX).contains(&verbs.len()));
    for verb in verbs {
        let headers = match &verb {
            Verb::SipRefer(refer) => {
                let tel = ReferRules {
                    bare_number: Some("tel:{number}".into()),
                    ..ReferRules::default()
                };
                for mut rules in [ReferRules::default(), tel] {
                    let display = refer.referred_by_display_name.as_deref();
                    let values = [
                        refer_to_value(refer.refer_to.as_deref().unwrap_or("a"), &rules, "[::1]:5060"),
                        referred_by_value(
                            refer.referred_by.as_deref().unwrap_or("a"),
                            display,
                            &rules,
                            "192.0.2.1",
                        ),
                    ];
                    for value in values.into_iter().flatten() {
                        let name_addr = NameAddr::parse(value.as_bytes()).expect("a name-addr");
                        assert!(name_addr.bracketed && has_no_control(&value), "{value}");
                        assert!(!destination_allowed(&value, &rules, "[::1]:5060"), "{value}");
                        rules.destinations = vec![Destination::Any];
                        assert!(destination_allowed(&value, &rules, "[::1]:5060"), "{value}");
                        rules.destinations.clear();
                    }
                }
                &refer.headers
            }
            Verb::Hangup { headers, .. } | Verb::SipDecline { headers, .. } => headers,
            Verb::SipRequest(request) => {
                assert!(is_token(&request.method));
                &request.headers
            }
            Verb::Tag { .. }
            | Verb::Pause { .. }
            | Verb::Answer { .. }
            | Verb::Redirect { .. }
            | Verb::Config { .. }
            | Verb::Media { .. } => continue,
        };
        assert!(
            headers
                .iter()
                .all(|(name, value)| is_token(name) && has_no_control(value))
        );
    }
}
