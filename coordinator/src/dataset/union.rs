//! Union-find: which things hang together.

/// Sets of the numbers `0..len`, each alone at first.
#[derive(Clone)]
pub(super) struct Union {
    parents: Vec<u32>,
    sizes: Vec<u32>,
}

impl Union {
    pub(super) fn new(len: usize) -> Self {
        let len = u32::try_from(len).expect("a data set has fewer than 2^32 texts");
        Self { parents: (0..len).collect(), sizes: vec![1; len as usize] }
    }

    /// The number that stands for the set of `item`.
    pub(super) fn find(&mut self, item: u32) -> u32 {
        let mut at = item;
        while self.parents[at as usize] != at {
            let above = self.parents[self.parents[at as usize] as usize];
            self.parents[at as usize] = above;
            at = above;
        }
        at
    }

    /// Makes one set of two.
    pub(super) fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.find(a), self.find(b));
        if a != b {
            let (small, large) = if self.sizes[a as usize] < self.sizes[b as usize] { (a, b) } else { (b, a) };
            self.parents[small as usize] = large;
            self.sizes[large as usize] += self.sizes[small as usize];
        }
    }

    /// Whether `item` hangs together with no other.
    pub(super) fn is_alone(&mut self, item: u32) -> bool {
        let root = self.find(item);
        self.sizes[root as usize] == 1
    }
}
