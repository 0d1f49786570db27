//! A configuration value: its type, what it may be, and the text that refuses it.
//!
//! Users meet these refusals through Kafka's tools, so they carry the words those tools' users
//! know. A value is kept as the text it was given in; parsing it is cheap and happens at the edge
//! of each use, so that what is shown is always exactly what was set.
//! This file knows nothing of keys, files or layers.

use std::fmt;

/// The type of a value, with the number the protocol gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
}

impl Kind {
    /// The number in the answer to DescribeConfigs.
    #[must_use]
    pub fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Int => "int",
            Self::Short => "short",
            Self::Long => "long",
            Self::Double => "double",
            Self::List => "list",
        }
    }
}

/// What a value of the right type must also be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Check {
    Any,
    AtLeast(i64),
    Between(i64, i64),
    /// The range, or this one value beside it.
    BetweenOr(i64, i64, i64),
    /// A ratio: nothing below zero, nothing above one.
    Ratio,
    OneOf(&'static [&'static str]),
    /// A list drawn from these, without repetition; it may be empty.
    ListOf(&'static [&'static str]),
    NotEmpty,
    /// `*`, or `partition:broker` pairs.
    ThrottledReplicas,
}

/// A value that has been parsed and checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Boolean(bool),
    Number(i64),
    Double(f64),
    Text(String),
    List(Vec<String>),
}

/// A value that its key does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadValue {
    pub key: String,
    pub value: String,
    pub why: String,
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invalid value {} for configuration {}: {}", self.value, self.key, self.why)
    }
}

/// Reads `text` as a value of `kind` that passes `check`.
///
/// # Errors
/// Says why the text is no such value; the caller adds the key.
pub fn parse(kind: Kind, check: Check, text: &str) -> Result<Value, String> {
    let text = text.trim();
    let value = match kind {
        Kind::Boolean if text.eq_ignore_ascii_case("true") => Value::Boolean(true),
        Kind::Boolean if text.eq_ignore_ascii_case("false") => Value::Boolean(false),
        Kind::Boolean => return Err("Expected value to be either true or false".to_owned()),
        Kind::Short => Value::Number(text.parse::<i16>().map_err(|_| not_a(kind))?.into()),
        Kind::Int => Value::Number(text.parse::<i32>().map_err(|_| not_a(kind))?.into()),
        Kind::Long => Value::Number(text.parse().map_err(|_| not_a(kind))?),
        Kind::Double => {
            let number = text.parse().map_err(|_| not_a(kind))?;
            if !f64::is_finite(number) {
                return Err(not_a(kind));
            }
            Value::Double(number)
        }
        Kind::String => Value::Text(text.to_owned()),
        Kind::List => Value::List(split_list(text)),
    };
    match refusal(check, &value) {
        None => Ok(value),
        Some(why) => Err(why),
    }
}

/// The entries of a list as it is written: between commas, without the spaces around them.
#[must_use]
pub fn split_list(text: &str) -> Vec<String> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    text.split(',').map(|it| it.trim().to_owned()).collect()
}

fn not_a(kind: Kind) -> String {
    format!("Not a number of type {}", kind.name().to_uppercase())
}

fn refusal(check: Check, value: &Value) -> Option<String> {
    match (check, value) {
        (Check::AtLeast(min) | Check::Between(min, _), Value::Number(it)) if *it < min => {
            Some(format!("Value must be at least {min}"))
        }
        (Check::Between(_, max), Value::Number(it)) if max < *it => {
            Some(format!("Value must be no more than {max}"))
        }
        (Check::BetweenOr(min, max, other), Value::Number(it))
            if *it != other && !(min..=max).contains(it) =>
        {
            Some(format!("Value must be between {min} and {max} or equal to {other}"))
        }
        (Check::Ratio, Value::Double(it)) if *it < 0.0 => {
            Some("Value must be at least 0".to_owned())
        }
        (Check::Ratio, Value::Double(it)) if 1.0 < *it => {
            Some("Value must be no more than 1".to_owned())
        }
        (Check::OneOf(allowed), Value::Text(it)) if !allowed.contains(&it.as_str()) => {
            Some(format!("String must be one of: {}", allowed.join(", ")))
        }
        (Check::ListOf(allowed), Value::List(entries)) => list_refusal(allowed, entries),
        (Check::NotEmpty, Value::Text(it)) if it.is_empty() => {
            Some("String must be non-empty".to_owned())
        }
        (Check::NotEmpty, Value::List(entries))
            if entries.is_empty() || entries.iter().any(String::is_empty) =>
        {
            Some("List must have entries, and none of them empty".to_owned())
        }
        (Check::ThrottledReplicas, Value::List(entries)) if !is_throttle_list(entries) => Some(
            "the value must be the literal '*' or a list of replicas in the following format: \
             [partitionId]:[brokerId],[partitionId]:[brokerId],..."
                .to_owned(),
        ),
        _ => None,
    }
}

