//! What members of groups were told and did, and what in it contradicts itself.
//!
//! The rules, for each group:
//!
//! - *two owners*: in one generation a partition belongs to one member;
//! - *taken*: what a member kept from one generation to a later one was nobody else's in between;
//! - *generation back*: whoever joins after a generation was shared out is in that one or a later one;
//! - *offset back*: who asks after a commit was answered is told that offset or a later one, for nobody
//!   here ever commits backwards;
//! - *invented*: an offset that is told was committed by somebody, answered or not;
//! - *skipped*: what lies before an offset that somebody was told was read by a member before; in the end
//!   the group has read everything that is still there.

use std::collections::{BTreeMap, BTreeSet};

use super::history::Place;

/// What a group does with one partition.
#[derive(Default)]
struct Reading {
    /// The highest commit that was answered.
    answered: i64,
    /// Every commit that was ever sent.
    sent: BTreeSet<i64>,
    read: BTreeSet<i64>,
}

#[derive(Default)]
struct Group {
    /// The last generation of which somebody was told a share.
    generation: i32,
    owners: BTreeMap<(i32, Place), String>,
    places: BTreeMap<Place, Reading>,
}

/// The history of all groups of a run.
#[derive(Default)]
pub struct Groups {
    all: BTreeMap<String, Group>,
    complaints: Vec<String>,
}

impl Groups {
    fn group(&mut self, group: &str) -> &mut Group {
        if !self.all.contains_key(group) {
            self.all.insert(group.to_owned(), Group::default());
        }
        self.all.get_mut(group).expect("just made")
    }

    fn reading(&mut self, group: &str, place: &Place) -> &mut Reading {
        self.group(group).places.entry(place.clone()).or_default()
    }

    /// The last generation that was shared out: whoever joins from now on is told none before it.
    pub fn generation(&mut self, group: &str) -> i32 {
        self.group(group).generation
    }

    /// A member, who began to join when `floor` was the last generation, was told its share.
    pub fn shared(
        &mut self,
        group: &str,
        floor: i32,
        generation: i32,
        owner: &str,
        share: &[Place],
    ) {
        let mut told = Vec::new();
        let it = self.group(group);
        if generation < floor {
            told.push(format!("generation back: {group} was in {floor} and is in {generation}"));
        }
        it.generation = it.generation.max(generation);
        for place in share {
            let before = it.owners.insert((generation, place.clone()), owner.to_owned());
            if let Some(before) = before.filter(|it| it != owner) {
                told.push(format!(
                    "two owners: {place} belongs to {before} and to {owner} in generation \
                     {generation} of {group}"
                ));
            }
        }
        self.complaints.extend(told);
    }

    /// A member that was told its share kept these places since an earlier generation.
    pub fn kept(
        &mut self,
        group: &str,
        owner: &str,
        (before, now): (i32, i32),
        places: impl Iterator<Item = Place>,
    ) {
        let mut told = Vec::new();
        let it = self.group(group);
        for place in places {
            for between in before + 1..now {
                let other = it.owners.get(&(between, place.clone()));
                if let Some(other) = other.filter(|it| *it != owner) {
                    told.push(format!(
                        "taken: {place} was kept by {owner} from generation {before} to {now} of \
                         {group} and was of {other} in {between}"
                    ));
                }
            }
        }
        self.complaints.extend(told);
    }

    /// The highest commit that was answered so far.
    pub fn answered(&mut self, group: &str, place: &Place) -> i64 {
        self.reading(group, place).answered
    }

    /// A commit is about to be sent.
    pub fn committing(&mut self, group: &str, place: &Place, offset: i64) {
        self.reading(group, place).sent.insert(offset);
    }

    /// A commit was answered.
    pub fn committed(&mut self, group: &str, place: &Place, offset: i64) {
        let it = self.reading(group, place);
        it.answered = it.answered.max(offset);
    }

