//! Reads values from the front of a slice, never beyond it.
//!
//! Invariant: what remains is always a suffix of the bytes the reader began with.
//! The reader carries version and flexibility, so that values know how their lengths are written.
//!
//! Stricter than Kafka in two points that no client needs: a length below -1 is refused and not
//! null, and a string must be UTF-8.

use super::pieces::{Checked, CheckedArray};
use super::{Array, DecodeError, Records, Uuid, Wire};

/// Tagged fields of one struct that are not counted.
const TAGS_USUAL_MAX: u32 = 16;

#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// How far arrays were checked, where that is done in pieces.
    checked: Option<&'a Checked>,
    version: i16,
    flexible: bool,
    /// The bytes were checked before, by a reader that this one is a copy of.
    trusts: bool,
    /// Elements that arrays may still have, all together.
    elements_left: u32,
    /// The array that was passed last, by the bytes that remained at its first element and behind its
    /// last one. Whoever walks over what it is in need not look for its end a second time.
    passed: (u32, u32),
}

/// No array: one that begins where nothing remains ends there.
const NONE_PASSED: (u32, u32) = (0, 0);

/// The length of something, or that it is null.
type Length = Option<usize>;

impl<'a> Reader<'a> {
    #[must_use]
    #[inline]
    pub fn new(bytes: &'a [u8], version: i16, flexible: bool) -> Self {
        Self {
            bytes,
            checked: None,
            version,
            flexible,
            trusts: false,
            elements_left: u32::MAX,
            passed: NONE_PASSED,
        }
    }

    /// A reader that refuses more elements of arrays than this, all arrays of a message together.
    #[must_use]
    #[inline]
    pub fn within(mut self, elements_max: u32) -> Self {
        self.elements_left = elements_max;
        self
    }

