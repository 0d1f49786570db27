//! Reads schema text: one message family per file, one field per line, nesting by indentation.
//!
//! ```text
//! # What the request is for.
//! api 1 Fetch broker controller          a key of the protocol and who listens to it
//!
//! request 4..18 flexible 12..            the versions of this message
//!   name: type                           in every version of what encloses it
//!   name: type 7..9 = -1                 in versions 7 to 9, else -1
//!   name: type? ..5                      may be null; `?3..` from version 3 on
//!   name: type 12.. tag 0 ignorable      a tagged field; dropped where there is no place for it
//!   name: [Thing]                        an array; the fields of Thing follow, indented
//!     ...
//!   struct Shared                        a struct that several fields use
//!     ...
//! ```
//! `records NAME` instead of `api` opens a family of messages that are no requests; each begins
//! with `message Name VERSIONS`, and `type N` where records carry a type number.
//! `plain` marks the one string that keeps its old form in flexible versions.

use std::fmt;

/// A line that cannot be understood.
#[derive(Debug)]
pub struct SchemaError {
    pub line: usize,
    pub what: String,
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for SchemaError {}

/// Versions, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub min: i16,
    pub max: i16,
}

#[derive(Debug)]
pub struct Family {
    /// File name and module name.
    pub module: String,
    pub purpose: String,
    pub api: Option<Api>,
    pub messages: Vec<Message>,
}

#[derive(Debug)]
pub struct Api {
    pub key: i16,
    pub name: String,
    pub broker: bool,
    pub controller: bool,
    pub unstable: bool,
}

#[derive(Debug)]
pub struct Message {
    pub name: String,
    pub versions: Range,
    pub flexible_from: Option<i16>,
    pub record_type: Option<i16>,
    /// The message itself first, then the structs in it in the order they appear.
    pub structs: Vec<Struct>,
}

#[derive(Debug)]
pub struct Struct {
    pub name: String,
    pub versions: Range,
    pub fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    Bool,
    I8,
    I16,
    U16,
    I32,
    U32,
    I64,
    F64,
    Uuid,
    String,
    PlainString,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

#[derive(Debug, Clone)]
pub struct Field {
    pub name: String,
    pub kind: Type,
    pub nullable: Option<Range>,
    pub versions: Range,
    pub tag: Option<u32>,
    pub default: Option<String>,
    pub ignorable: bool,
}

struct Line<'a> {
    number: usize,
    indent: usize,
    words: Vec<&'a str>,
}

impl Line<'_> {
    fn wrong<T>(&self, what: impl Into<String>) -> Result<T, SchemaError> {
        Err(SchemaError { line: self.number, what: what.into() })
    }
}

/// # Errors
/// At the first line that is not schema text.
pub fn parse(module: &str, text: &str) -> Result<Family, SchemaError> {
    let purpose = text.lines().next().and_then(|it| it.strip_prefix("# ")).unwrap_or_default();
    let lines: Vec<Line<'_>> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|(index, line)| Line {
            number: index + 1,
            indent: (line.len() - line.trim_start().len()) / 2,
            words: line.split_whitespace().collect(),
        })
        .collect();
    let Some((head, mut rest)) = lines.split_first() else {
        return Err(SchemaError { line: 1, what: "an empty file".into() });
    };
    if purpose.is_empty() {
        return head.wrong("the first line must say what this is for");
    }
    let api = match head.words.as_slice() {
        ["api", key, name, marks @ ..] => Some(Api {
            key: number(head, key)?,
            name: (*name).to_owned(),
            broker: marks.contains(&"broker"),
            controller: marks.contains(&"controller"),
            unstable: marks.contains(&"unstable"),
        }),
        ["records", name] if *name == module => None,
        _ => {
            return head
                .wrong("neither `api KEY NAME LISTENERS` nor `records` and the file's name");
        }
    };
    let mut messages = Vec::new();
    while let Some((head, body)) = rest.split_first() {
        let length = body.iter().take_while(|it| it.indent > 0).count();
        messages.push(message(head, &body[..length], api.as_ref())?);
        rest = &body[length..];
    }
    Ok(Family { module: module.to_owned(), purpose: purpose.to_owned(), api, messages })
}

fn message(head: &Line<'_>, body: &[Line<'_>], api: Option<&Api>) -> Result<Message, SchemaError> {
    let (name, mut words) = match (head.words.as_slice(), api) {
        (["request", words @ ..], Some(api)) => (format!("{}Request", api.name), words),
        (["response", words @ ..], Some(api)) => (format!("{}Response", api.name), words),
        (["message", name, words @ ..], None) => ((*name).to_owned(), words),
        _ => return head.wrong("no message begins like this here"),
    };
    let mut record_type = None;
    if let ["type", value, after @ ..] = words {
        record_type = Some(number(head, value)?);
        words = after;
    }
    let (versions, flexible_from) = match words {
        [versions] => (range(head, versions, None)?, None),
        [versions, "flexible", from] => {
            let versions = range(head, versions, None)?;
            (versions, Some(range(head, from, Some(versions))?.min))
        }
        _ => return head.wrong("versions expected, and perhaps `flexible` and versions"),
    };
    let mut structs = vec![Struct { name: name.clone(), versions, fields: Vec::new() }];
    fields(body, 1, 0, &mut structs)?;
    Ok(Message { name, versions, flexible_from, record_type, structs })
}

