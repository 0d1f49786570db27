//! What members of a group tell one another, and how their leader shares partitions out: each topic by
//! itself, in ranges, as every client can; or so that members keep what they have, and what moves is
//! given up by one before another gets it.

use std::collections::{BTreeMap, BTreeSet};

use corelane_net::api::ApiKey;
use corelane_net::messages::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolAssignmentTopicPartition,
    ConsumerProtocolSubscription, ConsumerProtocolSubscriptionTopicPartition,
};
use corelane_net::wire::{DecodeError, Message};

use crate::error::ClientError;

/// Partitions by topic.
pub type Owned = BTreeMap<String, Vec<i32>>;

/// The version in which we write; every reader knows it.
const VERSION: i16 = 0;

/// The version in which a member says what it has, and since when.
const VERSION_OWNED: i16 = 2;

/// What a member wants, and what it has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Wish {
    pub topics: Vec<String>,
    pub owned: Owned,
    /// In which it was told what it owns.
    pub generation: i32,
}

/// What a member wants to read, as the others read it.
pub(crate) fn wish(topics: &[&str]) -> Result<Vec<u8>, ClientError> {
    let wish = ConsumerProtocolSubscription { topics: topics.into(), ..Default::default() };
    put(ApiKey::JoinGroup, VERSION, &wish)
}

/// The same, from a member that keeps what it has until somebody else is to have it.
pub(crate) fn wish_and_owned(
    topics: &[&str],
    owned: &Owned,
    generation: i32,
) -> Result<Vec<u8>, ClientError> {
    let topic = |(topic, partitions)| {
        let (topic, partitions): (&String, &Vec<i32>) = (topic, partitions);
        ConsumerProtocolSubscriptionTopicPartition { topic, partitions: partitions.into() }
    };
    let wish = ConsumerProtocolSubscription {
        topics: topics.into(),
        owned_partitions: owned.iter().map(topic).collect(),
        generation_id: generation,
        ..Default::default()
    };
    put(ApiKey::JoinGroup, VERSION_OWNED, &wish)
}

pub(crate) fn wished(bytes: &[u8]) -> Result<Wish, ClientError> {
    let wish = get::<ConsumerProtocolSubscription<'_>>(ApiKey::JoinGroup, bytes)?;
    let owned = wish.owned_partitions.iter();
    Ok(Wish {
        topics: wish.topics.iter().map(str::to_owned).collect(),
        owned: owned.map(|it| (it.topic.to_owned(), it.partitions.iter().collect())).collect(),
        generation: wish.generation_id,
    })
}

