//! Long messages are read and written in pieces, so that whoever does it can give way in between.
//!
//! Neither the generated code nor the bytes know of it. A piece ends inside an array, between two of
//! its elements, with an error that says so ([`DecodeError::Unfinished`], [`EncodeError::Unfinished`]),
//! and what is kept here lets the next piece begin there: it runs through the message from its start
//! again, but passes over everything that was done.
//!
//! [`DecodeError::Unfinished`]: super::DecodeError::Unfinished
//! [`EncodeError::Unfinished`]: super::EncodeError::Unfinished

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Elements of arrays in one piece.
pub const PIECE_ELEMENTS_MAX: u32 = 4096;

/// Bytes that count as one element more.
const BYTES_PER_ELEMENT: usize = 1024;

/// An array of fewer elements is not remembered: looking at it again costs no more.
const REMEMBERED_ELEMENTS_MIN: usize = 32;

/// How far a message was checked. The message that is decoded keeps using it: arrays that were found
/// to be good are not checked a second time when what they are in is walked.
#[derive(Debug)]
pub struct Checked {
    piece_elements: u32,
    /// Elements this piece may still have. `None`: all was checked.
    left: Cell<Option<u32>>,
    /// The fewest bytes that ever remained: what lies before is not counted again.
    frontier: Cell<usize>,
    /// Arrays, by the bytes that remained at their first elements.
    arrays: RefCell<BTreeMap<usize, CheckedArray>>,
}

/// How far one array was checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct CheckedArray {
    /// The bytes that remain behind the elements that were checked.
    pub(super) remaining: usize,
    /// Elements that were not.
    pub(super) left: usize,
    /// What arrays may still have, behind these elements.
    pub(super) elements_left: u32,
}

impl Default for Checked {
    fn default() -> Self {
        Self::by(PIECE_ELEMENTS_MAX)
    }
}

impl Checked {
    /// Nothing was checked, and pieces shall have so many elements.
    #[must_use]
    pub fn by(piece_elements: u32) -> Self {
        assert!(0 < piece_elements, "a piece has something in it");
        Self {
            piece_elements,
            left: Cell::new(Some(piece_elements)),
            frontier: Cell::new(usize::MAX),
            arrays: RefCell::default(),
        }
    }

    pub(super) fn begin_piece(&self) {
        self.left.set(Some(self.piece_elements));
    }

    pub(super) fn finish(&self) {
        self.left.set(None);
    }

    pub(super) fn array_at(&self, start: usize) -> Option<CheckedArray> {
        self.arrays.borrow().get(&start).copied()
    }

    /// Remembers an array that was begun, or that is done and long.
    pub(super) fn note(&self, start: usize, count: usize, array: CheckedArray) {
        if self.left.get().is_none() {
            return;
        }
        let mut arrays = self.arrays.borrow_mut();
        let is_long = REMEMBERED_ELEMENTS_MIN <= count || 0 < array.left;
        if is_long || arrays.contains_key(&start) {
            arrays.insert(start, array);
        }
    }

    pub(super) fn is_piece_over(&self) -> bool {
        self.left.get() == Some(0)
    }

    /// Counts elements behind which so many bytes remain, and that took so many.
    pub(super) fn count(&self, elements: usize, remaining: usize, bytes: usize) {
        if self.frontier.get() <= remaining {
            return;
        }
        self.frontier.set(remaining);
        let more = elements.saturating_add(bytes / BYTES_PER_ELEMENT);
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        self.left.set(self.left.get().map(|it| it.saturating_sub(more)));
    }
}

/// How far a message was written: on the way to the element that comes next, the arrays it is in.
#[derive(Debug)]
pub struct Written {
    piece_elements: u32,
    /// Outermost first; while a piece ends it is filled from the innermost.
    path: Vec<InArray>,
    /// What was written, while the next piece looks for the place where it goes on.
    out: Option<Vec<u8>>,
    splices: usize,
    left: u32,
    /// The length of the output when elements were counted last.
    length: usize,
    /// Arrays that the writer is in.
    depth: usize,
    /// Arrays that were begun in the element, or the message, that is being written.
    arrays: u32,
}

#[derive(Debug, Clone, Copy)]
struct InArray {
    /// Which of the arrays of what it is in.
    number: u32,
    /// Which of its elements.
    element: usize,
}

/// What is to be written of an array.
pub(super) enum Rest {
    /// It was written before.
    Nothing,
    /// Elements from this one on. The first was begun, when the writer still looks for its place.
    From(usize),
}

impl Default for Written {
    fn default() -> Self {
        Self::by(PIECE_ELEMENTS_MAX)
    }
}

impl Written {
    /// Nothing was written, and pieces shall have so many elements.
    #[must_use]
    pub fn by(piece_elements: u32) -> Self {
        assert!(0 < piece_elements, "a piece has something in it");
        Self {
            piece_elements,
            path: Vec::new(),
            out: None,
            splices: 0,
            left: 0,
            length: 0,
            depth: 0,
            arrays: 0,
        }
    }

    /// Allows one more piece. `out` and `splices` are what was written; the writer gets an empty `out`
    /// until it has come to its place.
    pub(super) fn begin_piece(&mut self, out: &mut Vec<u8>, splices: usize) {
        self.left = self.piece_elements;
        self.length = out.len();
        (self.depth, self.arrays) = (0, 0);
        if !self.path.is_empty() {
            self.out = Some(std::mem::take(out));
            self.splices = splices;
        }
    }

    /// Whether what is written was written before.
    fn is_repeating(&self) -> bool {
        self.out.is_some()
    }

    /// Begins an array. With it comes what was written so far and how many splices it had, when this is
    /// the place where the next piece goes on.
    pub(super) fn begin_array(&mut self) -> (Rest, Option<(Vec<u8>, usize)>) {
        if !self.is_repeating() {
            self.depth += 1;
            return (Rest::From(0), None);
        }
        let it = self.path[self.depth];
        if self.arrays < it.number {
            self.arrays += 1;
            return (Rest::Nothing, None);
        }
        assert_eq!(self.arrays, it.number, "a message is the same each time it is written");
        self.depth += 1;
        let here = if self.depth == self.path.len() {
            self.path.clear();
            self.out.take().map(|it| (it, self.splices))
        } else {
            None
        };
        (Rest::From(it.element), here)
    }

    /// Begins an element, where the output is so long. Says whether the piece is over before it.
    pub(super) fn begin_element(&mut self, length: usize) -> bool {
        self.arrays = 0;
        if self.is_repeating() {
            return false;
        }
        if self.left == 0 {
            return true;
        }
        let bytes = length.saturating_sub(self.length);
        self.length = length;
        let more = u32::try_from(1 + bytes / BYTES_PER_ELEMENT).unwrap_or(u32::MAX);
        self.left = self.left.saturating_sub(more);
        false
    }

    /// The piece ends in this array, the one that was the number-th where it stands.
    pub(super) fn end_piece(&mut self, number: u32, element: usize) {
        self.path.insert(0, InArray { number, element });
    }

    pub(super) fn number(&self) -> u32 {
        self.arrays
    }

    pub(super) fn end_array(&mut self, number: u32) {
        self.depth -= 1;
        self.arrays = number + 1;
    }
}
