//! The library itself: its functions, version, and what it says of errors.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use crate::{Error, Result};

/// Where NCCL is looked for, in this order, unless ARTEL_NCCL names a file.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];
/// Names a file to load instead.
const VARIABLE: &str = "ARTEL_NCCL";
/// The first version with all that is used: 2.18.
const LEAST_VERSION: c_int = 21800;
/// `NCCL_UNIQUE_ID_BYTES`.
const ID_BYTES: usize = 128;

/// A communicator as NCCL hands it out.
pub(super) type RawComm = *mut c_void;
/// `ncclResult_t`.
pub(super) type Code = c_int;

/// `ncclSuccess`.
pub(super) const SUCCESS: Code = 0;
/// `ncclInProgress`.
pub(super) const IN_PROGRESS: Code = 7;

/// What the ranks of a world find one another by: made by one of them, known to all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct UniqueId([u8; ID_BYTES]);

/// `ncclConfig_t` of version 2.18, which every later library takes too.
#[repr(C)]
pub(super) struct Config {
    size: usize,
    magic: c_uint,
    version: c_uint,
    blocking: c_int,
    cga_cluster_size: c_int,
    min_ctas: c_int,
    max_ctas: c_int,
    net_name: *const c_char,
    split_share: c_int,
}

/// `NCCL_CONFIG_UNDEF_INT`: the library decides.
const UNDEFINED: c_int = c_int::MIN;

impl Config {
    /// One in which calls return at once.
    pub(super) fn non_blocking() -> Self {
        Self {
            size: size_of::<Self>(),
            magic: 0xcafe_beef,
            version: LEAST_VERSION as c_uint,
            blocking: 0,
            cga_cluster_size: UNDEFINED,
            min_ctas: UNDEFINED,
            max_ctas: UNDEFINED,
            net_name: std::ptr::null(),
            split_share: UNDEFINED,
        }
    }
}

/// The functions, by their names without `nccl`.
pub(super) struct Functions {
    pub get_unique_id: unsafe extern "C" fn(*mut UniqueId) -> Code,
    pub comm_init_rank_config: unsafe extern "C" fn(*mut RawComm, c_int, UniqueId, c_int, *mut Config) -> Code,
    pub comm_get_async_error: unsafe extern "C" fn(RawComm, *mut Code) -> Code,
    pub comm_abort: unsafe extern "C" fn(RawComm) -> Code,
    pub comm_finalize: unsafe extern "C" fn(RawComm) -> Code,
    pub comm_destroy: unsafe extern "C" fn(RawComm) -> Code,
    pub all_reduce: unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, RawComm, *mut c_void) -> Code,
    pub all_gather: unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, RawComm, *mut c_void) -> Code,
    get_error_string: unsafe extern "C" fn(Code) -> *const c_char,
    get_last_error: unsafe extern "C" fn(RawComm) -> *const c_char,
}

/// A loaded library; it is never unloaded.
pub struct Library {
    pub(super) functions: Functions,
    version: c_int,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NCCL {}", self.version())
    }
}

impl UniqueId {
    /// As bytes, to be sent to the other ranks.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// From another rank's bytes.
    ///
    /// # Errors
    /// They are not 128.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let found = bytes.len();
        let id = bytes.try_into().map_err(|_| Error::Collective(format!("an NCCL id of {found} bytes, expected {ID_BYTES}")))?;
        Ok(Self(id))
    }
}

