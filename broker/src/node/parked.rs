//! What fetches that wait for records keep meanwhile, all of one lane together. Its client says how
//! long a fetch waits, so each takes a place first; one that finds none is answered with what there
//! is. A place may be half of what is still free, so that large ones leave room for small ones.
//!
//! - PARKED-1: what is held never exceeds what may be held, and is given back with its place;
//! - PARKED-2: when there is no room, whoever holds most gives way to one who holds less: first among
//!   addresses, then among the connections of one address. So a newcomer of ordinary size finds a
//!   place, however many others came before.
//!
//! Who gives way is answered as at the end of its time.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use corelane_core::lane::Lane;
use corelane_core::sync::Event;

/// Partitions that the waiting fetches of one lane may have together.
const PARTITIONS_MAX: usize = 100_000;

/// Bytes of a frame that are kept for any fetch.
const FRAME_BYTES: usize = 64 * 1024;

/// Bytes of a frame that are kept for each partition: it, and a topic of the longest name around it.
const PARTITION_BYTES: usize = 512;

/// What is held by the fetches that wait.
#[derive(Clone)]
pub(crate) struct Parked(Rc<Inner>);

struct Inner {
    lane: Lane,
    shares: RefCell<Shares>,
    /// Rung when a place is wanted by another.
    wanted: RefCell<BTreeMap<Number, Event>>,
}

/// Given back when it is dropped.
#[must_use = "a place is held while the fetch waits"]
pub(crate) struct Place {
    parked: Parked,
    number: Number,
    wanted: Event,
}

impl Parked {
    pub(crate) fn new(lane: &Lane, frame_bytes_max: usize) -> Self {
        Self(Rc::new(Inner {
            lane: lane.clone(),
            shares: RefCell::new(Shares::new(frame_bytes_max)),
            wanted: RefCell::default(),
        }))
    }

    /// A place for a fetch of so many partitions, whose frame stays as long as it waits.
    pub(crate) fn place(
        &self,
        from: SocketAddr,
        partitions: usize,
        frame_bytes: usize,
    ) -> Option<Place> {
        let inner = &self.0;
        let mut gone = Vec::new();
        let need = Need { partitions, frame_bytes };
        let placed = inner.shares.borrow_mut().place(from, need, &mut gone);
        let mut all = inner.wanted.borrow_mut();
        for number in gone {
            all.remove(&number).expect("every place can be wanted").notify();
        }
        let number = placed?;
        let wanted = Event::new(&inner.lane);
        all.insert(number, wanted.clone());
        Some(Place { parked: self.clone(), number, wanted })
    }
}

impl Place {
    /// Waits until another is to have it.
    pub(crate) async fn wanted(&self) {
        // It is rung once.
        self.wanted.past(0).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let inner = &self.parked.0;
        if inner.wanted.borrow_mut().remove(&self.number).is_some() {
            inner.shares.borrow_mut().leave(self.number);
        }
    }
}

/// Of a place; never used again.
type Number = u64;

/// What one fetch keeps, or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Need {
    partitions: usize,
    frame_bytes: usize,
}

impl Need {
    fn weight(self) -> usize {
        self.partitions * PARTITION_BYTES + self.frame_bytes
    }
}

/// Who holds how much, and who holds most.
struct Weights<K> {
    held: BTreeMap<K, usize>,
    ordered: BTreeSet<(usize, K)>,
}

impl<K: Ord + Copy> Weights<K> {
    fn new() -> Self {
        Self { held: BTreeMap::new(), ordered: BTreeSet::new() }
    }

    fn of(&self, key: &K) -> usize {
        self.held.get(key).copied().unwrap_or(0)
    }

    fn set(&mut self, key: K, weight: usize) {
        let before = self.of(&key);
        self.ordered.remove(&(before, key));
        if weight == 0 {
            self.held.remove(&key);
        } else {
            self.held.insert(key, weight);
            self.ordered.insert((weight, key));
        }
    }

    fn largest(&self) -> Option<(usize, K)> {
        self.ordered.last().copied()
    }
}

/// Who waits, and who gives way. Decides; knows no task.
struct Shares {
    frame_bytes_max: usize,
    held: Need,
    count: Number,
    places: BTreeMap<Number, (SocketAddr, Need)>,
    /// The places of each connection, in the order they were taken.
    of_connection: BTreeSet<(SocketAddr, Number)>,
    networks: Weights<IpAddr>,
    connections: BTreeMap<IpAddr, Weights<SocketAddr>>,
}

