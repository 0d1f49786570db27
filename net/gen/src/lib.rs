//! From schema text to Rust: the generator of net's message code.
//!
//! Generated code is committed, so that it can be read and reviewed and nobody needs this program
//! to build; a test holds it against the schema. The order of files and of code is that of the
//! schema, nothing depends on time, place or hashing.

mod emit;
mod index;
pub mod schema;

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The one file of the schema that is no message family.
const ERRORS: &str = "errors.txt";

/// The room whose code this program writes.
#[must_use]
pub fn net_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in net").to_owned()
}

/// All message families of the schema, requests by key first.
///
/// # Errors
/// When the schema cannot be read or understood.
pub fn families(schema_dir: &Path) -> Result<Vec<schema::Family>, Box<dyn Error>> {
    let mut names: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(schema_dir)? {
        names.push(entry?.path());
    }
    names.sort();
    let mut families = Vec::new();
    for path in names {
        let text = fs::read_to_string(&path)?;
        let module = path.file_stem().and_then(|it| it.to_str()).ok_or("a file without a name")?;
        if path.file_name().is_some_and(|it| it == ERRORS) {
            continue;
        }
        let family = schema::parse(module, &text);
        families.push(family.map_err(|it| format!("{}, {it}", path.display()))?);
    }
    families.sort_by_key(|it| it.api.as_ref().map_or((1, 0), |it| (0, it.key)));
    Ok(families)
}

/// Every generated file, by name, as it should be.
///
/// # Errors
/// When the schema cannot be read or understood, or rustfmt fails.
pub fn generate(schema_dir: &Path) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let families = families(schema_dir)?;
    let errors = fs::read_to_string(schema_dir.join(ERRORS))?;
    let mut files = BTreeMap::new();
    for family in &families {
        files.insert(format!("{}.rs", family.module), emit::family(family)?);
    }
    files.insert("mod.rs".to_owned(), index::modules(&families));
    files.insert("api_key.rs".to_owned(), index::api_keys(&families)?);
    files.insert("catalogue.rs".to_owned(), index::catalogue(&families));
    files.insert("error_code.rs".to_owned(), index::error_codes(&errors)?);
    files.into_iter().map(|(name, text)| Ok((name, rustfmt(&text)?))).collect()
}

fn rustfmt(text: &str) -> Result<String, Box<dyn Error>> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--config", "use_small_heuristics=Max"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().ok_or("rustfmt without input")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("rustfmt refused what was generated:\n{text}").into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
