//! What a topic may be called.
//!
//! A name becomes part of directory and metric names, so the rule is strict. In metric names `.`
//! and `_` become the same letter: two topics that differ only there would be counted as one, and
//! the second is refused.

use std::fmt;

pub const NAME_LETTERS_MAX: usize = 249;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    Empty,
    Dots { name: String },
    TooLong { name: String },
    BadLetter { name: String },
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Topic name is invalid: ")?;
        match self {
            Self::Empty => f.write_str("the empty string is not allowed"),
            Self::Dots { name } => write!(f, "'{name}' is not allowed"),
            Self::TooLong { name } => write!(
                f,
                "the length of '{name}' is longer than the max allowed length {NAME_LETTERS_MAX}"
            ),
            Self::BadLetter { name } => write!(
                f,
                "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' \
                 and '-'"
            ),
        }
    }
}

/// Whether a topic may have this name.
///
/// # Errors
/// Says which rule the name breaks.
pub fn check(name: &str) -> Result<(), NameError> {
    let legal = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '_' | '-');
    let owned = || name.to_owned();
    match name {
        "" => Err(NameError::Empty),
        "." | ".." => Err(NameError::Dots { name: owned() }),
        _ if NAME_LETTERS_MAX < name.chars().count() => Err(NameError::TooLong { name: owned() }),
        _ if !name.chars().all(legal) => Err(NameError::BadLetter { name: owned() }),
        _ => Ok(()),
    }
}

/// The form in which two names that collide are equal.
#[must_use]
pub fn folded(name: &str) -> String {
    name.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_few_letters_and_not_too_many() {
        for good in ["a", "A.b_c-9", "...", "-", &"x".repeat(249)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", "the empty string is not allowed"),
            (".", "'.' is not allowed"),
            ("..", "'..' is not allowed"),
            (
                "a/b",
                "'a/b' contains one or more characters other than ASCII alphanumerics, '.', '_' \
                 and '-'",
            ),
            (
                "ä",
                "'ä' contains one or more characters other than ASCII alphanumerics, '.', '_' and \
                 '-'",
            ),
            (
                "a\0",
                "'a\0' contains one or more characters other than ASCII alphanumerics, '.', '_' \
                 and '-'",
            ),
        ] {
            assert_eq!(
                check(bad).unwrap_err().to_string(),
                format!("Topic name is invalid: {why}")
            );
        }
        let long = "x".repeat(250);
        assert_eq!(
            check(&long).unwrap_err().to_string(),
            format!(
                "Topic name is invalid: the length of '{long}' is longer than the max allowed \
                 length 249"
            )
        );
    }
}
