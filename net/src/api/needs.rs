//! What a client must be allowed to do for a request to be served: facts of the protocol, as Kafka's
//! documents tell them.
//!
//! There is no authorizer yet. Nobody is refused anything on account of these rows; they are written down
//! so that the one who asks them has nothing left to decide.

use std::fmt;

/// What may be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
    Create,
    Delete,
    Alter,
    Describe,
    ClusterAction,
    DescribeConfigs,
    AlterConfigs,
    IdempotentWrite,
    CreateTokens,
    DescribeTokens,
}

/// The kind of thing on which it is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Topic,
    Group,
    Cluster,
    TransactionalId,
    DelegationToken,
    User,
}

/// When a need is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Always,
    /// The need before it does instead.
    OrElse,
    /// Only of requests of this kind.
    If(&'static str),
}

/// One thing that has to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    pub operation: Operation,
    pub resource: Resource,
    pub when: When,
}

impl Need {
    #[must_use]
    pub const fn new(operation: Operation, resource: Resource) -> Self {
        Self { operation, resource, when: When::Always }
    }

    #[must_use]
    pub const fn or_else(mut self) -> Self {
        self.when = When::OrElse;
        self
    }

    #[must_use]
    pub const fn only(mut self, of: &'static str) -> Self {
        self.when = When::If(of);
        self
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, resource, when } = self;
        write!(f, "{operation:?} {resource:?}")?;
        match when {
            When::Always | When::OrElse => Ok(()),
            When::If(of) => write!(f, " ({of})"),
        }
    }
}

/// All of them, as documents say it.
pub(super) fn said(needs: &[Need]) -> String {
    let mut out = String::new();
    for need in needs {
        let between = match need.when {
            _ if out.is_empty() => "",
            When::OrElse => " or ",
            When::Always | When::If(_) => ", ",
        };
        out.push_str(between);
        out.push_str(&need.to_string());
    }
    if out.is_empty() { "-".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_said_as_they_are_meant() {
        let create = Need::new(Operation::Create, Resource::Cluster).only("of new topics");
        let on_topic = Need::new(Operation::Create, Resource::Topic).or_else();
        let describe = Need::new(Operation::Describe, Resource::Topic);
        assert_eq!(
            said(&[create, on_topic, describe]),
            "Create Cluster (of new topics) or Create Topic, Describe Topic"
        );
        assert_eq!(said(&[]), "-");
    }
}
