//! One line of a table of keys: everything the broker knows about a key, in one place.
//!
//! Loading, checking, describing, altering, the printed defaults and the documentation all read
//! the same row, so a key cannot be accepted and then forgotten by one of them.

use super::value::{self, BadValue, Check, Kind, Value};

/// The longest value of any key: a list of throttled replicas of a very large topic fits.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// So much of a refused value is said again.
const SHOWN_LETTERS_MAX: usize = 200;

/// Whether a key may change while the broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Read at start.
    Static,
    /// Through the protocol, for this broker or as the default of the cluster.
    Dynamic,
}

/// What the broker does with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Obeyed,
    /// Kept and shown to tools that expect it; the text says why nothing follows from it.
    Shown(&'static str),
    /// Any value but the default is refused; the text says why.
    DefaultOnly(&'static str),
}

/// A key.
#[derive(Debug, PartialEq)]
pub struct Row {
    pub name: &'static str,
    pub kind: Kind,
    /// `None`: there is no value unless one is set.
    pub default: Option<&'static str>,
    pub check: Check,
    pub change: Change,
    pub used: Use,
    /// Where the value comes from when this key is not set, nearest first. For a topic's key its
    /// broker-wide twin; for a time in milliseconds its coarser spellings.
    pub fallback: &'static [&'static Row],
    /// What one unit of this key is in units of the key that falls back on it.
    pub scale: i64,
    pub doc: &'static str,
}

impl Row {
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind, default: &'static str) -> Self {
        Self {
            name,
            kind,
            default: Some(default),
            check: Check::Any,
            change: Change::Static,
            used: Use::Obeyed,
            fallback: &[],
            scale: 1,
            doc: "",
        }
    }

    #[must_use]
    pub const fn unset(name: &'static str, kind: Kind) -> Self {
        let mut row = Self::new(name, kind, "");
        row.default = None;
        row
    }

    #[must_use]
    pub const fn check(mut self, check: Check) -> Self {
        self.check = check;
        self
    }

    #[must_use]
    pub const fn dynamic(mut self) -> Self {
        self.change = Change::Dynamic;
        self
    }

    #[must_use]
    pub const fn shown(mut self, why: &'static str) -> Self {
        self.used = Use::Shown(why);
        self
    }

    #[must_use]
    pub const fn default_only(mut self, why: &'static str) -> Self {
        self.used = Use::DefaultOnly(why);
        self
    }

    #[must_use]
    pub const fn falls_back_on(mut self, fallback: &'static [&'static Row]) -> Self {
        self.fallback = fallback;
        self
    }

    #[must_use]
    pub const fn scale(mut self, scale: i64) -> Self {
        self.scale = scale;
        self
    }

    #[must_use]
    pub const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    /// Reads `text` as a value of this key.
    ///
    /// # Errors
    /// The value is not of the key's type, out of its range, or one the broker cannot honour.
    pub fn parse(&self, text: &str) -> Result<Value, BadValue> {
        let refuse = |why: String| BadValue {
            key: self.name.to_owned(),
            value: text.chars().take(SHOWN_LETTERS_MAX).collect(),
            why,
        };
        if VALUE_BYTES_MAX < text.len() {
            let long = text.len();
            return Err(refuse(format!("{long} bytes are more than {VALUE_BYTES_MAX}")));
        }
        let value = value::parse(self.kind, self.check, text).map_err(refuse)?;
        if let Use::DefaultOnly(why) = self.used {
            let default = self.default.expect("a key that keeps its default has one");
            if value::parse(self.kind, self.check, default).as_ref() != Ok(&value) {
                return Err(refuse(why.to_owned()));
            }
        }
        Ok(value)
    }

    /// `text`, a value of this key, as a value of a key that falls back on it.
    ///
    /// Negative numbers mean "no limit" and stay what they are.
    #[must_use]
    pub fn scaled(&self, text: &str) -> String {
        match self.parse(text) {
            Ok(Value::Number(number)) if self.scale != 1 && 0 <= number => {
                number.saturating_mul(self.scale).to_string()
            }
            Ok(Value::Number(number)) if self.scale != 1 => number.max(-1).to_string(),
            _ => text.to_owned(),
        }
    }
}

/// Names a list of rows, each a static of its own, and the list of them all.
macro_rules! rows {
    ($(#[$doc:meta])* $all:ident: $($name:ident = $row:expr;)*) => {
        $(pub static $name: Row = $row;)*
        $(#[$doc])*
        pub static $all: &[&Row] = &[$(&$name),*];
    };
}
pub(crate) use rows;
