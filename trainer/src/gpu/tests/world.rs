//! Worlds of several GPUs, on the emulator.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use super::*;
use crate::Result;
use crate::collective::{Collective, TcpCollective, TcpListenerHandle};
use crate::nccl::Seat;
use crate::step::StepOutcome;

const PATIENCE: Duration = Duration::from_secs(60);

/// Where ranks of one process meet: the emulator's memory is the process's.
struct Meeting {
    barrier: Barrier,
    brought: Mutex<Vec<Vec<f32>>>,
}

/// A rank of it.
struct Met {
    meeting: Arc<Meeting>,
    seat: Seat,
    aborted: AtomicUsize,
}

impl std::fmt::Debug for Met {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.seat)
    }
}

impl Met {
    /// Everybody's values, in order of ranks.
    fn exchange(&self, mine: &[f32]) -> Vec<Vec<f32>> {
        self.meeting.brought.lock().unwrap()[self.seat.rank] = mine.to_vec();
        self.meeting.barrier.wait();
        let all = self.meeting.brought.lock().unwrap().clone();
        self.meeting.barrier.wait();
        all
    }
}

impl Peers for Met {
    fn seat(&self) -> Seat {
        self.seat
    }

    unsafe fn all_reduce(&self, address: u64, len: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        let values = unsafe { std::slice::from_raw_parts_mut(address as *mut f32, len) };
        let all = self.exchange(values);
        assert!(all.iter().all(|values| values.len() == len), "ranks sum other things");
        for (at, value) in values.iter_mut().enumerate() {
            *value = all.iter().map(|values| values[at]).sum();
        }
        Ok(())
    }

    unsafe fn all_gather(&self, from: u64, to: u64, len: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        let mine = unsafe { std::slice::from_raw_parts(from as *const f32, len) };
        let all = self.exchange(mine).concat();
        assert_eq!(all.len(), len * self.seat.world_size, "ranks give unequally many");
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(to as *mut f32, all.len()) }.copy_from_slice(&all);
        Ok(())
    }

    fn join(&self) -> Result<()> {
        Ok(())
    }

    fn wait(&self, alive: &dyn Fn() -> Result<()>) -> Result<()> {
        alive()
    }

    fn abort(&self) {
        self.aborted.fetch_add(1, Ordering::SeqCst);
    }
}

/// What a rank did: its steps, and its parameters afterwards.
type Did = (Vec<Result<StepOutcome>>, Vec<f32>);

