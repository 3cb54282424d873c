//! Ladders kept as files.

use referee::sim::World;
use std::path::Path;

/// Compares a run with the ladder kept under this name; `REFEREE_BLESS=1` writes it anew.
pub fn assert_ladder(name: &str, world: &World) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/ladders/{name}.txt"));
    let drawn = world.ladder().to_string();
    #[expect(
        clippy::disallowed_methods,
        reason = "the switch that rewrites expected text is the tester's"
    )]
    let bless = std::env::var("REFEREE_BLESS").is_ok_and(|value| value == "1");
    if bless {
        std::fs::write(&path, &drawn).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == drawn,
        "{name} is kept as\n{kept}\nand drew\n{drawn}\nREFEREE_BLESS=1 keeps what it drew"
    );
}
