//! Before and after the load: topics made, their leaders found, topics removed.

use super::link::{Link, LinkError, refuse};
use super::workload::Workload;
use corelane_net::ErrorCode;
use corelane_net::api::ApiKey;
use corelane_net::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use corelane_net::messages::delete_topics::DeleteTopicsRequest;
use corelane_net::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use corelane_net::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Topics in one request.
const TOPICS_AT_ONCE: usize = 500;
const ADMIN_TIMEOUT: Duration = Duration::from_secs(120);
/// Partitions in one question for offsets.
const PARTITIONS_AT_ONCE: usize = 1000;
/// Any offset will do: the question is who answers it.
const LATEST: i64 = -1;
/// How long a new topic may have no leader, or one that does not know of it.
const LEADERS_WITHIN: Duration = Duration::from_secs(120);
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Where everything is.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) bootstrap: SocketAddr,
    pub(crate) nodes: Vec<SocketAddr>,
    pub(crate) topics: Vec<Topic>,
}

#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) name: String,
    /// The place in `nodes` of the leader of each partition.
    pub(crate) leaders: Vec<usize>,
}

/// Connects to the first of `addresses` that answers.
pub(crate) async fn reach(addresses: &[String]) -> Result<(SocketAddr, Link), String> {
    let mut said = Vec::new();
    for address in addresses {
        match resolve(address) {
            Err(why) => said.push(why),
            Ok(addr) => match Link::open(addr).await {
                Ok(link) => return Ok((addr, link)),
                Err(why) => said.push(format!("{address}: {why}")),
            },
        }
    }
    Err(said.join("; "))
}

fn resolve(address: &str) -> Result<SocketAddr, String> {
    let found = address.to_socket_addrs().map_err(|it| format!("{address}: {it}"))?;
    let mut found: Vec<_> = found.collect();
    // A broker that listens on one family is most likely to do so on the older one.
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| format!("{address}: no such host"))
}

/// Makes the topics of a workload and finds their leaders.
pub(crate) async fn prepare(
    (bootstrap, mut link): (SocketAddr, Link),
    workload: &Workload,
    prefix: &str,
) -> Result<Cluster, LinkError> {
    let names: Vec<String> = (0..workload.topics).map(|it| format!("{prefix}-{it}")).collect();
    for some in names.chunks(TOPICS_AT_ONCE) {
        create(&mut link, some, workload).await?;
    }
    let until = Instant::now() + LEADERS_WITHIN;
    let mut cluster = Cluster { bootstrap, nodes: Vec::new(), topics: Vec::new() };
    for some in names.chunks(TOPICS_AT_ONCE) {
        loop {
            let known = find(&mut link, some, workload.partitions, &mut cluster).await;
            match known {
                Ok(()) => break,
                Err(LinkError::Refused { code, .. })
                    if is_early(code) && Instant::now() < until =>
                {
                    glommio::timer::sleep(ASK_AGAIN).await;
                }
                Err(other) => return Err(other),
            }
        }
    }
    led(&cluster, until).await?;
    Ok(cluster)
}

/// Waits until each leader answers for its partitions. Kafka names leaders before it has made their logs,
/// which takes it long for a thousand; a load begun in between measures its own second tries.
async fn led(cluster: &Cluster, until: Instant) -> Result<(), LinkError> {
    for (place, addr) in cluster.nodes.iter().enumerate() {
        let mut link = Link::open(*addr).await?;
        for topic in &cluster.topics {
            let led = topic.leaders.iter().enumerate().filter(|it| *it.1 == place);
            let wanted: Vec<_> = led
                .map(|(at, _)| ListOffsetsPartition {
                    partition_index: i32::try_from(at).expect("bounded when read"),
                    current_leader_epoch: -1,
                    timestamp: LATEST,
                })
                .collect();
            for some in wanted.chunks(PARTITIONS_AT_ONCE) {
                while let Err(why) = answers(&mut link, &topic.name, some).await {
                    match why {
                        LinkError::Unsupported(_) => return Ok(()),
                        LinkError::Refused { code, .. }
                            if is_early(code) && Instant::now() < until =>
                        {
                            glommio::timer::sleep(ASK_AGAIN).await;
                        }
                        other => return Err(other),
                    }
                }
            }
        }
    }
    Ok(())
}