/// Trains on so many ranks; `before` is told each step's number and may do something to the rank's trainer.
fn train(world_size: usize, batches: &[&[u32]], tokens: usize, before: impl Fn(usize, &Trainer) + Sync) -> Vec<Did> {
    let listeners: Vec<_> = (0..world_size).map(|_| TcpCollective::listen(Ipv4Addr::LOCALHOST.into()).unwrap()).collect();
    let members: Vec<SocketAddr> = listeners.iter().map(TcpListenerHandle::address).collect();
    let meeting = Arc::new(Meeting { barrier: Barrier::new(world_size), brought: Mutex::new(vec![Vec::new(); world_size]) });
    let rank = |rank: usize, listener: TcpListenerHandle| {
        let collective: Arc<dyn Collective> = match world_size {
            1 => Arc::new(Solo::new()),
            _ => Arc::new(listener.connect([3; 32], 1, rank, &members, PATIENCE, PATIENCE).unwrap()),
        };
        let met = Met { meeting: meeting.clone(), seat: Seat { rank, world_size }, aborted: AtomicUsize::new(0) };
        let peers = (world_size > 1).then(|| Box::new(met) as Box<dyn Peers>);
        let (encoder, params, settings) = small_run(0.1).unwrap();
        let settings = StepSettings { micro_batch_tokens: tokens, ..on_cpu(settings) };
        let state = TrainState::new(params).unwrap();
        let trainer = Trainer::new(Arc::new(encoder), settings, collective, state).unwrap();
        // ranks may have unlike memory
        let mut trainer = trainer.on_gpu(Arc::new(emulated::gpu()), peers).unwrap().with_micro_batch_tokens(tokens + 37 * rank);
        let mut steps = Vec::new();
        for step in 0..2 {
            before(step, &trainer);
            steps.push(trainer.step(&table(ROWS), batches, 1e-3));
            if !steps.last().is_some_and(|step| step.as_ref().is_ok_and(|step| !step.leave)) {
                break;
            }
        }
        trainer.settle().unwrap();
        // one that goes takes its connections with it, and others may still look at them
        meeting.barrier.wait();
        (steps, with_values(&trainer.state.params, <[f32]>::to_vec).unwrap())
    };
    std::thread::scope(|scope| {
        let rank = &rank;
        let ranks: Vec<_> =
            listeners.into_iter().enumerate().map(|(index, listener)| scope.spawn(move || rank(index, listener))).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// Goal: a run on several GPUs is the run on one: its losses, its updates, whatever the number of ranks, also with more of them than rows, with negatives, with
/// accumulation, embedding once or twice; and all ranks have the same bits. Method: worlds of 1 to 4, unequal shares.
#[test]
fn a_world_trains_as_one_gpu() {
    let all: Vec<u32> = (0..ROWS).collect();
    let few = [&all[..3], &all[5..8]];
    for (batches, tokens, sizes) in [(&[&all[..7]][..], 1 << 20, &[2, 3][..]), (&[&all[..]], 60, &[2]), (&few, 1 << 20, &[4])] {
        let (alone_steps, alone) = train(1, batches, tokens, |_, _| ()).remove(0);
        for &size in sizes {
            let ranks = train(size, batches, tokens, |_, _| ());
            for (steps, params) in &ranks {
                assert!(*params == ranks[0].1, "ranks of a world of {size} differ");
                // sums in another order move the first update's last bits, which rounding to bf16 makes more of in the second
                for ((found, expected), near) in steps.iter().zip(&alone_steps).zip([1e-5, 1e-3]) {
                    let (found, expected) = (found.as_ref().unwrap(), expected.as_ref().unwrap());
                    assert!((found.loss / expected.loss - 1.0).abs() < near, "{size}: {found:?} {expected:?}");
                    assert!((found.grad_norm / expected.grad_norm - 1.0).abs() < 1e-3, "{size}: {found:?} {expected:?}");
                }
            }
            let (_, before, _) = small_run(0.1).unwrap();
            let moved = |after: &[f32]| after.iter().zip(&before).map(|(a, b)| f64::from(a - b)).collect::<Vec<_>>();
            let cosine = cosine(&moved(&ranks[0].1), &moved(&alone));
            assert!(cosine > 0.999, "{size} ranks move the parameters otherwise: {cosine}");
        }
    }
}

/// Goal: where one rank is to leave all leave after the same step, and where one fails none goes on. Method: a rank that leaves before its second step; a
/// rank whose connection is cut before it.
#[test]
fn ranks_leave_together() {
    let all: Vec<u32> = (0..ROWS).collect();
    let leaving = train(2, &[&all[..]], 1 << 20, |step, trainer| {
        if step == 0 && trainer.collective().rank() == 1 {
            trainer.interrupt().leave();
        }
    });
    for (steps, _) in &leaving {
        assert!(steps.len() == 1 && steps[0].as_ref().unwrap().leave);
    }
    let cut = train(2, &[&all[..]], 1 << 20, |step, trainer| {
        if step == 1 && trainer.collective().rank() == 1 {
            trainer.collective().abort();
        }
    });
    for (steps, _) in &cut {
        assert!(matches!(steps[1].as_ref().unwrap_err(), crate::Error::Collective(_)), "{:?}", steps[1]);
    }
}

/// Goal: ranks with unlike memory encode as one GPU does, every text's vector in its place. Method: worlds of one and three whose micro-batches differ.
#[test]
fn ranks_encode_as_one() {
    let table = table(ROWS);
    let texts = TokenTexts { texts: (0..ROWS as usize).map(|row| table.text(row, 1).to_vec()).collect(), prompt_len: 0 };
    let encode = |world_size| {
        let found = Mutex::new(Vec::new());
        train(world_size, &[&[0, 1]], 40, |step, trainer| {
            let encoding = Encoding {
                encoder: trainer.encoder(),
                params: &trainer.state.params,
                collective: &**trainer.collective(),
                threads: 1,
                micro_batch_tokens: 64,
                workspaces: &Workspaces::default(),
                interrupt: trainer.interrupt(),
                device: trainer.device().map(|device| device as _),
            };
            if step == 0 {
                // before the lock: ranks wait for one another
                let vectors = encoding.encode(&texts, &|_| {}).unwrap();
                found.lock().unwrap().push(vectors);
            }
        });
        found.into_inner().unwrap()
    };
    let alone = encode(1).remove(0);
    let ranks = encode(3);
    assert!(ranks.len() == 3 && ranks.iter().all(|vectors| *vectors == alone));
}