impl Library {
    /// Loads the machine's NCCL: the file that ARTEL_NCCL names, or `libnccl.so.2` where the system looks for libraries.
    ///
    /// # Errors
    /// There is none, or it is older than 2.18.
    pub fn load() -> Result<Arc<Self>> {
        if let Some(file) = std::env::var_os(VARIABLE) {
            return Self::load_file(&file.to_string_lossy());
        }
        let mut reasons = Vec::new();
        for name in NAMES {
            match Self::load_file(name) {
                Ok(library) => return Ok(library),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        Err(Error::input(format!(
            "{}; install NCCL 2.18 or newer (it comes with PyTorch's packages too), add its folder to LD_LIBRARY_PATH or name the file in {VARIABLE}",
            reasons[0]
        )))
    }

    /// Loads this file.
    ///
    /// # Errors
    /// It cannot be loaded, is no NCCL, or one older than 2.18.
    pub fn load_file(name: &str) -> Result<Arc<Self>> {
        // SAFETY: NCCL's initialisers do nothing that could harm; the user chose the file.
        let loaded =
            unsafe { libloading::Library::new(name) }.map_err(|e| Error::input(format!("NCCL cannot be loaded: {e}")))?;
        // SAFETY: the types are those of nccl.h, unchanged since 2.14.
        unsafe {
            let get_version = symbol::<unsafe extern "C" fn(*mut c_int) -> Code>(&loaded, name, "ncclGetVersion")?;
            let mut version = 0;
            if get_version(&mut version) != SUCCESS || version < LEAST_VERSION {
                return Err(Error::input(format!("{name} is NCCL {}, too old: 2.18 or newer is needed", dotted(version))));
            }
            let functions = Functions {
                get_unique_id: symbol(&loaded, name, "ncclGetUniqueId")?,
                comm_init_rank_config: symbol(&loaded, name, "ncclCommInitRankConfig")?,
                comm_get_async_error: symbol(&loaded, name, "ncclCommGetAsyncError")?,
                comm_abort: symbol(&loaded, name, "ncclCommAbort")?,
                comm_finalize: symbol(&loaded, name, "ncclCommFinalize")?,
                comm_destroy: symbol(&loaded, name, "ncclCommDestroy")?,
                all_reduce: symbol(&loaded, name, "ncclAllReduce")?,
                all_gather: symbol(&loaded, name, "ncclAllGather")?,
                get_error_string: symbol(&loaded, name, "ncclGetErrorString")?,
                get_last_error: symbol(&loaded, name, "ncclGetLastError")?,
            };
            // it stays loaded for good: NCCL has threads of its own that outlive what they were begun for
            std::mem::forget(loaded);
            Ok(Arc::new(Self { functions, version }))
        }
    }

    /// Its version, as "2.28.9". The ranks of a world need the same.
    pub fn version(&self) -> String {
        dotted(self.version)
    }

    /// A new id for a world.
    ///
    /// # Errors
    /// NCCL finds no network to listen on.
    pub fn unique_id(&self) -> Result<UniqueId> {
        let mut id = UniqueId([0; ID_BYTES]);
        // SAFETY: the id is as large as NCCL's.
        match unsafe { (self.functions.get_unique_id)(&mut id) } {
            SUCCESS => Ok(id),
            code => {
                Err(Error::Collective(format!("NCCL cannot make a world's id: {}", self.describe(code, std::ptr::null_mut()))))
            }
        }
    }

    /// What a code means, what NCCL last said, and what can be done.
    pub(super) fn describe(&self, code: Code, comm: RawComm) -> String {
        // SAFETY: both give static texts or null; a null communicator is allowed.
        let (meaning, last) =
            unsafe { (text((self.functions.get_error_string)(code)), text((self.functions.get_last_error)(comm))) };
        let last = if last.is_empty() { String::new() } else { format!(", last error: {}", last.trim()) };
        format!("{meaning} (ncclResult {code}{last}); {}", advice(code))
    }
}

/// # Safety
/// `T` is the function's type.
unsafe fn symbol<T: Copy>(library: &libloading::Library, file: &str, name: &str) -> Result<T> {
    // SAFETY: the caller's promise.
    unsafe { library.get::<T>(name.as_bytes()) }
        .map(|symbol| *symbol)
        .map_err(|_| Error::input(format!("{file} is no NCCL that can be used: it lacks {name}; 2.18 or newer is needed")))
}

/// # Safety
/// A C string or null.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

fn dotted(version: c_int) -> String {
    format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
}

fn advice(code: Code) -> &'static str {
    match code {
        1 => "the GPU or its driver failed: see `nvidia-smi` and the kernel's log on this machine",
        2 => "a system call failed: see with NCCL_DEBUG=INFO; often the wrong network (NCCL_SOCKET_IFNAME) or a small /dev/shm",
        4 | 5 => "NCCL was used in a way that it refuses, as with two ranks on one GPU",
        6 => "another rank failed or was lost: its log has the reason",
        _ => "see with NCCL_DEBUG=INFO",
    }
}