/// Whether the latest offset of each of `partitions` is known at the other end.
async fn answers(
    link: &mut Link,
    topic: &str,
    partitions: &[ListOffsetsPartition],
) -> Result<(), LinkError> {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: [ListOffsetsTopic { name: topic, partitions: partitions.into() }].into(),
        ..Default::default()
    };
    let answer = link.ask(&request).await?;
    let said = answer.decode::<ListOffsetsRequest<'_>>()?;
    let mut known = 0;
    for told in &said.topics {
        for found in &told.partitions {
            refuse(ApiKey::ListOffsets, found.error_code, topic)?;
            known += 1;
        }
    }
    if known < partitions.len() {
        return refuse(ApiKey::ListOffsets, ErrorCode::UnknownTopicOrPartition.code(), topic);
    }
    Ok(())
}

/// What a broker says of a topic it has not quite made.
fn is_early(code: i16) -> bool {
    let early = [
        ErrorCode::LeaderNotAvailable,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::NotLeaderOrFollower,
    ];
    early.iter().any(|it| it.code() == code)
}

async fn create(link: &mut Link, names: &[String], workload: &Workload) -> Result<(), LinkError> {
    let configs = workload.own.topic_configs.iter();
    let configs: Vec<_> =
        configs.map(|(name, value)| CreatableTopicConfig { name, value: Some(value) }).collect();
    let topics: Vec<_> = names
        .iter()
        .map(|name| CreatableTopic {
            name,
            num_partitions: i32::try_from(workload.partitions).expect("bounded when read"),
            replication_factor: workload.own.replication,
            configs: (&configs).into(),
            ..Default::default()
        })
        .collect();
    let request = CreateTopicsRequest {
        topics: (&topics).into(),
        timeout_ms: ADMIN_TIMEOUT.as_millis() as i32,
        validate_only: false,
    };
    let answer = link.ask(&request).await?;
    for topic in &answer.decode::<CreateTopicsRequest<'_>>()?.topics {
        let about = match topic.error_message {
            Some(why) => format!("{} ({why})", topic.name),
            None => topic.name.to_owned(),
        };
        refuse(ApiKey::CreateTopics, topic.error_code, &about)?;
    }
    Ok(())
}

/// Adds what is known of `names`, all or nothing.
async fn find(
    link: &mut Link,
    names: &[String],
    partitions: u32,
    cluster: &mut Cluster,
) -> Result<(), LinkError> {
    let topics =
        names.iter().map(|it| MetadataRequestTopic { name: Some(it), ..Default::default() });
    let request = MetadataRequest { topics: Some(topics.collect()), ..Default::default() };
    let answer = link.ask(&request).await?;
    let said = answer.decode::<MetadataRequest<'_>>()?;
    let mut nodes = Vec::new();
    for broker in &said.brokers {
        let address = format!("{}:{}", broker.host, broker.port);
        let addr = resolve(&address).map_err(|it| LinkError::Io(std::io::Error::other(it)))?;
        let place = cluster.nodes.iter().position(|it| *it == addr).unwrap_or_else(|| {
            cluster.nodes.push(addr);
            cluster.nodes.len() - 1
        });
        nodes.push((broker.node_id, place));
    }
    let mut found = Vec::new();
    let early = |about: &str| refuse(ApiKey::Metadata, ErrorCode::LeaderNotAvailable.code(), about);
    for name in names {
        let Some(topic) = said.topics.iter().find(|it| it.name == Some(name)) else {
            return early(name);
        };
        refuse(ApiKey::Metadata, topic.error_code, name)?;
        let mut leaders = vec![None; partitions as usize];
        for it in &topic.partitions {
            refuse(ApiKey::Metadata, it.error_code, name)?;
            let place = nodes.iter().find(|node| node.0 == it.leader_id).map(|node| node.1);
            let slot = usize::try_from(it.partition_index).ok().and_then(|at| leaders.get_mut(at));
            if let Some(slot) = slot {
                *slot = place;
            }
        }
        match leaders.into_iter().collect() {
            Some(leaders) => found.push(Topic { name: name.clone(), leaders }),
            None => return early(name),
        }
    }
    cluster.topics.append(&mut found);
    Ok(())
}

/// Removes the topics of a run.
pub(crate) async fn remove(cluster: &Cluster) -> Result<(), LinkError> {
    let mut link = Link::open(cluster.bootstrap).await?;
    for some in cluster.topics.chunks(TOPICS_AT_ONCE) {
        let request = DeleteTopicsRequest {
            topic_names: some.iter().map(|it| &it.name[..]).collect(),
            timeout_ms: ADMIN_TIMEOUT.as_millis() as i32,
            ..Default::default()
        };
        let answer = link.ask(&request).await?;
        for topic in &answer.decode::<DeleteTopicsRequest<'_>>()?.responses {
            refuse(ApiKey::DeleteTopics, topic.error_code, topic.name.unwrap_or_default())?;
        }
    }
    Ok(())
}
