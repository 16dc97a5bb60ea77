//! cuBLAS: matrix products.

use std::os::raw::c_int;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, PoisonError};

use super::driver::Context;
use super::functions::{Blas as Functions, Handle};
use super::library::Library;
use super::{Array, Element};
use crate::{Error, Output, Result};

/// `CUBLAS_DEFAULT_MATH`, in which float32 products are float32.
const DEFAULT_MATH: c_int = 0;
/// Size of the workspace in values (32 MiB, NVIDIA's recommendation for Hopper). A fixed size keeps products
/// deterministic.
const WORKSPACE: usize = 8 << 20;

/// A product of row-major matrices, `c = a · b`, each of them optionally transposed in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    /// Rows of `c`.
    pub(crate) rows: usize,
    /// Columns of `c`.
    pub(crate) columns: usize,
    /// Columns of `a`, and rows of `b`.
    pub(crate) inner: usize,
    /// Whether `a` is stored as `[inner, rows]`.
    pub(crate) transpose_a: bool,
    /// Whether `b` is stored as `[columns, inner]`.
    pub(crate) transpose_b: bool,
}

/// cuBLAS on one stream.
pub(super) struct Blas {
    functions: Functions,
    context: Arc<Context>,
    handle: Mutex<BlasHandle>,
    #[allow(dead_code, reason = "cuBLAS uses the memory")]
    workspace: Array,
}

struct BlasHandle(Handle);

// SAFETY: cuBLAS's functions may be called from any thread; the handle is locked during a call.
unsafe impl Send for BlasHandle {}

impl Blas {
    pub(super) fn open(library: &Library, context: &Arc<Context>) -> Result<Blas> {
        let functions = Functions::load(library)?;
        let workspace = Array::allocate(context, WORKSPACE)?;
        let (stream, mut handle) = (context.stream()?, null_mut());
        // SAFETY: the function writes one handle.
        check("cublasCreate", unsafe { (functions.cublasCreate_v2)(&mut handle) })?;
        // From here on, `drop` destroys the handle after a failure.
        let blas =
            Blas { functions, context: context.clone(), handle: Mutex::new(BlasHandle(handle)), workspace };
        let (f, workspace) = (&blas.functions, &blas.workspace);
        // SAFETY: stream and workspace outlive the handle.
        unsafe {
            check("cublasSetStream", (f.cublasSetStream_v2)(handle, stream))?;
            let set = (f.cublasSetWorkspace_v2)(handle, workspace.pointer(), workspace.bytes());
            check("cublasSetWorkspace", set)?;
            check("cublasSetMathMode", (f.cublasSetMathMode)(handle, DEFAULT_MATH))?;
        }
        Ok(blas)
    }

    /// Computes a product.
    pub(super) fn multiply(&self, product: Product, [a, b, c]: [&Array; 3], result: Output) -> Result<()> {
        let Product { rows, columns, inner, transpose_a, transpose_b } = product;
        [a, b, c]
            .into_iter()
            .try_for_each(|array| array.check_element("matrix product", Element::Float32))?;
        let size = |a: usize, b: usize| a.saturating_mul(b);
        a.check("matrix product", "a", size(rows, inner))?;
        b.check("matrix product", "b", size(inner, columns))?;
        c.check("matrix product", "c", size(rows, columns))?;
        let int = |value: usize| {
            c_int::try_from(value).map_err(|_| Error::argument("matrix product", "sides below 2³¹", value))
        };
        let (m, n, k) = (int(columns)?, int(rows)?, int(inner)?);
        self.context.stream()?;
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        let (alpha, beta) = (1f32, result.beta());
        let (lda, ldb) = (if transpose_b { k } else { m }, if transpose_a { n } else { k });
        // SAFETY: the arrays have at least the sizes of the matrices (checked above). cuBLAS is column-major, so it
        // computes the transposed product: cᵀ = bᵀ · aᵀ.
        let status = unsafe {
            (self.functions.cublasSgemm_v2)(
                handle.0,
                c_int::from(transpose_b),
                c_int::from(transpose_a),
                m,
                n,
                k,
                &alpha,
                b.pointer(),
                lda,
                a.pointer(),
                ldb,
                &beta,
                c.pointer(),
                m,
            )
        };
        check("cublasSgemm", status)
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        let handle = self.handle.get_mut().unwrap_or_else(PoisonError::into_inner);
        // The context may not be current in this thread. A failure means that it is lost.
        let _ = self.context.stream();
        // SAFETY: the handle is not used afterwards.
        unsafe { (self.functions.cublasDestroy_v2)(handle.0) };
    }
}

fn check(function: &'static str, status: c_int) -> Result<()> {
    let meaning = match status {
        0 => return Ok(()),
        1 => "cuBLAS is not initialised",
        3 => "out of memory",
        7 => "wrong argument",
        8 => "not supported by this GPU",
        13 => "execution failed",
        _ => "error",
    };
    Err(Error::Cuda { function, message: format!("{meaning} (status {status})"), code: status })
}
