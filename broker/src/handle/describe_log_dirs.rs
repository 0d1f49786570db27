//! What the logs take on disk, and how much the disk has.

use std::collections::{BTreeMap, BTreeSet};

use corelane_core::ids::TopicPartition;
use corelane_net::ErrorCode;
use corelane_net::conn::Reply;
use corelane_net::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};

use super::Call;

/// The topics and partitions asked for.
type Wanted = BTreeMap<String, BTreeSet<i32>>;

pub(super) async fn handle(call: Call) -> Reply {
    let wanted = match read(&call).await {
        Ok(it) => it,
        Err(reply) => return reply,
    };
    let look = |node: &crate::node::Node| {
        let partitions = node.store().partitions();
        let size = |it: &corelane_storage::log::store::Shared| {
            let it = it.borrow();
            (it.of, it.bytes())
        };
        partitions.iter().map(size).collect::<Vec<(TopicPartition, u64)>>()
    };
    let sizes = call.node.on_every_lane(look).await;
    let facts = call.node.facts();
    let space = call.node.lane().space(&facts.config.data).await;
    let image = call.node.image();
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for (of, bytes) in sizes.into_iter().flatten() {
        let index = of.partition.0;
        // Metadata's own log is no topic, and a topic that was just deleted is none any more.
        let Some(topic) = image.topic(of.topic) else { continue };
        let asked = wanted
            .as_ref()
            .is_none_or(|it| it.get(&topic.name).is_some_and(|these| these.contains(&index)));
        if asked {
            topics.entry(&topic.name).or_default().push(DescribeLogDirsPartition {
                partition_index: index,
                partition_size: clamped(bytes),
                ..Default::default()
            });
        }
    }
    for partitions in topics.values_mut() {
        partitions.sort_unstable_by_key(|it| it.partition_index);
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| DescribeLogDirsTopic { name, partitions: partitions.into() });
    let mut dir = DescribeLogDirsResult {
        log_dir: &facts.data,
        topics: topics.collect(),
        ..Default::default()
    };
    match space {
        Ok(space) => {
            dir.total_bytes = clamped(space.total_bytes);
            dir.usable_bytes = clamped(space.free_bytes);
        }
        Err(_) => dir.error_code = ErrorCode::KafkaStorageError.code(),
    }
    call.answer(&DescribeLogDirsResponse { results: [dir].into(), ..Default::default() }).await
}

async fn read(call: &Call) -> Result<Option<Wanted>, Reply> {
    let request = call.decode::<DescribeLogDirsRequest<'_>>().await?;
    Ok(request.topics.map(|topics| {
        let mut wanted = Wanted::new();
        for it in &topics {
            wanted.entry(it.topic.to_owned()).or_default().extend(it.partitions.iter());
        }
        wanted
    }))
}

fn clamped(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
