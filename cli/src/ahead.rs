//! Work that a thread of low priority does ahead of those who use it, as far as a bounded queue lets it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use artel_trainer::Error;
use artel_trainer::interrupt::Interrupt;

use crate::failure::Failure;

/// Pieces that wait in the queue; one more is being made.
const QUEUE_BOUND: usize = 2;
/// How often the one who waits looks whether it is to leave.
const LOOK: Duration = Duration::from_millis(50);
/// The thread's nice value on Linux, and that of the threads it starts: beside a busy thread it gets a quarter of a core. A
/// greater one would starve it where other processes are busy, and those who wait for it with it.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// What a thread makes, piece by piece.
pub struct Ahead<T> {
    queue: Receiver<Result<Option<T>, Failure>>,
}

impl<T: Send + 'static> Ahead<T> {
    /// Starts the thread; `make` gives the next piece, or `None` at the end. Where this is dropped early, the thread ends
    /// when it has made its piece; nobody waits for it, since it may stand in a read from a terminal.
    ///
    /// # Errors
    /// The system starts no thread.
    pub fn start(mut make: impl FnMut() -> Result<Option<T>, Failure> + Send + 'static) -> Result<Self, Failure> {
        let (sender, queue) = sync_channel(QUEUE_BOUND);
        let work = move || {
            for index in 0u64.. {
                // the first piece is waited for
                if index == 1 {
                    give_way();
                }
                let piece = make();
                let is_last = !matches!(piece, Ok(Some(_)));
                if sender.send(piece).is_err() || is_last {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("ahead".to_owned()).spawn(work);
        thread.map_err(|e| Failure::internal(format!("cannot start a thread: {e}")))?;
        Ok(Self { queue })
    }

    /// The next piece, or `None` at the end; not to be called after that.
    ///
    /// # Errors
    /// What `make` said, or [`Error::Left`] once work is to end.
    pub fn next(&self, interrupt: &Interrupt) -> Result<Option<T>, Failure> {
        loop {
            interrupt.check_leave()?;
            match self.queue.recv_timeout(LOOK) {
                Ok(piece) => return piece,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Internal("the thread that works ahead died".to_owned()).into());
                }
            }
        }
    }
}

/// Lowers this thread's priority, where the system has one for each thread.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(e) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!("the thread that works ahead keeps its priority: {e}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// Goal: pieces come in order, and the thread runs ahead no further than the queue. Method: it counts, and tells each
    /// number when it begins it; nobody takes one until it has gone as far as it can.
    #[test]
    fn bounded_and_in_order() {
        let (told, begun) = channel();
        let mut next = 0;
        let make = move || {
            next += 1;
            told.send(next).expect("the test listens");
            Ok((next <= 10).then_some(next))
        };
        let ahead = Ahead::start(make).expect("a thread");
        let most = QUEUE_BOUND as i32 + 1;
        assert_eq!(begun.iter().take(most as usize).collect::<Vec<_>>(), (1..=most).collect::<Vec<_>>());
        assert!(begun.recv_timeout(LOOK).is_err(), "it waits for room");
        let interrupt = Interrupt::default();
        let pieces = std::iter::from_fn(|| ahead.next(&interrupt).expect("no error"));
        assert_eq!(pieces.collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    }

    /// Goal: an error, a panic and a request to leave all end it; none looks like the end of the input. Method: each of them,
    /// the last with a thread that never gives anything.
    #[test]
    fn ends_early() {
        let failing = Ahead::<()>::start(|| Err(Failure::data("bad line"))).expect("a thread");
        assert_eq!(failing.next(&Interrupt::default()), Err(Failure::data("bad line")));
        let panicking = Ahead::<()>::start(|| panic!("on purpose")).expect("a thread");
        let died = panicking.next(&Interrupt::default()).expect_err("it died");
        assert_eq!(died.exit, artel_common::exit::Exit::Internal);
        let (_kept, never) = channel::<()>();
        let silent = Ahead::<()>::start(move || never.recv().map(Some).map_err(|e| Failure::internal(e.to_string())));
        let silent = silent.expect("a thread");
        let interrupt = Interrupt::default();
        interrupt.leave();
        assert_eq!(silent.next(&interrupt).expect_err("it leaves").exit, artel_common::exit::Exit::Preempted);
    }
}
