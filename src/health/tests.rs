use super::*;
use crate::config::parse;
use proptest::prelude::*;

const TEXT: &str = r#"
[[listen]]
name = "l"
bind = ["udp:127.0.0.1:5060"]
[limits]
retry_after_max = "60s"
[[trunk]]
name = "a"
listen = "l"
addresses = ["udp:192.0.2.1", "udp:192.0.2.2", "udp:192.0.2.3"]
[trunk.health]
failures = 3
successes = 2
[[trunk]]
name = "b"
listen = "l"
addresses = ["udp:192.0.2.9"]
"#;

const A: TrunkId = TrunkId(0);
const B: TrunkId = TrunkId(1);

fn tables(shards: u16) -> Vec<Table> {
    let config = parse(TEXT, &|_| None).unwrap();
    (0..shards).map(|shard| Table::new(&config, shard, shards)).collect()
}

fn table() -> Table {
    tables(1).remove(0)
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn probe(table: &mut Table, address: usize, code: u16, now: Instant) -> Option<News> {
    let result = match code {
        0 => ProbeResult::Failed(Failure::Timeout),
        code => ProbeResult::Answered(code),
    };
    table.on_probe(A, address, result, Duration::from_millis(3), now)
}

fn state(table: &Table, address: usize) -> State {
    table.standing(A, address).unwrap().0.state
}

fn has_changed(news: Option<News>) -> bool {
    matches!(news, Some(News::Standing { changed: true, .. }))
}

#[test]
fn thresholds_are_counted_in_a_row() {
    let mut table = table();
    // Status of each probe, 0 for none; what the state is then, and whether it changed.
    for (step, (code, expected, changed)) in [
        (200, State::Alive, true),
        (0, State::Alive, false),
        (503, State::Alive, false),
        (404, State::Alive, false),
        (0, State::Alive, false),
        (408, State::Alive, false),
        (503, State::Dead, true),
        (0, State::Dead, false),
        (200, State::Dead, false),
        (0, State::Dead, false),
        (200, State::Dead, false),
        (486, State::Alive, true),
        (200, State::Alive, false),
    ]
    .into_iter()
    .enumerate()
    {
        let now = at(step as u64);
        let news = probe(&mut table, 0, code, now);
        assert_eq!(
            (state(&table, 0), has_changed(news)),
            (expected, changed),
            "step {step}"
        );
        assert_eq!(table.is_usable(A, 0, now), expected != State::Dead, "step {step}");
        let (standing, _) = table.standing(A, 0).unwrap();
        assert_eq!(standing.probed.map(|probed| probed.at), Some(now));
        assert!(!changed || standing.since == now);
    }
    assert_eq!(state(&table, 1), State::Unknown, "each address has its own state");
}

#[test]
fn what_was_never_heard_of_dies_by_the_same_count() {
    let mut table = table();
    for _ in 0..2 {
        probe(&mut table, 2, 0, at(1));
        assert!(table.is_usable(A, 2, at(1)));
    }
    assert!(has_changed(probe(&mut table, 2, 0, at(2))));
    assert!(!table.is_usable(A, 2, at(2)));
}

#[test]
fn calls_count_like_probes_and_a_503_alone_counts_for_nothing() {
    let mut table = table();
    for kind in [Failure::Timeout, Failure::Transport] {
        table.on_failure(A, 0, kind, at(1));
    }
    for _ in 0..9 {
        assert_eq!(table.on_failure(A, 0, Failure::Unavailable, at(1)), None);
    }
    assert!(table.is_usable(A, 0, at(1)));
    assert!(has_changed(table.on_failure(A, 0, Failure::Timeout, at(2))));
    assert!(!table.is_usable(A, 0, at(2)));
    // A call that was tried all the same.
    assert!(!has_changed(table.on_success(A, 0, at(3))));
    assert!(has_changed(probe(&mut table, 0, 200, at(4))));
    // Where all is well, nothing is told.
    assert_eq!(table.on_success(A, 0, at(5)), None);
}

#[test]
fn without_health_nothing_is_judged() {
    let mut table = table();
    for _ in 0..9 {
        assert_eq!(table.on_failure(B, 0, Failure::Timeout, at(1)), None);
    }
    assert_eq!(table.on_success(B, 0, at(1)), None);
    assert!(table.is_usable(B, 0, at(1)));
    assert!(table.probed_here().all(|at| at.trunk == A));
}

#[test]
fn a_retry_after_is_kept_to_and_cut() {
    let mut table = table();
    let told = table.on_retry_after(B, 0, 10, at(1_000));
    let expected = News::Wait {
        at: id(B, 0),
        until: at(11_000),
        opened: true,
    };
    assert_eq!(told, Some(expected));
    assert!(!table.is_usable(B, 0, at(10_999)) && table.is_usable(B, 0, at(11_000)));
    assert_eq!(table.wait(B, 0, at(10_000)), Duration::from_secs(1));
    // The same again half a second later, a shorter one, and none at all.
    assert_eq!(table.on_retry_after(B, 0, 10, at(1_500)), None);
    assert_eq!(table.on_retry_after(B, 0, 5, at(2_000)), None);
    assert_eq!(table.on_retry_after(B, 0, 0, at(2_000)), None);
    assert!(table.is_usable(B, 0, at(11_000)));
    // A longer one moves it, but not beyond the limit.
    let told = table.on_retry_after(B, 0, u32::MAX, at(2_000));
    assert!(matches!(told, Some(News::Wait { until, opened: false, .. }) if until == at(62_000)));
    assert_eq!(table.on_retry_after(B, 0, 0, at(70_000)), None);
    assert_eq!(table.wait(B, 0, at(70_000)), Duration::ZERO);
    assert!(matches!(
        table.on_retry_after(B, 0, 1, at(70_000)),
        Some(News::Wait { opened: true, .. })
    ));
}

#[test]
fn an_address_that_is_not_there_is_not_usable_and_harms_nothing() {
    let mut table = table();
    for (trunk, address) in [(A, 3), (B, 1), (TrunkId(9), 0)] {
        assert!(!table.is_usable(trunk, address, at(1)));
        assert_eq!(table.on_failure(trunk, address, Failure::Timeout, at(1)), None);
        assert_eq!(table.on_retry_after(trunk, address, 5, at(1)), None);
        assert_eq!(table.standing(trunk, address), None);
    }
}

#[test]
fn addresses_are_dealt_out_and_each_has_one_judge() {
    let tables = tables(2);
    let dealt: Vec<Vec<_>> = tables.iter().map(|table| table.probed_here().collect()).collect();
    assert_eq!(dealt, [vec![id(A, 0), id(A, 2)], vec![id(A, 1)]]);
}

/// Carries news between shards until nobody has any more.
fn carry(tables: &mut [Table], from: usize, news: Option<News>, now: Instant) -> usize {
    let mut open: Vec<_> = news.map(|news| (from, news)).into_iter().collect();
    let mut carried = 0;
    while let Some((from, news)) = open.pop() {
        let judge = usize::from(tables[from].judge(news.at()));
        for (to, table) in tables.iter_mut().enumerate() {
            if to == from || (matches!(news, News::Seen { .. }) && to != judge) {
                continue;
            }
            carried += 1;
            open.extend(table.on_news(news, now).map(|answer| (to, answer)));
        }
        assert!(carried < 100, "they never stop");
    }
    carried
}

#[test]
fn what_one_shard_sees_all_know() {
    let mut tables = tables(3);
    // Address 1 is judged by shard 1; the failures are seen by three different ones.
    for shard in 0..3 {
        let news = tables[shard].on_failure(A, 1, Failure::Timeout, at(1));
        carry(&mut tables, shard, news, at(1));
    }
    assert!(tables.iter().all(|table| !table.is_usable(A, 1, at(1))));
    // So are the successes that bring it back, and one shard may see them all.
    for expected in [State::Dead, State::Alive] {
        let news = tables[2].on_success(A, 1, at(2));
        carry(&mut tables, 2, news, at(2));
        assert!(tables.iter().all(|table| state(table, 1) == expected));
    }
    let news = tables[0].on_retry_after(B, 0, 7, at(3));
    carry(&mut tables, 0, news, at(3));
    assert!(
        tables
            .iter()
            .all(|table| table.wait(B, 0, at(3)) == Duration::from_secs(7))
    );
}

#[test]
fn a_success_after_a_failure_is_told_once_and_ends_the_doubt() {
    let mut tables = tables(2);
    let news = probe(&mut tables[0], 0, 200, at(1));
    carry(&mut tables, 0, news, at(1));
    assert_eq!(tables[1].on_success(A, 0, at(2)), None);
    let news = tables[1].on_failure(A, 0, Failure::Timeout, at(3));
    assert!(carry(&mut tables, 1, news, at(3)) > 0);
    let news = tables[1].on_success(A, 0, at(4));
    assert!(matches!(news, Some(News::Seen { success: true, .. })));
    assert_eq!(tables[1].on_success(A, 0, at(4)), None, "one says as much as many");
    carry(&mut tables, 1, news, at(4));
    for table in &tables {
        let (standing, _) = table.standing(A, 0).unwrap();
        assert_eq!((standing.state, standing.in_doubt), (State::Alive, false));
    }
}

#[test]
fn lost_news_are_told_again_by_the_next_probe() {
    let mut tables = tables(2);
    for _ in 0..3 {
        let lost = probe(&mut tables[0], 0, 0, at(1));
        assert!(lost.is_some());
    }
    assert!(tables[1].is_usable(A, 0, at(1)));
    let news = probe(&mut tables[0], 0, 0, at(2));
    carry(&mut tables, 0, news, at(2));
    assert!(!tables[1].is_usable(A, 0, at(2)));
}

proptest! {
    /// Against a model that keeps all results and counts them anew each time.
    #[test]
    fn states_follow_their_definition(results in proptest::collection::vec((any::<bool>(), 0usize..3), 0..60)) {
        let mut tables = tables(3);
        let mut seen = Vec::new();
        let mut expected = State::Unknown;
        for (step, (success, shard)) in results.into_iter().enumerate() {
            let now = at(step as u64);
            let news = match success {
                true => tables[shard].on_success(A, 0, now),
                false => tables[shard].on_failure(A, 0, Failure::Transport, now),
            };
            carry(&mut tables, shard, news, now);
            seen.push(success);
            let in_a_row = |wanted: bool| seen.iter().rev().take_while(|result| **result == wanted).count();
            expected = match expected {
                State::Unknown if success => State::Alive,
                State::Unknown | State::Alive if in_a_row(false) >= 3 => State::Dead,
                State::Dead if in_a_row(true) >= 2 => State::Alive,
                same => same,
            };
            for table in &tables {
                prop_assert_eq!(state(table, 0), expected, "after {:?}", seen);
            }
        }
    }
}
