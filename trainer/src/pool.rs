//! Vectors of floats that are used again.

use std::sync::{Mutex, MutexGuard};

/// Free vectors, for many threads. A vector has room for more than was asked for, and room that was never touched takes no
/// memory: so a steady state allocates nothing large, though lengths differ from step to step.
#[derive(Debug, Default)]
pub struct FloatPool {
    free: Mutex<Vec<Vec<f32>>>,
}

/// Lengths below this are not kept: the allocator serves them well.
const LEAST_LEN: usize = 4096;

impl FloatPool {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<f32>>> {
        self.free.lock().expect("no thread panics with it")
    }

    /// A vector of this length; its contents are arbitrary.
    pub fn take(&self, len: usize) -> Vec<f32> {
        let capacity = len.next_power_of_two();
        let found = {
            let mut free = self.lock();
            let fits = |vector: &Vec<f32>| (len..=4 * capacity).contains(&vector.capacity());
            let best = (0..free.len()).filter(|&index| fits(&free[index])).min_by_key(|&index| free[index].capacity());
            best.map(|index| free.swap_remove(index))
        };
        match found {
            Some(mut vector) => {
                vector.resize(len, 0.0);
                vector
            }
            None if len < LEAST_LEN => vec![0.0; len],
            None => {
                // zeroed by the system, page by page, when they are first touched
                let mut vector = vec![0.0; capacity];
                vector.truncate(len);
                vector
            }
        }
    }

    /// A vector of this length, full of zeros.
    pub fn zeroed(&self, len: usize) -> Vec<f32> {
        let mut vector = self.take(len);
        vector.fill(0.0);
        vector
    }

    /// Frees what is not in use.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Takes a vector back.
    pub fn give(&self, vector: Vec<f32>) {
        if vector.capacity() >= LEAST_LEN {
            self.lock().push(vector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: vectors come back for other lengths, zeroed where asked. Method: take, give, take.
    #[test]
    fn vectors_are_reused() {
        let pool = FloatPool::new();
        let mut first = pool.take(5_000);
        first.fill(1.0);
        let place = first.as_ptr();
        pool.give(first);
        let second = pool.zeroed(6_000);
        assert_eq!((second.as_ptr(), second.len()), (place, 6_000));
        assert!(second.iter().all(|value| *value == 0.0));
        let third = pool.take(5_000);
        assert_ne!(third.as_ptr(), place);
        pool.give(second);
        pool.give(third);
        let short = pool.take(100);
        assert_ne!(short.as_ptr(), place, "a short one does not take a long one's place");
    }
}
