//! A GPU with its libraries and kernels.

use std::collections::HashMap;
use std::ffi::CString;
use std::fmt;
use std::os::raw::c_void;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::blas::{Blas, Product};
use super::compiler::Compiler;
use super::dnn::Dnn;
use super::driver::Context;
use super::functions::Handle;
use super::{Array, ConvKey, Direction, Element, Indices};
use crate::kernels::{KERNELS, SOURCE};
use crate::{Error, Libraries, Output, Precision, Result};

/// Maximum number of arguments of a kernel.
const MAX_ARGUMENTS: usize = 24;

/// An open GPU: context, stream, kernels, cuDNN and cuBLAS. A clone shares all of them.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    // Fields are dropped in this order: handles before the context.
    dnn: Dnn,
    blas: Blas,
    kernels: HashMap<&'static str, Function>,
    launches: AtomicU64,
    /// The number of a [`Precision`].
    precision: AtomicU8,
    capability: [i32; 2],
    name: String,
    memory: usize,
    context: Arc<Context>,
}

struct Function(Handle);

// SAFETY: a function's handle is constant data of the driver.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

/// An argument of a kernel. Arrays have the number of values that the kernel may access.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument<'a> {
    /// Float32 values.
    Array(&'a Array, usize),
    /// Float32 values, or null if there are none.
    Optional(Option<&'a Array>, usize),
    /// Values of a type that the kernel's last parameter says: all of them have the same type. The launch adds this
    /// argument.
    Values(&'a Array, usize),
    /// As `Values`, or null if there are none.
    OptionalValues(Option<&'a Array>, usize),
    /// bfloat16 values.
    BFloats(&'a Array, usize),
    /// bfloat16 values, or null if there are none.
    OptionalBFloats(Option<&'a Array>, usize),
    Indices(&'a Indices, usize),
    Int(i32),
    Long(u64),
    Float(f32),
}

/// Compiles the kernels for an architecture. Returns the cubin, and the resources of each kernel as text. A virtual
/// architecture, as `compute_90`, gives PTX. Needs NVRTC and no GPU.
///
/// # Errors
/// [`Error::Library`]; [`Error::Kernels`] if NVRTC does not know the architecture.
pub fn compile_kernels(libraries: &Libraries, architecture: &str) -> Result<(Vec<u8>, String)> {
    Compiler::load(&libraries.nvrtc()?)?.compile(SOURCE, architecture)
}

impl Gpu {
    /// Opens the GPU with a number, from 0.
    ///
    /// # Errors
    /// [`Error::Library`] and [`Error::Function`] if a library is missing or too old; [`Error::Number`];
    /// [`Error::Cuda`] if the GPU cannot be used; [`Error::Argument`] as [`Gpu::set_precision`].
    pub fn open(number: usize, libraries: &Libraries, precision: Precision) -> Result<Gpu> {
        let context = Arc::new(Context::open(libraries.driver()?, number)?);
        let capability = context.capability()?;
        let compiler = Compiler::load(&libraries.nvrtc()?)?;
        let module = context.module(&compiler.compile_for(SOURCE, capability)?)?;
        let mut kernels = HashMap::new();
        for name in KERNELS {
            let symbol = CString::new(name).map_err(|_| Error::argument("open", "a kernel's name", name))?;
            kernels.insert(name, Function(context.function(module, &symbol)?));
        }
        // cuDNN uses cuBLAS.
        let blas = Blas::open(libraries.blas()?, &context)?;
        let dnn = Dnn::open(libraries.dnn()?, &context)?;
        let (name, memory, launches) = (context.name()?, context.memory()?, AtomicU64::new(0));
        let initial = AtomicU8::new(Precision::Float32.number());
        let inner =
            Inner { dnn, blas, kernels, launches, precision: initial, capability, name, memory, context };
        let gpu = Gpu(Arc::new(inner));
        gpu.set_precision(precision)?;
        Ok(gpu)
    }

    /// The GPU's name, such as `NVIDIA H100 80GB HBM3`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The GPU's architecture, such as `sm_90`.
    pub fn architecture(&self) -> String {
        let [major, minor] = self.0.capability;
        format!("sm_{major}{minor}")
    }

    /// The size of the GPU's memory in bytes.
    pub fn memory(&self) -> usize {
        self.0.memory
    }

    /// How convolutions are computed.
    pub fn precision(&self) -> Precision {
        Precision::from_number(self.0.precision.load(Ordering::Relaxed))
    }

    /// The default precision for this GPU: TensorFloat-32 if the GPU supports it, as in PyTorch, else float32.
    pub fn default_precision(&self) -> Precision {
        Precision::default_of(self.0.capability)
    }

    /// Sets how later convolutions are computed, also for clones of this value.
    ///
    /// # Errors
    /// [`Error::Argument`] if the GPU does not support the precision.
    pub fn set_precision(&self, precision: Precision) -> Result<()> {
        if !precision.is_supported(self.0.capability) {
            let expected = format!("a GPU with compute capability 8.0 or later for {precision:?}");
            return Err(Error::argument("precision", expected, self.architecture()));
        }
        self.0.precision.store(precision.number(), Ordering::Relaxed);
        Ok(())
    }

    /// Number of operations so far: kernels, convolutions, matrix products, copies and fills.
    pub fn launches(&self) -> u64 {
        self.0.launches.load(Ordering::Relaxed)
    }

    /// Free memory of the GPU in bytes, without freed memory that is kept for reuse.
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub fn free_memory(&self) -> Result<usize> {
        self.0.context.free_memory()
    }

    /// Waits for all work.
    ///
    /// # Errors
    /// [`Error::Cuda`] if some of it failed.
    pub fn synchronize(&self) -> Result<()> {
        self.0.context.synchronize()
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.0.context
    }

    /// Counts an operation.
    pub(super) fn count(&self) {
        self.0.launches.fetch_add(1, Ordering::Relaxed);
    }

    /// Launches a kernel with `blocks` blocks of `threads` threads.
    pub(crate) fn launch(
        &self,
        kernel: &'static str,
        blocks: usize,
        threads: u32,
        arguments: &[Argument],
    ) -> Result<()> {
        if blocks == 0 {
            return Ok(());
        }
        let grid = u32::try_from(blocks).ok().filter(|blocks| *blocks <= i32::MAX as u32);
        let grid = grid.ok_or_else(|| Error::argument(kernel, "at most 2³¹-1 blocks", blocks))?;
        let mut values = [0u64; MAX_ARGUMENTS];
        // One is left for the type.
        assert!(arguments.len() < MAX_ARGUMENTS, "{kernel} has too many arguments");
        let element = arguments.iter().find_map(|argument| match argument {
            Argument::Values(array, _) | Argument::OptionalValues(Some(array), _) => Some(array.element()),
            _ => None,
        });
        let address = |array: &Array, len: usize, element: Element| {
            array.check_element(kernel, element)?;
            array.check(kernel, "an array", len)?;
            Ok(array.pointer())
        };
        for (value, argument) in values.iter_mut().zip(arguments) {
            *value = match *argument {
                Argument::Array(array, len) | Argument::Optional(Some(array), len) => {
                    address(array, len, Element::Float32)?
                }
                Argument::Values(array, len) | Argument::OptionalValues(Some(array), len) => {
                    address(array, len, element.unwrap_or_default())?
                }
                Argument::BFloats(array, len) | Argument::OptionalBFloats(Some(array), len) => {
                    address(array, len, Element::BFloat16)?
                }
                Argument::Optional(None, _)
                | Argument::OptionalValues(None, _)
                | Argument::OptionalBFloats(None, _) => 0,
                Argument::Indices(indices, len) => {
                    indices.0.check(kernel, "indices", len)?;
                    indices.0.pointer()
                }
                // The kernel reads the first four bytes: little endian, as on all hosts of CUDA.
                Argument::Int(value) => u64::from(value as u32),
                Argument::Float(value) => u64::from(value.to_bits()),
                Argument::Long(value) => value,
            };
        }
        values[arguments.len()] = u64::from(element == Some(Element::BFloat16));
        let mut pointers = values.each_mut().map(|value| std::ptr::from_mut(value).cast::<c_void>());
        let function = self.0.kernels.get(kernel).expect("KERNELS has every kernel").0;
        let (context, stream) = (&self.0.context, self.0.context.stream()?);
        self.count();
        // SAFETY: the arguments have the types of the kernel's parameters (a test launches each kernel), and the
        // arrays have the lengths that the kernel accesses (checked above). `values` lives during the call, which
        // copies them.
        let status = unsafe {
            (context.driver.cuLaunchKernel)(
                function,
                grid,
                1,
                1,
                threads,
                1,
                1,
                0,
                stream,
                pointers.as_mut_ptr(),
                null_mut(),
            )
        };
        context.check(kernel, status)
    }

    /// Whether cuDNN has an algorithm for one direction of a convolution.
    pub(crate) fn has_algorithm(&self, key: &ConvKey, direction: Direction) -> Result<bool> {
        self.0.dnn.is_supported(key, direction)
    }

    /// Computes one direction of a convolution with cuDNN.
    pub(crate) fn convolve(
        &self,
        key: &ConvKey,
        direction: Direction,
        operands: [&Array; 3],
        result: Output,
    ) -> Result<()> {
        self.count();
        self.0.dnn.convolve(key, direction, operands, result)
    }

    /// Computes a matrix product with cuBLAS.
    pub(crate) fn multiply(&self, product: Product, operands: [&Array; 3], result: Output) -> Result<()> {
        self.count();
        self.0.blas.multiply(product, operands, result)
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {:?})", self.name(), self.architecture(), self.precision())
    }
}
