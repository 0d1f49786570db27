//! Directories: which names there are, and which of them would survive a power cut.
//!
//! Changes wait in order until a flush of a directory they touch. A flush also takes along earlier changes
//! that its own stand on. A cut keeps any of the waiting changes, but none that stands on a lost one: a rename
//! is never half done, a name never leads to two files.

use std::collections::{BTreeMap, BTreeSet};

use super::image::Decider;

/// Names a file or directory for ever, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ino(pub(super) u64);

/// The directory every path starts in.
pub(super) const ROOT: Ino = Ino(0);

type Place = (Ino, String);

/// One change, whole or not at all.
#[derive(Debug, Clone)]
struct Change {
    /// The place a name leaves.
    from: Option<Place>,
    /// The place a name comes to.
    to: Option<Place>,
    ino: Ino,
    /// What was there before.
    replaced: Option<Ino>,
}

impl Change {
    fn touches(&self, dir: Ino) -> bool {
        self.places().any(|it| it.0 == dir)
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.from.iter().chain(&self.to)
    }
}

/// What a change stands on.
#[derive(Default)]
struct Ties {
    places: BTreeSet<Place>,
    inos: BTreeSet<Ino>,
}

impl Ties {
    fn binds(&self, change: &Change) -> bool {
        self.inos.contains(&change.ino)
            || change.replaced.is_some_and(|it| self.inos.contains(&it))
            || change.places().any(|it| self.places.contains(it))
    }

    fn add(&mut self, change: &Change) {
        self.places.extend(change.places().cloned());
        self.inos.insert(change.ino);
        self.inos.extend(change.replaced);
    }
}

type Tree = BTreeMap<Ino, BTreeMap<String, Ino>>;

/// All directories of one disk.
#[derive(Debug, Clone)]
pub(super) struct Names {
    now: Tree,
    durable: Tree,
    waiting: Vec<Change>,
}

impl Names {
    pub(super) fn new() -> Self {
        let tree = Tree::from([(ROOT, BTreeMap::new())]);
        Self { now: tree.clone(), durable: tree, waiting: Vec::new() }
    }

    pub(super) fn is_dir(&self, ino: Ino) -> bool {
        self.now.contains_key(&ino)
    }

    pub(super) fn get(&self, dir: Ino, name: &str) -> Option<Ino> {
        self.now.get(&dir)?.get(name).copied()
    }

    pub(super) fn list(&self, dir: Ino) -> &BTreeMap<String, Ino> {
        &self.now[&dir]
    }

    pub(super) fn link(&mut self, dir: Ino, name: &str, ino: Ino, is_dir: bool) {
        if is_dir {
            self.now.insert(ino, BTreeMap::new());
            // Without a name that leads to it an empty directory is nothing.
            self.durable.insert(ino, BTreeMap::new());
        }
        self.change(Change { from: None, to: Some((dir, name.to_owned())), ino, replaced: None });
    }

    pub(super) fn unlink(&mut self, dir: Ino, name: &str, ino: Ino) {
        self.change(Change { from: Some((dir, name.to_owned())), to: None, ino, replaced: None });
        self.now.remove(&ino);
    }

