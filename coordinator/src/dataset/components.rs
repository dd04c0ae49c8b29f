//! Which rows must stay on one side of a split: those that share a document, a text, or texts that are alike.

use std::collections::HashMap;

use artel_common::records::Pair;

use super::near::ShingleSets;
use super::texts::Texts;
use super::union::Union;
use super::words::{hash_bytes, mix};

/// Rows that hang together.
pub(super) struct Component {
    /// Row numbers, ascending.
    pub(super) rows: Vec<u32>,
    /// A hash of its content and the seed: where it stands in the order of choice.
    rank: u64,
}

/// The ties between rows, found once.
pub(super) struct Ties {
    union: Union,
    /// By row: the node of its anchor and positive, which are one set.
    nodes: Vec<u32>,
    /// By row: the nodes of its negatives.
    negatives: Vec<Vec<u32>>,
}

impl Ties {
    /// Joins anchors, positives and documents; texts that are the same but for case and punctuation; near-duplicates.
    pub(super) fn find(pairs: &[Pair], threshold: f64) -> Self {
        let mut texts = Texts::default();
        let rows: Vec<[u32; 2]> = pairs.iter().map(|pair| [texts.number(&pair.anchor), texts.number(&pair.positive)]).collect();
        let negatives: Vec<Vec<u32>> =
            pairs.iter().map(|pair| pair.negatives.iter().map(|text| texts.number(text)).collect()).collect();
        let num_texts = texts.all().len();
        let mut groups: HashMap<&str, u32> = HashMap::new();
        for group in pairs.iter().filter_map(|pair| pair.group.as_deref()) {
            let next = (num_texts + groups.len()) as u32;
            groups.entry(group).or_insert(next);
        }
        let mut union = Union::new(num_texts + groups.len());
        let firsts = texts.join_equal(&mut union);
        let distinct: Vec<&str> = firsts.iter().map(|&first| texts.all()[first as usize]).collect();
        let mut alike = Union::new(distinct.len());
        ShingleSets::new(&distinct).join_alike(threshold, &mut alike);
        for (index, &first) in firsts.iter().enumerate() {
            union.join(first, firsts[alike.find(index as u32) as usize]);
        }
        for (pair, [anchor, positive]) in pairs.iter().zip(&rows) {
            union.join(*anchor, *positive);
            if let Some(group) = &pair.group {
                union.join(*anchor, groups[group.as_str()]);
            }
        }
        Self { union, nodes: rows.iter().map(|[anchor, _]| *anchor).collect(), negatives }
    }

    /// The components in their order of choice, a pure function of their content and the seed; negatives tie too if told.
    pub(super) fn components(&self, pairs: &[Pair], with_negatives: bool, seed: u64) -> Vec<Component> {
        let mut union = self.union.clone();
        if with_negatives {
            for (&node, negatives) in self.nodes.iter().zip(&self.negatives) {
                negatives.iter().for_each(|&negative| union.join(node, negative));
            }
        }
        let mut places: HashMap<u32, usize> = HashMap::new();
        let mut components: Vec<Component> = Vec::new();
        for (row, (pair, &node)) in pairs.iter().zip(&self.nodes).enumerate() {
            let content = mix(hash_bytes(pair.anchor.as_bytes()), hash_bytes(pair.positive.as_bytes()));
            let rank = mix(mix(7, seed), content);
            let place = *places.entry(union.find(node)).or_insert(components.len());
            if place == components.len() {
                components.push(Component { rows: Vec::new(), rank });
            }
            components[place].rows.push(row as u32);
            components[place].rank = components[place].rank.min(rank);
        }
        components.sort_by_key(|component| component.rank);
        components
    }
}
