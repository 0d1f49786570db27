//! What a workload did to its partitions, what it was promised, and whether a recovered log fits.
//!
//! Each partition has a history of appends and cuts. A recovered log must be what some beginning of
//! that history left, and no shorter a beginning than was promised.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_core::ids::{Offset, TopicPartition};
use corelane_core::ring::sim::Disk;
use corelane_storage::batch::{Batch, Batches};
use corelane_storage::log::boot::RecoveredPartition;
use corelane_storage::producers::Producers;

/// What was promised to somebody, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Promise {
    Created,
    /// So many deeds of its history stay.
    Deeds(usize),
    Start(Offset),
    Deleted,
}

/// What changed the bytes of a log.
pub(crate) enum Deed {
    /// The batch as the log took it.
    Append {
        base: i64,
        bytes: Vec<u8>,
    },
    Cut {
        end: i64,
    },
}

/// What the workload did, whether or not it was promised.
#[derive(Default)]
pub(crate) struct Attempts {
    pub(crate) deeds: Vec<Deed>,
    pub(crate) start: i64,
    pub(crate) deleted: bool,
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) promises: Vec<(TopicPartition, Promise)>,
    pub(crate) attempts: BTreeMap<TopicPartition, Attempts>,
}

pub(crate) type Shared = Rc<RefCell<Model>>;

pub(crate) fn promise(model: &Shared, of: TopicPartition, it: Promise) {
    model.borrow_mut().promises.push((of, it));
}

pub(crate) fn attempt<T>(
    model: &Shared,
    of: TopicPartition,
    with: impl FnOnce(&mut Attempts) -> T,
) -> T {
    with(model.borrow_mut().attempts.get_mut(&of).expect("created before"))
}

#[derive(Default)]
struct Required {
    deeds: usize,
    start: Offset,
    created: bool,
    deleted: bool,
}

/// The batches of a log as they are, by base offset.
pub(crate) type Held = Vec<(i64, Vec<u8>)>;

/// Compares what was found with what was promised and attempted. The first difference, if any.
pub(crate) fn compare(
    model: &Model,
    promised: u64,
    disk: &Disk,
    found: &[RecoveredPartition],
) -> Result<(), String> {
    compare_with(model, promised, found, |it| match &it.damage {
        Some(damage) => Err(format!("{} is offline: {damage:?}", it.of)),
        None => bytes_of(it, disk).map(Some),
    })
}

/// The same, where somebody else says what partitions hold; nothing is asked of those of which
/// nothing is said.
pub(crate) fn compare_with(
    model: &Model,
    promised: u64,
    found: &[RecoveredPartition],
    mut held: impl FnMut(&RecoveredPartition) -> Result<Option<Held>, String>,
) -> Result<(), String> {
    let mut required: BTreeMap<TopicPartition, Required> = BTreeMap::new();
    for (of, it) in &model.promises[..promised as usize] {
        let entry = required.entry(*of).or_default();
        match it {
            Promise::Created => entry.created = true,
            Promise::Deeds(count) => entry.deeds = entry.deeds.max(*count),
            Promise::Start(start) => entry.start = entry.start.max(*start),
            Promise::Deleted => entry.deleted = true,
        }
    }
    let mut seen = BTreeMap::new();
    for it in found.iter().filter(|it| !it.deleted) {
        seen.insert(it.of, it);
    }
    for (of, attempts) in &model.attempts {
        let required = required.remove(of).unwrap_or_default();
        let Some(it) = seen.remove(of) else {
            if required.created && !attempts.deleted {
                return Err(format!("{of} is lost"));
            }
            continue;
        };
        if required.deleted {
            return Err(format!("{of} is back"));
        }
        let Some(held) = held(it)? else { continue };
        if it.log_start < required.start || attempts.start.max(0) < it.log_start.0 {
            return Err(format!("{of} starts at {}, not {}", it.log_start, required.start));
        }
        fits(it, &held, attempts, required.deeds)?;
    }
    match seen.first_key_value() {
        Some((of, _)) => Err(format!("{of} was invented")),
        None => Ok(()),
    }
}

