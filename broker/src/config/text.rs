//! A configuration file, read into keys and values: TOML, or Kafka's `.properties`.
//!
//! Tables of TOML flatten to dotted keys, and arrays to lists. Nothing here knows which keys
//! exist. A key that stands twice in one file is refused: one of the two is a mistake, and only
//! its author knows which.

use std::collections::BTreeMap;
use std::fmt;

/// A key as the file sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: String,
    pub line: usize,
}

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextError {
    Toml {
        line: usize,
        why: String,
    },
    /// A value of TOML that no key has: a date, a table inside an array.
    NoValue {
        key: String,
        line: usize,
        what: &'static str,
    },
    Twice {
        key: String,
        first: usize,
        second: usize,
    },
    BadEscape {
        line: usize,
        escape: String,
    },
    NoKey {
        line: usize,
    },
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Toml { line, why } => write!(f, "line {line}: {why}"),
            Self::NoValue { key, line, what } => {
                write!(f, "line {line}: {key} is {what}, and no key takes that")
            }
            Self::Twice { key, first, second } => {
                write!(f, "line {second}: {key} is already set on line {first}")
            }
            Self::BadEscape { line, escape } => {
                write!(f, "line {line}: \\{escape} is not four hexadecimal digits after \\u")
            }
            Self::NoKey { line } => write!(f, "line {line}: a value without a key"),
        }
    }
}

/// Reads a file. Its name decides the form; a name that does not say is tried as TOML first.
///
/// # Errors
/// The text is of neither form, or sets a key twice.
pub fn read(name: &str, text: &str) -> Result<Vec<Entry>, TextError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let entries = match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("toml") => read_toml(text)?,
        Some("properties") => read_properties(text)?,
        _ => match read_toml(text) {
            Ok(entries) => entries,
            Err(error) if looks_like_toml(text) => return Err(error),
            Err(_) => read_properties(text)?,
        },
    };
    refuse_repetition(entries)
}

/// A table header starts a line of TOML and of nothing people write as properties.
fn looks_like_toml(text: &str) -> bool {
    text.lines().any(|it| it.trim_start().starts_with('['))
}

fn refuse_repetition(entries: Vec<Entry>) -> Result<Vec<Entry>, TextError> {
    let mut seen = BTreeMap::new();
    for entry in &entries {
        if let Some(first) = seen.insert(entry.key.as_str(), entry.line) {
            let key = entry.key.clone();
            return Err(TextError::Twice { key, first, second: entry.line });
        }
    }
    Ok(entries)
}

fn read_toml(text: &str) -> Result<Vec<Entry>, TextError> {
    let line_of = |at: usize| 1 + text[..at.min(text.len())].matches('\n').count();
    let table = toml::de::DeTable::parse(text).map_err(|error| TextError::Toml {
        line: error.span().map_or(1, |it| line_of(it.start)),
        why: error.message().replace('\n', ", "),
    })?;
    let mut entries = Vec::new();
    flatten("", table.get_ref(), &line_of, &mut entries)?;
    entries.sort_by_key(|it| it.line);
    Ok(entries)
}

fn flatten(
    prefix: &str,
    table: &toml::de::DeTable<'_>,
    line_of: &dyn Fn(usize) -> usize,
    entries: &mut Vec<Entry>,
) -> Result<(), TextError> {
    for (name, value) in table {
        let dot = if prefix.is_empty() { "" } else { "." };
        let key = format!("{prefix}{dot}{}", name.get_ref());
        let line = line_of(name.span().start);
        if let toml::de::DeValue::Table(inner) = value.get_ref() {
            flatten(&key, inner, line_of, entries)?;
        } else {
            let value = scalar(value.get_ref()).map_err(|what| TextError::NoValue {
                key: key.clone(),
                line,
                what,
            })?;
            entries.push(Entry { key, value, line });
        }
    }
    Ok(())
}

fn scalar(value: &toml::de::DeValue<'_>) -> Result<String, &'static str> {
    use toml::de::DeValue;
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Boolean(flag) => Ok(flag.to_string()),
        DeValue::Float(number) => Ok(number.as_str().replace('_', "")),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|it| it.to_string())
            .map_err(|_| "a number beyond 64 bits"),
        DeValue::Array(values) => {
            let values = values.iter().map(|it| match it.get_ref() {
                DeValue::Array(_) => Err("an array inside an array"),
                plain => scalar(plain),
            });
            Ok(values.collect::<Result<Vec<_>, _>>()?.join(","))
        }
        DeValue::Table(_) => Err("a table inside an array"),
        DeValue::Datetime(_) => Err("a date"),
    }
}

