//! Which protocols the members share, which one they choose, and which topics a consumer's metadata names.
//!
//! The choice is a vote: each member votes for the first protocol of its own list that all members know. The most
//! votes win; among equals the first in alphabetical order, so that the same members always choose the same.

use std::collections::{BTreeMap, BTreeSet};

use super::member::Member;
use super::{CONSUMER, ClassicGroup, State};
use crate::api::Protocol;
use crate::limits::GroupConfig;
use crate::records::{Bytes, RecordError};

impl ClassicGroup {
    /// Whether somebody with these protocols can be one of the members.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let known_by_all =
            |name: &str| self.known.get(name).copied().unwrap_or(0) == self.members.len();
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| known_by_all(&protocol.name))
    }

    /// The protocol of the next generation. Absent only without members: who joins shares a protocol with all.
    pub(super) fn choose_protocol(&self) -> Option<String> {
        let candidates: BTreeSet<&str> = self
            .known
            .iter()
            .filter(|(_, count)| **count == self.members.len())
            .map(|(name, _)| name.as_str())
            .collect();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let mut names = member.protocols.iter().map(|protocol| protocol.name.as_str());
            if let Some(name) = names.find(|name| candidates.contains(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned())
    }

    pub(super) fn count_protocols(&mut self, member: &Member) {
        self.protocol_bytes += bytes_of(&member.protocols);
        for name in names(&member.protocols) {
            *self.known.entry(name.to_owned()).or_default() += 1;
        }
    }

    pub(super) fn uncount_protocols(&mut self, member: &Member) {
        self.protocol_bytes -= bytes_of(&member.protocols);
        for name in names(&member.protocols) {
            let count = self.known.get_mut(name).expect("counted when the member came");
            *count -= 1;
            if *count == 0 {
                self.known.remove(name);
            }
        }
    }

    /// Whether what this member tells of itself fits beside what the others told. One alone always does.
    pub(super) fn has_room_for(
        &self,
        config: &GroupConfig,
        id: &str,
        protocols: &[Protocol],
    ) -> bool {
        let before = self.members.get(id).map_or(0, |it| bytes_of(&it.protocols));
        let others = self.protocol_bytes - before;
        others == 0 || others + bytes_of(protocols) <= config.members_bytes_max
    }

    pub(super) fn check_known(&self) {
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        for name in self.members.values().flat_map(|member| names(&member.protocols)) {
            *known.entry(name.to_owned()).or_default() += 1;
        }
        assert_eq!(known, self.known, "protocols are counted");
        let bytes: usize = self.members.values().map(|it| bytes_of(&it.protocols)).sum();
        assert_eq!(bytes, self.protocol_bytes, "their bytes are counted");
    }

    /// Whether the group reads the topic. A consumer group whose metadata cannot be read may read anything.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer(),
        }
    }

    /// Whether the topics of the group are known.
    pub(crate) fn knows_its_topics(&self) -> bool {
        self.subscribed.is_some()
    }

    pub(crate) fn is_consumer(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// The topics all members of a consumer group named for the chosen protocol.
    pub(super) fn read_subscriptions(&self) -> Option<BTreeSet<String>> {
        if !self.is_consumer() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscription_topics(member.metadata(protocol)?).ok()?);
        }
        Some(topics)
    }
}

/// What a member told of itself.
pub(crate) fn bytes_of(protocols: &[Protocol]) -> usize {
    protocols.iter().map(|it| it.name.len() + it.metadata.len()).sum()
}

/// A member may name a protocol twice; it knows it once.
fn names(protocols: &[Protocol]) -> BTreeSet<&str> {
    protocols.iter().map(|protocol| protocol.name.as_str()).collect()
}

/// The topics of a consumer's metadata: a version and, in every version, the list of topics first.
fn subscription_topics(metadata: &[u8]) -> Result<Vec<String>, RecordError> {
    let mut bytes = Bytes::new(metadata, false);
    bytes.i16()?;
    let count = bytes.count()?;
    let mut topics = Vec::new();
    for _ in 0..count {
        topics.push(bytes.text()?);
    }
    Ok(topics)
}
