//! Prints `docs/configuration.md`; with the word `limits`, `docs/limits.md`.

use corelane_broker::config::{limits, print};

fn main() {
    let wanted = std::env::args().nth(1);
    print!(
        "{}",
        if wanted.as_deref() == Some("limits") { limits::page() } else { print::reference() }
    );
}
