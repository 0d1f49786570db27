//! The records inside a batch, borrowed from its uncompressed payload.
//!
//! [`Records`] walks exactly the number of records the header promised. Every length is checked
//! against what remains, a record must end where it said, and nothing may be left over. Nothing is
//! copied or allocated; no bytes make it panic.

use crate::varint;

/// The least bytes a record takes: its length, and six one-byte fields.
pub const RECORD_BYTES_MIN: usize = 7;
/// The least bytes a header takes: an empty name and a missing value.
const RECORD_HEADER_BYTES_MIN: usize = 2;

/// Why some bytes are not the promised records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// The payload ends inside a record.
    Truncated,
    /// The record's length is negative or beyond the payload.
    Length { found: i32, remaining: usize },
    /// A key, value or header reaches beyond its record.
    Field,
    /// A header's name is missing, or there are fewer than said.
    Header,
    /// A record whose fields end before it does.
    Slack { bytes: usize },
    /// Bytes after the last record.
    LeftOver { bytes: usize },
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    headers: &'a [u8],
    header_count: i32,
}

impl<'a> Record<'a> {
    /// The headers, in order; their bytes were checked when the record was read.
    #[must_use]
    pub fn headers(&self) -> RecordHeaders<'a> {
        RecordHeaders { rest: self.headers, left: self.header_count }
    }

    /// The headers as they lie in the record, with their number before them left out.
    #[must_use]
    pub(crate) fn raw_headers(&self) -> (i32, &'a [u8]) {
        (self.header_count, self.headers)
    }
}

/// The headers of one record: name and value.
#[derive(Debug, Clone)]
pub struct RecordHeaders<'a> {
    rest: &'a [u8],
    left: i32,
}

impl<'a> Iterator for RecordHeaders<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        take_header(&mut self.rest).ok()
    }
}

/// The records of a payload, in order. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
    left: u32,
    done: bool,
}

impl<'a> Records<'a> {
    /// `count` records are expected; a last item says so when bytes are left over.
    #[must_use]
    pub fn new(payload: &'a [u8], count: u32) -> Self {
        Self { rest: payload, left: count, done: false }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.left == 0 {
            self.done = true;
            let bytes = self.rest.len();
            return (bytes != 0).then_some(Err(RecordError::LeftOver { bytes }));
        }
        self.left -= 1;
        let it = take_record(&mut self.rest);
        self.done = it.is_err();
        Some(it)
    }
}

/// How long the record at the front is, with its length before it. `None` when that is not here whole, or
/// wrong: then [`take_record`] says how.
pub(crate) fn record_bytes(rest: &[u8]) -> Option<usize> {
    let mut after = rest;
    let length = usize::try_from(varint::take_i32(&mut after)?).ok()?;
    Some(rest.len() - after.len() + length)
}

/// The record at the front.
pub(crate) fn take_record<'a>(rest: &mut &'a [u8]) -> Result<Record<'a>, RecordError> {
    let (record, mut body) = take_head(rest)?;
    for _ in 0..record.header_count {
        take_header(&mut body)?;
    }
    if !body.is_empty() {
        return Err(RecordError::Slack { bytes: body.len() });
    }
    Ok(record)
}

/// A record whose headers were not looked at, and where they lie.
fn take_head<'a>(rest: &mut &'a [u8]) -> Result<(Record<'a>, &'a [u8]), RecordError> {
    let length = varint::take_i32(rest).ok_or(RecordError::Truncated)?;
    let wrong = RecordError::Length { found: length, remaining: rest.len() };
    let length = usize::try_from(length).map_err(|_| wrong)?;
    let (mut body, after) = rest.split_at_checked(length).ok_or(wrong)?;
    *rest = after;

    let _attributes: u8 = *body.split_off_first().ok_or(RecordError::Field)?;
    let timestamp_delta = varint::take_i64(&mut body).ok_or(RecordError::Field)?;
    let offset_delta = varint::take_i32(&mut body).ok_or(RecordError::Field)?;
    let key = take_nullable(&mut body).ok_or(RecordError::Field)?;
    let value = take_nullable(&mut body).ok_or(RecordError::Field)?;
    let header_count = varint::take_i32(&mut body).ok_or(RecordError::Field)?;
    if header_count < 0 || body.len() / RECORD_HEADER_BYTES_MIN < header_count as usize {
        return Err(RecordError::Header);
    }
    let headers = body;
    Ok((Record { timestamp_delta, offset_delta, key, value, headers, header_count }, body))
}

/// How far the records of a payload were walked: between two of them, or between two headers of one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Bytes of the payload behind us.
    at: usize,
    /// The number of the record that comes next, or that is open.
    index: u32,
    /// Headers of the open record that were looked at, and their bytes.
    headers: (i32, usize),
}

impl Place {
    pub(crate) const START: Self = Self { at: 0, index: 0, headers: (0, 0) };