fn list_refusal(allowed: &[&str], entries: &[String]) -> Option<String> {
    for (at, entry) in entries.iter().enumerate() {
        if !allowed.contains(&entry.as_str()) {
            return Some(format!("String must be one of: {}", allowed.join(", ")));
        }
        if entries[..at].contains(entry) {
            return Some(format!("values must not be duplicated, and {entry} is there twice"));
        }
    }
    None
}

fn is_throttle_list(entries: &[String]) -> bool {
    let is_pair = |entry: &String| {
        entry.split_once(':').is_some_and(|(partition, broker)| {
            partition.parse::<u32>().is_ok() && broker.parse::<u32>().is_ok()
        })
    };
    entries == ["*"] || entries.iter().all(is_pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(kind: Kind, check: Check, text: &str, why: &str) {
        assert_eq!(parse(kind, check, text), Err(why.to_owned()), "{text}");
    }

    #[test]
    fn a_number_must_fit_its_type() {
        assert_eq!(parse(Kind::Int, Check::Any, " 7 "), Ok(Value::Number(7)));
        refused(Kind::Int, Check::Any, "2147483648", "Not a number of type INT");
        refused(Kind::Short, Check::Any, "70000", "Not a number of type SHORT");
        refused(Kind::Long, Check::Any, "1 day", "Not a number of type LONG");
        refused(Kind::Double, Check::Any, "NaN", "Not a number of type DOUBLE");
    }

    #[test]
    fn a_number_outside_its_range_hears_the_bound() {
        refused(Kind::Long, Check::AtLeast(-1), "-2", "Value must be at least -1");
        refused(Kind::Int, Check::Between(1, 9), "0", "Value must be at least 1");
        refused(Kind::Int, Check::Between(1, 9), "10", "Value must be no more than 9");
        let level = Check::BetweenOr(1, 9, -1);
        assert_eq!(parse(Kind::Int, level, "-1"), Ok(Value::Number(-1)));
        refused(Kind::Int, level, "0", "Value must be between 1 and 9 or equal to -1");
        refused(Kind::Double, Check::Ratio, "1.5", "Value must be no more than 1");
        refused(Kind::Double, Check::Ratio, "-0.1", "Value must be at least 0");
    }

    #[test]
    fn words_outside_the_choice_hear_the_choice() {
        refused(Kind::Boolean, Check::Any, "yes", "Expected value to be either true or false");
        assert_eq!(parse(Kind::Boolean, Check::Any, "TRUE"), Ok(Value::Boolean(true)));
        refused(
            Kind::String,
            Check::OneOf(&["CreateTime", "LogAppendTime"]),
            "createtime",
            "String must be one of: CreateTime, LogAppendTime",
        );
    }

    #[test]
    fn a_list_is_drawn_from_its_choice_without_repetition() {
        let policies = Check::ListOf(&["compact", "delete"]);
        assert_eq!(parse(Kind::List, policies, ""), Ok(Value::List(vec![])));
        refused(Kind::List, policies, "delete,keep", "String must be one of: compact, delete");
        refused(
            Kind::List,
            policies,
            "delete, delete",
            "values must not be duplicated, and delete is there twice",
        );
    }

    #[test]
    fn throttled_replicas_are_a_star_or_pairs() {
        for good in ["", "*", "0:1", "0:1, 5:2"] {
            assert!(parse(Kind::List, Check::ThrottledReplicas, good).is_ok(), "{good}");
        }
        for bad in ["1", "0:1,*", "a:b", "0:1,"] {
            assert!(parse(Kind::List, Check::ThrottledReplicas, bad).is_err(), "{bad}");
        }
    }
}
