//! Each stage on each message, counted by callgrind. Run by `referee-instructions`, which compares with the table.

use std::hint::black_box;

use gungraun::{Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use referee_instructions::relayed::Relayed;
use referee_instructions::{Prepared, prepared};

/// Stages as functions, each over all the messages. The prepared message is handed back, so that dropping it is not
/// counted.
macro_rules! stages {
    ($($function:ident = $stage:ident),* ; $messages:tt) => { $(stages! { @one $function $stage $messages })* };
    (@one $function:ident $stage:ident ($($message:ident = $name:literal)*)) => {
        #[library_benchmark]
        $(#[bench::$message(prepared($name))])*
        fn $function(mut message: Prepared) -> Prepared {
            message.$stage();
            black_box(message)
        }
    };
}

stages! {
    index = index, check = check, view = view, edit = edit; (
        invite = "invite" _200 = "200" refer = "refer" notify = "notify" options = "options" register = "register"
        ack = "ack" bye = "bye" torture = "torture"
    )
}

stages! {
    worst_index = index, worst_check = check, worst_view = view; (
        short_lines = "short_lines" via_lines = "via_lines" route_lines = "route_lines"
        too_many_lines = "too_many_lines" empty_values = "empty_values" contacts = "contacts" routes = "routes"
        vias = "vias" escaped_quotes = "escaped_quotes" quoted_contacts = "quoted_contacts"
        quoted_params = "quoted_params" open_quote = "open_quote" from_params = "from_params"
        via_params = "via_params" uri_params = "uri_params" route_params = "route_params" long_value = "long_value"
        long_call_id = "long_call_id" long_name = "long_name" folds = "folds" folded_from = "folded_from"
        spaces = "spaces" short_routes = "short_routes"
        folded_routes = "folded_routes" folded_params = "folded_params" short_contacts = "short_contacts"
        reasons = "reasons" user_to_users = "user_to_users" no_line_end = "no_line_end" line_ends = "line_ends"
    )
}

#[library_benchmark]
#[bench::invite(Relayed::before("invite"))]
#[bench::_180(Relayed::before("180"))]
#[bench::_200(Relayed::before("200"))]
#[bench::ack(Relayed::before("ack"))]
#[bench::info(Relayed::before("info"))]
#[bench::info_200(Relayed::before("info_200"))]
#[bench::bye(Relayed::before("bye"))]
#[bench::bye_200(Relayed::before("bye_200"))]
#[bench::refer(Relayed::before("refer"))]
#[bench::as_refer(Relayed::before("as_refer"))]
#[bench::notify(Relayed::before("notify"))]
#[bench::as_notify(Relayed::before("as_notify"))]
#[bench::own_notify(Relayed::before("own_notify"))]
fn relay(mut call: Relayed) -> Relayed {
    call.relay();
    black_box(call)
}

library_benchmark_group!(name = through, benchmarks = [relay]);
library_benchmark_group!(name = usual, benchmarks = [index, check, view, edit]);
library_benchmark_group!(name = worst, benchmarks = [worst_index, worst_check, worst_view]);

main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = [usual, worst, through]
);
