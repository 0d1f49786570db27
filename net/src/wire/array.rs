//! Arrays inside messages: as bytes when decoded, as Rust values when built.
//!
//! A decoded array is a view of bytes that were checked once, while the message was decoded.
//! Walking it decodes each element in place and allocates nothing. Because the same bytes are
//! decoded by the same code, walking cannot fail; if it did, this code would be broken, not the
//! peer. An array that is built to be written holds a vector or borrows a slice.

use super::pieces::Rest;
use super::{DecodeError, EncodeError, Reader, Uuid, Wire, Writer};
use std::{fmt, ops::Range};

#[derive(Clone)]
pub struct Array<'a, T> {
    count: usize,
    repr: Repr<'a, T>,
}

#[derive(Clone)]
enum Repr<'a, T> {
    Wire(Reader<'a>),
    Slice(&'a [T]),
    Vec(Vec<T>),
    Made { from: usize, make: &'a dyn Fn(usize) -> T },
}

impl<'a, T> Array<'a, T> {
    /// An array without elements. Not null: that is `None` where the protocol allows it.
    #[must_use]
    pub const fn empty() -> Self {
        Self { count: 0, repr: Repr::Slice(&[]) }
    }

    /// Elements that do not exist yet: each is made from its number while the array is written or
    /// walked, and nothing is allocated for all of them. `make` gives the same for the same number.
    #[must_use]
    pub const fn made(numbers: Range<usize>, make: &'a dyn Fn(usize) -> T) -> Self {
        let count = numbers.end.saturating_sub(numbers.start);
        Self { count, repr: Repr::Made { from: numbers.start, make } }
    }

    pub(super) fn from_wire(reader: Reader<'a>, count: usize) -> Self {
        Self { count, repr: Repr::Wire(reader) }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, T: Wire<'a>> Array<'a, T> {
    /// The elements, one after another, by value. For a decoded array that costs decoding and
    /// no allocation; for a built one it clones.
    pub fn iter(&self) -> Iter<'_, 'a, T> {
        let nothing = Reader::new(&[], 0, false);
        let (reader, built) = match &self.repr {
            Repr::Wire(reader) => (*reader, None),
            Repr::Slice(items) => (nothing, Some(Built::Items(items))),
            Repr::Vec(items) => (nothing, Some(Built::Items(items.as_slice()))),
            Repr::Made { from, make } => (nothing, Some(Built::Made { from: *from, make: *make })),
        };
        Iter { numbers: 0..self.count, reader, built }
    }

    #[must_use]
    pub fn first(&self) -> Option<T> {
        self.iter().next()
    }

    #[inline]
    pub(super) fn write_elements(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        if writer.is_in_pieces() {
            return self.write_in_pieces(writer);
        }
        match &self.repr {
            Repr::Wire(_) => self.iter().try_for_each(|it| it.write(writer)),
            Repr::Slice(items) => items.iter().try_for_each(|it| it.write(writer)),
            Repr::Vec(items) => items.iter().try_for_each(|it| it.write(writer)),
            Repr::Made { from, make } => {
                (*from..from + self.count).try_for_each(|it| make(it).write(writer))
            }
        }
    }

    /// Writes the elements from where the piece before was over, until this one is.
    #[inline(never)]
    fn write_in_pieces(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        let (number, rest) = writer.begin_array();
        let Rest::From(first) = rest else { return Ok(()) };
        let mut read = self.iter();
        if let Repr::Wire(_) = &self.repr
            && let Some(passed) = first.checked_sub(1)
        {
            read.nth(passed);
        }
        for at in first..self.len() {
            let piece_is_over = writer.begin_element();
            let wrote = match &self.repr {
                _ if piece_is_over => Err(EncodeError::Unfinished),
                Repr::Wire(_) => read.next().map_or(Ok(()), |it| it.write(writer)),
                Repr::Slice(items) => items[at].write(writer),
                Repr::Vec(items) => items[at].write(writer),
                Repr::Made { from, make } => make(from + at).write(writer),
            };
            if let Err(EncodeError::Unfinished) = wrote {
                writer.end_piece(number, at);
            }
            wrote?;
        }
        writer.end_array(number);
        Ok(())
    }
}

impl<T> Default for Array<'_, T> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<T> From<Vec<T>> for Array<'_, T> {
    fn from(items: Vec<T>) -> Self {
        Self { count: items.len(), repr: Repr::Vec(items) }
    }
}

impl<'a, T> From<&'a [T]> for Array<'a, T> {
    fn from(items: &'a [T]) -> Self {
        Self { count: items.len(), repr: Repr::Slice(items) }
    }
}

impl<'a, T, const N: usize> From<&'a [T; N]> for Array<'a, T> {
    fn from(items: &'a [T; N]) -> Self {
        items.as_slice().into()
    }
}

impl<'a, T> From<&'a Vec<T>> for Array<'a, T> {
    fn from(items: &'a Vec<T>) -> Self {
        items.as_slice().into()
    }
}

impl<T, const N: usize> From<[T; N]> for Array<'_, T> {
    fn from(items: [T; N]) -> Self {
        Vec::from(items).into()
    }
}

impl<T> FromIterator<T> for Array<'_, T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        items.into_iter().collect::<Vec<T>>().into()
    }
}

