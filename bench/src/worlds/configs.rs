//! Somebody who alters values of a topic, of the broker and of all brokers, and looks what they are.
//!
//! The rule, for each key: what is told is the last value whose alteration was answered, or one of which
//! nobody knows what became. Before the first of them it is nobody's.

use std::collections::{BTreeMap, BTreeSet};

use corelane_client::ClientError;
use corelane_client::conn::Connection;
use corelane_core::lane::Lane;
use corelane_core::time::Nanos;
use corelane_net::ErrorCode;
use corelane_net::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use corelane_net::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};

use super::load::{BORN, Shared};

/// A key that is altered here and nowhere else; its value changes nothing that others look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    kind: i8,
    of: &'static str,
    name: &'static str,
    /// Where a value comes from that was altered.
    source: i8,
}

/// The broker's own number, in a world.
const BROKER: &str = "1";

const KEYS: [Key; 3] = [
    Key { kind: 2, of: BORN, name: "file.delete.delay.ms", source: 1 },
    Key { kind: 4, of: BROKER, name: "log.cleaner.delete.retention.ms", source: 2 },
    Key { kind: 4, of: "", name: "log.cleaner.min.compaction.lag.ms", source: 3 },
];

/// What is known of one key.
#[derive(Debug, Default)]
struct Value {
    last: i64,
    answered: Option<i64>,
    unknown: BTreeSet<i64>,
}

/// What is known of all keys.
#[derive(Debug, Default)]
pub struct Altered(BTreeMap<Key, Value>);

impl Altered {
    /// A value that no key had before; nobody knows yet what becomes of it.
    fn begin(&mut self, key: Key) -> i64 {
        let it = self.0.entry(key).or_default();
        it.last += 1;
        it.unknown.insert(it.last);
        it.last
    }

    fn answered(&mut self, key: Key, value: i64) {
        let it = self.0.entry(key).or_default();
        it.unknown.remove(&value);
        it.answered = Some(value);
    }

    fn failed(&mut self, key: Key, value: i64) {
        self.0.entry(key).or_default().unknown.remove(&value);
    }

    /// What is wrong with a value that was told now.
    fn wrong(&self, key: Key, told: Option<i64>) -> Option<String> {
        let none = Value::default();
        let it = self.0.get(&key).unwrap_or(&none);
        let right = told == it.answered || told.is_some_and(|told| it.unknown.contains(&told));
        (!right).then(|| {
            let Key { of, name, .. } = key;
            let wanted = (it.answered, &it.unknown);
            format!("altered: {name} of {of:?} is {told:?}, and was set to one of {wanted:?}")
        })
    }
}

/// Alters and looks until the storm is over.
pub async fn alter(lane: Lane, shared: Shared) {
    while !shared.over.get() {
        lane.sleep(Nanos::millis(lane.random() % 300)).await;
        let key = KEYS[(lane.random() % KEYS.len() as u64) as usize];
        if lane.random().is_multiple_of(2) {
            // Whatever went wrong, it is looked at again.
            let _later = look(&lane, &shared, key).await;
        } else {
            change(&lane, &shared, key).await;
        }
    }
}

async fn change(lane: &Lane, shared: &Shared, key: Key) {
    let value = shared.history.borrow_mut().altered.begin(key);
    let altered = try_change(lane, shared, key, &value.to_string()).await;
    let mut history = shared.history.borrow_mut();
    match altered {
        Ok(ErrorCode::None) => {
            history.tally.add("values altered", 1);
            history.altered.answered(key, value);
        }
        // The topic is not there yet.
        Ok(ErrorCode::UnknownTopicOrPartition) => history.altered.failed(key, value),
        // Perhaps it was written and not known to be.
        Ok(_) | Err(_) => {}
    }
}

async fn try_change(
    lane: &Lane,
    shared: &Shared,
    key: Key,
    value: &str,
) -> Result<ErrorCode, ClientError> {
    let connection = Connection::open(lane, shared.broker, &shared.options()).await?;
    let config = AlterableConfig { name: key.name, config_operation: 0, value: Some(value) };
    let resource = AlterConfigsResource {
        resource_type: key.kind,
        resource_name: key.of,
        configs: [config].into(),
    };
    let resources = [resource].into();
    let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
    let answer = connection.call(&request).await?;
    let told = answer.decode::<IncrementalAlterConfigsResponse<'_>>()?;
    Ok(told.responses.first().map_or(ErrorCode::UnknownServerError, |it| code(it.error_code)))
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}

/// Looks what a key is, and complains when it is what it cannot be. Says whether it was told.
async fn look(lane: &Lane, shared: &Shared, key: Key) -> Result<bool, ClientError> {
    let connection = Connection::open(lane, shared.broker, &shared.options()).await?;
    let resource = DescribeConfigsResource {
        resource_type: key.kind,
        resource_name: key.of,
        configuration_keys: Some([key.name].into()),
    };
    let request = DescribeConfigsRequest { resources: [resource].into(), ..Default::default() };
    let answer = connection.call(&request).await?;
    let told = answer.decode::<DescribeConfigsResponse<'_>>()?;
    let Some(result) = told.results.first() else { return Ok(false) };
    if code(result.error_code) != ErrorCode::None {
        return Ok(false);
    }
    let altered = result.configs.iter().find(|it| it.config_source == key.source);
    let value = altered.and_then(|it| it.value).and_then(|it| it.parse().ok());
    let mut history = shared.history.borrow_mut();
    history.tally.add("values looked at", 1);
    if let Some(complaint) = history.altered.wrong(key, value) {
        history.fault(complaint);
    }
    Ok(true)
}

/// After the storm: every key is what it was set to.
pub async fn look_at_last(lane: Lane, shared: Shared) {
    let _work = shared.work();
    for key in KEYS {
        while !look(&lane, &shared, key).await.is_ok_and(|told| told) {
            lane.sleep(Nanos::millis(50)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_the_last_that_was_answered_or_one_of_which_nobody_knows() {
        let key = KEYS[0];
        let mut altered = Altered::default();
        let wrong = |altered: &Altered, told| altered.wrong(key, told).is_some();
        assert!(!wrong(&altered, None) && wrong(&altered, Some(1)));
        let first = altered.begin(key);
        assert!(!wrong(&altered, None) && !wrong(&altered, Some(first)));
        altered.answered(key, first);
        assert!(wrong(&altered, None) && !wrong(&altered, Some(first)));
        let second = altered.begin(key);
        assert!(!wrong(&altered, Some(first)) && !wrong(&altered, Some(second)));
        altered.failed(key, second);
        assert!(!wrong(&altered, Some(first)) && wrong(&altered, Some(second)));
        let third = altered.begin(key);
        altered.answered(key, third);
        assert!(wrong(&altered, Some(first)) && !wrong(&altered, Some(third)));
        assert!(!wrong(&altered, Some(third)) && altered.wrong(KEYS[1], None).is_none());
    }
}
