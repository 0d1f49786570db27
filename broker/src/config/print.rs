//! The tables as people read them: the printed defaults, the check's answer, the reference page.
//!
//! All of it is made from the rows, so none of it can be out of date; a test compares the page in
//! `docs/` with what is made here.

use super::keys::BROKER_KEYS;
use super::load::{Config, variable_of};
use super::row::{Change, Row, Use};
use super::topic::TOPIC_KEYS;
use super::value::{Check, Kind};
use std::fmt::Write as _;

const LINE_LETTERS_MAX: usize = 96;

/// Every key with its default, as a TOML file in which every line is a comment.
#[must_use]
pub fn defaults() -> String {
    let mut out = String::from(
        "# Every key of the broker with its default. Uncomment a line to change it.\n\
         # A key stands in quotes where TOML would otherwise take it for a table.\n",
    );
    for row in BROKER_KEYS {
        out.push('\n');
        for line in wrapped(&explained(row)) {
            writeln!(out, "# {line}").expect("a string takes every line");
        }
        let value = row.default.map_or("...".to_owned(), |it| toml_value(row.kind, it));
        writeln!(out, "#{} = {value}", toml_key(row.name)).expect("a string takes every line");
    }
    out
}

/// What is set, by whom, and what it means for the listeners.
#[must_use]
pub fn check_report(config: &Config) -> String {
    let mut out = String::new();
    for (row, given) in config.settings.all_given() {
        if row.default == Some(given.value.as_str()) {
            continue;
        }
        let value = toml_value(row.kind, &given.value);
        writeln!(out, "{} = {value}  # {}", toml_key(row.name), given.source)
            .expect("a string takes every line");
    }
    if out.is_empty() {
        out.push_str("# every key has its default\n");
    }
    out
}

/// The reference page.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         This page is printed from the tables the broker itself reads; a test keeps it so.\n\
         `corelane --print-defaults` prints the broker's keys as a file to start from, and\n\
         `corelane --check-config` says what is set and by whom.\n\n\
         A value is looked for in this order: the flags `--data`, `--listen` and `--lanes`;\n\
         `--set key=value`; the environment; the file of `--config`; the default. In the\n\
         environment a key is written in capitals, with `_` for `.`, after `CORELANE_`\n\
         (`CORELANE_LOG_RETENTION_MS`); a key of our own does not repeat the name\n\
         (`corelane.lanes` is `CORELANE_LANES`). A file is TOML or Kafka's `.properties`. An\n\
         unknown key is refused; an unknown variable only warns.\n\n\
         *Dynamic* keys can be altered while the broker runs, for this broker or as the default of\n\
         the cluster. Keys marked *stored and shown* are there for the tools that expect them.\n\n\
         ## The broker\n",
    );
    for row in BROKER_KEYS {
        section(&mut out, row);
        let _ = write!(out, "\n- environment: `{}`\n", variable_of(row.name));
    }
    out.push_str(
        "\n## Topics\n\n\
         Set when a topic is created or altered. A topic that does not set a key has the broker's\n\
         value of the key named behind *else*.\n",
    );
    for row in TOPIC_KEYS {
        section(&mut out, row);
        out.push('\n');
    }
    out
}

fn section(out: &mut String, row: &Row) {
    let mut write = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("a string takes every line");
    };
    write(format_args!("\n### `{}`\n\n", row.name));
    for line in wrapped(row.doc) {
        write(format_args!("{line}\n"));
    }
    write(format_args!("\n- type: {}", row.kind.name()));
    if let Some(range) = range(row.check) {
        write(format_args!(", {range}"));
    }
    match row.default {
        Some("") => write(format_args!("\n- default: empty")),
        Some(default) => write(format_args!("\n- default: `{default}`")),
        None => write(format_args!("\n- default: none")),
    }
    if !row.fallback.is_empty() {
        let names: Vec<String> = row.fallback.iter().map(|it| format!("`{}`", it.name)).collect();
        write(format_args!("\n- else: {}", names.join(", ")));
    }
    if row.change == Change::Dynamic {
        write(format_args!("\n- dynamic"));
    }
    match row.used {
        Use::Obeyed => {}
        Use::Shown(why) => write(format_args!("\n- stored and shown: {why}")),
        Use::DefaultOnly(why) => write(format_args!("\n- {why}")),
    }
}

/// What a comment beside the key says.
fn explained(row: &Row) -> String {
    let mut text = row.doc.to_owned();
    if let Some(range) = range(row.check) {
        let _ = write!(text, " ({range})");
    }
    if let Use::Shown(why) | Use::DefaultOnly(why) = row.used {
        let _ = write!(text, " Stored and shown: {why}.");
    }
    text
}