impl<'a, T: Wire<'a> + fmt::Debug> fmt::Debug for Array<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, T: Wire<'a> + PartialEq> PartialEq for Array<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<'x, 'a, T: Wire<'a>> IntoIterator for &'x Array<'a, T> {
    type Item = T;
    type IntoIter = Iter<'x, 'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// See [`Array::iter`].
///
/// What is read from bytes is read by code that is part of the loop, whose reader stays in registers.
#[derive(Clone)]
pub struct Iter<'x, 'a, T> {
    numbers: Range<usize>,
    reader: Reader<'a>,
    /// `None`: the elements come from the reader.
    built: Option<Built<'x, 'a, T>>,
}

enum Built<'x, 'a, T> {
    Items(&'x [T]),
    Made { from: usize, make: &'a dyn Fn(usize) -> T },
}

impl<T> Clone for Built<'_, '_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Built<'_, '_, T> {}

impl<T: Clone> Built<'_, '_, T> {
    #[inline(never)]
    fn element(self, number: usize) -> T {
        match self {
            Self::Items(items) => items[number].clone(),
            Self::Made { from, make } => make(from + number),
        }
    }
}

impl<'a, T: Wire<'a>> Iterator for Iter<'_, 'a, T> {
    type Item = T;

    #[inline(always)]
    fn next(&mut self) -> Option<T> {
        let number = self.numbers.next()?;
        Some(match self.built {
            None => T::read(&mut self.reader)
                .expect("these bytes were checked when the message was decoded"),
            Some(built) => built.element(number),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.numbers.size_hint()
    }
}

impl<'a, T: Wire<'a>> ExactSizeIterator for Iter<'_, 'a, T> {}

/// Numbers are checked by passing over their bytes at once.
macro_rules! number {
    ($($name:ident),*) => {$(
        impl<'a> Wire<'a> for $name {
            const BYTES_MIN: usize = size_of::<$name>();
            const IS_FIXED: bool = true;

            #[inline]
            fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                reader.$name()
            }

            #[inline]
            fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
                writer.$name(*self);
                Ok(())
            }

            #[inline]
            fn check(reader: &mut Reader<'a>) -> Result<(), DecodeError> {
                reader.skip(Self::BYTES_MIN)
            }

            #[inline]
            fn check_all(reader: &mut Reader<'a>, count: usize) -> Result<(), DecodeError> {
                // The count is at most the remaining bytes by `BYTES_MIN`: this does not overflow.
                reader.skip(count * Self::BYTES_MIN)
            }
        }
    )*};
}

number!(i8, i16, i32, i64);

impl<'a> Wire<'a> for Uuid {
    const BYTES_MIN: usize = 16;

    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.uuid()
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.uuid(*self);
        Ok(())
    }

    fn check(reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        reader.skip(Self::BYTES_MIN)
    }
}

impl<'a> Wire<'a> for &'a str {
    const BYTES_MIN: usize = 1;

    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.string()
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.string(self)
    }

    fn check(reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        reader.check_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
    use crate::messages::metadata::{MetadataRequest, MetadataRequestTopic};
    use crate::wire::Message;

    const NAMED: i16 = 12;

    /// What is remembered of the array that was passed last must not be taken for another one, however
    /// many there are of one length, of none, and behind each other.
    #[test]
    fn walking_gives_what_was_written_whatever_was_passed_last() {
        let partition = |index| FetchPartition { partition: index, ..Default::default() };
        let shapes: [&[i32]; 7] =
            [&[], &[0], &[1], &[3, 3, 3], &[0, 2, 0], &[2, 0, 0], &[1, 2, 3, 4, 5]];
        for version in [4, 11, NAMED] {
            for shape in shapes {
                let topics: Vec<FetchTopic<'_>> = shape
                    .iter()
                    .map(|count| FetchTopic {
                        topic: "some",
                        partitions: (0..*count).map(partition).collect(),
                        ..Default::default()
                    })
                    .collect();
                let request = FetchRequest { topics: topics.into(), ..Default::default() };
                let mut bytes = Vec::new();
                request.encode(version, &mut bytes).expect("it can be said");
                let (read, length) = FetchRequest::decode(&bytes, version).expect("it is good");
                assert_eq!(length, bytes.len());
                for _ in 0..2 {
                    assert_eq!(read, request, "{shape:?} version {version}");
                }
            }
        }
    }

    #[test]
    fn a_text_that_is_none_is_refused_before_anything_is_walked() {
        let names = ["plain", "größer", "another that is longer than a word or two"];
        let topics: Vec<_> =
            names.map(|it| MetadataRequestTopic { name: Some(it), ..Default::default() }).into();
        let request = MetadataRequest { topics: Some(topics.into()), ..Default::default() };
        let mut bytes = Vec::new();
        request.encode(NAMED, &mut bytes).expect("it can be said");
        let (read, _) = MetadataRequest::decode(&bytes, NAMED).expect("it is good");
        assert_eq!(read, request);
        for name in names {
            let at = bytes.windows(name.len()).position(|it| it == name.as_bytes());
            let at = at.expect("it was written");
            for valid_up_to in [0, 1, name.len() - 1] {
                let mut bad = bytes.clone();
                bad[at + valid_up_to] = 0xff;
                let refused = MetadataRequest::decode(&bad, NAMED).map(|_| ()).unwrap_err();
                assert!(matches!(refused, DecodeError::Utf8 { .. }), "{name}: {refused}");
            }
        }
    }
}
