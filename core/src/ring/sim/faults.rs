//! What may go wrong, how often, and how often it did.
//!
//! A plan is a rate for each kind of fault. A kind is *reached* when it really befell an operation,
//! and is counted then: a test that means to prove something about a fault asks for a count above zero.
//! Power cuts, kills, pauses, partitions and clock jumps have no rate: the world's user decides
//! when they come.

use std::collections::BTreeMap;

use super::chance::Chance;

/// A kind of fault that befalls operations by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A read gives less than asked for.
    ShortRead,
    /// A write takes less than given.
    ShortWrite,
    /// A read fails once.
    ReadError,
    /// A write fails; any of its sectors may have been written.
    WriteError,
    /// A flush fails once. What it covered is forgotten, and the next flush succeeds without it.
    FlushError,
    /// A write or flush fails, and so does every later one until the machine starts again.
    DiskDies,
    /// No room, although there was some a moment ago.
    SpaceGone,
    /// An operation of the disk takes 10 to 1,000 times as long.
    SlowDisk,
    /// The whole disk stands still for up to ten seconds.
    StalledDisk,
    /// Too many open files, once.
    FileLimit,
    /// One byte or a few where more had arrived.
    SplitReceive,
    /// A send takes only a part.
    ShortSend,
    /// A piece of a stream takes up to 100 times as long.
    SlowLink,
    /// A connection dies in the middle of what it carried.
    Reset,
    /// The process cannot get memory for received bytes.
    NoBuffers,
    /// A poll takes milliseconds.
    SlowPoll,
    /// One bit of what a write left on the medium is wrong.
    Rot,
    /// A write lands elsewhere in its file.
    Misdirected,
    /// A write that was reported never reached the medium.
    Stale,
}

impl Fault {
    /// Faults that an honest disk, network and processor may show: nothing durable is harmed.
    pub const CRASH: [Self; 16] = [
        Self::ShortRead,
        Self::ShortWrite,
        Self::ReadError,
        Self::WriteError,
        Self::FlushError,
        Self::DiskDies,
        Self::SpaceGone,
        Self::SlowDisk,
        Self::StalledDisk,
        Self::FileLimit,
        Self::SplitReceive,
        Self::ShortSend,
        Self::SlowLink,
        Self::Reset,
        Self::NoBuffers,
        Self::SlowPoll,
    ];

    /// Faults of a medium that lies.
    pub const MEDIA: [Self; 3] = [Self::Rot, Self::Misdirected, Self::Stale];

    /// How often it strikes in an ordinary plan, in a million.
    const fn usual_ppm(self) -> u32 {
        match self {
            Self::ShortRead | Self::ShortWrite => 20_000,
            Self::ReadError | Self::WriteError | Self::FlushError => 2_000,
            Self::DiskDies => 200,
            Self::SpaceGone => 1_000,
            Self::SlowDisk => 20_000,
            Self::StalledDisk => 200,
            Self::FileLimit => 1_000,
            Self::SplitReceive | Self::ShortSend => 100_000,
            Self::SlowLink => 20_000,
            Self::Reset => 1_000,
            Self::NoBuffers => 2_000,
            Self::SlowPoll => 1_000,
            Self::Rot | Self::Misdirected | Self::Stale => 20_000,
        }
    }
}

/// A plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    rates_ppm: BTreeMap<Fault, u32>,
}

impl Faults {
    /// Nothing goes wrong, except by hand.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Everything in [`Fault::CRASH`], at its usual rate.
    #[must_use]
    pub fn crash() -> Self {
        Self::usual(&Fault::CRASH)
    }

    /// Everything in [`Fault::MEDIA`], at its usual rate.
    #[must_use]
    pub fn media() -> Self {
        Self::usual(&Fault::MEDIA)
    }

    /// The faults named, at their usual rates.
    #[must_use]
    pub fn usual(faults: &[Fault]) -> Self {
        Self { rates_ppm: faults.iter().map(|&it| (it, it.usual_ppm())).collect() }
    }

    /// The same plan with another rate for one fault; zero switches it off.
    #[must_use]
    pub fn with(mut self, fault: Fault, ppm: u32) -> Self {
        self.rates_ppm.insert(fault, ppm);
        self
    }

    /// The same plan with a random half of the faults switched off. With everything on, early
    /// deaths hide what only shows later.
    #[must_use]
    pub fn swarm(mut self, seed: u64) -> Self {
        let mut chance = Chance::new(seed).fork(SWARM);
        self.rates_ppm.retain(|_, _| chance.strikes(500_000));
        self
    }

    #[must_use]
    pub fn rate_ppm(&self, fault: Fault) -> u32 {
        self.rates_ppm.get(&fault).copied().unwrap_or(0)
    }
}

/// Names the stream that the choice of faults is drawn from.
const SWARM: u64 = 0x5_3A12;

/// How often things were reached. Adds up over worlds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reached {
    faults: BTreeMap<Fault, u64>,
    named: BTreeMap<&'static str, u64>,
}

impl Reached {
    pub(super) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    pub(super) fn named(&mut self, name: &'static str) {
        *self.named.entry(name).or_default() += 1;
    }

    /// How often this fault struck.
    #[must_use]
    pub fn count(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or(0)
    }

    /// How often an operation was submitted (by its name in small letters, such as `write`), or a
    /// deed of the world was done (`kill`, `cut-power`, `pause`, `partition`, `clock-jump`).
    #[must_use]
    pub fn count_of(&self, name: &str) -> u64 {
        self.named.get(name).copied().unwrap_or(0)
    }

    pub fn add(&mut self, other: &Self) {
        for (&fault, &count) in &other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        for (&name, &count) in &other.named {
            *self.named.entry(name).or_default() += count;
        }
    }
}
