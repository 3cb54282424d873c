//! Timeouts of transfers, which have to fit each other.

use super::*;

const TRUNK: &str = "[[trunk]]\nname = \"t\"\nlisten = \"l\"\nsources = [\"10.0.0.0/8\"]\n";

#[test]
fn no_transfer_lasts_longer_than_its_subscription_is_known() {
    let shorter = "[transfer]\ntotal_timeout_max = \"1m\"\n";
    for (rest, expected) in [
        // Nobody uses the default.
        (shorter.to_owned(), &[][..]),
        (
            format!("{shorter}{TRUNK}"),
            &["5:21: `total_timeout_max` is shorter than a trunk's `total_timeout`, 2m by default"],
        ),
        (format!("{shorter}[refer]\ntotal_timeout = \"1m\"\n{TRUNK}"), &[]),
        (format!("{shorter}{TRUNK}[trunk.refer]\ntotal_timeout = \"50s\"\n"), &[]),
        (
            format!("{shorter}{TRUNK}[trunk.refer]\ntotal_timeout = \"61s\"\n"),
            &["11:17: `total_timeout`, 61s, is longer than `transfer.total_timeout_max`, 1m"],
        ),
        (
            format!("[refer]\ntotal_timeout = \"90s\"\n{TRUNK}{shorter}"),
            &["5:17: `total_timeout`, 90s, is longer than `transfer.total_timeout_max`, 1m"],
        ),
        (
            format!("{shorter}{TRUNK}[trunk.refer]\npreset = \"oracle\"\n"),
            &["11:10: `total_timeout`, 3m, is longer than `transfer.total_timeout_max`, 1m"],
        ),
    ] {
        check_after_listener(&rest, expected);
    }
}

#[test]
fn a_timeout_that_another_table_has_is_cut_to_the_total() {
    let rules = |refer: &str, of_trunk: &str| {
        let text = format!("{LISTEN}[refer]\n{refer}\n{TRUNK}[trunk.refer]\n{of_trunk}\n");
        parse(&text, &environment).unwrap().trunks[0].refer.clone()
    };
    let s = Duration::from_secs;
    let ten = "total_timeout = \"10s\"";
    let jambonz = rules("", &format!("preset = \"jambonz\"\n{ten}"));
    assert_eq!((jambonz.result_timeout, jambonz.total_timeout), (Some(s(10)), s(10)));
    let of_all = rules("notify_timeout = \"60s\"", ten);
    assert_eq!((of_all.notify_timeout, of_all.result_timeout), (Some(s(10)), None));
    let shorter = rules("preset = \"jambonz\"", "total_timeout = \"16s\"");
    assert_eq!(shorter.result_timeout, Some(s(15)));
}

#[test]
fn relative_hooks_go_to_an_origin_alone() {
    let expected = "`/api/v1` after the origin: relative hooks go to the origin; write \"https://app.example.com\", \
                    and the whole path in each hook";
    check_after_listener(
        "[hooks]\nbase_url = \"https://app.example.com/api/v1\"\n",
        &[&format!("5:12: {expected}")],
    );
    check_after_listener(
        &format!("{TRUNK}[trunk.hooks]\nbase_url = \"https://app.example.com/api/v1\"\n"),
        &[&format!("9:12: {expected}")],
    );
    let environment = |name: &str| (name == "REFEREE_HOOKS_BASE_URL").then(|| "https://app.example.com/api/v1".into());
    let errors = Config::default().apply_environment(&environment).unwrap_err();
    assert_eq!(errors[0].to_string(), format!("REFEREE_HOOKS_BASE_URL: {expected}"));
}
