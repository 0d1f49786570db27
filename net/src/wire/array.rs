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
pub struct Array<'a, T>(Repr<'a, T>);

#[derive(Clone)]
enum Repr<'a, T> {
    Wire { reader: Reader<'a>, count: usize },
    Slice(&'a [T]),
    Vec(Vec<T>),
    Made { from: usize, to: usize, make: &'a dyn Fn(usize) -> T },
}

impl<'a, T> Array<'a, T> {
    /// An array without elements. Not null: that is `None` where the protocol allows it.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Repr::Slice(&[]))
    }

    /// Elements that do not exist yet: each is made from its number while the array is written or
    /// walked, and nothing is allocated for all of them. `make` gives the same for the same number.
    #[must_use]
    pub const fn made(numbers: Range<usize>, make: &'a dyn Fn(usize) -> T) -> Self {
        Self(Repr::Made { from: numbers.start, to: numbers.end, make })
    }

    pub(super) fn from_wire(reader: Reader<'a>, count: usize) -> Self {
        Self(Repr::Wire { reader, count })
    }

    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Wire { count, .. } => *count,
            Repr::Slice(items) => items.len(),
            Repr::Vec(items) => items.len(),
            Repr::Made { from, to, .. } => to - from,
        }
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
        match &self.0 {
            Repr::Wire { reader, count } => Iter(Source::Wire { reader: *reader, left: *count }),
            Repr::Slice(items) => Iter(Source::Items(items.iter())),
            Repr::Vec(items) => Iter(Source::Items(items.iter())),
            Repr::Made { from, to, make } => {
                Iter(Source::Made { numbers: *from..*to, make: *make })
            }
        }
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
        match &self.0 {
            Repr::Wire { .. } => self.iter().try_for_each(|it| it.write(writer)),
            Repr::Slice(items) => items.iter().try_for_each(|it| it.write(writer)),
            Repr::Vec(items) => items.iter().try_for_each(|it| it.write(writer)),
            Repr::Made { from, to, make } => (*from..*to).try_for_each(|it| make(it).write(writer)),
        }
    }

    /// Writes the elements from where the piece before was over, until this one is.
    #[inline(never)]
    fn write_in_pieces(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        let (number, rest) = writer.begin_array();
        let Rest::From(first) = rest else { return Ok(()) };
        let mut read = self.iter();
        if let Repr::Wire { .. } = &self.0
            && let Some(passed) = first.checked_sub(1)
        {
            read.nth(passed);
        }
        for at in first..self.len() {
            let piece_is_over = writer.begin_element();
            let wrote = match &self.0 {
                _ if piece_is_over => Err(EncodeError::Unfinished),
                Repr::Wire { .. } => read.next().map_or(Ok(()), |it| it.write(writer)),
                Repr::Slice(items) => items[at].write(writer),
                Repr::Vec(items) => items[at].write(writer),
                Repr::Made { from, make, .. } => make(from + at).write(writer),
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
        Self(Repr::Vec(items))
    }
}

impl<'a, T> From<&'a [T]> for Array<'a, T> {
    fn from(items: &'a [T]) -> Self {
        Self(Repr::Slice(items))
    }
}

impl<'a, T, const N: usize> From<&'a [T; N]> for Array<'a, T> {
    fn from(items: &'a [T; N]) -> Self {
        Self(Repr::Slice(items))
    }
}

impl<'a, T> From<&'a Vec<T>> for Array<'a, T> {
    fn from(items: &'a Vec<T>) -> Self {
        Self(Repr::Slice(items))
    }
}

impl<T, const N: usize> From<[T; N]> for Array<'_, T> {
    fn from(items: [T; N]) -> Self {
        Self(Repr::Vec(items.into()))
    }
}

impl<T> FromIterator<T> for Array<'_, T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(Repr::Vec(items.into_iter().collect()))
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
#[derive(Clone)]
pub struct Iter<'x, 'a, T>(Source<'x, 'a, T>);

#[derive(Clone)]
enum Source<'x, 'a, T> {
    Wire { reader: Reader<'a>, left: usize },
    Items(std::slice::Iter<'x, T>),
    Made { numbers: Range<usize>, make: &'a dyn Fn(usize) -> T },
}

impl<'a, T: Wire<'a>> Iterator for Iter<'_, 'a, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        match &mut self.0 {
            Source::Wire { left: 0, .. } => None,
            Source::Wire { reader, left } => {
                *left -= 1;
                Some(
                    T::read(reader).expect("these bytes were checked when the message was decoded"),
                )
            }
            Source::Items(items) => items.next().cloned(),
            Source::Made { numbers, make } => numbers.next().map(make),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Source::Wire { left, .. } => *left,
            Source::Items(items) => items.len(),
            Source::Made { numbers, .. } => numbers.len(),
        };
        (left, Some(left))
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

            fn check(reader: &mut Reader<'a>, count: usize) -> Result<(), DecodeError> {
                // The count is at most the remaining bytes by `BYTES_MIN`: this does not overflow.
                reader.take(count * Self::BYTES_MIN).map(|_| ())
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
}

impl<'a> Wire<'a> for &'a str {
    const BYTES_MIN: usize = 1;

    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.string()
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.string(self)
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
