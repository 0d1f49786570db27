//! What there is: groups listed and described. Reads the state as it stands.

use super::{Group, Host};
use crate::api::{DescribeAnswer, ListAnswer, ListGroups, ListedGroup};
use crate::classic::ClassicGroup;
use crate::errors::GroupError;

/// Kafka's word for a group that does not exist.
const DEAD: &str = "Dead";
const CLASSIC: &str = "classic";

impl Host {
    pub(super) fn describe(&self, name: &str) -> DescribeAnswer {
        match self.groups.get(name) {
            Some(group) => described(name, &group.classic),
            None => DescribeAnswer {
                error: Some(GroupError::GroupIdNotFound),
                group: name.to_owned(),
                state: DEAD,
                protocol_type: String::new(),
                protocol: String::new(),
                members: Vec::new(),
            },
        }
    }

    pub(super) fn list(&self, request: &ListGroups) -> ListAnswer {
        let groups = self
            .groups
            .iter()
            .map(|(name, group)| listed(name, group))
            .filter(|group| {
                passes(&request.states, group.state) && passes(&request.types, group.kind)
            })
            .collect();
        ListAnswer { error: None, groups }
    }
}

fn described(name: &str, classic: &ClassicGroup) -> DescribeAnswer {
    DescribeAnswer {
        error: None,
        group: name.to_owned(),
        state: classic.state().name(),
        protocol_type: classic.protocol_type().unwrap_or_default().to_owned(),
        protocol: classic.described_protocol(),
        members: classic.describe_members(),
    }
}

fn listed(name: &str, group: &Group) -> ListedGroup {
    ListedGroup {
        group: name.to_owned(),
        protocol_type: group.classic.protocol_type().unwrap_or_default().to_owned(),
        state: group.classic.state().name(),
        kind: CLASSIC,
    }
}

fn passes(filter: &[String], word: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(word))
}
