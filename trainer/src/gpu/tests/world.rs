//! Worlds of several GPUs, on the emulator.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Barrier, Condvar, Mutex};
use std::time::Duration;

use half::bf16;

use super::*;
use crate::Result;
use crate::collective::{Collective, TcpCollective, TcpListenerHandle};
use crate::nccl::Seat;
use crate::step::StepOutcome;

const PATIENCE: Duration = Duration::from_secs(60);

/// Where ranks of one process meet: the emulator's memory is the process's.
struct Meeting {
    state: Mutex<Exchange>,
    changed: Condvar,
    /// Before it all ranks are there.
    end: Barrier,
}

/// An exchange.
#[derive(Default)]
struct Exchange {
    number: usize,
    brought: Vec<Option<Vec<f32>>>,
    all: Vec<Vec<f32>>,
    /// A rank has given up.
    broken: bool,
}

/// A rank of it.
struct Met {
    meeting: Arc<Meeting>,
    seat: Seat,
}

impl std::fmt::Debug for Met {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.seat)
    }
}

impl Met {
    /// Everybody's values, in order of ranks; an error once a rank has given up.
    fn exchange(&self, mine: Vec<f32>) -> Result<Vec<Vec<f32>>> {
        let Meeting { state, changed, .. } = &*self.meeting;
        let mut now = state.lock().unwrap();
        let number = now.number;
        now.brought[self.seat.rank] = Some(mine);
        if now.brought.iter().all(Option::is_some) {
            now.all = now.brought.iter_mut().flat_map(Option::take).collect();
            now.number += 1;
            changed.notify_all();
        }
        let waits = |now: &mut Exchange| now.number == number && !now.broken;
        let (now, late) = changed.wait_timeout_while(now, PATIENCE, waits).unwrap();
        match now.number > number {
            true => Ok(now.all.clone()),
            false => Err(crate::Error::Collective(format!("an exchange was broken off, late: {}", late.timed_out()))),
        }
    }

    /// Everybody's sum in the place of the values.
    fn sum<T: Copy>(&self, values: &mut [T], wide: impl Fn(T) -> f32, narrow: impl Fn(f32) -> T) -> Result<()> {
        let all = self.exchange(values.iter().map(|value| wide(*value)).collect())?;
        assert!(all.iter().all(|other| other.len() == values.len()), "ranks sum other things");
        for (at, value) in values.iter_mut().enumerate() {
            *value = narrow(all.iter().map(|values| values[at]).sum());
        }
        Ok(())
    }
}

impl Peers for Met {
    fn seat(&self) -> Seat {
        self.seat
    }

    unsafe fn all_reduce(&self, address: u64, len: usize, element: Element) -> Result<()> {
        match element {
            // SAFETY: the caller's promise.
            Element::F32 => self.sum(unsafe { std::slice::from_raw_parts_mut(address as *mut f32, len) }, |x| x, |x| x),
            Element::Bf16 => {
                // SAFETY: the caller's promise.
                let values = unsafe { std::slice::from_raw_parts_mut(address as *mut bf16, len) };
                self.sum(values, bf16::to_f32, bf16::from_f32)
            }
        }
    }

    unsafe fn all_gather(&self, from: u64, to: u64, len: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        let mine = unsafe { std::slice::from_raw_parts(from as *const f32, len) };
        let all = self.exchange(mine.to_vec())?.concat();
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
        self.meeting.state.lock().unwrap().broken = true;
        self.meeting.changed.notify_all();
    }
}

/// What a rank did: its steps, and its parameters afterwards.
type Did = (Vec<Result<StepOutcome>>, Vec<f32>);

/// Trains on so many ranks; `before` is told each step's number and may do something to the rank's trainer.
fn train(world_size: usize, batches: &[&[u32]], tokens: usize, before: impl Fn(usize, &Trainer) + Sync) -> Vec<Did> {
    train_on(world_size, batches, (tokens, Element::F32), before, |_| emulated::gpu())
}

