//! The context, streams and memory of one GPU: thin, checked calls of the driver.

use std::ffi::CStr;
use std::os::raw::{c_int, c_void};
use std::ptr::{null, null_mut};

use super::functions::{DevicePtr, Driver, Handle};
use super::library::Library;
use super::pinned::PinnedPool;
use crate::{Error, Result};

/// `CU_STREAM_NON_BLOCKING`: the stream does not wait for the default stream.
const NON_BLOCKING: u32 = 1;
/// `CU_EVENT_DISABLE_TIMING`.
const WITHOUT_TIMING: u32 = 2;
/// `CU_MEMPOOL_ATTR_RELEASE_THRESHOLD`.
const RELEASE_THRESHOLD: c_int = 4;
/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`, `…_MINOR`.
const CAPABILITY: [c_int; 2] = [75, 76];
/// `CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED`: 0 on a part of a GPU that a virtual machine has.
const MEMORY_POOLS: c_int = 115;

/// The primary context of a GPU, with one stream for operations and one for uploads that run at the same time.
pub(super) struct Context {
    pub(super) driver: Driver,
    pub(super) pinned: PinnedPool,
    device: c_int,
    context: Handle,
    /// The stream of operations. Null until it is created.
    stream: Handle,
    /// The stream of uploads. Null until it is created.
    copies: Handle,
    /// Whether memory is allocated and freed in the order of the stream.
    has_pool: bool,
}

// SAFETY: the driver's functions may be called from any thread; each call makes the context current first.
unsafe impl Send for Context {}
// SAFETY: as above; the fields are not changed after creation.
unsafe impl Sync for Context {}

impl Context {
    /// Opens a GPU.
    pub(super) fn open(library: &Library, number: usize) -> Result<Context> {
        let driver = Driver::load(library)?;
        // SAFETY: every pointer is to a local of the type that the function writes; the order of the calls is the
        // driver's: initialise, choose a device, retain its context, make it current.
        unsafe {
            check(&driver, "cuInit", (driver.cuInit)(0))?;
            let mut count = 0;
            check(&driver, "cuDeviceGetCount", (driver.cuDeviceGetCount)(&mut count))?;
            let count = count.max(0) as usize;
            if number >= count {
                return Err(Error::Number { number, count });
            }
            let (mut device, mut retained) = (0, null_mut());
            check(&driver, "cuDeviceGet", (driver.cuDeviceGet)(&mut device, number as c_int))?;
            let retain = (driver.cuDevicePrimaryCtxRetain)(&mut retained, device);
            check(&driver, "cuDevicePrimaryCtxRetain", retain)?;
            // From here on, `drop` releases the context after a failure.
            let pinned = PinnedPool::default();
            let [stream, copies] = [null_mut(); 2];
            let mut context =
                Context { driver, pinned, device, context: retained, stream, copies, has_pool: false };
            context.stream()?;
            for stream in [&mut context.stream, &mut context.copies] {
                let created = (context.driver.cuStreamCreate)(stream, NON_BLOCKING);
                check(&context.driver, "cuStreamCreate", created)?;
            }
            context.has_pool = context.attribute(MEMORY_POOLS).is_ok_and(|value| value != 0);
            if context.has_pool {
                context.keep_freed_memory()?;
            }
            Ok(context)
        }
    }

    /// Keeps freed memory in the pool. By default, a synchronisation returns it to the system.
    fn keep_freed_memory(&self) -> Result<()> {
        let (mut pool, mut threshold) = (null_mut(), u64::MAX);
        // SAFETY: the first function writes one handle; the second reads one `u64` for this attribute.
        unsafe {
            let found = (self.driver.cuDeviceGetDefaultMemPool)(&mut pool, self.device);
            self.check("cuDeviceGetDefaultMemPool", found)?;
            let threshold = (&raw mut threshold).cast();
            let set = (self.driver.cuMemPoolSetAttribute)(pool, RELEASE_THRESHOLD, threshold);
            self.check("cuMemPoolSetAttribute", set)
        }
    }

    /// The stream, with the context current in this thread.
    pub(super) fn stream(&self) -> Result<Handle> {
        // SAFETY: the context is retained for the lifetime of `self`.
        self.check("cuCtxSetCurrent", unsafe { (self.driver.cuCtxSetCurrent)(self.context) })?;
        Ok(self.stream)
    }

    /// The stream of [`Uploads`](super::Uploads), with the context current in this thread.
    pub(super) fn copy_stream(&self) -> Result<Handle> {
        self.stream()?;
        Ok(self.copies)
    }

    /// Records an event in a stream.
    pub(super) fn record(&self, event: Handle, stream: Handle) -> Result<()> {
        self.stream()?;
        // SAFETY: event and stream exist.
        self.check("cuEventRecord", unsafe { (self.driver.cuEventRecord)(event, stream) })
    }

    /// Turns a status of the driver into a result.
    pub(super) fn check(&self, function: &'static str, status: c_int) -> Result<()> {
        check(&self.driver, function, status)
    }

    /// The GPU's name.
    pub(super) fn name(&self) -> Result<String> {
        let mut name = [0u8; 256];
        // SAFETY: the function writes at most 255 bytes and a zero.
        let status = unsafe { (self.driver.cuDeviceGetName)(name.as_mut_ptr().cast(), 255, self.device) };
        self.check("cuDeviceGetName", status)?;
        let name = CStr::from_bytes_until_nul(&name).map(CStr::to_string_lossy);
        Ok(name.map(|name| name.into_owned()).unwrap_or_default())
    }

    /// The compute capability: `[9, 0]`.
    pub(super) fn capability(&self) -> Result<[i32; 2]> {
        Ok([self.attribute(CAPABILITY[0])?, self.attribute(CAPABILITY[1])?])
    }

    fn attribute(&self, attribute: c_int) -> Result<i32> {
        let mut value = 0;
        // SAFETY: the function writes one integer.
        let status = unsafe { (self.driver.cuDeviceGetAttribute)(&mut value, attribute, self.device) };
        self.check("cuDeviceGetAttribute", status)?;
        Ok(value)
    }

    /// The size of the GPU's memory.
    pub(super) fn memory(&self) -> Result<usize> {
        let mut bytes = 0;
        // SAFETY: the function writes one integer.
        self.check("cuDeviceTotalMem", unsafe {
            (self.driver.cuDeviceTotalMem_v2)(&mut bytes, self.device)
        })?;
        Ok(bytes)
    }

    /// The free memory in bytes, without freed memory that is kept in the pool.
    pub(super) fn free_memory(&self) -> Result<usize> {
        self.stream()?;
        let [mut free, mut total] = [0; 2];
        // SAFETY: the function writes two integers.
        self.check("cuMemGetInfo", unsafe { (self.driver.cuMemGetInfo_v2)(&mut free, &mut total) })?;
        Ok(free)
    }

    /// Allocates memory: in the order of the stream, if the GPU has memory pools.
    pub(super) fn allocate(&self, bytes: usize) -> Result<DevicePtr> {
        let (stream, bytes) = (self.stream()?, bytes.max(1));
        let mut pointer = 0;
        // SAFETY: both functions write one address.
        let (name, status) = unsafe {
            if self.has_pool {
                ("cuMemAllocAsync", (self.driver.cuMemAllocAsync)(&mut pointer, bytes, stream))
            } else {
                ("cuMemAlloc", (self.driver.cuMemAlloc_v2)(&mut pointer, bytes))
            }
        };
        self.check(name, status)?;
        Ok(pointer)
    }

    /// Frees memory after the work already on the stream.
    ///
    /// # Safety
    /// The address is from [`Context::allocate`], and is not used afterwards.
    pub(super) unsafe fn free(&self, pointer: DevicePtr) {
        // A failure here means that the context is lost, which the next call reports.
        if let Ok(stream) = self.stream() {
            // SAFETY: required of the caller. `cuMemFree` waits for the work that uses the memory.
            unsafe {
                if self.has_pool {
                    (self.driver.cuMemFreeAsync)(pointer, stream);
                } else {
                    (self.driver.cuMemFree_v2)(pointer);
                }
            }
        }
    }

    /// Waits for all work of the stream.
    pub(super) fn synchronize(&self) -> Result<()> {
        let stream = self.stream()?;
        // SAFETY: the stream is valid for the lifetime of `self`.
        self.check("cuStreamSynchronize", unsafe { (self.driver.cuStreamSynchronize)(stream) })
    }

    /// Creates an event without timing.
    pub(super) fn event(&self) -> Result<Handle> {
        self.stream()?;
        let mut event = null_mut();
        // SAFETY: the function writes one handle.
        self.check("cuEventCreate", unsafe { (self.driver.cuEventCreate)(&mut event, WITHOUT_TIMING) })?;
        Ok(event)
    }

    /// Loads compiled kernels.
    pub(super) fn module(&self, image: &[u8]) -> Result<Handle> {
        self.stream()?;
        let mut module = null_mut();
        // SAFETY: the image is a cubin, which contains its own length, or PTX, which ends with a zero byte.
        let status = unsafe { (self.driver.cuModuleLoadData)(&mut module, image.as_ptr().cast::<c_void>()) };
        self.check("cuModuleLoadData", status)?;
        Ok(module)
    }

    /// Finds a kernel of a module.
    pub(super) fn function(&self, module: Handle, name: &CStr) -> Result<Handle> {
        self.stream()?;
        let mut function = null_mut();
        // SAFETY: the module is never unloaded, and the name is a C string.
        let status = unsafe { (self.driver.cuModuleGetFunction)(&mut function, module, name.as_ptr()) };
        self.check("cuModuleGetFunction", status)?;
        Ok(function)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if self.stream().is_ok() {
            self.pinned.clear(self);
            for stream in [self.copies, self.stream].into_iter().filter(|stream| !stream.is_null()) {
                // SAFETY: nothing uses the stream any more: all arrays and uploads hold the context.
                unsafe {
                    (self.driver.cuStreamSynchronize)(stream);
                    (self.driver.cuStreamDestroy_v2)(stream);
                }
            }
        }
        // SAFETY: nothing uses the context any more.
        unsafe { (self.driver.cuDevicePrimaryCtxRelease_v2)(self.device) };
    }
}

fn check(driver: &Driver, function: &'static str, status: c_int) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    let mut text = null();
    // SAFETY: the function writes null or the address of a constant string.
    let message = unsafe {
        (driver.cuGetErrorString)(status, &mut text);
        if text.is_null() { None } else { Some(CStr::from_ptr(text)) }
    };
    let message = message.map_or_else(|| "unknown error".into(), CStr::to_string_lossy);
    let hint = match status {
        2 if function == "cuMemHostAlloc" => "; free memory of the CPU: this allocates page-locked memory",
        2 => "; use a smaller batch",
        100 => "; the driver finds no NVIDIA GPU",
        _ => "",
    };
    Err(Error::Cuda { function, message: format!("{message} (status {status}){hint}"), code: status })
}
