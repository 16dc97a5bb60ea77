//! Allocation of arrays, and copies to, from and within the GPU's memory.

use std::os::raw::c_void;

use super::pinned::MAX_COPY;
use super::{Array, Element, Gpu, Indices, Readback, Uploads};
use crate::{Error, Result};

impl Gpu {
    /// Allocates uninitialised float32 values.
    ///
    /// # Errors
    /// [`Error::Cuda`] if the memory is full.
    pub fn array(&self, len: usize) -> Result<Array> {
        Array::allocate(self.context(), len)
    }

    /// Allocates uninitialised values of a type.
    ///
    /// # Errors
    /// As [`Gpu::array`].
    pub fn array_of(&self, element: Element, len: usize) -> Result<Array> {
        Array::allocate_of(self.context(), element, len)
    }

    /// Allocates uninitialised integers.
    ///
    /// # Errors
    /// As [`Gpu::array`].
    pub fn indices(&self, len: usize) -> Result<Indices> {
        Ok(Indices(self.array(len)?))
    }

    /// Copies values to a new array.
    ///
    /// # Errors
    /// As [`Gpu::array`].
    pub fn upload(&self, values: &[f32]) -> Result<Array> {
        let array = self.array(values.len())?;
        self.write(&array, values)?;
        Ok(array)
    }

    /// Copies integers to the GPU.
    ///
    /// # Errors
    /// As [`Gpu::array`].
    pub fn upload_indices(&self, values: &[i32]) -> Result<Indices> {
        let array = self.array(values.len())?;
        self.write_bytes(&array, values.as_ptr().cast(), values.len())?;
        Ok(Indices(array))
    }

    /// Replaces the values of a float32 array.
    ///
    /// # Errors
    /// [`Error::Length`] if their number differs; [`Error::Argument`] for another type.
    pub fn write(&self, array: &Array, values: &[f32]) -> Result<()> {
        self.write_bytes(array, values.as_ptr().cast(), values.len())
    }

    fn write_bytes(&self, array: &Array, values: *const c_void, len: usize) -> Result<()> {
        array.check_element("write", Element::Float32)?;
        if array.len() != len {
            let (expected, found) = (array.len(), len);
            return Err(Error::Length { operation: "write", operand: "values", expected, found });
        }
        if len == 0 {
            return Ok(());
        }
        let (context, stream) = (self.context(), self.context().stream()?);
        self.count();
        let (to, bytes) = (array.pointer(), array.bytes());
        // A copy without page-locked memory waits for the work before it.
        if bytes > MAX_COPY {
            // SAFETY: both sides have `bytes` bytes, and `values` lives until the stream is synchronised.
            let status = unsafe { (context.driver.cuMemcpyHtoDAsync_v2)(to, values, bytes, stream) };
            // Also after a failure, so that nothing reads `values` any more.
            let done = context.synchronize();
            return context.check("cuMemcpyHtoDAsync", status).and(done);
        }
        let buffer = context.pinned.acquire(context, bytes)?;
        // SAFETY: the buffer has at least `bytes` bytes, and no copy uses it. It is reused only after this copy.
        let status = unsafe {
            std::ptr::copy_nonoverlapping(values.cast::<u8>(), buffer.values.cast::<u8>(), bytes);
            (context.driver.cuMemcpyHtoDAsync_v2)(to, buffer.values, bytes, stream)
        };
        let copied = context.check("cuMemcpyHtoDAsync", status).and_then(|()| buffer.record(context, stream));
        context.pinned.release(context, buffer);
        copied
    }

    /// Copies the values of one array to another.
    ///
    /// # Errors
    /// [`Error::Length`] if their numbers differ; [`Error::Argument`] if their types differ.
    pub fn copy(&self, from: &Array, to: &Array) -> Result<()> {
        from.check_element("copy", to.element())?;
        if from.len() != to.len() {
            let (expected, found) = (to.len(), from.len());
            return Err(Error::Length { operation: "copy", operand: "from", expected, found });
        }
        if from.len() == 0 {
            return Ok(());
        }
        let (context, stream) = (self.context(), self.context().stream()?);
        self.count();
        // SAFETY: both arrays have `from.bytes()` bytes.
        let status = unsafe {
            (context.driver.cuMemcpyDtoDAsync_v2)(to.pointer(), from.pointer(), from.bytes(), stream)
        };
        context.check("cuMemcpyDtoDAsync", status)
    }

    /// Sets all values of a float32 array.
    ///
    /// # Errors
    /// [`Error::Argument`] for another type; [`Error::Cuda`].
    pub fn fill(&self, array: &Array, value: f32) -> Result<()> {
        array.check_element("fill", Element::Float32)?;
        if array.len() == 0 {
            return Ok(());
        }
        let (context, stream) = (self.context(), self.context().stream()?);
        self.count();
        // SAFETY: the array has `len` values of four bytes.
        let status = unsafe {
            (context.driver.cuMemsetD32Async)(array.pointer(), value.to_bits(), array.len(), stream)
        };
        context.check("cuMemsetD32Async", status)
    }

    /// The values of a float32 array. Waits for the work that computes them.
    ///
    /// # Errors
    /// [`Error::Argument`] for another type; [`Error::Cuda`] if work before the copy failed.
    pub fn download(&self, array: &Array) -> Result<Vec<f32>> {
        array.check_element("download", Element::Float32)?;
        let mut values = vec![0f32; array.len()];
        if values.is_empty() {
            return Ok(values);
        }
        let (context, stream) = (self.context(), self.context().stream()?);
        self.count();
        // SAFETY: both sides have `array.bytes()` bytes, and `values` lives until the stream is synchronised.
        let status = unsafe {
            (context.driver.cuMemcpyDtoHAsync_v2)(
                values.as_mut_ptr().cast(),
                array.pointer(),
                array.bytes(),
                stream,
            )
        };
        // Also after a failure, so that nothing writes to `values` any more.
        let done = context.synchronize();
        context.check("cuMemcpyDtoHAsync", status)?;
        done?;
        Ok(values)
    }

    /// Starts to copy a float32 array to the CPU.
    ///
    /// # Errors
    /// [`Error::Argument`] for another type; [`Error::Cuda`].
    pub fn read_back(&self, array: &Array) -> Result<Readback> {
        array.check_element("read_back", Element::Float32)?;
        self.count();
        Readback::start(self.context(), array)
    }

    /// Creates [`Uploads`], which run while the GPU computes.
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub fn uploads(&self) -> Result<Uploads> {
        Uploads::new(self.context())
    }
}
