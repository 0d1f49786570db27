//! What cargo itself says about the workspace, so that nobody parses a manifest twice.

use crate::walk::root;
use serde_json::Value;
use std::env;
use std::process::Command;

/// `cargo metadata` with `options`. The lock file must be up to date: a change of dependencies is
/// committed together with it.
pub(crate) fn cargo_metadata(options: &[&str]) -> Value {
    let cargo = env::var_os("CARGO").expect("cargo runs the tests and says where it is");
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(options)
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    assert!(
        output.status.success(),
        "cargo metadata refused: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata speaks JSON")
}

pub(crate) fn packages(metadata: &Value) -> &[Value] {
    metadata["packages"].as_array().expect("metadata lists packages")
}

pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("metadata without {field}: {value}"))
}
