//! Writes on their way: what waits for each, and what happens when the log has answered.
//!
//! The log commits in order, so only the oldest write can be committed; any may be refused. A refused write takes
//! its own values back out and leaves the others alone: each record says the whole truth about its key.

use super::{Host, InFlight, Phase, push};
use crate::api::{Answer, Now, Outcome, Reply, Ticket, Write};
use crate::classic::Effects;
use crate::errors::{GroupError, WriteFailure};
use crate::records::{self, Change};

impl Host {
    /// The log has this write and all before it.
    ///
    /// # Panics
    /// An older write was not answered: the log commits in order, and so must its driver.
    pub fn on_committed(&mut self, now: Now, ticket: Ticket) -> Outcome {
        let mut out = Outcome::default();
        if self.phase == Phase::Stopped {
            return out;
        }
        let write = self.in_flight.pop_front().expect("only a write in flight is committed");
        assert_eq!(write.ticket, ticket, "writes are committed in the order they were asked for");
        for change in &write.changes {
            if let Change::Offset { group, topic, partition, .. } = change {
                self.offsets_of(group).commit(ticket, topic, *partition);
            }
        }
        self.finish(now, write, Ok(()), &mut out);
        self.debug_check();
        out
    }

    /// The log did not take this write and never will. The state is as if it had not been asked for, its answer
    /// says why not.
    ///
    /// # Panics
    /// The write is not in flight.
    pub fn on_failed(&mut self, now: Now, ticket: Ticket, failure: WriteFailure) -> Outcome {
        let mut out = Outcome::default();
        if self.phase == Phase::Stopped {
            return out;
        }
        let place = self.in_flight.iter().position(|write| write.ticket == ticket);
        let place = place.expect("only a write in flight is refused");
        let mut write = self.in_flight.remove(place).expect("just found");
        for change in &write.changes {
            if let Change::Offset { group, topic, partition, .. } = change {
                self.offsets_of(group).revert(ticket, topic, *partition);
            }
        }
        if let Some(before) = place.checked_sub(1) {
            // Older writes are still on their way, and the reads must not overtake those either.
            self.in_flight[before].reads.append(&mut write.reads);
        }
        self.finish(now, write, Err(failure), &mut out);
        self.debug_check();
        out
    }

    pub(super) fn begin_write(
        &mut self,
        changes: Vec<Change>,
        answer: Option<Reply>,
        resting: Option<String>,
        out: &mut Outcome,
    ) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        for change in &changes {
            if let Change::Offset { group, topic, partition, value } = change {
                self.offsets_of(group).begin(ticket, topic, *partition, value.clone());
            }
        }
        self.recount_changed(&changes);
        let records = changes.iter().map(records::write).collect();
        self.in_flight.push_back(InFlight { ticket, changes, answer, resting, reads: Vec::new() });
        out.writes.push(Write { ticket, records });
    }

    fn finish(
        &mut self,
        now: Now,
        write: InFlight,
        result: Result<(), WriteFailure>,
        out: &mut Outcome,
    ) {
        if let Some(reply) = write.answer {
            out.replies.push(match result {
                Ok(()) => reply,
                Err(failure) => failed_write(reply, failure),
            });
        }
        for (token, fetch) in write.reads {
            let answer = Answer::OffsetFetch(self.committed_offsets(&fetch));
            push(out, token, answer);
        }
        if let Some(name) = write.resting {
            self.wake_resting(now, &name, result, out);
        }
        for change in &write.changes {
            let (Change::Offset { group, .. } | Change::Group { group, .. }) = change;
            self.prune(group);
        }
        self.recount_changed(&write.changes);
    }

    /// One write has changes of one group, mostly.
    fn recount_changed(&mut self, changes: &[Change]) {
        let mut before = None;
        for change in changes {
            let (Change::Offset { group, .. } | Change::Group { group, .. }) = change;
            if before != Some(group) {
                self.recount(group);
            }
            before = Some(group);
        }
    }

    /// The group's record is answered: the group goes on, and with it the requests that waited, as far as they get.
    fn wake_resting(
        &mut self,
        now: Now,
        name: &str,
        result: Result<(), WriteFailure>,
        out: &mut Outcome,
    ) {
        let group = self.groups.get_mut(name).expect("a group at rest stays");
        let mut effects = Effects::default();
        group.classic.written(now, &self.config, result, &mut effects);
        out.replies.append(&mut effects.replies);
        if let Some(value) = effects.write {
            let change = Change::Group { group: name.to_owned(), value: Some(value) };
            self.begin_write(vec![change], None, Some(name.to_owned()), out);
        }
        self.set_alarm(name);
        self.recount(name);
        while let Some(group) = self.groups.get_mut(name)
            && !group.classic.is_at_rest()
            && let Some((token, request)) = group.deferred.pop_front()
        {
            self.serve(now, token, request, out);
        }
    }
}

fn failed_write(reply: Reply, failure: WriteFailure) -> Reply {
    let error = match reply.answer {
        Answer::OffsetCommit(_) | Answer::OffsetDelete(_) => failure.to_committer(),
        _ => failure.to_member(),
    };
    failed(reply, error)
}

/// The same answer, had its record not been written.
pub(super) fn failed(mut reply: Reply, error: GroupError) -> Reply {
    match &mut reply.answer {
        Answer::OffsetCommit(answer) => {
            for partition in answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                partition.error.get_or_insert(error);
            }
        }
        Answer::OffsetDelete(answer) => {
            answer.error = Some(error);
            answer.topics.clear();
        }
        Answer::Leave(answer) => {
            answer.error = Some(error);
            answer.members.clear();
        }
        Answer::Delete(answer) => answer.error = Some(error),
        Answer::Join(_)
        | Answer::Sync(_)
        | Answer::Heartbeat(_)
        | Answer::OffsetFetch(_)
        | Answer::Describe(_)
        | Answer::List(_) => unreachable!("these answers wait in their group, or for nothing"),
    }
    reply
}
