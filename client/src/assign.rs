//! What members of a group tell one another, and how their leader shares partitions out: each topic by
//! itself, in ranges, as every client can.

use std::collections::BTreeMap;

use corelane_net::api::ApiKey;
use corelane_net::messages::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolAssignmentTopicPartition,
    ConsumerProtocolSubscription,
};
use corelane_net::wire::{DecodeError, Message};

use crate::error::ClientError;

/// Partitions by topic.
pub type Owned = BTreeMap<String, Vec<i32>>;

/// The version in which we write; every reader knows it.
const VERSION: i16 = 0;

/// What a member wants to read, as the others read it.
pub(crate) fn wish(topics: &[&str]) -> Result<Vec<u8>, ClientError> {
    let wish = ConsumerProtocolSubscription { topics: topics.into(), ..Default::default() };
    put(ApiKey::JoinGroup, &wish)
}

pub(crate) fn wished(bytes: &[u8]) -> Result<Vec<String>, ClientError> {
    let wish = get::<ConsumerProtocolSubscription<'_>>(ApiKey::JoinGroup, bytes)?;
    Ok(wish.topics.iter().map(str::to_owned).collect())
}

/// What a member is given, as it reads it.
pub(crate) fn share(owned: &Owned) -> Result<Vec<u8>, ClientError> {
    let topic = |(topic, partitions)| {
        let (topic, partitions): (&String, &Vec<i32>) = (topic, partitions);
        ConsumerProtocolAssignmentTopicPartition { topic, partitions: partitions.into() }
    };
    let assigned_partitions = owned.iter().map(topic).collect();
    put(ApiKey::SyncGroup, &ConsumerProtocolAssignment { assigned_partitions, user_data: None })
}

/// No bytes at all are a share of nothing.
pub(crate) fn shared(bytes: &[u8]) -> Result<Owned, ClientError> {
    if bytes.is_empty() {
        return Ok(Owned::new());
    }
    let share = get::<ConsumerProtocolAssignment<'_>>(ApiKey::SyncGroup, bytes)?;
    let topics = share.assigned_partitions.iter();
    Ok(topics.map(|it| (it.topic.to_owned(), it.partitions.iter().collect())).collect())
}

fn put<'a, M: Message<'a>>(key: ApiKey, message: &M) -> Result<Vec<u8>, ClientError> {
    let mut bytes = VERSION.to_be_bytes().to_vec();
    let put = message.encode(VERSION, &mut bytes);
    put.map_err(|error| ClientError::Unsayable { key, version: VERSION, error })?;
    Ok(bytes)
}

fn get<'a, M: Message<'a>>(key: ApiKey, bytes: &'a [u8]) -> Result<M, ClientError> {
    let Some((version, body)) = bytes.split_first_chunk() else {
        let error = DecodeError::Short { wanted: 2, remaining: bytes.len() };
        return Err(ClientError::Malformed { key, version: VERSION, error });
    };
    // Newer versions begin as the older ones do and have more behind.
    let version = i16::from_be_bytes(*version).min(M::VERSIONS.max);
    let read = M::decode(body, version);
    read.map(|it| it.0).map_err(|error| ClientError::Malformed { key, version, error })
}

/// Shares out: the members that want a topic, in the order of their names, take ranges of its
/// partitions; the first ones take one more where it does not come out even.
pub(crate) fn range(
    wishes: &[(String, Vec<String>)],
    counts: &BTreeMap<String, i32>,
) -> BTreeMap<String, Owned> {
    let mut all: BTreeMap<String, Owned> =
        wishes.iter().map(|it| (it.0.clone(), Owned::new())).collect();
    for (topic, count) in counts {
        let mut takers: Vec<&String> =
            wishes.iter().filter(|it| it.1.contains(topic)).map(|it| &it.0).collect();
        takers.sort();
        let members = i32::try_from(takers.len()).expect("a group counts so far");
        let mut next = 0;
        for (taker, at) in takers.into_iter().zip(0..) {
            let take = count / members + i32::from(at < count % members);
            if 0 < take {
                let owned = all.get_mut(taker).expect("it has a wish");
                owned.insert(topic.clone(), (next..next + take).collect());
            }
            next += take;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_goes_to_one_member_that_wants_its_topic() {
        for members in 1..5 {
            for count in 0..7 {
                let mut wishes: Vec<(String, Vec<String>)> =
                    (0..members).map(|it| (format!("m{it}"), vec!["all".to_owned()])).collect();
                wishes[0].1.push("mine".to_owned());
                let counts = [("all".to_owned(), count), ("mine".to_owned(), 2)].into();
                let shares = range(&wishes, &counts);
                let all = |topic: &str| {
                    let of = |it: &Owned| it.get(topic).cloned().unwrap_or_default();
                    shares.values().flat_map(of).collect::<Vec<_>>()
                };
                assert_eq!(all("all"), (0..count).collect::<Vec<_>>(), "{members} members");
                assert_eq!(shares["m0"]["mine"], [0, 1]);
                let sizes = shares.values().map(|it| it.get("all").map_or(0, Vec::len));
                let (least, most) = sizes.fold((9, 0), |it, size| (it.0.min(size), it.1.max(size)));
                assert!(most <= least + 1, "{members} members, {count} partitions: {shares:?}");
            }
        }
    }

    #[test]
    fn members_understand_one_another() {
        let wish = wish(&["a", "b"]).expect("short");
        assert_eq!(wished(&wish).expect("our own"), ["a", "b"]);
        let owned: Owned = [("a".to_owned(), vec![0, 2])].into();
        let bytes = share(&owned).expect("short");
        assert_eq!(shared(&bytes).expect("our own"), owned);
        assert_eq!(shared(&[]).expect("nothing"), Owned::new());
        assert!(shared(&bytes[..7]).is_err() && wished(&[0]).is_err());
    }
}
