//! Philox 4x32-10: random bits as a pure function of a counter and a key (Salmon et al., "Parallel Random
//! Numbers: As Easy as 1, 2, 3", SC 2011), sixteen counters at a time.

use super::Path;

/// Counters of a group.
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

/// Fills `out`, whose length is a multiple of [`GROUP`], with the stream's numbers from group `first_group` on.
/// Group g comes from the counters 16 g to 16 g + 15: first their words 0, low half first, then their words 1, 2, 3.
pub fn fill_groups(stream: Stream, first_group: u32, out: &mut [u16]) {
    for (index, numbers) in out.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
        let first = first_group.wrapping_add(index as u32).wrapping_mul(BLOCKS as u32);
        match Path::current() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: these paths are returned only where the machine has AVX2.
            Path::Avx512 | Path::Avx2 => unsafe { x86::fill_group(stream, first, numbers) },
            _ => fill_group(stream, first, numbers),
        }
    }
}

/// The numbers of [`BLOCKS`] counters from `first` on.
fn fill_group(stream: Stream, first: u32, numbers: &mut [u16; GROUP]) {
    for lane in 0..BLOCKS {
        let [b, c, d] = stream.tail;
        let words = block([first.wrapping_add(lane as u32), b, c, d], stream.key);
        for (pairs, word) in numbers.as_chunks_mut::<{ 2 * BLOCKS }>().0.iter_mut().zip(words) {
            pairs[2 * lane] = word as u16;
            pairs[2 * lane + 1] = (word >> 16) as u16;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_castps_si256, _mm256_castsi256_ps, _mm256_mul_epu32,
        _mm256_permute4x64_epi64, _mm256_set_epi64x, _mm256_set1_epi64x, _mm256_shuffle_ps, _mm256_srli_epi64,
        _mm256_storeu_si256, _mm256_xor_si256,
    };

    use super::{BLOCKS, GROUP, KEY_STEPS, MULTIPLIERS, ROUNDS, Stream};

    /// Registers that hold a word of eight counters, each in 64 bits: as wide as its products, so that nothing is shuffled
    /// between rounds.
    type Word = [__m256i; 2];

    fn all(value: u32) -> i64 {
        i64::from(value)
    }

    /// As [`super::fill_group`].
    #[target_feature(enable = "avx2")]
    pub fn fill_group(stream: Stream, first: u32, numbers: &mut [u16; GROUP]) {
        // a group's first counter is a multiple of its size, so that no lane overflows
        for half in 0..2 {
            let words = eight(stream, first + 8 * half);
            for (word, [low, high]) in words.into_iter().enumerate() {
                let pairs = _mm256_shuffle_ps::<0b10_00_10_00>(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high));
                let in_order = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_castps_si256(pairs));
                let to: &mut [u16] = &mut numbers[2 * (word * BLOCKS + 8 * half as usize)..][..16];
                // SAFETY: sixteen numbers are as wide as the register.
                unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), in_order) };
            }
        }
    }

    /// The four words of eight counters from `first` on.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn eight(stream: Stream, first: u32) -> [Word; 4] {
        let start = _mm256_add_epi64(_mm256_set1_epi64x(all(first)), _mm256_set_epi64x(3, 2, 1, 0));
        let mut a = [start, _mm256_add_epi64(start, _mm256_set1_epi64x(4))];
        let [mut b, mut c, mut d] = stream.tail.map(|word| [_mm256_set1_epi64x(all(word)); 2]);
        let [mut k0, mut k1] = stream.key;
        let [times_a, times_c] = MULTIPLIERS.map(|value| _mm256_set1_epi64x(all(value)));
        let low = _mm256_set1_epi64x(all(u32::MAX));
        for _ in 0..ROUNDS {
            let keys = [_mm256_set1_epi64x(all(k0)), _mm256_set1_epi64x(all(k1))];
            for i in 0..2 {
                let (product_a, product_c) = (_mm256_mul_epu32(a[i], times_a), _mm256_mul_epu32(c[i], times_c));
                a[i] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64::<32>(product_c), b[i]), keys[0]);
                c[i] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64::<32>(product_a), d[i]), keys[1]);
                b[i] = _mm256_and_si256(product_c, low);
                d[i] = _mm256_and_si256(product_a, low);
            }
            (k0, k1) = (k0.wrapping_add(KEY_STEPS[0]), k1.wrapping_add(KEY_STEPS[1]));
        }
        [a, b, c, d]
    }
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