fn read_properties(text: &str) -> Result<Vec<Entry>, TextError> {
    let mut entries = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((line, first)) = lines.next() {
        let first = first.trim_start();
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = first.to_owned();
        while ends_open(&whole) {
            whole.pop();
            let Some((_, next)) = lines.next() else { break };
            whole.push_str(next.trim_start());
        }
        let (key, value) = split_property(&whole);
        let key = unescape(key, line)?;
        if key.is_empty() {
            return Err(TextError::NoKey { line });
        }
        entries.push(Entry { key, value: unescape(value, line)?, line });
    }
    Ok(entries)
}

/// An odd number of backslashes at the end: the next line goes on.
fn ends_open(line: &str) -> bool {
    line.bytes().rev().take_while(|it| *it == b'\\').count() % 2 == 1
}

/// The key ends at the first `=`, `:` or space that no backslash precedes.
fn split_property(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let ends = |it: char| {
        let end = !escaped && (it == '=' || it == ':' || it.is_whitespace());
        escaped = !escaped && it == '\\';
        end
    };
    let Some(end) = line.find(ends) else { return (line, "") };
    let rest = line[end..].trim_start();
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], rest.trim_start())
}

fn unescape(text: &str, line: usize) -> Result<String, TextError> {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            plain.push(letter);
            continue;
        }
        match letters.next() {
            Some('n') => plain.push('\n'),
            Some('t') => plain.push('\t'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => {
                let digits: String = letters.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                let letter = code.and_then(char::from_u32);
                let escape = format!("u{digits}");
                plain.push(letter.ok_or(TextError::BadEscape { line, escape })?);
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line per entry: `line key=value`.
    fn told(name: &str, text: &str) -> String {
        match read(name, text) {
            Ok(entries) => {
                let entries =
                    entries.iter().map(|it| format!("{} {}={}", it.line, it.key, it.value));
                entries.collect::<Vec<_>>().join("\n")
            }
            Err(error) => format!("refused, {error}"),
        }
    }

    #[test]
    fn tables_of_toml_flatten_to_dotted_keys() {
        let text = "node.id = 7\nbroker = { rack = \"a\" }\n\n[log]\nretention.ms = 1_000\n\
                    \"cleanup.policy\" = [\"compact\", \"delete\"]\nflag = true\nratio = 0.5\n";
        assert_eq!(
            told("x.toml", text),
            "1 node.id=7\n2 broker.rack=a\n5 log.retention.ms=1000\n\
             6 log.cleanup.policy=compact,delete\n7 log.flag=true\n8 log.ratio=0.5"
        );
    }

    #[test]
    fn properties_keep_their_old_freedoms() {
        let text = "# a comment\n! another\n\n num.partitions = 3 \nnode.id:4\nbroker.rack a\\u0062\n\
                    listeners=A://:1,\\\n   B://:2\nodd\\=key=back\\\\slash\nempty";
        assert_eq!(
            told("server.properties", text),
            "4 num.partitions=3 \n5 node.id=4\n6 broker.rack=ab\n7 listeners=A://:1,B://:2\n\
             9 odd=key=back\\slash\n10 empty="
        );
    }

    #[test]
    fn a_name_that_says_nothing_is_tried_as_both() {
        assert_eq!(told("corelane.conf", "log.dirs=/data"), "1 log.dirs=/data");
        assert_eq!(told("corelane.conf", "log.dirs='/data'"), "1 log.dirs=/data");
        let refused = told("corelane.conf", "[log]\ndirs = /data\n");
        assert!(refused.starts_with("refused, line 2: "), "{refused}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_line() {
        for (name, text, refused) in [
            ("x.toml", "a.b = 1\n\"a.b\" = 2", "line 2: a.b is already set on line 1"),
            ("x.properties", "a=1\n\na=2", "line 3: a is already set on line 1"),
            (
                "x.properties",
                "a=\\u00g0",
                "line 1: \\u00g0 is not four hexadecimal digits after \\u",
            ),
            ("x.properties", "=1", "line 1: a value without a key"),
            ("x.toml", "a = 1979-05-27", "line 1: a is a date, and no key takes that"),
            (
                "x.toml",
                "a = [{b = 1}]",
                "line 1: a is a table inside an array, and no key takes that",
            ),
            ("x.toml", "a = [[1]]", "line 1: a is an array inside an array, and no key takes that"),
            (
                "x.toml",
                "a = 99999999999999999999",
                "line 1: a is a number beyond 64 bits, and no key takes that",
            ),
        ] {
            assert_eq!(told(name, text), format!("refused, {refused}"));
        }
    }
}