/// What a member is given, as it reads it.
pub(crate) fn share(owned: &Owned) -> Result<Vec<u8>, ClientError> {
    let topic = |(topic, partitions)| {
        let (topic, partitions): (&String, &Vec<i32>) = (topic, partitions);
        ConsumerProtocolAssignmentTopicPartition { topic, partitions: partitions.into() }
    };
    let assigned_partitions = owned.iter().map(topic).collect();
    let share = ConsumerProtocolAssignment { assigned_partitions, user_data: None };
    put(ApiKey::SyncGroup, VERSION, &share)
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

fn put<'a, M: Message<'a>>(key: ApiKey, version: i16, message: &M) -> Result<Vec<u8>, ClientError> {
    let mut bytes = version.to_be_bytes().to_vec();
    let put = message.encode(version, &mut bytes);
    put.map_err(|error| ClientError::Unsayable { key, version, error })?;
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
    wishes: &[(String, Wish)],
    counts: &BTreeMap<String, i32>,
) -> BTreeMap<String, Owned> {
    let mut all: BTreeMap<String, Owned> =
        wishes.iter().map(|it| (it.0.clone(), Owned::new())).collect();
    for (topic, count) in counts {
        let mut takers: Vec<&String> =
            wishes.iter().filter(|it| it.1.topics.contains(topic)).map(|it| &it.0).collect();
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

/// Shares out so that members keep what they have as far as all have alike. What a member has to give
/// up is given to nobody yet: it joins again without it, and then the others get it.
pub(crate) fn cooperative(
    wishes: &[(String, Wish)],
    counts: &BTreeMap<String, i32>,
) -> BTreeMap<String, Owned> {
    let mut all: BTreeMap<String, Owned> =
        wishes.iter().map(|it| (it.0.clone(), Owned::new())).collect();
    for (topic, count) in counts {
        let mut takers: Vec<&(String, Wish)> =
            wishes.iter().filter(|it| it.1.topics.contains(topic)).collect();
        takers.sort_by_key(|it| &it.0);
        let owners = owners(&takers, topic, *count);
        let kept = |member: &str| {
            let of = |(partition, owner): (&i32, &&str)| (*owner == member).then_some(*partition);
            owners.iter().filter_map(of).collect::<Vec<_>>()
        };
        let mut shares: Vec<(&str, Vec<i32>)> =
            takers.iter().map(|(member, _)| (member.as_str(), kept(member))).collect();
        if shares.is_empty() {
            continue;
        }
        let wanted = usize::try_from(*count).expect("a count");
        let (each, mut more) = (wanted / shares.len(), wanted % shares.len());
        for (_, has) in &mut shares {
            // So many members may have one more than the others.
            let one_more = 0 < more && each < has.len();
            more -= usize::from(one_more);
            has.truncate(each + usize::from(one_more));
        }
        for partition in (0..*count).filter(|it| !owners.contains_key(it)) {
            let least = shares.iter_mut().min_by_key(|it| it.1.len());
            least.expect("somebody wants it").1.push(partition);
        }
        for (member, mut has) in shares.into_iter().filter(|it| !it.1.is_empty()) {
            has.sort_unstable();
            all.get_mut(member).expect("it has a wish").insert(topic.clone(), has);
        }
    }
    all
}

/// Who has which partition of a topic. Of two who say so it is the one who was told later; if both
/// were told at once, something is wrong, and neither has it.
fn owners<'a>(takers: &[&'a (String, Wish)], topic: &str, count: i32) -> BTreeMap<i32, &'a str> {
    let mut claims: BTreeMap<i32, (i32, Option<&'a str>)> = BTreeMap::new();
    for (member, wish) in takers {
        let owned: BTreeSet<i32> = wish.owned.get(topic).into_iter().flatten().copied().collect();
        for partition in owned.into_iter().filter(|it| (0..count).contains(it)) {
            let claim = (wish.generation, Some(member.as_str()));
            let best = claims.entry(partition).or_insert(claim);
            match best.0.cmp(&wish.generation) {
                std::cmp::Ordering::Less => *best = claim,
                std::cmp::Ordering::Equal if best.1 != claim.1 => best.1 = None,
                std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => {}
            }
        }
    }
    claims.into_iter().filter_map(|(partition, (_, owner))| Some((partition, owner?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(topics: &[&str]) -> Wish {
        let topics = topics.iter().map(|it| (*it).to_owned()).collect();
        Wish { topics, ..Wish::default() }
    }

    /// Shares out again and again, members coming and going, as members see it: a partition moves only
    /// after its member gave it up, and when nothing moves any more all is shared out alike.
    #[test]
    fn what_moves_is_nobodys_for_a_while_and_in_the_end_all_have_alike() {
        let (mut settled, mut moved) = (0, 0);
        for count in 0..8 {
            for script in ["1 2 3", "3 1 2", "2 0 3 1", "1 4 2"] {
                let counts = [("t".to_owned(), count)].into();
                let mut owned: BTreeMap<String, Owned> = BTreeMap::new();
                let mut generation = 0;
                for members in script.split(' ').map(|it| it.parse::<usize>().expect("a number")) {
                    let names: Vec<_> = (0..members).map(|it| format!("m{it}")).collect();
                    owned.retain(|it, _| names.contains(it));
                    for round in 0.. {
                        assert!(round < 4, "{count} over {script} never comes to rest");
                        let wish = |it: &String| {
                            let owned = owned.get(it).cloned().unwrap_or_default();
                            (it.clone(), Wish { owned, generation, ..wants(&["t"]) })
                        };
                        let wishes: Vec<_> = names.iter().map(wish).collect();
                        let next = cooperative(&wishes, &counts);
                        generation += 1;
                        let mut seen = BTreeSet::new();
                        for (member, share) in &next {
                            for partition in share.get("t").into_iter().flatten() {
                                assert!(seen.insert(*partition), "{partition} is given twice");
                                let had = |it: &Owned| it["t"].contains(partition);
                                let other = owned.iter().find(|(name, it)| {
                                    *name != member && it.contains_key("t") && had(it)
                                });
                                assert_eq!(other, None, "{member} gets {partition} too early");
                            }
                        }
                        let all = seen.len() == usize::try_from(count).expect("a count");
                        moved += usize::from(!all && 0 < members);
                        owned = next;
                        if all || members == 0 {
                            break;
                        }
                    }
                    let sizes = owned.values().map(|it| it.get("t").map_or(0, Vec::len));
                    let (least, most) =
                        sizes.fold((9, 0), |it, size| (it.0.min(size), it.1.max(size)));
                    assert!(most <= least + 1, "{count} over {script}: {owned:?}");
                    settled += 1;
                }
            }
        }
        assert!(50 < settled && 10 < moved, "the walk went empty: {settled}, {moved}");
    }

    #[test]
    fn of_two_who_say_they_have_it_the_later_one_has() {
        let has = |name: &str, generation| {
            let owned = [("t".to_owned(), vec![0])].into();
            (name.to_owned(), Wish { owned, generation, ..wants(&["t"]) })
        };
        let counts = [("t".to_owned(), 1)].into();
        let shares = cooperative(&[has("a", 3), has("b", 4)], &counts);
        assert_eq!(shares["b"]["t"], [0]);
        let shares = cooperative(&[has("a", 3), has("b", 3)], &counts);
        assert_eq!(shares.values().filter(|it| !it.is_empty()).count(), 1, "{shares:?}");
    }

    #[test]
    fn every_partition_goes_to_one_member_that_wants_its_topic() {
        for members in 1..5 {
            for count in 0..7 {
                let mut wishes: Vec<(String, Wish)> =
                    (0..members).map(|it| (format!("m{it}"), wants(&["all"]))).collect();
                wishes[0].1.topics.push("mine".to_owned());
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
        let read = wished(&wish).expect("our own");
        assert_eq!((read.topics, read.owned), (vec!["a".to_owned(), "b".to_owned()], Owned::new()));
        let owned: Owned = [("a".to_owned(), vec![0, 2])].into();
        let wish = wish_and_owned(&["a"], &owned, 5).expect("short");
        let told = Wish { owned: owned.clone(), generation: 5, ..wants(&["a"]) };
        assert_eq!(wished(&wish).expect("our own"), told);
        let bytes = share(&owned).expect("short");
        assert_eq!(shared(&bytes).expect("our own"), owned);
        assert_eq!(shared(&[]).expect("nothing"), Owned::new());
        assert!(shared(&bytes[..7]).is_err() && wished(&[0]).is_err());
    }
}
