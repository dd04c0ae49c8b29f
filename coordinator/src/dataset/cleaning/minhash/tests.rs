use std::collections::HashSet;

use super::*;

fn text(seed: u64, num_words: u64, changed: u64) -> String {
    let mut rng = Rng::stream("minhash test", &[seed]);
    let words = (0..num_words).map(|place| {
        let word = rng.below(1 << 40);
        if place < changed { format!("changed{seed}x{place}") } else { format!("w{word}") }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Goal: texts of likeness .8 and .67 share a bucket as often as the formula says, texts with nothing in common never do. Method:
/// 2,000 texts of 50 words with copies that have 5 or 10 words changed.
#[test]
fn alike_texts_share_buckets() {
    for (changed, least) in [(5, 0.999), (10, 0.98)] {
        let texts: Vec<String> = (0..2000).flat_map(|seed| [text(seed, 50, 0), text(seed, 50, changed)]).collect();
        let weights = Weights::new(texts.len(), |index| &texts[index]);
        let found = buckets(texts.len(), &weights, |index| &texts[index]);
        assert!(found.members.is_sorted());
        let mut texts_of = vec![Vec::new(); found.num_buckets];
        found.members.iter().for_each(|&(text, bucket)| texts_of[bucket as usize].push(text));
        let mut together = HashSet::new();
        for texts in texts_of {
            assert!(texts.len() == 2 && texts[0] / 2 == texts[1] / 2, "{texts:?}");
            together.insert(texts[0]);
        }
        let share = together.len() as f64 / 2000.0;
        assert!(share >= least, "{share}");
    }
}
