//! Work over many items on the machine's cores; what comes out does not depend on how many there are.

use std::ops::Range;

/// Fewer items are not worth a thread.
const MIN_ITEMS_PER_PART: usize = 4096;
const MAX_PARTS: usize = 16;

/// Cuts `0..num_items` into ranges, one a core, and gives what `work` makes of each, in their order.
pub(super) fn by_parts<T: Send>(num_items: usize, work: impl Fn(Range<usize>) -> T + Sync) -> Vec<T> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_PARTS);
    by_parts_of(num_items, cores.min(num_items / MIN_ITEMS_PER_PART), work)
}

/// [`by_parts`] with the number of parts given; 0 is taken for 1.
pub(super) fn by_parts_of<T: Send>(num_items: usize, num_parts: usize, work: impl Fn(Range<usize>) -> T + Sync) -> Vec<T> {
    let num_parts = num_parts.max(1);
    let range = |part: usize| num_items * part / num_parts..num_items * (part + 1) / num_parts;
    if num_parts == 1 {
        return vec![work(range(0))];
    }
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..num_parts).map(|part| scope.spawn(move || work(range(part)))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, T>| match thread.join() {
            Ok(made) => made,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(join).collect()
    })
}
