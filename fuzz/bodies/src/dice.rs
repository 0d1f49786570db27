//! A small seeded generator of numbers (splitmix64): one seed is one run, on every machine.

#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Dice that bytes decide: what differs in a few of them is thrown differently.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut dice = Self(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            dice.0 ^= u64::from_le_bytes(word);
            dice.0 = dice.draw();
        }
        dice
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    /// A number below `limit`, which is not zero.
    ///
    /// # Panics
    /// When it is.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.draw() % limit as u64).expect("it is below a usize")
    }

    pub fn byte(&mut self) -> u8 {
        (self.draw() >> 56) as u8
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// # Panics
    /// When there is none.
    pub fn one_of<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.below(things.len())]
    }
}