/// Reads the lines of one struct at `indent` into `structs[at]`, deeper ones into new structs.
fn fields(
    mut lines: &[Line<'_>],
    indent: usize,
    at: usize,
    structs: &mut Vec<Struct>,
) -> Result<(), SchemaError> {
    while let Some((line, after)) = lines.split_first() {
        if line.indent != indent {
            return line.wrong(format!("indented by {} where {indent} was expected", line.indent));
        }
        let length = after.iter().take_while(|it| it.indent > indent).count();
        let (inner, rest) = after.split_at(length);
        lines = rest;
        let outer = structs[at].versions;
        let (name, versions) = match line.words.as_slice() {
            ["struct", name] => ((*name).to_owned(), outer),
            ["struct", name, versions] => ((*name).to_owned(), range(line, versions, Some(outer))?),
            _ => {
                let field = field(line, outer)?;
                let named = match &field.kind {
                    Type::Struct(name) => Some(name.clone()),
                    Type::Array(element) => match element.as_ref() {
                        Type::Struct(name) => Some(name.clone()),
                        _ => None,
                    },
                    _ => None,
                };
                let versions = field.versions;
                structs[at].fields.push(field);
                match named {
                    _ if inner.is_empty() => continue,
                    Some(name) => (name, versions),
                    None => return line.wrong("only structs have fields"),
                }
            }
        };
        if structs.iter().any(|it| it.name == name) {
            return line.wrong(format!("{name} is there already"));
        }
        structs.push(Struct { name, versions, fields: Vec::new() });
        fields(inner, indent + 1, structs.len() - 1, structs)?;
    }
    Ok(())
}

fn field(line: &Line<'_>, outer: Range) -> Result<Field, SchemaError> {
    let [name, kind, words @ ..] = line.words.as_slice() else {
        return line.wrong("a field needs a name and a type");
    };
    let Some(name) = name.strip_suffix(':') else {
        return line.wrong(format!("no colon after {name}"));
    };
    let (kind, nullable) = match kind.split_once('?') {
        Some((kind, versions)) => (kind, Some(versions)),
        None => (*kind, None),
    };
    let mut field = Field {
        name: name.to_owned(),
        kind: kind_of(line, kind)?,
        nullable: None,
        versions: outer,
        tag: None,
        default: None,
        ignorable: false,
    };
    let mut words = words.iter();
    while let Some(&word) = words.next() {
        match word {
            "ignorable" => field.ignorable = true,
            "plain" if field.kind == Type::String => field.kind = Type::PlainString,
            "tag" => match words.next() {
                Some(tag) => field.tag = Some(number(line, tag)?),
                None => return line.wrong("`tag` without a number"),
            },
            "=" => match words.next() {
                Some(value) => field.default = Some((*value).to_owned()),
                None => return line.wrong("`=` without a value"),
            },
            versions => field.versions = range(line, versions, Some(outer))?,
        }
    }
    field.nullable = match nullable {
        Some("") => Some(field.versions),
        Some(versions) => Some(range(line, versions, Some(field.versions))?),
        None => None,
    };
    Ok(field)
}

fn kind_of(line: &Line<'_>, word: &str) -> Result<Type, SchemaError> {
    if let Some(element) = word.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        return Ok(Type::Array(Box::new(kind_of(line, element)?)));
    }
    Ok(match word {
        "bool" => Type::Bool,
        "i8" => Type::I8,
        "i16" => Type::I16,
        "u16" => Type::U16,
        "i32" => Type::I32,
        "u32" => Type::U32,
        "i64" => Type::I64,
        "f64" => Type::F64,
        "uuid" => Type::Uuid,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "records" => Type::Records,
        name if name.starts_with(|it: char| it.is_ascii_uppercase()) => {
            Type::Struct(name.to_owned())
        }
        other => return line.wrong(format!("{other} is no type")),
    })
}

/// `3..9`, `3..`, `..9` or `3`; open ends are those of what encloses it.
fn range(line: &Line<'_>, word: &str, outer: Option<Range>) -> Result<Range, SchemaError> {
    let (min, max) = word.split_once("..").unwrap_or((word, word));
    let min = match (min, outer) {
        ("", Some(outer)) => outer.min,
        _ => number(line, min)?,
    };
    let max = match (max, outer) {
        ("", Some(outer)) => outer.max,
        _ => number(line, max)?,
    };
    if max < min || outer.is_some_and(|it| min < it.min || it.max < max) {
        return line.wrong(format!("versions {word} are not inside {outer:?}"));
    }
    Ok(Range { min, max })
}

fn number<T: std::str::FromStr>(line: &Line<'_>, word: &str) -> Result<T, SchemaError> {
    word.parse().or_else(|_| line.wrong(format!("{word} is not a number that fits")))
}