    /// A reader that ends where a piece is over, and begins where the one before was.
    #[must_use]
    #[inline]
    pub fn in_pieces(mut self, checked: &'a Checked) -> Self {
        self.checked = Some(checked);
        self
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

    #[must_use]
    #[inline]
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// All that was not read.
    #[must_use]
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// # Errors
    /// When fewer bytes remain.
    #[inline(always)]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.bytes.split_at_checked(count) else {
            return Err(DecodeError::Short { wanted: count, remaining: self.bytes.len() });
        };
        self.bytes = rest;
        Ok(taken)
    }

    /// Passes over so many bytes.
    ///
    /// # Errors
    /// When fewer bytes remain.
    #[inline(always)]
    pub fn skip(&mut self, count: usize) -> Result<(), DecodeError> {
        self.take(count).map(|_| ())
    }

    #[inline(always)]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((taken, rest)) = self.bytes.split_first_chunk::<N>() else {
            return Err(DecodeError::Short { wanted: N, remaining: self.bytes.len() });
        };
        self.bytes = rest;
        Ok(*taken)
    }

    /// Any byte but zero is true, as Kafka reads it.
    ///
    /// # Errors
    /// When no byte remains.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.fixed::<1>()? != [0])
    }

    /// # Errors
    /// When too few bytes remain.
    #[inline]
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    /// # Errors
    /// When too few bytes remain.
    #[inline(always)]
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    /// # Errors
    /// When too few bytes remain.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.fixed()?))
    }

    /// # Errors
    /// When too few bytes remain.
    #[inline(always)]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    /// # Errors
    /// When too few bytes remain.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.fixed()?))
    }

    /// # Errors
    /// When too few bytes remain.
    #[inline(always)]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    /// # Errors
    /// When too few bytes remain.
    #[inline]
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        Ok(f64::from_be_bytes(self.fixed()?))
    }

    /// # Errors
    /// When too few bytes remain.
    #[inline]
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid(self.fixed()?))
    }

    /// An unsigned number, seven bits a byte, the low ones first.
    ///
    /// # Errors
    /// When the bytes end before the number, or it needs more than 32 bits.
    #[inline(always)]
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        // Nearly all have one byte; the lengths of batches have two or three.
        let (value, rest) = match self.bytes {
            [a, rest @ ..] if *a < 0x80 => (u32::from(*a), rest),
            [a, b, c, rest @ ..] if *b & *c < 0x80 => {
                let two = low(*a) | low(*b) << 7;
                if *b < 0x80 { (two, &self.bytes[2..]) } else { (two | u32::from(*c) << 14, rest) }
            }
            _ => {
                // A copy leaves this reader in registers.
                let mut own = Self::new(self.bytes, 0, true);
                let value = own.long_uvarint()?;
                (value, own.bytes)
            }
        };
        self.bytes = rest;
        Ok(value)
    }

    #[inline(never)]
    fn long_uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed::<1>()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| DecodeError::Varint);
            }
        }
        Err(DecodeError::Varint)
    }

    #[inline(always)]
    fn compact_length(&mut self) -> Result<Length, DecodeError> {
        Ok(self.uvarint()?.checked_sub(1).map(|it| it as usize))
    }

    #[inline]
    fn length16(&mut self) -> Result<Length, DecodeError> {
        length(i64::from(self.i16()?))
    }

    #[inline]
    fn length32(&mut self) -> Result<Length, DecodeError> {
        length(i64::from(self.i32()?))
    }

    #[inline(always)]
    fn string_length(&mut self) -> Result<Length, DecodeError> {
        if self.flexible { self.compact_length() } else { self.length16() }
    }

    #[inline(always)]
    fn bytes_length(&mut self) -> Result<Length, DecodeError> {
        if self.flexible { self.compact_length() } else { self.length32() }
    }

    #[inline]
    fn text(&mut self, length: usize) -> Result<&'a str, DecodeError> {
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|it| DecodeError::Utf8 { valid_up_to: it.valid_up_to() })
    }

    #[inline]
    fn check_text(&mut self, length: usize) -> Result<(), DecodeError> {
        let bytes = self.take(length)?;
        if self.trusts { Ok(()) } else { is_text(bytes) }
    }

    /// # Errors
    /// When it is null, too long for what remains, or not UTF-8.
    #[inline(always)]
    pub fn string(&mut self) -> Result<&'a str, DecodeError> {
        self.nullable_string()?.ok_or(DecodeError::Null)
    }

    /// # Errors
    /// When it is too long for what remains, or not UTF-8.
    #[inline(always)]
    pub fn nullable_string(&mut self) -> Result<Option<&'a str>, DecodeError> {
        self.string_length()?.map(|it| self.text(it)).transpose()
    }

    /// A string that keeps its old form in flexible versions: the client id of request headers.
    ///
    /// # Errors
    /// When it is too long for what remains, or not UTF-8.
    pub fn plain_nullable_string(&mut self) -> Result<Option<&'a str>, DecodeError> {
        self.length16()?.map(|it| self.text(it)).transpose()
    }

    /// # Errors
    /// As [`Reader::string`].
    #[inline]
    pub fn check_string(&mut self) -> Result<(), DecodeError> {
        let length = self.string_length()?.ok_or(DecodeError::Null)?;
        self.check_text(length)
    }

    /// # Errors
    /// As [`Reader::nullable_string`].
    #[inline]
    pub fn check_nullable_string(&mut self) -> Result<(), DecodeError> {
        let length = self.string_length()?;
        length.map_or(Ok(()), |it| self.check_text(it))
    }

    /// # Errors
    /// As [`Reader::plain_nullable_string`].
    pub fn check_plain_nullable_string(&mut self) -> Result<(), DecodeError> {
        self.length16()?.map_or(Ok(()), |it| self.check_text(it))
    }

    /// # Errors
    /// When it is null or too long for what remains.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        self.nullable_bytes()?.ok_or(DecodeError::Null)
    }

    /// # Errors
    /// When it is too long for what remains.
    #[inline(always)]
    pub fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        self.bytes_length()?.map(|it| self.take(it)).transpose()
    }

    /// # Errors
    /// As [`Reader::bytes`].
    #[inline(always)]
    pub fn check_bytes(&mut self) -> Result<(), DecodeError> {
        let length = self.bytes_length()?.ok_or(DecodeError::Null)?;
        self.skip(length)
    }

    /// # Errors
    /// As [`Reader::nullable_bytes`].
    #[inline(always)]
    pub fn check_nullable_bytes(&mut self) -> Result<(), DecodeError> {
        let length = self.bytes_length()?.unwrap_or(0);
        self.skip(length)
    }

    /// # Errors
    /// When it is null or too long for what remains.
    #[inline]
    pub fn records(&mut self) -> Result<Records<'a>, DecodeError> {
        Ok(Records::Bytes(self.bytes()?))
    }

    /// # Errors
    /// When it is too long for what remains.
    #[inline]
    pub fn nullable_records(&mut self) -> Result<Option<Records<'a>>, DecodeError> {
        Ok(self.nullable_bytes()?.map(Records::Bytes))
    }

    /// # Errors
    /// When it is null, claims more than what remains can hold, or an element is wrong.
    #[inline(always)]
    pub fn array<T: Wire<'a>>(&mut self) -> Result<Array<'a, T>, DecodeError> {
        self.nullable_array()?.ok_or(DecodeError::Null)
    }

    /// # Errors
    /// When it claims more than what remains can hold, or an element is wrong.
    #[inline(always)]
    pub fn nullable_array<T: Wire<'a>>(&mut self) -> Result<Option<Array<'a, T>>, DecodeError> {
        let Some(count) = self.count::<T>()? else { return Ok(None) };
        let mut start = *self;
        self.pass::<T>(count)?;
        (start.trusts, start.passed) = (true, self.passed);
        self.remember(start.remaining());
        Ok(Some(Array::from_wire(start, count)))
    }

    /// # Errors
    /// As [`Reader::array`].
    #[inline]
    pub fn check_array<T: Wire<'a>>(&mut self) -> Result<(), DecodeError> {
        let count = self.count::<T>()?.ok_or(DecodeError::Null)?;
        self.check_elements::<T>(count)
    }

    /// # Errors
    /// As [`Reader::nullable_array`].
    #[inline]
    pub fn check_nullable_array<T: Wire<'a>>(&mut self) -> Result<(), DecodeError> {
        let count = self.count::<T>()?;
        count.map_or(Ok(()), |it| self.check_elements::<T>(it))
    }

    #[inline]
    fn check_elements<T: Wire<'a>>(&mut self, count: usize) -> Result<(), DecodeError> {
        let first = self.remaining();
        self.pass::<T>(count)?;
        self.remember(first);
        Ok(())
    }

    /// The elements of the array that begins here, as many as there can be. `None`: it is null.
    #[inline(always)]
    fn count<T: Wire<'a>>(&mut self) -> Result<Length, DecodeError> {
        const { assert!(0 < T::BYTES_MIN, "elements without bytes have no bound on their count") };
        let Some(count) = self.bytes_length()? else { return Ok(None) };
        if count > self.bytes.len() / T::BYTES_MIN {
            return Err(DecodeError::Count {
                count,
                bytes_min: T::BYTES_MIN,
                remaining: self.bytes.len(),
            });
        }
        let left = u32::try_from(count).ok().and_then(|it| self.elements_left.checked_sub(it));
        let Some(left) = left else {
            return Err(DecodeError::Elements { count, left: self.elements_left });
        };
        self.elements_left = left;
        Ok(Some(count))
    }

    /// Remembers the array that ends here, and at whose first element so many bytes remained.
    #[inline]
    fn remember(&mut self, first: usize) {
        let first = u32::try_from(first);
        let last = u32::try_from(self.remaining());
        self.passed = first.ok().zip(last.ok()).unwrap_or(NONE_PASSED);
    }

    /// Whether the array that begins here is the one that was passed last.
    #[inline]
    fn was_passed(&self) -> bool {
        self.passed.0 as usize == self.remaining() && self.passed != NONE_PASSED
    }

    /// Passes over the elements of an array.
    #[inline]
    fn pass<T: Wire<'a>>(&mut self, count: usize) -> Result<(), DecodeError> {
        if let Some(checked) = self.checked {
            let mut own = *self;
            own.check_in_pieces::<T>(count, checked)?;
            *self = own;
            return Ok(());
        }
        if self.trusts && self.was_passed() {
            return self.skip(self.remaining() - self.passed.1 as usize);
        }
        T::check_all(self, count)
    }

    /// As [`Wire::check_all`], from where the piece before was over, until this one is.
    #[inline(never)]
    fn check_in_pieces<T: Wire<'a>>(
        &mut self,
        count: usize,
        checked: &Checked,
    ) -> Result<(), DecodeError> {
        let start = self.bytes.len();
        let mut left = count;
        if let Some(done) = checked.array_at(start) {
            self.take(start - done.remaining)?;
            (left, self.elements_left) = (done.left, done.elements_left);
        }
        while 0 < left {
            let before = CheckedArray {
                remaining: self.bytes.len(),
                left,
                elements_left: self.elements_left,
            };
            if checked.is_piece_over() {
                checked.note(start, count, before);
                return Err(DecodeError::Unfinished);
            }
            let now = if T::IS_FIXED { left } else { 1 };
            match T::check_all(self, now) {
                Err(DecodeError::Unfinished) => {
                    checked.note(start, count, before);
                    return Err(DecodeError::Unfinished);
                }
                done => done?,
            }
            left -= now;
            let remaining = self.bytes.len();
            let counted = if T::IS_FIXED { 1 } else { now };
            checked.count(counted, remaining, before.remaining - remaining);
        }
        let (remaining, elements_left) = (self.bytes.len(), self.elements_left);
        checked.note(start, count, CheckedArray { remaining, left: 0, elements_left });
        Ok(())
    }

    /// # Errors
    /// When the struct is wrong.
    pub fn nullable_struct<T: Wire<'a>>(&mut self) -> Result<Option<T>, DecodeError> {
        if self.i8()? < 0 { Ok(None) } else { Ok(Some(T::read(self)?)) }
    }

    /// As [`Reader::nullable_struct`], in a tagged field: there, null is said with an unsigned number.
    ///
    /// # Errors
    /// When the struct is wrong.
    pub fn nullable_tagged_struct<T: Wire<'a>>(&mut self) -> Result<Option<T>, DecodeError> {
        if self.uvarint()? == 0 { Ok(None) } else { Ok(Some(T::read(self)?)) }
    }

    /// # Errors
    /// When the struct is wrong.
    pub fn check_nullable_struct<T: Wire<'a>>(&mut self) -> Result<(), DecodeError> {
        if self.i8()? < 0 { Ok(()) } else { T::check(self) }
    }

    /// # Errors
    /// When the struct is wrong.
    pub fn check_nullable_tagged_struct<T: Wire<'a>>(&mut self) -> Result<(), DecodeError> {
        if self.uvarint()? == 0 { Ok(()) } else { T::check(self) }
    }

    /// Reads tagged fields. `known` is offered each one, confined to its bytes, and says whether
    /// it knows it; what it does not know is passed over.
    ///
    /// # Errors
    /// When a field is longer than what remains, or `known` leaves some of its bytes.
    #[inline(always)]
    pub fn tags(
        &mut self,
        known: impl FnMut(u32, &mut Self) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        match self.uvarint()? {
            0 => Ok(()),
            count => {
                let mut own = *self;
                own.some_tags(count, known)?;
                *self = own;
                Ok(())
            }
        }
    }

    #[inline(never)]
    fn some_tags(
        &mut self,
        count: u32,
        mut known: impl FnMut(u32, &mut Self) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        // More than any struct has cost as much as elements of arrays.
        let many = count.saturating_sub(TAGS_USUAL_MAX);
        let Some(left) = self.elements_left.checked_sub(many) else {
            return Err(DecodeError::Elements { count: many as usize, left: self.elements_left });
        };
        self.elements_left = left;
        for _ in 0..count {
            let tag = self.uvarint()?;
            let announced = self.uvarint()? as usize;
            let bytes = self.take(announced)?;
            let mut field = Self { bytes, checked: None, passed: NONE_PASSED, ..*self };
            if known(tag, &mut field)? && field.remaining() != 0 {
                return Err(DecodeError::TagSize { tag, announced, unread: field.remaining() });
            }
            self.elements_left = field.elements_left;
        }
        Ok(())
    }

    /// Passes over tagged fields where none is known.
    ///
    /// # Errors
    /// When a field is longer than what remains.
    #[inline(always)]
    pub fn skip_tags(&mut self) -> Result<(), DecodeError> {
        self.tags(|_, _| Ok(false))
    }
}

#[inline(never)]
fn is_text(bytes: &[u8]) -> Result<(), DecodeError> {
    // Nearly all are ASCII, and that is found out sooner.
    if bytes.is_ascii() {
        return Ok(());
    }
    let text = std::str::from_utf8(bytes).map(|_| ());
    text.map_err(|it| DecodeError::Utf8 { valid_up_to: it.valid_up_to() })
}

/// What a byte of a varint says of the number.
#[inline]
fn low(byte: u8) -> u32 {
    u32::from(byte & 0x7f)
}

#[inline]
fn length(length: i64) -> Result<Length, DecodeError> {
    match usize::try_from(length) {
        Ok(length) => Ok(Some(length)),
        Err(_) if length == -1 => Ok(None),
        Err(_) => Err(DecodeError::Negative { length }),
    }
}