fn range(check: Check) -> Option<String> {
    match check {
        Check::Any | Check::NotEmpty => None,
        Check::AtLeast(min) => Some(format!("at least {min}")),
        Check::Between(min, max) => Some(format!("{min} to {max}")),
        Check::BetweenOr(min, i64::MAX, other) => Some(format!("at least {min}, or {other}")),
        Check::BetweenOr(min, max, other) => Some(format!("{min} to {max}, or {other}")),
        Check::Ratio => Some("0 to 1".to_owned()),
        Check::OneOf(words) => Some(format!("one of {}", words.join(", "))),
        Check::ListOf(words) => Some(format!("of {}", words.join(", "))),
        Check::ThrottledReplicas => Some("`*` or partition:broker pairs".to_owned()),
    }
}

/// A key as TOML reads it. Bare, `max.connections` would be a value and, in
/// `max.connections.per.ip`, a table.
fn toml_key(name: &str) -> String {
    let inside = |longer: &str, shorter: &str| {
        longer.strip_prefix(shorter).is_some_and(|rest| rest.starts_with('.'))
    };
    let clashes = |it: &&&Row| inside(it.name, name) || inside(name, it.name);
    match BROKER_KEYS.iter().find(clashes) {
        Some(_) => format!("\"{name}\""),
        None => name.to_owned(),
    }
}

fn toml_value(kind: Kind, text: &str) -> String {
    match kind {
        Kind::Boolean => text.to_lowercase(),
        Kind::Int | Kind::Short | Kind::Long => text.trim_start_matches('+').to_owned(),
        Kind::Double => text.parse::<f64>().map_or_else(|_| quoted(text), |it| format!("{it:?}")),
        Kind::String => quoted(text),
        Kind::List => {
            let entries: Vec<String> =
                super::value::split_list(text).iter().map(|it| quoted(it)).collect();
            format!("[{}]", entries.join(", "))
        }
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(control));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
    out
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= LINE_LETTERS_MAX {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::load::{Inputs, load};
    use super::*;

    fn from_file(name: &str, text: String) -> Config {
        let file = Some((name.to_owned(), text));
        load(&Inputs { file, ..Inputs::default() }).unwrap()
    }

    #[test]
    fn the_printed_defaults_uncommented_are_the_defaults() {
        let settable = |it: &&str| it.starts_with('#') && !it.starts_with("# ");
        let text: Vec<String> = defaults()
            .lines()
            .filter(settable)
            .filter(|it| !it.ends_with("= ..."))
            .map(|it| it[1..].to_owned())
            .collect();
        let with_default = BROKER_KEYS.iter().filter(|it| it.default.is_some()).count();
        assert_eq!(text.len(), with_default);
        let config = from_file("defaults.toml", text.join("\n"));
        assert_eq!(config.settings.all_given().count(), with_default);
        assert_eq!(check_report(&config), "# every key has its default\n");
    }

    #[test]
    fn the_check_says_what_is_set_and_by_whom_as_a_file_that_says_the_same() {
        let text = "num.partitions=+3\nlisteners=A://localhost:1,B://localhost:2\nlog.cleanup.policy=delete\n\
                    listener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT\nbroker.rack=a\"\\u0001\n\
                    log.cleaner.min.cleanable.ratio=1\nmax.connections.per.ip=3\n";
        let config = from_file("server.properties", text.to_owned());
        let report = check_report(&config);
        assert_eq!(
            report,
            "broker.rack = \"a\\\"\\u0001\"  # server.properties, line 5\n\
             listeners = [\"A://localhost:1\", \"B://localhost:2\"]  # server.properties, line 2\n\
             listener.security.protocol.map = [\"A:PLAINTEXT\", \"B:PLAINTEXT\"]  \
             # server.properties, line 4\n\
             \"max.connections.per.ip\" = 3  # server.properties, line 7\n\
             num.partitions = 3  # server.properties, line 1\n\
             log.cleaner.min.cleanable.ratio = 1.0  # server.properties, line 6\n"
        );
        let again = from_file("again.toml", report);
        assert_eq!(again.listeners, config.listeners);
    }

    #[test]
    fn the_reference_page_is_the_one_in_docs() {
        let page = include_str!("../../../docs/configuration.md");
        assert!(
            page == reference(),
            "docs/configuration.md differs from the tables; print it again with \
             `cargo run -p corelane-broker --example reference > docs/configuration.md`"
        );
    }
}
