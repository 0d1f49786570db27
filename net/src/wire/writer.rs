//! Writes values to the end of a vector, once.
//!
//! A length that is known only afterwards is patched into the place kept for it. Records may be
//! left outside: then their length is written and a [`Splice`] remembers where they belong.

use super::pieces::{Rest, Written};
use super::{Array, EncodeError, Records, Uuid, Wire};

/// Record bytes that were not copied: when the output is sent, `bytes` bytes from elsewhere go
/// before the byte at position `at` of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Splice {
    pub at: usize,
    pub bytes: u32,
}

#[derive(Debug)]
pub struct Writer<'w> {
    out: &'w mut Vec<u8>,
    splices: Option<&'w mut Vec<Splice>>,
    /// How far arrays were written, where that is done in pieces.
    written: Option<&'w mut Written>,
    version: i16,
    flexible: bool,
}

impl<'w> Writer<'w> {
    /// Copies records into the output.
    #[must_use]
    pub fn copying(out: &'w mut Vec<u8>) -> Self {
        Self { out, splices: None, written: None, version: 0, flexible: false }
    }

    /// Leaves [`Records::Outside`] outside, noting each in `splices`, in output order.
    #[must_use]
    pub fn splicing(out: &'w mut Vec<u8>, splices: &'w mut Vec<Splice>) -> Self {
        Self { out, splices: Some(splices), written: None, version: 0, flexible: false }
    }

    /// A writer that ends where a piece is over, and begins where the one before was. `written` is the
    /// message's own, new at first and with nothing in the output then; what is written must be the same
    /// each time. While it is not finished the output is what was written so far.
    #[must_use]
    pub fn in_pieces(mut self, written: &'w mut Written) -> Self {
        let splices = self.splice_count();
        written.begin_piece(self.out, splices);
        self.written = Some(written);
        self
    }

    #[inline]
    fn splice_count(&self) -> usize {
        self.splices.as_ref().map_or(0, |it| it.len())
    }

    #[inline]
    pub(super) fn is_in_pieces(&self) -> bool {
        self.written.is_some()
    }

    /// Begins an array: which one it is, and what is to be written of it.
    pub(super) fn begin_array(&mut self) -> (u32, Rest) {
        let written = self.written.as_mut().expect("asked only when written in pieces");
        let number = written.number();
        let (rest, here) = written.begin_array();
        if let Some((out, splices)) = here {
            *self.out = out;
            if let Some(it) = &mut self.splices {
                it.truncate(splices);
            }
        }
        (number, rest)
    }

    /// Begins an element; whether the piece is over before it.
    pub(super) fn begin_element(&mut self) -> bool {
        let length = self.out.len();
        self.written.as_mut().is_some_and(|it| it.begin_element(length))
    }

    pub(super) fn end_piece(&mut self, number: u32, element: usize) {
        if let Some(it) = &mut self.written {
            it.end_piece(number, element);
        }
    }

    pub(super) fn end_array(&mut self, number: u32) {
        if let Some(it) = &mut self.written {
            it.end_array(number);
        }
    }

    #[must_use]
    #[inline]
    pub fn version(&self) -> i16 {
        self.version
    }

    #[must_use]
    #[inline]
    pub fn flexible(&self) -> bool {
        self.flexible
    }

    /// Writes one message in one version. When that fails, nothing of it stays behind.
    pub(super) fn whole(
        &mut self,
        version: i16,
        flexible: bool,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        (self.version, self.flexible) = (version, flexible);
        self.all_or_nothing(write)
    }

    #[inline]
    fn all_or_nothing(
        &mut self,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let length = self.out.len();
        let splices = self.splice_count();
        let result = write(self);
        if result.is_err_and(|it| it != EncodeError::Unfinished) {
            self.out.truncate(length);
            if let Some(it) = &mut self.splices {
                it.truncate(splices);
            }
        }
        result
    }

    /// Writes one frame: the size of all that `write` writes, outside records counted, then that.
    ///
    /// # Errors
    /// When `write` fails or the frame is too long. The output is as before then.
    pub fn frame(
        &mut self,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.all_or_nothing(|it| {
            let start = it.out.len();
            assert!(
                !it.is_in_pieces() || start == 0,
                "what is written in pieces begins the output"
            );
            // Those of earlier pieces belong to the frame too.
            let splices = if it.is_in_pieces() { 0 } else { it.splice_count() };
            it.i32(0);
            write(it)?;
            let outside = it.splices.iter().flat_map(|it| &it[splices..]);
            let outside: usize = outside.map(|it| it.bytes as usize).sum();
            let length = it.out.len() - start - 4 + outside;
            let size = fit(length)?;
            it.out[start..start + 4].copy_from_slice(&size.to_be_bytes());
            Ok(())
        })
    }