    /// The next record, if it can be walked with what is left of `things`, of which each record and each
    /// header takes one. `None` within `Ok` when there is none, or not yet: then `things` is used up.
    ///
    /// # Errors
    /// As [`Records`], with the record's number.
    pub(crate) fn next<'a>(
        &mut self,
        payload: &'a [u8],
        count: u32,
        things: &mut usize,
    ) -> Result<Option<(u32, Record<'a>)>, (u32, RecordError)> {
        let index = self.index;
        let mut rest = &payload[self.at..];
        if index == count {
            let bytes = rest.len();
            return if bytes == 0 {
                Ok(None)
            } else {
                Err((index, RecordError::LeftOver { bytes }))
            };
        }
        if *things == 0 {
            return Ok(None);
        }
        *things -= 1;
        let (record, body) = take_head(&mut rest).map_err(|it| (index, it))?;
        let (mut seen, bytes) = self.headers;
        let mut body = &body[bytes..];
        while seen < record.header_count {
            if *things == 0 {
                self.headers = (seen, record.headers.len() - body.len());
                return Ok(None);
            }
            *things -= 1;
            take_header(&mut body).map_err(|it| (index, it))?;
            seen += 1;
        }
        if !body.is_empty() {
            return Err((index, RecordError::Slack { bytes: body.len() }));
        }
        *self = Self { at: payload.len() - rest.len(), index: index + 1, headers: (0, 0) };
        Ok(Some((index, record)))
    }

    /// Whether all records were walked, and nothing is behind them.
    pub(crate) fn is_end(self, payload: &[u8], count: u32) -> bool {
        self.index == count && self.at == payload.len()
    }
}

fn take_header<'a>(rest: &mut &'a [u8]) -> Result<(&'a [u8], Option<&'a [u8]>), RecordError> {
    let name = take_nullable(rest).flatten().ok_or(RecordError::Header)?;
    let value = take_nullable(rest).ok_or(RecordError::Header)?;
    Ok((name, value))
}

/// Takes bytes with their length before them; any negative length means there are none.
#[expect(clippy::option_option, reason = "outside: are the bytes whole; inside: is there a value")]
fn take_nullable<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = varint::take_i32(rest)?;
    let Ok(length) = usize::try_from(length) else {
        return Some(None);
    };
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(Some(bytes))
}

/// One record to be written.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RecordFields<'a> {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) header_count: i32,
    /// Names and values as they lie in a record.
    pub(crate) headers: &'a [u8],
}

/// Appends a record to a payload. `body` is scratch.
pub(crate) fn put_record(out: &mut Vec<u8>, body: &mut Vec<u8>, fields: &RecordFields<'_>) {
    body.clear();
    body.push(0);
    varint::put_i64(body, fields.timestamp_delta);
    varint::put_i32(body, fields.offset_delta);
    put_nullable(body, fields.key);
    put_nullable(body, fields.value);
    varint::put_i32(body, fields.header_count);
    body.extend_from_slice(fields.headers);
    varint::put_i32(out, i32::try_from(body.len()).expect("a record beyond 2 GiB"));
    out.extend_from_slice(body);
}

pub(crate) fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::put_i32(out, i32::try_from(bytes.len()).expect("a field beyond 2 GiB"));
            out.extend_from_slice(bytes);
        }
        None => varint::put_i32(out, -1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch::Batch, build::BatchBuilder};

    #[test]
    fn records_read_as_they_were_written() {
        let mut builder = BatchBuilder::new();
        builder.record(500, Some(b"k"), None);
        builder.record_with_headers(400, None, Some(b"v"), &[("a", Some(b"1")), ("b", None)]);
        let bytes = builder.build();
        let batch = Batch::split(&bytes).unwrap().0;
        let found: Vec<_> = Records::new(batch.payload(), 2).map(Result::unwrap).collect();
        assert_eq!((found[0].key, found[0].value), (Some(&b"k"[..]), None));
        assert_eq!((found[0].timestamp_delta, found[1].timestamp_delta), (0, -100));
        assert_eq!((found[0].offset_delta, found[1].offset_delta), (0, 1));
        let headers: Vec<_> = found[1].headers().collect();
        assert_eq!(headers, [(&b"a"[..], Some(&b"1"[..])), (b"b", None)]);
    }

    #[track_caller]
    fn check(payload: &[u8], count: u32, expect: &str) {
        let told: Vec<_> = Records::new(payload, count)
            .map(|it| it.map_or_else(|error| format!("{error:?}"), |_| "ok".to_string()))
            .collect();
        assert_eq!(told.join(" "), expect);
    }

    #[test]
    fn every_length_is_checked_against_what_remains() {
        // length 6: attributes, timestamp, offset, no key, no value, no headers
        let one = [12, 0, 0, 0, 1, 1, 0];
        check(&one, 1, "ok");
        check(&[], 0, "");
        check(&one, 2, "ok Truncated");
        check(&one, 0, "LeftOver { bytes: 7 }");
        check(&one[..6], 1, "Length { found: 6, remaining: 5 }");
        check(&[1, 0], 1, "Length { found: -1, remaining: 1 }");
        check(&[14, 0, 0, 0, 1, 1, 0, 0], 1, "Slack { bytes: 1 }");
        check(&[12, 0, 0, 0, 1, 8, 0], 1, "Field");
        check(&[12, 0, 0, 0, 1, 1, 2], 1, "Header");
        check(&[12, 0, 0, 0, 1, 1, 1], 1, "Header");
        check(&[16, 0, 0, 0, 1, 1, 2, 1, 1], 1, "Header");
    }
}
