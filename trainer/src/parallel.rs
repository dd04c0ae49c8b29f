//! Work shared over threads: items are taken in order, results come back in order.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Result;

/// Runs `work(index)` for each of `0..count` on up to `threads` threads and returns the results in order.
/// Each index is run by one thread alone, so results do not depend on the number of threads.
///
/// # Errors
/// The error of the lowest index that failed; later items may not have run.
pub fn map_ordered<T: Send>(count: usize, threads: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    if threads <= 1 || count <= 1 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<Result<T>>>> = (0..count).map(|_| Mutex::new(None)).collect();
    let take = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(slot) = slots.get(index) else { return };
            let result = work(index);
            let failed = result.is_err();
            *slot.lock().expect("a slot is locked by one thread once") = Some(result);
            if failed {
                next.fetch_add(count, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads.min(count)).map(|_| scope.spawn(take)).collect();
        take();
        helpers.into_iter().for_each(|helper| helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    });
    let mut results = Vec::with_capacity(count);
    for slot in slots {
        match slot.into_inner().expect("no thread holds it any more") {
            Some(result) => results.push(result?),
            None => break,
        }
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    /// Goal: results come in order and the first error wins. Method: squares, and a failing item.
    #[test]
    fn order_and_errors() {
        let squares = map_ordered(100, 4, |i| Ok(i * i)).unwrap();
        assert_eq!(squares, (0..100).map(|i| i * i).collect::<Vec<_>>());
        let failed = map_ordered(100, 4, |i| if i == 7 { Err(Error::input("seven")) } else { Ok(i) });
        assert_eq!(failed.unwrap_err().to_string(), "seven");
    }
}
