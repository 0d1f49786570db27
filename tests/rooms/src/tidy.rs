//! Files a newcomer can read: of one size, without leftovers, with links that lead somewhere.
//!
//! Generated files say `@generated` in their first lines and are left alone.

use crate::walk::{Source, root, sources};
use std::collections::BTreeSet;
use std::path::Path;

const FILE_LINES_MAX: usize = 900;

/// Leftovers, written in two halves so that this file is not one of them.
const LEFTOVERS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
];

/// Beginnings of paths that exist on one machine only.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];

fn is_generated(source: &Source) -> bool {
    source.text.lines().take(5).any(|it| it.contains("@generated"))
}

/// The places of `source` that say one of `words`, as `path:line: word`.
fn mentions(source: &Source, words: &[&str]) -> Vec<String> {
    let lines = source.text.lines().zip(1..);
    lines
        .flat_map(|(line, number)| {
            let said = words.iter().filter(move |it| line.contains(**it));
            said.map(move |it| format!("{}:{number}: {it}", source.path))
        })
        .collect()
}

#[test]
fn no_file_is_longer_than_its_reader_is_patient() {
    let written = sources(&[".rs"]).into_iter().filter(|it| !is_generated(it));
    let long = written.filter(|it| FILE_LINES_MAX < it.text.lines().count());
    let long = long.map(|it| it.path).collect::<Vec<_>>();
    assert!(long.is_empty(), "over {FILE_LINES_MAX} lines; split by subject: {long:?}");
}

#[test]
fn every_source_file_opens_with_what_it_is() {
    for source in sources(&[".rs"]).iter().filter(|it| it.path.contains("/src/")) {
        let opens = source.text.starts_with("//!") || is_generated(source);
        assert!(opens, "{} does not start with its one idea (`//!`)", source.path);
    }
}

#[test]
fn nothing_is_left_for_later_and_nothing_names_one_machine() {
    let mut complaints = Vec::new();
    for source in sources(&[".rs", ".toml", ".md", ".sh", ".py", ".go", ".js", ".java", ".txt"]) {
        complaints.extend(mentions(&source, LEFTOVERS));
        complaints.extend(mentions(&source, MACHINE_PATHS));
    }
    assert!(complaints.is_empty(), "leftovers:\n{}", complaints.join("\n"));
}

#[test]
fn links_in_documents_lead_somewhere() {
    let documents = sources(&[".md"]);
    let mut complaints = Vec::new();
    for document in &documents {
        for target in links(&document.text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let folder = Path::new(&document.path).parent().expect("a file is in a folder");
            let path = if file.is_empty() { document.path.clone() } else { join(folder, file) };
            if !root().join(&path).exists() {
                complaints.push(format!("{}: {target}: no such file", document.path));
            } else if !anchor.is_empty() {
                let page = documents.iter().find(|it| it.path == path);
                if !page.is_some_and(|it| anchors(&it.text).contains(anchor)) {
                    complaints.push(format!("{}: {target}: no such heading", document.path));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "broken links:\n{}", complaints.join("\n"));
}

/// `folder/file` with `.` and `..` resolved in text; a path that leaves the workspace finds nothing.
fn join(folder: &Path, file: &str) -> String {
    let mut parts: Vec<&str> = folder.to_str().expect("paths are text").split('/').collect();
    parts.retain(|it| !it.is_empty());
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The targets of `[text](target)`, code blocks and spans left out.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        let without_code: String = line.split('`').step_by(2).collect();
        let mut rest = without_code.as_str();
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let Some(end) = rest.find(')') else { break };
            found.push(rest[..end].split_whitespace().next().unwrap_or("").to_owned());
            rest = &rest[end..];
        }
    }
    found
}

fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// The anchors a page offers, made from its headings the way code forges do.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|it| it.starts_with('#'));
    headings
        .map(|heading| {
            let title = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
            kept.map(|it| if it == ' ' { '-' } else { it }).collect()
        })
        .collect()
}

#[test]
fn links_are_read_outside_code_only() {
    let page = "see [a](b.md#c) and [d](e \"title\")\n```\n[no](no)\n```\nand `[no](no)`, [f](g)";
    assert_eq!(links(page), ["b.md#c", "e", "g"]);
    assert!(anchors("# A `code` Title, here\n").contains("a-code-title-here"));
    assert_eq!(join(Path::new("docs/decisions"), "../../README.md"), "README.md");
}