impl Shares {
    fn new(frame_bytes_max: usize) -> Self {
        Self {
            frame_bytes_max,
            held: Need::default(),
            count: 0,
            places: BTreeMap::new(),
            of_connection: BTreeSet::new(),
            networks: Weights::new(),
            connections: BTreeMap::new(),
        }
    }

    /// A place, and the numbers of those that give way for it.
    fn place(&mut self, from: SocketAddr, need: Need, gone: &mut Vec<Number>) -> Option<Number> {
        if FRAME_BYTES + need.partitions * PARTITION_BYTES < need.frame_bytes {
            return None;
        }
        // Not even alone.
        if PARTITIONS_MAX / 2 < need.partitions || self.frame_bytes_max / 2 < need.frame_bytes {
            return None;
        }
        while !self.fits(need) {
            let number = self.gives_way(from, need)?;
            self.leave(number);
            gone.push(number);
        }
        self.count += 1;
        self.places.insert(self.count, (from, need));
        self.of_connection.insert((from, self.count));
        self.held.partitions += need.partitions;
        self.held.frame_bytes += need.frame_bytes;
        self.weigh(from, |before| before + need.weight());
        Some(self.count)
    }

    fn leave(&mut self, number: Number) {
        let (from, need) = self.places.remove(&number).expect("a place is left once");
        self.of_connection.remove(&(from, number));
        self.held.partitions -= need.partitions;
        self.held.frame_bytes -= need.frame_bytes;
        self.weigh(from, |before| before - need.weight());
    }

    fn fits(&self, need: Need) -> bool {
        need.partitions <= (PARTITIONS_MAX - self.held.partitions) / 2
            && need.frame_bytes <= (self.frame_bytes_max - self.held.frame_bytes) / 2
    }

    /// Whose place goes (PARKED-2): the oldest one of the connection that holds most.
    fn gives_way(&self, from: SocketAddr, need: Need) -> Option<Number> {
        let (most, network) = self.networks.largest()?;
        let ours = network_of(from);
        let (connections_most, connection) = self.connections.get(&network)?.largest()?;
        let may = if network == ours {
            let held = self.connections.get(&ours).map_or(0, |it| it.of(&from));
            comes_before(held, need.weight(), connections_most)
        } else {
            comes_before(self.networks.of(&ours), need.weight(), most)
        };
        let mut theirs = self.of_connection.range((connection, 0)..=(connection, Number::MAX));
        theirs.next().filter(|_| may).map(|it| it.1)
    }

    fn weigh(&mut self, from: SocketAddr, change: impl Fn(usize) -> usize) {
        let network = network_of(from);
        let all = change(self.networks.of(&network));
        self.networks.set(network, all);
        let connections = self.connections.entry(network).or_insert_with(Weights::new);
        connections.set(from, change(connections.of(&from)));
        if all == 0 {
            self.connections.remove(&network);
        }
    }
}

/// Whether one who holds `held` and wants more may have it from one who holds `most`. Who holds
/// nothing takes turns with its equals.
fn comes_before(held: usize, more: usize, most: usize) -> bool {
    held + more < most || (held == 0 && more / 2 <= most)
}

