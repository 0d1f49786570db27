//! A mapping of a workload file, read key by key: what is not known is refused, with the name that
//! was probably meant.

use saphyr::Yaml;
use std::fmt;

/// Why a workload is none. The text says where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkloadError(pub(crate) String);

impl fmt::Display for WorkloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WorkloadError {}

pub(crate) struct Section<'y, 't> {
    /// Where it is in the file; empty at the top.
    place: &'static str,
    pairs: Vec<(String, &'y Yaml<'t>)>,
}

impl<'y, 't> Section<'y, 't> {
    pub(crate) fn new(
        place: &'static str,
        yaml: &'y Yaml<'t>,
        known: &[&str],
    ) -> Result<Self, WorkloadError> {
        let named = if place.is_empty() { "the file" } else { place };
        let Some(mapping) = yaml.as_mapping() else {
            return Err(WorkloadError(format!("{named} is not a mapping of keys to values")));
        };
        let mut section = Self { place, pairs: Vec::new() };
        for (key, value) in mapping {
            let Some(key) = key.as_str() else {
                return Err(WorkloadError(format!("a key of {named} is not text: {key:?}")));
            };
            if !known.contains(&key) {
                let (key, near) = (section.path(key), nearest(key, known));
                return Err(WorkloadError(match near {
                    Some(near) => {
                        format!("there is no key {key}; did you mean {}?", section.path(near))
                    }
                    None => format!("there is no key {key}"),
                }));
            }
            section.pairs.push((key.to_owned(), value));
        }
        Ok(section)
    }

    fn path(&self, key: &str) -> String {
        if self.place.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place) }
    }

    pub(crate) fn wrong(&self, key: &str, why: &str) -> WorkloadError {
        WorkloadError(format!("{}: {why}", self.path(key)))
    }

    pub(crate) fn missing(&self, key: &str) -> WorkloadError {
        WorkloadError(format!("the key {} is missing", self.path(key)))
    }

    /// The value of a key; one that is empty counts as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&'y Yaml<'t>> {
        let found = self.pairs.iter().find(|it| it.0 == key)?.1;
        (!found.is_null()).then_some(found)
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<String>, WorkloadError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = plain(value).ok_or_else(|| self.wrong(key, "is not text"))?;
        Ok(Some(text))
    }

    pub(crate) fn truth(&self, key: &str) -> Result<Option<bool>, WorkloadError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let truth = value.as_bool().ok_or_else(|| self.wrong(key, "is not true or false"))?;
        Ok(Some(truth))
    }

    pub(crate) fn number(
        &self,
        key: &str,
        least: f64,
        most: f64,
    ) -> Result<Option<f64>, WorkloadError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_floating_point().or_else(|| value.as_integer().map(|it| it as f64));
        let number = number.ok_or_else(|| self.wrong(key, "is not a number"))?;
        if !(least..=most).contains(&number) {
            return Err(self.wrong(key, &format!("{number} is not from {least} to {most}")));
        }
        Ok(Some(number))
    }

    pub(crate) fn whole(
        &self,
        key: &str,
        least: u32,
        most: u32,
    ) -> Result<Option<u32>, WorkloadError> {
        let Some(number) = self.number(key, least.into(), most.into())? else { return Ok(None) };
        if number.fract() != 0.0 {
            return Err(self.wrong(key, &format!("{number} is not a whole number")));
        }
        Ok(Some(number as u32))
    }

    /// One of a few words.
    pub(crate) fn word<'w>(
        &self,
        key: &str,
        words: &[&'w str],
    ) -> Result<Option<&'w str>, WorkloadError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match words.iter().find(|it| **it == text) {
            Some(word) => Ok(Some(word)),
            None => Err(self.wrong(key, &format!("{text} is none of {}", words.join(", ")))),
        }
    }

    /// A mapping with whatever keys.
    pub(crate) fn pairs(&self, key: &str) -> Result<Vec<(String, String)>, WorkloadError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let Some(mapping) = value.as_mapping() else {
            return Err(self.wrong(key, "is not a mapping of keys to values"));
        };
        let pair = |(name, value)| Some((plain(name)?, plain(value)?));
        let pairs: Option<Vec<_>> = mapping.iter().map(pair).collect();
        pairs.ok_or_else(|| self.wrong(key, "has a value that is neither text nor number"))
    }
}

/// A scalar as it would be written.
fn plain(value: &Yaml<'_>) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    let number = value.as_integer().map(|it| it.to_string());
    let number = number.or_else(|| value.as_floating_point().map(|it| it.to_string()));
    number.or_else(|| value.as_bool().map(|it| it.to_string()))
}

/// The known name with the fewest changed letters, if they are few.
pub(crate) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = known.iter().map(|it| (distance(name, it), *it)).min()?;
    (near.0 <= 2 + name.len() / 4).then_some(near.1)
}

/// How many letters have to be put, taken or changed, whatever their case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, right) in b.chars().enumerate() {
            let changed = corner + usize::from(left != right);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row.pop().expect("a row has a first place")
}
