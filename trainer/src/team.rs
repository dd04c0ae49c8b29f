//! The threads of a rank: they live as long as it, so that what the matrix products keep by thread is made once.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// Some threads. Results never depend on how many.
#[derive(Debug, Default)]
pub struct Team {
    /// None where the caller's thread works alone.
    pool: Option<ThreadPool>,
}

/// An item on its way through the stages.
struct Item<'a, S> {
    /// The stage that comes next.
    next: usize,
    state: &'a mut S,
}

impl Team {
    /// A team of so many threads.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn new(threads: usize) -> Result<Self> {
        let build = |threads| ThreadPoolBuilder::new().num_threads(threads).thread_name(|n| format!("compute-{n}")).build();
        let pool = (threads > 1).then(|| build(threads)).transpose();
        Ok(Self { pool: pool.map_err(|e| Error::Internal(format!("cannot start {threads} threads: {e}")))? })
    }

    /// How many.
    pub fn num_threads(&self) -> usize {
        self.pool.as_ref().map_or(1, ThreadPool::current_num_threads)
    }

    /// Runs `work` on every thread at once, or on the caller's where it is alone.
    fn broadcast(&self, work: impl Fn() + Sync) {
        match &self.pool {
            None => work(),
            Some(pool) => {
                pool.broadcast(|_| work());
            }
        }
    }

    /// Takes every item through `stages` stages: `work(stage, index, item)`. The stages of an item come one after another,
    /// the items of a stage at once; a thread that finds no item of a stage left begins the next stage.
    ///
    /// # Errors
    /// The first error; what was not begun by then is left out.
    pub fn staged<S: Send>(
        &self,
        stages: usize,
        items: &mut [S],
        work: impl Fn(usize, usize, &mut S) -> Result<()> + Sync,
    ) -> Result<()> {
        let count = items.len();
        let items: Vec<_> = items.iter_mut().map(|state| (Mutex::new(Item { next: 0, state }), Condvar::new())).collect();
        let (ticket, stopped, failure) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
        let stop = || {
            stopped.store(true, Ordering::SeqCst);
            // with the lock, or one could miss it between its look and its wait
            items.iter().for_each(|(item, ready)| {
                drop(item.lock());
                ready.notify_all();
            });
        };
        self.broadcast(|| {
            loop {
                let number = ticket.fetch_add(1, Ordering::Relaxed);
                if number >= stages * count || stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (stage, index) = (number / count, number % count);
                let (item, ready) = &items[index];
                let mut item = item.lock().expect("no thread panics with it");
                while item.next != stage && !stopped.load(Ordering::SeqCst) {
                    item = ready.wait(item).expect("no thread panics with it");
                }
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                match catch_unwind(AssertUnwindSafe(|| work(stage, index, &mut *item.state))) {
                    Ok(Ok(())) => {
                        item.next += 1;
                        drop(item);
                        ready.notify_all();
                    }
                    // the item stays where it is, so that nobody takes it further
                    Ok(Err(error)) => {
                        drop(item);
                        failure.lock().expect("no thread panics with it").get_or_insert(error);
                        stop();
                    }
                    Err(panic) => {
                        drop(item);
                        stop();
                        resume_unwind(panic);
                    }
                }
            }
        });
        failure.into_inner().expect("no thread panics with it").map_or(Ok(()), Err)
    }

    /// Runs `work(index, item)` for every item, each on one thread.
    ///
    /// # Errors
    /// The first error; what was not begun by then is left out.
    pub fn each<S: Send>(&self, items: &mut [S], work: impl Fn(usize, &mut S) -> Result<()> + Sync) -> Result<()> {
        self.staged(1, items, |_, index, item| work(index, item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every item sees its stages in order, whatever the number of threads. Method: items that write down their stages.
    #[test]
    fn stages_come_in_order() {
        for threads in 1..5 {
            let team = Team::new(threads).unwrap();
            assert_eq!(team.num_threads(), threads);
            let mut items = vec![Vec::new(); 7];
            let seen = |stage: usize, index: usize, item: &mut Vec<(usize, usize)>| {
                item.push((stage, index));
                Ok(())
            };
            team.staged(9, &mut items, seen).unwrap();
            for (index, item) in items.iter().enumerate() {
                assert_eq!(*item, (0..9).map(|stage| (stage, index)).collect::<Vec<_>>());
            }
            team.staged(9, &mut [], seen).unwrap();
            team.staged(0, &mut items, seen).unwrap();
        }
    }

    /// Goal: an error ends the work and comes out, and a panic too, and none waits for ever. Method: one item fails at once.
    #[test]
    fn failures_come_out() {
        for threads in 1..4 {
            let team = Team::new(threads).unwrap();
            let fail = |stage: usize, index: usize, _: &mut ()| match (stage, index) {
                (1, 2) => Err(Error::input("the third")),
                _ => Ok(()),
            };
            assert_eq!(team.staged(5, &mut [(); 5], fail).unwrap_err().to_string(), "the third");
            let panics = |stage: usize, index: usize, _: &mut ()| match (stage, index) {
                (1, 2) => panic!("a defect"),
                _ => Ok(()),
            };
            assert!(catch_unwind(AssertUnwindSafe(|| team.staged(5, &mut [(); 5], panics))).is_err());
            team.each(&mut [1, 2, 3], |index, item| {
                assert_eq!(index + 1, *item);
                Ok(())
            })
            .unwrap();
        }
    }
}
