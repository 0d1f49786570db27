//! What was gathered to be sent and has not left: memory first, then a part of a file, then memory again.
//!
//! - LEAVING-1: bytes leave in the order of the answers and of their parts: a file is sent only when all
//!   memory before it has left, and what is behind it is not gathered before it has;
//! - LEAVING-2: the part of a file holds its file open until its last byte has left or the connection
//!   has ended.

use std::collections::VecDeque;

use corelane_core::buf::Slice;
use corelane_core::limits::{BLOCK_BYTES, PARTS_MAX};
use corelane_core::ring::{Errno, Fd, FileRange, Op, Parts};

use super::Piece;
use super::outbound::memory_of;

pub(super) struct Leaving {
    /// Empty while they are on their way.
    parts: Parts,
    file: Option<FileRange>,
    /// The rest of an answer that has parts of files.
    later: VecDeque<Piece>,
    /// The memory in it.
    later_bytes: usize,
}

impl Leaving {
    pub(super) fn new() -> Self {
        Self { parts: Parts::from(Vec::new()), file: None, later: VecDeque::new(), later_bytes: 0 }
    }

    /// Whether nothing is left, but for what is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.file.is_none() && self.later.is_empty()
    }

    /// Memory of what has not left.
    pub(super) fn memory(&self) -> usize {
        let gathered = if self.parts.is_empty() { 0 } else { memory_of(&self.parts) };
        let file = if self.file.is_some() { BLOCK_BYTES } else { 0 };
        gathered + file + self.later_bytes
    }

    /// Takes an answer with parts of files.
    pub(super) fn add(&mut self, pieces: Vec<Piece>) {
        self.later_bytes += pieces.iter().map(memory_in).sum::<usize>();
        self.later.extend(pieces);
    }

    /// Takes over what is next of an answer with parts of files. Says whether more may be gathered
    /// behind it.
    pub(super) fn gather(&mut self, gathered: &mut Vec<Slice>) -> bool {
        while gathered.len() < PARTS_MAX
            && let Some(piece) = self.later.pop_front()
        {
            match piece {
                Piece::Memory(slice) => {
                    self.later_bytes -= slice.len();
                    gathered.push(slice);
                }
                Piece::File(range) if gathered.is_empty() => {
                    self.later_bytes -= BLOCK_BYTES;
                    self.file = Some(range).filter(|it| 0 < it.bytes);
                    return false;
                }
                file @ Piece::File(_) => {
                    self.later.push_front(file);
                    return false;
                }
            }
        }
        self.later.is_empty()
    }

    /// What was gathered is to be sent.
    pub(super) fn set(&mut self, gathered: Vec<Slice>) {
        self.parts = Parts::from(gathered);
        self.parts.skip(0);
    }

    /// The next thing to ask of the ring.
    pub(super) fn next(&mut self, socket: &Fd) -> Option<Op> {
        let socket = socket.clone();
        if !self.parts.is_empty() {
            let parts = std::mem::replace(&mut self.parts, Parts::from(Vec::new()));
            return Some(Op::Send { socket, parts });
        }
        let FileRange { file, at, bytes } = self.file.clone()?;
        Some(Op::SendFile { socket, file, at, bytes })
    }

    /// Takes back what the ring was asked; so many bytes of it have left.
    ///
    /// # Errors
    /// When nothing did, so that nothing ever will.
    pub(super) fn left(&mut self, op: Op, bytes: usize) -> Result<(), Errno> {
        match op {
            Op::Send { parts, .. } => {
                self.parts = parts;
                if bytes == 0 {
                    return Err(Errno::PIPE);
                }
                self.parts.skip(bytes);
            }
            Op::SendFile { .. } => {
                let range = self.file.as_mut().expect("it was asked for");
                if bytes == 0 {
                    // The file ends before the range does.
                    return Err(Errno::IO);
                }
                range.at += bytes as u64;
                range.bytes -= u32::try_from(bytes).expect("no more than was asked for");
                if range.bytes == 0 {
                    self.file = None;
                }
            }
            op => panic!("sent {op:?}"),
        }
        Ok(())
    }
}

/// Memory of a part of an answer. What is cut from a block with others counts by its length; a part of
/// a file as the block that says what comes before it.
pub(super) fn memory_in(piece: &Piece) -> usize {
    match piece {
        Piece::Memory(slice) => slice.len(),
        Piece::File(_) => BLOCK_BYTES,
    }
}
