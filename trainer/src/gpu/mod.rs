//! The encoder's operations on a GPU: the kernels of `trainer/kernels`, and matrix products that sum in f32.
//!
//! The host's side is written once, against [`Backend`]: a CUDA device, or, in tests, an emulator that runs the very kernels
//! on the CPU. Activations are bf16, or f32 ([`Precision`]); parameters, gradients, log-sum-exps, pooled vectors and embeddings are f32; products
//! read a copy of the weights ([`Weights`]).

mod address;
mod batch;
pub mod check;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(test)]
pub(crate) mod emulated;
mod encoder;
pub mod forecast;
pub mod kernels;
mod launch;
mod loss;
mod memory;
mod micro;
mod ops;
mod optimizer;
mod peers;
mod precision;
pub mod profile;
#[cfg(test)]
mod tests;
mod trainer;
mod weights;
mod wire;

pub use batch::DeviceBatch;
pub use encoder::{DeviceEncoder, EncodeOnDevice};
pub use launch::{Launch, Matrix, Product, Repeats, Width};
pub use loss::DeviceLoss;
pub use memory::{in_words, kept_share, step_bytes, tokens_in};
pub(crate) use ops::OnGpu;
pub use optimizer::{Optimizer, Outcome};
pub use peers::{Peers, join};
pub use precision::Precision;
pub use trainer::{DeviceSettings, DeviceTrainer, Next, Others};
pub use weights::Weights;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Tensor};

use crate::model::config::BertConfig;
use crate::nccl::{Bind, Comm};
use crate::{Error, Result};

/// Whether this build knows GPUs.
pub const BUILT: bool = cfg!(feature = "cuda");

/// Opens GPU `ordinal` of those that CUDA_VISIBLE_DEVICES leaves, to compute in this precision.
///
/// # Errors
/// There is none, it is not of use, or this build knows none.
pub fn open(ordinal: usize, precision: Precision) -> Result<Gpu> {
    #[cfg(feature = "cuda")]
    return Gpu::new(Box::new(cuda::Cuda::open(ordinal, precision)?));
    #[cfg(not(feature = "cuda"))]
    Err(Error::input(format!(
        "GPU {ordinal} cannot be used, in {} or otherwise: this artel was built without GPUs; build it with `cargo build --release --features cuda`, see docs/guides/gpu.md",
        precision.name()
    )))
}

/// Refuses a model that the kernels are not made for.
///
/// # Errors
/// It names what is too wide, or of another size than is known.
pub fn check_model(config: &BertConfig) -> Result<()> {
    ops::check_model(config)
}

/// Why GPUs cannot be used though a driver is there; none where there simply is no GPU.
pub fn trouble() -> Option<String> {
    #[cfg(feature = "cuda")]
    return cuda::trouble();
    #[cfg(not(feature = "cuda"))]
    None
}

/// How many GPUs there are, of those that CUDA_VISIBLE_DEVICES leaves.
pub fn count() -> usize {
    #[cfg(feature = "cuda")]
    return cuda::count();
    #[cfg(not(feature = "cuda"))]
    0
}

/// What runs kernels and products, in the order in which they are asked for.
pub trait Backend: Debug + Send + Sync {
    /// Where its tensors lie.
    fn device(&self) -> &Device;

    /// What it is, for people.
    fn describe(&self) -> String;

    /// What its kernels store.
    fn precision(&self) -> Precision;

    /// Its place on the PCI bus, `0000:3b:00.0`, where it has one.
    fn pci_bus_id(&self) -> Option<String> {
        None
    }

    /// Its multiprocessors: how many blocks it takes to keep it busy.
    fn multiprocessors(&self) -> u32;

    /// Bytes that are free on it.
    ///
    /// # Errors
    /// The device is gone.
    fn free_bytes(&self) -> Result<usize>;

    /// Waits until everything that was begun is done.
    ///
    /// # Errors
    /// Some of it failed.
    fn synchronize(&self) -> Result<()>;

    /// What makes a thread one that may call the device's libraries.
    fn binder(&self) -> Bind {
        Arc::new(|| Ok(()))
    }

    /// The rank of a communicator, whose exchanges are kept in order with what is begun here.
    ///
    /// # Errors
    /// The device knows no exchanges.
    fn peers(&self, comm: Comm) -> Result<Box<dyn Peers>> {
        Err(Error::Internal(format!("{} takes part in no exchange: {comm:?}", self.describe())))
    }

    /// Begins a kernel.
    ///
    /// # Errors
    /// There is no such kernel, or the device refused it.
    ///
    /// # Safety
    /// The arguments are those of the kernel, in order; their addresses are of live memory of the device that is as large as the
    /// kernel takes it to be, and what the kernel writes is read by nobody else meanwhile.
    unsafe fn launch(&self, launch: &Launch) -> Result<()>;

    /// Begins a matrix product.
    ///
    /// # Errors
    /// The device refused it.
    ///
    /// # Safety
    /// As for a kernel: its matrices lie in live memory of the device, and the result overlaps neither operand.
    unsafe fn multiply(&self, product: &Product) -> Result<()>;
}

/// A GPU, with memory that operations need for the time of one call.
#[derive(Debug)]
pub struct Gpu {
    backend: Box<dyn Backend>,
    like: Tensor,
    scratch: Mutex<HashMap<&'static str, Tensor>>,
}

/// Where a pass runs, if not on the CPU.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The device.
    pub gpu: &'a Gpu,
    /// The batch, there.
    pub batch: &'a DeviceBatch,
    /// What matrix products read.
    pub weights: &'a Weights,
    /// Whether the forward is followed by its backward, for which it keeps attention's masks.
    pub keep_masks: bool,
}

impl Place<'_> {
    /// The address of activations.
    fn values(&self, tensor: &Tensor) -> Result<u64> {
        address::address(tensor, self.gpu.precision().dtype())
    }

    /// Bytes of so many of their elements.
    fn bytes(&self, len: usize) -> u64 {
        (len * self.gpu.precision().value_bytes()) as u64
    }
}

impl Gpu {
    /// A GPU behind this backend.
    ///
    /// # Errors
    /// It gives no memory.
    pub fn new(backend: Box<dyn Backend>) -> Result<Self> {
        let like = Tensor::zeros(1, backend.precision().dtype(), backend.device())?;
        Ok(Self { backend, like, scratch: Mutex::default() })
    }

    /// Frees what calls left for later ones.
    pub fn release_memory(&self) {
        self.scratch.lock().expect("no thread panics with it").clear();
    }

    /// A tensor of the type and device that activations have.
    pub fn like(&self) -> &Tensor {
        &self.like
    }

    /// What it runs on, for another one to be made around it.
    pub fn into_backend(self) -> Box<dyn Backend> {
        self.backend
    }

    /// What it runs on.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Where its tensors lie.
    pub fn device(&self) -> &Device {
        self.backend.device()
    }

    /// What it computes with.
    pub fn precision(&self) -> Precision {
        self.backend.precision()
    }

    /// At least `len` elements under a name; the next call of that name gets the same memory, which is well since the device goes
    /// on in order.
    fn scratch(&self, name: &'static str, len: usize, dtype: DType) -> Result<Tensor> {
        let mut all = self.scratch.lock().expect("no thread panics with it");
        match all.get(name) {
            Some(held) if held.elem_count() >= len && held.dtype() == dtype => Ok(held.clone()),
            _ => {
                all.remove(name);
                let made = Tensor::zeros(len.next_power_of_two(), dtype, self.device())?;
                all.insert(name, made.clone());
                Ok(made)
            }
        }
    }
}