    /// Writes what was gathered, which is cheaper than value by value.
    #[inline]
    pub fn run<const BYTES: usize>(&mut self, run: &Run<BYTES>) {
        assert_eq!(run.at, BYTES, "a run is written when it is full");
        self.out.extend_from_slice(&run.bytes);
    }

    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.out.push(u8::from(value));
    }

    #[inline]
    pub fn i8(&mut self, value: i8) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub fn i16(&mut self, value: i16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub fn i32(&mut self, value: i32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub fn f64(&mut self, value: f64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub fn uuid(&mut self, value: Uuid) {
        self.out.extend_from_slice(&value.0);
    }

    #[inline]
    pub fn uvarint(&mut self, value: u32) {
        if value < 0x80 {
            self.out.push(value as u8);
            return;
        }
        let (digits, count) = uvarint_digits(value);
        self.out.extend_from_slice(&digits[..count]);
    }

    #[inline(always)]
    fn length32(&mut self, length: usize) -> Result<(), EncodeError> {
        // Nearly all need one byte.
        if self.flexible && length < 0x7f {
            self.out.push(length as u8 + 1);
            return Ok(());
        }
        self.long_length32(length)
    }

    #[inline]
    fn long_length32(&mut self, length: usize) -> Result<(), EncodeError> {
        let length = fit(length)?;
        if self.flexible {
            self.uvarint(length.cast_unsigned() + 1);
        } else {
            self.i32(length);
        }
        Ok(())
    }

    #[inline]
    fn null32(&mut self) {
        if self.flexible { self.uvarint(0) } else { self.i32(-1) }
    }

    /// # Errors
    /// When it is longer than strings can be.
    #[inline]
    pub fn string(&mut self, value: &str) -> Result<(), EncodeError> {
        if self.flexible {
            self.uvarint(u32::from(fit16(value.len())?.cast_unsigned()) + 1);
            self.out.extend_from_slice(value.as_bytes());
            Ok(())
        } else {
            self.plain_nullable_string(Some(value))
        }
    }

    /// # Errors
    /// When it is longer than strings can be.
    #[inline]
    pub fn nullable_string(&mut self, value: Option<&str>) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.string(value)?,
            None if self.flexible => self.uvarint(0),
            None => self.i16(-1),
        }
        Ok(())
    }

    /// A string that keeps its old form in flexible versions: the client id of request headers.
    ///
    /// # Errors
    /// When it is longer than strings can be.
    pub fn plain_nullable_string(&mut self, value: Option<&str>) -> Result<(), EncodeError> {
        let Some(value) = value else {
            self.i16(-1);
            return Ok(());
        };
        self.i16(fit16(value.len())?);
        self.out.extend_from_slice(value.as_bytes());
        Ok(())
    }

    /// # Errors
    /// When it is longer than a frame can be.
    #[inline]
    pub fn bytes(&mut self, value: &[u8]) -> Result<(), EncodeError> {
        self.length32(value.len())?;
        self.out.extend_from_slice(value);
        Ok(())
    }

    /// # Errors
    /// When it is longer than a frame can be.
    #[inline]
    pub fn nullable_bytes(&mut self, value: Option<&[u8]>) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.bytes(value)?,
            None => self.null32(),
        }
        Ok(())
    }

    /// # Errors
    /// When it is longer than a frame can be, or lies outside a writer that copies.
    #[inline]
    pub fn records(&mut self, value: Records<'_>) -> Result<(), EncodeError> {
        match value {
            Records::Bytes(value) => self.bytes(value),
            Records::Outside { bytes } => {
                self.length32(bytes as usize)?;
                let at = self.out.len();
                let Some(splices) = &mut self.splices else {
                    return Err(EncodeError::NoSplices { bytes });
                };
                splices.push(Splice { at, bytes });
                Ok(())
            }
        }
    }

    /// # Errors
    /// When it is longer than a frame can be, or lies outside a writer that copies.
    #[inline]
    pub fn nullable_records(&mut self, value: Option<Records<'_>>) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.records(value)?,
            None => self.null32(),
        }
        Ok(())
    }

    /// # Errors
    /// When it is longer than arrays can be, or an element cannot be said in this version.
    #[inline]
    pub fn array<'a, T: Wire<'a>>(&mut self, value: &Array<'a, T>) -> Result<(), EncodeError> {
        self.length32(value.len())?;
        if value.is_empty() { Ok(()) } else { value.write_elements(self) }
    }

    /// # Errors
    /// When it is longer than arrays can be, or an element cannot be said in this version.
    pub fn nullable_array<'a, T: Wire<'a>>(
        &mut self,
        value: Option<&Array<'a, T>>,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.array(value)?,
            None => self.null32(),
        }
        Ok(())
    }

    /// # Errors
    /// When the struct cannot be said in this version.
    pub fn nullable_struct<'a, T: Wire<'a>>(
        &mut self,
        value: Option<&T>,
    ) -> Result<(), EncodeError> {
        let Some(value) = value else {
            self.i8(-1);
            return Ok(());
        };
        self.i8(1);
        value.write(self)
    }

    /// As [`Writer::nullable_struct`], in a tagged field: there, null is said with an unsigned number.
    ///
    /// # Errors
    /// When the struct cannot be said in this version.
    pub fn nullable_tagged_struct<'a, T: Wire<'a>>(
        &mut self,
        value: Option<&T>,
    ) -> Result<(), EncodeError> {
        self.uvarint(u32::from(value.is_some()));
        value.map_or(Ok(()), |it| it.write(self))
    }

    /// Says that no tagged fields follow.
    #[inline]
    pub fn no_tags(&mut self) {
        self.uvarint(0);
    }

    /// Writes one tagged field. Nearly all are shorter than 128 bytes, so one byte is kept for
    /// the size, and the rare longer field is moved to make room.
    ///
    /// # Errors
    /// When `write` fails, or the field is longer than a frame can be.
    #[inline]
    pub fn tag(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.uvarint(tag);
        // The size comes first, so a tagged field is written at once.
        let written = self.written.take();
        let place = self.out.len();
        let splices = self.splice_count();
        self.out.push(0);
        write(self)?;
        assert_eq!(splices, self.splice_count(), "no tagged field of the protocol carries records");
        let (digits, count) = uvarint_digits(fit(self.out.len() - place - 1)?.cast_unsigned());
        self.out.splice(place..=place, digits[..count].iter().copied());
        self.written = written;
        Ok(())
    }

    /// The error for a field that is set where the version has no place for it.
    #[must_use]
    pub fn lacks(&self, field: &'static str) -> EncodeError {
        EncodeError::Lacks { field, version: self.version }
    }

    /// The value of a field that must not be null in this version.
    ///
    /// # Errors
    /// When it is null.
    pub fn required<T>(&self, field: &'static str, value: Option<T>) -> Result<T, EncodeError> {
        value.ok_or(EncodeError::Null { field, version: self.version })
    }
}

