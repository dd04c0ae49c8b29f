//! A CUDA device: candle's, with the kernels of this crate loaded beside candle's own and its cuBLAS handle.

mod peers;

use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

use candle_core::Device;
use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::cublas::{result::gemm_strided_batched_ex, sys as blas};
use candle_core::cuda_backend::cudarc::driver::result::{device, launch_kernel, mem_pool};
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaFunction, CudaModule, DriverError, sys};

use self::peers::CudaPeers;
use super::kernels::KERNEL_FILES;
use super::{Backend, Launch, Matrix, Peers, Precision, Product, Width};
use crate::nccl::{Bind, Comm};
use crate::{Error, Result};

/// Room for a PCI address and the zero at its end: CUDA writes 13 bytes.
const PCI_BUS_ID: usize = 32;
/// The error of a machine without a GPU or a driver.
const NO_DEVICE: &str = "CUDA_ERROR_NO_DEVICE";
/// The least compute capability: bf16 on tensor cores.
const LEAST_CAPABILITY: (i32, i32) = (8, 0);

/// The text of a file that the build made.
macro_rules! ptx {
    ($name:literal) => {
        include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx"))
    };
}

/// The kernels, in the order of [`KERNEL_FILES`], as PTX for compute capability 8.0, which the driver compiles for the device at hand: for bf16 and for f32.
const PTX: [[&str; 2]; 6] = [
    [ptx!("rows"), ptx!("rows_wide")],
    [ptx!("activation"), ptx!("activation_wide")],
    [ptx!("pooling"), ptx!("pooling_wide")],
    [ptx!("attention"), ptx!("attention_wide")],
    [ptx!("weights"), ptx!("weights_wide")],
    [ptx!("loss"), ptx!("loss")],
];

/// A device.
pub struct Cuda {
    device: Device,
    cuda: CudaDevice,
    kernels: HashMap<&'static str, CudaFunction>,
    multiprocessors: u32,
    name: String,
    precision: Precision,
}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cuda").field("device", &self.cuda).finish_non_exhaustive()
    }
}

fn failed(what: impl std::fmt::Display, error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("{what}: {}", first_line(error)))
}

