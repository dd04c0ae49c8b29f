//! Where a device's time goes: every kernel and product waited for and timed. That costs what work could overlap, so the sum is more than an
//! undisturbed step takes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use candle_core::Device;

use super::{Backend, Launch, Precision, Product};
use crate::Result;

/// How often something was begun, and how long all of it took.
pub type Share = (u64, Duration);

/// What was timed, by name.
#[derive(Debug, Clone, Default)]
pub struct Times {
    shares: Arc<Mutex<BTreeMap<String, Share>>>,
}

/// A backend whose work is timed.
#[derive(Debug)]
pub struct Profile {
    rest: Box<dyn Backend>,
    times: Times,
}

impl Times {
    /// Everything so far, what took longest first; it is forgotten with that.
    pub fn take(&self) -> Vec<(String, Share)> {
        let mut shares: Vec<_> =
            std::mem::take(&mut *self.shares.lock().expect("no thread panics with it")).into_iter().collect();
        shares.sort_by_key(|(_, (_, took))| std::cmp::Reverse(*took));
        shares
    }

    fn add(&self, name: String, took: Duration) {
        let mut shares = self.shares.lock().expect("no thread panics with it");
        let share = shares.entry(name).or_default();
        *share = (share.0 + 1, share.1 + took);
    }
}

impl Profile {
    /// Times what this backend does.
    pub fn of(rest: Box<dyn Backend>) -> (Self, Times) {
        let times = Times::default();
        (Self { rest, times: times.clone() }, times)
    }

    fn timed(&self, name: String, work: impl FnOnce() -> Result<()>) -> Result<()> {
        // copies and fills of before are not its own
        self.rest.synchronize()?;
        let begun = Instant::now();
        work()?;
        self.rest.synchronize()?;
        self.times.add(name, begun.elapsed());
        Ok(())
    }
}

impl Backend for Profile {
    fn device(&self) -> &Device {
        self.rest.device()
    }

    fn describe(&self) -> String {
        self.rest.describe()
    }

    fn precision(&self) -> Precision {
        self.rest.precision()
    }

    fn multiprocessors(&self) -> u32 {
        self.rest.multiprocessors()
    }

    fn free_bytes(&self) -> Result<usize> {
        self.rest.free_bytes()
    }

    fn synchronize(&self) -> Result<()> {
        self.rest.synchronize()
    }

    unsafe fn launch(&self, launch: &Launch) -> Result<()> {
        // SAFETY: the caller's promise.
        self.timed(launch.kernel.clone(), || unsafe { self.rest.launch(launch) })
    }

    unsafe fn multiply(&self, product: &Product) -> Result<()> {
        let (m, n, k) = product.sizes;
        let times = product.repeats.count;
        let name = format!("product {:?} to {:?}, {m} x {n} x {k} x {times}", product.operands, product.result);
        // SAFETY: the caller's promise.
        self.timed(name, || unsafe { self.rest.multiply(product) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::check::{small_run, table};
    use crate::gpu::{DeviceTrainer, Gpu, emulated};
    use crate::interrupt::Interrupt;
    use crate::state::TrainState;

    /// Goal: a profiled step does what one that is not does, and every kernel of it is there. Method: both, on the emulator.
    #[test]
    fn a_profiled_step() {
        let step = |gpu: Gpu| {
            let (encoder, params, settings) = small_run(0.1).unwrap();
            let state = TrainState::new(params).unwrap();
            let mut trainer = DeviceTrainer::new(Arc::new(gpu), Arc::new(encoder), settings, &state).unwrap();
            trainer.step(&table(4), &[&[0, 1, 2, 3]], 1e-3, &Interrupt::default()).unwrap()
        };
        let (profile, times) = Profile::of(Box::new(emulated::emulated(Precision::Bf16)));
        assert_eq!(step(Gpu::new(Box::new(profile)).unwrap()), step(emulated::gpu()));
        let found = times.take();
        assert!(found.is_sorted_by_key(|(_, (_, took))| std::cmp::Reverse(*took)) && times.take().is_empty());
        let count =
            |name: &str| found.iter().filter(|(found, _)| found.starts_with(name)).map(|(_, (count, _))| count).sum::<u64>();
        assert_eq!((count("attention_32"), count("adamw"), count("row_sums")), (2, 1, 3), "{found:?}");
        assert!(count("product Narrow to Wide") == 8 && count("product Wide to Wide") > 0);
    }
}