/// The same on these ranks' GPUs, with the gradients exchanged as such elements.
fn train_on(
    world_size: usize,
    batches: &[&[u32]],
    (tokens, exchanged): (usize, Element),
    before: impl Fn(usize, &Trainer) + Sync,
    gpu: impl Fn(usize) -> Gpu + Sync,
) -> Vec<Did> {
    let listeners: Vec<_> = (0..world_size).map(|_| TcpCollective::listen(Ipv4Addr::LOCALHOST.into()).unwrap()).collect();
    let members: Vec<SocketAddr> = listeners.iter().map(TcpListenerHandle::address).collect();
    let state = Mutex::new(Exchange { brought: vec![None; world_size], ..Exchange::default() });
    let meeting = Arc::new(Meeting { state, changed: Condvar::new(), end: Barrier::new(world_size) });
    let rank = |rank: usize, listener: TcpListenerHandle| {
        let collective: Arc<dyn Collective> = match world_size {
            1 => Arc::new(Solo::new()),
            _ => Arc::new(listener.connect([3; 32], 1, rank, &members, PATIENCE, PATIENCE).unwrap()),
        };
        let met = Met { meeting: meeting.clone(), seat: Seat { rank, world_size } };
        let peers = (world_size > 1).then(|| Box::new(met) as Box<dyn Peers>);
        let (encoder, params, settings) = small_run(0.1).unwrap();
        let settings = StepSettings { micro_batch_tokens: tokens, ..on_cpu(settings) };
        let state = TrainState::new(params).unwrap();
        let trainer = Trainer::new(Arc::new(encoder), settings, collective, state).unwrap();
        // ranks may have unlike memory
        let mut trainer = trainer.on_gpu(Arc::new(gpu(rank)), peers, exchanged).unwrap().with_tokens_at_once(tokens + 37 * rank);
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
        meeting.end.wait();
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

/// Goal: a rank whose memory runs out begins its share anew with less, and the others see nothing of it but time; where its share cannot be begun anew, all give the step up and
/// none hangs. Method: a kernel of rank 1 that fails once, forward and backward, in a step of one batch and in the second batch of a step; steps and updates against those of an undisturbed world.
#[test]
fn a_rank_out_of_memory() {
    let all: Vec<u32> = (0..ROWS).collect();
    let (one, two) = ([&all[..]], [&all[..5], &all[5..]]);
    let run = |batches: &[&[u32]], failing: Option<(&'static str, usize)>| {
        train_on(
            2,
            batches,
            (1 << 20, Element::F32),
            |_, _| (),
            move |rank| {
                let calls = AtomicUsize::new(0);
                emulated::altered(Precision::Bf16, move |launch| {
                    let (kernel, call) = failing.filter(|_| rank == 1)?;
                    let is_it = launch.kernel == kernel && calls.fetch_add(1, Ordering::SeqCst) == call;
                    is_it.then(|| Err(crate::Error::Internal("CUDA_ERROR_OUT_OF_MEMORY".to_owned())))
                })
            },
        )
    };
    let (forward, back) = ("attention_32", "attention_backward_queries_32");
    // two layers a batch
    for (batches, kernel, call) in [(&one[..], forward, 1), (&one, back, 0), (&two, forward, 3), (&two, back, 1)] {
        let (found, expected) = (run(batches, Some((kernel, call))), run(batches, None));
        for ((steps, params), (expected_steps, expected)) in found.iter().zip(&expected) {
            let outcomes = |steps: &[Result<StepOutcome>]| steps.iter().map(|step| *step.as_ref().unwrap()).collect::<Vec<_>>();
            assert_eq!(outcomes(steps), outcomes(expected_steps), "{kernel} {call}");
            assert!(params == expected, "{kernel} {call}");
        }
    }
    // the last layer's gradient is on its way to the others; the first batch's is in the sum
    for (batches, call) in [(&one[..], 1), (&two, 2)] {
        for (steps, _) in run(batches, Some((back, call))) {
            assert!(matches!(steps[0].as_ref().unwrap_err(), crate::Error::Collective(_)), "{:?}", steps[0]);
        }
    }
}

/// Goal: gradients that are bf16 on their way give nearly the same update, to the same bits on all ranks. Method: a world of three, both ways.
#[test]
fn gradients_in_bf16() {
    let all: Vec<u32> = (0..ROWS).collect();
    let run = |element| train_on(3, &[&all[..]], (1 << 20, element), |_, _| (), |_| emulated::gpu());
    let (wide, narrow) = (run(Element::F32), run(Element::Bf16));
    assert!(narrow.iter().all(|rank| rank.1 == narrow[0].1));
    let (found, expected) = (narrow[0].0[0].as_ref().unwrap(), wide[0].0[0].as_ref().unwrap());
    assert_eq!(found.loss, expected.loss);
    assert!(found.grad_norm != expected.grad_norm && (found.grad_norm / expected.grad_norm - 1.0).abs() < 1e-3);
    let (_, before, _) = small_run(0.1).unwrap();
    let moved = |after: &[f32]| after.iter().zip(&before).map(|(a, b)| f64::from(a - b)).collect::<Vec<_>>();
    let cosine = cosine(&moved(&narrow[0].1), &moved(&wide[0].1));
    assert!(cosine > 0.99, "{cosine}");
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
