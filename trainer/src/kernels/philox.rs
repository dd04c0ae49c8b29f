//! Philox 4x32-10: random bits as a pure function of a counter and a key (Salmon et al., "Parallel Random
//! Numbers: As Easy as 1, 2, 3", SC 2011), sixteen counters at a time.

use super::dispatch;

/// Counters computed together.
const BLOCKS: usize = 16;
/// 16-bit numbers that one group of counters gives.
pub const GROUP: usize = BLOCKS * 8;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// Which numbers: the key, and the counter's last three words; the first word counts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// The key.
    pub key: [u32; 2],
    /// Words 1 to 3 of the counter.
    pub tail: [u32; 3],
}

#[inline(always)]
fn multiply(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    ((product >> 32) as u32, product as u32)
}

/// One block: four words from a counter and a key.
pub fn block(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut a, mut b, mut c, mut d], [mut k0, mut k1]) = (counter, key);
    for _ in 0..ROUNDS {
        let (high_a, low_a) = multiply(MULTIPLIERS[0], a);
        let (high_c, low_c) = multiply(MULTIPLIERS[1], c);
        (a, b, c, d) = (high_c ^ b ^ k0, low_c, high_a ^ d ^ k1, low_a);
        (k0, k1) = (k0.wrapping_add(KEY_STEPS[0]), k1.wrapping_add(KEY_STEPS[1]));
    }
    [a, b, c, d]
}

#[inline(always)]
fn fill_groups_body(stream: Stream, first_group: u32, out: &mut [u16]) {
    for (index, numbers) in out.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
        let first = first_group.wrapping_add(index as u32).wrapping_mul(BLOCKS as u32);
        let mut a: [u32; BLOCKS] = std::array::from_fn(|lane| first.wrapping_add(lane as u32));
        let [mut b, mut c, mut d] = stream.tail.map(|value| [value; BLOCKS]);
        let [mut k0, mut k1] = stream.key;
        for _ in 0..ROUNDS {
            for lane in 0..BLOCKS {
                let (high_a, low_a) = multiply(MULTIPLIERS[0], a[lane]);
                let (high_c, low_c) = multiply(MULTIPLIERS[1], c[lane]);
                a[lane] = high_c ^ b[lane] ^ k0;
                b[lane] = low_c;
                c[lane] = high_a ^ d[lane] ^ k1;
                d[lane] = low_a;
            }
            (k0, k1) = (k0.wrapping_add(KEY_STEPS[0]), k1.wrapping_add(KEY_STEPS[1]));
        }
        for (pairs, word) in numbers.as_chunks_mut::<{ 2 * BLOCKS }>().0.iter_mut().zip([a, b, c, d]) {
            for lane in 0..BLOCKS {
                pairs[2 * lane] = word[lane] as u16;
                pairs[2 * lane + 1] = (word[lane] >> 16) as u16;
            }
        }
    }
}

dispatch! {
    /// Fills `out`, whose length is a multiple of [`GROUP`], with the stream's numbers from group `first_group` on.
    /// Group g comes from the counters 16 g to 16 g + 15: first their words 0, low half first, then their words 1, 2, 3.
    pub fn fill_groups(stream: Stream, first_group: u32, out: &mut [u16]) = fill_groups_body
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: this is Philox 4x32-10. Method: the known answers published with Random123.
    #[test]
    fn known_answers() {
        assert_eq!(block([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(block([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(block(pi, [0xa409_3822, 0x299f_31d0]), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    /// Goal: the grouped form gives the numbers it documents. Method: against single blocks.
    #[test]
    fn groups_are_blocks() {
        let stream = Stream { key: [1, 2], tail: [3, 4, 5] };
        let mut numbers = vec![0; 3 * GROUP];
        fill_groups(stream, 7, &mut numbers);
        for (i, &number) in numbers.iter().enumerate() {
            let (group, within) = (7 + i / GROUP, i % GROUP);
            let (word, lane, half) = (within / 32, within % 32 / 2, within % 2);
            let words = block([(group * 16 + lane) as u32, 3, 4, 5], [1, 2]);
            assert_eq!(number, (words[word] >> (16 * half)) as u16);
        }
    }
}
