//! What we link, under which terms, and why. From `cargo metadata`, for the platforms Corelane runs on.

use crate::metadata::{cargo_metadata, packages, text};
use crate::walk::root;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

/// Terms under which code may be part of an Apache-2.0 program without asking anybody.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Terms that ask for something back: fine in an instrument that stays here, not in what is shipped.
const ALLOWED_UNSHIPPED: &[&str] = &["MPL-2.0", "MPL-2.0+"];

/// What is shipped is this package and all it links.
const SHIPPED: &str = "corelane-broker";

const PLATFORMS: &[&str] = &["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// The only place packages come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

const REASONS: &str = "docs/dependencies.md";

#[test]
fn every_package_comes_from_the_registry_under_terms_we_may_use() {
    let platforms = PLATFORMS.iter().flat_map(|it| ["--filter-platform", it]);
    let metadata = cargo_metadata(&platforms.collect::<Vec<_>>());
    let shipped = linked_by(SHIPPED, &metadata);
    assert!(1 < shipped.len(), "{SHIPPED} links nothing: the walk is broken");
    let mut complaints = Vec::new();
    for package in packages(&metadata) {
        let name = format!("{} {}", text(package, "name"), text(package, "version"));
        let Some(source) = package["source"].as_str() else { continue };
        if source != REGISTRY {
            complaints.push(format!("{name} comes from {source}"));
        }
        let agreed = if shipped.contains(text(package, "id")) {
            ALLOWED.to_vec()
        } else {
            [ALLOWED, ALLOWED_UNSHIPPED].concat()
        };
        match package["license"].as_str() {
            None => complaints.push(format!("{name} states no licence")),
            Some(terms) if may_use(terms, &agreed) => {}
            Some(terms) => complaints.push(format!("{name} is under {terms}")),
        }
    }
    assert!(complaints.is_empty(), "not ours to link:\n{}", complaints.join("\n"));
}

/// The ids of `name` and of everything below it that is not for tests only.
fn linked_by<'a>(name: &str, metadata: &'a Value) -> BTreeSet<&'a str> {
    let nodes = metadata["resolve"]["nodes"].as_array().expect("a resolved graph");
    let first = packages(metadata).iter().find(|it| text(it, "name") == name);
    let mut open = vec![text(first.expect("the shipped package exists"), "id")];
    let mut linked = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !linked.insert(id) {
            continue;
        }
        let node = nodes.iter().find(|it| text(it, "id") == id).expect("every package has a node");
        for dependency in node["deps"].as_array().expect("a list of dependencies") {
            let mut kinds = dependency["dep_kinds"].as_array().expect("a list of kinds").iter();
            if kinds.any(|it| it["kind"] != "dev") {
                open.push(text(dependency, "pkg"));
            }
        }
    }
    linked
}

#[test]
fn every_direct_dependency_has_its_reason() {
    let metadata = cargo_metadata(&["--no-deps", "--offline"]);
    let mut used = BTreeSet::new();
    for package in packages(&metadata) {
        for dependency in package["dependencies"].as_array().expect("a list of dependencies") {
            if !dependency["path"].is_string() {
                used.insert(text(dependency, "name").to_owned());
            }
        }
    }
    let page = fs::read_to_string(root().join(REASONS)).expect("the page of reasons can be read");
    // A reason is a line "- `name`: why".
    let reasons = page.lines().filter_map(|it| it.strip_prefix("- `")?.split_once("`: "));
    let stated: BTreeSet<_> =
        reasons.filter(|(_, why)| !why.is_empty()).map(|(name, _)| name.to_owned()).collect();
    let without: Vec<_> = used.difference(&stated).collect();
    assert!(without.is_empty(), "{REASONS} has no line \"- `name`: why\" for {without:?}");
    let unused: Vec<_> = stated.difference(&used).collect();
    assert!(unused.is_empty(), "{REASONS} explains what nobody depends on: {unused:?}");
}

/// Whether an SPDX expression (or the old `A/B`, which means `A OR B`) offers us a licence we agree to.
fn may_use(terms: &str, agreed: &[&str]) -> bool {
    let spaced = terms.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest, agreed) == Some(true) && rest.is_empty()
}

/// Alternatives. `None`, here and below: this is not an expression.
fn any_of(rest: &mut &[&str], terms: &[&str]) -> Option<bool> {
    let mut agreed = all_of(rest, terms)?;
    while take(rest, "OR") {
        agreed |= all_of(rest, terms)?;
    }
    Some(agreed)
}

fn all_of(rest: &mut &[&str], terms: &[&str]) -> Option<bool> {
    let mut agreed = one(rest, terms)?;
    while take(rest, "AND") {
        agreed &= one(rest, terms)?;
    }
    Some(agreed)
}

fn one(rest: &mut &[&str], terms: &[&str]) -> Option<bool> {
    if take(rest, "(") {
        let agreed = any_of(rest, terms)?;
        return take(rest, ")").then_some(agreed);
    }
    let mut licence = next(rest)?.to_owned();
    if take(rest, "WITH") {
        licence = format!("{licence} WITH {}", next(rest)?);
    }
    Some(terms.contains(&licence.as_str()))
}

fn next<'a>(rest: &mut &[&'a str]) -> Option<&'a str> {
    let (first, others) = rest.split_first()?;
    *rest = others;
    Some(first)
}

fn take(rest: &mut &[&str], word: &str) -> bool {
    let there = rest.first() == Some(&word);
    if there {
        *rest = &rest[1..];
    }
    there
}

#[test]
fn an_expression_is_agreed_to_as_a_whole() {
    let may_use = |terms| may_use(terms, ALLOWED);
    assert!(may_use("MIT OR Apache-2.0"));
    assert!(may_use("GPL-3.0 OR MIT"));
    assert!(may_use("MIT/Apache-2.0"));
    assert!(may_use("Apache-2.0 WITH LLVM-exception OR GPL-2.0"));
    assert!(may_use("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(!may_use("MIT AND GPL-3.0"));
    assert!(!may_use("(MIT OR GPL-3.0) AND AGPL-3.0"));
    assert!(!may_use("LGPL-2.1 WITH some-exception"));
    assert!(!may_use("MIT OR"), "half an expression is no agreement, whatever its first half says");
    assert!(!may_use("MIT Apache-2.0"));
    assert!(!may_use(""));
}
