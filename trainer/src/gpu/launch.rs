//! Kernels with their arguments, and matrix products.

/// The most bytes of one argument.
const ARGUMENT: usize = 64;

/// A kernel, its grid and its arguments.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Its name.
    pub kernel: String,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of shared memory beside what the kernel declares.
    pub shared_bytes: u32,
    /// The arguments, each as the kernel's parameter lies in memory.
    arguments: Vec<[u64; ARGUMENT / 8]>,
}

/// What can be an argument of a kernel.
///
/// # Safety
/// The type lies in memory as the kernel's parameter does, in at most 64 bytes.
pub(super) unsafe trait Argument: Copy {}

// SAFETY: the same types in C: unsigned int, float, a pointer.
unsafe impl Argument for u32 {}
// SAFETY: as above.
unsafe impl Argument for f32 {}
// SAFETY: as above.
unsafe impl Argument for u64 {}
// SAFETY: as above: double.
unsafe impl Argument for f64 {}

impl Launch {
    /// A kernel over this grid.
    pub(super) fn new(kernel: impl Into<String>, grid: [usize; 3], threads: u32) -> Self {
        let grid = grid.map(|blocks| u32::try_from(blocks).expect("a micro-batch has fewer than 2^32 blocks"));
        Self { kernel: kernel.into(), grid, threads, shared_bytes: 0, arguments: Vec::new() }
    }

    /// With shared memory for so many floats.
    pub(super) fn shared_floats(mut self, len: usize) -> Self {
        self.shared_bytes = (len * size_of::<f32>()) as u32;
        self
    }

    /// With one more argument.
    pub(super) fn with<T: Argument>(mut self, argument: T) -> Self {
        const { assert!(size_of::<T>() <= ARGUMENT) };
        let mut bytes = [0; ARGUMENT / 8];
        // SAFETY: it is at most as large as the place, and any bytes are a value of the place's type.
        unsafe {
            let from = std::ptr::from_ref(&argument).cast::<u8>();
            std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr().cast::<u8>(), size_of::<T>());
        }
        self.arguments.push(bytes);
        self
    }

    /// With a size of the batch or the model.
    pub(super) fn count(self, value: usize) -> Self {
        self.with(u32::try_from(value).expect("sizes of a micro-batch lie below 2^32"))
    }

    /// The arguments' addresses, as launching wants them.
    pub fn arguments(&self) -> Vec<*mut std::ffi::c_void> {
        self.arguments.iter().map(|argument| std::ptr::from_ref(argument).cast_mut().cast()).collect()
    }
}

/// What a matrix's elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// bf16.
    Narrow,
    /// f32, exactly: not rounded to tf32.
    Wide,
    /// f32 that a product may round to tf32; of operands alone.
    Rounded,
}

/// A row-major matrix on the device, or its transpose.
#[derive(Debug, Clone, Copy)]
pub struct Matrix {
    /// Of the first element.
    pub address: u64,
    /// Elements from one row, as it lies in memory, to the next.
    pub stride: usize,
    /// Whether what lies there is the transpose of what is meant.
    pub transposed: bool,
}

/// How often a product is made, each time with the matrices so many elements further on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeats {
    /// Times.
    pub count: usize,
    /// From one left operand to the next.
    pub left: usize,
    /// From one right operand to the next.
    pub right: usize,
    /// From one result to the next.
    pub out: usize,
}

impl Repeats {
    /// One product.
    pub const ONCE: Self = Self { count: 1, left: 0, right: 0, out: 0 };
}

/// out[m, n] = left[m, k] right[k, n], or += it; sums are made in f32.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// (m, n, k).
    pub sizes: (usize, usize, usize),
    /// [m, k].
    pub left: Matrix,
    /// [k, n].
    pub right: Matrix,
    /// [m, n]: its address and the elements from one row to the next.
    pub out: (u64, usize),
    /// Of the operands.
    pub operands: Width,
    /// Of the result: narrow ones are rounded.
    pub result: Width,
    /// Whether it is added to what is there.
    pub accumulate: bool,
    /// How often.
    pub repeats: Repeats,
}
