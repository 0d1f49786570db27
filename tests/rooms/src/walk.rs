//! The workspace as a list of text files. Sorted, so that every machine complains in the same order.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders nobody writes by hand.
const NOT_OURS: &[&str] = &["target", "node_modules", "__pycache__", "corelane-data"];

/// A file of the workspace: its path from the root, with `/`, and its text.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this package lives two folders below the root").to_path_buf()
}

/// Every file below the root whose name ends in one of `endings`.
///
/// # Panics
/// When there is none: a walk that went empty would agree with everything.
pub(crate) fn sources(endings: &[&str]) -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace can be listed") {
            let entry = entry.expect("a folder of the workspace can be listed");
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().expect("the kind of an entry is known");
            if kind.is_dir() {
                let hidden = name.starts_with('.') && name != ".ci";
                if !hidden && !NOT_OURS.contains(&name.as_str()) {
                    folders.push(entry.path());
                }
            } else if kind.is_file() && endings.iter().any(|it| name.ends_with(it)) {
                let path = entry.path();
                let text = fs::read_to_string(&path)
                    .unwrap_or_else(|it| panic!("{} is not text: {it}", path.display()));
                let path = path.strip_prefix(&root).expect("the walk stays below the root");
                found.push(Source { path: path.to_string_lossy().into_owned(), text });
            }
        }
    }
    assert!(!found.is_empty(), "no file ends in {endings:?}: the walk is broken");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The lines of `text`, counted from one, on which `word` stands by itself: `net` is not in `netmask`.
pub(crate) fn lines_with<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part_of_name = |it: char| it.is_alphanumeric() || it == '_';
    let stands_alone = move |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + word.len()..].chars().next();
            let glued = |edge: Option<char>, beside: Option<char>| {
                edge.is_some_and(part_of_name) && beside.is_some_and(part_of_name)
            };
            !glued(word.chars().next(), before) && !glued(word.chars().next_back(), after)
        })
    };
    text.lines().zip(1..).filter(move |(line, _)| stands_alone(line)).map(|(_, number)| number)
}

#[test]
fn a_word_is_found_only_where_it_stands_by_itself() {
    let lines = |text, word| lines_with(text, word).collect::<Vec<_>>();
    assert_eq!(lines("use std::net;\nlet netmask = 1;\n// net", "net"), [1, 3]);
    assert_eq!(lines("libc::read()\nmylibc::read()", "libc::"), [1]);
    assert_eq!(lines("forbid(unsafe_code)", "unsafe"), [0; 0]);
}
