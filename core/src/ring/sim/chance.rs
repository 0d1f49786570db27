//! Chance from one number: the same seed gives the same sequence on every machine.
//!
//! Xoshiro256**, filled by SplitMix64. Streams are forked by label, so that what a program draws
//! does not move what befalls it.

/// A stream of numbers.
#[derive(Debug, Clone)]
pub struct Chance([u64; 4]);

impl Chance {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            mix(state)
        }))
    }

    pub fn draw(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number from zero up to, but without, `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(0 < bound, "nothing lies below zero");
        let wide = u128::from(self.draw()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("below the bound")
    }

    /// A number from `low` up to and with `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// [`Self::between`] for lengths.
    pub fn length(&mut self, low: usize, high: usize) -> usize {
        usize::try_from(self.between(low as u64, high as u64)).expect("between two lengths")
    }

    /// True `ppm` times in a million. Draws nothing when it cannot be.
    pub fn strikes(&mut self, ppm: u32) -> bool {
        0 < ppm && self.below(1_000_000) < u64::from(ppm)
    }

    /// Another stream, for what `label` names.
    #[must_use]
    pub fn fork(&self, label: u64) -> Self {
        Self::new(mix(self.0[0] ^ mix(label)) ^ self.0[2])
    }
}

/// Spreads every bit of a number over all bits.
pub(super) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_sequence_and_forks_do_not_disturb_it() {
        let mut one = Chance::new(7);
        let mut two = Chance::new(7);
        let mut fork = two.fork(1);
        let _ = fork.draw();
        assert_eq!(
            (0..9).map(|_| one.draw()).collect::<Vec<_>>(),
            (0..9).map(|_| two.draw()).collect::<Vec<_>>()
        );
        assert_ne!(Chance::new(7).fork(1).draw(), Chance::new(7).fork(2).draw());
    }

    #[test]
    fn every_number_below_a_bound_comes() {
        let mut chance = Chance::new(1);
        let mut seen = [0; 6];
        for _ in 0..6000 {
            seen[usize::try_from(chance.below(6)).expect("small")] += 1;
        }
        assert!(seen.iter().all(|it| (800..1200).contains(it)), "{seen:?}");
        assert!(
            (0..100).all(|_| !chance.strikes(0)) && (0..100).all(|_| chance.strikes(1_000_000))
        );
    }
}