/// What an error says, without candle's backtrace.
fn first_line(error: impl std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// What a driver's error means: `DriverError(CUDA_ERROR_NAME, "text")`, whose text is missing where the driver is.
fn in_words(error: &str) -> String {
    if error.contains(NO_DEVICE) {
        return "this process sees no NVIDIA GPU: a GPU and its driver (libcuda.so.1) are needed, and CUDA_VISIBLE_DEVICES must not hide it; see `artel doctor`, and `nvidia-smi` where a driver is".to_owned();
    }
    let name = error.split(['(', ',', ')']).find(|part| part.starts_with("CUDA_ERROR"));
    let text = error.split('"').nth(1).filter(|text| !text.starts_with('<'));
    let known =
        name.map(|name| format!("the NVIDIA driver says {name}{}", text.map_or(String::new(), |text| format!(", {text}"))));
    format!(
        "{}; see `nvidia-smi`, and whether driver and CUDA libraries are of one version",
        known.unwrap_or_else(|| error.to_owned())
    )
}

impl Cuda {
    /// Device `ordinal` of those that CUDA_VISIBLE_DEVICES leaves, with a stream of its own and the kernels of a precision.
    ///
    /// # Errors
    /// There is no such device, its driver is too old, or it is of a compute capability below 8.0.
    pub fn open(ordinal: usize, precision: Precision) -> Result<Self> {
        let device = Device::new_cuda_with_stream(ordinal).map_err(|e| {
            let why = in_words(&first_line(e));
            Error::input(format!("CUDA device {ordinal} cannot be opened: {why}"))
        })?;
        let cuda = device.as_cuda_device()?.clone();
        // SAFETY: all tensors of the device are made and used on its one stream.
        unsafe { cuda.disable_event_tracking() };
        let context = cuda.cuda_stream().context().clone();
        keep_freed_memory(&context).map_err(|e| failed("the device's memory pool", e))?;
        let found = context.compute_capability().map_err(|e| failed("the device's compute capability", e))?;
        if found < LEAST_CAPABILITY {
            let (major, minor) = found;
            return Err(Error::input(format!(
                "CUDA device {ordinal} has compute capability {major}.{minor}; training in bf16 needs 8.0 (Ampere) or newer"
            )));
        }
        // or parts of a bf16 product may be summed in bf16
        let mode = blas::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
        // SAFETY: the handle lives as long as the device.
        unsafe { blas::cublasSetMathMode(*cuda.cublas_handle().handle(), mode) }
            .result()
            .map_err(|e| failed("cuBLAS's mode", e))?;
        let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let multiprocessors = context.attribute(attribute).map_err(|e| failed("the device's multiprocessors", e))?;
        let (major, minor) = found;
        let name = context.name().map_err(|e| failed("the device's name", e))?;
        let name = format!("{name}, compute capability {major}.{minor}, {multiprocessors} multiprocessors");
        let mut kernels = HashMap::new();
        for (file, ptx) in KERNEL_FILES.iter().zip(PTX) {
            let module = context.load_module(ptx[usize::from(precision.is_wide())].into()).map_err(|e| {
                let why = first_line(e);
                Error::input(format!(
                    "CUDA device {ordinal} takes no kernels ({}.cu: {why}); update its driver, 580 or newer for CUDA 13.0",
                    file.name
                ))
            })?;
            for &kernel in file.kernels {
                kernels.insert(kernel, function(&module, kernel)?);
            }
        }
        Ok(Self { device, cuda, kernels, multiprocessors: multiprocessors as u32, name, precision })
    }
}

/// How many devices there are; none where the driver is missing.
pub fn count() -> usize {
    CudaContext::device_count().map_or(0, |count| usize::try_from(count).unwrap_or(0))
}

/// What the driver says where it is there and gives no devices.
pub fn trouble() -> Option<String> {
    let error = CudaContext::device_count().err()?;
    let text = first_line(format!("{error:?}"));
    (!text.contains(NO_DEVICE)).then(|| in_words(&text))
}

impl Cuda {
    /// Makes the device that of the calling thread.
    fn bind(&self) -> Result<()> {
        bind(self.cuda.cuda_stream().context())
    }
}

/// Lets the device's pool keep what is freed for what is wanted next; else it gives it back whenever it is waited for.
fn keep_freed_memory(context: &CudaContext) -> std::result::Result<(), DriverError> {
    if !context.has_async_alloc() {
        return Ok(());
    }
    pool_attribute(context, sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, Some(u64::MAX)).map(|_| ())
}

/// Bytes that the device's pool keeps and nobody uses.
fn kept_by_pool(context: &CudaContext) -> std::result::Result<usize, DriverError> {
    if !context.has_async_alloc() {
        return Ok(0);
    }
    let get = |attribute| pool_attribute(context, attribute, None);
    let reserved = get(sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?;
    let used = get(sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?;
    Ok(reserved.saturating_sub(used) as usize)
}

/// Sets an attribute of the device's pool, or reads it; both are u64.
fn pool_attribute(
    context: &CudaContext,
    attribute: sys::CUmemPool_attribute,
    set: Option<u64>,
) -> std::result::Result<u64, DriverError> {
    let mut value = set.unwrap_or_default();
    let at = std::ptr::from_mut(&mut value).cast();
    // SAFETY: the device is the context's; all attributes that are asked for are cuuint64_t.
    unsafe {
        let pool = device::get_mem_pool(context.cu_device())?;
        match set {
            Some(_) => mem_pool::set_attribute(pool, attribute, at)?,
            None => mem_pool::get_attribute(pool, attribute, at)?,
        }
    }
    Ok(value)
}

fn bind(context: &CudaContext) -> Result<()> {
    context.bind_to_thread().map_err(|e| failed("the device cannot be used by this thread", e))
}

fn function(module: &Arc<CudaModule>, kernel: &str) -> Result<CudaFunction> {
    module.load_function(kernel).map_err(|e| failed(format!("kernel {kernel}"), e))
}

impl Backend for Cuda {
    fn device(&self) -> &Device {
        &self.device
    }

    fn describe(&self) -> String {
        self.name.clone()
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn pci_bus_id(&self) -> Option<String> {
        let mut name: [c_char; PCI_BUS_ID] = [0; PCI_BUS_ID];
        let device = self.cuda.cuda_stream().context().cu_device();
        // SAFETY: the device is the context's; at most so many bytes are written, the last of them a zero.
        unsafe { sys::cuDeviceGetPCIBusId(name.as_mut_ptr(), PCI_BUS_ID as c_int, device) }.result().ok()?;
        let bytes = name.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8).collect();
        String::from_utf8(bytes).ok()
    }

    fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    fn free_bytes(&self) -> Result<usize> {
        // what was freed counts only once the device has come by
        self.synchronize()?;
        let context = self.cuda.cuda_stream().context().clone();
        let free = || Ok::<_, DriverError>(context.mem_get_info()?.0 + kept_by_pool(&context)?);
        free().map_err(|e| failed("the device's free memory", e))
    }

    fn synchronize(&self) -> Result<()> {
        self.cuda.cuda_stream().synchronize().map_err(|e| failed("the device's work", e))
    }

    fn binder(&self) -> Bind {
        let context = self.cuda.cuda_stream().context().clone();
        Arc::new(move || bind(&context))
    }

    fn peers(&self, comm: Comm) -> Result<Box<dyn Peers>> {
        Ok(Box::new(CudaPeers::new(comm, self.cuda.cuda_stream())?))
    }

    unsafe fn launch(&self, launch: &Launch) -> Result<()> {
        let kernel = self
            .kernels
            .get(launch.kernel.as_str())
            .ok_or_else(|| Error::Internal(format!("there is no kernel {}", launch.kernel)))?;
        let [x, y, z] = launch.grid;
        let stream = self.cuda.cuda_stream();
        self.bind()?;
        // SAFETY: the caller's promise; the arguments live until the call returns, by when the driver has copied them.
        let begun = unsafe {
            let (function, mut arguments) = (kernel.cu_function(), launch.arguments());
            launch_kernel(function, (x, y, z), (launch.threads, 1, 1), launch.shared_bytes, stream.cu_stream(), &mut arguments)
        };
        begun.map_err(|e| failed(format!("kernel {}", launch.kernel), e))
    }

    unsafe fn multiply(&self, product: &Product) -> Result<()> {
        // cuBLAS counts columns first: the transposed product of what it sees as transposes
        self.bind()?;
        let (m, n, k) = product.sizes;
        let operation = |matrix: Matrix| match matrix.transposed {
            true => blas::cublasOperation_t::CUBLAS_OP_T,
            false => blas::cublasOperation_t::CUBLAS_OP_N,
        };
        let (alpha, beta) = (1.0f32, if product.accumulate { 1.0f32 } else { 0.0 });
        let type_of = |width| match width {
            Width::Narrow => blas::cudaDataType_t::CUDA_R_16BF,
            Width::Wide | Width::Rounded => blas::cudaDataType_t::CUDA_R_32F,
        };
        let sums = match product.operands {
            Width::Rounded => blas::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
            Width::Narrow | Width::Wide => blas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        };
        let (operands, result) = (type_of(product.operands), type_of(product.result));
        let ((out, out_stride), repeats) = (product.out, product.repeats);
        // SAFETY: the caller's promise; the handle is of the device's stream.
        let begun = unsafe {
            gemm_strided_batched_ex(
                *self.cuda.cublas_handle().handle(),
                operation(product.right),
                operation(product.left),
                n as i32,
                m as i32,
                k as i32,
                std::ptr::from_ref(&alpha).cast(),
                product.right.address as *const c_void,
                operands,
                product.right.stride as i32,
                repeats.right as i64,
                product.left.address as *const c_void,
                operands,
                product.left.stride as i32,
                repeats.left as i64,
                std::ptr::from_ref(&beta).cast(),
                out as *mut c_void,
                result,
                out_stride as i32,
                repeats.out as i64,
                repeats.count as i32,
                sums,
                blas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        begun.map_err(|e| failed(format!("a product of {m} x {k} and {k} x {n}"), e))
    }
}