/// The batches that are left from the first readable segment on, by base offset.
fn bytes_of(it: &RecoveredPartition, disk: &Disk) -> Result<Held, String> {
    let of = it.of;
    let mut at = it.segments[0].base;
    if it.log_start < at {
        return Err(format!("{of} starts at {} but its first segment at {at}", it.log_start));
    }
    let mut held = Vec::new();
    for (number, segment) in it.segments.iter().enumerate() {
        if segment.base != at {
            return Err(format!("{of} has a segment at {} instead of {at}", segment.base));
        }
        let next = it.segments.get(number + 1).map_or(it.end, |next| next.base);
        if 0 < segment.stored && next <= it.log_start && number + 1 < it.segments.len() {
            // It may be on its way out.
            at = next;
            continue;
        }
        let path = format!("/data/{}-{}/{:020}.log", it.name, of.partition, segment.base.0);
        let mut bytes = Vec::new();
        if 0 < segment.stored {
            bytes = disk.content(&path).ok_or_else(|| format!("{path} is lost"))?;
            if (bytes.len() as u64) < segment.stored {
                return Err(format!("{path} has {} bytes", bytes.len()));
            }
            bytes.truncate(segment.stored as usize);
        }
        bytes.extend_from_slice(&segment.tail);
        for batch in Batches::new(&bytes) {
            let batch = batch.map_err(|error| format!("{of} at {at}: {error:?}"))?;
            if batch.base_offset() != at {
                return Err(format!("{of} has {} at {at}", batch.base_offset()));
            }
            held.push((at.0, batch.bytes().to_vec()));
            at = batch.next_offset();
        }
    }
    if at == it.end {
        Ok(held)
    } else {
        Err(format!("{of} ends at {} but its bytes at {at}", it.end))
    }
}

/// Whether some beginning of the history, at least as long as promised, leaves just this.
fn fits(
    it: &RecoveredPartition,
    held: &[(i64, Vec<u8>)],
    attempts: &Attempts,
    promised: usize,
) -> Result<(), String> {
    let of = it.of;
    let from = held.first().map_or(it.end.0, |it| it.0);
    let mut log: Vec<(i64, &[u8])> = Vec::new();
    let mut end = 0;
    let mut why = format!("{of} ends at {}, which it never did after {promised} deeds", it.end);
    for done in 0..=attempts.deeds.len() {
        if let Some(deed) = done.checked_sub(1).map(|last| &attempts.deeds[last]) {
            match deed {
                Deed::Append { base, bytes } => {
                    assert_eq!(*base, end, "the log itself gives dense offsets");
                    log.push((*base, bytes));
                    end = Batch::split(bytes).expect("as it was taken").0.next_offset().0;
                }
                Deed::Cut { end: to } => {
                    log.retain(|it| it.0 < *to);
                    end = *to;
                }
            }
        }
        if done < promised || end != it.end.0 {
            continue;
        }
        let left = log.iter().filter(|it| from <= it.0);
        if !left.map(|it| (it.0, it.1)).eq(held.iter().map(|it| (it.0, it.1.as_slice()))) {
            why = format!("{of} ends at {} with other bytes", it.end);
            continue;
        }
        match knows_producers(it, &log, &attempts.deeds) {
            Ok(()) => return Ok(()),
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// Producers are what a replay of the log tells: from its first batch, or, where the log was cut
/// back once, from some batch at or before its start.
fn knows_producers(
    it: &RecoveredPartition,
    log: &[(i64, &[u8])],
    deeds: &[Deed],
) -> Result<(), String> {
    let cut = deeds.iter().any(|it| matches!(it, Deed::Cut { .. }));
    let froms = log.iter().take_while(|of| cut && of.0 <= it.log_start.0).count().max(1);
    // All of what was cut back may be below its start.
    let froms = froms + usize::from(cut && it.log_start == it.end);
    let theirs: Vec<_> = it.producers.describe().collect();
    let mut ours = Vec::new();
    for from in 0..froms {
        let mut producers = Producers::default();
        for (_, bytes) in log.iter().skip(from) {
            let (batch, _) = Batch::split(bytes).expect("as it was taken");
            producers.replay(&batch, 0);
        }
        ours = producers.describe().collect();
        if ours == theirs {
            return Ok(());
        }
    }
    Err(format!("{} knows producers {theirs:?} instead of {ours:?}", it.of))
}