/// Whoever has one IPv6 address has all of its network.
fn network_of(from: SocketAddr) -> IpAddr {
    match from.ip().to_canonical() {
        IpAddr::V4(it) => IpAddr::V4(it),
        IpAddr::V6(it) => IpAddr::V6(Ipv6Addr::from_bits(it.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(network: u16, port: u16) -> SocketAddr {
        let [high, low] = network.to_be_bytes();
        SocketAddr::from(([10, 0, high, low], port))
    }

    fn of(partitions: usize) -> Need {
        Need { partitions, frame_bytes: 100 + 20 * partitions }
    }

    /// Places for one, without asking anybody to give way.
    fn alone(shares: &mut Shares, partitions: usize, frame_bytes: usize) -> Option<Number> {
        let mut gone = Vec::new();
        let placed = shares.place(at(0, 1), Need { partitions, frame_bytes }, &mut gone);
        assert_eq!(gone, []);
        placed
    }

    #[test]
    fn a_place_is_half_of_what_is_free() {
        let mut shares = Shares::new(1 << 20);
        assert_eq!(alone(&mut shares, PARTITIONS_MAX / 2 + 1, 1), None);
        let half = alone(&mut shares, PARTITIONS_MAX / 2, 1).expect("half is free");
        assert_eq!(alone(&mut shares, PARTITIONS_MAX / 4 + 1, 1), None);
        let quarter = alone(&mut shares, PARTITIONS_MAX / 4, 1).expect("half of the rest");
        shares.leave(half);
        shares.leave(quarter);
        assert!(alone(&mut shares, PARTITIONS_MAX / 2, 1).is_some(), "it was given back");
    }

    #[test]
    fn frames_that_stay_are_bounded_by_their_need_and_all_together() {
        let mut shares = Shares::new(FRAME_BYTES * 4);
        assert_eq!(alone(&mut shares, 1, FRAME_BYTES + PARTITION_BYTES + 1), None);
        let first = alone(&mut shares, 1, FRAME_BYTES + PARTITION_BYTES).expect("one may have it");
        let second = alone(&mut shares, 1, FRAME_BYTES).expect("half of the rest");
        assert_eq!(alone(&mut shares, 1, FRAME_BYTES), None);
        shares.leave(first);
        shares.leave(second);
        assert!(alone(&mut shares, 1, FRAME_BYTES).is_some(), "it was given back");
    }

    /// Fills the places from `networks` addresses, each with connections that ask for `partitions`.
    fn crowded(networks: u16, partitions: usize) -> Shares {
        let mut shares = Shares::new(64 << 20);
        'full: for port in 1.. {
            for network in 0..networks {
                let mut gone = Vec::new();
                let placed = shares.place(at(network, port), of(partitions), &mut gone);
                if placed.is_none() || !gone.is_empty() {
                    break 'full;
                }
            }
        }
        shares
    }

    /// What a newcomer of so many partitions finds, and how many others it costs.
    #[track_caller]
    fn check(networks: u16, each: usize, newcomer: SocketAddr, asks: usize, expect: &str) {
        let mut shares = crowded(networks, each);
        let mut gone = Vec::new();
        let placed = shares.place(newcomer, of(asks), &mut gone).is_some();
        assert_eq!(format!("{placed} {}", gone.len()), expect);
        let held: usize = shares.places.values().map(|it| it.1.partitions).sum();
        assert_eq!(held, shares.held.partitions, "PARKED-1");
        assert!(held <= PARTITIONS_MAX, "PARKED-1");
    }

    #[test]
    fn a_newcomer_finds_a_place_however_many_came_before() {
        let newcomer = at(9999, 1);
        check(1, 10, newcomer, 10, "true 1");
        check(1, 10, newcomer, 50, "true 9");
        // Many strangers with little each: one of them gives way.
        check(3000, 10, newcomer, 10, "true 1");
        check(3000, 1, newcomer, 2, "true 3");
        // What would not fit into empty places asks nobody for his.
        check(1, 10_000, newcomer, PARTITIONS_MAX / 2 + 1, "false 0");
        // Nobody takes much from many who have little.
        check(3000, 10, newcomer, 5000, "false 0");
    }

    #[test]
    fn who_holds_as_much_as_others_takes_nothing_from_them() {
        // Address 0 has some already; one more connection of it costs only its own others.
        check(1, 10, at(0, 60_000), 10, "true 1");
        check(1000, 10, at(0, 60_000), 10, "false 0");
        // A connection that holds most of its address has nobody to take from.
        let mut shares = Shares::new(64 << 20);
        let mut gone = Vec::new();
        while shares.place(at(0, 1), of(1000), &mut gone).is_some() {}
        assert_eq!(gone, []);
        assert!(shares.place(at(0, 2), of(1000), &mut gone).is_some());
        assert_eq!(gone, [1], "the oldest gives way");
    }

    #[test]
    fn one_network_of_many_addresses_is_one_address() {
        let one: SocketAddr = "[2001:db8::1]:9".parse().expect("an address");
        let other: SocketAddr = "[2001:db8::ffff:1]:9".parse().expect("an address");
        assert_eq!(network_of(one), network_of(other));
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:9".parse().expect("an address");
        assert_eq!(network_of(mapped), network_of(at(1, 1)));
    }

    #[test]
    fn what_is_left_is_forgotten() {
        let mut shares = crowded(50, 7);
        let all: Vec<Number> = shares.places.keys().copied().collect();
        all.into_iter().for_each(|it| shares.leave(it));
        assert_eq!(shares.held, Need::default());
        assert!(shares.networks.held.is_empty() && shares.networks.ordered.is_empty());
        assert!(shares.connections.is_empty() && shares.of_connection.is_empty());
    }
}