/// Values of fixed size that follow each other in every version, gathered to be written as one.
#[derive(Debug)]
pub struct Run<const BYTES: usize> {
    bytes: [u8; BYTES],
    at: usize,
}

impl<const BYTES: usize> Run<BYTES> {
    #[must_use]
    #[inline]
    #[expect(clippy::new_without_default, reason = "an empty run is of no use but to be filled")]
    pub fn new() -> Self {
        Self { bytes: [0; BYTES], at: 0 }
    }

    #[inline]
    fn put<const N: usize>(&mut self, value: [u8; N]) {
        self.bytes[self.at..self.at + N].copy_from_slice(&value);
        self.at += N;
    }

    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.put([u8::from(value)]);
    }

    #[inline]
    pub fn uuid(&mut self, value: Uuid) {
        self.put(value.0);
    }
}

macro_rules! numbers_of_runs {
    ($($name:ident),*) => {
        impl<const BYTES: usize> Run<BYTES> {$(
            #[inline]
            pub fn $name(&mut self, value: $name) {
                self.put(value.to_be_bytes());
            }
        )*}
    };
}

numbers_of_runs!(i8, i16, u16, i32, u32, i64, f64);

fn fit(length: usize) -> Result<i32, EncodeError> {
    i32::try_from(length)
        .map_err(|_| EncodeError::TooLong { length, length_max: i32::MAX as usize })
}

fn fit16(length: usize) -> Result<i16, EncodeError> {
    i16::try_from(length)
        .map_err(|_| EncodeError::TooLong { length, length_max: i16::MAX as usize })
}

fn uvarint_digits(mut value: u32) -> ([u8; 5], usize) {
    let mut digits = [0; 5];
    let mut count = 0;
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        digits[count] = if value == 0 { low } else { low | 0x80 };
        count += 1;
        if value == 0 {
            return (digits, count);
        }
    }
}