    /// Somebody who asked when `answered` was the highest commit answered was told this.
    pub fn resumed(&mut self, group: &str, place: &Place, answered: i64, told: Option<i64>) {
        let it = self.reading(group, place);
        let invented = told.filter(|told| !it.sent.contains(told));
        if told.unwrap_or(0) < answered {
            self.complaints.push(format!(
                "offset back: {group} had committed {answered} of {place} and is told {told:?}"
            ));
        }
        if let Some(told) = invented {
            self.complaints.push(format!(
                "invented: {group} is told {told} of {place}, which nobody ever committed"
            ));
        }
    }

    /// A member has read these records.
    pub fn read(&mut self, group: &str, place: &Place, offsets: impl Iterator<Item = i64>) {
        self.reading(group, place).read.extend(offsets);
    }

    /// Compares with the final logs, given as where each begins, and the offsets in it.
    pub fn finish<'a>(
        mut self,
        last: impl Fn(&Place) -> Option<Vec<i64>> + 'a,
    ) -> impl Iterator<Item = String> {
        let mut skipped = Vec::new();
        for (name, group) in &self.all {
            for (place, reading) in &group.places {
                let there = last(place).unwrap_or_default();
                let missed: Vec<_> =
                    there.into_iter().filter(|it| !reading.read.contains(it)).collect();
                if let (Some(first), count) = (missed.first(), missed.len()) {
                    skipped.push(format!(
                        "skipped: {name} never read {count} records of {place}, the first at {first}"
                    ));
                }
            }
        }
        self.complaints.extend(skipped);
        self.complaints.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partition: i32) -> Place {
        Place { topic: "t".to_owned(), partition }
    }

    fn told(groups: Groups) -> String {
        let all: Vec<_> = groups.finish(|_| Some(vec![0, 1, 2])).collect();
        let kinds = all.iter().map(|it| it.split(':').next().expect("a word"));
        kinds.collect::<Vec<_>>().join(", ")
    }

    fn read_all(groups: &mut Groups) {
        for partition in 0..2 {
            groups.read("g", &place(partition), 0..3);
        }
    }

    #[test]
    fn a_group_that_goes_on_where_it_was_is_not_complained_about() {
        let mut groups = Groups::default();
        groups.shared("g", 0, 1, "a", &[place(0), place(1)]);
        groups.committing("g", &place(0), 2);
        groups.committed("g", &place(0), 2);
        groups.committing("g", &place(0), 3);
        let floor = groups.generation("g");
        groups.shared("g", floor, 2, "a", &[place(0)]);
        groups.shared("g", floor, 2, "b", &[place(1)]);
        let answered = groups.answered("g", &place(0));
        groups.resumed("g", &place(0), answered, Some(3));
        groups.resumed("g", &place(1), 0, None);
        read_all(&mut groups);
        assert_eq!(told(groups), "");
    }

    #[test]
    fn each_contradiction_has_its_name() {
        let mut owners = Groups::default();
        owners.shared("g", 0, 1, "a", &[place(0)]);
        owners.shared("g", 0, 1, "b", &[place(0), place(1)]);
        read_all(&mut owners);
        assert_eq!(told(owners), "two owners");

        let mut taken = Groups::default();
        taken.shared("g", 0, 1, "a", &[place(0), place(1)]);
        taken.shared("g", 1, 2, "b", &[place(0)]);
        taken.kept("g", "a", (1, 3), [place(0), place(1)].into_iter());
        read_all(&mut taken);
        assert_eq!(told(taken), "taken");

        let mut generation = Groups::default();
        generation.shared("g", 4, 3, "a", &[]);
        assert_eq!(told(generation), "generation back");

        for found in [None, Some(1)] {
            let mut back = Groups::default();
            back.committing("g", &place(0), 1);
            back.committing("g", &place(0), 2);
            back.committed("g", &place(0), 2);
            back.resumed("g", &place(0), 2, found);
            read_all(&mut back);
            assert_eq!(told(back), "offset back");
        }

        let mut invented = Groups::default();
        invented.resumed("g", &place(0), 0, Some(2));
        read_all(&mut invented);
        assert_eq!(told(invented), "invented");

        let mut skipped = Groups::default();
        skipped.read("g", &place(0), [0, 2].into_iter());
        assert_eq!(told(skipped), "skipped");
    }
}
