//! One member: what it said when it joined, and what it waits for.

use super::protocols::bytes_of;
use crate::api::{JoinGroup, Protocol, Token};
use crate::limits::THING_BYTES;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) instance: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: u64,
    pub(crate) rebalance_timeout_ms: u64,
    pub(crate) protocol_type: String,
    /// In the member's order of preference.
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Vec<u8>,
    /// Its first join has not been answered. Such a member can die while it waits.
    pub(crate) is_new: bool,
    pub(crate) joining: Option<Token>,
    pub(crate) syncing: Option<Token>,
    /// When it counts as dead unless it is heard of.
    pub(crate) deadline_ms: u64,
}

impl Member {
    pub(crate) fn from_join(request: &JoinGroup, token: Token, deadline_ms: u64) -> Self {
        Self {
            instance: request.instance.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            session_timeout_ms: session_timeout_ms(request),
            rebalance_timeout_ms: rebalance_timeout_ms(request),
            protocol_type: request.protocol_type.clone(),
            protocols: request.protocols.clone(),
            assignment: Vec::new(),
            is_new: true,
            joining: Some(token),
            syncing: None,
            deadline_ms,
        }
    }

    pub(crate) fn metadata(&self, protocol: &str) -> Option<&[u8]> {
        self.protocols
            .iter()
            .find(|known| known.name == protocol)
            .map(|known| known.metadata.as_slice())
    }

    /// What it takes in memory, without its id.
    pub(crate) fn held_bytes(&self) -> usize {
        let names = [&self.client_id, &self.client_host, &self.protocol_type];
        let names: usize = names.iter().map(|it| it.len()).sum();
        let instance = self.instance.as_ref().map_or(0, String::len);
        THING_BYTES + names + instance + bytes_of(&self.protocols) + self.assignment.len()
    }

    /// Whoever waits for an answer is alive, once it has been part of the group.
    pub(crate) fn can_expire(&self) -> bool {
        self.is_new || (self.joining.is_none() && self.syncing.is_none())
    }
}

/// What whoever joins so will take in memory, without its id and what it will be told to do.
pub(crate) fn told_bytes(request: &JoinGroup) -> usize {
    let names = [&request.client_id, &request.client_host, &request.protocol_type];
    let names: usize = names.iter().map(|it| it.len()).sum();
    let instance = request.instance.as_ref().map_or(0, String::len);
    THING_BYTES + names + instance + bytes_of(&request.protocols)
}

pub(super) fn session_timeout_ms(request: &JoinGroup) -> u64 {
    u64::try_from(request.session_timeout_ms).unwrap_or(0)
}

/// Requests without a rebalance time-out use the session's for both.
pub(super) fn rebalance_timeout_ms(request: &JoinGroup) -> u64 {
    u64::try_from(request.rebalance_timeout_ms).unwrap_or(session_timeout_ms(request))
}
