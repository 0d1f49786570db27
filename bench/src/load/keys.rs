//! Which partition a record goes to, and with which key.
//!
//! Without a key a producer stays with one partition until a batch of it is full, as Kafka's clients
//! do. With keys, a key has its partition by Kafka's hash.

use super::workload::Keys;

/// Numbers that look random and are the same in every run.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// From zero, below one.
    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What a producer asks for each record.
pub(crate) struct Chooser {
    chance: Chance,
    kind: Kind,
    partitions: u32,
    /// The partition of each key; keys are their numbers.
    homes: Vec<u32>,
    turn: u64,
    sticky: u32,
}

enum Kind {
    None,
    RoundRobin,
    Random,
    Zipf(Alias),
}

/// A record's key, if it has one, and its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) key: Option<[u8; KEY_BYTES]>,
    pub(crate) partition: u32,
}

/// All keys are of this size, as those of OpenMessaging Benchmark nearly are.
pub(crate) const KEY_BYTES: usize = 8;

impl Chooser {
    pub(crate) fn new(keys: &Keys, partitions: u32, producer: u32) -> Self {
        let mut chance = Chance::new(u64::from(producer) + 1);
        let count = match keys {
            Keys::None => 0,
            Keys::RoundRobin { count } | Keys::Random { count } | Keys::Zipf { count, .. } => {
                *count
            }
        };
        let homes =
            (0..count).map(|it| home(&key_bytes(u64::from(it)), partitions)).collect::<Vec<_>>();
        let kind = match keys {
            Keys::None => Kind::None,
            Keys::RoundRobin { .. } => Kind::RoundRobin,
            Keys::Random { .. } => Kind::Random,
            Keys::Zipf { count, exponent } => {
                let weight = |rank: u32| f64::from(rank + 1).powf(-exponent);
                Kind::Zipf(Alias::new(&(0..*count).map(weight).collect::<Vec<_>>()))
            }
        };
        let sticky = chance.below(u64::from(partitions)) as u32;
        Self { chance, kind, partitions, homes, turn: u64::from(producer), sticky }
    }

    pub(crate) fn choose(&mut self) -> Choice {
        let key = match &self.kind {
            Kind::None => return Choice { key: None, partition: self.sticky },
            Kind::RoundRobin => {
                self.turn += 1;
                self.turn % self.homes.len() as u64
            }
            Kind::Random => self.chance.below(self.homes.len() as u64),
            Kind::Zipf(alias) => alias.draw(&mut self.chance),
        };
        let place = usize::try_from(key).expect("keys are few");
        Choice { key: Some(key_bytes(key)), partition: self.homes[place] }
    }

    /// The batch of the partition that keyless records went to is full.
    pub(crate) fn move_on(&mut self) {
        if 1 < self.partitions {
            let step = 1 + self.chance.below(u64::from(self.partitions) - 1) as u32;
            self.sticky =
                ((u64::from(self.sticky) + u64::from(step)) % u64::from(self.partitions)) as u32;
        }
    }
}

fn key_bytes(key: u64) -> [u8; KEY_BYTES] {
    // Spread over all bytes, as keys of applications are.
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

/// The partition Kafka's clients would choose.
fn home(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// MurmurHash2 of 32 bits with the seed Kafka chose.
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    for (at, byte) in rest.iter().enumerate().rev() {
        hash ^= u32::from(*byte) << (8 * at);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// Draws a place with a given weight in constant time (Walker's aliases).
struct Alias {
    keep: Vec<f64>,
    other: Vec<u32>,
}

impl Alias {
    fn new(weights: &[f64]) -> Self {
        let all: f64 = weights.iter().sum();
        let mut keep: Vec<f64> = weights.iter().map(|it| it * weights.len() as f64 / all).collect();
        let mut other: Vec<u32> = (0..weights.len() as u32).collect();
        let (mut poor, mut rich): (Vec<usize>, Vec<usize>) =
            (0..keep.len()).partition(|it| keep[*it] < 1.0);
        while let (Some(low), Some(high)) = (poor.pop(), rich.last().copied()) {
            other[low] = high as u32;
            keep[high] -= 1.0 - keep[low];
            if keep[high] < 1.0 {
                rich.pop();
                poor.push(high);
            }
        }
        Self { keep, other }
    }

    fn draw(&self, chance: &mut Chance) -> u64 {
        let place = chance.below(self.keep.len() as u64) as usize;
        let kept = chance.part() < self.keep[place];
        u64::from(if kept { place as u32 } else { self.other[place] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Kafka's own tests of its hash.
    #[test]
    fn the_hash_is_kafkas() {
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    #[test]
    fn zipf_prefers_the_first_keys_and_draws_all() {
        let mut chooser = Chooser::new(&Keys::Zipf { count: 10, exponent: 1.0 }, 1, 0);
        let mut drawn = [0u32; 10];
        for _ in 0..100_000 {
            let key = chooser.choose().key.expect("keyed");
            let rank = (0..10).find(|it| key_bytes(*it) == key).expect("one of ten");
            drawn[rank as usize] += 1;
        }
        // The weights are 1, 1/2, 1/3 and so on: the first has 0.341 of all, the last 0.034.
        assert!((33_000..35_500).contains(&drawn[0]), "{drawn:?}");
        assert!((3_000..3_900).contains(&drawn[9]), "{drawn:?}");
    }

    #[test]
    fn keyless_records_stay_until_told_to_move() {
        let mut chooser = Chooser::new(&Keys::None, 3, 0);
        let first = chooser.choose();
        assert_eq!(chooser.choose(), first);
        chooser.move_on();
        assert_ne!(chooser.choose(), first);
    }
}