    pub(super) fn rename(&mut self, from: Place, to: Place, ino: Ino) {
        let replaced = self.get(to.0, &to.1);
        self.change(Change { from: Some(from), to: Some(to), ino, replaced });
        if let Some(replaced) = replaced {
            self.now.remove(&replaced);
        }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.now, &change);
        self.waiting.push(change);
    }

    /// Makes the changes in one directory durable, and what they stand on.
    pub(super) fn flush(&mut self, dir: Ino) {
        let mut ties = Ties::default();
        let mut taken = vec![false; self.waiting.len()];
        for (at, change) in self.waiting.iter().enumerate().rev() {
            if change.touches(dir) || ties.binds(change) {
                ties.add(change);
                taken[at] = true;
            }
        }
        let mut taken = taken.into_iter();
        let durable = &mut self.durable;
        self.waiting.retain(|change| {
            let take = taken.next().expect("one for each");
            if take {
                apply(durable, change);
            }
            !take
        });
    }

    /// The directories after a power cut.
    pub(super) fn cut(&self, decider: &mut Decider<'_>) -> Self {
        let mut left = self.durable.clone();
        let mut lost = Ties::default();
        for change in &self.waiting {
            if !lost.binds(change) && decider.keeps() {
                apply(&mut left, change);
            } else {
                lost.add(change);
            }
        }
        let mut names = Self { now: left.clone(), durable: left, waiting: Vec::new() };
        let reached = names.reached();
        names.now.retain(|it, _| reached.contains(it));
        names.durable.retain(|it, _| reached.contains(it));
        names
    }

    /// Everything that a path leads to, now.
    pub(super) fn reached(&self) -> BTreeSet<Ino> {
        let mut reached = BTreeSet::new();
        let mut open = vec![ROOT];
        while let Some(ino) = open.pop() {
            if reached.insert(ino) {
                open.extend(self.now.get(&ino).into_iter().flatten().map(|(_, &it)| it));
            }
        }
        reached
    }

    /// Whether a path leads, or after a cut may lead, to this.
    pub(super) fn may_reach(&self, ino: Ino) -> bool {
        [&self.now, &self.durable]
            .into_iter()
            .any(|it| it.values().any(|it| it.values().any(|&it| it == ino)))
            || self.waiting.iter().any(|it| it.ino == ino)
    }
}

fn apply(tree: &mut Tree, change: &Change) {
    if let Some((dir, name)) = &change.from
        && let Some(names) = tree.get_mut(dir)
        && names.get(name) == Some(&change.ino)
    {
        names.remove(name);
    }
    if let Some((dir, name)) = &change.to
        && let Some(names) = tree.get_mut(dir)
    {
        names.insert(name.clone(), change.ino);
    }
}

#[cfg(test)]
mod tests {
    use super::super::chance::Chance;
    use super::super::image::Cut;
    use super::*;

    fn story(names: &Names) -> String {
        let list = |dir| {
            let names = names.now.get(&dir).into_iter().flatten();
            names.map(|(name, ino)| format!("{name}{}", ino.0)).collect::<Vec<_>>().join(",")
        };
        format!("{}|{}", list(ROOT), list(Ino(1)))
    }

    fn cuts(names: &Names) -> Vec<String> {
        let mut chance = Chance::new(5);
        let all: BTreeSet<_> = (0..300)
            .map(|_| {
                let mut decider =
                    Decider { cut: Cut::Random, chance: &mut chance, keep_ppm: 500_000 };
                story(&names.cut(&mut decider))
            })
            .collect();
        all.into_iter().collect()
    }

    fn at(dir: Ino, name: &str) -> Place {
        (dir, name.to_owned())
    }

    fn with_dir() -> Names {
        let mut names = Names::new();
        names.link(ROOT, "d", Ino(1), true);
        names.flush(ROOT);
        names
    }

    #[test]
    fn a_name_lasts_when_its_directory_was_flushed() {
        let mut names = with_dir();
        names.link(Ino(1), "a", Ino(2), false);
        assert_eq!(cuts(&names), ["d1|", "d1|a2"]);
        names.flush(ROOT);
        assert_eq!(cuts(&names), ["d1|", "d1|a2"], "another directory helps nothing");
        names.flush(Ino(1));
        assert_eq!(cuts(&names), ["d1|a2"]);
        names.unlink(Ino(1), "a", Ino(2));
        assert_eq!(cuts(&names), ["d1|", "d1|a2"]);
    }

    #[test]
    fn a_rename_is_whole_or_not_at_all() {
        let mut names = with_dir();
        names.link(Ino(1), "a", Ino(2), false);
        names.flush(Ino(1));
        names.link(Ino(1), "t", Ino(3), false);
        names.rename(at(Ino(1), "t"), at(Ino(1), "a"), Ino(3));
        assert_eq!(cuts(&names), ["d1|a2", "d1|a2,t3", "d1|a3"]);
    }

    #[test]
    fn a_flush_takes_along_what_its_changes_stand_on() {
        let mut names = with_dir();
        names.link(ROOT, "a", Ino(2), false);
        names.link(ROOT, "x", Ino(3), false);
        names.rename(at(ROOT, "a"), at(Ino(1), "b"), Ino(2));
        names.flush(Ino(1));
        assert_eq!(cuts(&names), ["d1,x3|b2", "d1|b2"]);
    }
}
