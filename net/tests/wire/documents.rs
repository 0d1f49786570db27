//! Pages that are printed from the code and must not say anything else.

use std::{fs, path::Path};

#[test]
fn the_table_of_requests_is_the_one_in_use() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let printed = corelane_net::api::documentation();
    if std::env::var_os("CORELANE_REPRINT").is_some() {
        fs::write(&path, &printed).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == printed,
        "docs/protocol.md is stale; run `CORELANE_REPRINT=1 cargo test -p corelane-net`"
    );
}
